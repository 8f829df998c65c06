//! A toy connector that uses every word of a step, and answers played against it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::connector::{Connector, Progress};
use crate::diagnostic::SourceFile;
use crate::folder::Folder;
use crate::settings::{self, Places};

const TOY: &str = r#"
name = "toy"
title = "Toy"
transports = ["rest"]

[record]
pattern = '[0-9]+'

[limits]
attachment_bytes = 100

[settings.base_url]
type = "url"
required = true
doc = "the address"

[settings.audit]
type = "boolean"
default = false
doc = "whether the audit is told"

[settings.token]
type = "secret"
required = true
doc = "the token"

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
capture = { etag = { header = "ETag" }, owner = { path = "$.owner", optional = true } }

[[step]]
id = "upload"
effect = "orphanable"
method = "POST"
path = "/uploads"
query = { filename = "{{metadata.name}}" }
body = { kind = "raw", file = "metadata" }
lifetime = 3600
capture = { token = { path = "$.token" }, at = { path = "$.at", optional = true } }

[[step]]
id = "update"
effect = "idempotent"
method = "PUT"
path = "/t/{{record_id}}"
headers = { If-Match = "{{steps.ticket.etag}}" }
body = { kind = "json", template = "update.json" }
on_conflict = { goto = "ticket", max = 2 }

[[step]]
id = "note"
effect = "marked"
marker_step = "seen"
method = "POST"
path = "/t/{{record_id}}/notes"
body = { kind = "json", template = "note.json" }

[[step]]
id = "tag"
effect = "idempotent"
required = false
method = "POST"
path = "/t/{{record_id}}/tags"
body = { kind = "form", template = "tag.json" }

[[step]]
id = "audit"
effect = "once"
when = "{{settings.audit}}"
method = "POST"
path = "/audit"
body = { kind = "json", template = "note.json" }

[[step]]
id = "store"
effect = "idempotent"
when = "{{steps.upload.at}}"
method = "PUT"
path = "/put"
body = { kind = "multipart", parts = [{ name = "key", text = "{{key}}" }, { name = "file", file = "metadata" }] }
origin = { base_url = "{{steps.upload.at}}", allow = 'https://[a-z]+\.store\.example', auth = "none" }

[[step]]
id = "seen"
effect = "read"
method = "GET"
path = "/t/{{record_id}}/notes"
found = { path = "$[*].text", contains = "{{marker}}" }
"#;

fn folder(files: &[(&str, &str)]) -> Folder {
    let files = files.iter().map(|(n, t)| ((*n).to_owned(), SourceFile::new(format!("toy/{n}"), *t)));
    Folder { name: "toy".into(), files: files.collect::<BTreeMap<_, _>>() }
}

