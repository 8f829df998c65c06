//! From received bytes to committed sessions and deliveries.
//!
//! `read` is the list of steps that every message goes through, pure; `extract`, `render` and `process` call
//! the same function. `Gate` then decides who may cause an effect, and asks DNS for that. `Intake::serve`
//! reads what one source hands over, commits each batch with the source's position in one transaction, and
//! only then answers the source.

mod gate;
mod patience;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

pub use gate::Gate;

use patience::in_time;

use crate::digest::sha256;
use crate::ledger::Ledger;
use crate::ledger::{Accepted, MessageState, Moved, NewMessage, NewSession, Planner, Standing};
use crate::message::authenticity::{TrustPolicy, Verdict};
use crate::message::automatic::{self, Automatic};
use crate::message::mark::InstanceKey;
use crate::message::{Limits, Message, parse};
use crate::outcome::Reason;
use crate::session::evidence::Extraction;
use crate::session::extract;
use crate::session::profile::Profile;
use crate::session::redact::Redaction;
use crate::source::{Content, Found, Handover, Received, Settled};
use crate::verify::Verifier;

/// How long mail that DNS must say something about waits in its source. Then it goes to quarantine, so that
/// nothing waits behind it for ever; `messages reprocess` asks again.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// How the messages of one source are read.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The contact-centre instance that its sessions belong to.
    pub instance: String,
    /// How the platform names and labels things.
    pub profile: Arc<Profile>,
    /// What a stranger may make us do.
    pub limits: Limits,
    /// Who may cause an effect.
    pub trust: TrustPolicy,
    /// What is masked in what they find.
    pub privacy: Arc<Redaction>,
    /// The key by which this instance knows its own mail; `None`: there is none yet.
    pub own: Option<InstanceKey>,
}

/// What one message was found to be.
#[derive(Debug, Clone)]
pub struct Reading {
    /// `Message-ID` with its angle brackets.
    pub message_id: Option<String>,
    /// The first address of `From`.
    pub from: Option<String>,
    /// The sessions, or why there are none.
    pub extraction: Extraction,
    /// Sentences about what was odd in the message itself.
    pub notes: Vec<String>,
}

impl Reading {
    /// Of a message that must not be read.
    fn refused(reason: Reason, detail: String) -> Self {
        Self { message_id: None, from: None, extraction: Extraction::Refused(reason, detail), notes: Vec::new() }
    }
}

/// Reads one message or document: the steps of intake in their order.
pub fn read(received: &Received, rules: &Rules) -> Reading {
    let refused = Reading::refused;
    match &received.content {
        Content::TooLarge(bytes) => {
            let limit = rules.limits.message_bytes;
            refused(Reason::TooLarge, format!("the message has {bytes} bytes, more than the limit of {limit}"))
        }
        Content::Document(bytes) if bytes.len() > rules.limits.message_bytes => refused(
            Reason::TooLarge,
            format!("the document has {} bytes, more than the limit of {}", bytes.len(), rules.limits.message_bytes),
        ),
        Content::Document(bytes) => {
            let place = received.input.rsplit('/').next().unwrap_or(&received.input);
            let Rules { instance, profile, limits, privacy, .. } = rules;
            let extraction = extract::extract_document(bytes, place, instance, profile, limits, privacy);
            Reading { message_id: None, from: None, extraction, notes: Vec::new() }
        }
        Content::Mail(raw) => {
            let message = parse::parse(raw, &rules.limits);
            let extraction = found_in(&message, rules);
            let Message { message_id, from, notes, .. } = message;
            Reading { message_id, from: from.into_iter().next(), extraction, notes }
        }
    }
}

/// What a mail holds. What is automatic and only quotes, returns or repeats a session holds none; other
/// automatic mail holds none only if nothing is found in it (`message::automatic` has the table).
fn found_in(message: &Message<'_>, rules: &Rules) -> Extraction {
    let automatic = automatic::recognise(message, rules.own.as_ref());
    if let Some(Automatic { reason, sign, decides: true }) = automatic {
        return Extraction::Refused(reason, sign);
    }
    let Rules { instance, profile, limits, privacy, .. } = rules;
    match (extract::extract(message, instance, profile, limits, privacy), automatic) {
        (Extraction::None, Some(Automatic { reason, sign, .. })) => Extraction::Refused(reason, sign),
        (found, _) => found,
    }
}

/// As `read`, but a fault of this program in one message stops nobody else: the message goes to quarantine.
pub fn read_safely(received: &Received, rules: &Rules) -> Reading {
    catch_unwind(AssertUnwindSafe(|| read(received, rules))).unwrap_or_else(|_| {
        Reading::refused(Reason::Internal, "this message hit a fault in mail2crm; please report it".to_owned())
    })
}

