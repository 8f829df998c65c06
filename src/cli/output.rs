//! How commands print data: JSON objects a line with `--json`, aligned columns otherwise. Control
//! characters of strangers never reach the terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;

use super::{Failure, Result};
use crate::ledger::Handled;

/// One JSON object on a line.
pub(super) fn print_line(value: &impl Serialize) -> Result {
    let line = serde_json::to_string(value).map_err(anyhow::Error::new)?;
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// JSON for reading.
pub(super) fn print_pretty(value: &Value) -> Result {
    let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::new)?;
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Text as it is, but for control characters.
pub(super) fn print_text(text: &str) -> Result {
    Ok(write!(std::io::stdout().lock(), "{}", harmless(text))?)
}

/// Rows under a head, columns aligned; long cells are cut.
pub(super) fn print_table(head: &[&str], rows: &[Vec<String>]) -> Result {
    const WIDEST: usize = 60;
    let cell = |text: &str| -> String {
        let text = harmless(text).replace('\n', " ");
        if text.chars().count() > WIDEST { text.chars().take(WIDEST - 1).chain(['…']).collect() } else { text }
    };
    let rows: Vec<Vec<String>> = rows.iter().map(|r| r.iter().map(|c| cell(c)).collect()).collect();
    let width = |i: usize| {
        rows.iter()
            .filter_map(|r| r.get(i))
            .map(|c| c.chars().count())
            .chain([head.get(i).map_or(0, |h| h.len())])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    let mut line = |cells: Vec<&str>| {
        let padded =
            cells.iter().zip(&widths).map(|(c, w)| format!("{c}{}", " ".repeat(w.saturating_sub(c.chars().count()))));
        out.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    };
    line(head.to_vec());
    for row in &rows {
        line(row.iter().map(String::as_str).collect());
    }
    Ok(std::io::stdout().lock().write_all(out.as_bytes())?)
}

/// A whole story: JSON with `--json`, else indented lines that leave out what is empty.
pub(super) fn print_story(json: bool, story: &impl Serialize) -> Result {
    if json {
        return print_line(story);
    }
    let value = serde_json::to_value(story).map_err(anyhow::Error::new)?;
    let mut out = String::new();
    tell(&value, 0, &mut out);
    print_text(&out)
}

/// One value as indented `name: value` lines.
fn tell(value: &Value, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    let is_empty = |v: &Value| match v {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    };
    let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let line = |head: String, v: &Value, out: &mut String| match v {
        Value::Object(_) | Value::Array(_) => {
            let _ = writeln!(out, "{pad}{head}");
            tell(v, depth + 1, out);
        }
        v => {
            let text = plain(v).replace('\n', &format!("\n{pad}  "));
            let _ = writeln!(out, "{pad}{head} {text}");
        }
    };
    match value {
        Value::Object(map) => map.iter().filter(|(_, v)| !is_empty(v)).for_each(|(k, v)| line(format!("{k}:"), v, out)),
        Value::Array(list) => list.iter().for_each(|v| line("-".to_owned(), v, out)),
        other => line(String::new(), other, out),
    }
}

/// What was done by hand, one line each; not all well if something was left as it is.
pub(super) fn print_handled<I: std::fmt::Display + Serialize, S: Serialize>(
    json: bool,
    what: &str,
    handled: &[Handled<I, S>],
) -> Result {
    for one in handled {
        if json {
            print_line(one)?;
        } else {
            print_text(&format!("{what} {}: {}\n", one.id, one.detail))?;
        }
    }
    if handled.iter().all(|h| h.after.is_some()) { Ok(()) } else { Err(Failure::NotAllWell) }
}

/// A time for people: in the zone of this machine, to the second.
pub(super) fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Replaces what a terminal could take for a command.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    // Bytes first: of UTF-8, control characters begin with one of these.
    let may_be_harmful = |b: &u8| (*b < 0x20 && *b != b'\n' && *b != b'\t') || *b == 0x7f || *b == 0xc2;
    if !text.as_bytes().iter().any(may_be_harmful) {
        return text.into();
    }
    text.replace(is_harmful, "\u{fffd}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_strangers_are_made_harmless() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\nc");
        assert_eq!(harmless("\u{7f}\u{9b}é\t"), "\u{fffd}\u{fffd}é\t");
    }
}
