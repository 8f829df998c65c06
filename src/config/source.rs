//! `[source.<name>]`: where mail and metadata documents come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DEFAULT_PROFILE, Profiles};
use crate::diagnostic::{Diagnostics, suggest};
use crate::intake::Rules;
use crate::message::Limits;
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
    /// Who may cause an effect. `"anyone"` must be written out: whoever can put a mail into this source can
    /// then change records.
    pub trust: Trust,
}

fn default_instance() -> String {
    "default".to_owned()
}

fn default_profile() -> String {
    DEFAULT_PROFILE.to_owned()
}

/// Who may cause an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Every message of the source.
    Anyone,
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
    pub(super) limits: Limits,
    pub(super) privacy: &'a Arc<Redaction>,
    pub(super) places: &'a Places,
}

pub(super) fn check(
    name: &str,
    table: SourceTable,
    around: &Around<'_>,
    profiles: &mut Profiles<'_>,
    faults: &mut Diagnostics,
) -> Option<SourceConfig> {
    let Around { base, limits, privacy, places } = *around;
    let before = faults.len();
    let SourceTable { mut kind, instance, profile: profile_name, trust: Trust::Anyone } = table;
    for (key, sentence, hint) in kind.validate() {
        let path: Vec<&str> = ["source", name].into_iter().chain(key.split('.')).collect();
        faults.push(places.fault(&path, "bad_value", sentence).hint(hint));
    }
    for path in kind.paths() {
        *path = below(base, path);
    }
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
    let rules = Rules { instance, profile, limits, privacy: privacy.clone(), own: None };
    Some(SourceConfig { name: name.to_owned(), kind, rules: Arc::new(rules) })
}

/// A path of the configuration: relative ones start from its folder.
pub(super) fn below(base: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_owned() } else { base.join(path) }
}
