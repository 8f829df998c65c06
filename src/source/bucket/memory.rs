//! What was read of a bucket, so that nothing is skipped and nothing read twice, in memory that does not grow with the
//! bucket. Pure: listings and times are arguments.
//!
//! A *version* is one content under one name. A listing in the order of names can't tell what is new: `call-10` comes
//! before `call-9`, and an overwritten object stays where it is. What can is the time that the store itself gives each
//! version. So:
//!
//! - The **horizon** is a time; every version before it is done with. `recent` holds the keys of those since that are.
//! - A **sweep** lists everything, page by page. It notes the store's time at its begin, less a margin for clocks and
//!   uploads (`since`). At its end everything before `since` was seen, so the horizon moves there, and what is older in
//!   `recent` is forgotten. Versions before `since` need no memory beside how far the sweep is: only what is written
//!   while a sweep lasts does.
//! - An SFTP server lets its writers choose the times. There is no horizon then: `recent` holds all files that are
//!   there, eight bytes each, and a whole sweep tells which are gone.
//! - What was seen and can't be read yet (empty, forbidden) is **owed**, by name, whatever the horizon.
//!
//! Each commit writes one position: with recent versions the chunk that their keys are in (a chunk is used again when
//! all in it is behind the horizon), with older ones how far the sweep is and which of its page are done.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::source::changes::{key, keys_from, keys_text};
use crate::source::{Position, Start};
use crate::store::Object;

const HORIZON: &str = "horizon";
const SWEEP: &str = "sweep";
const OWED: &str = "owed";
const RECENT: &str = "recent/";

/// Keys of one chunk: its text is rewritten with each commit into it, so not too many.
const CHUNK: usize = 256;
/// How far before its begin a sweep vouches for what it saw: for clocks that differ within the store, and for uploads
/// whose time is that of their begin.
const MARGIN: SignedDuration = SignedDuration::from_mins(15);
/// An object that is owed is looked at again after so long, doubled up to the last.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(60);
const LAST_WAIT: SignedDuration = SignedDuration::from_mins(30);

/// What to do with a version that a listing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Nothing: done with, owed, or not wanted.
    Settled,
    /// Read it; its key goes into a chunk.
    Recent,
    /// Read it; the sweep's own place vouches for it.
    Old,
}

/// Keys that are committed together.
#[derive(Debug, Default)]
struct Chunk {
    keys: Vec<u64>,
    /// The time of the newest of them.
    newest: i64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Sweep {
    /// Before this, it vouches for all that it passed.
    since: i64,
    /// The page that it is at.
    cursor: Option<String>,
    /// Keys of the old versions from there on that are done with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    done: String,
    #[serde(skip)]
    settled: HashSet<u64>,
    /// Keys of that page. What was on it at an earlier try can have moved to the next since, and is remembered.
    #[serde(skip)]
    page: HashSet<u64>,
    /// Whether it began in this process, so that `seen` is complete.
    #[serde(skip)]
    is_whole: bool,
    /// Whether its place was committed: then what it passed depends on that.
    #[serde(skip)]
    has_place: bool,
    /// Pages since its place was committed.
    #[serde(skip)]
    uncommitted: u32,
}

impl Sweep {
    /// To the next page.
    fn turn(&mut self, next: &str) {
        self.cursor = Some(next.to_owned());
        for version in self.page.drain() {
            self.settled.remove(&version);
        }
    }
}

/// Something seen that could not be read yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owed {
    /// Since when, in microseconds.
    pub(super) since: i64,
    #[serde(skip)]
    looks: u32,
    #[serde(skip)]
    due: i64,
}

#[derive(Debug)]
pub(super) struct Memory {
    /// Whether the store gives the times.
    is_dated: bool,
    horizon: Option<i64>,
    recent: HashSet<u64>,
    chunks: Vec<Chunk>,
    sweep: Option<Sweep>,
    /// Keys that the sweep saw; only where the store gives no times.
    seen: HashSet<u64>,
    pub(super) owed: BTreeMap<String, Owed>,
    pub(super) is_owed_dirty: bool,
}

