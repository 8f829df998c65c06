//! Sources yield received mail and metadata documents. One file per kind; this is the one list of kinds.
//!
//! Both sides' promises: a source hands over batches in the order of its position and moves on only after
//! `Inlet::hand_over` has answered for every item; the other side answers *accepted* only after the raw
//! message, its sessions and deliveries, and the batch's position are committed in one transaction. What
//! is answered *try again* stays where it is and comes again. After-actions (flag, move, delete) come after
//! the answer and are best effort: a source never relies on them to know what it has read.

mod changes;
pub mod directory;
pub mod files;
mod gather;
pub mod http;
pub mod imap;
pub(crate) mod lines;
mod listen;
pub mod maildir;
pub mod mbox;
pub mod pop3;
mod pulse;
mod sighted;
pub mod smtp;
mod start;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::outcome::Reason;
use crate::secret::Secret;

pub use pulse::Pulse;
pub use sighted::{Place, Sighted};
pub use start::Start;

/// The most items of one batch.
pub(crate) const BATCH_ITEMS: usize = 64;

/// The size of a batch at which no item is added: one larger item goes alone.
pub(crate) const BATCH_BYTES: usize = 1 << 20;

/// What the settings of a kind can do. All that a new kind needs is one file with its `Settings`, which
/// implement this, a [`Source`], and a line in the list below.
pub trait Recipe: Send {
    /// The source with these settings. `now` is when its first contact counts from.
    fn build(self, now: Timestamp) -> Box<dyn Source>;

    /// What the settings say that can't be: key, sentence, hint.
    fn validate(&self) -> Vec<(&'static str, String, String)> {
        Vec::new()
    }

    /// The paths in the settings, which the configuration makes start from its own folder.
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        Vec::new()
    }

    /// The credentials that are needed.
    fn secrets(&self) -> Vec<&Secret> {
        Vec::new()
    }

    /// Lowers what the source takes in to this many bytes a message; what is larger it refuses, or hands over
    /// as [`Content::TooLarge`].
    fn limit_to(&mut self, message_bytes: usize);

    /// Whether it knows the hosts that mail comes from, as SPF needs it.
    fn knows_peers(&self) -> bool {
        false
    }

    /// The longest time between two looks while all is well; `None` if it waits to be called.
    fn period(&self) -> Option<Duration> {
        None
    }

    /// Whether only one instance may read it at a time: all but listeners.
    fn reads_alone(&self) -> bool {
        true
    }

    /// Says where the ledger is, beside which renewed credentials are kept.
    fn keep_beside(&mut self, _state: &Path) {}
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident($settings:ty),)*) => {
        /// The kinds of sources, with the settings of each: `kind = "…"` in the configuration.
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum Kind { $($(#[doc = $doc])* $name(Box<$settings>),)* }

        impl Recipe for Kind {
            fn build(self, now: Timestamp) -> Box<dyn Source> {
                match self { $(Self::$name(settings) => settings.build(now),)* }
            }

            fn validate(&self) -> Vec<(&'static str, String, String)> {
                match self { $(Self::$name(settings) => Recipe::validate(&**settings),)* }
            }

            fn paths(&mut self) -> Vec<&mut PathBuf> {
                match self { $(Self::$name(settings) => settings.paths(),)* }
            }

            fn secrets(&self) -> Vec<&Secret> {
                match self { $(Self::$name(settings) => settings.secrets(),)* }
            }

            fn limit_to(&mut self, message_bytes: usize) {
                match self { $(Self::$name(settings) => settings.limit_to(message_bytes),)* }
            }

            fn knows_peers(&self) -> bool {
                match self { $(Self::$name(settings) => settings.knows_peers(),)* }
            }

            fn period(&self) -> Option<Duration> {
                match self { $(Self::$name(settings) => Recipe::period(&**settings),)* }
            }

            fn reads_alone(&self) -> bool {
                match self { $(Self::$name(settings) => settings.reads_alone(),)* }
            }

            fn keep_beside(&mut self, state: &Path) {
                match self { $(Self::$name(settings) => settings.keep_beside(state),)* }
            }
        }
    };
}

kinds! {
    /// A mailbox over IMAP.
    Imap(imap::Settings),
    /// A mailbox over POP3.
    Pop3(pop3::Settings),
    /// A listener that mail servers deliver to, by SMTP or LMTP.
    Smtp(smtp::Settings),
    /// A listener for mails and metadata documents by HTTP.
    Http(http::Settings),
    /// A Maildir folder.
    Maildir(maildir::Settings),
    /// A folder into which files are dropped.
    Directory(directory::Settings),
    /// An mbox spool file.
    Mbox(mbox::Settings),
}

/// RFC 5321 sender and recipients, and how the message arrived; never copied from its headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `MAIL FROM`, if the source knows it.
    pub sender: Option<String>,
    /// `RCPT TO`, if the source knows them.
    pub recipients: Vec<String>,
    /// The host that handed it over, if the source spoke with it.
    pub peer: Option<Peer>,
}

/// The host that a message came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The name that it gave itself (`EHLO`).
    pub helo: String,
}

