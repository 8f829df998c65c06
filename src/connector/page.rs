//! The next page of an answer (RFC 8288 links, cursors, counts): which request asks for it, if there is one. It never
//! leaves the address that the first page came from, and there is a last one for sure.

use serde_json::Value;
use serde_json_path::JsonPath;

use super::assertion::text_of;
use super::http::Request;
use super::reply::Answer;
use super::step::Capture;
use super::url;
use crate::outcome::{Class, Reason, Verdict};

/// A compiled `page`.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) by: By,
    /// Something, but not false and not an empty list, where there are more pages.
    pub(crate) more: Option<JsonPath>,
    pub(crate) most: u32,
}

/// How a page is named.
#[derive(Debug)]
pub(crate) enum By {
    /// By an address in the answer.
    Address(Capture),
    /// By a value of the answer, as a parameter of the query.
    Value(Capture, String),
    /// By a number, as a parameter: that of the first page, and what is added for each further one.
    Count { param: String, first: u64, add: u64 },
}

impl Page {
    /// The request for the page after `page` (from 1), which `request` asked for; none if that was the last. The error
    /// is a verdict: the answer leads elsewhere.
    pub(crate) fn next(&self, request: &Request, page: u32, answer: &Answer<'_>) -> Result<Option<Request>, Verdict> {
        if page >= self.most {
            return Ok(None);
        }
        if let Some(more) = &self.more {
            let is_more = answer.json().and_then(|body| more.query(body).first()).is_some_and(|value| match value {
                Value::Null | Value::Bool(false) => false,
                Value::Array(items) => !items.is_empty(),
                Value::String(text) => !text.is_empty() && text != "false",
                _ => true,
            });
            if !is_more {
                return Ok(None);
            }
        }
        let value = |capture: &Capture| {
            capture.value(answer).map(|v| text_of(&v).trim().to_owned()).filter(|text| !text.is_empty())
        };
        let url = match &self.by {
            By::Count { param, first, add } => {
                url::with_parameter(&request.url, param, &(first + add * u64::from(page)).to_string())
            }
            By::Value(capture, param) => match value(capture) {
                Some(value) => url::with_parameter(&request.url, param, &value),
                None => return Ok(None),
            },
            By::Address(capture) => match value(capture) {
                None => return Ok(None),
                Some(address) => url::beside(&request.url, &address).ok_or_else(|| {
                    let said = "the answer names a next page at another address, which is not followed";
                    Verdict::new(Class::Dead, Reason::UnexpectedReply, said)
                })?,
            },
        };
        // The same page again would be asked for until the last.
        Ok((url != request.url).then(|| Request { url, ..request.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::connector::http::Response;

    fn capture(path: Option<&str>, header: Option<&str>, regex: Option<&str>) -> Capture {
        Capture {
            name: String::new(),
            path: path.map(|p| JsonPath::parse(p).expect("a path")),
            header: header.map(str::to_owned),
            regex: regex.map(|r| regex::Regex::new(r).expect("a pattern")),
            optional: true,
        }
    }

    fn next(page: &Page, at: u32, link: &str, body: &str) -> Result<Option<String>, Verdict> {
        let request = Request {
            method: "GET".into(),
            url: "https://crm.example/api/notes?size=2&after=a%20b".into(),
            headers: Vec::new(),
            body: None,
            with_credentials: true,
        };
        let headers = vec![("link".to_owned(), link.to_owned())];
        let response = Response { status: 200, headers, body: Bytes::copy_from_slice(body.as_bytes()) };
        page.next(&request, at, &Answer::new(&response)).map(|r| r.map(|r| r.url))
    }

    #[test]
    fn a_page_is_named_by_a_link_a_cursor_or_a_number() {
        let link = capture(None, Some("link"), Some(r#"<([^>]+)>;\s*rel="next""#));
        let link = Page { by: By::Address(link), more: None, most: 3 };
        let given = r#"<https://crm.example/api/notes?p=1>; rel="prev", </api/notes?p=3>; rel="next""#;
        let found = |result: Result<Option<String>, Verdict>| result.expect("no fault");
        assert_eq!(found(next(&link, 1, given, "")).as_deref(), Some("https://crm.example/api/notes?p=3"));
        assert_eq!(found(next(&link, 3, given, "")), None, "the cap");
        assert_eq!(found(next(&link, 1, "", "")), None);
        let more = || Some(JsonPath::parse("$.more").expect("a path"));
        let cursor = Page { by: By::Value(capture(Some("$.next"), None, None), "after".into()), more: more(), most: 5 };
        let body = r#"{"next":"c&d","more":true}"#;
        assert_eq!(
            found(next(&cursor, 1, "", body)).as_deref(),
            Some("https://crm.example/api/notes?size=2&after=c%26d")
        );
        assert_eq!(found(next(&cursor, 1, "", r#"{"next":"c","more":false}"#)), None);
        let count = Page { by: By::Count { param: "offset".into(), first: 0, add: 2 }, more: more(), most: 5 };
        let url = found(next(&count, 2, "", r#"{"more":[1]}"#));
        assert_eq!(url.as_deref(), Some("https://crm.example/api/notes?size=2&after=a%20b&offset=4"));
        assert_eq!(found(next(&count, 2, "", r#"{"more":[]}"#)), None);
    }

    #[test]
    fn a_link_to_another_address_is_not_followed() {
        let link = Page { by: By::Address(capture(Some("$.next"), None, None)), more: None, most: 5 };
        for bad in [
            "https://evil.example/api/notes",
            "https://crm.example.evil.example/",
            "https://crm.example@evil.example/",
            "//evil.example/x",
            "http://crm.example/api/notes",
            "/api/../admin",
            "javascript:alert(1)",
            "/x\r\nHost: evil",
        ] {
            let body = serde_json::json!({ "next": bad }).to_string();
            let verdict = next(&link, 1, "", &body).expect_err(bad);
            assert_eq!((verdict.class, verdict.reason), (Class::Dead, Reason::UnexpectedReply), "{bad}");
        }
    }
}
