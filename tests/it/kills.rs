//! The process dies at every boundary that a message and a delivery cross, and is started again: whatever was done
//! before, the CRM has each effect once by its own journal, and the ledger accounts for all. Then it is killed at
//! random under load, again and again (`KILLS`, 3 unless stated).
//!
//! The results are the table of `src/ledger/README.md`; what a cell needs (where the ledger is, which CRM) is in
//! [`Site`], so that other ledgers and CRMs can be crossed with the same boundaries.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use mail2crm::failpoint::Boundary;
use serde_json::Value;

use crate::support::cli::{Bench, Crm, TOKEN, sandbox};

/// A ledger and a destination to cross the boundaries with.
struct Site {
    /// A line of the configuration; empty for the embedded ledger beside it.
    state: &'static str,
    /// What the one step does to the record.
    effect: &'static str,
    /// The destination `crm` at this address.
    destination: fn(&str) -> String,
    /// How often the CRM did it to this record.
    effects: fn(&Crm, &str) -> usize,
}

const MARKED: Site = Site { state: "", effect: "marked", destination: marked, effects: notes };
const ONCE: Site = Site { state: "", effect: "once", destination: once, effects: notes };

fn marked(url: &str) -> String {
    format!("connector = \"sandbox\"\nbase_url = \"{url}\"\ntoken = \"{TOKEN}\"\n")
}

fn once(url: &str) -> String {
    format!(
        "connector = \"generic-rest\"\nbase_url = \"{url}\"\nmethod = \"POST\"\nauth = \"bearer\"\ntoken = \"{TOKEN}\"\n\
         endpoint = \"/api/tickets/{{{{record_id}}}}/notes\"\nbody = '{{\"text\": \"{{{{key}}}}\", \"marker\": \"{{{{marker}}}}\"}}'\n"
    )
}

fn notes(crm: &Crm, record: &str) -> usize {
    crm.store().ticket(record).map_or(0, |ticket| ticket.notes.len())
}

fn document(id: usize, version: usize) -> String {
    format!(
        r#"{{"id": {id}, "call_type": "Voice Inbound", "status": "finished", "created_at": "2026-02-17T10:00:00Z",
            "updated_at": "2026-02-17T1{version}:00:00Z", "out_ticket_id": "C-{id}", "rating": {version}}}"#
    )
}

/// A folder to be watched, a CRM, and a destination between them.
fn set_up(site: &Site) -> (Bench, Crm) {
    let crm = sandbox("");
    let bench = Bench::new();
    let config = format!(
        "{}\n[source.drop]\nkind = \"directory\"\npath = \"drop\"\ntrust = \"anyone\"\npoll_seconds = 1\n\
         after = {{ move_to = \"done\" }}\n\n[destination.crm]\n{}",
        site.state,
        (site.destination)(&crm.url()),
    );
    bench.write("mail2crm.toml", &config);
    std::fs::create_dir_all(bench.path().join("drop/done")).expect("a folder");
    (bench, crm)
}

/// What `deliveries list` says.
fn deliveries(bench: &Bench) -> Vec<Value> {
    bench.run(&["--json", "deliveries", "list", "--limit", "10000"]).exits(0).json()
}

/// Waits until so many deliveries are there and none is on its way.
fn settled(bench: &Bench, at_least: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(500));
        let all = deliveries(bench);
        let open = all.iter().filter(|d| matches!(d["state"].as_str(), Some("waiting" | "sending" | "parked"))).count();
        if all.len() >= at_least && open == 0 {
            return all;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{all:#?}");
    }
}

