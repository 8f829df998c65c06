//! Messages made by hand, through the whole ladder.

use std::borrow::Cow;

use serde_json::json;

use super::*;
use crate::session::evidence::Found;

fn part(kind: Kind, place: &str, content: &str) -> Part<'static> {
    Part {
        place: place.to_owned(),
        kind,
        file_name: (kind == Kind::Attachment).then(|| place.to_owned()),
        content_type: "application/octet-stream".to_owned(),
        content: Cow::Owned(content.as_bytes().to_vec()),
        depth: 0,
    }
}

fn run(parts: Vec<Part<'static>>) -> Extraction {
    let message = Message { parts, ..Message::default() };
    extract(&message, "default", Profile::builtin(), &Limits::default(), &Redaction::default())
}

fn found(parts: Vec<Part<'static>>) -> Vec<Found> {
    match run(parts) {
        Extraction::Sessions(found) => found,
        other => panic!("{other:?}"),
    }
}

const ONE: &str = r#"{"id":48213,"call_type":"Voice Inbound (IVR)","out_ticket_id":"C-1","status":"finished","rating":4,"feedback":null}"#;

#[test]
fn the_stronger_wins_and_the_weaker_fills() {
    let text = "Session ID: 48213\nOutTicket ID: C-1\nCSAT Rating: 3\nComment: Nice\n";
    let all = found(vec![part(Kind::Text, "text body", text), part(Kind::Attachment, "metadata.json", ONE)]);
    assert_eq!(all.len(), 1);
    let one = &all[0];
    assert_eq!((one.session.rating, one.session.feedback.as_deref()), (Some(4), Some("Nice")));
    assert_eq!(one.document["feedback"], "Nice");
    assert_eq!(one.warnings, ["text body says rating 3, metadata.json says 4"]);
    let place = |field: &str| one.evidence.iter().find(|(f, _)| f == field).map(|(_, e)| (e.how, e.place.as_str()));
    assert_eq!(place("out_ticket_id"), Some((How::JsonAttachment, "metadata.json#/out_ticket_id")));
    assert_eq!(place("feedback"), Some((How::Labels, "text body, line 4")));
    assert_eq!(place("lang"), None);
}

#[test]
fn personal_values_are_not_repeated_in_warnings() {
    let text = "Session ID: 48213\nOutTicket ID: C-1\nComment: Secret words\nStatus: finished\n";
    let document = ONE.replace("null", "\"Other words\"");
    let all = found(vec![part(Kind::Attachment, "m.json", &document), part(Kind::Text, "text body", text)]);
    assert_eq!(all[0].warnings, ["text body and m.json differ in feedback"]);
}

#[test]
fn two_records_for_one_session_are_refused() {
    let other = ONE.replace("C-1", "C-2");
    let got = run(vec![part(Kind::Attachment, "a.json", ONE), part(Kind::Attachment, "b.json", &other)]);
    assert!(matches!(got, Extraction::Refused(Reason::Ambiguous, _)), "{got:?}");
    let got = run(vec![part(Kind::Attachment, "a.json", ONE), part(Kind::Text, "text body", &other)]);
    assert!(matches!(got, Extraction::Sessions(_)), "the stronger wins: {got:?}");
}

#[test]
fn a_reading_without_a_channel_joins_the_one_that_has_it() {
    let chat = r#"{"id":7731,"chat_type":"Messaging (SMS)","out_ticket_id":"C-1","status":"finished"}"#;
    let text = "Session ID: 7731\nOutTicket ID: C-1\nStatus: finished\nComment: x\n";
    let all = found(vec![part(Kind::Text, "text body", text), part(Kind::Attachment, "m.json", chat)]);
    assert_eq!((all.len(), all[0].session.key.as_str(), all[0].warnings.len()), (1, "chat-7731", 0));
    assert_eq!(all[0].session.feedback.as_deref(), Some("x"));
}

