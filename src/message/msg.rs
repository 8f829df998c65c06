//! Outlook's `.msg` (MS-OXMSG: MAPI properties in a compound file, MS-CFB) → the same message as RFC 5322 bytes, so
//! that the walk goes on in it as in any attached forward: sender, date and subject in the head, bodies, files,
//! messages inside messages.
//!
//! Signatures do not survive Outlook, so none is written. The crate `cfb` checks the file; how much is read, and of
//! how many entries, is bounded here. RTF bodies are left: Outlook keeps the same text beside them.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cfb::CompoundFile;
use jiff::Timestamp;

use super::decode;
use super::packed::{Budget, Stop};
use super::tnef::charset;

/// Entries of one file, above which it is no message that a person forwarded.
const MAX_ENTRIES: usize = 8_192;
/// Messages in messages.
const MAX_DEPTH: usize = 8;
/// Bytes of one name, address or subject.
const MAX_LINE: u64 = 4_096;

// Property ids (MS-OXPROPS).
const SUBJECT: u16 = 0x0037;
const SENT: u16 = 0x0039;
const TRANSPORT_HEADERS: u16 = 0x007d;
const SENDER_NAME: u16 = 0x0c1a;
const SENDER_ADDRESS: u16 = 0x0c1f;
const DELIVERED: u16 = 0x0e06;
const BODY: u16 = 0x1000;
const HTML: u16 = 0x1013;
const MESSAGE_ID: u16 = 0x1035;
const DATA: u16 = 0x3701;
const SHORT_NAME: u16 = 0x3704;
const LONG_NAME: u16 = 0x3707;
const MEDIA_TYPE: u16 = 0x370e;
const HTML_CODE_PAGE: u16 = 0x3fde;
const CODE_PAGE: u16 = 0x3ffd;
const SENDER_SMTP: u16 = 0x5d01;

// Property types.
const OBJECT: u16 = 0x000d;
const NARROW: u16 = 0x001e;
const WIDE: u16 = 0x001f;
const BINARY: u16 = 0x0102;

/// The message as a mail.
pub(super) fn as_mail(bytes: &[u8], budget: &Budget) -> Result<Vec<u8>, Stop> {
    let file = CompoundFile::open(Cursor::new(bytes)).map_err(|_| Stop::Damaged("it is damaged"))?;
    if file.walk().take(MAX_ENTRIES + 1).count() > MAX_ENTRIES {
        return Err(Stop::Damaged("it has too many entries"));
    }
    let mut reader = Reader { file, left: budget.bytes, most: budget.bytes, files: budget.files };
    let mut mail = Vec::new();
    reader.message(Path::new("/"), 0, &mut mail)?;
    Ok(mail)
}

struct Reader<'a> {
    file: CompoundFile<Cursor<&'a [u8]>>,
    /// Bytes that may still be read.
    left: usize,
    most: usize,
    /// Files that may still come of it.
    files: usize,
}

/// The properties of fixed length of one object: tag → value.
#[derive(Default)]
struct Fixed(Vec<(u16, [u8; 8])>);

impl Fixed {
    fn number(&self, id: u16) -> Option<u32> {
        let (_, [a, b, c, d, ..]) = self.0.iter().find(|(tag, _)| *tag == id)?;
        Some(u32::from_le_bytes([*a, *b, *c, *d]))
    }

    /// A FILETIME: tenths of microseconds since 1601.
    fn time(&self, id: u16) -> Option<Timestamp> {
        let (_, value) = self.0.iter().find(|(tag, _)| *tag == id)?;
        let microseconds = i64::try_from(u64::from_le_bytes(*value) / 10).ok()?;
        Timestamp::from_microsecond(microseconds.checked_sub(11_644_473_600_000_000)?).ok()
    }
}

