//! Where a session goes, and to which record: the routes and what each destination says of record ids.
//! Called inside the ledger's transaction too, so it only computes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::config::{Config, DestinationConfig, Way};
use crate::connector::Connector;
use crate::ledger::{Brake, Leg, Parking, Planner};
use crate::outcome::Reason;
use crate::record::route::{Route, destinations};
use crate::session::stored::Stored;
use crate::session::{Session, SessionKey};

/// The routes of a configuration.
pub struct Router {
    routes: Vec<Route>,
    names: Vec<String>,
    rules: BTreeMap<String, Rule>,
    stored: Stored,
    brake: Brake,
    park_ms: i64,
}

/// What a destination says of record ids.
enum Rule {
    /// No record: the session itself is what is delivered.
    Session,
    /// A record, named by an id that the connector takes.
    Record { connector: Arc<Connector>, accounts: bool, looks_up: bool },
}

impl Router {
    /// The router of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            routes: config.routes.clone(),
            names: config.destinations.iter().map(|d| d.name.clone()).collect(),
            rules: config.destinations.iter().map(|d| (d.name.clone(), rule(d))).collect(),
            stored: config.stored(),
            brake: config.brake,
            park_ms: i64::from(config.delivery.park_hours) * 3_600_000,
        }
    }

    fn leg(&self, name: &str, session: &Session, rule: &Rule) -> Leg {
        let leg = |record: Option<String>, refused| Leg { destination: name.to_owned(), record, refused };
        let own = || Some(session.session_key().to_string());
        match (rule, &session.record_id) {
            (Rule::Session, _) => leg(own(), None),
            (Rule::Record { connector, .. }, None) if !connector.manifest.record.required => leg(own(), None),
            (Rule::Record { .. }, None) => leg(None, None),
            (Rule::Record { accounts: false, .. }, Some(id)) if session.is_out_ticket_account == Some(true) => {
                let detail = "the OutTicket ID names an account, and this destination changes cases; set `accounts = true` if it can take accounts";
                leg(Some(id.clone()), Some((Reason::BadRecordId, detail.to_owned())))
            }
            (Rule::Record { connector, .. }, Some(id)) => {
                let refused = connector.refuses_record(id).filter(|_| connector.manifest.record.required);
                let refused = refused.map(|detail| (Reason::BadRecordId, detail));
                leg(Some(id.clone()), refused)
            }
        }
    }
}

fn rule(destination: &DestinationConfig) -> Rule {
    match &destination.way {
        Way::Storage { .. } => Rule::Session,
        Way::Rest { to, .. } | Way::Email { to, .. } => {
            Rule::Record { connector: to.connector.clone(), accounts: destination.accounts, looks_up: to.looks_up() }
        }
    }
}

impl Planner for Router {
    fn brake(&self) -> Brake {
        self.brake
    }

    fn parking(&self, destination: &str) -> Parking {
        let look_up = matches!(self.rules.get(destination), Some(Rule::Record { looks_up: true, .. }));
        Parking { for_ms: self.park_ms, look_up }
    }

    fn legs_of(&self, session: &Session) -> Vec<Leg> {
        destinations(&self.routes, &self.names, session)
            .into_iter()
            .filter_map(|name| Some(self.leg(name, session, self.rules.get(name)?)))
            .collect()
    }

    fn legs(&self, key: &SessionKey, document: &Value) -> Vec<Leg> {
        // A merge of two documents that read as sessions reads as one.
        self.stored.read(key, document).map(|session| self.legs_of(&session)).unwrap_or_default()
    }
}
