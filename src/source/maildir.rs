//! A Maildir (maildir(5)) → mails: the source kind `maildir`.
//!
//! A mail is its unique name, whatever folder and flags it has by now. `tmp` is never looked at. Looking
//! lists names only; a mail is opened once. How mails that came while nobody looked are found:
//! `changes`.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::changes::{self, Candidate, Folder, Items};
use super::{Fault, Inlet, Recipe, Sighted, Source, Start, files};

/// A source of kind `maildir`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The Maildir: the folder that holds `new` and `cur`.
    pub path: PathBuf,
    /// Where to start when this source has never read the Maildir: `"now"` (mails that are there are
    /// passed over), `"all"`, or a date such as `"2026-02-01"` (mails with an earlier file time are passed
    /// over). Default: `"now"`.
    #[serde(default)]
    pub start: Start,
    /// What to do with a mail after it is safely taken. Default: `"nothing"`.
    #[serde(default)]
    pub after: After,
    /// How often to look, in seconds. Default: 2.
    #[serde(default = "super::poll_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub poll_seconds: u64,
    /// Larger messages are not read; from `[limits]`.
    #[serde(skip, default = "super::message_bytes")]
    pub max_bytes: usize,
}

/// What to do with a mail after it is safely taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// Leave it as it is.
    #[default]
    Nothing,
    /// Mark it as seen: from `new` to `cur` with the flag `S`.
    Seen,
    /// Delete it.
    Delete,
    /// Move it to another Maildir: a path, or a name below this one such as `.Processed`.
    MoveTo(PathBuf),
}

/// The source that reads one Maildir.
#[derive(Debug)]
pub struct Maildir {
    settings: Settings,
    poll: Duration,
}

impl Maildir {
    /// A source with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { poll: super::poll(settings.poll_seconds), settings }
    }
}

