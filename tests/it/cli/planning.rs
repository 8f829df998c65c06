//! `plan`: the record as it is beside what a session would make of it, and nothing changed.

use std::fs;

use jiff::Timestamp;
use mail2crm::sandbox::store::Via;
use mail2crm::sandbox::update::Update;
use serde_json::{Value, json};

use super::all_three;
use crate::support::cli::{TOKEN, mail, sandbox};

/// The lines about fields: field, current, new, changes.
fn fields(lines: &[Value]) -> Vec<Value> {
    let of = |l: &Value| json!([l["field"], l["current"], l["new"], l["changes"]]);
    lines.iter().filter(|l| !l["field"].is_null()).map(of).collect()
}

#[test]
fn a_plan_shows_each_field_as_it_is_and_as_it_would_be_and_changes_nothing() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    let set = |field: &str, value: Value| {
        let fields = [(field.to_owned(), value)].into_iter().collect();
        let update = Update { fields, ..Update::default() };
        crm.store().update("C-100482", update, Via::Rest, Timestamp::now()).expect("set");
    };
    set("disposition", "Other".into());
    let (before, call) = (crm.effects(), mail("ccaip-01-json-attachment"));
    let plan = ["--json", "plan", &call, "--to", "helpdesk"];
    let lines = bench.run(&plan).exits(0).json();
    let rendered = bench.run(&["--json", "render", &call, "--to", "helpdesk"]).exits(0).json();
    let sent = &rendered[0]["requests"][0]["body"]["fields"];
    let (code, minutes) = (&sent["disposition"], &sent["handle_minutes"]);
    assert!(code.is_string() && !minutes.is_null(), "{rendered:?}");
    let both = [json!(["disposition", "Other", code, true]), json!(["handle_minutes", null, minutes, true])];
    assert_eq!(fields(&lines), both);
    let step = lines.last().expect("a step");
    assert_eq!((&step["step"], &step["what"]), (&"update".into(), &"would be added".into()));
    let shown = bench.run(&["plan", &call, "--to", "helpdesk"]).exits(0);
    let shown = shown.prints("(empty) → ").prints("\"Other\" → ").prints("+ update would be added: PUT");
    assert!(!shown.stdout.contains(TOKEN) && !shown.stdout.contains("no change"), "{}", shown.stdout);
    assert!(!bench.path().join("mail2crm.db").exists() && crm.effects() == before);

    set("handle_minutes", minutes.clone());
    assert_eq!(fields(&bench.run(&plan).exits(0).json())[1], json!(["handle_minutes", minutes, minutes, false]));
    bench.run(&plan[1..]).exits(0).prints("1 field without change");
    bench.run(&["-v", "plan", &call, "--to", "helpdesk"]).exits(0).prints("no change").prints("\"note\"");

    // What was delivered is not sent again, whatever became of the record.
    bench.run(&["process", "--to", "helpdesk", &call]).exits(0);
    set("disposition", "Changed by hand".into());
    let effects = crm.effects();
    let stored = bench.run(&["--json", "plan", "--session", "voice-48213", "--to", "helpdesk"]).exits(0).json();
    assert_eq!(fields(&stored)[0], json!(["disposition", "Changed by hand", code, false]));
    let shown = bench.run(&["plan", "--session", "voice-48213", "--to", "helpdesk"]).exits(0);
    shown.prints("nothing would be sent").prints("was applied before");
    assert_eq!(crm.effects(), effects);
    bench.run(&["plan", "--session", "voice-1", "--to", "helpdesk"]).exits(2).says("there is no session voice-1");
    bench.run(&["plan", "--to", "helpdesk"]).exits(2);
    bench.run(&["plan", &call, "--to", "helpdesc"]).exits(2).says("did you mean `helpdesk`?");
    bench.run(&["plan", &mail("ccaip-18-no-ticket-yet"), "--to", "helpdesk"]).exits(1).prints("parked");
    crm.stop();
}

#[test]
fn what_can_not_be_read_is_said_and_shown_as_far_as_it_can_be() {
    let crm = sandbox("");
    let bench = all_three(&crm);
    let call = mail("ccaip-01-json-attachment");
    bench.run(&["plan", &call, "--to", "cases"]).exits(0).prints("can't be read by mail").prints("Subject:");
    bench.run(&["plan", &call, "--to", "archive"]).exits(0).prints("would be written").prints("voice-48213.json");

    let config = fs::read_to_string(bench.path().join("mail2crm.toml")).expect("it");
    let rest = format!(
        "\n[destination.plain]\nconnector = \"generic-rest\"\nbase_url = \"{}\"\ntoken = \"{TOKEN}\"\n\
         endpoint = \"/api/tickets/{{{{record_id}}}}\"\nfields = {{ disposition_code = \"disposition\" }}\n\
         body = '''{{ \"fields\": \"{{{{field_map fields}}}}\" }}'''\n",
        crm.url()
    );
    bench.write("mail2crm.toml", &format!("{config}{rest}"));
    bench.run(&["plan", &call, "--to", "plain"]).exits(2).says("`generic-rest` does not read").says("mail2crm render");
    let readable = "read = \"/api/tickets/{{record_id}}\"\nread_fields = \"$.fields\"\n";
    bench.write("mail2crm.toml", &format!("{config}{rest}{readable}"));
    let lines = bench.run(&["--json", "plan", &call, "--to", "plain"]).exits(0).json();
    assert_eq!(
        fields(&lines)[0].as_array().map(|f| (f[0].clone(), f[3].clone())),
        Some(("disposition".into(), true.into()))
    );
    assert_eq!(lines[1]["what"], "would be set");
    bench.write("mail2crm.toml", &format!("{config}{rest}{}", readable.replace("$.fields", "fields")));
    bench.run(&["plan", &call, "--to", "plain"]).exits(2).says("read_fields");
    bench.write("mail2crm.toml", &format!("{config}{rest}{}", readable.replace("$.fields", "$.[")));
    bench.run(&["plan", &call, "--to", "plain"]).exits(1).prints("not a JSONPath");
    bench.write("mail2crm.toml", &config.replace(&format!("token = \"{TOKEN}\""), "token = \"wrong\""));
    bench.run(&["plan", &call, "--to", "helpdesk"]).exits(1).prints("can't be read").prints("unauthorized");
    assert_eq!(crm.effects(), 0);
    crm.stop();
}
