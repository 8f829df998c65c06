//! Stories through the whole ledger: what is accepted, claimed and recorded, and what a person does. The
//! world here is a temporary file, a planner that reads the document, and a clock that is an argument.

mod accepting;
mod account;
mod delivering;
mod guarding;
mod history;
mod sharing;
mod leading;
mod resuming;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;
use crate::session::evidence::How;
use crate::session::{Channel, version};

/// Sends each document to the destinations in its `to` (else `rt`), to the record in its `out_ticket_id`.
struct ByDocument;

impl Planner for ByDocument {
    fn legs_of(&self, session: &Session) -> Vec<Leg> {
        legs(&json!({ "out_ticket_id": session.record_id }))
    }

    fn legs(&self, _: &SessionKey, document: &Value) -> Vec<Leg> {
        assert_ne!(document["out_ticket_id"], "panic", "the planner stops");
        legs(document)
    }
}

fn legs(document: &Value) -> Vec<Leg> {
    let record = document["out_ticket_id"].as_str().map(str::to_owned);
    let refused = record
        .as_deref()
        .filter(|record| record.starts_with("bad"))
        .map(|_| (Reason::BadRecordId, "no number".to_owned()));
    let to = document["to"].as_str().unwrap_or("rt");
    to.split_whitespace()
        .map(|destination| Leg {
            destination: destination.to_owned(),
            record: record.clone(),
            refused: refused.clone(),
        })
        .collect()
}

/// A ledger in a folder of its own.
struct World {
    dir: tempfile::TempDir,
    ledger: Ledger,
}

const LEASE: Duration = Duration::from_secs(60);

/// So many seconds after the beginning of the story.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a moment")
}

fn key(id: &str) -> SessionKey {
    SessionKey { instance: "default".to_owned(), channel: Channel::Voice, id: id.to_owned() }
}

/// A session whose `updated_at` is so many seconds after the beginning.
fn session(id: &str, updated: Option<i64>, document: Value) -> NewSession {
    NewSession {
        key: key(id),
        updated_at: updated.map(at),
        digest: version::digest(&document),
        legs: legs(&document),
        document,
        evidence: vec![(
            "out_ticket_id".to_owned(),
            Evidence { how: How::JsonDocument, place: "a.json#/out_ticket_id".to_owned() },
        )],
        warnings: vec!["rating 5 is outside the documented 1-4".to_owned()],
    }
}

fn message(input: &str, sessions: Vec<NewSession>) -> NewMessage {
    let raw = format!("raw of {input}");
    NewMessage {
        source: "support".to_owned(),
        input: input.to_owned(),
        sender: None,
        message_id: Some(format!("<{input}@x>")),
        raw_digest: hex(&raw),
        raw: raw.into(),
        is_document: false,
        received_at: at(0),
        state: if sessions.is_empty() { MessageState::Quarantined } else { MessageState::Processed },
        reason: sessions.is_empty().then_some(Reason::MalformedMetadata),
        detail: sessions.is_empty().then(|| "a brace is missing".to_owned()),
        sessions,
    }
}

