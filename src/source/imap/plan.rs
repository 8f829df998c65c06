//! Which messages come next: listings in windows of UIDs, so that memory is bounded whatever the size of the
//! mailbox, and from them batches bounded by count and bytes. Knows no connection: it says what to list and
//! what to fetch, and is told what was found.

use std::collections::{BTreeMap, VecDeque};

use super::cursor::{Cursor, uid_set};
use super::fetch::Listed;
use crate::source::{BATCH_BYTES, BATCH_ITEMS as BATCH};

/// The first window is small, so that the first message is there soon.
const FIRST_WINDOW: u32 = BATCH as u32;
const WINDOW: u32 = 1024;
/// The widest window over sparse UIDs, if the mailbox has more than `FEW` messages: what it may list at
/// worst stays a few MiB.
const WIDEST: u32 = 1 << 18;
const FEW: u32 = 50_000;
/// Holes that are listed at a time.
const HOLES: usize = 500;
/// After so many broken connections over one message it becomes a hole.
const STRIKES: u8 = 3;

/// What a listing is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Holes,
    /// Both ends included; `None`: to the end of the mailbox.
    Uids(u32, Option<u32>),
}

/// Messages that broke the connection, or were larger than they said. Kept across connections.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Up to this UID messages are fetched one by one.
    alone_until: u32,
    strikes: BTreeMap<u32, u8>,
    oversized: BTreeMap<u32, u64>,
}

impl Suspects {
    /// Fetching these messages ended the connection; `announced` is the literal that was refused.
    pub(super) fn blame(&mut self, uids: &[u32], announced: Option<u64>) {
        match (uids, announced) {
            ([uid], Some(bytes)) => {
                self.oversized.insert(*uid, bytes);
            }
            ([uid], None) => *self.strikes.entry(*uid).or_default() += 1,
            (several, _) => self.alone_until = several.last().copied().unwrap_or(0).max(self.alone_until),
        }
    }

    /// Forgets all, because the UIDs mean other messages now.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn are_struck(&self, uid: u32) -> bool {
        self.strikes.get(&uid).is_some_and(|strikes| *strikes >= STRIKES)
    }
}

/// A message of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// To be downloaded.
    Fetch(Listed),
    /// Larger than the limit: bytes announced.
    TooLarge(Listed, u64),
    /// Given up for now, after it broke the connection again and again.
    Hole(u32),
}

/// One walk through what is new in a mailbox.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where reading stands once all that was taken is committed.
    pub(super) cursor: Cursor,
    max_bytes: u64,
    uid_next: u32,
    from: u32,
    window: u32,
    current: Option<Window>,
    holes_due: Vec<u32>,
    at_end: bool,
    listed: VecDeque<Listed>,
    /// Below it the listed ones are holes that are tried again.
    retried_below: u32,
}

impl Plan {
    /// From `cursor` on, in a mailbox whose next UID was `uid_next` when it was opened.
    pub(super) fn new(cursor: Cursor, uid_next: u32, with_holes: bool, max_bytes: u64) -> Self {
        Self {
            holes_due: if with_holes { cursor.holes.iter().copied().collect() } else { Vec::new() },
            retried_below: cursor.next_uid,
            from: cursor.next_uid,
            cursor,
            max_bytes,
            uid_next,
            window: FIRST_WINDOW,
            current: None,
            at_end: false,
            listed: VecDeque::new(),
        }
    }

    /// The set to list next, and about how many messages that may be; `None` at the end.
    pub(super) fn next_listing(&mut self, exists: u32) -> Option<(String, u32)> {
        if !self.holes_due.is_empty() {
            self.current = Some(Window::Holes);
            let some: Vec<u32> = self.holes_due.iter().copied().take(HOLES).collect();
            return Some((uid_set(some.iter().copied()), some.len() as u32));
        }
        // Some servers refuse a range in an empty mailbox.
        if self.at_end || exists == 0 {
            return None;
        }
        let last = self.from.saturating_add(self.window - 1);
        let (end, about) =
            if last < self.uid_next.saturating_sub(1) { (Some(last), self.window) } else { (None, exists) };
        self.current = Some(Window::Uids(self.from, end));
        let set = end.map_or_else(|| format!("{}:*", self.from), |end| format!("{}:{end}", self.from));
        Some((set, about.min(exists)))
    }

