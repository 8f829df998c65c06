//! `extract` and `render`: what is found and what would be sent, and paths that are not what they should be.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::all_three;
use crate::support::cli::{Bench, mail, repository, sandbox};

#[test]
fn extract_of_the_sample_mails_prints_what_is_expected_beside_each() {
    let output = Command::new(env!("CARGO_BIN_EXE_mail2crm"))
        .args(["extract", "fixtures/mail"])
        .current_dir(repository())
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .expect("UTF-8")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let mails = fs::read_dir(repository().join("fixtures/mail")).expect("the folder");
    let mails = mails.filter(|e| e.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|x| x == "eml"))).count();
    assert_eq!(lines.len(), mails);
    for line in lines {
        let input = line["input"].as_str().expect("a path");
        let expected = repository().join(input.replace(".eml", ".expected.json"));
        let expected: Value =
            serde_json::from_str(&fs::read_to_string(expected).expect("the expected file")).expect("JSON");
        assert_eq!(line, expected, "{input}");
    }
}

#[test]
fn odd_paths_are_told_and_stop_nothing() {
    let bench = Bench::new();
    bench.write("empty.eml", "");
    bench.write("sub/readme.txt", "no mail");
    fs::write(bench.path().join("binary.dat"), [0, 159, 146, 150, 255, 0, 7].repeat(500)).expect("written");
    bench.write("long.eml", &format!("Subject: {}\n\n{}\n", "x".repeat(200_000), "y".repeat(2_000_000)));
    let good = mail("ccaip-01-json-attachment");

    let done = bench.run(&["extract", "nope.eml", &good]).exits(1).says("can't read `nope.eml`");
    assert_eq!(done.json().len(), 1);
    bench.run(&["extract", "sub"]).exits(0).says("no mail and no metadata document in `sub`").prints_nothing();
    for name in ["empty.eml", "long.eml"] {
        let lines = bench.run(&["extract", name]).exits(0).json();
        assert_eq!((&lines[0]["outcome"], &lines[0]["reason"]), (&"none".into(), &"no_metadata".into()), "{name}");
    }
    let lines = bench.run(&["extract", "binary.dat"]).exits(0).json();
    assert_ne!(lines[0]["outcome"], "sessions");
    // A file that can't be read: below a file, as permissions mean nothing to root.
    bench.run(&["extract", "empty.eml/x.eml"]).exits(1).says("can't read `empty.eml/x.eml`");
    let lines = bench.run_with(&["extract", "-"], &[], &fs::read(&good).expect("a mail")).exits(0).json();
    assert_eq!((&lines[0]["input"], &lines[0]["sessions"][0]["id"]), (&"-".into(), &"48213".into()));
}

#[test]
fn who_reads_only_the_head_of_the_output_is_no_fault() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mail2crm"))
        .args(["extract", "fixtures/mail", "fixtures/mail", "fixtures/mail"])
        .current_dir(repository())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut first = [0; 10];
    child.stdout.take().expect("stdout").read_exact(&mut first).expect("a head");
    let output = child.wait_with_output().expect("an end");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn render_shows_what_is_then_sent_and_sends_nothing() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    let call = mail("ccaip-01-json-attachment");
    let chat = mail("ccaip-06-chat-with-transcript");
    let request = bench.run(&["--json", "render", &call, "--to", "helpdesk"]).exits(0).json();
    let sent = bench.run(&["--json", "render", &chat, "--to", "cases"]).exits(0).json();
    let file = bench.run(&["--json", "render", &call, "--to", "archive"]).exits(0).json();
    bench
        .run(&["render", &call, "--to", "helpdesk"])
        .exits(0)
        .prints("PUT http://")
        .prints("and the destination's credentials");
    bench.run(&["render", &mail("generic-14-no-session"), "--to", "helpdesk"]).exits(1).says("no session metadata");
    bench.run(&["render", &call, "--to", "helpdesc"]).exits(2).says("did you mean `helpdesk`?");
    bench.run(&["render", "nope.eml", "--to", "helpdesk"]).exits(2).says("nope.eml");
    assert_eq!(crm.effects(), 0);
    assert!(!bench.path().join("mail2crm.db").exists());

    bench.run(&["process", &call, &chat]).exits(0);
    let body = &request[0]["requests"][0]["body"];
    let ticket = crm.store().ticket("C-100482").expect("the ticket");
    assert_eq!(Value::from(ticket.fields.clone()), body["fields"]);
    assert_eq!(ticket.notes[0].text, body["note"]["text"]);
    assert_eq!(ticket.notes[0].marker.as_deref(), body["note"]["marker"].as_str());
    let raw = sent[0]["mail"]["raw"].as_str().expect("a mail");
    let record = sent[0]["record"].as_str().expect("a record");
    let ticket = crm.store().ticket(record).expect("the ticket of the chat");
    let marker = ticket.notes[0].marker.clone().expect("a marker");
    assert!(sent[0]["mail"]["message_id"].as_str().is_some_and(|id| id.contains(&marker)), "{marker}: {raw}");
    assert!(raw.contains(&format!("[sandbox #{record}]")), "{raw}");
    let path = file[0]["file"]["path"].as_str().expect("a path");
    let stored = fs::read_to_string(bench.path().join(path)).expect("the stored document");
    assert_eq!(stored, file[0]["file"]["content"].as_str().expect("a content"));
    crm.stop();
}
