//! mbox files → messages: mboxo, mboxrd and mboxcl2 (RFC 4155 and the qmail manual), one message in memory
//! at a time.
//!
//! A message begins at a `From ` line with a date in asctime's form, at the start or after an empty line;
//! nothing else that begins so is taken for one.

use std::io::{self, BufRead, Read as _, Seek, SeekFrom};

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use memchr::memchr;

use crate::source::Content;

/// The longest run of bytes looked at as one line.
const LINE_BYTES: u64 = 64 << 10;

/// Reads messages one by one.
pub(in crate::source) struct Reader<R> {
    input: R,
    max_bytes: usize,
    /// Where the next unread byte is.
    at: u64,
    /// The last `From ` line read: it begins the next message.
    opened: Option<FromLine>,
    is_begun: bool,
}

/// One message of a file.
pub(in crate::source) struct Entry {
    /// The message, unquoted; only its size if it is over the limit.
    pub(in crate::source) content: Content,
    /// The address of the `From ` line, if it is one.
    pub(in crate::source) sender: Option<String>,
    /// Its date.
    pub(in crate::source) received_at: Option<Timestamp>,
    /// Where the next message begins, or the end of the file.
    pub(in crate::source) end: u64,
    /// Whether another message follows.
    pub(in crate::source) is_followed: bool,
}

/// What a `From ` line says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FromLine {
    sender: Option<String>,
    date: Option<Timestamp>,
}

impl<R: BufRead + Seek> Reader<R> {
    /// Reads from where `input` stands, which is offset `at`. Messages longer than `max_bytes` are passed
    /// over, with their size.
    pub(in crate::source) fn new(input: R, at: u64, max_bytes: usize) -> Self {
        Self { input, max_bytes, at, opened: None, is_begun: false }
    }

    /// The next message; `None` at the end. What stands before the first `From ` line is no message.
    pub(in crate::source) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut line = Vec::new();
        if !self.is_begun {
            self.is_begun = true;
            let mut after_empty = true;
            while self.opened.is_none() && self.read_line(&mut line)? {
                self.opened = if after_empty { from_line(&line) } else { None };
                after_empty = is_empty_line(&line);
            }
        }
        let Some(opened) = self.opened.take() else { return Ok(None) };
        let mut message = Message::new(self.max_bytes);
        let mut in_head = true;
        let mut after_empty = false;
        let mut counted: Option<u64> = None;
        let mut counted_end: Option<u64> = None;
        let mut is_line_start = true;
        while self.read_line(&mut line)? {
            let begins_line = std::mem::replace(&mut is_line_start, line.ends_with(b"\n"));
            let start = self.at - line.len() as u64;
            if begins_line
                && after_empty
                && let Some(next) = from_line(&line)
            {
                // Inside a counted body such a line is text, unless a message plainly begins there: a wrong
                // count must not swallow other people's messages.
                let is_text = counted_end.is_some_and(|end| start < end) && !self.is_head_next()?;
                if !is_text {
                    self.opened = Some(next);
                    message.drop_last_line_end();
                    break;
                }
            }
            if in_head && begins_line {
                counted = counted.or_else(|| content_length(&line));
                if is_empty_line(&line) {
                    in_head = false;
                    counted_end = match counted.and_then(|length| self.at.checked_add(length)) {
                        Some(end) if self.is_boundary(end)? => Some(end),
                        _ => None,
                    };
                }
            }
            let is_quoted = begins_line && counted_end.is_none() && is_quoted_from(&line);
            message.push(if is_quoted { line.get(1..).unwrap_or_default() } else { &line });
            after_empty = begins_line && is_empty_line(&line);
        }
        let is_followed = self.opened.is_some();
        if !is_followed && after_empty {
            message.drop_last_line_end();
        }
        let end = if is_followed { self.at - line.len() as u64 } else { self.at };
        let FromLine { sender, date } = opened;
        Ok(Some(Entry { content: message.content(), sender, received_at: date, end, is_followed }))
    }

    /// Reads a line, or its next `LINE_BYTES`.
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let count = self.input.by_ref().take(LINE_BYTES).read_until(b'\n', line)?;
        self.at += count as u64;
        Ok(count > 0)
    }

    /// The bytes at an offset, without moving on.
    fn peek(&mut self, at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(512);
        self.input.seek(SeekFrom::Start(at))?;
        self.input.by_ref().take(512).read_to_end(&mut bytes)?;
        self.input.seek(SeekFrom::Start(self.at))?;
        Ok(bytes)
    }

    fn is_head_next(&mut self) -> io::Result<bool> {
        let bytes = self.peek(self.at)?;
        let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
        let name = memchr(b':', line).and_then(|colon| line.get(..colon)).unwrap_or_default();
        Ok(!name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-'))
    }

    /// Whether a body that is counted to end here is followed by a message or by nothing.
    fn is_boundary(&mut self, at: u64) -> io::Result<bool> {
        let length = self.input.seek(SeekFrom::End(0))?;
        let bytes = if at <= length { self.peek(at)? } else { self.peek(self.at)? };
        let rest = bytes.trim_ascii_start();
        let line = rest.split_inclusive(|&b| b == b'\n').next().unwrap_or_default();
        Ok(at <= length && (rest.is_empty() && at + bytes.len() as u64 == length || from_line(line).is_some()))
    }
}

