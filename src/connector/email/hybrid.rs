//! A mail whose address only the CRM can tell, and the rules that a mail must keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::connector::http::Response;
use crate::connector::plan::Next;
use crate::connector::{Connector, Run};
use crate::diagnostic::{Diagnostics, SourceFile};
use crate::folder::Folder;
use crate::session::Session;
use crate::settings;

const MANIFEST: &str = r#"
name = "toy"
title = "Toy"
transports = ["rest", "email"]
[settings.base_url]
type = "url"
required = true
transport = "rest"
doc = "the address"
[settings.token]
type = "secret"
required = true
transport = "rest"
doc = "the token"
[settings.domains]
type = "string"
default = "acme.example"
doc = "domains"
[http]
base_url = "{{settings.base_url}}"
[[auth]]
scheme = "bearer"
token = "token"
[[step]]
id = "ticket"
effect = "read"
method = "GET"
path = "/t/{{record_id}}"
capture = { code = { path = "$.code" }, last = { path = "$.last", optional = true } }
[[step]]
id = "update"
effect = "idempotent"
method = "PUT"
path = "/t/{{record_id}}"
[email]
to = "support+id{{steps.ticket.code}}@crm.example"
from = "bridge@acme.example"
subject = "Session {{key}}"
body_text = "body.txt.hbs"
headers = { In-Reply-To = "{{steps.ticket.last}}" }
"#;

fn load(more: &str) -> Result<Connector, Diagnostics> {
    let files = [("connector.toml", format!("{MANIFEST}{more}")), ("body.txt.hbs", "#public false\n{{key}}\n".into())];
    let files = files.map(|(name, text)| (name.to_owned(), SourceFile::new(format!("toy/{name}"), text)));
    Connector::load(&Folder { name: "toy".into(), files: BTreeMap::from(files) }, None)
}

fn destination(more: &str, settings: &str) -> Result<Destination, Diagnostics> {
    let parsed = settings::parse::<Map<String, Value>>(&SourceFile::new("mail2crm.toml", settings))?;
    let transport = Some(crate::connector::manifest::Transport::Email);
    Destination::new("x", Arc::new(load(more)?), transport, &parsed.value, &parsed.places, &[])
}

const SETTINGS: &str = "base_url = 'https://crm.example/api'\ntoken = 't'\n";

fn session() -> Session {
    serde_json::from_value(json!({
        "instance": "default", "channel": "voice", "id": "7", "key": "voice-7", "record_id": "1001", "raw": {},
        "photos": [], "videos": [], "agents": [], "transfers": [], "escalations": [], "dispositions": [],
        "in_call_sms": [], "wait_time_sms": [], "participants": []
    }))
    .expect("a session")
}

fn inputs(session: &Session) -> Inputs<'_> {
    let (document, digest, record) = ("{\"id\":7}", "d1", Some("1001"));
    Inputs {
        owner: None,
        note_only: false,
        session,
        document,
        version: 1,
        digest,
        record,
        uncertain: false,
        applied: &[],
        marked: &[],
    }
}

fn composed(destination: &Destination, captures: Option<Value>) -> Result<OutgoingMail, Verdict> {
    let session = session();
    let captures = captures.map(|c| c.as_object().cloned().unwrap_or_default());
    let now = "2026-02-17T16:12:00Z".parse().expect("a time");
    compose(destination, &inputs(&session), captures.as_ref(), &InstanceKey::of_previews(), now)
}

