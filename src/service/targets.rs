//! Destinations with their senders, from the configuration. Credentials are read here for the first time, so
//! that those which are not there are reported with the place that names them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, Way};
use crate::connector::Destination;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::dispatch::{self, Target};
use crate::message::mark::InstanceKey;
use crate::sender::http::{HttpSender, HttpSettings};
use crate::sender::smtp::SmtpSender;
use crate::sender::storage::{FolderSettings, StorageSender, StorageSettings};
use crate::source::Recipe as _;

/// Destinations by their names.
pub type Targets = BTreeMap<String, Arc<Target>>;

/// Makes the folders of the configuration that are ours to make: a first start should not need a `mkdir`.
pub(super) fn make_folders(config: &Config) -> Result<(), Diagnostics> {
    let mut faults = Diagnostics::new();
    for destination in &config.destinations {
        if let Way::Storage { to: StorageSettings::Folder(FolderSettings { path }), .. } = &destination.way
            && let Err(error) = std::fs::create_dir_all(path)
        {
            let place = format!("{}: destination.{}", config.shown, destination.name);
            let sentence = format!("can't make the folder `{}`: {error}", path.display());
            faults.push(Diagnostic::of_file(place, "not_ready", sentence).hint("`storage` names it"));
        }
    }
    faults.into_result(())
}

/// Builds all destinations, or says what is missing; changes nothing. The key marks the mails that they send.
pub fn build(config: &Config, key: &InstanceKey) -> Result<Targets, Diagnostics> {
    let mut faults = Diagnostics::new();
    let mut targets = Targets::new();
    for destination in &config.destinations {
        let name = &destination.name;
        let mut fault = |sentence: String, hint: &str| {
            let place = format!("{}: destination.{name}", config.shown);
            faults.push(Diagnostic::of_file(place, "not_ready", sentence).hint(hint));
        };
        let way = match &destination.way {
            Way::Rest { to, ca_file } => match requests(to, ca_file.as_ref(), config, &mut fault) {
                Some((http, keys)) => dispatch::Way::Rest { to: to.clone(), http, keys },
                None => continue,
            },
            Way::Email { to, smtp, ca_file } => {
                let secrets = smtp.password.iter().chain(smtp.dkim.as_ref().map(|dkim| &dkim.key));
                for sentence in secrets.filter_map(|secret| secret.reveal().err()) {
                    fault(sentence, "set it for the user that runs mail2crm");
                }
                let reads = match to.asks_before_mail() {
                    false => None,
                    true => match requests(to, ca_file.as_ref(), config, &mut fault) {
                        Some(reads) => Some(Box::new(reads)),
                        None => continue,
                    },
                };
                match SmtpSender::new(smtp.clone()) {
                    Ok(smtp) => dispatch::Way::Email { to: to.clone(), smtp: Box::new(smtp), key: key.clone(), reads },
                    Err(sentence) => {
                        fault(sentence, "see `smtp` of this destination");
                        continue;
                    }
                }
            }
            Way::Storage { to, path } => {
                if let StorageSettings::Store { access, .. } = to {
                    for sentence in access.secrets().into_iter().filter_map(|secret| secret.reveal().err()) {
                        fault(sentence, "set it for the user that runs mail2crm");
                    }
                }
                match StorageSender::new(to.clone()) {
                    Ok(storage) => dispatch::Way::Storage { path: path.clone(), storage },
                    Err(sentence) => {
                        fault(sentence, "see `storage` of this destination");
                        continue;
                    }
                }
            }
        };
        let (concurrency, rates) = (destination.concurrency, destination.rates.clone());
        targets.insert(
            name.clone(),
            Arc::new(Target { name: name.clone(), concurrency, rates, fallback: destination.fallback.clone(), way }),
        );
    }
    for source in &config.sources {
        for sentence in source.kind.secrets().into_iter().filter_map(|s| s.reveal().err()) {
            let place = format!("{}: source.{}", config.shown, source.name);
            faults
                .push(Diagnostic::of_file(place, "not_ready", sentence).hint("set it for the user that runs mail2crm"));
        }
    }
    faults.into_result(targets)
}

/// What sends a destination's requests, and its credentials.
fn requests(
    to: &Destination,
    ca_file: Option<&PathBuf>,
    config: &Config,
    fault: &mut impl FnMut(String, &str),
) -> Option<(HttpSender, dispatch::Keys)> {
    let tokens = to.grants().into_iter().flat_map(|grants| grants.ask.secrets());
    let unread = tokens.filter_map(|secret| secret.reveal().err());
    for sentence in unread.chain(to.reveal(|secret| secret.reveal()).err()) {
        fault(sentence, "set it for the user that runs mail2crm");
    }
    let settings = HttpSettings { timeout: to.timeout(), ca_file: ca_file.cloned(), ..HttpSettings::default() };
    match HttpSender::new(settings) {
        Ok(http) => Some((http, dispatch::Keys::new(config.state.clone(), ca_file.cloned()))),
        Err(sentence) => {
            fault(sentence, "`ca_file` names a PEM file of authorities");
            None
        }
    }
}
