//! A part's body as sent → its bytes (RFC 2045 section 6), and text in any charset → UTF-8.
//!
//! Charsets and untidy base64 are mail-parser's. Both decoders are lenient, as mail in the wild asks for:
//! what can't be decoded is left as it is or out, and told by a flag. Bytes that need no decoding are
//! borrowed, never copied.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use memchr::memchr;

/// What `Content-Transfer-Encoding` says; unknown words mean as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// `7bit`, `8bit`, `binary`, none.
    Identity,
    /// `base64`.
    Base64,
    /// `quoted-printable`.
    QuotedPrintable,
}

impl Encoding {
    /// Reads the field's body; quotes, comments and stray semicolons are overlooked.
    pub(super) fn of(value: &[u8]) -> Self {
        let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
        let start = value.iter().position(is_word).unwrap_or(value.len());
        let word = value.get(start..).unwrap_or_default();
        let word = word.split(|b| !is_word(b)).next().unwrap_or_default();
        if word.eq_ignore_ascii_case(b"base64") {
            Self::Base64
        } else if word.eq_ignore_ascii_case(b"quoted-printable") {
            Self::QuotedPrintable
        } else {
            Self::Identity
        }
    }

    /// The decoded bytes, and whether all of it was well-formed.
    pub(super) fn decode(self, body: &[u8]) -> (Cow<'_, [u8]>, bool) {
        match self {
            Self::Identity => (Cow::Borrowed(body), true),
            Self::Base64 => match tidy_base64(body).or_else(|| base64_decode(body)) {
                Some(decoded) => (Cow::Owned(decoded), true),
                None => (Cow::Owned(lenient_base64(body)), false),
            },
            Self::QuotedPrintable => {
                let (decoded, clean) = quoted_printable(body);
                (Cow::Owned(decoded), clean)
            }
        }
    }
}

/// What has nothing but line breaks between its letters, as mailers write it: twice as fast as looking at
/// each character. `None` for all else.
fn tidy_base64(body: &[u8]) -> Option<Vec<u8>> {
    /// Decoded at once, so that the letters need little memory of their own.
    const PIECE: usize = 16 << 10;
    let mut decoded = Vec::with_capacity(body.len() / 4 * 3);
    let mut letters = Vec::with_capacity(PIECE.min(body.len()) + 128);
    let mut rest = body;
    while !rest.is_empty() {
        let (line, tail) = rest.split_at_checked(memchr(b'\n', rest).map_or(rest.len(), |at| at + 1))?;
        letters.extend_from_slice(line.trim_ascii_end());
        rest = tail;
        if letters.len() > PIECE {
            let whole = letters.get(..letters.len() / 4 * 4)?;
            if whole.ends_with(b"=") {
                return None; // it ends here, or something is behind its end
            }
            BASE64_STANDARD.decode_vec(whole, &mut decoded).ok()?;
            letters.drain(..letters.len() / 4 * 4);
        }
    }
    BASE64_STANDARD.decode_vec(&letters, &mut decoded).ok()?;
    Some(decoded)
}

/// RFC 2045 section 6.8: characters outside the alphabet are ignored. What follows the padding, such as a
/// list's footer, is not content.
fn lenient_base64(body: &[u8]) -> Vec<u8> {
    let mut letters = Vec::with_capacity(body.len());
    for &b in body {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => letters.push(b),
            b'-' => letters.push(b'+'),
            b'_' => letters.push(b'/'),
            b'=' => break,
            _ => {}
        }
    }
    base64_decode(&letters).unwrap_or_default()
}

