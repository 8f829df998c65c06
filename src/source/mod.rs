//! Sources yield received mail and metadata documents. One file per kind; this is the one list of kinds.
//!
//! Both sides' promises: a source hands over batches in the order of its position and moves on only after
//! `Inlet::hand_over` has answered for every item; the other side answers *accepted* only after the raw
//! message, its sessions and deliveries, and the batch's position are committed in one transaction. What
//! is answered *try again* stays where it is and comes again. After-actions (flag, move, delete) come after
//! the answer and are best effort: a source never relies on them to know what it has read.

pub mod files;
pub mod imap;
mod start;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::outcome::Reason;

pub use start::Start;

/// RFC 5321 sender and recipients, and how the message arrived; never copied from its headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `MAIL FROM`, if the source knows it.
    pub sender: Option<String>,
    /// `RCPT TO`, if the source knows them.
    pub recipients: Vec<String>,
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
}

/// Where a source hands its batches to.
#[derive(Debug, Clone)]
pub struct Inlet {
    source: Arc<str>,
    to_intake: mpsc::Sender<Handover>,
}

impl Inlet {
    /// An inlet for the source with this name.
    pub fn new(source: impl Into<Arc<str>>, to_intake: mpsc::Sender<Handover>) -> Self {
        Self { source: source.into(), to_intake }
    }

    /// Hands a batch over and waits for its commit: one answer per item, in order. If intake is gone, all
    /// are to be tried again.
    pub async fn hand_over(&self, batch: Batch) -> Vec<Settled> {
        let count = batch.items.len();
        let (answer, settled) = oneshot::channel();
        let handover = Handover { source: self.source.clone(), batch, answer };
        let again = || vec![Settled::TryAgain("intake has stopped".to_owned()); count];
        if self.to_intake.send(handover).await.is_err() {
            return again();
        }
        settled.await.unwrap_or_else(|_| again())
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
}
