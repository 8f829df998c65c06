//! The mail intake's meaning: a raw message into a note with its attachments on the ticket that it names.
//!
//! The ticket is named by `[sandbox #ID]` in the subject or by a recipient `tickets+ID@…`, as helpdesks do.
//! A note by mail has a marker too: the local part of a Message-ID that begins with `m2c-`, else `[m2c-…]` in
//! the text, else any Message-ID's local part. Nothing is recorded unless every named ticket takes it.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use mail_parser::{Address, Message, MessageParser, MessagePart, MimeHeaders, PartType};

use super::store::{Applied, CLOSED, Refusal, Store, Via};
use super::update::{NewAttachment, NewNote, Update};

/// What our own markers begin with.
const MARK: &str = "m2c-";
/// What names the ticket in a subject, in lower case.
const TOKEN: &str = "[sandbox #";
/// The mailbox of the tickets.
const MAILBOX: &str = "tickets";

/// Why a mail was not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// It is no message at all.
    Malformed,
    /// It names no ticket.
    NoRecord,
    /// It names a ticket that does not exist.
    UnknownRecord(String),
    /// The ticket takes no mail.
    Closed(String),
}

impl Rejection {
    /// As REST says it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NoRecord => "no_record",
            Self::UnknownRecord(_) => "not_found",
            Self::Closed(_) => "closed",
        }
    }

    /// The enhanced status code of RFC 3463; the reply code is 550 (554 for what is no message).
    pub(crate) fn codes(&self) -> (u16, &'static str) {
        match self {
            Self::Malformed => (554, "5.6.0"),
            Self::NoRecord | Self::UnknownRecord(_) => (550, "5.1.1"),
            Self::Closed(_) => (550, "5.2.1"),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("this is not a message"),
            Self::NoRecord => f.write_str("no record named: say [sandbox #ID] in the subject or write to tickets+ID@"),
            Self::UnknownRecord(id) => write!(f, "there is no record {id}"),
            Self::Closed(id) => write!(f, "the record {id} is closed"),
        }
    }
}

/// The record that an address names: `tickets+ID@…`.
pub(crate) fn record_of(address: &str) -> Option<&str> {
    let (local, _domain) = address.rsplit_once('@')?;
    let (mailbox, id) = local.split_once('+')?;
    (mailbox.eq_ignore_ascii_case(MAILBOX) && !id.is_empty()).then_some(id)
}

/// Finds the id of the ticket that takes what is meant for `id`.
///
/// # Errors
///
/// The rejection if there is none or it is closed.
pub(crate) fn addressee(store: &Store, id: &str) -> Result<String, Rejection> {
    // Mail systems may change the case of an address's local part.
    let ticket = store.surviving(id).or_else(|| store.surviving(&id.to_ascii_uppercase()));
    let ticket = ticket.ok_or_else(|| Rejection::UnknownRecord(printable(id)))?;
    if ticket.status == CLOSED { Err(Rejection::Closed(ticket.id.clone())) } else { Ok(ticket.id.clone()) }
}

/// Records a message. `envelope` is the list of recipients it came with; without one, `To` and `Cc` count.
///
/// # Errors
///
/// The rejection; nothing is recorded then.
pub fn deliver(
    store: &Store,
    raw: &[u8],
    envelope: Option<&[String]>,
    now: Timestamp,
) -> Result<Vec<Applied>, Rejection> {
    let message = MessageParser::default().parse(raw).ok_or(Rejection::Malformed)?;
    let mut named: Vec<String> = message.subject().and_then(in_subject).map(str::to_owned).into_iter().collect();
    match envelope {
        Some(recipients) => named.extend(recipients.iter().filter_map(|a| record_of(a)).map(str::to_owned)),
        None => {
            let headers = [message.to(), message.cc()];
            let addresses = headers.into_iter().flatten().flat_map(Address::iter).filter_map(|a| a.address());
            named.extend(addresses.filter_map(record_of).map(str::to_owned));
        }
    }
    let mut ids = Vec::new();
    for name in &named {
        let id = addressee(store, name)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.is_empty() {
        return Err(Rejection::NoRecord);
    }
    let update = update(&message);
    ids.into_iter()
        .map(|id| {
            store.update(&id, update.clone(), Via::Mail, now).map_err(|refusal| match refusal {
                Refusal::Closed => Rejection::Closed(id.clone()),
                _ => Rejection::UnknownRecord(id.clone()),
            })
        })
        .collect()
}

fn in_subject(subject: &str) -> Option<&str> {
    let at = subject.to_ascii_lowercase().find(TOKEN)?;
    let (id, _rest) = subject.get(at + TOKEN.len()..)?.split_once(']')?;
    Some(id.trim())
}

fn update(message: &Message<'_>) -> Update {
    let text = message.body_text(0).unwrap_or_default().trim_end().replace("\r\n", "\n");
    let marker = marker(message.message_id(), &text);
    let attachments = message.attachments().enumerate().map(|(i, part)| {
        let (content, kind) = match &part.body {
            PartType::Message(inner) => (inner.raw_message(), "message/rfc822".to_owned()),
            _ => (part.contents(), content_type(part)),
        };
        let name = part.attachment_name().filter(|name| !name.is_empty()).map(str::to_owned);
        let name = name.unwrap_or_else(|| format!("part-{}", i + 1));
        NewAttachment::new(name, kind, Bytes::copy_from_slice(content))
    });
    let attachments = attachments.collect();
    Update { note: Some(NewNote { text, marker }), attachments, ..Update::default() }
}

fn content_type(part: &MessagePart<'_>) -> String {
    let name = |ct: &mail_parser::ContentType<'_>| match ct.subtype() {
        Some(subtype) => format!("{}/{subtype}", ct.ctype()),
        None => ct.ctype().to_owned(),
    };
    part.content_type().map_or_else(|| "application/octet-stream".to_owned(), name)
}

