//! A CRM in memory under a virtual clock: it takes fields, notes and charges of sessions, writes down every effect
//! in the order in which they happen, and does to a caller what networks do. What a caller gave up still happens
//! here, for less than the 15 seconds for which the ledger leaves a record alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::super::clock::Clock;
use super::super::drive::Carrier;
use crate::connector::Prepared;
use crate::connector::http::{Request, Response};
use crate::outcome::{Class, Reason, Verdict};

type Answer = Result<Response, Verdict>;

/// How long a caller waits for an answer, in milliseconds.
const PATIENCE: i64 = 10_000;
/// How long after that a request may still take effect.
const LATE: i64 = 14_500;
/// How long an upload is kept here.
const UPLOADS_KEPT: i64 = 700_000;

/// One effect.
#[derive(Debug, Clone)]
pub(super) struct Effect {
    pub(super) kind: &'static str,
    pub(super) record: String,
    pub(super) session: String,
    pub(super) body: Value,
}

/// What is to happen in the CRM at its time.
enum Event {
    /// The request arrives; the answer goes out so much later, or never.
    Act(Request, Option<(i64, oneshot::Sender<Answer>)>),
    /// The caller hears this.
    Hear(oneshot::Sender<Answer>, Answer),
}

struct Inner {
    rng: Rng,
    clock: Clock,
    events: BTreeMap<(i64, u64), Event>,
    count: u64,
    parked: usize,
    crash: bool,
    calm: bool,
    uploads: BTreeMap<String, i64>,
    used: BTreeSet<String>,
    fields: BTreeMap<(String, String), BTreeMap<String, Value>>,
    journal: Vec<Effect>,
    log: VecDeque<String>,
}

pub struct Crm(Mutex<Inner>);

impl std::fmt::Debug for Crm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Crm")
    }
}

