//! The configuration: composes each component's own settings, and checks them against each other and
//! against the templates. Everything that is wrong is reported at once, with its place and a hint.
//!
//! Components never see this; `service` builds them from it. Secrets stay references until they are used.

mod console;
mod destination;
mod guard;
mod privacy;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

pub use console::ConsoleTable;
pub use destination::{DestinationConfig, DestinationTable, Way};
pub use guard::{BrakeTable, LimitsTable};
pub use privacy::{Forever, Keep, Keeping, PatternTable, PrivacyTable};
pub use source::{BY_HAND, PIPE, PipeTable, SourceConfig, SourceTable};

use crate::catalogue::Catalogue;
use crate::connector::Connector;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, suggest};
use crate::ledger::{Brake, Server, State};
use crate::message::Limits;
use crate::message::authenticity::TrustPolicy;
use crate::record::route::Route;
use crate::secret::Secret;
use crate::session::profile::Profile;
use crate::session::redact::Redaction;
use crate::session::stored::Stored;
use crate::settings::{self, Parsed, Places};
use crate::telemetry::Form;

/// The whole configuration file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The ledger: a file of the embedded database, relative to the configuration file; or a PostgreSQL database, which
    /// several instances may share: `postgres://user@host/database`.
    #[serde(default)]
    pub state: StateKey,
    /// The time zone that templates show times in, such as `Europe/Berlin`; UTC if not set. A destination's
    /// own `time_zone` goes before it.
    pub time_zone: Option<String>,
    /// How log lines look: `text` or `json`.
    #[serde(default)]
    pub log: Log,
    /// What a stranger's mail may cost.
    #[serde(default)]
    pub limits: LimitsTable,
    /// How often the same may come back.
    #[serde(default)]
    pub brake: BrakeTable,
    /// What is masked in sessions, and how long raw mail is kept.
    #[serde(default)]
    pub privacy: PrivacyTable,
    /// How deliveries are tried.
    #[serde(default)]
    pub delivery: Delivery,
    /// Where the service answers whether it works.
    #[serde(default)]
    pub console: ConsoleTable,
    /// Mail that an MTA pipes into `process -`.
    #[serde(default)]
    pub pipe: PipeTable,
    /// Where mail and metadata come from, by name.
    #[serde(default)]
    pub source: BTreeMap<String, SourceTable>,
    /// Where sessions go, by name.
    #[serde(default)]
    pub destination: BTreeMap<String, DestinationTable>,
    /// Which sessions go where. Without any, every session goes to every destination.
    #[serde(default)]
    pub route: Vec<Route>,
}

/// Where the ledger is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StateKey {
    /// A path, or an address `postgres://user@host/database?sslmode=verify-full`.
    Place(String),
    /// An address with its password apart.
    Server(ServerTable),
}

/// A database on a server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTable {
    /// `postgres://user@host:5432/database`. `sslmode` is `verify-full` unless the server is on this machine;
    /// `sslrootcert` names a file of authorities.
    pub url: String,
    /// The password; without it that of the environment variable `PGPASSWORD`.
    pub password: Option<Secret>,
}

impl Default for StateKey {
    fn default() -> Self {
        Self::Place("mail2crm.db".to_owned())
    }
}

