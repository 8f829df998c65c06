//! What is healthy and what is not, and that asking writes.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::*;
use crate::ledger::{Backlog, Paused, Undelivered};
use crate::outcome::Reason;

fn watch(period: Option<Duration>) -> Watch {
    let sources = BTreeMap::from([("inbox".to_owned(), Watched::new(period))]);
    Watch { started: Timestamp::now(), sources, destinations: vec!["helpdesk".to_owned()] }
}

fn after(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

fn fault() -> Fault {
    Fault { reason: Reason::Unauthorized, step: "login", detail: "no".to_owned() }
}

const OVERDUE: Duration = Duration::from_secs(3600);

fn judged(watch: &Watch, backlog: Backlog, paused: Vec<Paused>, now: Timestamp) -> (&'static str, String, String) {
    let health = judge(watch, OVERDUE, Ok((Duration::from_millis(3), backlog, paused)), now);
    let states = health.sources.iter().map(|s| s.state).chain(health.destinations.iter().map(|d| d.state));
    (health.status, states.collect::<Vec<_>>().join(" "), health.problems.join("; "))
}

#[test]
fn a_source_is_late_after_some_looks_and_a_minute_and_a_listener_only_if_it_fails() {
    let of = |watch: &Watch, seconds| judged(watch, Backlog::default(), Vec::new(), after(seconds));
    let polls = watch(Some(Duration::from_secs(10)));
    assert_eq!(of(&polls, 60), ("ok", "starting works".to_owned(), String::new()));
    let (status, states, problems) = of(&polls, 100);
    assert_eq!((status, states.as_str()), ("failing", "silent works"));
    assert!(problems.contains("`inbox` has not looked for"), "{problems}");
    let source = polls.sources.get("inbox").expect("it");
    source.stopped(after(1), &fault());
    assert_eq!(of(&polls, 60).0, "ok", "a lost connection is no alarm");
    let (status, states, problems) = of(&polls, 100);
    assert_eq!((status, states.as_str()), ("failing", "failing works"));
    assert!(problems.contains("`login` (unauthorized)"), "{problems}");
    source.stopped(after(-5), &fault());
    source.pulse.looked();
    assert_eq!(of(&polls, 60), ("ok", "works works".to_owned(), String::new()));

    let listens = watch(None);
    listens.sources["inbox"].pulse.looked();
    assert_eq!(of(&listens, 100_000), ("ok", "works works".to_owned(), String::new()));
    listens.sources["inbox"].stopped(after(1), &fault());
    assert_eq!(of(&listens, 100).0, "failing");
}

#[test]
fn what_waits_too_long_is_a_problem_unless_a_person_holds_it() {
    let watch = watch(None);
    let backlog = |seconds: i64| {
        let undelivered = Undelivered { waiting: 7, oldest: Some(after(-seconds)), ..Undelivered::default() };
        Backlog { destinations: BTreeMap::from([("helpdesk".to_owned(), undelivered)]), quarantined: 2 }
    };
    let paused = |until| {
        let (destination, detail) = ("helpdesk".to_owned(), String::new());
        vec![Paused { destination, since: after(-9000), until, reason: Reason::Unauthorized, detail, times: 1 }]
    };
    assert_eq!(judged(&watch, backlog(3000), Vec::new(), after(0)).0, "ok");
    let (status, _, problems) = judged(&watch, backlog(7200), Vec::new(), after(0));
    assert!(status == "failing" && problems.contains("`helpdesk` wait for 120 minutes"), "{problems}");
    let (status, states, _) = judged(&watch, backlog(7200), paused(Some(after(60))), after(0));
    assert_eq!((status, states.as_str()), ("failing", "starting held"));
    assert_eq!(judged(&watch, backlog(7200), paused(None), after(0)).0, "ok");
    // Of a destination that is no longer in the configuration, too.
    let gone = Watch { destinations: Vec::new(), ..watch };
    assert_eq!(judged(&gone, backlog(7200), Vec::new(), after(0)).0, "failing");
}

#[test]
fn a_ledger_that_takes_nothing_is_a_problem_and_says_nothing_of_the_backlog() {
    let health = judge(&watch(None), OVERDUE, Err("the ledger: disk full".to_owned()), after(0));
    assert!(!health.is_well() && !health.ledger.writable && health.quarantined.is_none());
    let text = serde_json::to_string(&health).expect("JSON");
    assert!(text.contains("disk full") && text.contains("\"status\":\"failing\""), "{text}");
}

#[tokio::test]
async fn asking_writes_a_few_bytes_and_asking_often_writes_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a ledger");
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings { listen, overdue: OVERDUE };
    let console = Console { settings, ledger: ledger.clone(), watch: Arc::new(watch(None)), last: Turn::new(None) };
    let before = ledger.commits();
    for _ in 0..5 {
        assert!(console.health().await.is_well());
    }
    assert_eq!(ledger.commits() - before, 1);
    assert!(ledger.audit().await.expect("an account").is_complete());
}
