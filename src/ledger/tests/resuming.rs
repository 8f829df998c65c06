//! What is known of a delivery before its end: kept, given back, doubted, and gone.

use super::*;
use crate::connector::StepDone;
use DeliveryState::{Dead, Superseded, Waiting};

fn step(step: &str, digest: &str) -> StepDone {
    StepDone {
        step: step.to_owned(),
        digest: digest.to_owned(),
        at: at(3),
        applied: step != "upload",
        captures: Some(json!({ "token": "Ada's" }).as_object().cloned().unwrap_or_default()),
        partial: (step == "update").then(|| (Reason::Partial, "a field was refused".to_owned())),
    }
}

fn done(done: Vec<StepDone>) -> Progress {
    Progress { done, ..Progress::default() }
}

/// One session of record A, claimed.
async fn claimed(world: &World) -> Claimed {
    world.one("1", "1", Some(1), json!({ "out_ticket_id": "A" }), 0).await;
    world.claim(1, 1).await.remove(0)
}

#[tokio::test]
async fn after_a_crash_what_was_done_is_given_back_and_it_is_gone_with_the_end() {
    let world = World::new();
    let first = claimed(&world).await;
    assert_eq!(first.progress, Progress::default());
    let before = world.ledger.commits();
    world.ledger.note_progress(first.delivery, first.lease, done(vec![step("upload", "u")]), false);
    world.ledger.note_progress(first.delivery, first.lease, done(vec![step("update", "d")]), false);
    world.ledger.note_progress(first.delivery, first.lease + 1, done(vec![step("late", "x")]), false);
    world.one("2", "2", Some(1), json!({ "out_ticket_id": "B" }), 2).await;
    assert_eq!(world.ledger.commits(), before + 1, "nobody's commit is its own");
    let world = world.reopen();
    world.ledger.recover(at(9)).await.expect("recovered");
    let second = world.claim(9, 24).await.into_iter().find(|c| c.delivery == first.delivery).expect("it waits again");
    assert_eq!(second.progress, done(vec![step("update", "d"), step("upload", "u")]));
    assert_eq!(second.applied, [("update".to_owned(), "d".to_owned())]);
    world.record(Finished { progress: Some(done(vec![step("note", "n")])), ..later(&second, 30) }, 25).await;
    let third = world.claim(9, 30).await.remove(0);
    assert_eq!(third.progress.done.len(), 3, "a retry goes on from it too");
    world.audit().await;
    world.record(delivered(&third), 31).await;
    let rows =
        world.ledger.read(|sql| Ok(sql.query_row("SELECT count(*) FROM progress", [], |row| row.get::<_, i64>(0))?));
    assert_eq!(rows.await.expect("a read"), 0);
    world.audit().await;
}

#[tokio::test]
async fn a_step_that_must_not_be_repeated_is_written_down_first_and_only_by_who_holds_the_lease() {
    let world = World::new();
    let first = claimed(&world).await;
    let begin = |c: &Claimed| world.ledger.begin_once(c.delivery, c.lease, "mail", "m", vec![step("upload", "u")]);
    assert!(begin(&first).await.expect("written"));
    world.ledger.recover(at(2)).await.expect("recovered");
    assert!(!begin(&first).await.expect("an answer"), "the lease is gone");
    let second = world.claim(1, 17).await.remove(0);
    assert_eq!(second.progress.in_flight.as_deref(), Some("mail"));
    assert_eq!(second.progress.done, [step("upload", "u")]);
    // Who was not tried knows nothing new.
    let back = Finished { progress: None, ..finished(&second, Next::Back(at(18)), Reason::Paused) };
    world.record(Finished { uncertain: true, ..back }, 18).await;
    let third = world.claim(1, 18).await.remove(0);
    assert_eq!(third.progress.in_flight.as_deref(), Some("mail"));
    let in_flight = Some("mail".to_owned());
    let dead = finished(&third, Next::Dead, Reason::Uncertain);
    world
        .record(Finished { progress: Some(Progress { in_flight, ..done(Vec::new()) }), uncertain: true, ..dead }, 19)
        .await;
    // A person decides.
    let handled = world.ledger.retry(vec![first.delivery], false, at(40)).await.expect("handled");
    assert_eq!((handled[0].before, handled[0].after), (Some(Dead), Some(Waiting)));
    let fourth = world.claim(1, 40).await.remove(0);
    assert_eq!((fourth.progress.in_flight.as_deref(), fourth.progress.done.len()), (None, 1));
    assert!(begin(&fourth).await.expect("written"));
    // The answer was clear: it did not happen.
    world.record(Finished { progress: Some(Progress::default()), ..later(&fourth, 41) }, 41).await;
    assert_eq!(world.claim(1, 41).await.remove(0).progress.in_flight, None);
    world.audit().await;
}

