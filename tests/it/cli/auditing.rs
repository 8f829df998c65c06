//! `audit` against a source, an export, and the bytes that the ledger keeps.

use std::fs;

use rusqlite::Connection;
use serde_json::Value;

use crate::support::cli::{Bench, mail};

const CONFIG: &str = r#"
[source.drop]
kind = "directory"
path = "drop"
trust = "anyone"
poll_seconds = 1

[source.box]
kind = "maildir"
path = "box"
trust = "anyone"
poll_seconds = 1

[source.spool]
kind = "mbox"
path = "spool"
start = "all"
trust = "anyone"
poll_seconds = 1

[source.called]
kind = "http"
listen = "127.0.0.1:0"
token = "k"
trust = "anyone"

[destination.archive]
storage = "archive"
path = "{{key}}.json"
"#;

/// What `audit` says of the items of sources: source, input, result.
fn items(lines: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let named = lines.iter().filter(|line| !line["input"].is_null());
    let mut all: Vec<String> =
        named.map(|l| format!("{} {} {}", text(&l["source"]), text(&l["input"]), text(&l["result"]))).collect();
    all.sort();
    all
}

fn document(id: u32, updated: &str) -> String {
    format!(
        r#"{{"id": {id}, "call_type": "Voice Inbound", "status": "finished", "created_at": "2026-02-17T10:00:00Z",
            "ends_at": "2026-02-17T10:05:00Z", "updated_at": "{updated}", "out_ticket_id": "C-{id}"}}"#
    )
}

#[test]
fn what_is_in_a_source_and_not_in_the_ledger_is_named_with_why() {
    let bench = Bench::new();
    bench.write("mail2crm.toml", CONFIG);
    for folder in ["drop", "box/new", "box/cur", "box/tmp"] {
        fs::create_dir_all(bench.path().join(folder)).expect("made");
    }
    let copy = |from: &str, to: &str| {
        fs::copy(mail(from), bench.path().join(to)).expect("copied");
    };
    copy("ccaip-01-json-attachment", "box/new/1.before");
    let raw = fs::read_to_string(mail("ccaip-06-chat-with-transcript")).expect("a mail");
    fs::write(bench.path().join("spool"), format!("From a@b Tue Feb 17 10:11:31 2026\n{raw}\n\n")).expect("a spool");
    {
        let mut service = bench.service();
        service.says("applied a session");
        copy("ccaip-01-json-attachment", "drop/a.eml");
        copy("ccaip-01-json-attachment", "box/new/2.after");
        service.says("applied a session");
        let known = || bench.run(&["--json", "messages", "list"]).exits(0).json().len();
        while known() < 3 {
            std::thread::yield_now();
        }
    }
    let audit = |more: &[&str]| bench.run(&[&["--json", "audit"], more].concat());
    assert_eq!(items(&audit(&["--source"]).exits(0).json()), ["box 1.before before_start"]);
    bench.run(&["audit", "--source", "called"]).exits(0).prints("keeps nothing");
    bench.run(&["audit", "--source", "dorp"]).exits(2).says("did you mean `drop`?");

    // What came while nobody looked, what was written anew, and what was lost.
    copy("ccaip-06-chat-with-transcript", "drop/a.eml");
    copy("ccaip-06-chat-with-transcript", "box/cur/3.new:2,S");
    let more = format!(
        "{0}From a@b Tue Feb 17 10:12:31 2026\n{raw}\n\n",
        fs::read_to_string(bench.path().join("spool")).expect("it")
    );
    fs::write(bench.path().join("spool"), more).expect("a spool");
    let ledger = Connection::open(bench.path().join("mail2crm.db")).expect("the ledger");
    ledger.execute("UPDATE messages SET input = 'x' WHERE source = 'box'", []).expect("changed");
    drop(ledger);
    let (lines, before) = (audit(&["--source"]).exits(1).json(), bench.run(&["--json", "messages", "list"]).json());
    assert_eq!(
        items(&lines),
        [
            "box 1.before before_start",
            "box 2.after missing",
            "box 3.new not_read",
            "drop a.eml not_read",
            "spool spool#2 not_read"
        ]
    );
    assert_eq!(items(&audit(&["--source", "drop"]).exits(1).json()), ["drop a.eml not_read"]);
    bench.run(&["audit", "--source", "box"]).exits(1).prints("missing `2.after`").prints("passed it by");
    assert_eq!(bench.run(&["--json", "messages", "list"]).json(), before, "it changes nothing");
    fs::remove_dir_all(bench.path().join("drop")).expect("removed");
    bench.run(&["audit", "--source", "drop"]).exits(1).prints("could not be looked through");
}

