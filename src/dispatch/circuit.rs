//! Whether a destination takes deliveries, and how many at once: held after a fault that is not one record's
//! own, probed with one delivery when the hold ends, then widened step by step. Pure: time is an argument.
//!
//! A record that fails while others succeed has a fault of its own, and never holds them. What ends a hold is an
//! answer to something that was sent after it began; a hold by hand ends by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::ledger::Paused;
use crate::outcome::{Class, Reason, Scope, Verdict};

/// Failures in a row, of two records at least, that mean the destination is down.
const FAILURES: u32 = 5;
/// Of these, so many may be of one record.
const OF_ONE: u32 = 3;
/// So many are enough where no connection could be made at all: that is no record's fault.
const UNREACHABLE: u32 = 3;
/// Records whose own faults are remembered.
const REMEMBERED: usize = 1_024;
/// A hold is never shorter, whatever the server wishes.
const SHORTEST: Duration = Duration::from_secs(1);

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    /// Since when nothing has got through.
    pub(super) since: Timestamp,
    /// When it was last begun or lengthened: what was sent before tells nothing new.
    pub(super) renewed: Timestamp,
    /// When one delivery may probe. `None`: it is held by hand.
    pub(super) until: Option<Timestamp>,
    /// Probes that failed, and the first failure.
    pub(super) times: u32,
    /// Why.
    pub(super) reason: Reason,
}

impl Hold {
    /// As the ledger has it.
    pub(super) fn of(paused: &Paused, now: Timestamp) -> Self {
        Self { since: paused.since, renewed: now, until: paused.until, times: paused.times, reason: paused.reason }
    }

    fn stands(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It is this delivery's own: it is tried again, or over, by itself.
    Own,
    /// It is the destination's, which is held until then. `news`: the hold begins or is lengthened with it.
    Held { until: Timestamp, news: bool },
}

/// The circuit of one destination.
#[derive(Debug)]
pub(super) struct Circuit {
    most: usize,
    wide: usize,
    /// Successes since `wide` changed.
    good: usize,
    hold: Option<Hold>,
    /// Failures in a row where no connection could be made.
    unreachable: u32,
    /// Records that failed since the last success, and how often.
    suspects: BTreeMap<String, u32>,
    /// Records that failed while others succeeded.
    own: BTreeSet<String>,
}

impl Circuit {
    /// A circuit that lets `most` deliveries be under way.
    pub(super) fn new(most: usize) -> Self {
        let (suspects, own) = (BTreeMap::new(), BTreeSet::new());
        Self { most, wide: most, good: 0, hold: None, unreachable: 0, suspects, own }
    }

    /// How many may be under way now.
    pub(super) fn width(&self, now: Timestamp) -> usize {
        match &self.hold {
            Some(hold) if hold.stands(now) => 0,
            Some(_) => 1,
            None => self.wide,
        }
    }

    /// The hold, whether it stands or is being probed.
    pub(super) fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// The hold, if nothing may begin now.
    pub(super) fn holds(&self, now: Timestamp) -> Option<&Hold> {
        self.hold.as_ref().filter(|hold| hold.stands(now))
    }

    /// What the ledger says: after a restart, by a person's hand, or from another instance.
    pub(super) fn adopt(&mut self, hold: Option<Hold>) {
        // The ledger counts in milliseconds.
        let span = |hold: &Hold| (hold.since.as_millisecond(), hold.until.map(Timestamp::as_millisecond));
        if self.hold.as_ref().map(span) == hold.as_ref().map(span) {
            return;
        }
        if self.hold.is_some() && hold.is_none() {
            self.narrow_to(1);
        }
        self.hold = hold;
    }

    /// Something that was sent at `began` was answered as by a destination that works. True: it was held, and is
    /// no more.
    pub(super) fn works(&mut self, record: &str, began: Timestamp) -> bool {
        self.own.remove(record);
        if self.hold.as_ref().is_some_and(|hold| hold.until.is_none() || began < hold.renewed) {
            return false;
        }
        self.suspects.remove(record);
        if self.own.len() + self.suspects.len() > REMEMBERED {
            self.own.clear();
        }
        self.own.extend(std::mem::take(&mut self.suspects).into_keys());
        self.unreachable = 0;
        let held = self.hold.take().is_some();
        if held {
            self.narrow_to(1);
        }
        if self.wide < self.most {
            self.good += 1;
            if self.good >= self.wide {
                self.wide = (self.wide * 2).min(self.most);
                self.good = 0;
            }
        }
        held
    }

