//! What dispatch keeps up with: deliveries a second to a CRM on this machine that takes 20 ms for each request, over
//! 64 connections, through the real sender and a ledger that is flushed; and what a claim costs with 1,000,000
//! finished deliveries in the ledger, against an empty one. `cargo bench --bench dispatch`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mail2crm::catalogue::Catalogue;
use mail2crm::config;
use mail2crm::diagnostic::SourceFile;
use mail2crm::ledger::{Ledger, Leg, MessageState, NewMessage, NewSession, Planner};
use mail2crm::service::Service;
use mail2crm::session::{Channel, Session, SessionKey};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const LATENCY: Duration = Duration::from_millis(20);
const CONNECTIONS: usize = 64;
const SESSIONS: usize = 20_000;
const FINISHED: usize = 1_000_000;

fn main() {
    // `cargo test --benches` runs this too, only to see that it works.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let (sessions, finished) = if quick { (200, 1_000) } else { (SESSIONS, FINISHED) };
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        throughput(sessions).await;
        claims(finished).await;
    });
}

async fn throughput(sessions: usize) {
    let addr = crm().await;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let text = format!(
        "[destination.crm]\nconnector = \"generic-rest\"\nbase_url = \"http://{addr}\"\nauth = \"none\"\n\
         concurrency = {CONNECTIONS}\nendpoint = \"/t/{{{{record_id}}}}\"\nbody = '{{ \"note\": \"{{{{key}}}}\" }}'\n"
    );
    let catalogue = Catalogue::read(None).unwrap_or_else(|faults| panic!("{faults}"));
    let config = config::compose(&SourceFile::new("mail2crm.toml", text), dir.path(), &catalogue)
        .unwrap_or_else(|faults| panic!("{faults}"));
    let ledger = Ledger::open(&dir.path().join("mail2crm.db")).expect("a ledger");
    let service = Service::build(config, ledger.clone()).unwrap_or_else(|faults| panic!("{faults}"));
    accept(&ledger, 0..sessions).await;
    let begun = Instant::now();
    assert!(service.drain(Duration::ZERO, CancellationToken::new()).await.expect("no fault"));
    let rate = sessions as f64 / begun.elapsed().as_secs_f64();
    let most = CONNECTIONS as f64 / LATENCY.as_secs_f64();
    println!(
        "dispatch at 20 ms over {CONNECTIONS} connections: {rate:.0} deliveries/s, {:.1} % of {most:.0}",
        100.0 * rate / most
    );
}

async fn claims(finished: usize) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (few, many) = (dir.path().join("few.db"), dir.path().join("many.db"));
    let empty = Ledger::open(&few).expect("a ledger");
    drop(Ledger::open(&many).expect("a ledger"));
    fill(&many, finished);
    let full = Ledger::open(&many).expect("a ledger");
    // In turns, so that what the machine does beside concerns both.
    let (mut of_empty, mut of_full) = (Vec::new(), Vec::new());
    for round in 0..40 {
        let numbers = round * 64..(round + 1) * 64;
        of_empty.push(claim(&empty, numbers.clone()).await);
        of_full.push(claim(&full, numbers).await);
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (empty, full) = (median(&mut of_empty), median(&mut of_full));
    println!(
        "claim of 64: {empty:.2} ms of an empty ledger, {full:.2} ms beside {finished} finished: {:.2} times",
        full / empty
    );
}

/// Milliseconds for a claim of 64 that were just accepted.
async fn claim(ledger: &Ledger, numbers: std::ops::Range<usize>) -> f64 {
    accept(ledger, numbers).await;
    let room = [("crm".to_owned(), 64)];
    let begun = Instant::now();
    let claimed = ledger.claim(64, &room, Duration::from_secs(600), Timestamp::now()).await.expect("claimed");
    let took = begun.elapsed().as_secs_f64() * 1_000.0;
    assert_eq!(claimed.len(), 64);
    took
}