/// The process dies at a boundary; what became of the delivery, in words.
fn cross(site: &Site, boundary: Boundary) -> String {
    let (bench, crm) = set_up(site);
    bench.write("drop/1.json", &document(1, 1));
    let intake = Boundary::ALL.iter().take_while(|b| **b != Boundary::Claimed).any(|b| *b == boundary);
    if intake {
        // So that no delivery is under way when the process dies for another cause.
        bench.run(&["pause", "crm"]).exits(0);
    }
    let mut dying = bench.command(&["run"]);
    dying.env("MAIL2CRM_DIES_AT", boundary.as_str()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut dying = dying.spawn().expect("the program");
    let begun = Instant::now();
    let died = loop {
        match dying.try_wait().expect("a process") {
            Some(status) => break status.code().is_none(),
            None if begun.elapsed() > Duration::from_secs(60) => break false,
            None => thread::sleep(Duration::from_millis(50)),
        }
    };
    let _ = dying.kill();
    assert!(died, "it did not die at `{}`", boundary.as_str());
    if intake {
        bench.run(&["resume", "crm"]).exits(0);
    }
    let service = bench.service();
    let ended = settled(&bench, 1);
    assert_eq!(ended.len(), 1, "{ended:#?}");
    let (state, reason) = (ended[0]["state"].as_str().unwrap_or(""), ended[0]["reason"].as_str().unwrap_or(""));
    let effects = (site.effects)(&crm, "C-1");
    let said = if state == "dead" {
        assert_eq!(reason, "uncertain");
        let id = ended[0]["id"].to_string();
        if effects == 0 {
            bench.run(&["deliveries", "retry", &id]).exits(0);
            settled(&bench, 1);
            "a person looks: it is not there, and is sent".to_owned()
        } else {
            bench.run(&["deliveries", "discard", &id, "--why", "it is there"]).exits(0);
            "a person looks: it is there, and is let go".to_owned()
        }
    } else {
        assert_eq!(state, "delivered", "{ended:#?}");
        format!("`{reason}`")
    };
    let begun = Instant::now();
    while !bench.path().join("drop/done/1.json").is_file() {
        assert!(begun.elapsed() < Duration::from_secs(60), "`{}`: not moved", boundary.as_str());
        thread::sleep(Duration::from_millis(200));
    }
    drop(service);
    assert_eq!((site.effects)(&crm, "C-1"), 1, "`{}`, {}: not one effect", boundary.as_str(), site.effect);
    bench.run(&["audit"]).exits(0);
    crm.stop();
    said
}

#[test]
fn a_process_that_dies_at_any_boundary_has_each_effect_once_after_a_restart() {
    let rows: Vec<_> = Boundary::ALL
        .iter()
        .map(|boundary| {
            let cell = |site: &'static Site| thread::spawn(move || cross(site, *boundary));
            (boundary.as_str(), [cell(&MARKED), cell(&ONCE)])
        })
        .collect();
    // All of them end before any is judged: a process of a test must not outlive it.
    let rows: Vec<_> = rows.into_iter().map(|(name, cells)| (name, cells.map(thread::JoinHandle::join))).collect();
    let rows = rows.into_iter().map(|(name, cells)| {
        let [marked, once] = cells.map(|cell| cell.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        format!("| `{name}` | {marked} | {once} |")
    });
    let table = rows.collect::<Vec<_>>().join("\n");
    println!("{table}");
    let readme = include_str!("../../src/ledger/README.md");
    assert!(readme.contains(&table), "src/ledger/README.md has another table than\n{table}");
}

#[test]
fn a_service_that_is_killed_again_and_again_under_load_makes_each_effect_once() {
    let kills: usize = std::env::var("KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let (bench, crm) = set_up(&MARKED);
    let mut random = fastrand::Rng::with_seed(kills as u64);
    let sessions = 10 * (kills + 1);
    for id in 1..=sessions {
        // Written aside and moved in, as a good writer does.
        bench.write(&format!("{id}.tmp"), &document(id, 1));
    }
    let drop_in = |id: usize| {
        let to = bench.path().join(format!("drop/{id}.json"));
        std::fs::rename(bench.path().join(format!("{id}.tmp")), to).expect("moved");
    };
    for kill in 0..=kills {
        let service = bench.service();
        for id in 1 + 10 * kill..=10 * (kill + 1) {
            drop_in(id);
            thread::sleep(Duration::from_millis(random.u64(..60)));
        }
        if kill < kills {
            thread::sleep(Duration::from_millis(random.u64(..2_000)));
            drop(service); // kill -9
        } else {
            let ended = settled(&bench, sessions);
            assert!(ended.iter().all(|d| d["state"] == "delivered"), "{ended:#?}");
        }
    }
    for id in 1..=sessions {
        let record = format!("C-{id}");
        assert_eq!(notes(&crm, &record), 1, "{record}");
    }
    bench.run(&["audit"]).exits(0);
    println!("{kills} kills, {sessions} sessions, {} effects", crm.effects());
    crm.stop();
}
