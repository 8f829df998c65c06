//! What goes wrong, when: `429=0.1,slow=200ms` (rates), `X-Sandbox-Fault: reset-after` (one request) and a
//! queue for the next requests, into the one fault of a request.
//!
//! Random faults come from a seed, so a run can be repeated as long as its requests come in the same order.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest `slow`, and what a `hang` is for practical purposes.
const LONGEST: Duration = Duration::from_secs(3600);
const DEFAULT_SEED: u64 = 1;

/// One thing that goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An error answer instead of the effect, from 400 to 599, with `Retry-After` in seconds.
    Status {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`.
        retry_after: Option<u32>,
    },
    /// The effect happens at once and the answer comes this much later.
    Slow(Duration),
    /// The connection is reset before anything happens.
    ResetBefore,
    /// The effect happens and the connection is reset instead of an answer.
    ResetAfter,
    /// Nothing happens and no answer comes, until the caller gives up.
    Hang,
    /// A mail is refused with this SMTP code (400 to 599) after its last line.
    MailStatus(u16),
    /// A mail is taken and the connection is reset instead of the reply.
    MailReset,
}

impl Fault {
    /// Whether it is one of the mail intake.
    pub fn is_mail(&self) -> bool {
        matches!(self, Self::MailStatus(_) | Self::MailReset)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status, retry_after: None } => write!(f, "{status}"),
            Self::Status { status, retry_after: Some(seconds) } => write!(f, "{status}; retry-after={seconds}"),
            Self::Slow(time) => write!(f, "slow={}ms", time.as_millis()),
            Self::ResetBefore => f.write_str("reset-before"),
            Self::ResetAfter => f.write_str("reset-after"),
            Self::Hang => f.write_str("hang"),
            Self::MailStatus(code) => write!(f, "mail-{code}"),
            Self::MailReset => f.write_str("mail-reset"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    /// `429`, `429; retry-after=2`, `slow=300` (milliseconds) or `slow=2s`, `reset-before`, `reset-after`
    /// (also `reset`), `hang`, `mail-451`, `mail-reset`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let mut fault = match name.split_once('=') {
            Some(("slow", time)) => Self::Slow(time_of(time)?),
            Some(_) => return Err(unknown(name)),
            None => plain(name)?,
        };
        for part in parts.filter(|part| !part.is_empty()) {
            match (part.split_once('=').map(|(key, value)| (key.trim(), value.trim())), &mut fault) {
                (Some(("retry-after", value)), Self::Status { retry_after, .. }) => {
                    *retry_after = Some(value.parse().map_err(|_| format!("`{part}` needs a number of seconds"))?);
                }
                _ => return Err(format!("`{part}` says nothing about the fault `{name}`")),
            }
        }
        Ok(fault)
    }
}

fn plain(name: &str) -> Result<Fault, String> {
    let code = |text: &str| text.parse::<u16>().ok().filter(|code| (400..=599).contains(code));
    if let Some(status) = code(name) {
        // What a caller should wait is part of what a 429 says.
        return Ok(Fault::Status { status, retry_after: (status == 429).then_some(1) });
    }
    match name {
        "reset-before" => Ok(Fault::ResetBefore),
        "reset-after" | "reset" => Ok(Fault::ResetAfter),
        "hang" => Ok(Fault::Hang),
        "mail-reset" => Ok(Fault::MailReset),
        _ => name.strip_prefix("mail-").and_then(code).map(Fault::MailStatus).ok_or_else(|| unknown(name)),
    }
}

fn unknown(name: &str) -> String {
    format!(
        "`{name}` is no fault: there are the statuses `400` to `599`, `slow=200ms`, `reset-before`, `reset-after`, \
         `hang`, `mail-400` to `mail-599` and `mail-reset`"
    )
}

/// `200ms`, `2s`, or milliseconds without a unit.
fn time_of(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.strip_prefix(number).unwrap_or_default() {
        "" | "ms" => 1,
        "s" => 1000,
        _ => return Err(format!("`{text}` is not a time: write `200ms` or `2s`")),
    };
    let time = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).map(Duration::from_millis);
    time.filter(|time| *time <= LONGEST).ok_or_else(|| format!("`{text}` is not a time up to an hour, such as `200ms`"))
}

/// What goes wrong by itself: each fault with its rate from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    rates: Vec<(Fault, f64)>,
    seed: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self { rates: Vec::new(), seed: DEFAULT_SEED }
    }
}

impl Faults {
    /// No faults, and a seed for those that are added.
    pub fn seeded(seed: u64) -> Self {
        Self { rates: Vec::new(), seed }
    }

    /// The same with one more.
    #[must_use]
    pub fn with(mut self, fault: Fault, rate: f64) -> Self {
        self.rates.push((fault, rate.clamp(0.0, 1.0)));
        self
    }

    /// Whether nothing ever goes wrong by itself.
    pub fn is_empty(&self) -> bool {
        self.rates.is_empty()
    }

    fn add(&mut self, part: &str) -> Result<(), String> {
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` has no value: write it as `429=0.1` or `slow=200ms`"))?;
        let (name, value) = (name.trim(), value.trim());
        match name {
            "seed" => self.seed = value.parse().map_err(|_| format!("`{part}` needs a whole number"))?,
            // A slow CRM is slow all the time, unless a rate is written behind the time.
            "slow" => {
                let (time, share) = value.split_once('@').unwrap_or((value, "1"));
                self.rates.push((Fault::Slow(time_of(time)?), rate(part, share)?));
            }
            _ => self.rates.push((name.parse()?, rate(part, value)?)),
        }
        Ok(())
    }
}

