//! Text: shorter, in one case or line, cut out of a URL, escaped by hand where a place can't know.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::Args;
use crate::record::escape;

fn change(args: &Args<'_>, f: impl FnOnce(&str) -> String) -> Result<Value, String> {
    match args.get(0) {
        Value::String(text) => Ok(f(text).into()), // which may be a whole document
        _ => Ok(args.text(0)?.map_or(Value::Null, |text| f(&text).into())),
    }
}

/// At most so many characters; where it is cut it ends with `mark` (`…`), which counts.
///
/// `{{truncate feedback 8}}` gives `"Quick &…"`
/// `{{truncate feedback 9 mark='...'}}` gives `"Quick ..."`
/// `{{truncate feedback 100}}` gives `"Quick & kind"`
pub(super) fn truncate(args: &Args<'_>) -> Result<Value, String> {
    let most = args.count(1, "the number of characters")?;
    let mark = mark(args);
    change(args, |text| {
        if text.chars().nth(most).is_none() {
            return text.to_owned();
        }
        let keep = most.saturating_sub(mark.chars().count());
        text.chars().take(keep).chain(mark.chars()).take(most).collect()
    })
}

/// At most so many bytes of UTF-8, never inside a character; `mark` as in `truncate`.
///
/// `{{truncate_bytes 'äöü' 4 mark=''}}` gives `"äö"`
/// `{{truncate_bytes feedback 8}}` gives `"Quick…"`
pub(super) fn truncate_bytes(args: &Args<'_>) -> Result<Value, String> {
    let most = args.count(1, "the number of bytes")?;
    let mark = mark(args);
    change(args, |text| {
        if text.len() <= most {
            return text.to_owned();
        }
        let keep = text.floor_char_boundary(most.saturating_sub(mark.len()));
        let mut out = text.get(..keep).unwrap_or("").trim_end().to_owned() + &mark;
        out.truncate(out.floor_char_boundary(most));
        out
    })
}

fn mark(args: &Args<'_>) -> String {
    args.named("mark").and_then(Value::as_str).unwrap_or("…").to_owned()
}

/// In capitals.
///
/// `{{upper channel}}` gives `"VOICE"`
pub(super) fn upper(args: &Args<'_>) -> Result<Value, String> {
    change(args, str::to_uppercase)
}

/// In small letters.
///
/// `{{lower agent.name}}` gives `"ada lovelace"`
pub(super) fn lower(args: &Args<'_>) -> Result<Value, String> {
    change(args, str::to_lowercase)
}

/// Without blanks at the ends.
///
/// `{{trim '  a b '}}` gives `"a b"`
pub(super) fn trim(args: &Args<'_>) -> Result<Value, String> {
    change(args, |text| text.trim().to_owned())
}

/// On one line: breaks and other runs of blanks become one blank.
///
/// `{{single_line dispositions.[0].note}}` gives `"Asked about \"March\". Will pay."`
pub(super) fn single_line(args: &Args<'_>) -> Result<Value, String> {
    change(args, |text| {
        text.split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|w| !w.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    })
}

/// One behind the other; what is empty adds nothing.
///
/// `{{concat channel '/' id}}` gives `"voice/48213"`
pub(super) fn concat(args: &Args<'_>) -> Result<Value, String> {
    let mut out = String::new();
    for i in 0..args.values.len() {
        out.extend(args.text(i)?);
    }
    Ok(out.into())
}

/// Every occurrence of a text by another.
///
/// `{{replace menu_path '/' ' > '}}` gives `"Support > Billing"`
pub(super) fn replace(args: &Args<'_>) -> Result<Value, String> {
    let from = args.word(1, "the text to replace")?;
    let to = args.text(2)?.unwrap_or_default();
    if from.is_empty() {
        return Err("the text to replace is empty".to_owned());
    }
    change(args, |text| text.replace(&from, &to))
}

