//! How deliveries flow: what holds a destination and what does not, how it goes on, and that none slows another.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use mail2crm::catalogue::Catalogue;
use mail2crm::config;
use mail2crm::diagnostic::SourceFile;
use mail2crm::ledger::{
    DeliveryState, Filter, Finished, Ledger, Leg, MessageState, NewMessage, NewSession, Next, Paused, Planner,
};
use mail2crm::outcome::Reason;
use mail2crm::service::Service;
use mail2crm::session::{Channel, Session, SessionKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::support::crm::{Answer, Crm};

/// Every session to each of these destinations, to the record of its number.
struct To(&'static [&'static str]);

impl Planner for To {
    fn legs_of(&self, session: &Session) -> Vec<Leg> {
        self.legs_to(&session.id)
    }

    fn legs(&self, key: &SessionKey, _: &Value) -> Vec<Leg> {
        self.legs_to(&key.id)
    }
}

impl To {
    fn legs_to(&self, id: &str) -> Vec<Leg> {
        let leg = |name: &&str| Leg { destination: (*name).to_owned(), record: Some(id.to_owned()), refused: None };
        self.0.iter().map(leg).collect()
    }
}

/// A service with a destination of this machine for each CRM, and its ledger.
struct Site {
    dir: tempfile::TempDir,
    ledger: Ledger,
    service: Arc<Service>,
}