impl Reader<'_> {
    fn message(&mut self, at: &Path, depth: usize, mail: &mut Vec<u8>) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Damaged("messages are nested too deep in it"));
        }
        // The head of the list is longer in the outermost message (MS-OXMSG 2.4.1).
        let fixed = self.fixed(at, if depth == 0 { 32 } else { 24 })?;
        let page = fixed.number(CODE_PAGE).or_else(|| fixed.number(HTML_CODE_PAGE));
        let page = page.map_or_else(|| "windows-1252".to_owned(), charset);
        let boundary = format!("=_msg-{depth}-{}", self.left);
        self.head(at, &fixed, &page, mail)?;
        mail.extend_from_slice(
            format!("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n").as_bytes(),
        );
        if let Some(text) = self.string(at, BODY, &page, u64::MAX)? {
            part(mail, &boundary, "text/plain; charset=utf-8", None, text.as_bytes());
        }
        let html_page = fixed.number(HTML_CODE_PAGE).map_or_else(|| page.clone(), charset);
        let html = match self.bytes(at, HTML, BINARY, u64::MAX)? {
            Some(html) => Some(decode::utf8(html.into(), Some(&html_page)).0.into_owned()),
            None => self.string(at, HTML, &page, u64::MAX)?.map(String::into_bytes),
        };
        if let Some(html) = html {
            part(mail, &boundary, "text/html; charset=utf-8", None, &html);
        }
        for attachment in self.attachments(at)? {
            self.attachment(&attachment, &page, &boundary, depth, mail)?;
        }
        mail.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        Ok(())
    }

    /// The fields that tell of the original. What came over the wire is believed before what Outlook made of it.
    fn head(&mut self, at: &Path, fixed: &Fixed, page: &str, mail: &mut Vec<u8>) -> Result<(), Stop> {
        const KEPT: [&str; 4] = ["From", "Date", "Subject", "Message-ID"];
        if let Some(headers) = self.string(at, TRANSPORT_HEADERS, page, 256 << 10)? {
            let before = mail.len();
            let mut keeps = false;
            for line in headers.lines().take_while(|line| !line.is_empty()) {
                if !line.starts_with([' ', '\t']) {
                    let name = line.split(':').next().unwrap_or_default().trim_end();
                    keeps = KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept));
                }
                if keeps {
                    mail.extend_from_slice(line.as_bytes());
                    mail.extend_from_slice(b"\r\n");
                }
            }
            if mail.len() > before {
                return Ok(());
            }
        }
        let smtp = self.string(at, SENDER_SMTP, page, MAX_LINE)?;
        let address = match smtp {
            Some(address) => Some(address),
            None => self.string(at, SENDER_ADDRESS, page, MAX_LINE)?.filter(|address| address.contains('@')),
        };
        let name = self.string(at, SENDER_NAME, page, MAX_LINE)?;
        let from = match (name, address) {
            (Some(name), Some(address)) => format!("{} <{}>", encoded(&name), one_line(&address)),
            (None, Some(address)) => one_line(&address),
            (Some(name), None) => encoded(&name),
            (None, None) => String::new(),
        };
        let date = fixed
            .time(SENT)
            .or_else(|| fixed.time(DELIVERED))
            .and_then(|t| jiff::fmt::rfc2822::to_string(&t.to_zoned(jiff::tz::TimeZone::UTC)).ok());
        let subject = self.string(at, SUBJECT, page, MAX_LINE)?.map(|subject| encoded(&subject));
        let id = self.string(at, MESSAGE_ID, page, MAX_LINE)?.map(|id| one_line(&id));
        for (name, value) in [("From", Some(from)), ("Date", date), ("Subject", subject), ("Message-ID", id)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                mail.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        Ok(())
    }

    fn attachment(
        &mut self,
        at: &Path,
        page: &str,
        boundary: &str,
        depth: usize,
        mail: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let inner = at.join(format!("__substg1.0_{DATA:04X}{OBJECT:04X}"));
        if self.file.is_storage(&inner) {
            mail.extend_from_slice(format!("--{boundary}\r\nContent-Type: message/rfc822\r\n\r\n").as_bytes());
            return self.message(&inner, depth + 1, mail);
        }
        let name = match self.string(at, LONG_NAME, page, MAX_LINE)? {
            Some(name) => Some(name),
            None => self.string(at, SHORT_NAME, page, MAX_LINE)?,
        };
        let media = self.string(at, MEDIA_TYPE, page, MAX_LINE)?.map(|media| one_line(&media));
        let media = media.filter(|media| media.bytes().all(|b| b.is_ascii_alphanumeric() || b"/.+-".contains(&b)));
        // Not as `message/rfc822`: a file that says it is one goes by its name and content.
        let media = media.filter(|media| media.contains('/') && !media.starts_with("message/"));
        if let Some(content) = self.bytes(at, DATA, BINARY, u64::MAX)? {
            let name = name.unwrap_or_else(|| "attachment".to_owned());
            part(mail, boundary, media.as_deref().unwrap_or("application/octet-stream"), Some(&name), &content);
        }
        Ok(())
    }

    fn attachments(&mut self, at: &Path) -> Result<Vec<PathBuf>, Stop> {
        let entries = self.file.read_storage(at).map_err(|_| Stop::Damaged("it is damaged"))?;
        let all: Vec<PathBuf> = entries
            .filter(|entry| entry.is_storage() && entry.name().starts_with("__attach_version1.0_"))
            .map(|entry| entry.path().to_owned())
            .collect();
        self.files = self.files.checked_sub(all.len()).ok_or(Stop::Damaged("it holds too many files"))?;
        Ok(all)
    }

    fn fixed(&mut self, at: &Path, head: usize) -> Result<Fixed, Stop> {
        let raw = self.stream(&at.join("__properties_version1.0"), 64 << 10)?.unwrap_or_default();
        let entries = raw.get(head..).unwrap_or_default().chunks_exact(16);
        Ok(Fixed(
            entries
                .filter_map(|e| Some((u16::from_le_bytes(e.get(2..4)?.try_into().ok()?), e.get(8..)?.try_into().ok()?)))
                .collect(),
        ))
    }

    /// A text, whichever of the two kinds it is kept as. `None`: there is none, or nothing in it.
    fn string(&mut self, at: &Path, id: u16, page: &str, most: u64) -> Result<Option<String>, Stop> {
        let text = match self.bytes(at, id, WIDE, most)? {
            Some(wide) => {
                let units = wide.chunks_exact(2).map(|unit| match unit {
                    [low, high] => u16::from_le_bytes([*low, *high]),
                    _ => 0,
                });
                char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect::<String>()
            }
            None => match self.bytes(at, id, NARROW, most)? {
                Some(narrow) => String::from_utf8_lossy(&decode::utf8(narrow.into(), Some(page)).0).into_owned(),
                None => return Ok(None),
            },
        };
        let text = text.trim_end_matches('\0');
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn bytes(&mut self, at: &Path, id: u16, kind: u16, most: u64) -> Result<Option<Vec<u8>>, Stop> {
        self.stream(&at.join(format!("__substg1.0_{id:04X}{kind:04X}")), most)
    }

    /// A stream, cut at `most`. `None`: there is none.
    fn stream(&mut self, path: &Path, most: u64) -> Result<Option<Vec<u8>>, Stop> {
        if !self.file.is_stream(path) {
            return Ok(None);
        }
        let stream = self.file.open_stream(path).map_err(|_| Stop::Damaged("it is damaged"))?;
        let length = usize::try_from(stream.len().min(most)).unwrap_or(usize::MAX);
        let too_much = || Stop::Bomb(format!("unpacks to more than {} bytes", self.most));
        self.left = self.left.checked_sub(length).ok_or_else(too_much)?;
        let mut content = Vec::new();
        stream.take(length as u64).read_to_end(&mut content).map_err(|_| Stop::Damaged("it breaks off"))?;
        Ok(Some(content))
    }
}

