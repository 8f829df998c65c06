//! A value into the text of its place: what it says there can only ever be a value.
//!
//! HTML and XML text and attributes, Markdown (CommonMark 0.31 sections 2.4 and 6), URL parts (RFC 3986
//! section 2.3), parts of file names. The text around the values is the operator's and stays as it is.

use std::fmt::Write as _;

use super::Place;

/// The ways to escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Escape {
    /// Plain text, and strings that a serializer writes.
    Plain,
    Html,
    Xml,
    Markdown,
    Url,
    FileName,
}

impl Escape {
    pub(super) const ALL: [Escape; 6] =
        [Escape::Plain, Escape::Html, Escape::Xml, Escape::Markdown, Escape::Url, Escape::FileName];

    /// How a text template escapes, by its name without `.hbs`.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "html" | "htm" => Some(Self::Html),
            "xml" => Some(Self::Xml),
            "md" => Some(Self::Markdown),
            "txt" => Some(Self::Plain),
            _ => None,
        }
    }

    pub(super) fn of_place(place: Place) -> Self {
        match place {
            Place::Leaf | Place::Text | Place::Header => Self::Plain,
            Place::UrlPath | Place::UrlQuery => Self::Url,
            Place::FilePath => Self::FileName,
        }
    }

    /// A value's text as it stands in this place.
    pub(super) fn apply(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Html | Self::Xml => markup(text),
            Self::Markdown => markdown(text),
            Self::Url => url(text),
            Self::FileName => file_name(text),
        }
    }
}

/// HTML and XML: the five characters of markup; control characters that XML 1.0 forbids are dropped.
pub(super) fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

/// Percent-encoding of everything but the unreserved characters.
pub(super) fn url(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

/// A part of a file's name: what separates or is special on any system becomes `_`.
fn file_name(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => '_',
            c if c.is_control() => '_',
            c => c,
        })
        .collect()
}

/// Markdown: characters that could begin emphasis, code, links, HTML, tables, headings, lists or rules.
pub(super) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        // Four blanks or a tab would begin a code block.
        let body = line.trim_start_matches([' ', '\t']);
        let indent = line.len() - body.len();
        out.push_str(if indent > 0 && !body.is_empty() { " " } else { "" });
        markdown_line(body, &mut out);
    }
    out
}

fn markdown_line(line: &str, out: &mut String) {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let numbered = digits > 0 && line.get(digits..).is_some_and(|r| r.starts_with(['.', ')']));
    let mut before = ' ';
    let mut rest = line.char_indices().peekable();
    while let Some((i, c)) = rest.next() {
        let after = rest.peek().map_or(' ', |(_, c)| *c);
        let escape = match c {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '~' => true,
            // Inside a word it is no emphasis, and addresses stay readable and clickable.
            '_' => !(before.is_alphanumeric() && after.is_alphanumeric()),
            '&' => line.get(i + 1..).is_some_and(is_entity),
            '#' | '+' | '-' | '=' => i == 0,
            '.' | ')' => numbered && i == digits,
            _ => false,
        };
        if escape {
            out.push('\\');
        }
        if c != '\r' && (c == '\t' || !c.is_control()) {
            out.push(c);
        }
        before = c;
    }
}

/// True if what follows an ampersand makes it a character reference.
fn is_entity(after: &str) -> bool {
    let name = after.len() - after.trim_start_matches(|c: char| c == '#' || c.is_ascii_alphanumeric()).len();
    name > 0 && after.get(name..).is_some_and(|r| r.starts_with(';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_can_not_be_opened_or_left() {
        assert_eq!(markup("<b title='x'>\"a\" & b\u{0}\u{8}\n"), "&lt;b title=&#39;x&#39;&gt;&quot;a&quot; &amp; b\n");
    }

    #[test]
    fn a_url_part_stays_one_part() {
        assert_eq!(url("a/b?c=d&e#f ä\r\n"), "a%2Fb%3Fc%3Dd%26e%23f%20%C3%A4%0D%0A");
    }

    #[test]
    fn a_part_of_a_file_name_separates_nothing() {
        assert_eq!(file_name("../a\\b:c\u{0}d"), ".._a_b_c_d");
    }

    #[test]
    fn markdown_stays_text_and_readable() {
        for (text, expected) in [
            ("*bold* `code`", "\\*bold\\* \\`code\\`"),
            ("# head\n- item\n1. one\n2026-02-17", "\\# head\n\\- item\n1\\. one\n2026-02-17"),
            ("[x](y) <b> a|b ~~c~~", "\\[x\\](y) \\<b\\> a\\|b \\~\\~c\\~\\~"),
            ("first_last _em_", "first_last \\_em\\_"),
            ("https://a.example/b_c?d=1&e=2", "https://a.example/b_c?d=1&e=2"),
            ("&lt;b&gt; AT&T", "\\&lt;b\\&gt; AT&T"),
            ("    code\n\tcode", " code\n code"),
            ("a\r\nb", "a\nb"),
        ] {
            assert_eq!(markdown(text), expected, "{text}");
        }
    }
}
