//! A keyed hash over parts of each request (HMAC with SHA-256, RFC 2104), in a header: the secret itself never
//! travels. What is hashed, and how the hash is written, is the manifest's to say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::Sha256;

use super::Credential;
use crate::connector::http::Request;
use crate::digest::hex;

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Signed {
    /// `PUT`.
    Method,
    /// The path behind `http.base_url`, without the query, such as `/Case/1`.
    Path,
    /// The same with the query.
    PathAndQuery,
    /// The whole address.
    Url,
    /// The body.
    Body,
}

/// How a hash is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// In lower-case hexadecimal.
    #[default]
    Hex,
    /// In base64.
    Base64,
    /// As its bytes: with a `user` only, since all of it is in base64 then.
    Raw,
}

/// A compiled scheme, its templates rendered.
#[derive(Debug, Clone)]
pub(crate) struct Signing {
    pub(crate) name: String,
    pub(crate) prefix: String,
    pub(crate) user: Option<String>,
    pub(crate) sign: Vec<Signed>,
    pub(crate) joint: String,
    pub(crate) written: Written,
    pub(crate) key: String,
}

impl Signing {
    /// The header for one request to `base_url`.
    pub(crate) fn credential(&self, key: &SecretString, request: &Request, base_url: &str) -> Option<Credential> {
        let path = request.url.strip_prefix(base_url).unwrap_or(&request.url);
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()).ok()?;
        for (i, part) in self.sign.iter().enumerate() {
            if i > 0 {
                mac.update(self.joint.as_bytes());
            }
            mac.update(match part {
                Signed::Method => request.method.as_bytes(),
                Signed::Path => path.split(['?', '#']).next().unwrap_or(path).as_bytes(),
                Signed::PathAndQuery => path.as_bytes(),
                Signed::Url => request.url.as_bytes(),
                Signed::Body => request.body.as_ref().map_or(&[][..], |b| &b.bytes),
            });
        }
        let hash = mac.finalize().into_bytes();
        let written = match self.written {
            Written::Hex => hex(&hash).into_bytes(),
            Written::Base64 => STANDARD.encode(hash).into_bytes(),
            Written::Raw => hash.to_vec(),
        };
        let value = match &self.user {
            Some(user) => STANDARD.encode([user.as_bytes(), b":", &written].concat()),
            None => String::from_utf8(written).ok()?,
        };
        Some(Credential { name: self.name.clone(), value: format!("{}{value}", self.prefix).into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_over_the_named_parts_in_their_order() {
        let request = Request {
            method: "PUT".into(),
            url: "https://crm.example/api/v1/Case/1?x=2".into(),
            headers: Vec::new(),
            body: None,
            with_credentials: true,
        };
        let signing = Signing {
            name: "X-Hmac-Authorization".into(),
            prefix: String::new(),
            user: Some("key1".into()),
            sign: vec![Signed::Method, Signed::Path],
            joint: " ".into(),
            written: Written::Hex,
            key: "secret_key".into(),
        };
        let value = |signing: &Signing| {
            let made = signing.credential(&"s3cret".to_owned().into(), &request, "https://crm.example/api/v1");
            made.expect("a header").value.expose_secret().to_owned()
        };
        // printf 'PUT /Case/1' | openssl dgst -sha256 -hmac s3cret
        const HASH: &str = "d545332fe2dee99eec76d3476767aa5e8d5f4372c1c758eb30c3d7ed4d2d081e";
        assert_eq!(value(&signing), STANDARD.encode(format!("key1:{HASH}")));
        assert_eq!(value(&Signing { user: None, prefix: "hmac ".into(), ..signing.clone() }), format!("hmac {HASH}"));
        let other = value(&Signing { sign: vec![Signed::Method, Signed::PathAndQuery], ..signing.clone() });
        assert_ne!(other, value(&signing));
        let raw = value(&Signing { written: Written::Raw, ..signing });
        assert_eq!(STANDARD.decode(raw).expect("base64").len(), "key1:".len() + 32);
    }
}
