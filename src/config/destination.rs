//! `[destination.<name>]`: a connector with an operator's address and credentials, or a storage place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Connectors;
use super::source::below;
use crate::connector::Destination;
use crate::connector::manifest::Transport;
use crate::diagnostic::{Diagnostics, suggest};
use crate::dispatch::Shown;
use crate::record::{Inline, Place, Shape};
use crate::sender::smtp::SmtpSettings;
use crate::settings::Places;

/// What every destination can say; the rest are the settings of its connector (`mail2crm connector list`).
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DestinationTable {
    /// The kind of CRM: a folder of `templates`.
    pub connector: Option<String>,
    /// How it is reached: `rest` or `email`. The connector's first if not set.
    pub transport: Option<Transport>,
    /// For `email`: the mail server that takes what we send.
    pub smtp: Option<SmtpSettings>,
    /// Instead of a connector: the folder that metadata documents are stored in.
    pub storage: Option<String>,
    /// For `storage`: the path of each document, an inline template such as `{{date ends_at '%Y/%m/%d'}}/{{key}}.json`.
    pub path: Option<String>,
    /// A PEM file of authorities to trust besides the system's (REST).
    pub ca_file: Option<PathBuf>,
    /// How many deliveries to it may be under way at once.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: u32,
    /// True if an OutTicket ID that names an account may be used as the record's id here.
    #[serde(default)]
    pub accounts: bool,
    /// What to do where the record is closed, merged or gone: reasons with choices of the connector, such as
    /// `{ record_closed = "dead", record_not_found = "park" }`.
    pub policy: Option<BTreeMap<String, String>>,
    /// Look for the record of a session that names none: true, or the names of the connector's look-ups.
    pub lookup: Option<Lookups>,
    /// The connector's own settings.
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

fn default_concurrency() -> u32 {
    8
}

/// A destination without faults.
#[derive(Debug)]
pub struct DestinationConfig {
    /// Its name in the configuration.
    pub name: String,
    /// Deliveries at once.
    pub concurrency: usize,
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
    },
    /// A file.
    Storage {
        /// The folder.
        folder: PathBuf,
        /// The path below it.
        path: Arc<Inline>,
    },
}

impl Way {
    /// The same without a sender, for previews.
    pub fn shown(&self) -> Shown<'_> {
        match self {
            Self::Rest { to, .. } => Shown::Rest(to),
            Self::Email { to, .. } => Shown::Email(to),
            Self::Storage { folder, path } => Shown::Storage(folder, path),
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
    let (concurrency, accounts) = (table.concurrency as usize, table.accounts);
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
            faults.push(fault.hint("`mail2crm connector list` shows the connectors; `storage` names a folder"));
            None
        }
    }?;
    Some(DestinationConfig { name: name.to_owned(), concurrency, accounts, way })
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
        (Transport::Email, Some(smtp)) => Some(Way::Email { to, smtp }),
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
    for key in table.settings.keys() {
        let known = ["storage", "path", "concurrency"];
        let fault = places.key_fault(
            &["destination", name, key],
            "unknown_key",
            format!("unknown key `{key}` in `destination.{name}`"),
        );
        faults.push(fault.hint(suggest(key, known)));
    }
    for (key, there) in [
        ("transport", table.transport.is_some()),
        ("smtp", table.smtp.is_some()),
        ("ca_file", table.ca_file.is_some()),
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
    let folder = table.storage.unwrap_or_default();
    if folder.contains("://") || folder.is_empty() {
        let fault =
            places.fault(&["destination", name, "storage"], "not_supported", format!("`{folder}` is no folder"));
        faults.push(fault.hint("this version stores in folders: write a path such as `/srv/sessions`"));
    }
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
    (faults.len() == before)
        .then(|| Way::Storage { folder: below(around.base, Path::new(&folder)), path: Arc::new(path) })
}