fn marker(message_id: Option<&str>, text: &str) -> Option<String> {
    let local = message_id.and_then(|id| id.split('@').next()).filter(|local| !local.is_empty());
    let own = local.filter(|local| local.starts_with(MARK));
    own.or_else(|| in_text(text)).or(local).map(str::to_owned)
}

/// `[m2c-…]` without its brackets.
fn in_text(text: &str) -> Option<&str> {
    text.match_indices("[m2c-").find_map(|(at, _)| {
        let (inside, _rest) = text.get(at + 1..)?.split_once(']')?;
        inside.bytes().all(|b| b.is_ascii_graphic()).then_some(inside)
    })
}

/// Replies are lines of ASCII, whatever a stranger calls a record.
fn printable(id: &str) -> String {
    id.chars().filter(char::is_ascii_graphic).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::super::records::Records;
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn store() -> Store {
        Store::new(Records::range("C-", 1, 3))
    }

    #[test]
    fn a_mail_becomes_a_note_with_its_attachments() {
        let store = store();
        let raw = b"Message-ID: <m2c-77.1@bridge.example>\r\nSubject: Re: [Sandbox #C-1] session\r\n\
            Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n\r\n\
            --b\r\nContent-Type: application/json; name=\"s.json\"\r\nContent-Transfer-Encoding: base64\r\n\r\ne30=\r\n--b--\r\n";
        let applied = deliver(&store, raw, None, NOW).expect("recorded");
        assert_eq!(applied[0].changed, ["attachment", "note"]);
        let ticket = store.ticket("C-1").expect("a ticket");
        let note = &ticket.notes[0];
        assert_eq!((note.text.as_str(), note.marker.as_deref(), note.via), ("hello", Some("m2c-77.1"), Via::Mail));
        let file = &ticket.attachments[0];
        assert_eq!((file.name.as_str(), file.content_type.as_str(), file.size), ("s.json", "application/json", 2));
    }

    #[test]
    fn the_recipient_names_the_record_in_any_case_and_the_envelope_counts_before_the_header() {
        let store = store();
        let raw = b"To: Tickets <tickets+c-2@crm.example>\r\nMessage-ID: <x@y>\r\n\r\nmarked [m2c-9] so\r\n";
        assert_eq!(deliver(&store, raw, None, NOW).expect("recorded")[0].id, "C-2");
        assert_eq!(store.ticket("C-2").expect("a ticket").notes[0].marker.as_deref(), Some("m2c-9"));
        let envelope = ["tickets+C-3@crm.example".to_owned()];
        assert_eq!(deliver(&store, raw, Some(&envelope), NOW).expect("recorded")[0].id, "C-3");
        assert_eq!(deliver(&store, raw, Some(&[]), NOW), Err(Rejection::NoRecord));
    }

    #[test]
    fn a_mail_to_a_merged_record_goes_to_the_one_that_took_its_place() {
        let store = store();
        store.merge("C-1", "C-2", NOW).expect("merged");
        let applied = deliver(&store, b"Subject: [sandbox #C-1]\r\n\r\nx\r\n", None, NOW).expect("recorded");
        assert_eq!(applied[0].id, "C-2");
    }

    #[test]
    fn nothing_is_recorded_unless_every_record_takes_it() {
        let store = store();
        let raw = b"Subject: [sandbox #C-1]\r\nTo: tickets+C-99@crm.example\r\n\r\nx\r\n";
        assert_eq!(deliver(&store, raw, None, NOW), Err(Rejection::UnknownRecord("C-99".into())));
        assert_eq!(store.counts().notes, 0);
    }
}
