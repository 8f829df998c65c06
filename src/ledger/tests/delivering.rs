//! What is claimed when, how attempts end, what a crash leaves, and what a person does.

use super::*;
use DeliveryState::{Dead, Delivered, Discarded, Parked, Superseded, Waiting};

/// Sessions with their records, each one message, all at once.
async fn with(world: &World, sessions: &[(&str, &str)]) {
    let batch = sessions
        .iter()
        .map(|(id, record)| message(id, vec![session(id, Some(1), json!({ "out_ticket_id": record }))]))
        .collect();
    world.accept(batch, 0).await;
}

#[tokio::test]
async fn a_record_is_changed_in_order_and_one_at_a_time_and_others_go_on() {
    let world = World::new();
    with(&world, &[("1", "A"), ("2", "A"), ("3", "B"), ("4", "A")]).await;
    let first = world.claim(9, 1).await;
    assert_eq!(sessions_of(&first), ["voice-1.1", "voice-3.1"]);
    assert!(world.claim(9, 1).await.is_empty(), "2 and 4 wait for 1");
    // In backoff it holds its record still.
    world.record(later(&first[0], 50), 1).await;
    assert!(world.claim(9, 49).await.is_empty());
    let again = world.claim(9, 50).await;
    assert_eq!((sessions_of(&again), again[0].attempts), (vec!["voice-1.1".to_owned()], 1));
    world.record(finished(&again[0], Next::Dead, Reason::RejectedPayload), 50).await;
    let second = world.claim(9, 50).await;
    assert_eq!(sessions_of(&second), ["voice-2.1"], "the dead one is out of the way");
    world.record(delivered(&second[0]), 51).await;
    assert_eq!(sessions_of(&world.claim(9, 51).await), ["voice-4.1"]);
    world.audit().await;
}

#[tokio::test]
async fn room_limit_and_pauses_are_kept_and_destinations_take_turns() {
    let world = World::new();
    let to = |to: &str, record: &str| json!({ "to": to, "out_ticket_id": record });
    for i in 0..6 {
        let busy = if i < 4 { "busy" } else { "calm" };
        world.one(&format!("m{i}"), &i.to_string(), None, to(busy, &i.to_string()), 0).await;
    }
    let all = [("busy", 9), ("calm", 9)];
    assert_eq!(world.claim_from(&all, 4, 1).await.iter().filter(|c| c.destination == "calm").count(), 2);
    let world = world.reopen();
    assert_eq!(world.ledger.recover(at(2)).await.expect("recovered"), 4);
    // One at a time: over some claims both come to their turn.
    let mut turns = Vec::new();
    for _ in 0..4 {
        turns.push(world.claim_from(&all, 1, 17).await.remove(0).destination);
    }
    assert!(turns.iter().any(|d| d == "busy") && turns.iter().any(|d| d == "calm"), "{turns:?}");
    world.ledger.recover(at(18)).await.expect("recovered");
    world.ledger.pause("busy", Reason::Unauthorized, "401", Some(at(50)), at(18)).await.expect("paused");
    let claimed = world.claim_from(&[("busy", 9), ("calm", 1)], 9, 33).await;
    assert_eq!(claimed.iter().map(|c| &c.destination[..]).collect::<Vec<_>>(), ["calm"]);
    let names = ["busy".to_owned()];
    assert_eq!(world.ledger.next_due(&names, at(33)).await.expect("a read"), Some(at(50)));
    assert_eq!(world.claim_from(&[("busy", 1)], 9, 50).await.len(), 1, "after the pause one may look again");
    assert_eq!(world.ledger.paused().await.expect("a read")[0].detail, "401");
    world.ledger.pause("busy", Reason::Paused, "by hand", None, at(60)).await.expect("paused");
    assert_eq!(world.ledger.next_due(&names, at(60)).await.expect("a read"), None);
    assert!(
        world.ledger.resume("busy").await.expect("resumed") && !world.ledger.resume("busy").await.expect("not twice")
    );
    assert_eq!(world.claim_from(&[("busy", 9)], 9, 61).await.len(), 3);
    world.audit().await;
}

#[tokio::test]
async fn new_work_is_not_starved_by_retries_nor_they_by_it() {
    let world = World::new();
    let old: Vec<String> = (0..8).map(|i| format!("{i}")).collect();
    with(&world, &old.iter().map(|id| (&id[..], &id[..])).collect::<Vec<_>>()).await;
    for claimed in world.claim(9, 1).await {
        world.record(later(&claimed, 10), 1).await;
    }
    let new: Vec<String> = (100..108).map(|i| format!("{i}")).collect();
    with(&world, &new.iter().map(|id| (&id[..], &id[..])).collect::<Vec<_>>()).await;
    let claimed = world.claim(8, 20).await;
    assert_eq!(claimed.iter().filter(|c| c.attempts == 0).count(), 4);
    let mut single = Vec::new();
    for _ in 0..4 {
        single.push(world.claim(1, 20).await.remove(0).attempts);
    }
    assert_eq!(single.iter().sum::<u32>(), 2, "one new and one old in turn, also one by one: {single:?}");
}

