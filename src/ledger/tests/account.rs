//! Lists, stories, and the audit: it must be silent when all is well, and name what somebody broke.

use super::*;

async fn a_small_world() -> World {
    let world = World::new();
    world.one("a", "1", Some(1), json!({ "out_ticket_id": "A" }), 1).await;
    let claimed = world.claim(1, 1).await.remove(0);
    world.record(delivered(&claimed), 1).await;
    world.one("b", "1", Some(2), json!({ "out_ticket_id": "A", "n": 2 }), 2).await;
    world.one("c", "2", Some(1), json!({ "out_ticket_id": "B", "to": "rt files" }), 3).await;
    world.one("d", "1", Some(2), json!({ "out_ticket_id": "A", "n": 2 }), 4).await;
    world.accept(vec![message("e", Vec::new())], 5).await;
    world
}

#[tokio::test]
async fn lists_are_narrowed_by_each_of_their_filters() {
    let world = a_small_world().await;
    let ledger = &world.ledger;
    let messages = async |filter| -> Vec<String> {
        ledger.messages(filter).await.expect("a list").into_iter().map(|m| m.input).collect()
    };
    assert_eq!(messages(Filter::default()).await, ["e", "d", "c", "b", "a"]);
    assert_eq!(messages(Filter { limit: Some(2), ..Filter::default() }).await, ["e", "d"]);
    assert_eq!(messages(Filter { state: Some(MessageState::Quarantined), ..Filter::default() }).await, ["e"]);
    assert_eq!(messages(Filter { session: Some(key("1")), ..Filter::default() }).await, ["d", "b", "a"]);
    assert_eq!(messages(Filter { destination: Some("files".to_owned()), ..Filter::default() }).await, ["c"]);
    assert_eq!(messages(Filter { record: Some("A".to_owned()), ..Filter::default() }).await, ["b", "a"]);
    assert_eq!(messages(Filter { since: Some(at(3)), until: Some(at(5)), ..Filter::default() }).await, ["d", "c"]);
    assert!(messages(Filter { source: Some("other".to_owned()), ..Filter::default() }).await.is_empty());
    let both =
        Filter { session: Some(key("1")), source: Some("support".to_owned()), since: Some(at(2)), ..Filter::default() };
    assert_eq!(messages(both).await, ["d", "b"]);

    let sessions = async |filter| -> Vec<String> {
        ledger.sessions(filter).await.expect("a list").into_iter().map(|s| s.key).collect()
    };
    assert_eq!(sessions(Filter::default()).await, ["voice-2", "voice-1"]);
    assert_eq!(sessions(Filter { state: Some(DeliveryState::Delivered), ..Filter::default() }).await, ["voice-1"]);
    let there =
        Filter { destination: Some("files".to_owned()), source: Some("support".to_owned()), ..Filter::default() };
    assert_eq!(sessions(there).await, ["voice-2"]);
    assert_eq!(
        sessions(Filter { record: Some("B".to_owned()), session: Some(key("2")), ..Filter::default() }).await,
        ["voice-2"]
    );

    let deliveries = async |filter| -> Vec<i64> {
        ledger.deliveries(filter).await.expect("a list").into_iter().map(|d| d.id.0).collect()
    };
    assert_eq!(deliveries(Filter::default()).await, [4, 3, 2, 1]);
    assert_eq!(deliveries(Filter { state: Some(DeliveryState::Waiting), ..Filter::default() }).await, [4, 3, 2]);
    let narrow =
        Filter { session: Some(key("1")), source: Some("support".to_owned()), since: Some(at(2)), ..Filter::default() };
    assert_eq!(deliveries(narrow).await, [2]);
    assert_eq!(
        deliveries(Filter { record: Some("B".to_owned()), destination: Some("rt".to_owned()), ..Filter::default() })
            .await,
        [3]
    );
}

#[tokio::test]
async fn a_story_tells_where_each_value_came_from_and_every_attempt() {
    let world = a_small_world().await;
    let story = world.ledger.session_story(&key("1")).await.expect("a read").expect("a session");
    let standings: Vec<_> = story.found.iter().map(|f| (f.standing, f.version_number)).collect();
    assert_eq!(standings, [(Standing::First, 1), (Standing::Newer, 2), (Standing::Duplicate, 2)]);
    assert_eq!(story.versions.iter().map(|v| v.newest).collect::<Vec<_>>(), [false, true]);
    assert_eq!(
        story.session.deliveries.into_iter().collect::<Vec<_>>(),
        [("delivered".to_owned(), 1), ("waiting".to_owned(), 1)]
    );
    assert_eq!(
        story.found[0].evidence,
        json!({ "out_ticket_id": { "how": "json_document", "where": "a.json#/out_ticket_id" } })
    );
    assert_eq!(story.found[0].warnings, ["rating 5 is outside the documented 1-4"]);
    assert_eq!(story.deliveries[0].attempts[0].duration_ms, 12);
    let message = world.ledger.message_story(MessageId(2)).await.expect("a read").expect("a message");
    assert_eq!((message.raw_bytes, message.found.len(), message.deliveries.len()), (8, 1, 1));
    let printed = serde_json::to_value(&message).expect("JSON");
    assert_eq!(printed["deliveries"][0]["state"], "waiting");
    assert_eq!(printed["message"]["sessions"], json!(["voice-1"]));
    let version = world.ledger.version(VersionId(2)).await.expect("a read").expect("a version");
    assert_eq!((version.number, &version.document["n"]), (2, &json!(2)));
    assert!(world.ledger.session_story(&key("9")).await.expect("a read").is_none());
    assert!(world.ledger.delivery_story(DeliveryId(99)).await.expect("a read").is_none());
}

