//! An HTML body becomes plain lines and its tables, for the readers of JSON, tables and labels.
//!
//! A tolerant scanner of tags and entities, linear in the input; it builds no tree, runs nothing, and
//! takes any bytes. Cells are ranges of the text, so nested layout tables cost nothing.

use std::borrow::Cow;
use std::ops::Range;

/// Cells that are kept over all tables of one body.
const MAX_CELLS: usize = 20_000;
/// Levels of nested tables that are told apart.
const MAX_NESTED: usize = 64;

/// What an HTML body shows.
#[derive(Debug, Default)]
pub(crate) struct Html {
    /// The text: lines where blocks begin and end, a tab before each further cell of a row.
    pub(crate) text: String,
    /// The tables, inner ones before those around them; rows of ranges of `text`.
    pub(crate) tables: Vec<Vec<Vec<Range<usize>>>>,
}

/// Scans an HTML body.
pub(crate) fn read(html: &str) -> Html {
    let mut scan = Scan { html, out: Html::default(), open: Vec::new(), pre: 0, cells: 0 };
    scan.out.text.reserve(html.len() / 3);
    scan.run();
    scan.out
}

struct Open {
    rows: Vec<Vec<Range<usize>>>,
    cell: Option<usize>,
}

struct Scan<'h> {
    html: &'h str,
    out: Html,
    open: Vec<Open>,
    pre: usize,
    cells: usize,
}

impl<'h> Scan<'h> {
    fn run(&mut self) {
        let html = self.html;
        let bytes = html.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let next = memchr::memchr(b'<', bytes.get(at..).unwrap_or(&[])).map_or(bytes.len(), |i| at + i);
            if next > at {
                self.text(html.get(at..next).unwrap_or(""));
            }
            if next >= bytes.len() {
                break;
            }
            at = self.markup(next);
        }
        while !self.open.is_empty() {
            self.close_table();
        }
    }

    /// Handles what starts with `<` and gives the offset after it.
    fn markup(&mut self, start: usize) -> usize {
        let rest: &'h str = self.html.get(start..).unwrap_or("");
        if rest.starts_with("<!--") {
            return rest.find("-->").map_or(self.html.len(), |i| start + i + 3);
        }
        let name_at = if rest.starts_with("</") { 2 } else { 1 };
        let name = rest.get(name_at..).unwrap_or("");
        let length = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
        let name = name.get(..length).unwrap_or("");
        if name.is_empty() && !rest.starts_with("<!") && !rest.starts_with("<?") && !rest.starts_with("</") {
            self.text("<");
            return start + 1;
        }
        let end = tag_end(rest);
        let after = start + end;
        let mut lower = [0_u8; 12];
        let Some(name) = lowered(name, &mut lower) else { return after };
        if name_at == 2 {
            self.close(name);
            return after;
        }
        if matches!(name, "script" | "style" | "title" | "template" | "noscript") {
            return self.after_close(after, name);
        }
        self.opened(name);
        after
    }

    /// The offset after `</name>`: the content of such elements is not shown.
    fn after_close(&self, mut from: usize, name: &str) -> usize {
        let bytes = self.html.as_bytes();
        while let Some(i) = memchr::memmem::find(bytes.get(from..).unwrap_or(&[]), b"</") {
            let at = from + i;
            let tail = self.html.get(at + 2..at + 2 + name.len()).unwrap_or("");
            if tail.eq_ignore_ascii_case(name) {
                return at + tag_end(self.html.get(at..).unwrap_or(""));
            }
            from = at + 2;
        }
        self.html.len()
    }

    fn opened(&mut self, name: &str) {
        match name {
            "br" => self.force_line(),
            "table" => {
                self.line();
                if self.open.len() < MAX_NESTED {
                    self.open.push(Open { rows: Vec::new(), cell: None });
                }
            }
            "tr" => {
                self.end_cell();
                self.line();
                if let Some(table) = self.open.last_mut() {
                    table.rows.push(Vec::new());
                }
            }
            "td" | "th" => {
                self.end_cell();
                let begun = self.open.last().is_some_and(|t| t.rows.last().is_some_and(|r| !r.is_empty()));
                if begun {
                    self.trim_blanks();
                    self.out.text.push('\t');
                }
                let at = self.out.text.len();
                if let Some(table) = self.open.last_mut() {
                    table.cell = Some(at);
                    if table.rows.is_empty() {
                        table.rows.push(Vec::new());
                    }
                }
            }
            "pre" | "textarea" => {
                self.line();
                self.pre += 1;
            }
            "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "dl" | "hr" | "blockquote" => {
                self.paragraph()
            }
            _ if is_block(name) => self.line(),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "table" => {
                self.close_table();
                self.line();
            }
            "tr" => {
                self.end_cell();
                self.line();
            }
            "td" | "th" => self.end_cell(),
            "pre" | "textarea" => {
                self.pre = self.pre.saturating_sub(1);
                self.line();
            }
            "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "dl" | "blockquote" => self.paragraph(),
            _ if is_block(name) => self.line(),
            _ => {}
        }
    }

    fn end_cell(&mut self) {
        let end = self.out.text.len();
        if let Some(table) = self.open.last_mut()
            && let Some(start) = table.cell.take()
            && self.cells < MAX_CELLS
            && let Some(row) = table.rows.last_mut()
        {
            self.cells += 1;
            // Blanks at the end may have been trimmed away behind the start.
            row.push(start.min(end)..end);
        }
    }

    fn close_table(&mut self) {
        self.end_cell();
        if let Some(table) = self.open.pop()
            && table.rows.iter().any(|r| !r.is_empty())
        {
            self.out.tables.push(table.rows);
        }
    }

    /// The cell that is open starts here at the earliest; what is before it must stay as it is.
    fn floor(&self) -> usize {
        self.open.iter().rev().find_map(|t| t.cell).unwrap_or(0)
    }

    fn trim_blanks(&mut self) {
        let floor = self.floor();
        while self.out.text.len() > floor && self.out.text.ends_with(' ') {
            self.out.text.pop();
        }
    }

    fn line(&mut self) {
        self.trim_blanks();
        let fresh = self.out.text.len() <= self.floor() || self.out.text.ends_with('\n');
        if !fresh {
            self.out.text.push('\n');
        }
    }

    fn force_line(&mut self) {
        self.trim_blanks();
        if self.out.text.len() > self.floor() {
            self.out.text.push('\n');
        }
    }

    fn paragraph(&mut self) {
        self.line();
        if self.out.text.len() > self.floor() && !self.out.text.ends_with("\n\n") {
            self.out.text.push('\n');
        }
    }

    fn text(&mut self, raw: &str) {
        let text = unescape(raw);
        if self.pre > 0 {
            let text = text.replace('\r', "").replace('\u{a0}', " ");
            self.out.text.push_str(&text);
            return;
        }
        let floor = self.floor();
        for word in text.split_inclusive(|c: char| c.is_ascii_whitespace()) {
            let plain = word.trim_end_matches(|c: char| c.is_ascii_whitespace());
            for (i, piece) in plain.split('\u{a0}').enumerate() {
                if i > 0 {
                    self.out.text.push(' ');
                }
                self.out.text.push_str(piece);
            }
            let has_blank = plain.len() < word.len();
            let fresh = self.out.text.len() <= floor || self.out.text.ends_with([' ', '\n', '\t']);
            if has_blank && !fresh {
                self.out.text.push(' ');
            }
        }
    }
}

