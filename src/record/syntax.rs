//! The places in a Handlebars template: its text to a tree in which every name and value knows its bytes.
//!
//! The engine's own tree knows lines only and says what is wrong as a list of grammar rules; this one is
//! what `lint` walks and what syntax faults come from. It accepts a little less than the language
//! (no decorators, raw blocks, block partials): what it accepts, the engine then compiles.

use std::ops::Range;

use serde_json::Value;

use super::origin::Origin;
use crate::diagnostic::{Diagnostic, Diagnostics};

/// A part of a template.
#[derive(Debug)]
pub(super) enum Node {
    /// Text outside of tags.
    Text,
    /// `{{…}}`.
    Print(Print),
    /// `{{#…}}…{{/…}}`.
    Block(Block),
    /// `{{> …}}`.
    Partial(Partial),
}

/// An expression that prints.
#[derive(Debug)]
pub(super) struct Print {
    /// The whole tag.
    pub(super) span: Range<usize>,
    /// `{{{…}}}` or `{{&…}}`.
    pub(super) unescaped: bool,
    pub(super) call: Call,
}

/// A block with its branches; the first is the one behind the opening tag.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) branches: Vec<Branch>,
}

/// `#if …`, `else if …` or `else`.
#[derive(Debug)]
pub(super) struct Branch {
    /// None for a plain `else`.
    pub(super) call: Option<Call>,
    /// `as |item index|`.
    pub(super) params: Vec<Word>,
    pub(super) body: Vec<Node>,
}

/// `{{> name context key=value}}`.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) name: Word,
    pub(super) args: Vec<Arg>,
    pub(super) named: Vec<(Word, Arg)>,
}

/// A path, or a helper with its arguments.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) span: Range<usize>,
    pub(super) head: Word,
    pub(super) args: Vec<Arg>,
    pub(super) named: Vec<(Word, Arg)>,
}

impl Call {
    /// True if there is nothing but a name.
    pub(super) fn is_bare(&self) -> bool {
        self.args.is_empty() && self.named.is_empty()
    }
}

/// A name or path as written.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

/// An argument of a helper.
#[derive(Debug)]
pub(super) enum Arg {
    Path(Word),
    Literal(Value, Range<usize>),
    Call(Call),
}

impl Arg {
    pub(super) fn span(&self) -> Range<usize> {
        match self {
            Arg::Path(word) => word.span.clone(),
            Arg::Literal(_, span) => span.clone(),
            Arg::Call(call) => call.span.clone(),
        }
    }
}

/// If the whole template is one expression: that one.
pub(super) fn single<'a>(nodes: &'a [Node], text: &str) -> Option<&'a Call> {
    match nodes {
        [Node::Print(print)] if print.span == (0..text.len()) && !print.unescaped => Some(&print.call),
        _ => None,
    }
}

/// Blocks and brackets nested deeper than this are a fault.
const DEPTH: usize = 24;

/// Reads a template.
pub(super) fn parse(text: &str, origin: &Origin) -> Result<Vec<Node>, Diagnostics> {
    let mut parser = Parser { text, origin, faults: Diagnostics::new(), open: Vec::new(), nodes: Vec::new() };
    parser.run();
    while let Some(open) = parser.open.pop() {
        let name = open.name().to_owned();
        let hint = format!("write `{{{{/{name}}}}}` where the block ends");
        parser.fault(open.tag, "unclosed_block", format!("the block `#{name}` that begins here is never closed"), hint);
    }
    parser.faults.into_result(parser.nodes)
}

/// A block whose end has not come yet.
struct Open {
    tag: Range<usize>,
    branches: Vec<Branch>,
    /// What was around it.
    outer: Vec<Node>,
}

impl Open {
    fn name(&self) -> &str {
        self.branches.first().and_then(|b| b.call.as_ref()).map_or("", |c| &c.head.text)
    }
}

struct Parser<'a> {
    text: &'a str,
    origin: &'a Origin,
    faults: Diagnostics,
    open: Vec<Open>,
    nodes: Vec<Node>,
}

