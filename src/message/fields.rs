//! The head of a message or part → its fields (RFC 5322 section 2.2), and the bodies of the fields that
//! matter → values: addresses, dates, ids, content types with RFC 2231 parameters, RFC 2047 words.
//!
//! Finding the fields is ours, so that a broken or endless head costs what its length costs; reading
//! their bodies is mail-parser's work. No body longer than `VALUE_BYTES` is given to it.

use std::borrow::Cow;

use jiff::Timestamp;
use mail_parser::parsers::MessageStream;
use mail_parser::{Address, ContentType, HeaderValue};
use memchr::memchr;

use super::Field;

const VALUE_BYTES: usize = 32 << 10;

/// A head with its fields, and the body behind it.
pub(super) struct Head<'a> {
    pub(super) fields: Vec<Field<'a>>,
    pub(super) body: &'a [u8],
}

impl<'a> Head<'a> {
    /// Splits an entity at the empty line. Where there is none, at the first line that can't be of a head.
    /// Lines that are no fields are left out if fields of a mail follow, else they begin the body. `None`:
    /// the head is longer than `limit` bytes.
    pub(super) fn split(entity: &'a [u8], limit: usize) -> Option<Self> {
        let mut fields: Vec<Field<'a>> = Vec::new();
        // Where the head seems to have ended without an empty line, and the fields before that.
        let mut broken: Option<(usize, usize)> = None;
        let mut open: Option<(&'a str, usize)> = None;
        let mut at = 0;
        let body = loop {
            let rest = entity.get(at..).unwrap_or_default();
            let next = memchr(b'\n', rest).map_or(entity.len(), |end| at + end + 1);
            let line = entity.get(at..next).unwrap_or_default();
            if matches!(line, b"" | b"\n" | b"\r\n") {
                close(&mut fields, &mut open, entity, at);
                break next;
            }
            if next > limit {
                broken?;
                break next;
            }
            if !line.starts_with(b" ") && !line.starts_with(b"\t") {
                close(&mut fields, &mut open, entity, at);
                match field_name(line) {
                    Some((name, value)) => {
                        if belongs_to_heads(name) {
                            broken = None;
                        }
                        open = Some((name, at + value));
                    }
                    None => broken = broken.or(Some((at, fields.len()))),
                }
            } else if open.is_none() {
                broken = broken.or(Some((at, fields.len())));
            }
            at = next;
        };
        let body = match broken {
            Some((start, count)) => {
                fields.truncate(count);
                start
            }
            None => body,
        };
        Some(Self { fields, body: entity.get(body..).unwrap_or_default() })
    }

    /// The raw body of the first field with this name.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The raw bodies of all fields with this name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value.as_ref())
    }
}

fn close<'a>(fields: &mut Vec<Field<'a>>, open: &mut Option<(&'a str, usize)>, entity: &'a [u8], end: usize) {
    if let Some((name, start)) = open.take() {
        let value = entity.get(start..end).unwrap_or_default().trim_ascii();
        fields.push(Field { name: Cow::Borrowed(name), value: Cow::Borrowed(value) });
    }
}

/// Splits `Name: value`: the name, and where the value begins.
fn field_name(line: &[u8]) -> Option<(&str, usize)> {
    let colon = memchr(b':', line.get(..line.len().min(1_000))?)?;
    let name = line.get(..colon)?.trim_ascii_end();
    // RFC 5322 allows more, but then JSON and addresses of pages would be fields.
    let is_name = !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.+!#$%&'*^`|~".contains(b));
    let is_url = line.get(colon + 1..).is_some_and(|value| value.starts_with(b"//"));
    (is_name && !is_url).then_some(())?;
    Some((std::str::from_utf8(name).ok()?, colon + 1))
}

/// Whether text begins as a head does: with a line `Name: value`.
pub(super) fn looks_like_head(text: &[u8]) -> bool {
    field_name(text.get(..memchr(b'\n', text).unwrap_or(text.len())).unwrap_or_default()).is_some()
}

