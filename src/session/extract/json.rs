//! Session documents in JSON: whole files in any encoding, lines of JSON, envelopes around sessions, and
//! JSON somewhere in a text. Gives candidates with their places, and what was nearly a session but broken.
//! Every search has a budget; a text without a session costs one look for a brace.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;
use serde_json::Value;

use super::lenient::{self, Dress, Fault, MAX_VALUES};
use super::{Broken, Candidate, Harvest, MAX_SESSIONS, Place};
use crate::message::unlabelled;
use crate::outcome::Reason;
use crate::session::Channel;
use crate::session::document::looks_like_session;
use crate::session::event;
use crate::session::evidence::How;
use crate::session::profile::{Profile, Slot};

/// Levels of envelope around a session.
const MAX_ENVELOPE: usize = 8;
/// Objects that are tried in one text.
const MAX_TRIES: usize = 1_000;
/// Text that may stand before JSON in a file that is not named as a transcript.
const MAX_PREAMBLE: usize = 2_048;

/// Where and how a text is read.
pub(super) struct Context<'c> {
    pub(super) profile: &'c Profile,
    pub(super) how: How,
    /// The file name or the name of the body.
    pub(super) place: &'c str,
    pub(super) max_depth: usize,
    pub(super) max_bytes: usize,
}

/// The text of a file: UTF-8 or UTF-16 with or without a mark, else Windows-1252; `None` for binary data.
pub(super) fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let wide = |bytes: &[u8], big: bool| {
        let units = bytes.chunks_exact(2).map(|c| match c {
            [a, b] if big => u16::from_be_bytes([*a, *b]),
            [a, b] => u16::from_le_bytes([*a, *b]),
            _ => 0xFFFD,
        });
        Cow::Owned(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>())
    };
    match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => return decode(rest),
        [0xFF, 0xFE, rest @ ..] => return Some(wide(rest, false)),
        [0xFE, 0xFF, rest @ ..] => return Some(wide(rest, true)),
        [0, a, 0, b, ..] if *a != 0 && *b != 0 => return Some(wide(bytes, true)),
        [a, 0, b, 0, ..] if *a != 0 && *b != 0 => return Some(wide(bytes, false)),
        _ => {}
    }
    let is_structured = matches!(bytes.trim_ascii_start(), [b'{', b'"' | b' ' | b'\r' | b'\n' | b'\t', ..]);
    if memchr::memchr(0, bytes.get(..bytes.len().min(1_024)).unwrap_or(bytes)).is_some() && !is_structured {
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(Cow::Borrowed(text)),
        Err(_) => {
            let sample = bytes.get(..bytes.len().min(1_024)).unwrap_or(bytes);
            let control = sample.iter().filter(|b| **b < 32 && !matches!(**b, b'\n' | b'\r' | b'\t')).count();
            (control == 0).then(|| unlabelled(bytes))
        }
    }
}

