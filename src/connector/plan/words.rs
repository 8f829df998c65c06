//! The words that few steps need: lists, pages, captured maps, waits in a body, and what is too large.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, json};

use super::*;
use crate::connector::Connector;
use crate::diagnostic::{Diagnostics, SourceFile};
use crate::folder::Folder;
use crate::session::Session;
use crate::settings;

const HEAD: &str = r#"
name = "toy"
title = "Toy"
transports = ["rest"]
[settings.tags]
type = "list"
default = ["a b", "c"]
doc = "tags"
[settings.fields]
type = "fields"
doc = "fields"
[http]
base_url = "https://crm.example/api"
"#;

fn load(steps: &str) -> Result<Connector, Diagnostics> {
    let files = BTreeMap::from([(
        "connector.toml".to_owned(),
        SourceFile::new("toy/connector.toml", format!("{HEAD}{steps}")),
    )]);
    Connector::load(&Folder { name: "toy".into(), files }, None)
}

fn destination(steps: &str) -> Destination {
    let connector = load(steps).unwrap_or_else(|f| panic!("{f}"));
    let text = "fields = { id = \"cf_id\" }\n";
    let parsed = settings::parse::<Map<String, Value>>(&SourceFile::new("mail2crm.toml", text)).expect("settings");
    Destination::new("x", Arc::new(connector), None, &parsed.value, &parsed.places, &[])
        .unwrap_or_else(|f| panic!("{f}"))
}

fn session() -> Session {
    serde_json::from_value(json!({
        "instance": "default", "channel": "voice", "id": "7", "key": "voice-7", "record_id": "1001", "raw": {},
        "photos": [], "videos": [], "agents": [], "transfers": [], "escalations": [], "dispositions": [],
        "in_call_sms": [], "wait_time_sms": [], "participants": []
    }))
    .expect("a session")
}

fn run<'a>(
    destination: &'a Destination,
    session: &'a Session,
    applied: &'a [(String, String)],
    uncertain: bool,
) -> Run<'a> {
    let (document, digest, record) = ("{\"id\":7}", "d1", Some("1001"));
    Run::new(destination, Inputs { session, document, version: 1, digest, record, uncertain, applied, marked: &[] })
}

/// `METHOD path body` of each request, and the end.
fn play(mut run: Run<'_>, mut answer: impl FnMut(&Prepared) -> (u16, Value)) -> (Vec<String>, Report) {
    let mut sent = Vec::new();
    loop {
        match run.next() {
            Next::Finished(report) => return (sent, report),
            Next::Send(prepared) => {
                let request = &prepared.request;
                let body = request.body.as_ref().map_or(String::new(), |b| String::from_utf8_lossy(&b.bytes).into());
                let path = request.url.strip_prefix("https://crm.example/api").unwrap_or(&request.url);
                sent.push(format!("{} {path} {body}", request.method).trim().to_owned());
                let (status, body) = answer(&prepared);
                let body = if body.is_null() { String::new() } else { body.to_string() };
                let response = Response { status, headers: Vec::new(), body: body.into() };
                run.answer(&response, "2026-02-17T16:12:00Z".parse().expect("a time"));
            }
        }
    }
}

const TAGS: &str = r#"
[[step]]
id = "tag"
effect = "idempotent"
each = "{{settings.tags}}"
method = "POST"
path = "/t/{{record_id}}/tags/{{item}}"
"#;

#[test]
fn a_step_with_a_list_is_sent_for_each_item_and_each_is_known_by_itself() {
    let (destination, session) = (destination(TAGS), session());
    let (sent, report) = play(run(&destination, &session, &[], false), |_| (200, json!({})));
    assert_eq!(sent, ["POST /t/1001/tags/a%20b", "POST /t/1001/tags/c"]);
    let names: Vec<&str> = report.applied.iter().map(|(step, _)| step.as_str()).collect();
    assert_eq!(names, ["tag", "tag.2"]);
    let (sent, again) = play(run(&destination, &session, &report.applied, false), |_| (200, json!({})));
    assert_eq!((sent.len(), again.reason), (0, Reason::Unchanged));
    let (sent, failed) = play(run(&destination, &session, &report.applied[..1], false), |_| (503, Value::Null));
    assert_eq!((sent.as_slice(), failed.class), (&["POST /t/1001/tags/c".to_owned()][..], Class::Retry));
}

