//! The platform's external session events (Google CCAIP, "External session events") → the session document that
//! each stands for.
//!
//! They are posted on every change of a call or chat, as `{ "count": n, "events": [ … ] }`, each with an `event_id`,
//! a `timestamp` in milliseconds, and the session in `item` or beside them. They name things otherwise than a
//! metadata document does, and only some of it. Pure; keys that are not known here stay as they are.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The document that an event stands for, or the object itself if it is no event.
pub(crate) fn as_document(mut object: Map<String, Value>) -> Map<String, Value> {
    if !object.contains_key("event_id") {
        return object;
    }
    let is_named = |of: &Map<String, Value>| ["call_id", "chat_id"].iter().any(|key| of.get(*key).is_some_and(is_id));
    let (of, mut item) = match object.remove("item") {
        Some(Value::Object(item)) if is_named(&item) => (object, item),
        other => {
            if let Some(other) = other {
                object.insert("item".to_owned(), other);
            }
            if !is_named(&object) {
                return object;
            }
            (object.clone(), object)
        }
    };
    let is_call = item.get("call_id").is_some_and(is_id);
    let (id_key, type_key, word) =
        if is_call { ("call_id", "call_type", "Voice") } else { ("chat_id", "chat_type", "Messaging") };
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|_| item.get(key).is_none_or(Value::is_null)) {
            item.insert(key.to_owned(), value);
        }
    };
    put("event_id", of.get("event_id").cloned());
    put("updated_at", of.get("timestamp").and_then(instant));
    let text = |item: &Map<String, Value>, key: &str| {
        item.get(key).or_else(|| of.get(key)).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase()
    };
    let id = item.get(id_key).cloned();
    let direction = text(&item, "direction");
    let kind = match direction.get(..2) {
        Some("in") => format!("{word} Inbound"),
        Some("ou") => format!("{word} Outbound"),
        _ => word.to_owned(),
    };
    let has_ended = text(&item, "state") == "disconnected" || item.get("ends_at").is_some_and(Value::is_string);
    let state = if has_ended { "finished".to_owned() } else { text(&item, "state") };
    let dispositions = match item.remove("dispositions") {
        // One agent's, where a metadata document has a list.
        Some(Value::Object(one)) => Some(Value::Array(vec![Value::Object(one)])),
        other => other,
    };
    for (key, value) in [
        ("id", id),
        (type_key, Some(Value::from(kind))),
        ("status", (!state.is_empty()).then(|| Value::from(state))),
        ("dispositions", dispositions),
    ] {
        if let Some(value) = value.filter(|_| item.get(key).is_none_or(Value::is_null)) {
            item.insert(key.to_owned(), value);
        }
    }
    item
}

fn is_id(value: &Value) -> bool {
    value.is_u64() || value.as_str().is_some_and(|text| !text.is_empty())
}

/// Milliseconds since 1970, as a number or its text, in the form of a document's times.
fn instant(value: &Value) -> Option<Value> {
    let milliseconds = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())?;
    Some(Value::from(Timestamp::from_millisecond(milliseconds).ok()?.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: Value) -> Value {
        let Value::Object(object) = value else { panic!("an object") };
        Value::Object(as_document(object))
    }

    #[test]
    fn an_event_becomes_the_document_of_its_session() {
        let event = json!({
            "event_id": "6f1f6a3e", "timestamp": 1_771_344_100_000_i64,
            "item": { "call_id": 48213, "state": "disconnected", "direction": "incoming", "ends_at": "2026-02-17T16:11:05Z",
                      "dispositions": { "code": "RESOLVED", "note": "fine" }, "queue_path_names": "Sales" }
        });
        assert_eq!(
            of(event),
            json!({
                "call_id": 48213, "state": "disconnected", "direction": "incoming", "ends_at": "2026-02-17T16:11:05Z",
                "queue_path_names": "Sales", "event_id": "6f1f6a3e", "updated_at": "2026-02-17T16:01:40Z", "id": 48213,
                "call_type": "Voice Inbound", "status": "finished",
                "dispositions": [{ "code": "RESOLVED", "note": "fine" }]
            })
        );
        let flat = of(json!({ "event_id": "e", "timestamp": "1771344100000", "chat_id": "9", "state": "connected" }));
        assert_eq!(
            (&flat["id"], &flat["chat_type"], &flat["status"]),
            (&json!("9"), &json!("Messaging"), &json!("connected"))
        );
    }

    #[test]
    fn what_is_no_event_stays_as_it_is() {
        for other in [
            json!({ "id": 1, "call_type": "Voice Inbound" }),
            json!({ "event_id": "e", "item": { "ParticipantID": "1", "State": "login" } }),
            json!({ "event_id": "e", "item": [1], "call_id": null }),
            json!({ "call_id": 5 }),
        ] {
            assert_eq!(of(other.clone()), other);
        }
    }
}
