//! `[destination.<name>]`: a connector with an operator's address and credentials, or a storage place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Connectors;
use super::source::below;
use crate::connector::Destination;
use crate::connector::manifest::{Rate, Transport};
use crate::connector::{check_rates, rates_of};
use crate::diagnostic::{Diagnostics, suggest};
use crate::dispatch::{Fallback, Shown};
use crate::record::{Inline, Place, Shape};
use crate::sender::smtp::SmtpSettings;
use crate::sender::storage::{FolderSettings, StorageSettings};
use crate::settings::Places;
use crate::store::{Access, Place as StorePlace};

/// What every destination can say; the rest are the settings of its connector (`mail2crm connector list`).
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DestinationTable {
    /// The kind of CRM: a folder of `templates`.
    pub connector: Option<String>,
    /// How it is reached: `rest` or `email`. The connector's first if not set.
    pub transport: Option<Transport>,
    /// For `email`: the mail server that takes what we send.
    pub smtp: Option<SmtpSettings>,
    /// Instead of a connector: the place that metadata documents are stored in. A folder, `gs://BUCKET/PREFIX`,
    /// `s3://BUCKET/PREFIX`, `az://ACCOUNT/CONTAINER/PREFIX` or `sftp://USER@HOST/PATH`.
    pub storage: Option<String>,
    /// For `storage`: the path of each document, an inline template such as `{{date ends_at '%Y/%m/%d'}}/{{key}}.json`.
    pub path: Option<String>,
    /// A PEM file of authorities to trust besides the system's (REST, object storage).
    pub ca_file: Option<PathBuf>,
    /// How many deliveries to it may be under way at once. The connector's own number if not set, or 8.
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: Option<u32>,
    /// How many requests it takes in a time, beside what its connector says: `{ requests = 700, per_seconds = 60 }`.
    /// One with the `key`, `steps` and `per_seconds` of a connector's takes its place.
    #[serde(default)]
    pub rate: Vec<Rate>,
    /// Another destination that takes its deliveries when it has been down for long, such as a mail to the CRM:
    /// `{ to = "helpdesk_mail", after_hours = 4 }`. Each goes by one of the two, never by both.
    pub fallback: Option<FallbackTable>,
    /// True if an OutTicket ID that names an account may be used as the record's id here.
    #[serde(default)]
    pub accounts: bool,
    /// What to do where the record is closed, merged or gone: reasons with choices of the connector, such as
    /// `{ record_closed = "dead", record_not_found = "park" }`.
    pub policy: Option<BTreeMap<String, String>>,
    /// Look for the record of a session that names none: true, or the names of the connector's look-ups.
    pub lookup: Option<Lookups>,
    /// The connector's own settings; for `storage`, how to get in: `endpoint`, `region`, `access_key_id`,
    /// `secret_access_key`, `session_token`, `service_account`, `account_key`, `sas_token`, `password`, `private_key`,
    /// `passphrase`, `host_key`.
    #[serde(flatten)]
    pub settings: BTreeMap<String, Value>,
}

/// Which look-ups of the connector are turned on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Lookups {
    /// All of them, or none.
    All(bool),
    /// These.
    Named(Vec<String>),
}

/// Who takes a destination's deliveries when it has been down for long.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FallbackTable {
    /// The other destination. Without any `[[route]]` it gets nothing else.
    pub to: String,
    /// Hours that the destination must have been down. A hold by hand does not count.
    #[serde(default = "after_hours")]
    #[schemars(range(min = 1, max = 720))]
    pub after_hours: u32,
}

fn after_hours() -> u32 {
    4
}

/// Deliveries at once where nobody says.
const CONCURRENCY: u32 = 8;

/// A destination without faults.
#[derive(Debug)]
pub struct DestinationConfig {
    /// Its name in the configuration.
    pub name: String,
    /// Deliveries at once.
    pub concurrency: usize,
    /// How many requests it takes in a time.
    pub rates: Vec<Rate>,
    /// Who takes its deliveries when it has been down for long.
    pub fallback: Option<Fallback>,
    /// May take accounts as records.
    pub accounts: bool,
    /// How it is reached.
    pub way: Way,
}

/// How a destination is reached.
#[derive(Debug, Clone)]
pub enum Way {
    /// HTTP requests.
    Rest {
        /// The connector with its settings.
        to: Arc<Destination>,
        /// More authorities to trust.
        ca_file: Option<PathBuf>,
    },
    /// A mail.
    Email {
        /// The connector with its settings.
        to: Arc<Destination>,
        /// Who takes the mail.
        smtp: SmtpSettings,
        /// More authorities to trust, for requests before it.
        ca_file: Option<PathBuf>,
    },
    /// A file.
    Storage {
        /// The place.
        to: StorageSettings,
        /// The path below it.
        path: Arc<Inline>,
    },
}

