//! A raw message → its fields with every byte, and its body: what signatures are made over (RFC 6376
//! section 3.4). Strict: what two readers could split differently is not split at all, so that what is
//! verified is what `message` reads.

use std::borrow::Cow;

use mail_auth::common::crypto::HashAlgorithm;
use mail_auth::dkim::Canonicalization;
use memchr::{memchr, memchr_iter};

use crate::message::{Limits, parse};

/// Fields that a message has once (RFC 5322 section 3.6, RFC 2045). A second one is how a signed message
/// is given another meaning: signers sign one, readers show the other.
const ONCE: [&str; 12] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Message-ID",
    "Subject",
    "Date",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
];

/// The bytes with CRLF at every line end, as they travelled: files often hold bare line feeds.
pub(super) fn with_crlf(raw: &[u8]) -> Cow<'_, [u8]> {
    let is_bare = |at: usize| at == 0 || raw.get(at - 1) != Some(&b'\r');
    let bare = memchr_iter(b'\n', raw).filter(|at| is_bare(*at)).count();
    if bare == 0 {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len() + bare);
    let mut from = 0;
    for at in memchr_iter(b'\n', raw).filter(|at| is_bare(*at)) {
        out.extend_from_slice(raw.get(from..at).unwrap_or_default());
        out.extend_from_slice(b"\r\n");
        from = at + 1;
    }
    out.extend_from_slice(raw.get(from..).unwrap_or_default());
    Cow::Owned(out)
}

/// A message split without interpretation.
pub(super) struct Exact<'a> {
    /// All of it.
    pub(super) raw: &'a [u8],
    /// Name and value of each field; the value is everything from the colon to the line end, included.
    pub(super) fields: Vec<(&'a [u8], &'a [u8])>,
    /// What follows the empty line.
    pub(super) body: &'a [u8],
    /// How many addresses `From` has.
    authors: usize,
}

