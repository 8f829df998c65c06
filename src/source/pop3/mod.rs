//! A mailbox on a POP3 server (RFC 1939 with UIDL; STLS of RFC 2595) as a source.
//!
//! Each look is a connection of its own: list the UIDs, download what was not read yet, commit, and only then
//! delete if told to. Position: the UIDs of what was read and is still there. A message that can't be had holds
//! up no other: it is tried last, and ever more seldom.

mod connection;
mod memory;
mod settings;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use self::connection::Connection;
use self::memory::Memory;
use super::lines::Body;
use super::{
    BATCH_BYTES, BATCH_ITEMS, Batch, Content, Envelope, Fault, Inlet, Place, Received, Recipe, Settled, Sighted,
    Source, Start, changes,
};
use crate::secret::Secret;

pub use settings::{After, Settings};

/// Waiting after `try again`: from the first to the last, doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);
/// Looks in a row that may end over a message, with none taken in between, before the server is taken for broken.
const MOST_BARREN: u32 = 5;
/// A message that could not be had is tried again after at most so many looks.
const MOST_SELDOM: u32 = 64;

/// A POP3 mailbox, ready to be read.
#[derive(Debug)]
pub struct Pop3 {
    settings: Settings,
    started: Timestamp,
}

impl Recipe for Settings {
    fn build(self, now: Timestamp) -> Box<dyn Source> {
        Box::new(Pop3 { settings: self, started: now })
    }

    fn validate(&self) -> Vec<(&'static str, String, String)> {
        Self::validate(self)
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        self.ca_file.iter_mut().collect()
    }

    fn secrets(&self) -> Vec<&Secret> {
        vec![&self.password]
    }

    fn period(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.poll_seconds.into()))
    }

    fn limit_to(&mut self, message_bytes: usize) {
        self.max_bytes = self.max_bytes.min(message_bytes as u64);
    }
}

impl Source for Pop3 {
    fn run(
        self: Box<Self>,
        inlet: Inlet,
        positions: BTreeMap<String, String>,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        let reader = Reader {
            memory: Memory::from_positions(&positions),
            settings: self.settings,
            started: self.started,
            inlet,
            stop,
            trust: None,
            failures: HashMap::new(),
            to_delete: HashSet::new(),
            looks: 0,
            progress: false,
        };
        Box::pin(reader.run())
    }

    fn check(self: Box<Self>) -> BoxFuture<'static, Result<String, Fault>> {
        Box::pin(async move {
            let mut connection = connection::open(&self.settings, &mut None).await?;
            let count = connection.uids().await?.len();
            connection.quit().await?;
            Ok(format!("logged in; the mailbox holds {count} message{}", if count == 1 { "" } else { "s" }))
        })
    }

    fn survey(
        self: Box<Self>,
        positions: BTreeMap<String, String>,
        to: mpsc::Sender<Sighted>,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            let memory = Memory::from_positions(&positions);
            let mut connection = connection::open(&self.settings, &mut None).await?;
            for mail in named(connection.uids().await?) {
                let place = if memory.knows(mail.key) { Place::passed(self.settings.start) } else { Place::Ahead };
                let sighted = Sighted { input: mail.name, digest: None, received_at: None, place };
                if to.send(sighted).await.is_err() {
                    break;
                }
            }
            connection.quit().await
        })
    }
}

/// A message of the mailbox.
#[derive(Debug, Clone)]
struct Listed {
    number: u32,
    /// Tells it from all others, also from those to which the server gives the same UID.
    key: u64,
    /// For people.
    name: String,
}

/// How a look ended.
enum Look {
    Done,
    TryAgain,
}

/// Reads the mailbox until it is told to stop.
struct Reader {
    settings: Settings,
    started: Timestamp,
    inlet: Inlet,
    stop: CancellationToken,
    memory: Memory,
    trust: Option<TlsConnector>,
    /// Messages that could not be had, with how often.
    failures: HashMap<u64, u32>,
    /// Committed, but not known to be deleted.
    to_delete: HashSet<u64>,
    looks: u32,
    /// Whether the look took something in.
    progress: bool,
}