/// The row of a message, with what was found in it and where that goes, ready to be committed.
pub fn row(source: &str, received: &Received, reading: Reading, planner: &dyn Planner, now: Timestamp) -> NewMessage {
    let (raw, is_document) = match &received.content {
        Content::Mail(raw) => (raw.clone(), false),
        Content::Document(raw) => (raw.clone(), true),
        Content::TooLarge(_) => (bytes::Bytes::new(), false),
    };
    let (state, reason, mut detail, sessions) = match reading.extraction {
        Extraction::Sessions(found) => (MessageState::Processed, None, None, found),
        Extraction::None => (MessageState::Ignored, Some(Reason::NoMetadata), None, Vec::new()),
        Extraction::Refused(reason, detail) => (state_of(reason), Some(reason), Some(detail), Vec::new()),
    };
    if !reading.notes.is_empty() {
        let notes = reading.notes.join("; ");
        detail = Some(detail.map_or(notes.clone(), |d| format!("{d}; {notes}")));
    }
    NewMessage {
        source: source.to_owned(),
        input: received.input.clone(),
        message_id: reading.message_id,
        sender: reading.from.map(|address| sha256(address.as_bytes())),
        raw_digest: sha256(&raw),
        raw,
        is_document,
        received_at: received.received_at.unwrap_or(now),
        state,
        reason,
        detail,
        sessions: sessions
            .into_iter()
            .map(|found| NewSession {
                key: found.session.session_key(),
                legs: planner.legs_of(&found.session),
                updated_at: found.session.updated_at.map(|t| t.instant),
                digest: found.digest,
                document: found.document,
                evidence: found.evidence,
                warnings: found.warnings,
            })
            .collect(),
    }
}

/// What must not cause an effect is ignored by rule; what a person should look at is kept in quarantine.
pub fn state_of(reason: Reason) -> MessageState {
    match reason {
        Reason::NoMetadata | Reason::AutoReply | Reason::Bounce | Reason::Bulk | Reason::OwnMail | Reason::Loop => {
            MessageState::Ignored
        }
        _ => MessageState::Quarantined,
    }
}

/// Takes what one source hands over into the ledger.
#[derive(Clone)]
pub struct Intake {
    /// The source's name.
    pub source: Arc<str>,
    /// How its messages are read.
    pub rules: Arc<Rules>,
    /// Where they are committed.
    pub ledger: Ledger,
    /// Where their sessions go.
    pub planner: Arc<dyn Planner>,
    /// What checks where they come from.
    pub verifier: Arc<Verifier>,
}

impl Intake {
    /// An intake for the source with this name.
    pub fn new(
        source: impl Into<Arc<str>>,
        rules: Arc<Rules>,
        ledger: Ledger,
        planner: Arc<dyn Planner>,
        verifier: Arc<Verifier>,
    ) -> Self {
        Self { source: source.into(), rules, ledger, planner, verifier }
    }

    /// Serves a source until it hands over no more. Batches are committed in their order; once one could
    /// not be committed, those that the source had sent behind it are not committed either, so that its
    /// position never passes a gap.
    pub async fn serve(self, mut from_source: mpsc::Receiver<Handover>) {
        let mut coming: Option<JoinHandle<Prepared>> = None;
        loop {
            let prepared = match coming.take() {
                Some(work) => joined(work.await),
                None => match from_source.recv().await {
                    Some(handover) => joined(self.prepare(handover).await),
                    None => return,
                },
            };
            // The next batch is read while this one is being committed.
            let committed = {
                let commit = self.commit(&prepared.handover, prepared.rows);
                tokio::pin!(commit);
                loop {
                    tokio::select! {
                        done = &mut commit => break done,
                        Some(following) = from_source.recv(), if coming.is_none() => coming = Some(self.prepare(following)),
                    }
                }
            };
            match committed {
                Ok(accepted) => {
                    self.verifier.answered(&self.source);
                    let reasons = prepared.reasons;
                    let items = prepared.items.iter().zip(&reasons);
                    let mut settled: Vec<_> =
                        accepted.iter().zip(items).map(|(a, (r, reason))| self.settle(a, r, *reason)).collect();
                    if settled.is_empty() {
                        settled.push(Settled::Accepted); // the position alone
                    }
                    if let Some(to) = prepared.handover.found {
                        let _ = to.send(accepted.iter().zip(reasons).map(|(a, reason)| found(a, reason)).collect());
                    }
                    let _ = prepared.handover.answer.send(settled);
                }
                Err(why) => {
                    tracing::error!(source = %self.source, error = %why, "a batch could not be committed; it stays in the source and is tried again");
                    // Those behind are answered first: the source sends nothing new before its first answer.
                    if let Some(work) = coming.take() {
                        let behind = joined(work.await);
                        refuse(behind.handover, behind.items.len(), &why);
                    }
                    while let Ok(following) = from_source.try_recv() {
                        let count = following.batch.items.len();
                        refuse(following, count, &why);
                    }
                    refuse(prepared.handover, prepared.items.len(), &why);
                }
            }
        }
    }

