//! Labelled values of one session, on their way to a document in the vendor's shape, so that one reader
//! (`session::document`) reads all. A block counts only with an id of digits and two more known fields.

use serde_json::{Map, Value, json};

use super::{Candidate, Harvest, Place, lenient};
use crate::outcome::Reason;
use crate::session::Channel;
use crate::session::document::split_disposition;
use crate::session::evidence::How;
use crate::session::normalize;
use crate::session::profile::{Form, Label, Profile, Slot};

/// Items of one list: dispositions, people, links, texts.
const MAX_LISTED: usize = 1_000;
/// Bytes, and levels, of a value that is JSON itself.
const MAX_WHOLE: (usize, usize) = (16 << 10, 16);

/// What one session's labels said so far.
#[derive(Debug, Default)]
pub(super) struct Block {
    document: Map<String, Value>,
    places: Vec<(String, String)>,
    channel: Option<Channel>,
    /// Fields beside the id.
    known: usize,
    /// Fields that only sessions have.
    signs: usize,
    weak_id: bool,
    odd_id: bool,
}

impl Block {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && !self.odd_id
    }

    pub(super) fn has_id(&self) -> bool {
        self.document.contains_key("id")
    }

    /// True if this label with this value can't belong to the session of this block.
    pub(super) fn contradicts(&self, label: Label, value: &str, profile: &Profile) -> bool {
        if !self.has_id() {
            return false;
        }
        let Some(held) = self.at(path(label, profile)) else { return false };
        match label.slot {
            Slot::Dispositions | Slot::Participants => false,
            Slot::Id => session_id(value).is_some_and(|id| held.as_str() != Some(id.0.as_str())),
            _ => held.as_str().is_some_and(|h| !value.trim().is_empty() && h != clean(value, label.form)),
        }
    }

    fn at(&self, path: &str) -> Option<&Value> {
        match path.split_once('.') {
            Some((top, inner)) => self.document.get(top)?.get(inner),
            None => self.document.get(path),
        }
    }

    /// Takes a labelled value in; what stands for nothing adds nothing.
    pub(super) fn add(&mut self, label: Label, value: &str, profile: &Profile, place: &dyn Fn() -> String) {
        let value = clean(value, label.form);
        if profile.is_none(value) {
            return;
        }
        if label.slot == Slot::Id {
            self.add_id(label, value, profile, place);
            return;
        }
        let target = path(label, profile);
        let (target, is_new) = match structured(value) {
            Some(whole) => (label.slot.name(), self.put_whole(label.slot.name(), whole)),
            None => (target, self.put(label, target, value)),
        };
        if !is_new {
            return;
        }
        let top = target.split('.').next().unwrap_or(target);
        let new = !self.places.iter().any(|(p, _)| p.split('.').next() == Some(top));
        // The first place of a path is its evidence; a list may be told in many.
        if new || !self.places.iter().any(|(p, _)| p == target) {
            self.places.push((target.to_owned(), place()));
        }
        if new {
            self.known += 1;
            self.signs += usize::from(profile.is_signature(label.slot) || label.slot == Slot::Dispositions);
        }
        if let Some(channel) = profile.fields.get(label.field).and_then(|f| f.channel) {
            self.channel.get_or_insert(channel);
        }
    }

    fn add_id(&mut self, label: Label, value: &str, profile: &Profile, place: &dyn Fn() -> String) {
        if self.has_id() {
            return;
        }
        match session_id(value) {
            Some((id, channel)) => {
                self.document.insert("id".to_owned(), Value::String(id));
                self.places.push(("id".to_owned(), place()));
                self.weak_id = label.weak;
                let told = profile.fields.get(label.field).and_then(|f| f.channel);
                self.channel = told.or(channel).or(self.channel);
            }
            None => self.odd_id |= !label.weak,
        }
    }

    fn put_whole(&mut self, key: &str, whole: Value) -> bool {
        let is_new = !self.document.contains_key(key);
        self.document.entry(key).or_insert(whole);
        is_new
    }

    /// Puts the value where its form belongs; false if it was there already.
    fn put(&mut self, label: Label, target: &str, value: &str) -> bool {
        match label.form {
            Form::Disposition => {
                let Some(read) = split_disposition(value) else { return false };
                let mut item = Map::new();
                for (key, part) in [("code", read.code), ("note", read.note)] {
                    if let Some(part) = part {
                        item.insert(key.to_owned(), Value::String(part));
                    }
                }
                let list = self.dispositions();
                if list.len() < MAX_LISTED {
                    list.push(Value::Object(item));
                }
                true
            }
            Form::Code | Form::Note => {
                let key = target.split('.').nth(1).unwrap_or("code").to_owned();
                let list = self.dispositions();
                let has_room = list.len() < MAX_LISTED;
                match list.last_mut().and_then(Value::as_object_mut).filter(|d| !d.contains_key(&key)) {
                    Some(open) => {
                        open.insert(key, Value::String(value.to_owned()));
                    }
                    None if has_room => list.push(json!({ key: value })),
                    None => {}
                }
                true
            }
            Form::Agent => {
                let (name, address) = name_and_address(value);
                let agent = self.object("agent_info");
                if agent.contains_key("name") {
                    return false;
                }
                agent.insert("name".to_owned(), Value::String(name));
                if let Some(address) = address {
                    agent.entry("email").or_insert(Value::String(address));
                }
                true
            }
            Form::Menu => {
                let is_path = value.bytes().all(|b| b.is_ascii_digit() || b == b'/');
                let (top, key) = if is_path { ("menu_path", "materialized_path") } else { ("selected_menu", "name") };
                self.object(top).entry(key).or_insert(Value::String(value.to_owned()));
                true
            }
            Form::Links => {
                let links: Vec<Value> = links(value).take(MAX_LISTED).map(|url| json!({ "url": url })).collect();
                if links.is_empty() && is_no(value) {
                    return false;
                }
                if links.is_empty() {
                    return self.insert(&format!("{target}_uploaded"), value);
                }
                self.document.entry(target).or_insert(Value::Array(links));
                true
            }
            Form::People => {
                let people = value.split(['\n', ';', ',']).filter_map(participant).take(MAX_LISTED).collect();
                self.document.entry(target).or_insert(Value::Array(people));
                true
            }
            Form::Texts => {
                let texts = value.lines().map(str::trim).filter(|l| !l.is_empty()).map(|l| json!({ "text": l }));
                self.document.entry(target).or_insert(Value::Array(texts.take(MAX_LISTED).collect()));
                true
            }
            Form::Text | Form::Long => {
                // `No` for transfers and the like says that there were none.
                let is_list = matches!(label.slot, Slot::Transfers | Slot::Escalations);
                if is_list && is_no(value) {
                    return false;
                }
                let value = match label.slot {
                    Slot::OutTicketUrl | Slot::RecordingUrl => links(value).next().unwrap_or(value),
                    _ => value,
                };
                self.insert(target, value)
            }
        }
    }

    fn insert(&mut self, target: &str, value: &str) -> bool {
        let (object, key) = match target.split_once('.') {
            Some((top, inner)) => (self.object(top), inner),
            None => (&mut self.document, target),
        };
        if object.contains_key(key) {
            return false;
        }
        object.insert(key.to_owned(), Value::String(value.to_owned()));
        true
    }

    fn object(&mut self, key: &str) -> &mut Map<String, Value> {
        let place = self.document.entry(key).or_insert_with(|| Value::Object(Map::new()));
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        match place {
            Value::Object(object) => object,
            _ => unreachable!("made an object above"),
        }
    }

    fn dispositions(&mut self) -> &mut Vec<Value> {
        let place = self.document.entry("dispositions").or_insert_with(|| Value::Array(Vec::new()));
        if !place.is_array() {
            *place = Value::Array(Vec::new());
        }
        match place {
            Value::Array(list) => list,
            _ => unreachable!("made a list above"),
        }
    }

    /// Hands the block over if it is a session, or tells that it nearly is one.
    pub(super) fn finish(self, how: How, place: &str, harvest: &mut Harvest) {
        if !self.has_id() {
            if self.odd_id && self.known >= 3 && self.signs >= 1 {
                let sentence =
                    format!("the labels in the {place} are nearly a session, but the session id is not a whole number");
                harvest.broken(Reason::MalformedMetadata, sentence);
            }
            return;
        }
        if self.known < 2 || (self.weak_id && self.signs == 0) {
            return;
        }
        let document = Value::Object(self.document);
        harvest.weigh(values(&document), 0);
        harvest.found.push(Candidate {
            document,
            how,
            place: Place::Lines(self.places),
            hint: self.channel,
            file_id: None,
        });
    }
}