#[test]
fn the_newer_of_two_versions_counts() {
    let at = |time: &str, rating: &str| {
        ONE.replace("\"rating\":4", &format!("\"rating\":{rating},\"updated_at\":\"{time}\""))
    };
    let (old, new) = (at("2026-02-17T10:11:31.000-06:00", "2"), at("2026-02-17T16:11:41.000Z", "3"));
    for order in [[&old, &new], [&new, &old]] {
        let all = found(vec![part(Kind::Attachment, "a.json", order[0]), part(Kind::Attachment, "b.json", order[1])]);
        assert_eq!((all.len(), all[0].session.rating, all[0].warnings.len()), (1, Some(3), 1));
    }
}

#[test]
fn tables_of_every_form_are_read() {
    let two = "<table><tr><th>Session ID</th><td>48213</td></tr><tr><th>OutTicket ID:</th><td><a href='x'>C-1</a></td></tr><tr><td>Handle time (call or chat duration)</td><td>245 seconds</td></tr></table>";
    let four = "<table><tr><td>Session ID</td><td>48213</td><td>OutTicket ID</td><td>C-1</td></tr><tr><td>Handle time</td><td>4:05</td><td>Lang</td><td></td></tr></table>";
    let three = "<table><tr><td>Data</td><td>Description</td><td>Example value</td></tr><tr><td>Session ID</td><td>The identifier</td><td>48213</td></tr><tr><td>OutTicket ID</td><td>ID applied by the CRM</td><td>C-1</td></tr><tr><td>Handle time</td><td></td><td>245</td></tr></table>";
    let header = "<table><tr><th>Session ID</th><th>OutTicket ID</th><th>Handle time</th></tr><tr><td>48213</td><td>C-1</td><td>4m 5s</td></tr></table>";
    let nested = format!("<table><tr><td>Hello</td><td>{two}</td></tr></table>");
    for html in [two, four, three, header, &nested] {
        let all = found(vec![part(Kind::Html, "html body", html)]);
        let one = &all[0].session;
        assert_eq!(
            (one.id.as_str(), one.out_ticket_id.as_deref(), one.handle_duration),
            ("48213", Some("C-1"), Some(245)),
            "{html}"
        );
        assert!(
            all[0].evidence.iter().all(|(_, e)| e.how == How::HtmlTable && !e.place.is_empty()),
            "{:?}",
            all[0].evidence
        );
    }
    let columns = "<table><tr><td>Session ID</td><td>1</td><td>2</td></tr><tr><td>OutTicket ID</td><td>A</td><td>B</td></tr><tr><td>Status</td><td>8</td><td>9</td></tr></table>";
    let all = found(vec![part(Kind::Html, "html body", columns)]);
    assert_eq!(all.iter().map(|f| f.session.out_ticket_id.as_deref()).collect::<Vec<_>>(), [Some("A"), Some("B")]);
}

#[test]
fn json_is_found_in_bodies_however_they_dress_it() {
    let quoted: String = serde_json::to_string_pretty(&serde_json::from_str::<Value>(ONE).expect("JSON"))
        .expect("JSON")
        .lines()
        .map(|l| format!("> {l}\n"))
        .collect();
    let escaped = format!("<pre>{}</pre>", ONE.replace('"', "&quot;"));
    let lines = format!("<div>{}</div>", ONE.replace(',', ",</div><div>&nbsp;&nbsp;"));
    let smart = ONE.replace("\"id\"", "“id”").replace("\"C-1\"", "“C-1”").replace("\"call_type\"", "„call_type“");
    for (kind, text) in [
        (Kind::Text, format!("Hello,\n\nhere it is:\n{ONE}\n-- \nBridge")),
        (Kind::Text, format!("On Monday x wrote:\n{quoted}")),
        (Kind::Text, smart),
        (Kind::Html, escaped.clone()),
        (Kind::Html, lines),
        (Kind::Text, escaped),
        (Kind::Html, format!("<p>x</p><table><tr><td>{ONE}</td></tr></table>")),
    ] {
        let all = found(vec![part(kind, "body", &text)]);
        assert_eq!(
            (all.len(), all[0].session.out_ticket_id.as_deref(), all[0].session.rating),
            (1, Some("C-1"), Some(4)),
            "{text}"
        );
        assert!(all[0].evidence.iter().all(|(_, e)| e.how == How::JsonBody));
    }
}