    /// A delivery failed.
    pub(super) fn fails(&mut self, record: &str, verdict: &Verdict, now: Timestamp) -> Ruling {
        let reason = verdict.reason;
        let limited = verdict.class == Class::Retry && verdict.scope == Scope::Destination;
        let down = verdict.class == Class::Retry && (limited || tells_of_destination(reason));
        if !(down || verdict.class == Class::Pause) {
            return Ruling::Own;
        }
        // Under way together with the one that began the hold.
        if let Some(until) = self.holds(now).map(|hold| hold.until.unwrap_or(now)) {
            let longer = until_of(verdict.retry_after.unwrap_or_default(), now);
            if limited && longer > until {
                return self.begin(reason, longer, now);
            }
            return Ruling::Held { until, news: false };
        }
        if !limited && self.own.contains(record) {
            return Ruling::Own;
        }
        if down {
            self.unreachable += u32::from(reason == Reason::Unreachable);
            self.suspect(record);
            if self.wide < self.most {
                self.narrow_to(self.wide / 2);
            }
        }
        let failures: u32 = self.suspects.values().map(|times| *times.min(&OF_ONE)).sum();
        let several = failures >= FAILURES && self.suspects.len() > 1;
        if !(limited
            || verdict.class == Class::Pause
            || self.hold.is_some()
            || several
            || self.unreachable >= UNREACHABLE)
        {
            return Ruling::Own;
        }
        if !down {
            self.suspect(record);
        }
        let next = probe_after(self.hold.as_ref().map_or(0, |hold| hold.times) + 1);
        let wait = match verdict.retry_after {
            // Who says when to come back is believed; a server that is down may be wrong.
            Some(wish) if limited => wish,
            Some(wish) => wish.max(next),
            None => next,
        };
        self.begin(reason, until_of(wait, now), now)
    }

    fn suspect(&mut self, record: &str) {
        if let Some(times) = self.suspects.get_mut(record) {
            *times = times.saturating_add(1);
        } else if self.suspects.len() < REMEMBERED {
            self.suspects.insert(record.to_owned(), 1);
        }
    }

    fn begin(&mut self, reason: Reason, until: Timestamp, now: Timestamp) -> Ruling {
        let (since, times) = self.hold.as_ref().map_or((now, 0), |hold| (hold.since, hold.times));
        self.hold = Some(Hold { since, renewed: now, until: Some(until), times: times + 1, reason });
        Ruling::Held { until, news: true }
    }

    fn narrow_to(&mut self, wide: usize) {
        (self.wide, self.good) = (wide.clamp(1, self.most), 0);
    }
}

fn until_of(wait: Duration, now: Timestamp) -> Timestamp {
    now + SignedDuration::try_from(wait.max(SHORTEST)).unwrap_or(SignedDuration::from_hours(24))
}

/// Whether a temporary fault may be the destination's and not one record's.
fn tells_of_destination(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Unavailable
            | Reason::Unreachable
            | Reason::Timeout
            | Reason::ConnectionLost
            | Reason::RateLimited
            | Reason::Quota
            | Reason::MailDeferred
            | Reason::StorageFailed
    )
}

/// Whether a verdict on something that was sent shows that the destination works.
pub(super) fn shows_that_it_works(verdict: &Verdict) -> bool {
    match verdict.class {
        Class::Ok | Class::Partial | Class::Conflict | Class::Park => true,
        Class::Dead => matches!(
            verdict.reason,
            Reason::RecordNotFound
                | Reason::RecordClosed
                | Reason::RecordAmbiguous
                | Reason::RejectedPayload
                | Reason::UnknownField
                | Reason::MailRefused
        ),
        Class::Retry | Class::Pause => false,
    }
}