/// Adds a part in base64, one line: nothing in it can be taken for a boundary.
fn part(mail: &mut Vec<u8>, boundary: &str, media: &str, name: Option<&str>, content: &[u8]) {
    let disposition = match name {
        Some(name) => format!("Content-Disposition: attachment; filename=\"{}\"\r\n", encoded(name)),
        None => String::new(),
    };
    mail.extend_from_slice(
        format!("--{boundary}\r\nContent-Type: {media}\r\n{disposition}Content-Transfer-Encoding: base64\r\n\r\n")
            .as_bytes(),
    );
    mail.reserve(content.len() / 3 * 4 + 8);
    for line in content.chunks(57) {
        mail.extend_from_slice(BASE64_STANDARD.encode(line).as_bytes());
        mail.extend_from_slice(b"\r\n");
    }
}

/// A text as an encoded word (RFC 2047), so that nothing in it reads as a field.
fn encoded(text: &str) -> String {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b" .-_".contains(&b)) {
        return text.to_owned();
    }
    format!("=?utf-8?B?{}?=", BASE64_STANDARD.encode(text))
}

fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    type Made = CompoundFile<Cursor<Vec<u8>>>;

    fn put(file: &mut Made, path: &str, content: &[u8]) {
        file.create_stream(path).expect("a stream").write_all(content).expect("written");
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    /// The fixed properties behind a head of so many bytes: the code page of 8-bit texts, and when it was sent.
    fn fixed(head: usize, page: u32) -> Vec<u8> {
        let sent = (1_771_322_400_u64 + 11_644_473_600) * 10_000_000;
        let mut out = vec![0; head];
        for (kind, id, value) in [(3_u16, CODE_PAGE, u64::from(page)), (0x40, SENT, sent)] {
            out.extend(kind.to_le_bytes());
            out.extend(id.to_le_bytes());
            out.extend([6, 0, 0, 0]);
            out.extend(value.to_le_bytes());
        }
        out
    }

    /// A message with a body and one file, and inside it a message with a file of its own.
    pub(in crate::message) fn outlook(name: &str, content: &[u8]) -> Vec<u8> {
        let mut file = CompoundFile::create(Cursor::new(Vec::new())).expect("a file");
        put(&mut file, "/__properties_version1.0", &fixed(32, 1252));
        put(&mut file, "/__substg1.0_0037001F", &wide("Sitzung 48213: erledigt"));
        put(&mut file, "/__substg1.0_0C1A001F", &wide("Lindqvist, Pia\r\nBcc: x@evil.example"));
        put(&mut file, "/__substg1.0_5D01001F", &wide("pia@CC.example"));
        put(&mut file, "/__substg1.0_1000001E", b"Caf\xe9\0");
        put(&mut file, "/__substg1.0_10130102", b"<p>Caf\xe9</p>");
        let attachment = "/__attach_version1.0_#00000000";
        file.create_storage(attachment).expect("a storage");
        put(&mut file, &format!("{attachment}/__substg1.0_3707001F"), &wide(name));
        put(&mut file, &format!("{attachment}/__substg1.0_3704001F"), &wide("METADA~1.JSO"));
        put(&mut file, &format!("{attachment}/__substg1.0_37010102"), content);
        let inner = "/__attach_version1.0_#00000001/__substg1.0_3701000D";
        file.create_storage_all(inner).expect("a storage");
        put(&mut file, &format!("{inner}/__properties_version1.0"), &fixed(24, 65001));
        let headers =
            "Received: from a\r\nFrom: Bot\r\n <bot@cc.example>\r\nDKIM-Signature: v=1\r\nSubject: inner\r\n\r\n";
        put(&mut file, &format!("{inner}/__substg1.0_007D001F"), &wide(headers));
        put(&mut file, &format!("{inner}/__substg1.0_1000001E"), "schön".as_bytes());
        let attachment = format!("{inner}/__attach_version1.0_#00000000");
        file.create_storage(&attachment).expect("a storage");
        put(&mut file, &format!("{attachment}/__substg1.0_3704001E"), b"inner.json");
        put(&mut file, &format!("{attachment}/__substg1.0_37010102"), b"{\"inner\":1}");
        file.into_inner().into_inner()
    }

    const BUDGET: Budget = Budget { bytes: 1 << 20, files: 10, ratio: 100 };

    #[test]
    fn a_message_becomes_a_mail_with_its_head_bodies_files_and_messages() {
        let raw = as_mail(&outlook("metadata-48213 ü.json", b"{}"), &BUDGET).expect("a mail");
        let limits = crate::message::Limits::default();
        let message = crate::message::parse::parse(&raw, &limits);
        let parts: Vec<_> = message
            .parts
            .iter()
            .map(|p| (p.place.as_str(), String::from_utf8_lossy(&p.content).into_owned()))
            .collect();
        let parts: Vec<_> = parts.iter().map(|(place, content)| (*place, content.trim_end_matches('\0'))).collect();
        assert_eq!(
            parts,
            [
                ("text body", "Café"),
                ("html body", "<p>Café</p>"),
                ("metadata-48213 ü.json", "{}"),
                ("forwarded message / text body", "schön"),
                ("forwarded message / inner.json", "{\"inner\":1}"),
            ]
        );
        let head = String::from_utf8_lossy(&raw);
        assert!(!head.contains("evil.example") && !head.contains("DKIM-Signature"), "{head}");
        assert_eq!(message.subject.as_deref(), Some("Sitzung 48213: erledigt"));
        let inner = message.originals();
        assert_eq!(inner[0].from.as_deref(), Some("bot@cc.example"));
    }

    #[test]
    fn damage_and_what_is_beyond_the_budget_is_told() {
        let whole = outlook("a.json", &[b'x'; 6_000]);
        let small = Budget { bytes: 5_000, ..BUDGET };
        assert!(matches!(as_mail(&whole, &small), Err(Stop::Bomb(_))));
        assert!(matches!(as_mail(&whole, &Budget { files: 1, ..BUDGET }), Err(Stop::Damaged(_))));
        for end in (0..whole.len()).step_by(97) {
            let _told_or_read = as_mail(&whole[..end], &BUDGET);
        }
        let mut told = 0;
        for at in (0..whole.len()).step_by(13) {
            let mut bent = whole.clone();
            bent[at] ^= 0x41;
            told += usize::from(as_mail(&bent, &BUDGET).is_err());
        }
        assert!(told > 20, "{told}");
    }
}