/// The ledger, and the path beside which files are kept: its own, or with a server one in the configuration's folder.
fn check_state(key: StateKey, base: &Path, places: &Places, faults: &mut Diagnostics) -> (State, PathBuf) {
    let (url, password, at): (_, _, &[&str]) = match key {
        StateKey::Place(place) if !place.contains("://") => {
            let path = base.join(place);
            return (State::File(path.clone()), path);
        }
        StateKey::Place(url) => (url, None, &["state"]),
        StateKey::Server(ServerTable { url, password }) => (url, password, &["state", "url"]),
    };
    let beside = base.join("mail2crm.db");
    let server = match Server::is_one(&url) {
        true => Server::from_url(&url, password),
        false => Err("`state` is a path or begins with `postgres://`".to_owned()),
    };
    match server {
        Ok(server) => (State::Server(Arc::new(server.below(base))), beside),
        Err(sentence) => {
            let fault = places.fault(at, "bad_value", sentence);
            faults.push(fault.hint(
                "write a path, such as `state = \"mail2crm.db\"`, or `state = \"postgres://user@host/database\"`",
            ));
            (State::File(beside.clone()), beside)
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How deliveries are tried.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// How long a delivery that fails for a temporary cause is tried again, in hours. At least 120 (5 days).
    #[schemars(range(min = 120, max = 8760))]
    pub retry_hours: u32,
    /// How long a session without an OutTicket ID waits for one, in hours.
    #[schemars(range(min = 1, max = 8760))]
    pub park_hours: u32,
    /// Seconds that deliveries under way get to end when the service is stopped.
    #[schemars(range(min = 1, max = 600))]
    pub shutdown_seconds: u32,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { retry_hours: 120, park_hours: 72, shutdown_seconds: 20 }
    }
}

/// A configuration without faults.
#[derive(Debug)]
pub struct Config {
    /// The configuration's own name, for messages.
    pub shown: String,
    /// The ledger.
    pub ledger: State,
    /// The ledger's file; with a ledger on a server, a path in the configuration's folder. Renewed credentials are kept
    /// beside it.
    pub state: PathBuf,
    /// How log lines look.
    pub log: Form,
    /// How deliveries are tried.
    pub delivery: Delivery,
    /// What a stranger's mail may cost.
    pub limits: Limits,
    /// How often the same may come back.
    pub brake: Brake,
    /// How long mail and finished work are kept.
    pub keeping: Keeping,
    /// What is masked in sessions.
    pub privacy: Arc<Redaction>,
    /// The profile that documents of no source (files on the command line) are read with.
    pub profile: Arc<Profile>,
    /// Where the service answers whether it works, if it does.
    pub console: Option<crate::console::Settings>,
    /// Who may cause an effect by the pipe of an MTA.
    pub pipe: TrustPolicy,
    /// Where mail comes from.
    pub sources: Vec<SourceConfig>,
    /// Where sessions go, in the order of their names.
    pub destinations: Vec<DestinationConfig>,
    /// Which go where.
    pub routes: Vec<Route>,
}

impl Config {
    /// How documents that the ledger keeps are read again.
    pub fn stored(&self) -> Stored {
        let profiles = self.sources.iter().map(|s| (s.rules.instance.clone(), s.rules.profile.clone()));
        Stored::new(profiles, self.profile.clone())
    }
}

/// The profile that is used where a source names none.
pub const DEFAULT_PROFILE: &str = "ccaip";

/// Reads the configuration and everything that it names: templates, connectors, profiles.
pub fn load(path: &Path, catalogue: &Catalogue) -> Result<Config, Diagnostics> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::IsADirectory => "`--config` names the file itself, such as `DIR/mail2crm.toml`",
            std::io::ErrorKind::PermissionDenied => "let the user that runs mail2crm read it",
            std::io::ErrorKind::InvalidData => "it is no text in UTF-8: is it the right file?",
            _ => "`mail2crm init` writes one to start from; `--config FILE` names one elsewhere",
        };
        let fault = Diagnostic::of_file(shown.clone(), "unreadable", format!("can't read the configuration: {error}"));
        Diagnostics::from(fault.hint(hint))
    })?;
    compose(&SourceFile::new(shown, text), path.parent().unwrap_or(Path::new("")), catalogue)
}

