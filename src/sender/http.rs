//! Sends one HTTP request (RFC 9110, RFC 9112) and reads its answer up to a cap.
//!
//! An answer is not judged here, whatever its status: that is the manifest's business. What is judged is the
//! lack of one, above all whether the request may have taken effect. Redirects are not followed, since a
//! write must not land on another address; cookies are not kept. Errors name the origin alone: paths,
//! queries, headers and bodies can hold personal data or credentials.

use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url, redirect};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{is_loopback, seconds};
use crate::connector::http::{Request, Response};
use crate::outcome::{Class, Reason, Verdict};
use crate::tls;

/// Of an answer's body, this much is read; the rest is cut off with the connection.
pub const BODY_CAP: usize = 1 << 20;

/// Servers close idle connections after 5 s to some minutes. A request that meets the close is uncertain,
/// so ours go first.
const IDLE: Duration = Duration::from_secs(15);

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
    /// Goes through the proxy that the environment names (`HTTPS_PROXY`, `NO_PROXY` and so on), if any.
    outward: Client,
    /// Goes to this machine, hence never through a proxy.
    loopback: Client,
    timeout: Duration,
}

impl HttpSender {
    /// Reads `ca_file`; connects to nothing. The error is a sentence that names the key to change.
    pub fn new(settings: HttpSettings) -> Result<Self, String> {
        let tls = tls::client_config(settings.ca_file.as_deref())?;
        let builder = || {
            Client::builder()
                .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
                .http1_only()
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .user_agent(concat!("mail2crm/", env!("CARGO_PKG_VERSION")))
                // A connect that took up the whole time would look like a lost answer.
                .connect_timeout(settings.connect_timeout.min(settings.timeout / 2))
                .timeout(settings.timeout)
                .pool_idle_timeout(IDLE)
                .tcp_nodelay(true)
        };
        let fault = |e: reqwest::Error| format!("can't set up HTTP: {}", e.without_url());
        Ok(Self {
            outward: builder().build().map_err(fault)?,
            loopback: builder().no_proxy().build().map_err(fault)?,
            timeout: settings.timeout,
        })
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
        let client = if url.host_str().is_some_and(is_loopback) { &self.loopback } else { &self.outward };
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| unsendable("its method is not an HTTP method".to_owned()))?;

        let mut outgoing = client.request(method, url).headers(headers(request, credentials)?);
        if let Some(body) = &request.body {
            outgoing = outgoing.body(body.bytes.clone());
        }
        let mut answer = outgoing.send().await.map_err(|e| self.judge(&origin, &e))?;
        let status = answer.status();
        let headers = answer
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let mut body = BytesMut::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    let room = BODY_CAP - body.len();
                    body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                    if body.len() == BODY_CAP {
                        break;
                    }
                }
                Ok(None) => break,
                Err(_) if !status.is_success() => break,
                Err(error) => return Err(self.judge(&origin, &error)),
            }
        }
        Ok(Response { status: status.as_u16(), headers, body: body.freeze() })
    }

    /// What a missing or broken answer means.
    fn judge(&self, origin: &str, error: &reqwest::Error) -> Verdict {
        if error.is_builder() {
            return unsendable("it is not well formed".to_owned());
        }
        if error.is_connect() {
            return unconnected(origin, error);
        }
        let hyper = tls::find::<hyper::Error>(error);
        if hyper.is_some_and(hyper::Error::is_canceled) {
            // The connection was gone before the first byte of the request was written to it.
            return Verdict::new(
                Class::Retry,
                Reason::Unreachable,
                format!("{origin} closed the connection before the request was sent"),
            );
        }
        if error.is_timeout() {
            let seconds = self.timeout.as_secs_f64();
            let detail = format!("{origin} did not answer within {seconds} s");
            return Verdict::new(Class::Retry, Reason::Timeout, detail).uncertain();
        }
        if hyper.is_some_and(hyper::Error::is_parse) {
            let detail = format!("what listens at {origin} does not answer in HTTP");
            return Verdict::new(Class::Pause, Reason::BadBaseUrl, detail).uncertain();
        }
        let detail = format!("the connection to {origin} broke before the whole answer was there");
        Verdict::new(Class::Retry, Reason::ConnectionLost, detail).uncertain()
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

fn unsendable(why: String) -> Verdict {
    Verdict::new(Class::Dead, Reason::TemplateFailed, format!("the request can't be sent: {why}"))
}

/// No connection: nothing was sent. A name that is not known and a failed handshake are configuration.
fn unconnected(origin: &str, error: &reqwest::Error) -> Verdict {
    if error.is_dns() {
        let detail = format!("the name of the host of {origin} is not known to DNS");
        return Verdict::new(Class::Pause, Reason::Dns, detail);
    }
    if let Some(fault) = tls::find::<rustls::Error>(error) {
        return Verdict::new(Class::Pause, Reason::Tls, format!("no TLS with {origin}: {fault}"));
    }
    let why = if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        tls::find::<std::io::Error>(error).map_or("the proxy refused".to_owned(), |e| e.kind().to_string())
    };
    Verdict::new(Class::Retry, Reason::Unreachable, format!("no connection to {origin}: {why}"))
}

#[cfg(test)]
mod tests;
