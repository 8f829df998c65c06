//! DKIM signatures → their results (RFC 6376, RFC 8301). What the crate lets through is held back here
//! first: weak algorithms, `From` that is not signed, `i=` outside `d=`, parts of a body, old signatures,
//! fields that a second one can replace.

use jiff::Timestamp;
use mail_auth::common::crypto::{Algorithm, HashAlgorithm};
use mail_auth::common::headers::Header;
use mail_auth::dkim::Signature;
use mail_auth::{AuthenticatedMessage, DkimResult, Error, Parameters};

use super::dns::verifier;
use super::exact::Exact;
use super::key::{Asking, Keys, items, tags};
use crate::message::authenticity::{Checked, Word};
use crate::message::{Limits, parse};

const FIELD: &str = "DKIM-Signature";

/// The results of at most `most` signatures by wanted domains, and of as many others, not looked at.
pub(super) async fn check(
    exact: &Exact<'_>,
    wanted: &(dyn Fn(&str) -> bool + Sync),
    asking: &Asking<'_>,
    now: Timestamp,
    most: usize,
) -> Vec<Checked> {
    let mut results = Vec::new();
    let (mut looked_at, mut passed_over) = (0, 0);
    let fault = exact.fault();
    for (name, value) in exact.all(FIELD) {
        let domain = domain_of(value);
        if domain.is_empty() {
            passed_over += 1;
            if passed_over <= most {
                results.push(Checked { result: Word::PermError, domain, why: "a signature can't be read".to_owned() });
            }
            continue;
        }
        if !wanted(&domain) {
            passed_over += 1;
            if passed_over <= most {
                results.push(Checked { result: Word::None, domain, why: "not looked at".to_owned() });
            }
            continue;
        }
        looked_at += 1;
        if looked_at > most {
            break;
        }
        let (result, why) = match &fault {
            Some(why) => (Word::Fail, why.clone()),
            None => match signature(exact, name, value, asking, now).await {
                Ok(()) => (Word::Pass, String::new()),
                Err(fault) => fault,
            },
        };
        results.push(Checked { result, domain, why });
    }
    results
}

/// The signatures of a message that can't be split: none of them can hold.
pub(super) fn unreadable(raw: &[u8], why: String, most: usize) -> Vec<Checked> {
    let Some((fields, _)) = parse::head(raw, &Limits::default()) else { return Vec::new() };
    let signatures = fields.iter().filter(|f| f.name.eq_ignore_ascii_case(FIELD)).take(most);
    signatures.map(|f| Checked { result: Word::PermError, domain: domain_of(&f.value), why: why.clone() }).collect()
}

/// `d=` in lower case; empty if it can't be read.
fn domain_of(value: &[u8]) -> String {
    tags(value).and_then(|mut tags| tags.remove("d")).map(|d| d.to_ascii_lowercase()).unwrap_or_default()
}

type Fault = (Word, String);

fn fault<T>(result: Word, why: &str) -> Result<T, Fault> {
    Err((result, why.to_owned()))
}

/// What a signature claims, once it is one that may be verified.
struct Claim {
    signature: Signature,
    /// `d=`.
    domain: String,
    /// `s=`.
    selector: String,
    /// The domain of `i=`.
    agent: String,
    /// It has an `l=`.
    in_part: bool,
}

/// Reads a signature, and holds it to the RFCs as far as that needs no key.
fn claim(exact: &Exact<'_>, value: &[u8], now: Timestamp) -> Result<Claim, Fault> {
    let unreadable = || (Word::PermError, "it can't be read".to_owned());
    let tags = tags(value).ok_or_else(unreadable)?;
    let of = |name: &str| tags.get(name).map(String::as_str);
    let lower = |name: &str| of(name).unwrap_or_default().to_ascii_lowercase();
    let signature = Signature::parse(value).map_err(|_| unreadable())?;
    let (domain, selector, signed) = (lower("d"), lower("s"), items(&lower("h")));
    match (lower("a").as_str(), signature.a) {
        ("rsa-sha256", Algorithm::RsaSha256) | ("ed25519-sha256", Algorithm::Ed25519Sha256) => {}
        ("rsa-sha1", _) => return fault(Word::PermError, "rsa-sha1 is not to be used (RFC 8301)"),
        _ => return fault(Word::PermError, "its algorithm is not known"),
    }
    if of("q").is_some_and(|q| !items(q).iter().any(|q| q == "dns/txt")) {
        return fault(Word::PermError, "its key is not in DNS");
    }
    if let Some(why) = exact.uncovered(&signed) {
        return fault(Word::PermError, &why);
    }
    // The crate's reader and this one have to mean the same key and the same fields.
    let same = of("v") == Some("1")
        && signature.d.eq_ignore_ascii_case(&domain)
        && signature.s.eq_ignore_ascii_case(&selector)
        && signature.h.iter().map(|h| h.to_ascii_lowercase()).eq(signed);
    if !same {
        return Err(unreadable());
    }
    let agent = of("i").map_or(domain.clone(), |i| i.rsplit_once('@').map_or(i, |(_, d)| d).to_ascii_lowercase());
    if agent != domain && !agent.strip_suffix(domain.as_str()).is_some_and(|sub| sub.ends_with('.')) {
        return fault(Word::PermError, "its `i=` is not within its `d=`");
    }
    lifetime(of("t"), of("x"), now)?;
    let in_part = of("l").is_some();
    Ok(Claim { signature, domain, selector, agent, in_part })
}

