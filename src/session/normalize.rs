//! One value of a document in its normal form: ids, whole numbers, seconds, truth values, times.
//!
//! Wide in what it reads (numbers in strings, `245 seconds`, `4:05`, times as people write them), exact in
//! what it gives: a value that it can't read is `Odd`, never a guess, and never an error.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use jiff::tz::Offset;
use serde_json::Value;

use super::Time;

/// A value as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<T> {
    /// Read.
    Value(T),
    /// `null`, `""`: nothing there.
    Empty,
    /// Something else than expected.
    Odd,
}

impl<T> From<Option<T>> for Read<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Read::Odd, Read::Value)
    }
}

/// A session id: a whole number, or a string of digits. `call-48213` is Google's own way to write it.
pub fn digits(value: &Value) -> Option<String> {
    match value {
        Value::Number(n) => {
            if n.is_u64() {
                return Some(n.to_string());
            }
            let float = n.as_f64()?;
            (float >= 0.0 && float.fract() == 0.0 && float < 9_007_199_254_740_992.0).then(|| format!("{float:.0}"))
        }
        Value::String(s) => {
            let s = s.trim().trim_start_matches('#').trim_start();
            let s = ["call-", "chat-", "voice-", "Call-", "Chat-", "Voice-"]
                .iter()
                .find_map(|p| s.strip_prefix(p))
                .unwrap_or(s);
            (!s.is_empty() && s.len() <= 40 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.to_owned())
        }
        _ => None,
    }
}

/// Text: a string, or a number written out. Blanks around it go, and NUL characters.
pub fn text(value: &Value) -> Read<String> {
    match value {
        Value::Null => Read::Empty,
        Value::String(s) => {
            let s = s.trim();
            if s.is_empty() {
                Read::Empty
            } else if s.contains('\0') {
                Read::Value(s.replace('\0', ""))
            } else {
                Read::Value(s.to_owned())
            }
        }
        Value::Number(n) => Read::Value(n.to_string()),
        _ => Read::Odd,
    }
}

/// A whole number: `4`, `4.0`, `"4"`, `"4 / 5"`, `"4 out of 5"`, `"4 stars"`.
pub fn integer(value: &Value) -> Read<i64> {
    match value {
        Value::Null => Read::Empty,
        Value::Number(n) => n.as_i64().or_else(|| whole(n.as_f64()?)).into(),
        Value::String(s) if s.trim().is_empty() => Read::Empty,
        Value::String(s) => {
            let s = s.trim();
            let end = s.find(|c: char| !(c.is_ascii_digit() || c == '-' || c == '+' || c == '.')).unwrap_or(s.len());
            let (number, rest) = s.split_at_checked(end).unwrap_or((s, ""));
            let rest = rest.trim().to_ascii_lowercase();
            let explained = rest.is_empty()
                || rest.starts_with('/')
                || rest.starts_with('(')
                || rest.starts_with("out of")
                || rest.starts_with("of ")
                || rest.starts_with("star");
            let number = number.parse::<i64>().ok().or_else(|| whole(number.parse().ok()?));
            number.filter(|_| explained).into()
        }
        _ => Read::Odd,
    }
}