/// Reads a file. True if it holds JSON, whether or not there is a session in it.
pub(super) fn file(bytes: &[u8], context: &Context<'_>, harvest: &mut Harvest) -> bool {
    let name = context.place.rsplit(" / ").next().unwrap_or(context.place);
    let promises = context.profile.promises_session(name);
    let Some(text) = decode(bytes) else { return false };
    if text.trim().is_empty() {
        if promises || context.how == How::JsonDocument || is_metadata_json(name) {
            harvest.broken(Reason::MalformedMetadata, format!("`{}` is empty", context.place));
        }
        return false;
    }
    let start = text.len() - text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}').len();
    let first = text.as_bytes().get(start).copied();
    // A string may hold the document once more encoded.
    let is_string = first == Some(b'"') && memmem::find(text.as_bytes(), b"{\\\"").is_some();
    let structured = matches!(first, Some(b'{' | b'[')) || is_string;
    let brace = if structured {
        Some(start)
    } else {
        memchr::memchr(b'{', text.as_bytes().get(..MAX_PREAMBLE.min(text.len())).unwrap_or(&[]))
    };
    let Some(brace) = brace else { return false };
    let is_only_document = structured && context.how == How::JsonDocument;
    let is_transcript = context.profile.is_transcript(name);
    if is_transcript && !structured {
        return false;
    }
    if text.len() > context.max_bytes {
        let head = text.as_bytes().get(..64 << 10).unwrap_or(text.as_bytes());
        if promises || is_only_document || signs(head, context.profile) >= 2 {
            harvest.broken(Reason::TooLarge, format!("`{}` is larger than {} bytes", context.place, context.max_bytes));
        }
        return true;
    }
    let before = (harvest.found.len(), harvest.broken.len());
    if structured {
        match lenient::parse(&text, start, Dress::default(), context.max_depth) {
            Ok(parsed) if text.get(parsed.end..).is_some_and(|r| r.trim().is_empty()) => {
                collect(parsed.value, format!("{}#", context.place), 0, context, harvest);
                if harvest.found.len() > before.0 {
                    harvest.weigh(parsed.values, parsed.end - start);
                    harvest.odd(&parsed.repeated, parsed.loose, context);
                }
                if promises && before == (harvest.found.len(), harvest.broken.len()) {
                    harvest.broken(Reason::MalformedMetadata, format!("`{}` holds no session metadata", context.place));
                }
                return true;
            }
            // Its first thousand sessions alone would be a guess about the rest.
            Err((Fault::Size, _))
                if signs(text.as_bytes().get(..64 << 10).unwrap_or(text.as_bytes()), context.profile) >= 2 =>
            {
                harvest.weigh(MAX_VALUES + 1, 0);
                return true;
            }
            // A transcript is metadata only as a whole document.
            _ if is_transcript => return true,
            _ => {}
        }
    }
    // Lines of JSON, documents one after the other, text before or garbage behind, or broken JSON.
    find(&text, brace, Dress { body: !structured, ..Dress::default() }, context, harvest);
    let is_named = promises || is_only_document || (structured && is_metadata_json(name));
    if before == (harvest.found.len(), harvest.broken.len()) && is_named {
        let fault = lenient::parse(&text, brace, Dress::default(), context.max_depth).err().map(|(fault, _)| fault);
        let reason = match fault {
            Some(Fault::Depth) => Reason::TooDeep,
            Some(Fault::Size) => Reason::TooLarge,
            _ => Reason::MalformedMetadata,
        };
        harvest.broken(reason, format!("`{}` {}", context.place, explain(&text, brace, context)));
    }
    structured
}

/// `metadata.json` and its like: less than a promise, enough to say that broken JSON is broken.
fn is_metadata_json(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("metadata") && name.ends_with(".json")
}

/// How many keys that only session documents have occur in the text.
fn signs(text: &[u8], profile: &Profile) -> usize {
    profile.signature.keys.iter().filter(|k| memmem::find(text, k.as_bytes()).is_some()).count()
}

/// The same for a file that can't be read, where they may be of two bytes a letter.
pub(super) fn signs_of_any_width(bytes: &[u8], profile: &Profile) -> usize {
    let keys = profile.signature.keys.iter();
    keys.filter(|key| {
        let wide: Vec<u8> = key.encode_utf16().flat_map(u16::to_le_bytes).collect();
        memmem::find(bytes, key.as_bytes()).is_some() || memmem::find(bytes, &wide).is_some()
    })
    .count()
}

