//! An answer → a verdict: the manifest's reply table first, the status by itself after it
//! (`outcome::of_http_status`), then what the step expects of a good answer.
//!
//! `Retry-After` is read in every form in use (RFC 9110 section 10.2.3 and habits beside it), and never
//! believed beyond a day.

use std::cell::OnceCell;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use regex::Regex;
use serde_json::{Map, Value};
use serde_json_path::JsonPath;

use super::assertion::{not_the_interface, text_of};
use super::http::Response;
use super::step::{Capture, Step};
use crate::outcome::{Class, Reason, Verdict, of_http_status};
use crate::record::{Context, RenderFault};

/// The longest wish to wait that is granted.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// An answer with its body read at most once.
pub(crate) struct Answer<'a> {
    pub(crate) response: &'a Response,
    json: OnceCell<Option<Value>>,
}

impl<'a> Answer<'a> {
    pub(crate) fn new(response: &'a Response) -> Self {
        Self { response, json: OnceCell::new() }
    }

    /// The body, if it is JSON.
    pub(crate) fn json(&self) -> Option<&Value> {
        self.json.get_or_init(|| serde_json::from_slice(&self.response.body).ok()).as_ref()
    }

    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.response.body)
    }
}

/// Statuses and ranges of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Statuses(pub(crate) Vec<(u16, u16)>);

impl Statuses {
    pub(crate) fn has(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `404`, `500-599` or `5xx` as a range.
pub(crate) fn status_range(text: &str) -> Option<(u16, u16)> {
    let text = text.trim();
    let range = if let Some(hundreds) = text.strip_suffix("xx") {
        let first = hundreds.parse::<u16>().ok()?;
        (first.checked_mul(100)?, first.checked_mul(100)?.checked_add(99)?)
    } else if let Some((low, high)) = text.split_once('-') {
        (low.trim().parse().ok()?, high.trim().parse().ok()?)
    } else {
        let one = text.parse().ok()?;
        (one, one)
    };
    (range.0 >= 100 && range.0 <= range.1 && range.1 <= 599).then_some(range)
}

/// One row of a reply table, compiled.
#[derive(Debug)]
pub(crate) struct Row {
    /// Indexes of steps; empty for all.
    pub(crate) steps: Vec<usize>,
    pub(crate) status: Statuses,
    /// Name in lower case.
    pub(crate) header: Option<(String, TextTest)>,
    pub(crate) json: Option<(JsonPath, ValueTest)>,
    pub(crate) body_empty: Option<bool>,
    pub(crate) body: Option<Regex>,
    pub(crate) class: Class,
    pub(crate) reason: Reason,
    pub(crate) after: Option<super::manifest::After>,
    /// `after.json`, compiled.
    pub(crate) after_json: Option<JsonPath>,
    pub(crate) note: Option<String>,
}

#[derive(Debug)]
pub(crate) enum TextTest {
    Equals(String),
    Regex(Regex),
    Present,
}

#[derive(Debug)]
pub(crate) enum ValueTest {
    AnyOf(Vec<Value>),
    Regex(Regex),
    Present,
}

impl Row {
    fn fits(&self, step: usize, answer: &Answer<'_>) -> bool {
        (self.steps.is_empty() || self.steps.contains(&step))
            && (self.status.is_empty() || self.status.has(answer.response.status))
            && self.header.as_ref().is_none_or(|(name, test)| {
                let mut values = answer.response.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
                match test {
                    TextTest::Equals(wanted) => values.any(|v| v.trim().eq_ignore_ascii_case(wanted)),
                    TextTest::Regex(regex) => values.any(|v| regex.is_match(v)),
                    TextTest::Present => values.next().is_some(),
                }
            })
            && self.body_empty.is_none_or(|empty| answer.response.body.iter().all(u8::is_ascii_whitespace) == empty)
            && self.body.as_ref().is_none_or(|regex| regex.is_match(&answer.text()))
            && self.json.as_ref().is_none_or(|(path, test)| {
                answer.json().is_some_and(|body| {
                    let mut selected = path.query(body).into_iter();
                    match test {
                        ValueTest::AnyOf(wanted) => selected.any(|v| wanted.iter().any(|w| same(w, v))),
                        ValueTest::Regex(regex) => selected.any(|v| regex.is_match(&text_of(v))),
                        ValueTest::Present => selected.any(|v| !v.is_null()),
                    }
                })
            })
    }

    fn verdict(&self, answer: &Answer<'_>, now: Timestamp) -> Verdict {
        let response = answer.response;
        let detail = match &self.note {
            Some(note) => format!("HTTP status {}: {note}", response.status),
            None => format!("HTTP status {}", response.status),
        };
        let mut verdict = Verdict::new(self.class, self.reason, detail);
        verdict.retry_after =
            self.after.as_ref().and_then(|after| wait_of(after, self.after_json.as_ref(), answer, now));
        verdict
    }
}

fn same(wanted: &Value, given: &Value) -> bool {
    wanted == given || (!given.is_null() && text_of(wanted) == text_of(given))
}

fn wait_of(
    after: &super::manifest::After,
    json: Option<&JsonPath>,
    answer: &Answer<'_>,
    now: Timestamp,
) -> Option<Duration> {
    let header = |name: &Option<String>| name.as_ref().and_then(|n| answer.response.header(&n.to_lowercase()));
    let in_body = || retry_after(&text_of(json?.query(answer.json()?).first()?), now);
    header(&after.header)
        .and_then(|v| retry_after(v, now))
        .or_else(|| header(&after.epoch_header).and_then(|v| until_epoch(v, now)))
        .or_else(in_body)
        .or_else(|| after.seconds.map(|s| Duration::from_secs(s.into())))
        .map(|wait| wait.min(LONGEST_WAIT))
}

/// `Retry-After`: seconds (decimals are rounded up) or a date in any of the three forms of RFC 9110. A moment
/// that is past is no wait at all. At most a day.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if value.bytes().next().is_some_and(|b| b.is_ascii_digit())
        && let Ok(seconds) = value.trim_end_matches(['s', ' ']).parse::<f64>()
        && seconds.is_finite()
    {
        return Some(Duration::from_secs(seconds.ceil() as u64).min(LONGEST_WAIT));
    }
    Some(until(http_date(value)?, now))
}

/// A time in seconds (or milliseconds) since 1970; a number too small to be one is seconds from now.
fn until_epoch(value: &str, now: Timestamp) -> Option<Duration> {
    let number = value.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)?;
    let seconds = match number {
        n if n >= 1e11 => n / 1000.0,
        n if n >= 1e9 => n,
        n => return Some(Duration::from_secs(n.ceil() as u64).min(LONGEST_WAIT)),
    };
    Some(until(Timestamp::from_second(seconds.ceil() as i64).ok()?, now))
}

