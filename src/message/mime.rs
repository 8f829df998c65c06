//! The MIME tree (RFC 2045, 2046) → leaf parts in reading order, nested messages opened.
//!
//! mail-parser 0.11 reads fields, encodings and charsets; the tree is walked here, because its own walk has
//! no limits, stops three levels down and loses text behind a mid-line boundary. Every limit is checked on
//! the way, before the work that it limits.

use std::borrow::Cow;
use std::collections::HashMap;

use memchr::memchr;

use super::boundary::{self, Parts};
use super::decode::{self, Encoding};
use super::fields::{self, Content, Head};
use super::forward::{Forward, Original};
use super::packed::{self, Budget, Format, Stop};
use super::{Kind, Limits, Part, Unopened, is_media, msg, tnef};
use crate::outcome::Reason;

/// Containers in containers, multiparts and messages together. Mail of people stays under ten.
const CONTAINERS: usize = 64;

/// Packed files in packed files that are opened, `winmail.dat` among them.
const PACKED: usize = 3;

/// Sentences kept about one message.
const NOTES: usize = 50;

/// Without what some transports put before the first field: a byte order mark, empty lines, mbox's line.
pub(super) fn without_envelope_line(raw: &[u8]) -> &[u8] {
    let raw = raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw);
    let mut rest = raw;
    while let Some(tail) = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")) {
        rest = tail;
    }
    if rest.starts_with(b"From ") || rest.starts_with(b">From ") {
        rest = memchr(b'\n', rest).and_then(|end| rest.get(end + 1..)).unwrap_or_default();
    }
    // An empty line before a text without a head is part of the text.
    if fields::looks_like_head(rest) { rest } else { raw }
}

/// Why a message must not be processed.
pub(super) type Refusal = (Reason, String);

pub(super) fn header_too_large(limits: &Limits) -> Refusal {
    (Reason::TooLarge, format!("a header is longer than {} bytes", limits.header_bytes))
}

/// What one message of the nest has in common.
struct Scope {
    /// `forwarded message / ` for each message around, outermost first.
    prefix: String,
    /// Messages around this one.
    depth: usize,
    /// Attachments so far.
    attachments: usize,
}

/// Where in the tree an entity stands.
#[derive(Clone, Copy)]
struct At {
    /// Containers around it.
    level: usize,
    /// Whether its default type is `message/rfc822` (RFC 2046 section 5.1.5).
    in_digest: bool,
    /// Packed files around it.
    packed: usize,
}

/// The walk over one message, with what is counted over the whole of it.
pub(super) struct Walk<'l> {
    limits: &'l Limits,
    entities: usize,
    bytes: usize,
    /// Bytes of the raw message, and of those in it that had to be decoded: all are held until the end.
    held: usize,
    /// Places given, with the number of the last one of that name.
    places: HashMap<String, usize>,
    notes: Vec<String>,
    /// The raw messages inside, and how many are still wanted.
    originals: Vec<Vec<u8>>,
    wanted: usize,
    unopened: Vec<Unopened>,
    attached: Vec<(usize, Original)>,
    /// Bytes that came out of packed files.
    unpacked: usize,
}

impl<'l> Walk<'l> {
    /// A walk over a message of this size, with nothing counted yet.
    pub(super) fn new(limits: &'l Limits, raw_bytes: usize) -> Self {
        Self::keeping_originals(limits, raw_bytes, 0)
    }

    /// A walk that keeps the raw bytes of at most `wanted` messages inside.
    pub(super) fn keeping_originals(limits: &'l Limits, raw_bytes: usize, wanted: usize) -> Self {
        Self {
            limits,
            entities: 0,
            bytes: 0,
            held: raw_bytes,
            places: HashMap::new(),
            notes: Vec::new(),
            originals: Vec::new(),
            wanted,
            unopened: Vec::new(),
            attached: Vec::new(),
            unpacked: 0,
        }
    }

    /// The raw messages inside, outermost first.
    pub(super) fn into_originals(self) -> Vec<Vec<u8>> {
        self.originals
    }

