//! The durable tables between intake and dispatch: messages, sessions with versions, deliveries, attempts,
//! positions. The states, the commit point and what a crash does in each state: `README.md` beside this.
//!
//! One face over the engines: `sql`. Every change is one transaction; callers that wait
//! at the same time share one commit.

mod accept;
mod audit;
mod backlog;
mod brake;
mod claim;
mod copy;
mod course;
mod delivery;
mod erase;
mod grace;
mod hand;
mod handle;
mod key;
mod known;
mod lock;
mod pause;
mod progress;
mod place;
mod postgres;
mod read;
mod reading;
mod record;
mod replay;
mod retention;
mod schema;
mod shared;
mod sql;
mod sqlite;
mod standing;
mod states;
mod story;
#[cfg(test)]
mod tests;
mod writer;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::connector::{Candidate, Progress};
use crate::ids::{DeliveryId, MessageId, VersionId};
use crate::outcome::{Outcome, Reason};
use crate::session::evidence::Evidence;
use crate::session::{Session, SessionKey};

pub use audit::{Audit, Gap};
pub use backlog::{Backlog, Undelivered};
pub use brake::{Alarm, Brake};
pub use copy::Copied;
pub use course::MoveRow;
pub use erase::Erased;
pub use hand::Handled;
pub use handle::{Ledger, State};
pub use key::key_path;
use key::known_key;
pub use known::KnownSession;
pub use pause::Paused;
pub use postgres::Server;
pub use read::{DeliveryRow, Filter, MessageRow, SessionRow};
pub use record::Recorded;
pub use replay::{Applied, Page, Replay, Replayed, There, Whole};
pub use retention::{Batch, Done, Swept};
pub use sqlite::Ownership;
pub use story::{AttemptRow, DeliveryStory, FoundRow, MessageStory, SessionStory, VersionRow};

/// The ledger could not be read or written. Never means that data is wrong; the caller tries again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the ledger: {detail}")]
pub struct Fault {
    /// A sentence with the engine's own words.
    pub detail: String,
    /// Whether the same change can succeed if it is made anew.
    passes: bool,
}

impl Fault {
    /// One that passes: somebody else was in the way.
    fn passing(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), passes: true }
    }

    /// A fault that stays if nothing else changes.
    pub fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), passes: false }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<sql::Error> for Fault {
    fn from(error: sql::Error) -> Self {
        Self { passes: error.passes(), ..Self::new(error.to_string()) }
    }
}

/// What the operator sees of a message. Every message is in exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// Sessions were found and recorded.
    Processed,
    /// An ordinary mail, or one that must not cause an effect: recorded with the reason.
    Ignored,
    /// Kept for a person: broken, too large, untrusted, ambiguous.
    Quarantined,
    /// A person looked at it and let it go.
    Discarded,
}

/// What the operator sees of a delivery. Every delivery is in exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// To be tried when its time comes.
    Waiting,
    /// Leased by a worker.
    Sending,
    /// Waits for its record, with a deadline, or for the end of the brake's window.
    Parked,
    /// The record is as this version says.
    Delivered,
    /// Nothing had to be sent.
    Unchanged,
    /// A newer version took its place.
    Superseded,
    /// Refused for good; a person can retry it.
    Dead,
    /// A person let it go.
    Discarded,
}

/// A message to be committed, with all that was found in it.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// The source's name.
    pub source: String,
    /// The item's name in the source.
    pub input: String,
    /// `Message-ID`, if there is one.
    pub message_id: Option<String>,
    /// Who wrote it, as a digest of the address; the brake counts by it. `None`: not known.
    pub sender: Option<String>,
    /// SHA-256 of the raw bytes, lower-case hexadecimal.
    pub raw_digest: String,
    /// The raw bytes. Empty only for `too_large`, which was never downloaded.
    pub raw: bytes::Bytes,
    /// True if `raw` is a document, not a mail.
    pub is_document: bool,
    /// When the source got it.
    pub received_at: Timestamp,
    /// Its state once committed.
    pub state: MessageState,
    /// Why, when not `processed`.
    pub reason: Option<Reason>,
    /// A sentence for people.
    pub detail: Option<String>,
    /// What was found.
    pub sessions: Vec<NewSession>,
}

/// A session found in a message, before it meets what the ledger has of it.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its identity.
    pub key: SessionKey,
    /// `updated_at`, if the document says it.
    pub updated_at: Option<Timestamp>,
    /// `session::version::digest` of the document.
    pub digest: String,
    /// The document in the vendor's shape.
    pub document: Value,
    /// Where each value was found.
    pub evidence: Vec<(String, Evidence)>,
    /// Sentences about odd values.
    pub warnings: Vec<String>,
    /// Where it goes if it becomes the newest version as it is.
    pub legs: Vec<Leg>,
}

/// One leg of a route: where a session version is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// The destination's name.
    pub destination: String,
    /// The record it changes. `None` parks the delivery until an id is known.
    pub record: Option<String>,
    /// Set if the leg can't be sent as it is (a record id of the wrong form): dead from the start.
    pub refused: Option<(Reason, String)>,
}

