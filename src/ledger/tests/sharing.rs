//! Several instances on one database: they share the work, keep the order within a record, take over what a dead one
//! held, and one of them reads a source. Only on PostgreSQL; without one (see `World::new`) there is nothing to share.

use std::collections::BTreeMap;

use super::*;

/// Instances on one new database, if there is a server.
fn instances(count: usize) -> Option<Vec<Ledger>> {
    let state = World::on_server()?;
    let made = std::thread::scope(|scope| {
        let opening: Vec<_> = (0..count).map(|_| scope.spawn(|| state.open())).collect();
        opening.into_iter().map(|opened| opened.join().expect("a thread").expect("a ledger")).collect()
    });
    Some(made)
}

fn to_record(record: &str, n: i64) -> Value {
    json!({ "out_ticket_id": record, "n": n })
}

async fn put(ledger: &Ledger, input: &str, id: &str, record: &str, now: i64) {
    let mail = message(input, vec![session(id, Some(now), to_record(record, now))]);
    let accepted = ledger.accept(vec![mail], "support", None, Arc::new(ByDocument), at(now)).await;
    accepted.expect("accepted");
}

async fn claim(ledger: &Ledger, limit: usize, now: i64) -> Vec<Claimed> {
    ledger.claim(limit, &[("rt".to_owned(), limit)], LEASE, at(now)).await.expect("claimed")
}

