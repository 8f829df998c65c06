//! One delivery → the mail that the CRM's own intake understands (RFC 5322, MIME), ready for SMTP.
//!
//! Deterministic: Message-ID and boundaries are made from the marker, the date is an argument, so that a second
//! copy of an unclear sending is the same mail and the receiver can tell. Values never add a header or a
//! recipient: control characters become blanks, addresses are parsed.

pub(crate) mod lint;

use bytes::Bytes;
use jiff::Timestamp;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, Mailboxes, MultiPart, SinglePart, header};
use lettre::{Address, Message};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::destination::Destination;
use super::plan::{Inputs, Prelude, prepare};
use super::request::template_failed;
use crate::digest::hex;
use crate::message::mark::{FIELD, InstanceKey};
use crate::outcome::{Class, Reason, Verdict};
use crate::record::{Context, Inline};

/// The name of the one step of this transport, for the ledger.
pub const STEP: &str = "email";

/// Recipients of one mail.
const MOST_RECIPIENTS: usize = 20;
/// Characters of a subject; what is longer is cut with a mark.
const LONGEST_SUBJECT: usize = 250;

/// The `[email]` table of a manifest, compiled.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) to: Inline,
    pub(crate) from: Inline,
    pub(crate) subject: Subject,
    pub(crate) text: String,
    pub(crate) html: Option<String>,
    pub(crate) headers: Vec<(String, Inline)>,
    pub(crate) attach_metadata: bool,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) lint: lint::Lint,
    /// Steps whose captures it uses, asked for first.
    pub(crate) needs: Vec<usize>,
}

#[derive(Debug)]
pub(crate) enum Subject {
    File(String),
    Inline(Box<Inline>),
}

/// A mail to be sent.
#[derive(Debug, Clone)]
pub struct OutgoingMail {
    /// `MAIL FROM`.
    pub from: String,
    /// `RCPT TO`, at least one.
    pub to: Vec<String>,
    /// With its angle brackets.
    pub message_id: String,
    /// The whole mail, with CRLF line ends.
    pub bytes: Bytes,
    /// Of what it says, without date and ids: the same content has the same digest.
    pub digest: String,
    /// A sentence if the metadata was left out for its size.
    pub warning: Option<String>,
    /// The mail's parts before encoding, for previews and golden cases.
    pub content: Content,
}

/// What a mail says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// `From`, `To`, `Subject` and the manifest's own, decoded.
    pub headers: Vec<(String, String)>,
    /// The plain body.
    pub text: String,
    /// The HTML body.
    pub html: Option<String>,
    /// Name and text of the attached document.
    pub attachment: Option<(String, String)>,
}

impl OutgoingMail {
    /// True if the last mail of this session to this destination said the same.
    pub fn is_applied(&self, applied: &[(String, String)]) -> bool {
        applied.iter().any(|(step, digest)| step == STEP && *digest == self.digest)
    }
}

/// True for headers that a manifest may set.
pub(super) fn may_set(name: &str) -> bool {
    let lower = name.to_lowercase();
    let own = ["from", "to", "cc", "bcc", "sender", "subject", "date", "message-id", "mime-version", "return-path"];
    HeaderName::new_from_ascii(name.to_owned()).is_ok()
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
        && !own.contains(&lower.as_str())
        && !lower.starts_with("content-")
        && !lower.starts_with("resent-")
        && lower != FIELD.to_lowercase()
}