    /// What that listing found, in order. `n:*` always names the last message, even below `n` (RFC 3501
    /// section 6.4.8).
    pub(super) fn listed(&mut self, found: Vec<Listed>, exists: u32) {
        match self.current.take() {
            Some(Window::Holes) => {
                let some = self.holes_due.len().min(HOLES);
                for uid in self.holes_due.drain(..some) {
                    match found.iter().find(|one| one.uid == uid) {
                        Some(one) => self.listed.push_back(*one),
                        None => self.cursor.pass(uid),
                    }
                }
            }
            Some(Window::Uids(from, end)) => {
                let within = |one: &Listed| one.uid >= from && end.is_none_or(|end| one.uid <= end);
                let before = self.listed.len();
                self.listed.extend(found.into_iter().filter(within));
                self.widen((self.listed.len() - before) as u32, exists);
                match end {
                    Some(end) => self.from = end.saturating_add(1),
                    None => self.at_end = true,
                }
            }
            None => {}
        }
    }

    fn widen(&mut self, found: u32, exists: u32) {
        let widest = if exists <= FEW { u32::MAX / 2 } else { WIDEST };
        self.window = match self.window {
            w if found < w / 2 => w.saturating_mul(2).min(widest),
            w if w < WINDOW => w * 2,
            _ => WINDOW,
        };
    }