fn rate(part: &str, text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
    rate.ok_or_else(|| format!("the rate in `{part}` must be a number from 0 to 1"))
}

impl FromStr for Faults {
    type Err = String;

    /// `429=0.1,500=0.05,slow=200ms@0.5,reset-after=0.01,seed=7`; empty for none.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            faults.add(part)?;
        }
        for mail in [false, true] {
            let exclusive = |fault: &Fault| !matches!(fault, Fault::Slow(_)) && fault.is_mail() == mail;
            let sum: f64 = faults.rates.iter().filter(|(fault, _)| exclusive(fault)).map(|(_, rate)| rate).sum();
            if sum > 1.0 + f64::EPSILON {
                return Err(format!("the rates add up to {sum}, and no more than all requests can go wrong"));
            }
        }
        Ok(faults)
    }
}

/// Decides what goes wrong with each request.
#[derive(Debug)]
pub(crate) struct Injector {
    start: Faults,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    next: VecDeque<Planned>,
    random: fastrand::Rng,
}

/// A fault for the next request, or the next of one method: `429`, `PUT reset-after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    method: Option<String>,
    fault: Fault,
}

impl FromStr for Planned {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let method = text.split_once(' ').filter(|(word, _)| word.bytes().all(|b| b.is_ascii_uppercase()));
        let (method, fault) = method.map_or((None, text), |(word, rest)| (Some(word.to_owned()), rest));
        Ok(Self { method, fault: fault.trim().parse()? })
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{method} ")?;
        }
        self.fault.fmt(f)
    }
}

/// What goes wrong with one request: how late the answer is, and what else.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) late: Option<Duration>,
    pub(crate) fault: Option<Fault>,
}

impl From<Fault> for Verdict {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Slow(time) => Self { late: Some(time), fault: None },
            other => Self { late: None, fault: Some(other) },
        }
    }
}

impl Injector {
    pub(crate) fn new(faults: Faults) -> Self {
        let random = fastrand::Rng::with_seed(faults.seed);
        let state = State { faults: faults.clone(), next: VecDeque::new(), random };
        Self { start: faults, state: Mutex::new(state) }
    }

