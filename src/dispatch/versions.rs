//! Generated histories through the real ledger, the real runs and the real verdicts, against a CRM in memory and
//! under a virtual clock: versions in any order, lost, late and doubled, over two sources; supplements; contents
//! that come back; sessions that move to another record; answers that fail in every way; and crashes between any two
//! steps. Whatever happened, each record is at the end as the newest version alone would leave it, no effect is there
//! twice, and none ever went backwards.
//!
//! `HISTORIES=5000 cargo test --lib whatever_happens` for more; `HISTORY=17` for one, with what happened in it.
//!
//! Broken on purpose, one at a time, it said (the number is that of the first history that did): no grace after an
//! unclear end: "the rating of voice-3" is an older one (2); an unclear end casts no doubt on what others applied: "the
//! code of voice-1" is that of the version between (186); a step `once` is not written ahead: a charge "is there 2 times,
//! and 1 were meant" (2); no look for the marker: a note is (0); captures outlive their `lifetime`: dead,
//! `rejected_payload` (7).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use fastrand::Rng;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::lane::Lane;
use super::{Clock, Dispatcher, Rules, Target, Way};
use crate::connector::{Connector, Destination, marker};
use crate::diagnostic::SourceFile;
use crate::folder::Folder;
use crate::ledger::{DeliveryState, Filter, Ledger, Leg, MessageState, NewMessage, NewSession, Planner};
use crate::session::profile::Profile;
use crate::session::stored::Stored;
use crate::session::{Channel, Session, SessionKey, version};
use crate::settings;

pub(super) mod crm;

use crm::Crm;

/// Workers at once.
const ROOM: usize = 3;
/// Between two versions of a session, in seconds.
const SPACING: i64 = 20;
/// When all goes well again, in seconds after the beginning.
const CALM: i64 = 3 * 3600;

const CONNECTOR: &str = r#"
name = "model"
title = "Model"
transports = ["rest"]

[record]
pattern = 'R[0-9]+'

[settings.base_url]
type = "url"
required = true
doc = "the address"

[http]
base_url = "{{settings.base_url}}"

[[step]]
id = "upload"
effect = "orphanable"
lifetime = 600
method = "POST"
path = "/uploads"
body = { kind = "raw", file = "metadata" }
capture = { token = { path = "$.token" } }

[[step]]
id = "fields"
effect = "idempotent"
method = "PUT"
path = "/{{record_id}}/{{key}}"
body = { kind = "json", template = "fields.json" }

[[step]]
id = "code"
effect = "idempotent"
method = "PUT"
path = "/{{record_id}}/{{key}}/code"
body = { kind = "json", template = "code.json" }

[[step]]
id = "note"
effect = "marked"
marker_step = "seen"
method = "POST"
path = "/{{record_id}}/{{key}}/notes"
body = { kind = "json", template = "note.json" }

[[step]]
id = "charge"
effect = "once"
method = "POST"
path = "/{{record_id}}/{{key}}/charges"
body = { kind = "json", template = "charge.json" }

[[step]]
id = "seen"
effect = "read"
method = "GET"
path = "/{{record_id}}/{{key}}/notes"
found = { path = "$[*].marker", equals = "{{marker}}" }
"#;

