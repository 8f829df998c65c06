//! What becomes of messages, sessions and their versions when they are accepted.

use super::*;
use DeliveryState::{Dead, Parked, Superseded, Waiting};
use Standing::{Duplicate, First, Newer, Older, Supplement};

#[tokio::test]
async fn a_message_is_committed_whole_and_known_the_second_time() {
    let world = World::new();
    let batch = || vec![message("INBOX/1/7", vec![session("1", Some(5), json!({ "out_ticket_id": "9" }))])];
    let position = |uid: &str| Some(("INBOX".to_owned(), uid.to_owned()));
    let accept = |position| world.ledger.accept(batch(), "support", position, Arc::new(ByDocument), at(1));
    let first = accept(position("7")).await.expect("accepted").remove(0);
    assert!(!first.known && first.deliveries == 1 && first.sessions == [(key("1"), First)]);
    let second = accept(position("8")).await.expect("accepted").remove(0);
    assert!(second.known && second.deliveries == 0 && second.sessions == [(key("1"), Duplicate)]);
    assert_eq!(second.message, first.message);
    let world = world.reopen();
    let raw = world.ledger.message_raw(first.message).await.expect("a read");
    assert_eq!(raw.as_deref(), Some("raw of INBOX/1/7".as_bytes()));
    let positions = world.ledger.positions("support").await.expect("a read");
    assert_eq!(positions.into_iter().collect::<Vec<_>>(), [("INBOX".to_owned(), "8".to_owned())]);
    assert_eq!(world.states().await, [("voice-1.1".to_owned(), Waiting)]);
    world.audit().await;
}

#[tokio::test]
async fn the_same_name_with_other_bytes_is_another_message() {
    let world = World::new();
    let first = world.accept(vec![message("export.json", vec![session("1", None, json!({}))])], 1).await;
    let mut other = message("export.json", vec![session("2", None, json!({}))]);
    (other.raw, other.raw_digest) = ("other".into(), hex("other"));
    let second = world.accept(vec![other], 1).await;
    assert!(!second[0].known && second[0].message != first[0].message);
    assert_eq!(second[0].sessions, [(key("2"), First)]);
    world.audit().await;
}

#[tokio::test]
async fn the_same_bytes_under_another_name_are_a_message_with_duplicates() {
    let world = World::new();
    let original = message("a", vec![session("1", Some(1), json!({ "out_ticket_id": "9" }))]);
    let mut copy = original.clone();
    copy.input = "b".to_owned();
    // Within one batch, too.
    let accepted = world.accept(vec![original, copy], 1).await;
    assert_eq!(accepted[0].sessions, [(key("1"), First)]);
    assert_eq!((accepted[1].known, &accepted[1].sessions[..]), (false, &[(key("1"), Duplicate)][..]));
    assert_eq!(world.states().await.len(), 1);
    world.audit().await;
}