/// A version's own number.
pub(super) fn version(object: &Object) -> u64 {
    let time = object.modified.map(Timestamp::as_microsecond);
    key(format!("{}\0{}\0{time:?}\0{}", object.name, object.tag, object.size).as_bytes())
}

fn time(object: &Object) -> i64 {
    object.modified.map_or(i64::MAX, Timestamp::as_microsecond)
}

impl Memory {
    pub(super) fn from_positions(positions: &BTreeMap<String, String>, is_dated: bool) -> Self {
        let horizon = positions.get(HORIZON).and_then(|text| text.parse().ok());
        let mut chunks: BTreeMap<usize, Chunk> = BTreeMap::new();
        for (name, value) in positions {
            let number = name.strip_prefix(RECENT).and_then(|number| number.parse().ok());
            if let (Some(number), Some((newest, keys))) = (number, value.split_once(' ')) {
                let keys = keys_from(keys).into_iter().collect();
                chunks.insert(number, Chunk { keys, newest: newest.parse().unwrap_or(i64::MAX) });
            }
        }
        let count = chunks.last_key_value().map_or(0, |(last, _)| last + 1);
        let chunks: Vec<Chunk> = (0..count).map(|number| chunks.remove(&number).unwrap_or_default()).collect();
        let sweep: Option<Sweep> = positions.get(SWEEP).and_then(|text| serde_json::from_str(text).ok());
        // One that ended has its end in the horizon.
        let sweep = sweep.filter(|sweep| horizon.is_none_or(|horizon| horizon < sweep.since)).map(|mut sweep| {
            sweep.settled = keys_from(&std::mem::take(&mut sweep.done));
            sweep.has_place = true;
            sweep
        });
        let mut memory = Self {
            is_dated,
            horizon,
            recent: chunks.iter().flat_map(|chunk| chunk.keys.iter().copied()).collect(),
            chunks,
            sweep,
            seen: HashSet::new(),
            owed: positions.get(OWED).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            is_owed_dirty: false,
        };
        memory.forget();
        memory
    }

    /// Whether this place was never read.
    pub(super) fn is_new(&self) -> bool {
        self.horizon.is_none()
    }

    /// The position to commit before the first object is read, and before [`Memory::begin`]. `now` is the store's time.
    pub(super) fn position_begin(&self, start: Start, now: Timestamp) -> Position {
        let horizon = match start {
            Start::Now if self.is_dated => now.as_microsecond(),
            Start::Since(time) => time.as_microsecond(),
            Start::Now | Start::All => i64::MIN,
        };
        Position { key: HORIZON.to_owned(), value: horizon.to_string() }
    }

    /// The position of the beginning is committed.
    pub(super) fn begin(&mut self, position: &Position) {
        self.horizon = position.value.parse().ok();
    }

    /// What to do with a version. `is_sweep`: the sweep shows it, at its page.
    pub(super) fn sight(&mut self, object: &Object, is_sweep: bool) -> Sight {
        let (version, time) = (version(object), time(object));
        if is_sweep && !self.is_dated {
            self.seen.insert(version);
        }
        let is_done = time < self.horizon.unwrap_or(i64::MIN)
            || self.recent.contains(&version)
            || self.owed.contains_key(&object.name);
        match &self.sweep {
            _ if is_done => Sight::Settled,
            Some(sweep) if self.is_dated && time < sweep.since => {
                // Ahead of the sweep the rest is its own to find.
                if !is_sweep || sweep.settled.contains(&version) { Sight::Settled } else { Sight::Old }
            }
            _ => Sight::Recent,
        }
    }

    /// Whether the key of this version is among those that are done with.
    pub(super) fn is_recent(&self, object: &Object) -> bool {
        self.recent.contains(&version(object))
    }

