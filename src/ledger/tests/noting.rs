//! What senders add whom nobody vouches for, beside the versions that count.

use super::*;
use DeliveryState::{Delivered, Sending, Superseded, Waiting};

impl World {
    /// A session of an unverified sender, with a message of its own.
    async fn note(&self, input: &str, id: &str, updated: i64, document: Value, now: i64) -> Standing {
        let mut message = message(input, vec![session(id, Some(updated), document)]);
        message.note_only = true;
        self.accept(vec![message], now).await[0].sessions[0].1
    }
}

fn at_a(n: i64) -> Value {
    json!({ "out_ticket_id": "A", "n": n })
}

#[tokio::test]
async fn a_note_never_counts_as_the_newest_and_what_counts_never_takes_its_place() {
    let world = World::new();
    assert_eq!(world.note("m1", "1", 9, at_a(1), 0).await, Standing::NoteOnly);
    world.audit().await;
    let story = world.ledger.session_story(&key("1")).await.expect("a read").expect("a story");
    assert_eq!((story.session.newest, story.versions[0].standing), (0, Standing::NoteOnly));
    // A trusted one, earlier by its own word: the first that counts. The same content is no duplicate.
    assert_eq!(world.one("m2", "1", Some(5), at_a(1), 1).await, Standing::First);
    assert_eq!(world.one("m3", "1", Some(6), at_a(2), 2).await, Standing::Newer);
    world.audit().await;
    let states: Vec<_> = world.states().await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, [Waiting, Superseded, Waiting], "the note waits still");
    let note = world.claim(9, 3).await.remove(0);
    assert!(note.note_only);
    world.record(delivered(&note), 3).await;
    let newest = world.claim(9, 4).await.remove(0);
    assert_eq!(
        (newest.note_only, newest.version_number, newest.applied.len()),
        (false, 3, 0),
        "a note is no step of it"
    );
    world.record(delivered(&newest), 4).await;
    // Another note with other content: it supersedes nothing that counts, and sees what notes said.
    assert_eq!(world.note("m4", "1", 1, at_a(3), 5).await, Standing::NoteOnly);
    let note = world.claim(9, 5).await.remove(0);
    assert_eq!(note.applied.len(), 1);
    world.record(later(&note, 50), 5).await;
    let story = world.ledger.session_story(&key("1")).await.expect("a read").expect("a story");
    assert_eq!(story.session.newest, 3);
    assert_eq!(world.ledger.audit().await.expect("an audit").note_only, 2);
    world.audit().await;
}

#[tokio::test]
async fn a_content_becomes_a_note_once_and_only_a_newer_note_takes_its_place() {
    let world = World::new();
    world.one("m1", "1", Some(1), at_a(1), 0).await;
    assert_eq!(world.note("m2", "1", 9, at_a(1), 1).await, Standing::Duplicate, "it is there already");
    assert_eq!(world.note("m3", "1", 9, at_a(2), 2).await, Standing::NoteOnly);
    assert_eq!(world.note("m4", "1", 8, at_a(3), 3).await, Standing::NoteOnly);
    assert_eq!(world.note("m5", "1", 9, at_a(2), 4).await, Standing::Duplicate);
    let states: Vec<_> = world.states().await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, [Waiting, Superseded, Waiting]);
    let first = world.claim(9, 5).await;
    assert_eq!(sessions_of(&first), ["voice-1.1"], "one at a time, in order, notes too");
    world.record(delivered(&first[0]), 5).await;
    assert_eq!(sessions_of(&world.claim(9, 6).await), ["voice-1.3"]);
    let states: Vec<_> = world.states().await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, [Delivered, Superseded, Sending]);
    let found = world.ledger.audit().await.expect("an audit").found;
    assert_eq!((found["note_only"], found["duplicate"], found["first"]), (2, 2, 1));
    world.audit().await;
}

#[tokio::test]
async fn a_note_about_another_record_moves_no_session() {
    let world = World::new();
    world.one("m1", "1", Some(1), at_a(1), 0).await;
    let first = world.claim(9, 0).await.remove(0);
    world.record(delivered(&first), 0).await;
    world.note("m2", "1", 2, json!({ "out_ticket_id": "B" }), 1).await;
    let note = world.claim(9, 1).await.remove(0);
    world.record(delivered(&note), 1).await;
    world.one("m3", "1", Some(3), at_a(2), 2).await;
    let last = world.claim(9, 2).await.remove(0);
    assert_eq!(last.record.as_deref(), Some("A"));
    assert_eq!(world.ledger.audit().await.expect("an audit").moved, 0);
    world.audit().await;
}