#[tokio::test]
async fn what_an_unclear_end_may_have_replaced_is_doubted_by_others_until_it_is_clear() {
    let world = World::new();
    let first = claimed(&world).await;
    world.record(delivered(&first), 1).await;
    let doubtful = |c: &Claimed| c.progress.doubtful.clone();
    // The second version is lost in the network, and the first content comes back.
    world.one("2", "1", Some(2), json!({ "out_ticket_id": "A", "n": 2 }), 2).await;
    let second = world.claim(1, 2).await.remove(0);
    assert_eq!(doubtful(&second), [""; 0]);
    world.record(Finished { uncertain: true, ..later(&second, 30) }, 3).await;
    let second = world.claim(1, 30).await.remove(0);
    assert_eq!(doubtful(&second), [""; 0], "not by itself");
    world.one("3", "1", Some(3), json!({ "out_ticket_id": "A" }), 31).await;
    assert_eq!(world.record(Finished { uncertain: true, ..later(&second, 60) }, 32).await, Recorded::As(Superseded));
    let third = world.claim(1, 47).await.remove(0);
    assert_eq!((third.version_number, doubtful(&third)), (3, vec!["update".to_owned()]));
    world.record(delivered(&third), 48).await;
    world.one("4", "1", Some(4), json!({ "out_ticket_id": "A", "n": 4 }), 49).await;
    let fourth = world.claim(1, 49).await.remove(0);
    assert_eq!(doubtful(&fourth), [""; 0]);
    // A crash says no more than a timeout; a good end of the same delivery clears it up.
    world.ledger.recover(at(50)).await.expect("recovered");
    let fourth = world.claim(1, 65).await.remove(0);
    world.record(finished(&fourth, Next::Done(DeliveryState::Unchanged), Reason::Unchanged), 66).await;
    world.one("5", "1", Some(5), json!({ "out_ticket_id": "A", "n": 5 }), 67).await;
    assert_eq!(doubtful(&world.claim(1, 67).await[0]), [""; 0]);
    world.audit().await;
}

#[tokio::test]
async fn after_a_timeout_nothing_goes_to_the_record_for_a_while_whatever_comes() {
    let world = World::new();
    let first = claimed(&world).await;
    let dead = finished(&first, Next::Dead, Reason::Expired);
    world.record(Finished { uncertain: true, ..dead }, 10).await;
    world.one("2", "1", Some(2), json!({ "out_ticket_id": "A", "n": 2 }), 12).await;
    world.one("3", "2", Some(1), json!({ "out_ticket_id": "A" }), 12).await;
    world.one("4", "3", Some(1), json!({ "out_ticket_id": "B" }), 12).await;
    assert_eq!(sessions_of(&world.claim(9, 24).await), ["voice-3.1"]);
    assert_eq!(world.ledger.next_due(&["rt".to_owned()], at(24)).await.expect("a read"), Some(at(25)));
    let newer = world.claim(9, 25).await;
    assert_eq!(sessions_of(&newer), ["voice-1.2"]);
    world.record(delivered(&newer[0]), 25).await;
    assert_eq!(sessions_of(&world.claim(9, 25).await), ["voice-2.1"]);
    world.audit().await;
}

#[tokio::test]
async fn an_erased_session_leaves_nothing_of_what_its_steps_captured() {
    let world = World::new();
    let first = claimed(&world).await;
    let unsure = Finished { progress: Some(done(vec![step("upload", "u")])), ..later(&first, 9) };
    world.record(unsure, 2).await;
    world.ledger.erase(&key("1"), false, at(3)).await.expect("erased").expect("a session");
    world.audit().await;
    let dir = world.dir;
    drop(world.ledger);
    let bytes = std::fs::read(dir.path().join("ledger.db")).expect("a file");
    assert!(!bytes.windows(5).any(|w| w == b"Ada's"));
}