#[test]
fn sessions_of_an_export_that_were_never_seen_or_are_older_here_are_named() {
    let bench = Bench::new();
    bench.write("mail2crm.toml", "[destination.archive]\nstorage = \"archive\"\npath = \"{{key}}.json\"\n");
    for id in 1..=3 {
        bench.write(&format!("in/metadata-{id}.json"), &document(id, "2026-02-17T10:06:00Z"));
    }
    bench.run(&["process", "in"]).exits(0);
    let audit = |more: &[&str]| bench.run(&[&["--json", "audit", "--sessions"], more].concat());
    let results = |lines: &[Value]| -> Vec<String> {
        let of = |l: &Value| {
            format!("{} {}", l["session"].as_str().unwrap_or_default(), l["result"].as_str().unwrap_or_default())
        };
        lines.iter().filter(|l| !l["session"].is_null()).map(of).collect()
    };
    assert!(results(&audit(&["in"]).exits(0).json()).is_empty());
    let array = [1, 4].map(|id| document(id, "2026-02-17T10:06:00Z")).join(",");
    bench.write("export/calls.json", &format!("[{array}]"));
    let later = document(2, "2026-02-18T10:06:00Z").replace("finished", "failed");
    bench.write("export/later.json", &later);
    bench.write("export/earlier.json", &document(3, "2026-02-16T10:06:00Z"));
    bench.write("export/calls.csv", "id,updated_at\n1,2026-02-17T10:06:00Z\n3,2026-02-19T00:00:00Z\n9,\n");
    let lines = audit(&["export"]).exits(1).json();
    let mut found = results(&lines);
    found.sort();
    assert_eq!(found, ["voice-2 older_version", "voice-3 older_version", "voice-4 never_seen", "voice-9 never_seen"]);
    assert_eq!(lines.last().expect("the counts")["sessions"]["known"], 3);
    bench
        .run(&["audit", "--sessions", "export/calls.csv"])
        .exits(1)
        .prints("never seen voice-9 (`export/calls.csv:4`)");
    bench.write("names.csv", "name\na\n");
    bench.run(&["audit", "--sessions", "names.csv"]).exits(1).says("no column of session ids");
    bench.run(&["audit", "--sessions", "nope.csv"]).exits(1).says("can't read `nope.csv`");
    audit(&["export/calls.csv", "--instance", "emea"]).exits(1);
}

#[test]
fn bytes_that_are_not_those_that_were_recorded_are_found() {
    let bench = Bench::new();
    bench.write("mail2crm.toml", "[destination.archive]\nstorage = \"archive\"\npath = \"{{key}}.json\"\n");
    bench.run(&["process", &mail("ccaip-01-json-attachment")]).exits(0);
    bench.run(&["audit", "--contents"]).exits(0).prints("all is accounted for");
    let ledger = Connection::open(bench.path().join("mail2crm.db")).expect("the ledger");
    ledger.execute("UPDATE raws SET bytes = CAST(bytes || ' ' AS BLOB)", []).expect("changed");
    ledger.execute("UPDATE versions SET document = replace(document, 'C-100482', 'C-100483')", []).expect("changed");
    drop(ledger);
    bench.run(&["audit"]).exits(0);
    let said = bench.run(&["audit", "--contents"]).exits(1);
    said.prints("NOT ACCOUNTED FOR").prints("message 1").prints("version 1");
}
