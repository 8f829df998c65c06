//! The sessions in a message: the ladder of product.md section 5, strongest first. JSON in attachments, JSON
//! in bodies, HTML tables, `label: value` lines; readings of one session are combined into one.
//!
//! Pure and bounded: caps on documents, depth and tries; ordinary mail costs a look at its bodies. It never
//! guesses: what is nearly a session but broken, or names two records, is refused with a sentence.

mod block;
mod combine;
mod json;
mod labels;
mod lenient;
mod redress;
pub mod report;
mod table;

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::Regex;
use serde_json::Value;

use super::Channel;
use super::evidence::{Extraction, How};
use super::profile::Profile;
use super::redact::Redaction;
use crate::message::{Kind, Limits, Message, Part, html, is_media};
use crate::outcome::Reason;

pub use report::to_extract_json;

/// Sessions that one message may hold.
pub const MAX_SESSIONS: usize = 1_000;
/// Bodies up to this size are read without asking first whether it is worth it.
const SMALL: usize = 4 << 10;

/// Everything found so far, in the order of finding.
#[derive(Debug, Default)]
struct Harvest {
    found: Vec<Candidate>,
    broken: Vec<Broken>,
    notes: Vec<String>,
    ambiguous: Option<String>,
    /// What all of it weighs in memory, in JSON values.
    values: usize,
}

/// One reading of one session.
#[derive(Debug)]
struct Candidate {
    document: Value,
    how: How,
    place: Place,
    /// The channel that a file name or a label tells.
    hint: Option<Channel>,
    /// The id that the file name promises.
    file_id: Option<String>,
}

/// Where the values of a reading are.
#[derive(Debug)]
enum Place {
    /// A JSON document: what the pointer of a value is put behind.
    Json(String),
    /// Labelled values: path in the document → place.
    Lines(Vec<(String, String)>),
}

/// What was nearly a session.
#[derive(Debug)]
struct Broken {
    reason: Reason,
    sentence: String,
}

/// Finds the sessions in a message. What is found is masked before anybody sees it.
pub fn extract(
    message: &Message<'_>,
    instance: &str,
    profile: &Profile,
    limits: &Limits,
    privacy: &Redaction,
) -> Extraction {
    if let Some((reason, sentence)) = &message.refusal {
        return Extraction::Refused(*reason, sentence.clone());
    }
    let mut harvest = Harvest::default();
    let is_packed = |part: &Part<'_>| message.unopened.iter().any(|unopened| unopened.place == part.place);
    for part in message.parts.iter().filter(|p| p.kind == Kind::Attachment && !is_packed(p)) {
        attachment(part, profile, limits, &mut harvest);
    }
    unopened(message, profile, &mut harvest);
    for part in message.parts.iter().filter(|p| p.kind != Kind::Attachment) {
        body(part, profile, limits, &mut harvest);
    }
    combine::combine(harvest, instance, profile, privacy)
}

/// Finds the sessions in a document that came as such: a file, an object of a bucket, a posted body. What
/// is not JSON at all is refused; JSON without a session is `None`.
pub fn extract_document(
    bytes: &[u8],
    place: &str,
    instance: &str,
    profile: &Profile,
    limits: &Limits,
    privacy: &Redaction,
) -> Extraction {
    let mut harvest = Harvest::default();
    let context = context(How::JsonDocument, place, profile, limits);
    let is_json = json::file(bytes, &context, &mut harvest);
    if !is_json && harvest.found.is_empty() && harvest.broken.is_empty() {
        harvest.broken(Reason::MalformedMetadata, format!("`{place}` is not JSON"));
    }
    combine::combine(harvest, instance, profile, privacy)
}

fn context<'c>(how: How, place: &'c str, profile: &'c Profile, limits: &Limits) -> json::Context<'c> {
    json::Context { profile, how, place, max_depth: limits.json_depth, max_bytes: limits.json_bytes }
}

fn attachment(part: &Part<'_>, profile: &Profile, limits: &Limits, harvest: &mut Harvest) {
    let kind = part.content_type.split('/').next().unwrap_or("");
    let name = part.file_name.as_deref().unwrap_or("");
    let named = |end: &str| {
        name.len() >= end.len() && name.get(name.len() - end.len()..).is_some_and(|t| t.eq_ignore_ascii_case(end))
    };
    if is_media(kind, part.file_name.as_deref()) {
        return;
    }
    let before = (harvest.found.len(), harvest.broken.len());
    json::file(&part.content, &context(How::JsonAttachment, &part.place, profile, limits), harvest);
    // The vendor's `metadata-{id}.txt` may hold labelled lines as well.
    if harvest.found.len() == before.0 && profile.promises_session(name) && !named(".json") {
        let labelled = harvest.found.len();
        if let Some(text) = json::decode(&part.content) {
            labels::read(&text, &part.place, &[], profile, harvest);
        }
        if harvest.found.len() > labelled {
            harvest.broken.truncate(before.1);
        } else if harvest.broken.len() == before.1 {
            harvest.broken(Reason::MalformedMetadata, format!("`{}` holds no session metadata", part.place));
        }
    }
}

