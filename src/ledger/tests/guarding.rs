//! The brake, the end of raw mail, and what erasing a session leaves.

use super::*;

/// As `ByDocument`, with a brake of its own.
struct Careful(Brake);

impl Planner for Careful {
    fn legs_of(&self, session: &Session) -> Vec<Leg> {
        ByDocument.legs_of(session)
    }

    fn legs(&self, key: &SessionKey, document: &Value) -> Vec<Leg> {
        ByDocument.legs(key, document)
    }

    fn brake(&self) -> Brake {
        self.0
    }
}

const SMALL: Brake =
    Brake { window_ms: 600_000, repeats_per_record: 3, repeats_per_sender: 5, versions_per_session: 100 };

fn content(record: &str, n: i64) -> Value {
    json!({ "out_ticket_id": record, "note": format!("content {n}") })
}

impl World {
    /// One mail of a sender with one version of a session, under the small brake.
    async fn version(&self, sender: &str, id: &str, document: Value, now: i64) -> Accepted {
        let mut mail = message(&format!("{id}-{now}"), vec![session(id, Some(now), document)]);
        mail.sender = Some(sender.to_owned());
        let accepted = self.ledger.accept(vec![mail], "support", None, Arc::new(Careful(SMALL)), at(now)).await;
        accepted.expect("accepted").remove(0)
    }

    async fn last(&self) -> DeliveryRow {
        let newest = Filter { limit: Some(1), ..Filter::default() };
        self.ledger.deliveries(newest).await.expect("a list").remove(0)
    }
}

#[tokio::test]
async fn contents_that_come_back_are_held_back_and_distinct_ones_never() {
    let world = World::new();
    for n in 0..60 {
        assert!(world.version("a", "1", content("7", n), n).await.alarms.is_empty(), "distinct contents pass");
    }
    // From here on two contents take turns: 3 times they may come back.
    let mut alarms = Vec::new();
    for n in 60..66 {
        alarms.extend(world.version("a", "1", content("7", n % 2), n).await.alarms);
        let expected = if n < 63 { DeliveryState::Waiting } else { DeliveryState::Parked };
        assert_eq!(world.last().await.state, expected, "{n}");
    }
    assert_eq!(alarms.len(), 1, "one alarm a window: {alarms:?}");
    assert_eq!((alarms[0].destination.as_str(), alarms[0].record.as_str()), ("rt", "7"));
    let held = world.last().await;
    assert_eq!((held.reason.as_deref(), held.next_at), (Some("braked"), Some(at(60 + 600))));
    assert!(held.detail.expect("a sentence").contains("more than 3 contents came back to this record in 10 minutes"));
    // Another session of the record, another record, and a new content of the same session are not held.
    for (id, document) in [("2", content("7", 0)), ("3", content("8", 0)), ("1", content("7", 99))] {
        let accepted = world.version("a", id, document, 70).await;
        assert_eq!((accepted.deliveries, accepted.alarms.len()), (1, 0), "{id}");
    }
    let audit = world.ledger.audit().await.expect("an audit");
    assert!(audit.is_complete() && audit.braked == 0, "the new content took the held one's place: {audit}");
    world.audit().await;
}

#[tokio::test]
async fn what_is_held_back_goes_on_after_the_window_by_hand_and_after_a_restart() {
    let mut world = World::new();
    for n in 0..6 {
        world.version("a", "1", content("7", n % 2), n).await;
    }
    world = world.reopen();
    assert_eq!(world.last().await.state, DeliveryState::Parked);
    assert!(world.ledger.audit().await.expect("an audit").to_string().contains("BRAKE       1 deliveries held back"));
    assert!(world.claim(10, 500).await.is_empty(), "not within the window");
    let id = world.last().await.id;
    let tried = world.ledger.release(vec![id], None, true, at(10)).await.expect("a look");
    assert_eq!(tried[0].after, Some(DeliveryState::Waiting));
    assert_eq!(world.ledger.next_due(&["rt".to_owned()], at(10)).await.expect("a time"), Some(at(602)));
    let claimed = world.claim(10, 602).await;
    assert_eq!(sessions_of(&claimed), ["voice-1.6"], "the window has passed");
    world.record(delivered(&claimed[0]), 603).await;

    // The window of the first three is over, so three more may come back.
    for n in 700..704 {
        world.version("a", "1", content("7", n % 2), n).await;
    }
    let held = world.last().await;
    assert_eq!(held.state, DeliveryState::Parked);
    let done = world.ledger.release(vec![held.id], None, false, at(710)).await.expect("released");
    assert_eq!(done[0].after, Some(DeliveryState::Waiting), "{done:?}");
    assert_eq!(world.claim(10, 710).await.len(), 1);
    world.audit().await;
}