#[tokio::test]
async fn instances_that_start_together_make_one_schema_and_have_one_key() {
    let Some(all) = instances(4) else { return };
    let keys: Vec<_> = all.iter().map(|ledger| ledger.state().known_key().expect("a key").expect("one")).collect();
    assert!(keys.iter().all(|key| *key == keys[0]));
    put(&all[0], "m", "1", "A", 0).await;
    assert_eq!(claim(&all[3], 9, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_instances_take_in_and_send_at_once_keeps_its_order_and_adds_up() {
    const SESSIONS: usize = 120;
    const RECORDS: usize = 10;
    let Some(all) = instances(3) else { return };
    let mut taking = Vec::new();
    for (number, ledger) in all.iter().enumerate() {
        let ledger = ledger.clone();
        taking.push(tokio::spawn(async move {
            for n in (number..SESSIONS).step_by(3) {
                // Every session comes to two instances at once, too.
                put(&ledger, &format!("{n}"), &n.to_string(), &(n % RECORDS).to_string(), 0).await;
                let n = (n + 1) % SESSIONS;
                put(&ledger, &format!("again-{n}"), &n.to_string(), &(n % RECORDS).to_string(), 0).await;
            }
        }));
    }
    let sent = Arc::new(std::sync::Mutex::new(BTreeMap::<String, Vec<i64>>::new()));
    let mut sending = Vec::new();
    for ledger in &all {
        let (ledger, sent) = (ledger.clone(), sent.clone());
        sending.push(tokio::spawn(async move {
            let mut idle = 0;
            while idle < 40 {
                let claimed = claim(&ledger, 8, 1).await;
                idle = if claimed.is_empty() { idle + 1 } else { 0 };
                if claimed.is_empty() {
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
                for claimed in claimed {
                    let record = claimed.record.clone().expect("a record");
                    sent.lock().expect("a lock").entry(record).or_default().push(claimed.delivery.0);
                    let recorded = ledger.record(vec![delivered(&claimed)], at(2)).await.expect("recorded");
                    assert_eq!(recorded, [Recorded::As(DeliveryState::Delivered)]);
                }
            }
        }));
    }
    for task in taking.into_iter().chain(sending) {
        task.await.expect("a task");
    }
    let sent = sent.lock().expect("a lock");
    assert_eq!(sent.values().map(Vec::len).sum::<usize>(), SESSIONS, "each once");
    assert!(sent.values().all(|ids| ids.is_sorted()), "{sent:?}");
    let audit = all[0].audit().await.expect("an audit");
    assert!(audit.is_complete(), "{:#?}", audit.gaps);
    assert_eq!((audit.sessions, audit.deliveries["delivered"]), (SESSIONS as u64, SESSIONS as u64));
}

#[tokio::test]
async fn a_lease_that_is_prolonged_stays_and_one_that_ends_is_taken_over() {
    let Some(all) = instances(2) else { return };
    let (one, two) = (&all[0], &all[1]);
    put(one, "a", "1", "A", 0).await;
    put(one, "b", "2", "B", 0).await;
    let claimed = claim(one, 9, 1).await;
    let (kept, lost) = (&claimed[0], &claimed[1]);
    let still = one.prolong(vec![(kept.delivery, kept.lease), (lost.delivery, lost.lease + 1)], at(500)).await;
    assert_eq!(still.expect("prolonged"), [kept.delivery], "not under another lease");
    assert_eq!(two.recover(at(2)).await.expect("looked"), 0, "what lives is left alone");
    assert!(claim(two, 9, 100).await.is_empty(), "taken back, and left alone for a while");
    let taken = claim(two, 9, 116).await;
    assert_eq!(taken.iter().map(|c| (c.delivery, c.uncertain)).collect::<Vec<_>>(), [(lost.delivery, true)]);
    assert_eq!(one.record(vec![delivered(lost)], at(117)).await.expect("an answer"), [Recorded::Stale]);
    let ended = one.record(vec![delivered(kept)], at(117)).await.expect("an answer");
    assert_eq!(ended, [Recorded::As(DeliveryState::Delivered)]);
}

#[tokio::test]
async fn one_instance_reads_a_source_and_another_takes_over_when_it_is_silent() {
    let Some(all) = instances(2) else { return };
    let time = Duration::from_secs(15);
    let reader = all[0].take_source("inbox", time, at(0)).await.expect("an answer").expect("free");
    assert!(all[1].take_source("inbox", time, at(14)).await.expect("an answer").is_none());
    assert!(all[1].take_source("other", time, at(14)).await.expect("an answer").is_some());
    assert!(reader.keep_source(time, at(14)).await.expect("an answer"));
    assert!(all[1].take_source("inbox", time, at(28)).await.expect("an answer").is_none());
    let move_to = async |ledger: &Ledger, place: &str| {
        let position = Some(("INBOX".to_owned(), place.to_owned()));
        ledger.accept(Vec::new(), "inbox", position, Arc::new(ByDocument), at(29)).await
    };
    move_to(&reader, "1").await.expect("it reads");
    let next = all[1].take_source("inbox", time, at(29)).await.expect("an answer").expect("silent for too long");
    let refused = move_to(&reader, "2").await.expect_err("it lost its turn");
    assert!(refused.detail.contains("another instance"), "{refused}");
    assert!(!reader.keep_source(time, at(29)).await.expect("an answer"));
    reader.leave_source().await.expect("no fault");
    assert!(all[0].take_source("inbox", time, at(30)).await.expect("an answer").is_none(), "nor can it give it away");
    move_to(&next, "3").await.expect("it reads");
    assert_eq!(all[0].positions("inbox").await.expect("a read")["INBOX"], "3");
    next.leave_source().await.expect("left");
    assert!(all[0].take_source("inbox", time, at(31)).await.expect("an answer").is_some(), "at once");
}

#[tokio::test]
async fn a_pause_and_the_brake_hold_for_all() {
    let Some(all) = instances(2) else { return };
    put(&all[0], "a", "1", "A", 0).await;
    all[0].pause("rt", Reason::Unauthorized, "401", None, at(1)).await.expect("paused");
    assert!(claim(&all[1], 9, 2).await.is_empty());
    assert!(all[1].resume("rt").await.expect("resumed"));
    assert_eq!(claim(&all[1], 9, 3).await.len(), 1);
}

#[tokio::test]
async fn an_embedded_ledger_is_moved_with_its_numbers_and_its_key() {
    let Some(state) = World::on_server() else { return };
    let State::Server(server) = &state else { unreachable!("it is a server") };
    let dir = tempfile::tempdir().expect("a directory");
    let file = State::File(dir.path().join("ledger.db"));
    let world = World { dir, ledger: file.open().expect("a ledger") };
    let key = file.instance_key([7; 32]).expect("a key");
    for n in 0..250 {
        let mut mail = message(&format!("m{n}"), vec![session(&n.to_string(), Some(n), to_record("A", n))]);
        mail.detail = Some("a\0b".to_owned());
        world.accept(vec![mail], n).await;
    }
    let claimed = world.claim(9, 300).await;
    world.record(delivered(&claimed[0]), 301).await;
    let copied = world.ledger.copy_to(server.clone(), at(302)).await.expect("copied");
    assert_eq!(copied.audit.deliveries["delivered"], 1);
    assert!(copied.tables.contains(&("sessions".to_owned(), 250)), "{:?}", copied.tables);
    let moved = state.open().expect("a ledger");
    assert_eq!(state.known_key().expect("a key"), Some(key));
    assert_eq!(moved.messages(Filter::default()).await.expect("a list").len(), 250);
    put(&moved, "new", "new", "A", 303).await;
    assert_eq!(moved.deliveries(Filter { limit: Some(1), ..Filter::default() }).await.expect("a list")[0].id.0, 251);
    let again = world.ledger.copy_to(server.clone(), at(304)).await.expect_err("it is in use");
    assert!(again.detail.contains("in use"), "{again}");
}