/// A message while it is read.
struct Message {
    bytes: Vec<u8>,
    size: u64,
    max_bytes: usize,
}

impl Message {
    fn new(max_bytes: usize) -> Self {
        Self { bytes: Vec::new(), size: 0, max_bytes }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if self.size <= self.max_bytes as u64 {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.bytes = Vec::new();
        }
    }

    /// The empty line before the next `From ` line is not of the message.
    fn drop_last_line_end(&mut self) {
        for end in [b'\n', b'\r'] {
            if self.bytes.last() == Some(&end) {
                self.bytes.pop();
            }
        }
    }

    fn content(self) -> Content {
        if self.size > self.max_bytes as u64 {
            Content::TooLarge(self.size)
        } else {
            Content::Mail(Bytes::from(self.bytes))
        }
    }
}

fn is_empty_line(line: &[u8]) -> bool {
    matches!(line, b"\n" | b"\r\n")
}

/// `>From `, `>>From ` and so on: mboxrd quotes all of them, mboxo only the first, and one `>` less is
/// right for both, but for an mboxo text that had `>>From ` itself.
fn is_quoted_from(line: &[u8]) -> bool {
    let depth = line.iter().take_while(|b| **b == b'>').count();
    depth > 0 && line.get(depth..).is_some_and(|rest| rest.starts_with(b"From "))
}

fn content_length(line: &[u8]) -> Option<u64> {
    let colon = memchr(b':', line)?;
    let (name, value) = line.split_at_checked(colon)?;
    let value = value.get(1..)?.trim_ascii();
    name.eq_ignore_ascii_case(b"Content-Length").then(|| std::str::from_utf8(value).ok()?.parse().ok())?
}

/// Whether a file begins as an mbox does.
pub(in crate::source) fn looks_like_mbox(head: &[u8]) -> bool {
    let line = head.trim_ascii_start().split_inclusive(|&b| b == b'\n').next().unwrap_or_default();
    from_line(line).is_some()
}

/// Reads `From sender Tue Feb 17 10:11:31 2026`; a zone before or after the year is understood, without
/// one the time is UTC. `None`: no such line.
fn from_line(line: &[u8]) -> Option<FromLine> {
    let rest = line.get(..line.len().min(1_000))?.strip_prefix(b"From ")?;
    let words: Vec<&str> = std::str::from_utf8(rest.trim_ascii()).ok()?.split_ascii_whitespace().collect();
    let day_names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // A sender may hold spaces, and such a word itself.
    words.iter().enumerate().find_map(|(i, word)| {
        day_names.contains(word).then_some(())?;
        let [month, day, time, tail @ ..] = words.get(i + 1..)? else { return None };
        let month = months.iter().position(|name| name == month)? as i8 + 1;
        let mut clock = time.split(':').map(str::parse::<i8>);
        let (hour, minute) = (clock.next()?.ok()?, clock.next()?.ok()?);
        let second = clock.next().transpose().ok()?.unwrap_or(0);
        let at = tail.iter().take(3).position(|word| word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit()))?;
        let zones = tail.get(..at)?.iter().chain(tail.get(at + 1));
        let offset = zones.filter_map(|zone| zone_seconds(zone)).next().unwrap_or(0);
        let date = Date::new(tail.get(at)?.parse().ok()?, month, day.parse().ok()?).ok()?;
        let time = jiff::civil::Time::new(hour, minute, second.min(59), 0).ok()?;
        let offset = jiff::tz::Offset::from_seconds(offset).ok()?;
        let sender = words.get(..i)?.join(" ");
        Some(FromLine {
            sender: sender.contains('@').then_some(sender),
            date: offset.to_timestamp(date.to_datetime(time)).ok(),
        })
    })
}