async fn signature(
    exact: &Exact<'_>,
    name: &[u8],
    value: &[u8],
    asking: &Asking<'_>,
    now: Timestamp,
) -> Result<(), Fault> {
    let Claim { mut signature, domain, selector, agent, in_part } = claim(exact, value, now)?;
    let key = asking.key(&selector, &domain, signature.a).await?;
    if key.testing {
        return fault(Word::Neutral, "its key is for testing: as if it were not signed");
    }
    if key.strict && agent != domain {
        return fault(Word::PermError, "its key asks for an `i=` of the very domain of `d=`");
    }
    // Whatever `l=` says, all of the body has to be signed: what is appended is not the signer's.
    let hash = exact.body_hash(signature.cb);
    if hash != signature.bh {
        let part = if in_part { ": it covers a part of it only" } else { "" };
        return fault(Word::Fail, &format!("the body is not the one that was signed{part}"));
    }
    // What the crate would ask DNS for besides: reports and signatures in the name of others.
    (signature.r, signature.atps, signature.atpsh) = (false, None, None);
    let mut keys = Keys::default();
    keys.add(&signature.s, &signature.d, &key);
    let message = AuthenticatedMessage {
        headers: exact.fields.clone(),
        raw_message: exact.raw,
        body_offset: u32::try_from(exact.raw.len() - exact.body.len()).unwrap_or(u32::MAX),
        body_hashes: vec![(signature.cb, HashAlgorithm::Sha256, signature.l, hash)],
        dkim_headers: vec![Header::new(name, value, signature)],
        ..AuthenticatedMessage::default()
    };
    let verifier = verifier().map_err(|why| (Word::TempError, why))?;
    let output = verifier.verify_dkim(Parameters::new(&message).with_txt_cache(&keys)).await;
    outcome(output.first().map_or(&DkimResult::None, |o| o.result()))
}

/// `t=` and `x=` (RFC 6376 section 3.5).
pub(super) fn lifetime(made: Option<&str>, expires: Option<&str>, now: Timestamp) -> Result<(), Fault> {
    let number = |text: Option<&str>| match text {
        Some(text) => text.parse::<i64>().map(Some).map_err(|_| (Word::PermError, "it can't be read".to_owned())),
        None => Ok(None),
    };
    let (made, expires) = (number(made)?, number(expires)?);
    match (made, expires) {
        (Some(made), Some(expires)) if expires <= made => fault(Word::PermError, "it expires before it was made"),
        (_, Some(expires)) if expires <= now.as_second() => fault(Word::Fail, "it has expired"),
        _ => Ok(()),
    }
}

/// The crate's result in RFC 8601 words.
pub(super) fn outcome(result: &DkimResult) -> Result<(), Fault> {
    match result {
        DkimResult::Pass => Ok(()),
        DkimResult::Fail(Error::Crypto(_)) => {
            fault(Word::Fail, "a signed field is not the one that was signed, or its key is another one")
        }
        DkimResult::Neutral(error) | DkimResult::Fail(error) => fault(Word::Fail, &error.to_string()),
        DkimResult::PermError(error) => fault(Word::PermError, &error.to_string()),
        DkimResult::TempError(error) => fault(Word::TempError, &error.to_string()),
        DkimResult::None => fault(Word::None, "there is nothing to check"),
    }
}