#[tokio::test]
async fn a_result_under_an_old_lease_is_refused_and_said() {
    let world = World::new();
    with(&world, &[("1", "A")]).await;
    let slow = world.claim(1, 0).await.remove(0);
    assert!(world.claim(1, 59).await.is_empty(), "still leased");
    assert!(world.claim(1, 60).await.is_empty(), "what it sent may still be under way");
    let fresh = world.claim(1, 75).await.remove(0);
    assert!(fresh.uncertain && fresh.attempts == 1 && fresh.lease > slow.lease);
    assert_eq!(world.record(delivered(&slow), 76).await, Recorded::Stale);
    assert_eq!(world.record(delivered(&fresh), 77).await, Recorded::As(Delivered));
    assert_eq!(world.record(delivered(&fresh), 77).await, Recorded::Stale, "and not twice");
    let story = world.ledger.delivery_story(fresh.delivery).await.expect("a read").expect("a delivery");
    let reasons: Vec<_> = story.attempts.iter().map(|attempt| &attempt.reason[..]).collect();
    assert_eq!(reasons, ["interrupted", "applied"]);
    assert_eq!(story.applied, [("update".to_owned(), fresh.digest.clone())]);
    assert_eq!(story.attempts[1].exchanges, json!([{ "step": "update", "status": 200 }]));
    world.audit().await;
}

#[tokio::test]
async fn after_a_restart_what_was_being_sent_waits_again_and_is_uncertain() {
    let world = World::new();
    with(&world, &[("1", "A"), ("2", "B"), ("3", "B")]).await;
    let claimed = world.claim(9, 1).await;
    world.record(delivered(&claimed[0]), 1).await;
    let world = world.reopen();
    // While it was away, a newer version of what is being sent came in.
    world.one("new", "2", Some(2), json!({ "out_ticket_id": "B", "n": 2 }), 2).await;
    world.audit().await;
    assert_eq!(world.ledger.recover(at(2)).await.expect("recovered"), 1);
    assert_eq!(world.ledger.recover(at(2)).await.expect("recovered"), 0);
    let states: Vec<_> = world.states().await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, [Delivered, Superseded, Waiting, Waiting]);
    assert!(world.claim(9, 16).await.is_empty(), "nor does a newer version overtake what may be under way");
    assert_eq!(sessions_of(&world.claim(9, 17).await), ["voice-3.1"]);
    world.audit().await;
    let world = world.reopen();
    world.ledger.recover(at(18)).await.expect("recovered");
    assert!(world.claim(1, 33).await[0].uncertain);
}

#[tokio::test]
async fn what_is_given_back_is_as_it_was_and_an_older_version_is_not_tried_again() {
    let world = World::new();
    with(&world, &[("1", "A")]).await;
    let claimed = world.claim(1, 1).await.remove(0);
    let back = finished(&claimed, Next::Back(at(5)), Reason::Paused);
    assert_eq!(world.record(back, 2).await, Recorded::As(Waiting));
    assert!(world.claim(1, 4).await.is_empty());
    let claimed = world.claim(1, 5).await.remove(0);
    assert_eq!((claimed.attempts, claimed.uncertain), (0, false));
    let mut unsure = later(&claimed, 6);
    unsure.uncertain = true;
    world.record(unsure, 5).await;
    let claimed = world.claim(1, 20).await.remove(0);
    assert!(claimed.uncertain);
    world.one("new", "1", Some(2), json!({ "out_ticket_id": "A", "n": 2 }), 20).await;
    assert!(world.claim(1, 20).await.is_empty(), "never two of one record at once");
    assert_eq!(world.record(later(&claimed, 21), 21).await, Recorded::As(Superseded));
    let newest = world.claim(1, 21).await.remove(0);
    assert_eq!(newest.version_number, 2);
    world.record(delivered(&newest), 22).await;
    world.audit().await;
}

#[tokio::test]
async fn what_was_applied_is_known_to_the_next_version_at_the_same_destination() {
    let world = World::new();
    with(&world, &[("1", "A")]).await;
    let claimed = world.claim(1, 1).await.remove(0);
    assert!(claimed.applied.is_empty());
    world.record(delivered(&claimed), 1).await;
    world.one("b", "1", Some(2), json!({ "out_ticket_id": "A", "to": "rt files" }), 2).await;
    let next = world.claim_from(&[("rt", 1), ("files", 1)], 9, 2).await;
    let applied = |destination: &str| next.iter().find(|c| c.destination == destination).map(|c| c.applied.clone());
    assert_eq!(applied("rt"), Some(vec![("update".to_owned(), claimed.digest)]));
    assert_eq!(applied("files"), Some(Vec::new()));
}