fn explain(text: &str, at: usize, context: &Context<'_>) -> String {
    match lenient::parse(text, at, Dress::default(), context.max_depth) {
        Err((Fault::End, _)) => "is nearly a session, but its JSON breaks off at the end".to_owned(),
        Err((Fault::Syntax(place), _)) => {
            format!("is nearly a session, but its JSON is broken in line {}", line_of(text, place))
        }
        Err((Fault::Depth, _)) => format!("is nested deeper than {} levels", context.max_depth),
        Err((Fault::Size, _)) => format!("has more than {MAX_VALUES} values"),
        Ok(_) => "holds no session metadata".to_owned(),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    memchr::memchr_iter(b'\n', text.as_bytes().get(..offset).unwrap_or(&[])).count() + 1
}

/// Finds every session document in a text, from `from` on. Gives the ranges of the JSON that was read.
pub(super) fn find(
    text: &str,
    from: usize,
    dress: Dress,
    context: &Context<'_>,
    harvest: &mut Harvest,
) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut ranges = Vec::new();
    let mut budget = bytes.len() * 8 + (64 << 10);
    let mut at = from;
    let mut tries = 0;
    let mut lines = Lines { text, at: 0, start: 0, number: 1 };
    // A broken object counts only if no session comes out of it after all.
    let mut pending: Option<(usize, Reason, String)> = None;
    while let Some(i) = memchr::memchr(b'{', bytes.get(at..).unwrap_or(&[])) {
        let start = at + i;
        at = start + 1;
        if !opens_object(text, start) {
            continue;
        }
        if tries > MAX_TRIES || budget == 0 || harvest.is_full() {
            break;
        }
        if let Some((_, reason, sentence)) = pending.take_if(|(reached, ..)| start >= *reached) {
            harvest.broken(reason, sentence);
        }
        let (line, line_start) = lines.of(start);
        let cut = dress.body && is_cut(text, line_start);
        let dress = Dress { quoted: quote_depth(text, line_start), cut, ..dress };
        match lenient::parse(text, start, dress, context.max_depth) {
            Ok(parsed) => {
                budget = budget.saturating_sub(parsed.end - start);
                at = parsed.end;
                let before = harvest.found.len();
                let place = if line == 1 && from == start {
                    format!("{}#", context.place)
                } else {
                    format!("{}, line {line}#", context.place)
                };
                collect(parsed.value, place, 0, context, harvest);
                if harvest.found.len() > before {
                    harvest.weigh(parsed.values, parsed.end - start);
                    harvest.odd(&parsed.repeated, parsed.loose, context);
                    pending = None;
                    ranges.push(start..parsed.end);
                } else {
                    tries += 1;
                }
            }
            Err((fault, reached)) => {
                tries += 1;
                budget = budget.saturating_sub(reached.saturating_sub(start) + 64);
                let seen = bytes.get(start..reached.max(start)).unwrap_or(&[]);
                if pending.is_none() && signs(seen, context.profile) >= 2 {
                    let (reason, what) = match fault {
                        Fault::End => (
                            Reason::MalformedMetadata,
                            "is nearly a session, but its JSON breaks off at the end".to_owned(),
                        ),
                        Fault::Syntax(place) => (
                            Reason::MalformedMetadata,
                            format!("is nearly a session, but its JSON is broken in line {}", line_of(text, place)),
                        ),
                        Fault::Size => (Reason::TooLarge, format!("has more than {MAX_VALUES} values")),
                        Fault::Depth => {
                            (Reason::TooDeep, format!("is nested deeper than {} levels", context.max_depth))
                        }
                    };
                    pending = Some((reached, reason, format!("`{}` {what}", context.place)));
                }
            }
        }
    }
    if let Some((_, reason, sentence)) = pending {
        harvest.broken(reason, sentence);
    }
    ranges
}

/// True if a key follows the brace: anything else is prose, style sheets or templates.
fn opens_object(text: &str, brace: usize) -> bool {
    let rest = text.get(brace + 1..).unwrap_or("");
    let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '>' | '|' | '\u{200b}'));
    if rest.starts_with("//") || rest.starts_with("/*") {
        return true;
    }
    if rest.as_bytes().first().copied().is_some_and(lenient::is_name_start) {
        let name = rest.bytes().take(40).take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        return rest.as_bytes().get(name) == Some(&b':');
    }
    rest.starts_with(['"', '\'', '“', '”', '„', '«', '»', '‟', '″', '＂'])
}

/// Lines of a text, asked for from its start to its end, so that no byte is looked at twice.
struct Lines<'t> {
    text: &'t str,
    at: usize,
    start: usize,
    number: usize,
}

impl Lines<'_> {
    /// Number and first byte of the line of an offset that is not before the last one.
    fn of(&mut self, offset: usize) -> (usize, usize) {
        let passed = self.text.as_bytes().get(self.at..offset).unwrap_or(&[]);
        for end in memchr::memchr_iter(b'\n', passed) {
            self.number += 1;
            self.start = self.at + end + 1;
        }
        self.at = self.at.max(offset);
        (self.number, self.start)
    }
}

/// How many `>` or `|` a line begins with.
fn quote_depth(text: &str, line_start: usize) -> usize {
    let line = text.get(line_start..).unwrap_or("");
    line.bytes().take(256).take_while(|b| matches!(b, b'>' | b'|' | b' ')).filter(|b| *b != b' ').count().min(16)
}

