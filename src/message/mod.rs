//! The parsed RFC 5322 / MIME view of one message. Parsing never fails: what is odd becomes a note, what
//! is over a limit becomes a refusal, and both are told.
//!
//! All types are plain values of our own, so the MIME crate can change in one file (`parse`).

pub mod parse;

use std::borrow::Cow;

use jiff::Timestamp;

use crate::outcome::Reason;

/// What a stranger may make us do. Beyond a limit a message is refused, in bounded time and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The whole raw message, in bytes.
    pub message_bytes: usize,
    /// MIME parts, nested messages included.
    pub parts: usize,
    /// Levels of nested `message/rfc822`.
    pub nesting: usize,
    /// All decoded parts together, in bytes.
    pub decoded_bytes: usize,
    /// Nesting of JSON documents.
    pub json_depth: usize,
    /// Bytes of one JSON document.
    pub json_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 50 << 20,
            parts: 1_000,
            nesting: 16,
            decoded_bytes: 200 << 20,
            json_depth: 64,
            json_bytes: 16 << 20,
        }
    }
}

/// One message, its leaf parts in reading order, nested messages opened.
#[derive(Debug, Clone, Default)]
pub struct Message<'a> {
    /// `Message-ID` with its angle brackets, as `extract` prints it.
    pub message_id: Option<String>,
    /// `Subject`, decoded.
    pub subject: Option<String>,
    /// The addresses of `From`, lower-case domains.
    pub from: Vec<String>,
    /// The addresses of `To` and `Cc`.
    pub to: Vec<String>,
    /// `Date`.
    pub date: Option<Timestamp>,
    /// Leaf parts in reading order.
    pub parts: Vec<Part<'a>>,
    /// Sentences about what was odd.
    pub notes: Vec<String>,
    /// Set if a limit was passed: the message must not be processed.
    pub refusal: Option<(Reason, String)>,
}

/// What a leaf part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A `text/plain` body shown inline.
    Text,
    /// A `text/html` body shown inline.
    Html,
    /// A file, whatever its content type.
    Attachment,
}

/// One leaf part, decoded.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// For people and evidence: the file name, or `text body`, `html body`; nested ones say
    /// `forwarded message / …`. Distinct within a message.
    pub place: String,
    /// Body or attachment.
    pub kind: Kind,
    /// The decoded file name (RFC 2047, RFC 2231).
    pub file_name: Option<String>,
    /// `type/subtype`, lower case.
    pub content_type: String,
    /// The decoded content: text in UTF-8, attachments as they are.
    pub content: Cow<'a, [u8]>,
    /// How many `message/rfc822` are around it.
    pub depth: usize,
}

impl Part<'_> {
    /// The content as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.content)
    }
}
