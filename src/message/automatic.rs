//! Mail that no person wrote (RFC 3834, 3464, 6522, 8098 and what exists beside them) → a reason, and whether
//! it holds even if the mail carries a session. Only what the mail says of *itself* counts: the header
//! fields of a forwarded mail, and what a person forwards inline, say nothing about the forward.
//!
//! The contact centre's own mails are automatic too, and those are the very mails to be processed. So:
//!
//! | reason       | signs, all at the top of the mail                                                  | with a session in it |
//! |--------------|------------------------------------------------------------------------------------|----------------------|
//! | `bounce`     | `multipart/report`, whatever it reports (delivery, receipt, abuse)                 | never one            |
//! |              | `X-Failed-Recipients`; from MAILER-DAEMON; a content class of delivery reports     | never one            |
//! |              | two of: sent by nobody or postmaster; a part of a report; a subject or first words | never one            |
//! | `loop`       | our own mark twice; more than 25 `Received`; one `Delivered-To` three times        | never one            |
//! | `own_mail`   | a mark that this instance signed (`mark`)                                          | never one            |
//! | `auto_reply` | `Auto-Submitted: auto-replied`, and the fields that vacation programs use for it   | never one            |
//! |              | a subject of absence with any other sign of automatic mail                         | never one            |
//! | `bulk`       | a list's digest                                                                    | never one            |
//! |              | a list's fields, `Precedence: bulk`, calendar mail                                 | it is a session      |
//! | `auto_reply` | any other `Auto-Submitted` but `no`, or sent by nobody (a null return path)        | it is a session      |
//!
//! A wish about automatic answers is no sign of one: `X-Auto-Response-Suppress`, `Disposition-Notification-To`.

mod words;

use super::mark::{self, InstanceKey};
use super::{Field, Kind, Message, Part, lossy};
use crate::outcome::Reason;

/// `Received` fields of a mail that may still be on a straight way.
const MOST_HOPS: usize = 25;
/// Deliveries to one mailbox that may still be on a straight way.
const MOST_RETURNS: usize = 2;
/// Bytes of a body in which its first words are looked for.
const BEGINNING: usize = 2 << 10;
/// Fields looked at; a mail of people has under a hundred.
const MOST_FIELDS: usize = 2_000;

/// What an automatic mail is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Automatic {
    /// `bounce`, `loop`, `own_mail`, `auto_reply` or `bulk`.
    pub reason: Reason,
    /// A sentence that names the sign.
    pub sign: String,
    /// True if a session in it is not its own: quoted, returned, or sent before. False if the reason holds
    /// only for a mail without a session.
    pub decides: bool,
}

/// What a mail is if no person wrote it. `own` is this instance's key, if it has one.
pub fn recognise(message: &Message<'_>, own: Option<&InstanceKey>) -> Option<Automatic> {
    let signs = Signs::of(message, own);
    signs
        .bounce(message)
        .or_else(|| signs.circle())
        .or_else(|| signs.own())
        .or_else(|| signs.reply())
        .or_else(|| signs.bulk(message))
        .or_else(|| signs.machine())
}

fn decided(reason: Reason, sign: impl Into<String>) -> Option<Automatic> {
    Some(Automatic { reason, sign: sign.into(), decides: true })
}

fn without_session(reason: Reason, sign: impl Into<String>) -> Option<Automatic> {
    Some(Automatic { reason, sign: sign.into(), decides: false })
}

/// What the fields of a mail say, read once.
#[derive(Default)]
struct Signs {
    /// A `Return-Path` of nobody: how notices are sent (RFC 5321 section 4.5.5).
    null_path: bool,
    daemon: bool,
    postmaster: bool,
    /// The type is `multipart/report`.
    report: bool,
    /// The type is `multipart/digest`.
    digest: bool,
    failed_recipients: bool,
    report_class: bool,
    absence_class: bool,
    calendar_class: bool,
    /// `Auto-Submitted`, lower case, without `no`.
    submitted: Option<String>,
    /// A field that only automatic replies have.
    reply_field: Option<String>,
    /// It asks other programs not to answer.
    suppressed: bool,
    answers: bool,
    list: Option<String>,
    precedence: Option<String>,
    /// The subject, lower case, blanks in their simple form.
    subject: String,
    /// The first words of the body, likewise.
    beginning: String,
    hops: usize,
    returns: usize,
    own_marks: usize,
}

