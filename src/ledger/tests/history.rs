//! Random histories with a seed: whatever the order of arrival, duplication, failure and crash, the ledger
//! ends with the newest version and a CRM that has exactly it.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::*;

/// All documents of a session: two at the first moment, two at the second that complete each other, and
/// for some the first content again at a third.
fn documents(id: usize, back: bool) -> (Vec<(i64, Value)>, Value) {
    let record = format!("R{}", id % 2);
    let to = "rt files";
    let a = json!({ "out_ticket_id": record, "to": to, "a": id });
    let mut all = vec![
        (1, a.clone()),
        (1, json!({ "to": to, "extra": "first" })),
        (2, json!({ "out_ticket_id": record, "to": to, "b": id, "a": null })),
        (2, json!({ "to": to, "c": "late answer" })),
    ];
    let mut newest = json!({ "out_ticket_id": record, "to": to, "a": null, "b": id, "c": "late answer" });
    if back {
        all.push((3, a.clone()));
        newest = a;
    }
    (all, newest)
}

/// Values that say something: merging keeps or drops nulls as it likes.
fn filled(document: &Value) -> BTreeMap<String, Value> {
    let map = document.as_object().cloned().unwrap_or_default();
    map.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

/// Every document once, some twice or three times, in any order; each a mail of its own.
fn mails(rng: &mut Rng) -> (Vec<NewMessage>, BTreeMap<String, Value>) {
    let mut mails = Vec::new();
    let mut newest = BTreeMap::new();
    for id in 0..4 {
        let (all, counts) = documents(id, rng.bool());
        for (updated, document) in all {
            for copy in 0..1 + rng.usize(..3) {
                let input = format!("{id}-{updated}-{}-{copy}", version::digest(&document));
                mails.push(message(&input, vec![session(&id.to_string(), Some(updated), document.clone())]));
            }
        }
        newest.insert(format!("voice-{id}"), counts);
    }
    rng.shuffle(&mut mails);
    (mails, newest)
}

async fn newest_of(world: &World, session: &SessionRow) -> VersionRow {
    let id = session.key.trim_start_matches("voice-");
    let story = world.ledger.session_story(&key(id)).await.expect("a read").expect("a session");
    story.versions.into_iter().find(|version| version.newest).expect("a version that counts")
}

#[tokio::test]
async fn any_order_of_mail_ends_with_the_newest_version_and_one_delivery_of_it_per_destination() {
    for seed in 0..12 {
        let mut rng = Rng::with_seed(seed);
        let world = World::new();
        let (mails, newest) = mails(&mut rng);
        let mut rest = &mails[..];
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(1 + rng.usize(..rest.len().min(5)));
            world.accept(batch.to_vec(), 1).await;
            world.audit().await;
            rest = after;
        }
        for row in world.ledger.sessions(Filter::default()).await.expect("a list") {
            let counts = newest_of(&world, &row).await;
            assert_eq!(filled(&counts.document), filled(&newest[&row.key]), "seed {seed}, {}", row.key);
            let superseded = row.deliveries.get("superseded").copied().unwrap_or(0);
            let all: u64 = row.deliveries.values().sum();
            assert_eq!(all - superseded, 2, "seed {seed}, {}: {:?}", row.key, row.deliveries);
            assert_eq!(row.deliveries.get("waiting"), Some(&2), "seed {seed}, {}", row.key);
        }
    }
}

/// A CRM that takes whole documents, and what it must never see.
#[derive(Default)]
struct Crm {
    /// (destination, session) → number and document of the version it has.
    has: BTreeMap<(String, String), (u32, Value)>,
}

impl Crm {
    fn apply(&mut self, claimed: &Claimed) {
        let document: Value = serde_json::from_str(&claimed.document).expect("JSON");
        let place = (claimed.destination.clone(), claimed.key.to_string());
        if let Some((number, _)) = self.has.get(&place) {
            assert!(claimed.version_number >= *number, "{place:?} went backwards");
        }
        self.has.insert(place, (claimed.version_number, document));
    }
}

#[tokio::test]
async fn whatever_fails_in_between_the_crm_ends_with_the_newest_version_and_never_goes_backwards() {
    let destinations = [("rt", 3), ("files", 3)];
    for seed in 100..112 {
        let mut rng = Rng::with_seed(seed);
        let mut world = World::new();
        let mut crm = Crm::default();
        let (mut mails, newest) = mails(&mut rng);
        let mut held: Vec<Claimed> = Vec::new();
        let mut now = 1;
        for _ in 0..400 {
            now += rng.i64(0..20);
            match rng.u8(..20) {
                0..=5 if !mails.is_empty() => {
                    let batch = mails.split_off(mails.len() - rng.usize(1..=mails.len().min(3)));
                    world.accept(batch, now).await;
                }
                6..=9 => {
                    let claimed = world.claim_from(&destinations, 1 + rng.usize(..4), now).await;
                    for new in &claimed {
                        let same = |c: &&Claimed| c.destination == new.destination && c.record == new.record;
                        held.retain(|c| !same(&c));
                    }
                    held.extend(claimed);
                }
                10..=17 if !held.is_empty() => {
                    let claimed = held.swap_remove(rng.usize(..held.len()));
                    let result = match rng.u8(..8) {
                        0..=3 => {
                            crm.apply(&claimed);
                            delivered(&claimed)
                        }
                        4 => {
                            // It took effect, and we do not know.
                            crm.apply(&claimed);
                            Finished { uncertain: true, ..later(&claimed, now + 30) }
                        }
                        5 => later(&claimed, now + 30),
                        6 => finished(&claimed, Next::Back(at(now + 1)), Reason::Paused),
                        _ => finished(&claimed, Next::Dead, Reason::RejectedPayload),
                    };
                    world.record(result, now).await;
                }
                18 => {
                    // A crash: what was held may have taken effect.
                    for claimed in held.drain(..).filter(|_| rng.bool()) {
                        crm.apply(&claimed);
                    }
                    world = world.reopen();
                    world.ledger.recover(at(now)).await.expect("recovered");
                }
                _ => {
                    world.ledger.retry(world.dead(Filter::default()).await, false, at(now)).await.expect("handled");
                }
            }
            world.audit().await;
        }
        world.accept(std::mem::take(&mut mails), now).await;
        world.ledger.recover(at(now)).await.expect("recovered");
        world.ledger.retry(world.dead(Filter::default()).await, false, at(now)).await.expect("handled");
        now += 1_000;
        loop {
            let claimed = world.claim_from(&destinations, 9, now).await;
            if claimed.is_empty() {
                break;
            }
            for claimed in &claimed {
                crm.apply(claimed);
                world.record(delivered(claimed), now).await;
            }
        }
        world.audit().await;
        for (session, document) in &newest {
            for (destination, _) in destinations {
                let (_, has) = &crm.has[&(destination.to_owned(), session.clone())];
                assert_eq!(filled(has), filled(document), "seed {seed}, {session} at {destination}");
            }
        }
        let left = world.states().await;
        assert!(
            left.iter().all(|(_, s)| matches!(s, DeliveryState::Delivered | DeliveryState::Superseded)),
            "seed {seed}: {left:?}"
        );
    }
}
