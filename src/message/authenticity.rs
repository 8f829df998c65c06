//! What the checks of a message's sender said, in the words of RFC 8601, and the decision that a source's
//! `trust` makes of it: who may cause an effect.
//!
//! Pure: `verify` fills an `Authenticity`, `policy` holds what the operator wrote, `results` reads
//! `Authentication-Results`. Nothing here asks DNS; a check that got no answer is `temperror`, and no
//! verdict is ever made of that.

pub mod policy;
pub mod results;
pub mod token;

use std::fmt;

use serde::Serialize;

pub use policy::TrustPolicy;
use policy::Trusted;
use results::Reported;

/// A result of RFC 8601 section 2.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// The check holds.
    Pass,
    /// It was made and does not hold.
    Fail,
    /// There is nothing to check.
    None,
    /// Made, but it says nothing either way: to be treated like `none`.
    Neutral,
    /// It holds, but a rule of the receiver does not take it.
    Policy,
    /// Weakly not.
    SoftFail,
    /// No answer now; later there may be one.
    TempError,
    /// It can't be made and never can.
    PermError,
}

impl Word {
    /// As RFC 8601 writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Policy => "policy",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }

    /// The result with this word, whatever its case (`hardfail` is an old spelling of `fail`).
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "pass" => Self::Pass,
            "fail" | "hardfail" => Self::Fail,
            "none" => Self::None,
            "neutral" => Self::Neutral,
            "policy" => Self::Policy,
            "softfail" => Self::SoftFail,
            "temperror" => Self::TempError,
            "permerror" => Self::PermError,
            _ => return None,
        })
    }
}

/// One identity and what its check said: `dkim=pass header.d=ccaip.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The result.
    pub result: Word,
    /// The domain that would vouch: `d=` of DKIM, the domain of `MAIL FROM` for SPF; lower case.
    pub domain: String,
    /// Why it is not a pass; empty for one.
    pub why: String,
}

/// An ARC chain (RFC 8617).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Whether the whole chain holds, and for what reason it does not.
    pub result: Word,
    /// Why it is not a pass.
    pub why: String,
    /// The domain of each seal, the newest first.
    pub sealers: Vec<String>,
    /// What each sealer had found, in the same order.
    pub results: Vec<Vec<Reported>>,
}

/// What is known about where a message comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authenticity {
    /// The domain of the author, if there is exactly one `From` with exactly one address; lower case.
    pub author: Option<String>,
    /// Each DKIM signature that was looked at.
    pub dkim: Vec<Checked>,
    /// SPF of `MAIL FROM`, where the source knows the peer.
    pub spf: Option<Checked>,
    /// The ARC chain, if there is one.
    pub arc: Option<Chain>,
    /// What the operator's own mail host reported.
    pub reported: Vec<Reported>,
    /// Whether the address that the message was sent to holds the source's token: `None` if it holds no
    /// token at all.
    pub token: Option<bool>,
}

/// What the source's `trust` makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may cause an effect.
    Pass,
    /// It claims to, and the claim does not hold.
    Fail,
    /// Nothing in it could be verified.
    None,
    /// DNS did not answer: temporary.
    Unknown,
}

/// Which evidence decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A signature of a named domain.
    Dkim,
    /// The seal of a named forwarder over what it had found.
    Arc,
    /// The peer may send for a named domain.
    Spf,
    /// The operator's own mail host said so.
    AuthenticationResults,
    /// The address that it was sent to.
    Token,
    /// The source lets everybody in.
    Anyone,
}

impl By {
    /// The word in `extract` and in sentences.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dkim => "dkim",
            Self::Arc => "arc",
            Self::Spf => "spf",
            Self::AuthenticationResults => "authentication_results",
            Self::Token => "token",
            Self::Anyone => "anyone",
        }
    }
}

/// The decision, as `extract` prints it, with a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trust {
    /// The decision.
    pub verdict: Verdict,
    /// What decided.
    pub by: Option<By>,
    /// Which domain vouches, or would have.
    pub domain: Option<String>,
    /// Why, for the ledger and the log: domains, never addresses.
    #[serde(skip)]
    pub why: String,
}

impl Trust {
    /// Nothing was looked at.
    pub fn none() -> Self {
        Self { verdict: Verdict::None, by: None, domain: None, why: "nothing in it could be verified".to_owned() }
    }

    fn new(verdict: Verdict, by: By, domain: &str, why: impl Into<String>) -> Self {
        let domain = (!domain.is_empty()).then(|| domain.to_owned());
        Self { verdict, by: Some(by), domain, why: why.into() }
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.by.map_or("", By::as_str);
        match (self.verdict, &self.domain) {
            (Verdict::Pass, Some(domain)) => write!(f, "trusted by {by} of {domain}"),
            (Verdict::Pass, None) => write!(f, "trusted by {by}"),
            _ => f.write_str(&self.why),
        }
    }
}

/// Why mail is not taken by a way in that no policy was written for.
const UNSAID: &str = "nothing says who may send to the pipe: write `trust` under `[pipe]`, then `messages reprocess`";