impl Way {
    /// The connector with its settings; none for storage.
    pub fn connector(&self) -> Option<&Destination> {
        match self {
            Self::Rest { to, .. } | Self::Email { to, .. } => Some(to),
            Self::Storage { .. } => None,
        }
    }

    /// The same without a sender, for previews.
    pub fn shown(&self) -> Shown<'_> {
        match self {
            Self::Rest { to, .. } => Shown::Rest(to),
            Self::Email { to, .. } => Shown::Email(to),
            Self::Storage { to, path } => Shown::Storage(to.shown(), path),
        }
    }
}

/// What a destination's check needs to know.
pub(super) struct Around<'a> {
    pub(super) base: &'a Path,
    pub(super) time_zone: Option<&'a str>,
    pub(super) places: &'a Places,
}

pub(super) fn check(
    name: &str,
    table: DestinationTable,
    around: &Around<'_>,
    connectors: &mut Connectors<'_>,
    faults: &mut Diagnostics,
) -> Option<DestinationConfig> {
    let at = ["destination", name];
    let places = around.places;
    let (concurrency, own, accounts) = (table.concurrency, table.rate.clone(), table.accounts);
    let fallback = table.fallback.clone();
    let way = match (&table.connector, &table.storage) {
        (Some(_), None) => connector(name, table, around, connectors, faults),
        (None, Some(_)) => storage(name, table, around, faults),
        (Some(_), Some(_)) => {
            let fault = places.key_fault(
                &["destination", name, "storage"],
                "two_ways",
                "a destination has a `connector` or a `storage`, not both",
            );
            faults.push(fault.hint("make two destinations of it, and name both in the route"));
            None
        }
        (None, None) => {
            let fault = places.fault(
                &at,
                "missing_key",
                format!("`destination.{name}` lacks the key `connector` (or `storage`)"),
            );
            faults.push(
                fault.hint("`mail2crm connector list` shows the connectors; `storage` names a folder or a bucket"),
            );
            None
        }
    }?;
    let before = faults.len();
    let to = way.connector();
    let fallback = fallback.map(|fallback| {
        if to.is_none() {
            let fault = places.key_fault(
                &["destination", name, "fallback"],
                "unknown_key",
                "a storage destination has no fallback",
            );
            faults.push(fault.hint("leave it away: it waits until the storage works"));
        }
        let after = Duration::from_secs(u64::from(fallback.after_hours) * 3_600);
        Fallback { to: fallback.to, after }
    });
    let manifest = to.map(|to| (&to.connector.manifest, to.transport));
    check_rates(&own, manifest, places, &["destination", name, "rate"], faults);
    let concurrency = concurrency.or(manifest.and_then(|(m, _)| m.limits.concurrency)).unwrap_or(CONCURRENCY) as usize;
    let rates = rates_of(manifest, &own);
    (faults.len() == before).then(|| DestinationConfig {
        name: name.to_owned(),
        concurrency,
        rates,
        fallback,
        accounts,
        way,
    })
}

fn connector(
    name: &str,
    table: DestinationTable,
    around: &Around<'_>,
    connectors: &mut Connectors<'_>,
    faults: &mut Diagnostics,
) -> Option<Way> {
    let places = around.places;
    let key = |k: &'static str| ["destination", name, k];
    let kind = table.connector.as_deref().unwrap_or_default();
    let Some(connector) = connectors.get(kind, faults) else {
        if connectors.catalogue.connector(kind).is_none() {
            let known: Vec<&str> = connectors.catalogue.connectors().collect();
            faults.push(
                places
                    .fault(&key("connector"), "unknown_connector", format!("there is no connector `{kind}`"))
                    .hint(suggest(kind, known)),
            );
        }
        return None;
    };
    if table.path.is_some() {
        faults.push(places.key_fault(&key("path"), "unknown_key", "`path` goes with `storage`").hint("leave it away"));
    }
    let mut settings: Map<String, Value> = table.settings.into_iter().collect();
    if let Some(policy) = table.policy {
        settings.insert("policy".into(), policy.into_iter().map(|(k, v)| (k, Value::from(v))).collect());
    }
    match table.lookup {
        None => {}
        Some(Lookups::All(on)) => drop(settings.insert("lookup".into(), on.into())),
        Some(Lookups::Named(names)) => drop(settings.insert("lookup".into(), names.into())),
    }
    if let Some(zone) = around.time_zone
        && connector.manifest.settings.contains_key("time_zone")
    {
        settings.entry("time_zone").or_insert_with(|| zone.into());
    }
    let to = match Destination::new(name, connector, table.transport, &settings, places, &["destination", name]) {
        Ok(to) => Arc::new(to),
        Err(found) => {
            faults.extend(found);
            return None;
        }
    };
    match (to.transport, table.smtp) {
        (Transport::Rest, None) => Some(Way::Rest { to, ca_file: table.ca_file.map(|f| below(around.base, &f)) }),
        (Transport::Rest, Some(_)) => {
            let fault = places.key_fault(&key("smtp"), "unknown_key", "`smtp` is of no use with the transport `rest`");
            faults.push(fault.hint("leave it away, or set `transport = \"email\"`"));
            None
        }
        (Transport::Email, Some(smtp)) => {
            Some(Way::Email { to, smtp, ca_file: table.ca_file.map(|f| below(around.base, &f)) })
        }
        (Transport::Email, None) => {
            let fault = places.fault(
                &["destination", name],
                "missing_key",
                format!("`destination.{name}` lacks the key `smtp`"),
            );
            faults.push(fault.hint("add `smtp = { host = \"…\", user = \"…\", password = { env = \"…\" } }`: the server that takes the mail"));
            None
        }
    }
}

