//! The objects inside a session document: transfers, escalations, media, text messages (domain.md 1.4).
//!
//! Keys are found in snake case or camelCase; what has another form than expected reads as nothing.

use serde_json::{Map, Value};

use super::people;
use crate::session::normalize::{self, Read};
use crate::session::{Escalation, Media, Sms, Time, Transfer};

/// The member with this name, in snake case or camelCase, `null` counting as absent.
pub(super) fn get<'d>(object: &'d Map<String, Value>, name: &str) -> Option<(&'d str, &'d Value)> {
    let found = object.get_key_value(name).or_else(|| {
        // Only names of several words have another dress, and its length is known.
        let length = name.bytes().filter(|b| *b != b'_').count();
        if length == name.len() {
            return None;
        }
        let plain = || name.bytes().filter(|b| *b != b'_');
        object.iter().find(|(key, _)| key.len() == length && key.bytes().map(|b| b.to_ascii_lowercase()).eq(plain()))
    });
    found.map(|(k, v)| (k.as_str(), v)).filter(|(_, v)| !v.is_null())
}

fn read<T>(object: &Map<String, Value>, name: &str, read: impl Fn(&Value) -> Read<T>) -> Option<T> {
    match read(get(object, name)?.1) {
        Read::Value(v) => Some(v),
        _ => None,
    }
}

/// Text, or a number written out.
pub(super) fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    read(object, name, normalize::text)
}

/// A time.
pub(super) fn time(object: &Map<String, Value>, name: &str) -> Option<Time> {
    read(object, name, normalize::time)
}

/// A duration in seconds.
pub(super) fn seconds(object: &Map<String, Value>, name: &str) -> Option<i64> {
    read(object, name, normalize::seconds)
}

/// The names of a menu path, which is an object or, in some places, plain text.
fn path(object: &Map<String, Value>, names: [&str; 2]) -> Option<String> {
    names.iter().find_map(|name| match get(object, name)?.1 {
        Value::Object(path) => text(path, "name"),
        other => match normalize::text(other) {
            Read::Value(v) => Some(v),
            _ => None,
        },
    })
}

fn one_of(object: &Map<String, Value>, names: [&str; 2], is_virtual: [bool; 2]) -> Option<crate::session::Agent> {
    names.iter().zip(is_virtual).find_map(|(name, v)| people::agent(get(object, name)?.1, v))
}

pub(super) fn transfer(value: &Value) -> Option<Transfer> {
    let o = value.as_object()?;
    Some(Transfer {
        id: text(o, "id"),
        status: text(o, "status"),
        fail_reason: text(o, "fail_reason"),
        created_at: time(o, "created_at"),
        connected_at: time(o, "connected_at"),
        handle_duration: seconds(o, "call_duration").or_else(|| seconds(o, "chat_duration")),
        wait_duration: seconds(o, "wait_duration"),
        deflection: text(o, "deflection"),
        from_menu_path: path(o, ["from_menu_path", "from_menu"]),
        to_menu_path: path(o, ["to_menu_path", "to_menu"]),
        from_agent: one_of(o, ["from_agent", "from_virtual_agent"], [false, true]),
        to_agent: one_of(o, ["to_agent", "to_virtual_agent"], [false, true]),
    })
}

pub(super) fn escalation(value: &Value) -> Option<Escalation> {
    let o = value.as_object()?;
    Some(Escalation {
        id: text(o, "id"),
        status: text(o, "status"),
        reason: text(o, "reason"),
        created_at: time(o, "created_at"),
        escalated_at: time(o, "escalated_at"),
        from_agent: one_of(o, ["from_virtual_agent", "from_agent"], [true, false]),
        to_agent: one_of(o, ["to_agent", "to_virtual_agent"], [false, true]),
        from_menu_path: path(o, ["from_menu_path", "from_menu"]),
        to_menu_path: path(o, ["to_menu_path", "to_menu"]),
    })
}

pub(super) fn media(value: &Value) -> Option<Media> {
    match value {
        Value::Object(o) => Some(Media {
            id: text(o, "id"),
            photo_type: text(o, "photo_type"),
            url: text(o, "url").or_else(|| text(o, "media_url")),
        })
        .filter(|m| *m != Media::default()),
        Value::String(url) if url.contains("://") => {
            Some(Media { url: Some(url.trim().to_owned()), ..Media::default() })
        }
        _ => None,
    }
}

/// The vendor documents no shape for text messages: the usual names of text, sender and time are tried.
pub(super) fn sms(value: &Value) -> Option<Sms> {
    let first = |o: &Map<String, Value>, names: &[&str]| names.iter().find_map(|n| text(o, n));
    match value {
        Value::Object(o) => Some(Sms {
            text: first(o, &["text", "body", "message", "content", "msg", "value"]),
            from: first(o, &["from", "sender", "from_number", "sender_type", "direction", "type"]),
            sent_at: ["sent_at", "created_at", "timestamp", "time", "at"].iter().find_map(|n| time(o, n)),
        })
        .filter(|s| *s != Sms::default()),
        Value::String(text) => Some(Sms { text: Some(text.trim().to_owned()), ..Sms::default() }),
        _ => None,
    }
}

/// Text that is a string, or a list of strings or of objects with a text: one a line.
pub(super) fn texts(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => {
            let lines: Vec<String> = items.iter().filter_map(texts).collect();
            (!lines.is_empty()).then(|| lines.join("\n"))
        }
        Value::Object(o) => ["text", "value", "body", "content", "message"].iter().find_map(|n| text(o, n)),
        other => match normalize::text(other) {
            Read::Value(v) => Some(v),
            _ => None,
        },
    }
}

/// Removes every link from a value, at any depth.
pub(super) fn drop_links(value: &mut Value) {
    match value {
        Value::Object(o) => {
            o.retain(|key, v| {
                !(key.to_ascii_lowercase().contains("url") || v.as_str().is_some_and(|s| s.contains("://")))
            });
            o.values_mut().for_each(drop_links);
        }
        Value::Array(items) => {
            items.retain(|v| !v.as_str().is_some_and(|s| s.contains("://")));
            items.iter_mut().for_each(drop_links);
        }
        Value::String(s) if s.contains("://") => *value = Value::Null,
        _ => {}
    }
}
