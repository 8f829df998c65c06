//! When a mailbox has its turn: what is due in it, whether it has to wait after something went wrong, and how long
//! numbers that stay are believed. Knows no connection; the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::survey::Standing;

/// Waiting after `try again` and after a fault: from the first to the last, doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);
/// How long numbers that stay are believed if HIGHESTMODSEQ is among them: then the mailbox is listed all the same.
const BELIEVED: Duration = Duration::from_secs(3600);

/// What is to be looked for in a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Nothing,
    /// New messages.
    News,
    /// The mailbox is opened anew, and messages that could not be had are tried again.
    All,
}

/// A mailbox's turn.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) due: Due,
    /// Not before this, and how long it is to wait the next time.
    not_before: Option<Instant>,
    wait: Duration,
    /// The numbers before the last walk that came to its end, and when that was.
    seen: Option<(Standing, Instant)>,
    /// How long numbers without a modseq are believed.
    believed: Duration,
}

impl Turn {
    /// The first: all is due.
    pub(super) fn new(believed: Duration) -> Self {
        Self { due: Due::All, not_before: None, wait: FIRST_WAIT, seen: None, believed }
    }

    /// When it is; `None` if nothing is due.
    pub(super) fn at(&self, now: Instant) -> Option<Instant> {
        (self.due > Due::Nothing).then(|| self.not_before.unwrap_or(now))
    }

    /// Whether it has to wait.
    pub(super) fn is_put_off(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|at| at > now)
    }

    /// Has it wait, longer each time, so that the other mailboxes have their turn.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.not_before = Some(now + self.wait);
        self.wait = (self.wait * 2).min(LAST_WAIT);
    }

    /// At least this is due now.
    pub(super) fn claim(&mut self, due: Due) {
        self.due = self.due.max(due);
    }

    /// All was read that there was when the numbers were these.
    pub(super) fn done(&mut self, seen: Standing, now: Instant) {
        *self = Self { due: Due::Nothing, seen: Some((seen, now)), ..Self::new(self.believed) };
    }

    /// Whether nothing can have come: the numbers are those of the last walk. A server may be wrong about them, so
    /// they are not believed for ever.
    pub(super) fn is_settled(&self, standing: &Standing, now: Instant) -> bool {
        let believed = if standing.modseq.is_some() { BELIEVED } else { self.believed };
        self.has_seen(standing) && self.seen.is_some_and(|(_, at)| now.duration_since(at) < believed)
    }

    /// Whether the numbers are those of the last walk, however long ago.
    pub(super) fn has_seen(&self, standing: &Standing) -> bool {
        self.seen.is_some_and(|(seen, _)| seen == *standing)
    }

    /// Forgets the numbers, because they are of another mailbox now.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(modseq: Option<u64>) -> Standing {
        Standing { uidvalidity: 7, uid_next: 9, exists: 3, modseq }
    }

    #[test]
    fn numbers_that_stay_are_believed_for_a_while_and_longer_with_a_modseq() {
        let now = Instant::now();
        for (modseq, believed) in [(None, 300), (Some(5), 3600)] {
            let mut turn = Turn::new(Duration::from_secs(300));
            assert!(!turn.is_settled(&standing(modseq), now));
            turn.done(standing(modseq), now);
            assert!(turn.is_settled(&standing(modseq), now + Duration::from_secs(believed - 1)), "{modseq:?}");
            assert!(!turn.is_settled(&standing(modseq), now + Duration::from_secs(believed)), "{modseq:?}");
        }
    }

    #[test]
    fn any_other_number_is_news_also_one_that_went_back() {
        let now = Instant::now();
        let mut turn = Turn::new(Duration::from_secs(300));
        turn.done(standing(Some(5)), now);
        for changed in [
            Standing { uid_next: 10, ..standing(Some(5)) },
            Standing { uidvalidity: 8, ..standing(Some(5)) },
            Standing { exists: 2, ..standing(Some(5)) },
            standing(Some(4)),
            standing(None),
        ] {
            assert!(!turn.is_settled(&changed, now) && !turn.has_seen(&changed), "{changed:?}");
        }
        turn.forget();
        assert!(!turn.is_settled(&standing(Some(5)), now));
    }

    #[test]
    fn what_is_put_off_waits_longer_each_time_until_it_went_well() {
        let now = Instant::now();
        let mut turn = Turn::new(Duration::from_secs(300));
        assert_eq!(turn.at(now), Some(now));
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            turn.put_off(now);
            assert_eq!(turn.at(now), Some(now + Duration::from_secs(wait)));
            assert!(turn.is_put_off(now) && !turn.is_put_off(now + Duration::from_secs(wait)));
        }
        turn.done(standing(None), now);
        assert!(turn.at(now).is_none() && !turn.is_put_off(now));
        turn.claim(Due::News);
        turn.put_off(now);
        assert_eq!(turn.at(now), Some(now + FIRST_WAIT));
    }
}