    /// Reads a batch off the runtime's threads, then asks who sent it.
    fn prepare(&self, mut handover: Handover) -> JoinHandle<Prepared> {
        let this = self.clone();
        tokio::spawn(async move {
            let now = Timestamp::now();
            let items: Arc<[Received]> = std::mem::take(&mut handover.batch.items).into();
            let mut readings = this.read_in_time(&items).await;
            if let Err(why) = this.admit(&items, &mut readings, now).await {
                return Prepared { handover, items, rows: Err(why), reasons: Vec::new() };
            }
            let all = items.clone();
            let rows = tokio::task::spawn_blocking(move || {
                let each = all.iter().zip(readings);
                each.map(|(item, reading)| row(&this.source, item, reading, &*this.planner, now)).collect::<Vec<_>>()
            });
            let rows = joined(rows.await);
            let reasons = rows.iter().map(|r| r.reason).collect();
            Prepared { handover, items, rows: Ok(rows), reasons }
        })
    }

    /// One reading per item. What a stranger can make the reader do is bounded, so the clock is for what nobody
    /// thought of.
    async fn read_in_time(&self, items: &Arc<[Received]>) -> Vec<Reading> {
        let (seconds, rules) = (self.rules.limits.message_seconds, self.rules.clone());
        let read = in_time(items, Duration::from_secs(seconds), move |item| read_safely(item, &rules)).await;
        let too_slow = || {
            let sentence = format!("reading it took longer than {seconds} seconds (`message_seconds` in `[limits]`)");
            Reading::refused(Reason::TooMuchWork, sentence)
        };
        read.into_iter().map(|reading| reading.unwrap_or_else(too_slow)).collect()
    }

    /// Lets the source's policy decide about each message. The error says why the batch has to wait.
    async fn admit(&self, items: &[Received], readings: &mut [Reading], now: Timestamp) -> Result<(), String> {
        let gate = Gate::new(&self.rules, &self.verifier);
        for (received, reading) in items.iter().zip(readings) {
            let trust = gate.admit(received, reading, now).await;
            if trust.verdict != Verdict::Unknown {
                continue;
            }
            if self.verifier.silent_for(&self.source, now) <= PATIENCE {
                return Err(format!("it can't be told now who sent it: {trust}"));
            }
            reading.extraction = gate::untrusted(&trust);
        }
        Ok(())
    }

    /// Commits a batch that may be committed; the error says why it is not.
    async fn commit(
        &self,
        handover: &Handover,
        rows: Result<Vec<NewMessage>, String>,
    ) -> Result<Vec<Accepted>, String> {
        let position = handover.batch.position.as_ref().map(|p| (p.key.clone(), p.value.clone()));
        let done = self.ledger.accept(rows?, &self.source, position, self.planner.clone(), Timestamp::now()).await;
        done.map_err(|fault| fault.to_string())
    }

    /// One line per message, and the answer to the source.
    fn settle(&self, accepted: &Accepted, received: &Received, reason: Option<Reason>) -> Settled {
        let (source, input, message) = (&self.source, &received.input, accepted.message.0);
        for alarm in &accepted.alarms {
            let (destination, record, detail) = (&alarm.destination, &alarm.record, &alarm.detail);
            tracing::error!(%source, %input, message, %destination, %record, %detail, "the brake holds back deliveries; `mail2crm deliveries list --state parked` shows them, `deliveries release` lets them go");
        }
        for Moved { session, destination, from, to } in &accepted.moved {
            tracing::warn!(%source, %input, message, %session, %destination, %from, %to, "a session moved to another record; the former one keeps what it has");
        }
        match reason {
            _ if accepted.known => tracing::debug!(%source, %input, message, "the message was known already"),
            Some(reason) if state_of(reason) == MessageState::Quarantined => {
                tracing::warn!(%source, %input, message, %reason, "a message was put into quarantine");
            }
            Some(reason) => tracing::info!(%source, %input, message, %reason, "took in a message that has no effect"),
            None => {
                let sessions = accepted.sessions.iter().map(|(key, standing)| format!("{key} {}", word(*standing)));
                let sessions = sessions.collect::<Vec<_>>().join(", ");
                tracing::info!(%source, %input, message, %sessions, deliveries = accepted.deliveries, "took in a session message");
            }
        }
        match reason {
            Some(reason) if state_of(reason) == MessageState::Quarantined => Settled::Refused(reason),
            _ => Settled::Accepted,
        }
    }
}