    /// The leaf parts of a message in reading order.
    pub(super) fn message<'b>(&mut self, head: &Head<'b>) -> Result<Vec<Part<'b>>, Refusal> {
        let mut parts = Vec::new();
        let mut scope = Scope { prefix: String::new(), depth: 0, attachments: 0 };
        self.entity(head, At { level: 0, in_digest: false, packed: 0 }, &mut scope, &mut parts)?;
        Ok(parts)
    }

    /// Keeps a sentence about what was odd; a message has few of them, however odd it is.
    pub(super) fn note(&mut self, sentence: impl FnOnce() -> String) {
        if self.notes.len() < NOTES {
            self.notes.push(sentence());
        }
    }

    /// What was odd, what could not be opened, and the messages attached.
    pub(super) fn into_findings(self) -> (Vec<String>, Vec<Unopened>, Vec<(usize, Original)>) {
        (self.notes, self.unopened, self.attached)
    }

    fn entity<'b>(
        &mut self,
        head: &Head<'b>,
        at: At,
        scope: &mut Scope,
        into: &mut Vec<Part<'b>>,
    ) -> Result<(), Refusal> {
        self.one_more()?;
        if at.level > CONTAINERS {
            return Err((Reason::TooDeep, format!("parts are nested deeper than {CONTAINERS} levels")));
        }
        let declared = head.get("Content-Type").map(Content::of).filter(|content| !content.main.is_empty());
        let disposition = head.get("Content-Disposition").map(Content::of).unwrap_or_default();
        let is_message = at.in_digest && declared.is_none();
        let content = declared.unwrap_or_default();
        if content.main == "multipart" {
            let declared = content.boundary.as_deref().and_then(|b| Parts::new(head.body, b.as_bytes()));
            let parts = declared.or_else(|| {
                let parts = boundary::guess(head.body).and_then(|b| Parts::new(head.body, b))?;
                self.note(|| "a multipart names no boundary that it uses: guessed from its lines".to_owned());
                Some(parts)
            });
            if let Some(parts) = parts {
                let at = At { level: at.level + 1, in_digest: content.sub == "digest", ..at };
                return self.parts(parts, at, scope, into);
            }
            if !head.body.trim_ascii().is_empty() {
                self.note(|| "a multipart without parts: taken as text".to_owned());
            }
        }
        let file_name = disposition.file_name.or(content.file_name.clone());
        let is_attachment = disposition.main == "attachment";
        let is_message = is_message || content.main == "message" && matches!(content.sub.as_str(), "rfc822" | "global");
        let leaf = Leaf { content, file_name, is_attachment };
        self.leaf(leaf, head, is_message, at, scope, into)
    }

    fn one_more(&mut self) -> Result<(), Refusal> {
        self.entities += 1;
        if self.entities > self.limits.parts {
            return Err((Reason::TooLarge, format!("the message has more than {} parts", self.limits.parts)));
        }
        Ok(())
    }

    fn parts<'b>(
        &mut self,
        parts: Parts<'b>,
        at: At,
        scope: &mut Scope,
        into: &mut Vec<Part<'b>>,
    ) -> Result<(), Refusal> {
        for part in parts {
            let head = Head::split(part, self.limits.header_bytes).ok_or_else(|| header_too_large(self.limits))?;
            self.entity(&head, at, scope, into)?;
        }
        Ok(())
    }

    fn leaf<'b>(
        &mut self,
        leaf: Leaf,
        head: &Head<'b>,
        is_message: bool,
        at: At,
        scope: &mut Scope,
        into: &mut Vec<Part<'b>>,
    ) -> Result<(), Refusal> {
        let encoding = head.get("Content-Transfer-Encoding").map_or(Encoding::Identity, Encoding::of);
        let is_mail_file = leaf.file_name.as_deref().is_some_and(|name| has_extension(name, "eml"));
        if encoding == Encoding::Base64 {
            // Before the work: well-formed base64 with its line ends gives no less.
            self.check(head.body.len() / 10 * 7)?;
            if is_message || is_mail_file {
                self.check_held(head.body.len() / 10 * 7)?;
            }
        }
        let is_media = is_media(&leaf.content.main, leaf.file_name.as_deref()) && !is_mail_file;
        let (mut bytes, is_clean) =
            if is_media { (Cow::Borrowed(head.body), true) } else { encoding.decode(head.body) };
        // A message may be encoded against the rules and even so not say it.
        if is_message && encoding == Encoding::Identity && !fields::looks_like_head(skip_lines(&bytes)) {
            let (decoded, clean) = Encoding::Base64.decode(head.body);
            if clean && fields::looks_like_head(skip_lines(&decoded)) {
                bytes = decoded;
            }
        }
        self.content(leaf, (bytes, is_clean), is_message, at, scope, into)
    }

    /// Opens what is a message or packed, and keeps the rest as a part.
    fn content<'b>(
        &mut self,
        leaf: Leaf,
        (mut bytes, mut is_clean): (Cow<'b, [u8]>, bool),
        is_message: bool,
        at: At,
        scope: &mut Scope,
        into: &mut Vec<Part<'b>>,
    ) -> Result<(), Refusal> {
        let is_mail_file = leaf.file_name.as_deref().is_some_and(|name| has_extension(name, "eml"));
        if (is_message || is_mail_file) && fields::looks_like_head(skip_lines(without_envelope_line(&bytes))) {
            return self.nested(bytes, at, scope, into);
        }
        let kind = leaf.kind();
        let name = leaf.file_name.as_deref().unwrap_or_default();
        if kind == Kind::Attachment
            && let Some(format) = Format::of(&bytes, name, &leaf.content.sub)
        {
            return self.packed(format, leaf, bytes, at, scope, into);
        }
        let is_text = kind != Kind::Attachment || leaf.content.main == "text" && leaf.content.charset.is_some();
        if is_text {
            self.cut(&mut bytes, &leaf);
            let (text, is_known) = decode::utf8(bytes, leaf.content.charset.as_deref());
            bytes = text;
            is_clean &= is_known || leaf.content.charset.is_none();
            if kind == Kind::Text && leaf.content.is_delsp {
                bytes = Cow::Owned(decode::unflowed(&bytes));
            }
        }
        self.count(bytes.len())?;
        let place = self.place(&leaf, kind, scope);
        if !is_clean {
            self.note(|| format!("`{place}` is not encoded as it says: read as far as possible"));
        }
        into.push(Part {
            place,
            kind,
            content_type: leaf.content_type(),
            file_name: leaf.file_name,
            content: bytes,
            depth: scope.depth,
        });
        Ok(())
    }

    /// Opens a packed file. Where nothing comes of it, it stays a part itself.
    fn packed<'b>(
        &mut self,
        format: Format,
        leaf: Leaf,
        bytes: Cow<'b, [u8]>,
        at: At,
        scope: &mut Scope,
        into: &mut Vec<Part<'b>>,
    ) -> Result<(), Refusal> {
        self.count(bytes.len())?;
        let place = self.place(&leaf, Kind::Attachment, scope);
        let before = into.len();
        let budget = Budget {
            bytes: self.limits.unpacked_bytes.saturating_sub(self.unpacked),
            files: self.limits.parts.saturating_sub(self.entities),
            ratio: self.limits.unpacked_ratio,
        };
        let name = leaf.file_name.as_deref().unwrap_or_default();
        let opened = match format {
            _ if at.packed >= PACKED => Err(Stop::Damaged("it is packed too often")),
            Format::Gzip => packed::gzip(&bytes, name, &budget).map(Inside::of_files),
            Format::Zip => packed::zip(&bytes, &budget).map(Inside::of_files),
            Format::Tnef => Ok(Inside::of_mail(tnef::open(&bytes, budget.files))),
            Format::Msg => msg::as_mail(&bytes, &budget).map(Inside::of_message),
        };
        let inside = match opened {
            Ok(inside) => inside,
            Err(Stop::Bomb(what)) => return Err((Reason::TooLarge, format!("`{place}` {what}"))),
            Err(Stop::Damaged(why)) => Inside { leaves: Vec::new(), unread: vec![(String::new(), why.to_owned())] },
        };
        let mut inner = Scope { prefix: format!("{place} / "), depth: scope.depth, attachments: 0 };
        let at = At { level: at.level + 1, in_digest: false, packed: at.packed + 1 };
        for (leaf, content) in inside.leaves {
            self.one_more()?;
            self.unpacked += content.len();
            let is_message = leaf.content.main == "message";
            self.content(leaf, (Cow::Owned(content), true), is_message, at, &mut inner, into)?;
        }
        let is_unread = !inside.unread.is_empty();
        for (name, why) in inside.unread {
            self.unread(format, &place, name, &why);
        }
        // The whole says something yet of what could not be read.
        if into.len() == before || is_unread {
            let (content_type, file_name) = (leaf.content_type(), leaf.file_name);
            let kind = Kind::Attachment;
            into.push(Part { place, kind, content_type, file_name, content: bytes, depth: scope.depth });
        }
        Ok(())
    }

    fn unread(&mut self, format: Format, place: &str, name: String, why: &str) {
        let sentence = match format {
            Format::Tnef => format!("attachment inside {place} could not be read: {why}"),
            _ if name.is_empty() => format!("`{place}` could not be read: {why}"),
            _ => format!("`{name}` inside `{place}` could not be read: {why}"),
        };
        self.note(|| sentence.clone());
        if self.unopened.len() < NOTES {
            self.unopened.push(Unopened { place: place.to_owned(), name, sentence });
        }
    }

    fn nested<'b>(
        &mut self,
        raw: Cow<'b, [u8]>,
        at: At,
        scope: &Scope,
        into: &mut Vec<Part<'b>>,
    ) -> Result<(), Refusal> {
        let depth = scope.depth + 1;
        if depth > self.limits.nesting {
            let limit = self.limits.nesting;
            return Err((Reason::TooDeep, format!("messages are nested deeper than {limit} levels")));
        }
        if self.originals.len() < self.wanted {
            self.count(raw.len())?;
            self.originals.push(raw.to_vec());
        }
        let prefix = self.distinct(format!("{}forwarded message", scope.prefix)) + " / ";
        let mut scope = Scope { prefix, depth, attachments: 0 };
        let at = At { level: at.level + 1, in_digest: false, ..at };
        match raw {
            Cow::Borrowed(raw) => {
                let before = into.len();
                self.nested_bytes(raw, at, before, &mut scope, into)
            }
            Cow::Owned(raw) => {
                self.count(raw.len())?;
                self.check_held(raw.len())?;
                self.held += raw.len();
                let mut parts = Vec::new();
                self.nested_bytes(&raw, at, into.len(), &mut scope, &mut parts)?;
                into.extend(parts.into_iter().map(|part| -> Part<'b> { part.into_owned() }));
                Ok(())
            }
        }
    }

    fn nested_bytes<'b>(
        &mut self,
        raw: &'b [u8],
        at: At,
        before: usize,
        scope: &mut Scope,
        into: &mut Vec<Part<'b>>,
    ) -> Result<(), Refusal> {
        let raw = skip_lines(without_envelope_line(raw));
        let head = Head::split(raw, self.limits.header_bytes).ok_or_else(|| header_too_large(self.limits))?;
        self.attached.push((before, original(&head)));
        self.entity(&head, at, scope, into)
    }

    /// No reader looks at more of a text than at the largest document, so no more is made into UTF-8.
    fn cut(&mut self, bytes: &mut Cow<'_, [u8]>, leaf: &Leaf) {
        let most = decode::most_bytes_of(self.limits.json_bytes.saturating_add(1), leaf.content.charset.as_deref());
        if bytes.len() <= most {
            return;
        }
        match bytes {
            Cow::Borrowed(text) => *text = text.get(..most).unwrap_or(text),
            Cow::Owned(text) => text.truncate(most),
        }
        let limit = self.limits.json_bytes;
        self.note(|| format!("a text is longer than {limit} bytes: only its beginning is read"));
    }

    fn count(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.check(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Whether a message of so many bytes may be decoded, to be read in turn: one of the largest may hold one that
    /// fills it, and no more.
    fn check_held(&self, bytes: usize) -> Result<(), Refusal> {
        let limit = self.limits.message_bytes.saturating_add(self.limits.message_bytes / 4 * 3);
        if self.held.saturating_add(bytes) > limit {
            let sentence = format!("encoded messages in each other are larger than {limit} bytes together");
            return Err((Reason::TooLarge, sentence));
        }
        Ok(())
    }

    /// Whether so many more decoded bytes are allowed.
    fn check(&self, bytes: usize) -> Result<(), Refusal> {
        let limit = self.limits.decoded_bytes;
        if self.bytes.saturating_add(bytes) > limit {
            return Err((Reason::TooLarge, format!("the decoded parts are larger than {limit} bytes together")));
        }
        Ok(())
    }

    fn place(&mut self, leaf: &Leaf, kind: Kind, scope: &mut Scope) -> String {
        if kind == Kind::Attachment {
            scope.attachments += 1;
        }
        let prefix = &scope.prefix;
        let place = match (&leaf.file_name, kind) {
            (Some(name), _) => format!("{prefix}{name}"),
            (None, Kind::Text) => format!("{prefix}text body"),
            (None, Kind::Html) => format!("{prefix}html body"),
            (None, Kind::Attachment) => format!("{prefix}attachment {}", scope.attachments),
        };
        self.distinct(place)
    }

    /// The place itself the first time, then ` (2)`, ` (3)`.
    fn distinct(&mut self, place: String) -> String {
        let mut number = match self.places.get(&place) {
            None => {
                self.places.insert(place.clone(), 1);
                return place;
            }
            Some(number) => *number,
        };
        loop {
            number += 1;
            let numbered = format!("{place} ({number})");
            if !self.places.contains_key(&numbered) {
                self.places.insert(place, number);
                self.places.insert(numbered.clone(), 1);
                return numbered;
            }
        }
    }
}

/// What the head of an attached message says.
fn original(head: &Head<'_>) -> Original {
    let mut from = Vec::new();
    head.get("From").into_iter().for_each(|value| fields::addresses(value, &mut from));
    Original {
        from: from.into_iter().next(),
        date: head.get("Date").and_then(fields::date),
        local: None,
        subject: head.get("Subject").and_then(fields::text),
        how: Forward::Attached,
    }
}

/// What is in a packed file, as if each were a part.
struct Inside {
    leaves: Vec<(Leaf, Vec<u8>)>,
    unread: Vec<(String, String)>,
}

impl Inside {
    fn of_files(opened: packed::Opened) -> Self {
        let leaves = opened.files.into_iter().map(|file| (Leaf::file(file.name), file.content)).collect();
        Self { leaves, unread: opened.unread }
    }

    fn of_message(mail: Vec<u8>) -> Self {
        Self { leaves: vec![(Leaf::message(), mail)], unread: Vec::new() }
    }

    fn of_mail(opened: tnef::Opened) -> Self {
        let leaves = opened.items.into_iter().map(|item| match item {
            tnef::Item::File { name, content } => (Leaf::file(name), content),
            tnef::Item::Message(content) => (Leaf::file("embedded message".to_owned()), content),
            tnef::Item::Text(content) => (Leaf::body("plain"), content),
            tnef::Item::Html(content) => (Leaf::body("html"), content),
        });
        let unread = opened.fault.map(|why| (String::new(), why.to_owned()));
        Self { leaves: leaves.collect(), unread: unread.into_iter().collect() }
    }
}

/// What a leaf's head says of it.
struct Leaf {
    content: Content,
    file_name: Option<String>,
    is_attachment: bool,
}

impl Leaf {
    fn file(name: String) -> Self {
        Self { content: Content::default(), file_name: fields::bare_file_name(&name), is_attachment: true }
    }

    fn message() -> Self {
        let content = Content { main: "message".to_owned(), sub: "rfc822".to_owned(), ..Content::default() };
        Self { content, file_name: None, is_attachment: false }
    }

    fn body(sub: &str) -> Self {
        let charset = Some("utf-8".to_owned());
        let content = Content { main: "text".to_owned(), sub: sub.to_owned(), charset, ..Content::default() };
        Self { content, file_name: None, is_attachment: false }
    }

    fn kind(&self) -> Kind {
        if self.is_attachment || self.file_name.is_some() {
            return Kind::Attachment;
        }
        match (self.content.main.as_str(), self.content.sub.as_str()) {
            ("text", "html") => Kind::Html,
            // RFC 2045 section 5.2: no type, or none that can be read, means plain text.
            ("" | "text", "" | "plain") | ("multipart", _) => Kind::Text,
            _ => Kind::Attachment,
        }
    }

    fn content_type(&self) -> String {
        match (self.content.main.as_str(), self.content.sub.as_str()) {
            ("", _) if self.kind() == Kind::Text => "text/plain".to_owned(),
            ("", _) => "application/octet-stream".to_owned(),
            ("text", "") => "text/plain".to_owned(),
            (main, sub) => format!("{main}/{sub}"),
        }
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case(extension))
}

fn skip_lines(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = text.strip_prefix(b"\n").or_else(|| text.strip_prefix(b"\r\n")) {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::message::parse::parse;

    fn shape(message: &Message<'_>) -> Vec<(String, Kind, usize, String)> {
        let parts = message.parts.iter();
        parts.map(|p| (p.place.clone(), p.kind, p.depth, p.text().trim_end().to_owned())).collect()
    }

    fn places(raw: &str) -> Vec<String> {
        parse(raw.as_bytes(), &Limits::default()).parts.into_iter().map(|p| p.place).collect()
    }

    #[test]
    fn bodies_attachments_and_forwarded_messages_come_in_reading_order() {
        let raw = "From: a@x.example\r\nContent-Type: multipart/mixed; boundary=out\r\n\r\npreamble\r\n\
            --out\r\nContent-Type: multipart/alternative; boundary=\"in\"\r\n\r\n\
            --in\r\n\r\nplain\r\n\
            --in\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<b>J=F6rg</b>\r\n\
            --in--\r\n\
            --out\r\nContent-Type: application/octet-stream; name=\"metadata-48213.json\"\r\nContent-Transfer-Encoding: base64\r\n\r\neyJhIjoxfQ==\r\n\
            --out\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
            --x\r\n\r\ninner text\r\n--x\r\nContent-Type: application/json\r\nContent-Disposition: attachment; filename=metadata.json\r\n\r\n{}\r\n--x--\r\n\
            --out\r\nContent-Type: text/plain\r\n\r\nfooter\r\n\
            --out\r\nContent-Type: image/png\r\n\r\nPNG\r\n\
            --out--\r\nepilogue\r\n";
        let message = parse(raw.as_bytes(), &Limits::default());
        let part = |place: &str, kind, depth, text: &str| (place.to_owned(), kind, depth, text.to_owned());
        assert_eq!(
            shape(&message),
            [
                part("text body", Kind::Text, 0, "plain"),
                part("html body", Kind::Html, 0, "<b>Jörg</b>"),
                part("metadata-48213.json", Kind::Attachment, 0, "{\"a\":1}"),
                part("forwarded message / text body", Kind::Text, 1, "inner text"),
                part("forwarded message / metadata.json", Kind::Attachment, 1, "{}"),
                part("text body (2)", Kind::Text, 0, "footer"),
                part("attachment 2", Kind::Attachment, 0, "PNG"),
            ]
        );
        assert_eq!((message.notes, message.refusal), (vec![], None));
        assert!(message.parts.iter().filter(|p| p.place == "text body").all(|p| matches!(p.content, Cow::Borrowed(_))));
    }

    #[test]
    fn attached_messages_are_opened_however_they_are_declared() {
        let inner = "Subject: inner\r\n\r\nhello\r\n";
        let encoded = "U3ViamVjdDogaW5uZXINCg0KaGVsbG8NCg==";
        for (fields, body) in [
            ("Content-Type: application/octet-stream; name=a.EML", inner),
            ("Content-Disposition: attachment; filename=\"a.eml\"", inner),
            ("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64", encoded),
            ("Content-Type: message/rfc822", encoded),
            ("Content-Type: message/global; name=x.txt", inner),
            ("Content-Type: application/octet-stream; name=a.eml\r\nContent-Transfer-Encoding: base64", encoded),
        ] {
            let raw =
                format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{fields}\r\n\r\n{body}\r\n--b--\r\n");
            let message = parse(raw.as_bytes(), &Limits::default());
            let expected = ("forwarded message / text body".to_owned(), Kind::Text, 1, "hello".to_owned());
            assert_eq!(shape(&message), [expected], "{fields}");
        }
    }

    #[test]
    fn media_are_not_decoded_unless_their_name_says_that_they_are_none() {
        for (name, text) in [("a.png", "e30="), ("a.JSON", "{}"), ("a.txt", "{}"), ("a", "e30=")] {
            let raw = format!("Content-Type: image/png; name={name}\nContent-Transfer-Encoding: base64\n\ne30=");
            assert_eq!(parse(raw.as_bytes(), &Limits::default()).parts[0].text(), text, "{name}");
        }
    }

    #[test]
    fn parts_of_a_digest_are_messages() {
        let raw =
            "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: 1\n\none\n--b\n\nSubject: 2\n\ntwo\n--b--\n";
        assert_eq!(places(raw), ["forwarded message / text body", "forwarded message (2) / text body"]);
    }

    #[test]
    fn text_with_a_file_name_or_the_disposition_attachment_is_an_attachment() {
        let raw = "Content-Type: multipart/mixed; boundary=b\n\n\
            --b\nContent-Type: text/plain; name=session.txt\n\na\n\
            --b\nContent-Type: text/html\nContent-Disposition: attachment\n\nb\n\
            --b\nContent-Type: text/plain; charset=latin1; name=session.txt\nContent-Disposition: inline\n\nJ\u{f6}\n--b--\n";
        let message = parse(raw.as_bytes(), &Limits::default());
        assert!(message.parts.iter().all(|p| p.kind == Kind::Attachment));
        assert_eq!(places(raw), ["session.txt", "attachment 2", "session.txt (2)"]);
    }

    #[test]
    fn a_body_that_mentions_its_boundary_is_whole() {
        let raw = "Content-Type: multipart/mixed; boundary=BND\r\n\r\n--BND\r\n\r\nvisit --BND for details\r\nid: 48213\r\n\
            --BND\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nand=20--BND--\r\nrest\r\n--BND--\r\n";
        let message = parse(raw.as_bytes(), &Limits::default());
        let texts: Vec<_> = message.parts.iter().map(|p| p.text().into_owned()).collect();
        assert_eq!(texts, ["visit --BND for details\r\nid: 48213", "and --BND--\r\nrest"]);
    }

    #[test]
    fn a_multipart_with_a_wrong_or_missing_boundary_loses_nothing() {
        for boundary in ["; boundary=other", "", "; boundary=\"\""] {
            let raw = format!(
                "Content-Type: multipart/mixed{boundary}\n\n--b\n\none\n--b\nContent-Type: application/json\n\n{{}}\n--b--\n"
            );
            let message = parse(raw.as_bytes(), &Limits::default());
            assert_eq!(message.parts.len(), 2, "{boundary}");
            assert_eq!(message.notes.len(), 1);
        }
        let message = parse(b"Content-Type: multipart/mixed\n\njust text\n", &Limits::default());
        assert_eq!(message.parts[0].text(), "just text\n");
        assert_eq!(message.parts[0].kind, Kind::Text);
    }

    fn attached(name: &str, content: &[u8]) -> Vec<u8> {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(content);
        format!(
            "Content-Type: application/octet-stream; name=\"{name}\"\nContent-Transfer-Encoding: base64\n\n{encoded}\n"
        )
        .into_bytes()
    }

    #[test]
    fn packed_files_are_opened_and_packed_ones_in_them() {
        let mail = b"From: Pia <pia@CC.example>\nSubject: s\nDate: Tue, 17 Feb 2026 10:11:31 -0600\n\ntext\n";
        let inner = packed::tests::zipped(&[("metadata-1.json", b"{}"), ("m.eml", mail)]);
        let outer = tnef::tests::winmail("out.zip", &packed::tests::zipped(&[("in.zip", &inner)]));
        let raw = attached("winmail.dat", &outer);
        let message = parse(&raw, &Limits::default());
        let places: Vec<&str> = message.parts.iter().map(|p| p.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "winmail.dat / html body",
                "winmail.dat / text body",
                "winmail.dat / out.zip / in.zip / metadata-1.json",
                "winmail.dat / out.zip / in.zip / forwarded message / text body",
            ]
        );
        assert_eq!(message.notes, Vec::<String>::new());
        let originals = message.originals();
        assert_eq!(originals[0].from.as_deref(), Some("pia@cc.example"));
        assert_eq!(originals[0].how, Forward::Attached);
        let deeper = packed::tests::zipped(&[(
            "a.zip",
            &packed::tests::zipped(&[("b.zip", &packed::tests::zipped(&[("c.zip", &inner)]))]),
        )]);
        let raw = attached("d.zip", &deeper);
        let message = parse(&raw, &Limits::default());
        assert_eq!((message.parts.len(), message.unopened.len()), (1, 1));
    }

    #[test]
    fn what_cannot_be_opened_stays_and_is_told() {
        let whole = tnef::tests::winmail("metadata.json", b"{}");
        let raw = attached("winmail.dat", &whole[..whole.len() - 30]);
        let message = parse(&raw, &Limits::default());
        assert_eq!(message.notes, ["attachment inside winmail.dat could not be read: it breaks off"]);
        let last = message.parts.iter().rev().take(2).map(|p| p.place.as_str());
        assert_eq!(last.collect::<Vec<_>>(), ["winmail.dat", "winmail.dat / METADA~1.JSO"]);
        let raw = attached("a.msg", &[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, 0, 0]);
        let message = parse(&raw, &Limits::default());
        assert_eq!((message.parts.len(), message.unopened[0].place.as_str()), (1, "a.msg"));
    }

    #[test]
    fn outlooks_own_file_is_a_forwarded_message() {
        let raw = attached("fw.bin", &msg::tests::outlook("metadata.json", b"{}"));
        let message = parse(&raw, &Limits::default());
        let places: Vec<_> = message.parts.iter().map(|p| p.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "fw.bin / forwarded message / text body",
                "fw.bin / forwarded message / html body",
                "fw.bin / forwarded message / metadata.json",
                "fw.bin / forwarded message / forwarded message / text body",
                "fw.bin / forwarded message / forwarded message / inner.json",
            ]
        );
        let originals = message.originals();
        assert_eq!(originals[0].from.as_deref(), Some("pia@cc.example"));
        assert_eq!(originals[0].date, "2026-02-17T10:00:00Z".parse().ok());
    }

    #[test]
    fn bombs_in_packed_files_are_refused() {
        let blanks = vec![b' '; 8 << 20];
        let raw = attached("b.zip", &packed::tests::zipped(&[("b", &blanks)]));
        assert_eq!(parse(&raw, &Limits::default()).refusal.map(|r| r.0), Some(Reason::TooLarge));
    }

    #[test]
    fn each_limit_refuses_with_its_reason() {
        let limits = Limits { parts: 3, nesting: 2, decoded_bytes: 100, header_bytes: 200, ..Limits::default() };
        let reason = |raw: &str| parse(raw.as_bytes(), &limits).refusal.map(|(reason, _)| reason);
        let head = "Content-Type: multipart/mixed; boundary=b\n\n";
        assert_eq!(reason(&format!("{head}{}--b--\n", "--b\n\nx\n".repeat(2))), None);
        assert_eq!(reason(&format!("{head}{}--b--\n", "--b\n\nx\n".repeat(3))), Some(Reason::TooLarge));
        assert_eq!(reason(&format!("A: b\n\n{}", "x".repeat(101))), Some(Reason::TooLarge));
        assert_eq!(reason(&format!("{head}--b\nA: {}\n\nx\n--b--\n", "y".repeat(300))), Some(Reason::TooLarge));
        assert_eq!(reason(&format!("{}A: b\n\nx", "Content-Type: message/rfc822\n\n".repeat(2))), None);
        let deep = format!("{}A: b\n\nx", "Content-Type: message/rfc822\n\n".repeat(3));
        let limits = Limits { nesting: 2, ..Limits::default() };
        assert_eq!(parse(deep.as_bytes(), &limits).refusal.map(|r| r.0), Some(Reason::TooDeep));
    }
}
