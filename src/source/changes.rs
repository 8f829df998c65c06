//! A folder of files → batches of what is new in it: the part that `maildir` and `directory` share.
//!
//! Names and modification times say nothing about when a file came (a copied mail keeps both), so the
//! position is the *change* time of the newest file committed, which no program can set back. The first
//! listing of a run reads again what changed since a while before that mark, for which the ledger answers
//! that it is known; later listings read every name not seen before. Nothing is read twice within a run.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::sighted;
use super::{BATCH_BYTES, BATCH_ITEMS, Batch, Fault, Inlet, Place, Position, Received, Settled, Sighted, Start};
use crate::failpoint::{self, Boundary};

/// How far before the mark a new run looks again, in microseconds: longer than any listing takes, and than
/// clocks are set back in passing.
const MARGIN: i64 = 600 * 1_000_000;

const MARK: &str = "changed";
const BASELINE: &str = "baseline";

/// A file that may have to be read.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Tells it from all other files and from other states of this one.
    pub(super) key: u64,
    /// Where it is.
    pub(super) path: PathBuf,
    /// The time of its last change of any kind, in microseconds.
    pub(super) changed: i64,
    /// The file time.
    pub(super) modified: Option<Timestamp>,
}

impl Candidate {
    /// A candidate from what the file system says of it.
    pub(super) fn new(key: u64, path: PathBuf, metadata: &std::fs::Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        Self { key, path, changed: changed(metadata), modified }
    }
}

#[cfg(unix)]
fn changed(metadata: &std::fs::Metadata) -> i64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.ctime().saturating_mul(1_000_000).saturating_add(metadata.ctime_nsec() / 1_000)
}

#[cfg(not(unix))]
fn changed(metadata: &std::fs::Metadata) -> i64 {
    let time = |time: io::Result<std::time::SystemTime>| Timestamp::try_from(time.ok()?).ok();
    let latest = time(metadata.modified()).max(time(metadata.created()));
    latest.map_or(i64::MAX, Timestamp::as_microsecond)
}

/// A key from a name.
pub(super) fn key(name: &[u8]) -> u64 {
    let digest = Sha256::digest(name);
    digest.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// The items in a file: one, or many in an mbox. An error concerns the file.
pub(super) type Items = Box<dyn Iterator<Item = io::Result<Received>> + Send>;

/// A kind of folder.
pub(super) trait Folder: Send + Sync + 'static {
    /// The folder, for messages.
    fn path(&self) -> &Path;

    /// When its listing last changed, if that tells of every change that matters: the same answer at two
    /// looks after a listing saves the next ones.
    fn version(&self) -> io::Result<Option<Vec<SystemTime>>> {
        Ok(None)
    }

    /// Lists it. `is_settled` says which keys need not be looked at; all keys that exist go to `present`,
    /// what may have to be read to the candidates. Opens no file.
    fn list(&self, is_settled: &dyn Fn(u64) -> bool, present: &mut HashSet<u64>) -> io::Result<Vec<Candidate>>;

    /// The items of a candidate.
    fn open(&self, candidate: &Candidate) -> Items;

    /// What to do with a file that is safely taken. Best effort.
    fn settle(&self, candidate: &Candidate) -> io::Result<()>;
}

/// Runs a folder until `stop`.
pub(super) async fn run<F: Folder>(
    folder: F,
    start: Start,
    poll: Duration,
    inlet: Inlet,
    positions: BTreeMap<String, String>,
    stop: CancellationToken,
) -> Result<(), Fault> {
    let folder = Arc::new(folder);
    let mut memory = Memory::from_positions(&positions, Timestamp::now());
    if memory.is_new && start == Start::Now {
        let listed = folder.clone();
        let present = super::blocking(move || {
            let mut present = HashSet::new();
            listed.list(&|_| true, &mut present).map(|_| present)
        });
        let present = present.await.map_err(|error| super::file_fault("list", folder.path(), &error))?;
        inlet.commit_position(Position { key: BASELINE.to_owned(), value: keys_text(&present) }).await?;
        memory.settled = present;
    }
    while !stop.is_cancelled() {
        let listed = folder.clone();
        let listing = super::blocking(move || {
            if memory.is_unchanged(listed.version()?) {
                return Ok((memory, Vec::new()));
            }
            let found = memory.list(listed.as_ref(), start)?;
            Ok((memory, found))
        });
        let (after, found) = listing.await.map_err(|error| super::file_fault("list", folder.path(), &error))?;
        memory = after;
        let has_news = !found.is_empty();
        let mut reading = Reading::new(folder.clone(), found);
        while !stop.is_cancelled() {
            let reads = super::blocking(move || {
                let portion = reading.portion();
                Ok((reading, portion))
            });
            let portion;
            (reading, portion) = reads.await.map_err(|error| super::file_fault("read", folder.path(), &error))?;
            memory.complain(&portion.failed);
            if portion.is_end() {
                break;
            }
            let position = memory.position_after(&portion.done);
            let settled = inlet.hand_over(Batch { items: portion.items, position }).await;
            if settled.iter().any(|answer| matches!(answer, Settled::TryAgain(_))) {
                memory.version = (None, 0);
                break;
            }
            memory.settle(&portion.done);
            let (folder, done) = (folder.clone(), portion.done);
            super::blocking(move || {
                for candidate in done {
                    if let Err(error) = folder.settle(&candidate) {
                        tracing::warn!(path = %candidate.path.display(), %error, "a file could not be moved on after it was taken");
                    }
                    failpoint::cross(Boundary::Moved);
                }
                Ok(())
            })
            .await
            .map_err(|error| super::file_fault("settle", Path::new(""), &error))?;
        }
        // What is found counts once it is committed.
        if !has_news {
            inlet.looked();
        }
        super::pause(poll, &stop).await;
    }
    Ok(())
}