/// Names that stand in heads and hardly ever at the start of a line of prose.
fn belongs_to_heads(name: &str) -> bool {
    ["Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "MIME-Version", "Message-ID", "Received"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// A field body as mail-parser wants it: with its line end.
fn line(value: &[u8]) -> Vec<u8> {
    let value = value.get(..VALUE_BYTES).unwrap_or(value);
    [value, b"\n"].concat()
}

/// Free text such as `Subject`, decoded.
pub(super) fn text(value: &[u8]) -> Option<String> {
    match MessageStream::new(&line(value)).parse_unstructured() {
        HeaderValue::Text(text) => Some(text.into_owned()),
        _ => None,
    }
}

/// The first message id, with angle brackets.
pub(super) fn message_id(value: &[u8]) -> Option<String> {
    let line = line(value);
    let id = match MessageStream::new(&line).parse_id() {
        HeaderValue::Text(id) => id,
        HeaderValue::TextList(ids) => ids.into_iter().next()?,
        _ => return None,
    };
    let id = id.split_ascii_whitespace().collect::<String>();
    (!id.is_empty()).then(|| format!("<{id}>"))
}

/// An RFC 5322 date, also in its obsolete forms.
pub(super) fn date(value: &[u8]) -> Option<Timestamp> {
    match MessageStream::new(&line(value)).parse_date() {
        HeaderValue::DateTime(date) if date.is_valid() => Timestamp::from_second(date.to_timestamp()).ok(),
        _ => None,
    }
}

/// Adds the addresses of a list, groups opened, names and comments dropped, domains in lower case.
pub(super) fn addresses(value: &[u8], into: &mut Vec<String>) {
    let line = line(value);
    let HeaderValue::Address(list) = MessageStream::new(&line).parse_address() else { return };
    let mut add = |addresses: Vec<mail_parser::Addr<'_>>| {
        for address in addresses {
            into.extend(address.address.as_deref().and_then(plain_address));
        }
    };
    match list {
        Address::List(list) => add(list),
        Address::Group(groups) => groups.into_iter().for_each(|group| add(group.addresses)),
    }
}

fn plain_address(address: &str) -> Option<String> {
    let address: String = address.chars().filter(|c| !c.is_control() && !c.is_whitespace()).collect();
    match address.rsplit_once('@') {
        Some((local, domain)) => Some(format!("{local}@{}", domain.to_lowercase())),
        None => (!address.is_empty()).then_some(address),
    }
}

/// The body of `Content-Type` or `Content-Disposition`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// The type, or the disposition, lower case.
    pub(super) main: String,
    /// The subtype, lower case.
    pub(super) sub: String,
    /// The parameter `charset`.
    pub(super) charset: Option<String>,
    /// The parameter `boundary`.
    pub(super) boundary: Option<String>,
    /// The parameter `delsp` of `format=flowed` (RFC 3676): blanks before wraps are the wraps' own.
    pub(super) is_delsp: bool,
    /// The parameter `name` or `filename`, decoded, as a bare file name.
    pub(super) file_name: Option<String>,
}

impl Content {
    /// Reads a body; what is not understood is left empty.
    pub(super) fn of(value: &[u8]) -> Self {
        let line = line(value);
        let HeaderValue::ContentType(content) = MessageStream::new(&line).parse_content_type() else {
            return Self::default();
        };
        let name = parameter(&content, "filename").or_else(|| parameter(&content, "name"));
        Self {
            file_name: name.and_then(bare_file_name),
            charset: parameter(&content, "charset").map(|name| name.trim().to_ascii_lowercase()),
            is_delsp: parameter(&content, "delsp").is_some_and(|value| value.trim().eq_ignore_ascii_case("yes")),
            boundary: parameter(&content, "boundary").map(str::to_owned),
            main: content.c_type.trim().to_ascii_lowercase(),
            sub: content.c_subtype.unwrap_or_default().trim().to_ascii_lowercase(),
        }
    }
}

/// A parameter's value. RFC 2231 allows a plain one beside the encoded one for old readers; the one that
/// says more than ASCII is the better.
fn parameter<'c>(content: &'c ContentType<'_>, name: &str) -> Option<&'c str> {
    let attributes = content.attributes.as_deref().unwrap_or_default();
    let mut values = attributes.iter().filter(|a| a.name.eq_ignore_ascii_case(name)).map(|a| a.value.as_ref());
    let first = values.next()?;
    Some(values.find(|value| !value.is_ascii()).unwrap_or(first)).filter(|value| !value.is_empty())
}

