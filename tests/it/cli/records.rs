//! Records that are closed, merged, gone or not named, end to end against the sandbox CRM.

use jiff::Timestamp;
use mail2crm::sandbox::store::{Ticket, Via};
use mail2crm::sandbox::update::Update;
use serde_json::{Value, json};

use crate::support::cli::{Bench, Crm, TOKEN, sandbox};

/// A folder whose one destination is the sandbox CRM, with these keys.
fn bench(crm: &Crm, keys: &str) -> Bench {
    let bench = Bench::new();
    let config = format!(
        "[destination.helpdesk]\nconnector = \"sandbox\"\nbase_url = \"{}\"\ntoken = \"{TOKEN}\"\nfields = {{ handle_minutes = \"minutes\" }}\n{keys}\n",
        crm.url()
    );
    bench.write("mail2crm.toml", &config);
    bench
}

/// A document of a session, version by version.
fn document(bench: &Bench, id: u32, version: u32, record: Option<&str>, end_user: Value) -> String {
    let document = json!({
        "id": id, "call_type": "Voice Inbound", "status": "finished", "call_duration": 60 * version,
        "created_at": "2026-02-17T10:00:00Z", "updated_at": format!("2026-02-17T11:00:0{version}Z"),
        "out_ticket_id": record, "end_user": end_user,
        "handle_durations": [{ "id": 1, "call_duration": 60 * version }],
    });
    let name = format!("{id}-{version}.json");
    bench.write(&name, &document.to_string());
    name
}

fn set(crm: &Crm, id: &str, update: &Value) {
    let update = Update::read(update.to_string().as_bytes()).expect("an update");
    crm.store().update(id, update, Via::Rest, Timestamp::now()).expect("applied");
}

fn ticket(crm: &Crm, id: &str) -> std::sync::Arc<Ticket> {
    crm.store().ticket(id).expect("a ticket")
}

fn deliveries(bench: &Bench) -> Vec<Value> {
    bench.run(&["--json", "deliveries", "list"]).exits(0).json()
}

#[test]
fn a_closed_record_is_what_the_operator_chose() {
    let crm = sandbox("");
    for (choice, code) in [("dead", 1), ("reopen", 0), ("note_only", 0), ("follow_up", 0)] {
        let bench = bench(&crm, &format!("policy = {{ record_closed = \"{choice}\" }}"));
        let id = format!("C-{choice}");
        set(&crm, &id, &json!({ "status": "closed" }));
        let file = document(&bench, 1, 1, Some(&id), Value::Null);
        bench.run(&["process", &file]).exits(code);
        let (closed, row) = (ticket(&crm, &id), deliveries(&bench).remove(0));
        let notes = (closed.notes.len(), closed.status.as_str(), row["state"].as_str().expect("a state"));
        match choice {
            "dead" => assert_eq!(notes, (0, "closed", "dead")),
            "reopen" => assert_eq!(notes, (1, "open", "delivered")),
            "note_only" => {
                assert_eq!((notes, row["reason"].as_str()), ((1, "closed", "delivered"), Some("record_closed")))
            }
            _ => {
                assert_eq!((notes, row["record"].as_str()), ((0, "closed", "delivered"), Some("C-follow_up.1")));
                assert_eq!(ticket(&crm, "C-follow_up.1").notes.len(), 1);
                bench.run(&["deliveries", "show", "1"]).exits(0).prints("C-follow_up.1").prints("record_closed");
                // The next version of the session goes to the follow-up, and makes none of its own.
                let file = document(&bench, 1, 2, Some(&id), Value::Null);
                bench.run(&["process", &file]).exits(0);
                assert_eq!(ticket(&crm, "C-follow_up.1").notes.len(), 2);
                assert_eq!(crm.store().follow_ups(&id, None).len(), 1);
            }
        }
        bench.run(&["audit"]).exits(0).prints("all is accounted for");
    }
    crm.stop();
}

#[test]
fn a_merged_record_leads_to_the_one_that_took_its_place() {
    let crm = sandbox("");
    let bench = bench(&crm, "");
    for (from, into) in [("C-1", "C-2"), ("C-2", "C-3")] {
        crm.store().ticket(into);
        crm.store().ticket(from);
        crm.store().merge(from, into, Timestamp::now()).expect("merged");
    }
    let file = document(&bench, 1, 1, Some("C-1"), Value::Null);
    bench.run(&["process", &file]).exits(0).says("goes on with another record");
    assert_eq!((ticket(&crm, "C-3").notes.len(), ticket(&crm, "C-1").notes.len()), (1, 0));
    let story = bench.run(&["--json", "deliveries", "show", "1"]).exits(0).json().remove(0);
    let led: Vec<_> =
        story["moves"].as_array().expect("moves").iter().map(|m| (m["from"].clone(), m["to"].clone())).collect();
    assert_eq!(led, [(json!("C-1"), json!("C-2")), (json!("C-2"), json!("C-3"))]);
    bench.run(&["audit"]).exits(0).prints("led         1 deliveries");
    crm.stop();
}

