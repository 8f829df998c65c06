//! Bodies other than JSON: `application/x-www-form-urlencoded` and `multipart/form-data` (RFC 7578).
//! Deterministic: the boundary is made from the marker, never from chance.

use bytes::Bytes;
use serde_json::Value;

use super::assertion::text_of;
use super::http::Body;
use super::url;

/// A part of a multipart body, ready.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) file_name: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) bytes: Vec<u8>,
}

/// An object of flat values as a form; lists repeat their name. `None` if a value is an object.
pub(super) fn form(payload: &Value) -> Option<Body> {
    let mut pairs = Vec::new();
    for (name, value) in payload.as_object()? {
        match value {
            Value::Object(_) => return None,
            Value::Array(list) => pairs.extend(list.iter().map(|v| (name.clone(), text_of(v).into_owned()))),
            value => pairs.push((name.clone(), text_of(value).into_owned())),
        }
    }
    let content_type = "application/x-www-form-urlencoded".to_owned();
    Some(Body { content_type, bytes: Bytes::from(url::form(&pairs)) })
}

/// The parts in their order.
pub(super) fn multipart(parts: &[Part], marker: &str) -> Body {
    let mut boundary = format!("{marker}-part");
    while parts.iter().any(|p| memchr::memmem::find(&p.bytes, boundary.as_bytes()).is_some()) {
        boundary.push('x');
    }
    let mut bytes = Vec::with_capacity(parts.iter().map(|p| p.bytes.len() + 200).sum());
    for part in parts {
        let mut head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", quoted(&part.name));
        if let Some(name) = &part.file_name {
            head.push_str(&format!("; filename=\"{}\"", quoted(name)));
        }
        if let Some(content_type) = &part.content_type {
            head.push_str(&format!("\r\nContent-Type: {content_type}"));
        }
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(&part.bytes);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Body { content_type: format!("multipart/form-data; boundary={boundary}"), bytes: bytes.into() }
}

/// As browsers write names in a disposition.
fn quoted(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control() || matches!(c, '\r' | '\n'))
        .map(|c| match c {
            '"' => "%22".to_owned(),
            '\r' => "%0D".to_owned(),
            '\n' => "%0A".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_form_repeats_lists_and_refuses_objects() {
        let body = form(&json!({ "note": "a & b", "tag": ["x", "y"], "n": 3 })).expect("a form");
        assert_eq!(body.bytes, "note=a+%26+b&tag=x&tag=y&n=3");
        assert!(form(&json!({ "a": { "b": 1 } })).is_none());
    }

    #[test]
    fn a_part_can_not_end_the_body_or_add_a_header() {
        let parts = [
            Part {
                name: "no\"te\r\nX: y".into(),
                file_name: None,
                content_type: None,
                bytes: b"--m2c-a-part--\r\n--m2c-a-partx".to_vec(),
            },
            Part {
                name: "file".into(),
                file_name: Some("m.json".into()),
                content_type: Some("application/json".into()),
                bytes: b"{}".to_vec(),
            },
        ];
        let body = multipart(&parts, "m2c-a");
        let text = String::from_utf8(body.bytes.to_vec()).expect("text");
        assert_eq!(body.content_type, "multipart/form-data; boundary=m2c-a-partxx");
        assert_eq!(text.matches("--m2c-a-partxx\r\n").count(), 2, "{text}");
        assert!(text.contains("name=\"no%22te%0D%0AX: y\"\r\n\r\n--m2c-a-part--\r\n"), "{text}");
        assert!(text.ends_with("--m2c-a-partxx--\r\n"), "{text}");
    }
}
