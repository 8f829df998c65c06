//! JSON as mail delivers it: strict documents and what bodies make of them, in one pass.
//!
//! Beside RFC 8259 it reads wrapped strings, numbers and words, `>` and `|` quoting between lines, non-breaking
//! spaces, typographic and single quotes, Python's words, comments, trailing commas, lone surrogates and numbers too large
//! for a number (kept as strings of their digits). It stops at the end of the first value, never goes deeper than the cap, and never guesses where
//! a string with bare quotes in it ends.

use std::ops::Range;

use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// What stops a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text ends inside the value.
    End,
    /// Something else was expected at this offset.
    Syntax(usize),
    /// Nested deeper than the cap.
    Depth,
    /// More values than [`MAX_VALUES`].
    Size,
}

/// Values of one document, and of all sessions of a message together. A value of two bytes takes fifty times as
/// many in memory, so the size of a document alone bounds nothing.
pub(super) const MAX_VALUES: usize = 250_000;

/// A value, and where it ends.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) value: Value,
    /// Offset of the first byte after it.
    pub(super) end: usize,
    /// Keys that occur twice in one object with different values.
    pub(super) repeated: Vec<String>,
    /// Values in it, itself included.
    pub(super) values: usize,
    /// Written as another language writes it: single quotes, `None`, trailing commas.
    pub(super) loose: bool,
}

/// How a text may be damaged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dress {
    /// It is a body: line breaks in strings are wraps, non-breaking spaces are spaces.
    pub(super) body: bool,
    /// Levels of `>` or `|` before each line.
    pub(super) quoted: usize,
    /// Lines were cut at a fixed width: a break stands for nothing, not for a blank.
    pub(super) cut: bool,
}

/// True for the first byte of a key without quotes.
pub(super) fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

/// Reads the value that starts at `start`. On a fault the second value is how far it came.
pub(super) fn parse(text: &str, start: usize, dress: Dress, max_depth: usize) -> Result<Parsed, (Fault, usize)> {
    let mut parser = Parser {
        text,
        bytes: text.as_bytes(),
        at: start,
        dress,
        left: max_depth.min(120),
        repeated: Vec::new(),
        loose: false,
        judged: None,
        values: 0,
    };
    match parser.value() {
        Ok(value) => {
            let Parser { at, repeated, loose, values, .. } = parser;
            Ok(Parsed { value, end: at, repeated, loose, values })
        }
        Err(fault) => Err((fault, parser.at)),
    }
}

/// Links are words, too.
const LONGEST_WORD: usize = 4_096;

struct Parser<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    dress: Dress,
    left: usize,
    repeated: Vec<String>,
    values: usize,
    loose: bool,
    /// A comment behind a quote, and whether something structural follows it.
    judged: Option<(Range<usize>, bool)>,
}