/// How long a held destination is left alone: doubling from 30 seconds to 15 minutes.
fn probe_after(times: u32) -> Duration {
    Duration::from_secs((30_u64 << times.saturating_sub(1).min(10)).min(900))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
    }

    fn down() -> Verdict {
        Verdict::new(Class::Retry, Reason::Unavailable, "HTTP status 503")
    }

    fn refused() -> Verdict {
        Verdict::new(Class::Pause, Reason::Unauthorized, "HTTP status 401")
    }

    fn held(until: i64) -> Ruling {
        Ruling::Held { until: at(until), news: true }
    }

    #[test]
    fn a_wrong_credential_holds_at_once_and_is_probed_ever_later() {
        let mut circuit = Circuit::new(8);
        assert_eq!(circuit.fails("1", &refused(), at(0)), held(30));
        assert_eq!((circuit.width(at(29)), circuit.width(at(30))), (0, 1));
        let together = circuit.fails("2", &refused(), at(1));
        assert_eq!(together, Ruling::Held { until: at(30), news: false }, "those under way together count once");
        assert_eq!(circuit.fails("3", &refused(), at(30)), held(90));
        let mut now = 90;
        for wait in [120, 240, 480, 900, 900] {
            assert_eq!(circuit.fails("3", &refused(), at(now)), held(now + wait));
            now += wait;
        }
        assert_eq!(circuit.hold().map(|hold| hold.since), Some(at(0)), "it is down since the first failure");
        assert!(circuit.works("4", at(now)));
        assert_eq!(circuit.hold(), None);
    }

    #[test]
    fn after_a_hold_it_widens_by_doubling_and_a_failure_halves_it() {
        let mut circuit = Circuit::new(64);
        circuit.fails("1", &refused(), at(0));
        circuit.works("2", at(30));
        let mut widths = vec![circuit.width(at(30))];
        for n in 0..40 {
            circuit.works(&n.to_string(), at(31));
            if widths.last() != Some(&circuit.width(at(31))) {
                widths.push(circuit.width(at(31)));
            }
        }
        assert_eq!(widths, [2, 4, 8, 16, 32]);
        assert_eq!(circuit.fails("a", &down(), at(32)), Ruling::Own);
        assert_eq!(circuit.width(at(32)), 16);
        for n in 0..100 {
            circuit.works(&n.to_string(), at(33));
        }
        assert_eq!(circuit.width(at(33)), 64);
        circuit.fails("a", &down(), at(34));
        assert_eq!(circuit.width(at(34)), 64, "once it is through the slow start, one failure narrows nothing");
    }

    #[test]
    fn an_outage_holds_after_a_few_failures_of_several_records() {
        let mut circuit = Circuit::new(8);
        for record in ["1", "2", "3", "4"] {
            assert_eq!(circuit.fails(record, &down(), at(0)), Ruling::Own);
        }
        assert_eq!(circuit.fails("5", &down(), at(0)), held(30));
        let unreachable = Verdict::new(Class::Retry, Reason::Unreachable, "refused");
        let mut circuit = Circuit::new(8);
        let rulings = [0, 1, 2].map(|second| circuit.fails("1", &unreachable, at(second)));
        assert_eq!(rulings, [Ruling::Own, Ruling::Own, held(32)], "no connection is no record's own fault");
    }

    #[test]
    fn a_record_that_fails_alone_never_holds_the_others() {
        let mut circuit = Circuit::new(8);
        for second in 0..50 {
            assert_eq!(circuit.fails("bad", &down(), at(second)), Ruling::Own);
        }
        assert_eq!(circuit.fails("other", &down(), at(50)), Ruling::Own, "however often it failed before");
        circuit.works("good", at(60));
        for second in 61..99 {
            assert_eq!(circuit.fails("bad", &down(), at(second)), Ruling::Own);
            assert_eq!(circuit.fails("worse", &down(), at(second)), Ruling::Own);
            circuit.works("good", at(second));
        }
        // One that is refused may mean all: it holds once, and not again while the others get through.
        assert_eq!(circuit.fails("forbidden", &refused(), at(100)), held(130));
        circuit.works("good", at(130));
        assert_eq!(circuit.fails("forbidden", &refused(), at(131)), Ruling::Own);
        assert_eq!(circuit.fails("good", &refused(), at(132)), held(162), "another one holds as ever");
    }

    #[test]
    fn what_was_sent_before_a_hold_does_not_end_it_and_a_hand_is_stronger() {
        let mut circuit = Circuit::new(8);
        circuit.fails("1", &refused(), at(10));
        assert!(!circuit.works("2", at(9)));
        assert_eq!(circuit.width(at(11)), 0);
        let by_hand = Hold { since: at(10), renewed: at(20), until: None, times: 1, reason: Reason::Paused };
        circuit.adopt(Some(by_hand.clone()));
        assert!(!circuit.works("2", at(50)));
        assert_eq!(circuit.fails("3", &refused(), at(51)), Ruling::Held { until: at(51), news: false });
        assert_eq!(circuit.hold(), Some(&by_hand));
        circuit.adopt(None);
        assert_eq!(circuit.width(at(60)), 1, "and then it starts slowly");
    }

    #[test]
    fn a_limit_of_the_account_holds_for_as_long_as_it_says_and_one_of_the_record_does_not() {
        let mut limited = Verdict::new(Class::Retry, Reason::RateLimited, "HTTP status 429");
        limited.retry_after = Some(Duration::from_secs(7));
        let mut circuit = Circuit::new(8);
        assert_eq!(circuit.fails("1", &limited, at(0)), held(7));
        limited.retry_after = Some(Duration::from_secs(60));
        assert_eq!(circuit.fails("2", &limited, at(1)), held(61), "a longer wish lengthens it");
        limited.scope = Scope::Record;
        let mut circuit = Circuit::new(8);
        assert_eq!(circuit.fails("1", &limited, at(0)), Ruling::Own);
    }
}
