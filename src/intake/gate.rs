//! Between reading and committing: who may cause an effect. Sessions of mail that nobody vouches for become
//! a refusal, `untrusted` (the raw mail is kept, and read again after a change of the policy), or notes, where the
//! source says so.
//!
//! An attached original that a trusted domain signed counts by itself: then its own sessions are taken, and
//! nothing of what was put around it. No answer of DNS is never a verdict.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;

use super::{Reading, Rules, read};
use crate::message::authenticity::{Trust, TrustPolicy, Verdict, decide, policy::TOKEN_CHARS};
use crate::message::parse;
use crate::outcome::Reason;
use crate::secret::Secret;
use crate::session::evidence::{Extraction, Found};
use crate::source::{Content, Received};
use crate::verify::{Arrival, Verifier};

/// Messages inside a message that are looked at.
const ORIGINALS: usize = 10;

/// Decides about the messages of one batch.
pub struct Gate<'a> {
    rules: &'a Rules,
    verifier: &'a Verifier,
    token: OnceCell<Result<SecretString, String>>,
}

impl<'a> Gate<'a> {
    /// A gate by the rules of a source.
    pub fn new(rules: &'a Rules, verifier: &'a Verifier) -> Self {
        Self { rules, verifier, token: OnceCell::new() }
    }

    /// Decides, and makes the reading one that may be committed. With the verdict `unknown` the reading is
    /// left as it is: it must not be committed now.
    pub async fn admit(&self, received: &Received, reading: &mut Reading, now: Timestamp) -> Trust {
        let Extraction::Sessions(sessions) = &reading.extraction else { return Trust::none() };
        let judged = AssertUnwindSafe(self.judge(received, sessions, now)).catch_unwind().await;
        let Ok((trust, signed)) = judged else {
            let sentence = "checking where this message comes from hit a fault in mail2crm; please report it";
            reading.extraction = Extraction::Refused(Reason::Internal, sentence.to_owned());
            return Trust::none();
        };
        match trust.verdict {
            Verdict::Pass => {
                if let Some(signed) = signed {
                    let left_out = sessions.len().saturating_sub(signed.len());
                    if left_out > 0 {
                        reading.notes.push(format!("{left_out} sessions outside the signed original were left out"));
                    }
                    reading.extraction = Extraction::Sessions(signed);
                }
                if !matches!(self.rules.trust, TrustPolicy::Anyone) {
                    reading.notes.push(trust.to_string());
                }
            }
            Verdict::Fail | Verdict::None if self.rules.trust.lets_add_notes() => {
                reading.unverified = Some(trust.to_string());
            }
            Verdict::Fail | Verdict::None => reading.extraction = untrusted(&trust),
            Verdict::Unknown => {}
        }
        trust
    }

    /// The decision, and the sessions that it is about if those are not all that were found.
    pub async fn judge(&self, received: &Received, sessions: &[Found], now: Timestamp) -> (Trust, Option<Vec<Found>>) {
        let policy = &self.rules.trust;
        if matches!(policy, TrustPolicy::Anyone | TrustPolicy::Nobody) {
            return (decide(&Default::default(), policy), None);
        }
        let Content::Mail(raw) = &received.content else {
            let why = "a document says nothing about its sender: only `trust = \"anyone\"` lets it in".to_owned();
            return (Trust { why, ..Trust::none() }, None);
        };
        let token = match self.token().await {
            Ok(token) => token,
            Err(why) => return (Trust { verdict: Verdict::Unknown, why, ..Trust::none() }, None),
        };
        let arrival = Arrival {
            sender: received.envelope.sender.as_deref(),
            recipients: &received.envelope.recipients,
            peer: received.envelope.peer.as_ref().map(|peer| (peer.address, peer.helo.as_str())),
            token,
        };
        let limits = &self.rules.limits;
        let trust = decide(&self.verifier.check(raw, &arrival, policy, limits, now).await, policy);
        if trust.verdict == Verdict::Pass {
            return (trust, None);
        }
        self.of_originals(raw, sessions, trust, now).await
    }

    /// The sessions of the messages inside that a trusted domain signed, if there are any.
    async fn of_originals(
        &self,
        raw: &[u8],
        sessions: &[Found],
        outer: Trust,
        now: Timestamp,
    ) -> (Trust, Option<Vec<Found>>) {
        let Rules { trust: policy, limits, .. } = self.rules;
        let mut signed: Vec<Found> = Vec::new();
        let mut decided: Option<Trust> = None;
        let mut outer = outer;
        for original in parse::originals(raw, limits, ORIGINALS) {
            let trust = decide(&self.verifier.check_original(&original, policy, limits, now).await, policy);
            match trust.verdict {
                Verdict::Pass => {
                    let found = self.sessions_of(original);
                    if found.is_empty() {
                        continue;
                    }
                    for found in found {
                        let is_same = |other: &&Found| {
                            other.digest == found.digest && other.session.session_key() == found.session.session_key()
                        };
                        if !signed.iter().any(|other| is_same(&other)) {
                            // Where it was found is said as the whole message has it.
                            signed.push(sessions.iter().find(is_same).cloned().unwrap_or(found));
                        }
                    }
                    decided.get_or_insert(trust);
                }
                Verdict::Unknown => outer = trust,
                Verdict::Fail if outer.verdict == Verdict::None => outer = trust,
                _ => {}
            }
        }
        match decided {
            Some(trust) => (trust, Some(signed)),
            None => (outer, None),
        }
    }

    fn sessions_of(&self, original: Vec<u8>) -> Vec<Found> {
        let received = Received {
            input: String::new(),
            content: Content::Mail(original.into()),
            envelope: Default::default(),
            received_at: None,
        };
        match read(&received, self.rules).extraction {
            Extraction::Sessions(found) => found,
            _ => Vec::new(),
        }
    }

    /// The source's token, read once per batch.
    async fn token(&self) -> Result<Option<&str>, String> {
        let TrustPolicy::Named(trusted) = &self.rules.trust else { return Ok(None) };
        let Some(secret) = trusted.token.clone() else { return Ok(None) };
        let token = self.token.get_or_init(|| reveal(secret)).await;
        token.as_ref().map(|token| Some(token.expose_secret())).map_err(Clone::clone)
    }
}

async fn reveal(secret: Secret) -> Result<SecretString, String> {
    let read = tokio::task::spawn_blocking(move || secret.reveal()).await;
    let token = read.map_err(|_| "the token of `trust` can't be read".to_owned())??;
    if token.expose_secret().chars().count() < TOKEN_CHARS {
        return Err(format!("the token of `trust` has fewer than {TOKEN_CHARS} characters: it can be guessed"));
    }
    Ok(token)
}

/// What is committed in place of the sessions of a message that nobody vouches for.
pub(super) fn untrusted(trust: &Trust) -> Extraction {
    Extraction::Refused(Reason::Untrusted, trust.to_string())
}
