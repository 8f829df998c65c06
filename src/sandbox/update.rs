//! What a caller wants changed: the JSON body of `PUT /api/tickets/{id}` into an [`Update`].
//!
//! Strict, as a CRM should be and many are not: an unknown key or a value of the wrong kind refuses the whole
//! update and is named, so that a mistake in a template shows at the first try.

use crate::digest::sha256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

/// One change to a ticket.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Fields to set; `null` empties one.
    pub fields: Map<String, Value>,
    /// The new status.
    pub status: Option<String>,
    /// The new tags, in place of the old.
    pub tags: Option<Vec<String>>,
    /// A note to add.
    pub note: Option<NewNote>,
    /// Files to add (one over REST, any number by mail).
    pub attachments: Vec<NewAttachment>,
    /// The version that the caller has seen.
    pub version: Option<u64>,
}

/// A note to add.
#[derive(Debug, Clone)]
pub struct NewNote {
    /// Plain text.
    pub text: String,
    /// What the writer wants to recognise it by.
    pub marker: Option<String>,
}

/// A file to add.
#[derive(Debug, Clone)]
pub struct NewAttachment {
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) content: Bytes,
    pub(crate) sha256: String,
}

impl NewAttachment {
    /// A file, with its digest.
    pub fn new(name: String, content_type: String, content: Bytes) -> Self {
        let sha256 = sha256(&content);
        Self { name, content_type, content, sha256 }
    }
}

/// Why a body is not an update; serialises to the answer's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum Invalid {
    /// Not JSON.
    MalformedJson {
        /// What the parser says, with line and column.
        detail: String,
    },
    /// A key that is not in the contract.
    UnknownField {
        /// Its path.
        field: String,
    },
    /// A value of the wrong kind.
    InvalidValue {
        /// Its path.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
}

fn invalid(field: &str, expected: &'static str) -> Invalid {
    Invalid::InvalidValue { field: field.to_owned(), expected }
}

impl Update {
    /// Reads the body of a PUT.
    ///
    /// # Errors
    ///
    /// The first thing that is not as the contract says.
    pub fn read(body: &[u8]) -> Result<Self, Invalid> {
        let value: Value =
            serde_json::from_slice(body).map_err(|e| Invalid::MalformedJson { detail: e.to_string() })?;
        let Value::Object(object) = value else { return Err(invalid("", "an object")) };
        let mut update = Self::default();
        for (key, value) in object {
            match (key.as_str(), value) {
                ("fields", Value::Object(fields)) => update.fields = fields,
                ("fields", _) => return Err(invalid("fields", "an object")),
                ("status", Value::String(status)) if !status.trim().is_empty() => update.status = Some(status),
                ("status", _) => return Err(invalid("status", "a word")),
                ("tags", value) => update.tags = Some(tags(value)?),
                ("note", value) => update.note = Some(NewNote::read(value)?),
                ("attachment", value) => update.attachments = vec![attachment(value)?],
                ("version", value) => {
                    update.version = Some(value.as_u64().ok_or_else(|| invalid("version", "a whole number"))?);
                }
                _ => return Err(Invalid::UnknownField { field: key }),
            }
        }
        Ok(update)
    }
}

fn tags(value: Value) -> Result<Vec<String>, Invalid> {
    let wrong = || invalid("tags", "a list of strings");
    let Value::Array(list) = value else { return Err(wrong()) };
    list.into_iter().map(|tag| if let Value::String(tag) = tag { Ok(tag) } else { Err(wrong()) }).collect()
}

impl NewNote {
    /// Reads the `note` of an update, or a note by itself.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn read(value: Value) -> Result<Self, Invalid> {
        let Value::Object(object) = value else { return Err(invalid("note", "an object")) };
        let (mut text, mut marker) = (None, None);
        for (key, value) in object {
            match (key.as_str(), value) {
                ("text", Value::String(value)) => text = Some(value),
                ("marker", Value::String(value)) => marker = Some(value),
                ("marker", Value::Null) => {}
                ("text" | "marker", _) => return Err(invalid(&format!("note.{key}"), "a string")),
                _ => return Err(Invalid::UnknownField { field: format!("note.{key}") }),
            }
        }
        Ok(Self { text: text.ok_or_else(|| invalid("note.text", "a string"))?, marker })
    }
}

fn attachment(value: Value) -> Result<NewAttachment, Invalid> {
    let Value::Object(object) = value else { return Err(invalid("attachment", "an object")) };
    let (mut name, mut content_type, mut data) = (None, None, None);
    for (key, value) in object {
        let place = match key.as_str() {
            "name" => &mut name,
            "content_type" => &mut content_type,
            "data" => &mut data,
            _ => return Err(Invalid::UnknownField { field: format!("attachment.{key}") }),
        };
        let Value::String(value) = value else { return Err(invalid(&format!("attachment.{key}"), "a string")) };
        *place = Some(value);
    }
    let name =
        name.filter(|name| !name.is_empty()).ok_or_else(|| invalid("attachment.name", "a string that is not empty"))?;
    let data = data
        .and_then(|data| STANDARD.decode(data).ok())
        .ok_or_else(|| invalid("attachment.data", "base64 with padding"))?;
    let content_type = content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
    Ok(NewAttachment::new(name, content_type, data.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_named() {
        for (body, answer) in [
            ("{", r#"{"error":"malformed_json","detail":"EOF while parsing an object at line 1 column 1"}"#),
            ("[]", r#"{"error":"invalid_value","field":"","expected":"an object"}"#),
            (r#"{"note":{"txt":"a"}}"#, r#"{"error":"unknown_field","field":"note.txt"}"#),
            (r#"{"nope":1}"#, r#"{"error":"unknown_field","field":"nope"}"#),
            (r#"{"status":5}"#, r#"{"error":"invalid_value","field":"status","expected":"a word"}"#),
            (r#"{"tags":["a",1]}"#, r#"{"error":"invalid_value","field":"tags","expected":"a list of strings"}"#),
            (r#"{"note":{}}"#, r#"{"error":"invalid_value","field":"note.text","expected":"a string"}"#),
            (r#"{"version":-1}"#, r#"{"error":"invalid_value","field":"version","expected":"a whole number"}"#),
            (
                r#"{"attachment":{"name":"a","data":"%"}}"#,
                r#"{"error":"invalid_value","field":"attachment.data","expected":"base64 with padding"}"#,
            ),
        ] {
            let error = Update::read(body.as_bytes()).expect_err(body);
            assert_eq!(serde_json::to_string(&error).expect("JSON"), answer);
        }
    }
}
