//! `[source.<name>]`: where mail and metadata documents come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::destination::{DestinationConfig, Way};
use super::{DEFAULT_PROFILE, Profiles};
use crate::diagnostic::{Diagnostics, suggest};
use crate::intake::Rules;
use crate::message::Limits;
use crate::message::authenticity::policy::{TrustPolicy, TrustTable};
use crate::session::redact::Redaction;
use crate::settings::Places;
use crate::source::{Kind, Recipe as _};

/// What every kind of source can say, beside its own keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("unevaluatedProperties" = false))]
pub struct SourceTable {
    /// The kind with its own keys.
    #[serde(flatten)]
    pub kind: Kind,
    /// The contact-centre instance (tenant) whose sessions arrive here. Two instances count their session
    /// ids separately.
    #[serde(default = "default_instance")]
    pub instance: String,
    /// How that platform names and labels things: a file of `templates/_profiles`.
    #[serde(default = "default_profile")]
    pub profile: String,
    /// Who may cause an effect: `{ dkim = ["ccaip.example"] }` and the like. `"anyone"` must be written out:
    /// whoever can put a mail into this source can then change records.
    pub trust: TrustTable,
}

/// What an MTA hands to `process -`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PipeTable {
    /// Who may cause an effect, as for a source. If it is not set, sessions from the pipe wait in quarantine.
    pub trust: Option<TrustTable>,
}

fn default_instance() -> String {
    "default".to_owned()
}

fn default_profile() -> String {
    DEFAULT_PROFILE.to_owned()
}

/// A source without faults.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Its name in the configuration.
    pub name: String,
    /// What to build.
    pub kind: Kind,
    /// How its messages are read; the service adds the instance's key.
    pub rules: Arc<Rules>,
}

/// What the sources of one configuration have in common.
pub(super) struct Around<'a> {
    /// The folder that relative paths start from.
    pub(super) base: &'a Path,
    /// The ledger's file.
    pub(super) state: &'a Path,
    pub(super) limits: Limits,
    pub(super) privacy: &'a Arc<Redaction>,
    pub(super) places: &'a Places,
}

/// The ledger's name for the files that `process` is given.
pub const BY_HAND: &str = "process";
/// The ledger's name for the messages that it gets on stdin.
pub const PIPE: &str = "pipe";

pub(super) fn check(
    name: &str,
    table: SourceTable,
    around: &Around<'_>,
    profiles: &mut Profiles<'_>,
    faults: &mut Diagnostics,
) -> Option<SourceConfig> {
    let Around { base, state, limits, privacy, places } = *around;
    let before = faults.len();
    if [BY_HAND, PIPE].contains(&name) {
        let sentence = format!("`{name}` is what the ledger calls the mail that `mail2crm process` is given");
        faults.push(places.fault(&["source", name], "bad_name", sentence).hint("choose another name"));
    }
    let SourceTable { mut kind, instance, profile: profile_name, trust } = table;
    for (key, sentence, hint) in kind.validate() {
        let path: Vec<&str> = ["source", name].into_iter().chain(key.split('.')).collect();
        faults.push(places.fault(&path, "bad_value", sentence).hint(hint));
    }
    kind.limit_to(limits.message_bytes);
    check_trust(&["source", name, "trust"], &trust, kind.knows_peers(), places, faults);
    for path in kind.paths() {
        *path = below(base, path);
    }
    kind.keep_beside(state);
    if instance.is_empty() || !instance.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        let fault =
            places.fault(&["source", name, "instance"], "bad_value", format!("`{instance}` can't name an instance"));
        faults.push(fault.hint("use letters, digits, `.`, `_` and `-`"));
    }
    let profile = profiles.get(&profile_name, faults);
    if profile.is_none() && profiles.catalogue.profile(&profile_name).is_none() {
        let known = profiles.catalogue.profiles();
        let fault = places.fault(
            &["source", name, "profile"],
            "unknown_profile",
            format!("there is no profile `{profile_name}`"),
        );
        faults.push(fault.hint(suggest(&profile_name, known.iter().map(String::as_str))));
    }
    let profile = profile.filter(|_| faults.len() == before)?;
    let rules =
        Rules { instance, profile, limits, privacy: privacy.clone(), own: None, trust: TrustPolicy::from(trust) };
    Some(SourceConfig { name: name.to_owned(), kind, rules: Arc::new(rules) })
}

fn check_trust(at: &[&str], trust: &TrustTable, knows_peers: bool, places: &Places, faults: &mut Diagnostics) {
    let TrustTable::Named(trusted) = trust else { return };
    for (key, sentence, hint) in trusted.validate(knows_peers) {
        let steps = key.split('.').filter(|step| !step.is_empty());
        let path: Vec<&str> = at.iter().copied().chain(steps).collect();
        faults.push(places.fault(&path, "bad_trust", sentence).hint(hint));
    }
}

/// Where mail of unverified senders may add notes, a destination must take them.
pub(super) fn check_notes(
    sources: &[SourceConfig],
    pipe: &TrustPolicy,
    destinations: &[DestinationConfig],
    places: &Places,
    faults: &mut Diagnostics,
) {
    let takes_notes = |d: &DestinationConfig| matches!(&d.way, Way::Rest { to, .. } if to.takes_notes());
    if destinations.iter().any(takes_notes) {
        return;
    }
    let lets = sources.iter().filter(|s| s.rules.trust.lets_add_notes()).map(|s| vec!["source", s.name.as_str()]);
    for at in lets.chain(pipe.lets_add_notes().then(|| vec!["pipe"])) {
        let path = [at.as_slice(), &["trust", "otherwise"]].concat();
        let fault = places.fault(&path, "no_notes", "no destination takes notes of unverified senders");
        faults.push(fault.hint(
            "write `otherwise = \"quarantine\"`, or use a connector that has `[note_only]`, with the transport `rest`",
        ));
    }
}

