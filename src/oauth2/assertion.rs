//! Signed assertions (JWT, RFC 7519 and 7515) by which a client shows who it is: as the grant itself (RFC 7523
//! section 2.1) or in place of a client's secret (section 2.2). RS256 and ES256, signed by the TLS provider's own code.
//!
//! Time and id are arguments. A key never enters an error or a `Debug`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::SigningKey;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::secret::Secret;

/// How an assertion is signed (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// RSA (PKCS #1 v1.5) with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
        }
    }

    fn scheme(self) -> SignatureScheme {
        match self {
            Self::RS256 => SignatureScheme::RSA_PKCS1_SHA256,
            Self::ES256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        }
    }
}

/// What an assertion says, and the key that signs it.
#[derive(Debug, Clone)]
pub struct Assertion {
    /// How it is signed.
    pub algorithm: Algorithm,
    /// The private key, in PEM.
    pub key: Secret,
    /// Fields of its head beside `alg` and `typ`, such as `kid`.
    pub head: Vec<(String, String)>,
    /// Its claims beside `iat`, `exp` and `jti`, which are made for each.
    pub claims: Vec<(String, String)>,
    /// Seconds that it is good for.
    pub life: u32,
}

/// An assertion with its key read.
pub(super) struct Signer {
    assertion: Assertion,
    key: Arc<dyn SigningKey>,
}

impl Signer {
    /// Reads the PEM text of the key. The error is a sentence.
    pub(super) fn new(assertion: &Assertion, pem: &SecretString) -> Result<Self, String> {
        let unusable = |why: &str| format!("the private key from {:?} {why}", assertion.key);
        let der = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|_| {
            unusable("is no PEM: it must begin with `-----BEGIN PRIVATE KEY-----`, and have no passphrase")
        })?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(der).map_err(|_| unusable("can't be used"))?;
        if key.choose_scheme(&[assertion.algorithm.scheme()]).is_none() {
            return Err(unusable(&format!("is not one for {}", assertion.algorithm.name())));
        }
        Ok(Self { assertion: assertion.clone(), key })
    }

    /// The signed assertion, as it is sent. `now` is in seconds since 1970; `id` is not used twice.
    pub(super) fn sign(&self, now: i64, id: &str) -> Result<String, String> {
        let mut head = Map::from_iter([
            ("alg".to_owned(), Value::from(self.assertion.algorithm.name())),
            ("typ".to_owned(), "JWT".into()),
        ]);
        head.extend(self.assertion.head.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
        let mut claims: Map<String, Value> =
            self.assertion.claims.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        claims.insert("iat".into(), now.into());
        claims.insert("exp".into(), (now + i64::from(self.assertion.life)).into());
        claims.insert("jti".into(), id.into());
        let encode = |part: Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::Object(part).to_string());
        let text = format!("{}.{}", encode(head), encode(claims));
        let failed = || "the assertion can't be signed with this private key".to_owned();
        let signer = self.key.choose_scheme(&[self.assertion.algorithm.scheme()]).ok_or_else(failed)?;
        let signature = signer.sign(text.as_bytes()).map_err(|_| failed())?;
        let signature = match self.assertion.algorithm {
            Algorithm::RS256 => signature,
            Algorithm::ES256 => plain(&signature).ok_or_else(failed)?.to_vec(),
        };
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// An ECDSA signature as JWS has it, the two numbers one behind the other (RFC 7518 section 3.4), from the ASN.1
/// that TLS has.
fn plain(der: &[u8]) -> Option<[u8; 64]> {
    let (tag, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    if *tag != 0x30 || usize::from(*length) != rest.len() {
        return None;
    }
    let (r, rest) = integer(rest)?;
    let (s, rest) = integer(rest)?;
    if !rest.is_empty() {
        return None;
    }
    let mut out = [0; 64];
    out.get_mut(32_usize.checked_sub(r.len())?..32)?.copy_from_slice(r);
    out.get_mut(64_usize.checked_sub(s.len())?..64)?.copy_from_slice(s);
    Some(out)
}

fn integer(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (digits, rest) = rest.split_at_checked(usize::from(*length))?;
    let zeros = digits.iter().take_while(|b| **b == 0).count();
    (*tag == 2).then(|| (digits.get(zeros..).unwrap_or(&[]), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made for this test; nothing trusts them.
    const EC: &str = include_str!("test-keys/p256.pem");
    const RSA: &str = include_str!("test-keys/rsa.pem");

    fn assertion(algorithm: Algorithm) -> Assertion {
        Assertion {
            algorithm,
            key: Secret::Env { env: "KEY".into() },
            head: vec![("kid".into(), "k1".into())],
            claims: vec![("iss".into(), "client".into()), ("aud".into(), "https://login.example".into())],
            life: 180,
        }
    }

    #[test]
    fn an_assertion_says_what_it_should_and_its_signature_has_the_form_of_jws() {
        for (algorithm, pem, length) in [(Algorithm::RS256, RSA, 256), (Algorithm::ES256, EC, 64)] {
            let signer = Signer::new(&assertion(algorithm), &pem.to_owned().into()).expect("a key");
            let made = signer.sign(1_771_345_800, "j1").expect("a signature");
            let parts: Vec<Vec<u8>> =
                made.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64")).collect();
            let json = |i: usize| serde_json::from_slice::<Value>(&parts[i]).expect("JSON");
            assert_eq!(json(0), serde_json::json!({ "alg": algorithm.name(), "typ": "JWT", "kid": "k1" }));
            let claims = serde_json::json!({
                "iss": "client", "aud": "https://login.example", "iat": 1_771_345_800, "exp": 1_771_345_980, "jti": "j1"
            });
            assert_eq!(json(1), claims);
            assert_eq!(parts[2].len(), length);
        }
    }

    #[test]
    fn a_key_of_the_wrong_kind_is_told_without_the_key() {
        let told =
            |algorithm, pem: &str| Signer::new(&assertion(algorithm), &pem.to_owned().into()).err().expect("a fault");
        assert!(told(Algorithm::RS256, EC).ends_with("is not one for RS256"));
        let none = told(Algorithm::RS256, "hunter2");
        assert!(none.starts_with("the private key from the environment variable `KEY` is no PEM"), "{none}");
        assert!(!none.contains("hunter2"));
    }

    #[test]
    fn the_two_numbers_of_a_signature_are_filled_up_and_cut_to_32_bytes() {
        let der = [&[0x30, 38, 2, 1, 7, 2, 33, 0][..], &[0xff; 32]].concat();
        let made = plain(&der).expect("a signature");
        assert_eq!((made[30], made[31], made[32], made[63]), (0, 7, 0xff, 0xff));
        for bad in
            [&[][..], &[0x30], &[0x30, 3, 2, 5, 1], &[0x31, 6, 2, 1, 1, 2, 1, 1], &[0x30, 7, 2, 1, 1, 2, 1, 1, 9]]
        {
            assert!(plain(bad).is_none(), "{bad:?}");
        }
    }
}