impl Reader {
    async fn run(mut self) -> Result<(), Fault> {
        let stop = self.stop.clone();
        let (mut wait, mut barren) = (FIRST_WAIT, 0);
        let poll = Duration::from_secs(self.settings.poll_seconds.into());
        loop {
            (self.looks, self.progress) = (self.looks.wrapping_add(1), false);
            // What is under way when the stop comes is given up: nothing is deleted before its commit.
            let Some(look) = stop.run_until_cancelled(self.look()).await else { return Ok(()) };
            let pause = match look {
                Ok(Look::Done) => {
                    (wait, barren) = (FIRST_WAIT, 0);
                    self.inlet.looked();
                    poll
                }
                Ok(Look::TryAgain) => {
                    let pause = wait;
                    wait = (wait * 2).min(LAST_WAIT);
                    pause
                }
                // Over one message: the others get their turn at once.
                Err(fault) if fault.step == "retr" && (self.progress || barren < MOST_BARREN) => {
                    barren = if self.progress { 0 } else { barren + 1 };
                    tracing::info!("connecting to the mail server again, because {fault}");
                    FIRST_WAIT
                }
                Err(fault) => return Err(fault),
            };
            super::pause(pause, &stop).await;
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    async fn look(&mut self) -> Result<Look, Fault> {
        let mut connection = connection::open(&self.settings, &mut self.trust).await?;
        let listed = named(connection.uids().await?);
        let present: HashSet<u64> = listed.iter().map(|mail| mail.key).collect();
        self.memory.listed(&present);
        self.failures.retain(|key, _| present.contains(key));
        self.to_delete.retain(|key| present.contains(key));
        if self.memory.is_new() {
            self.first_contact(&listed).await?;
        }
        for mail in listed.iter().filter(|mail| self.to_delete.contains(&mail.key)) {
            connection.command("dele", &format!("DELE {}", mail.number)).await?;
        }
        let mut unread: Vec<&Listed> = listed.iter().filter(|mail| !self.memory.knows(mail.key)).collect();
        unread.retain(|mail| self.failures.get(&mail.key).is_none_or(|n| self.looks.is_multiple_of(seldom(*n))));
        unread.sort_by_key(|mail| self.failures.get(&mail.key).copied().unwrap_or(0));
        let look = if unread.is_empty() { Look::Done } else { self.read(&mut connection, &unread).await? };
        connection.quit().await?;
        Ok(look)
    }

    /// Where reading starts is committed before anything is read: what arrives from now on is not taken for old.
    async fn first_contact(&mut self, listed: &[Listed]) -> Result<(), Fault> {
        if self.settings.start == Start::Now {
            let keys: Vec<u64> = listed.iter().map(|mail| mail.key).collect();
            for keys in keys.chunks(512) {
                self.inlet.commit_position(self.memory.position_with(keys)).await?;
                self.memory.committed(keys);
            }
        }
        self.inlet.commit_position(Memory::first(self.started)).await?;
        self.memory.committed(&[]);
        Ok(())
    }

    /// Downloads and commits what is unread, a batch at a time.
    async fn read(&mut self, connection: &mut Connection, unread: &[&Listed]) -> Result<Look, Fault> {
        let sizes: HashMap<u32, u64> = connection.sizes().await?.into_iter().collect();
        let largest = self.settings.max_bytes;
        let mut batch: Vec<(&Listed, Content)> = Vec::new();
        let mut bytes = 0;
        for (at, &mail) in unread.iter().enumerate() {
            let over = Content::TooLarge(largest.saturating_add(1));
            let (content, failed) = match sizes.get(&mail.number) {
                Some(size) if *size > largest => (Some(Content::TooLarge(*size)), None),
                _ => match connection.retrieve(mail.number, largest).await {
                    Ok(Body::Whole(raw)) => (Some(Content::Mail(raw.into())), None),
                    Ok(Body::Endless) => (Some(over), Some(connection::endless())),
                    Ok(_) => (Some(over), None),
                    Err(fault) => (None, Some(fault)),
                },
            };
            if let Some(content) = content {
                bytes += content.len();
                batch.push((mail, content));
            }
            let is_full = batch.len() >= BATCH_ITEMS || bytes >= BATCH_BYTES;
            if (failed.is_some() || is_full || at + 1 == unread.len()) && !batch.is_empty() {
                bytes = 0;
                let broken = failed.as_ref().is_some_and(|fault| !is_refusal(fault));
                if !self.commit(std::mem::take(&mut batch), (!broken).then_some(&mut *connection)).await? {
                    return Ok(Look::TryAgain);
                }
            }
            if let Some(fault) = failed {
                let failures = self.failures.entry(mail.key).or_insert(0);
                *failures += 1;
                if *failures == 1 && !self.memory.knows(mail.key) {
                    tracing::warn!(input = mail.name, "a message could not be downloaded, and is tried again: {fault}");
                }
                if !is_refusal(&fault) {
                    return Err(fault);
                }
            }
        }
        Ok(Look::Done)
    }

    /// Commits a batch, and marks for deletion what may go if the connection is still of use. False: it is not
    /// safe, and comes again.
    async fn commit(
        &mut self,
        batch: Vec<(&Listed, Content)>,
        connection: Option<&mut Connection>,
    ) -> Result<bool, Fault> {
        let mails: Vec<(&Listed, bool)> =
            batch.iter().map(|(mail, content)| (*mail, matches!(content, Content::TooLarge(_)))).collect();
        let keys: Vec<u64> = mails.iter().map(|(mail, _)| mail.key).collect();
        let item = |(mail, content): (&Listed, Content)| Received {
            input: mail.name.clone(),
            content,
            envelope: Envelope::default(),
            received_at: None,
        };
        let position = Some(self.memory.position_with(&keys));
        let settled = self.inlet.hand_over(Batch { items: batch.into_iter().map(item).collect(), position }).await;
        let why = settled.iter().find_map(|answer| match answer {
            Settled::TryAgain(why) => Some(why.as_str()),
            _ => None,
        });
        if let Some(why) = why.or_else(|| (settled.len() != keys.len()).then_some("no answer from intake")) {
            tracing::warn!("{} messages are not in the ledger yet and are read again: {why}", keys.len());
            return Ok(false);
        }
        self.memory.committed(&keys);
        self.progress = true;
        if self.settings.after == After::Delete {
            let safe = mails.iter().zip(&settled).filter(|((_, too_large), s)| !too_large && **s == Settled::Accepted);
            let safe: Vec<&Listed> = safe.map(|((mail, _), _)| *mail).collect();
            self.to_delete.extend(safe.iter().map(|mail| mail.key));
            if let Some(connection) = connection {
                for mail in safe {
                    connection.command("dele", &format!("DELE {}", mail.number)).await?;
                }
            }
        }
        for key in &keys {
            self.failures.remove(key);
        }
        Ok(true)
    }
}

/// Whether the server refused one message, and goes on.
fn is_refusal(fault: &Fault) -> bool {
    fault.step == "retr" && fault.detail.starts_with("the server refuses")
}

/// After how many looks to try again what failed so often: 1, 2, 4 …
fn seldom(failures: u32) -> u32 {
    1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(MOST_SELDOM).min(MOST_SELDOM)
}

/// Messages with what tells them apart. A server may give the same UID to equal messages (RFC 1939 section 7).
fn named(uids: Vec<(u32, String)>) -> Vec<Listed> {
    let mut seen: HashMap<String, u32> = HashMap::with_capacity(uids.len());
    let name = |(number, uid): (u32, String)| {
        let count = seen.entry(uid.clone()).and_modify(|count| *count += 1).or_insert(1);
        let full = if *count == 1 { uid } else { format!("{uid}#{count}") };
        let key = changes::key(full.as_bytes());
        let is_plain = full.len() <= 80 && full.bytes().all(|b| b.is_ascii_graphic());
        Listed { number, key, name: if is_plain { format!("uid-{full}") } else { format!("uid-{key:016x}") } }
    };
    uids.into_iter().map(name).collect()
}

#[cfg(test)]
mod tests;