impl Signs {
    fn of(message: &Message<'_>, own: Option<&InstanceKey>) -> Self {
        let mut signs = Self::default();
        let mut delivered: Vec<String> = Vec::new();
        for field in message.fields.iter().take(MOST_FIELDS) {
            signs.take(field, own, &mut delivered);
        }
        delivered.sort_unstable();
        signs.returns = delivered.chunk_by(|a, b| a == b).map(<[String]>::len).max().unwrap_or_default();
        for address in &message.from {
            let local = address.split('@').next().unwrap_or_default().to_ascii_lowercase();
            signs.daemon |= words::is_daemon(&local);
            signs.postmaster |= local == "postmaster";
        }
        signs.subject = simple(message.subject.as_deref().unwrap_or_default());
        let body = message.parts.iter().find(|p| p.depth == 0 && p.kind != Kind::Attachment);
        signs.beginning = body.map(beginning).unwrap_or_default();
        signs
    }

    fn take(&mut self, field: &Field<'_>, own: Option<&InstanceKey>, delivered: &mut Vec<String>) {
        let name = field.name.to_ascii_lowercase();
        let value = || {
            let value = Field {
                name: field.name.as_ref().into(),
                value: field.value.get(..1_000).unwrap_or(&field.value).into(),
            };
            value.unfolded().trim().to_ascii_lowercase()
        };
        match name.as_str() {
            "received" => self.hops += 1,
            "return-path" => {
                self.null_path |= matches!(value().as_str(), "<>" | "" | "<mailer-daemon>" | "mailer-daemon")
            }
            // Some servers write no address at all.
            "from" => self.daemon |= words::is_daemon(&token(&value())),
            "delivered-to" => delivered.push(value()),
            "content-type" => {
                let kind = token(&value());
                self.report |= kind == "multipart/report";
                self.digest |= kind == "multipart/digest";
                self.calendar_class |= kind == "text/calendar";
            }
            "x-failed-recipients" | "x-ms-exchange-message-is-ndr" => self.failed_recipients = true,
            "content-class" => {
                let class = value();
                let last = class.rsplit(':').next().unwrap_or_default();
                self.report_class |= matches!(last, "dsn" | "mdn" | "recallmessage");
                self.absence_class |= last.contains("oof");
                self.calendar_class |= last == "calendarmessage";
            }
            "auto-submitted" => {
                let word = token(&value());
                if !matches!(word.as_str(), "no" | "") {
                    // A reply is the stronger word, should there be two.
                    let is_reply = word == "auto-replied";
                    self.submitted = self.submitted.take().filter(|_| !is_reply).or(Some(word));
                }
            }
            "x-auto-response-suppress" => self.suppressed |= !matches!(value().as_str(), "none" | ""),
            "in-reply-to" | "references" => self.answers = true,
            "precedence" | "x-precedence" => {
                let word = token(&value());
                if word.starts_with("auto") {
                    self.reply_field = Some(format!("`{}: {word}`", field.name));
                } else if matches!(word.as_str(), "bulk" | "list" | "junk") {
                    self.precedence = Some(word);
                }
            }
            _ if name.eq_ignore_ascii_case(mark::FIELD) => {
                let is_own = || own.is_some_and(|key| key.made(&field.unfolded()));
                if self.own_marks < 2 && is_own() {
                    self.own_marks += 1;
                }
            }
            _ if words::LIST_FIELDS.contains(&name.as_str()) => self.list = Some(field.name.to_string()),
            _ if words::says_reply(&name, value) => self.reply_field = Some(format!("`{}`", field.name)),
            _ => {}
        }
    }

    /// A report that comes back: of a delivery, a receipt, an abuse.
    fn bounce(&self, message: &Message<'_>) -> Option<Automatic> {
        let bounce = |sign: &str| decided(Reason::Bounce, sign);
        if self.report {
            return bounce("it is a report about another mail (`multipart/report`)");
        }
        if self.failed_recipients {
            return bounce("it names recipients that could not be reached");
        }
        if self.daemon {
            return bounce("a mail server's daemon wrote it");
        }
        if self.report_class {
            return bounce("its content class is that of a report");
        }
        let nobody = self.null_path || self.postmaster;
        let part = message.parts.iter().any(|p| p.depth == 0 && words::REPORT_TYPES.contains(&p.content_type.as_str()));
        let subject = words::begins(&self.subject, words::BOUNCE_SUBJECTS);
        let text = words::begins(&self.beginning, words::BOUNCE_BEGINNINGS);
        match (nobody, part, subject, text) {
            (true, true, _, _) => bounce("nobody sent it, and it has a part that reports about another mail"),
            (true, _, true, _) => bounce("nobody sent it, and its subject is that of a returned mail"),
            (true, _, _, true) => bounce("nobody sent it, and it begins as returned mails do"),
            (_, true, true, _) | (_, _, true, true) => {
                bounce("its subject and its content are those of a returned mail")
            }
            _ => None,
        }
    }