/// How a delivery waits that has no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parking {
    /// For how long, in milliseconds.
    pub for_ms: i64,
    /// Whether the record is looked for at once.
    pub look_up: bool,
}

impl Default for Parking {
    fn default() -> Self {
        Self { for_ms: 72 * 3_600_000, look_up: false }
    }
}

/// A session whose versions went to one record, and whose newest one names another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The session.
    pub session: SessionKey,
    /// At which destination.
    pub destination: String,
    /// The record that keeps what it has.
    pub from: String,
    /// The record that is updated from now on.
    pub to: String,
}

/// Decides where a session goes. Must be quick, pure, and call nobody.
pub trait Planner: Send + Sync {
    /// The legs of a session as it was found, for [`NewSession::legs`].
    fn legs_of(&self, session: &Session) -> Vec<Leg>;

    /// The legs of a session whose document was merged. Called inside the transaction.
    fn legs(&self, key: &SessionKey, document: &Value) -> Vec<Leg>;

    /// How a delivery waits that has no record.
    fn parking(&self, _destination: &str) -> Parking {
        Parking::default()
    }

    /// How many repeats are too many.
    fn brake(&self) -> Brake {
        Brake::default()
    }
}

/// What became of a session of an accepted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The first version of a new session.
    First,
    /// Newer than what the ledger had: the older one waits no more.
    Newer,
    /// As old as the newest, with other content: merged into a new version.
    Supplement,
    /// Known content: nothing follows from it.
    Duplicate,
    /// Older than the newest: recorded, never sent.
    Older,
}

/// What `accept` did with one message.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Its row.
    pub message: MessageId,
    /// True if the very same item of the same source was committed before: nothing was done again.
    pub known: bool,
    /// One per session of the message, in order.
    pub sessions: Vec<(SessionKey, Standing)>,
    /// Deliveries that are due now because of it.
    pub deliveries: usize,
    /// What the brake began to hold back with it.
    pub alarms: Vec<Alarm>,
    /// Sessions that go to another record with it.
    pub moved: Vec<Moved>,
}

/// A delivery leased to a worker.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Its row.
    pub delivery: DeliveryId,
    /// The version it carries.
    pub version: VersionId,
    /// The version's number within its session, from 1.
    pub version_number: u32,
    /// The session.
    pub key: SessionKey,
    /// The destination's name.
    pub destination: String,
    /// The record, as the route or a look-up found it.
    pub record: Option<String>,
    /// The document, merged, as JSON text.
    pub document: String,
    /// Its digest.
    pub digest: String,
    /// Attempts that ended before this one.
    pub attempts: u32,
    /// True if an earlier attempt may have taken effect without our knowing: look before repeating.
    pub uncertain: bool,
    /// When the delivery was made.
    pub created_at: Timestamp,
    /// Where the retry horizon begins: when it was made, or last retried by hand.
    pub since: Timestamp,
    /// Steps whose last applied rendered request is known for this session and destination: name → digest.
    pub applied: Vec<(String, String)>,
    /// What earlier attempts of it did.
    pub progress: Progress,
    /// Those of them that were applied with this very content on this very record: what they left there has the
    /// marker of this delivery.
    pub marked: Vec<String>,
    /// Fences the lease: `record` refuses results of an older one.
    pub lease: i64,
}

/// How a claimed delivery goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It is done: `delivered` (also partially, see the reason) or `unchanged`.
    Done(DeliveryState),
    /// Try again at this time; counts as an attempt.
    Later(Timestamp),
    /// Give it back as it was, to be claimed at this time: counts as no attempt (pause, shutdown).
    Back(Timestamp),
    /// It can't succeed as it is.
    Dead,
    /// It waits for a record id until this time.
    Parked(Timestamp),
    /// It waits for its record until a time, and is looked at again before.
    Again {
        /// The deadline.
        until: Timestamp,
        /// When it is tried again.
        at: Timestamp,
        /// The records that it could belong to, where more than one fits.
        candidates: Vec<Candidate>,
    },
    /// It goes on with another record, in its turn among the deliveries of that one.
    Moved {
        /// That record.
        record: String,
        /// A sentence: what led there.
        how: String,
    },
}

/// The end of one attempt, to be recorded.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The lease under which it was tried.
    pub lease: i64,
    /// How it goes on.
    pub next: Next,
    /// The reason of its new state.
    pub reason: Reason,
    /// Whether an effect is not known, of this attempt or of an earlier one that this one could not clear
    /// up. `False` says that all is known; with `Back`, that it is left as it was.
    pub uncertain: bool,
    /// Steps that were applied, with the digest of what was sent.
    pub applied: Vec<(String, String)>,
    /// What it did that was not handed over before (see [`Ledger::note_progress`]), and what is under way still;
    /// kept if the delivery may be tried again. `None` if nothing was tried.
    pub progress: Option<Progress>,
    /// The attempt itself; `None` for `Back`.
    pub attempt: Option<Attempt>,
}

/// One try, as `show` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// Its result.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// A sentence for people.
    pub detail: String,
    /// Requests and answers, credentials cut out, as JSON.
    pub exchanges: Value,
}