#[tokio::test]
async fn versions_follow_the_rule() {
    let (a, b, c) = (json!({ "a": 1 }), json!({ "b": 1 }), json!({ "c": 1 }));
    let ab = json!({ "a": 1, "b": 1 });
    // Documents with their seconds, in order of arrival: standing of each, and the document that counts.
    type Story<'a> = (&'a str, Vec<(Option<i64>, &'a Value, Standing)>, &'a Value);
    let table: Vec<Story> = vec![
        ("newer wins", vec![(Some(1), &a, First), (Some(2), &b, Newer)], &b),
        ("older is recorded once", vec![(Some(2), &b, First), (Some(1), &a, Older), (Some(1), &a, Duplicate)], &b),
        ("equal age is merged", vec![(Some(1), &a, First), (Some(1), &b, Supplement)], &ab),
        (
            "what was merged is known",
            vec![(Some(1), &a, First), (Some(1), &b, Supplement), (Some(1), &b, Duplicate), (Some(1), &a, Duplicate)],
            &ab,
        ),
        (
            "… also when it has become old",
            vec![(Some(1), &a, First), (Some(1), &b, Supplement), (Some(2), &c, Newer), (Some(1), &b, Duplicate)],
            &c,
        ),
        ("no time is the oldest", vec![(Some(-9), &a, First), (None, &b, Older)], &a),
        ("… and as old as no time", vec![(None, &a, First), (None, &b, Supplement), (Some(-9), &c, Newer)], &c),
        ("a duplicate moves on", vec![(Some(1), &a, First), (Some(3), &a, Duplicate), (Some(2), &b, Older)], &a),
        ("… but never back", vec![(Some(3), &a, First), (Some(1), &a, Duplicate), (Some(2), &b, Older)], &a),
        ("changed back is news", vec![(Some(1), &a, First), (Some(2), &b, Newer), (Some(3), &a, Newer)], &a),
    ];
    for (what, steps, counts) in table {
        let world = World::new();
        for (i, (updated, document, standing)) in steps.into_iter().enumerate() {
            let got = world.one(&format!("m{i}"), "1", updated, document.clone(), 1).await;
            assert_eq!(got, standing, "{what}, step {i}");
            world.audit().await;
        }
        let story = world.ledger.session_story(&key("1")).await.expect("a read").expect("a session");
        let newest: Vec<_> = story.versions.iter().filter(|v| v.newest).map(|v| &v.document).collect();
        assert_eq!(newest, [counts], "{what}");
    }
}

#[tokio::test]
async fn times_compare_as_instants_to_the_microsecond() {
    let world = World::new();
    let mut early = session("1", None, json!({ "n": 1 }));
    early.updated_at = "2026-02-17T10:00:00.000001-06:00".parse().ok();
    let mut late = session("1", None, json!({ "n": 2 }));
    late.updated_at = "2026-02-17T16:00:00.000002Z".parse().ok();
    let accepted = world.accept(vec![message("a", vec![early]), message("b", vec![late])], 1).await;
    assert_eq!(accepted[1].sessions[0].1, Newer);
}

#[tokio::test]
async fn a_newer_version_takes_the_place_of_what_waits_and_is_parked_everywhere() {
    let world = World::new();
    world.one("a", "1", Some(1), json!({ "to": "rt zendesk" }), 1).await;
    world.one("b", "2", Some(1), json!({ "to": "rt files", "out_ticket_id": "7" }), 1).await;
    let (one, two) = ("voice-1".to_owned(), "voice-2".to_owned());
    world.one("c", "1", Some(2), json!({ "to": "rt", "out_ticket_id": "7" }), 2).await;
    world.one("d", "2", Some(2), json!({ "to": "rt", "out_ticket_id": "7" }), 2).await;
    assert_eq!(
        world.states().await,
        [
            (format!("{one}.1"), Superseded),
            (format!("{one}.1"), Superseded),
            (format!("{two}.1"), Superseded),
            (format!("{two}.1"), Superseded),
            (format!("{one}.2"), Waiting),
            (format!("{two}.2"), Waiting),
        ]
    );
    world.audit().await;
    // Both change record 7: one after the other, in the order of their making.
    let first = world.claim(9, 3).await;
    assert_eq!(sessions_of(&first), ["voice-1.2"]);
    world.record(delivered(&first[0]), 3).await;
    assert_eq!(sessions_of(&world.claim(9, 3).await), ["voice-2.2"]);
}

#[tokio::test]
async fn a_supplement_brings_the_record_id_to_a_parked_delivery() {
    let world = World::new();
    world.one("a", "1", Some(1), json!({ "note": "hello" }), 1).await;
    assert_eq!(world.states().await, [("voice-1.1".to_owned(), Parked)]);
    assert!(world.claim(9, 2).await.is_empty());
    assert_eq!(world.one("b", "1", Some(1), json!({ "note": null, "out_ticket_id": "7" }), 2).await, Supplement);
    let claimed = world.claim(9, 2).await;
    assert_eq!(claimed[0].record.as_deref(), Some("7"));
    let document: Value = serde_json::from_str(&claimed[0].document).expect("JSON");
    assert_eq!(document["note"], "hello", "null never takes the place of a value");
    assert_eq!(claimed[0].digest, version::digest(&document));
    world.audit().await;
}

