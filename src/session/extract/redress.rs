//! A body that a mail program dressed once more than it says → what it was before: quoted-printable left over
//! from a second encoding, entities escaped again, markup sent as plain text, numbered lines of a listing.
//!
//! Tried only where the body as it stands has no session, so that it costs ordinary readings nothing. Each
//! dressing is taken off as a whole; nothing is guessed inside a value.

use std::borrow::Cow;

use base64::Engine as _;
use memchr::memmem;

use crate::message::{Kind, html, unlabelled};

/// How often entities may have been escaped.
const LAYERS: usize = 4;

/// The text without what quoted-printable left in it, if there are sure signs of that: soft line breaks, escapes
/// of other letters, or `=3D` twice before a value. One alone may be what somebody meant.
pub(super) fn quoted_printable(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let has = |needle: &[u8]| memmem::find(bytes, needle).is_some();
    let has_breaks = || (has(b"=\n") || has(b"=\r\n")) && (has(b"=20") || has(b"=22") || soft_breaks(text) >= 2);
    let has_equals = || {
        let follows = |at: usize| bytes.get(at + 3).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'"');
        memmem::find_iter(bytes, b"=3D").filter(|at| follows(*at)).take(2).count() == 2
    };
    let is_left =
        memchr::memchr(b'=', bytes).is_some() && (has(b"=C3=") || has(b"=E2=80=") || has_breaks() || has_equals());
    if !is_left {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'=', rest) {
        let (before, escape) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(before);
        let hex = |b: u8| char::from(b).to_digit(16).filter(|_| !b.is_ascii_lowercase());
        let used = match escape {
            [_, b'\r', b'\n', ..] => 3,
            [_, b'\n', ..] => 2,
            [_, high, low, ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    out.push((high << 4 | low) as u8);
                    3
                }
                _ => {
                    out.push(b'=');
                    1
                }
            },
            _ => {
                out.push(b'=');
                1
            }
        };
        rest = escape.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    Cow::Owned(unlabelled(&out).into_owned())
}

/// Lines that end with `=` where quoted-printable breaks them.
fn soft_breaks(text: &str) -> usize {
    text.lines().filter(|line| (70..=77).contains(&line.len()) && line.ends_with('=') && !line.ends_with("==")).count()
}

/// Other readings of a body in which nothing was found, the likelier first.
pub(super) fn others(kind: Kind, text: &str) -> Vec<(Kind, String)> {
    let mut all = Vec::new();
    let mut text = Cow::Borrowed(text);
    let has =
        |text: &str, needles: &[&str]| needles.iter().any(|n| memmem::find(text.as_bytes(), n.as_bytes()).is_some());
    if kind == Kind::Text && has(&text, &["<br", "</", "<BR"]) {
        all.push((Kind::Html, text.clone().into_owned()));
    }
    if let Some(decoded) = base64_text(&text) {
        all.push((Kind::Text, decoded));
    }
    if memchr::memchr(b'{', text.as_bytes()).is_some() && has(&text, &["\\\"", "\\&quot;"]) {
        let plain = if kind == Kind::Html { Cow::Owned(html::read(&text).text) } else { text.clone() };
        all.push((Kind::Text, without_backslashes(&plain)));
    }
    let mut is_markup = kind == Kind::Html;
    for _ in 0..LAYERS {
        // One layer is what HTML has anyway.
        let layers = if is_markup { &HTML_TWICE[..] } else { &TEXT_ONCE[..] };
        if !has(&text, layers) {
            break;
        }
        let shown = if is_markup { html::read(&text).text } else { html::unescape(&text).into_owned() };
        is_markup = has(&shown, &["</", "<br", "<BR"]);
        all.push((if is_markup { Kind::Html } else { Kind::Text }, shown.clone()));
        text = Cow::Owned(shown);
    }
    if memchr::memchr(b'{', text.as_bytes()).is_some() {
        let plain = if is_markup { Cow::Owned(html::read(&text).text) } else { text };
        all.extend(without_numbers(&plain).map(|text| (Kind::Text, text)));
    }
    all
}

/// A JSON string's own text: JSON that was encoded twice.
fn without_backslashes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        match c {
            '\\' => match letters.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(c @ ('"' | '\\' | '/')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

/// The text in a body that is nothing but base64, of which the head of the part says nothing.
fn base64_text(text: &str) -> Option<String> {
    let text = text.trim();
    let is_letter = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    if text.len() < 64 || !text.as_bytes().iter().take(40).all(is_letter) {
        return None;
    }
    let letters: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let decoded = base64::engine::general_purpose::STANDARD.decode(letters).ok()?;
    super::json::decode(&decoded).map(Cow::into_owned)
}

const TEXT_ONCE: [&str; 7] = ["&quot;", "&#34;", "&#x22;", "&amp;quot;", "&lt;/", "&lt;br", "&nbsp;"];
const HTML_TWICE: [&str; 7] = ["&amp;quot;", "&amp;#", "&amp;lt;", "&amp;amp;", "&lt;/", "&lt;br", "&amp;nbsp;"];

/// The number that a line of a listing begins with, and the rest.
fn numbered(line: &str) -> Option<(u32, &str)> {
    let line = line.trim_start();
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let rest = line.get(digits..)?;
    let number = line.get(..digits)?.parse().ok()?;
    (rest.is_empty() || rest.starts_with(['\t', ' ', '|', ':', '.'])).then_some((number, rest))
}

/// A listing without the numbers before its lines; `None` if they are not in order.
fn without_numbers(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut next, mut count) = (None, 0);
    for line in text.lines() {
        match numbered(line).filter(|(n, _)| next.is_none_or(|next| *n == next)) {
            Some((n, rest)) => {
                next = n.checked_add(1);
                count += 1;
                out.push_str(rest.trim_start_matches(['|', ':', '.']));
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    (count >= 4).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_quoted_printable_are_taken_off_and_plain_text_is_not_copied() {
        assert_eq!(
            quoted_printable("{\"a\": \"x=3D1\", =\n\"b\": \"caf=C3=A9\"}"),
            "{\"a\": \"x=1\", \"b\": \"café\"}"
        );
        for plain in ["a = b\nx=y", "https://x.example/?a=1&b=20", "a?view=3D&b", "key==\n", "=\n", "café"] {
            assert!(matches!(quoted_printable(plain), Cow::Borrowed(_)), "{plain}");
        }
    }

    #[test]
    fn entities_and_markup_come_off_in_layers() {
        let last = |kind, text: &str| others(kind, text).last().map(|(_, text)| text.clone()).unwrap_or_default();
        assert_eq!(last(Kind::Text, "{&amp;quot;a&amp;quot;:1}"), "{\"a\":1}");
        assert_eq!(last(Kind::Html, "<p>{&amp;amp;quot;a&amp;amp;quot;:1}</p>").trim(), "{\"a\":1}");
        assert_eq!(others(Kind::Text, "<br>a</p>").first().map(|(kind, _)| *kind), Some(Kind::Html));
        assert!(others(Kind::Text, "plain & simple").is_empty());
    }

    #[test]
    fn numbers_before_lines_come_off_if_they_are_in_order() {
        assert_eq!(without_numbers("x\n1\t{\n2\t\"a\": 1\n3\t}\n4\n").as_deref(), Some("x\n\t{\n\t\"a\": 1\n\t}\n\n"));
        assert_eq!(without_numbers("1 a\n3 b\n5 c\n7 d\n"), None);
    }
}
