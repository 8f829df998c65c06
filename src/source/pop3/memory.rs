//! Which mails of the mailbox were read: the UIDs (RFC 1939 section 7, UIDL) of what is still in it, as hashes.
//!
//! They are kept in the ledger in portions, of which a batch writes one, so that a commit costs the same however
//! many mails stay in the mailbox. A UID that is gone makes room after some listings without it: a server that
//! shows an empty mailbox once does not make us read all of it again.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::source::Position;
use crate::source::changes::{keys_from, keys_text};

/// UIDs in a portion.
const PORTION: usize = 512;
/// Listings in a row without a UID before it is forgotten.
const ABSENCES: u8 = 10;
/// The position that says that there was a first contact.
const FIRST: &str = "first";

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Memory {
    portions: Vec<HashSet<u64>>,
    all: HashSet<u64>,
    absent: HashMap<u64, u8>,
    is_new: bool,
}

impl Memory {
    /// From what the commits of this source left.
    pub(super) fn from_positions(positions: &BTreeMap<String, String>) -> Self {
        let mut memory = Self { is_new: positions.is_empty(), ..Self::default() };
        for (key, value) in positions {
            let Some(number) = key.strip_prefix("read/").and_then(|number| number.parse::<usize>().ok()) else {
                continue;
            };
            // A number from elsewhere must not make us reserve memory.
            if number < 1 << 16 {
                memory.portions.resize_with(memory.portions.len().max(number + 1), HashSet::new);
                if let Some(portion) = memory.portions.get_mut(number) {
                    *portion = keys_from(value);
                    memory.all.extend(portion.iter());
                }
            }
        }
        memory
    }

    /// Whether this mailbox was never looked at.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether a mail was read.
    pub(super) fn knows(&self, key: u64) -> bool {
        self.all.contains(&key)
    }

    /// The position once a batch of these is committed.
    pub(super) fn position_with(&self, keys: &[u64]) -> Position {
        let (number, portion) = self.roomy(keys.len());
        let portion = portion.iter().copied().chain(keys.iter().copied()).collect();
        Position { key: format!("read/{number:04}"), value: keys_text(&portion) }
    }

    /// The position that says that there was a first contact.
    pub(super) fn first(now: jiff::Timestamp) -> Position {
        Position { key: FIRST.to_owned(), value: now.to_string() }
    }

    /// The batch with the last `position_with` is committed.
    pub(super) fn committed(&mut self, keys: &[u64]) {
        let (number, _) = self.roomy(keys.len());
        self.portions.resize_with(self.portions.len().max(number + 1), HashSet::new);
        if let Some(portion) = self.portions.get_mut(number) {
            portion.extend(keys);
        }
        self.all.extend(keys);
        self.is_new = false;
    }

    /// The mailbox was listed: what is gone for good makes room.
    pub(super) fn listed(&mut self, present: &HashSet<u64>) {
        self.absent.retain(|key, _| !present.contains(key));
        let mut gone = HashSet::new();
        for key in self.all.difference(present) {
            let absences = self.absent.entry(*key).or_insert(0);
            *absences += 1;
            if *absences >= ABSENCES {
                gone.insert(*key);
            }
        }
        if !gone.is_empty() {
            self.absent.retain(|key, _| !gone.contains(key));
            self.all.retain(|key| !gone.contains(key));
            for portion in &mut self.portions {
                portion.retain(|key| !gone.contains(key));
            }
        }
    }

    /// The first portion with room for so many, or the number of a new one.
    fn roomy(&self, count: usize) -> (usize, HashSet<u64>) {
        let found = self.portions.iter().enumerate().find(|(_, portion)| portion.len() + count <= PORTION);
        found.map_or((self.portions.len(), HashSet::new()), |(number, portion)| (number, portion.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_follows_the_mailbox_and_a_commit_costs_one_portion() {
        let mut memory = Memory::from_positions(&BTreeMap::new());
        assert!(memory.is_new());
        let mut positions = BTreeMap::new();
        for batch in 0..100u64 {
            let keys: Vec<u64> = (batch * 64..batch * 64 + 64).collect();
            let position = memory.position_with(&keys);
            assert!(position.value.len() < PORTION * 11);
            positions.insert(position.key, position.value);
            memory.committed(&keys);
        }
        let again = Memory::from_positions(&positions);
        assert!(!again.is_new() && (0..6400).all(|key| again.knows(key)) && !again.knows(6400));
        assert_eq!(positions.len(), 13);

        // A mailbox that is empty once is not believed; one that stays so is.
        memory.listed(&HashSet::new());
        assert!(memory.knows(5));
        let kept: HashSet<u64> = (0..10).collect();
        for _ in 0..ABSENCES {
            memory.listed(&kept);
        }
        assert!(memory.knows(5) && !memory.knows(10));
        assert_eq!(memory.position_with(&[1_000_000]).key, "read/0000");
    }
}