/// Looks into a folder without changing anything.
pub(super) fn check<F: Folder>(folder: F, what: &'static str) -> BoxFuture<'static, Result<String, Fault>> {
    Box::pin(async move {
        let path = folder.path().to_owned();
        let present = super::blocking(move || {
            let mut present = HashSet::new();
            folder.list(&|_| true, &mut present).map(|_| present.len())
        });
        let count = present.await.map_err(|error| super::file_fault("list", &path, &error))?;
        Ok(format!("`{}` can be listed, {count} {what}", path.display()))
    })
}

/// Tells of all that is in a folder.
pub(super) fn survey<F: Folder>(
    folder: F,
    start: Start,
    positions: BTreeMap<String, String>,
    to: mpsc::Sender<Sighted>,
) -> BoxFuture<'static, Result<(), Fault>> {
    Box::pin(async move {
        let path = folder.path().to_owned();
        let looking = super::blocking(move || {
            let memory = Memory::from_positions(&positions, Timestamp::now());
            let first = memory.settled.clone();
            let mut found = folder.list(&|_| false, &mut HashSet::new())?;
            if found.is_empty() {
                // Some kinds tell of a file only at a second look.
                found = folder.list(&|_| false, &mut HashSet::new())?;
            }
            found.sort_by(|a, b| (a.changed, &a.path).cmp(&(b.changed, &b.path)));
            for candidate in found {
                let is_before = first.contains(&candidate.key) || !start.admits(candidate.modified);
                let place = match memory.mark {
                    _ if is_before => Place::Before,
                    Some(mark) if candidate.changed <= mark => Place::Passed,
                    _ => Place::Ahead,
                };
                for item in folder.open(&candidate) {
                    let sighted = match item {
                        Ok(item) => Sighted {
                            digest: Some(sighted::digest_of(&item.content)),
                            input: item.input,
                            received_at: item.received_at,
                            place,
                        },
                        // Gone since the listing.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(_) => Sighted {
                            input: candidate.path.display().to_string(),
                            digest: None,
                            received_at: candidate.modified,
                            place: Place::Unreadable,
                        },
                    };
                    if to.blocking_send(sighted).is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        looking.await.map_err(|error| super::file_fault("list", &path, &error))
    })
}

/// What a run knows of the folder.
#[derive(Debug, Default)]
struct Memory {
    /// Keys that need no look.
    settled: HashSet<u64>,
    /// Whether nothing was ever committed.
    is_new: bool,
    /// The change time of the newest file committed.
    mark: Option<i64>,
    /// Before this, the first listing takes files for read.
    resume: Option<i64>,
    /// The folder's version at the last listings, and how many there were with it.
    version: (Option<Vec<SystemTime>>, u8),
    /// Files that could not be read, with their change times: the mark stays before them.
    failed: HashMap<u64, i64>,
}

impl Memory {
    fn from_positions(positions: &BTreeMap<String, String>, now: Timestamp) -> Self {
        let mark: Option<i64> = positions.get(MARK).and_then(|text| text.parse().ok());
        let baseline = positions.get(BASELINE).map(|text| keys_from(text));
        Self {
            is_new: mark.is_none() && baseline.is_none(),
            settled: baseline.unwrap_or_default(),
            // A mark in the future is from a clock that was wrong: rather all again than something never.
            resume: mark.filter(|mark| *mark <= now.as_microsecond()).map(|mark| mark - MARGIN),
            mark,
            ..Self::default()
        }
    }

    /// Whether a listing would show nothing new. Times of folders are coarse, so a version counts only when
    /// it was listed twice, a look apart.
    fn is_unchanged(&mut self, version: Option<Vec<SystemTime>>) -> bool {
        if version.is_some() && version == self.version.0 {
            self.version.1 = self.version.1.saturating_add(1);
        } else {
            self.version = (version, 0);
        }
        self.version.1 >= 2 && self.failed.is_empty()
    }

    /// The files to read, oldest change first.
    fn list(&mut self, folder: &impl Folder, start: Start) -> io::Result<Vec<Candidate>> {
        let mut present = HashSet::with_capacity(self.settled.len());
        let mut found = folder.list(&|key| self.settled.contains(&key), &mut present)?;
        // Names that are gone need no memory.
        self.settled.retain(|key| present.contains(key));
        self.failed.retain(|key, _| present.contains(key));
        let resume = self.resume.take();
        found.retain(|candidate| {
            let is_known = resume.is_some_and(|resume| candidate.changed < resume);
            let is_wanted = !is_known && start.admits(candidate.modified);
            if !is_wanted {
                self.settled.insert(candidate.key);
            }
            is_wanted
        });
        found.sort_by(|a, b| (a.changed, &a.path).cmp(&(b.changed, &b.path)));
        Ok(found)
    }

    fn position_after(&self, done: &[Candidate]) -> Option<Position> {
        let mark = done.iter().map(|candidate| candidate.changed).chain(self.mark).max()?;
        let mark = self.failed.values().copied().chain([mark]).min()?;
        Some(Position { key: MARK.to_owned(), value: mark.to_string() })
    }

    fn settle(&mut self, done: &[Candidate]) {
        for candidate in done {
            self.settled.insert(candidate.key);
            self.failed.remove(&candidate.key);
            self.mark = self.mark.max(Some(candidate.changed));
        }
    }

    fn complain(&mut self, failed: &[(Candidate, io::Error)]) {
        for (candidate, error) in failed {
            if self.failed.insert(candidate.key, candidate.changed).is_none() {
                tracing::warn!(path = %candidate.path.display(), %error, "a file could not be read: tried again at each look");
            }
        }
    }
}

/// Keys as the ledger keeps them.
pub(super) fn keys_text(keys: &HashSet<u64>) -> String {
    let mut keys: Vec<u64> = keys.iter().copied().collect();
    keys.sort_unstable();
    let bytes: Vec<u8> = keys.into_iter().flat_map(u64::to_be_bytes).collect();
    STANDARD.encode(bytes)
}

/// Keys from what the ledger kept.
pub(super) fn keys_from(text: &str) -> HashSet<u64> {
    let bytes = STANDARD.decode(text).unwrap_or_default();
    bytes.as_chunks().0.iter().map(|key| u64::from_be_bytes(*key)).collect()
}

/// Candidates while they are read, a batch at a time.
struct Reading<F> {
    folder: Arc<F>,
    waiting: VecDeque<Candidate>,
    open: Option<(Candidate, Items)>,
}

/// What one batch holds.
#[derive(Default)]
struct Portion {
    items: Vec<Received>,
    /// Files whose last item is in it.
    done: Vec<Candidate>,
    /// Files that could not be read.
    failed: Vec<(Candidate, io::Error)>,
}

impl Portion {
    fn is_end(&self) -> bool {
        self.items.is_empty() && self.done.is_empty()
    }
}

impl<F: Folder> Reading<F> {
    fn new(folder: Arc<F>, found: Vec<Candidate>) -> Self {
        Self { folder, waiting: found.into(), open: None }
    }

    fn portion(&mut self) -> Portion {
        let mut portion = Portion::default();
        let mut bytes = 0;
        while portion.items.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
            let (candidate, mut items) = match self.open.take() {
                Some(open) => open,
                None => match self.waiting.pop_front() {
                    Some(candidate) => {
                        let items = self.folder.open(&candidate);
                        (candidate, items)
                    }
                    None => break,
                },
            };
            match items.next() {
                Some(Ok(item)) => {
                    bytes += item.content.len();
                    portion.items.push(item);
                    self.open = Some((candidate, items));
                }
                None => portion.done.push(candidate),
                // Somebody moved it: if it is still in the folder, the next listing has it.
                Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Some(Err(error)) => portion.failed.push((candidate, error)),
            }
        }
        // So that a file whose last item closes the batch is done with it.
        if let Some((candidate, mut items)) = self.open.take() {
            match items.next() {
                None => portion.done.push(candidate),
                Some(next) => self.open = Some((candidate, Box::new(std::iter::once(next).chain(items)))),
            }
        }
        portion
    }
}

/// Moves a file to a folder under a name that is free there, also to another file system.
pub(super) fn move_file(from: &Path, folder: &Path, name: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut to = folder.join(name);
    let mut number = 2;
    while to.try_exists()? {
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let dot = if extension.is_empty() { "" } else { "." };
        to = folder.join(format!("{stem} ({number}){dot}{extension}"));
        number += 1;
    }
    match std::fs::rename(from, &to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let part = folder.join(format!(".{name}.part"));
            std::fs::copy(from, &part)?;
            std::fs::File::open(&part)?.sync_all()?;
            std::fs::rename(&part, &to)?;
            std::fs::remove_file(from)
        }
        result => result,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use tokio::sync::mpsc;

    use super::*;
    use crate::source::{Handover, Source};

    /// What intake would see: the inputs of each batch, and the positions as they are committed.
    #[derive(Default, Clone)]
    pub(crate) struct Ledger {
        pub(crate) inputs: Arc<Mutex<Vec<String>>>,
        pub(crate) positions: Arc<Mutex<BTreeMap<String, String>>>,
        pub(crate) largest_batch: Arc<Mutex<usize>>,
    }

    impl Ledger {
        pub(crate) fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.inputs.lock().unwrap())
        }
    }

    /// How often sources look in tests.
    pub(crate) const LOOK: Duration = Duration::from_millis(5);

    /// Runs a source until `expected` items are committed and then nothing comes for a while. `accept`
    /// answers each item; a batch with an answer to try again is not committed.
    pub(crate) async fn drive(
        source: Box<dyn Source>,
        ledger: &Ledger,
        expected: usize,
        accept: impl Fn(&Received) -> Settled,
    ) -> Result<(), Fault> {
        let (to_intake, mut from_source) = mpsc::channel::<Handover>(1);
        let stop = CancellationToken::new();
        let positions = ledger.positions.lock().unwrap().clone();
        let running = tokio::spawn(source.run(Inlet::new("test", to_intake), positions, stop.clone()));
        let mut seen = 0;
        loop {
            let patience = if seen < expected { Duration::from_secs(20) } else { LOOK * 20 };
            let Ok(Some(handover)) = tokio::time::timeout(patience, from_source.recv()).await else { break };
            let mut answers: Vec<Settled> = handover.batch.items.iter().map(&accept).collect();
            if answers.is_empty() {
                answers.push(Settled::Accepted); // the position alone
            }
            if !answers.iter().any(|answer| matches!(answer, Settled::TryAgain(_))) {
                let mut largest = ledger.largest_batch.lock().unwrap();
                *largest = handover.batch.items.len().max(*largest);
                seen += handover.batch.items.len();
                ledger.inputs.lock().unwrap().extend(handover.batch.items.iter().map(|item| item.input.clone()));
                if let Some(position) = handover.batch.position {
                    ledger.positions.lock().unwrap().insert(position.key, position.value);
                }
            }
            let _ = handover.answer.send(answers);
        }
        stop.cancel();
        // Whatever it still hands over is not answered, as when the process is killed.
        drop(from_source);
        running.await.unwrap()
    }

    #[test]
    fn a_baseline_comes_back_from_its_text() {
        let keys: HashSet<u64> = [1, u64::MAX, key(b"1708160000.M1P2.host")].into();
        assert_eq!(keys_from(&keys_text(&keys)), keys);
        assert!(keys_from("not base64!").is_empty());
    }

    #[test]
    fn a_mark_from_a_wrong_clock_skips_nothing() {
        let now: Timestamp = "2026-02-17T10:00:00Z".parse().unwrap();
        let positions = |mark: i64| BTreeMap::from([(MARK.to_owned(), mark.to_string())]);
        let memory = Memory::from_positions(&positions(now.as_microsecond() + 1), now);
        assert_eq!((memory.resume, memory.is_new), (None, false));
        let memory = Memory::from_positions(&positions(now.as_microsecond()), now);
        assert_eq!(memory.resume, Some(now.as_microsecond() - MARGIN));
    }

    #[test]
    fn the_mark_stays_before_what_could_not_be_read() {
        let candidate = |key, changed| Candidate { key, path: PathBuf::from("x"), changed, modified: None };
        let mut memory = Memory::default();
        memory.complain(&[(candidate(1, 50), io::Error::from(io::ErrorKind::PermissionDenied))]);
        let position = memory.position_after(&[candidate(2, 80)]).unwrap();
        assert_eq!(position.value, "50");
        memory.settle(&[candidate(2, 80), candidate(1, 50)]);
        assert_eq!(memory.position_after(&[]).unwrap().value, "80");
    }

    #[test]
    fn a_moved_file_takes_a_free_name() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["1", "2"] {
            let from = folder.path().join("a.json");
            std::fs::write(&from, text).unwrap();
            move_file(&from, &folder.path().join("done"), "a.json").unwrap();
        }
        assert_eq!(std::fs::read(folder.path().join("done/a.json")).unwrap(), b"1");
        assert_eq!(std::fs::read(folder.path().join("done/a (2).json")).unwrap(), b"2");
    }
}
