//! One kind of CRM as a folder: manifest, templates, reply table. Pure: it plans requests and judges
//! answers; `sender` sends them.
//!
//! `Connector::load` compiles a folder once; `Destination::new` adds an operator's settings; a `Run` takes one
//! delivery through its steps, or `email::compose` writes its mail. Credentials enter none of these:
//! `auth` says which header the sender adds, and only to requests for the destination's own address.

pub mod auth;
mod assertion;
mod body;
pub mod destination;
pub mod email;
mod exchange;
pub mod golden;
pub mod http;
mod load;
pub mod lookup;
pub mod manifest;
mod page;
pub mod plan;
pub mod progress;
mod policy;
mod rate;
pub mod reading;
pub mod reply;
mod request;
mod schema;
mod step;
mod url;

use regex::Regex;
use sha2::{Digest, Sha256};

use crate::folder::Folder;
use crate::record::{Inline, Shape, Templates};
use crate::session::SessionKey;
use manifest::{Manifest, SettingKind};

pub use destination::Destination;
pub use lookup::Candidate;
pub use plan::{Inputs, Next, Prepared, Report, Run, preview};
pub use progress::{Progress, StepDone};
pub(crate) use rate::{check_rates, rates_of};

/// A connector folder, compiled.
#[derive(Debug)]
pub struct Connector {
    /// What its `connector.toml` says.
    pub manifest: Manifest,
    pub(crate) folder: Folder,
    pub(crate) shared: Option<Folder>,
    pub(crate) shape: Shape,
    pub(crate) templates: Templates,
    pub(crate) record: Regex,
    pub(crate) patterns: Vec<(String, Regex)>,
    pub(crate) base_url: Option<Inline>,
    pub(crate) headers: Vec<(String, step::Slot)>,
    pub(crate) auth: Vec<auth::Scheme>,
    pub(crate) replies: Vec<reply::Row>,
    pub(crate) policies: Vec<policy::Policy>,
    pub(crate) lookups: Vec<lookup::Lookup>,
    /// Indexes of the steps that a mail of an unverified sender may cause.
    pub(crate) note_only: Vec<usize>,
    pub(crate) steps: Vec<step::Step>,
    pub(crate) check: Option<usize>,
    pub(crate) reading: Option<reading::Reading>,
    pub(crate) email: Option<email::Mail>,
    /// Settings of type `template` → what their text is escaped for.
    pub(crate) slots: Vec<(String, crate::record::Place)>,
}

impl Connector {
    /// True if its mail uses what read steps capture: then they are asked first.
    pub fn is_hybrid(&self) -> bool {
        self.email.as_ref().is_some_and(|mail| !mail.needs.is_empty())
    }

    /// The connector's name.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// True if a record id has the form that this CRM gives its ids.
    pub fn accepts_record(&self, id: &str) -> bool {
        self.record.is_match(id)
    }

    /// Why a record id can't be one of this CRM's.
    pub fn refuses_record(&self, id: &str) -> Option<String> {
        (!self.accepts_record(id)).then(|| format!("the record id does not have the form {}", self.record_form()))
    }

    /// What the manifest says a record id looks like, for messages.
    pub fn record_form(&self) -> String {
        match &self.manifest.record.example {
            Some(example) => format!("`{}`, such as `{example}`", self.manifest.record.pattern),
            None => format!("`{}`", self.manifest.record.pattern),
        }
    }

    pub(crate) fn setting_of(&self, kind: SettingKind) -> Option<&str> {
        self.manifest.settings.iter().find(|(_, s)| s.kind == kind).map(|(name, _)| name.as_str())
    }
}

/// The key by which the effect of a delivery can be recognised in the CRM: `m2c-` and 16 letters and digits
/// (lower-case base32 of SHA-256, 80 bits). The same delivery has the same marker, whenever it is made.
/// It never tells anything about the session.
pub fn marker(destination: &str, record: &str, key: &SessionKey, digest: &str) -> String {
    let mut hash = Sha256::new();
    for part in [destination, record, &key.instance, key.channel.as_str(), &key.id, digest] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finalize();
    let mut bits = hash.iter().take(10).fold(0_u128, |all, byte| (all << 8) | u128::from(*byte));
    let mut letters = [0_u8; 16];
    for letter in letters.iter_mut().rev() {
        *letter = b"abcdefghijklmnopqrstuvwxyz234567".get((bits & 31) as usize).copied().unwrap_or(b'a');
        bits >>= 5;
    }
    format!("m2c-{}", letters.iter().map(|l| char::from(*l)).collect::<String>())
}

/// A regular expression for the whole of a text.
pub(crate) fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(pattern)?;
    Regex::new(&format!("^(?:{pattern})$"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Channel;

    #[test]
    fn a_marker_is_stable_and_tells_deliveries_apart() {
        let key = SessionKey { instance: "default".into(), channel: Channel::Voice, id: "48213".into() };
        let one = marker("helpdesk", "1001", &key, "d1");
        assert_eq!(one, marker("helpdesk", "1001", &key, "d1"));
        assert!(whole("m2c-[a-z2-7]{16}").expect("a pattern").is_match(&one), "{one}");
        for other in [
            marker("helpdesk", "1001", &key, "d2"),
            marker("helpdesk", "1002", &key, "d1"),
            marker("helpdes", "k1001", &key, "d1"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_whole_pattern_can_not_be_escaped_by_an_alternative() {
        let id = whole("[0-9]+|x").expect("a pattern");
        assert!(id.is_match("12") && id.is_match("x") && !id.is_match("12/../3") && !id.is_match("x\n"));
        assert!(whole("a)(b").is_err());
    }
}