/// RFC 2045 section 6.7, and what is no valid escape stands for itself.
fn quoted_printable(body: &[u8]) -> (Vec<u8>, bool) {
    let mut decoded = Vec::with_capacity(body.len());
    let mut clean = true;
    let mut rest = body;
    while !rest.is_empty() {
        let (line, tail) = match memchr(b'\n', rest) {
            Some(at) => rest.split_at_checked(at + 1).unwrap_or((rest, &[])),
            None => (rest, [].as_slice()),
        };
        rest = tail;
        let ended = line.strip_suffix(b"\n");
        let end: &[u8] = match ended {
            Some(line) if line.ends_with(b"\r") => b"\r\n",
            Some(_) => b"\n",
            None => b"",
        };
        let text = line.trim_ascii_end();
        // A soft line break ends a line; at the very end it is harmless too.
        let (mut text, end) = match text.strip_suffix(b"=") {
            Some(text) => (text, [].as_slice()),
            None => (text, end),
        };
        while let Some(at) = memchr(b'=', text) {
            let (before, escape) = text.split_at_checked(at).unwrap_or((text, &[]));
            decoded.extend_from_slice(before);
            let byte = match escape {
                [_, high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
                _ => None,
            };
            let used = if byte.is_some() { 3 } else { 1 };
            clean &= byte.is_some();
            decoded.push(byte.unwrap_or(b'='));
            text = escape.get(used..).unwrap_or_default();
        }
        decoded.extend_from_slice(text);
        decoded.extend_from_slice(end);
    }
    (decoded, clean)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// How many bytes of a text in this charset surely give so many of UTF-8.
pub(super) fn most_bytes_of(utf8: usize, charset: Option<&str>) -> usize {
    let charset = charset.unwrap_or_default();
    let is_any = |names: [&str; 2]| names.iter().any(|name| starts_with(charset, name));
    let width = if is_any(["utf-32", "utf32"]) {
        4
    } else if is_any(["utf-16", "utf16"]) {
        2
    } else {
        1
    };
    utf8.saturating_mul(width)
}

/// Text in a charset → UTF-8 without a byte order mark. Second: whether the charset's name is known and
/// the text is valid in it.
pub(super) fn utf8<'a>(text: Cow<'a, [u8]>, charset: Option<&str>) -> (Cow<'a, [u8]>, bool) {
    let charset = charset.unwrap_or_default();
    let escapes = ["utf-16", "utf16", "utf-7", "utf7", "utf-32", "iso-2022", "hz-", "csiso2022", "csutf7"];
    let is_ascii_based = !escapes.iter().any(|name| starts_with(charset, name));
    // Two ASCII characters of two bytes each: UTF-16, whatever was declared.
    let wide = match text.first_chunk() {
        Some([0, a, 0, b]) if *a != 0 && *b != 0 => Some("utf-16be"),
        Some([a, 0, b, 0]) if *a != 0 && *b != 0 => Some("utf-16le"),
        _ => None,
    };
    if let Some(decode) = wide.and_then(|name| charset_decoder(name.as_bytes())) {
        return (Cow::Owned(without_mark(decode(&text)).into_bytes()), starts_with(charset, "utf-16"));
    }
    if is_ascii_based && text.is_ascii() {
        return (text, true);
    }
    let is_utf8 = ["", "utf-8", "utf8", "us-ascii", "ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name));
    if !is_utf8 && let Some(decode) = charset_decoder(charset.as_bytes()) {
        return (Cow::Owned(without_mark(decode(&text)).into_bytes()), true);
    }
    let is_utf16 = text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]);
    if is_utf16 && let Some(decode) = charset_decoder(b"utf-16") {
        return (Cow::Owned(without_mark(decode(&text)).into_bytes()), false);
    }
    if std::str::from_utf8(&text).is_ok() {
        let text = match text {
            Cow::Borrowed(bytes) => Cow::Borrowed(bytes.strip_prefix(MARK).unwrap_or(bytes)),
            Cow::Owned(bytes) if bytes.starts_with(MARK) => Cow::Owned(bytes.get(3..).unwrap_or_default().to_vec()),
            owned => owned,
        };
        return (text, is_utf8);
    }
    // Mailers that name no charset, or the wrong one, mostly mean Windows-1252.
    (Cow::Owned(unlabelled(&text).into_owned().into_bytes()), false)
}

/// Text of which nobody says the charset, or says it wrongly: UTF-8 if it is that, or mostly is, else
/// Windows-1252.
pub fn unlabelled(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let (mut whole, mut broken) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        whole += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += chunk.invalid().len();
    }
    match charset_decoder(b"windows-1252") {
        Some(decode) if whole < broken || whole == 0 => Cow::Owned(decode(bytes)),
        _ => String::from_utf8_lossy(bytes),
    }
}

/// Text of `format=flowed; delsp=yes` (RFC 3676 section 4), as Apple writes it, with its lines joined again.
/// Without `delsp` the blanks tell later readers enough, and joining lines could only do harm.
pub(super) fn unflowed(text: &[u8]) -> Vec<u8> {
    let quotes = |line: &[u8]| line.iter().take_while(|b| **b == b'>').count();
    let mut out = Vec::with_capacity(text.len());
    // Levels of quoting of the paragraph that goes on.
    let mut open: Option<usize> = None;
    for line in text.split_inclusive(|b| *b == b'\n') {
        let depth = quotes(line);
        let body = line.get(depth..).unwrap_or_default();
        let body = body.strip_prefix(b" ").unwrap_or(body);
        let plain = body.strip_suffix(b"\n").unwrap_or(body);
        let plain = plain.strip_suffix(b"\r").unwrap_or(plain);
        match open {
            Some(held) if held == depth && plain != b"-- " => {}
            Some(_) => out.extend_from_slice(b"\n"),
            None => {}
        }
        if open != Some(depth) || plain == b"-- " {
            out.extend(std::iter::repeat_n(b'>', depth));
            out.extend_from_slice(if depth > 0 { b" " } else { b"" });
        }
        match plain.strip_suffix(b" ") {
            Some(flowed) if plain != b"-- " => {
                out.extend_from_slice(flowed);
                open = Some(depth);
            }
            _ => {
                out.extend_from_slice(body);
                open = None;
            }
        }
    }
    out
}

