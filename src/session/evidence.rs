//! How and where each value of a session was found, for `extract`, `show` and disputes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Session;
use crate::outcome::Reason;

/// The ways to find a session, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// A JSON document of its own: a file, or a document posted as such.
    JsonDocument,
    /// JSON in an attachment, whatever its name or content type.
    JsonAttachment,
    /// JSON in a text or HTML body.
    JsonBody,
    /// An HTML table of labels and values.
    HtmlTable,
    /// `label: value` lines.
    Labels,
}

/// Where one value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Which way.
    pub how: How,
    /// The place, such as `metadata-48213.json#/out_ticket_id` or `text body, line 12`.
    #[serde(rename = "where")]
    pub place: String,
}

/// A session found in a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The session.
    pub session: Session,
    /// The document in the vendor's shape: as received for JSON, built from the labels otherwise.
    pub document: Value,
    /// Of the document's content, without `updated_at`; lower-case hexadecimal (`version::digest`).
    pub digest: String,
    /// Field of `Session` (top level) → where it was found. Only fields that have a value.
    pub evidence: Vec<(String, Evidence)>,
    /// Sentences about odd values and disagreements.
    pub warnings: Vec<String>,
}

/// What a message holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Extraction {
    /// One or more sessions.
    Sessions(Vec<Found>),
    /// An ordinary mail.
    None,
    /// Something that must not or can't be processed; the sentence says what.
    Refused(Reason, String),
}