fn storage(name: &str, table: DestinationTable, around: &Around<'_>, faults: &mut Diagnostics) -> Option<Way> {
    let places = around.places;
    let before = faults.len();
    for (key, there) in [
        ("transport", table.transport.is_some()),
        ("smtp", table.smtp.is_some()),
        ("policy", table.policy.is_some()),
        ("lookup", table.lookup.is_some()),
    ] {
        if there {
            faults.push(
                places
                    .key_fault(&["destination", name, key], "unknown_key", format!("`{key}` goes with `connector`"))
                    .hint("leave it away"),
            );
        }
    }
    let address = table.storage.unwrap_or_default();
    let to = match StorePlace::parse(&address) {
        _ if address.is_empty() => {
            Err(("`storage` is empty".to_owned(), "write the path of a folder, or `gs://…`".to_owned()))
        }
        Ok(place) => Ok(place),
        Err(wrong) => Err(wrong),
    };
    let mut access = access(name, &table.settings, places, faults);
    access.ca_file = table.ca_file.map(|file| below(around.base, &file));
    let to = match to {
        Err((sentence, hint)) => {
            faults.push(places.fault(&["destination", name, "storage"], "bad_value", sentence).hint(hint));
            None
        }
        Ok(place) => {
            for (key, sentence, hint) in access.validate(place.as_ref(), "storage") {
                faults.push(places.fault(&["destination", name, key], "bad_value", sentence).hint(hint));
            }
            Some(match place {
                Some(place) => StorageSettings::Store { place, access: Box::new(access) },
                None => StorageSettings::Folder(FolderSettings { path: below(around.base, Path::new(&address)) }),
            })
        }
    };
    let Some(text) = table.path else {
        let fault =
            places.fault(&["destination", name], "missing_key", format!("`destination.{name}` lacks the key `path`"));
        faults.push(fault.hint(
            "add `path = \"{{date ends_at '%Y/%m/%d'}}/{{key}}.json\"`: where below `storage` each document goes",
        ));
        return None;
    };
    let at = ["destination", name, "path"];
    let path =
        match Inline::compile(&text, places.file(), places.text_offset(&at), Place::FilePath, &Shape::for_session()) {
            Ok(path) => path,
            Err(found) => {
                faults.extend(found);
                return None;
            }
        };
    let tells_apart = text.contains("{{key}}") || text.contains("{{channel}}") && text.contains("{{id}}");
    if !tells_apart {
        let fault = places.fault(&at, "not_distinct", "this path does not tell two sessions apart");
        faults.push(
            fault.hint("have `{{key}}` in it, such as `{{key}}.json`: calls and chats count their ids separately"),
        );
    }
    to.filter(|_| faults.len() == before).map(|to| Way::Storage { to, path: Arc::new(path) })
}

/// The keys that say how to get into a place, one by one so that each fault has its own place.
fn access(name: &str, settings: &BTreeMap<String, Value>, places: &Places, faults: &mut Diagnostics) -> Access {
    let mut good = Map::new();
    for (key, value) in settings {
        let at = ["destination", name, key];
        if !Access::keys().any(|known| known == key) {
            let known =
                ["storage", "path", "concurrency", "rate"].into_iter().chain(Access::keys()).collect::<Vec<_>>();
            let sentence = format!("unknown key `{key}` in `destination.{name}`");
            faults.push(places.key_fault(&at, "unknown_key", sentence).hint(suggest(key, known)));
        } else if let Err(error) = serde_json::from_value::<Access>(Value::from_iter([(key.clone(), value.clone())])) {
            let hint = "a secret is written as `{ env = \"…\" }`, `{ file = \"…\" }` or `{ command = \"…\" }`";
            faults.push(places.fault(&at, "wrong_type", format!("`{key}` can't be this: {error}")).hint(hint));
        } else {
            good.insert(key.clone(), value.clone());
        }
    }
    serde_json::from_value(Value::Object(good)).unwrap_or_default()
}

