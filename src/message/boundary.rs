//! The body of a multipart → its parts, at the delimiter lines of RFC 2046 section 5.1.1.
//!
//! Ours because mail-parser 0.11 takes `--boundary` anywhere for a delimiter (its issue 156) and so drops
//! the rest of a body that merely mentions one. A delimiter begins a line and is alone on it. Searching is
//! `memmem`, so a body costs one fast pass, and nothing is ever copied.

use memchr::{memchr, memmem};

/// The parts of one multipart body, in order, without the line ends that belong to the delimiters.
/// Preamble and epilogue are not parts. A body that is never closed ends with its last part.
pub(super) struct Parts<'a> {
    body: &'a [u8],
    delimiter: memmem::Finder<'static>,
    /// Where the next part begins; `None` after the last.
    next: Option<usize>,
}

/// A delimiter line.
struct Line {
    /// Where the part before it ends.
    before: usize,
    /// Where what follows it begins.
    after: usize,
    /// Whether it is the closing one.
    closes: bool,
}

impl<'a> Parts<'a> {
    /// `None` if the body has no delimiter line for this boundary.
    pub(super) fn new(body: &'a [u8], boundary: &[u8]) -> Option<Self> {
        if boundary.is_empty() {
            return None;
        }
        let needle = [b"--", boundary].concat();
        let mut parts = Self { body, delimiter: memmem::Finder::new(&needle).into_owned(), next: None };
        let first = parts.line_from(0)?;
        parts.next = (!first.closes).then_some(first.after);
        Some(parts)
    }

    fn line_from(&self, mut from: usize) -> Option<Line> {
        loop {
            let rest = self.body.get(from..)?;
            let at = from + self.delimiter.find(rest)?;
            if let Some(line) = self.line_at(at) {
                return Some(line);
            }
            // The next candidate begins a line.
            from = at + memchr(b'\n', self.body.get(at..)?)?;
        }
    }

    fn line_at(&self, at: usize) -> Option<Line> {
        let head = self.body.get(..at)?;
        if !(head.is_empty() || head.ends_with(b"\n")) {
            return None;
        }
        let tail = self.body.get(at + self.delimiter.needle().len()..)?;
        let (closes, tail) = match tail.strip_prefix(b"--") {
            Some(tail) => (true, tail),
            None => (false, tail),
        };
        let padding = tail.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r')).count();
        let after = self.body.len() - tail.len() + padding;
        match tail.get(padding) {
            None => Some(Line { before: without_line_end(head), after, closes }),
            Some(b'\n') => Some(Line { before: without_line_end(head), after: after + 1, closes }),
            Some(_) => None,
        }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.next.take()?;
        let Some(line) = self.line_from(start) else {
            return self.body.get(start..).filter(|rest| !rest.is_empty());
        };
        self.next = (!line.closes).then_some(line.after);
        Some(self.body.get(start..line.before).unwrap_or_default())
    }
}

fn without_line_end(text: &[u8]) -> usize {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text).len()
}

/// The boundary that a multipart seems to use, when its own word for it is missing or wrong: the first
/// line that begins with `--`, if such a line comes again.
pub(super) fn guess(body: &[u8]) -> Option<&[u8]> {
    let at = if body.starts_with(b"--") { 0 } else { memmem::find(body, b"\n--")? + 1 };
    let line = body.get(at + 2..)?;
    let line = line.get(..memchr(b'\n', line)?)?.trim_ascii_end();
    let again = body.get(at + 2 + line.len()..)?;
    let needle = [b"\n--", line].concat();
    (!line.is_empty() && line.len() <= 200 && memmem::find(again, &needle).is_some()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(body: &str, boundary: &str) -> Vec<String> {
        let parts = Parts::new(body.as_bytes(), boundary.as_bytes());
        parts.into_iter().flatten().map(|p| String::from_utf8_lossy(p).into_owned()).collect()
    }

    #[test]
    fn a_boundary_in_the_middle_of_a_line_is_text() {
        let body = "--BND\r\n\r\nvisit --BND for details\r\nsecond line\r\n--BND--\r\n";
        assert_eq!(parts(body, "BND"), ["\r\nvisit --BND for details\r\nsecond line"]);
        assert_eq!(parts("--BND\n\nuse --BND\nand --BND--\nend\n--BND--\n", "BND"), ["\nuse --BND\nand --BND--\nend"]);
    }

    #[test]
    fn a_line_that_only_begins_like_the_delimiter_is_text() {
        let body = "--BND\n\n--BNDX\n--BND for details\n--BND-\n--BND--x\n--BND\n\ntwo\n--BND--";
        assert_eq!(parts(body, "BND"), ["\n--BNDX\n--BND for details\n--BND-\n--BND--x", "\ntwo"]);
    }

    #[test]
    fn white_space_after_a_delimiter_does_not_count() {
        assert_eq!(parts("--b \t\r\none\r\n--b--  \r\nepilogue", "b"), ["one"]);
    }

    #[test]
    fn preamble_and_epilogue_are_no_parts_and_empty_parts_are() {
        assert_eq!(parts("preamble\n--b\n--b\nx\n\n--b--\nepilogue\n--b\nno", "b"), ["", "x\n"]);
    }

    #[test]
    fn what_is_never_closed_ends_with_its_last_part() {
        assert_eq!(parts("--b\none\n--b\ntwo", "b"), ["one", "two"]);
        assert_eq!(parts("--b\none\n--b", "b"), ["one"]);
        assert_eq!(parts("--b--\n", "b"), Vec::<String>::new());
    }

    #[test]
    fn without_a_delimiter_there_are_no_parts() {
        assert!(Parts::new(b"text", b"b").is_none());
        assert!(Parts::new(b"--\n", b"").is_none());
    }

    #[test]
    fn a_wrong_boundary_is_guessed_from_lines_that_come_again() {
        assert_eq!(guess(b"hi\n--real\nx\n--real--\n"), Some(b"real".as_slice()));
        assert_eq!(guess(b"hi\n-- \nsignature\n"), None);
        assert_eq!(guess(b"hi\n--once\nx\n"), None);
    }
}
