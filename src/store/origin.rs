//! One object store's HTTP interface: sends a request that is signed already, reads the answer up to a cap, and says
//! what a refusal means. Its closed words (`AccessDenied`, `NoSuchBucket`, …) are shown, its sentences never: they
//! hold names.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use crate::outcome::{Class, Reason, Verdict, of_http_status};
use crate::transport::{self, Clients, unsendable};

const CONNECT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(120);
/// Of an answer that is no document, this much is read: a page of 1,000 names of 1,024 bytes, each encoded.
pub(super) const PAGE_CAP: usize = 8 << 20;

/// Where a store listens.
#[derive(Debug)]
pub(super) struct Origin {
    clients: Clients,
    /// `https://host[:port]`, and what of a path comes before all others; without a slash at its end.
    pub(super) base: String,
    /// The host as the `Host` header has it.
    pub(super) host: String,
    /// The path in `base`.
    pub(super) path: String,
    shown: String,
}

/// A request.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Behind the base, encoded; beginning with `/`.
    pub(super) path: String,
    /// Encoded; empty if there is none.
    pub(super) query: String,
    /// Names in lower case.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// Of the answer, this much is read.
    pub(super) cap: usize,
}

impl Ask {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self { method, path, query: String::new(), headers: Vec::new(), body: Bytes::new(), cap: PAGE_CAP }
    }

    pub(super) fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        self.query = super::uri::query(pairs);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(mut self, content_type: &str, body: Bytes) -> Self {
        self.body = body;
        self.header("content-type", content_type)
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    pub(super) body: Bytes,
    is_cut: bool,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header with a time.
    pub(super) fn time(&self, name: &str) -> Option<Timestamp> {
        rfc2822::parse(self.header(name)?).ok().map(|time| time.timestamp())
    }

    /// The size of what was asked about.
    pub(super) fn length(&self) -> u64 {
        self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// The body as text, if it was read whole.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok().filter(|_| !self.is_cut)
    }

    /// The body of a download; nothing if it is longer than was listed.
    pub(super) fn document(self) -> Option<Bytes> {
        (!self.is_cut).then_some(self.body)
    }
}

impl Origin {
    /// `endpoint` is a URL. The error is a sentence.
    pub(super) fn new(endpoint: &str, ca_file: Option<&Path>) -> Result<Self, String> {
        let url = Url::parse(endpoint).map_err(|e| format!("`endpoint` is not a URL: {e}"))?;
        let host = url.host_str().ok_or("`endpoint` names no host")?;
        let host = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let path = url.path().trim_end_matches('/').to_owned();
        Ok(Self {
            clients: Clients::new(CONNECT, TIMEOUT, ca_file)?,
            base: format!("{}://{host}{path}", url.scheme()),
            host,
            path,
            shown: url.origin().ascii_serialization(),
        })
    }