fn connector() -> Arc<Connector> {
    let folder = folder(&[
        ("connector.toml", TOY),
        ("update.json", r#"{ "code": "{{disposition.code}}", "upload": "{{steps.upload.token}}" }"#),
        ("note.json", r#"{ "text": "{{concat disposition.note ' ' marker}}" }"#),
        ("tag.json", r#"{ "tag": "{{channel}}" }"#),
    ]);
    Arc::new(Connector::load(&folder, None).unwrap_or_else(|faults| panic!("{faults}")))
}

fn destination_with(settings: &str) -> Destination {
    let parsed =
        settings::parse::<BTreeMap<String, Value>>(&SourceFile::new("c.toml", settings)).expect("a readable file");
    let values: Map<String, Value> = parsed.value.into_iter().collect();
    let places: Places = parsed.places;
    Destination::new("toy", connector(), None, &values, &places, &[]).unwrap_or_else(|faults| panic!("{faults}"))
}

fn destination() -> Destination {
    destination_with("base_url = 'https://toy.example/api'\ntoken = 's3cret'\n")
}

fn session() -> Session {
    serde_json::from_value(json!({
        "instance": "default", "channel": "voice", "id": "7", "key": "voice-7", "record_id": "12",
        "photos": [], "videos": [], "agents": [], "transfers": [], "escalations": [], "in_call_sms": [],
        "wait_time_sms": [], "participants": [], "raw": {},
        "dispositions": [{ "code": "Resolved", "note": "all \"well\"" }],
    }))
    .expect("a session")
}

fn inputs<'a>(session: &'a Session, applied: &'a [(String, String)], uncertain: bool) -> Inputs<'a> {
    Inputs {
        session,
        document: "{\"id\":7}",
        version: 1,
        digest: "d",
        record: Some("12"),
        uncertain,
        applied,
        marked: &[],
    }
}

fn reply(status: u16, body: Value) -> Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    Response { status, headers: vec![("etag".into(), "\"v1\"".into())], body: body.into() }
}

fn now() -> Timestamp {
    "2026-02-17T16:30:00Z".parse().expect("a time")
}

/// Plays answers by step; gives the steps that were sent and the end.
fn play(mut run: Run<'_>, mut answers: impl FnMut(&Prepared) -> Response) -> (Vec<String>, Vec<Prepared>, Report) {
    let mut sent = Vec::new();
    for _ in 0..30 {
        match run.next() {
            Next::Send(prepared) => {
                let answer = answers(&prepared);
                sent.push(prepared);
                run.answer(&answer, now());
            }
            Next::Finished(report) => {
                return (sent.iter().map(|p| p.step.clone()).collect(), sent, report);
            }
        }
    }
    panic!("the run does not end");
}

fn good(prepared: &Prepared) -> Response {
    match prepared.step.as_str() {
        "upload" => reply(201, json!({ "token": "tok" })),
        "seen" => reply(200, json!([])),
        _ => reply(200, json!({})),
    }
}

#[test]
fn a_run_sends_what_is_needed_in_order_with_what_was_captured() {
    let (destination, session) = (destination(), session());
    let (steps, sent, report) = play(Run::new(&destination, inputs(&session, &[], false)), good);
    assert_eq!(steps, ["ticket", "upload", "update", "note", "tag"]);
    let update = &sent[2].request;
    assert_eq!(update.url, "https://toy.example/api/t/12");
    assert!(update.headers.contains(&("If-Match".into(), "\"v1\"".into())), "{:?}", update.headers);
    let body = update.body.as_ref().expect("a body");
    assert_eq!(body.bytes, r#"{"code":"Resolved","upload":"tok"}"#);
    assert_eq!(sent[1].request.url, "https://toy.example/api/uploads?filename=metadata-voice-7.json");
    assert_eq!(sent[4].request.body.as_ref().expect("a body").bytes, "tag=voice");
    assert_eq!((report.class, report.reason), (Class::Ok, Reason::Applied));
    let applied: Vec<&str> = report.applied.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(applied, ["update", "note", "tag"]);
    assert_eq!(report.captures["upload"]["token"], "tok");
    let kept = serde_json::to_string(&report.exchanges).expect("text");
    assert!(!kept.contains("s3cret"), "{kept}");
}

#[test]
fn what_was_applied_is_not_sent_again_whatever_the_crm_answers_in_between() {
    let (destination, session) = (destination(), session());
    let (.., first) = play(Run::new(&destination, inputs(&session, &[], false)), good);
    let (steps, _, report) = play(Run::new(&destination, inputs(&session, &first.applied, false)), good);
    assert!(steps.is_empty(), "{steps:?}");
    assert_eq!((report.class, report.reason), (Class::Ok, Reason::Unchanged));

    let without_update: Vec<_> = first.applied.iter().filter(|(s, _)| s != "update").cloned().collect();
    let other = |p: &Prepared| Response { headers: vec![("etag".into(), "\"v9\"".into())], ..good(p) };
    let (steps, _, second) = play(Run::new(&destination, inputs(&session, &without_update, false)), other);
    assert_eq!(steps, ["ticket", "upload", "update"]);
    assert_eq!(first.applied[0], second.applied[0]);
}

#[test]
fn a_conflict_goes_back_and_gives_up_after_its_number_of_times() {
    let (destination, session) = (destination(), session());
    let mut conflicts = 1;
    let (steps, _, report) = play(Run::new(&destination, inputs(&session, &[], false)), |p| {
        if p.step == "update" && conflicts > 0 {
            conflicts -= 1;
            return reply(412, Value::Null);
        }
        good(p)
    });
    assert_eq!(steps, ["ticket", "upload", "update", "ticket", "update", "note", "tag"]);
    assert_eq!(report.class, Class::Ok);
    let (steps, _, report) = play(Run::new(&destination, inputs(&session, &[], false)), |p| {
        if p.step == "update" { reply(412, Value::Null) } else { good(p) }
    });
    assert_eq!(steps.iter().filter(|s| *s == "update").count(), 3);
    assert_eq!((report.class, report.reason, report.uncertain), (Class::Conflict, Reason::Conflict, false));
}

#[test]
fn a_step_that_is_not_required_only_warns() {
    let (destination, session) = (destination(), session());
    let (steps, _, report) = play(Run::new(&destination, inputs(&session, &[], false)), |p| {
        if p.step == "tag" { reply(422, Value::Null) } else { good(p) }
    });
    assert_eq!(steps.last().map(String::as_str), Some("tag"));
    assert_eq!(report.class, Class::Ok);
    assert!(report.detail.contains("the step `tag` failed: HTTP status 422"), "{}", report.detail);
    assert!(!report.applied.iter().any(|(s, _)| s == "tag"));
}

#[test]
fn after_an_unclear_result_the_marker_decides() {
    let (destination, session) = (destination(), session());
    let run = Run::new(&destination, inputs(&session, &[], true));
    let marker = run.marker().to_owned();
    let (steps, _, report) =
        play(
            run,
            |p| {
                if p.step == "seen" { reply(200, json!([{ "text": format!("x {marker} y") }])) } else { good(p) }
            },
        );
    assert_eq!(steps, ["ticket", "upload", "update", "seen", "tag"]);
    assert!(report.applied.iter().any(|(s, d)| s == "note" && !d.is_empty()));
    let (steps, ..) = play(Run::new(&destination, inputs(&session, &[], true)), good);
    assert_eq!(steps, ["ticket", "upload", "update", "seen", "note", "tag"]);
    let (steps, _, report) = play(Run::new(&destination, inputs(&session, &[], true)), |p| {
        if p.step == "seen" { reply(503, Value::Null) } else { good(p) }
    });
    assert_eq!(steps.last().map(String::as_str), Some("seen"));
    assert!(report.uncertain && report.class == Class::Retry);
}

#[test]
fn what_must_happen_once_is_left_to_a_person_if_it_was_under_way_and_only_then() {
    let destination = destination_with("base_url = 'https://toy.example'\ntoken = 'x'\naudit = true\n");
    let session = session();
    let mut run = Run::new(&destination, inputs(&session, &[], true));
    run.resume(&Progress { in_flight: Some("audit".into()), ..Progress::default() }, now());
    let marker = run.marker().to_owned();
    let (steps, _, report) =
        play(run, |p| if p.step == "seen" { reply(200, json!([{ "text": marker.clone() }])) } else { good(p) });
    assert!(!steps.contains(&"audit".to_owned()), "{steps:?}");
    assert_eq!((report.class, report.reason, report.uncertain), (Class::Dead, Reason::Uncertain, true));
    let (steps, _, report) = play(Run::new(&destination, inputs(&session, &[], true)), good);
    assert_eq!(steps.last().map(String::as_str), Some("audit"));
    assert_eq!(report.class, Class::Ok);
    // It is under way once its answer is lost, and not if the answer was clear.
    let lost = Verdict::new(Class::Retry, Reason::Timeout, "lost").uncertain();
    for (verdict, under_way) in [(lost, Some("audit")), (Verdict::new(Class::Retry, Reason::Dns, "no"), None)] {
        let mut run = Run::new(&destination, inputs(&session, &[], false));
        while let Next::Send(prepared) = run.next() {
            match prepared.step.as_str() {
                "audit" => run.failed(verdict.clone()),
                _ => run.answer(&good(&prepared), now()),
            };
        }
        assert_eq!(run.in_flight(), under_way);
    }
}

/// Plays until a step fails for a while; gives what was done, as the ledger keeps it.
fn interrupted(
    destination: &Destination,
    session: &Session,
    at: &str,
    good: impl Fn(&Prepared) -> Response,
) -> Progress {
    let mut run = Run::new(destination, inputs(session, &[], false));
    let mut done = Vec::new();
    while let Next::Send(prepared) = run.next() {
        done.extend(run.progress());
        let answer = if prepared.step == at { reply(503, Value::Null) } else { good(&prepared) };
        run.answer(&answer, now());
    }
    done.extend(run.progress());
    Progress { done, ..Progress::default() }
}

#[test]
fn a_later_attempt_goes_on_where_the_first_ended_with_what_it_captured() {
    let (destination, session) = (destination(), session());
    let stored = |p: &Prepared| match p.step.as_str() {
        "upload" => reply(201, json!({ "token": "tok", "at": "https://a.store.example" })),
        _ => good(p),
    };
    let progress = interrupted(&destination, &session, "note", stored);
    let done: Vec<_> = progress.done.iter().map(|d| (d.step.as_str(), d.applied)).collect();
    assert_eq!(done, [("upload", false), ("update", true)]);
    let applied = vec![("update".to_owned(), progress.done[1].digest.clone())];
    let resume = |progress: &Progress, after: i64| {
        let mut run = Run::new(&destination, inputs(&session, &applied, false));
        run.resume(progress, now() + jiff::SignedDuration::from_secs(after));
        play(run, stored)
    };
    // The file goes to where the first attempt was told.
    let (steps, sent, report) = resume(&progress, 3599);
    assert_eq!(steps, ["note", "tag", "store"]);
    assert_eq!(sent[2].request.url, "https://a.store.example/put");
    assert_eq!((report.class, report.reason), (Class::Ok, Reason::Applied));
    // Its lifetime is over, and nothing else needs it.
    assert_eq!(resume(&progress, 3600).0, ["note", "tag"]);
    // What was not applied after all needs it again.
    let only_upload = Progress { done: progress.done[..1].to_vec(), ..Progress::default() };
    let again = |after| {
        let mut run = Run::new(&destination, inputs(&session, &[], false));
        run.resume(&only_upload, now() + jiff::SignedDuration::from_secs(after));
        play(run, stored).0
    };
    assert_eq!(again(60), ["ticket", "update", "note", "tag", "store"]);
    assert_eq!(again(7200), ["ticket", "upload", "update", "note", "tag", "store"]);
    // Another content is another upload.
    let mut other = only_upload.clone();
    other.done[0].digest = "of something else".into();
    let mut run = Run::new(&destination, inputs(&session, &[], false));
    run.resume(&other, now());
    assert_eq!(play(run, stored).0[1], "upload");
}

#[test]
fn a_delivery_that_had_done_all_before_a_crash_says_so_and_one_in_part_too() {
    let (destination, session) = (destination(), session());
    let part = |p: &Prepared| if p.step == "note" { reply(200, Value::Null) } else { good(p) };
    let (.., whole) = play(Run::new(&destination, inputs(&session, &[], false)), part);
    let mut progress = interrupted(&destination, &session, "none", part);
    let mut run = Run::new(&destination, inputs(&session, &whole.applied, true));
    run.resume(&progress, now());
    let (steps, _, report) = play(run, part);
    assert_eq!((steps.len(), report.class, report.reason), (0, Class::Ok, Reason::Applied));
    progress.done[1].partial = Some((Reason::UnknownField, "`x` was refused".into()));
    let mut run = Run::new(&destination, inputs(&session, &whole.applied, true));
    run.resume(&progress, now());
    let (_, _, report) = play(run, part);
    assert_eq!(
        (report.class, report.reason, &report.detail[..]),
        (Class::Partial, Reason::UnknownField, "`x` was refused")
    );
}

#[test]
fn what_was_applied_last_is_sent_again_if_another_delivery_may_have_come_between() {
    let destination = destination_with("base_url = 'https://toy.example'\ntoken = 'x'\naudit = true\n");
    let session = session();
    let (.., first) = play(Run::new(&destination, inputs(&session, &[], false)), good);
    let mut run = Run::new(&destination, inputs(&session, &first.applied, false));
    let doubtful = first.applied.iter().map(|(step, _)| step.clone()).collect();
    run.resume(&Progress { doubtful, ..Progress::default() }, now());
    let (steps, ..) = play(run, good);
    assert_eq!(steps, ["ticket", "upload", "update", "note", "tag"], "all but what happens once");
}

#[test]
fn a_broken_connection_is_uncertain_for_writes_and_not_for_reads() {
    let (destination, session) = (destination(), session());
    let lost = || Verdict::new(Class::Retry, Reason::ConnectionLost, "lost").uncertain();
    let mut run = Run::new(&destination, inputs(&session, &[], false));
    assert!(matches!(run.next(), Next::Send(p) if p.step == "ticket"));
    run.failed(lost());
    let Next::Finished(report) = run.next() else { panic!("an end") };
    assert_eq!((report.class, report.uncertain), (Class::Retry, false));
    let mut run = Run::new(&destination, inputs(&session, &[], false));
    while let Next::Send(prepared) = run.next() {
        if prepared.step == "note" {
            run.failed(lost());
        } else {
            run.answer(&good(&prepared), now());
        }
    }
    let Next::Finished(report) = run.next() else { panic!("an end") };
    assert_eq!((report.class, report.uncertain), (Class::Retry, true));
    assert!(report.applied.iter().any(|(s, _)| s == "update"));
}

#[test]
fn another_origin_is_allowed_by_its_pattern_and_gets_no_credentials() {
    let (destination, session) = (destination(), session());
    let at = |address: &'static str| {
        move |p: &Prepared| match p.step.as_str() {
            "upload" => reply(201, json!({ "token": "t", "at": address })),
            _ => good(p),
        }
    };
    let (_, sent, report) = play(Run::new(&destination, inputs(&session, &[], false)), at("https://a.store.example"));
    let store = &sent.last().expect("a request").request;
    assert_eq!((store.url.as_str(), store.with_credentials), ("https://a.store.example/put", false));
    let body = store.body.as_ref().expect("a body");
    assert!(body.content_type.starts_with("multipart/form-data; boundary=m2c-"), "{}", body.content_type);
    let text = String::from_utf8_lossy(&body.bytes);
    assert!(
        text.contains(
            "name=\"file\"; filename=\"metadata-voice-7.json\"\r\nContent-Type: application/json\r\n\r\n{\"id\":7}\r\n"
        ),
        "{text}"
    );
    assert_eq!(report.class, Class::Ok);
    for bad in ["https://a.store.example.evil.example", "http://127.0.0.1"] {
        let (_, sent, report) = play(Run::new(&destination, inputs(&session, &[], false)), at(bad));
        assert!(sent.iter().all(|p| p.step != "store"));
        assert_eq!((report.class, report.reason), (Class::Dead, Reason::UnexpectedReply), "{bad}");
    }
}

#[test]
fn a_preview_shows_the_same_requests_with_names_for_what_only_an_answer_gives() {
    let (destination, session) = (destination(), session());
    let shown = preview(&destination, inputs(&session, &[], false)).expect("requests");
    let steps: Vec<&str> = shown.iter().map(|p| p.step.as_str()).collect();
    assert_eq!(steps, ["ticket", "upload", "update", "note", "tag", "store"]);
    assert!(shown[2].request.headers.contains(&("If-Match".into(), "«steps.ticket.etag»".into())));
    assert!(shown[5].request.url.starts_with("«steps.upload.at»"), "{}", shown[5].request.url);
    let (_, sent, _) = play(Run::new(&destination, inputs(&session, &[], false)), good);
    assert_eq!(shown[2].request_digest, sent[2].request_digest);
    assert_eq!(shown[3].request, sent[3].request);
}

#[test]
fn a_document_that_is_too_large_is_left_out_and_said() {
    let (destination, session) = (destination(), session());
    let large = format!("{{\"id\":7,\"x\":\"{}\"}}", "y".repeat(200));
    let inputs = Inputs { document: &large, ..inputs(&session, &[], false) };
    let (steps, sent, report) = play(Run::new(&destination, inputs), good);
    assert_eq!(steps, ["ticket", "update", "note", "tag"]);
    assert_eq!(sent[1].request.body.as_ref().expect("a body").bytes, r#"{"code":"Resolved"}"#);
    assert!(report.detail.contains("was not attached"), "{}", report.detail);
}

#[test]
fn a_record_id_of_the_wrong_form_never_becomes_part_of_a_request() {
    let (destination, session) = (destination(), session());
    for (record, reason) in [
        (Some("12/../1"), Reason::BadRecordId),
        (Some("12\n"), Reason::BadRecordId),
        (Some(""), Reason::NoRecordId),
        (None, Reason::NoRecordId),
    ] {
        let inputs = Inputs { record, ..inputs(&session, &[], false) };
        let (steps, _, report) = play(Run::new(&destination, inputs), good);
        assert!(steps.is_empty());
        assert_eq!((report.class, report.reason), (Class::Dead, reason), "{record:?}");
    }
}
