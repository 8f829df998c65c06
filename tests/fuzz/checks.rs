//! What must hold for any bytes: one function for each reader, called by its fuzz target, and by
//! `tests/it/fuzzed.rs` for every input that once broke it.
//!
//! Only public entry points are called, with the bytes dressed so that the reader in question gets them. A
//! broken promise is a panic.

use mail2crm::message::mark::InstanceKey;
use mail2crm::message::{Limits, Message, automatic, forward, lossy, parse};
use mail2crm::session::evidence::{Extraction, Found};
use mail2crm::session::extract::{self, MAX_SESSIONS, to_extract_json};
use mail2crm::session::profile::Profile;
use mail2crm::session::redact::Redaction;
use mail2crm::session::{document, version};
use serde_json::{Value, json};

/// A check of one reader.
pub type Check = fn(&[u8]);

/// All of them, by the names of their targets.
pub const CHECKS: [(&str, Check); 7] = [
    ("forwards", forwards),
    ("json", json),
    ("labels", labels),
    ("mime", mime),
    ("msg", msg),
    ("tables", tables),
    ("tnef", tnef),
];

/// Limits that a small input can reach.
fn tight() -> Limits {
    Limits {
        message_bytes: 48 << 10,
        header_bytes: 2 << 10,
        parts: 20,
        nesting: 3,
        decoded_bytes: 32 << 10,
        unpacked_bytes: 64 << 10,
        unpacked_ratio: 10,
        json_depth: 12,
        json_bytes: 8 << 10,
        ..Limits::default()
    }
}

/// The bytes are a whole mail: the head and every part of it are read, twice, the second time with little room.
pub fn mime(bytes: &[u8]) {
    let message = parsed(bytes, &Limits::default());
    let small = parsed(bytes, &tight());
    message.originals();
    automatic::recognise(&message, Some(&InstanceKey::of_previews()));
    found(&extracted(&message, &Limits::default()), &Limits::default());
    found(&extracted(&small, &tight()), &tight());
    let head = parse::describe_head(bytes, &Limits::default());
    assert_eq!((head.message_id, head.subject, head.from), (message.message_id, message.subject, message.from));
    for original in parse::originals(bytes, &Limits::default(), 4) {
        assert!(original.len() <= Limits::default().decoded_bytes);
    }
    if let Some((fields, body)) = parse::head(parse::without_envelope_line(bytes), &Limits::default()) {
        let content_type = fields.iter().find(|field| field.name.eq_ignore_ascii_case("Content-Type"));
        parse::is_borne_out(content_type.map(|field| &*field.value), body);
    }
}

/// The bytes are a file that should be JSON, and the text of a body with JSON somewhere in it.
pub fn json(bytes: &[u8]) {
    let (profile, privacy) = (Profile::builtin(), Redaction::default());
    for limits in [Limits::default(), tight()] {
        let read = |place| extract::extract_document(bytes, place, "fuzz", profile, &limits, &privacy);
        found(&read("metadata-48213.json"), &limits);
        found(&body("text/plain", bytes, &limits), &limits);
    }
    attached("application/octet-stream", "chat-1.txt", bytes);
}

/// The bytes are a text body with lines of labels, and the vendor's text file.
pub fn labels(bytes: &[u8]) {
    found(&body("text/plain", bytes, &Limits::default()), &Limits::default());
    attached("text/plain", "metadata-48213.txt", bytes);
}

/// The bytes are an HTML body.
pub fn tables(bytes: &[u8]) {
    found(&body("text/html", bytes, &Limits::default()), &Limits::default());
}

/// The bytes are a body in which other messages are quoted or forwarded, as text and as HTML.
pub fn forwards(bytes: &[u8]) {
    let text = lossy(bytes);
    for original in forward::inline(&text).into_iter().chain(forward::inline_html(&text)) {
        assert!(original.from.is_none_or(|from| from.contains('@') && !from.contains(['<', '>', '\n'])));
        assert!(original.subject.is_none_or(|subject| !subject.contains('\n') && text.len() >= subject.len()));
    }
    text.lines().take(100).for_each(|line| assert!(!forward::begins_message(line) || line.contains([':', '：'])));
    found(&body("text/plain", bytes, &Limits::default()), &Limits::default());
}

/// The bytes are an Outlook message.
pub fn msg(bytes: &[u8]) {
    attached("application/vnd.ms-outlook", "a.msg", bytes);
}