#[tokio::test]
async fn a_leg_that_was_refused_is_dead_from_the_start_and_can_be_released() {
    let world = World::new();
    let accepted =
        world.accept(vec![message("a", vec![session("1", None, json!({ "out_ticket_id": "bad" }))])], 1).await;
    assert_eq!(accepted[0].deliveries, 0);
    let rows = world.ledger.deliveries(Filter::default()).await.expect("a list");
    assert_eq!(
        (rows[0].state, rows[0].reason.as_deref(), rows[0].detail.as_deref()),
        (Dead, Some("bad_record_id"), Some("no number"))
    );
    world.audit().await;
    let released = world.ledger.release(vec![rows[0].id], Some("12"), false, at(2)).await.expect("released");
    assert_eq!(released[0].after, Some(Waiting));
    assert_eq!(world.claim(1, 2).await[0].record.as_deref(), Some("12"));
}

#[tokio::test]
async fn a_planner_that_stops_takes_its_batch_along_and_nothing_else() {
    let world = World::new();
    world.one("0", "2", None, json!({ "out_ticket_id": "2" }), 0).await;
    let bad = vec![
        message("a", vec![session("1", None, json!({ "out_ticket_id": "1" }))]),
        message("b", vec![session("2", None, json!({ "out_ticket_id": "panic" }))]),
    ];
    let position = Some(("INBOX".to_owned(), "2".to_owned()));
    let fault = world.ledger.accept(bad, "support", position, Arc::new(ByDocument), at(1)).await.expect_err("a fault");
    assert!(fault.detail.contains("the planner stops"), "{fault}");
    assert_eq!(world.ledger.messages(Filter::default()).await.expect("a list").len(), 1);
    assert!(world.ledger.positions("support").await.expect("a read").is_empty());
    world.one("c", "3", None, json!({}), 1).await;
    world.audit().await;
}

#[tokio::test]
async fn a_quarantined_message_that_is_read_again_takes_the_same_way() {
    let world = World::new();
    let id = world.accept(vec![message("a", Vec::new())], 1).await[0].message;
    world.audit().await;
    let again = |now| {
        let better = message("a", vec![session("1", None, json!({ "out_ticket_id": "7" }))]);
        world.ledger.reprocess(id, better, Arc::new(ByDocument), at(now))
    };
    let accepted = again(2).await.expect("a write").expect("a message");
    assert_eq!((accepted.message, accepted.deliveries), (id, 1));
    assert!(again(3).await.expect("a write").is_none(), "processed is final");
    assert!(
        world
            .ledger
            .reprocess(MessageId(99), message("a", Vec::new()), Arc::new(ByDocument), at(3))
            .await
            .expect("a write")
            .is_none()
    );
    let story = world.ledger.message_story(id).await.expect("a read").expect("a message");
    assert_eq!((story.message.state, story.message.reason), (MessageState::Processed, None));
    assert_eq!(story.deliveries.len(), 1);
    world.audit().await;
}

#[tokio::test]
async fn the_dispatcher_is_woken_when_something_is_due_and_only_then() {
    use futures_util::FutureExt;
    let world = World::new();
    let due = world.ledger.waiting();
    let woken = || due.notified().now_or_never().is_some();
    world.one("a", "1", Some(1), json!({}), 1).await;
    assert!(!woken(), "parked is not due");
    world.one("b", "1", Some(2), json!({ "out_ticket_id": "7" }), 1).await;
    // The notice comes right after the answer: the next commit is surely behind it.
    world.one("c", "2", None, json!({}), 1).await;
    assert!(woken());
    assert!(!woken());
}