#[test]
fn an_item_that_leaves_a_mark_is_looked_for_by_its_own() {
    let marked = TAGS.replace("idempotent\"", "marked\"\nmarker_step = \"seen\"");
    let seen = r#"
[[step]]
id = "seen"
effect = "read"
each = "{{settings.tags}}"
method = "GET"
path = "/t/{{record_id}}/tags"
found = { path = "$[*]", equals = "{{item}}" }
"#;
    let (destination, session) = (destination(&format!("{marked}{seen}")), session());
    let (sent, report) = play(run(&destination, &session, &[], true), |p| match p.request.method.as_str() {
        "GET" => (200, json!(["a b"])),
        _ => (200, json!({})),
    });
    assert_eq!(sent, ["GET /t/1001/tags", "GET /t/1001/tags", "POST /t/1001/tags/c"]);
    assert_eq!((report.class, report.applied.len()), (Class::Ok, 2));
}

#[test]
fn what_is_wrong_with_a_list_is_told_once_with_its_place() {
    let wrong = TAGS.replace("idempotent", "orphanable").replace("{{item}}", "{{itm}}");
    let faults = load(&format!("{wrong}capture = {{ x = {{ path = \"$.x\" }} }}\n")).expect_err("faults");
    let codes: Vec<(&str, u32)> = faults.sorted().iter().map(|d| (d.code, d.line)).collect();
    let expected = [("wrong_effect", 18), ("unknown_name", 20), ("capture_of_list", 21)];
    assert_eq!(codes, expected, "{}", faults.render());
    let other = load(&format!(
        "{}[[step]]\nid = \"seen\"\neffect = \"read\"\nmethod = \"GET\"\nfound = {{ path = \"$\", equals = \"x\" }}\n",
        TAGS.replace("idempotent\"", "marked\"\nmarker_step = \"seen\"")
    ));
    assert_eq!(other.expect_err("a fault").sorted()[0].code, "other_list");
}

const PAGES: &str = r#"
[[step]]
id = "find"
effect = "read"
method = "GET"
path = "/search"
query = { q = "{{key}}" }
page = { path = "$.next", max = 3 }
capture = { id = { path = "$.items[?@.key == 'voice-7'].id" } }
[[step]]
id = "update"
effect = "idempotent"
method = "PUT"
path = "/t/{{steps.find.id}}"
"#;

#[test]
fn pages_are_asked_for_until_what_is_looked_for_is_there() {
    let (destination, session) = (destination(PAGES), session());
    let page = |p: &Prepared| match p.request.url.rsplit_once("page=") {
        None if p.step == "find" => (200, json!({ "items": [], "next": "/api/search?page=2" })),
        Some((_, "2")) => (200, json!({ "items": [{ "key": "voice-7", "id": 5 }], "next": "/api/search?page=3" })),
        _ => (200, json!({})),
    };
    let (sent, report) = play(run(&destination, &session, &[], false), page);
    assert_eq!(sent, ["GET /search?q=voice-7", "GET /search?page=2", "PUT /t/5"]);
    assert_eq!((report.class, report.exchanges.len()), (Class::Ok, 3));
    let endless = |p: &Prepared| (200, json!({ "items": [], "next": format!("{}x", p.request.url) }));
    let (sent, report) = play(run(&destination, &session, &[], false), endless);
    assert_eq!((sent.len(), report.class, report.reason), (3, Class::Retry, Reason::UnexpectedReply));
    let elsewhere = |_: &Prepared| (200, json!({ "items": [], "next": "https://evil.example/" }));
    let (sent, report) = play(run(&destination, &session, &[], false), elsewhere);
    assert_eq!((sent.len(), report.class), (1, Class::Dead));
}