/// Checks that each fallback is another destination that can change the record, and that none leads back.
pub(super) fn check_fallbacks(
    destinations: &[DestinationConfig],
    names: &[String],
    places: &Places,
    faults: &mut Diagnostics,
) {
    let find = |name: &str| destinations.iter().find(|d| d.name == name);
    let next = |d: &DestinationConfig| d.fallback.as_ref().and_then(|fallback| find(&fallback.to));
    for destination in destinations {
        let Some(fallback) = &destination.fallback else { continue };
        let to = &fallback.to;
        let mut way = vec![destination.name.as_str()];
        let mut at = next(destination);
        while let Some(other) = at.filter(|other| !way.contains(&other.name.as_str())) {
            way.push(&other.name);
            at = next(other);
        }
        let (code, message, hint) = if !names.contains(to) {
            let others = names.iter().filter(|name| **name != destination.name).map(String::as_str);
            ("unknown_destination", format!("there is no destination `{to}`"), suggest(to, others))
        } else if at.is_some_and(|other| other.name == destination.name) {
            let message = format!("this fallback leads back to `{}`", destination.name);
            ("circular", message, "name one that has no fallback, or another one".to_owned())
        } else if find(to).is_some_and(|other| matches!(other.way, Way::Storage { .. })) {
            let hint = "name one that changes the record, such as a mail to the CRM".to_owned();
            ("wrong_kind", format!("`{to}` is a storage: what is stored there changes no record"), hint)
        } else {
            continue;
        };
        let at = ["destination", destination.name.as_str(), "fallback", "to"];
        faults.push(places.fault(&at, code, message).hint(hint));
    }
}

#[cfg(test)]
mod tests {
    use crate::catalogue::Catalogue;
    use crate::config::{Config, Way, compose};
    use crate::diagnostic::{Diagnostics, SourceFile};
    use crate::sender::storage::StorageSettings;

    fn with(keys: &str) -> Result<Config, Diagnostics> {
        let text = format!("[destination.a]\npath = \"{{{{key}}}}.json\"\n{keys}\n");
        compose(&SourceFile::new("a.toml", text), "/etc".as_ref(), &Catalogue::read(None).unwrap())
    }

    #[test]
    fn storage_is_a_folder_or_a_place_with_its_keys() {
        let shown = |keys: &str| {
            let config = with(keys).map_err(|faults| faults.render()).unwrap();
            let Way::Storage { to, .. } = &config.destinations[0].way else { panic!("no storage") };
            (to.shown().display().to_string(), matches!(to, StorageSettings::Folder(_)))
        };
        assert_eq!(shown("storage = \"archive\""), ("/etc/archive".to_owned(), true));
        assert_eq!(
            shown("storage = \"gs://b/m\"\nservice_account = { env = \"KEY\" }"),
            ("gs://b/m/".to_owned(), false)
        );
        let keys = "storage = \"s3://b\"\nregion = \"eu-north-1\"\naccess_key_id = \"k\"\nsecret_access_key = { file = \"s\" }";
        assert_eq!(shown(keys), ("s3://b/".to_owned(), false));
    }

    #[test]
    fn each_fault_of_a_storage_has_its_place() {
        for (keys, code, line, part) in [
            ("storage = \"ftp://h/x\"", "bad_value", 3, "ftp://h/x"),
            ("storage = \"\"", "bad_value", 3, "empty"),
            ("storage = \"x\"\nregion = \"eu\"", "bad_value", 4, "a folder"),
            ("storage = \"gs://b\"\nservice_acount = \"x\"", "unknown_key", 4, "service_acount"),
            ("storage = \"gs://b\"\nservice_account = 7", "wrong_type", 4, "service_account"),
            ("storage = \"s3://b\"\naccess_key_id = \"k\"", "bad_value", 3, "go together"),
            ("storage = \"sftp://u@h/x\"\npassword = { env = \"P\" }", "bad_value", 3, "which key the server has"),
        ] {
            let faults = with(keys).unwrap_err();
            let [fault] = faults.sorted()[..] else { panic!("{keys}: {}", faults.render()) };
            assert_eq!((fault.code, fault.line), (code, line), "{keys}: {}", faults.render());
            assert!(fault.message.contains(part) && fault.hint.is_some(), "{keys}: {}", faults.render());
        }
    }
}