/// A batch that was read, with its rows and their reasons.
struct Prepared {
    handover: Handover,
    items: Arc<[Received]>,
    /// What to commit, or why not now.
    rows: Result<Vec<NewMessage>, String>,
    reasons: Vec<Option<Reason>>,
}

/// What a source may tell its caller of a committed item.
fn found(accepted: &Accepted, reason: Option<Reason>) -> Found {
    let sessions = accepted.sessions.iter().map(|(key, standing)| (key.to_string(), word(*standing)));
    Found {
        message: accepted.message.0,
        known: accepted.known,
        reason,
        sessions: sessions.collect(),
        deliveries: accepted.deliveries,
    }
}

fn refuse(handover: Handover, items: usize, why: &str) {
    let answers = vec![Settled::TryAgain(why.to_owned()); items.max(1)];
    let _ = handover.answer.send(answers);
}

/// A panic in a reader is this program's fault: it goes on in the task that waits for it.
fn joined<T>(done: Result<T, JoinError>) -> T {
    match done {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::First => "first version",
        Standing::Newer => "newer version",
        Standing::Supplement => "supplement",
        Standing::Duplicate => "duplicate",
        Standing::Older => "older version, not applied",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Envelope;

    /// No session goes anywhere.
    struct Nowhere;

    impl Planner for Nowhere {
        fn legs_of(&self, _: &crate::session::Session) -> Vec<crate::ledger::Leg> {
            Vec::new()
        }

        fn legs(&self, _: &crate::session::SessionKey, _: &serde_json::Value) -> Vec<crate::ledger::Leg> {
            Vec::new()
        }
    }

    fn read_one(content: Content) -> Reading {
        let rules = Rules {
            instance: "default".to_owned(),
            profile: Arc::new(Profile::builtin().clone()),
            limits: Limits::default(),
            trust: TrustPolicy::Anyone,
            privacy: Arc::new(Redaction::default()),
            own: Some(InstanceKey::new([1; 32])),
        };
        read(&Received { input: "x".to_owned(), content, envelope: Envelope::default(), received_at: None }, &rules)
    }

    fn mail(fields: &str, body: &str) -> NewMessage {
        let content = Content::Mail(format!("From: a@b.example\r\n{fields}\r\n\r\n{body}").into());
        let received = Received { input: "x".to_owned(), content, envelope: Envelope::default(), received_at: None };
        row("s", &received, read_one(received.content.clone()), &Nowhere, Timestamp::UNIX_EPOCH)
    }

    const SESSION: &str = "Session ID: 48213\nSession type: Voice Inbound\nOutTicket ID: C-1\nCSAT Rating: 4\nComment: card 4111 1111 1111 1111\n";

    #[test]
    fn no_card_number_reaches_the_row_of_a_message() {
        let document = r#"{"id":1,"call_type":"Voice Inbound","status":"finished","call_duration":1,"feedback":"4111111111111111"}"#;
        let Extraction::Sessions(found) = read_one(Content::Document(document.into())).extraction else {
            panic!("none")
        };
        assert!(!format!("{found:?}").contains("4111"), "{found:?}");
        let row = mail("Subject: x", SESSION);
        assert_eq!(row.sessions.len(), 1);
        assert!(!format!("{:?}", row.sessions).contains("4111"), "{:?}", row.sessions);
        assert_eq!(row.sessions[0].warnings, ["a card number was masked in feedback"]);
    }

    #[test]
    fn what_carries_the_session_decides_of_automatic_mail() {
        let own = format!("X-Mail2crm: {}", InstanceKey::new([1; 32]).mark("m2c-a"));
        for (fields, with, without) in [
            ("Subject: x", None, Some(Reason::NoMetadata)),
            ("Auto-Submitted: auto-generated", None, Some(Reason::AutoReply)),
            ("Precedence: bulk", None, Some(Reason::Bulk)),
            ("Auto-Submitted: auto-replied", Some(Reason::AutoReply), Some(Reason::AutoReply)),
            ("X-Failed-Recipients: a@b.example", Some(Reason::Bounce), Some(Reason::Bounce)),
            (own.as_str(), Some(Reason::OwnMail), Some(Reason::OwnMail)),
        ] {
            let (full, empty) = (mail(fields, SESSION), mail(fields, "Hello\n"));
            assert_eq!((full.reason, empty.reason), (with, without), "{fields}");
            assert_eq!(full.sessions.len(), usize::from(with.is_none()), "{fields}");
            assert_eq!(empty.state, MessageState::Ignored, "{fields}");
        }
    }
}
