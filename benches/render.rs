//! What a delivery pays for its templates: the context, a payload with a note in it, a URL, the field map.

use divan::{Bencher, black_box};
use mail2crm::diagnostic::SourceFile;
use mail2crm::folder::Folder;
use mail2crm::record::{Context, Extras, FieldEntry, FieldMap, Inline, Metadata, Place, Shape, Templates};
use mail2crm::session::{Agent, Disposition, Session, Time};

fn main() {
    divan::main();
}

fn session() -> Session {
    let text = r#"{
        "instance": "default", "channel": "voice", "id": "48213", "key": "voice-48213", "record_id": "1001",
        "status": "finished", "session_type_label": "Voice Inbound (IVR)", "handle_duration": 186,
        "menu_path": "Support/Billing", "rating": 4, "photos": [], "videos": [], "agents": [], "transfers": [],
        "escalations": [], "dispositions": [], "in_call_sms": [], "wait_time_sms": [], "participants": [], "raw": {}
    }"#;
    let mut session: Session = serde_json::from_str(text).expect("a session");
    session.created_at = Time::parse("2026-02-17T10:08:01-06:00");
    session.ends_at = Time::parse("2026-02-17T10:11:31-06:00");
    let agent = Agent { name: Some("Ada Lovelace".into()), ..Agent::default() };
    session.agents = vec![agent.clone()];
    session.agent = Some(agent);
    let note = Some("Asked about \"March\".\nWill pay.".repeat(10));
    session.dispositions = vec![Disposition { code: Some("Billing".into()), note, ..Disposition::default() }; 2];
    session
}

fn context() -> Context {
    let metadata = Metadata { name: "metadata-48213.json".into(), json: "x".repeat(4096) };
    Context::new(&session(), Extras { marker: "m2c-1".into(), version: 1, metadata, ..Extras::default() })
}

fn shared() -> Folder {
    let files = [
        ("values.json", include_str!("../templates/_shared/values.json")),
        ("note.txt.hbs", include_str!("../templates/_shared/note.txt.hbs")),
        ("note.md.hbs", include_str!("../templates/_shared/note.md.hbs")),
        ("note.html.hbs", include_str!("../templates/_shared/note.html.hbs")),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), SourceFile::new(name, text)));
    Folder { name: "_shared".into(), files: files.into() }
}

const UPDATE: &str = r#"{
  "Subject": "Session {{id}} {{marker}}", "Content": "{{include 'note.txt'}}", "TimeTaken": "{{minutes handle_duration}}",
  "a": "{{status}}", "b": "{{rating}}", "c": "{{agent.name}}", "d": "{{menu_path}}", "e": "{{default lang 'en'}}",
  "f": "{{disposition.code}}", "g": "{{disposition.note}}", "h": "{{recording_url}}", "i": "{{iso ends_at}}",
  "j": "{{join (pick dispositions 'code') '; '}}", "k": "{{version}}", "l": {"m": "{{record_id}}"}
}"#;

fn folder() -> Folder {
    Folder { name: "rt".into(), files: [("update.json".to_owned(), SourceFile::new("update.json", UPDATE))].into() }
}

#[divan::bench]
fn compile_of_a_folder(bencher: Bencher<'_, '_>) {
    let (folder, shared, shape) = (folder(), shared(), Shape::for_session());
    bencher.bench(|| Templates::compile(black_box(&folder), Some(&shared), &shape).expect("templates"));
}

#[divan::bench]
fn context_of_a_delivery(bencher: Bencher<'_, '_>) {
    let session = session();
    bencher.bench(|| Context::new(black_box(&session), Extras::default()));
}

#[divan::bench]
fn payload_of_15_leaves_and_a_note(bencher: Bencher<'_, '_>) {
    let templates = Templates::compile(&folder(), Some(&shared()), &Shape::for_session()).expect("templates");
    let context = context();
    bencher.bench(|| templates.payload("update.json", black_box(&context)).expect("a payload"));
}

#[divan::bench(args = ["note.txt", "note.md", "note.html"])]
fn note(bencher: Bencher<'_, '_>, name: &str) {
    let templates = Templates::compile(&folder(), Some(&shared()), &Shape::for_session()).expect("templates");
    let context = context();
    bencher.bench(|| templates.text(name, black_box(&context)).expect("a note"));
}

#[divan::bench]
fn path_of_a_url(bencher: Bencher<'_, '_>) {
    let text = "/REST/2.0/ticket/{{record_id}}/comment";
    let file = SourceFile::new("connector.toml", text);
    let inline = Inline::compile(text, &file, 0, Place::UrlPath, &Shape::for_session()).expect("a template");
    let context = context();
    bencher.bench(|| inline.text(black_box(&context)).expect("a path"));
}

#[divan::bench]
fn field_map_of_6(bencher: Bencher<'_, '_>) {
    let names = ["disposition_code", "handle_minutes", "agent_name", "rating", "queue", "disposition_codes"];
    let entries = names.map(|name| FieldEntry { name: name.into(), field: name.into(), span: 0..0 });
    let file = SourceFile::new("mail2crm.toml", "");
    let map = FieldMap::compile(&entries, &[], &file, &shared(), &Shape::for_session()).expect("a field map");
    let context = context();
    bencher.bench(|| map.evaluate(black_box(&context)).expect("fields"));
}