fn zone_seconds(zone: &str) -> Option<i32> {
    let sign = match zone.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let digits = zone.get(1..).filter(|digits| digits.len() == 4)?;
    let number: i32 = digits.parse().ok()?;
    Some(sign * (number / 100 * 3600 + number % 100 * 60))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const FROM: &str = "From a@x Tue Feb 17 10:11:31 2026\n";

    fn messages(text: &str) -> Vec<String> {
        let mut reader = Reader::new(Cursor::new(text.as_bytes()), 0, 1 << 20);
        std::iter::from_fn(|| reader.next_entry().unwrap())
            .map(|entry| match entry.content {
                Content::Mail(raw) => String::from_utf8(raw.to_vec()).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn from_lines_have_a_date_in_the_form_of_asctime() {
        let date = |line: &str| from_line(line.as_bytes())?.date.map(|date| date.to_string());
        assert_eq!(date("From a@x Tue Feb 17 10:11:31 2026\n").as_deref(), Some("2026-02-17T10:11:31Z"));
        assert_eq!(date("From a@x  Tue Feb  7 10:11 2026\r\n").as_deref(), Some("2026-02-07T10:11:00Z"));
        assert_eq!(date("From a@x Tue Feb 17 10:11:31 2026 -0600").as_deref(), Some("2026-02-17T16:11:31Z"));
        assert_eq!(date("From 17@xxx Tue Feb 17 10:11:31 +0000 2026").as_deref(), Some("2026-02-17T10:11:31Z"));
        assert_eq!(date("From MAILER-DAEMON Tue Feb 17 10:11:31 CST 2026").as_deref(), Some("2026-02-17T10:11:31Z"));
        for prose in [
            "From Tuesday on",
            "From a@x Tue Feb",
            "From: a@x",
            "From a@x Tue Feb 37 10:11:31 2026",
            " From a@x Tue Feb 17 10:11:31 2026",
        ] {
            assert_eq!(from_line(prose.as_bytes()), None, "{prose}");
        }
        assert_eq!(from_line(FROM.as_bytes()).unwrap().sender.as_deref(), Some("a@x"));
        assert_eq!(from_line(b"From - Tue Feb 17 10:11:31 2026").unwrap().sender, None);
    }

    #[test]
    fn messages_end_before_a_from_line_behind_an_empty_line_only() {
        let text = format!("{FROM}Subject: 1\n\nFrom here on\n{FROM}text\n\n{FROM}Subject: 2\n\n2\n");
        assert_eq!(
            messages(&text),
            [format!("Subject: 1\n\nFrom here on\n{FROM}text\n"), "Subject: 2\n\n2\n".to_owned()]
        );
        assert_eq!(messages(&format!("{}{}", text.replace('\n', "\r\n"), "")).len(), 2);
        assert_eq!(messages(""), Vec::<String>::new());
        assert_eq!(messages("no mbox\n\nat all\n"), Vec::<String>::new());
    }

    #[test]
    fn one_quote_is_taken_off_in_both_dialects() {
        let text = format!("{FROM}Subject: 1\n\n>From us\n>>From them\n> From\n>Fromage\n");
        assert_eq!(messages(&text), ["Subject: 1\n\nFrom us\n>From them\n> From\n>Fromage\n"]);
    }

    #[test]
    fn a_right_content_length_makes_from_lines_text_and_a_wrong_one_is_ignored() {
        let body = format!("one\n\n{FROM}>From stays\ntwo\n");
        let counted = |length: usize| format!("{FROM}Content-Length: {length}\n\n{body}\n{FROM}Subject: 2\n\n2\n");
        let right = messages(&counted(body.len()));
        assert_eq!(right, [format!("Content-Length: {}\n\n{body}", body.len()), "Subject: 2\n\n2\n".to_owned()]);
        for wrong in [body.len() - 3, body.len() + 5, 1_000_000, 0] {
            assert_eq!(messages(&counted(wrong)).len(), 3, "{wrong}");
        }
    }

    #[test]
    fn a_content_length_can_not_swallow_the_next_message() {
        let rest = format!("1\n\n{FROM}Subject: 2\n\n2\n\n{FROM}Subject: 3\n\n3\n");
        let text = format!("{FROM}Content-Length: {}\n\n{rest}", rest.len());
        assert_eq!(messages(&text).len(), 3);
    }

    #[test]
    fn a_message_over_the_limit_is_passed_over_in_bounded_memory() {
        let text = format!("{FROM}\n{}\n\n{FROM}Subject: 2\n\n2\n", "x".repeat(300_000));
        let mut reader = Reader::new(Cursor::new(text.as_bytes()), 0, 100);
        assert_eq!(reader.next_entry().unwrap().unwrap().content, Content::TooLarge(300_003));
        assert_eq!(reader.next_entry().unwrap().unwrap().content, Content::Mail("Subject: 2\n\n2\n".into()));
        assert!(reader.next_entry().unwrap().is_none());
    }
}
