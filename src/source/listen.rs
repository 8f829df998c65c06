//! What the sources that listen share: an address, seats for callers, TLS with the operator's certificate
//! (RFC 8446), and a share of memory for what is being received.
//!
//! A caller without a seat is sent away at once: nobody can take all seats alone. The certificate is read again
//! when its file changes, so that a renewed one needs no restart.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Fault;
use crate::outcome::Reason;

/// All that is being received at a time, over all callers of a source, in KiB.
const MEMORY_KIB: usize = 256 << 10;

/// An address to listen on, from `ADDRESS:PORT`; `localhost` is 127.0.0.1.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    match text.trim().strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.trim().parse().ok(),
    }
}

/// What is wrong with `listen`, if so, as a source's `validate` says it.
pub(super) fn fault_of(text: &str) -> Option<(&'static str, String, String)> {
    let hint = "write an address and a port, such as `127.0.0.1:2525`, `0.0.0.0:25` or `[::]:25`".to_owned();
    address(text).is_none().then(|| ("listen", format!("`{text}` is not an address to listen on"), hint))
}

/// Listens there.
pub(super) async fn bind(text: &str) -> Result<TcpListener, Fault> {
    let Some(address) = address(text) else {
        let detail = format!("`{text}` is not an address to listen on");
        return Err(Fault { reason: Reason::Unavailable, step: "listen", detail });
    };
    TcpListener::bind(address).await.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::PermissionDenied => Reason::NotPermitted,
            _ => Reason::Unavailable,
        };
        Fault { reason, step: "listen", detail: format!("can't listen on `{address}`: {error}") }
    })
}

/// For `check --online`: whether it could listen there, or something (most likely the service) does already.
pub(super) async fn look(text: &str) -> Result<String, Fault> {
    match bind(text).await {
        Ok(_) => Ok(format!("`{text}` is free to listen on")),
        Err(fault) => match timeout(Duration::from_secs(5), TcpStream::connect(text)).await {
            Ok(Ok(_)) => Ok(format!("something listens on `{text}` already: the service itself, if it runs")),
            _ => Err(fault),
        },
    }
}

/// What callers may take of a source.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    all: usize,
    each: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    memory: Arc<Semaphore>,
}

/// One caller's seat, free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    peer: IpAddr,
    seats: Seats,
}

impl Seats {
    /// So many callers in all, and from each address.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { all, each, taken: Arc::default(), memory: Arc::new(Semaphore::new(MEMORY_KIB)) }
    }

    /// A seat for a caller; `None` if all are taken, or too many by this one.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Seat> {
        let peer = network(peer);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = taken.get(&peer).copied().unwrap_or(0);
        if of_peer >= self.each || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        taken.insert(peer, of_peer + 1);
        Some(Seat { peer, seats: self.clone() })
    }

    /// Room for a message that is being received.
    pub(super) fn room(&self) -> Room {
        Room { memory: self.memory.clone(), taken: None }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

/// One host has a whole /64 of IPv6 addresses at its disposal.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::from((u128::from(address) >> 64 << 64).to_be_bytes()),
        address => address,
    }
}

/// The memory that a message takes while it is received.
#[derive(Debug)]
pub(super) struct Room {
    memory: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Takes room for so many bytes in all. False: there is none now.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let wanted = bytes.div_ceil(1024);
        let have = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(more) = wanted.checked_sub(have).filter(|more| *more > 0) else { return true };
        let Ok(more) = u32::try_from(more) else { return false };
        let Ok(permit) = self.memory.clone().try_acquire_many_owned(more) else { return false };
        match &mut self.taken {
            Some(taken) => taken.merge(permit),
            None => self.taken = Some(permit),
        }
        true
    }
}

/// The operator's certificate.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Mutex<Option<Current>>>,
}

/// The two files as they were read, with when they were written.
#[derive(Debug)]
struct Current {
    written: [Option<SystemTime>; 2],
    config: Arc<ServerConfig>,
}

impl Certificate {
    /// From PEM files: the certificate with those between it and an authority, and its key.
    pub(super) fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, current: Arc::default() }
    }

    /// The server's side of TLS with the files as they are now, or as they were if they can't be used any more.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, Fault> {
        let written = |path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let written = [written(&self.certificate), written(&self.key)];
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = current.as_ref().filter(|read| read.written == written) {
            return Ok(TlsAcceptor::from(read.config.clone()));
        }
        let config = match (self.read(), current.take()) {
            (Ok(config), _) => Arc::new(config),
            (Err(detail), Some(before)) => {
                tracing::warn!(detail, "the changed certificate can't be used; the one from before is");
                before.config
            }
            (Err(detail), None) => return Err(Fault { reason: Reason::Tls, step: "tls", detail }),
        };
        *current = Some(Current { written, config: config.clone() });
        Ok(TlsAcceptor::from(config))
    }

    fn read(&self) -> Result<ServerConfig, String> {
        let fault = |key: &str, path: &PathBuf, what: String| format!("can't use `{key}` `{}`: {what}", path.display());
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| fault("certificate", &self.certificate, e.to_string()))?;
        if chain.is_empty() {
            return Err(fault("certificate", &self.certificate, "it holds no certificate in PEM form".to_owned()));
        }
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|e| fault("private_key", &self.key, e.to_string()))?;
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|e| fault("certificate", &self.certificate, e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_takes_all_seats() {
        let seats = Seats::new(3, 2);
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let first = seats.take(ip("2001:db8::1")).expect("a seat");
        let _second = seats.take(ip("2001:db8::2")).expect("a seat");
        assert!(seats.take(ip("2001:db8::3")).is_none(), "the same network");
        let _third = seats.take(ip("192.0.2.1")).expect("a seat");
        assert!(seats.take(ip("192.0.2.2")).is_none(), "all are taken");
        drop(first);
        assert!(seats.take(ip("::ffff:192.0.2.1")).is_some());
    }

    #[test]
    fn room_is_given_back() {
        let seats = Seats::new(1, 1);
        let mut all = seats.room();
        assert!(all.grow(1) && all.grow(MEMORY_KIB * 1024) && all.grow(5));
        assert!(!seats.room().grow(1));
        drop(all);
        assert!(seats.room().grow(1));
    }

    #[test]
    fn a_certificate_that_can_not_be_used_is_named() {
        let fault = Certificate::new("/nowhere/a.pem".into(), "/nowhere/b.pem".into()).acceptor();
        let detail = fault.err().expect("a fault").detail;
        assert!(detail.contains("`certificate`") && detail.contains("/nowhere/a.pem"), "{detail}");
    }
}