#[test]
fn only_the_read_steps_that_the_mail_uses_are_asked_and_the_mail_has_what_they_captured() {
    let destination = destination("", SETTINGS).unwrap_or_else(|f| panic!("{f}"));
    assert!(destination.asks_before_mail());
    assert_eq!(destination.reveal(crate::secret::Secret::reveal).expect("a token").len(), 1);
    let session = session();
    let mut run = Run::for_mail(&destination, inputs(&session));
    let mut asked = Vec::new();
    let report = loop {
        match run.next() {
            Next::Finished(report) => break report,
            Next::Send(prepared) => {
                asked.push(prepared.request.url);
                let body = r#"{"code":"1G7-0Q","last":"<m1@crm.example>"}"#.into();
                run.answer(&Response { status: 200, headers: Vec::new(), body }, Timestamp::UNIX_EPOCH);
            }
        }
    };
    assert_eq!((asked, report.class), (vec!["https://crm.example/api/t/1001".to_owned()], Class::Ok));
    let mail = composed(&destination, Some(Value::Object(report.captures))).expect("a mail");
    assert_eq!(mail.to, ["support+id1G7-0Q@crm.example"]);
    assert!(mail.content.headers.contains(&("In-Reply-To".into(), "<m1@crm.example>".into())));
    let shown = composed(&destination, None).expect("a preview");
    assert_eq!(shown.to, ["support+id_steps.ticket.code_@crm.example"]);
    let later = json!({ "ticket": { "code": "1G7-0Q", "last": "<m2@crm.example>" } });
    assert_eq!(composed(&destination, Some(later)).expect("a mail").digest, shown.digest);
    assert_eq!(mail.digest, shown.digest, "what the CRM answers is nothing that we have to say");
}

#[test]
fn a_mail_that_asks_first_needs_what_requests_need() {
    let told = destination("", "").expect_err("faults").render();
    assert!(told.contains("needs the setting `base_url`") && told.contains("needs the setting `token`"), "{told}");
    let written = MANIFEST.replace("effect = \"read\"", "effect = \"once\"");
    let files = [("connector.toml", written), ("body.txt.hbs", "x".into())];
    let files = files.map(|(name, text)| (name.to_owned(), SourceFile::new(format!("toy/{name}"), text)));
    let faults = Connector::load(&Folder { name: "toy".into(), files: BTreeMap::from(files) }, None);
    let told = faults.expect_err("a fault").render();
    assert!(told.contains("the mail uses `steps.ticket`, which can't be asked for before it"), "{told}");
}

#[test]
fn a_mail_that_breaks_a_rule_is_refused_with_the_rules_name() {
    let captured = || Some(json!({ "ticket": { "code": "c", "last": null } }));
    for (rule, name, class) in [
        ("max_body_chars = 5", "max_body_chars", Class::Dead),
        ("max_subject_chars = 3", "max_subject_chars", Class::Dead),
        ("max_attachment_bytes = 2", "max_attachment_bytes", Class::Dead),
        ("subject = '\\[#\\d+\\]'", "subject", Class::Dead),
        ("forbid_subject = '(?i)^session'", "forbid_subject", Class::Dead),
        ("body = '^#status'", "body", Class::Dead),
        ("sender_domain = \"other.example, {{settings.domains}}x\"", "sender_domain", Class::Pause),
    ] {
        let destination = destination(&format!("[email.lint]\n{rule}\n"), SETTINGS).unwrap_or_else(|f| panic!("{f}"));
        let verdict = composed(&destination, captured()).expect_err(rule);
        assert_eq!((verdict.class, verdict.reason), (class, Reason::MailRefused), "{rule}");
        assert!(verdict.detail.contains(&format!("`email.lint.{name}`")), "{}", verdict.detail);
    }
    let rules = "[email.lint]\nmax_body_chars = 50\nmax_recipients = 1\nbody = '^#public'\nsender_domain = \"{{settings.domains}}\"\nforbid_headers = [\"In-Reply-To\"]\n";
    let destination = destination(rules, SETTINGS).unwrap_or_else(|f| panic!("{f}"));
    composed(&destination, captured()).expect("a mail");
    let threaded = Some(json!({ "ticket": { "code": "c", "last": "<m>" } }));
    let verdict = composed(&destination, threaded).expect_err("a header");
    assert!(verdict.detail.contains("`email.lint.forbid_headers`"), "{}", verdict.detail);
}