#[tokio::test]
async fn a_parked_delivery_is_released_by_hand_or_dies_at_its_deadline() {
    let world = World::new();
    for id in ["1", "2"] {
        world.one(id, id, None, json!({}), 0).await;
    }
    let ids: Vec<_> = world.ledger.deliveries(Filter::default()).await.expect("a list").iter().map(|d| d.id).collect();
    let deadline = at(0) + hours(72);
    assert_eq!(world.ledger.next_due(&[], at(1)).await.expect("a read"), Some(deadline));
    let handled = world.ledger.retry(ids.clone(), false, at(1)).await.expect("handled");
    assert!(handled.iter().all(|h| h.after.is_none() && h.detail.contains("release")));
    world.ledger.release(vec![ids[0]], Some("77"), false, at(1)).await.expect("released");
    assert_eq!(world.claim(9, 2).await[0].record.as_deref(), Some("77"));
    world.ledger.claim(9, &[], LEASE, deadline).await.expect("claimed");
    let dead = world.ledger.deliveries(Filter { state: Some(Dead), ..Filter::default() }).await.expect("a list");
    assert_eq!((dead.len(), dead[0].id, dead[0].reason.as_deref()), (1, ids[1], Some("no_record_id")));
    world.audit().await;
    let handled = world.ledger.retry(world.dead(Filter::default()).await, false, deadline).await.expect("handled");
    assert_eq!(handled[0].after, Some(Parked), "without a record there is nothing to try");
    world.audit().await;
}

#[tokio::test]
async fn dead_letters_are_retried_before_what_came_later_and_old_versions_never() {
    let world = World::new();
    with(&world, &[("1", "A"), ("2", "A"), ("3", "B")]).await;
    let first = world.claim(9, 1).await;
    for claimed in &first {
        world.record(finished(claimed, Next::Dead, Reason::RejectedPayload), 1).await;
    }
    world.one("new", "3", Some(2), json!({ "out_ticket_id": "B", "n": 2 }), 2).await;
    let all = world.dead(Filter { destination: Some("rt".to_owned()), ..Filter::default() }).await;
    let dry = world.ledger.retry(all.clone(), true, at(9)).await.expect("handled");
    let states = |handled: &[Handled<DeliveryId, DeliveryState>]| {
        let mut states: Vec<_> = handled.iter().map(|h| (h.id.0, h.before, h.after)).collect();
        states.sort_by_key(|state| state.0);
        states
    };
    let expected = [(1, Some(Dead), Some(Waiting)), (3, Some(Dead), Some(Superseded))];
    assert_eq!(states(&dry), expected);
    assert_eq!(world.states().await[0].1, Dead, "a dry run writes nothing");
    assert_eq!(states(&world.ledger.retry(all.clone(), false, at(9)).await.expect("handled")), expected);
    world.audit().await;
    let claimed = world.claim(9, 9).await;
    let mut both = sessions_of(&claimed);
    both.sort();
    assert_eq!(both, ["voice-1.1", "voice-3.2"], "2 waits for 1 again");
    let retried = claimed.iter().find(|c| c.key == key("1")).expect("the retried one");
    assert_eq!((retried.created_at, retried.since), (at(0), at(9)));
    world.audit().await;
}

#[tokio::test]
async fn what_is_discarded_stays_with_its_reason_and_lets_the_next_one_go() {
    let world = World::new();
    with(&world, &[("1", "A"), ("2", "A")]).await;
    let ids = vec![DeliveryId(1), DeliveryId(99)];
    let handled = world.ledger.discard(ids, "the customer asked", false, at(1)).await.expect("handled");
    assert_eq!((handled[0].after, handled[1].before), (Some(Discarded), None));
    assert_eq!(sessions_of(&world.claim(9, 1).await), ["voice-2.1"]);
    let handled = world.ledger.discard(vec![DeliveryId(2)], "", false, at(1)).await.expect("handled");
    assert!(handled[0].after.is_none() && handled[0].detail.contains("sending"));
    let story = world.ledger.delivery_story(DeliveryId(1)).await.expect("a read").expect("a delivery");
    assert_eq!(story.delivery.detail.as_deref(), Some("the customer asked"));
    world.audit().await;
}

#[tokio::test]
async fn the_next_moment_is_that_of_the_first_head_that_may_go() {
    let world = World::new();
    let next = async |now: i64| world.ledger.next_due(&["rt".to_owned()], at(now)).await.expect("a read");
    assert_eq!(next(0).await, None);
    with(&world, &[("1", "A"), ("2", "A"), ("3", "B")]).await;
    assert_eq!(next(0).await, Some(at(0)));
    let claimed = world.claim(9, 1).await;
    assert_eq!(next(1).await, None, "2 comes with the end of 1, not by itself");
    world.record(later(&claimed[0], 30), 1).await;
    world.record(later(&claimed[1], 20), 1).await;
    assert_eq!(next(1).await, Some(at(20)));
}

#[tokio::test]
async fn deliveries_that_are_done_as_something_else_are_refused() {
    let world = World::new();
    with(&world, &[("1", "A")]).await;
    let claimed = world.claim(1, 1).await.remove(0);
    let wrong = finished(&claimed, Next::Done(Parked), Reason::Applied);
    world.ledger.record(vec![wrong], at(1)).await.expect_err("a refusal");
    assert_eq!(world.record(delivered(&claimed), 1).await, Recorded::As(Delivered));
}