/// What could not be opened is nearly a session if a name promises one, or if it seems to hold the keys of one.
fn unopened(message: &Message<'_>, profile: &Profile, harvest: &mut Harvest) {
    for unopened in &message.unopened {
        let names = [unopened.name.as_str(), unopened.place.rsplit(" / ").next().unwrap_or("")];
        let is_promised = names.iter().any(|name| {
            let lower = name.to_ascii_lowercase();
            profile.promises_session(name) || lower.contains("metadata") || lower.contains(".json")
        });
        let holds_signs = || {
            let part = message.parts.iter().find(|p| p.place == unopened.place);
            part.is_some_and(|p| json::signs_of_any_width(&p.content, profile) >= 2)
        };
        if is_promised || holds_signs() {
            harvest.broken(Reason::MalformedMetadata, unopened.sentence.clone());
        }
    }
}

fn body(part: &Part<'_>, profile: &Profile, limits: &Limits, harvest: &mut Harvest) {
    let text = part.text();
    if text.len() > SMALL && !may_hold_session(text.as_bytes()) {
        return;
    }
    let read = text.get(..floor_char(&text, limits.json_bytes)).unwrap_or(&text);
    let before = (harvest.found.len(), harvest.broken.len());
    dressed(read, part, profile, limits, harvest);
    if read.len() < text.len() && before == (harvest.found.len(), harvest.broken.len()) {
        let sentence = format!("`{}` is longer than {} bytes: a session in it could be missed", part.place, read.len());
        harvest.broken(Reason::TooLarge, sentence);
    }
}

/// The text as it is, then as it may be dressed.
fn dressed(text: &str, part: &Part<'_>, profile: &Profile, limits: &Limits, harvest: &mut Harvest) {
    let text = redress::quoted_printable(text);
    let before = (harvest.found.len(), harvest.broken.len());
    shown(part.kind, &text, &part.place, profile, limits, harvest);
    if harvest.found.len() > before.0 {
        return;
    }
    // Nothing: perhaps it is dressed once more than its part says.
    let broken = harvest.broken.split_off(before.1);
    for (kind, text) in redress::others(part.kind, &text) {
        shown(kind, &text, &part.place, profile, limits, harvest);
        if harvest.found.len() > before.0 {
            return;
        }
        harvest.broken.truncate(before.1);
    }
    harvest.broken.extend(broken);
}

/// What a reader of the mail sees.
fn shown(kind: Kind, text: &str, place: &str, profile: &Profile, limits: &Limits, harvest: &mut Harvest) {
    if kind == Kind::Text {
        let ranges = body_json(text, place, profile, limits, harvest);
        labels::read(text, place, &ranges, profile, harvest);
        return;
    }
    let shown = html::read(text);
    let ranges = body_json(&shown.text, place, profile, limits, harvest);
    let before = harvest.found.len();
    table::read(&shown, place, profile, harvest);
    if harvest.found.len() == before {
        labels::read(&shown.text, place, &ranges, profile, harvest);
    }
}

fn body_json(text: &str, place: &str, profile: &Profile, limits: &Limits, harvest: &mut Harvest) -> Vec<Range<usize>> {
    if memchr::memchr(b'{', text.as_bytes()).is_none() {
        return Vec::new();
    }
    let context = context(How::JsonBody, place, profile, limits);
    json::find(text, 0, lenient::Dress { body: true, ..lenient::Dress::default() }, &context, harvest)
}

/// The largest offset up to `max` that is between two characters.
fn floor_char(text: &str, max: usize) -> usize {
    let mut at = max.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What a body with a session in it says somewhere: in labels, or in the keys of its JSON. Markup between
/// two letters of a word is not looked through.
static SIGNS: LazyLock<Regex> = LazyLock::new(|| {
    let words = r"(?i-u)session|ticket|interaction|disposition|recording|call.?id|call_|calltype|chat.?id|chat_|chattype|call (number|#)";
    Regex::new(words).unwrap_or_else(|fault| unreachable!("a constant pattern: {fault}"))
});

/// False for most ordinary mail.
fn may_hold_session(bytes: &[u8]) -> bool {
    SIGNS.is_match(bytes)
}

#[cfg(test)]
mod tests;
