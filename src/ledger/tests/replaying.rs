//! Stored sessions delivered anew: what becomes a delivery, and what is left whatever was asked for.

use super::*;

fn leg(record: &str) -> Leg {
    Leg { destination: "rt".to_owned(), record: Some(record.to_owned()), refused: None }
}

fn content(n: i64) -> Value {
    json!({ "out_ticket_id": "7", "n": n })
}

impl World {
    /// All sessions, page by page, and the number of pages.
    async fn pages(&self, since: Option<i64>, until: Option<i64>) -> (Vec<Whole>, usize) {
        let (mut from, mut all, mut pages) = (Some(0), Vec::new(), 0);
        while let Some(after) = from {
            let page = self.ledger.replayable(after, since.map(at), until.map(at)).await.expect("a page");
            (from, pages) = (page.next, pages + 1);
            all.extend(page.sessions);
        }
        (all, pages)
    }

    async fn replay(&self, whole: &Whole, leg: Leg, now: i64) -> Replayed {
        let replay = Replay { version: whole.version, leg, again: Vec::new() };
        self.ledger.replay(vec![replay], at(now)).await.expect("an answer").remove(0)
    }
}

#[tokio::test]
async fn sessions_come_in_pages_by_the_moment_at_which_their_newest_version_came() {
    let world = World::new();
    for n in 0..150 {
        world.one(&n.to_string(), &n.to_string(), Some(1), content(n), n).await;
    }
    world.one("later", "3", Some(2), content(1000), 200).await;
    let (all, pages) = world.pages(None, None).await;
    assert_eq!((all.len(), pages), (150, 3));
    let third = all.iter().find(|whole| whole.key == key("3")).expect("it");
    assert_eq!((third.number, third.document.contains("1000")), (2, true), "the version that counts");
    let keys = |(all, _): (Vec<Whole>, usize)| all.iter().map(|w| w.key.to_string()).collect::<Vec<_>>();
    assert_eq!(keys(world.pages(Some(148), None).await), ["voice-3", "voice-148", "voice-149"]);
    assert_eq!(keys(world.pages(None, Some(2)).await), ["voice-0", "voice-1"]);
    assert_eq!(keys(world.pages(Some(2), Some(5)).await), ["voice-2", "voice-4"]);
}

#[tokio::test]
async fn a_version_is_delivered_again_only_while_it_counts_and_never_beside_itself() {
    let world = World::new();
    world.one("a", "1", Some(1), content(1), 1).await;
    let of = async || world.pages(None, None).await.0.remove(0);
    let first = of().await;
    assert_eq!(first.there[0].last, Some((DeliveryState::Waiting, Some("7".to_owned()))));
    let left = |replayed| matches!(replayed, Replayed::Left(_));
    assert!(left(world.replay(&first, leg("7"), 2).await), "it waits");
    let claimed = world.claim(1, 2).await.remove(0);
    assert!(left(world.replay(&first, leg("7"), 2).await), "it is being sent");
    world.record(delivered(&claimed), 2).await;
    let known = of().await;
    assert_eq!(known.there[0].applied[0].step, "update");
    assert_eq!(known.there[0].applied[0].digest_of_content, known.digest);

    let Replayed::Made(made) = world.replay(&first, leg("7"), 3).await else { panic!("nothing was made") };
    assert!(left(world.replay(&first, leg("7"), 3).await), "a second one at once");
    let again = world.claim(1, 3).await.remove(0);
    assert_eq!((again.delivery, again.version, again.marked), (made, first.version, vec!["update".to_owned()]));
    let result =
        Finished { delivery: made, lease: again.lease, ..finished(&claimed, Next::Dead, Reason::UnknownField) };
    assert_eq!(world.record(result, 3).await, Recorded::As(DeliveryState::Dead));
    // Another record never had the marker.
    assert_eq!(world.replay(&first, leg("8"), 4).await, Replayed::BackInLine(made));
    let moved = world.claim(1, 4).await.remove(0);
    assert_eq!((moved.record.as_deref(), moved.marked.len(), moved.since), (Some("8"), 0, at(4)));
    let result =
        Finished { delivery: made, lease: moved.lease, ..finished(&moved, Next::Later(at(90)), Reason::Timeout) };
    world.record(result, 5).await;
    world.ledger.discard(vec![made], "no", false, at(6)).await.expect("let go");
    assert!(left(world.replay(&first, leg("7"), 7).await), "a person let it go");

    // A newer version came between the look and the writing.
    world.one("b", "1", Some(2), content(2), 8).await;
    assert_eq!(world.replay(&first, leg("7"), 9).await, Replayed::Left("a newer version came in the meantime"));
    let second = of().await;
    world.ledger.erase(&key("1"), false, at(10)).await.expect("erased");
    assert_eq!(world.replay(&second, leg("7"), 11).await, Replayed::Left("it was erased in the meantime"));
    world.audit().await;
}

#[tokio::test]
async fn what_never_went_there_begins_as_a_new_session_does_and_steps_are_forgotten_if_told_so() {
    let world = World::new();
    world.one("a", "1", Some(1), content(1), 1).await;
    let claimed = world.claim(1, 1).await.remove(0);
    world.record(delivered(&claimed), 1).await;
    let whole = world.pages(None, None).await.0.remove(0);
    let to = |destination: &str, record: Option<&str>, refused: Option<Reason>| Leg {
        destination: destination.to_owned(),
        record: record.map(str::to_owned),
        refused: refused.map(|reason| (reason, "no number".to_owned())),
    };
    for leg in
        [to("files", Some("voice-1"), None), to("new", None, None), to("bad", Some("x"), Some(Reason::BadRecordId))]
    {
        assert!(matches!(world.replay(&whole, leg, 2).await, Replayed::Made(_)));
    }
    let mut rows = world.ledger.deliveries(Filter::default()).await.expect("a list");
    rows.reverse();
    let states: Vec<_> = rows.iter().map(|row| (row.destination.as_str(), row.state)).collect();
    use DeliveryState::{Dead, Delivered, Parked, Waiting};
    assert_eq!(states, [("rt", Delivered), ("files", Waiting), ("new", Parked), ("bad", Dead)]);
    assert!(matches!(world.replay(&whole, to("new", Some("9"), None), 3).await, Replayed::BackInLine(_)));

    let again = vec!["update".to_owned()];
    let replay = Replay { version: whole.version, leg: leg("7"), again };
    world.ledger.replay(vec![replay], at(4)).await.expect("made");
    let claimed = world.claim(1, 4).await.remove(0);
    assert!(claimed.applied.is_empty() && claimed.marked.is_empty(), "{claimed:?}");
    world.audit().await;
}
