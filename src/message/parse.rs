//! Raw bytes → `Message` (RFC 5322): what its own head says, and its parts as `mime` finds them.
//!
//! Never fails and never panics, whatever the bytes; bodies that need no decoding are borrowed from the
//! input.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use memchr::memchr;

use super::fields::{self, Content, Head};
use super::mime::{self, Walk};
use super::{Field, Kind, Limits, Message, Part, decode};
use crate::outcome::Reason;

/// A mail with lines that end in CR alone is copied to be read, and its parts again.
const LARGEST_COPY: usize = 32 << 20;

/// The view of a raw message. Always gives one: a message over a limit has `refusal` set and no parts; one
/// that can't be read at all is a single text part and a note.
pub fn parse<'a>(raw: &'a [u8], limits: &Limits) -> Message<'a> {
    // The MIME crate promises not to panic; a night's mail must not depend on it.
    catch_unwind(AssertUnwindSafe(|| read(raw, limits))).unwrap_or_else(|_| {
        let mut message = Message::default();
        message.parts.push(text_body(raw));
        message.notes.push("the message could not be read as MIME: taken as text".to_owned());
        message
    })
}

fn read<'a>(raw: &'a [u8], limits: &Limits) -> Message<'a> {
    if memchr(b'\n', raw).is_none() && memchr(b'\r', raw).is_some() && raw.len() <= limits.message_bytes {
        if raw.len() > LARGEST_COPY {
            let mut message = Message::default();
            let sentence = format!("the lines end with CR alone, and it has more than {LARGEST_COPY} bytes");
            message.refusal = Some((Reason::TooLarge, sentence));
            return message;
        }
        let lines: Vec<u8> = raw.iter().map(|&b| if b == b'\r' { b'\n' } else { b }).collect();
        let mut message = read(&lines, limits).into_owned();
        message.notes.push("the lines end with CR alone".to_owned());
        return message;
    }
    let mut message = Message::default();
    let Some(head) = Head::split(mime::without_envelope_line(raw), limits.header_bytes) else {
        message.refusal = Some(mime::header_too_large(limits));
        return message;
    };
    describe(&head, &mut message);
    if raw.len() > limits.message_bytes {
        let sentence = format!("the message has {} bytes, the limit is {}", raw.len(), limits.message_bytes);
        message.refusal = Some((Reason::TooLarge, sentence));
    } else {
        let mut walk = Walk::new(limits, raw.len());
        if head.fields.is_empty() {
            walk.note(|| "no header fields: taken as text".to_owned());
        }
        match walk.message(&head) {
            Ok(parts) => message.parts = parts,
            Err(refusal) => message.refusal = Some(refusal),
        }
        (message.notes, message.unopened, message.attached) = walk.into_findings();
    }
    message.fields = head.fields;
    message
}

fn describe(head: &Head<'_>, message: &mut Message<'_>) {
    message.message_id = head.get("Message-ID").and_then(fields::message_id);
    message.subject = head.get("Subject").and_then(fields::text);
    message.date = head.get("Date").and_then(fields::date);
    for value in head.all("From") {
        fields::addresses(value, &mut message.from);
    }
    for value in head.all("To").chain(head.all("Cc")) {
        fields::addresses(value, &mut message.to);
    }
}

fn text_body(content: &[u8]) -> Part<'_> {
    Part {
        place: "text body".to_owned(),
        kind: Kind::Text,
        file_name: None,
        content_type: "text/plain".to_owned(),
        content: decode::utf8(Cow::Borrowed(content), None).0,
        depth: 0,
    }
}

/// Without what some transports put before the first field: a byte order mark, empty lines, mbox's line.
pub fn without_envelope_line(raw: &[u8]) -> &[u8] {
    mime::without_envelope_line(raw)
}

/// The fields of a message and its raw body, as `parse` takes them; `None` if the head is over the limit.
pub fn head<'a>(raw: &'a [u8], limits: &Limits) -> Option<(Vec<Field<'a>>, &'a [u8])> {
    let head = Head::split(raw, limits.header_bytes)?;
    Some((head.fields, head.body))
}

