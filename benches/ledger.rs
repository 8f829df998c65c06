//! What the ledger costs: accepting mail of 50 KB one by one and in batches, and the way of a delivery
//! from its claim to its recorded end. On a real file, flushed as in service.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use jiff::Timestamp;
use mail2crm::connector::Progress;
use mail2crm::ledger::{
    Attempt, Claimed, DeliveryState, Finished, Ledger, Leg, MessageState, NewMessage, NewSession, Next, Planner,
};
use mail2crm::outcome::{Outcome, Reason};
use mail2crm::session::{Channel, Session, SessionKey};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// Every session to one destination.
struct ToRt;

impl Planner for ToRt {
    fn legs_of(&self, session: &Session) -> Vec<Leg> {
        to_rt(&session.id)
    }

    fn legs(&self, key: &SessionKey, _: &Value) -> Vec<Leg> {
        to_rt(&key.id)
    }
}

fn to_rt(id: &str) -> Vec<Leg> {
    vec![Leg { destination: "rt".to_owned(), record: Some(id.to_owned()), refused: None }]
}

struct World {
    _dir: tempfile::TempDir,
    ledger: Ledger,
    runtime: Runtime,
    raw: Bytes,
    made: AtomicUsize,
}

impl World {
    fn new() -> Self {
        // Beside the build, not in a temporary folder, which may be in memory.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a ledger");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let raw: Vec<u8> = (0..50 << 10).map(|_| fastrand::alphanumeric() as u8).collect();
        Self { _dir: dir, ledger, runtime, raw: raw.into(), made: AtomicUsize::new(0) }
    }

    /// New mails, each with one session of about 2 KB.
    fn mails(&self, count: usize) -> Vec<NewMessage> {
        let first = self.made.fetch_add(count, Ordering::Relaxed);
        (first..first + count)
            .map(|n| NewMessage {
                source: "support".to_owned(),
                input: format!("INBOX/1700000000/{n}"),
                sender: None,
                message_id: Some(format!("<{n}@mail.example>")),
                raw_digest: format!("{n:064x}"),
                raw: self.raw.clone(),
                is_document: false,
                received_at: Timestamp::UNIX_EPOCH,
                state: MessageState::Processed,
                reason: None,
                detail: None,
                sessions: vec![NewSession {
                    key: SessionKey { instance: "default".to_owned(), channel: Channel::Voice, id: n.to_string() },
                    updated_at: Some(Timestamp::UNIX_EPOCH),
                    digest: format!("{n:064x}"),
                    document: json!({ "id": n, "out_ticket_id": n, "note": "x".repeat(2_000) }),
                    evidence: Vec::new(),
                    warnings: Vec::new(),
                    legs: to_rt(&n.to_string()),
                }],
            })
            .collect()
    }

    async fn accept(&self, mails: Vec<NewMessage>) {
        let position = Some(("INBOX".to_owned(), "1700000000/1".to_owned()));
        let accepted = self.ledger.accept(mails, "support", position, Arc::new(ToRt), Timestamp::UNIX_EPOCH).await;
        black_box(accepted.expect("accepted"));
    }
}

fn done(claimed: &Claimed) -> Finished {
    Finished {
        delivery: claimed.delivery,
        lease: claimed.lease,
        next: Next::Done(DeliveryState::Delivered),
        reason: Reason::Applied,
        uncertain: false,
        applied: vec![("update".to_owned(), claimed.digest.clone()), ("comment".to_owned(), claimed.digest.clone())],
        progress: Some(Progress::default()),
        attempt: Some(Attempt {
            started_at: Timestamp::UNIX_EPOCH,
            duration_ms: 20,
            outcome: Outcome::Delivered,
            reason: Reason::Applied,
            detail: String::new(),
            exchanges: json!([{ "step": "update", "request": "PUT https://rt.example/REST/2.0/ticket/1",
                                "request_body": "x".repeat(500), "status": 200, "response_body": "[]" }]),
        }),
    }
}

/// One caller that waits for each commit.
#[divan::bench(args = [1, 16, 64], sample_count = 40)]
fn accept_in_batches_of(bencher: Bencher, count: usize) {
    let world = World::new();
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| world.mails(count))
        .bench_values(|mails| world.runtime.block_on(world.accept(mails)));
}

/// Many callers with one mail each: they share commits.
#[divan::bench(args = [64], sample_count = 40)]
fn accept_one_each_of_callers(bencher: Bencher, count: usize) {
    let world = World::new();
    bencher.counter(ItemsCount::new(count)).with_inputs(|| world.mails(count)).bench_values(|mails| {
        let callers = mails.into_iter().map(|mail| world.accept(vec![mail]));
        world.runtime.block_on(futures_util::future::join_all(callers))
    });
}

/// From the claim of a batch to the recorded end of all of it.
#[divan::bench(args = [1, 64], sample_count = 40)]
fn claim_and_record(bencher: Bencher, count: usize) {
    let world = World::new();
    let rt = [("rt".to_owned(), count)];
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| world.runtime.block_on(world.accept(world.mails(count))))
        .bench_values(|()| {
            world.runtime.block_on(async {
                let lease = Duration::from_secs(60);
                let claimed = world.ledger.claim(count, &rt, lease, Timestamp::UNIX_EPOCH).await.expect("claimed");
                assert_eq!(claimed.len(), count);
                let results = claimed.iter().map(done).collect();
                black_box(world.ledger.record(results, Timestamp::UNIX_EPOCH).await.expect("recorded"));
            });
        });
}
