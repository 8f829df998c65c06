//! A session, or nothing, as the mail that carries it: MIME by hand, so that what is measured is not made by
//! the crate that reads it.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;

use super::document::{Channel, EPOCH, Facts, document};

/// Base64 lines of 76 characters that other attachments are cut from.
const LINES: usize = 4_096;
/// Of 100 mails: with another attachment than the session's.
const THICK: usize = 60;
/// Kilobytes that such a mail has in all, at least and at most.
const WEIGHT: (usize, usize) = (25, 127);

/// How a mail carries its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Shape {
    AttachedBase64,
    AttachedQuotedPrintable,
    Attached8Bit,
    JsonInText,
    JsonInHtml,
    Forwarded,
    Labels,
    Table,
    Ordinary,
}

impl Shape {
    /// One of the shapes that carry documents, or of those that carry labelled values.
    pub(crate) fn pick(random: &mut Rng, labelled: bool) -> Self {
        if labelled {
            return if random.bool() { Self::Labels } else { Self::Table };
        }
        match random.u8(..10) {
            0..4 => Self::AttachedBase64,
            4 => Self::AttachedQuotedPrintable,
            5 => Self::Attached8Bit,
            6 => Self::JsonInText,
            7 => Self::JsonInHtml,
            _ => Self::Forwarded,
        }
    }
}

/// What mails are written on: the stuff that fills them.
pub(crate) struct Paper {
    /// `LINES` base64 lines with CR LF.
    block: Vec<u8>,
}

/// A body or an attachment: its headers, then its content as it goes over the wire.
struct Part {
    head: String,
    content: Vec<u8>,
}

impl Part {
    fn text(kind: &str, text: &str) -> Self {
        Self {
            head: format!(
                "Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"
            ),
            content: quoted_printable(text),
        }
    }
}

impl Paper {
    /// Fresh paper.
    pub(crate) fn new(random: &mut Rng) -> Self {
        let mut block = Vec::with_capacity(LINES * 78);
        let mut bytes = [0; 57];
        for _ in 0..LINES {
            random.fill(&mut bytes);
            block.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            block.extend_from_slice(b"\r\n");
        }
        Self { block }
    }

    /// A mail about a session.
    pub(crate) fn session(&self, random: &mut Rng, shape: Shape, channel: Channel, facts: &Facts) -> Vec<u8> {
        let mut parts = parts(random, shape, channel, facts);
        let subject = format!("[#{}] Session {} {}", facts.out_ticket_id, facts.id, facts.status);
        if random.usize(..100) < THICK {
            self.fill(random, &mut parts);
        }
        message(random, "CCAIP Sessions <sessions@ccaip.example>", &subject, parts)
    }

    /// A mail about nothing of ours.
    pub(crate) fn ordinary(&self, random: &mut Rng) -> Vec<u8> {
        let (from, subject, text) = match random.u8(..3) {
            0 => (
                "Ana Kovač <ana.k@shop.example.test>",
                "Re: my order",
                "Hi,\n\nany news about my order? I was told Friday.\n\nThanks\nAna\n\n> On Mon, Support wrote:\n> Dear Ana, we are looking into it.\n",
            ),
            1 => (
                "Facilities <facilities@acme.example>",
                "Lift out of service",
                "Dear all,\n\nthe lift in building 2 is out of service until Thursday.\n\nFloor: 1 to 4\nContact: front desk\n",
            ),
            _ => (
                "News <news@vendor.example>",
                "What is new this month",
                "Hello,\n\nthree new reports are in your console. The status page has moved.\n",
            ),
        };
        let mut parts = vec![Part::text("plain", text)];
        if random.usize(..100) < THICK {
            self.fill(random, &mut parts);
        }
        message(random, from, subject, parts)
    }

    /// Adds an attachment that brings the mail to a weight.
    fn fill(&self, random: &mut Rng, parts: &mut Vec<Part>) {
        let so_far: usize = parts.iter().map(|part| part.content.len() + 200).sum();
        let weight = random.usize(WEIGHT.0..=WEIGHT.1) * 1_000;
        let lines = (weight.saturating_sub(so_far) / 78).clamp(1, LINES);
        let (name, kind, start) = match random.u8(..3) {
            0 => ("Rechnung.pdf", "application/pdf", "%PDF-1.7\n%âãÏÓ\n1 0 obj\n<< /Type /Catalog >>"),
            1 => ("call.mp3", "audio/mpeg", "ID3\u{4}"),
            _ => ("screenshot.png", "image/png", "\u{1}PNG\r\n"),
        };
        let mut first = [b' '; 57];
        for (to, from) in first.iter_mut().zip(start.bytes()) {
            *to = from;
        }
        let mut content = STANDARD.encode(first).into_bytes();
        content.extend_from_slice(b"\r\n");
        let from = random.usize(..LINES);
        let head = (LINES - from).min(lines);
        content.extend_from_slice(&self.block[from * 78..(from + head) * 78]);
        content.extend_from_slice(&self.block[..(lines - head) * 78]);
        parts.push(attachment(name, kind, "base64", content));
    }
}

