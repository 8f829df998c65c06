//! Faults in files that the operator wrote: file, line, column, code, sentence, hint.
//!
//! Every fault is collected, so one run reports all of them; the exit code is then 2. Rendering for a
//! terminal follows the form that compilers have made familiar; `--json` prints one object a line.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

/// A text file that the operator wrote, with the name to show for it.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// The path as the operator knows it.
    pub name: Arc<str>,
    /// Its whole text.
    pub text: Arc<str>,
}

impl SourceFile {
    /// A file with its text.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Line and column of a byte offset, both from 1; columns count characters.
    pub fn line_column(&self, offset: usize) -> (u32, u32) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() as u32 + 1;
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        let column = before.get(start..).unwrap_or("").chars().count() as u32 + 1;
        (line, column)
    }

    /// The byte offset of a line and column (both from 1); past the end of a line it stops there.
    pub fn offset_of(&self, line: usize, column: usize) -> usize {
        let mut at = 0;
        for (i, text) in self.text.split_inclusive('\n').enumerate() {
            if i + 1 == line {
                let inside = text.char_indices().nth(column.saturating_sub(1));
                return at + inside.map_or(text.trim_end_matches('\n').len(), |(b, _)| b);
            }
            at += text.len();
        }
        self.text.len()
    }

    /// A fault at a byte range of this file.
    pub fn fault(&self, span: Range<usize>, code: &'static str, message: impl Into<String>) -> Diagnostic {
        let (line, column) = self.line_column(span.start);
        let snippet = self.text.lines().nth(line as usize - 1).unwrap_or("").to_owned();
        let width = self.text.get(span).map_or(1, |t| t.lines().next().unwrap_or("").chars().count().max(1)) as u32;
        Diagnostic {
            file: self.name.to_string(),
            line,
            column,
            code,
            message: message.into(),
            hint: None,
            snippet: Some((snippet, width)),
        }
    }
}

/// One fault in an operator's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file, as the operator named it.
    pub file: String,
    /// From 1; 0 if the fault is of the file as a whole.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// A stable word such as `unknown_key`.
    pub code: &'static str,
    /// Lower-case start, no final period, back-quotes round literals.
    pub message: String,
    /// What to change.
    pub hint: Option<String>,
    /// The line of the file and the width of the marked part.
    #[serde(skip)]
    pub snippet: Option<(String, u32)>,
}

impl Diagnostic {
    /// A fault of a whole file.
    pub fn of_file(file: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { file: file.into(), line: 0, column: 0, code, message: message.into(), hint: None, snippet: None }
    }

    /// The same fault with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// For a terminal: place, sentence, the line with a mark, the hint.
    pub fn render(&self) -> String {
        let mut out = format!("error[{}]: {}\n", self.code, self.message);
        if self.line == 0 {
            let _ = writeln!(out, "  --> {}", self.file);
        } else {
            let _ = writeln!(out, "  --> {}:{}:{}", self.file, self.line, self.column);
        }
        if let Some((text, width)) = &self.snippet
            && self.line > 0
        {
            let number = self.line.to_string();
            let pad = " ".repeat(number.len());
            let shown: String = text.chars().take(160).map(|c| if c == '\t' { ' ' } else { c }).collect();
            let column = self.column as usize - 1;
            let mark = "^".repeat((*width as usize).min(160_usize.saturating_sub(column)).max(1));
            let _ = writeln!(out, " {pad} |\n {number} | {shown}\n {pad} | {}{mark}", " ".repeat(column.min(160)));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "  hint: {hint}");
        }
        out
    }
}

/// All faults found in one go, in the order of their places.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if !self.list.contains(&diagnostic) {
            self.list.push(diagnostic);
        }
    }

    /// Adds all of another collection.
    pub fn extend(&mut self, other: Diagnostics) {
        for d in other.list {
            self.push(d);
        }
    }

    /// True if nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// By file, then by place.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut all: Vec<_> = self.list.iter().collect();
        all.sort_by(|a, b| (&a.file, a.line, a.column, a.code).cmp(&(&b.file, b.line, b.column, b.code)));
        all
    }

    /// All of them for a terminal, with a closing count.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for d in self.sorted() {
            out.push_str(&d.render());
            out.push('\n');
        }
        let _ = writeln!(out, "{} problem{} found", self.len(), if self.len() == 1 { "" } else { "s" });
        out
    }

    /// `Ok(value)` if nothing is wrong, else all faults.
    pub fn into_result<T>(self, value: T) -> Result<T, Diagnostics> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self { list: vec![one] }
    }
}

/// The word among `known` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_lowercase().replace(['-', ' '], "_");
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&folded, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= (k.chars().count().max(3) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// A hint for an unknown word: the probable one, else the list of all.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(k) => format!("did you mean `{k}`?"),
        None => {
            let mut all: Vec<&str> = known.into_iter().collect();
            all.sort_unstable();
            match all.len() {
                0 => "nothing is expected here".to_owned(),
                _ => format!("known here: {}", all.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let file = SourceFile::new("a.toml", "x = 1\nä = 2\n");
        assert_eq!(file.line_column(0), (1, 1));
        assert_eq!(file.line_column(6), (2, 1));
        assert_eq!(file.line_column(9), (2, 3));
        assert_eq!(file.offset_of(2, 3), 9);
    }

    #[test]
    fn a_fault_shows_its_line_and_hint() {
        let file = SourceFile::new("a.toml", "hots = 1\n");
        let text =
            file.fault(0..4, "unknown_key", "unknown key `hots`").hint(suggest("hots", ["host", "port"])).render();
        assert!(text.contains("a.toml:1:1"), "{text}");
        assert!(text.contains("^^^^"), "{text}");
        assert!(text.contains("did you mean `host`?"), "{text}");
    }

    #[test]
    fn a_suggestion_is_near_or_a_list() {
        assert_eq!(nearest("handel_duration", ["handle_duration", "id"]), Some("handle_duration"));
        assert_eq!(nearest("zzz", ["handle_duration", "id"]), None);
    }
}
