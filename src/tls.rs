//! The TLS that we speak as a client, to mailboxes and to destinations: the system's authorities, plus those of a `ca_file` (RFC 8446, RFC 5280).
//!
//! Verification is never switched off. Reading the system's authorities takes milliseconds and megabytes,
//! so all connections without a `ca_file` share one configuration.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

/// The client's side of TLS. The error is a sentence that names `ca_file`.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let Some(path) = ca_file else {
        if let Some(config) = SYSTEM.get() {
            return Ok(config.clone());
        }
        let config = build(Vec::new())?;
        return Ok(SYSTEM.get_or_init(|| config).clone());
    };
    let fault = |what: String| format!("can't use `ca_file` `{}`: {what}", path.display());
    let authorities = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| fault(e.to_string()))?;
    if authorities.is_empty() {
        return Err(fault("it holds no certificate in PEM form".to_owned()));
    }
    build(authorities).map_err(fault)
}

fn build(authorities: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let own = !authorities.is_empty();
    let config = match Verifier::new_with_extra_roots(authorities, provider) {
        Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
        Err(error) if own => return Err(error.to_string()),
        // A machine without any authority can still send where no TLS is needed; every handshake fails.
        Err(_) => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

/// True for `localhost` and the loopback addresses: what never leaves this machine, and so may go without TLS. Asks
/// no DNS.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The first error of type `T` in a chain, also inside an [`io::Error`], whose `source` skips what it wraps.
pub(crate) fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_authority_file_names_it() {
        let missing = client_config(Some(Path::new("/nowhere/ca.pem"))).expect_err("missing");
        assert!(missing.contains("`ca_file`") && missing.contains("/nowhere/ca.pem"), "{missing}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let empty = client_config(Some(file.path())).expect_err("empty");
        assert!(empty.contains("no certificate"), "{empty}");
    }

    #[test]
    fn a_tls_error_is_found_inside_an_io_error() {
        let error = io::Error::other(io::Error::other(rustls::Error::DecryptError));
        assert!(find::<rustls::Error>(&error).is_some());
        assert!(find::<rustls::Error>(&io::Error::other("plain")).is_none());
    }
}