/// Writes the mail, with the mark by which this instance knows it again. `captures` is what the read steps of a
/// `Run::for_mail` captured; without, their names stand in for them, as in a preview. The digest is taken with the
/// names, so that it tells what we have to say and not what the CRM answered. The error is a verdict on the delivery: a
/// wrong record id, a template or an address that does not work, a mail that is too large or breaks a rule.
pub fn compose(
    destination: &Destination,
    inputs: &Inputs<'_>,
    captures: Option<&Map<String, Value>>,
    key: &InstanceKey,
    now: Timestamp,
) -> Result<OutgoingMail, Verdict> {
    let Some(mail) = &destination.connector.email else {
        return Err(Verdict::new(Class::Pause, Reason::Internal, "this connector has no `[email]`"));
    };
    let Prelude { mut context, marker, mut warning } = prepare(destination, inputs)?;
    with_captures(&mut context, destination, mail, None);
    let is_shown = !mail.needs.is_empty() && captures.is_none();
    let mut named = None;
    if !mail.needs.is_empty() && captures.is_some() {
        named = Some(said(destination, mail, &context)?);
        with_captures(&mut context, destination, mail, captures);
    }
    let from = addresses("from", &mail.from, &context)?;
    let to = addresses("to", &mail.to, &context)?;
    let mut content = said(destination, mail, &context)?;
    let sender = from.first().cloned().ok_or_else(|| bad_address("from"))?;
    if from.len() != 1 {
        return Err(bad_address("from"));
    }
    if !is_shown {
        mail.lint.check(&content, &sender, &to, &context)?;
    }
    let domain = destination.settings.get("message_domain").and_then(Value::as_str).filter(|d| is_domain(d));
    let domain = domain.unwrap_or_else(|| sender.email.domain());
    let message_id = format!("<{marker}.{}@{domain}>", id_part(&inputs.session.key));
    let marks = Marks { message_id: &message_id, marker: &marker, key };
    let mut bytes = build(&content, &sender, &to, &marks, now)?;
    let limit = mail.max_bytes.unwrap_or(u64::MAX);
    if bytes.len() as u64 > limit && content.attachment.is_some() {
        let size = inputs.document.len();
        warning = Some(format!(
            "with the metadata ({size} bytes) the mail is larger than this CRM takes; it was not attached"
        ));
        content.attachment = None;
        bytes = build(&content, &sender, &to, &marks, now)?;
    }
    if bytes.len() as u64 > limit {
        let said = format!("the mail has {} bytes, and this CRM takes {limit}", bytes.len());
        return Err(Verdict::new(Class::Dead, Reason::TooLarge, said));
    }
    Ok(OutgoingMail {
        from: sender.email.to_string(),
        to: to.iter().map(|m| m.email.to_string()).collect(),
        message_id,
        bytes: bytes.into(),
        digest: digest(&Content { attachment: content.attachment.clone(), ..named.unwrap_or_else(|| content.clone()) }),
        warning,
        content,
    })
}

/// What steps captured, or names in place of it that can stand in an address as well.
fn with_captures(context: &mut Context, destination: &Destination, mail: &Mail, captures: Option<&Map<String, Value>>) {
    for step in mail.needs.iter().filter_map(|need| destination.connector.steps.get(*need)) {
        let known = captures.and_then(|all| all.get(&step.id));
        let values = step.captures.iter().map(|c| {
            let value = match captures {
                Some(_) => known.and_then(|k| k.get(&c.name)).cloned().unwrap_or_default(),
                None => format!("_steps.{}.{}_", step.id, c.name).into(),
            };
            (c.name.clone(), value)
        });
        context.with_step(&step.id, values.collect());
    }
}

/// The content with the addresses before it.
fn said(destination: &Destination, mail: &Mail, context: &Context) -> Result<Content, Verdict> {
    let (from, to) = (addresses("from", &mail.from, context)?, addresses("to", &mail.to, context)?);
    let mut content = content(destination, mail, context)?;
    content.headers.insert(0, ("To".into(), shown(&to)));
    content.headers.insert(0, ("From".into(), shown(&from)));
    Ok(content)
}

fn bad_address(key: &str) -> Verdict {
    let said = format!("`{key}` does not come out as a mail address: check the settings of the destination");
    Verdict::new(Class::Dead, Reason::MailRefused, said)
}

/// One address or several with commas between, each a plain ASCII address with a name if there is one.
fn addresses(key: &str, template: &Inline, context: &Context) -> Result<Vec<Mailbox>, Verdict> {
    let text = template.text(context).map_err(template_failed)?;
    if text.chars().any(char::is_control) {
        return Err(bad_address(key));
    }
    let parsed: Mailboxes = text.trim().parse().map_err(|_| bad_address(key))?;
    let all: Vec<Mailbox> = parsed.into();
    let good = |address: &Address| {
        let text: &str = address.as_ref();
        text.is_ascii() && text.len() <= 254 && !address.domain().is_empty()
    };
    if all.is_empty() || all.len() > MOST_RECIPIENTS || !all.iter().all(|m| good(&m.email)) {
        return Err(bad_address(key));
    }
    Ok(all)
}

