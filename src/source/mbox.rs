//! A spool file that a mail server appends to → mails: the source kind `mbox`; `reader` reads the format.
//!
//! The file is only read, never changed. A position never names bytes that may still change: the last
//! message counts when the file rests.

pub(super) mod reader;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::reader::Reader;
use super::sighted;
use super::{
    BATCH_BYTES, BATCH_ITEMS, Batch, Envelope, Fault, Inlet, Place, Position, Received, Recipe, Settled, Sighted,
    Source, Start,
};
use crate::digest::hex;

/// A source of kind `mbox`: a spool file that a mail server appends to. It is only read, never changed;
/// if it is emptied or written anew, it is read from the start again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The file, such as `/var/mail/sessions`. It may come into being later.
    pub path: PathBuf,
    /// Where to start when this source has never read the file: `"now"` (what is in it is passed over),
    /// `"all"`, or a date such as `"2026-02-01"` (mails that arrived before are passed over).
    #[serde(default)]
    pub start: Start,
    /// How often to look, in seconds.
    #[serde(default = "super::poll_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub poll_seconds: u64,
    /// Larger messages are not read; from `[limits]`.
    #[serde(skip, default = "super::message_bytes")]
    pub max_bytes: usize,
}

/// The source that reads one spool file.
#[derive(Debug)]
pub struct Mbox {
    settings: Settings,
    poll: Duration,
}

impl Mbox {
    /// A source with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { poll: super::poll(settings.poll_seconds), settings }
    }
}

/// How far a file is read: the offset, the number of messages before it, and a digest of the bytes just
/// before it, by which a file written anew is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Mark {
    offset: u64,
    count: u64,
    digest: String,
}

impl Mark {
    const KEY: &'static str = "mbox";

    fn from_text(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (offset, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { offset, count, digest: words.next()?.to_owned() })
    }

    fn position(&self) -> Position {
        let Self { offset, count, digest } = self;
        Position { key: Self::KEY.to_owned(), value: format!("{offset} {count} {digest}") }
    }

    /// The mark at an offset of this file.
    fn at(file: &mut File, offset: u64, count: u64) -> io::Result<Self> {
        Ok(Self { offset, count, digest: digest_before(file, offset)? })
    }

    /// Whether the file still has what was read of it.
    fn fits(&self, file: &mut File) -> io::Result<bool> {
        Ok(self.offset == 0
            || file.metadata()?.len() >= self.offset && digest_before(file, self.offset)? == self.digest)
    }
}

fn digest_before(file: &mut File, offset: u64) -> io::Result<String> {
    let start = offset.saturating_sub(1024);
    let mut bytes = Vec::with_capacity(1024);
    file.seek(SeekFrom::Start(start))?;
    file.take(offset - start).read_to_end(&mut bytes)?;
    Ok(hex(Sha256::digest(&bytes).get(..16).unwrap_or_default()))
}

/// A batch from the file, with the mark after it.
struct Portion {
    items: Vec<Received>,
    mark: Mark,
}

/// Reads on from a mark. The last message is only taken if the file is as long as it was at the last look,
/// so that it is whole.
fn portion(settings: &Settings, mark: &Mark, stable_length: u64) -> io::Result<Option<Portion>> {
    let mut file = match File::open(&settings.path) {
        // Some programs remove an emptied spool.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(Portion { items: Vec::new(), mark: Mark::default() }));
        }
        file => file?,
    };
    let is_same = mark.fits(&mut file)?;
    let length = file.metadata()?.len();
    let start = if is_same { mark.clone() } else { Mark::default() };
    if start.offset == length && is_same {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(start.offset))?;
    let mut reader = Reader::new(BufReader::with_capacity(64 << 10, file), start.offset, settings.max_bytes);
    let (mut items, mut bytes) = (Vec::new(), 0);
    let (mut offset, mut count) = (start.offset, start.count);
    while items.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
        let Some(entry) = reader.next_entry()? else { break };
        if !entry.is_followed && entry.end != stable_length {
            break;
        }
        (offset, count) = (entry.end, count + 1);
        bytes += entry.content.len();
        if settings.start.admits(entry.received_at) {
            let input = format!("{}#{count}", settings.path.display());
            let envelope = Envelope { sender: entry.sender, ..Envelope::default() };
            items.push(Received { input, content: entry.content, envelope, received_at: entry.received_at });
        }
    }
    if offset == start.offset && is_same {
        return Ok(None);
    }
    let mark = Mark::at(&mut File::open(&settings.path)?, offset, count)?;
    Ok(Some(Portion { items, mark }))
}