impl<'a> Exact<'a> {
    /// Splits it, or says why no signature of it can count.
    pub(super) fn split(raw: &'a [u8], limits: &Limits) -> Result<Self, String> {
        let mut fields: Vec<(&'a [u8], &'a [u8])> = Vec::new();
        let mut open: Option<(&'a [u8], usize)> = None;
        let mut at = 0;
        loop {
            let rest = raw.get(at..).unwrap_or_default();
            let end = memchr(b'\n', rest).map_or(raw.len(), |end| at + end + 1);
            let line = raw.get(at..end).unwrap_or_default();
            let is_last = matches!(line, b"" | b"\r\n");
            if is_last || !matches!(line.first(), Some(b' ' | b'\t')) {
                if let Some((name, start)) = open.take() {
                    fields.push((name, raw.get(start..at).unwrap_or_default()));
                }
                if is_last {
                    at = end;
                    break;
                }
                let name = field_name(line).ok_or("its head holds a line that is no field")?;
                open = Some((name, at + name.len() + 1));
            } else if open.is_none() {
                return Err("its head begins with a folded line".to_owned());
            }
            if end > limits.header_bytes {
                return Err("its head is too large".to_owned());
            }
            at = end;
        }
        let authors = parse::describe_head(raw, limits).from.len();
        let exact = Self { raw, fields, body: raw.get(at..).unwrap_or_default(), authors };
        let bare_cr = |at: usize| raw.get(at + 1) != Some(&b'\n');
        if memchr_iter(b'\r', raw).any(bare_cr) {
            return Err("it holds a carriage return without a line feed, which is not signed".to_owned());
        }
        exact.agrees_with(limits)?;
        Ok(exact)
    }

    /// The reader of messages has to see the same fields and the same body.
    fn agrees_with(&self, limits: &Limits) -> Result<(), String> {
        let (fields, body) = parse::head(self.raw, limits).ok_or("its head is too large")?;
        let same = fields.len() == self.fields.len()
            && body.len() == self.body.len()
            && fields.iter().zip(&self.fields).all(|(read, (name, value))| {
                read.name.as_bytes() == *name && read.value.as_ref() == value.trim_ascii()
            });
        same.then_some(()).ok_or_else(|| "its head can be read in two ways".to_owned())
    }

    /// The values of the fields with this name, from the top.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &(&'a [u8], &'a [u8])> {
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Why no signature can vouch for this message as it is shown, if so.
    pub(super) fn fault(&self) -> Option<String> {
        for name in ONCE {
            if self.all(name).count() > 1 {
                return Some(format!("it has more than one `{name}`"));
            }
        }
        match (self.all("From").count(), self.authors) {
            (1, 1) => None,
            (0, _) | (_, 0) => Some("it has no address in `From`".to_owned()),
            _ => Some("its `From` has more than one address".to_owned()),
        }
    }

    /// Why a signature over the fields `signed` does not fix what the message is read as, if so.
    pub(super) fn uncovered(&self, signed: &[String]) -> Option<String> {
        let signs = |name: &str| signed.iter().any(|s| s.eq_ignore_ascii_case(name));
        if !signs("From") {
            return Some("`From` is not signed".to_owned());
        }
        let content_type = self.all("Content-Type").next().map(|(_, value)| *value);
        if !signs("Content-Type") && !parse::is_borne_out(content_type, self.body) {
            return Some("`Content-Type` is not signed, and the body does not look like what it says".to_owned());
        }
        None
    }

    /// SHA-256 of the whole body in its canonical form. White lines at the end do not count when relaxed
    /// (RFC 6376 section 3.4.4); the crate counts those that hold blanks.
    pub(super) fn body_hash(&self, form: Canonicalization) -> Vec<u8> {
        let mut body = self.body;
        if form == Canonicalization::Relaxed {
            while let Some((b' ' | b'\t' | b'\r' | b'\n', rest)) = body.split_last() {
                body = rest;
            }
        }
        HashAlgorithm::Sha256.hash(form.canonical_body(body, 0)).as_ref().to_vec()
    }
}

/// The name of a field that is written without doubt: printable, the colon directly behind it.
fn field_name(line: &[u8]) -> Option<&[u8]> {
    let name = line.get(..memchr(b':', line)?)?;
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(raw: &str) -> Result<usize, String> {
        Exact::split(raw.as_bytes(), &Limits::default()).map(|exact| exact.fields.len())
    }

    #[test]
    fn a_plain_head_is_split_with_every_byte() {
        let raw = b"A:  one\r\n\ttwo \r\nB: x\r\n\r\nbody\r\n";
        let exact = Exact::split(raw, &Limits::default()).unwrap();
        let expected: Vec<(&[u8], &[u8])> = vec![(b"A", b"  one\r\n\ttwo \r\n"), (b"B", b" x\r\n")];
        assert_eq!(exact.fields, expected);
        assert_eq!(exact.body, b"body\r\n");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        assert!(split("From: a@x.example\r\nno field\r\n\r\nbody").is_err());
        assert!(split("From: a@x.example\r\n{\"json\": 1}\r\n\r\nbody").is_err());
        assert!(split(" folded\r\nFrom: a@x.example\r\n\r\nbody").is_err());
        assert!(split("From: a@x.example\r\nhttp://x.example\r\n\r\nbody").is_err());
        assert!(split("From: a@x.example\r\n\r\nbo\rdy").is_err());
        assert_eq!(split("From: a@x.example\r\n\r\nbody"), Ok(1));
        assert_eq!(split("From: a@x.example"), Ok(1));
    }

    #[test]
    fn bare_line_feeds_travelled_as_crlf() {
        assert_eq!(with_crlf(b"a\nb\r\nc\n").as_ref(), b"a\r\nb\r\nc\r\n");
        assert!(matches!(with_crlf(b"a\r\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn blanks_at_the_end_of_a_relaxed_body_do_not_count() {
        let hash = |body: &str, form| {
            let raw = format!("A: b\r\n\r\n{body}");
            Exact::split(raw.as_bytes(), &Limits::default()).unwrap().body_hash(form)
        };
        let plain = hash("text\r\n", Canonicalization::Relaxed);
        assert_eq!(hash("text \r\n \r\n\t\r\n\r\n", Canonicalization::Relaxed), plain);
        assert_ne!(hash("text\r\n.\r\n", Canonicalization::Relaxed), plain);
        let simple = hash("text\r\n", Canonicalization::Simple);
        assert_eq!(hash("text\r\n\r\n", Canonicalization::Simple), simple);
        assert_ne!(hash("text\r\n \r\n", Canonicalization::Simple), simple);
        // The empty body: nothing when relaxed, one line end when simple (RFC 6376 section 3.4.3 and 3.4.4).
        assert_eq!(hash(" \r\n", Canonicalization::Relaxed), HashAlgorithm::Sha256.hash(b"".as_slice()).as_ref());
    }
}