fn attachment(name: &str, kind: &str, encoding: &str, content: Vec<u8>) -> Part {
    let head = format!(
        "Content-Type: {kind}; name=\"{name}\"\r\nContent-Transfer-Encoding: {encoding}\r\n\
         Content-Disposition: attachment; filename=\"{name}\"\r\n"
    );
    Part { head, content }
}

/// The parts that carry the session.
fn parts(random: &mut Rng, shape: Shape, channel: Channel, facts: &Facts) -> Vec<Part> {
    let intro = Part::text("plain", "Session metadata is attached.\n\n-- \nThis mailbox is not read.\n");
    match shape {
        Shape::AttachedBase64 => {
            let (name, kind) = match (random.u8(..3), channel) {
                (0, _) => (format!("metadata-{}.json", facts.id), "application/json"),
                (1, Channel::Voice) => (format!("call-{}.json", facts.id), "application/octet-stream"),
                (1, Channel::Chat) => (format!("chat-{}.json", facts.id), "application/octet-stream"),
                _ => (format!("metadata-{}.txt", facts.id), "text/plain"),
            };
            let json = if random.bool() { compact(channel, facts) } else { pretty(channel, facts) };
            vec![intro, attachment(&name, kind, "base64", base64(json.as_bytes()))]
        }
        Shape::AttachedQuotedPrintable => {
            let content = quoted_printable(&pretty(channel, facts));
            let kind = "application/json; charset=utf-8";
            vec![intro, attachment(&format!("metadata-{}.json", facts.id), kind, "quoted-printable", content)]
        }
        Shape::Attached8Bit => {
            let content = pretty(channel, facts).replace('\n', "\r\n").into_bytes();
            vec![intro, attachment(&format!("metadata-{}.json", facts.id), "application/json", "8bit", content)]
        }
        Shape::JsonInText => {
            let text = format!("Session update\n\n{}\n\n-- \nThis mailbox is not read.\n", pretty(channel, facts));
            vec![Part::text("plain", &text)]
        }
        Shape::JsonInHtml => {
            let html = format!(
                "<html><body><p>Session update</p>\n<pre>{}</pre>\n<p>This mailbox is not read.</p></body></html>\n",
                escaped(&pretty(channel, facts))
            );
            vec![Part::text("html", &html)]
        }
        Shape::Forwarded => {
            let json = compact(channel, facts);
            let file = attachment(
                &format!("metadata-{}.json", facts.id),
                "application/json",
                "base64",
                base64(json.as_bytes()),
            );
            let subject = format!("Session {}", facts.id);
            let content = message(random, "CCAIP Sessions <sessions@ccaip.example>", &subject, vec![intro, file]);
            let head = "Content-Type: message/rfc822\r\nContent-Disposition: attachment; filename=\"session.eml\"\r\n";
            vec![Part::text("plain", "See below.\n"), Part { head: head.to_owned(), content }]
        }
        Shape::Labels => {
            let mut text = String::from("A session has ended. These are its details:\n\n");
            for (label, value) in labels(facts) {
                let _never = writeln!(text, "{label}: {value}");
            }
            vec![Part::text("plain", &text)]
        }
        Shape::Table => {
            let mut html = String::from("<html><body><h3>Session details</h3>\n<table border=\"1\">\n");
            for (label, value) in labels(facts) {
                let _never = writeln!(html, "<tr><td><b>{}</b></td><td>{}</td></tr>", escaped(label), escaped(&value));
            }
            html.push_str("</table></body></html>\n");
            vec![Part::text("html", &html)]
        }
        Shape::Ordinary => vec![intro],
    }
}

/// The values under the labels of the vendor's page.
fn labels(facts: &Facts) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("Session ID", facts.id.to_string()),
        ("Session type", facts.session_type.to_owned()),
        ("Session status", facts.status.to_owned()),
        ("Created", facts.created_at.clone()),
        ("Ended", facts.ends_at.clone()),
        ("Updated", facts.updated_at.clone()),
        ("Wait duration", format!("{} seconds", facts.wait_duration)),
        ("Handle time", format!("{} seconds", facts.handle_duration)),
        ("OutTicket ID", facts.out_ticket_id.clone()),
        ("OutTicket URL", facts.out_ticket_url.clone()),
        ("Menu path", facts.menu_path.to_owned()),
        ("Menu path ID", facts.menu_path_id.to_owned()),
        ("Agent info", facts.agent_name.clone()),
        ("SmartActions | Verification status", facts.verified.to_string()),
    ];
    if let Some(rating) = facts.rating {
        rows.push(("CSAT Rating", rating.to_string()));
    }
    if let Some(feedback) = facts.feedback {
        rows.push(("Comment", feedback.to_owned()));
    }
    if let (Some(code), Some(note)) = (facts.disposition_code, &facts.disposition_note) {
        rows.push(("Disposition Codes and Notes", format!("{code}; {note}")));
    }
    rows
}