fn lowered<'b>(name: &str, buffer: &'b mut [u8; 12]) -> Option<&'b str> {
    let place = buffer.get_mut(..name.len())?;
    place.copy_from_slice(name.as_bytes());
    place.make_ascii_lowercase();
    std::str::from_utf8(place).ok()
}

/// The length of a tag, attributes with `>` in quotes included.
fn tag_end(tag: &str) -> usize {
    let bytes = tag.as_bytes();
    let Some(plain) = memchr::memchr(b'>', bytes) else { return bytes.len() };
    let mut quote = None;
    for (i, byte) in bytes.iter().enumerate().take(4_096) {
        match (quote, *byte) {
            (None, b'>') => return i + 1,
            (None, b'"' | b'\'') if bytes.get(i.wrapping_sub(1)).is_some_and(|b| *b == b'=' || *b == b' ') => {
                quote = Some(*byte)
            }
            (Some(q), b) if b == q => quote = None,
            _ => {}
        }
    }
    // A quote that never closes: the first bracket ends the tag.
    plain + 1
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "div"
            | "li"
            | "dt"
            | "dd"
            | "section"
            | "article"
            | "header"
            | "footer"
            | "address"
            | "center"
            | "form"
            | "thead"
            | "tbody"
            | "tfoot"
            | "caption"
            | "body"
            | "html"
            | "head"
            | "main"
            | "nav"
            | "aside"
            | "figure"
            | "fieldset"
    )
}