fn whole(float: f64) -> Option<i64> {
    (float.is_finite() && float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
}

/// Seconds: a number (fractions are rounded), `245 seconds`, `4m 5s`, `4:05`, `1:02:03`, `PT4M5S`.
pub fn seconds(value: &Value) -> Read<i64> {
    match value {
        Value::Null => Read::Empty,
        Value::Number(n) => n
            .as_i64()
            .or_else(|| n.as_f64().filter(|f| f.is_finite() && f.abs() < 9e15).map(|f| f.round() as i64))
            .into(),
        Value::String(s) if s.trim().is_empty() => Read::Empty,
        Value::String(s) => seconds_in(s.trim()).into(),
        _ => Read::Odd,
    }
}

fn seconds_in(text: &str) -> Option<i64> {
    if text.len() > 48 {
        return None;
    }
    if let Ok(number) = text.parse::<f64>() {
        return (number.is_finite() && number.abs() < 9e15).then(|| number.round() as i64);
    }
    if text.contains(':') {
        let text = text.split('(').next()?.trim();
        let parts: Vec<&str> = text.split(':').map(str::trim).collect();
        if !(2..=3).contains(&parts.len()) {
            return None;
        }
        let mut total = 0_i64;
        for (i, part) in parts.iter().enumerate() {
            let part = part.split('.').next()?;
            let number: i64 = part.parse().ok().filter(|n| (0..100_000).contains(n))?;
            if i > 0 && number > 59 {
                return None;
            }
            total = total * 60 + number;
        }
        return Some(total);
    }
    // Pairs of number and unit, ISO 8601 durations among them.
    let lower = text.to_ascii_lowercase();
    let mut rest = lower.strip_prefix("pt").unwrap_or(&lower);
    let mut total = 0.0;
    while !rest.trim_start().is_empty() {
        rest = rest.trim_start().trim_start_matches([',', '(']).trim_start();
        rest = rest.strip_prefix("and ").unwrap_or(rest);
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(end)?;
        let number: f64 = number.parse().ok()?;
        let tail = tail.trim_start();
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end)?;
        total += number
            * match unit {
                "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
                "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
                "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
                "d" | "day" | "days" => 86_400.0,
                "ms" | "millisecond" | "milliseconds" => 0.001,
                _ => return None,
            };
        rest = tail.trim_start_matches(['.', ')']);
    }
    (total < 9e15).then(|| total.round() as i64)
}

/// A truth value: `true`, `1`, `"yes"`, `"verified"`, and their opposites.
pub fn boolean(value: &Value) -> Read<bool> {
    match value {
        Value::Null => Read::Empty,
        Value::Bool(b) => Read::Value(*b),
        Value::Number(n) => match n.as_i64() {
            Some(0) => Read::Value(false),
            Some(1) => Read::Value(true),
            _ => Read::Odd,
        },
        Value::String(s) => match s.trim().to_ascii_lowercase().as_str() {
            "" => Read::Empty,
            "true" | "yes" | "y" | "1" | "on" | "t" | "verified" | "succeeded" | "success" | "passed" => {
                Read::Value(true)
            }
            "false" | "no" | "n" | "0" | "off" | "f" | "not verified" | "unverified" | "failed" => Read::Value(false),
            _ => Read::Odd,
        },
        _ => Read::Odd,
    }
}

/// A time: ISO 8601 in its dresses (a blank for `T`, `UTC` or `-0600` behind it), RFC 2822, or a number of
/// seconds or milliseconds since 1970. Without an offset it counts as UTC.
pub fn time(value: &Value) -> Read<Time> {
    match value {
        Value::Null => Read::Empty,
        Value::String(s) if s.trim().is_empty() => Read::Empty,
        Value::String(s) => time_in(s).into(),
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)).and_then(epoch).into(),
        _ => Read::Odd,
    }
}

fn epoch(number: i64) -> Option<Time> {
    // Between 2001 and 2286, in seconds or in milliseconds.
    let instant = match number {
        1_000_000_000..=9_999_999_999 => Timestamp::from_second(number).ok()?,
        1_000_000_000_000..=9_999_999_999_999 => Timestamp::from_millisecond(number).ok()?,
        _ => return None,
    };
    Some(Time::utc(instant))
}

fn time_in(text: &str) -> Option<Time> {
    if text.len() > 64 {
        return None;
    }
    if let Some(time) = Time::parse(text) {
        return Some(time);
    }
    let text = text.trim().trim_matches(['<', '>', '"', '\'']).trim();
    if let Ok(number) = text.parse::<i64>() {
        return epoch(number);
    }
    let plain = text.trim_end_matches(')');
    let plain = plain.split(" (").next().unwrap_or(plain).trim();
    for zone in [" UTC", " GMT", " Z", "UTC", " utc"] {
        if let Some(time) = plain.strip_suffix(zone).and_then(|t| Time::parse(t.trim())) {
            return Some(Time { offset: Offset::UTC, ..time });
        }
    }
    // `2026-02-17 10:02:11 -0600`, and `GMT-06:00`.
    if let Some((moment, zone)) = plain.rsplit_once(' ') {
        let zone = zone.trim_start_matches("GMT").trim_start_matches("UTC");
        if zone.starts_with(['+', '-'])
            && let Some(time) = Time::parse(&format!("{}{zone}", moment.trim()))
        {
            return Some(time);
        }
    }
    let zoned = rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_zoned(plain).ok()?;
    Some(Time { instant: zoned.timestamp(), offset: zoned.offset() })
}

