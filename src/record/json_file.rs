//! A reader of JSON files (RFC 8259) that keeps where every value, string and key stands, so that a fault
//! in a payload template has its place. Stricter than the RFC in one point: a key may occur once.

use std::ops::Range;

use serde_json::Number;

use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile};

/// A value with its bytes in the file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// From its first to behind its last character.
    pub(super) span: Range<usize>,
    /// What it is.
    pub(super) json: Json,
}

/// The values of JSON.
#[derive(Debug, Clone)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(Text),
    Array(Vec<Node>),
    Object(Vec<(Text, Node)>),
}

/// A string or key: its meaning, and its bytes between the quotes.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) value: String,
    pub(super) span: Range<usize>,
}

/// Deeper than any request body; more would only serve to exhaust the stack.
const DEPTH: usize = 64;

/// Reads a whole file. Syntax stops at the first fault; double keys and commas too many are all reported.
pub(super) fn read(file: &SourceFile) -> Result<Node, Diagnostics> {
    let mut reader = Reader { file, at: 0, faults: Diagnostics::new() };
    if file.text.starts_with('\u{feff}') {
        reader.at = '\u{feff}'.len_utf8();
    }
    let node = reader.value(0).and_then(|node| {
        reader.blanks();
        match reader.peek() {
            None => Ok(node),
            Some(_) => Err(reader.fault("there is more after the end of the document", "a file holds one JSON value")),
        }
    });
    match node {
        Ok(node) => reader.faults.into_result(node),
        Err(fault) => {
            reader.faults.push(*fault);
            Err(reader.faults)
        }
    }
}

struct Reader<'a> {
    file: &'a SourceFile,
    at: usize,
    faults: Diagnostics,
}

