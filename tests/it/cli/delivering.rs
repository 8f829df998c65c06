//! `process` and all that is done with its ledger by hand.

use std::fs;

use jiff::Timestamp;
use mail2crm::sandbox::store::Via;
use mail2crm::sandbox::update::Update;
use rusqlite::Connection;
use serde_json::Value;

use super::all_three;
use crate::support::cli::{Bench, TOKEN, mail, sandbox};

#[test]
fn all_three_uses_end_to_end_and_a_second_time_changes_nothing() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    let call = mail("ccaip-01-json-attachment");
    let chat = mail("ccaip-06-chat-with-transcript");
    let done = bench.run(&["--json", "process", &call, &chat]).exits(0).json();
    assert_eq!((done.len(), &done[0]["messages"], &done[0]["deliveries"]["delivered"]), (1, &2.into(), &4.into()));
    let ticket = crm.store().ticket("C-100482").expect("the ticket of the call");
    assert_eq!((ticket.notes.len(), ticket.attachments.len()), (1, 1));
    assert!(ticket.fields.contains_key("disposition"));
    let by_mail = crm.store().tickets().into_iter().find(|t| t.notes.iter().any(|n| n.via.as_str() == "mail"));
    let by_mail = by_mail.expect("a ticket that was updated by mail");
    assert!(by_mail.attachments.iter().any(|a| a.name.ends_with(".json")), "{by_mail:?}");
    assert!(bench.path().join("archive/2026/02/17/voice-48213.json").is_file());

    let effects = crm.effects();
    bench.run(&["process", &call, &chat]).exits(0).says("2 messages taken in").prints_nothing();
    assert_eq!(crm.effects(), effects);
    bench.run(&["audit"]).exits(0).prints("all is accounted for");
    let audit = bench.run(&["--json", "audit"]).exits(0).json();
    assert_eq!(audit[0]["deliveries"]["delivered"], 4);

    for (list, head) in [("messages", "MESSAGE"), ("sessions", "SESSION"), ("deliveries", "DELIVERY")] {
        assert_eq!(
            bench.run(&["--json", list, "list"]).exits(0).json().len(),
            if list == "deliveries" { 4 } else { 2 }
        );
        bench.run(&[list, "list"]).exits(0).prints(head);
        bench.run(&[list, "list", "--state", "nope"]).exits(2).says("known here");
    }
    let story = bench.run(&["--json", "sessions", "show", "voice-48213"]).exits(0);
    assert!(story.stdout.contains("json_attachment") && !story.stdout.contains(TOKEN), "{}", story.stdout);
    bench.run(&["sessions", "show", "voice-48213"]).exits(0).prints("metadata");
    bench.run(&["sessions", "show", "48213"]).exits(2).says("voice-48213");
    bench.run(&["sessions", "show", "voice-1"]).exits(2).says("there is no session");
    let story = bench.run(&["deliveries", "show", "1"]).exits(0).stdout;
    assert!(!story.contains(TOKEN), "{story}");
    bench.run(&["deliveries", "show", "99"]).exits(2).says("there is no delivery 99");
    let raw = bench.run(&["messages", "show", "1", "--raw"]).exits(0).stdout;
    assert_eq!(raw, fs::read_to_string(&call).expect("the mail"));
    crm.stop();
}

#[test]
fn only_to_one_destination_and_a_dry_run_to_none() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    let call = mail("ccaip-01-json-attachment");
    let dry = bench.run(&["--json", "process", "--dry-run", &call]).exits(0).json();
    assert_eq!(
        dry.iter().map(|l| l["destination"].as_str().expect("a name")).collect::<Vec<_>>(),
        ["helpdesk", "archive"]
    );
    bench.run(&["process", "--dry-run", &mail("generic-11-truncated-json")]).exits(1).says("quarantine");
    bench.run(&["process", "--dry-run", &mail("ccaip-18-no-ticket-yet")]).exits(1).prints("parked");
    assert!(!bench.path().join("mail2crm.db").exists() && !bench.path().join("archive").exists());
    assert_eq!(crm.effects(), 0);

    bench.run(&["process", "--to", "archive", &call]).exits(0);
    assert_eq!(crm.effects(), 0);
    assert!(bench.path().join("archive/2026/02/17/voice-48213.json").is_file());
    bench.run(&["process", "--to", "archiv", &call]).exits(2).says("did you mean `archive`?");
    bench.run(&["process", "nope.eml"]).exits(1).says("can't read `nope.eml`");
    bench.write("hollow/readme.txt", "nothing");
    bench.run(&["process", "hollow"]).exits(0).says("no mail and no metadata document in `hollow`");
    crm.stop();
}

