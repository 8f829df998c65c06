//! Mailboxes on an IMAP server (RFC 3501, with IDLE, UIDPLUS, MOVE, CONDSTORE, LIST-STATUS and NOTIFY where offered)
//! as a source.
//!
//! Reads by UID with a cursor in the ledger, downloads with PEEK, and changes nothing before the commit.
//! It never takes a flag or a span of time for what was read: a person who opens the mailbox, an outage of
//! a week or a server that numbers anew loses nothing. Position: key = the mailbox, value = `cursor`'s JSON.

mod after;
mod capabilities;
mod connect;
mod connection;
mod cursor;
mod fetch;
mod idle;
mod mailbox;
mod plan;
mod reader;
mod round;
mod settings;
mod survey;
mod turn;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Fault, Inlet, Place, Recipe, Sighted, Source, Start};
use crate::outcome::Reason;
use crate::secret::Secret;

pub(super) use connection::{said, silence};
pub use settings::{After, Settings, Tls};

/// An account's mailboxes, ready to be read.
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

    fn period(&self) -> Option<Duration> {
        Some(Self::period(self, self.idle))
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
            let settings = Arc::new(self.settings);
            let around = reader::Around { settings, inlet, stop, started: self.started };
            round::Round::new(around, positions)?.run().await
        })
    }

    fn check(self: Box<Self>) -> BoxFuture<'static, Result<String, Fault>> {
        Box::pin(async move { look(&self.settings).await })
    }

    fn survey(
        self: Box<Self>,
        positions: BTreeMap<String, String>,
        to: mpsc::Sender<Sighted>,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move { tell(&self.settings, &positions, &to).await })
    }
}

/// Messages listed at a time.
const LISTED: u32 = 4096;

/// Tells of every message of the mailboxes, by its name alone; none is downloaded.
async fn tell(
    settings: &Settings,
    positions: &BTreeMap<String, String>,
    to: &mpsc::Sender<Sighted>,
) -> Result<(), Fault> {
    let mut connection = connect::open(settings, &mut None).await?;
    let mut names: Vec<String> = Vec::new();
    for entry in settings.entries() {
        if !entry.is_pattern {
            names.push(entry.text.to_owned());
            continue;
        }
        let found = survey::list(&mut connection, entry.text).await?.map_err(|text| {
            let detail = format!("the server does not list `{}`: {text}", entry.text);
            Fault { reason: Reason::NotPermitted, step: survey::STEP, detail }
        })?;
        names.extend(found.into_iter().filter(|one| !one.is_at_target(settings)).map(|one| one.name));
    }
    names.dedup();
    for name in names {
        let selected = connection.select(&name, true).await??;
        let cursor = positions.get(&name).and_then(|text| cursor::Cursor::from_json(text));
        let cursor = cursor.filter(|cursor| cursor.uidvalidity == selected.uidvalidity);
        let mut from = 1;
        while from < selected.uid_next && selected.exists > 0 {
            let last = from.saturating_add(LISTED - 1).min(selected.uid_next - 1);
            let listed = fetch::list(&mut connection, &format!("{from}:{last}"), LISTED.min(selected.exists)).await?;
            for one in listed.into_iter().filter(|one| (from..=last).contains(&one.uid)) {
                let sighted = Sighted {
                    input: format!("{name}/{}/{}", selected.uidvalidity, one.uid),
                    digest: None,
                    received_at: one.received_at,
                    place: place(cursor.as_ref(), settings.start, one),
                };
                if to.send(sighted).await.is_err() {
                    return Ok(());
                }
            }
            from = last.saturating_add(1);
        }
    }
    connection.logout().await;
    Ok(())
}

fn place(cursor: Option<&cursor::Cursor>, start: Start, one: fetch::Listed) -> Place {
    let Some(cursor) = cursor else { return Place::Ahead };
    let is_old = cursor.started_at.zip(one.received_at).is_some_and(|(start, received)| received < start);
    match one.uid < cursor.next_uid {
        _ if cursor.holes.contains(&one.uid) => Place::Unreadable,
        true if is_old => Place::Before,
        true => Place::passed(start),
        false if !cursor.wants(one.uid, one.received_at) => Place::Before,
        false => Place::Ahead,
    }
}

/// Mailboxes that a pattern finds and a sentence names; of the rest it says the number.
const NAMED: usize = 20;

async fn look(settings: &Settings) -> Result<String, Fault> {
    let mut connection = connect::open(settings, &mut None).await?;
    let mut sentence = "logged in".to_owned();
    let mut faults: Vec<Fault> = Vec::new();
    for entry in settings.entries() {
        if !entry.is_pattern {
            match connection.select(entry.text, true).await? {
                Ok(selected) => sentence.push_str(&format!("; {}", holds(entry.text, selected.exists))),
                Err(fault) => faults.push(fault),
            }
            continue;
        }
        let found = survey::list(&mut connection, entry.text).await?.map_err(|text| Fault {
            reason: Reason::NotPermitted,
            step: survey::STEP,
            detail: format!("the server does not list `{}`: {text}", entry.text),
        })?;
        let found: Vec<_> = found.iter().filter(|one| !one.is_at_target(settings)).collect();
        sentence.push_str(&format!("; `{}` finds {}", entry.text, counted(found.len(), "mailbox", "es")));
        for (number, one) in found.iter().take(NAMED).enumerate() {
            let standing = match one.standing {
                Some(standing) => Some(standing),
                None => survey::status(&mut connection, &one.name).await?,
            };
            let told = standing.map_or_else(|| format!("`{}`", one.name), |there| holds(&one.name, there.exists));
            sentence.push_str(&format!("{} {told}", if number == 0 { ":" } else { "," }));
        }
        if found.len() > NAMED {
            sentence.push_str(&format!(" and {} more", found.len() - NAMED));
        }
    }
    if let Some(mut fault) = faults.pop() {
        fault.detail =
            faults.iter().map(|one| one.detail.as_str()).chain([fault.detail.as_str()]).collect::<Vec<_>>().join("; ");
        return Err(fault);
    }
    sentence.push_str(&format!("; the server offers {}", connection.capabilities().of_interest()));
    if let After::MoveTo(folder) = &settings.after
        && survey::status(&mut connection, folder).await?.is_none()
    {
        sentence.push_str(&format!("; `{folder}` is not there yet and will be made at the first move"));
    }
    connection.logout().await;
    Ok(sentence)
}

fn holds(name: &str, messages: u32) -> String {
    format!("`{name}` holds {}", counted(messages as usize, "message", "s"))
}

fn counted(number: usize, word: &str, plural: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { plural })
}