fn destination() -> Arc<Destination> {
    let files = [
        ("connector.toml", CONNECTOR),
        ("fields.json", r#"{ "rating": "{{rating}}", "upload": "{{steps.upload.token}}" }"#),
        ("code.json", r#"{ "code": "{{disposition.code}}" }"#),
        ("note.json", r#"{ "marker": "{{marker}}", "code": "{{disposition.code}}", "rating": "{{rating}}" }"#),
        ("charge.json", r#"{ "marker": "{{marker}}", "version": "{{version}}" }"#),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), SourceFile::new(format!("model/{name}"), text)));
    let folder = Folder { name: "model".to_owned(), files: files.into_iter().collect() };
    let connector = Connector::load(&folder, None).unwrap_or_else(|faults| panic!("{faults}"));
    let file = SourceFile::new("crm.toml", "base_url = 'https://crm.example'\n");
    let parsed = settings::parse::<BTreeMap<String, Value>>(&file).expect("a readable file");
    let values: Map<String, Value> = parsed.value.into_iter().collect();
    let to = Destination::new("crm", Arc::new(connector), None, &values, &parsed.places, &[]);
    Arc::new(to.unwrap_or_else(|faults| panic!("{faults}")))
}

/// Everything to the one destination, to the record that the document names.
struct ToCrm;

impl Planner for ToCrm {
    fn legs_of(&self, session: &Session) -> Vec<Leg> {
        legs(session.record_id.as_deref())
    }

    fn legs(&self, _: &SessionKey, document: &Value) -> Vec<Leg> {
        legs(document["out_ticket_id"].as_str())
    }
}

fn legs(record: Option<&str>) -> Vec<Leg> {
    vec![Leg { destination: "crm".to_owned(), record: record.map(str::to_owned), refused: None }]
}

fn key(session: usize) -> SessionKey {
    SessionKey { instance: "default".to_owned(), channel: Channel::Voice, id: session.to_string() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap_or_default()
}

/// What one session went through in the contact centre.
struct Life {
    session: usize,
    /// The contents of its versions by moment; the same content may come back.
    contents: Vec<usize>,
    /// The record at each moment.
    records: Vec<String>,
}

impl Life {
    fn new(session: usize, rng: &mut Rng) -> Self {
        // Somebody changes it, and often changes it back.
        let mut contents = vec![0];
        for _ in 0..rng.usize(..5) {
            let last = contents.last().copied().unwrap_or(0);
            contents.push((last + 1 + rng.usize(..2)) % 3);
        }
        let mut record = format!("R{}", rng.usize(..3));
        let mut records = Vec::new();
        for _ in &contents {
            if rng.u32(..8) == 0 {
                record = format!("R{}", rng.usize(..3));
            }
            records.push(record.clone());
        }
        Self { session, contents, records }
    }

    fn document(&self, moment: usize) -> Value {
        let (session, content) = (self.session, self.contents[moment]);
        json!({ "id": session, "status": "finished", "created_at": "2027-01-15T07:00:00Z",
            "updated_at": at(SPACING * moment as i64).to_string(), "out_ticket_id": self.records[moment],
            "dispositions": [{ "code": format!("code {content}"), "note": "" }], "rating": content + 1,
            "participants": [] })
    }

    /// The mails that tell of a moment: one, or two that complete each other.
    fn mails(&self, moment: usize, rng: &mut Rng) -> Vec<Value> {
        let whole = self.document(moment);
        if rng.u32(..5) > 0 {
            return vec![whole];
        }
        let without = |key: &str| {
            let mut half = whole.clone();
            half.as_object_mut().expect("an object").remove(key);
            half
        };
        vec![without("rating"), without("dispositions")]
    }

    /// Which content an effect shows.
    fn content_of(body: &Value) -> Option<usize> {
        let code = body["code"].as_str().and_then(|c| c.strip_prefix("code ")?.parse().ok());
        let rating = body["rating"].as_u64().or_else(|| body["rating"].as_str()?.parse().ok());
        code.or(rating.and_then(|rating| usize::try_from(rating).ok()?.checked_sub(1)))
    }
}

fn message(session: usize, source: &str, input: &str, document: Value) -> NewMessage {
    let record = document["out_ticket_id"].as_str().map(str::to_owned);
    let updated: Option<Timestamp> = document["updated_at"].as_str().and_then(|t| t.parse().ok());
    NewMessage {
        source: source.to_owned(),
        input: input.to_owned(),
        message_id: None,
        sender: None,
        note_only: false,
        raw_digest: input.to_owned(),
        raw: "raw".into(),
        is_document: true,
        received_at: at(0),
        state: MessageState::Processed,
        reason: None,
        detail: None,
        sessions: vec![NewSession {
            key: key(session),
            updated_at: updated,
            digest: version::digest(&document),
            legs: legs(record.as_deref()),
            document,
            evidence: Vec::new(),
            warnings: Vec::new(),
        }],
    }
}

struct World {
    dir: tempfile::TempDir,
    to: Arc<Destination>,
    crm: Arc<Crm>,
    clock: Clock,
    rng: Rng,
    dispatcher: Arc<Dispatcher>,
    workers: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Mails that are still to come, the last one first.
    mails: Vec<(i64, NewMessage)>,
    /// When the process dies, the last time first.
    crashes: Vec<i64>,
    lives: Vec<Life>,
}

impl World {
    fn new(seed: u64, to: &Arc<Destination>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let dir = dir.expect("a directory");
        let clock = Clock::standing(at(0));
        let crm = Arc::new(Crm::new(rng.u64(..), clock.clone()));
        let mut lives: Vec<Life> = (0..2 + rng.usize(..4)).map(|session| Life::new(session, &mut rng)).collect();
        let mails = mails(&mut lives, &mut rng);
        let mut crashes: Vec<i64> = (0..rng.usize(..4)).map(|_| rng.i64(0..CALM * 1000)).collect();
        crashes.sort_unstable_by(|a, b| b.cmp(a));
        let dispatcher = open(&dir, to, &crm, &clock);
        let workers = FuturesUnordered::new();
        Self { dir, to: to.clone(), crm, clock, rng, dispatcher, workers, mails, crashes, lives }
    }

    fn now(&self) -> i64 {
        self.clock.now().duration_since(at(0)).as_millis() as i64
    }

    /// To the end of the history.
    async fn live(&mut self) {
        for _ in 0..20_000 {
            self.settle().await;
            if self.crm.crashes() {
                self.crash().await;
                continue;
            }
            if self.workers.len() < ROOM && self.claim().await {
                continue;
            }
            let due = if self.workers.len() < ROOM {
                self.dispatcher.ledger.next_due(&["crm".to_owned()], self.clock.now()).await.expect("a read")
            } else {
                None
            };
            let due = due.map(|due| due.duration_since(at(0)).as_millis() as i64);
            let crm = self.crm.next_at().map(|at_ms| at_ms - at(0).as_millisecond());
            let mail = self.mails.last().map(|(at, _)| *at);
            let crash = self.crashes.last().copied();
            let Some(next) = [due, crm, mail, crash].into_iter().flatten().min() else {
                if self.person().await {
                    continue;
                }
                return;
            };
            self.move_to(next.max(self.now()));
            if crash == Some(next) {
                self.crashes.pop();
                self.crm.tell("the process dies".to_owned());
                self.crash().await;
            } else if mail == Some(next)
                && let Some((_, mail)) = self.mails.pop()
            {
                self.accept(mail).await;
            }
        }
        panic!("the history does not end");
    }

    fn move_to(&mut self, milliseconds: i64) {
        if milliseconds > CALM * 1000 {
            self.crm.calm();
        }
        self.clock.set(at(0) + SignedDuration::from_millis(milliseconds));
        self.crm.advance();
    }

    /// Until every worker waits for the CRM.
    async fn settle(&mut self) {
        let (workers, crm) = (&mut self.workers, &self.crm);
        std::future::poll_fn(|context| {
            loop {
                match workers.poll_next_unpin(context) {
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending if crm.crashes() || crm.parked() == workers.len() => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }

    async fn claim(&mut self) -> bool {
        let room = [("crm".to_owned(), ROOM - self.workers.len())];
        let lease = Duration::from_secs(900);
        let claimed = self.dispatcher.ledger.claim(ROOM, &room, lease, self.clock.now()).await.expect("claimed");
        let any = !claimed.is_empty();
        for claimed in claimed {
            let (dispatcher, crm) = (self.dispatcher.clone(), self.crm.clone());
            crm.tell(format!(
                "claimed {} version {} for {:?}{}: {:?}",
                claimed.key,
                claimed.version_number,
                claimed.record,
                if claimed.uncertain { ", uncertain" } else { "" },
                claimed.progress,
            ));
            self.workers.push(Box::pin(async move {
                let finished = dispatcher.deliver(&claimed, &Lane::new(ROOM, &[])).await;
                crm.tell(format!("ended {}: {:?} {}", claimed.key, finished.next, finished.reason));
                if crm.is_the_end() {
                    crm.tell("the process dies before that is recorded".to_owned());
                    crm.die().await;
                }
                dispatcher.ledger.record(vec![finished], dispatcher.clock.now()).await.expect("recorded");
            }));
        }
        any
    }

    async fn accept(&mut self, mail: NewMessage) {
        self.crm.tell(format!("mail {} of {}: {}", mail.input, mail.source, mail.sessions[0].document));
        let (source, now) = (mail.source.clone(), self.clock.now());
        let accepted = self.dispatcher.ledger.accept(vec![mail], &source, None, Arc::new(ToCrm), now).await;
        let accepted = accepted.expect("accepted");
        self.crm.tell(format!("  {:?}", accepted[0].sessions));
    }

    /// The process dies, with what nobody had waited for, and starts again some time later.
    async fn crash(&mut self) {
        self.workers.clear();
        self.crm.hang_up();
        if self.rng.bool() {
            self.dispatcher.ledger.abandon();
        }
        // Let go of the old one, so that its thread ends before the new one begins.
        let nothing = Ledger::open(&self.dir.path().join("nothing.db")).expect("a ledger");
        let stored = self.dispatcher.stored.clone();
        let gone = Dispatcher::new(nothing, BTreeMap::new(), stored, Rules::default());
        drop(std::mem::replace(&mut self.dispatcher, Arc::new(gone)));
        let down = self.rng.i64(0..20_000);
        self.move_to(self.now() + down);
        self.dispatcher = open(&self.dir, &self.to, &self.crm, &self.clock);
        self.dispatcher.ledger.recover(self.clock.now()).await.expect("recovered");
    }

    /// A person looks at what must not be repeated: a charge that was made is let go, another is tried again.
    async fn person(&mut self) -> bool {
        let dead = Filter { state: Some(DeliveryState::Dead), ..Filter::default() };
        let dead = self.dispatcher.ledger.deliveries(dead).await.expect("a list");
        for row in &dead {
            assert_eq!(row.reason.as_deref(), Some("uncertain"), "{row:?}");
            let story = self.dispatcher.ledger.delivery_story(row.id).await.expect("a read").expect("a delivery");
            let record = row.record.clone().unwrap_or_default();
            let is_made = self.crm.journal().iter().any(|e| {
                e.kind == "charge"
                    && e.record == record
                    && e.session == row.session
                    && e.body["version"].as_u64() == Some(u64::from(story.delivery.version_number))
            });
            self.crm.tell(format!("a person looks at {} version {}: {is_made}", row.session, row.version_number));
            let (ledger, now) = (&self.dispatcher.ledger, self.clock.now());
            if is_made {
                ledger.discard(vec![row.id], "it was charged", false, now).await.expect("discarded");
            } else {
                ledger.retry(vec![row.id], false, now).await.expect("retried");
            }
        }
        !dead.is_empty()
    }

    /// The promises.
    async fn judge(&self) {
        let ledger = &self.dispatcher.ledger;
        let audit = ledger.audit().await.expect("an audit");
        assert!(audit.is_complete(), "{:#?}", audit.gaps);
        let journal = self.crm.journal();
        let mut meant: BTreeMap<String, usize> = BTreeMap::new();
        for life in &self.lives {
            let session = key(life.session).to_string();
            let Some(story) = ledger.session_story(&key(life.session)).await.expect("a read") else { continue };
            let newest = story.versions.iter().find(|v| v.newest).expect("a version that counts");
            for delivery in &story.deliveries {
                let row = &delivery.delivery;
                let version = story.versions.iter().find(|v| v.id == row.version).expect("its version");
                let mark = marker("crm", row.record.as_deref().unwrap_or(""), &key(life.session), &version.digest);
                *meant.entry(mark).or_default() += 1;
                if version.newest {
                    assert!(row.state.is_end(), "the newest version of {session} is {:?}", row.state);
                }
            }
            // As the newest alone would leave it.
            let last = life.contents.len() - 1;
            let fields = self.crm.fields(&life.records[last], &session);
            assert_eq!(newest.number, story.versions.iter().filter(|v| v.newest).map(|v| v.number).max().unwrap_or(0));
            let code = Value::from(format!("code {}", life.contents[last]));
            let rating = fields.get("rating").map(|r| r.to_string().trim_matches('"').to_owned());
            assert_eq!(fields.get("code"), Some(&code), "the code of {session}");
            assert_eq!(rating, Some((life.contents[last] + 1).to_string()), "the rating of {session}");
            // Never backwards.
            for kind in ["fields", "code", "note"] {
                for record in &life.records {
                    let mut moment = 0;
                    for effect in
                        journal.iter().filter(|e| e.kind == kind && e.record == *record && e.session == session)
                    {
                        // A half that lacks the field says nothing.
                        let Some(content) = Life::content_of(&effect.body) else { continue };
                        let later = life.contents.iter().skip(moment).position(|c| *c == content);
                        moment += later.unwrap_or_else(|| panic!("a {kind} of {session} goes back to {}", effect.body));
                    }
                }
            }
        }
        // Nothing twice, nothing that nobody meant.
        for kind in ["note", "charge"] {
            let mut made: BTreeMap<String, usize> = BTreeMap::new();
            for effect in journal.iter().filter(|e| e.kind == kind) {
                *made.entry(effect.body["marker"].as_str().unwrap_or("").to_owned()).or_default() += 1;
            }
            for (mark, count) in made {
                let most = meant.get(&mark).copied().unwrap_or(0);
                assert!(count <= most, "the {kind} {mark} is there {count} times, and {most} were meant");
            }
        }
        for life in &self.lives {
            let Some(story) = ledger.session_story(&key(life.session)).await.expect("a read") else { continue };
            let newest = story.versions.iter().find(|v| v.newest).expect("a version that counts");
            let last = life.records.last().map_or("", String::as_str);
            let mark = marker("crm", last, &key(life.session), &newest.digest);
            for kind in ["note", "charge"] {
                assert!(
                    journal.iter().any(|e| e.kind == kind && e.body["marker"] == mark.as_str()),
                    "the {kind} of the newest version of {} is missing",
                    key(life.session)
                );
            }
        }
    }
}

/// All mails of a history with their times, the last one first. The newest moment of a session is never lost; a lost
/// one is taken out of its life.
fn mails(lives: &mut [Life], rng: &mut Rng) -> Vec<(i64, NewMessage)> {
    let mut mails = Vec::new();
    for life in lives {
        let moments = life.contents.len();
        for moment in 0..moments {
            if moment + 1 < moments && rng.u32(..8) == 0 {
                continue;
            }
            for (half, document) in life.mails(moment, rng).into_iter().enumerate() {
                for copy in 0..1 + rng.usize(..3) {
                    let source = if rng.bool() { "support" } else { "backfill" };
                    // The same item of the same source again, or a copy of it.
                    let name = if rng.u32(..4) == 0 { 0 } else { copy };
                    let input = format!("{}-{moment}-{half}-{name}", life.session);
                    // About when it was written, or hours late.
                    let late = if rng.u32(..3) == 0 { rng.i64(0..CALM * 1000) } else { rng.i64(0..60_000) };
                    let when = SPACING * 1000 * moment as i64 + late;
                    mails.push((when, message(life.session, source, &input, document.clone())));
                }
            }
        }
    }
    mails.sort_by_key(|(when, _)| std::cmp::Reverse(*when));
    mails
}

fn open(dir: &tempfile::TempDir, to: &Arc<Destination>, crm: &Arc<Crm>, clock: &Clock) -> Arc<Dispatcher> {
    let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a ledger");
    let way = Way::Model { to: to.clone(), crm: crm.clone() };
    let target = Target { name: "crm".to_owned(), concurrency: ROOM, rates: Vec::new(), fallback: None, way };
    let targets = BTreeMap::from([("crm".to_owned(), Arc::new(target))]);
    let stored = Stored::new([], Arc::new(Profile::builtin().clone()));
    let mut dispatcher = Dispatcher::new(ledger, targets, stored, Rules::default());
    dispatcher.clock = clock.clone();
    Arc::new(dispatcher)
}

/// One history; the error is what was broken and how it came to that.
fn history(seed: u64, to: &Arc<Destination>) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut world = World::new(seed, to);
    // Jitter is the only chance that is not the world's.
    fastrand::seed(seed);
    let crm = world.crm.clone();
    let run = std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            world.live().await;
            world.judge().await;
        });
    });
    match std::panic::catch_unwind(run) {
        Ok(()) => Ok(crm.log()),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            Err(format!("history {seed}: {said}\n{}", crm.log()))
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_the_record_is_as_the_newest_version_says_and_nothing_is_there_twice() {
    let to = destination();
    if let Some(seed) = number("HISTORY") {
        println!("{}", history(seed, &to).unwrap_or_else(|broken| panic!("{broken}")));
        return;
    }
    for seed in 0..number("HISTORIES").unwrap_or(200) {
        history(seed, &to).unwrap_or_else(|broken| panic!("{broken}"));
    }
}
