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
fn how_a_record_is_read_is_checked_with_its_step() {
    let manifest = |read: &str| {
        format!(
            r#"{HEAD}
[record.read]
{read}
[[step]]
id = "first"
effect = "read"
method = "GET"
path = "/first"
capture = {{ a = {{ path = "$.a" }} }}
[[step]]
id = "get"
effect = "read"
method = "GET"
path = "/{{{{record_id}}}}"
[[step]]
id = "more"
effect = "read"
method = "GET"
path = "/{{{{steps.first.a}}}}"
[[step]]
id = "put"
effect = "idempotent"
method = "PUT"
path = "/{{{{record_id}}}}"
"#
        )
    };
    let load = |read: &str| {
        let text = manifest(read);
        Connector::load(&folder(&[("connector.toml", &text)]), None).map(drop).map_err(|faults| told(&faults))
    };
    for good in [
        "step = \"get\"\nmembers = \"$.fields\"",
        "step = \"get\"\nfields = { items = \"$.f[*]\", names = \"$.n\", values = \"$.v\" }\nalso = { status = { now = \"$.s\", then = \"{{key}}\" } }",
    ] {
        assert_eq!(load(good), Ok(()));
    }
    for (bad, part) in [
        ("step = \"gte\"\nmembers = \"$\"", "did you mean `get`?"),
        ("step = \"put\"\nmembers = \"$\"", "`put` may change something"),
        ("step = \"more\"\nmembers = \"$\"", "uses what another step captured"),
        ("step = \"get\"", "`fields` or `members`"),
        (
            "step = \"get\"\nmembers = \"$\"\nfields = { items = \"$\", names = \"$\", values = \"$\" }",
            "`fields` or `members`",
        ),
        ("step = \"get\"\nfields = { items = \"$.[\", names = \"$\", values = \"$\" }", "not a JSONPath"),
        ("step = \"get\"\nmembers = \"$\"\nalso = { s = { now = \"s\", then = \"{{kye}}\" } }", "not a JSONPath"),
        ("step = \"get\"\nmembers = \"$\"\nalso = { s = { now = \"$\", then = \"{{kye}}\" } }", "`key`"),
        ("step = \"get\"\nmember = \"$\"", "did you mean `members`?"),
    ] {
        let said = load(bad).expect_err(bad);
        assert!(said.contains(part), "{bad}: no {part} in\n{said}");
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

fn request(url: &str) -> crate::connector::http::Request {
    let (method, headers, body) = ("GET".into(), Vec::new(), None);
    crate::connector::http::Request { method, url: url.into(), headers, body, with_credentials: true }
}

#[test]
fn a_destination_tells_its_credential_only_to_the_sender() {
    let destination = destination("base_url = 'https://x/'\ntoken = 'hunter2'\n").unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(destination.base_url(), "https://x");
    assert!(!format!("{destination:?}").contains("hunter2"));
    let secrets = destination.reveal(crate::secret::Secret::reveal).expect("a secret");
    let credential = destination.credential(&secrets, &request("https://x/")).expect("a credential");
    use secrecy::ExposeSecret as _;
    assert_eq!((credential.name.as_str(), credential.value.expose_secret()), ("Authorization", "Bearer hunter2"));
}

/// A connector with this `[[auth]]`, and a destination of it with these settings.
fn with_auth(auth: &str, settings: &str) -> Result<Destination, Diagnostics> {
    let secrets = ["client_secret", "refresh_token", "private_key"]
        .map(|name| format!("[settings.{name}]\ntype = \"secret\"\ndoc = \"one\"\n"))
        .concat();
    let text = "[settings.id]\ntype = \"string\"\ndoc = \"an id\"\n";
    let manifest = format!(
        "{HEAD}{secrets}{text}{auth}\n[[step]]\nid = \"a\"\neffect = \"idempotent\"\nmethod = \"PUT\"\npath = \"/{{{{record_id}}}}\"\n"
    );
    let connector = Connector::load(&folder(&[("connector.toml", &manifest)]), None)?;
    let parsed = settings::parse::<Map<String, Value>>(&SourceFile::new("mail2crm.toml", settings))?;
    Destination::new("x", Arc::new(connector), None, &parsed.value, &parsed.places, &[])
}

const OAUTH2: &str = "[[auth]]\nscheme = \"oauth2\"\ngrant = \"client_credentials\"\ntoken_url = \"{{settings.base_url}}/token\"\nclient_id = \"{{settings.id}}\"\nclient_secret = \"client_secret\"\nparams = { scope = \"rw\", soid = \"{{settings.id}}\" }\nbase_url = { path = \"$.instance_url\", allow = 'https://.*' }\n";

#[test]
fn a_token_request_is_made_of_the_settings() {
    let made = with_auth(OAUTH2, "base_url = 'https://x/api'\nid = 'c1'\nclient_secret = 's'\n");
    let destination = made.unwrap_or_else(|f| panic!("{f}"));
    let grants = destination.grants().expect("a token request");
    assert_eq!(grants.ask.token_url, "https://x/api/token");
    assert_eq!(grants.ask.client_id.as_deref(), Some("c1"));
    assert_eq!(grants.ask.params, [("scope".into(), "rw".into()), ("soid".into(), "c1".into())]);
    assert!(grants.is_ended(401) && !grants.is_ended(403));
    assert!(destination.reveal(|_| Err("not asked for".into())).expect("none").is_empty());
    let sent = request("https://x/api/t/1");
    let made = destination.credential(&["t1".to_owned().into()], &sent).expect("a header");
    use secrecy::ExposeSecret as _;
    assert_eq!((made.name.as_str(), made.value.expose_secret()), ("Authorization", "Bearer t1"));
    assert_eq!(destination.moved(&sent, "https://eu7").url, "https://eu7/api/t/1");
}

#[test]
fn what_is_wrong_with_a_token_request_is_told_with_the_key_to_change() {
    let told_of = |auth: &str, settings: &str| told(&with_auth(auth, settings).expect_err("faults"));
    let lacking = told_of(OAUTH2, "base_url = 'https://x'\nid = 'c1'\n");
    assert!(lacking.contains("the credentials are missing: `client_secret`"), "{lacking}");
    let clear = told_of(OAUTH2, "base_url = 'http://x'\nclient_secret = 's'\n");
    assert!(clear.contains("the token address `http://x/token` would send credentials in clear"), "{clear}");
    let auth = "[[auth]]\nscheme = \"oauth2\"\ngrant = \"jwt_bearer\"\ntoken_url = \"{{settings.nope}}\"\nbase_url = { path = \"$.[\", allow = \"(\" }\nrenew_on = [1]\n";
    let text = told_of(auth, "");
    for expected in
        ["this grant needs `jwt`", "`settings` has no field `nope`", "not a JSONPath", "`1` is no HTTP status"]
    {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    let text = told_of("[[auth]]\nscheme = \"oauth2\"\ngrant = \"refresh_token\"\ntoken_ulr = \"x\"\n", "");
    assert!(text.contains("token_ulr") && text.contains("did you mean `token_url`?"), "{text}");
    let text =
        told_of("[[auth]]\nscheme = \"basic\"\nuser = \"a\"\nuser_secret = \"token\"\npassword = \"token\"\n", "");
    assert!(text.contains("exactly one of `user` or `user_secret`"), "{text}");
}

#[test]
fn basic_takes_the_key_as_the_user_or_a_suffix_behind_it() {
    use base64::Engine as _;
    use secrecy::ExposeSecret as _;
    let value = |auth: &str| {
        let settings = "base_url = 'https://x'\nid = 'me@x.example'\ntoken = 'k1'\n";
        let destination = with_auth(auth, settings).unwrap_or_else(|f| panic!("{f}"));
        let secrets = destination.reveal(crate::secret::Secret::reveal).expect("secrets");
        let made = destination.credential(&secrets, &request("https://x/")).expect("a header");
        let pair = made.value.expose_secret().strip_prefix("Basic ").expect("Basic").to_owned();
        String::from_utf8(base64::prelude::BASE64_STANDARD.decode(pair).expect("base64")).expect("text")
    };
    let key = "[[auth]]\nscheme = \"basic\"\nuser_secret = \"token\"\npassword_text = \"X\"\n";
    assert_eq!(value(key), "k1:X");
    let suffix = "[[auth]]\nscheme = \"basic\"\nuser = \"{{settings.id}}/token\"\npassword = \"token\"\n";
    assert_eq!(value(suffix), "me@x.example/token:k1");
}
