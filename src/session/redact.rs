//! A session document → the same without payment card numbers (ISO/IEC 7812: 12 to 19 digits with a check
//! digit) and without what the operator's own patterns find, before anything else of the program sees it.
//!
//! **Which values.** Every string and every whole number of the document, except those whose key names an
//! identifier, an address or a time: `id`, `key`, `email`, `from`, … and all that end in `_id`, `_url`,
//! `_at`, `phone_number` and the like (`NAMES`, `ENDINGS`; camelCase counts as snake_case). A key that speaks
//! of a card (`card_id`) is never excepted, nor is any value inside `custom_data_*`.
//!
//! **Which numbers.** Digits with single blanks, dashes or dots between them, not part of a longer number or
//! word, whose first digits are those of a card scheme and whose check digit is right. A number that the same
//! document has as its id, its ticket or a telephone stays, and so does the path of a link.

mod card;

use std::collections::HashSet;

use regex::Regex;
use serde_json::{Map, Value};

/// What stands in the place of a card number, before its last four digits.
const MASK: &str = "•••• •••• •••• ";
/// What stands in the place of what another pattern found.
const PATTERN_MASK: &str = "••••";
/// Nesting that is looked into; documents are capped far below.
const DEEPEST: usize = 256;
/// The least whole number that could be a card's: one of `card::SHORTEST` digits.
const SHORTEST_NUMBER: u64 = 100_000_000_000;
/// Warnings about one document; further places are masked as well.
const MOST_WARNINGS: usize = 20;

/// What is masked.
#[derive(Debug, Clone)]
pub struct Redaction {
    /// Payment card numbers.
    pub cards: bool,
    /// The operator's own.
    pub patterns: Vec<Pattern>,
}

impl Default for Redaction {
    /// Card numbers.
    fn default() -> Self {
        Self { cards: true, patterns: Vec::new() }
    }
}

/// What an operator wants masked.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// For warnings.
    pub name: String,
    /// What it looks like.
    pub regex: Regex,
    /// Characters at its end that stay.
    pub keep_last: usize,
}

impl Redaction {
    /// Masks the values of a document; the sentences say what was masked and where, never what it was.
    pub fn document(&self, document: &mut Value) -> Vec<String> {
        // Most documents hold nothing that could be masked: they cost one look at each string.
        if !self.may_mask(document, "", false, 0) {
            return Vec::new();
        }
        let mut known = HashSet::new();
        if self.cards {
            identifiers(document, "", 0, &mut known);
        }
        let mut walk = Walk { redaction: self, known, path: String::new(), warnings: Vec::new() };
        walk.value(document, "", false, 0);
        walk.warnings
    }

    /// Masks a text that is no value of a document, such as a sentence about one.
    pub fn text(&self, text: &mut String) {
        if self.may_mask_text(text) {
            self.masked(text, &HashSet::new(), |_| {});
        }
    }

    fn may_mask_text(&self, text: &str) -> bool {
        self.cards && card::may_hold(text) || self.patterns.iter().any(|p| p.regex.is_match(text))
    }

    fn may_mask(&self, value: &Value, key: &str, custom: bool, depth: usize) -> bool {
        match value {
            // The look at the text is the cheaper one.
            Value::String(text) => self.may_mask_text(text) && !is_excepted(key, custom),
            Value::Number(number) => {
                let is_long = number.as_u64().is_some_and(|n| n >= SHORTEST_NUMBER);
                (is_long || !self.patterns.is_empty())
                    && self.may_mask_text(&number.to_string())
                    && !is_excepted(key, custom)
            }
            Value::Array(items) if depth < DEEPEST => {
                items.iter().any(|item| self.may_mask(item, key, custom, depth + 1))
            }
            Value::Object(members) if depth < DEEPEST => {
                members.iter().any(|(key, value)| self.may_mask(value, key, custom || is_custom(key), depth + 1))
            }
            _ => false,
        }
    }

    /// Masks in place, and tells what was found.
    fn masked(&self, text: &mut String, known: &HashSet<String>, mut tell: impl FnMut(String)) {
        if self.cards {
            let found = card::find(text, |digits| !known.contains(digits));
            if !found.is_empty() {
                let mut out = String::with_capacity(text.len());
                let mut at = 0;
                for card in &found {
                    out.push_str(text.get(at..card.range.start).unwrap_or_default());
                    out.push_str(MASK);
                    out.push_str(&card.last_four);
                    at = card.range.end;
                }
                out.push_str(text.get(at..).unwrap_or_default());
                *text = out;
                tell(match found.len() {
                    1 => "a card number was".to_owned(),
                    count => format!("{count} card numbers were"),
                });
            }
        }
        for pattern in &self.patterns {
            if pattern.regex.find_iter(text).any(|found| !found.is_empty()) {
                let replace = |found: &regex::Captures<'_>| pattern.mask(found.get(0).map_or("", |m| m.as_str()));
                *text = pattern.regex.replace_all(text, replace).into_owned();
                tell(format!("`{}` was", pattern.name));
            }
        }
    }
}