/// A value that is an object or a list in JSON, as in YAML of one level.
fn structured(value: &str) -> Option<Value> {
    let is_closed = matches!((value.as_bytes().first()?, value.as_bytes().last()?), (b'{', b'}') | (b'[', b']'));
    let (bytes, levels) = MAX_WHOLE;
    if !is_closed || value.len() > bytes {
        return None;
    }
    let whole = lenient::parse(value, 0, lenient::Dress::default(), levels).ok()?;
    (whole.end == value.len() && !whole.loose).then_some(whole.value)
}

/// How many values there are in a document, itself included.
fn values(document: &Value) -> usize {
    match document {
        Value::Array(items) => 1 + items.iter().map(values).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(values).sum::<usize>(),
        _ => 1,
    }
}

/// Where a value goes in the document.
fn path(label: Label, profile: &Profile) -> &str {
    profile.fields.get(label.field).and_then(|f| f.at.as_deref()).unwrap_or(label.slot.name())
}

/// An id, and the channel that Google's own way to write it (`call-48213`) tells.
fn session_id(value: &str) -> Option<(String, Option<Channel>)> {
    let word = value.split([' ', '\t', '(', '<', '[']).find(|w| !w.is_empty() && *w != "#")?;
    let word = word.trim_end_matches(['.', ',', ';']);
    let id = normalize::digits(&Value::String(word.to_owned()))?;
    let lower = word.to_ascii_lowercase();
    let channel = if lower.starts_with("chat") {
        Some(Channel::Chat)
    } else if lower.starts_with("call") || lower.starts_with("voice") {
        Some(Channel::Voice)
    } else {
        None
    };
    Some((id, channel))
}