fn compact(channel: Channel, facts: &Facts) -> String {
    document(channel, facts).to_string()
}

fn pretty(channel: Channel, facts: &Facts) -> String {
    format!("{:#}", document(channel, facts))
}

/// Puts parts into a message with the headers that mail collects on its way.
fn message(random: &mut Rng, from: &str, subject: &str, parts: Vec<Part>) -> Vec<u8> {
    let size: usize = parts.iter().map(|part| part.content.len() + 300).sum();
    let mut raw = Vec::with_capacity(size + 1_500);
    let number = random.u64(..);
    let mut head = String::new();
    for hop in ["mx2.acme.example", "mx1.acme.example", "out.ccaip.example"] {
        let _never = write!(
            head,
            "Received: from relay.example (relay.example [192.0.2.{}])\r\n\tby {hop} (Postfix) with ESMTPS id {:010X}\r\n\
             \tfor <sessions@acme.example>; Tue, 17 Feb 2026 10:12:0{} -0600 (CST)\r\n",
            random.u8(..),
            random.u64(..1 << 40),
            random.u8(..10),
        );
    }
    let signature: String = (0..4)
        .map(|_| format!("\r\n\t{:016x}{:016x}{:016x}", random.u64(..), random.u64(..), random.u64(..)))
        .collect();
    let _never = write!(
        head,
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=ccaip.example; s=s1;\r\n\th=from:to:subject:date:\
         message-id;\r\n\tb={signature}\r\nMessage-ID: <{number:016x}@ccaip.example>\r\nDate: Tue, 17 Feb 2026 10:12:00 -0600\r\nFrom: {from}\r\n\
         To: sessions@acme.example\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n",
        signature = signature.trim_start(),
        from = encoded_word(from),
        subject = encoded_word(subject),
    );
    raw.extend_from_slice(head.as_bytes());
    if let [part] = parts.as_slice() {
        raw.extend_from_slice(part.head.as_bytes());
        raw.extend_from_slice(b"\r\n");
        raw.extend_from_slice(&part.content);
        return raw;
    }
    let boundary = format!("=_{number:016x}_{EPOCH}");
    raw.extend_from_slice(format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n").as_bytes());
    for part in parts {
        raw.extend_from_slice(format!("--{boundary}\r\n{}\r\n", part.head).as_bytes());
        raw.extend_from_slice(&part.content);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    raw
}

/// The same mail under another Message-ID, as when a sender repeats itself.
pub(crate) fn readdressed(raw: &[u8], random: &mut Rng) -> Vec<u8> {
    const NAME: &[u8] = b"\r\nMessage-ID: <";
    let mut copy = raw.to_vec();
    if let Some(at) = copy.windows(NAME.len()).position(|window| window == NAME) {
        let fresh = format!("{:016x}", random.u64(..));
        copy[at + NAME.len()..][..fresh.len()].copy_from_slice(fresh.as_bytes());
    }
    copy
}

/// A header value with RFC 2047 where it is not ASCII (the display name before an address).
fn encoded_word(text: &str) -> String {
    let (name, rest) = text.split_once(" <").unwrap_or((text, ""));
    let rest = if rest.is_empty() { String::new() } else { format!(" <{rest}") };
    let name = if name.is_ascii() { name.to_owned() } else { format!("=?utf-8?B?{}?=", STANDARD.encode(name)) };
    name + &rest
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(bytes);
    let mut lines = Vec::with_capacity(text.len() + text.len() / 38 + 2);
    for line in text.as_bytes().chunks(76) {
        lines.extend_from_slice(line);
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// RFC 2045 section 6.7, lines of at most 76 characters.
fn quoted_printable(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut wire = Vec::with_capacity(text.len() + text.len() / 8);
    for line in text.trim_end_matches('\n').split('\n') {
        let mut width = 0;
        let last = line.len().saturating_sub(1);
        for (i, byte) in line.bytes().enumerate() {
            let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || (byte == b' ' && i < last);
            let needs = if plain { 1 } else { 3 };
            if width + needs > 75 {
                wire.extend_from_slice(b"=\r\n");
                width = 0;
            }
            if plain {
                wire.push(byte);
            } else {
                wire.extend_from_slice(&[b'=', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            width += needs;
        }
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