impl Crm {
    pub(super) fn new(seed: u64, clock: Clock) -> Self {
        Self(Mutex::new(Inner {
            rng: Rng::with_seed(seed),
            clock,
            events: BTreeMap::new(),
            count: 0,
            parked: 0,
            crash: false,
            calm: false,
            uploads: BTreeMap::new(),
            used: BTreeSet::new(),
            fields: BTreeMap::new(),
            journal: Vec::new(),
            log: VecDeque::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing goes wrong.
    pub(super) fn calm(&self) {
        self.lock().calm = true;
    }

    /// Workers that wait for the CRM, or for their end.
    pub(super) fn parked(&self) -> usize {
        self.lock().parked
    }

    /// Whether a worker met the moment at which the process is to die.
    pub(super) fn crashes(&self) -> bool {
        self.lock().crash
    }

    /// All callers are gone.
    pub(super) fn hang_up(&self) {
        let mut inner = self.lock();
        inner.parked = 0;
        inner.crash = false;
    }

    pub(super) fn journal(&self) -> Vec<Effect> {
        self.lock().journal.clone()
    }

    pub(super) fn fields(&self, record: &str, session: &str) -> BTreeMap<String, Value> {
        self.lock().fields.get(&(record.to_owned(), session.to_owned())).cloned().unwrap_or_default()
    }

    /// The last lines of what happened.
    pub(super) fn log(&self) -> String {
        self.lock().log.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn tell(&self, line: String) {
        self.lock().tell(line);
    }

    /// When something happens here next, in milliseconds.
    pub(super) fn next_at(&self) -> Option<i64> {
        self.lock().events.keys().next().map(|(at, _)| *at)
    }

    /// Lets everything happen whose time has come.
    pub(super) fn advance(&self) {
        let mut inner = self.lock();
        let now = inner.now();
        while let Some(entry) = inner.events.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Event::Act(request, then) => {
                    let answer = inner.act(&request);
                    if let Some((later, to)) = then {
                        inner.plan(later, Event::Hear(to, answer));
                    }
                }
                Event::Hear(to, answer) => {
                    if to.send(answer).is_ok() {
                        inner.parked -= 1;
                    }
                }
            }
        }
    }

    /// A worker whose process dies here.
    pub(super) async fn die(&self) {
        {
            let mut inner = self.lock();
            inner.crash = true;
            inner.parked += 1;
        }
        std::future::pending().await
    }

    /// Whether the process is to die now, by chance.
    pub(super) fn is_the_end(&self) -> bool {
        let mut inner = self.lock();
        !inner.calm && inner.rng.u32(..60) == 0
    }
}

impl Carrier for Crm {
    async fn carry(&self, prepared: &Prepared) -> Answer {
        if self.is_the_end() {
            self.tell(format!("the process dies before `{}`", prepared.step));
            self.die().await;
        }
        let heard = self.lock().receive(prepared);
        heard.await.unwrap_or_else(|_| Err(lost()))
    }

    async fn refused(&self) {}
}

fn lost() -> Verdict {
    Verdict::new(Class::Retry, Reason::ConnectionLost, "lost").uncertain()
}

fn reply(status: u16, body: &Value) -> Answer {
    Ok(Response { status, headers: Vec::new(), body: body.to_string().into() })
}

impl Inner {
    fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    fn tell(&mut self, line: String) {
        let at = self.now() % 10_000_000;
        self.log.push_back(format!("{:>9.1} s  {line}", at as f64 / 1000.0));
        if self.log.len() > 400 {
            self.log.pop_front();
        }
    }

    fn plan(&mut self, later: i64, event: Event) {
        self.count += 1;
        let at = self.now() + later;
        self.events.insert((at, self.count), event);
    }

    /// Decides what becomes of a request.
    fn receive(&mut self, prepared: &Prepared) -> oneshot::Receiver<Answer> {
        let (to, heard) = oneshot::channel();
        self.parked += 1;
        let request = prepared.request.clone();
        let (way, back) = (self.rng.i64(10..2_000), self.rng.i64(10..1_000));
        let fate = if self.calm { 0 } else { self.rng.u32(..100) };
        let said = match fate {
            0..70 => {
                self.plan(way, Event::Act(request, Some((back, to))));
                "goes well"
            }
            70..75 => {
                self.plan(way, Event::Hear(to, Err(lost())));
                "is lost"
            }
            75..80 => {
                self.plan(way, Event::Act(request, None));
                self.plan(way + back, Event::Hear(to, Err(lost())));
                "arrives, and its answer is lost"
            }
            80..88 => {
                if self.rng.u32(..4) > 0 {
                    let late = self.rng.i64(10..PATIENCE + LATE);
                    self.plan(late, Event::Act(request, None));
                }
                let verdict = Verdict::new(Class::Retry, Reason::Timeout, "late").uncertain();
                self.plan(PATIENCE, Event::Hear(to, Err(verdict)));
                "is not answered in time"
            }
            88..92 => {
                if self.rng.bool() {
                    self.plan(way, Event::Act(request, None));
                }
                self.plan(way + back, Event::Hear(to, reply(500, &Value::Null)));
                "is answered 500"
            }
            92..97 => {
                self.plan(way, Event::Hear(to, reply(503, &Value::Null)));
                "is answered 503"
            }
            _ => {
                self.plan(way, Event::Hear(to, reply(409, &Value::Null)));
                "is answered 409"
            }
        };
        let body = prepared.request.body.as_ref().map_or("", |b| std::str::from_utf8(&b.bytes).unwrap_or("?"));
        self.tell(format!("{} {} {body} {said}", prepared.step, prepared.request.url));
        heard
    }

    /// The request arrives.
    fn act(&mut self, request: &Request) -> Answer {
        let path = request.url.strip_prefix("https://crm.example").unwrap_or_default();
        let parts: Vec<&str> = path.trim_start_matches('/').split(['/', '?']).collect();
        let body = request.body.as_ref().map_or(Value::Null, |b| serde_json::from_slice(&b.bytes).unwrap_or_default());
        let now = self.now();
        match (request.method.as_str(), parts.as_slice()) {
            ("POST", ["uploads"]) => {
                let token = format!("t{}", self.uploads.len());
                self.uploads.insert(token.clone(), now);
                reply(201, &json!({ "token": token }))
            }
            ("PUT", [record, session]) => {
                let token = body["upload"].as_str().unwrap_or_default().to_owned();
                if self.uploads.get(&token).is_none_or(|at| now - at > UPLOADS_KEPT) {
                    return reply(422, &json!({ "error": "there is no such upload" }));
                }
                self.used.insert(token);
                let fields = self.fields.entry(((*record).to_owned(), (*session).to_owned())).or_default();
                fields.extend(
                    body.as_object()
                        .into_iter()
                        .flatten()
                        .filter(|(k, _)| *k != "upload")
                        .map(|(k, v)| (k.clone(), v.clone())),
                );
                self.happened("fields", record, session, body);
                reply(200, &json!({}))
            }
            ("PUT", [record, session, "code"]) => {
                let fields = self.fields.entry(((*record).to_owned(), (*session).to_owned())).or_default();
                fields.insert("code".to_owned(), body["code"].clone());
                self.happened("code", record, session, body);
                reply(200, &json!({}))
            }
            ("POST", [record, session, kind @ ("notes" | "charges")]) => {
                let kind = if *kind == "notes" { "note" } else { "charge" };
                self.happened(kind, record, session, body);
                reply(200, &json!({}))
            }
            ("GET", [record, session, "notes"]) => {
                let is_here = |e: &&Effect| e.kind == "note" && e.record == *record && e.session == *session;
                let notes: Vec<&Value> = self.journal.iter().filter(is_here).map(|e| &e.body).collect();
                reply(200, &json!(notes))
            }
            _ => reply(404, &Value::Null),
        }
    }

    fn happened(&mut self, kind: &'static str, record: &str, session: &str, body: Value) {
        self.tell(format!("  EFFECT {kind} on {record} of session {session}: {body}"));
        let (record, session) = (record.to_owned(), session.to_owned());
        self.journal.push(Effect { kind, record, session, body });
    }
}