/// A file name without folders, control characters and white space around it, of at most 200 characters,
/// the end (with the extension) kept.
pub(super) fn bare_file_name(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    let name = name.trim();
    let excess = name.chars().count().saturating_sub(200);
    let name: String = name.chars().skip(excess).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(head: &Head<'_>) -> Vec<String> {
        head.fields.iter().map(|f| f.name.to_string()).collect()
    }

    fn split(entity: &str) -> Head<'_> {
        Head::split(entity.as_bytes(), 1_000).unwrap()
    }

    #[test]
    fn a_head_ends_at_the_empty_line_and_folded_fields_are_one() {
        let head = split("A: 1\r\n 2\r\nb : x\r\n\r\nbody: text\r\n");
        assert_eq!(names(&head), ["A", "b"]);
        assert_eq!(head.get("a"), Some(b"1\r\n 2".as_slice()));
        assert_eq!(head.fields[0].unfolded(), "1 2");
        assert_eq!(head.body, b"body: text\r\n");
    }

    #[test]
    fn a_body_without_an_empty_line_before_it_is_not_lost() {
        let head = split("Content-Type: text/plain\nSession 48213 ended\nnote: more\n\nlast\n");
        assert_eq!(names(&head), ["Content-Type"]);
        assert_eq!(head.body, b"Session 48213 ended\nnote: more\n\nlast\n");
        let head = split("Just text");
        assert_eq!((names(&head).len(), head.body), (0, b"Just text".as_slice()));
        assert_eq!(split("\nbody").body, b"body");
        assert_eq!(split("").body, b"");
    }

    #[test]
    fn rubbish_between_fields_of_a_mail_is_left_out() {
        let head = split("Subject: a\nb c d\nContent-Type: text/html\n\nx");
        assert_eq!(names(&head), ["Subject", "Content-Type"]);
        assert_eq!(head.body, b"x");
    }

    #[test]
    fn a_head_over_the_limit_is_none() {
        let long = format!("A: {}\n\nx", "y".repeat(2_000));
        assert!(Head::split(long.as_bytes(), 1_000).is_none());
        assert!(Head::split(long.as_bytes(), 3_000).is_some());
    }

    #[test]
    fn addresses_are_plain_and_groups_are_open() {
        let mut found = Vec::new();
        addresses(b"\"Doe, Jane\" <Jane@ACME.example>, =?utf-8?q?J=C3=B6?= <jo@x.example> (hi)", &mut found);
        addresses(b"team: a@x.example, b@x.example;", &mut found);
        assert_eq!(found, ["Jane@acme.example", "jo@x.example", "a@x.example", "b@x.example"]);
    }

    #[test]
    fn ids_dates_and_words_are_decoded() {
        assert_eq!(message_id(b" <a1@x> (c)").as_deref(), Some("<a1@x>"));
        assert_eq!(message_id(b"a1@x").as_deref(), Some("<a1@x>"));
        assert_eq!(message_id(b""), None);
        assert_eq!(
            date(b"Tue, 17 Feb 2026 10:11:31 -0600").map(|t| t.to_string()).as_deref(),
            Some("2026-02-17T16:11:31Z")
        );
        assert_eq!(date(b"yesterday"), None);
        assert_eq!(
            text(b"=?iso-8859-1?q?Sitzung_f=FCr?=\r\n =?utf-8?b?IMO8YmVy?=").as_deref(),
            Some("Sitzung für über")
        );
    }

    #[test]
    fn file_names_are_read_in_all_spellings_and_lose_their_folders() {
        let name = |text: &str| Content::of(text.as_bytes()).file_name;
        assert_eq!(name("attachment; filename=\"meta data.json\"").as_deref(), Some("meta data.json"));
        assert_eq!(name("attachment; filename==?utf-8?q?m=C3=A9ta.json?=").as_deref(), Some("méta.json"));
        assert_eq!(name("attachment; filename=\"=?utf-8?q?m=C3=A9ta.json?=\"").as_deref(), Some("méta.json"));
        assert_eq!(name("attachment; filename*=UTF-8''m%C3%A9ta.json").as_deref(), Some("méta.json"));
        assert_eq!(
            name("attachment; filename=\"m_ta.json\"; filename*=UTF-8''m%C3%A9ta.json").as_deref(),
            Some("méta.json")
        );
        assert_eq!(
            name("attachment;\r\n filename*0=\"meta-\";\r\n filename*1=\"48213.json\"").as_deref(),
            Some("meta-48213.json")
        );
        assert_eq!(name("attachment; filename=\"../../etc/passwd\"").as_deref(), Some("passwd"));
        assert_eq!(name("attachment; filename=\"C:\\\\temp\\\\m.json\"").as_deref(), Some("m.json"));
        assert_eq!(name("attachment"), None);
    }

    #[test]
    fn content_types_are_lower_case_and_their_parameters_found() {
        let content = Content::of(b"Multipart/MIXED; Boundary=\"a b\"; charset=\"UTF-8\"");
        assert_eq!((content.main.as_str(), content.sub.as_str()), ("multipart", "mixed"));
        assert_eq!(content.boundary.as_deref(), Some("a b"));
        assert_eq!(content.charset.as_deref(), Some("utf-8"));
    }
}