/// Boxed, so that the way without faults stays small.
type Fault = Box<Diagnostic>;

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.file.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn fault(&self, message: &str, hint: &str) -> Fault {
        let width = self.peek().map_or(0, char::len_utf8);
        Box::new(self.file.fault(self.at..self.at + width, "json_syntax", message).hint(hint))
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        self.blanks();
        if depth > DEPTH {
            return Err(self.fault("the document is nested too deep", &format!("{DEPTH} levels are the most")));
        }
        let start = self.at;
        let json = match self.peek() {
            Some('{') => Json::Object(self.object(depth)?),
            Some('[') => Json::Array(self.array(depth)?),
            Some('"') => Json::String(self.string()?),
            Some('-' | '0'..='9') => Json::Number(self.number()?),
            Some(c) if c.is_ascii_alphabetic() => self.word()?,
            Some('/') => return Err(self.fault("JSON has no comments", "delete it, or say it in the folder's README")),
            Some('\'') => return Err(self.fault("a string begins with a double quote", "write `\"` instead of `'`")),
            Some(_) => return Err(self.fault("a value is expected here", "such as a string, `{` or `[`")),
            None => return Err(self.fault("the document ends where a value is expected", "it may have been cut off")),
        };
        Ok(Node { span: start..self.at, json })
    }

    fn word(&mut self) -> Result<Json, Fault> {
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let json = match rest.get(..length).unwrap_or("") {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            _ => return Err(self.fault("this word is no JSON value", "put text between double quotes")),
        };
        self.at += length;
        Ok(json)
    }

    fn number(&mut self) -> Result<Number, Fault> {
        let rest = self.rest();
        let length = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        match serde_json::from_str(rest.get(..length).unwrap_or("")) {
            Ok(number) => {
                self.at += length;
                Ok(number)
            }
            Err(_) => Err(self.fault("this is no JSON number", "such as `12` or `0.5`, without leading zeros")),
        }
    }

    fn string(&mut self) -> Result<Text, Fault> {
        let open = self.at;
        self.at += 1;
        let mut escaped = false;
        let mut end = None;
        for (i, b) in self.rest().bytes().enumerate() {
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    end = Some(self.at + i);
                    break;
                }
                b'\n' | b'\r' => {
                    let hint = "close it with `\"`; a line break inside a string is written `\\n`";
                    self.at = open;
                    return Err(self.fault("the string is not closed on its line", hint));
                }
                _ => {}
            }
        }
        let Some(end) = end else {
            self.at = open;
            return Err(self.fault("the string is not closed", "close it with `\"`"));
        };
        let quoted = self.file.text.get(open..=end).unwrap_or("");
        match serde_json::from_str::<String>(quoted) {
            Ok(value) => {
                let span = self.at..end;
                self.at = end + 1;
                Ok(Text { value, span })
            }
            Err(error) => {
                // serde_json counts bytes of a line from 1, the quote included.
                let mut at = (open + error.column().saturating_sub(1)).min(end);
                while !self.file.text.is_char_boundary(at) {
                    at -= 1;
                }
                self.at = at;
                let hint = "`\\` is written `\\\\`, a tab `\\t`, other control characters `\\u001f`";
                Err(self.fault("the string holds a bad escape or a control character", hint))
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Node>, Fault> {
        let open = self.at;
        self.at += 1;
        let mut items = Vec::new();
        let mut more = !self.closes(']');
        while more {
            items.push(self.value(depth + 1)?);
            more = self.separator(']', open)?;
        }
        self.at += 1;
        Ok(items)
    }

    fn object(&mut self, depth: usize) -> Result<Vec<(Text, Node)>, Fault> {
        let open = self.at;
        self.at += 1;
        let mut members: Vec<(Text, Node)> = Vec::new();
        let mut more = !self.closes('}');
        while more {
            if self.peek() != Some('"') {
                return Err(self.fault("a key in double quotes is expected here", "such as `\"Subject\": …`"));
            }
            let key = self.string()?;
            self.blanks();
            if self.peek() != Some(':') {
                return Err(self.fault("a `:` is expected between key and value", "write `\"key\": value`"));
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            if members.iter().any(|(k, _)| k.value == key.value) {
                let message = format!("the key `{}` occurs twice in this object", key.value);
                let fault = self.file.fault(key.span.clone(), "duplicate_key", message);
                self.faults.push(fault.hint("delete one of the two; only one of them would be sent"));
            } else {
                members.push((key, value));
            }
            more = self.separator('}', open)?;
        }
        self.at += 1;
        Ok(members)
    }

    /// True in front of the closing bracket.
    fn closes(&mut self, close: char) -> bool {
        self.blanks();
        self.peek() == Some(close)
    }

    /// True if another element follows; false in front of the closing bracket.
    fn separator(&mut self, close: char, open: usize) -> Result<bool, Fault> {
        if self.closes(close) {
            return Ok(false);
        }
        match self.peek() {
            Some(',') => {
                let comma = self.at;
                self.at += 1;
                if !self.closes(close) {
                    return Ok(true);
                }
                let message = format!("a comma before the closing `{close}`");
                let fault = self.file.fault(comma..comma + 1, "trailing_comma", message);
                self.faults.push(fault.hint("delete the comma"));
                Ok(false)
            }
            None => Err(self.not_closed(close, open)),
            Some(_) => Err(self.fault(&format!("a `,` or `{close}` is expected here"), "is there a comma missing?")),
        }
    }

    fn not_closed(&self, close: char, open: usize) -> Fault {
        let (line, column) = self.file.line_column(open);
        let what = if close == '}' { "object" } else { "list" };
        let hint = format!("the {what} that begins at line {line}, column {column} lacks its `{close}`");
        self.fault("the document ends too early", &hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<(u32, u32, &'static str)> {
        let faults = read(&SourceFile::new("a.json", text)).expect_err("a fault");
        faults.sorted().iter().map(|d| (d.line, d.column, d.code)).collect()
    }

    #[test]
    fn every_value_has_its_bytes() {
        let file = SourceFile::new("a.json", "{\n \"a\": [1, \"x\\ty\", null, true, {}]}");
        let node = read(&file).expect("a document");
        let Json::Object(members) = node.json else { panic!("an object") };
        let (key, list) = &members[0];
        assert_eq!((key.value.as_str(), &file.text[key.span.clone()]), ("a", "a"));
        let Json::Array(items) = &list.json else { panic!("a list") };
        let Json::String(text) = &items[1].json else { panic!("a string") };
        assert_eq!((text.value.as_str(), &file.text[text.span.clone()]), ("x\ty", "x\\ty"));
        assert_eq!(&file.text[items[3].span.clone()], "true");
    }

    #[test]
    fn double_keys_and_trailing_commas_are_all_found() {
        let found = faults("{\"a\": 1,\n \"a\": [1,],\n \"b\": 2,\n}");
        assert_eq!(found, [(2, 3, "duplicate_key"), (2, 9, "trailing_comma"), (3, 8, "trailing_comma")]);
    }

    #[test]
    fn syntax_faults_have_their_place() {
        for (text, line, column) in [
            ("{\"a\" 1}", 1, 6),
            ("{\"a\": }", 1, 7),
            ("{\"a\": 1 \"b\": 2}", 1, 9),
            ("{\"a\": \"x}", 1, 7),
            ("{\"a\":\n  \"x\\q\"}", 2, 6),
            ("{\"a\": tru}", 1, 7),
            ("{\"a\": 01}", 1, 7),
            ("{'a': 1}", 1, 2),
            ("{\"a\": 1} x", 1, 10),
            ("{\"a\": [1, 2}", 1, 12),
            ("{\"a\": 1", 1, 8),
            ("{// no\n}", 1, 2),
            ("", 1, 1),
        ] {
            let found = faults(text);
            assert_eq!(found, [(line, column, "json_syntax")], "{text}");
        }
    }

    #[test]
    fn no_cut_or_flipped_file_panics() {
        let text = "{\"ä\": [1, -2.5e3, \"x\\u00e4😀\", null, true, {}], \"b\": {\"c\": \"{{d}}\"}}";
        for end in (0..text.len()).filter(|i| text.is_char_boundary(*i)) {
            let _ = read(&SourceFile::new("a.json", &text[..end]));
            let mut flipped = text.to_owned();
            flipped.insert(end, '"');
            let _ = read(&SourceFile::new("a.json", flipped));
        }
        assert!(read(&SourceFile::new("a.json", "[".repeat(100_000))).is_err());
    }
}