/// Finished deliveries, as a year of work leaves them.
fn fill(path: &Path, count: usize) {
    let mut sql = Connection::open(path).expect("a database");
    sql.pragma_update(None, "synchronous", "off").expect("a pragma");
    let tx = sql.transaction().expect("a transaction");
    let numbers =
        format!("WITH RECURSIVE n (i) AS (SELECT 1000001 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000 + {count}) ");
    for insert in [
        "INSERT INTO messages (id, source, input, raw_digest, is_document, received_at, recorded_at, state) \
         SELECT i, 'old', i, i, 1, 0, 0, 'processed' FROM n",
        "INSERT INTO sessions (id, instance, channel, session_id, newest, created_at, changed_at) \
         SELECT i, 'default', 'voice', 'old-' || i, 1, 0, 0 FROM n",
        "INSERT INTO versions (id, session, number, digest, found_digest, standing, message, legs, created_at, document) \
         SELECT i, i, 1, i, i, 'first', i, 1, 0, '{\"id\":1}' FROM n",
        "INSERT INTO deliveries (id, session, version, destination, record, lane, state, attempts, created_at, since, changed_at) \
         SELECT i, i, i, 'crm', i, i, 'delivered', 1, 0, 0, 0 FROM n",
        "INSERT INTO attempts (delivery, lease, started_at, duration_ms, outcome, reason, detail, exchanges) \
         SELECT i, 1, 0, 20, 'delivered', 'applied', '', '[]' FROM n",
        "INSERT INTO applied (session, destination, step, digest, delivery) SELECT i, 'crm', 'update', i, i FROM n",
    ] {
        let (into, select) = insert.split_once(" SELECT ").expect("a select");
        tx.execute(&format!("{into} {numbers} SELECT {select}"), []).expect("filled");
    }
    tx.commit().expect("committed");
}

struct ToCrm;

impl Planner for ToCrm {
    fn legs_of(&self, session: &Session) -> Vec<Leg> {
        legs(&session.id)
    }

    fn legs(&self, key: &SessionKey, _: &Value) -> Vec<Leg> {
        legs(&key.id)
    }
}

fn legs(id: &str) -> Vec<Leg> {
    vec![Leg { destination: "crm".to_owned(), record: Some(id.to_owned()), refused: None }]
}

async fn accept(ledger: &Ledger, numbers: std::ops::Range<usize>) {
    let mail = |n: usize| NewMessage {
        source: "bench".to_owned(),
        input: n.to_string(),
        sender: None,
        note_only: false,
        message_id: None,
        raw_digest: format!("{n:064x}"),
        raw: "raw".into(),
        is_document: true,
        received_at: Timestamp::now(),
        state: MessageState::Processed,
        reason: None,
        detail: None,
        sessions: vec![NewSession {
            key: SessionKey { instance: "default".to_owned(), channel: Channel::Voice, id: n.to_string() },
            updated_at: None,
            digest: format!("{n:064x}"),
            document: json!({ "id": n, "call_type": "Voice Inbound (IVR)", "out_ticket_id": n.to_string(), "notes": "x".repeat(2_000) }),
            evidence: Vec::new(),
            warnings: Vec::new(),
            legs: legs(&n.to_string()),
        }],
    };
    let mails = numbers.map(mail).collect();
    ledger.accept(mails, "bench", None, Arc::new(ToCrm), Timestamp::now()).await.expect("accepted");
}

/// Answers every request after 20 ms.
async fn crm() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    addr
}

/// One request at a time: head and body come in one or two pieces.
async fn answer(mut stream: TcpStream) {
    let (mut buffer, mut held) = (vec![0_u8; 64 << 10], 0);
    loop {
        let Some(end) = whole(&buffer[..held]) else {
            match stream.read(&mut buffer[held..]).await {
                Ok(count) if count > 0 => held += count,
                _ => return,
            }
            continue;
        };
        buffer.copy_within(end..held, 0);
        held -= end;
        tokio::time::sleep(LATENCY).await;
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.is_err() {
            return;
        }
    }
}

/// Where the first request ends, if all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    (bytes.len() >= head + length).then_some(head + length)
}
