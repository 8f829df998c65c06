//! A message, how it arrived, and DNS → its `Authenticity`: DKIM (RFC 6376, 8301, 8463), ARC (RFC 8617) and
//! SPF (RFC 7208), held to the RFCs where the crate that does the cryptography is lenient.
//!
//! Everything is checked on the bytes as they were received. It only asks DNS about domains that the policy
//! names, for at most `DEADLINE`, about at most `SIGNATURES` signatures; what got no answer in that time is
//! `temperror` and never a verdict.
//!
//! Of DMARC (RFC 9989) the alignment that the author's domain asks for is kept to; that one of the two holds
//! and is aligned is what counts here anyway.

mod arc;
mod dkim;
mod dmarc;
mod dns;
mod exact;
mod key;
mod spf;
mod zone;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

pub use dns::Dns;
pub use zone::Zone;

use crate::message::authenticity::{Authenticity, Checked, TrustPolicy, policy::Trusted, results, token};
use crate::message::{Limits, Message, parse};
use exact::Exact;

/// How long the checks of one message may take together.
const DEADLINE: Duration = Duration::from_secs(10);
/// The most signatures of one message that are looked at.
const SIGNATURES: usize = 10;

/// How a message arrived, as far as its source knows; never copied from its head.
#[derive(Debug, Clone, Default)]
pub struct Arrival<'a> {
    /// `MAIL FROM`.
    pub sender: Option<&'a str>,
    /// `RCPT TO`.
    pub recipients: &'a [String],
    /// The address of the host that handed it over, and the name that it gave itself.
    pub peer: Option<(IpAddr, &'a str)>,
    /// The token that the source expects in the address.
    pub token: Option<&'a str>,
}

/// Checks where messages come from.
#[derive(Debug)]
pub struct Verifier {
    dns: Dns,
    /// Since when each source waits for an answer.
    silent: Mutex<HashMap<String, Timestamp>>,
}

impl Verifier {
    /// A verifier that asks this DNS.
    pub fn new(dns: Dns) -> Self {
        Self { dns, silent: Mutex::default() }
    }

    /// How long a source has been waiting for an answer; from now on if it was not.
    pub fn silent_for(&self, source: &str, now: Timestamp) -> SignedDuration {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        now.duration_since(*silent.entry(source.to_owned()).or_insert(now))
    }

    /// What a source waited for is decided.
    pub fn answered(&self, source: &str) {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).remove(source);
    }

    /// Everything that the policy can make use of.
    pub async fn check(
        &self,
        raw: &[u8],
        arrival: &Arrival<'_>,
        policy: &TrustPolicy,
        limits: &Limits,
        now: Timestamp,
    ) -> Authenticity {
        let message = parse::describe_head(raw, limits);
        let mut found = Authenticity::default();
        let trusted = match policy {
            TrustPolicy::Anyone | TrustPolicy::Nobody => return found,
            TrustPolicy::Author => None,
            TrustPolicy::Named(trusted) => Some(trusted.as_ref()),
        };
        found.author = author(&message);
        if let Some(expected) = arrival.token {
            found.token = token::is_in(&message, arrival.recipients, expected);
        }
        if let Some(host) = trusted.and_then(|t| t.authentication_results.as_deref()) {
            found.reported = results::reported(&message.fields, host);
        }
        let deadline = Instant::now() + DEADLINE;
        self.signatures(raw, policy, limits, &mut found, now, deadline).await;
        if let (Some(trusted), Some((address, helo))) = (trusted, arrival.peer) {
            found.spf = self.spf(trusted, address, helo, arrival.sender.unwrap_or_default(), deadline).await;
        }
        dmarc::hold(&mut found, policy, &key::Asking { dns: &self.dns, deadline }).await;
        found
    }

    /// As `check`, for a message inside another: what was signed when it was sent, and nothing about how it
    /// arrived.
    pub async fn check_original(
        &self,
        raw: &[u8],
        policy: &TrustPolicy,
        limits: &Limits,
        now: Timestamp,
    ) -> Authenticity {
        let mut found = Authenticity { author: author(&parse::describe_head(raw, limits)), ..Authenticity::default() };
        let deadline = Instant::now() + DEADLINE;
        self.signatures(raw, policy, limits, &mut found, now, deadline).await;
        dmarc::hold(&mut found, policy, &key::Asking { dns: &self.dns, deadline }).await;
        found.arc = None;
        found
    }

    async fn signatures(
        &self,
        raw: &[u8],
        policy: &TrustPolicy,
        limits: &Limits,
        found: &mut Authenticity,
        now: Timestamp,
        deadline: Instant,
    ) {
        let bytes = exact::with_crlf(parse::without_envelope_line(raw));
        let wanted = |domain: &str| match policy {
            TrustPolicy::Named(trusted) => trusted.names_dkim(domain),
            _ => true,
        };
        match Exact::split(&bytes, limits) {
            Ok(exact) => {
                let asking = key::Asking { dns: &self.dns, deadline };
                found.dkim = dkim::check(&exact, &wanted, &asking, now, SIGNATURES).await;
                if let TrustPolicy::Named(trusted) = policy
                    && !trusted.arc.is_empty()
                {
                    found.arc = arc::check(&exact, trusted, &asking, now, SIGNATURES).await;
                }
            }
            Err(why) => found.dkim = dkim::unreadable(&bytes, why, SIGNATURES),
        }
    }

    async fn spf(
        &self,
        trusted: &Trusted,
        address: IpAddr,
        helo: &str,
        sender: &str,
        deadline: Instant,
    ) -> Option<Checked> {
        let domain = sender.rsplit_once('@').map_or(helo, |(_, domain)| domain).to_ascii_lowercase();
        if !trusted.names_spf(&domain) {
            return None;
        }
        Some(spf::check(&self.dns, address, helo, sender, domain, deadline).await)
    }
}

/// The domain of the one author.
fn author(message: &Message<'_>) -> Option<String> {
    let one_field = message.fields_named("From").count() == 1;
    let [address] = message.from.as_slice() else { return None };
    let (_, domain) = address.rsplit_once('@')?;
    one_field.then(|| domain.trim_end_matches('.').to_ascii_lowercase())
}
