//! Versions of one session: the digest of a document, their order, and the merge of two of equal age.
//!
//! The rule of domain.md section 8: `updated_at` orders; equal age and equal content is a duplicate; equal
//! age and other content is a supplement, in which a filled value never gives way to an empty one.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::Time;
use super::document::is_filled;
use crate::digest::hex;

/// SHA-256 over the canonical JSON of a document (keys sorted, no blanks) without its top-level
/// `updated_at`: the first 32 characters in lower-case hexadecimal.
pub fn digest(document: &Value) -> String {
    // The hash takes its time per call: one call for the whole text.
    let mut text = Vec::with_capacity(8 << 10);
    write(&mut text, document, true);
    hex(Sha256::digest(&text).get(..16).unwrap_or_default())
}

fn write(text: &mut Vec<u8>, value: &Value, top: bool) {
    match value {
        Value::Object(object) => {
            let mut members: Vec<(&String, &Value)> =
                object.iter().filter(|(k, _)| !top || *k != "updated_at").collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            text.push(b'{');
            for (i, (key, value)) in members.into_iter().enumerate() {
                if i > 0 {
                    text.push(b',');
                }
                scalar(text, key);
                text.push(b':');
                write(text, value, false);
            }
            text.push(b'}');
        }
        Value::Array(items) => {
            text.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(b',');
                }
                write(text, item, false);
            }
            text.push(b']');
        }
        other => scalar(text, other),
    }
}

fn scalar(text: &mut Vec<u8>, value: &impl serde::Serialize) {
    // Writing to memory can't fail, and these values always serialize.
    let _ = serde_json::to_writer(text, value);
}

/// The text of a document, as the ledger keeps it and CRMs get it.
pub fn text_of(document: &Value) -> String {
    // Never fails for a `Value`; `to_string` would go through the formatter, at twice the cost.
    serde_json::to_string(document).unwrap_or_else(|_| document.to_string())
}

/// How a document that comes in stands to the newest one that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Later by `updated_at`: it takes the place of the known one.
    Newer,
    /// Earlier by `updated_at`: recorded, never applied.
    Older,
    /// The same content and not later.
    Duplicate,
    /// As old as the known one, with other content: to be merged.
    Supplement,
}

/// Orders a document against the newest known one. A document without `updated_at` can't be ordered and
/// counts as equally old, so that it can fill in and never takes away.
pub fn order(
    current_updated: Option<Time>,
    current_digest: &str,
    incoming_updated: Option<Time>,
    incoming_digest: &str,
) -> Relation {
    let age = match (current_updated, incoming_updated) {
        (Some(current), Some(incoming)) => incoming.instant.cmp(&current.instant),
        _ => Ordering::Equal,
    };
    match age {
        Ordering::Greater => Relation::Newer,
        Ordering::Less => Relation::Older,
        Ordering::Equal if current_digest == incoming_digest => Relation::Duplicate,
        Ordering::Equal => Relation::Supplement,
    }
}

/// Merges two documents of equal age. A filled value never gives way to an absent, `null` or empty one;
/// where both are filled and differ, the incoming one counts, unless the current document holds more
/// values. Lists of objects with an `id` (dispositions: with a `participant_id`) merge by it.
pub fn merge(current: &Value, incoming: &Value) -> Value {
    let current_wins = filled_leaves(current) > filled_leaves(incoming);
    merged(current, incoming, current_wins)
}