const MARK: &[u8] = b"\xef\xbb\xbf";

fn without_mark(text: String) -> String {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qp(text: &str) -> String {
        String::from_utf8_lossy(&quoted_printable(text.as_bytes()).0).into_owned()
    }

    #[test]
    fn quoted_printable_joins_soft_breaks_and_drops_trailing_white_space() {
        assert_eq!(qp("{\"a\"=3D1,=\r\n \"b\" \t\r\nc=C3=A9=\n"), "{\"a\"=1, \"b\"\r\ncé");
        assert_eq!(qp("a=  \nb"), "ab");
    }

    #[test]
    fn what_is_no_escape_stands_for_itself_and_is_told() {
        assert_eq!(qp("a==b =G1 =4"), "a==b =G1 =4");
        assert!(!quoted_printable(b"a=Zb").1);
        assert!(quoted_printable(b"a=3d=\n").1);
    }

    #[test]
    fn base64_survives_stray_characters_and_a_footer_after_the_padding() {
        assert_eq!(Encoding::Base64.decode(b"eyJh\r\nIjox\r\nfQ==\r\n").0.as_ref(), b"{\"a\":1}");
        assert_eq!(tidy_base64(b"eyJ\r\nhIjox\nfQ==").as_deref(), Some(b"{\"a\":1}".as_slice()));
        assert_eq!(tidy_base64(b"eyJh\nfQ==\neyJh"), None);
        let long = vec![b'x'; 100_000];
        let lines = BASE64_STANDARD.encode(&long).as_bytes().chunks(77).collect::<Vec<_>>().join(b"\r\n".as_slice());
        assert_eq!(tidy_base64(&lines), Some(long));
        let (decoded, clean) = Encoding::Base64.decode(b"eyJh!Ijox\r\nfQ==\r\n____\r\nlist: footer\r\n");
        assert_eq!((decoded.as_ref(), clean), (b"{\"a\":1}".as_slice(), false));
    }

    #[test]
    fn the_encoding_is_read_through_noise() {
        assert_eq!(Encoding::of(b" \"BASE64\" (really)"), Encoding::Base64);
        assert_eq!(Encoding::of(b"Quoted-Printable;"), Encoding::QuotedPrintable);
        assert_eq!(Encoding::of(b"x-unknown"), Encoding::Identity);
    }

    #[test]
    fn flowed_lines_are_joined_within_their_quoting() {
        let text = "> https://x.example/lo \n> ng?a=b\n> two  \n> words\nout \n-- \nsig\n";
        assert_eq!(
            String::from_utf8_lossy(&unflowed(text.as_bytes())),
            "> https://x.example/long?a=b\n> two words\nout\n-- \nsig\n"
        );
    }

    #[test]
    fn charsets_become_utf8_and_ascii_is_not_copied() {
        let text = |bytes: &'static [u8], charset| {
            let (text, _) = utf8(Cow::Borrowed(bytes), charset);
            String::from_utf8(text.into_owned()).unwrap()
        };
        assert_eq!(text(b"Jos\xe9", Some("ISO-8859-1")), "José");
        assert_eq!(text(b"Jos\xe9", None), "José");
        assert_eq!(text(b"Jos\xc3\xa9 \xff", Some("utf-8")), "José \u{fffd}");
        assert_eq!(text(b"Jos\xe9 M\xfcller", Some("utf-8")), "José Müller");
        assert_eq!(text(b"h\0i\0!\0", None), "hi!");
        assert_eq!(text(b"\0h\0i", Some("us-ascii")), "hi");
        assert_eq!(text(b"\xff\xfeh\0i\0", Some("utf-16")), "hi");
        assert_eq!(text(b"\x83e\x83X\x83g", Some("shift_jis")), "テスト");
        assert_eq!(text(b"\x1b$B%F%9%H\x1b(B", Some("iso-2022-jp")), "テスト");
        assert_eq!(text(b"\xef\xbb\xbf{}", None), "{}");
        assert!(matches!(utf8(Cow::Borrowed(b"plain"), Some("iso-8859-15")).0, Cow::Borrowed(_)));
        assert!(!utf8(Cow::Borrowed(b"x\xe9"), Some("klingon")).1);
    }
}