#[test]
fn a_pipe_is_told_0_once_it_is_committed_and_75_on_any_doubt() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    let call = fs::read(mail("ccaip-01-json-attachment")).expect("a mail");
    // Nothing says who may send to it: it is kept, without effect, until that is said or somebody vouches.
    bench.run_with(&["process", "-", "--dry-run"], &[], &call).says("`[pipe]`");
    bench.run_with(&["process", "-"], &[], &call).exits(0).prints_nothing();
    assert_eq!(bench.run(&["--json", "messages", "list"]).exits(0).json()[0]["reason"], "untrusted");
    assert!(bench.run(&["--json", "sessions", "list"]).exits(0).json().is_empty());
    bench.run(&["messages", "reprocess", "1"]).exits(1);
    bench.run(&["messages", "reprocess", "--trust", "1"]).exits(0);
    assert_eq!(bench.run(&["--json", "sessions", "list"]).exits(0).json().len(), 1);
    bench.run(&["messages", "show", "1"]).exits(0).prints("trusted by hand");
    let config = fs::read_to_string(bench.path().join("mail2crm.toml")).expect("it");
    bench.write("mail2crm.toml", &format!("{config}\n[pipe]\ntrust = \"anyone\"\n"));
    assert_eq!(bench.run(&["--json", "messages", "list"]).exits(0).json().len(), 1);
    // The same again is known.
    bench.run_with(&["process", "-"], &[], &call).exits(0);
    assert_eq!(bench.run(&["--json", "messages", "list"]).exits(0).json().len(), 1);
    // What goes to quarantine is committed all the same.
    let broken = fs::read(mail("generic-11-truncated-json")).expect("a mail");
    bench.run_with(&["process", "-"], &[], &broken).exits(0);

    let config = fs::read_to_string(bench.path().join("mail2crm.toml")).expect("it");
    bench.write("file", "");
    bench.write("below.toml", &format!("state = \"file/mail2crm.db\"\n{config}"));
    bench.run_with(&["--config", "below.toml", "process", "-"], &[], &call).exits(75).says("try again").says("state");
    bench.write("broken.toml", &format!("stat = 1\n{config}"));
    bench.run_with(&["--config", "broken.toml", "process", "-"], &[], &call).exits(75).says("did you mean `state`?");
    bench.run_with(&["--config", "nope.toml", "process", "-"], &[], &call).exits(75);
    bench.run_with(&["process", "-", "--to", "nope"], &[], &call).exits(75).says("there is no destination");
    bench.run_with(&["process", "-", "--nope"], &[], &call).exits(75).says("--nope");
    let unreadable =
        bench.command(&["process", "-"]).stdin(fs::File::open("/").expect("a folder")).output().expect("it runs");
    assert_eq!(unreadable.status.code(), Some(75), "what can't be read must stay with the MTA: {unreadable:?}");
    bench.write("small.toml", &format!("[limits]\nmessage_bytes = 1024\n{config}"));
    bench.run_with(&["--config", "small.toml", "process", "-"], &[], &call).exits(75).says("message_bytes");
    crm.stop();
}

/// The first delivery in a state.
fn one(bench: &Bench, state: &str) -> Value {
    let list = bench.run(&["--json", "deliveries", "list", "--state", state]).exits(0).json();
    list.into_iter().next().unwrap_or_else(|| panic!("no delivery is {state}"))
}

