//! A request and its answer as the ledger keeps them: readable, cut, and without credentials (a planned
//! request has none).

use std::sync::LazyLock;

use regex::Regex;

use super::http::{Exchange, Response};
use super::plan::Prepared;
use crate::outcome::Verdict;

/// What is kept of a body.
const KEPT: usize = 4096;

/// What `show` prints of one request.
pub(super) fn exchange(prepared: &Prepared, response: Option<&Response>, verdict: &Verdict) -> Exchange {
    let request = &prepared.request;
    let class = format!("{:?}", verdict.class).to_lowercase();
    let detail = if verdict.detail.is_empty() { String::new() } else { format!(": {}", verdict.detail) };
    let unsure = if verdict.uncertain { " (uncertain)" } else { "" };
    Exchange {
        step: prepared.step.clone(),
        request: format!("{} {}", request.method, request.url),
        request_body: request.body.as_ref().map_or(String::new(), |b| readable(&b.bytes)),
        status: response.map(|r| r.status),
        response_body: response.map_or(String::new(), |r| readable(&r.body)),
        verdict: format!("{class} {}{unsure}{detail}", verdict.reason),
    }
}

/// A body as text, attachments in base64 and the rest beyond 4 KiB cut with a mark. Empty if it is no text.
pub(super) fn readable(body: &[u8]) -> String {
    static LONG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/=_-]{200,}").ok());
    let Ok(text) = std::str::from_utf8(body) else { return String::new() };
    let text = match LONG.as_ref() {
        Some(long) => long.replace_all(text, |found: &regex::Captures<'_>| {
            let all = found.get(0).map_or("", |m| m.as_str());
            format!("{}…({} characters)", all.get(..24).unwrap_or(""), all.len())
        }),
        None => text.into(),
    };
    if text.len() <= KEPT {
        return text.into_owned();
    }
    let end = (0..=KEPT).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…({} bytes)", text.get(..end).unwrap_or(""), body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_cut_where_letters_end_and_files_are_not_kept() {
        let file = format!("{{\"file\":\"{}\",\"a\":1}}", "QUJD".repeat(100));
        assert_eq!(readable(file.as_bytes()), "{\"file\":\"QUJDQUJDQUJDQUJDQUJDQUJD…(400 characters)\",\"a\":1}");
        let long = "ä ".repeat(5000);
        let cut = readable(long.as_bytes());
        assert!(cut.len() < KEPT + 40 && cut.ends_with("…(15000 bytes)"), "{}", cut.len());
        assert_eq!(readable(&[0xff, 0xfe]), "");
    }
}