impl Pattern {
    fn mask(&self, found: &str) -> String {
        if found.is_empty() {
            return String::new();
        }
        // At least half of it goes, however short it is.
        let count = found.chars().count();
        let kept = self.keep_last.min(count / 2);
        PATTERN_MASK.chars().chain(found.chars().skip(count - kept)).collect()
    }
}

/// One document on its way.
struct Walk<'r> {
    redaction: &'r Redaction,
    /// Digits of its id, its ticket and its telephones.
    known: HashSet<String>,
    path: String,
    warnings: Vec<String>,
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value, key: &str, custom: bool, depth: usize) {
        match value {
            Value::String(text) if !is_excepted(key, custom) => self.text(text),
            Value::Number(number) if !is_excepted(key, custom) && (number.is_u64() || number.is_i64()) => {
                let mut text = number.to_string();
                self.text(&mut text);
                if text != number.to_string() {
                    *value = Value::String(text);
                }
            }
            Value::Array(items) if depth < DEEPEST => {
                for (i, item) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{i}]"));
                    self.value(item, key, custom, depth + 1);
                    self.path.truncate(length);
                }
            }
            Value::Object(members) if depth < DEEPEST => self.members(members, custom, depth),
            _ => {}
        }
    }

    fn members(&mut self, members: &mut Map<String, Value>, custom: bool, depth: usize) {
        for (key, value) in members.iter_mut() {
            let length = self.path.len();
            if length > 0 {
                self.path.push('.');
            }
            // A stranger's key goes into a warning: what is no plain name does not.
            let is_plain = key.len() <= 60 && key.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
            self.path.push_str(if is_plain && !card::may_hold(key) { key } else { "…" });
            self.value(value, key, custom || is_custom(key), depth + 1);
            self.path.truncate(length);
        }
    }

    fn text(&mut self, text: &mut String) {
        let (path, warnings) = (&self.path, &mut self.warnings);
        self.redaction.masked(text, &self.known, |what| {
            if warnings.len() < MOST_WARNINGS {
                warnings.push(format!("{what} masked in {path}"));
            }
        });
    }
}

/// The digits of the session's id, of its ticket and of telephones, if they could be taken for a card.
fn identifiers(value: &Value, key: &str, depth: usize, into: &mut HashSet<String>) {
    let mut add = |text: &str| {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        if (card::SHORTEST..=card::LONGEST).contains(&digits.len()) {
            into.insert(digits);
        }
    };
    let is_own = || match snake_case(key).as_str() {
        "id" => depth == 1,
        "out_ticket_id" | "support_number" | "outbound_number" => true,
        other => other.ends_with("phone_number"),
    };
    match value {
        Value::String(text) if text.len() >= card::SHORTEST && is_own() => add(text),
        Value::Number(number) if is_own() => add(&number.to_string()),
        Value::Array(items) if depth < DEEPEST => {
            items.iter().for_each(|item| identifiers(item, key, depth + 1, into));
        }
        Value::Object(members) if depth < DEEPEST => {
            for (key, value) in members.iter().filter(|(key, _)| !is_custom(key)) {
                identifiers(value, key, depth + 1, into);
            }
        }
        _ => {}
    }
}

/// Keys whose values are identifiers, addresses or times.
const NAMES: &[&str] = &[
    "id",
    "ids",
    "uuid",
    "key",
    "url",
    "uri",
    "href",
    "email",
    "phone",
    "from",
    "to",
    "identifier",
    "status",
    "lang",
    "type",
    "agent_number",
    "support_number",
    "outbound_number",
    "materialized_path",
    "conference_sid",
];

/// Ends of such keys.
const ENDINGS: &[&str] = &[
    "_id",
    "_ids",
    "_uuid",
    "_sid",
    "_url",
    "_urls",
    "_uri",
    "_at",
    "_email",
    "_phone",
    "phone_number",
    "phone_numbers",
    "_timestamp",
    "_duration",
];

/// Words in keys that make a card of whatever it is.
const CARDS: &[&str] = &["card", "credit", "debit", "payment"];

/// Whether a value under this key is left as it is. In custom data none is.
fn is_excepted(key: &str, custom: bool) -> bool {
    if custom {
        return false;
    }
    let is_simple = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
    let snake;
    let key = if is_simple {
        key
    } else {
        snake = snake_case(key);
        &snake
    };
    (NAMES.contains(&key) || ENDINGS.iter().any(|end| key.ends_with(end)))
        && !CARDS.iter().any(|word| key.contains(word))
}

/// `custom_data_secured`, `customDataNotSecured`: free fields of the operator's app.
fn is_custom(key: &str) -> bool {
    key.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("custom")) && snake_case(key).starts_with("custom_data")
}

fn snake_case(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    let mut lower = false;
    for c in key.chars() {
        if c.is_uppercase() && lower {
            out.push('_');
        }
        lower = c.is_lowercase() || c.is_ascii_digit();
        if matches!(c, ' ' | '-' | '.') {
            out.push('_');
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

#[cfg(test)]
mod tests;