fn shown(mailboxes: &[Mailbox]) -> String {
    mailboxes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn content(destination: &Destination, mail: &Mail, context: &Context) -> Result<Content, Verdict> {
    let templates = &destination.connector.templates;
    let text = |name: &str| templates.text(name, context).map_err(template_failed).map(|t| printable(&t));
    let subject = match &mail.subject {
        Subject::File(name) => templates.text(name, context).map_err(template_failed)?,
        Subject::Inline(template) => template.text(context).map_err(template_failed)?,
    };
    let mut headers = vec![("Subject".to_owned(), one_line(&subject))];
    for (name, template) in &mail.headers {
        let value = one_line(&template.text(context).map_err(template_failed)?);
        if !value.is_empty() {
            headers.push((name.clone(), value));
        }
    }
    let metadata = context.data().get("metadata").filter(|_| mail.attach_metadata);
    let part = |key: &str| metadata?.get(key)?.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    Ok(Content {
        headers,
        text: text(&mail.text)?,
        html: mail.html.as_deref().map(text).transpose()?,
        attachment: part("name").zip(part("json")),
    })
}

/// A header's value on one line, of bounded length, which no reader takes for an encoded word.
fn one_line(text: &str) -> String {
    let blanks: String =
        text.chars().map(|c| if c.is_control() || "\u{2028}\u{2029}".contains(c) { ' ' } else { c }).collect();
    let line = blanks.split_whitespace().collect::<Vec<_>>().join(" ").replace("=?", "= ?");
    if line.chars().count() <= LONGEST_SUBJECT {
        return line;
    }
    line.chars().take(LONGEST_SUBJECT - 1).chain(['…']).collect()
}

/// A body without control characters but for line ends and tabs.
fn printable(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").chars().filter(|c| !c.is_control() || "\n\t".contains(*c)).collect()
}

fn is_domain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
}

fn id_part(key: &str) -> String {
    key.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).take(80).collect()
}

/// By what a mail is known again.
struct Marks<'a> {
    message_id: &'a str,
    marker: &'a str,
    key: &'a InstanceKey,
}

fn build(
    content: &Content,
    from: &Mailbox,
    to: &[Mailbox],
    marks: &Marks<'_>,
    now: Timestamp,
) -> Result<Vec<u8>, Verdict> {
    let marker = marks.marker;
    let failed =
        |what: String| Verdict::new(Class::Dead, Reason::TemplateFailed, format!("the mail can't be written: {what}"));
    let mut builder = Message::builder()
        .date(now.into())
        .message_id(Some(marks.message_id.to_owned()))
        .from(from.clone())
        .header(header::To::from(Mailboxes::from(to.to_vec())));
    for (name, value) in &content.headers {
        if matches!(name.as_str(), "From" | "To") {
            continue;
        }
        let name = HeaderName::new_from_ascii(name.clone()).map_err(|e| failed(e.to_string()))?;
        builder = builder.raw_header(HeaderValue::new(name, value.clone()));
    }
    let name = HeaderName::new_from_ascii_str(FIELD);
    builder = builder.raw_header(HeaderValue::new(name, marks.key.mark(marker)));
    let plain = SinglePart::plain(content.text.clone());
    let message = match (&content.html, &content.attachment) {
        (None, None) => builder.singlepart(plain),
        (Some(html), None) => builder.multipart(alternative(plain, html, marker)),
        (html, Some((name, json))) => {
            let mixed = MultiPart::mixed().boundary(format!("=_{marker}_mixed"));
            let mixed = match html {
                Some(html) => mixed.multipart(alternative(plain, html, marker)),
                None => mixed.singlepart(plain),
            };
            // Base64, so that the document arrives byte for byte.
            let body = Body::new_with_encoding(json.clone().into_bytes(), header::ContentTransferEncoding::Base64)
                .map_err(|_| failed("the attachment can't be encoded".into()))?;
            let kind = ContentType::parse("application/json").map_err(|e| failed(e.to_string()))?;
            builder.multipart(mixed.singlepart(Attachment::new(name.clone()).body(body, kind)))
        }
    };
    Ok(message.map_err(|e| failed(e.to_string()))?.formatted())
}

fn alternative(plain: SinglePart, html: &str, marker: &str) -> MultiPart {
    MultiPart::alternative()
        .boundary(format!("=_{marker}_alternative"))
        .singlepart(plain)
        .singlepart(SinglePart::html(html.to_owned()))
}

