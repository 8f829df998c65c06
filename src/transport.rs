//! HTTP towards others (RFC 9110, RFC 9112): the clients, and what the lack of an answer means, for senders and stores
//! alike.
//!
//! Redirects are not followed, since a write must not land on another address; cookies are not kept; nothing is
//! repeated. Errors name the origin alone: paths, queries, headers and bodies can hold personal data or credentials.

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Response, Url, redirect};

use crate::outcome::{Class, Reason, Verdict};
use crate::tls;

/// Servers close idle connections after 5 s to some minutes. A request that meets the close is uncertain,
/// so ours go first.
const IDLE: Duration = Duration::from_secs(15);

/// Keeps connections open between requests. Cheap to share by reference.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    /// Goes through the proxy that the environment names (`HTTPS_PROXY`, `NO_PROXY` and so on), if any.
    outward: Client,
    /// Goes to this machine, hence never through a proxy.
    loopback: Client,
    timeout: Duration,
}

impl Clients {
    /// Reads `ca_file`; connects to nothing. The error is a sentence that names the key to change. `timeout` is for
    /// a whole request, until the last byte of the answer.
    pub(crate) fn new(connect: Duration, timeout: Duration, ca_file: Option<&Path>) -> Result<Self, String> {
        let tls = tls::client_config(ca_file)?;
        let builder = || {
            Client::builder()
                .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
                .http1_only()
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .user_agent(concat!("mail2crm/", env!("CARGO_PKG_VERSION")))
                // A connect that took up the whole time would look like a lost answer.
                .connect_timeout(connect.min(timeout / 2))
                .timeout(timeout)
                .pool_idle_timeout(IDLE)
                .tcp_nodelay(true)
        };
        let fault = |e: reqwest::Error| format!("can't set up HTTP: {}", e.without_url());
        Ok(Self {
            outward: builder().build().map_err(fault)?,
            loopback: builder().no_proxy().build().map_err(fault)?,
            timeout,
        })
    }

    /// The client that reaches this address.
    pub(crate) fn towards(&self, url: &Url) -> &Client {
        if url.host_str().is_some_and(is_loopback) { &self.loopback } else { &self.outward }
    }

    /// The same, never through a proxy.
    #[cfg(test)]
    pub(crate) fn without_proxy(&self) -> Self {
        Self { outward: self.loopback.clone(), ..self.clone() }
    }

    /// What a missing or broken answer means. `uncertain` is false only when nothing of the request can have reached
    /// the server.
    pub(crate) fn judge(&self, origin: &str, error: &reqwest::Error) -> Verdict {
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

/// The body of an answer, and whether there was more than `cap` bytes of it: the rest is cut off with the connection.
/// A broken body of an answer that is not a success is no error: the status says enough.
pub(crate) async fn body(answer: &mut Response, cap: usize) -> Result<(Bytes, bool), reqwest::Error> {
    let mut body = BytesMut::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                let room = cap - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if chunk.len() > room {
                    return Ok((body.freeze(), true));
                }
            }
            Ok(None) => return Ok((body.freeze(), false)),
            Err(_) if !answer.status().is_success() => return Ok((body.freeze(), false)),
            Err(error) => return Err(error),
        }
    }
}

/// A request that no server would understand.
pub(crate) fn unsendable(why: String) -> Verdict {
    Verdict::new(Class::Dead, Reason::TemplateFailed, format!("the request can't be sent: {why}"))
}

/// As `tls::is_loopback`, also for an address in brackets, as URLs have it.
pub(crate) fn is_loopback(host: &str) -> bool {
    tls::is_loopback(host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host))
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
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_a_name_that_looks_like_it() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1", "128.0.0.1", "::2", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