impl Parser<'_> {
    fn fault(&mut self, span: Range<usize>, code: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        self.faults.push(self.origin.fault(span, code, message).hint(hint));
    }

    fn run(&mut self) {
        let mut at = 0;
        while let Some(found) = self.text.get(at..).and_then(|rest| rest.find("{{")) {
            let start = at + found;
            let before = self.text.get(at..start).unwrap_or("");
            let slashes = before.len() - before.trim_end_matches('\\').len();
            if !before.is_empty() {
                self.nodes.push(Node::Text);
            }
            // One backslash makes the braces text; two are a backslash before a tag.
            at = if slashes == 1 { start + 2 } else { self.tag(start) };
        }
        if at < self.text.len() {
            self.nodes.push(Node::Text);
        }
    }

    /// Reads the tag at `start`; returns where it ends.
    fn tag(&mut self, start: usize) -> usize {
        let rest = self.text.get(start + 2..).unwrap_or("");
        if let Some(comment) = rest.strip_prefix('!') {
            let end = if comment.starts_with("--") { "--}}" } else { "}}" };
            // The dashes that open a comment don't close it.
            let skip = if end.len() == 4 { 2 } else { 0 };
            return match comment.get(skip..).and_then(|c| c.find(end)) {
                Some(i) => start + 3 + skip + i + end.len(),
                None => {
                    let hint = format!("write `{end}` where it ends");
                    self.fault(start..start + 3, "unclosed_tag", "the comment that begins here is never closed", hint);
                    self.text.len()
                }
            };
        }
        let mut lexer = Lexer { text: self.text, origin: self.origin, at: start + 2, depth: 0 };
        lexer.take("~");
        lexer.blanks();
        let mark = match lexer.rest().chars().next() {
            Some(c @ ('#' | '/' | '>' | '^' | '&' | '{' | '*')) => {
                lexer.at += 1;
                c
            }
            _ if lexer.keyword("else") => 'e',
            _ => ' ',
        };
        let unsupported = match (mark, lexer.rest().chars().next()) {
            ('{', Some('{')) => Some("raw blocks"),
            ('#', Some('>')) => Some("block partials"),
            ('#', Some('*')) | ('*', _) => Some("decorators"),
            _ => None,
        };
        if let Some(what) = unsupported {
            let hint = "use a text template of its own and `{{> name}}`";
            self.fault(start..lexer.at, "unsupported", format!("{what} are not supported"), hint);
            return self.skip(lexer.at);
        }
        let close = if mark == '{' { "}}}" } else { "}}" };
        match lexer.tag(start, close, mark) {
            Ok(tag) => {
                let end = lexer.at;
                self.put(start..end, mark, tag);
                end
            }
            Err(fault) => {
                self.faults.push(*fault);
                let end = self.skip(lexer.at.max(start + 2));
                // A block opened by a broken tag would make its end a second fault.
                if mark == '#' {
                    let head = Word { text: String::new(), span: start..start };
                    let call = Call { span: start..end, head, args: Vec::new(), named: Vec::new() };
                    self.open_block(start..end, Tag { call: Some(call), params: Vec::new() });
                }
                end
            }
        }
    }

    /// Behind the next end of a tag, so that one fault is not reported twice.
    fn skip(&self, from: usize) -> usize {
        let rest = self.text.get(from..).unwrap_or("");
        match (rest.find("}}"), rest.find("{{")) {
            (Some(end), Some(next)) if next < end => from + next,
            (Some(end), _) => from + end + rest.get(end..).map_or(2, |r| r.len() - r.trim_start_matches('}').len()),
            (None, Some(next)) => from + next,
            (None, None) => self.text.len(),
        }
    }

    fn open_block(&mut self, tag: Range<usize>, read: Tag) {
        if self.open.len() >= DEPTH {
            let hint = "move the inner part into a template of its own and use `{{> name}}`";
            self.fault(tag.clone(), "too_deep", format!("blocks are nested more than {DEPTH} deep"), hint);
        }
        let branch = Branch { call: read.call, params: read.params, body: Vec::new() };
        self.open.push(Open { tag, branches: vec![branch], outer: std::mem::take(&mut self.nodes) });
    }

    fn put(&mut self, span: Range<usize>, mark: char, read: Tag) {
        match (mark, read.call) {
            ('#', Some(call)) => self.open_block(span, Tag { call: Some(call), params: read.params }),
            ('/', call) => self.close(span, call.map_or(String::new(), |c| c.head.text)),
            ('e' | '^', call) => self.otherwise(span, Tag { call, params: read.params }),
            ('>', Some(call)) => {
                self.nodes.push(Node::Partial(Partial { name: call.head, args: call.args, named: call.named }));
            }
            (_, Some(call)) => {
                self.nodes.push(Node::Print(Print { span, unescaped: matches!(mark, '{' | '&'), call }));
            }
            (_, None) => {
                self.fault(span, "syntax", "the tag is empty", "name a field such as `{{key}}`, or delete it");
            }
        }
    }

    fn otherwise(&mut self, span: Range<usize>, read: Tag) {
        let body = std::mem::take(&mut self.nodes);
        let Some(open) = self.open.last_mut() else {
            self.nodes = body;
            let hint = "it belongs between `{{#if …}}` and `{{/if}}`";
            return self.fault(span, "syntax", "`{{else}}` stands outside of a block", hint);
        };
        if let Some(branch) = open.branches.last_mut() {
            branch.body = body;
        }
        let after_else = open.branches.len() > 1 && open.branches.last().is_some_and(|b| b.call.is_none());
        open.branches.push(Branch { call: read.call, params: read.params, body: Vec::new() });
        if after_else {
            let hint = "a block has one plain `{{else}}`, as its last part";
            self.fault(span, "syntax", "a second part follows the `{{else}}`", hint);
        }
    }

    fn close(&mut self, span: Range<usize>, name: String) {
        let Some(mut open) = self.open.pop() else {
            let hint = format!("delete it, or open a block with `{{{{#{name} …}}}}` before it");
            return self.fault(span, "syntax", format!("`{{{{/{name}}}}}` closes a block that is not open"), hint);
        };
        let opened = open.name().to_owned();
        if opened != name && !opened.is_empty() {
            let (line, column) = self.origin.line_column(open.tag.start);
            let message = format!("`{{{{/{name}}}}}` closes the block `#{opened}` of line {line}, column {column}");
            self.fault(
                span,
                "unclosed_block",
                message,
                format!("write `{{{{/{opened}}}}}` before it, or in its place"),
            );
            // An inner block was forgotten: this end may well be that of an outer one.
            if self.open.iter().any(|o| o.name() == name) {
                while self.open.last().is_some_and(|o| o.name() != name) {
                    self.open.pop();
                }
                if let Some(outer) = self.open.pop() {
                    open = outer;
                }
            }
        }
        let body = std::mem::replace(&mut self.nodes, open.outer);
        if let Some(branch) = open.branches.last_mut() {
            branch.body = body;
        }
        self.nodes.push(Node::Block(Block { branches: open.branches }));
    }
}