#[tokio::test]
async fn one_sender_and_one_session_are_held_too() {
    let world = World::new();
    for n in 0..12 {
        // Each record has its own session, so none has more than two repeats.
        let id = (n / 4).to_string();
        world.version("a", &id, content(&id, n % 2), n).await;
    }
    assert_eq!(world.last().await.reason.as_deref(), Some("braked"), "6 of one sender");
    assert!(world.last().await.detail.expect("a sentence").contains("from one sender"));
    for n in 12..15 {
        world.version("b", "9", content("9", n % 2), n).await;
    }
    assert_eq!(world.last().await.state, DeliveryState::Waiting, "another sender's");
    for n in 100..201 {
        world.version("c", "5", content("5", n), n).await;
    }
    assert!(world.last().await.detail.expect("a sentence").contains("more than 100 versions of one session"));
    world.audit().await;
}

#[tokio::test]
async fn raw_mail_goes_in_batches_and_what_a_person_must_see_stays() {
    let world = World::new();
    for n in 0..600 {
        let held = if n == 3 { Vec::new() } else { vec![session(&n.to_string(), Some(0), content("7", 0))] };
        world.accept(vec![message(&n.to_string(), held)], n).await;
    }
    let (mut next, mut messages, mut batches) = (Some(crate::ids::MessageId(0)), 0, 0);
    while let Some(after) = next {
        let swept = world.ledger.sweep_raws(after, at(500), at(900)).await.expect("swept");
        (next, messages, batches) = (swept.next, messages + swept.messages, batches + 1);
    }
    assert_eq!((messages, batches), (499, 2));
    let rows = world.ledger.messages(Filter::default()).await.expect("a list");
    for row in rows {
        let is_old = row.recorded_at < at(500) && row.state != MessageState::Quarantined;
        assert_eq!(row.raw_removed.as_deref(), is_old.then_some("retention"), "{}", row.input);
        assert_eq!(world.ledger.message_raw(row.id).await.expect("a read").is_none(), is_old);
    }
    assert_eq!(world.ledger.audit().await.expect("an audit").raws_removed, 499);
    world.audit().await;
}

#[tokio::test]
async fn what_is_finished_loses_its_contents_and_what_comes_again_is_known_all_the_same() {
    const SECRET: &str = "what she said";
    let world = World::new();
    let of = |id: &str, n: i64| session(id, Some(n), json!({ "out_ticket_id": id, "note": SECRET, "n": n }));
    // 1 is delivered in two versions, 2 is dead, 3 waits.
    world.accept(vec![message("1-1", vec![of("1", 1)])], 1).await;
    let claimed = world.claim(1, 1).await.remove(0);
    let mut result = delivered(&claimed);
    result.attempt.as_mut().expect("an attempt").exchanges = json!([{ "body": SECRET }]);
    world.record(result, 1).await;
    world.accept(vec![message("1-5", vec![of("1", 5)])], 2).await;
    let claimed = world.claim(1, 2).await.remove(0);
    world.record(delivered(&claimed), 2).await;
    world.accept(vec![message("bad", vec![of("bad2", 1)]), message("3", vec![of("3", 1)])], 3).await;
    let ledger = &world.ledger;
    let sweep = async |what, before| {
        let (mut next, mut removed) = (Some(0), 0);
        while let Some(after) = next {
            let batch = ledger.sweep_finished(what, after, at(before), at(900)).await.expect("swept");
            (next, removed) = (batch.next, removed + batch.removed);
        }
        removed
    };
    let texts = async || {
        let query = "SELECT count(*) FROM versions WHERE document LIKE '%she said%' \
                     UNION ALL SELECT count(*) FROM attempts WHERE exchanges LIKE '%she said%'";
        let read = ledger.read(move |sql| {
            Ok(sql
                .prepare_cached(query)?
                .query_map([], |row| row.get::<_, i64>(0))?
                .collect::<sql::Result<Vec<_>>>()?)
        });
        read.await.expect("counts")
    };
    assert_eq!((sweep(Done::Attempts, 1).await, texts().await), (0, vec![4, 1]), "too young");
    assert_eq!((sweep(Done::Attempts, 100).await, texts().await), (2, vec![4, 0]));
    assert_eq!(sweep(Done::Attempts, 100).await, 0);
    assert_eq!((sweep(Done::Sessions, 100).await, texts().await), (1, vec![2, 0]), "not the dead one, nor what waits");
    assert_eq!(sweep(Done::Sessions, 100).await, 0);
    assert_eq!(world.ledger.audit().await.expect("an account").emptied, 1);
    assert!(ledger.replayable(0, None, None).await.expect("a page").sessions.iter().all(|s| s.key != key("1")));

    // An old export comes again under other names: nothing follows from it.
    let again = world.accept(vec![message("x1", vec![of("1", 1)]), message("x5", vec![of("1", 5)])], 10).await;
    let other = session("1", Some(3), json!({ "out_ticket_id": "1", "note": "older" }));
    let older = world.accept(vec![message("x3", vec![other])], 11).await;
    let standings: Vec<_> = again.iter().chain(&older).map(|a| (a.sessions[0].1, a.deliveries)).collect();
    assert_eq!(standings, [(Standing::Duplicate, 0), (Standing::Duplicate, 0), (Standing::Older, 0)]);
    // Other content of the same moment is all there is; a newer version has its content again.
    let same = session("1", Some(5), json!({ "out_ticket_id": "1", "note": "more" }));
    let more = world.accept(vec![message("s", vec![same]), message("n", vec![of("1", 9)])], 12).await;
    let standings: Vec<_> = more.iter().map(|a| (a.sessions[0].1, a.deliveries)).collect();
    assert_eq!(standings, [(Standing::Supplement, 1), (Standing::Newer, 1)]);
    assert!(ledger.whole(&key("1")).await.expect("a read").expect("it").document.contains(SECRET));
    world.audit().await;
}

