//! Where a template's characters stand in its file: a template inside a JSON or TOML string is shorter
//! than its source wherever that has an escape, and diagnostics name places in the file.

use std::ops::Range;
use std::str::Chars;

use crate::diagnostic::{Diagnostic, SourceFile};

/// A text that was taken from a file, with the way back.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The file.
    pub(super) file: SourceFile,
    /// Where the text begins in the file.
    start: usize,
    /// Bytes that the text has in front and the file doesn't.
    prefix: usize,
    /// After this byte of the text, the file is this much ahead of `start`; ordered.
    steps: Vec<(usize, isize)>,
}

impl Origin {
    /// The text is the whole file.
    pub(super) fn whole(file: &SourceFile) -> Self {
        Self { file: file.clone(), start: 0, prefix: 0, steps: Vec::new() }
    }

    /// The text is a string that begins at byte `start` of the file, where it may be written with the
    /// escapes of JSON or TOML. Without a likeness to the file, all places are the start.
    pub(super) fn string(file: &SourceFile, start: usize, text: &str) -> Self {
        let mut steps = Vec::new();
        let source = file.text.get(start..).unwrap_or("");
        if !source.starts_with(text) {
            let mut rest = source.chars();
            let mut shift = 0isize;
            for (at, wanted) in text.char_indices() {
                let before = rest.as_str().len();
                let found = next_char(&mut rest, wanted);
                if found != Some(wanted) {
                    break;
                }
                let width = wanted.len_utf8();
                let taken = before - rest.as_str().len();
                if taken != width {
                    shift += taken as isize - width as isize;
                    steps.push((at + width, shift));
                }
            }
        }
        Self { file: file.clone(), start, prefix: 0, steps }
    }

    /// The same for a text that got `prefix` more bytes in front.
    pub(super) fn behind(self, prefix: usize) -> Self {
        Self { prefix, ..self }
    }

    /// The byte in the file of a byte of the text.
    pub(super) fn offset(&self, at: usize) -> usize {
        let at = at.saturating_sub(self.prefix);
        let known = self.steps.partition_point(|(from, _)| *from <= at);
        let shift = known.checked_sub(1).and_then(|i| self.steps.get(i)).map_or(0, |(_, shift)| *shift);
        (self.start + at).saturating_add_signed(shift).min(self.file.text.len())
    }

    /// A fault at a range of the text.
    pub(super) fn fault(&self, span: Range<usize>, code: &'static str, message: impl Into<String>) -> Diagnostic {
        self.file.fault(self.offset(span.start)..self.offset(span.end), code, message)
    }

    /// Line and column in the file of a byte of the text.
    pub(super) fn line_column(&self, at: usize) -> (u32, u32) {
        self.file.line_column(self.offset(at))
    }
}

/// The next character that a string literal means; `wanted` decides what a backslash before it is.
fn next_char(rest: &mut Chars<'_>, wanted: char) -> Option<char> {
    loop {
        let c = rest.next()?;
        if c == '\r' && wanted == '\n' {
            continue;
        }
        if c != '\\' {
            return Some(c);
        }
        let escaped = rest.next()?;
        return Some(match escaped {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'e' => '\u{1b}',
            'x' => hex(rest, 2)?,
            'u' => unicode(rest)?,
            'U' => hex(rest, 8)?,
            // TOML: a backslash at the end of a line swallows the blanks after it.
            c if c.is_whitespace() => {
                let text = rest.as_str().trim_start();
                *rest = text.chars();
                continue;
            }
            c => c,
        });
    }
}

fn unicode(rest: &mut Chars<'_>) -> Option<char> {
    let high = number(rest, 4)?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high);
    }
    let mut ahead = rest.clone();
    if (ahead.next(), ahead.next()) != (Some('\\'), Some('u')) {
        return None;
    }
    let low = number(&mut ahead, 4)?;
    *rest = ahead;
    char::from_u32(0x10000 + ((high - 0xd800) << 10) + low.checked_sub(0xdc00)?)
}

fn hex(rest: &mut Chars<'_>, digits: usize) -> Option<char> {
    char::from_u32(number(rest, digits)?)
}

fn number(rest: &mut Chars<'_>, digits: usize) -> Option<u32> {
    let text = rest.as_str().get(..digits)?;
    let number = u32::from_str_radix(text, 16).ok()?;
    *rest = rest.as_str().get(digits..)?.chars();
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_exact_behind_escapes() {
        let file = SourceFile::new("a.json", r#"{"a": "x\n\u00e4\ud83d\ude00 \"{{nope}}"}"#);
        let text = "x\nä😀 \"{{nope}}";
        let origin = Origin::string(&file, 7, text);
        let at = text.find("nope").expect("there");
        assert_eq!(origin.offset(at), file.text.find("nope").expect("there"));
        assert_eq!(origin.offset(0), 7);
    }

    #[test]
    fn lines_of_a_toml_string_may_be_folded() {
        let file = SourceFile::new("a.toml", "a = \"\"\"x \\\n   {{nope}}\"\"\"");
        let text = "x {{nope}}";
        let origin = Origin::string(&file, 7, text);
        assert_eq!(origin.line_column(text.find("nope").expect("there")), (2, 6));
    }

    #[test]
    fn a_text_that_is_not_in_the_file_is_at_its_start() {
        let file = SourceFile::new("a.toml", "a = 5");
        assert_eq!(Origin::string(&file, 4, "{{nope}}").line_column(200), (1, 6));
    }
}