/// As `load`, from the file's text. `base` is the folder that relative paths start from.
pub fn compose(file: &SourceFile, base: &Path, catalogue: &Catalogue) -> Result<Config, Diagnostics> {
    // What has faults of its own is reported and left out; the rest is checked further, so that all comes at once.
    let (parsed, mut faults) = settings::parse_what_is_good::<File>(file);
    let Some(Parsed { value: table, places }) = parsed else { return Err(faults) };

    if let Some(zone) = &table.time_zone
        && jiff::tz::TimeZone::get(zone).is_err()
    {
        let fault =
            places.fault(&["time_zone"], "unknown_time_zone", format!("`{zone}` is no time zone that is known here"));
        faults.push(fault.hint("write a name of the IANA database, such as `America/Chicago`"));
    }

    let limits = Limits::from(&table.limits);
    let keeping = Keeping::from(&table.privacy);
    let privacy = Arc::new(privacy::check(table.privacy, &places, &mut faults));
    let console = console::check(&table.console, &places, &mut faults);
    let pipe = source::check_pipe(table.pipe, &places, &mut faults);
    let mut profiles = Profiles { catalogue, read: BTreeMap::new() };
    let profile = profiles.get(DEFAULT_PROFILE, &mut faults);
    let (ledger, state) = check_state(table.state, base, &places, &mut faults);
    let around = source::Around { base, state: &state, limits, privacy: &privacy, places: &places };
    let mut sources = Vec::new();
    for (name, source) in table.source {
        if let Some(source) = source::check(&name, source, &around, &mut profiles, &mut faults) {
            sources.push(source);
        }
    }
    let mut connectors = Connectors { catalogue, read: BTreeMap::new() };
    let mut destinations = Vec::new();
    let names = places.keys(&["destination"]);
    for (name, destination) in table.destination {
        let around = destination::Around { base, time_zone: table.time_zone.as_deref(), places: &places };
        if let Some(destination) = destination::check(&name, destination, &around, &mut connectors, &mut faults) {
            destinations.push(destination);
        }
    }
    check_routes(&table.route, &names, &places, &mut faults);

    let Some(profile) = profile else { return Err(faults) };
    faults.into_result(Config {
        shown: file.name.to_string(),
        ledger,
        state,
        log: match table.log {
            Log::Text => Form::Text,
            Log::Json => Form::Json,
        },
        delivery: table.delivery,
        limits,
        brake: Brake::from(&table.brake),
        keeping,
        privacy,
        profile,
        console,
        pipe,
        sources,
        destinations,
        routes: table.route,
    })
}

fn check_routes(routes: &[Route], destinations: &[String], places: &Places, faults: &mut Diagnostics) {
    for (i, route) in places.indexes("route").into_iter().zip(routes) {
        let number = i.to_string();
        if route.to.is_empty() {
            let fault = places.fault(&["route", &number, "to"], "no_destination", "this route leads nowhere");
            let hint = suggest("", destinations.iter().map(String::as_str));
            faults.push(fault.hint(format!("name destinations, or delete the route; {hint}")));
        }
        for (j, name) in route.to.iter().enumerate().filter(|(_, n)| !destinations.contains(n)) {
            let fault = places.fault(
                &["route", &number, "to", &j.to_string()],
                "unknown_destination",
                format!("there is no destination `{name}`"),
            );
            faults.push(fault.hint(suggest(name, destinations.iter().map(String::as_str))));
        }
    }
}

/// The profiles that sources name, each read once.
pub(super) struct Profiles<'a> {
    catalogue: &'a Catalogue,
    read: BTreeMap<String, Option<Arc<Profile>>>,
}

impl Profiles<'_> {
    /// The profile with this name; `None` if it has faults (which are reported) or is not there.
    fn get(&mut self, name: &str, faults: &mut Diagnostics) -> Option<Arc<Profile>> {
        if !self.read.contains_key(name) {
            let profile = self.catalogue.profile(name).and_then(|file| match Profile::from_toml(file) {
                Ok(profile) => Some(Arc::new(profile)),
                Err(found) => {
                    faults.extend(found);
                    None
                }
            });
            self.read.insert(name.to_owned(), profile);
        }
        self.read.get(name).cloned().flatten()
    }
}

/// The connectors that destinations name, each compiled once.
pub(super) struct Connectors<'a> {
    catalogue: &'a Catalogue,
    read: BTreeMap<String, Option<Arc<Connector>>>,
}

impl Connectors<'_> {
    /// The connector with this name; `None` if it has faults (which are reported) or is not there.
    fn get(&mut self, name: &str, faults: &mut Diagnostics) -> Option<Arc<Connector>> {
        if !self.read.contains_key(name) {
            let shared = self.catalogue.shared();
            let connector = self.catalogue.connector(name).and_then(|folder| match Connector::load(folder, shared) {
                Ok(connector) => Some(Arc::new(connector)),
                Err(found) => {
                    faults.extend(found);
                    None
                }
            });
            self.read.insert(name.to_owned(), connector);
        }
        self.read.get(name).cloned().flatten()
    }
}