    /// The next batch of what is listed; empty if more has to be listed first. The cursor moves past what
    /// is not wanted; the rest is for the caller to pass.
    pub(super) fn take(&mut self, suspects: &Suspects) -> Vec<Next> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(&one) = self.listed.front() {
            let retried = one.uid < self.retried_below;
            let next = if !retried && !self.cursor.wants(one.uid, one.received_at) {
                self.cursor.pass(one.uid);
                self.listed.pop_front();
                continue;
            } else if !retried && suspects.are_struck(one.uid) {
                Next::Hole(one.uid)
            } else if let Some(announced) = suspects.oversized.get(&one.uid) {
                Next::TooLarge(one, *announced)
            } else if one.size != u32::MAX && u64::from(one.size) > self.max_bytes {
                Next::TooLarge(one, one.size.into())
            } else {
                Next::Fetch(one)
            };
            let alone = retried || one.uid <= suspects.alone_until;
            let cost = if matches!(next, Next::Fetch(_)) { u64::from(one.size) } else { 0 };
            let full = batch.len() == BATCH || bytes + cost > BATCH_BYTES as u64 || alone;
            if full && !batch.is_empty() {
                break;
            }
            bytes += cost;
            batch.push(next);
            self.listed.pop_front();
            if alone {
                break;
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn cursor(next_uid: u32) -> Cursor {
        Cursor { uidvalidity: 1, next_uid, started_at: None, dated_below: 0, holes: BTreeSet::new() }
    }

    fn message(uid: u32, size: u32) -> Listed {
        Listed { uid, size, received_at: None }
    }

    fn uids(batch: &[Next]) -> Vec<u32> {
        batch
            .iter()
            .map(|next| match next {
                Next::Fetch(one) | Next::TooLarge(one, _) => one.uid,
                Next::Hole(uid) => *uid,
            })
            .collect()
    }

    /// Walks through a mailbox of these messages; gives the UIDs taken, the listings and the largest of them.
    fn walk(mut plan: Plan, mailbox: &[u32]) -> (Vec<u32>, usize, usize) {
        let exists = mailbox.len() as u32;
        let (mut taken, mut listings, mut largest) = (Vec::new(), 0, 0);
        while let Some((set, _)) = plan.next_listing(exists) {
            let (a, b) = set.split_once(':').expect("a range");
            let from: u32 = a.parse().expect("a UID");
            let to: u32 = b.parse().unwrap_or(u32::MAX);
            let mut found: Vec<_> = mailbox.iter().filter(|uid| (from..=to).contains(uid)).collect();
            if b == "*" && found.is_empty() {
                found.extend(mailbox.last());
            }
            listings += 1;
            largest = largest.max(found.len());
            plan.listed(found.into_iter().map(|uid| message(*uid, 1000)).collect(), exists);
            loop {
                let batch = plan.take(&Suspects::default());
                if batch.is_empty() {
                    break;
                }
                taken.extend(uids(&batch));
            }
        }
        (taken, listings, largest)
    }

    #[test]
    fn a_large_mailbox_is_walked_in_windows_and_each_message_comes_once() {
        let mailbox: Vec<u32> = (1..=100_000).collect();
        let (taken, listings, largest) = walk(Plan::new(cursor(1), 100_001, false, 1 << 20), &mailbox);
        assert_eq!(taken, mailbox);
        assert!(largest <= 1024, "{largest}");
        assert!(listings < 120, "{listings}");
    }

    #[test]
    fn sparse_uids_need_few_listings() {
        let mailbox: Vec<u32> = (1..1000).map(|n| n * 4_000_000).collect();
        let (taken, listings, _) = walk(Plan::new(cursor(1), 4_000_000_000, false, 1 << 20), &mailbox);
        assert_eq!(taken, mailbox);
        assert!(listings < 50, "{listings}");
    }

    #[test]
    fn the_last_message_below_the_cursor_is_not_taken_again() {
        let (taken, listings, _) = walk(Plan::new(cursor(43), 43, false, 1 << 20), &[7, 42]);
        assert_eq!((taken, listings), (vec![], 1));
        let mut plan = Plan::new(cursor(43), 43, false, 1 << 20);
        assert_eq!(plan.next_listing(0), None, "an empty mailbox is not listed");
    }

    #[test]
    fn a_batch_is_bounded_by_bytes_and_a_large_message_goes_alone() {
        let unit = (BATCH_BYTES / 4) as u32;
        let mut plan = Plan::new(cursor(1), 9, false, 20 * u64::from(unit));
        plan.next_listing(6);
        let sizes = [3 * unit, unit, unit, 9 * unit, 22 * unit, 1000];
        plan.listed(sizes.iter().zip(1..).map(|(size, uid)| message(uid, *size)).collect(), 6);
        let suspects = Suspects::default();
        let batches: Vec<_> = std::iter::from_fn(|| Some(plan.take(&suspects)).filter(|b| !b.is_empty())).collect();
        assert_eq!(batches.iter().map(|b| uids(b)).collect::<Vec<_>>(), [vec![1, 2], vec![3], vec![4], vec![5, 6]]);
        assert!(matches!(batches[3][0], Next::TooLarge(_, bytes) if bytes == 22 * u64::from(unit)));
    }

    #[test]
    fn suspects_go_alone_until_they_are_known() {
        let listed = || {
            let mut plan = Plan::new(cursor(1), 4, false, 1 << 20);
            plan.next_listing(3);
            plan.listed((1..=3).map(|uid| message(uid, 10)).collect(), 3);
            plan
        };
        let mut suspects = Suspects::default();
        suspects.blame(&[1, 2, 3], None);
        assert_eq!(uids(&listed().take(&suspects)), [1]);
        suspects.blame(&[1], Some(900 << 20));
        assert!(matches!(listed().take(&suspects)[..], [Next::TooLarge(_, bytes)] if bytes == 900 << 20));
        let mut suspects = Suspects::default();
        for _ in 0..STRIKES {
            suspects.blame(&[1], None);
        }
        assert_eq!(listed().take(&suspects)[0], Next::Hole(1));
    }

    #[test]
    fn holes_are_tried_again_one_by_one_and_forgotten_when_gone() {
        let mut start = cursor(10);
        start.holes = [3, 5].into();
        let mut plan = Plan::new(start, 10, true, 1 << 20);
        assert_eq!(plan.next_listing(9), Some(("3,5".to_owned(), 2)));
        plan.listed(vec![message(5, 10)], 9);
        assert_eq!(plan.cursor.holes, [5].into());
        assert_eq!(uids(&plan.take(&Suspects::default())), [5]);
        assert_eq!(plan.cursor.next_uid, 10);
        assert_eq!(plan.next_listing(9), Some(("10:*".to_owned(), 9)));
    }
}