#[test]
fn broken_metadata_is_refused_and_ordinary_mail_is_none() {
    let cut = &ONE[..90];
    for parts in [
        vec![part(Kind::Attachment, "metadata-48213.json", "")],
        vec![part(Kind::Attachment, "metadata-48213.json", "{\"id\": 48213, oops")],
        vec![part(Kind::Attachment, "x.json", cut)],
        vec![part(Kind::Text, "text body", cut)],
        vec![part(Kind::Attachment, "x.json", &ONE.replace("48213", "null"))],
    ] {
        let got = run(parts);
        assert!(matches!(got, Extraction::Refused(Reason::MalformedMetadata, _)), "{got:?}");
    }
    for parts in [
        vec![part(Kind::Text, "text body", "Dear all,\nlunch at {noon}?\n")],
        vec![
            part(Kind::Attachment, "package.json", "{\"name\":\"x\"}"),
            part(Kind::Html, "html body", "<style>a{b:c}</style>Hi"),
        ],
        vec![part(Kind::Attachment, "chat-7731.txt", "Session ID: 1\nOutTicket ID: C-1\nStatus: finished")],
    ] {
        assert_eq!(run(parts), Extraction::None);
    }
    let deep = format!("{{\"call_type\":\"x\",\"out_ticket_id\":\"C\",\"id\":1,\"a\":{}", "[".repeat(500));
    assert!(matches!(run(vec![part(Kind::Attachment, "x.json", &deep)]), Extraction::Refused(Reason::TooDeep, _)));
}

#[test]
fn a_denied_recording_leaves_no_link_anywhere() {
    let document = ONE.replace(
        "\"status\"",
        "\"recording_permission\":\"Denied\",\"recordingUrl\":\"https://x.example/r\",\"status\"",
    );
    let all = found(vec![part(Kind::Attachment, "m.json", &document)]);
    assert_eq!(all[0].session.recording_url, None);
    assert!(!format!("{:?}", all[0]).contains("x.example"));
}

#[test]
fn a_document_source_says_what_it_got() {
    let run = |bytes: &[u8]| {
        extract_document(bytes, "48213.json", "emea", Profile::builtin(), &Limits::default(), &Redaction::default())
    };
    let Extraction::Sessions(all) = run(ONE.as_bytes()) else { panic!("no session") };
    assert_eq!((all[0].session.instance.as_str(), all[0].evidence[0].1.how), ("emea", How::JsonDocument));
    assert_eq!(run(b"{\"name\":\"x\"}"), Extraction::None);
    assert!(matches!(run(b""), Extraction::Refused(Reason::MalformedMetadata, _)));
    assert!(matches!(run(b"hello"), Extraction::Refused(Reason::MalformedMetadata, _)));
}

#[test]
fn the_report_has_the_form_of_the_contract() {
    let extraction = run(vec![part(Kind::Attachment, "metadata-48213.json", ONE)]);
    let report = to_extract_json("a.eml", Some("<a1@x>"), &extraction, &json!({ "verdict": "none" }));
    let keys: Vec<_> = report.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys, ["input", "message_id", "outcome", "reason", "trust", "sessions"]);
    assert_eq!(report["sessions"][0]["evidence"]["out_ticket_id"]["where"], "metadata-48213.json#/out_ticket_id");
    let none = to_extract_json("a.eml", None, &Extraction::None, &json!(null));
    assert_eq!((none["outcome"].as_str(), none["reason"].as_str()), (Some("none"), Some("no_metadata")));
}