    /// The position that goes with a commit of these recent versions. Changes nothing if nothing is committed: see
    /// [`Memory::settle_recent`].
    pub(super) fn position_recent(&self, objects: &[Object]) -> Position {
        let (number, chunk) = self.chunk_with(objects);
        let keys: HashSet<u64> = chunk.keys.iter().copied().collect();
        Position { key: format!("{RECENT}{number}"), value: format!("{} {}", chunk.newest, keys_text(&keys)) }
    }

    pub(super) fn settle_recent(&mut self, objects: &[Object]) {
        let (number, chunk) = self.chunk_with(objects);
        self.recent.extend(chunk.keys.iter().copied());
        if number == self.chunks.len() {
            self.chunks.push(chunk);
        } else if let Some(place) = self.chunks.get_mut(number) {
            *place = chunk;
        }
    }

    /// The first chunk with room, with these added.
    fn chunk_with(&self, objects: &[Object]) -> (usize, Chunk) {
        let has_room = |chunk: &Chunk| chunk.keys.len() + objects.len() <= CHUNK;
        let number = self.chunks.iter().position(has_room).unwrap_or(self.chunks.len());
        let before = self.chunks.get(number);
        let keys = before.into_iter().flat_map(|chunk| chunk.keys.iter().copied()).chain(objects.iter().map(version));
        let newest = objects.iter().map(time).chain(before.filter(|c| !c.keys.is_empty()).map(|c| c.newest)).max();
        (number, Chunk { keys: keys.collect(), newest: newest.unwrap_or(i64::MIN) })
    }

    /// The position that goes with a commit of these old versions of the sweep's page; `next` if they are its last.
    pub(super) fn position_old(&self, objects: &[Object], next: Option<Option<&str>>) -> Option<Position> {
        let mut sweep = self.sweep.clone()?;
        match next {
            // The end of the sweep is the horizon's to tell; until then its last page is done with.
            Some(Some(next)) => sweep.turn(next),
            _ => sweep.settled.extend(objects.iter().map(version)),
        }
        if !sweep.settled.is_empty() {
            sweep.done = keys_text(&sweep.settled);
        }
        let value = serde_json::to_string(&sweep).unwrap_or_default();
        Some(Position { key: SWEEP.to_owned(), value })
    }

    pub(super) fn settle_old(&mut self, objects: &[Object]) {
        if let Some(sweep) = &mut self.sweep {
            sweep.settled.extend(objects.iter().map(version));
            sweep.has_place = true;
            sweep.uncommitted = 0;
        }
    }

    /// The place of the sweep; nothing if none is under way.
    pub(super) fn cursor(&self) -> Option<Option<&str>> {
        self.sweep.as_ref().map(|sweep| sweep.cursor.as_deref())
    }

    /// A sweep begins; `now` is the store's time.
    pub(super) fn begin_sweep(&mut self, now: Timestamp) {
        let since = if self.is_dated { (now - MARGIN).as_microsecond() } else { i64::MIN };
        self.seen.clear();
        let since = since.max(self.horizon.unwrap_or(i64::MIN));
        self.sweep = Some(Sweep { since, is_whole: true, ..Sweep::default() });
    }

    /// The sweep is at a page with these objects.
    pub(super) fn page(&mut self, objects: &[Object]) {
        if let Some(sweep) = self.sweep.as_mut().filter(|_| self.is_dated) {
            sweep.page = objects.iter().map(version).collect();
        }
    }

    /// Its place is no longer good at the store: it begins anew.
    pub(super) fn drop_sweep(&mut self) {
        self.sweep = None;
    }

    /// The sweep is through with its page. The position, if it should be committed for its own sake.
    pub(super) fn page_done(&mut self, next: Option<&str>) -> Option<Position> {
        const PAGES: u32 = 50;
        let sweep = self.sweep.as_mut()?;
        if let Some(next) = next {
            sweep.turn(next);
            sweep.uncommitted += 1;
            if sweep.uncommitted < PAGES || !self.is_dated {
                return None;
            }
            sweep.uncommitted = 0;
            sweep.has_place = true;
            return self.position_old(&[], Some(next.into()));
        }
        None
    }

