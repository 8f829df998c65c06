//! Signs an outgoing mail (DKIM, RFC 6376; RSA with SHA-256, or Ed25519 by RFC 8463), so that a receiver who asks who
//! sent it gets an answer. The signature covers the fields that a reader sees and those by which a CRM files the mail.

use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256, SigningKey};
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::{DkimSigner, Signature};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::secret::Secret;

/// How mails are signed.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DkimSettings {
    /// The domain that signs: that of `from`, or one above it.
    pub domain: String,
    /// Where its key is published: `<selector>._domainkey.<domain>`.
    pub selector: String,
    /// The private key in PEM (RSA or Ed25519): `{ file = "…" }`, `{ env = "…" }` or `{ command = "…" }`.
    pub key: Secret,
}

const SIGNED: [&str; 11] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "Reply-To",
];

/// The mail with its signature before it. The error is a sentence, without the key.
pub(super) fn sign(settings: &DkimSettings, pem: &SecretString, mail: &[u8]) -> Result<Vec<u8>, String> {
    let unusable = || {
        format!("the private key from {:?} (`dkim.key`) can't be used: it must be RSA or Ed25519, in PEM", settings.key)
    };
    let pem = pem.expose_secret().as_bytes();
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable())?;
    let ed25519 = match &der {
        PrivateKeyDer::Pkcs8(der) => Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der()).ok(),
        _ => None,
    };
    let signature = match ed25519 {
        Some(key) => with(key, settings, mail),
        None => with(RsaKey::<Sha256>::from_key_der(der).map_err(|_| unusable())?, settings, mail),
    };
    let mut signed = signature.ok_or_else(unusable)?.to_header().into_bytes();
    signed.extend_from_slice(mail);
    Ok(signed)
}

fn with(key: impl SigningKey, settings: &DkimSettings, mail: &[u8]) -> Option<Signature> {
    let signer = DkimSigner::from_key(key).domain(&settings.domain).selector(&settings.selector).headers(SIGNED);
    signer.sign(mail).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] =
        b"From: a@acme.example\r\nTo: b@crm.example\r\nSubject: x\r\nDate: Tue, 17 Feb 2026 16:12:00 +0000\r\n\r\nHello\r\n";

    fn settings() -> DkimSettings {
        toml::from_str("domain = 'acme.example'\nselector = 's1'\nkey = { env = 'DKIM' }").expect("settings")
    }

    #[test]
    fn a_mail_gets_a_signature_before_it_and_stays_as_it_is() {
        let pem: SecretString = include_str!("../../oauth2/test-keys/rsa.pem").to_owned().into();
        let signed = sign(&settings(), &pem, MAIL).expect("a signature");
        let head = String::from_utf8_lossy(signed.strip_suffix(MAIL).expect("the mail as it was")).into_owned();
        assert!(head.starts_with("DKIM-Signature: v=1; a=rsa-sha256; s=s1; d=acme.example;"), "{head}");
        assert!(head.ends_with("\r\n") && head.contains("bh="), "{head}");
        let parsed = mail_auth::AuthenticatedMessage::parse(&signed).expect("a mail");
        assert_eq!(parsed.dkim_headers.len(), 1);
        assert!(parsed.dkim_headers[0].header.d.eq_ignore_ascii_case("acme.example"));
    }

    #[test]
    fn a_key_that_is_none_is_told_without_it() {
        let told = sign(&settings(), &"hunter2".to_owned().into(), MAIL).expect_err("no key");
        assert!(told.contains("the environment variable `DKIM`") && !told.contains("hunter2"), "{told}");
    }
}