#[test]
fn dead_letters_and_parked_ones_are_handled_by_hand() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    // The OutTicket ID is missing: parked, exit 1.
    bench.run(&["process", "--to", "helpdesk", &mail("ccaip-18-no-ticket-yet")]).exits(1).says("1 parked");
    let parked = one(&bench, "parked")["id"].to_string();
    bench.run(&["deliveries", "release", &parked, "--record", "C-7", "--dry-run"]).exits(0);
    assert_eq!(one(&bench, "parked")["id"].to_string(), parked);
    bench.run(&["deliveries", "release", &parked, "--record", "C-7"]).exits(0);
    bench.run(&["deliveries", "release", &parked, "--record", "C-7"]).exits(1);
    // What waits in the ledger goes with the next run.
    bench.run(&["process", "--to", "helpdesk", &mail("generic-14-no-session")]).exits(0);
    assert_eq!(crm.store().ticket("C-7").expect("the ticket").notes.len(), 1);

    bench.run(&["pause", "helpdesk", "--why", "upgrade"]).exits(0).says("mail2crm resume helpdesk").prints_nothing();
    bench.run(&["process", "--to", "helpdesk", &mail("ccaip-01-json-attachment")]).exits(1).says("1 waiting");
    assert!(crm.store().ticket("C-100482").is_none_or(|t| t.notes.is_empty()));
    bench.run(&["resume", "helpdesk"]).exits(0).prints_nothing();
    bench.run(&["process", "--to", "helpdesk", &mail("generic-14-no-session")]).exits(0);
    assert_eq!(crm.store().ticket("C-100482").expect("the ticket").notes.len(), 1);
    bench.run(&["pause", "helpdesc"]).exits(2).says("did you mean `helpdesk`?");

    bench.run(&["deliveries", "discard", "99", "--why", "x"]).exits(1);
    bench.run(&["deliveries", "retry", "--all", "--since", "2d", "--dry-run"]).exits(0).prints_nothing();
    bench.run(&["deliveries", "retry", "--all", "--since", "yesterday"]).exits(2).says("`3d`");
    bench.run(&["audit"]).exits(0);
    crm.stop();
}

#[test]
fn what_the_crm_refuses_is_a_dead_letter_that_can_be_retried_or_discarded() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    let closed = Update { status: Some("closed".to_owned()), ..Update::default() };
    crm.store().update("C-100482", closed, Via::Rest, Timestamp::now()).expect("closed");
    bench.run(&["process", "--to", "helpdesk", &mail("ccaip-01-json-attachment")]).exits(1).says("1 dead");
    let dead = one(&bench, "dead");
    assert_eq!((&dead["reason"], &dead["record"]), (&"record_closed".into(), &"C-100482".into()));
    let id = dead["id"].to_string();
    let story = bench.run(&["deliveries", "show", &id]).exits(0).stdout;
    assert!(story.contains("PUT") && story.contains("422") && !story.contains(TOKEN), "{story}");
    bench.run(&["deliveries", "retry", "--all", "--destination", "helpdesk", "--dry-run"]).exits(0).prints(&id);
    bench.run(&["deliveries", "retry", &id]).exits(0).prints(&id);
    assert_eq!(one(&bench, "waiting")["id"].to_string(), id);
    bench.run(&["deliveries", "discard", &id, "--why", "closed for good"]).exits(0);
    assert_eq!(one(&bench, "discarded")["id"].to_string(), id);
    bench.run(&["audit"]).exits(0);
    crm.stop();
}

#[test]
fn quarantine_is_handled_by_hand() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    bench.run(&["process", &mail("generic-11-truncated-json")]).exits(1).says("1 put into quarantine");
    bench.run(&["messages", "list", "--state", "quarantined"]).exits(0).prints("malformed_metadata");
    bench.run(&["messages", "reprocess", "1"]).exits(1).says("malformed_metadata");
    bench.run(&["messages", "reprocess", "9"]).exits(2).says("there is no message 9");
    bench.run(&["messages", "discard", "1", "--why", "a test"]).exits(0).prints("message 1");
    bench.run(&["messages", "list", "--state", "discarded"]).exits(0).prints("generic-11");
    bench.run(&["messages", "show", "1"]).exits(0).prints("a test");
    bench.run(&["messages", "discard", "1", "--why", "again"]).exits(1);
    bench.run(&["audit"]).exits(0);
    crm.stop();
}

