//! A mailbox on an IMAP server (RFC 3501, with IDLE, UIDPLUS and MOVE where offered) as a source.
//!
//! Reads by UID with a cursor in the ledger, downloads with PEEK, and changes nothing before the commit.
//! It never takes a flag or a span of time for what was read: a person who opens the mailbox, an outage of
//! a week or a server that numbers anew loses nothing. Position: key = the mailbox, value = `cursor`'s JSON.

mod after;
mod connect;
mod connection;
mod cursor;
mod fetch;
mod idle;
mod mailbox;
mod plan;
mod reader;
mod settings;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{Fault, Inlet, Recipe, Source};
use crate::secret::Secret;

pub(super) use connection::{said, silence};
pub use settings::{After, Settings, Tls};

/// An IMAP mailbox, ready to be read.
#[derive(Debug)]
pub struct Imap {
    settings: Settings,
    started: Timestamp,
}

impl Imap {
    /// A source with settings that `Settings::validate` has nothing against. `now` is the day of the first
    /// contact, if this is the first: with `start = "now"` nothing received before it is ever read.
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        Self { settings, started: now }
    }
}

impl Recipe for Settings {
    fn build(self, now: Timestamp) -> Box<dyn Source> {
        Box::new(Imap::new(self, now))
    }

    fn validate(&self) -> Vec<(&'static str, String, String)> {
        Self::validate(self)
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let token = self.oauth2.as_mut().and_then(|oauth2| oauth2.ca_file.as_mut());
        self.ca_file.iter_mut().chain(token).collect()
    }

    fn secrets(&self) -> Vec<&Secret> {
        self.password.iter().chain(self.oauth2.iter().flat_map(|oauth2| oauth2.secrets())).collect()
    }

    fn limit_to(&mut self, message_bytes: usize) {
        self.max_bytes = self.max_bytes.min(message_bytes as u64);
    }

    fn keep_beside(&mut self, state: &Path) {
        if let Some(oauth2) = &mut self.oauth2 {
            oauth2.state = state.to_owned();
        }
    }
}

impl Source for Imap {
    fn run(
        self: Box<Self>,
        inlet: Inlet,
        positions: BTreeMap<String, String>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            let position = positions.get(&self.settings.mailbox).map(String::as_str);
            reader::Reader::new(self.settings, self.started, inlet, position, stop)?.run().await
        })
    }

    fn check(self: Box<Self>) -> BoxFuture<'static, Result<String, Fault>> {
        Box::pin(async move { look(&self.settings).await })
    }
}

async fn look(settings: &Settings) -> Result<String, Fault> {
    let mut connection = connect::open(settings, &mut None).await?;
    let selected = connection.select(&settings.mailbox, true).await?;
    let mut sentence = format!(
        "logged in; `{}` holds {} message{}; the server offers {}",
        settings.mailbox,
        selected.exists,
        if selected.exists == 1 { "" } else { "s" },
        connection.capabilities().of_interest()
    );
    if let After::MoveTo(folder) = &settings.after
        && connection.count(folder).await?.is_none()
    {
        sentence.push_str(&format!("; `{folder}` is not there yet and will be made at the first move"));
    }
    connection.logout().await;
    Ok(sentence)
}
