//! Records that are found, that lead to others, and that sessions leave.

use super::*;
use crate::connector::Candidate;
use DeliveryState::{Dead, Delivered, Sending, Superseded, Waiting};

/// As `ByDocument`, at destinations whose records are looked up.
struct LooksUp;

impl Planner for LooksUp {
    fn legs_of(&self, session: &Session) -> Vec<Leg> {
        ByDocument.legs_of(session)
    }

    fn legs(&self, key: &SessionKey, document: &Value) -> Vec<Leg> {
        ByDocument.legs(key, document)
    }

    fn parking(&self, _: &str) -> Parking {
        Parking { for_ms: 10_000_000, look_up: true }
    }
}

impl World {
    async fn looking(&self, input: &str, id: &str, updated: i64, document: Value, now: i64) -> usize {
        let batch = vec![message(input, vec![session(id, Some(updated), document)])];
        let accepted = self.ledger.accept(batch, "support", None, Arc::new(LooksUp), at(now)).await.expect("accepted");
        accepted[0].deliveries
    }

    async fn story(&self, claimed: &Claimed) -> DeliveryStory {
        self.ledger.delivery_story(claimed.delivery).await.expect("a read").expect("a story")
    }
}

fn moved(claimed: &Claimed, record: &str) -> Finished {
    let next = Next::Moved { record: record.to_owned(), how: format!("found {record}") };
    finished(claimed, next, Reason::RecordMerged)
}

fn again(claimed: &Claimed, until: i64, next: i64, candidates: &[&str]) -> Finished {
    let candidates = candidates.iter().map(|r| Candidate { record: (*r).to_owned(), label: "open".to_owned() });
    let candidates: Vec<Candidate> = candidates.collect();
    let reason = if candidates.is_empty() { Reason::NoRecordId } else { Reason::RecordAmbiguous };
    finished(claimed, Next::Again { until: at(until), at: at(next), candidates }, reason)
}

fn no_record() -> Value {
    json!({ "a": 1 })
}

#[tokio::test]
async fn a_record_is_looked_for_at_once_and_again_until_one_is_found() {
    let world = World::new();
    assert_eq!(world.looking("m", "1", 1, no_record(), 0).await, 1, "there is something to do");
    assert_eq!(world.ledger.next_due(&["rt".to_owned()], at(0)).await.expect("a read"), Some(at(0)));
    let first = world.claim(9, 0).await.remove(0);
    assert_eq!(first.record, None);
    world.audit().await;
    world.record(again(&first, 500, 60, &[]), 1).await;
    world.audit().await;
    assert!(world.claim(9, 59).await.is_empty());
    assert_eq!(world.ledger.next_due(&["rt".to_owned()], at(1)).await.expect("a read"), Some(at(60)));
    let second = world.claim(9, 60).await.remove(0);
    assert_eq!(second.attempts, 1);
    world.record(moved(&second, "R"), 61).await;
    world.audit().await;
    let third = world.claim(9, 61).await.remove(0);
    assert_eq!(third.record.as_deref(), Some("R"));
    world.record(delivered(&third), 62).await;
    let story = world.story(&third).await;
    assert_eq!((story.moves[0].from.as_deref(), story.moves[0].to.as_str()), (None, "R"));
    assert_eq!(story.delivery.look_at, None);
    // A later version that names none goes where the former one was found to belong.
    world.looking("n", "1", 2, json!({ "a": 2 }), 70).await;
    let fourth = world.claim(9, 70).await.remove(0);
    assert_eq!(fourth.record.as_deref(), Some("R"));
    world.audit().await;
}

#[tokio::test]
async fn several_candidates_wait_for_a_person_and_expire_as_what_they_are() {
    let world = World::new();
    for id in ["1", "2"] {
        world.looking(id, id, 1, no_record(), 0).await;
    }
    for claimed in world.claim(9, 0).await {
        world.record(again(&claimed, 500, 100, &["A", "B"]), 1).await;
    }
    let rows = world.ledger.deliveries(Filter::default()).await.expect("a list");
    assert_eq!(rows[0].candidates.iter().map(|c| c.record.as_str()).collect::<Vec<_>>(), ["A", "B"]);
    assert_eq!(rows[0].reason.as_deref(), Some("record_ambiguous"));
    assert_eq!(world.ledger.audit().await.expect("an audit").ambiguous, 2);
    let released = world.ledger.release(vec![rows[0].id], Some("A"), false, at(50)).await.expect("released");
    assert_eq!(released[0].after, Some(Waiting));
    let claimed = world.claim(9, 50).await.remove(0);
    assert_eq!(claimed.record.as_deref(), Some("A"));
    let story = world.story(&claimed).await;
    assert!(story.delivery.candidates.is_empty() && story.moves[0].how.contains("by hand"), "{story:?}");
    world.record(delivered(&claimed), 51).await;
    // The other one: looked for again, then over its deadline.
    let other = world.claim(9, 100).await.remove(0);
    world.record(again(&other, 500, 500, &["A", "B"]), 101).await;
    assert!(world.claim(9, 500).await.is_empty());
    let row = world.story(&other).await.delivery;
    assert_eq!((row.state, row.reason.as_deref(), row.candidates.len()), (Dead, Some("record_ambiguous"), 2));
    world.audit().await;
}

#[tokio::test]
async fn parked_ones_are_looked_for_once_look_ups_are_turned_on() {
    let world = World::new();
    world.one("m", "1", Some(1), no_record(), 0).await;
    assert!(world.claim(9, 1).await.is_empty());
    assert_eq!(world.ledger.look_for(vec!["rt".to_owned(), "x".to_owned()], at(2)).await.expect("a write"), 1);
    assert_eq!(world.claim(9, 2).await.len(), 1);
    assert_eq!(world.states().await, [("voice-1.1".to_owned(), Sending)]);
}