/// The bytes are a `winmail.dat`. Their checksums are put right, or hardly anything would pass the first.
pub fn tnef(bytes: &[u8]) {
    attached("application/ms-tnef", "winmail.dat", bytes);
    attached("application/ms-tnef", "winmail.dat", &summed(bytes));
}

/// The same attributes, each with the checksum that it must have (MS-OXTNEF 2.1.3.2).
fn summed(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut at = 6;
    while let Some(length) = out.get(at + 5..at + 9) {
        let length = length.iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte));
        let end = (at + 9).saturating_add(length);
        let Some(value) = out.get(at + 9..end) else { break };
        let sum = value.iter().fold(0_u16, |sum, byte| sum.wrapping_add(u16::from(*byte)));
        let Some(place) = out.get_mut(end..end + 2) else { break };
        place.copy_from_slice(&sum.to_le_bytes());
        at = end + 2;
    }
    out
}

/// A mail that is nothing but this body.
fn body(content_type: &str, content: &[u8], limits: &Limits) -> Extraction {
    let head = format!("From: a@b.test\nContent-Type: {content_type}\n\n");
    let raw = [head.as_bytes(), content].concat();
    extracted(&parsed(&raw, limits), limits)
}

/// A mail that is nothing but this file, within all limits and within small ones.
fn attached(content_type: &str, name: &str, content: &[u8]) {
    let head = format!("From: a@b.test\nContent-Type: {content_type}; name=\"{name}\"\n\n");
    let raw = [head.as_bytes(), content].concat();
    for limits in [Limits::default(), tight()] {
        let message = parsed(&raw, &limits);
        message.originals();
        found(&extracted(&message, &limits), &limits);
    }
}

fn extracted(message: &Message<'_>, limits: &Limits) -> Extraction {
    let read = || extract::extract(message, "fuzz", Profile::builtin(), limits, &Redaction::default());
    let extraction = read();
    if matches!(extraction, Extraction::Sessions(_)) {
        assert_eq!(extraction, read(), "the same mail read twice");
    }
    extraction
}

/// Parses a mail, and checks that it is within its limits.
fn parsed<'a>(raw: &'a [u8], limits: &Limits) -> Message<'a> {
    let message = parse::parse(raw, limits);
    let content: usize = message.parts.iter().map(|part| part.content.len()).sum();
    assert!(content <= limits.decoded_bytes, "{content} decoded bytes");
    assert!(message.parts.len() <= limits.parts, "{} parts", message.parts.len());
    assert!(message.parts.iter().all(|part| part.depth <= limits.nesting), "nested too deep");
    assert!(message.refusal.is_none() || message.parts.is_empty(), "refused, and parts of it given");
    assert!(message.notes.len() <= 60, "{} notes", message.notes.len());
    assert!(message.notes.iter().all(|note| !note.contains("could not be read as MIME")), "a panic inside");
    let mut places: Vec<&str> = message.parts.iter().map(|part| part.place.as_str()).collect();
    places.sort_unstable();
    assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "two parts in one place");
    assert!(message.parts.iter().all(|part| !matches!(part.file_name.as_deref(), Some(name) if name.contains('\n'))));
    message
}

/// Checks what was found.
fn found(extraction: &Extraction, limits: &Limits) {
    to_extract_json("fuzz", None, extraction, &json!({ "verdict": "none" }));
    match extraction {
        Extraction::Sessions(sessions) => {
            assert!((1..=MAX_SESSIONS).contains(&sessions.len()), "{} sessions", sessions.len());
            sessions.iter().for_each(|session| is_sound(session, limits));
        }
        Extraction::Refused(_, sentence) => assert!(sentence.len() < 4 << 10, "a sentence of {}", sentence.len()),
        Extraction::None => {}
    }
}

fn is_sound(found: &Found, limits: &Limits) {
    assert_eq!(found.digest, version::digest(&found.document));
    assert!(depth(&found.document) <= limits.json_depth, "a document {} deep", depth(&found.document));
    // What the ledger keeps is the document: it must say the same session when it is read again.
    let key = found.session.session_key();
    let again = document::read_traced(&found.document, &key.instance, Profile::builtin(), Some(key.channel));
    let Ok(again) = again else { panic!("{key} no longer reads as a session") };
    assert_eq!(again.session, found.session);
    let mut masked = found.document.clone();
    let sentences = Redaction::default().document(&mut masked);
    assert!(sentences.is_empty() && masked == found.document, "a card number is left: {sentences:?}");
    assert!(found.warnings.iter().all(|warning| warning.len() < 4 << 10));
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