/// The policy of the pipe. Strangers reach it, so nobody is trusted before it is said who.
pub(super) fn check_pipe(table: PipeTable, places: &Places, faults: &mut Diagnostics) -> TrustPolicy {
    let Some(trust) = table.trust else { return TrustPolicy::Nobody };
    check_trust(&["pipe", "trust"], &trust, false, places, faults);
    trust.into()
}

/// A path of the configuration: relative ones start from its folder.
pub(super) fn below(base: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_owned() } else { base.join(path) }
}

#[cfg(test)]
mod tests {
    use crate::catalogue::Catalogue;
    use crate::config::{BY_HAND, Config, PIPE, compose};
    use crate::diagnostic::{Diagnostics, SourceFile};
    use crate::message::authenticity::TrustPolicy;

    fn with(trust: &str) -> Result<Config, Diagnostics> {
        let text = format!("[source.a]\nkind = \"maildir\"\npath = \"m\"\ntrust = {trust}\n");
        compose(&SourceFile::new("a.toml", text), "".as_ref(), &Catalogue::read(None).unwrap())
    }

    #[test]
    fn trust_is_a_word_or_a_table() {
        let policy = |trust: &str| with(trust).unwrap().sources.remove(0).rules.trust.clone();
        assert!(matches!(policy("\"anyone\""), TrustPolicy::Anyone));
        for table in [
            "{ dkim = [\"ccaip.example\", \"*.ccaip.example\"] }",
            "{ dkim = [\"ccaip.example\"], arc = [\"sealer.example\"], otherwise = \"quarantine\" }",
            "{ spf = [\"ccaip.example\"], authentication_results = \"mx.acme.example\" }",
            "{ token = { env = \"INBOX_TOKEN\" } }",
        ] {
            assert!(matches!(policy(table), TrustPolicy::Named(_)), "{table}");
        }
    }

    #[test]
    fn the_pipe_trusts_nobody_before_it_is_said_who() {
        let pipe = |text: &str| {
            compose(&SourceFile::new("a.toml", text), "".as_ref(), &Catalogue::read(None).unwrap()).map(|c| c.pipe)
        };
        assert!(matches!(pipe("").unwrap(), TrustPolicy::Nobody));
        assert!(matches!(pipe("[pipe]\ntrust = \"anyone\"\n").unwrap(), TrustPolicy::Anyone));
        assert!(matches!(pipe("[pipe]\ntrust = { dkim = [\"a.example\"] }\n").unwrap(), TrustPolicy::Named(_)));
        let faults = pipe("[pipe]\ntrust = { dkim = [\"localhost\"] }\n").unwrap_err();
        assert!(faults.render().contains("a.toml:2:19"), "{}", faults.render());
    }

    #[test]
    fn the_names_of_what_process_is_given_are_taken() {
        for name in [BY_HAND, PIPE] {
            let text = format!("[source.{name}]\nkind = \"maildir\"\npath = \"m\"\ntrust = \"anyone\"\n");
            let faults = compose(&SourceFile::new("a.toml", text), "".as_ref(), &Catalogue::read(None).unwrap());
            let faults = faults.unwrap_err().render();
            assert!(faults.contains("a.toml:1:") && faults.contains("choose another name"), "{faults}");
        }
    }

    #[test]
    fn what_trust_can_not_be_is_told_with_its_place() {
        for (trust, code, column, part) in [
            ("\"everyone\"", "unknown_word", 9, "everyone"),
            ("1", "wrong_type", 9, "trust"),
            ("{ dkmi = [\"a.example\"] }", "unknown_key", 11, "dkmi"),
            ("{ dkim = \"a.example\" }", "wrong_type", 18, "dkim"),
            ("{ dkim = [\"localhost\"] }", "bad_trust", 19, "localhost"),
            ("{ dkim = [\"a.*.example\"] }", "bad_trust", 19, "a.*.example"),
            ("{}", "bad_trust", 9, "nobody"),
            ("{ arc = [\"a.example\"] }", "bad_trust", 17, "for whose mail"),
            ("{ authentication_results = \"mx\" }", "bad_trust", 36, "about whose mail"),
            ("{ spf = [\"a.example\"] }", "bad_trust", 17, "peer"),
            ("{ token = \"short\" }", "bad_trust", 19, "guessed"),
            ("{ dkim = [\"a.example\"], otherwise = \"note_only\" }", "no_notes", 45, "takes notes"),
            ("{ dkim = [\"a.example\"], otherwise = \"drop\" }", "unknown_word", 45, "drop"),
        ] {
            let faults = with(trust).unwrap_err();
            let [fault] = faults.sorted()[..] else { panic!("{trust}: {}", faults.render()) };
            assert_eq!((fault.code, fault.line, fault.column), (code, 4, column), "{trust}: {}", faults.render());
            assert!(fault.message.contains(part), "{trust}: {}", fault.message);
            assert!(fault.hint.is_some() && !fault.message.contains("short"), "{trust}");
        }
    }
}