fn until(then: Timestamp, now: Timestamp) -> Duration {
    let seconds = then.as_second().saturating_sub(now.as_second());
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(LONGEST_WAIT)
}

fn http_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let plain = text.strip_suffix("GMT").or_else(|| text.strip_suffix("UTC")).unwrap_or(text).trim_end();
    let civil = ["%a, %d %b %Y %H:%M:%S", "%A, %d-%b-%y %H:%M:%S", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|form| DateTime::strptime(form, plain).ok());
    match civil {
        Some(civil) => jiff::tz::Offset::UTC.to_timestamp(civil).ok(),
        None => text
            .parse::<Timestamp>()
            .ok()
            .or_else(|| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()),
    }
}

/// What an answer to a step means.
pub(crate) fn judge(
    rows: &[Row],
    index: usize,
    step: &Step,
    statuses: &Statuses,
    answer: &Answer<'_>,
    context: &Context,
    now: Timestamp,
) -> Result<Verdict, RenderFault> {
    let status = answer.response.status;
    let mut verdict = match rows.iter().find(|row| row.fits(index, answer)) {
        Some(row) => row.verdict(answer, now),
        None if statuses.is_empty() || statuses.has(status) => {
            let verdict = if statuses.has(status) { Verdict::ok() } else { of_http_status(status) };
            match verdict.class {
                Class::Ok => step.expect.check(answer, context)?.unwrap_or(verdict),
                _ => verdict,
            }
        }
        None => match of_http_status(status) {
            v if v.class == Class::Ok && step.reads_json() && answer.json().is_none() => not_the_interface(answer),
            // A yes of another kind than the manifest knows: something was done, but what?
            v if v.class == Class::Ok => {
                let said = format!("HTTP status {status} is not expected here");
                Verdict::new(Class::Retry, Reason::UnexpectedReply, said).uncertain()
            }
            verdict => verdict,
        },
    };
    if verdict.retry_after.is_none() && matches!(verdict.class, Class::Retry | Class::Pause | Class::Conflict) {
        verdict.retry_after = answer.response.header("retry-after").and_then(|v| retry_after(v, now));
    }
    Ok(verdict)
}