/// Who may cause an effect. The first evidence that is enough decides; the order is DKIM, ARC, SPF, the
/// mail host's word, the token. Without any: `unknown` if a check that could have been enough got no answer,
/// `fail` if the message claims something that does not hold, else `none`.
pub fn decide(found: &Authenticity, policy: &TrustPolicy) -> Trust {
    let trusted = match policy {
        TrustPolicy::Anyone => return Trust::new(Verdict::Pass, By::Anyone, "", ""),
        TrustPolicy::Nobody => return Trust { why: UNSAID.to_owned(), ..Trust::none() },
        TrustPolicy::Author => None,
        TrustPolicy::Named(trusted) => Some(trusted.as_ref()),
    };
    let author = found.author.as_deref();
    let mut weighed = Weighed::default();
    for checked in &found.dkim {
        let (named, aligned) = match trusted {
            Some(trusted) => (trusted.names_dkim(&checked.domain), trusted.vouches(&checked.domain, author)),
            None => (true, author.is_some_and(|author| related(author, &checked.domain))),
        };
        weighed.signed(By::Dkim, checked, named, aligned);
    }
    let Some(trusted) = trusted else { return weighed.into_trust() };
    if let Some(chain) = &found.arc {
        weighed.sealed(chain, trusted, author);
    }
    if let Some(spf) = &found.spf {
        weighed.signed(By::Spf, spf, trusted.names_spf(&spf.domain), trusted.vouches_spf(&spf.domain, author));
    }
    if trusted.authentication_results.is_some() {
        weighed.reported(By::AuthenticationResults, &found.reported, trusted, author);
    }
    match found.token {
        Some(true) => weighed.pass(By::Token, ""),
        Some(false) => weighed.fail(By::Token, "", "the token in its address is not the one of this source".into()),
        None => {}
    }
    weighed.into_trust()
}

/// Whether one of two domains is the other or lies below it. A single label is related to nothing.
pub fn related(one: &str, other: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        outer.contains('.') && inner.strip_suffix(outer).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    below(one, other) || below(other, one)
}

/// The best that was found of each verdict.
#[derive(Default)]
struct Weighed {
    pass: Option<Trust>,
    unknown: Option<Trust>,
    fail: Option<Trust>,
    /// Signatures and reports of domains that nobody named.
    foreign: Option<Trust>,
}

impl Weighed {
    fn pass(&mut self, by: By, domain: &str) {
        self.pass.get_or_insert_with(|| Trust::new(Verdict::Pass, by, domain, ""));
    }

    fn fail(&mut self, by: By, domain: &str, why: String) {
        self.fail.get_or_insert_with(|| Trust::new(Verdict::Fail, by, domain, why));
    }

    /// One identity with its result: whether the policy names it, and whether it vouches for the author.
    fn signed(&mut self, by: By, checked: &Checked, named: bool, aligned: bool) {
        let Checked { result, domain, why } = checked;
        let what = by.as_str();
        match result {
            _ if domain.is_empty() => {
                let why = format!("{what}={}: {why}", result.as_str());
                self.foreign.get_or_insert_with(|| Trust::new(Verdict::Fail, by, "", why));
            }
            _ if !named => {
                let why = format!("its {what} domain {domain} is not one that the source trusts");
                self.foreign.get_or_insert_with(|| Trust::new(Verdict::Fail, by, domain, why));
            }
            Word::Pass if aligned => self.pass(by, domain),
            Word::Pass => self.fail(
                by,
                domain,
                format!("{what} of {domain} holds, but `From` is not one address of that domain; list its domain too if that is right"),
            ),
            Word::TempError => {
                let why = format!("{what} of {domain} can't be checked now: {why}");
                self.unknown.get_or_insert_with(|| Trust::new(Verdict::Unknown, by, domain, why));
            }
            // RFC 6376 section 3.6.1 and 6.1: as if there were no signature.
            Word::None | Word::Neutral => {
                let why = format!("{what}={} for {domain}: {why}", result.as_str());
                self.foreign.get_or_insert_with(|| Trust::new(Verdict::None, by, domain, why));
            }
            _ => self.fail(by, domain, format!("{what}={} for {domain}: {why}", result.as_str())),
        }
    }

    /// A chain counts if it holds, its newest sealers are named ones, and one of those had found a named
    /// domain authentic.
    fn sealed(&mut self, chain: &Chain, trusted: &Trusted, author: Option<&str>) {
        let newest = chain.sealers.first().map_or("", String::as_str);
        let named = chain.sealers.iter().take_while(|sealer| trusted.names_arc(sealer)).count();
        match chain.result {
            _ if named == 0 => {
                let why = format!("its newest ARC seal is of {newest}, which the source does not name");
                self.foreign.get_or_insert_with(|| Trust::new(Verdict::Fail, By::Arc, newest, why));
            }
            Word::Pass => {
                for results in chain.results.iter().take(named) {
                    self.reported(By::Arc, results, trusted, author);
                }
                let why = format!("{newest} sealed it, but had not found a trusted domain authentic");
                self.fail(By::Arc, newest, why);
            }
            Word::TempError => {
                let why = format!("the ARC seal of {newest} can't be checked now: {}", chain.why);
                self.unknown.get_or_insert_with(|| Trust::new(Verdict::Unknown, By::Arc, newest, why));
            }
            result => self.fail(By::Arc, newest, format!("arc={} for {newest}: {}", result.as_str(), chain.why)),
        }
    }

    /// What another host had found.
    fn reported(&mut self, by: By, results: &[Reported], trusted: &Trusted, author: Option<&str>) {
        for reported in results {
            let domain = reported.domain();
            let enough = match reported.method.as_str() {
                "dkim" => trusted.names_dkim(&domain) && trusted.vouches(&domain, author),
                "spf" => trusted.names_spf(&domain) && trusted.vouches_spf(&domain, author),
                // It says that one of the two holds for the author's own domain.
                "dmarc" => author == Some(domain.as_str()) && trusted.names(&domain),
                _ => false,
            };
            if enough && reported.result == Word::Pass {
                self.pass(by, &domain);
            } else if enough {
                let why = format!("{} was {} for {domain}", reported.method, reported.result.as_str());
                self.fail(by, &domain, why);
            }
        }
    }

    fn into_trust(self) -> Trust {
        self.pass.or(self.unknown).or(self.fail).or(self.foreign).unwrap_or_else(Trust::none)
    }
}

#[cfg(test)]
mod tests;
