//! Broken manifests and settings: everything that is wrong is told at once, each with its place.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::*;
use crate::connector::Destination;
use crate::diagnostic::SourceFile;

fn folder(files: &[(&str, &str)]) -> Folder {
    let files = files.iter().map(|(n, t)| ((*n).to_owned(), SourceFile::new(format!("toy/{n}"), *t)));
    Folder { name: "toy".into(), files: files.collect() }
}

fn told(faults: &Diagnostics) -> String {
    let lines = faults
        .sorted()
        .into_iter()
        .map(|d| format!("{}:{} {} {} | {}", d.file, d.line, d.code, d.message, d.hint.as_deref().unwrap_or("-")));
    lines.collect::<Vec<_>>().join("\n")
}

const HEAD: &str = "name = \"toy\"\ntitle = \"Toy\"\ntransports = [\"rest\"]\n[http]\nbase_url = \"{{settings.base_url}}\"\n[settings.base_url]\ntype = \"url\"\nrequired = true\ndoc = \"the address\"\n[settings.token]\ntype = \"secret\"\ndoc = \"the token\"\n";

#[test]
fn what_policies_and_look_ups_can_not_say_is_told() {
    let manifest = format!(
        r#"{HEAD}
[[policy]]
when = "record_closed"
default = "follow_up"
[policy.choices.follow_up]
first = ["create", "update", "reed"]
record = "{{{{steps.create.idd}}}}"
[policy.choices.dead]
[policy.choices.park]
skip = ["update"]
[policy.choices.nothing]
doc = "x"
[[policy]]
when = "record_closed"
default = "reopn"
[[lookup]]
name = "phone"
doc = "x"
step = "update"
candidates = "$.[["
id = "$.id"
only_if = [{{ path = "$.a" }}, {{ path = "$.b", begins = "x", otherwise = {{ class = "dead", reason = "record_closed" }} }}]
[[lookup]]
name = "phone"
doc = "x"
step = "find"
candidates = "$[*]"
id = "$.id"
[[step]]
id = "update"
effect = "idempotent"
method = "PUT"
path = "/t/{{{{record_id}}}}"
creates = true
guards = ["update"]
[[step]]
id = "create"
aside = true
creates = true
effect = "once"
method = "POST"
capture = {{ id = {{ path = "$.id" }} }}
[[step]]
id = "lonely"
aside = true
effect = "once"
method = "POST"
"#
    );
    let text = told(&Connector::load(&folder(&[("connector.toml", &manifest)]), None).expect_err("faults"));
    for expected in [
        "makes_records a step that makes a record must not be one of the steps in order",
        "makes_records the step `create` makes a record, and this choice is the default",
        "wrong_step the step `update` is one of the steps in order",
        "unknown_step there is no step `reed`",
        "idd",
        "reserved_name `park` means the same in every connector",
        "no_effect the choice `nothing` changes nothing",
        "duplicate_policy there are two policies for `record_closed`",
        "unknown_word there is no choice `reopn`",
        "unused_step nothing sends the step `lonely`",
        "wrong_effect the step `update` may change something",
        "bad_json_path",
        "exactly one of `present`, `equals`, `begins`",
        "unknown_key a candidate of which `$.b` does not hold does not count",
        "duplicate_lookup a look-up needs a name of its own, and `phone` is none",
        "unknown_step there is no step `find`",
        "wrong_effect only a step with `effect = \"read\"` guards others",
        "later_step the step `update` comes before its guard",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn all_that_is_wrong_with_a_manifest_is_told_at_once() {
    let manifest = format!(
        r#"{HEAD}
[settings.kind]
type = "enum"
doc = "no values"
[[auth]]
scheme = "bearer"
token = "tokn"
[[reply]]
steps = ["updat"]
status = [999]
class = "dead"
reason = "rejected_payload"
json = {{ path = "$.[", equals = "x" }}
[[step]]
id = "update"
effect = "marked"
method = "PUT"
path = "/t/{{{{record_di}}}}/{{{{settings.tokn}}}}"
headers = {{ Host = "x" }}
body = {{ kind = "json", template = "updat.json" }}
[[step]]
id = "Find"
effect = "read"
method = "GET"
capture = {{ a = {{ path = "$.a", header = "A" }} }}
expect = {{ json = [{{ path = "$.a", some_match = "(" }}] }}
[[step]]
id = "late"
effect = "idempotent"
method = "PUT"
path = "/{{{{steps.after.x}}}}"
[[step]]
id = "after"
effect = "read"
method = "GET"
capture = {{ x = {{ path = "$.x" }} }}
"#
    );
    let faults =
        Connector::load(&folder(&[("connector.toml", &manifest), ("update.json", "{ \"a\": \"{{nope}}\" }")]), None)
            .expect_err("faults");
    let text = told(&faults);
    for expected in [
        "bad_setting `values` goes with",
        "unknown_setting there is no setting `tokn` | did you mean `token`?",
        "unknown_step there is no step `updat` | did you mean `update`?",
        "bad_status `999` is no HTTP status",
        "bad_json_path not a JSONPath",
        "missing_key a `marked` step needs a `marker_step`",
        "record_di",
        "`settings` has no field `tokn`",
        "bad_header `Host` can't be set",
        "missing_file there is no template `updat.json` in this folder | did you mean `update.json`?",
        "bad_step_id `Find` can't be the name of a step",
        "one_of exactly one of `path` or `header`",
        "bad_regex not a regular expression",
        "later_capture this step uses `steps.after`, which is known only after it",
        "toy/update.json:1",
        "nope",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    for fault in faults.sorted() {
        assert!(fault.line > 0, "{fault:?} has no place");
    }
}

#[test]
fn unknown_words_of_a_manifest_have_suggestions() {
    let manifest = format!(
        "{HEAD}[[step]]\nid = \"a\"\nefect = \"read\"\neffect = \"raed\"\nmethod = \"GET\"\nbody = {{ kind = \"jsn\" }}\n"
    );
    let faults = Connector::load(&folder(&[("connector.toml", &manifest)]), None).expect_err("faults");
    let text = told(&faults);
    for expected in ["unknown key `efect`", "did you mean `effect`?", "`raed`", "did you mean `read`?", "`jsn`"] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    let faults = Connector::load(&folder(&[]), None).expect_err("faults");
    assert!(told(&faults).contains("needs a `connector.toml`"));
}

fn destination(settings: &str) -> Result<Destination, Diagnostics> {
    let manifest = format!(
        "{HEAD}[settings.status]\ntype = \"string\"\npattern = '[a-z]+'\ndoc = \"the status\"\n[settings.fields]\ntype = \"fields\"\ndoc = \"fields\"\n[settings.n]\ntype = \"integer\"\ndoc = \"a number\"\n[[auth]]\nscheme = \"bearer\"\ntoken = \"token\"\n[[step]]\nid = \"a\"\neffect = \"idempotent\"\nmethod = \"PUT\"\npath = \"/{{{{record_id}}}}\"\n"
    );
    let connector = Connector::load(&folder(&[("connector.toml", &manifest)]), None).unwrap_or_else(|f| panic!("{f}"));
    let text = format!("[destination.x]\n{settings}");
    let parsed = settings::parse::<BTreeMap<String, Value>>(&SourceFile::new("mail2crm.toml", text)).expect("TOML");
    let values = parsed.value["destination"]["x"].as_object().cloned().unwrap_or_else(Map::new);
    Destination::new("x", Arc::new(connector), None, &values, &parsed.places, &["destination", "x"])
}

#[test]
fn all_that_is_wrong_with_the_settings_is_told_at_once() {
    let faults = destination("base_ulr = 'https://x'\ntoken = 7\nstatus = 'A B'\nn = 'x'\nfields = { a = [1] }\n")
        .expect_err("faults");
    let text = told(&faults);
    for expected in [
        "mail2crm.toml:2 unknown_key the connector `toy` has no setting `base_ulr` | did you mean `base_url`?",
        "missing_key the connector `toy` needs the setting `base_url` | add `base_url = …`: the address",
        "mail2crm.toml:3 wrong_form `token` is a secret",
        "mail2crm.toml:4 bad_value `status` does not have the form `[a-z]+`",
        "mail2crm.toml:5 wrong_type `n` must be a whole number",
        "mail2crm.toml:6 wrong_type `a` must be the CRM's field",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    let text = told(&destination("base_url = 'https://u:p@x'\n").expect_err("faults"));
    assert!(text.contains("bad_url `base_url` must not hold a user or a password"), "{text}");
    let text = told(&destination("base_url = 'https://x'\n").expect_err("faults"));
    assert!(text.contains("the credentials are missing: `token`"), "{text}");
}

#[test]
fn a_destination_tells_its_credential_only_to_the_sender() {
    let destination = destination("base_url = 'https://x/'\ntoken = 'hunter2'\n").unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(destination.base_url(), "https://x");
    assert!(!format!("{destination:?}").contains("hunter2"));
    let credential = destination.authorize(crate::secret::Secret::reveal).expect("a secret").expect("a credential");
    use secrecy::ExposeSecret as _;
    assert_eq!((credential.name.as_str(), credential.value.expose_secret()), ("Authorization", "Bearer hunter2"));
}