/// True if the lines from this one on are cut at a fixed width, wherever that is in a word: three of the same
/// length at least.
fn is_cut(text: &str, line_start: usize) -> bool {
    // Asked at every brace: no further than three such lines go.
    let text = text.get(line_start..text.floor_char_boundary(line_start + 10_000)).unwrap_or("");
    let mut lines = text.split('\n').map(|l| l.trim_end_matches('\r'));
    let Some(first) = lines.next().filter(|l| l.len() >= 40 && l.len() <= 1_000) else { return false };
    let width = first.chars().count();
    lines.take(2).filter(|l| l.len() <= 4_000 && l.chars().count() == width).count() == 2
}

/// Sessions in a value: itself, the items of a list, or what an envelope holds, JSON in strings included.
fn collect(value: Value, place: String, depth: usize, context: &Context<'_>, harvest: &mut Harvest) {
    if depth > MAX_ENVELOPE || harvest.is_full() {
        return;
    }
    match value {
        Value::Object(object) => {
            let object = event::as_document(object);
            if looks_like_session(&object, context.profile) {
                harvest.found.push(Candidate {
                    hint: channel_in_name(context.place),
                    file_id: id_in_name(context.place),
                    document: Value::Object(object),
                    how: context.how,
                    place: Place::Json(place),
                });
                return;
            }
            for (key, inner) in object {
                if matches!(inner, Value::Object(_) | Value::Array(_) | Value::String(_)) {
                    collect(
                        inner,
                        format!("{place}/{}", key.replace('~', "~0").replace('/', "~1")),
                        depth + 1,
                        context,
                        harvest,
                    );
                }
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.into_iter().enumerate() {
                if matches!(inner, Value::Object(_) | Value::Array(_)) {
                    collect(inner, format!("{place}/{i}"), depth + 1, context, harvest);
                }
            }
        }
        Value::String(text) => {
            let trimmed = text.trim_start();
            if trimmed.len() > 16
                && trimmed.starts_with(['{', '['])
                && let Ok(parsed) = lenient::parse(trimmed, 0, Dress::default(), context.max_depth)
            {
                collect(parsed.value, place, depth + 1, context, harvest);
            }
        }
        _ => {}
    }
}

fn file_stem(place: &str) -> String {
    place.rsplit(" / ").next().unwrap_or(place).rsplit('/').next().unwrap_or(place).to_ascii_lowercase()
}

/// `call-48213.json`, `metadata_chat-7731.json`: the channel that a file name tells.
fn channel_in_name(place: &str) -> Option<Channel> {
    let name = file_stem(place);
    let says = |word: &str| {
        name.match_indices(word).any(|(i, _)| {
            let before = name.get(..i).unwrap_or("");
            let after = name.get(i + word.len()..).unwrap_or("");
            !before.ends_with(|c: char| c.is_ascii_alphabetic()) && after.starts_with(|c: char| c.is_ascii_digit())
        })
    };
    if says("chat-") || says("chat_") {
        Some(Channel::Chat)
    } else if says("call-") || says("call_") {
        Some(Channel::Voice)
    } else {
        None
    }
}

/// The id that a file name promises.
fn id_in_name(place: &str) -> Option<String> {
    let name = file_stem(place);
    ["metadata-", "call-", "chat-"].iter().find_map(|prefix| {
        let (_, rest) = name.split_once(prefix)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let ends = rest.get(digits.len()..).is_some_and(|r| r.starts_with('.') || r.is_empty());
        (!digits.is_empty() && ends).then_some(digits)
    })
}

impl Harvest {
    /// What is no proper JSON about a document that was read all the same. A key that occurs twice with two
    /// values is harmless for most, not for what names the record.
    fn odd(&mut self, keys: &[String], loose: bool, context: &Context<'_>) {
        if loose {
            self.notes.push(format!("{} is not strict JSON; it was read as what it seems to mean", context.place));
        }
        for key in keys {
            let decides = matches!(context.profile.key(key), Some(Slot::OutTicketId | Slot::Id));
            if decides {
                self.ambiguous.get_or_insert(format!("`{}` has `{key}` twice, with different values", context.place));
            } else {
                self.notes.push(format!("{} has a key twice; the last one counts", context.place));
            }
        }
    }

    /// Counts what was kept of a document: its values, and its bytes at 64 a value.
    pub(super) fn weigh(&mut self, values: usize, bytes: usize) {
        self.values += values + bytes / 64;
    }

    /// Whether it holds more than one message may.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() > MAX_SESSIONS || self.values > MAX_VALUES
    }

    pub(super) fn broken(&mut self, reason: Reason, sentence: String) {
        if self.broken.len() < 16 {
            self.broken.push(Broken { reason, sentence });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn harvest(bytes: &[u8], place: &str) -> Harvest {
        let mut out = Harvest::default();
        let context =
            Context { profile: Profile::builtin(), how: How::JsonAttachment, place, max_depth: 64, max_bytes: 1 << 20 };
        file(bytes, &context, &mut out);
        out
    }

    const ONE: &str = r#"{"id":48213,"call_type":"Voice Inbound (IVR)","out_ticket_id":"C-1","status":"finished"}"#;

    #[test]
    fn a_file_is_read_in_every_encoding() {
        let wide: Vec<u8> = ONE.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = ONE.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked = [&[0xFF, 0xFE][..], &wide].concat();
        let utf8 = [&[0xEF, 0xBB, 0xBF][..], ONE.as_bytes()].concat();
        for bytes in [ONE.as_bytes(), &wide, &big, &marked, &utf8] {
            assert_eq!(harvest(bytes, "x.bin").found.len(), 1);
        }
        let latin = ONE.replace("finished", "f\u{fc}nf").chars().map(|c| c as u8).collect::<Vec<_>>();
        assert_eq!(harvest(&latin, "x.bin").found[0].document["status"], "fünf");
    }

    #[test]
    fn sessions_are_found_in_lists_lines_and_envelopes() {
        let places = |text: &str| {
            let all = harvest(text.as_bytes(), "m.json").found;
            all.into_iter()
                .map(|c| match c.place {
                    Place::Json(p) => p,
                    Place::Lines(_) => "?".to_owned(),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(places(&format!("[{ONE},{ONE}]")), ["m.json#/0", "m.json#/1"]);
        assert_eq!(places(&format!("{ONE}\n{ONE}\n")), ["m.json#", "m.json, line 2#"]);
        assert_eq!(places(&format!(r#"{{"data":{{"a/b":[{ONE}]}}}}"#)), ["m.json#/data/a~1b/0"]);
        let inner = serde_json::to_string(ONE).expect("a string");
        assert_eq!(places(&format!(r#"{{"Message":{inner}}}"#)), ["m.json#/Message"]);
        assert_eq!(places(&format!("Session metadata follows:\n\n{ONE}\n-- end")), ["m.json, line 3#"]);
    }

    #[test]
    fn what_is_nearly_a_session_is_told_from_other_json() {
        assert_eq!(harvest(&ONE.as_bytes()[..80], "a.json").broken.len(), 1);
        assert_eq!(harvest(b"", "metadata-48213.json").broken.len(), 1);
        assert_eq!(harvest(b"{}", "metadata-48213.json").broken.len(), 1);
        for other in
            ["{\"name\":\"x\",\"version\":1}", "{\"id\":1,\"status\":\"open\"}", "", "{ broken", "body { color: red }"]
        {
            let got = harvest(other.as_bytes(), "package.json");
            assert!(got.found.is_empty() && got.broken.is_empty(), "{other}");
        }
    }

    #[test]
    fn a_transcript_is_never_metadata() {
        let text = format!("10:02 end user: hello {ONE}");
        assert!(harvest(text.as_bytes(), "chat-7731.txt").found.is_empty());
    }

    #[test]
    fn a_record_id_given_twice_is_ambiguous() {
        let twice = ONE.replace("\"status\"", "\"out_ticket_id\":\"C-2\",\"status\"");
        assert!(harvest(twice.as_bytes(), "m.json").ambiguous.is_some());
    }

    #[test]
    fn a_field_of_braces_ends_soon() {
        let bomb = "{\"a\":".repeat(200_000);
        let got = harvest(bomb.as_bytes(), "x.json");
        assert!(got.found.is_empty());
    }

    #[test]
    fn names_tell_channel_and_id() {
        assert_eq!(channel_in_name("a/chat-7731.json"), Some(Channel::Chat));
        assert_eq!(channel_in_name("metadata_call-9.json"), Some(Channel::Voice));
        assert_eq!(channel_in_name("recall-9.json"), None);
        assert_eq!(id_in_name("forwarded message / metadata-48213.json").as_deref(), Some("48213"));
        assert_eq!(id_in_name("metadata.json"), None);
    }
}