#[test]
fn a_form_takes_the_fields_of_a_captured_map_and_of_the_field_map_and_the_file_last() {
    let steps = r#"
[[step]]
id = "upload"
effect = "orphanable"
method = "POST"
path = "/attachments"
capture = { url = { path = "$.url" }, form = { path = "$.fields" } }
[[step]]
id = "store"
effect = "idempotent"
method = "POST"
origin = { base_url = "{{steps.upload.url}}", allow = 'https://[a-z]+\.store\.example/.*', auth = "none" }
[step.body]
kind = "multipart"
parts = [
    { fields = "{{steps.upload.form}}" },
    { name = "cf[*]", fields = "{{field_map fields}}" },
    { name = "note", text = "{\"a\":1}", content_type = "application/json" },
    { name = "file", file = "metadata", file_name = "{{key}}.json", content_type = "text/plain" },
]
"#;
    let (destination, session) = (destination(steps), session());
    let form = json!({ "url": "https://a.store.example/b?X=1", "fields": { "key": "k\"1", "policy": "p" } });
    let (sent, report) = play(run(&destination, &session, &[], false), |_| (200, form.clone()));
    assert_eq!(report.class, Class::Ok, "{}", report.detail);
    let body = sent.last().expect("a request");
    assert!(body.starts_with("POST https://a.store.example/b?X=1 --m2c-"), "{body}");
    let parts = [
        "name=\"key\"\r\n\r\nk\"1\r\n",
        "name=\"policy\"\r\n\r\np\r\n",
        "name=\"cf[cf_id]\"\r\n\r\n7\r\n",
        "name=\"note\"\r\nContent-Type: application/json\r\n\r\n{\"a\":1}\r\n",
        "name=\"file\"; filename=\"voice-7.json\"\r\nContent-Type: text/plain\r\n\r\n{\"id\":7}\r\n",
    ];
    let at: Vec<usize> = parts.iter().map(|part| body.find(part).unwrap_or_else(|| panic!("{part}\n{body}"))).collect();
    assert!(at.is_sorted(), "{body}");
    let shown = preview(&destination, run(&destination, &session, &[], false).inputs).expect("requests");
    let body = String::from_utf8_lossy(&shown[1].request.body.as_ref().expect("a body").bytes).into_owned();
    assert!(body.contains("name=\"«steps.upload.form»\""), "{body}");
    let (sent, report) = play(run(&destination, &session, &[], false), |_| {
        (200, json!({ "url": "https://a.store.example/b", "fields": ["x"] }))
    });
    assert_eq!((sent.len(), report.reason), (1, Reason::TemplateFailed));
}

#[test]
fn a_wait_can_stand_in_the_body_and_too_large_can_be_a_failure() {
    let rate = "[[reply]]\nstatus = [429]\nclass = \"retry\"\nreason = \"rate_limited\"\nafter = { json = \"$.wait\", seconds = 9 }\n";
    let (limited, session) = (destination(&format!("{TAGS}{rate}")), session());
    let wait = |body: Value| {
        play(run(&limited, &session, &[], false), move |_| (429, body.clone())).1.retry_after.map(|w| w.as_secs())
    };
    assert_eq!((wait(json!({ "wait": 2.5 })), wait(json!({}))), (Some(3), Some(9)));
    let small = destination(&format!("{TAGS}[limits]\nattachment_bytes = 3\nabove = \"fail\"\n"));
    let (sent, report) = play(run(&small, &session, &[], false), |_| (200, json!({})));
    assert_eq!((sent.len(), report.class, report.reason), (0, Class::Dead, Reason::TooLarge));
}