fn merged(current: &Value, incoming: &Value, current_wins: bool) -> Value {
    match (current, incoming) {
        (Value::Object(a), Value::Object(b)) => {
            let mut out = Map::with_capacity(a.len().max(b.len()));
            for (key, value) in a {
                let value = b.get(key).map_or_else(|| value.clone(), |other| merged(value, other, current_wins));
                out.insert(key.clone(), value);
            }
            for (key, value) in b {
                if !a.contains_key(key) {
                    out.insert(key.clone(), value.clone());
                }
            }
            Value::Object(out)
        }
        (a, b) if a == b => a.clone(),
        (a, b) if !is_filled(b) => {
            // Of two empties the one that says more: `[]` and `""` tell a type, `null` does not.
            if is_filled(a) || rank(a) >= rank(b) { a.clone() } else { b.clone() }
        }
        (a, b) if !is_filled(a) => b.clone(),
        (Value::Array(a), Value::Array(b)) => {
            lists(a, b, current_wins).unwrap_or_else(|| Value::Array(if current_wins { a } else { b }.clone()))
        }
        (a, b) => if current_wins { a } else { b }.clone(),
    }
}

fn rank(empty: &Value) -> u8 {
    match empty {
        Value::Null => 0,
        Value::String(_) => 1,
        Value::Array(_) => 2,
        _ => 3,
    }
}

/// What makes an object of a list that object.
fn identity(item: &Value) -> Option<String> {
    let object = item.as_object()?;
    let id = |name: &str| object.get(name).filter(|v| is_filled(v)).map(Value::to_string);
    id("id").or_else(|| id("participant_id"))
}

/// Two lists merged by the identity of their objects; `None` if an item has none or one occurs twice.
fn lists(a: &[Value], b: &[Value], current_wins: bool) -> Option<Value> {
    let ids = |items: &[Value]| items.iter().map(identity).collect::<Option<Vec<String>>>();
    let (a_ids, b_ids) = (ids(a)?, ids(b)?);
    let places: HashMap<&String, &Value> = b_ids.iter().zip(b).collect();
    let held: HashMap<&String, &Value> = a_ids.iter().zip(a).collect();
    if places.len() != b.len() || held.len() != a.len() {
        return None;
    }
    let mut out: Vec<(&String, Value)> = a_ids
        .iter()
        .zip(a)
        .map(|(id, item)| (id, places.get(id).map_or_else(|| item.clone(), |other| merged(item, other, current_wins))))
        .collect();
    out.extend(b_ids.iter().zip(b).filter(|(id, _)| !held.contains_key(id)).map(|(id, item)| (id, item.clone())));
    // Lists that agree keep their order; else the ids decide, so that the order of arrival does not.
    if a_ids != b_ids {
        out.sort_by(|(x, _), (y, _)| (x.len(), x).cmp(&(y.len(), y)));
    }
    Some(Value::Array(out.into_iter().map(|(_, item)| item).collect()))
}