/// The mark at the end of the messages that are there now.
fn end_of(settings: &Settings) -> io::Result<Mark> {
    let mut file = match File::open(&settings.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Mark::default()),
        file => file?,
    };
    let mut reader = Reader::new(BufReader::with_capacity(64 << 10, &mut file), 0, 0);
    let (mut offset, mut count) = (0, 0);
    while let Some(entry) = reader.next_entry()? {
        (offset, count) = (entry.end, count + 1);
    }
    Mark::at(&mut file, offset, count)
}

impl Recipe for Settings {
    fn build(self, _now: Timestamp) -> Box<dyn Source> {
        Box::new(Mbox::new(self))
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        vec![&mut self.path]
    }

    fn period(&self) -> Option<Duration> {
        Some(super::poll(self.poll_seconds))
    }

    fn limit_to(&mut self, message_bytes: usize) {
        self.max_bytes = message_bytes;
    }
}

impl Source for Mbox {
    fn run(
        self: Box<Self>,
        inlet: Inlet,
        positions: BTreeMap<String, String>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            let (settings, poll) = (self.settings, self.poll);
            let fault = |error| super::file_fault("read", &settings.path, &error);
            let mut mark = match positions.get(Mark::KEY).and_then(|text| Mark::from_text(text)) {
                Some(mark) => mark,
                None if settings.start == Start::Now => {
                    let settings = settings.clone();
                    let mark = super::blocking(move || end_of(&settings)).await.map_err(fault)?;
                    inlet.commit_position(mark.position()).await?;
                    mark
                }
                None => Mark::default(),
            };
            // The length at the look before the last wait: a file that still has it rests.
            let mut rested = 0;
            while !stop.is_cancelled() {
                let (look, from) = (settings.clone(), mark.clone());
                let read = super::blocking(move || {
                    let now = length_of(&look.path)?;
                    Ok((if now == 0 && from.offset == 0 { None } else { portion(&look, &from, rested)? }, now))
                });
                let (portion, now) = read.await.map_err(fault)?;
                let Some(Portion { items, mark: after }) = portion else {
                    rested = now;
                    inlet.looked();
                    super::pause(poll, &stop).await;
                    continue;
                };
                let settled = inlet.hand_over(Batch { items, position: Some(after.position()) }).await;
                if settled.iter().any(|answer| matches!(answer, Settled::TryAgain(_))) {
                    super::pause(poll, &stop).await;
                } else {
                    mark = after;
                }
            }
            Ok(())
        })
    }

    fn check(self: Box<Self>) -> BoxFuture<'static, Result<String, Fault>> {
        Box::pin(async move {
            let path = self.settings.path;
            let name = path.clone();
            let length = super::blocking(move || Ok(File::open(&path)?.metadata()?.len())).await;
            let length = length.map_err(|error| super::file_fault("open", &name, &error))?;
            Ok(format!("`{}` can be read, {length} bytes", name.display()))
        })
    }

    fn survey(
        self: Box<Self>,
        positions: BTreeMap<String, String>,
        to: mpsc::Sender<Sighted>,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            let settings = self.settings;
            let path = settings.path.clone();
            let mark = positions.get(Mark::KEY).and_then(|text| Mark::from_text(text));
            let looking = super::blocking(move || tell(&settings, mark.as_ref(), &to));
            looking.await.map_err(|error| super::file_fault("read", &path, &error))
        })
    }
}