impl Site {
    fn new(destinations: &[(&str, &Crm, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let text: String = destinations
            .iter()
            .map(|(name, crm, more)| {
                format!(
                    "[destination.{name}]\nconnector = \"generic-rest\"\nbase_url = \"http://{}\"\nauth = \"none\"\n\
                     endpoint = \"/t/{{{{record_id}}}}\"\nbody = '{{ \"note\": \"{{{{key}}}}\" }}'\n{more}\n",
                    crm.addr
                )
            })
            .collect();
        let (ledger, service) = Self::open(dir.path(), &text);
        Self { dir, ledger, service }
    }

    fn open(dir: &Path, text: &str) -> (Ledger, Arc<Service>) {
        let catalogue = Catalogue::read(None).unwrap_or_else(|faults| panic!("{faults}"));
        let file = SourceFile::new("mail2crm.toml", text);
        let config = config::compose(&file, dir, &catalogue).unwrap_or_else(|faults| panic!("{faults}"));
        let ledger = Ledger::open(&dir.join("mail2crm.db")).expect("a ledger");
        let service = Service::build(config, ledger.clone()).unwrap_or_else(|faults| panic!("{faults}"));
        (ledger, Arc::new(service))
    }

    /// Sessions with these numbers, each on a record of its own.
    async fn accept(&self, to: &'static [&'static str], numbers: std::ops::Range<usize>) {
        let planner = Arc::new(To(to));
        let mails = numbers.map(|n| {
            let key = SessionKey { instance: "default".to_owned(), channel: Channel::Voice, id: n.to_string() };
            NewMessage {
                note_only: false,
                source: "test".to_owned(),
                input: n.to_string(),
                sender: None,
                message_id: None,
                raw_digest: format!("{n:064x}"),
                raw: "raw".into(),
                is_document: true,
                received_at: Timestamp::now(),
                state: MessageState::Processed,
                reason: None,
                detail: None,
                sessions: vec![NewSession {
                    legs: planner.legs_to(&key.id),
                    key,
                    updated_at: None,
                    digest: format!("{n:064x}"),
                    document: json!({ "id": n, "call_type": "Voice Inbound (IVR)", "out_ticket_id": n.to_string() }),
                    evidence: Vec::new(),
                    warnings: Vec::new(),
                }],
            }
        });
        self.ledger.accept(mails.collect(), "test", None, planner.clone(), Timestamp::now()).await.expect("accepted");
    }

    /// Delivers what is due now or within a second.
    async fn drain(&self) {
        assert!(self.service.drain(Duration::from_secs(1), CancellationToken::new()).await.expect("no fault"));
    }

    async fn count(&self, state: DeliveryState, fits: impl Fn(&mail2crm::ledger::DeliveryRow) -> bool) -> usize {
        let filter = Filter { state: Some(state), ..Filter::default() };
        self.ledger.deliveries(filter).await.expect("a list").iter().filter(|row| fits(row)).count()
    }
}

#[tokio::test]
async fn an_outage_burns_no_attempts_and_what_waits_goes_on_slowly_at_first() {
    let crm = Crm::start(|_, _| Answer::Status(503)).await;
    let site = Site::new(&[("crm", &crm, "concurrency = 16")]);
    site.accept(&["crm"], 0..300).await;
    site.drain().await;
    let tried = crm.seen().count();
    assert!(tried <= 16 + 5, "{tried} requests to a CRM that is down");
    let held = site.ledger.paused().await.expect("a read");
    assert_eq!((held.len(), held[0].reason, held[0].times), (1, Reason::Unavailable, 1));
    assert_eq!(site.count(DeliveryState::Waiting, |_| true).await, 300);
    assert!(site.count(DeliveryState::Waiting, |row| row.attempts > 0).await <= 5);

    // Another start finds it held, and leaves it alone.
    site.drain().await;
    assert_eq!(crm.seen().count(), tried);

    crm.answers(|_, _| Answer::Status(200));
    site.ledger.resume("crm").await.expect("resumed");
    site.drain().await;
    let seen = crm.seen();
    assert!(seen.done.len() >= 295 && seen.done.values().all(|times| *times == 1), "{}", seen.done.len());
    let widths = &seen.widths[tried..];
    assert!(widths[0] == 1 && widths[..3].iter().all(|w| *w <= 2) && widths[..7].iter().all(|w| *w <= 4), "{widths:?}");
    assert_eq!(site.ledger.paused().await.expect("a read"), []);
}

#[tokio::test]
async fn a_record_that_fails_alone_holds_nobody_up() {
    let crm = Crm::start(|record, _| Answer::Status(if record.ends_with("13") { 500 } else { 200 })).await;
    let site = Site::new(&[("crm", &crm, "concurrency = 4")]);
    site.accept(&["crm"], 0..220).await;
    site.drain().await;
    assert_eq!(site.count(DeliveryState::Delivered, |_| true).await, 217);
    assert_eq!(site.count(DeliveryState::Waiting, |row| row.attempts == 1).await, 3, "13, 113 and 213");
    assert_eq!(site.ledger.paused().await.expect("a read"), []);
}

#[tokio::test]
async fn a_destination_that_hangs_with_all_its_places_taken_slows_no_other() {
    let (stuck, calm) = (Crm::start(|_, _| Answer::Hang).await, Crm::start(|_, _| Answer::Status(200)).await);
    let site = Site::new(&[("stuck", &stuck, "concurrency = 3"), ("calm", &calm, "concurrency = 3")]);
    site.accept(&["stuck", "calm"], 0..400).await;
    let stop = CancellationToken::new();
    let (service, token) = (site.service.clone(), stop.clone());
    let running = tokio::spawn(async move { service.drain(Duration::from_secs(1), token).await });
    // New work comes while the old waits, and is not behind it.
    stuck.until(|seen| seen.under_way == 3).await;
    site.accept(&["calm"], 400..500).await;
    calm.until(|seen| seen.done.len() == 500).await;
    let seen = stuck.seen();
    assert_eq!((seen.under_way, seen.count(), seen.done.len()), (3, 3, 0));
    stop.cancel();
    stuck.let_go();
    running.await.expect("an end").expect("no fault");
    assert_eq!(site.count(DeliveryState::Delivered, |row| row.destination == "calm").await, 500);
    assert_eq!(site.count(DeliveryState::Waiting, |row| row.destination == "stuck" && row.attempts == 0).await, 397);
}

#[tokio::test]
async fn a_limit_of_the_account_holds_all_for_as_long_as_it_says_and_counts_no_attempt() {
    let crm = Crm::start(|_, seen| if seen.count() == 10 { Answer::TooMany(1) } else { Answer::Status(200) }).await;
    let site = Site::new(&[("crm", &crm, "concurrency = 1")]);
    site.accept(&["crm"], 0..40).await;
    let begun = Instant::now();
    site.drain().await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(crm.seen().count(), 41);
    assert_eq!(site.count(DeliveryState::Delivered, |_| true).await, 40);
    assert_eq!(site.count(DeliveryState::Delivered, |row| row.attempts > 1).await, 0);
}

#[tokio::test]
async fn what_a_person_holds_stays_held_whatever_is_under_way() {
    let crm = Crm::start(|_, _| Answer::Hang).await;
    let site = Site::new(&[("crm", &crm, "concurrency = 2")]);
    site.accept(&["crm"], 0..50).await;
    let (service, stop) = (site.service.clone(), CancellationToken::new());
    let running = tokio::spawn(async move { service.drain(Duration::ZERO, stop).await });
    crm.until(|seen| seen.under_way == 2).await;
    // As `mail2crm pause` in another process.
    let other = Ledger::open(&site.dir.path().join("mail2crm.db")).expect("a ledger");
    other.pause("crm", "upgrade", Timestamp::now()).await.expect("paused");
    crm.let_go();
    running.await.expect("an end").expect("no fault");
    let done = crm.seen().done.len();
    assert!((2..50).contains(&done), "{done}");
    let held = site.ledger.paused().await.expect("a read");
    assert!(held[0].by_hand() && held[0].detail == "upgrade", "{held:?}");
    other.resume("crm").await.expect("resumed");
    site.drain().await;
    assert_eq!(crm.seen().done.len(), 50);
}

#[tokio::test]
async fn a_fallback_takes_what_is_certain_once_the_destination_was_down_for_long_and_never_twice() {
    let (down, other) = (Crm::start(|_, _| Answer::Status(503)).await, Crm::start(|_, _| Answer::Status(200)).await);
    let fallback = "fallback = { to = \"other\", after_hours = 4 }";
    let site = Site::new(&[("crm", &down, fallback), ("other", &other, "")]);
    site.accept(&["crm"], 0..30).await;
    let now = Timestamp::now();
    let held = |hours: i64| Paused {
        destination: "crm".to_owned(),
        since: now - SignedDuration::from_hours(hours),
        until: Some(now + SignedDuration::from_mins(10)),
        reason: Reason::Unavailable,
        detail: "HTTP status 503".to_owned(),
        times: 20,
    };
    // One of them may have taken effect: it waits for its own destination.
    let room = [("crm".to_owned(), 1)];
    let unclear = site.ledger.claim(1, &room, Duration::from_secs(60), now).await.expect("claimed").remove(0);
    let lost = Finished {
        delivery: unclear.delivery,
        lease: unclear.lease,
        next: Next::Back(now),
        reason: Reason::Timeout,
        uncertain: true,
        applied: Vec::new(),
        progress: None,
        attempt: None,
    };
    site.ledger.record(vec![lost], now).await.expect("recorded");

    site.ledger.hold(held(3)).await.expect("held");
    site.drain().await;
    assert_eq!((other.seen().count(), down.seen().count()), (0, 0), "not yet");

    site.ledger.resume("crm").await.expect("resumed");
    site.ledger.hold(held(5)).await.expect("held");
    site.drain().await;
    assert_eq!((other.seen().done.len(), down.seen().count()), (29, 0));
    let via = |row: &mail2crm::ledger::DeliveryRow| row.via.as_deref() == Some("other") && row.destination == "crm";
    assert_eq!(site.count(DeliveryState::Delivered, via).await, 29);
    assert_eq!(site.count(DeliveryState::Waiting, |row| row.uncertain && row.via.is_none()).await, 1);

    // The destination works again: what the other route did is not done again.
    down.answers(|_, _| Answer::Status(200));
    site.ledger.resume("crm").await.expect("resumed");
    site.drain().await;
    assert_eq!((other.seen().count(), down.seen().count()), (29, 1));
    assert_eq!(site.count(DeliveryState::Delivered, |_| true).await, 30);
}

#[tokio::test]
async fn what_a_fallback_refuses_waits_for_its_own_destination() {
    let (crm, other) = (Crm::start(|_, _| Answer::Status(200)).await, Crm::start(|_, _| Answer::Status(422)).await);
    let fallback = "fallback = { to = \"other\", after_hours = 1 }";
    let site = Site::new(&[("crm", &crm, fallback), ("other", &other, "")]);
    site.accept(&["crm"], 0..3).await;
    let now = Timestamp::now();
    let held = Paused {
        destination: "crm".to_owned(),
        since: now - SignedDuration::from_hours(2),
        until: Some(now + SignedDuration::from_mins(10)),
        reason: Reason::Unauthorized,
        detail: "HTTP status 401".to_owned(),
        times: 9,
    };
    site.ledger.hold(held).await.expect("held");
    site.drain().await;
    assert_eq!(other.seen().count(), 3, "each is tried once");
    assert_eq!(site.count(DeliveryState::Waiting, |row| row.via.is_none()).await, 3, "none is dead for it");
    site.ledger.resume("crm").await.expect("resumed");
    site.drain().await;
    assert_eq!((crm.seen().done.len(), other.seen().count()), (3, 3));
}
