//! What `extract` prints for a message: one JSON object, in the form of product.md section 5.

use serde_json::{Map, Value};

use crate::message::forward::Original;
use crate::session::evidence::{Extraction, Found};

/// The object of one message. `input` names it (`inbox.mbox#12`), `trust` is the verdict on its sender as
/// other code decided it; a refusal adds `detail`, its sentence.
pub fn to_extract_json(input: &str, message_id: Option<&str>, extraction: &Extraction, trust: &Value) -> Value {
    let (outcome, reason, detail) = match extraction {
        Extraction::Sessions(_) => ("sessions", None, None),
        Extraction::None => ("none", Some("no_metadata"), None),
        Extraction::Refused(reason, sentence) => ("refused", Some(reason.as_str()), Some(sentence)),
    };
    let mut out = Map::new();
    out.insert("input".to_owned(), input.into());
    out.insert("message_id".to_owned(), message_id.into());
    out.insert("outcome".to_owned(), outcome.into());
    out.insert("reason".to_owned(), reason.into());
    if let Some(detail) = detail {
        out.insert("detail".to_owned(), detail.as_str().into());
    }
    out.insert("trust".to_owned(), trust.clone());
    let sessions = match extraction {
        Extraction::Sessions(found) => found.iter().map(session_json).collect(),
        _ => Vec::new(),
    };
    out.insert("sessions".to_owned(), Value::Array(sessions));
    Value::Object(out)
}

/// Adds whose messages were forwarded, outermost first, to the object of a message with sessions: `originals`, only
/// if there are any. What they say is a claim of whoever sent the outer message.
pub fn tell_originals(object: &mut Value, originals: &[Original]) {
    if let (Value::Object(object), Ok(told)) = (object, serde_json::to_value(originals))
        && !originals.is_empty()
    {
        object.insert("originals".to_owned(), told);
    }
}

/// A session with its digest, evidence and warnings.
pub fn session_json(found: &Found) -> Value {
    let mut out = match serde_json::to_value(&found.session) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    out.insert("digest".to_owned(), found.digest.as_str().into());
    let evidence = found
        .evidence
        .iter()
        .map(|(field, evidence)| (field.clone(), serde_json::to_value(evidence).unwrap_or_default()))
        .collect();
    out.insert("evidence".to_owned(), Value::Object(evidence));
    out.insert("warnings".to_owned(), found.warnings.iter().map(String::as_str).collect());
    Value::Object(out)
}