#[tokio::test]
async fn a_message_is_discarded_with_a_note_and_only_from_quarantine() {
    let world = a_small_world().await;
    let ids = vec![MessageId(1), MessageId(5), MessageId(99)];
    let handled = world.ledger.message_discard(ids, "spam").await.expect("handled");
    assert_eq!(handled.iter().map(|h| h.after).collect::<Vec<_>>(), [None, Some(MessageState::Discarded), None]);
    let story = world.ledger.message_story(MessageId(5)).await.expect("a read").expect("a message");
    assert_eq!(
        (story.message.note.as_deref(), story.message.reason.as_deref()),
        (Some("spam"), Some("malformed_metadata"))
    );
    world.audit().await;
}

#[tokio::test]
async fn the_audit_counts_every_row_once() {
    let world = a_small_world().await;
    let audit = world.ledger.audit().await.expect("an audit");
    assert!(audit.is_complete(), "{:?}", audit.gaps);
    assert_eq!((audit.messages["processed"], audit.messages["quarantined"], audit.messages["ignored"]), (4, 1, 0));
    assert_eq!((audit.deliveries["delivered"], audit.deliveries["waiting"]), (1, 3));
    assert_eq!((audit.sessions, audit.versions, audit.found["duplicate"]), (2, 3, 1));
}

#[tokio::test]
async fn the_audit_names_what_somebody_broke() {
    let broken = [
        ("DELETE FROM found WHERE message = 4", "a processed message has no session"),
        ("UPDATE messages SET state = 'ignored' WHERE id = 1", "is not processed has sessions"),
        ("UPDATE messages SET reason = NULL WHERE id = 5", "has no reason"),
        ("DELETE FROM raws WHERE message = 5", "no raw bytes"),
        ("UPDATE found SET place = 3 WHERE message = 2", "without a hole"),
        ("UPDATE found SET session = 2 WHERE message = 1", "version of another session"),
        ("UPDATE found SET standing = 'duplicate' WHERE message = 1", "found in no message"),
        ("UPDATE sessions SET newest = 7 WHERE id = 1", "the version that counts"),
        ("UPDATE sessions SET newest = 1 WHERE id = 1", "is not the newest"),
        ("UPDATE sessions SET updated_us = NULL WHERE id = 1", "of a later moment"),
        ("UPDATE versions SET number = 9 WHERE id = 2", "numbered from 1"),
        ("DELETE FROM deliveries WHERE id = 4", "for each of its legs"),
        ("UPDATE deliveries SET session = 2 WHERE id = 1", "carries a version of another"),
        ("UPDATE deliveries SET version = 1 WHERE id = 2", "no longer counts"),
        ("UPDATE deliveries SET next_at = NULL WHERE id = 2", "no time to be tried"),
        ("UPDATE deliveries SET leased_until = 1 WHERE id = 2", "has no lease"),
        ("UPDATE deliveries SET record = NULL WHERE id = 2", "has no record"),
        ("UPDATE deliveries SET head = 0 WHERE id = 2", "no head"),
        ("UPDATE deliveries SET reason = NULL WHERE id = 1", "ended has no reason"),
        ("DELETE FROM attempts", "without an attempt"),
        ("UPDATE deliveries SET attempts = 0 WHERE id = 1", "more attempts"),
        ("DELETE FROM messages WHERE id = 3", "is not there"),
        ("INSERT INTO progress (delivery, step, digest, applied) VALUES (1, 's', 'd', 1)", "has progress"),
        (
            "UPDATE deliveries SET state = 'superseded', next_at = NULL, head = 0, reason = 'superseded' WHERE id = 3",
            "taken for replaced",
        ),
        ("UPDATE deliveries SET session = 1, version = 2, record = 'A', lane = 'A' WHERE id = 3", "more than once"),
        ("UPDATE deliveries SET head = 1 WHERE id = 1", "in which it does not wait"),
        ("UPDATE deliveries SET lane = 'C' WHERE id = 3", "line of another record"),
        ("UPDATE attempts SET outcome = 'deferred'", "no attempt says so"),
        ("UPDATE deliveries SET attempts = 2, lease = 2 WHERE id = 1", "fewer attempts"),
        ("UPDATE applied SET destination = 'files'", "another session or destination"),
        ("UPDATE versions SET standing = 'newer' WHERE number = 1", "no first version"),
        ("UPDATE versions SET document = '' WHERE id = 3", "nothing says that it was removed"),
        ("UPDATE sessions SET content_removed_at = 1", "before all of it had ended"),
    ];
    for (statement, rule) in broken {
        let world = a_small_world().await;
        world.break_in(statement).await;
        let audit = world.ledger.audit().await.expect("an audit");
        assert!(
            audit.gaps.iter().any(|gap| gap.rule.contains(rule) && !gap.rows.is_empty()),
            "{statement}: {:#?}",
            audit.gaps
        );
    }
}
