//! Where reading stands in a mailbox: UIDVALIDITY, the next UID, and the UIDs behind it that could not be
//! fetched (RFC 3501 section 2.3.1). Kept in the ledger as JSON, moved only with the batch that it belongs to.
//! No flag and no span of time takes part in it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::connection::Selected;
use crate::source::Start;

/// A place in a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// The mailbox's incarnation: UIDs mean something within it only.
    pub(super) uidvalidity: u32,
    /// The lowest UID that was not read yet.
    pub(super) next_uid: u32,
    /// Nothing received before it is read, among the messages below `dated_below`. `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) started_at: Option<Timestamp>,
    /// What arrives later is read whatever its date: somebody may put an old mail into the mailbox.
    #[serde(default)]
    pub(super) dated_below: u32,
    /// Listed, but not to be had; tried again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) holes: BTreeSet<u32>,
}

/// How a cursor came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It goes on where it was.
    Kept,
    /// The mailbox is new to us.
    First,
    /// The mailbox numbers its messages anew: all of it is looked at again.
    Renumbered,
    /// The next UID is lower than it was, as after a restored backup: likewise.
    WentBack,
}

impl Cursor {
    /// The place to go on from in the mailbox as it is now.
    pub(super) fn place(stored: Option<&Self>, now: &Selected, start: &Start, at: Timestamp) -> (Self, Origin) {
        let fresh = |next_uid, started_at, origin| {
            let dated_below = if next_uid < now.uid_next { now.uid_next } else { 0 };
            let uidvalidity = now.uidvalidity;
            (Self { uidvalidity, next_uid, started_at, dated_below, holes: BTreeSet::new() }, origin)
        };
        match (stored, start) {
            (Some(kept), _) if kept.uidvalidity != now.uidvalidity => fresh(1, kept.started_at, Origin::Renumbered),
            (Some(kept), _) if now.uid_next < kept.next_uid => fresh(1, kept.started_at, Origin::WentBack),
            (Some(kept), _) => (kept.clone(), Origin::Kept),
            (None, Start::Now) => fresh(now.uid_next, Some(at), Origin::First),
            (None, Start::All) => fresh(1, None, Origin::First),
            (None, Start::Since(time)) => fresh(1, Some(*time), Origin::First),
        }
    }

    /// Whether a message is to be read. One without a date is.
    pub(super) fn wants(&self, uid: u32, received_at: Option<Timestamp>) -> bool {
        match (self.started_at, received_at) {
            (Some(start), Some(received)) if uid < self.dated_below => received >= start,
            _ => true,
        }
    }

    /// Moves past a message, which is in the batch, gone or not wanted.
    pub(super) fn pass(&mut self, uid: u32) {
        self.holes.remove(&uid);
        self.next_uid = self.next_uid.max(uid.saturating_add(1));
    }

    /// Moves past a message that could not be fetched, and remembers it.
    pub(super) fn pass_with_hole(&mut self, uid: u32) {
        self.pass(uid);
        self.holes.insert(uid);
    }

    /// As the ledger keeps it.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From what the ledger kept.
    pub(super) fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// UIDs as a sequence set, runs drawn together: `3:5,9`. They must be in order.
pub(super) fn uid_set(uids: impl IntoIterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for uid in uids {
        match runs.last_mut() {
            Some((_, last)) if uid == *last || Some(uid) == last.checked_add(1) => *last = uid,
            _ => runs.push((uid, uid)),
        }
    }
    let texts: Vec<String> =
        runs.into_iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}:{b}") }).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn mailbox(uidvalidity: u32, uid_next: u32) -> Selected {
        Selected { uidvalidity, uid_next, exists: 3, read_only: false, permanent_flags: None, modseq: None }
    }

    fn first(start: Start, uid_next: u32) -> Cursor {
        let (cursor, origin) = Cursor::place(None, &mailbox(7, uid_next), &start, at("2026-03-01T00:00:00Z"));
        assert_eq!(origin, Origin::First);
        cursor
    }

    #[test]
    fn the_first_place_is_as_the_start_says() {
        let old = Some(at("2026-01-01T00:00:00Z"));
        let now = first(Start::Now, 42);
        assert_eq!(now.next_uid, 42);
        assert!(now.wants(42, old), "an old mail that is put there later is read");
        let all = first(Start::All, 42);
        assert!(all.next_uid == 1 && all.wants(1, old));
        let since = first(Start::Since(at("2026-02-01T00:00:00Z")), 42);
        assert!(since.next_uid == 1 && !since.wants(1, old) && since.wants(1, None) && since.wants(42, old));
    }

    #[test]
    fn a_new_uidvalidity_starts_over_from_the_day_of_the_first_contact() {
        let kept = Cursor { next_uid: 50, holes: [3].into(), ..first(Start::Now, 42) };
        let (cursor, origin) = Cursor::place(Some(&kept), &mailbox(8, 20), &Start::Now, at("2026-06-01T00:00:00Z"));
        assert_eq!((cursor.uidvalidity, cursor.next_uid, origin), (8, 1, Origin::Renumbered));
        assert!(cursor.holes.is_empty());
        assert!(!cursor.wants(5, Some(at("2026-02-28T23:59:59Z"))));
        assert!(cursor.wants(5, Some(at("2026-03-01T00:00:00Z"))));
    }

    #[test]
    fn a_next_uid_that_went_back_starts_over_too() {
        let kept = first(Start::Now, 42);
        let place =
            |uid_next| Cursor::place(Some(&kept), &mailbox(7, uid_next), &Start::All, at("2026-06-01T00:00:00Z")).1;
        assert_eq!((place(42), place(60), place(41)), (Origin::Kept, Origin::Kept, Origin::WentBack));
    }

    #[test]
    fn a_cursor_survives_its_json_and_holes_stay_until_passed() {
        let mut cursor = first(Start::Now, 42);
        cursor.pass_with_hole(42);
        cursor.pass(43);
        assert_eq!(Cursor::from_json(&cursor.to_json()), Some(cursor.clone()));
        assert_eq!((cursor.next_uid, cursor.holes.len()), (44, 1));
        cursor.pass(42);
        assert_eq!((cursor.next_uid, cursor.holes.len()), (44, 0));
        assert_eq!(Cursor::from_json("{\"uidvalidity\":1}"), None);
    }

    #[test]
    fn sets_draw_runs_together() {
        assert_eq!(uid_set([1, 2, 3, 5, 7, 8]), "1:3,5,7:8");
        assert_eq!(uid_set([u32::MAX]), "4294967295");
        assert_eq!(uid_set([]), "");
    }
}
