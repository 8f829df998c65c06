//! A folder into which programs drop mails and documents → received items: the source kind `directory`.
//!
//! A file is read when its size and times were the same at two looks, so that what is still written is
//! left alone, and again when it is written anew. Folders below and names that mean "not yet" (hidden,
//! `.tmp`, `.part`, `~`) are not looked at.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::changes::{self, Candidate, Folder, Items};
use super::{Fault, Inlet, Recipe, Sighted, Source, Start, files};

/// A source of kind `directory`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The folder. All files in it are read, also those that are there at the first start.
    pub path: PathBuf,
    /// What to do with a file after it is safely taken. Default: `"nothing"`.
    #[serde(default)]
    pub after: After,
    /// How often to look, in seconds; a file is read at the second look. Default: 2.
    #[serde(default = "super::poll_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub poll_seconds: u64,
    /// Larger messages are not read; from `[limits]`.
    #[serde(skip, default = "super::message_bytes")]
    pub max_bytes: usize,
}

/// What to do with a file after it is safely taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// Leave it where it is.
    #[default]
    Nothing,
    /// Delete it.
    Delete,
    /// Move it to another folder: a path, or a name below this one such as `done`.
    MoveTo(PathBuf),
}

/// The source that reads one folder.
#[derive(Debug)]
pub struct Directory {
    settings: Settings,
    poll: Duration,
    /// Keys of the last look: one that comes again stands for a file that rests.
    last: Mutex<HashSet<u64>>,
}

impl Directory {
    /// A source with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { poll: super::poll(settings.poll_seconds), settings, last: Mutex::default() }
    }
}

fn is_ready_name(name: &str) -> bool {
    let unready = [".tmp", ".part", ".filepart", ".crdownload", "~"];
    !name.starts_with('.') && !unready.iter().any(|end| name.to_ascii_lowercase().ends_with(end))
}

impl Folder for Directory {
    fn path(&self) -> &Path {
        &self.settings.path
    }

    fn list(&self, is_settled: &dyn Fn(u64) -> bool, present: &mut HashSet<u64>) -> io::Result<Vec<Candidate>> {
        let mut found = Vec::new();
        for entry in self.settings.path.read_dir()? {
            let entry = entry?;
            let name = entry.file_name();
            if !name.to_str().is_none_or(is_ready_name) {
                continue;
            }
            let metadata = match std::fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_file() => metadata,
                // No file, gone, or a link that leads nowhere.
                _ => continue,
            };
            let mut candidate = Candidate::new(0, entry.path(), &metadata);
            let written = candidate.modified.map_or(0, |time| time.as_nanosecond());
            let state = format!("/{written}/{}", metadata.len());
            candidate.key = changes::key(&[name.as_encoded_bytes(), state.as_bytes()].concat());
            if present.insert(candidate.key) && !is_settled(candidate.key) {
                found.push(candidate);
            }
        }
        let mut last = self.last.lock().map_err(|_| io::Error::other("a look was cut short"))?;
        found.retain(|candidate| last.contains(&candidate.key));
        last.clone_from(present);
        Ok(found)
    }

    fn open(&self, candidate: &Candidate) -> Items {
        let items = files::walk(std::slice::from_ref(&candidate.path)).max_bytes(self.settings.max_bytes);
        let folder = self.settings.path.clone();
        Box::new(items.map(move |item| {
            let mut item = item.map_err(|(_, error)| error)?;
            let below = Path::new(&item.input).strip_prefix(&folder).ok().map(|name| name.display().to_string());
            item.input = below.unwrap_or(item.input);
            Ok(item)
        }))
    }

    fn settle(&self, candidate: &Candidate) -> io::Result<()> {
        match &self.settings.after {
            After::Nothing => Ok(()),
            _ if is_written_since(candidate) => Ok(()),
            After::Delete => std::fs::remove_file(&candidate.path),
            After::MoveTo(target) => {
                let name = candidate.path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
                changes::move_file(&candidate.path, &self.settings.path.join(target), name)
            }
        }
    }
}

/// Whether the file is another one by now than the one that was taken.
fn is_written_since(candidate: &Candidate) -> bool {
    let metadata = std::fs::metadata(&candidate.path);
    metadata.is_ok_and(|metadata| Candidate::new(0, PathBuf::new(), &metadata).modified != candidate.modified)
}

