//! Whether a request comes from somebody who may post: a bearer token (RFC 6750), a basic account (RFC 7617), or
//! a signature over the body (HMAC, RFC 2104), with a time against replay.
//!
//! Everything secret is compared in constant time. Pure: the time is an argument.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Sha256, Sha512};

use super::settings::{self, Algorithm, Settings};

/// The credentials, as they are now.
pub(super) struct Keys {
    token: Option<SecretString>,
    /// `user:password`.
    basic: Option<SecretString>,
    hmac: Option<(settings::Hmac, SecretString)>,
}

/// What the head of a request proves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Enough.
    Given,
    /// The body decides.
    Signature,
    /// Nothing.
    Missing,
}

impl Keys {
    /// Reads the credentials: files and commands, so not on the runtime's own threads.
    pub(super) fn read(settings: &Settings) -> Result<Self, String> {
        let basic = settings.basic.as_ref().map(|basic| {
            let password = basic.password.reveal()?;
            Ok::<_, String>(SecretString::from(format!("{}:{}", basic.user, password.expose_secret())))
        });
        let hmac = settings.hmac.as_ref().map(|hmac| Ok::<_, String>((hmac.clone(), hmac.secret.reveal()?)));
        Ok(Self {
            token: settings.token.as_ref().map(|token| token.reveal()).transpose()?,
            basic: basic.transpose()?,
            hmac: hmac.transpose()?,
        })
    }

    /// Looks at the head, before a byte of the body is taken.
    pub(super) fn of_head(&self, headers: &HeaderMap) -> Proof {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, given) = given.trim().split_once(' ').unwrap_or_default();
        let is_right = match (scheme.to_ascii_lowercase().as_str(), &self.token, &self.basic) {
            ("bearer", Some(token), _) => same(given.trim().as_bytes(), token),
            ("basic", _, Some(account)) => STANDARD.decode(given.trim()).is_ok_and(|given| same(&given, account)),
            _ => false,
        };
        let is_signed = self.hmac.as_ref().is_some_and(|(hmac, _)| headers.contains_key(&hmac.header));
        match (is_right, is_signed) {
            (true, _) => Proof::Given,
            (false, true) => Proof::Signature,
            (false, false) => Proof::Missing,
        }
    }

    /// Whether the body is signed, and now. The error says what is wrong, without what would be right.
    pub(super) fn of_body(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), &'static str> {
        let Some((hmac, key)) = &self.hmac else { return Err("no signature is known here") };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let time = match &hmac.timestamp_header {
            Some(name) => {
                let time = text(name).ok_or("the header with the time is missing")?.trim();
                let at = instant(time).ok_or("the header with the time can't be read")?;
                if now.duration_since(at).unsigned_abs().as_secs() > u64::from(hmac.tolerance_seconds) {
                    return Err("the request is too old, or from the future");
                }
                Some(time)
            }
            None => None,
        };
        let parts: [&[u8]; 3] = match time {
            Some(time) => [time.as_bytes(), b".", body],
            None => [b"", b"", body],
        };
        let signatures = text(&hmac.header).unwrap_or_default();
        let is_right = signatures.split([',', ' ']).filter_map(decoded).any(|signature| {
            let key = key.expose_secret().as_bytes();
            match hmac.algorithm {
                Algorithm::Sha256 => Hmac::<Sha256>::new_from_slice(key).is_ok_and(|mut mac| {
                    parts.iter().for_each(|part| mac.update(part));
                    mac.verify_slice(&signature).is_ok()
                }),
                Algorithm::Sha512 => Hmac::<Sha512>::new_from_slice(key).is_ok_and(|mut mac| {
                    parts.iter().for_each(|part| mac.update(part));
                    mac.verify_slice(&signature).is_ok()
                }),
            }
        });
        if is_right { Ok(()) } else { Err("the signature is not that of this body") }
    }
}

/// Whether two texts are the same, in a time that tells neither where they differ nor how long ours is.
fn same(given: &[u8], expected: &SecretString) -> bool {
    let mac = |text: &[u8]| Hmac::<Sha256>::new_from_slice(b"compare").map(|mac| mac.chain_update(text));
    let (Ok(given), Ok(expected)) = (mac(given), mac(expected.expose_secret().as_bytes())) else { return false };
    given.verify(&expected.finalize().into_bytes()).is_ok()
}