    /// As at the start, seed and all.
    pub(crate) fn reset(&self) {
        let fresh = Self::new(self.start.clone());
        *self.lock() = fresh.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    /// Faults for the next requests, behind those already planned.
    pub(crate) fn plan(&self, next: Vec<Planned>) {
        self.lock().next.extend(next);
    }

    /// New rates in place of the old; the random numbers go on.
    pub(crate) fn set_rates(&self, faults: Faults) {
        self.lock().faults.rates = faults.rates;
    }

    /// What is planned and what happens by itself, as texts.
    pub(crate) fn describe(&self) -> (Vec<String>, Vec<(String, f64)>) {
        let state = self.lock();
        let next = state.next.iter().map(ToString::to_string).collect();
        let rates = state.faults.rates.iter().map(|(fault, rate)| (fault.to_string(), *rate)).collect();
        (next, rates)
    }

    /// What goes wrong with a request of this method.
    pub(crate) fn http(&self, method: &str) -> Verdict {
        self.lock().judge(|fault| !fault.is_mail(), Some(method))
    }

    /// What goes wrong with a mail.
    pub(crate) fn mail(&self) -> Verdict {
        self.lock().judge(Fault::is_mail, None)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn judge(&mut self, concerns: impl Fn(&Fault) -> bool, method: Option<&str>) -> Verdict {
        let fits = |plan: &Planned| {
            concerns(&plan.fault) && plan.method.as_deref().is_none_or(|wanted| Some(wanted) == method)
        };
        if let Some(plan) = self.next.iter().position(fits).and_then(|at| self.next.remove(at)) {
            return plan.fault.into();
        }
        let mut verdict = Verdict::default();
        if self.faults.rates.is_empty() {
            return verdict;
        }
        // One throw for all that exclude each other: their rates are shares of all requests.
        let mut left = self.random.f64();
        for (fault, rate) in self.faults.rates.iter().filter(|(fault, _)| concerns(fault)) {
            if let Fault::Slow(time) = fault {
                if self.random.f64() < *rate {
                    verdict.late = Some(*time);
                }
            } else if verdict.fault.is_none() {
                if left < *rate {
                    verdict.fault = Some(fault.clone());
                }
                left -= rate;
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_as_they_are_written() {
        for text in ["429; retry-after=2", "500", "slow=300ms", "reset-before", "reset-after", "hang", "mail-451"] {
            let fault: Fault = text.parse().expect(text);
            assert_eq!(fault.to_string(), text);
        }
        let late: Fault = "slow=2s".parse().expect("slow");
        assert_eq!(late, Fault::Slow(Duration::from_secs(2)));
    }

    #[test]
    fn a_mistake_in_a_rate_is_told_with_the_part() {
        for (text, part) in [
            ("429", "no value"),
            ("429=2", "from 0 to 1"),
            ("429=NaN", "from 0 to 1"),
            ("slow=fast", "`200ms`"),
            ("slow=99999999s", "an hour"),
            ("oops=0.1", "is no fault"),
            ("399=0.1", "is no fault"),
            ("429=0.6,500=0.6", "add up"),
            ("seed=x", "whole number"),
        ] {
            let error = text.parse::<Faults>().expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = "429; wait=2".parse::<Fault>().expect_err("unknown");
        assert!(error.contains("`wait=2`"), "{error}");
    }

    #[test]
    fn rates_are_shares_of_all_requests_and_come_from_the_seed() {
        let faults: Faults = "429=0.2,500=0.1,slow=5ms@0.5,seed=9".parse().expect("faults");
        let run = || {
            let injector = Injector::new(faults.clone());
            (0..10_000).map(|_| injector.http("PUT")).collect::<Vec<_>>()
        };
        let first = run();
        assert_eq!(first, run());
        let count = |status| {
            let wanted = |v: &&Verdict| matches!(v.fault, Some(Fault::Status { status: s, .. }) if s == status);
            first.iter().filter(wanted).count()
        };
        assert!((1_850..2_150).contains(&count(429)), "{}", count(429));
        assert!((900..1_100).contains(&count(500)), "{}", count(500));
        assert!((4_800..5_200).contains(&first.iter().filter(|v| v.late.is_some()).count()));
    }

    #[test]
    fn a_planned_fault_waits_for_its_method() {
        let injector = Injector::new(Faults::default());
        injector.plan(vec!["PUT reset-after".parse().expect("a plan"), "500".parse().expect("a plan")]);
        assert_eq!(injector.mail(), Verdict::default());
        assert!(matches!(injector.http("GET").fault, Some(Fault::Status { status: 500, .. })));
        assert_eq!(injector.http("GET"), Verdict::default());
        assert_eq!(injector.http("PUT").fault, Some(Fault::ResetAfter));
    }
}