fn hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl World {
    /// On PostgreSQL if `MAIL2CRM_TEST_POSTGRES` names a database: in a schema of its own.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let state = Self::on_server().unwrap_or_else(|| State::File(dir.path().join("ledger.db")));
        let ledger = state.open().expect("a ledger");
        Self { dir, ledger }
    }

    /// A place for a ledger on the server for tests, if there is one.
    fn on_server() -> Option<State> {
        let url = std::env::var("MAIL2CRM_TEST_POSTGRES").ok()?;
        let schema = format!("test_{:016x}", fastrand::u64(..));
        let server = Arc::new(Server::from_url(&url, None).expect("an address"));
        let made = std::thread::spawn(move || {
            let sql = sql::Sql::Pg(postgres::Pg::new(server));
            sql.begin_long()?;
            sql.execute_batch(&format!("CREATE SCHEMA {schema}"))?;
            sql.commit().map(|()| schema)
        });
        let schema = made.join().expect("a thread").expect("a schema");
        let joint = if url.contains('?') { '&' } else { '?' };
        let server = Server::from_url(&format!("{url}{joint}options=-csearch_path%3D{schema}"), None);
        Some(State::Server(Arc::new(server.expect("an address"))))
    }

    /// Changes the tables past the ledger.
    async fn break_in(&self, text: &'static str) {
        self.ledger.write(move |tx| Ok(tx.sql.execute_batch(text)?)).await.expect("a change");
    }

    /// What is dead and fits.
    async fn dead(&self, filter: Filter<DeliveryState>) -> Vec<DeliveryId> {
        let filter = Filter { state: Some(DeliveryState::Dead), ..filter };
        self.ledger.delivery_ids(filter).await.expect("the numbers")
    }

    /// Closes the ledger and opens it again, as a restart does.
    fn reopen(self) -> Self {
        let Self { dir, ledger } = self;
        let state = ledger.state().clone();
        drop(ledger);
        Self { dir, ledger: state.open().expect("a ledger") }
    }

    async fn accept(&self, batch: Vec<NewMessage>, now: i64) -> Vec<Accepted> {
        self.ledger.accept(batch, "support", None, Arc::new(ByDocument), at(now)).await.expect("accepted")
    }

    /// One message with one session.
    async fn one(&self, input: &str, id: &str, updated: Option<i64>, document: Value, now: i64) -> Standing {
        let accepted = self.accept(vec![message(input, vec![session(id, updated, document)])], now).await;
        accepted[0].sessions[0].1
    }

    async fn claim_from(&self, destinations: &[(&str, usize)], limit: usize, now: i64) -> Vec<Claimed> {
        let destinations: Vec<_> = destinations.iter().map(|(name, room)| ((*name).to_owned(), *room)).collect();
        self.ledger.claim(limit, &destinations, LEASE, at(now)).await.expect("claimed")
    }

    async fn claim(&self, limit: usize, now: i64) -> Vec<Claimed> {
        self.claim_from(&[("rt", 100)], limit, now).await
    }

    async fn record(&self, result: Finished, now: i64) -> Recorded {
        self.ledger.record(vec![result], at(now)).await.expect("recorded")[0]
    }

    /// Session and state of every delivery, in the order of their making.
    async fn states(&self) -> Vec<(String, DeliveryState)> {
        let mut rows = self.ledger.deliveries(Filter::default()).await.expect("a list");
        rows.reverse();
        rows.into_iter().map(|row| (format!("{}.{}", row.session, row.version_number), row.state)).collect()
    }

    async fn audit(&self) {
        let audit = self.ledger.audit().await.expect("an audit");
        assert!(audit.is_complete(), "{:#?}", audit.gaps);
    }
}

fn finished(claimed: &Claimed, next: Next, reason: Reason) -> Finished {
    let attempt = (!matches!(next, Next::Back(_))).then(|| Attempt {
        started_at: at(0),
        duration_ms: 12,
        outcome: if matches!(next, Next::Done(_)) { Outcome::Delivered } else { Outcome::Deferred },
        reason,
        detail: "said the server".to_owned(),
        exchanges: json!([{ "step": "update", "status": 200 }]),
    });
    Finished {
        delivery: claimed.delivery,
        lease: claimed.lease,
        next,
        reason,
        uncertain: false,
        applied: Vec::new(),
        progress: Some(Progress::default()),
        attempt,
    }
}

fn delivered(claimed: &Claimed) -> Finished {
    let mut result = finished(claimed, Next::Done(DeliveryState::Delivered), Reason::Applied);
    result.applied = vec![("update".to_owned(), claimed.digest.clone())];
    result
}

fn later(claimed: &Claimed, next: i64) -> Finished {
    finished(claimed, Next::Later(at(next)), Reason::Unavailable)
}

fn sessions_of(claimed: &[Claimed]) -> Vec<String> {
    claimed.iter().map(|c| format!("{}.{}", c.key, c.version_number)).collect()
}

/// A signed duration in whole hours, as it is easier to read.
fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}