#[tokio::test]
async fn an_erased_session_is_gone_from_the_files_and_the_rest_still_adds_up() {
    const SECRET: &str = "she-told-us-her-secret";
    let world = World::new();
    let secret = |n: i64| json!({ "out_ticket_id": "7", "note": format!("{SECRET} {n} {}", "x".repeat(300)) });
    for n in 0..300 {
        let mut sessions = vec![session("1", Some(n), secret(n))];
        if n % 3 == 0 {
            sessions.push(session(&format!("other-{n}"), Some(n), content("7", n)));
        }
        let mut mail = message(&format!("metadata-1-{n}"), sessions);
        mail.raw = format!("{SECRET} in raw {n} {}", "y".repeat(usize::try_from(n * 97).expect("a size"))).into();
        mail.raw_digest = hex(&format!("{n}"));
        world.accept(vec![mail], n).await;
        if n == 0 {
            let claimed = world.claim(10, n).await;
            let mut result = later(&claimed[0], 110);
            result.attempt.as_mut().expect("an attempt").exchanges = json!([{ "body": SECRET }]);
            world.record(result, n).await;
        }
    }
    let holds_it = |world: &World| {
        let files = std::fs::read_dir(world.dir.path()).expect("a folder");
        files
            .map(|f| std::fs::read(f.expect("a file").path()).expect("bytes"))
            .any(|bytes| memchr::memmem::find(&bytes, SECRET.as_bytes()).is_some())
    };
    assert!(holds_it(&world));
    let looked = world.ledger.erase(&key("1"), true, at(900)).await.expect("a look").expect("the session");
    assert!(!looked.erased && holds_it(&world));
    let erased = world.ledger.erase(&key("1"), false, at(900)).await.expect("erased").expect("the session");
    assert_eq!((erased.versions, erased.found, erased.messages.len(), erased.shared.len()), (300, 300, 300, 100));
    assert_eq!((erased.deliveries.len(), erased.attempts, erased.overwritten), (300, 1, true));
    assert_eq!(Erased { erased: false, overwritten: false, rewritten: false, ..erased }, looked);
    assert!(!holds_it(&world), "the bytes are still in the files");
    assert!(world.ledger.session_story(&key("1")).await.expect("a read").is_none());
    assert!(world.ledger.erase(&key("1"), false, at(901)).await.expect("a look").is_none());
    world.audit().await;
    let audit = world.ledger.audit().await.expect("an audit");
    assert_eq!((audit.erased, audit.raws_removed, audit.sessions), (1, 300, 100));

    // What stood behind it in the line of its record comes forward.
    assert_eq!(world.claim(10, 901).await.len(), 1);
    // The same mail again is a new session.
    let standing = world.one("metadata-1-0", "1", Some(0), secret(0), 902).await;
    assert_eq!(standing, Standing::First);
    world.audit().await;
}
