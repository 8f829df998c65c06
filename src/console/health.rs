//! Signs of life, backlog and pauses → whether the service works, and what is wrong with it. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Watch, Watched};
use crate::ledger::{Backlog, Paused, Undelivered};

/// What `/healthz` answers.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// `ok`, or `failing`: then the status is 503.
    pub status: &'static str,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// Since when the service runs.
    pub started: Timestamp,
    /// The ledger.
    pub ledger: LedgerHealth,
    /// The sources.
    pub sources: Vec<SourceHealth>,
    /// The destinations.
    pub destinations: Vec<DestinationHealth>,
    /// Messages that wait for a person; null if the ledger does not say.
    pub quarantined: Option<u64>,
}

/// Whether the ledger takes anything.
#[derive(Debug, Clone, Serialize)]
pub struct LedgerHealth {
    /// Whether a small write was just made durable.
    pub writable: bool,
    /// How long that took, in milliseconds.
    pub write_ms: Option<u64>,
    /// Why it was not.
    pub detail: Option<String>,
}

/// A source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceHealth {
    /// Its name.
    pub name: String,
    /// `works`, `starting`, `failing` (it stopped by itself) or `silent` (it has not looked for too long).
    pub state: &'static str,
    /// When it last looked, or was called, and nothing was amiss.
    pub last_look: Option<Timestamp>,
    /// When something of it was last committed, since the start.
    pub last_taken: Option<Timestamp>,
    /// Seconds since the last look, or since the start. Null for a source that waits to be called.
    pub lag_seconds: Option<i64>,
    /// The step that failed.
    pub step: Option<&'static str>,
    /// Why.
    pub reason: Option<String>,
}

/// A destination.
#[derive(Debug, Clone, Serialize)]
pub struct DestinationHealth {
    /// Its name.
    pub name: String,
    /// `works` or `held`.
    pub state: &'static str,
    /// Since when it is held.
    pub held_since: Option<Timestamp>,
    /// When it is tried again; null while held: when a person resumes it.
    pub held_until: Option<Timestamp>,
    /// Why it is held.
    pub reason: Option<String>,
    /// Seconds since the oldest delivery that is in line was made.
    pub oldest_seconds: Option<i64>,
    /// What is not finished.
    #[serde(flatten)]
    pub undelivered: Undelivered,
}

impl Health {
    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.problems.is_empty()
    }
}

/// How long a source may fail or be silent: some looks and a minute, so that a lost connection is no alarm.
fn patience(period: Option<Duration>) -> SignedDuration {
    let looks = SignedDuration::try_from(period.unwrap_or_default()).unwrap_or(SignedDuration::from_hours(1));
    looks.saturating_mul(3).saturating_add(SignedDuration::from_mins(1))
}

/// Judges what was found. `asked` is what the ledger answered: how long a write took, the backlog, the pauses.
pub fn judge(
    watch: &Watch,
    overdue: Duration,
    asked: Result<(Duration, Backlog, Vec<Paused>), String>,
    now: Timestamp,
) -> Health {
    let mut problems = Vec::new();
    let (ledger, backlog, paused) = match asked {
        Ok((wrote, backlog, paused)) => {
            let write_ms = u64::try_from(wrote.as_millis()).ok();
            (LedgerHealth { writable: true, write_ms, detail: None }, Some(backlog), paused)
        }
        Err(detail) => {
            problems
                .push(format!("the ledger can't be written, and no source is told that anything is safe: {detail}"));
            (LedgerHealth { writable: false, write_ms: None, detail: Some(detail) }, None, Vec::new())
        }
    };
    let sources = watch.sources.iter().map(|(name, watched)| source(name, watched, watch.started, now, &mut problems));
    let sources = sources.collect();
    let mut names: Vec<&String> = watch.destinations.iter().collect();
    // What is no longer in the configuration may still have work.
    names.extend(backlog.iter().flat_map(|b| b.destinations.keys()).filter(|n| !watch.destinations.contains(n)));
    let of = |name: &String| backlog.as_ref().and_then(|b| b.destinations.get(name)).cloned().unwrap_or_default();
    let overdue = SignedDuration::try_from(overdue).unwrap_or(SignedDuration::MAX);
    let mut destinations = Vec::with_capacity(names.len());
    for name in names {
        let pause = paused.iter().find(|pause| pause.destination == *name);
        let undelivered = of(name);
        let age = undelivered.oldest.map(|oldest| now.duration_since(oldest));
        let by_hand = pause.is_some_and(|pause| pause.until.is_none());
        if let Some(age) = age.filter(|age| *age > overdue && !by_hand) {
            problems.push(format!("deliveries to `{name}` wait for {} minutes", age.as_mins()));
        }
        destinations.push(DestinationHealth {
            name: name.clone(),
            state: if pause.is_some() { "held" } else { "works" },
            held_since: pause.map(|pause| pause.since),
            held_until: pause.and_then(|pause| pause.until),
            reason: pause.map(|pause| pause.reason.to_string()),
            oldest_seconds: age.map(|age| age.as_secs()),
            undelivered,
        });
    }
    Health {
        status: if problems.is_empty() { "ok" } else { "failing" },
        problems,
        started: watch.started,
        ledger,
        sources,
        destinations,
        quarantined: backlog.map(|backlog| backlog.quarantined),
    }
}

fn source(
    name: &str,
    watched: &Watched,
    started: Timestamp,
    now: Timestamp,
    problems: &mut Vec<String>,
) -> SourceHealth {
    let look = watched.pulse.last_look();
    let lag = now.duration_since(look.unwrap_or(started));
    let is_late = lag > patience(watched.period);
    let fault = watched.fault();
    let state = match (&fault, look) {
        (Some(_), _) => "failing",
        (None, None) if !is_late => "starting",
        (None, _) if is_late && watched.period.is_some() => "silent",
        _ => "works",
    };
    if is_late && let Some(stopped) = &fault {
        let said = format!("the source `{name}` fails at `{}` ({})", stopped.fault.step, stopped.fault.reason);
        problems.push(said);
    } else if state == "silent" {
        problems.push(format!("the source `{name}` has not looked for {} s", lag.as_secs()));
    }
    SourceHealth {
        name: name.to_owned(),
        state,
        last_look: look,
        last_taken: watched.pulse.last_taken(),
        lag_seconds: watched.period.map(|_| lag.as_secs()),
        step: fault.as_ref().map(|stopped| stopped.fault.step),
        reason: fault.map(|stopped| stopped.fault.reason.to_string()),
    }
}
