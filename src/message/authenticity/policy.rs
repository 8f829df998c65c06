//! `trust = …` of a source: who may cause an effect, as the operator writes it.
//!
//! `"anyone"`, or a table that names domains. A domain names itself alone; `*.ccaip.example` names those
//! below `ccaip.example`, and not `ccaip.example` itself.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::related;
use crate::secret::Secret;

/// The fewest characters of a token: 16 letters and digits are more than anyone can try.
pub const TOKEN_CHARS: usize = 16;

/// Who may cause an effect.
#[derive(Debug, Clone)]
pub enum TrustPolicy {
    /// Every message.
    Anyone,
    /// No message: nothing was written for a way in that strangers can reach.
    Nobody,
    /// Messages whose author's own domain signed them: for files that are looked at without a source.
    Author,
    /// Messages that one of these vouches for.
    Named(Arc<Trusted>),
}

/// Who may cause an effect: `"anyone"`, or a table of those who may.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TrustTable {
    /// Every message of the source.
    Anyone(Anyone),
    /// Only messages that one of these vouches for.
    Named(Box<Trusted>),
}

/// The word for: every message of the source.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anyone {
    /// Whoever can put a mail into the source can change records.
    Anyone,
}

/// Those who may cause an effect; one of them is enough.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trusted {
    /// Domains whose DKIM signature counts, for mail of their own (`From`) or of another domain of this
    /// list. Also in an attached forward, and in what `arc` and `authentication_results` report.
    pub dkim: Vec<Domain>,
    /// Domains of forwarders whose ARC seal counts for what they had found about `dkim` and `spf`.
    pub arc: Vec<Domain>,
    /// Domains whose SPF counts, where the source knows the peer.
    pub spf: Vec<Domain>,
    /// The name that the operator's own mail host writes into `Authentication-Results`; its word about
    /// `dkim` and `spf` counts. The host must remove such fields from mail that comes in (RFC 8601 section 5).
    pub authentication_results: Option<String>,
    /// The secret in the address `inbox+TOKEN@…`, for those who can't sign.
    pub token: Option<Secret>,
    /// What becomes of the sessions in other mail: `quarantine` keeps them for a person, `note_only` lets them add a
    /// note, and change nothing, where the connector has a way for that.
    pub otherwise: Otherwise,
}

/// What becomes of sessions in mail that nobody vouches for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// They wait for a person.
    #[default]
    Quarantine,
    /// They may add a note and change no field.
    NoteOnly,
}

/// A domain, or `*.` before one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String")]
pub struct Domain(String);

impl From<String> for Domain {
    fn from(text: String) -> Self {
        Self(text.trim_end_matches('.').to_ascii_lowercase())
    }
}

impl Domain {
    /// Whether this names a domain (in lower case).
    pub fn names(&self, domain: &str) -> bool {
        match self.0.strip_prefix('*') {
            Some(end) => domain.len() > end.len() && domain.ends_with(end),
            None => domain == self.0,
        }
    }

    fn is_valid(&self) -> bool {
        let name = self.0.strip_prefix("*.").unwrap_or(&self.0);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        name.len() <= 253 && name.contains('.') && name.split('.').all(is_label)
    }
}

fn any(list: &[Domain], domain: &str) -> bool {
    list.iter().any(|known| known.names(domain))
}

impl Trusted {
    /// Whether signatures of a domain count.
    pub fn names_dkim(&self, domain: &str) -> bool {
        any(&self.dkim, domain)
    }

    /// Whether seals of a domain count.
    pub fn names_arc(&self, domain: &str) -> bool {
        any(&self.arc, domain)
    }

    /// Whether SPF of a domain counts.
    pub fn names_spf(&self, domain: &str) -> bool {
        any(&self.spf, domain)
    }

    /// Whether a domain is named at all as one whose mail is trusted.
    pub fn names(&self, domain: &str) -> bool {
        self.names_dkim(domain) || self.names_spf(domain)
    }

    /// Whether a signature of `domain` speaks for the author: of the same domain, one below or above it, or
    /// one that is named as well.
    pub fn vouches(&self, domain: &str, author: Option<&str>) -> bool {
        author.is_some_and(|author| related(author, domain) || self.names_dkim(author))
    }

    /// As `vouches`, for SPF.
    pub fn vouches_spf(&self, domain: &str, author: Option<&str>) -> bool {
        author.is_some_and(|author| related(author, domain) || self.names_spf(author))
    }

    /// What can't be: key (`dkim.0` for the first of a list), sentence, hint. `knows_peers`: whether the
    /// source knows the hosts that mail comes from.
    pub fn validate(&self, knows_peers: bool) -> Vec<(String, String, String)> {
        let mut faults = Vec::new();
        let mut fault =
            |key: &str, sentence: &str, hint: &str| faults.push((key.to_owned(), sentence.to_owned(), hint.to_owned()));
        for (key, list) in [("dkim", &self.dkim), ("arc", &self.arc), ("spf", &self.spf)] {
            for (i, domain) in list.iter().enumerate().filter(|(_, domain)| !domain.is_valid()) {
                let hint = "write one such as `ccaip.example`, or `*.ccaip.example` for those below it";
                fault(&format!("{key}.{i}"), &format!("`{}` is no domain", domain.0), hint);
            }
        }
        let names_nobody = self.dkim.is_empty() && self.spf.is_empty();
        if names_nobody && self.arc.is_empty() && self.authentication_results.is_none() && self.token.is_none() {
            let hint =
                "name a domain, as in `trust = { dkim = [\"ccaip.example\"] }`, or write out `trust = \"anyone\"`";
            fault("", "`trust` names nobody: every session would go into quarantine", hint);
        } else if names_nobody && !self.arc.is_empty() {
            let hint = "add `dkim = [\"ccaip.example\"]`: the domains that the forwarder must have found authentic";
            fault("arc", "`arc` says whose seals count, but nothing says for whose mail", hint);
        } else if names_nobody && self.authentication_results.is_some() {
            let hint = "add `dkim = [\"ccaip.example\"]` or `spf`: the domains that the host must have found authentic";
            let sentence = "`authentication_results` says whose word counts, but nothing says about whose mail";
            fault("authentication_results", sentence, hint);
        }
        let reports = self.authentication_results.is_some() || !self.arc.is_empty();
        if !self.spf.is_empty() && self.dkim.is_empty() && self.token.is_none() && !knows_peers && !reports {
            let hint =
                "use `dkim`, or name the mail host that checked it: `authentication_results = \"mx.acme.example\"`";
            fault("spf", "`spf` needs to know the peer, and this kind of source does not", hint);
        }
        if self.authentication_results.as_deref().is_some_and(|host| host.trim().is_empty()) {
            fault("authentication_results", "this is no name of a host", "write what stands first in that field");
        }
        if let Some(Secret::Plain(token)) = &self.token
            && token.chars().count() < TOKEN_CHARS
        {
            let hint = "use 16 or more random letters and digits";
            fault("token", "the token can be guessed: it has fewer than 16 characters", hint);
        }
        faults
    }
}

impl TrustPolicy {
    /// Whether mail that nobody vouches for may add notes.
    pub fn lets_add_notes(&self) -> bool {
        matches!(self, Self::Named(trusted) if trusted.otherwise == Otherwise::NoteOnly)
    }
}

impl From<TrustTable> for TrustPolicy {
    fn from(table: TrustTable) -> Self {
        match table {
            TrustTable::Anyone(Anyone::Anyone) => Self::Anyone,
            TrustTable::Named(trusted) => Self::Named(Arc::from(trusted)),
        }
    }
}