    fn circle(&self) -> Option<Automatic> {
        if self.own_marks > 1 {
            return decided(Reason::Loop, "it has passed mail2crm more than once");
        }
        if self.hops > MOST_HOPS {
            return decided(Reason::Loop, format!("it has passed {} mail servers, more than {MOST_HOPS}", self.hops));
        }
        if self.returns > MOST_RETURNS {
            return decided(Reason::Loop, format!("it was delivered to the same mailbox {} times", self.returns));
        }
        None
    }

    fn own(&self) -> Option<Automatic> {
        (self.own_marks > 0).then_some(())?;
        decided(Reason::OwnMail, "this instance of mail2crm wrote it")
    }

    fn reply(&self) -> Option<Automatic> {
        if self.submitted.as_deref() == Some("auto-replied") {
            return decided(Reason::AutoReply, "it says `Auto-Submitted: auto-replied`");
        }
        if let Some(field) = &self.reply_field {
            return decided(Reason::AutoReply, format!("it has the field {field} of automatic replies"));
        }
        if self.absence_class {
            return decided(Reason::AutoReply, "its content class is that of an absence notice");
        }
        let other =
            self.submitted.is_some() || self.null_path || self.suppressed || self.answers || self.precedence.is_some();
        if other && words::begins(&self.subject, words::ABSENCE_SUBJECTS) {
            return decided(Reason::AutoReply, "its subject is that of an absence notice, and it is automatic");
        }
        None
    }

    fn bulk(&self, message: &Message<'_>) -> Option<Automatic> {
        if self.list.is_some() && (self.digest || words::is_digest(&self.subject)) {
            return decided(Reason::Bulk, "it is the digest of a list");
        }
        if let Some(field) = &self.list {
            return without_session(Reason::Bulk, format!("it has the field `{field}` of lists, and no session"));
        }
        if let Some(word) = &self.precedence {
            return without_session(Reason::Bulk, format!("it says `Precedence: {word}`, and has no session"));
        }
        let is_calendar = |part: &Part<'_>| part.depth == 0 && part.content_type == "text/calendar";
        if self.calendar_class || message.parts.iter().any(is_calendar) {
            return without_session(Reason::Bulk, "it is about an appointment, and has no session");
        }
        None
    }

    fn machine(&self) -> Option<Automatic> {
        if let Some(word) = &self.submitted {
            let word: String = word.chars().filter(|c| !c.is_control()).take(40).collect();
            return without_session(Reason::AutoReply, format!("it says `Auto-Submitted: {word}`, and has no session"));
        }
        if self.null_path {
            return without_session(Reason::AutoReply, "nobody sent it (a null return path), and it has no session");
        }
        None
    }
}

/// The first token of a field's body: comments before it, parameters and comments behind it left out.
fn token(value: &str) -> String {
    let mut rest = value.trim_start();
    while let Some(comment) = rest.strip_prefix('(') {
        rest = comment.split_once(')').map_or("", |(_, after)| after).trim_start();
    }
    rest.split(|c: char| c == ';' || c == '(' || c.is_whitespace()).next().unwrap_or_default().to_owned()
}

/// The first words of a body; of HTML, those that are shown.
fn beginning(part: &Part<'_>) -> String {
    let text = part.content.get(..BEGINNING).unwrap_or(&part.content);
    let text = lossy(text);
    if part.kind == Kind::Text {
        return simple(&text);
    }
    let mut shown = String::with_capacity(text.len());
    let body = text.find("<body").and_then(|at| text.get(at..)).unwrap_or(&text);
    for piece in body.split('<').skip(1) {
        shown.push(' ');
        shown.push_str(piece.split_once('>').map_or("", |(_, text)| text));
    }
    simple(&shown)
}

/// Lower case, with single blanks, without what mails put round their first words.
fn simple(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c == '\u{feff}').filter(|w| !w.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        if word.is_ascii() {
            out.extend(word.bytes().map(|b| char::from(b.to_ascii_lowercase())));
            continue;
        }
        out.extend(word.chars().map(|c| if matches!(c, '’' | '‘') { '\'' } else { c }).flat_map(char::to_lowercase));
    }
    let start = out.find(|c: char| !matches!(c, '*' | '-' | '_' | '=' | ' ' | '[' | '(')).unwrap_or(out.len());
    out.split_off(start)
}

#[cfg(test)]
mod tests;