fn digest(content: &Content) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    for (name, value) in &content.headers {
        part(name);
        part(value);
    }
    part(&content.text);
    part(content.html.as_deref().unwrap_or(""));
    let (name, json) = content.attachment.as_ref().map_or(("", ""), |(n, j)| (n, j));
    part(name);
    part(json);
    hex(&hash.finalize())
}

#[cfg(test)]
mod hybrid;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Limits, automatic, parse};

    fn sample() -> Content {
        Content {
            headers: vec![
                ("Subject".into(), one_line("Grüße\r\nBcc: evil@x.example [acme #12]")),
                ("Auto-Submitted".into(), "auto-generated".into()),
            ],
            text: "Hallo\n.\nWelt — ü\n".into(),
            html: Some("<p>Hallo</p>".into()),
            attachment: Some(("metadata-voice-1.json".into(), "{\n \"id\": 1,\n \"note\": \"ü\"\n}".into())),
        }
    }

    fn built(content: &Content) -> Vec<u8> {
        let from: Mailbox = "Brücke <bridge@acme.example>".parse().expect("an address");
        let to: Mailbox = "rt@acme.example".parse().expect("an address");
        let now: Timestamp = "2026-02-17T16:12:00Z".parse().expect("a time");
        let key = InstanceKey::of_previews();
        let marks = Marks { message_id: "<m2c-a.voice-1@acme.example>", marker: "m2c-a", key: &key };
        build(content, &from, &[to], &marks, now).expect("a mail")
    }

    #[test]
    fn a_mail_is_the_same_whenever_it_is_written_and_no_value_adds_a_header() {
        let bytes = built(&sample());
        assert_eq!(bytes, built(&sample()));
        let text = String::from_utf8(bytes.clone()).expect("ASCII");
        assert!(text.is_ascii());
        assert!(!text.replace("\r\n", "").contains(['\n', '\r']), "bare line ends");
        assert!(text.contains("Date: Tue, 17 Feb 2026 16:12:00 +0000\r\n"), "{text}");
        assert!(!text.to_lowercase().contains("\r\nbcc:"), "{text}");
        let parsed = mail_parser::MessageParser::default().parse(&bytes).expect("a mail");
        assert_eq!(parsed.subject(), Some("Grüße Bcc: evil@x.example [acme #12]"));
        assert_eq!(parsed.message_id(), Some("m2c-a.voice-1@acme.example"));
        assert_eq!(parsed.body_text(0).as_deref(), Some("Hallo\r\n.\r\nWelt — ü\r\n"));
        assert_eq!(parsed.body_html(0).as_deref(), Some("<p>Hallo</p>"));
        let attached = parsed.attachment(0).expect("an attachment");
        assert_eq!(attached.contents(), sample().attachment.expect("one").1.as_bytes());
        let mark = parsed.header_raw(FIELD).expect("a mark");
        let read = parse::parse(&bytes, &Limits::default());
        let own = automatic::recognise(&read, Some(&InstanceKey::of_previews())).map(|a| a.reason);
        assert_eq!(own, Some(Reason::OwnMail));
        assert!(InstanceKey::of_previews().made(mark) && !InstanceKey::new([1; 32]).made(mark), "{mark}");
        assert_eq!(parsed.from().and_then(|f| f.first()).and_then(|f| f.name()), Some("Brücke"));
    }

    #[test]
    fn headers_that_the_program_writes_can_not_be_set() {
        for bad in ["x-mail2crm", "To", "bcc", "Content-Type", "X Y", "X:Y", "", "Resent-To", "Ünicode"] {
            assert!(!may_set(bad), "{bad}");
        }
        assert!(may_set("Auto-Submitted") && may_set("X-RT-Thing"));
    }

    #[test]
    fn a_subject_is_one_bounded_line() {
        assert_eq!(one_line("a\r\n b\t\u{0}c"), "a b c");
        assert_eq!(one_line("=?utf-8?q?x?="), "= ?utf-8?q?x?=");
        assert_eq!(one_line(&"ä".repeat(400)).chars().count(), LONGEST_SUBJECT);
    }

    #[test]
    fn the_same_content_has_the_same_digest() {
        let mut other = sample();
        assert_eq!(digest(&other), digest(&sample()));
        other.text.push('x');
        assert_ne!(digest(&other), digest(&sample()));
    }
}
