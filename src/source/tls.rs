//! From a host and a port to a TCP connection, and from that to one over TLS (RFC 8314), for the sources
//! that dial out. Trusts the system's authorities, plus those of `ca_file`; never skips the verification.
//! Every failure is a `Fault` that names its step: `connect` (dns, unreachable) or
//! `tls` (tls, timeout, connection_lost).

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Fault;
use super::imap::Tls;
use crate::outcome::Reason;
use crate::tls::{client_config, is_loopback};

/// How long one of several addresses of a host may take before the next one is tried.
const PER_ADDRESS: Duration = Duration::from_secs(10);

/// What a connection is underneath: TCP, or TLS over it.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Where the mail servers of a kind are: an example of a name, and their ports.
pub(super) struct Usual {
    pub(super) example: &'static str,
    pub(super) implicit: u16,
    /// In clear, and with STARTTLS.
    pub(super) clear: u16,
}

impl Usual {
    /// The port, said or usual.
    pub(super) fn port(&self, said: Option<u16>, tls: Tls) -> u16 {
        said.unwrap_or(if tls == Tls::Implicit { self.implicit } else { self.clear })
    }

    /// What settings say of a server that can't be: key, sentence, hint.
    pub(super) fn faults(
        &self,
        host: &str,
        port: Option<u16>,
        tls: Tls,
        has_ca_file: bool,
    ) -> Vec<(&'static str, String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key, sentence: &str, hint: &str| faults.push((key, sentence.to_owned(), hint.to_owned()));
        if host.trim().is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
            let hint = format!("write the name alone, such as `{}`", self.example);
            fault("host", "`host` is not a host name", &hint);
        } else if tls == Tls::None && !is_loopback(host) {
            let Self { implicit, clear, .. } = self;
            let hint = format!("use `tls = \"implicit\"` (port {implicit}) or `tls = \"starttls\"` (port {clear})");
            fault("tls", "`tls = \"none\"` would send the password in clear over a network", &hint);
        }
        if port == Some(0) {
            fault("port", "`port` is 0", "leave it out for the usual port");
        }
        if has_ca_file && tls == Tls::None {
            fault("ca_file", "`ca_file` has no use with `tls = \"none\"`", "remove it, or choose another `tls`");
        }
        faults
    }
}

/// Connects to the first address of `host` that answers. Small commands go out at once.
pub(super) async fn dial(host: &str, port: u16, patience: Duration) -> Result<TcpStream, Fault> {
    let fault = |reason, detail| Fault { reason, step: "connect", detail };
    let found = timeout(patience, lookup_host((host, port))).await;
    let addresses: Vec<_> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(e)) => return Err(fault(Reason::Dns, format!("the host `{host}` can't be found: {e}"))),
        Err(_) => return Err(fault(Reason::Dns, format!("no answer from the DNS about `{host}` in {patience:?}"))),
    };
    let each = if addresses.len() > 1 { patience.min(PER_ADDRESS) } else { patience };
    let mut last = format!("the host `{host}` has no address");
    for address in addresses {
        match timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it a command waits for the acknowledgement of the one before; not fatal if refused.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(e)) => last = format!("no connection to `{host}` at {address}: {e}"),
            Err(_) => last = format!("no connection to `{host}` at {address} in {each:?}"),
        }
    }
    Err(fault(Reason::Unreachable, last))
}

/// What is trusted: the system's authorities and those of `ca_file`. Reads files: call it off the runtime.
pub(super) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, Fault> {
    let config = client_config(ca_file).map_err(|detail| Fault { reason: Reason::Tls, step: "tls", detail })?;
    Ok(TlsConnector::from(config))
}

/// The TLS handshake, with the certificate checked for `host`.
pub(super) async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    connector: &TlsConnector,
    stream: S,
    host: &str,
    patience: Duration,
) -> Result<TlsStream<S>, Fault> {
    let fault = |reason, detail| Fault { reason, step: "tls", detail };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| fault(Reason::Tls, format!("`{host}` is not a name that a certificate can be checked for")))?;
    match timeout(patience, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) => {
            // The library says `InvalidData` for what is wrong with TLS; the rest is the network's.
            let reason = if e.kind() == ErrorKind::InvalidData { Reason::Tls } else { Reason::ConnectionLost };
            Err(fault(reason, format!("the handshake with `{host}` failed: {e}")))
        }
        Err(_) => Err(fault(Reason::Timeout, format!("no end of the handshake with `{host}` in {patience:?}"))),
    }
}