/// What was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A raw RFC 5322 message.
    Mail(Bytes),
    /// A metadata document (or several: an array, JSON Lines).
    Document(Bytes),
    /// Not downloaded, because the source says that it is larger than the limit: bytes announced.
    TooLarge(u64),
}

impl Content {
    /// The bytes in memory.
    pub fn len(&self) -> usize {
        match self {
            Self::Mail(bytes) | Self::Document(bytes) => bytes.len(),
            Self::TooLarge(_) => 0,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One raw message or document, as a source hands it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Names the item for people and for the audit, stable within the source: `INBOX/1700000000/42`,
    /// `inbox.mbox#12`, a path.
    pub input: String,
    /// The bytes.
    pub content: Content,
    /// How it arrived.
    pub envelope: Envelope,
    /// When the source got it, if it says so (IMAP INTERNALDATE, file time).
    pub received_at: Option<Timestamp>,
}

/// A place in a source: what comes next. Opaque to everybody but the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Which cursor of the source, such as the mailbox.
    pub key: String,
    /// Its value, as text.
    pub value: String,
}

/// What is handed over and committed together.
#[derive(Debug)]
pub struct Batch {
    /// The items, in the source's order. May be empty if only the position moves.
    pub items: Vec<Received>,
    /// Where the source stands once all of them are committed.
    pub position: Option<Position>,
}

/// What a source is told about an item after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Safe in the ledger (also: known already, or kept in quarantine).
    Accepted,
    /// Not safe: leave it where it is. The sentence is for the log.
    TryAgain(String),
    /// Recorded as refused for good, with the reason.
    Refused(Reason),
}

/// A batch on its way to intake, with the address for the answer.
#[derive(Debug)]
pub struct Handover {
    /// The source's name in the configuration.
    pub source: Arc<str>,
    /// What it yields.
    pub batch: Batch,
    /// One answer per item, in order.
    pub answer: oneshot::Sender<Vec<Settled>>,
    /// For a source that tells its callers: what was found, per item and in order, if it was committed.
    pub found: Option<oneshot::Sender<Vec<Found>>>,
}

/// What was found in a committed item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Its number in the ledger.
    pub message: i64,
    /// Whether it was there already, so that nothing changed.
    pub known: bool,
    /// Why it has no effect, if so.
    pub reason: Option<Reason>,
    /// The sessions in it, each with what became of it: `first version`, `duplicate`, …
    pub sessions: Vec<(String, &'static str)>,
    /// Deliveries that it started.
    pub deliveries: usize,
}

/// Where a source hands its batches to.
#[derive(Debug, Clone)]
pub struct Inlet {
    source: Arc<str>,
    to_intake: mpsc::Sender<Handover>,
    pulse: Pulse,
}

impl Inlet {
    /// An inlet for the source with this name.
    pub fn new(source: impl Into<Arc<str>>, to_intake: mpsc::Sender<Handover>) -> Self {
        Self { source: source.into(), to_intake, pulse: Pulse::default() }
    }

    /// The same, with signs of life that somebody looks at.
    #[must_use]
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// Says that the source looked, or listens, and nothing is amiss.
    pub fn looked(&self) {
        self.pulse.looked();
    }

    /// Hands a batch over and waits for its commit: one answer per item, in order. If intake is gone, all
    /// are to be tried again. A batch without items gets one answer, for its position.
    pub async fn hand_over(&self, batch: Batch) -> Vec<Settled> {
        self.hand_over_with(batch, None).await
    }

    /// As [`Inlet::hand_over`], and asks what was found: nothing if the batch was not committed.
    pub async fn hand_over_asking(&self, batch: Batch) -> (Vec<Settled>, Vec<Found>) {
        let (to, found) = oneshot::channel();
        let settled = self.hand_over_with(batch, Some(to)).await;
        (settled, found.await.unwrap_or_default())
    }

    async fn hand_over_with(&self, batch: Batch, found: Option<oneshot::Sender<Vec<Found>>>) -> Vec<Settled> {
        let count = batch.items.len().max(1);
        let (answer, settled) = oneshot::channel();
        let handover = Handover { source: self.source.clone(), batch, answer, found };
        let again = || vec![Settled::TryAgain("intake has stopped".to_owned()); count];
        if self.to_intake.send(handover).await.is_err() {
            return again();
        }
        let settled = settled.await.unwrap_or_else(|_| again());
        if !settled.iter().any(|answer| matches!(answer, Settled::TryAgain(_))) {
            self.pulse.took();
        }
        settled
    }