/// A value without the marks around it: emphasis, quotes, the link that mail programs put behind a text.
fn clean(value: &str, form: Form) -> &str {
    let mut value = value.trim().trim_matches(['*', '`']).trim();
    if !form.is_long()
        && !value.starts_with('<')
        && let Some((before, rest)) = value.split_once(['<', '('])
        && ["http:", "https:", "mailto:", "tel:", "sip:"].iter().any(|s| rest.starts_with(s))
        && !before.trim().is_empty()
    {
        value = before.trim();
    }
    // A line of an object whose keys have no quotes.
    if value.starts_with('"') && value.ends_with("\",") {
        value = value.trim_end_matches(',');
    }
    for (open, close) in [('"', '"'), ('“', '”'), ('\'', '\''), ('‘', '’')] {
        if value.chars().count() > 1
            && let Some(inner) = value.strip_prefix(open).and_then(|v| v.strip_suffix(close))
        {
            return inner.trim();
        }
    }
    value
}

/// `No`, where a list or a link could be: there were none.
fn is_no(value: &str) -> bool {
    normalize::boolean(&Value::String(value.to_owned())) == normalize::Read::Value(false)
}

/// Words that begin as a link does, wherever in a word that is. One link holds no other.
fn links(value: &str) -> impl Iterator<Item = &str> {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '>' | '"' | ')' | ']' | ',' | '<');
    value.split(is_end).filter_map(|word| {
        let start = ["http://", "https://"].into_iter().filter_map(|scheme| word.find(scheme)).min()?;
        word.get(start..)
    })
}

/// `Pia Lindqvist <pia@x.example>`, `Pia Lindqvist (pia@x.example)`.
fn name_and_address(value: &str) -> (String, Option<String>) {
    if let Some((name, rest)) = value.split_once(['<', '(']) {
        let inner = rest.trim_end_matches(['>', ')', ' ']).trim_start_matches("mailto:");
        if inner.contains('@') && !inner.contains(' ') && !name.trim().is_empty() {
            return (name.trim().to_owned(), Some(inner.to_owned()));
        }
    }
    (value.to_owned(), None)
}

/// `Omar Benali (agent)`, `end user`.
fn participant(text: &str) -> Option<Value> {
    let text = text.trim().trim_start_matches(['-', '*', '•']).trim();
    if text.is_empty() {
        return None;
    }
    let kind_of = |word: &str| match word.trim().to_ascii_lowercase().replace(['-', '_'], " ").as_str() {
        "agent" | "human agent" => Some("agent"),
        "end user" | "enduser" | "customer" | "caller" | "consumer" => Some("end_user"),
        "virtual agent" | "bot" => Some("virtual_agent"),
        _ => None,
    };
    if let Some(kind) = kind_of(text) {
        return Some(json!({ "type": kind }));
    }
    let (name, kind) = match text.split_once('(') {
        Some((name, rest)) => (name.trim(), kind_of(rest.trim_end_matches(')'))),
        None => match text.split_once(':') {
            Some((kind, name)) if kind_of(kind).is_some() => (name.trim(), kind_of(kind)),
            _ => (text, None),
        },
    };
    Some(match kind {
        Some(kind) => json!({ "type": kind, "name": name }),
        None => json!({ "name": name }),
    })
}
