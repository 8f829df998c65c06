//! Sends one HTTP request (RFC 9110, RFC 9112) and reads its answer up to a cap.
//!
//! An answer is not judged here, whatever its status: that is the manifest's business. What is judged is the
//! lack of one, above all whether the request may have taken effect. Errors name the origin alone: paths,
//! queries, headers and bodies can hold personal data or credentials.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::seconds;
use crate::connector::http::{Request, Response};
use crate::outcome::{Class, Reason, Verdict};
use crate::transport::{self, Clients, unsendable};

/// Of an answer's body, this much is read; the rest is cut off with the connection.
pub const BODY_CAP: usize = 1 << 20;

/// How to talk to an HTTP server.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Seconds for the look-up of the name, the connection and the TLS handshake; at most half of
    /// `timeout_seconds`.
    #[serde(rename = "connect_timeout_seconds", deserialize_with = "seconds::deserialize")]
    #[schemars(with = "f64")]
    pub connect_timeout: Duration,
    /// Seconds for the whole request, until the last byte of the answer.
    #[serde(rename = "timeout_seconds", deserialize_with = "seconds::deserialize")]
    #[schemars(with = "f64")]
    pub timeout: Duration,
    /// A PEM file of authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), timeout: Duration::from_secs(60), ca_file: None }
    }
}

/// Sends requests, and keeps connections open between them. Cheap to share by reference.
#[derive(Debug)]
pub struct HttpSender {
    clients: Clients,
}

impl HttpSender {
    /// Reads `ca_file`; connects to nothing. The error is a sentence that names the key to change.
    pub fn new(settings: HttpSettings) -> Result<Self, String> {
        let HttpSettings { connect_timeout, timeout, ca_file } = settings;
        Ok(Self { clients: Clients::new(connect_timeout, timeout, ca_file.as_deref())? })
    }

    /// Sends the request once, with the credentials' headers unless the step goes without, and returns the
    /// answer whatever its status. An `Err` means that there was no complete answer; its `uncertain` is false
    /// only when nothing of the request can have reached the server.
    ///
    /// A broken body of an answer that is not a success is no error: the status says enough.
    pub async fn send(&self, request: &Request, credentials: &[(String, SecretString)]) -> Result<Response, Verdict> {
        let url = Url::parse(&request.url).map_err(|e| {
            Verdict::new(Class::Pause, Reason::BadBaseUrl, format!("the address of the request is not a URL: {e}"))
        })?;
        let origin = url.origin().ascii_serialization();
        let client = self.clients.towards(&url);
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| unsendable("its method is not an HTTP method".to_owned()))?;

        let mut outgoing = client.request(method, url).headers(headers(request, credentials)?);
        if let Some(body) = &request.body {
            outgoing = outgoing.body(body.bytes.clone());
        }
        let mut answer = outgoing.send().await.map_err(|e| self.clients.judge(&origin, &e))?;
        let status = answer.status();
        let headers = answer
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let (body, _) = transport::body(&mut answer, BODY_CAP).await.map_err(|e| self.clients.judge(&origin, &e))?;
        Ok(Response { status: status.as_u16(), headers, body })
    }
}

/// The request's own headers, in order, then the credentials', which win.
fn headers(request: &Request, credentials: &[(String, SecretString)]) -> Result<HeaderMap, Verdict> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let bad = || unsendable(format!("the header `{name}` is not one that can be sent"));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        headers.append(header, HeaderValue::from_str(value).map_err(|_| bad())?);
    }
    if let Some(body) = &request.body
        && !headers.contains_key(CONTENT_TYPE)
    {
        let value = HeaderValue::from_str(&body.content_type)
            .map_err(|_| unsendable("its content type is not one that can be sent".to_owned()))?;
        headers.insert(CONTENT_TYPE, value);
    }
    for (name, secret) in credentials.iter().filter(|_| request.with_credentials) {
        let bad = || {
            let detail = format!("the credential for the header `{name}` has characters that can't be in a header");
            Verdict::new(Class::Pause, Reason::Unauthorized, detail)
        };
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(secret.expose_secret()).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