/// What the head of a message says, as `parse` gives it; without parts.
pub fn describe_head<'a>(raw: &'a [u8], limits: &Limits) -> Message<'a> {
    catch_unwind(AssertUnwindSafe(|| {
        let mut message = Message::default();
        if let Some(head) = Head::split(mime::without_envelope_line(raw), limits.header_bytes) {
            describe(&head, &mut message);
            message.fields = head.fields;
        }
        message
    }))
    .unwrap_or_default()
}

/// The raw bytes of the messages inside a message, outermost first: attached forwards, whatever their
/// encoding. At most `most`; none of a message that is over a limit.
pub fn originals(raw: &[u8], limits: &Limits, most: usize) -> Vec<Vec<u8>> {
    catch_unwind(AssertUnwindSafe(|| {
        if raw.len() > limits.message_bytes {
            return Vec::new();
        }
        let Some(head) = Head::split(mime::without_envelope_line(raw), limits.header_bytes) else { return Vec::new() };
        let mut walk = Walk::keeping_originals(limits, raw.len(), most);
        if walk.message(&head).is_err() {
            return Vec::new();
        }
        walk.into_originals()
    }))
    .unwrap_or_default()
}

/// Whether a body looks like what a `Content-Type` that nobody signed says. A multipart begins with its
/// boundary, but for two lines of text, and ends with it; what is none does not begin with a boundary.
/// So a signed body can't be given other parts than it has.
pub fn is_borne_out(content_type: Option<&[u8]>, body: &[u8]) -> bool {
    let content = content_type.map(Content::of).unwrap_or_default();
    let mut lines = body.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
    let delimiter = lines.by_ref().take(3).find(|line| line.starts_with(b"--") && line.len() > 2);
    if content.main != "multipart" {
        return content.main != "message" && !body.starts_with(b"--");
    }
    let (Some(boundary), Some(delimiter)) = (content.boundary, delimiter) else { return false };
    let last = lines.rfind(|line| !line.is_empty()).unwrap_or_default();
    let is_boundary = |line: &[u8], end: &[u8]| line == [b"--", boundary.as_bytes(), end].concat();
    is_boundary(delimiter, b"") && is_boundary(last, b"--")
}