/// Tells of every message of the file.
fn tell(settings: &Settings, mark: Option<&Mark>, to: &mpsc::Sender<Sighted>) -> io::Result<()> {
    let mut file = match File::open(&settings.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let passed = match mark {
        Some(mark) if mark.fits(&mut file)? => mark.offset,
        _ => 0,
    };
    file.seek(SeekFrom::Start(0))?;
    let mut reader = Reader::new(BufReader::with_capacity(64 << 10, file), 0, settings.max_bytes);
    let mut count = 0;
    while let Some(entry) = reader.next_entry()? {
        count += 1;
        let place = match entry.end <= passed {
            _ if !settings.start.admits(entry.received_at) => Place::Before,
            true => Place::passed(settings.start),
            false => Place::Ahead,
        };
        let sighted = Sighted {
            input: format!("{}#{count}", settings.path.display()),
            digest: Some(sighted::digest_of(&entry.content)),
            received_at: entry.received_at,
            place,
        };
        if to.blocking_send(sighted).is_err() {
            break;
        }
    }
    Ok(())
}

/// The length of a file; a spool that is not there yet, or was removed when emptied, has none.
fn length_of(path: &Path) -> io::Result<u64> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::Content;
    use super::super::changes::tests::{LOOK, Ledger, drive};
    use super::*;

    const FROM: &str = "From a@x Tue Feb 17 10:11:31 2026\n";

    fn source(path: &Path, start: Start) -> Box<Mbox> {
        let settings = Settings { path: path.to_owned(), start, poll_seconds: 1, max_bytes: 1 << 20 };
        Box::new(Mbox { settings, poll: LOOK })
    }

    fn mail(number: u32) -> String {
        format!("{FROM}Subject: {number}\n\n{number}\n\n")
    }

    fn names(ledger: &Ledger) -> Vec<String> {
        ledger.take().into_iter().map(|input| input.rsplit('#').next().unwrap_or_default().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_spool_is_read_on_from_where_it_was_left() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let append = |text: &str| file.as_file().write_all(text.as_bytes()).unwrap();
        append(&(mail(1) + &mail(2)));
        let ledger = Ledger::default();
        drive(source(file.path(), Start::All), &ledger, 2, |_| Settled::Accepted).await.unwrap();
        assert_eq!(names(&ledger), ["1", "2"]);
        append(&mail(3));
        drive(source(file.path(), Start::All), &ledger, 1, |_| Settled::Accepted).await.unwrap();
        assert_eq!(names(&ledger), ["3"]);
        drive(source(file.path(), Start::All), &ledger, 0, |_| Settled::Accepted).await.unwrap();
        assert_eq!(names(&ledger), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_spool_written_anew_is_read_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        std::fs::write(&path, mail(1) + &mail(2)).unwrap();
        let ledger = Ledger::default();
        let run = async |text: Option<String>, expected: usize| {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            drive(source(&path, Start::Now), &ledger, expected, |_| Settled::Accepted).await.unwrap();
            names(&ledger)
        };
        assert_eq!(run(Some(mail(1) + &mail(2)), 0).await, Vec::<String>::new(), "there at the start");
        assert_eq!(run(Some(mail(1) + &mail(2) + &mail(3)), 1).await, ["3"]);
        assert_eq!(run(Some(mail(4)), 1).await, ["1"], "shorter");
        assert_eq!(run(Some(mail(5) + &mail(6)), 2).await, ["1", "2"], "longer, but another");
        assert_eq!(run(None, 0).await, Vec::<String>::new());
        assert_eq!(run(Some(mail(7)), 1).await, ["1"], "came again");
    }

    #[tokio::test]
    async fn a_message_that_is_still_written_is_waited_for() {
        let settings = Settings { path: PathBuf::new(), start: Start::All, poll_seconds: 1, max_bytes: 1 << 20 };
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all((mail(1) + "From b@x Tue Feb 17 10:11:31 2026\nSubj").as_bytes()).unwrap();
        let settings = Settings { path: file.path().to_owned(), ..settings };
        let first = portion(&settings, &Mark::default(), 0).unwrap().unwrap();
        assert_eq!(first.items.len(), 1);
        assert!(portion(&settings, &first.mark, 10).unwrap().is_none());
        file.as_file().write_all(b"ect: 2\n\n2\n").unwrap();
        let length = file.as_file().metadata().unwrap().len();
        let second = portion(&settings, &first.mark, length).unwrap().unwrap();
        assert_eq!(second.items[0].content, Content::Mail("Subject: 2\n\n2\n".into()));
    }

    #[tokio::test]
    async fn what_is_to_be_tried_again_comes_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all(mail(1).as_bytes()).unwrap();
        let ledger = Ledger::default();
        let count = std::sync::atomic::AtomicUsize::new(0);
        let answer = |_: &Received| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Settled::TryAgain("busy".to_owned()),
            _ => Settled::Accepted,
        };
        drive(source(file.path(), Start::All), &ledger, 1, answer).await.unwrap();
        assert_eq!(names(&ledger), ["1"]);
    }
}