/// Character references decoded; text without one is borrowed.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        match reference(after) {
            Some((c, length)) => {
                out.push(c);
                rest = after.get(length..).unwrap_or("");
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character that a reference (without its `&`) stands for, and its length.
fn reference(text: &str) -> Option<(char, usize)> {
    let bytes = text.as_bytes();
    if bytes.first() == Some(&b'#') {
        let hex = bytes.get(1).is_some_and(|b| b.eq_ignore_ascii_case(&b'x'));
        let from = if hex { 2 } else { 1 };
        let tail = text.get(from..)?;
        let digits = tail.find(|c: char| !c.is_ascii_hexdigit() || !(hex || c.is_ascii_digit())).unwrap_or(tail.len());
        let code = u32::from_str_radix(tail.get(..digits.min(8))?, if hex { 16 } else { 10 }).ok()?;
        let semicolon = usize::from(tail.as_bytes().get(digits) == Some(&b';'));
        return Some((char::from_u32(code).filter(|c| *c != '\0').unwrap_or('\u{fffd}'), from + digits + semicolon));
    }
    let length = bytes.iter().take(10).position(|b| !b.is_ascii_alphanumeric()).unwrap_or(bytes.len().min(10));
    let name = text.get(..length)?;
    let c = match NAMED.iter().find(|(n, _)| *n == name) {
        Some((_, c)) => *c,
        None => LATIN.iter().position(|n| *n == name).and_then(|i| char::from_u32(0xA0 + i as u32))?,
    };
    Some((c, length + usize::from(bytes.get(length) == Some(&b';'))))
}

const NAMED: [(&str, char); 24] = [
    ("quot", '"'),
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("apos", '\''),
    ("nbsp", '\u{a0}'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("bdquo", '„'),
    ("sbquo", '‚'),
    ("ndash", '–'),
    ("mdash", '—'),
    ("hellip", '…'),
    ("bull", '•'),
    ("trade", '™'),
    ("euro", '€'),
    ("lbrace", '{'),
    ("lcub", '{'),
    ("rcub", '}'),
    ("colon", ':'),
    ("comma", ','),
    ("lowbar", '_'),
];

/// The named characters from U+00A0 on, in order.
const LATIN: [&str; 96] = [
    "nbsp", "iexcl", "cent", "pound", "curren", "yen", "brvbar", "sect", "uml", "copy", "ordf", "laquo", "not", "shy",
    "reg", "macr", "deg", "plusmn", "sup2", "sup3", "acute", "micro", "para", "middot", "cedil", "sup1", "ordm",
    "raquo", "frac14", "frac12", "frac34", "iquest", "Agrave", "Aacute", "Acirc", "Atilde", "Auml", "Aring", "AElig",
    "Ccedil", "Egrave", "Eacute", "Ecirc", "Euml", "Igrave", "Iacute", "Icirc", "Iuml", "ETH", "Ntilde", "Ograve",
    "Oacute", "Ocirc", "Otilde", "Ouml", "times", "Oslash", "Ugrave", "Uacute", "Ucirc", "Uuml", "Yacute", "THORN",
    "szlig", "agrave", "aacute", "acirc", "atilde", "auml", "aring", "aelig", "ccedil", "egrave", "eacute", "ecirc",
    "euml", "igrave", "iacute", "icirc", "iuml", "eth", "ntilde", "ograve", "oacute", "ocirc", "otilde", "ouml",
    "divide", "oslash", "ugrave", "uacute", "ucirc", "uuml", "yacute", "thorn", "yuml",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(html: &str) -> Vec<Vec<Vec<String>>> {
        let out = read(html);
        let cell = |r: &Range<usize>| out.text.get(r.clone()).unwrap_or("?").trim().to_owned();
        out.tables.iter().map(|t| t.iter().map(|r| r.iter().map(cell).collect()).collect()).collect()
    }

    #[test]
    fn text_comes_in_lines_without_scripts_and_tags() {
        let out = read(
            "<head><style>p{x:1}</style><title>t</title></head><p>Dear&nbsp;Pia,<br>it&#39;s &lt;fine&gt;\n now</p><div>a<b>b</b></div><!-- x --><script>var a='</b>';</script>2 < 3",
        );
        assert_eq!(out.text, "Dear Pia,\nit's <fine> now\n\nab\n2 < 3");
    }

    #[test]
    fn preformatted_text_keeps_its_lines() {
        assert_eq!(read("<pre>{\n  &quot;id&quot;: 1\n}</pre>x").text, "{\n  \"id\": 1\n}\nx");
    }

    #[test]
    fn cells_are_found_with_and_without_their_end_tags() {
        let expected = vec![vec![
            vec!["Session ID".to_owned(), "48213".to_owned()],
            vec!["Status".to_owned(), "finished".to_owned()],
        ]];
        assert_eq!(
            rows(
                "<table><tr><th>Session ID</th><td> 48213 </td></tr><tr><td><b>Status</b></td><td><p>finished</p></td></tr></table>"
            ),
            expected
        );
        assert_eq!(rows("<TABLE border=\"a>b\"><TR><TD>Session ID<TD>48213<TR><TD>Status<TD>finished"), expected);
    }

    #[test]
    fn inner_tables_come_before_the_ones_around_them() {
        let all = rows("<table><tr><td>x<table><tr><td>a</td><td>b</td></tr></table></td><td>y</td></tr></table>");
        assert_eq!(all[0], vec![vec!["a".to_owned(), "b".to_owned()]]);
        assert_eq!(all[1][0][1], "y");
    }

    #[test]
    fn references_are_decoded() {
        assert_eq!(
            unescape("&#x7b;&quot;&Eacute;&eacute;&nosuch;&amp;&#0;&#xD800;& &#123"),
            "{\"Éé&nosuch;&\u{fffd}\u{fffd}& {"
        );
        assert_eq!(unescape("&yuml;&iexcl;"), "ÿ¡");
    }

    #[test]
    fn broken_markup_is_survived() {
        let html = "<table><tr><td a='x>1</td><td>2<table><tr><td>3</table></tr></table><p <b>&#x;&</p>é<";
        for (i, _) in html.char_indices() {
            read(html.get(..i).unwrap_or(""));
            read(html.get(i..).unwrap_or(""));
        }
        read(&"<table><tr><td>".repeat(5_000));
    }
}