/// Whether bytes begin as a mail does, with a header field.
pub fn looks_like_mail(raw: &[u8]) -> bool {
    fields::looks_like_head(mime::without_envelope_line(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(raw: &[u8]) -> Message<'_> {
        parse(raw, &Limits::default())
    }

    #[test]
    fn the_head_is_read_and_kept() {
        let message = parsed(
            b"Received: by x\r\nFrom: Jane <jane@ACME.example>, joe@x.example\r\nTo: a@x.example\r\nCc: b@x.example\r\n\
              Subject: =?utf-8?q?Sitzung_f=C3=BCr?=\r\n 48213\r\nMessage-ID: <a1@x>\r\n\
              Date: Tue, 17 Feb 2026 10:11:31 -0600\r\nAuto-Submitted: no\r\n\r\nbody\r\n",
        );
        assert_eq!(message.message_id.as_deref(), Some("<a1@x>"));
        assert_eq!(message.subject.as_deref(), Some("Sitzung für 48213"));
        assert_eq!(message.from, ["jane@acme.example", "joe@x.example"]);
        assert_eq!(message.to, ["a@x.example", "b@x.example"]);
        assert_eq!(message.date.map(|d| d.to_string()).as_deref(), Some("2026-02-17T16:11:31Z"));
        assert_eq!(message.fields_named("auto-submitted").map(|f| f.unfolded()).collect::<Vec<_>>(), ["no"]);
        assert_eq!(message.fields.len(), 8);
        assert_eq!(message.parts[0].text(), "body\r\n");
        assert!(matches!(message.parts[0].content, Cow::Borrowed(_)));
    }

    #[test]
    fn what_stands_before_the_first_field_does_not_matter() {
        for before in
            ["", "\r\n", "\u{feff}", "From a@x Tue Feb 17 10:11:31 2026\n", "\n>From a@x Tue Feb 17 10:11:31 2026\r\n"]
        {
            let raw = format!("{before}Subject: s\r\n\r\nb");
            let message = parsed(raw.as_bytes());
            assert_eq!(message.subject.as_deref(), Some("s"), "{before:?}");
            assert_eq!(message.parts[0].text(), "b");
        }
    }

    #[test]
    fn what_is_no_mail_is_one_text_and_a_note() {
        for raw in ["", "\n", "just text\n\nand more: text", "\r\n\r\n{\"a\":1}"] {
            let message = parsed(raw.as_bytes());
            assert_eq!(message.parts.len(), 1, "{raw:?}");
            assert_eq!(message.parts[0].text().trim(), raw.trim());
            assert_eq!(message.notes.len(), 1);
        }
    }

    #[test]
    fn carriage_returns_alone_end_lines_too() {
        let message = parsed(b"Subject: s\rContent-Type: text/plain\r\rone\rtwo");
        assert_eq!(message.subject.as_deref(), Some("s"));
        assert_eq!(message.parts[0].text(), "one\ntwo");
        assert_eq!(message.notes.len(), 1);
    }

    #[test]
    fn messages_inside_are_given_with_every_byte() {
        let inner = "From: a@x.example\r\nContent-Type: text/plain\r\n\r\ntext =\r\n";
        let raw = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee below\r\n--b\r\n\
             Content-Type: message/rfc822\r\n\r\n{inner}\r\n--b\r\n\
             Content-Type: application/octet-stream; name=x.eml\r\nContent-Transfer-Encoding: base64\r\n\r\n\
             RnJvbTogYkB4LmV4YW1wbGUNCg0KaGkNCg==\r\n--b--\r\n"
        );
        let found = originals(raw.as_bytes(), &Limits::default(), 10);
        assert_eq!(found, [inner.as_bytes(), b"From: b@x.example\r\n\r\nhi\r\n"]);
        assert_eq!(originals(raw.as_bytes(), &Limits::default(), 1).len(), 1);
        assert!(originals(inner.as_bytes(), &Limits::default(), 10).is_empty());
    }

    #[test]
    fn an_unsigned_content_type_has_to_look_right() {
        let multipart = Some(b"multipart/mixed; boundary=\"b1\"".as_slice());
        let body = b"--b1\r\n\r\nx\r\n--b1--\r\n";
        assert!(is_borne_out(multipart, body));
        assert!(is_borne_out(multipart, &[b"This is MIME.\r\n".as_slice(), body].concat()));
        assert!(!is_borne_out(multipart, b"text\r\n--b2\r\n\r\n--b1\r\n\r\nx\r\n--b1--\r\n"));
        assert!(!is_borne_out(multipart, b"a\r\nb\r\nc\r\n--b1\r\n\r\nx\r\n--b1--\r\n"));
        assert!(!is_borne_out(multipart, b"--b1\r\n\r\nx\r\n--b1--\r\nmore\r\n"));
        assert!(!is_borne_out(Some(b"text/plain"), body));
        assert!(is_borne_out(Some(b"text/plain"), b"text\r\n"));
        assert!(is_borne_out(None, b"text\r\n"));
        assert!(!is_borne_out(Some(b"message/rfc822"), b"text\r\n"));
    }

    #[test]
    fn a_message_over_the_limit_is_refused_but_described() {
        let limits = Limits { message_bytes: 20, ..Limits::default() };
        let message = parse(b"Subject: s\r\n\r\nmore than twenty bytes", &limits);
        assert_eq!(message.subject.as_deref(), Some("s"));
        assert!(message.parts.is_empty());
        assert_eq!(message.refusal.map(|r| r.0), Some(Reason::TooLarge));
    }
}
