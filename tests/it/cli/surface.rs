//! What there is: commands, help, exit codes of a wrong command line, schemas, completions.

use serde_json::Value;

use crate::support::cli::{Bench, mail};

/// Every command of the contract.
const COMMANDS: [&str; 28] = [
    "init",
    "demo",
    "check",
    "run",
    "process",
    "extract",
    "render",
    "plan",
    "sessions list",
    "sessions show",
    "messages list",
    "messages show",
    "messages reprocess",
    "messages discard",
    "deliveries list",
    "deliveries show",
    "deliveries retry",
    "deliveries discard",
    "deliveries release",
    "replay",
    "resume",
    "pause",
    "audit",
    "templates test",
    "connector list",
    "connector new",
    "sandbox",
    "schema",
];

#[test]
fn every_command_of_the_contract_exists_and_its_help_has_an_example() {
    let bench = Bench::new();
    for command in COMMANDS.into_iter().chain(["completions", "man"]) {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = bench.run(&words).exits(0).stdout;
        assert!(help.contains("Example"), "{command}:\n{help}");
        assert!(help.contains(&format!("mail2crm {command}")) || command == "sandbox", "{command}:\n{help}");
    }
    let help = bench.run(&["--help"]).exits(0).stdout;
    for command in COMMANDS {
        let name = command.split(' ').next().expect("a name");
        assert!(help.contains(&format!("  {name} ")), "{name}:\n{help}");
    }
    assert!(help.contains("75"), "{help}");
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_was_meant() {
    let bench = Bench::new();
    bench.run(&[]).exits(2);
    bench.run(&["exract"]).exits(2).says("extract").prints_nothing();
    bench.run(&["extract", "--jsn", "x"]).exits(2).says("--json").prints_nothing();
    bench.run(&["process"]).exits(2).says("PATH").prints_nothing();
    bench.run(&["render", "x.eml"]).exits(2).says("--to").prints_nothing();
    bench.run(&["messages", "show", "abc"]).exits(2).prints_nothing();
    bench.run(&["messages", "discard", "1"]).exits(2).says("--why").prints_nothing();
    bench.run(&["deliveries", "retry"]).exits(2).prints_nothing();
    bench.run(&["completions", "tcsh"]).exits(2).prints_nothing();
    bench.run(&["sandbox", "--faults", "429=often"]).exits(2).says("--faults").prints_nothing();
    bench.run(&["templates", "test", "--connector", "sandbx"]).exits(2).says("did you mean `sandbox`?");
    bench.run(&["extract", "--profile", "ccaipp", &mail("ccaip-01-json-attachment")]).exits(2).says("`ccaip`");
}

#[test]
fn without_a_configuration_the_hint_names_init() {
    let bench = Bench::new();
    for command in ["check", "run", "audit", "process x.eml", "render x.eml --to d", "messages list", "pause d"] {
        let words: Vec<&str> = command.split(' ').collect();
        bench.run(&words).exits(2).says("mail2crm init").prints_nothing();
    }
    bench.write("folder/x", "");
    bench.run(&["--config", "folder", "check"]).exits(2).says("names the file itself");
    bench.run(&["--config", "nope.toml", "check"]).exits(2).says("nope.toml");
    bench.run_with(&["check"], &[("MAIL2CRM_CONFIG", "other.toml")], b"").exits(2).says("other.toml");
    bench.run(&["--templates", "nope", "templates", "test"]).exits(2).says("nope");
}

#[test]
fn what_init_writes_is_good_as_it_is_and_never_written_over() {
    let bench = Bench::new();
    bench.run(&["init", "new/place"]).exits(0).says("check").prints_nothing();
    let check = ["--config", "new/place/mail2crm.toml", "check"];
    bench.run(&check).exits(2).says("IMAP_PASSWORD");
    bench.run_with(&check, &[("IMAP_PASSWORD", "x")], b"").exits(0).says("1 source, 2 destinations, 1 route");
    bench.run(&["init", "new/place"]).exits(2).says("there already");
}

/// Every `$ref` of a schema leads somewhere.
fn check_references(schema: &Value, root: &Value) {
    match schema {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("a local reference");
                assert!(root.pointer(pointer).is_some(), "{reference}");
            }
            map.values().for_each(|v| check_references(v, root));
        }
        Value::Array(list) => list.iter().for_each(|v| check_references(v, root)),
        _ => {}
    }
}

#[test]
fn the_three_schemas_are_json_schemas_and_say_what_each_key_is_for() {
    let bench = Bench::new();
    for (name, key) in [("session", "out_ticket_id"), ("config", "destination"), ("connector", "step")] {
        let schema: Value = serde_json::from_str(&bench.run(&["schema", name]).exits(0).stdout).expect("JSON");
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert_eq!(schema["type"], "object", "{name}");
        check_references(&schema, &schema);
        let described = schema["properties"][key].get("description").and_then(Value::as_str);
        assert!(described.is_some_and(|text| text.len() > 10), "{name}.{key}");
    }
    bench.run(&["schema", "sesion"]).exits(2);
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        bench.run(&["completions", shell]).exits(0).prints("extract");
    }
    bench.run(&["man"]).exits(0).prints(".TH mail2crm");
}

#[test]
fn a_new_connector_passes_its_own_cases_and_is_never_written_over() {
    let bench = Bench::new();
    bench.run(&["connector", "new", "acme"]).exits(0).says("templates/acme");
    bench.run(&["templates", "test", "templates", "--connector", "acme"]).exits(0).prints("2 cases passed, 0 failed");
    bench.run(&["--templates", "templates", "connector", "list"]).exits(0).prints("acme");
    let names = bench.run(&["--json", "connector", "list"]).exits(0).json();
    assert!(names.iter().any(|n| n["name"] == "rt" && n["transports"][0] == "rest"), "{names:?}");
    bench.run(&["connector", "new", "acme"]).exits(2).says("there already");
    bench.run(&["connector", "new", "rt"]).exits(2).says("built in");
    bench.run(&["connector", "new", "../up"]).exits(2).says("small letters");
}

#[test]
fn a_broken_golden_case_fails_and_is_blessed() {
    let bench = Bench::new();
    bench.run(&["connector", "new", "acme"]).exits(0);
    let note = bench.path().join("templates/acme/note.txt.hbs");
    std::fs::write(&note, "{{key}}\n").expect("written");
    let test = ["templates", "test", "templates", "--connector", "acme"];
    bench.run(&test).exits(1).prints("FAILED  acme/golden/voice.json").prints("1 cases passed, 1 failed");
    let lines = bench.run(&[&["--json"], &test[..]].concat()).exits(1).json();
    assert!(lines.iter().any(|l| l["case"] == "golden/voice.json" && l["passed"] == false), "{lines:?}");
    bench.run(&[&test[..], &["--bless"]].concat()).exits(0).says("rewrote");
    bench.run(&test).exits(0);
    // A template that can't be read ends with 2 and its place.
    std::fs::write(&note, "{{kee}}\n").expect("written");
    bench.run(&test).exits(2).says("note.txt.hbs:1:3").says("did you mean `key`?");
    bench.run(&["templates", "test", "--bless"]).exits(2);
    bench.run(&["templates", "test"]).exits(0).prints(" 0 failed");
}

#[test]
fn demo_ends_by_itself_and_says_how_many_records_it_updated() {
    let done = Bench::new().run(&["demo", "--once"]).exits(0);
    let line = done.stdout.lines().find(|l| l.ends_with("records updated in the sandbox CRM")).expect("the line");
    let count: usize = line.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(count > 20, "{line}");
    done.prints(" 0 failed");
}