/// A part of a URL.
///
/// `{{url_part out_ticket_url 'host'}}` gives `"crm.example"`
/// `{{url_part out_ticket_url 'path'}}` gives `"/t/1001"`
/// `{{url_part out_ticket_url 'query'}}` gives `"x=1"`
/// `{{url_part out_ticket_url 'scheme'}}` gives `"https"`
pub(super) fn url_part(args: &Args<'_>) -> Result<Value, String> {
    let part = args.word(1, "the part's name")?;
    check_part(&Value::String(part.clone()))?;
    let Some(url) = args.text(0)? else { return Ok(Value::Null) };
    let (url, _) = url.split_once('#').unwrap_or((&url, ""));
    let Some((scheme, rest)) = url.split_once("://") else { return Ok(Value::Null) };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let found = match part.as_str() {
        "scheme" => scheme,
        "host" => authority.rsplit_once('@').map_or(authority, |(_, host)| host),
        "path" => path,
        _ => query,
    };
    Ok(if found.is_empty() { Value::Null } else { found.into() })
}

/// A part that is written in a template.
pub(super) fn check_part(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some("scheme" | "host" | "path" | "query") => Ok(()),
        _ => Err("the parts of a URL are `scheme`, `host`, `path` and `query`".to_owned()),
    }
}

/// Percent-encoded, for a URL inside a text.
///
/// `{{urlencode menu_path}}` gives `"Support%2FBilling"`
pub(super) fn urlencode(args: &Args<'_>) -> Result<Value, String> {
    change(args, escape::url)
}

/// In base64 (RFC 4648 section 4), of the text's UTF-8 bytes.
///
/// `{{base64 metadata.json}}` gives `"eyJpZCI6NDgyMTN9"`
pub(super) fn base64(args: &Args<'_>) -> Result<Value, String> {
    change(args, |text| BASE64_STANDARD.encode(text))
}

/// A phone number without blanks and signs: `form='e164'` (the default) keeps a leading `+`, `form='digits'` doesn't.
///
/// `{{phone support_number}}` gives `"+18005550100"`
/// `{{phone support_number form='digits'}}` gives `"18005550100"`
/// `{{phone '0049 30 1234'}}` gives `"+49301234"`
/// `{{phone 'anonymous'}}` gives `null`
pub(super) fn phone(args: &Args<'_>) -> Result<Value, String> {
    let form = args.named("form").cloned().unwrap_or_else(|| "e164".into());
    check_form(&form)?;
    let Some(text) = args.text(0)? else { return Ok(Value::Null) };
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if digits.is_empty() {
        return Ok(Value::Null);
    }
    let (world, digits) = match digits.strip_prefix("00") {
        Some(rest) if !text.contains('+') && !rest.is_empty() => (true, rest.to_owned()),
        _ => (text.trim_start().starts_with(['+', '(']) && text.contains('+'), digits),
    };
    Ok(if world && form == "e164" { format!("+{digits}") } else { digits }.into())
}

/// A form that is written in a template.
pub(super) fn check_form(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some("e164" | "digits") => Ok(()),
        _ => Err("the forms of a phone number are `e164` and `digits`".to_owned()),
    }
}

/// Markdown's special characters escaped, for a value inside a text that is Markdown (`.md.hbs` does it by itself).
///
/// `{{markdown '*a* b_c'}}` gives `"\\*a\\* b_c"`
pub(super) fn markdown(args: &Args<'_>) -> Result<Value, String> {
    change(args, escape::markdown)
}

/// HTML's special characters escaped, and line breaks as `<br>`: for notes of several lines.
///
/// `{{html disposition.note}}` gives `"Paid &lt;b&gt;today&lt;/b&gt; {{key}}"`
/// `{{html dispositions.[0].note}}` gives `"Asked about &quot;March&quot;.<br>\nWill pay."`
pub(super) fn html(args: &Args<'_>) -> Result<Value, String> {
    change(args, |text| escape::markup(text).replace("\r\n", "\n").replace('\n', "<br>\n"))
}