/// The file name; bytes that are no text are replaced.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name without its flags.
fn unique(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

/// The name in `cur` with the flag `S` among those that it has, in their order.
fn seen_name(name: &str) -> String {
    let flags = name.split_once(":2,").map_or("", |(_, flags)| flags);
    let mut flags: Vec<char> = flags.chars().chain(['S']).collect();
    flags.sort_unstable();
    flags.dedup();
    format!("{}:2,{}", unique(name), flags.into_iter().collect::<String>())
}

/// When both folders last changed.
fn folder_times(path: &Path) -> io::Result<[SystemTime; 2]> {
    let time = |name: &str| path.join(name).metadata()?.modified();
    Ok([time("new")?, time("cur")?])
}

impl Folder for Maildir {
    fn path(&self) -> &Path {
        &self.settings.path
    }

    fn version(&self) -> io::Result<Option<Vec<SystemTime>>> {
        folder_times(&self.settings.path).map(|times| Some(times.to_vec()))
    }

    fn list(&self, is_settled: &dyn Fn(u64) -> bool, present: &mut HashSet<u64>) -> io::Result<Vec<Candidate>> {
        let mut found = Vec::new();
        // A mail goes from `new` to `cur`, so none is missed in this order.
        for folder in ["new", "cur"] {
            for entry in self.settings.path.join(folder).read_dir()? {
                let entry = entry?;
                let name = name_of(&entry.path());
                if name.starts_with('.') {
                    continue;
                }
                let key = changes::key(unique(&name).as_bytes());
                if !present.insert(key) || is_settled(key) {
                    continue;
                }
                match entry.metadata() {
                    Ok(metadata) if metadata.is_file() => found.push(Candidate::new(key, entry.path(), &metadata)),
                    Ok(_) => {}
                    // It got another flag just now: the next look finds it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    fn open(&self, candidate: &Candidate) -> Items {
        let name = name_of(&candidate.path);
        let mail = files::read_as_mail(&candidate.path, unique(&name).to_owned(), self.settings.max_bytes);
        Box::new(std::iter::once(mail))
    }

    fn settle(&self, candidate: &Candidate) -> io::Result<()> {
        let path = &candidate.path;
        let name = &name_of(path);
        match &self.settings.after {
            After::Nothing => Ok(()),
            After::Delete => std::fs::remove_file(path),
            After::Seen => {
                let seen = self.settings.path.join("cur").join(seen_name(name));
                if seen == *path { Ok(()) } else { std::fs::rename(path, seen) }
            }
            After::MoveTo(target) => {
                let target = self.settings.path.join(target);
                for folder in ["tmp", "new"] {
                    std::fs::create_dir_all(target.join(folder))?;
                }
                changes::move_file(path, &target.join("cur"), &seen_name(name))
            }
        }
    }
}

impl Recipe for Settings {
    fn build(self, _now: Timestamp) -> Box<dyn Source> {
        Box::new(Maildir::new(self))
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

impl Source for Maildir {
    fn run(
        self: Box<Self>,
        inlet: Inlet,
        positions: BTreeMap<String, String>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        let (start, poll) = (self.settings.start, self.poll);
        Box::pin(changes::run(*self, start, poll, inlet, positions, stop))
    }

    fn check(self: Box<Self>) -> BoxFuture<'static, Result<String, Fault>> {
        changes::check(*self, "mails")
    }

    fn survey(
        self: Box<Self>,
        positions: BTreeMap<String, String>,
        to: mpsc::Sender<Sighted>,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        let start = self.settings.start;
        changes::survey(*self, start, positions, to)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settled;
    use super::super::changes::tests::{LOOK, Ledger, drive};
    use super::*;
    use crate::source::Received;

    fn maildir(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for sub in ["new", "cur", "tmp"] {
            std::fs::create_dir(folder.path().join(sub)).unwrap();
        }
        names.iter().for_each(|name| deliver(&folder, name));
        folder
    }

    fn deliver(folder: &tempfile::TempDir, name: &str) {
        let tmp = folder.path().join("tmp/x");
        std::fs::write(&tmp, format!("Subject: {name}\n\n{name}\n")).unwrap();
        std::fs::rename(tmp, folder.path().join(name)).unwrap();
    }

    fn source(folder: &tempfile::TempDir, start: Start, after: After) -> Box<Maildir> {
        let settings = Settings { path: folder.path().to_owned(), start, after, poll_seconds: 1, max_bytes: 1 << 20 };
        Box::new(Maildir { settings, poll: LOOK })
    }

    fn accept(_: &Received) -> Settled {
        Settled::Accepted
    }

    fn sorted(mut names: Vec<String>) -> Vec<String> {
        names.sort();
        names
    }

    #[tokio::test]
    async fn all_mails_are_read_once_also_over_a_restart() {
        let folder = maildir(&["new/1.host", "cur/2.host:2,S", "tmp/3.host"]);
        let ledger = Ledger::default();
        drive(source(&folder, Start::All, After::Nothing), &ledger, 2, accept).await.unwrap();
        assert_eq!(sorted(ledger.take()), ["1.host", "2.host"]);
        // A new mail with an older name and an old file time, and one that got a flag while nobody looked.
        deliver(&folder, "new/0.host");
        let old = std::time::SystemTime::UNIX_EPOCH;
        std::fs::File::options().write(true).open(folder.path().join("new/0.host")).unwrap().set_modified(old).unwrap();
        std::fs::rename(folder.path().join("new/1.host"), folder.path().join("cur/1.host:2,S")).unwrap();
        drive(source(&folder, Start::All, After::Nothing), &ledger, 1, accept).await.unwrap();
        // What is read again lies within the margin; the ledger knows it.
        assert!(ledger.take().contains(&"0.host".to_owned()));
    }

    #[tokio::test]
    async fn mails_that_were_there_at_the_start_stay_unread_also_after_a_restart() {
        let folder = maildir(&["new/1.host", "cur/2.host:2,"]);
        let ledger = Ledger::default();
        drive(source(&folder, Start::Now, After::Nothing), &ledger, 0, accept).await.unwrap();
        assert_eq!(ledger.take(), Vec::<String>::new());
        std::fs::rename(folder.path().join("new/1.host"), folder.path().join("cur/1.host:2,S")).unwrap();
        deliver(&folder, "new/0.host");
        drive(source(&folder, Start::Now, After::Nothing), &ledger, 1, accept).await.unwrap();
        assert_eq!(ledger.take(), ["0.host"]);
    }

    #[tokio::test]
    async fn mails_before_a_date_are_passed_over() {
        let folder = maildir(&["new/1.host", "new/2.host"]);
        let day = std::time::SystemTime::UNIX_EPOCH;
        std::fs::File::options().write(true).open(folder.path().join("new/1.host")).unwrap().set_modified(day).unwrap();
        let ledger = Ledger::default();
        drive(source(&folder, "2020-01-01".parse().unwrap(), After::Nothing), &ledger, 1, accept).await.unwrap();
        assert_eq!(ledger.take(), ["2.host"]);
    }

    #[tokio::test]
    async fn nothing_is_moved_on_before_it_is_accepted() {
        let folder = maildir(&["new/1.host"]);
        let ledger = Ledger::default();
        let again = |_: &Received| Settled::TryAgain("no".to_owned());
        let (first, answered) = (std::sync::atomic::AtomicUsize::new(0), &folder);
        let answer = |item: &Received| {
            assert!(answered.path().join("new/1.host").exists());
            if first.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2 { again(item) } else { Settled::Accepted }
        };
        drive(source(&folder, Start::All, After::Delete), &ledger, 1, answer).await.unwrap();
        assert_eq!(ledger.take(), ["1.host"]);
        assert!(!folder.path().join("new/1.host").exists());
    }

    #[tokio::test]
    async fn after_actions_mark_and_move() {
        let folder = maildir(&["new/1.host", "cur/2.host:2,F"]);
        let ledger = Ledger::default();
        drive(source(&folder, Start::All, After::Seen), &ledger, 2, accept).await.unwrap();
        assert!(folder.path().join("cur/1.host:2,S").exists());
        assert!(folder.path().join("cur/2.host:2,FS").exists());
        assert_eq!(ledger.take().len(), 2);
        let folder = maildir(&["new/1.host"]);
        drive(source(&folder, Start::All, After::MoveTo(".Done".into())), &Ledger::default(), 1, accept).await.unwrap();
        assert!(folder.path().join(".Done/cur/1.host:2,S").exists());
        assert!(folder.path().join(".Done/new").exists());
    }

    #[tokio::test]
    async fn many_mails_come_in_batches() {
        let names: Vec<String> = (0..150).map(|i| format!("new/{i}.host")).collect();
        let folder = maildir(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let ledger = Ledger::default();
        drive(source(&folder, Start::All, After::Nothing), &ledger, 150, accept).await.unwrap();
        assert_eq!(ledger.take().len(), 150);
        assert_eq!(*ledger.largest_batch.lock().unwrap(), super::super::BATCH_ITEMS);
    }

    #[tokio::test]
    async fn a_folder_that_is_no_maildir_is_a_fault_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let fault = source(&folder, Start::All, After::Nothing).check().await.unwrap_err();
        assert!(fault.detail.contains(&folder.path().display().to_string()));
        assert_eq!(fault.reason, crate::outcome::Reason::Unreachable);
        let folder = maildir(&["new/1.host"]);
        assert!(source(&folder, Start::All, After::Nothing).check().await.unwrap().contains("1 mails"));
    }
}