#[tokio::test]
async fn a_delivery_that_is_led_on_takes_its_turn_at_the_other_record_and_frees_its_own() {
    let world = World::new();
    for (id, record) in [("1", "A"), ("2", "A"), ("3", "B"), ("4", "B")] {
        world.one(id, id, Some(1), json!({ "out_ticket_id": record }), 0).await;
    }
    let claimed = world.claim(9, 1).await;
    assert_eq!(sessions_of(&claimed), ["voice-1.1", "voice-3.1"]);
    // A was merged into B while B is being written to.
    world.record(moved(&claimed[0], "B"), 2).await;
    world.audit().await;
    let next = world.claim(9, 2).await;
    assert_eq!(sessions_of(&next), ["voice-2.1"], "B is being written to; A goes on");
    world.record(moved(&next[0], "B"), 3).await;
    world.record(delivered(&claimed[1]), 4).await;
    for expected in ["voice-1.1", "voice-2.1", "voice-4.1"] {
        let next = world.claim(9, 5).await;
        assert_eq!((sessions_of(&next), next[0].record.as_deref()), (vec![expected.to_owned()], Some("B")));
        world.record(delivered(&next[0]), 5).await;
    }
    world.audit().await;
}

#[tokio::test]
async fn a_chain_of_merges_ends_and_a_circle_too() {
    let world = World::new();
    world.one("m", "1", Some(1), json!({ "out_ticket_id": "A" }), 0).await;
    for record in ["B", "A"] {
        let claimed = world.claim(9, 1).await.remove(0);
        world.record(moved(&claimed, record), 1).await;
    }
    assert_eq!(world.states().await, [("voice-1.1".to_owned(), Dead)]);
    world.one("n", "2", Some(1), json!({ "out_ticket_id": "R0" }), 2).await;
    for n in 1..=9 {
        let claimed = world.claim(9, 3).await.remove(0);
        world.record(moved(&claimed, &format!("R{n}")), 3).await;
    }
    assert!(world.claim(9, 4).await.is_empty());
    assert_eq!(world.states().await[1].1, Dead);
    world.audit().await;
}

#[tokio::test]
async fn a_later_version_goes_straight_to_where_the_record_led_and_another_session_asks_anew() {
    let world = World::new();
    let document = |n: i64| json!({ "out_ticket_id": "A", "n": n });
    world.one("m1", "1", Some(1), document(1), 0).await;
    for record in ["F", "G"] {
        let claimed = world.claim(9, 1).await.remove(0);
        world.record(moved(&claimed, record), 1).await;
    }
    let claimed = world.claim(9, 2).await.remove(0);
    world.record(delivered(&claimed), 2).await;
    world.one("m2", "1", Some(2), document(2), 3).await;
    let claimed = world.claim(9, 3).await.remove(0);
    assert_eq!(claimed.record.as_deref(), Some("G"));
    assert_eq!(world.story(&claimed).await.delivery.moved_from, None, "it did not move by itself");
    world.record(delivered(&claimed), 3).await;
    world.one("m3", "2", Some(1), document(1), 4).await;
    assert_eq!(world.claim(9, 4).await.remove(0).record.as_deref(), Some("A"));
    world.audit().await;
}

#[tokio::test]
async fn a_session_that_moves_is_never_written_to_both_records_at_once() {
    let world = World::new();
    world.one("m1", "1", Some(1), json!({ "out_ticket_id": "A" }), 0).await;
    let first = world.claim(9, 0).await.remove(0);
    let batch = vec![message("m2", vec![session("1", Some(2), json!({ "out_ticket_id": "B" }))])];
    let accepted = world.accept(batch, 1).await.remove(0);
    let expected = Moved { session: key("1"), destination: "rt".into(), from: "A".into(), to: "B".into() };
    assert_eq!(accepted.moved, [expected]);
    assert!(world.claim(9, 1).await.is_empty(), "A is being written to");
    world.record(delivered(&first), 2).await;
    let second = world.claim(9, 2).await.remove(0);
    assert_eq!(second.record.as_deref(), Some("B"));
    assert_eq!(world.story(&second).await.delivery.moved_from.as_deref(), Some("A"));
    world.record(delivered(&second), 3).await;
    assert_eq!(world.states().await, [("voice-1.1".to_owned(), Delivered), ("voice-1.2".to_owned(), Delivered)]);
    assert_eq!(world.ledger.audit().await.expect("an audit").moved, 1);
    world.audit().await;
}

#[tokio::test]
async fn what_waits_for_the_former_record_is_superseded_and_a_crash_there_holds_the_session_back() {
    let world = World::new();
    world.one("m1", "1", Some(1), json!({ "out_ticket_id": "A" }), 0).await;
    world.one("m2", "1", Some(2), json!({ "out_ticket_id": "B" }), 1).await;
    assert_eq!(world.states().await[0].1, Superseded);
    assert_eq!(world.ledger.audit().await.expect("an audit").moved, 0, "it was never at A");
    assert_eq!(world.claim(9, 1).await.len(), 1);
    world.one("m3", "1", Some(3), json!({ "out_ticket_id": "C" }), 2).await;
    let world = world.reopen();
    world.ledger.recover(at(3)).await.expect("recovered");
    assert!(world.claim(9, 10).await.is_empty(), "what was sent to B may still be under way");
    let third = world.claim(9, 18).await.remove(0);
    assert_eq!(third.record.as_deref(), Some("C"));
    let states: Vec<_> = world.states().await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, [Superseded, Superseded, Sending]);
    assert_eq!(world.story(&third).await.delivery.moved_from.as_deref(), Some("B"));
    world.record(delivered(&third), 19).await;
    world.audit().await;
}
