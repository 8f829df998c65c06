//! The TXT record of a selector → a key, with the restrictions of RFC 6376 section 3.6.1 and RFC 8301: what
//! it may be used for, how strict it is, and no RSA key under 1,024 bits.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use mail_auth::common::crypto::Algorithm;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::{DnsError, Error, ResolverCache, Txt};
use tokio::time::Instant;

use super::dns::{Dns, Missing};
use super::zone::NOT_THERE;
use crate::message::authenticity::Word;

/// The fewest bits of an RSA key (RFC 8301 section 3.2).
const RSA_BITS: usize = 1024;

/// DNS with the time that is left.
pub(super) struct Asking<'a> {
    pub(super) dns: &'a Dns,
    pub(super) deadline: Instant,
}

/// A key that may be used for mail.
pub(super) struct Key {
    /// What the crate verifies with.
    pub(super) key: Arc<DomainKey>,
    /// `t=s`: `i=` must have the very domain of `d=`.
    pub(super) strict: bool,
    /// `t=y`: the signer only tries.
    pub(super) testing: bool,
}

/// Why there is none: the result that the signature then has, and a sentence.
pub(super) type NoKey = (Word, String);

/// A tag list (RFC 6376 section 3.2): name → value, without the white space around. `None` if it is not one
/// or names a tag twice.
pub(super) fn tags(text: &[u8]) -> Option<HashMap<String, String>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut tags = HashMap::new();
    for tag in text.split(';').map(str::trim).filter(|tag| !tag.is_empty()) {
        let (name, value) = tag.split_once('=')?;
        let name = name.trim();
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name || tags.insert(name.to_owned(), value.trim().to_owned()).is_some() {
            return None;
        }
    }
    Some(tags)
}

/// The items of a list between colons, in lower case.
pub(super) fn items(list: &str) -> Vec<String> {
    list.split(':').map(|item| item.trim().to_ascii_lowercase()).filter(|item| !item.is_empty()).collect()
}

impl Asking<'_> {
    /// The key of a selector, for signatures with this algorithm.
    pub(super) async fn key(&self, selector: &str, domain: &str, algorithm: Algorithm) -> Result<Key, NoKey> {
        let name = format!("{selector}._domainkey.{domain}.").to_ascii_lowercase();
        let records = match tokio::time::timeout_at(self.deadline, self.dns.txt(&name)).await {
            Ok(Ok(records)) => records,
            Ok(Err(Missing::NotThere)) => return Err((Word::PermError, "its key is not in DNS".to_owned())),
            Ok(Err(Missing::NoAnswer(why))) => return Err((Word::TempError, why)),
            Err(_) => return Err((Word::TempError, "DNS did not answer in time".to_owned())),
        };
        let keys: Vec<_> = records.iter().filter(|r| tags(r).is_none_or(|t| t.contains_key("p"))).collect();
        match keys.as_slice() {
            [record] => read(record, algorithm).map_err(|why| (Word::PermError, why)),
            [] => Err((Word::PermError, "its key is not in DNS".to_owned())),
            _ => Err((Word::PermError, "DNS has several keys for its selector".to_owned())),
        }
    }
}

fn read(record: &[u8], algorithm: Algorithm) -> Result<Key, String> {
    let tags = tags(record).ok_or("its key record can't be read")?;
    let of = |name: &str| tags.get(name).map(String::as_str);
    if of("v").is_some_and(|v| v != "DKIM1") {
        return Err("its key record is of an unknown version".to_owned());
    }
    if of("p").unwrap_or_default().is_empty() {
        return Err("its key is revoked".to_owned());
    }
    let kind = if algorithm == Algorithm::Ed25519Sha256 { "ed25519" } else { "rsa" };
    if of("k").unwrap_or("rsa") != kind {
        return Err("its key is of another kind than the signature".to_owned());
    }
    if of("h").is_some_and(|h| !items(h).iter().any(|h| h == "sha256")) {
        return Err("its key is not for SHA-256".to_owned());
    }
    if of("s").is_some_and(|s| !items(s).iter().any(|s| s == "*" || s == "email")) {
        return Err("its key is not for mail".to_owned());
    }
    let key = DomainKey::parse(record).map_err(|error| error.to_string())?;
    if kind == "rsa" && key.p.public_key_bits() < RSA_BITS {
        return Err(format!("its RSA key has fewer than {RSA_BITS} bits"));
    }
    let flags = items(of("t").unwrap_or_default());
    let has = |flag: &str| flags.iter().any(|f| f == flag);
    Ok(Key { key: Arc::new(key), strict: has("s"), testing: has("y") })
}

/// The keys of one message, in the form in which the crate asks for them. What is not among them is not
/// there: the crate never asks DNS itself.
#[derive(Default)]
pub(super) struct Keys(HashMap<Box<str>, Txt>);

impl Keys {
    /// Adds the key of a selector.
    pub(super) fn add(&mut self, selector: &str, domain: &str, key: &Key) {
        let name = format!("{selector}._domainkey.{domain}.").to_lowercase();
        self.0.insert(name.into_boxed_str(), Txt::DomainKey(key.key.clone()));
    }
}

impl ResolverCache<Box<str>, Txt> for Keys {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let known = self.0.get(name).cloned();
        Some(known.unwrap_or(Txt::Error(Error::Dns(DnsError::RecordNotFound(NOT_THERE)))))
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: std::time::Instant) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_lists_have_each_tag_once() {
        let read = tags(b" v=1; a = rsa-sha256;\r\n h=From : To;").unwrap();
        assert_eq!(read.get("a").map(String::as_str), Some("rsa-sha256"));
        assert_eq!(items(&read["h"]), ["from", "to"]);
        assert!(tags(b"d=a.example; d=b.example").is_none());
        assert!(tags(b"d").is_none());
    }

    #[test]
    fn restrictions_of_a_key_are_kept() {
        let key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        let of = |record: &str| read(record.as_bytes(), Algorithm::Ed25519Sha256).map(|k| (k.strict, k.testing));
        assert_eq!(of(&format!("v=DKIM1; k=ed25519; p={key}")), Ok((false, false)));
        assert_eq!(of(&format!("k=ed25519; h=sha1:SHA256; s=email; t=s:y; p={key}")), Ok((true, true)));
        for wrong in ["v=DKIM2; k=ed25519", "k=rsa", "", "k=ed25519; h=sha1", "k=ed25519; s=tlsrpt"] {
            assert!(of(&format!("{wrong}; p={key}")).is_err(), "{wrong}");
        }
        assert_eq!(of("k=ed25519; p="), Err("its key is revoked".to_owned()));
    }
}
