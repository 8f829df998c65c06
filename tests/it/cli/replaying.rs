//! `deliveries retry` by filter and `replay`: what a repaired template or field map does to sessions that came
//! before it.

use std::fs;

use jiff::Timestamp;
use mail2crm::sandbox::store::Via;
use mail2crm::sandbox::update::Update;
use serde_json::Value;

use super::all_three;
use crate::support::cli::{Bench, Crm, TOKEN, mail, sandbox};

fn edit(bench: &Bench, from: &str, to: &str) {
    let path = bench.path().join("mail2crm.toml");
    let config = fs::read_to_string(&path).expect("it");
    assert!(config.contains(from), "no `{from}` in\n{config}");
    fs::write(&path, config.replacen(from, to, 1)).expect("written");
}

/// Lines of `replay`: destination, result, steps, and what is left as written.
fn results(lines: &[Value]) -> Vec<String> {
    let words = |list: &Value| -> String {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |l: &Value| {
        format!("{} {} [{}] [{}]", text(&l["destination"]), text(&l["result"]), words(&l["steps"]), words(&l["kept"]))
    };
    lines.iter().map(line).collect()
}

/// The bench with a second destination that sets fields of the same tickets and nothing else.
fn with_fields(crm: &Crm) -> Bench {
    let bench = all_three(crm);
    let more = format!(
        r#"
[destination.fields]
connector = "generic-rest"
base_url = "{}"
endpoint = "/api/tickets/{{{{record_id}}}}"
token = "{TOKEN}"
fields = {{ disposition_code = "disposition" }}
body = '''{{ "fields": "{{{{field_map fields}}}}" }}'''
"#,
        crm.url()
    );
    let config = fs::read_to_string(bench.path().join("mail2crm.toml")).expect("it");
    bench.write("mail2crm.toml", &format!("{config}{more}"));
    edit(&bench, "to = [\"helpdesk\", \"archive\"]", "to = [\"helpdesk\", \"fields\"]");
    bench
}

/// Delivers what waits.
fn drain(bench: &Bench) {
    bench.run(&["process", &mail("generic-14-no-session")]);
}

#[test]
fn a_repaired_field_map_is_applied_and_no_note_is_written_twice() {
    let crm = sandbox("");
    let bench = with_fields(&crm);
    bench.run(&["process", &mail("ccaip-01-json-attachment")]).exits(0);
    let ticket = || crm.store().ticket("C-100482").expect("the ticket");
    let effects = crm.effects();
    let replay = |more: &[&str]| bench.run(&[&["--json", "replay", "--since", "1d"], more].concat()).exits(0).json();
    assert_eq!(results(&replay(&[])), ["helpdesk unchanged [] []", "fields unchanged [] []"]);

    // Both maps are repaired; one destination writes its note in the same request.
    edit(&bench, "handle_minutes = \"handle_minutes\"", "handle_minutes = \"minutes\"");
    edit(&bench, "fields = { disposition_code = \"disposition\" }", "fields = { disposition_code = \"code\" }");
    let expected = ["helpdesk unchanged [] [update]", "fields would_send [update] []"];
    assert_eq!(results(&replay(&["--dry-run"])), expected);
    assert_eq!(results(&replay(&["--dry-run", "--to", "fields"])), expected[1..]);
    bench.run(&["replay", "--since", "1d", "--dry-run", "-v"]).exits(0).prints("\"code\"").says("nothing was changed");
    assert_eq!((crm.effects(), ticket().fields.contains_key("code")), (effects, false));
    let lines = replay(&[]);
    assert_eq!(results(&lines), ["helpdesk unchanged [] [update]", "fields in_line [update] []"]);
    // A second one at once finds it waiting.
    assert_eq!(results(&replay(&[]))[1], "fields left [] []");
    drain(&bench);
    assert!(ticket().fields.contains_key("code") && !ticket().fields.contains_key("minutes"));
    assert_eq!((ticket().notes.len(), crm.effects()), (1, effects + 1));
    assert_eq!(results(&replay(&[]))[1], "fields unchanged [] []");

    let again = ["--repeat-notes", "--to", "helpdesk"];
    assert_eq!(results(&replay(&again)), ["helpdesk in_line [update] []"]);
    drain(&bench);
    assert_eq!(ticket().notes.len(), 2);
    assert!(ticket().fields.contains_key("minutes"));
    assert_eq!(results(&replay(&again)), ["helpdesk unchanged [] []"]);
    bench.run(&["audit"]).exits(0);
    crm.stop();
}

#[test]
fn a_replay_reaches_new_routes_and_the_dead_but_not_what_was_let_go_nor_what_is_outside_of_the_window() {
    let crm = sandbox("");
    let bench = with_fields(&crm);
    let closed = |status: &str| {
        let update = Update { status: Some(status.to_owned()), ..Update::default() };
        crm.store().update("C-100482", update, Via::Rest, Timestamp::now())
    };
    closed("closed").expect("closed");
    let config = fs::read_to_string(bench.path().join("mail2crm.toml")).expect("it");
    bench.run(&["process", &mail("ccaip-01-json-attachment"), &mail("ccaip-18-no-ticket-yet")]).exits(1);
    let list = bench.run(&["--json", "deliveries", "list", "--state", "dead"]).exits(0).json();
    assert_eq!(list.len(), 2, "{list:?}");
    let of =
        |name: &str| list.iter().find(|d| d["destination"] == name).map(|d| d["id"].to_string()).expect("a delivery");
    bench.run(&["deliveries", "discard", &of("fields"), "--why", "not needed"]).exits(0);
    edit(&bench, "to = [\"helpdesk\", \"fields\"]", "to = [\"helpdesk\", \"fields\", \"archive\"]");
    let dry = bench.run(&["--json", "replay", "--since", "1h", "--dry-run"]).exits(0).json();
    let expected = [
        "helpdesk would_send [update] []",
        "fields left [] []",
        "archive would_send [store] []",
        "helpdesk left [] []",
        "fields left [] []",
        "archive would_send [store] []",
    ];
    assert_eq!(results(&dry), expected);
    assert!(bench.run(&["--json", "replay", "--since", "2020-01-01", "--until", "1d"]).exits(0).json().is_empty());
    bench.run(&["replay", "--since", "yesterday"]).exits(2).says("`3d`");
    bench.run(&["replay", "--since", "1d", "--to", "archiv"]).exits(2).says("did you mean `archive`?");
    bench.run(&["replay"]).exits(2).says("--since");

    // A template that can't be rendered is said, and the rest goes on.
    edit(
        &bench,
        "path = \"{{date ends_at '%Y/%m/%d'}}/{{key}}.json\"",
        "path = \"{{date nothing '%Y'}}/{{key}}.json\"",
    );
    let broken = bench.run(&["--json", "replay", "--since", "1h", "--dry-run"]);
    assert!(broken.code != Some(0), "{}", broken.stderr);
    bench.write(
        "mail2crm.toml",
        &config.replace("to = [\"helpdesk\", \"fields\"]", "to = [\"helpdesk\", \"fields\", \"archive\"]"),
    );

    closed("open").expect("opened");
    let made = bench.run(&["--json", "replay", "--since", "1h"]).exits(0).json();
    assert_eq!(made[0]["delivery"].to_string(), of("helpdesk"), "the dead one itself goes back in line");
    drain(&bench);
    assert_eq!(crm.store().ticket("C-100482").expect("the ticket").notes.len(), 1);
    assert!(bench.path().join("archive/2026/02/17/voice-48213.json").is_file());
    bench.run(&["audit"]).exits(0);
    crm.stop();
}

#[test]
fn retries_and_replays_work_while_the_service_runs() {
    let crm = sandbox("");
    let bench = with_fields(&crm);
    let status = |word: &str| {
        let update = Update { status: Some(word.to_owned()), ..Update::default() };
        crm.store().update("C-100482", update, Via::Rest, Timestamp::now()).expect("set");
    };
    status("closed");
    bench.run(&["process", &mail("ccaip-01-json-attachment")]).exits(1).says("2 dead");
    status("open");
    edit(&bench, "to = [\"helpdesk\", \"fields\"]", "to = [\"helpdesk\", \"fields\", \"archive\"]");
    let mut service = bench.service();
    service.says("mail2crm is running");
    bench.run(&["deliveries", "retry", "--destination", "fields"]).exits(0);
    service.says("applied a session");
    bench.run(&["replay", "--since", "1d"]).exits(0).says("the service that runs delivers them");
    for _ in 0..2 {
        service.says("applied a session");
    }
    drop(service);
    let ticket = crm.store().ticket("C-100482").expect("the ticket");
    assert!(ticket.notes.len() == 1 && ticket.fields.contains_key("disposition"), "{ticket:?}");
    assert!(bench.path().join("archive/2026/02/17/voice-48213.json").is_file());
    bench.run(&["audit"]).exits(0);
    crm.stop();
}

#[test]
fn dead_deliveries_are_retried_by_what_they_have_in_common_and_never_by_accident() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    let update = Update { status: Some("closed".to_owned()), ..Update::default() };
    crm.store().update("C-100482", update, Via::Rest, Timestamp::now()).expect("closed");
    bench.run(&["process", &mail("ccaip-01-json-attachment")]).exits(1);
    let retry = |more: &[&str]| bench.run(&[&["--json", "deliveries", "retry"], more].concat());
    retry(&[]).exits(2).says("--all").prints_nothing();
    retry(&["--limit", "5"]).exits(2).says("--all");
    retry(&["1", "--destination", "helpdesk"]).exits(2).says("not clear");
    retry(&["--reason", "closed"]).exits(2).says("no reason");
    retry(&["--state", "delivered"]).exits(2).says("`dead`");
    for (filter, fits) in [
        (["--reason", "record_closed"], 1),
        (["--reason", "unknown_field"], 0),
        (["--destination", "helpdesk"], 1),
        (["--destination", "archive"], 0),
        (["--since", "1h"], 1),
        (["--until", "1h"], 0),
        (["--record", "C-100482"], 1),
        (["--state", "dead"], 1),
        (["--state", "discarded"], 0),
    ] {
        let done = retry(&[&filter[..], &["--dry-run"]].concat()).exits(0).says("nothing was changed");
        assert_eq!(done.json().len(), fits, "{filter:?}");
    }
    assert_eq!(bench.run(&["--json", "deliveries", "list", "--state", "dead"]).json().len(), 1);
    let both = retry(&["--destination", "helpdesk", "--since", "1h", "--reason", "record_closed"]).exits(0).json();
    assert_eq!(both[0]["after"], "waiting");
    assert_eq!(bench.run(&["--json", "deliveries", "list", "--state", "dead"]).json().len(), 0);
    retry(&["--all"]).exits(0).says("no delivery fits");
    crm.stop();
}