/// Lower case with `_` between words: the form of words that no list knows.
pub fn slug(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(64) {
        if c.is_alphanumeric() {
            out.extend(c.to_lowercase());
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    out.truncate(out.trim_end_matches('_').len());
    out
}

/// A stranger's text as a warning may show it: one short line of printable characters.
pub fn shown(text: &str) -> String {
    let mut out: String = text.chars().filter(|c| !c.is_control() && *c != '`').take(40).collect();
    if text.chars().nth(40).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_read_in_every_dress() {
        for (value, expected) in [
            (json!(245), 245),
            (json!("245"), 245),
            (json!("245 seconds"), 245),
            (json!("245s"), 245),
            (json!("245 sec."), 245),
            (json!("4:05"), 245),
            (json!("00:04:05"), 245),
            (json!("1:02:03"), 3723),
            (json!("4m 5s"), 245),
            (json!("4 min 5 sec"), 245),
            (json!("4 minutes and 5 seconds"), 245),
            (json!("PT4M5S"), 245),
            (json!("1h 2m 3s"), 3723),
            (json!(21.5), 22),
            (json!("245.0"), 245),
        ] {
            assert_eq!(seconds(&value), Read::Value(expected), "{value}");
        }
        for value in [json!("soon"), json!("4:75"), json!("1:2:3:4"), json!([]), json!("1e400"), json!("12 parsecs")] {
            assert_eq!(seconds(&value), Read::Odd, "{value}");
        }
        assert_eq!(seconds(&json!(" ")), Read::Empty);
    }

    #[test]
    fn times_are_read_in_every_dress() {
        for text in [
            "2026-02-17T10:02:11.000-06:00",
            "2026-02-17 10:02:11 -0600",
            "2026-02-17 16:02:11 UTC",
            "2026-02-17T16:02:11Z",
            "2026-02-17 16:02:11",
            "Tue, 17 Feb 2026 10:02:11 -0600",
            "2026-02-17T10:02:11.000-06:00>",
            "1771344131",
            "1771344131000",
            "2026-02-17 10:02:11 GMT-06:00",
            "2026-02-17T10:02:11-0600",
        ] {
            let Read::Value(time) = time(&json!(text)) else { panic!("{text}") };
            assert_eq!(time.instant.to_string(), "2026-02-17T16:02:11Z", "{text}");
        }
        for text in ["yesterday", "12", "2026-02-17", "2026-13-40T10:00:00Z"] {
            assert_eq!(time(&json!(text)), Read::Odd, "{text}");
        }
    }

    #[test]
    fn ids_are_digits_and_nothing_else() {
        assert_eq!(digits(&json!(48213)).as_deref(), Some("48213"));
        assert_eq!(digits(&json!("48213")).as_deref(), Some("48213"));
        assert_eq!(digits(&json!("call-48213")).as_deref(), Some("48213"));
        assert_eq!(digits(&json!(48213.0)).as_deref(), Some("48213"));
        for odd in [json!(-1), json!(1.5), json!("C-1"), json!(""), json!(null), json!([1]), json!("12 34")] {
            assert_eq!(digits(&odd), None, "{odd}");
        }
    }

    #[test]
    fn whole_numbers_come_with_their_scale() {
        for text in ["4", "4/5", "4 out of 5", "4 stars", " 4 ", "4.0", "4 (good)"] {
            assert_eq!(integer(&json!(text)), Read::Value(4), "{text}");
        }
        for text in ["four", "4.5", "4 apples", "--4"] {
            assert_eq!(integer(&json!(text)), Read::Odd, "{text}");
        }
    }

    #[test]
    fn words_become_slugs() {
        assert_eq!(slug("Voice Inbound (Kiosk)"), "voice_inbound_kiosk");
        assert_eq!(slug(" ** "), "");
    }
}