/// A signature's bytes: hexadecimal or base64, perhaps behind `sha256=` or `v1=`.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let bytes = |text: &str| {
        let is_hex = text.len() > 80 / 2 && text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hex {
            let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            return text.as_bytes().chunks(2).map(pair).collect();
        }
        STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text.trim_end_matches('='))).ok()
    };
    let text = text.trim();
    match text.split_once('=') {
        _ if text.is_empty() => None,
        // The signs at the end of base64 are no name's.
        Some((name, value)) if !value.trim_matches('=').is_empty() && name.len() < 16 => bytes(value),
        _ => bytes(text),
    }
}

/// Seconds or milliseconds since 1970, or RFC 3339.
fn instant(text: &str) -> Option<Timestamp> {
    match text.parse::<i64>() {
        Ok(number) if number.unsigned_abs() >= 100_000_000_000 => Timestamp::from_millisecond(number).ok(),
        Ok(number) => Timestamp::from_second(number).ok(),
        Err(_) => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;
    use crate::digest::hex;

    fn keys(toml: &str) -> Keys {
        Keys::read(&toml::from_str(toml).expect("settings")).expect("keys")
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_token_and_an_account_are_proof_in_their_scheme_only() {
        let keys = keys("token = 'k3y'\nbasic = { user = 'u', password = 'p:w' }");
        for (value, proof) in [
            ("Bearer k3y", Proof::Given),
            ("bearer  k3y", Proof::Given),
            ("Bearer k3", Proof::Missing),
            ("Bearer k3y2", Proof::Missing),
            ("Bearer", Proof::Missing),
            ("Basic dTpwOnc=", Proof::Given),
            ("Basic k3y", Proof::Missing),
            ("Bearer dTpwOnc=", Proof::Missing),
            ("", Proof::Missing),
        ] {
            assert_eq!(keys.of_head(&headers(&[("authorization", value)])), proof, "{value}");
        }
    }

    #[test]
    fn a_signature_is_of_this_body_and_this_time() {
        // RFC 4231, test case 2.
        let sha256 = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let plain = keys("hmac = { secret = 'Jefe' }");
        let body = b"what do ya want for nothing?";
        let bytes = decoded(sha256).expect("hex");
        let base64 = STANDARD.encode(&bytes);
        for text in [sha256, &format!("sha256={sha256}"), &base64, &format!("v0=AAAA, v1={base64}")] {
            let head = headers(&[("x-signature", text)]);
            assert_eq!(plain.of_head(&head), Proof::Signature);
            assert_eq!(plain.of_body(&head, body, at(0)), Ok(()), "{text}");
            assert!(plain.of_body(&head, b"what", at(0)).is_err(), "{text}");
        }
        for text in ["", "=", "sha256=", &sha256[2..], "5b"] {
            assert!(plain.of_body(&headers(&[("x-signature", text)]), body, at(0)).is_err(), "{text}");
        }
    }

    #[test]
    fn an_old_request_is_no_proof() {
        let timed = keys(
            "hmac = { secret = 's', header = 'X-Sig', algorithm = 'sha512', timestamp_header = 'X-Time', tolerance_seconds = 60 }",
        );
        let sign = |text: &str| {
            let mac = Hmac::<Sha512>::new_from_slice(b"s").expect("a key").chain_update(text);
            hex(&mac.finalize().into_bytes())
        };
        let signed = |time: &str| headers(&[("x-sig", &sign(&format!("{time}.body"))), ("x-time", time)]);
        for time in ["1700000000", "1700000000000", "2023-11-14T22:13:20Z"] {
            assert_eq!(timed.of_body(&signed(time), b"body", at(1_700_000_059)), Ok(()), "{time}");
            assert!(timed.of_body(&signed(time), b"body", at(1_700_000_061)).is_err(), "{time}");
            assert!(timed.of_body(&signed(time), b"body", at(1_699_999_930)).is_err(), "{time}");
        }
        let mut moved = signed("1700000000");
        moved.insert("x-time", "1700000050".parse().expect("a value"));
        assert!(timed.of_body(&moved, b"body", at(1_700_000_050)).is_err());
        let bare = headers(&[("x-sig", &sign("body"))]);
        assert!(timed.of_body(&bare, b"body", at(1_700_000_000)).is_err());
    }
}