impl Capture {
    /// Its value in an answer, if that has one.
    pub(crate) fn value(&self, answer: &Answer<'_>) -> Option<Value> {
        let raw = match (&self.path, &self.header) {
            (Some(path), _) => path.query(answer.json()?).first().cloned(),
            (None, Some(header)) => answer.response.header(header).map(Value::from),
            (None, None) => None,
        }?;
        match &self.regex {
            Some(regex) => regex
                .captures(&text_of(&raw))
                .and_then(|found| found.get(1).or_else(|| found.get(0)).map(|part| Value::from(part.as_str()))),
            None => Some(raw),
        }
    }
}

/// The values that an answer gives which is no good one: what it lacks is null.
pub(crate) fn captures_of_refusal(all: &[Capture], answer: &Answer<'_>) -> Map<String, Value> {
    let each = all.iter().map(|capture| {
        let found = captures(std::slice::from_ref(capture), answer).unwrap_or_default();
        (capture.name.clone(), found.get(&capture.name).cloned().unwrap_or(Value::Null))
    });
    each.collect()
}

/// The values that later steps use. The error is a verdict: the answer lacks one that it must have.
pub(crate) fn captures(captures: &[Capture], answer: &Answer<'_>) -> Result<Map<String, Value>, Verdict> {
    let mut all = Map::new();
    for capture in captures {
        if capture.path.is_some() && !capture.optional && answer.json().is_none() {
            return Err(not_the_interface(answer));
        }
        match capture.value(answer) {
            Some(value) if !value.is_null() => all.insert(capture.name.clone(), value),
            _ if capture.optional => all.insert(capture.name.clone(), Value::Null),
            _ => {
                let said = format!("HTTP status {}, but the answer has no `{}`", answer.response.status, capture.name);
                return Err(Verdict::new(Class::Retry, Reason::UnexpectedReply, said));
            }
        };
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "1994-11-06T08:49:00Z".parse().expect("a time")
    }

    fn seconds(value: &str) -> Option<u64> {
        retry_after(value, now()).map(|d| d.as_secs())
    }

    #[test]
    fn retry_after_is_read_in_every_form() {
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 1.2 "), Some(2));
        assert_eq!(seconds("30s"), Some(30));
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(seconds(date), Some(37), "{date}");
        }
        assert_eq!(seconds("1994-11-06T08:49:37Z"), Some(37));
        assert_eq!(seconds("Sat, 05 Nov 1994 08:49:37 GMT"), Some(0));
        assert_eq!(seconds("99999999999"), Some(24 * 3600));
        for none in ["", "soon", "-5", "1e999"] {
            assert_eq!(seconds(none), None, "{none}");
        }
    }

    #[test]
    fn a_reset_header_is_an_epoch_or_seconds_from_now() {
        let at = now().as_second();
        let wait = |v: String| until_epoch(&v, now()).map(|d| d.as_secs());
        let at = u64::try_from(at).expect("after 1970");
        // 1994 is before 1e9 seconds, so the clock of this test is a later one.
        let later: Timestamp = "2026-02-17T00:00:00Z".parse().expect("a time");
        let epoch = |v: i64| until_epoch(&v.to_string(), later).map(|d| d.as_secs());
        assert_eq!(epoch(later.as_second() + 60), Some(60));
        assert_eq!(epoch((later.as_second() + 60) * 1000), Some(60));
        assert_eq!(wait("45".into()), Some(45));
        assert_eq!(wait(at.to_string()), Some(24 * 3600));
        assert_eq!(wait("x".into()), None);
    }

    #[test]
    fn statuses_are_numbers_ranges_and_classes() {
        assert_eq!(status_range("404"), Some((404, 404)));
        assert_eq!(status_range("500-599"), Some((500, 599)));
        assert_eq!(status_range("5xx"), Some((500, 599)));
        for bad in ["", "60", "599-500", "700", "x", "99999xx"] {
            assert_eq!(status_range(bad), None, "{bad}");
        }
    }
}