#[test]
fn a_mistyped_record_makes_none_and_a_record_that_is_late_is_waited_for() {
    let crm = sandbox("");
    crm.store().remove("C-404");
    let dead = bench(&crm, "");
    let file = document(&dead, 1, 1, Some("C-404"), Value::Null);
    dead.run(&["process", &file]).exits(1);
    assert_eq!(deliveries(&dead)[0]["reason"], "record_not_found");
    assert!(crm.store().ticket("C-404").is_none());
    let parks = bench(&crm, "policy = { record_not_found = \"park\" }");
    let file = document(&parks, 1, 1, Some("C-404"), Value::Null);
    parks.run(&["process", &file]).exits(1).says("its record is looked for until then");
    let row = deliveries(&parks).remove(0);
    assert_eq!((&row["state"], &row["reason"]), (&json!("parked"), &json!("record_not_found")));
    assert!(row["look_at"].as_str() < row["next_at"].as_str(), "{row}");
    parks.run(&["deliveries", "retry", "1"]).exits(0).prints("tried again now");
    parks.run(&["audit"]).exits(0);
    crm.stop();
}

#[test]
fn a_record_that_somebody_else_holds_is_tried_again_soon() {
    let crm = sandbox("");
    let bench = bench(&crm, "");
    crm.store().ticket("C-1");
    crm.store().hold("C-1", 1);
    let file = document(&bench, 1, 1, Some("C-1"), Value::Null);
    bench.run(&["process", &file]).exits(0);
    let story = bench.run(&["--json", "deliveries", "show", "1"]).exits(0).json().remove(0);
    let reasons: Vec<_> = story["attempts"].as_array().expect("attempts").iter().map(|a| a["reason"].clone()).collect();
    assert_eq!(reasons, ["conflict", "applied"]);
    crm.stop();
}

#[test]
fn a_session_without_a_record_goes_where_exactly_one_look_up_says() {
    let crm = sandbox("");
    let bench = bench(&crm, "lookup = [\"contact\", \"phone\"]");
    let contact = |id: &str| json!({ "out_contact_id": id, "phone_number": "+13125550123" });
    set(&crm, "C-1", &json!({ "fields": { "contact": "K-1" } }));
    set(&crm, "C-2", &json!({ "fields": { "contact": "K-2" } }));
    set(&crm, "C-3", &json!({ "fields": { "contact": "K-2" } }));
    set(&crm, "C-4", &json!({ "fields": { "contact": "K-2" }, "status": "closed" }));

    let one = document(&bench, 1, 1, None, contact("K-1"));
    bench.run(&["process", &one]).exits(0);
    assert_eq!(ticket(&crm, "C-1").notes.len(), 1);
    bench.run(&["deliveries", "show", "1"]).exits(0).prints("found by the look-up `contact`");

    let two = document(&bench, 2, 1, None, contact("K-2"));
    bench.run(&["process", &two]).exits(1).says("record_ambiguous");
    let row = deliveries(&bench).remove(0);
    let candidates = json!([{ "record": "C-2", "label": "open" }, { "record": "C-3", "label": "open" }]);
    assert_eq!((&row["state"], &row["candidates"]), (&json!("parked"), &candidates));
    bench.run(&["audit"]).exits(0).prints("AMBIGUOUS   1 deliveries");
    bench.run(&["deliveries", "release", "2", "--record", "../3"]).exits(2).says("does not have the form");
    bench.run(&["deliveries", "release", "2", "--record", "C-3"]).exits(0);

    // None yet: parked, and a later version brings the record. The one that was released goes along.
    let three = document(&bench, 3, 1, None, contact("K-9"));
    bench.run(&["process", &three]).exits(1).says("no_record_id");
    assert_eq!(ticket(&crm, "C-3").notes.len(), 1);
    let three = document(&bench, 3, 2, Some("C-9"), contact("K-9"));
    bench.run(&["process", &three]).exits(0);
    assert_eq!(ticket(&crm, "C-9").notes.len(), 1);
    bench.run(&["audit"]).exits(0).prints("all is accounted for");
    crm.stop();
}

#[test]
fn a_session_that_moves_to_another_record_leaves_the_former_one_as_it_is() {
    let crm = sandbox("");
    let bench = bench(&crm, "");
    for (version, record) in [(1, "C-1"), (2, "C-2")] {
        let file = document(&bench, 1, version, Some(record), Value::Null);
        let done = bench.run(&["process", &file]).exits(0);
        assert_eq!(done.stderr.contains("a session moved to another record"), version == 2, "{}", done.stderr);
    }
    assert_eq!((ticket(&crm, "C-1").version, ticket(&crm, "C-2").version), (2, 2));
    bench.run(&["sessions", "show", "voice-1"]).exits(0).prints("moved_from: C-1");
    bench.run(&["audit"]).exits(0).prints("moved       1 deliveries");
    crm.stop();
}