fn filled_leaves(value: &Value) -> usize {
    match value {
        Value::Object(o) => o.values().map(filled_leaves).sum(),
        Value::Array(a) => a.iter().map(filled_leaves).sum(),
        other => usize::from(is_filled(other)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "id": 48213, "call_type": "Voice Inbound (IVR)", "status": "finished", "out_ticket_id": "C-100482",
            "rating": 4, "feedback": "Quick", "updated_at": "2026-02-17T10:11:41.000-06:00", "recording_url": "https://x.example/1",
            "menu_path": { "name": "Billing", "materialized_path": "210" },
            "transfers": [{ "id": 903, "status": "transferred", "wait_duration": 22 }, { "id": 1001, "status": "transferred" }],
            "dispositions": [{ "participant_id": 9002, "code": "Passed" }, { "participant_id": 9003, "code": "Resolved", "note": "n" }],
            "photos": [{ "id": 611, "url": "https://x.example/p" }], "videos": []
        })
    }

    #[test]
    fn the_digest_sees_content_and_not_order_or_age() {
        let a = json!({ "b": 1, "a": { "y": null, "x": "é\n" }, "updated_at": "2026-02-17T10:00:00Z" });
        let b = json!({ "updated_at": "2026-02-18T10:00:00Z", "a": { "x": "é\n", "y": null }, "b": 1 });
        assert_eq!(digest(&a), digest(&b));
        assert_eq!(digest(&a).len(), 32);
        assert_ne!(digest(&a), digest(&json!({ "b": 2, "a": { "y": null, "x": "é\n" } })));
        assert_ne!(digest(&json!({ "t": { "updated_at": 1 } })), digest(&json!({ "t": { "updated_at": 2 } })));
        // printf '{"a":{"x":"é\\n","y":null},"b":1}' | sha256sum
        assert_eq!(digest(&a), "6de761c230722cf83d8b8f5cb3d1873a");
    }

    #[test]
    fn updated_at_orders_and_content_breaks_ties() {
        let t = |s: &str| Time::parse(s);
        let (early, late) = (t("2026-02-17T10:00:00-08:00"), t("2026-02-17T18:30:00Z"));
        assert_eq!(order(early, "a", late, "b"), Relation::Newer);
        assert_eq!(order(late, "a", early, "b"), Relation::Older);
        assert_eq!(order(early, "a", t("2026-02-17T18:00:00Z"), "a"), Relation::Duplicate);
        assert_eq!(order(early, "a", early, "b"), Relation::Supplement);
        assert_eq!(order(early, "a", None, "b"), Relation::Supplement);
    }

    #[test]
    fn a_filled_value_never_gives_way_to_an_empty_one() {
        let full = sample();
        for empty in [json!({}), json!({ "rating": null, "transfers": [], "feedback": "", "menu_path": null })] {
            assert_eq!(merge(&full, &empty), merge(&empty, &full));
            assert_eq!(merge(&full, &empty)["rating"], 4);
            assert_eq!(merge(&empty, &full)["transfers"], full["transfers"]);
        }
    }

    #[test]
    fn a_difference_goes_to_the_incoming_one_unless_it_holds_less() {
        let (a, b) = (json!({ "rating": 3, "status": "finished" }), json!({ "rating": 4, "status": "finished" }));
        assert_eq!(merge(&a, &b)["rating"], 4);
        let richer = json!({ "rating": 3, "status": "finished", "feedback": "x" });
        assert_eq!(merge(&richer, &b)["rating"], 3);
    }

    /// A copy with some values taken out, as earlier exports lack them.
    fn thinned(value: &Value, rng: &mut fastrand::Rng, top: bool) -> Value {
        match value {
            Value::Object(o) => {
                let mut out = Map::new();
                for (key, v) in o {
                    let keeps = key == "id" || key == "participant_id" || rng.u8(..10) < 6;
                    match (keeps, rng.u8(..3)) {
                        (true, _) => {
                            out.insert(key.clone(), thinned(v, rng, false));
                        }
                        (false, 0) => {
                            out.insert(key.clone(), Value::Null);
                        }
                        (false, 1) if v.is_array() && top => {
                            out.insert(key.clone(), json!([]));
                        }
                        _ => {}
                    }
                }
                Value::Object(out)
            }
            Value::Array(items) => {
                let kept: Vec<&Value> = items.iter().filter(|_| rng.u8(..10) < 7).collect();
                Value::Array(kept.into_iter().map(|i| thinned(i, rng, false)).collect())
            }
            other => other.clone(),
        }
    }

    #[test]
    fn fill_ins_of_equal_age_give_the_same_document_in_any_order() {
        let full = sample();
        for seed in 0..400 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let count = rng.usize(2..6);
            let mut documents: Vec<Value> = (0..count).map(|_| thinned(&full, &mut rng, true)).collect();
            let fold = |all: &[Value]| all.iter().skip(1).fold(all[0].clone(), |acc, d| merge(&acc, d));
            let expected = fold(&documents);
            for _ in 0..6 {
                rng.shuffle(&mut documents);
                let got = fold(&documents);
                assert_eq!(got, expected, "seed {seed}");
                assert_eq!(digest(&got), digest(&expected), "seed {seed}");
            }
            assert_eq!(merge(&expected, &expected), expected, "seed {seed}");
        }
    }
}