/// What stands inside a tag.
struct Tag {
    call: Option<Call>,
    params: Vec<Word>,
}

type Fault = Box<Diagnostic>;

/// Reads the inside of one tag.
struct Lexer<'a> {
    text: &'a str,
    origin: &'a Origin,
    at: usize,
    depth: usize,
}

/// A character of a name; the engine's grammar calls it `symbol_char`.
fn is_symbol(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '$' | ':') || c >= '\u{80}'
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn keyword(&mut self, word: &str) -> bool {
        let blanks = self.rest().len() - self.rest().trim_start().len();
        let Some(after) = self.rest().get(blanks..).and_then(|r| r.strip_prefix(word)) else { return false };
        if after.chars().next().is_some_and(|c| is_symbol(c) || matches!(c, '.' | '/' | '=')) {
            return false;
        }
        self.at += blanks + word.len();
        true
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn fault(&self, span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) -> Fault {
        Box::new(self.origin.fault(span, "syntax", message).hint(hint))
    }

    /// Reads up to `close`, and past it.
    fn tag(&mut self, start: usize, close: &str, mark: char) -> Result<Tag, Fault> {
        let mut params = Vec::new();
        let mut call: Option<Call> = None;
        loop {
            self.blanks();
            if self.take(close)
                || (self.rest().starts_with('~') && self.rest().get(1..).is_some_and(|r| r.starts_with(close)))
            {
                if !self.text.get(..self.at).unwrap_or("").ends_with(close) {
                    self.at += 1 + close.len();
                }
                return Ok(Tag { call, params });
            }
            if self.rest().is_empty() || self.rest().starts_with("{{") {
                let width = if close.len() == 3 { 3 } else { 2 };
                let message = format!("the tag that begins here lacks its `{close}`");
                let hint = "a `{{` that shall be text is written `\\{{`";
                return Err(Box::new(self.origin.fault(start..start + width, "unclosed_tag", message).hint(hint)));
            }
            match &mut call {
                None => {
                    let head = self.head(mark)?;
                    call = Some(Call { span: head.span.clone(), head, args: Vec::new(), named: Vec::new() });
                }
                Some(_) if self.rest().starts_with("as") && self.block_params(&mut params)? => {}
                Some(call) => {
                    self.argument(&mut call.args, &mut call.named)?;
                    call.span.end = self.at;
                }
            }
        }
    }

    /// The name that a tag begins with.
    fn head(&mut self, mark: char) -> Result<Word, Fault> {
        let at = self.at;
        match self.rest().chars().next() {
            Some('(') => {
                let hint = "drop the brackets round the whole expression; a partial needs a fixed name";
                Err(self.fault(at..at + 1, "a tag can't begin with a bracket", hint))
            }
            Some('"' | '\'') if mark != '>' => {
                Err(self.fault(at..at + 1, "a tag can't begin with a quote", "plain text needs no tag"))
            }
            Some('"' | '\'') => match self.literal_text()? {
                (Value::String(text), span) => Ok(Word { text, span }),
                (_, span) => Err(self.fault(span, "a name is expected here", "such as `{{> note}}`")),
            },
            _ => self.word(),
        }
    }

    fn block_params(&mut self, params: &mut Vec<Word>) -> Result<bool, Fault> {
        let before = self.at;
        if !self.keyword("as") {
            return Ok(false);
        }
        self.blanks();
        if !self.take("|") {
            self.at = before;
            return Ok(false);
        }
        loop {
            self.blanks();
            if self.take("|") {
                break;
            }
            let word = self.word()?;
            params.push(word);
        }
        if params.is_empty() || params.len() > 2 {
            let hint = "write `as |item|` or `as |item index|`";
            return Err(self.fault(before..self.at, "one or two names are expected between the bars", hint));
        }
        Ok(true)
    }

    fn argument(&mut self, args: &mut Vec<Arg>, named: &mut Vec<(Word, Arg)>) -> Result<(), Fault> {
        let rest = self.rest();
        let length = rest.find(|c: char| !is_symbol(c)).unwrap_or(rest.len());
        if length == 0 || !rest.get(length..).is_some_and(|r| r.starts_with('=')) {
            let arg = self.value()?;
            args.push(arg);
            return Ok(());
        }
        let name = Word { text: rest.get(..length).unwrap_or("").to_owned(), span: self.at..self.at + length };
        self.at += length + 1;
        if named.iter().any(|(n, _)| n.text == name.text) {
            let message = format!("`{}=` is given twice", name.text);
            return Err(self.fault(name.span, message, "delete one of the two"));
        }
        let value = self.value()?;
        named.push((name, value));
        Ok(())
    }

    fn value(&mut self) -> Result<Arg, Fault> {
        self.blanks();
        match self.rest().chars().next() {
            Some('(') => self.brackets(),
            Some('"' | '\'') => self.literal_text().map(|(value, span)| Arg::Literal(value, span)),
            _ => {
                let word = self.word()?;
                let number = word.text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
                let literal = match word.text.as_str() {
                    "null" => Some(Value::Null),
                    "true" => Some(Value::Bool(true)),
                    "false" => Some(Value::Bool(false)),
                    text if number => serde_json::from_str(text).ok(),
                    _ => None,
                };
                Ok(literal.map_or_else(|| Arg::Path(word.clone()), |value| Arg::Literal(value, word.span.clone())))
            }
        }
    }

    fn brackets(&mut self) -> Result<Arg, Fault> {
        let open = self.at;
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.fault(
                open..open + 1,
                format!("brackets are nested more than {DEPTH} deep"),
                "simplify it",
            ));
        }
        self.blanks();
        let head = self.word()?;
        let mut call = Call { span: open..open, head, args: Vec::new(), named: Vec::new() };
        loop {
            self.blanks();
            if self.take(")") {
                break;
            }
            if self.rest().is_empty() || self.rest().starts_with("}}") || self.rest().starts_with("{{") {
                return Err(self.fault(open..open + 1, "the bracket that opens here lacks its `)`", "close it"));
            }
            self.argument(&mut call.args, &mut call.named)?;
        }
        self.depth -= 1;
        call.span.end = self.at;
        Ok(Arg::Call(call))
    }

    fn literal_text(&mut self) -> Result<(Value, Range<usize>), Fault> {
        let start = self.at;
        let quote = self.rest().chars().next().unwrap_or('"');
        let mut escaped = false;
        let inner = self.rest().get(1..).unwrap_or("");
        let end = inner.char_indices().find_map(|(i, c)| match c {
            _ if escaped => {
                escaped = false;
                None
            }
            '\\' => {
                escaped = true;
                None
            }
            c => (c == quote).then_some(i),
        });
        let Some(end) = end else {
            return Err(self.fault(start..start + 1, "the text that begins here lacks its closing quote", "close it"));
        };
        let inner = inner.get(..end).unwrap_or("");
        let span = start..start + end + 2;
        if quote == '\'' && inner.contains("\\'") {
            let hint = "put the text between double quotes to use `'` in it";
            return Err(self.fault(span, "`\\'` is not possible between single quotes", hint));
        }
        let json = if quote == '"' { format!("\"{inner}\"") } else { format!("\"{}\"", inner.replace('"', "\\\"")) };
        match serde_json::from_str(&json) {
            Ok(value) => {
                self.at = span.end;
                Ok((value, span))
            }
            Err(_) => {
                let hint = "escapes are those of JSON: `\\n`, `\\t`, `\\\\`, `\\u00e4`; a line break is written `\\n`";
                Err(self.fault(span, "the text holds a bad escape or a line break", hint))
            }
        }
    }

    /// A name or path: symbols, dots, slashes, `@`, and parts in square brackets.
    fn word(&mut self) -> Result<Word, Fault> {
        let start = self.at;
        let mut inside = false;
        let rest = self.rest();
        let mut length = rest.len();
        for (i, c) in rest.char_indices() {
            match c {
                ']' if inside => inside = false,
                _ if inside => {}
                '[' => inside = true,
                '.' | '/' | '@' => {}
                c if is_symbol(c) => {}
                _ => {
                    length = i;
                    break;
                }
            }
        }
        if inside {
            return Err(self.fault(start..start + 1, "the `[` in this name lacks its `]`", "close it"));
        }
        if length == 0 {
            let width = rest.chars().next().map_or(0, char::len_utf8);
            let found = rest.get(..width).unwrap_or("").to_owned();
            let message = if found.is_empty() {
                "a name is expected here".to_owned()
            } else {
                format!("`{found}` is not possible here")
            };
            let hint = "a tag holds a field (`{{agent.name}}`) or a helper with its values (`{{date ends_at '%F'}}`)";
            return Err(self.fault(start..start + width, message, hint));
        }
        let text = rest.get(..length).unwrap_or("").to_owned();
        self.at += length;
        Ok(Word { text, span: start..start + length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceFile;

    fn faults(text: &str) -> Vec<(u32, u32, String)> {
        let file = SourceFile::new("a.txt.hbs", text);
        match parse(text, &Origin::whole(&file)) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.sorted().iter().map(|d| (d.line, d.column, d.message.clone())).collect(),
        }
    }

    #[test]
    fn names_and_values_know_their_bytes() {
        let text = "a {{#each dispositions as |d i|}}{{ date d.x (concat 'a' 5) tz=\"UTC\" }}{{else}}-{{/each}}";
        let file = SourceFile::new("a", text);
        let nodes = parse(text, &Origin::whole(&file)).expect("a template");
        let [Node::Text, Node::Block(block)] = nodes.as_slice() else { panic!("{nodes:?}") };
        let branch = &block.branches[0];
        assert_eq!(branch.params.iter().map(|p| p.text.as_str()).collect::<Vec<_>>(), ["d", "i"]);
        let [Node::Print(print)] = branch.body.as_slice() else { panic!("{branch:?}") };
        assert_eq!(&text[print.call.span.clone()], "date d.x (concat 'a' 5) tz=\"UTC\"");
        assert_eq!(&text[print.call.args[1].span()], "(concat 'a' 5)");
        assert_eq!(&text[print.call.named[0].1.span()], "\"UTC\"");
        assert_eq!(block.branches.len(), 2);
    }

    #[test]
    fn only_a_tag_alone_is_a_single_expression() {
        for (text, is) in [
            ("{{a}}", true),
            ("{{a b 'c'}}", true),
            (" {{a}}", false),
            ("{{a}}{{b}}", false),
            ("{{{a}}}", false),
            ("\\{{a}}", false),
        ] {
            let file = SourceFile::new("a", text);
            let nodes = parse(text, &Origin::whole(&file)).expect("a template");
            assert_eq!(single(&nodes, text).is_some(), is, "{text}");
        }
    }

    #[test]
    fn faults_of_structure_name_their_block_and_place() {
        let found = faults("x\n{{#if rating}}\n {{#each agents}}\n{{/if}}");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].0, found[0].1), (4, 1));
        assert_eq!(found[0].2, "`{{/if}}` closes the block `#each` of line 3, column 2");
        assert_eq!(faults("{{#if a}}")[0].2, "the block `#if` that begins here is never closed");
        assert_eq!(faults("ä{{/if}}")[0], (1, 2, "`{{/if}}` closes a block that is not open".into()));
        assert_eq!(faults("{{else}}")[0].2, "`{{else}}` stands outside of a block");
    }

    #[test]
    fn faults_inside_a_tag_are_plain_sentences() {
        for (text, column, message) in [
            ("{{key", 1, "the tag that begins here lacks its `}}`"),
            ("a {{key } b {{id}}", 9, "`}` is not possible here"),
            ("{{date ends_at '%F}}", 16, "the text that begins here lacks its closing quote"),
            ("{{date (concat a 'b'}}", 8, "the bracket that opens here lacks its `)`"),
            ("{{date a ?}}", 10, "`?` is not possible here"),
            ("{{}}", 1, "the tag is empty"),
            ("{{!-- x }}", 1, "the comment that begins here is never closed"),
            ("{{#*inline 'a'}}", 1, "decorators are not supported"),
            ("{{{{raw}}}}", 1, "raw blocks are not supported"),
            ("{{date a tz='x' tz='y'}}", 17, "`tz=` is given twice"),
        ] {
            let found = faults(text);
            assert_eq!(found.first().map(|f| (f.0, f.1, f.2.as_str())), Some((1, column, message)), "{text}");
        }
    }

    #[test]
    fn what_is_accepted_compiles_in_the_engine_too() {
        for text in [
            "{{a}}",
            "{{ a.b }}",
            "{{~a~}}",
            "{{#if a}}b{{else if (eq c 'd')}}e{{else}}f{{/if}}",
            "\\{{a}}",
            "\\\\{{a}}",
            "{{!c}}",
            "{{!-- {{c}} --}}",
            "{{> note}}",
            "{{> 'note' agent x=1}}",
            "{{{a}}}",
            "{{&a}}",
            "{{a.[b c]}}",
            "{{@root.a}}",
            "{{#each a as |b c|}}{{@../index}}{{^}}x{{/each}}",
            "{{date a '%d.%m' tz=\"Europe/Berlin\"}}",
            "{{x -5 5.5 true null}}",
            "{{../a}}",
            "{{this}}",
            "{{this.a}}",
            "{{#with a}}{{../../b}}{{/with}}",
            "{{{ a }}}",
            "}} {",
            "{{ünïcode}}",
        ] {
            assert_eq!(faults(text), [], "{text}");
            assert!(handlebars::Template::compile(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn no_cut_or_flipped_template_panics() {
        let text =
            "ä {{#if a}}{{date b '%F' tz=\"x\"}}{{else}}{{{c}}}\\{{d}} {{!-- e --}}{{> f}}{{/if}} {{(g)}} {{[h i].j}}";
        for end in (0..text.len()).filter(|i| text.is_char_boundary(*i)) {
            for c in ["", "{", "}}", "'", "(", "~", "#", "/", "ä", "\n", "|"] {
                let changed = format!("{}{c}{}", &text[..end], &text[end..]);
                faults(&changed);
                faults(&format!("{}{c}", &text[..end]));
            }
        }
        faults(&"{{#a}}".repeat(5000));
        faults(&format!("{{{{a {}", "(b ".repeat(5000)));
    }
}