    /// Commits a position alone, such as the place of a first contact. The fault says that it is not safe:
    /// nothing may be read that depends on it.
    pub async fn commit_position(&self, position: Position) -> Result<(), Fault> {
        let settled = self.hand_over(Batch { items: Vec::new(), position: Some(position) }).await;
        match settled.into_iter().next() {
            Some(Settled::Accepted) => Ok(()),
            Some(Settled::TryAgain(detail)) => Err(Fault { reason: Reason::Unavailable, step: "commit", detail }),
            _ => Err(Fault { reason: Reason::Internal, step: "commit", detail: "no answer from intake".to_owned() }),
        }
    }
}

/// Why a source stopped by itself; the service starts it again after a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The closed cause: `unreachable`, `dns`, `tls`, `unauthorized`, `timeout`, `connection_lost`, …
    pub reason: Reason,
    /// Which step failed: `connect`, `tls`, `login`, `select`, `fetch`, …
    pub step: &'static str,
    /// A sentence without credentials or addresses of people.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {} ({})", self.step, self.detail, self.reason)
    }
}

impl std::error::Error for Fault {}

/// A source that the service runs until it is told to stop.
pub trait Source: Send {
    /// Reads until `stop`. `positions` are the values that the last commits of this source left.
    /// Returns `Ok` only after `stop`, or when the source is at its end for good.
    fn run(
        self: Box<Self>,
        inlet: Inlet,
        positions: BTreeMap<String, String>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Fault>>;

    /// Logs in, looks, changes nothing: for `check --online`. The sentence says what was found.
    fn check(self: Box<Self>) -> BoxFuture<'static, Result<String, Fault>>;

    /// Tells of everything that is there, in its order, and changes nothing: for `audit --source`. `positions` are the
    /// values that the last commits of this source left. A source that waits to be called keeps nothing.
    fn survey(
        self: Box<Self>,
        _positions: BTreeMap<String, String>,
        _to: mpsc::Sender<Sighted>,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        let detail = "this kind of source can't be looked through".to_owned();
        Box::pin(std::future::ready(Err(Fault { reason: Reason::Internal, step: "survey", detail })))
    }
}

/// The largest message where the configuration says none.
fn message_bytes() -> usize {
    crate::message::Limits::default().message_bytes
}

/// How often the sources on disk look, unless told.
fn poll_seconds() -> u64 {
    2
}

/// The time between two looks.
fn poll(seconds: u64) -> Duration {
    Duration::from_secs(seconds.clamp(1, 86_400))
}

/// Waits for the next look, or for the stop.
async fn pause(poll: Duration, stop: &CancellationToken) {
    stop.run_until_cancelled(tokio::time::sleep(poll)).await;
}

/// File work, off the threads that others wait on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A fault at a file or folder that the operator named.
fn file_fault(step: &'static str, path: &Path, error: &io::Error) -> Fault {
    let reason = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Reason::Unreachable,
        io::ErrorKind::PermissionDenied => Reason::NotPermitted,
        _ => Reason::Unavailable,
    };
    Fault { reason, step, detail: format!("`{}`: {error}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_now_all_or_a_date() {
        assert_eq!("now".parse(), Ok(Start::Now));
        assert_eq!("all".parse(), Ok(Start::All));
        let since = |text: &str| Ok(Start::Since(text.parse::<Timestamp>().unwrap()));
        assert_eq!("2026-02-01".parse(), since("2026-02-01T00:00:00Z"));
        assert_eq!("2026-02-01T06:00:00-06:00".parse(), since("2026-02-01T12:00:00Z"));
        let error = "yesterday".parse::<Start>().unwrap_err();
        assert!(error.contains("`yesterday`") && error.contains("`all`"), "{error}");
    }

    #[test]
    fn kinds_are_read_by_their_word_and_unknown_keys_are_faults() {
        let kind = |text: &str| toml::from_str::<Kind>(text);
        let maildir = kind("kind = \"maildir\"\npath = \"/m\"\nafter = { move_to = \".Done\" }").unwrap();
        assert!(matches!(maildir, Kind::Maildir(s) if s.start == Start::Now && s.poll_seconds == 2));
        assert!(kind("kind = \"directory\"\npath = \"/d\"\nafter = \"delete\"").is_ok());
        assert!(kind("kind = \"mbox\"\npath = \"/m\"\nstart = \"2026-02-01\"").is_ok());
        assert!(kind("kind = \"mbox\"\npath = \"/m\"\nstart = \"soon\"").unwrap_err().to_string().contains("`soon`"));
        assert!(kind("kind = \"mbox\"\npath = \"/m\"\npaht = 1").unwrap_err().to_string().contains("paht"));
    }
}
