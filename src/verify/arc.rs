//! The ARC sets of a message (RFC 8617) → whether the chain holds, who sealed it, and what each had found.
//!
//! The crate checks seals and signatures; held back here first: weak algorithms and keys, `From` that the
//! newest signature does not cover, parts of a body, sets that are not complete.

use jiff::Timestamp;
use mail_auth::arc::{ChainValidation, Results, Seal, Signature};
use mail_auth::common::crypto::{Algorithm, HashAlgorithm};
use mail_auth::common::headers::Header;
use mail_auth::{AuthenticatedMessage, Parameters};

use super::dkim::{lifetime, outcome};
use super::dns::verifier;
use super::exact::Exact;
use super::key::{Asking, Keys, items, tags};
use crate::message::authenticity::policy::Trusted;
use crate::message::authenticity::{Chain, Word, results};

const SEAL: &str = "ARC-Seal";
const SIGNATURE: &str = "ARC-Message-Signature";
const RESULTS: &str = "ARC-Authentication-Results";

/// The chain, if there is one. DNS is asked only if the newest seal is of a named domain.
pub(super) async fn check(
    exact: &Exact<'_>,
    trusted: &Trusted,
    asking: &Asking<'_>,
    now: Timestamp,
    most: usize,
) -> Option<Chain> {
    let count = [SEAL, SIGNATURE, RESULTS].map(|name| exact.all(name).count());
    if count == [0, 0, 0] {
        return None;
    }
    let broken = |why: &str| Chain { result: Word::Fail, why: why.to_owned(), sealers: vec![], results: vec![] };
    if count.iter().any(|n| *n != count[0]) {
        return Some(broken("its sets are not complete"));
    }
    if count[0] > most {
        return Some(broken("it has too many sets"));
    }
    let Some(sets) = Sets::read(exact) else { return Some(broken("its sets can't be read")) };
    let mut chain = Chain {
        result: Word::None,
        why: "not looked at".to_owned(),
        sealers: sets.seals.iter().rev().map(|seal| seal.header.d.to_ascii_lowercase()).collect(),
        results: sets.found.iter().rev().cloned().collect(),
    };
    if chain.sealers.first().is_some_and(|newest| trusted.names_arc(newest)) {
        (chain.result, chain.why) = match sets.verify(exact, asking, now).await {
            Ok(()) => (Word::Pass, String::new()),
            Err(fault) => fault,
        };
    }
    Some(chain)
}

/// The sets, the oldest first.
struct Sets<'a> {
    seals: Vec<Header<'a, Seal>>,
    signatures: Vec<Header<'a, Signature>>,
    results: Vec<Header<'a, Results>>,
    found: Vec<Vec<results::Reported>>,
}

impl<'a> Sets<'a> {
    fn read(exact: &Exact<'a>) -> Option<Self> {
        let mut seals = Vec::new();
        for (name, value) in exact.all(SEAL) {
            tags(value)?;
            seals.push(Header::new(name, value, Seal::parse(value).ok()?));
        }
        let mut signatures = Vec::new();
        for (name, value) in exact.all(SIGNATURE) {
            tags(value)?;
            signatures.push(Header::new(name, value, Signature::parse(value).ok()?));
        }
        let mut found = Vec::new();
        for (name, value) in exact.all(RESULTS) {
            let (instance, reported) = results::parse_arc(value)?;
            let header = Results::parse(value).ok().filter(|r| r.i == instance)?;
            found.push((Header::new(name, value, header), reported));
        }
        seals.sort_by_key(|h| h.header.i);
        signatures.sort_by_key(|h| h.header.i);
        found.sort_by_key(|(h, _)| h.header.i);
        let numbers = || 1..=seals.len() as u32;
        let in_order = seals.iter().map(|h| h.header.i).eq(numbers())
            && signatures.iter().map(|h| h.header.i).eq(numbers())
            && found.iter().map(|(h, _)| h.header.i).eq(numbers());
        let (results, found) = found.into_iter().unzip();
        in_order.then_some(Self { seals, signatures, results, found })
    }

    async fn verify(self, exact: &Exact<'_>, asking: &Asking<'_>, now: Timestamp) -> Result<(), (Word, String)> {
        let fault = |why: &str| Err((Word::Fail, why.to_owned()));
        if let Some(why) = exact.fault() {
            return Err((Word::Fail, why));
        }
        for (i, seal) in self.seals.iter().enumerate() {
            let expected = if i == 0 { ChainValidation::None } else { ChainValidation::Pass };
            if seal.header.cv != expected {
                return fault("a forwarder found it broken already");
            }
        }
        let Some(newest) = self.signatures.last() else { return fault("its sets can't be read") };
        let tags = tags(newest.value).unwrap_or_default();
        let of = |name: &str| tags.get(name).map(String::as_str);
        let signed = items(of("h").unwrap_or_default());
        if let Some(why) = exact.uncovered(&signed) {
            return Err((Word::Fail, why));
        }
        // Both readers have to mean the same fields.
        if !newest.header.h.iter().map(|h| h.to_ascii_lowercase()).eq(signed) {
            return fault("its sets can't be read");
        }
        lifetime(of("t"), of("x"), now)?;

        let mut keys = Keys::default();
        let seals = self.seals.iter().map(|h| (&h.header.s, &h.header.d, h.header.a));
        let signature = (&newest.header.s, &newest.header.d, newest.header.a);
        if self.seals.last().is_some_and(|seal| !seal.header.d.eq_ignore_ascii_case(signature.1)) {
            return fault("its newest seal and signature are of different domains");
        }
        for (selector, domain, algorithm) in seals.chain([signature]) {
            if algorithm == Algorithm::RsaSha1 {
                return fault("rsa-sha1 is not to be used (RFC 8301)");
            }
            let key = asking.key(selector, domain, algorithm).await?;
            if key.testing {
                return fault("one of its keys is for testing");
            }
            keys.add(selector, domain, &key);
        }
        let hash = exact.body_hash(newest.header.cb);
        if hash != newest.header.bh {
            return fault("the body is not the one that was sealed");
        }
        let message = AuthenticatedMessage {
            headers: exact.fields.clone(),
            raw_message: exact.raw,
            body_hashes: vec![(newest.header.cb, HashAlgorithm::Sha256, newest.header.l, hash)],
            as_headers: self.seals,
            ams_headers: self.signatures,
            aar_headers: self.results,
            ..AuthenticatedMessage::default()
        };
        let verifier = verifier().map_err(|why| (Word::TempError, why))?;
        let output = verifier.verify_arc(Parameters::new(&message).with_txt_cache(&keys)).await;
        outcome(output.result())
    }
}
