//! Values in the forms that CRMs want: inside a query's quotes, in a subject that names a record, as an id of our
//! choice, as rich text.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Args;

/// A query language: what its quotes can't hold, and what stands for it.
struct Language {
    name: &'static str,
    escapes: &'static [(char, &'static str)],
}

/// Control characters are blanks in all of them, unless they are escaped.
const LANGUAGES: &[Language] = &[
    // Salesforce SOQL, between single quotes.
    Language { name: "soql", escapes: BACKSLASHED },
    // OData 4 and SQL, between single quotes.
    Language { name: "odata", escapes: &[('\'', "''")] },
    // Request Tracker's TicketSQL, between single quotes.
    Language { name: "ticketsql", escapes: &[('\\', "\\\\"), ('\'', "\\'")] },
    // Jira's JQL, between double quotes.
    Language { name: "jql", escapes: BACKSLASHED },
    // Zendesk's search, between double quotes: it knows no escape, so a quote is a blank.
    Language { name: "zquery", escapes: &[('"', " ")] },
    // ServiceNow's encoded queries: a caret ends a term.
    Language { name: "snquery", escapes: &[('^', "^^")] },
];

const BACKSLASHED: &[(char, &str)] =
    &[('\\', "\\\\"), ('\'', "\\'"), ('"', "\\\""), ('\n', "\\n"), ('\r', "\\r"), ('\t', "\\t")];

/// For a place inside a query's quotes: `soql`, `odata`, `ticketsql`, `jql`, `zquery`, `snquery`.
///
/// `{{escape "O'Neil" 'soql'}}` gives `"O\\'Neil"`
/// `{{escape "O'Neil" 'odata'}}` gives `"O''Neil"`
/// `{{escape 'INC1^active=true' 'snquery'}}` gives `"INC1^^active=true"`
pub(super) fn escape(args: &Args<'_>) -> Result<Value, String> {
    let name = args.word(1, "the language")?;
    let Some(language) = LANGUAGES.iter().find(|l| l.name == name) else { return Err(unknown()) };
    let Some(text) = args.text(0)? else { return Ok(Value::Null) };
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match language.escapes.iter().find(|(special, _)| *special == c) {
            Some((_, instead)) => out.push_str(instead),
            None => out.push(if c.is_control() { ' ' } else { c }),
        }
    }
    Ok(out.into())
}

fn unknown() -> String {
    let names: Vec<String> = LANGUAGES.iter().map(|l| format!("`{}`", l.name)).collect();
    format!("the languages are {}", names.join(", "))
}

/// A language that is written in a template.
pub(super) fn check_language(value: &Value) -> Result<(), String> {
    let known = value.as_str().is_some_and(|name| LANGUAGES.iter().any(|l| l.name == name));
    if known { Ok(()) } else { Err(unknown()) }
}

/// For a mail's subject: on one line, and without brackets, so that a value can't name another record.
///
/// `{{mailsubject 'Refund [acme #7]'}}` gives `"Refund (acme #7)"`
pub(super) fn mailsubject(args: &Args<'_>) -> Result<Value, String> {
    let Some(text) = args.text(0)? else { return Ok(Value::Null) };
    let line: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    Ok(line.join(" ").replace('[', "(").replace(']', ")").into())
}

/// A UUID of a text (version 8 of RFC 9562, of its SHA-256): always the same for the same text, so that the id of a
/// new record can be chosen by us, and made twice it is still one.
///
/// `{{uuid marker}}` gives `"a98238b2-6b99-8b17-ac81-e8a3a22a6e9d"`
pub(super) fn uuid(args: &Args<'_>) -> Result<Value, String> {
    let Some(text) = args.text(0)? else { return Ok(Value::Null) };
    let hash = Sha256::digest(text.as_bytes());
    let mut bits = hash.iter().take(16).fold(0_u128, |all, byte| (all << 8) | u128::from(*byte));
    bits = bits & !(0xf << 76) | 8 << 76;
    bits = bits & !(0b11 << 62) | 0b10 << 62;
    let all = format!("{bits:032x}");
    let part = |from, to| all.get(from..to).unwrap_or_default();
    Ok([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-").into())
}

/// A text as Atlassian Document Format: a paragraph for each blank line, a break for each other line end.
///
/// `{{adf feedback}}` gives `{"type":"doc","version":1,"content":[{"type":"paragraph","content":[{"type":"text","text":"Quick & kind"}]}]}`
pub(super) fn adf(args: &Args<'_>) -> Result<Value, String> {
    let text = args.text(0)?.unwrap_or_default().replace("\r\n", "\n");
    let mut paragraphs = Vec::new();
    for block in text.split("\n\n") {
        let mut content = Vec::new();
        for line in block.trim_matches('\n').split('\n').filter(|_| !block.trim().is_empty()) {
            if !content.is_empty() {
                content.push(json!({ "type": "hardBreak" }));
            }
            if !line.is_empty() {
                content.push(json!({ "type": "text", "text": line }));
            }
        }
        if !content.is_empty() {
            paragraphs.push(json!({ "type": "paragraph", "content": content }));
        }
    }
    if paragraphs.is_empty() {
        return Ok(Value::Null);
    }
    Ok(json!({ "type": "doc", "version": 1, "content": paragraphs }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(f: fn(&Args<'_>) -> Result<Value, String>, text: &str, more: &str) -> Value {
        let (text, more) = (Value::from(text), Value::from(more));
        f(&Args { values: &[&text, &more], named: &[] }).expect("a value")
    }

    #[test]
    fn no_value_leaves_the_quotes_of_any_language() {
        let hostile = "a'b\"c\\d^e\nf";
        for (language, expected) in [
            ("soql", "a\\'b\\\"c\\\\d^e\\nf"),
            ("jql", "a\\'b\\\"c\\\\d^e\\nf"),
            ("odata", "a''b\"c\\d^e f"),
            ("ticketsql", "a\\'b\"c\\\\d^e f"),
            ("zquery", "a'b c\\d^e f"),
            ("snquery", "a'b\"c\\d^^e f"),
        ] {
            assert_eq!(call(escape, hostile, language), expected, "{language}");
        }
        assert!(check_language(&"sql".into()).expect_err("unknown").contains("`odata`"));
    }

    #[test]
    fn rich_text_has_paragraphs_and_breaks_and_no_empty_text() {
        let doc = call(adf, "a\nb\r\n\n\n\nc\n", "");
        let text = doc.to_string();
        assert_eq!(text.matches("paragraph").count(), 2, "{text}");
        assert_eq!((text.matches("hardBreak").count(), text.matches("\"text\":\"\"").count()), (1, 0), "{text}");
        assert_eq!(call(adf, " \n\n ", ""), Value::Null);
    }

    #[test]
    fn an_id_of_our_choice_has_the_version_and_variant_bits() {
        let id = call(uuid, "m2c-a", "");
        let id = id.as_str().expect("a text");
        assert_eq!((id.len(), id.as_bytes()[14], id.matches('-').count()), (36, b'8', 4));
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
    }
}