    /// The sweep has seen everything. The position is to be committed before [`Memory::end_sweep`], and after what is
    /// owed; nothing if nothing depends on it.
    pub(super) fn position_end(&self) -> Option<Position> {
        let since = self.sweep.as_ref().filter(|_| self.moves())?.since;
        Some(Position { key: HORIZON.to_owned(), value: since.to_string() })
    }

    /// Whether the sweep's end moves the horizon: if it read something, or chunks get free.
    fn moves(&self) -> bool {
        self.sweep.as_ref().filter(|_| self.is_dated).is_some_and(|sweep| {
            let frees = self.chunks.iter().any(|chunk| !chunk.keys.is_empty() && chunk.newest < sweep.since);
            self.horizon.is_none_or(|horizon| horizon < sweep.since) && (sweep.has_place || frees)
        })
    }

    /// The horizon moves to where the sweep began, and what is behind it is forgotten.
    pub(super) fn end_sweep(&mut self) {
        let moves = self.moves();
        let Some(sweep) = self.sweep.take() else { return };
        if moves {
            self.horizon = Some(sweep.since);
            self.forget();
        } else if !self.is_dated && sweep.is_whole {
            let seen = std::mem::take(&mut self.seen);
            self.free(|chunk| chunk.keys.iter().any(|key| seen.contains(key)));
        }
    }

    /// Frees what is behind the horizon.
    fn forget(&mut self) {
        if let Some(horizon) = self.horizon.filter(|_| self.is_dated) {
            self.free(|chunk| chunk.newest >= horizon);
        }
    }

    fn free(&mut self, is_kept: impl Fn(&Chunk) -> bool) {
        for chunk in &mut self.chunks {
            if !chunk.keys.is_empty() && !is_kept(chunk) {
                for key in std::mem::take(&mut chunk.keys) {
                    self.recent.remove(&key);
                }
            }
        }
    }

    /// An object that could not be read is owed from now on, or still.
    pub(super) fn owe(&mut self, name: &str, now: Timestamp) {
        let now = now.as_microsecond();
        if !self.owed.contains_key(name) {
            self.is_owed_dirty = true;
        }
        let owed = self.owed.entry(name.to_owned()).or_insert(Owed { since: now, looks: 0, due: now });
        let wait = (FIRST_WAIT * (1 << owed.looks.min(5))).min(LAST_WAIT);
        owed.looks += 1;
        owed.due = now.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX));
    }

    /// It is owed no more.
    pub(super) fn paid(&mut self, name: &str) {
        self.is_owed_dirty |= self.owed.remove(name).is_some();
    }

    /// What is to be looked at again, with since when it is owed.
    pub(super) fn due(&self, now: Timestamp) -> Vec<(String, i64)> {
        let due = self.owed.iter().filter(|(_, owed)| owed.due <= now.as_microsecond());
        due.map(|(name, owed)| (name.clone(), owed.since)).collect()
    }

    pub(super) fn position_owed(&self) -> Position {
        Position { key: OWED.to_owned(), value: serde_json::to_string(&self.owed).unwrap_or_default() }
    }

    /// How much is remembered, for tests of its bounds.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.recent.len() + self.sweep.as_ref().map_or(0, |sweep| sweep.settled.len())
    }
}

/// Files whose writer may not be done yet: one is read when it is seen again as it was, a while later.
#[derive(Debug, Default)]
pub(super) struct Resting {
    since: HashMap<u64, Timestamp>,
}

impl Resting {
    const MOST: usize = 100_000;

    /// Whether a version was there as it is for so long.
    pub(super) fn rests(&mut self, object: &Object, now: Timestamp, long_enough: SignedDuration) -> bool {
        let version = version(object);
        if self.since.len() >= Self::MOST {
            self.since.clear();
        }
        let since = *self.since.entry(version).or_insert(now);
        let rests = now.duration_since(since) >= long_enough;
        if rests {
            self.since.remove(&version);
        }
        rests
    }
}