/// Bytes of the quotes that a word processor makes of `"`, and their length.
const TYPOGRAPHIC: [&str; 8] = ["“", "”", "„", "‟", "«", "»", "″", "＂"];

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn fault<T>(&self) -> Result<T, Fault> {
        Err(if self.at >= self.bytes.len() { Fault::End } else { Fault::Syntax(self.at) })
    }

    /// Blanks and comments.
    fn blanks(&mut self) {
        self.spaces();
        while self.peek() == Some(b'/') && self.comment() {
            self.loose = true;
            self.spaces();
        }
    }

    /// Blanks, line breaks with their quote marks, and the invisible characters that mail programs add.
    fn spaces(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => {
                    self.at += 1;
                    self.quote_marks();
                }
                0xC2 if self.bytes.get(self.at + 1) == Some(&0xA0) => self.at += 2,
                0xE2 | 0xEF => {
                    let Some(c) = self.rest().chars().next() else { return };
                    if !matches!(
                        c,
                        '\u{2000}'..='\u{200D}' | '\u{2028}' | '\u{2029}' | '\u{202F}' | '\u{2060}' | '\u{FEFF}'
                    ) {
                        return;
                    }
                    self.at += c.len_utf8();
                }
                _ => return,
            }
        }
    }

    /// Goes over a comment as scripts have it, in one line or closed; false if none begins here.
    fn comment(&mut self) -> bool {
        let rest = self.rest().as_bytes();
        let length = match rest.get(1) {
            Some(b'/') => memchr::memchr(b'\n', rest).unwrap_or(rest.len()),
            // A cap, for the search may be repeated at every brace.
            Some(b'*') => match memchr::memmem::find(rest.get(..4_096).unwrap_or(rest), b"*/") {
                Some(end) => end + 2,
                None => return false,
            },
            _ => return false,
        };
        self.at += length;
        true
    }

    /// `>`, `|` and `> >` at the start of a line, as many as the line of the opening brace has.
    fn quote_marks(&mut self) {
        for _ in 0..self.dress.quoted {
            let mut ahead = self.at;
            while self.bytes.get(ahead).is_some_and(|b| *b == b' ') && ahead < self.at + 2 {
                ahead += 1;
            }
            if !matches!(self.bytes.get(ahead), Some(b'>' | b'|')) {
                return;
            }
            self.at = ahead + 1;
        }
        if self.dress.quoted > 0 && self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn typographic(&self) -> Option<usize> {
        if self.peek()? < 0xC2 {
            return None;
        }
        TYPOGRAPHIC.iter().find(|q| self.rest().starts_with(**q)).map(|q| q.len())
    }

    fn value(&mut self) -> Result<Value, Fault> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(Fault::Size);
        }
        self.blanks();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'N') => self.loose_word("NaN", Value::Null).or_else(|_| self.loose_word("None", Value::Null)),
            Some(b'T') => self.loose_word("True", Value::Bool(true)),
            Some(b'F') => self.loose_word("False", Value::Bool(false)),
            Some(b'u') => self.loose_word("undefined", Value::Null).or_else(|_| self.string().map(Value::String)),
            _ => self.string().map(Value::String),
        }
    }

    fn nested(&mut self, read: impl Fn(&mut Self) -> Result<Value, Fault>) -> Result<Value, Fault> {
        if self.left == 0 {
            return Err(Fault::Depth);
        }
        self.left -= 1;
        self.at += 1;
        let value = read(self);
        self.left += 1;
        value
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Fault> {
        let start = self.at;
        for letter in word.bytes() {
            if self.peek() != Some(letter) {
                self.wrap_before(|b| b == letter);
            }
            match self.peek() {
                Some(byte) if byte == letter => self.at += 1,
                None => return Err(Fault::End),
                Some(_) => {
                    let fault = self.fault();
                    self.at = start;
                    return fault;
                }
            }
        }
        if self.peek().is_some_and(|b| b.is_ascii_alphanumeric()) {
            self.at = start;
            return self.fault();
        }
        Ok(value)
    }

    fn loose_word(&mut self, word: &str, value: Value) -> Result<Value, Fault> {
        let value = self.word(word, value)?;
        self.loose = true;
        Ok(value)
    }

    /// Goes over a line break within a number or word, if what fits follows it: no other reading is JSON.
    fn wrap_before(&mut self, fits: impl Fn(u8) -> bool) -> bool {
        let start = self.at;
        if self.dress.body && matches!(self.peek(), Some(b'\r' | b'\n' | b' ')) {
            while matches!(self.peek(), Some(b'\r' | b' ')) && self.at < start + 2 {
                self.at += 1;
            }
            if self.peek() == Some(b'\n') {
                self.at += 1;
                self.quote_marks();
                while self.peek() == Some(b' ') {
                    self.at += 1;
                }
                if self.peek().is_some_and(&fits) {
                    return true;
                }
            }
        }
        self.at = start;
        false
    }

    fn object(&mut self) -> Result<Value, Fault> {
        let mut out = Map::new();
        loop {
            self.blanks();
            if self.peek() == Some(b'}') {
                self.at += 1;
                self.loose |= !out.is_empty();
                return Ok(Value::Object(out));
            }
            let key = if self.peek().is_some_and(is_name_start) { self.bare_key() } else { self.string()? };
            self.blanks();
            if self.peek() != Some(b':') {
                return self.fault();
            }
            self.at += 1;
            let value = self.value()?;
            match out.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(value);
                }
                Entry::Occupied(mut held) => {
                    if *held.get() != value && self.repeated.len() < 16 {
                        self.repeated.push(held.key().clone());
                    }
                    held.insert(value);
                }
            }
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(out));
                }
                _ => return self.fault(),
            }
        }
    }

    /// A key without quotes, as scripts write objects.
    fn bare_key(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let key = rest.get(..end).unwrap_or("").to_owned();
        self.at += end;
        self.loose = true;
        key
    }

    fn array(&mut self) -> Result<Value, Fault> {
        let mut out = Vec::new();
        loop {
            self.blanks();
            if self.peek() == Some(b']') {
                self.at += 1;
                self.loose |= !out.is_empty();
                return Ok(Value::Array(out));
            }
            out.push(self.value()?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(out));
                }
                _ => return self.fault(),
            }
        }
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let start = self.at;
        let is_part = |b: u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let mut joined = String::new();
        let mut from = start;
        loop {
            while self.peek().is_some_and(is_part) {
                self.at += 1;
            }
            let end = self.at;
            if !self.wrap_before(is_part) {
                joined.push_str(if joined.is_empty() { "" } else { self.text.get(from..end).unwrap_or("") });
                break;
            }
            joined.push_str(self.text.get(from..end).unwrap_or(""));
            from = self.at;
        }
        let text = if joined.is_empty() { self.text.get(start..self.at).unwrap_or("") } else { joined.as_str() };
        if let Ok(number) = text.parse::<i64>() {
            return Ok(Value::Number(number.into()));
        }
        if let Ok(number) = text.parse::<u64>() {
            return Ok(Value::Number(number.into()));
        }
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<f64>() {
            Ok(float) if !digits && float.is_finite() => {
                Ok(Number::from_f64(float).map_or_else(|| Value::String(text.to_owned()), Value::Number))
            }
            Ok(_) => Ok(Value::String(text.to_owned())),
            Err(_) => {
                self.at = start;
                Err(Fault::Syntax(start))
            }
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        if self.peek() == Some(b'"') {
            self.at += 1;
            return self.plain_string();
        }
        if self.peek() == Some(b'\'') {
            self.at += 1;
            self.loose = true;
            return self.marked_string(true);
        }
        match self.typographic() {
            Some(length) => {
                self.at += length;
                self.marked_string(false)
            }
            None => self.fault(),
        }
    }

    fn plain_string(&mut self) -> Result<String, Fault> {
        let mut out = String::new();
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or(&[]);
            let stops = |b: &u8| matches!(b, b'"' | b'\\' | b'\n' | b'\r') || (self.dress.body && *b == 0xC2);
            let run = rest.iter().position(stops).unwrap_or(rest.len());
            if out.is_empty() {
                out.reserve_exact(run);
            }
            out.push_str(self.text.get(self.at..self.at + run).unwrap_or(""));
            self.at += run;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(_) => self.odd_character(&mut out)?,
                None => return Err(Fault::End),
            }
        }
    }

    /// Whether something structural comes next, behind a comment at most. Quotes in that comment are followed by
    /// what it is followed by: said once, or each of them would have the rest of the line looked at again.
    fn ends_string(&mut self) -> bool {
        let is_structural = |byte: Option<u8>| matches!(byte, Some(b':' | b',' | b'}' | b']'));
        self.spaces();
        if !self.rest().starts_with("//") {
            return is_structural(self.peek());
        }
        let start = self.at;
        if let Some((comment, ends)) = &self.judged
            && comment.contains(&start)
        {
            return *ends;
        }
        self.comment();
        let end = self.at;
        self.spaces();
        let ends = is_structural(self.peek());
        self.judged = Some((start..end, ends));
        ends
    }

    /// A string between typographic or single quotes ends at the quote that something structural follows.
    fn marked_string(&mut self, single: bool) -> Result<String, Fault> {
        let mut out = String::new();
        loop {
            let quote = match self.peek() {
                Some(b'\'') if single => Some(1),
                _ if single => None,
                Some(b'"') => Some(1),
                _ => self.typographic(),
            };
            if let Some(length) = quote {
                let before = self.at;
                self.at += length;
                let after = self.at;
                let ends = self.ends_string();
                self.at = after;
                if ends {
                    return Ok(out);
                }
                out.push_str(self.text.get(before..after).unwrap_or(""));
                continue;
            }
            match self.rest().chars().next() {
                None => return Err(Fault::End),
                Some('\\' | '\n' | '\r' | '\u{A0}') => self.odd_character(&mut out)?,
                Some(c) => {
                    out.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
    }

    /// An escape, a line break, or a character that starts like a non-breaking space.
    fn odd_character(&mut self, out: &mut String) -> Result<(), Fault> {
        match self.peek() {
            Some(b'\\') => self.escape(out),
            Some(b'\r') if self.bytes.get(self.at + 1) == Some(&b'\n') => {
                self.at += 1;
                Ok(())
            }
            Some(b'\n' | b'\r') => {
                self.at += 1;
                self.line_break(out);
                Ok(())
            }
            _ => {
                let Some(c) = self.rest().chars().next() else { return Err(Fault::End) };
                self.at += c.len_utf8();
                out.push(if c == '\u{A0}' && self.dress.body { ' ' } else { c });
                Ok(())
            }
        }
    }

    /// In a body a line break in a string is a wrap: format=flowed keeps the blank before it, word wrap took
    /// it away, and a wrap inside a link or number took nothing.
    fn line_break(&mut self, out: &mut String) {
        if !self.dress.body {
            out.push('\n');
            return;
        }
        self.quote_marks();
        if self.dress.cut {
            return;
        }
        while matches!(self.peek(), Some(b' ' | b'\t')) && (out.ends_with(' ') || out.is_empty()) {
            self.at += 1;
        }
        if out.is_empty() || out.ends_with(' ') || self.peek() == Some(b' ') {
            return;
        }
        // What is longer is no word; to look for its beginning at every break would be quadratic.
        let tail = out.get(out.floor_char_boundary(out.len().saturating_sub(LONGEST_WORD))..).unwrap_or("");
        let Some(word) = tail.rsplit(' ').next().filter(|word| word.len() < LONGEST_WORD) else { return };
        let is_link = word.contains("://") || word.contains('@');
        let is_token = word.len() == out.len() && word.bytes().any(|b| matches!(b, b'_' | b'0'..=b'9'));
        if is_link || is_token || (word.len() > 1 && word.ends_with('-')) {
            return;
        }
        out.push(' ');
    }

    fn escape(&mut self, out: &mut String) -> Result<(), Fault> {
        self.at += 1;
        let Some(c) = self.rest().chars().next() else { return Err(Fault::End) };
        self.at += c.len_utf8();
        match c {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'u' => out.push(self.code_unit()?),
            '"' | '\\' | '/' | '\'' => out.push(c),
            // The escaped quote, after a word processor.
            '“' | '”' | '„' => out.push('"'),
            // A wrap between the backslash and its letter.
            '\n' if self.dress.body => {
                self.quote_marks();
                let Some(c) = self.rest().chars().next() else { return Err(Fault::End) };
                self.at += c.len_utf8();
                out.push(match c {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                });
            }
            _ => {
                self.at -= c.len_utf8() + 1;
                return Err(Fault::Syntax(self.at));
            }
        }
        Ok(())
    }

    /// `XXXX` of `\uXXXX`, with its second half if it is a surrogate; half a pair alone is U+FFFD.
    fn code_unit(&mut self) -> Result<char, Fault> {
        let first = self.hex4(self.at)?;
        self.at += 4;
        if (0xD800..0xDC00).contains(&first)
            && self.bytes.get(self.at..self.at + 2) == Some(b"\\u")
            && let Ok(second) = self.hex4(self.at + 2)
            && (0xDC00..0xE000).contains(&second)
        {
            self.at += 6;
            let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&self, at: usize) -> Result<u32, Fault> {
        let Some(digits) = self.text.get(at..at + 4) else {
            return Err(if at + 4 > self.bytes.len() { Fault::End } else { Fault::Syntax(at) });
        };
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Fault::Syntax(at));
        }
        u32::from_str_radix(digits, 16).map_err(|_| Fault::Syntax(at))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(text: &str, quoted: usize) -> Value {
        parse(text, 0, Dress { body: true, quoted, cut: false }, 64)
            .map(|p| p.value)
            .unwrap_or_else(|f| panic!("{f:?} in {text}"))
    }

    #[test]
    fn strict_json_reads_as_serde_reads_it() {
        for text in [
            r#"{"a":1,"b":[true,false,null,-1.5e3,"x\n\t\"\\\/\u00e9\ud83d\ude00"],"c":{},"d":[],"e":18446744073709551615}"#,
            "[]",
            " {\n\t\"ä\" : \"\u{a0}ü\" }",
            "\"s\"",
            "-0.25",
        ] {
            let expected: Value = serde_json::from_str(text).expect("strict JSON");
            let got = parse(text, 0, Dress::default(), 64).map(|p| p.value);
            assert_eq!(got.ok(), Some(expected), "{text}");
        }
    }

    #[test]
    fn wraps_inside_strings_are_mended() {
        assert_eq!(
            body("{\"note\": \"Second charge\nreversed, reference \nR-5521\"}", 0),
            json!({ "note": "Second charge reversed, reference R-5521" })
        );
        assert_eq!(
            body("{\"u\": \"https://crm.example.test/ca\nses/C-1\", \"t\":\"2026-02-17T10:\n02:11Z\"}", 0),
            json!({ "u": "https://crm.example.test/cases/C-1", "t": "2026-02-17T10:02:11Z" })
        );
        assert_eq!(body("{\"session_\r\ntype\": 1}", 0), json!({ "session_type": 1 }));
    }

    #[test]
    fn wraps_inside_numbers_and_words_and_cut_lines_are_mended() {
        assert_eq!(
            body("{\"a\": 36\n2, \"b\": tr\nue, \"c\": nul\r\n> l}", 1),
            json!({ "a": 362, "b": true, "c": null })
        );
        assert_eq!(body("{\"a\": 36\n, \"b\": 1\n}", 0), json!({ "a": 36, "b": 1 }));
        let dress = Dress { body: true, quoted: 0, cut: true };
        let got = parse("{\"type\": \"Voice In\nbound\", \"n\": 4\n8}", 0, dress, 64).map(|p| p.value);
        assert_eq!(got, Ok(json!({ "type": "Voice Inbound", "n": 48 })));
    }

    #[test]
    fn what_other_languages_print_is_read_and_told() {
        let loose = |text: &str| parse(text, 0, Dress::default(), 64).map(|p| (p.value, p.loose));
        assert_eq!(
            loose("{'id': 1, 'note': \"it's\", 'b': 'say \\'hi\\' it\\'s', 'c': None, 'd': True, 'e': [1, 2,],}"),
            Ok((json!({ "id": 1, "note": "it's", "b": "say 'hi' it's", "c": null, "d": true, "e": [1, 2] }), true))
        );
        assert_eq!(loose("{\"a\": [], \"b\": {}}"), Ok((json!({ "a": [], "b": {} }), false)));
        assert_eq!(loose("{\"a\": 1,}"), Ok((json!({ "a": 1 }), true)));
        assert_eq!(
            loose("{id: 1, /* x */ call_type: 'IvrCall' // y\n}"),
            Ok((json!({ "id": 1, "call_type": "IvrCall" }), true))
        );
    }

    #[test]
    fn quote_marks_between_lines_are_skipped() {
        assert_eq!(body("{\n> \"id\": 1,\n> \"note\": \"a\n> b\"\n> }", 1), json!({ "id": 1, "note": "a b" }));
        assert_eq!(body("{\n> > \"id\": 1\n>> , \"x\": 2 }", 2), json!({ "id": 1, "x": 2 }));
    }

    #[test]
    fn typographic_quotes_and_hard_spaces_are_read() {
        assert_eq!(
            body("{\u{a0}“id”: 1, „note”:\u{a0}“He said “hi” to\u{a0}me” }", 0),
            json!({ "id": 1, "note": "He said “hi” to me" })
        );
    }

    #[test]
    fn odd_values_are_kept_and_never_panic() {
        assert_eq!(
            body(r#"{"id": 123456789012345678901234567890, "s": "\ud800x", "f": 1e999,}"#, 0),
            json!({ "id": "123456789012345678901234567890", "s": "\u{fffd}x", "f": "1e999" })
        );
        let twice = parse(r#"{"a":1,"a":2,"b":1,"b":1}"#, 0, Dress::default(), 64).expect("a value");
        assert_eq!((twice.repeated, twice.value["a"].clone()), (vec!["a".to_owned()], json!(2)));
    }

    #[test]
    fn faults_say_what_is_wrong() {
        let fault = |text: &str| parse(text, 0, Dress::default(), 8).map_err(|(f, _)| f).map(|p| p.value);
        assert_eq!(fault("{\"a\": \"x"), Err(Fault::End));
        assert_eq!(fault("{\"a\": tru"), Err(Fault::End));
        assert_eq!(fault("{\"a\" 1}"), Err(Fault::Syntax(5)));
        assert_eq!(fault(&"[".repeat(9)), Err(Fault::Depth));
        assert_eq!(fault(&format!("[{}0]", "0,".repeat(MAX_VALUES - 1))), Err(Fault::Size));
        assert_eq!(fault("{\"a\": \"\\x\"}"), Err(Fault::Syntax(7)));
    }

    #[test]
    fn any_cut_and_any_flip_is_survived() {
        let text = r#"{"a":[1,{"b":"x\u00e9\ud83d\ude00“”"}],"c":"\"é"}"#;
        for (i, _) in text.char_indices() {
            let _ = parse(text.get(..i).unwrap_or(""), 0, Dress { body: true, quoted: 1, cut: false }, 64);
        }
        for seed in 0..2_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..3 {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            let _ = parse(&String::from_utf8_lossy(&bytes), 0, Dress { body: true, quoted: 1, cut: false }, 64);
        }
    }
}
