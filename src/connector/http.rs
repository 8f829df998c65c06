//! HTTP requests and responses as plain values (RFC 9110), between the planning of a step and its sending.
//! Credentials are not in a planned request: the sender adds them, so nothing that is stored or printed
//! can hold one.

use bytes::Bytes;
use serde::Serialize;

/// A request, ready but for its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, `PUT`, `PATCH`, `DELETE`.
    pub method: String,
    /// Absolute, with the query; of the destination's own origin unless the step names another.
    pub url: String,
    /// In order. Names as the manifest writes them; values without line ends.
    pub headers: Vec<(String, String)>,
    /// `None` sends no body.
    pub body: Option<Body>,
    /// False for a step with `auth = "none"`.
    pub with_credentials: bool,
}

/// A request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The content type, with its parameters (multipart boundaries are made from the marker).
    pub content_type: String,
    /// The bytes as they are sent.
    pub bytes: Bytes,
}

/// An answer, read up to a cap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most the sender's cap; the rest is cut off.
    pub body: Bytes,
}

impl Response {
    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// One request and its answer as the ledger keeps it: no credentials, long bodies cut with a mark.
#[derive(Debug, Clone, Serialize)]
pub struct Exchange {
    /// The step of the manifest.
    pub step: String,
    /// `POST https://…`.
    pub request: String,
    /// What was sent, cut; empty for a body that is not text.
    pub request_body: String,
    /// The status, if an answer came.
    pub status: Option<u16>,
    /// What came back, cut.
    pub response_body: String,
    /// What it was taken for.
    pub verdict: String,
}
