//! What an operator sees of the brake, of raw mail that was removed, and of a session that was erased.

use std::fs;

use rusqlite::Connection;

use crate::support::cli::{Bench, mail};

const CONFIG: &str =
    "[brake]\nrepeats_per_record = 2\n[destination.archive]\nstorage = \"archive\"\npath = \"{{key}}.json\"\n";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("mail2crm.toml", CONFIG);
    bench
}

#[test]
fn the_brake_is_seen_and_released_by_hand() {
    let bench = bench();
    for n in 0..6 {
        let document = format!(
            r#"{{"id":7,"call_type":"Voice Inbound","status":"finished","call_duration":1,"updated_at":"2026-02-17T10:00:0{n}Z","feedback":"{}"}}"#,
            if n % 2 == 0 { "one" } else { "the other" }
        );
        let file = format!("{n}.json");
        bench.write(&file, &document);
        let done = bench.run(&["process", &file]);
        match n {
            0..4 => drop(done.exits(0)),
            4 => drop(done.exits(1).says("the brake holds back deliveries").says("parked")),
            _ => assert!(!done.exits(1).stderr.contains("the brake holds back"), "one alarm a window"),
        }
    }
    bench.run(&["deliveries", "list", "--state", "parked"]).exits(0).prints("braked");
    bench.run(&["audit"]).exits(0).prints("BRAKE       1 deliveries held back");
    let held = bench.run(&["--json", "deliveries", "list", "--state", "parked"]).exits(0).json();
    let id = held[0]["id"].to_string();
    bench.run(&["deliveries", "release", &id]).exits(0).prints("goes to the record it has");
    bench.run(&["process", "5.json"]).exits(0);
    assert!(fs::read_to_string(bench.path().join("archive/voice-7.json")).expect("a file").contains("the other"));
    bench.run(&["audit"]).exits(0).prints("all is accounted for");
}

#[test]
fn an_erased_session_leaves_a_receipt_and_nothing_else() {
    let bench = bench();
    let call = mail("ccaip-01-json-attachment");
    bench.run(&["process", &call]).exits(0);
    bench.run(&["process", &call, "--dry-run"]).exits(0);
    let story = bench.run(&["--json", "sessions", "show", "voice-48213"]).exits(0).json();
    let note = story[0]["versions"][0]["document"].to_string();
    assert!(note.len() > 100);
    let looked = bench.run(&["--json", "sessions", "erase", "voice-48213", "--dry-run"]).exits(0).json();
    assert_eq!((&looked[0]["erased"], &looked[0]["versions"]), (&false.into(), &1.into()));
    bench.run(&["sessions", "show", "voice-48213"]).exits(0);
    let receipt = bench.run(&["--json", "sessions", "erase", "voice-48213"]).exits(0).json();
    assert_eq!((&receipt[0]["erased"], &receipt[0]["overwritten"]), (&true.into(), &true.into()));
    bench.run(&["sessions", "erase", "voice-48213"]).exits(2).says("there is no session");
    bench.run(&["messages", "show", "1", "--raw"]).exits(2).says("with a session that was erased");
    bench.run(&["messages", "reprocess", "1"]).exits(1).says("its raw bytes were removed");
    bench.run(&["audit"]).exits(0).prints("1 sessions erased").prints("all is accounted for");
    for file in fs::read_dir(bench.path()).expect("a folder").map(|file| file.expect("a file").path()) {
        let bytes = if file.is_file() { fs::read(&file).expect("bytes") } else { Vec::new() };
        for trace in ["48213", "C-100482"] {
            let found = memchr::memmem::find(&bytes, trace.as_bytes());
            assert!(found.is_none(), "`{trace}` is still in {}", file.display());
        }
    }
    // It is a new session when it comes again; the file that it had is not the ledger's to remove.
    bench.run(&["process", &call]).exits(0).says("1 unchanged");
    fs::remove_dir_all(bench.path().join("archive")).expect("removed");
    bench.run(&["sessions", "erase", "voice-48213"]).exits(0).prints("versions: 1");
    bench.run(&["process", &call]).exits(0).says("1 delivered");
}

#[test]
fn raw_mail_that_was_removed_is_told_and_can_not_be_read_again() {
    let bench = bench();
    bench.run(&["process", &mail("generic-11-truncated-json")]).exits(1);
    let ledger = Connection::open(bench.path().join("mail2crm.db")).expect("the ledger");
    ledger
        .execute_batch(
            "DELETE FROM raws; UPDATE messages SET raw_removed = 'retention', raw_removed_at = 1800000000000;",
        )
        .expect("as the service does");
    drop(ledger);
    bench.run(&["messages", "show", "1"]).exits(0).prints("raw_removed: retention");
    bench.run(&["messages", "show", "1", "--raw"]).exits(2).says("`keep_raw_days` in `[privacy]`");
    bench.run(&["messages", "reprocess", "1"]).exits(1).says("left as it is: its raw bytes were removed");
    bench.run(&["audit"]).exits(0).prints("raw bytes of 1 messages");
}

#[test]
fn check_makes_no_folder() {
    let bench = bench();
    bench.run(&["check"]).exits(0);
    bench.run(&["check", "--online"]).exits(0).prints("made at the first start");
    assert!(!bench.path().join("archive").exists() && !bench.path().join("mail2crm.db").exists());
}
