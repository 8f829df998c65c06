//! Stand-in for session::version.
use serde_json::Value;
use sha2::{Digest, Sha256};
pub(super) fn merge(current: &Value, incoming: &Value) -> Value {
    match (current, incoming) {
        (_, Value::Null) => current.clone(),
        (Value::Object(a), Value::Object(b)) => {
            let mut out = a.clone();
            for (k, v) in b {
                let merged = a.get(k).map_or_else(|| v.clone(), |x| merge(x, v));
                out.insert(k.clone(), merged);
            }
            Value::Object(out)
        }
        _ => incoming.clone(),
    }
}
pub(super) fn digest(document: &Value) -> String {
    let mut d = document.clone();
    if let Some(m) = d.as_object_mut() {
        m.shift_remove("updated_at");
        m.sort_keys();
    }
    Sha256::digest(d.to_string().as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}
