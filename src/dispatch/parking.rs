//! Deliveries whose record is not there yet, not ready, or another one: when to look again, and until when.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::target::Done;
use crate::ledger::{Claimed, Next};
use crate::outcome::{Class, Reason};

/// How a delivery goes on whose attempt ended with another record, or with none; `None` for all others.
pub(super) fn led(claimed: &Claimed, done: &Done, park: Duration, now: Timestamp) -> Option<(Next, Reason)> {
    let reason = done.verdict.reason;
    if let Some(record) = &done.led_to {
        return Some((Next::Moved { record: record.clone(), how: done.verdict.detail.clone() }, reason));
    }
    let until = claimed.since + SignedDuration::try_from(park).unwrap_or(SignedDuration::from_hours(72));
    let waits = done.verdict.class == Class::Park;
    // One whose search fails for a temporary cause is not tried for longer than it would be parked.
    let searches = claimed.record.is_none() && matches!(done.verdict.class, Class::Retry | Class::Conflict);
    if (waits || searches) && until <= now {
        return Some((Next::Dead, reason));
    }
    let looks = claimed.record.is_some() || done.looks_up;
    match (waits, looks) {
        (false, _) => None,
        (true, false) => Some((Next::Parked(until), reason)),
        (true, true) => {
            let wait = pause(claimed.attempts, fastrand::f64());
            let at = now + SignedDuration::try_from(wait).unwrap_or(SignedDuration::from_hours(4));
            Some((Next::Again { until, at: at.min(until), candidates: done.candidates.clone() }, reason))
        }
    }
}

/// How long before the record is looked for again: doubling from 5 minutes to 4 hours, with a jitter of a fifth.
fn pause(attempts: u32, random: f64) -> Duration {
    let plain = (300.0 * 2f64.powi(attempts.min(10) as i32)).min(4.0 * 3600.0);
    Duration::from_secs_f64(plain * (0.8 + 0.4 * random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_grow_rarer_up_to_four_hours() {
        let minutes = |attempts| pause(attempts, 0.5).as_secs() / 60;
        assert_eq!([0, 1, 2, 5, 6, 40].map(minutes), [5, 10, 20, 160, 240, 240]);
        assert!(pause(0, 0.0) < pause(0, 1.0));
    }
}