    /// Sends it once.
    pub(super) async fn send(&self, ask: Ask) -> Result<Answer, Verdict> {
        let question = if ask.query.is_empty() { "" } else { "?" };
        let url = Url::parse(&format!("{}{}{question}{}", self.base, ask.path, ask.query))
            .map_err(|e| unsendable(format!("its address is not a URL: {e}")))?;
        let mut headers = HeaderMap::new();
        for (name, value) in ask.headers {
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| unsendable(format!("the header `{name}` is not one that can be sent")))?;
            value.set_sensitive(name == "authorization");
            headers.insert(HeaderName::from_static(name), value);
        }
        // Hyper says nothing of an empty body, and Azure wants to be told.
        if ask.body.is_empty() && matches!(ask.method, Method::PUT | Method::POST) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let request = self.clients.towards(&url).request(ask.method, url).headers(headers);
        let request = if ask.body.is_empty() { request } else { request.body(ask.body) };
        let lost = |error: reqwest::Error| self.clients.judge(&self.shown, &error);
        let mut answer = request.send().await.map_err(lost)?;
        let (body, is_cut) = transport::body(&mut answer, ask.cap).await.map_err(lost)?;
        Ok(Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body, is_cut })
    }

    /// What a refusal means. `code` is the store's own word for it.
    pub(super) fn refused(&self, answer: &Answer, code: Option<&str>) -> Verdict {
        // Words of the store, not sentences of it.
        let code = code.filter(|code| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        let (class, reason) = of_code(answer.status, code.unwrap_or_default());
        let shown = code.map_or(String::new(), |code| format!(" ({code})"));
        let region =
            answer.header("x-amz-bucket-region").filter(|r| r.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        let hint = region
            .filter(|_| matches!(answer.status, 300..=400))
            .map_or(String::new(), |region| format!("; the bucket is in another region: set `region = \"{region}\"`"));
        let mut verdict =
            Verdict::new(class, reason, format!("{} answers with status {}{shown}{hint}", self.shown, answer.status));
        let seconds = answer.header("retry-after").and_then(|text| text.trim().parse().ok());
        verdict.retry_after = seconds.map(Duration::from_secs);
        verdict
    }

    /// An answer that is not what the interface promises.
    pub(super) fn unexpected(&self) -> Verdict {
        let detail = format!("what listens at {} answers in a form that is not the store's", self.shown);
        Verdict::new(Class::Pause, Reason::BadBaseUrl, detail)
    }
}

fn of_code(status: u16, code: &str) -> (Class, Reason) {
    match (status, code) {
        (
            400 | 401 | 403,
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "RequestTimeTooSkewed"
            | "AuthenticationFailed"
            | "InvalidAuthenticationInfo"
            | "authError"
            | "NoAuthenticationInformation",
        ) => (Class::Pause, Reason::Unauthorized),
        (400, "AuthorizationHeaderMalformed" | "InvalidBucketName") => (Class::Pause, Reason::BadBaseUrl),
        (400, "RequestTimeout") => (Class::Retry, Reason::Timeout),
        (403 | 429, "rateLimitExceeded" | "userRateLimitExceeded") => (Class::Retry, Reason::RateLimited),
        (403, "quotaExceeded" | "dailyLimitExceeded" | "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded")
        | (507, _) => (Class::Retry, Reason::Quota),
        // The bucket; that an object is not there is no refusal.
        (404, _) => (Class::Pause, Reason::StorageFailed),
        (503, "SlowDown" | "ServerBusy") => (Class::Retry, Reason::RateLimited),
        (400 | 405 | 411..=431, "KeyTooLongError" | "InvalidResourceName" | "OutOfRangeInput") => {
            (Class::Dead, Reason::StorageFailed)
        }
        _ => {
            let verdict = of_http_status(status);
            (verdict.class, verdict.reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_pause_retry_or_end_by_what_they_mean() {
        for (status, code, class, reason) in [
            (403, "AccessDenied", Class::Pause, Reason::NotPermitted),
            (403, "InvalidAccessKeyId", Class::Pause, Reason::Unauthorized),
            (400, "ExpiredToken", Class::Pause, Reason::Unauthorized),
            (401, "", Class::Pause, Reason::Unauthorized),
            (404, "NoSuchBucket", Class::Pause, Reason::StorageFailed),
            (301, "PermanentRedirect", Class::Pause, Reason::BadBaseUrl),
            (400, "AuthorizationHeaderMalformed", Class::Pause, Reason::BadBaseUrl),
            (403, "rateLimitExceeded", Class::Retry, Reason::RateLimited),
            (403, "quotaExceeded", Class::Retry, Reason::Quota),
            (429, "", Class::Retry, Reason::RateLimited),
            (500, "InternalError", Class::Retry, Reason::Unavailable),
            (503, "SlowDown", Class::Retry, Reason::RateLimited),
            (412, "PreconditionFailed", Class::Conflict, Reason::Conflict),
            (409, "ConditionalRequestConflict", Class::Conflict, Reason::Conflict),
            (400, "KeyTooLongError", Class::Dead, Reason::StorageFailed),
        ] {
            assert_eq!(of_code(status, code), (class, reason), "{status} {code}");
        }
    }
}
