//! The parsed RFC 5322 / MIME view of one message. Parsing never fails: what is odd becomes a note, what
//! is over a limit becomes a refusal, and both are told.
//!
//! All types are plain values of our own, so the MIME crate can change in one file (`parse`).

pub mod authenticity;
pub mod automatic;
mod boundary;
mod decode;
mod fields;
pub mod forward;
pub(crate) mod html;
pub mod mark;
mod mime;
mod msg;
mod packed;
pub mod parse;
mod tnef;

use std::borrow::Cow;

use jiff::Timestamp;

pub use decode::unlabelled;
use forward::Original;

use crate::outcome::Reason;

/// What a stranger may make us do. Beyond a limit a message is refused, in bounded time and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The whole raw message, in bytes.
    pub message_bytes: usize,
    /// One header block, the message's own or a part's, in bytes.
    pub header_bytes: usize,
    /// MIME parts, nested messages included.
    pub parts: usize,
    /// Levels of nested `message/rfc822`.
    pub nesting: usize,
    /// All decoded parts together, in bytes.
    pub decoded_bytes: usize,
    /// What comes out of gzip, zip and `winmail.dat`, all together, in bytes.
    pub unpacked_bytes: usize,
    /// How many times its size a packed file may become, beyond the first MiB.
    pub unpacked_ratio: usize,
    /// Nesting of JSON documents.
    pub json_depth: usize,
    /// Bytes of one JSON document.
    pub json_bytes: usize,
    /// Seconds of reading, after which the next message no longer waits for this one.
    pub message_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 50 << 20,
            header_bytes: 256 << 10,
            parts: 1_000,
            nesting: 16,
            decoded_bytes: 64 << 20,
            unpacked_bytes: 32 << 20,
            unpacked_ratio: 100,
            json_depth: 64,
            json_bytes: 8 << 20,
            message_seconds: 30,
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
    /// All header fields of the message itself, in order.
    pub fields: Vec<Field<'a>>,
    /// Leaf parts in reading order.
    pub parts: Vec<Part<'a>>,
    /// Sentences about what was odd.
    pub notes: Vec<String>,
    /// Packed files that could not be opened, or not all of them.
    pub unopened: Vec<Unopened>,
    /// The messages attached to this one, with the number of parts before each; `originals` is for readers.
    pub attached: Vec<(usize, Original)>,
    /// Set if a limit was passed: the message must not be processed.
    pub refusal: Option<(Reason, String)>,
}

impl<'a> Message<'a> {
    /// The fields with this name, whatever its case, from the top.
    pub fn fields_named<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m Field<'a>> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name))
    }

    /// The messages inside this one, attached or inline, in order of nesting. What they say is a claim of whoever
    /// sent the outer one. Reads the bodies anew each time: ordinary mail never pays for it.
    pub fn originals(&self) -> Vec<Original> {
        let mut all = Vec::new();
        let mut attached = self.attached.iter().peekable();
        let mut has_text = false;
        for (number, part) in self.parts.iter().enumerate() {
            while let Some((_, original)) = attached.next_if(|(before, _)| *before <= number) {
                all.push(original.clone());
                has_text = false;
            }
            match part.kind {
                Kind::Text => {
                    let found = forward::inline(&part.text());
                    has_text = !found.is_empty();
                    all.extend(found);
                }
                // The same again, for other eyes.
                Kind::Html if !has_text => all.extend(forward::inline_html(&part.text())),
                _ => {}
            }
        }
        all.extend(attached.map(|(_, original)| original.clone()));
        all
    }

    /// The same message, owning all its bytes.
    pub fn into_owned(self) -> Message<'static> {
        Message {
            message_id: self.message_id,
            subject: self.subject,
            from: self.from,
            to: self.to,
            date: self.date,
            fields: self.fields.into_iter().map(Field::into_owned).collect(),
            parts: self.parts.into_iter().map(Part::into_owned).collect(),
            notes: self.notes,
            unopened: self.unopened,
            attached: self.attached,
            refusal: self.refusal,
        }
    }
}

/// One header field (RFC 5322 section 2.2), as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name, as written.
    pub name: Cow<'a, str>,
    /// Its body: still folded and encoded, without the white space around it.
    pub value: Cow<'a, [u8]>,
}

impl Field<'_> {
    /// The body unfolded into one line, not decoded; what is not UTF-8 is replaced.
    pub fn unfolded(&self) -> String {
        let mut text = lossy(&self.value).into_owned();
        text.retain(|c| c != '\r' && c != '\n');
        text
    }

    /// The same field, owning its bytes.
    pub fn into_owned(self) -> Field<'static> {
        Field { name: Cow::Owned(self.name.into_owned()), value: Cow::Owned(self.value.into_owned()) }
    }
}

/// A packed file of which something could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unopened {
    /// The place of the packed file.
    pub place: String,
    /// The name inside; empty if it is not known.
    pub name: String,
    /// What happened, as a sentence.
    pub sentence: String,
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
    /// The decoded content: text in UTF-8, attachments as they are. Media (`is_media`) as it was sent: nobody
    /// looks into it.
    pub content: Cow<'a, [u8]>,
    /// How many `message/rfc822` are around it.
    pub depth: usize,
}

/// The bytes as text; what is not UTF-8 is replaced. Checks the whole first, which is many times faster than
/// `String::from_utf8_lossy` where all is well.
pub fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// True for pictures, sound and film, if they are not named as if they were something else: they hold no
/// session. `main` is the content type before the slash.
pub fn is_media(main: &str, file_name: Option<&str>) -> bool {
    let end = file_name.and_then(|name| name.rsplit_once('.')).map_or("", |(_, end)| end);
    matches!(main, "image" | "audio" | "video") && !["json", "txt"].iter().any(|text| end.eq_ignore_ascii_case(text))
}

impl Part<'_> {
    /// The content as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        lossy(&self.content)
    }

    /// The same part, owning its content.
    pub fn into_owned(self) -> Part<'static> {
        Part {
            place: self.place,
            kind: self.kind,
            file_name: self.file_name,
            content_type: self.content_type,
            content: Cow::Owned(self.content.into_owned()),
            depth: self.depth,
        }
    }
}