impl Recipe for Settings {
    fn build(self, _now: Timestamp) -> Box<dyn Source> {
        Box::new(Directory::new(self))
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

impl Source for Directory {
    fn run(
        self: Box<Self>,
        inlet: Inlet,
        positions: BTreeMap<String, String>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        let poll = self.poll;
        Box::pin(changes::run(*self, Start::All, poll, inlet, positions, stop))
    }

    fn check(self: Box<Self>) -> BoxFuture<'static, Result<String, Fault>> {
        changes::check(*self, "files")
    }

    fn survey(
        self: Box<Self>,
        positions: BTreeMap<String, String>,
        to: mpsc::Sender<Sighted>,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        let start = Start::All;
        changes::survey(*self, start, positions, to)
    }
}

#[cfg(test)]
mod tests {
    use super::super::changes::tests::{LOOK, Ledger, drive};
    use super::super::{Content, Received, Settled};
    use super::*;

    fn source(folder: &tempfile::TempDir, after: After) -> Box<Directory> {
        let settings = Settings { path: folder.path().to_owned(), after, poll_seconds: 1, max_bytes: 1 << 20 };
        Box::new(Directory { poll: LOOK, ..Directory::new(settings) })
    }

    fn accept(_: &Received) -> Settled {
        Settled::Accepted
    }

    fn write(folder: &tempfile::TempDir, name: &str, text: &str) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }

    #[tokio::test]
    async fn files_are_read_for_what_they_are_and_unready_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        for name in ["a.json", ".b.json", "c.json.tmp", "d.part", "e.json~", "sub/f.json"] {
            write(&folder, name, "{}");
        }
        write(&folder, "g.eml", "Subject: g\n\ng");
        write(&folder, "h.mbox", "From a@x Tue Feb 17 10:11:31 2026\n\n1\n\nFrom a@x Tue Feb 17 10:11:31 2026\n\n2\n");
        let ledger = Ledger::default();
        let answer = |item: &Received| {
            assert_eq!(matches!(item.content, Content::Document(_)), item.input == "a.json");
            Settled::Accepted
        };
        drive(source(&folder, After::Nothing), &ledger, 4, answer).await.unwrap();
        let mut inputs = ledger.take();
        inputs.sort();
        assert_eq!(inputs, ["a.json", "g.eml", "h.mbox#1", "h.mbox#2"]);
    }

    #[tokio::test]
    async fn a_file_written_anew_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, "a.json", "{}");
        let ledger = Ledger::default();
        let answer = |item: &Received| {
            if matches!(&item.content, Content::Document(bytes) if bytes == "{}") {
                write(&folder, "a.json", "{ }");
            }
            Settled::Accepted
        };
        drive(source(&folder, After::Delete), &ledger, 2, answer).await.unwrap();
        assert_eq!(ledger.take(), ["a.json", "a.json"]);
    }

    #[tokio::test]
    async fn a_file_that_still_grows_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, "a.json", "[");
        let directory = source(&folder, After::Nothing);
        for text in ["[1", "[1,", "[1,2"] {
            assert!(directory.list(&|_| false, &mut HashSet::new()).unwrap().is_empty());
            write(&folder, "a.json", text);
        }
        assert!(directory.list(&|_| false, &mut HashSet::new()).unwrap().is_empty());
        assert_eq!(directory.list(&|_| false, &mut HashSet::new()).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn taken_files_are_moved() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, "a.json", "{}");
        let ledger = Ledger::default();
        drive(source(&folder, After::MoveTo("done".into())), &ledger, 1, accept).await.unwrap();
        assert_eq!(ledger.take(), ["a.json"]);
        assert!(folder.path().join("done/a.json").exists());
        assert!(!folder.path().join("a.json").exists());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn one_file_that_can_not_be_read_does_not_hold_up_the_others() {
        let folder = tempfile::tempdir().unwrap();
        // A link to itself can't be opened by anybody, also not by root.
        std::os::unix::fs::symlink(folder.path().join("a.json"), folder.path().join("a.json")).unwrap();
        write(&folder, "b.json", "{}");
        let ledger = Ledger::default();
        drive(source(&folder, After::Nothing), &ledger, 1, accept).await.unwrap();
        assert_eq!(ledger.take(), ["b.json"]);
    }
}