#[test]
fn an_account_that_does_not_add_up_ends_with_1() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    bench.run(&["process", &mail("ccaip-01-json-attachment")]).exits(0);
    let ledger = Connection::open(bench.path().join("mail2crm.db")).expect("the ledger");
    ledger.execute_batch("PRAGMA foreign_keys = off; DELETE FROM found;").expect("tampered with");
    drop(ledger);
    bench.run(&["audit"]).exits(1).prints("a processed message has no session").prints("message 1");
    let audit = bench.run(&["--json", "audit"]).exits(1).json();
    assert!(audit[0]["gaps"].as_array().is_some_and(|g| !g.is_empty()), "{audit:?}");
    crm.stop();
}

#[test]
fn check_online_says_which_step_failed() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    for part in ["new", "cur", "tmp"] {
        fs::create_dir_all(bench.path().join("mailbox").join(part)).expect("made");
    }
    let config = fs::read_to_string(bench.path().join("mail2crm.toml")).expect("it");
    let config = format!("{config}\n[source.inbox]\nkind = \"maildir\"\npath = \"mailbox\"\ntrust = \"anyone\"\n");
    let check = |config: &str| {
        bench.write("online.toml", config);
        bench.run(&["--config", "online.toml", "--json", "check", "--online"])
    };
    let lines = check(&config).exits(0).json();
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|l| l["ok"] == true && l["step"].is_null()), "{lines:?}");
    bench.run(&["--config", "online.toml", "check", "--online"]).exits(0).prints("ok      destination helpdesk");

    let failing = |config: &str, name: &str| -> Value {
        let lines = check(config).exits(1).json();
        let failed: Vec<Value> = lines.into_iter().filter(|l| l["ok"] == false).collect();
        assert_eq!(failed.iter().map(|l| l["name"].as_str().expect("a name")).collect::<Vec<_>>(), [name]);
        failed[0].clone()
    };
    let wrong_token = config.replace(&format!("token = \"{TOKEN}\""), "token = \"wrong\"");
    assert_eq!(failing(&wrong_token, "helpdesk")["step"], "unauthorized");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
    let wrong_port = config.replace(&crm.url(), &format!("http://127.0.0.1:{free}"));
    assert_eq!(failing(&wrong_port, "helpdesk")["step"], "unreachable");
    let wrong_base = config.replace(&crm.url(), &format!("{}/crm", crm.url()));
    assert_eq!(failing(&wrong_base, "helpdesk")["step"], "bad_base_url");
    let wrong_mail = config.replace(&format!("port = {},", crm.smtp_port()), &format!("port = {free},"));
    assert_eq!(failing(&wrong_mail, "cases")["step"], "unreachable");
    let no_source = config.replace("path = \"mailbox\"", "path = \"nowhere\"");
    let line = failing(&no_source, "inbox");
    assert_eq!((&line["kind"], &line["step"]), (&"source".into(), &"list".into()));
    assert_eq!(crm.effects(), 0);
    crm.stop();
}

#[cfg(unix)]
#[test]
fn an_interrupted_process_loses_nothing() {
    let crm = sandbox("slow=300ms");
    let bench = all_three(&crm);
    let child =
        bench.command(&["process", &crate::support::cli::repository().join("fixtures/mail").display().to_string()]);
    let mut child = { child }.spawn().expect("the binary");
    // Once the first update arrived, some are under way and some wait.
    while crm.effects() == 0 && child.try_wait().expect("a state").is_none() {
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill");
    assert!(killed.success());
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.code().is_some_and(|code| code < 2), "{output:?}");
    bench.run(&["audit"]).exits(0);
    // The next run delivers the rest; nothing twice.
    let all = crate::support::cli::repository().join("fixtures/mail").display().to_string();
    let done = bench.run(&["--json", "process", &all]);
    assert!(done.code.is_some_and(|c| c < 2), "{}", done.stderr);
    assert_eq!(bench.run(&["--json", "deliveries", "list", "--state", "waiting"]).exits(0).json().len(), 0);
    for ticket in crm.store().tickets() {
        let mut markers: Vec<_> = ticket.notes.iter().filter_map(|n| n.marker.clone()).collect();
        let all = markers.len();
        markers.sort();
        markers.dedup();
        assert_eq!(markers.len(), all, "{}", ticket.id);
    }
    bench.run(&["audit"]).exits(0);
    crm.stop();
}
