//! The life of the source: connect, go round the mailboxes, wait, and again; one connection for all of them.
//!
//! The first mailbox stays open, in IDLE; the others are asked about with STATUS and opened only for news. A
//! mailbox that can't be opened, or whose walk ends the connection, waits while the others have their turn. What
//! fails before a mailbox is open, or in all of them, is a `Fault` for the service.
//!
//! Of RFC 7162 only HIGHESTMODSEQ is used, as a witness that nothing came. QRESYNC would tell which messages went
//! and whose flags changed: of these a cursor by UID asks only for its holes, and the listing of the holes, needed for
//! their sizes anyway, leaves out what is gone. With 20,000 mails at Dovecot and 500 holes, half of them gone, that
//! listing takes 2 ms; QRESYNC makes the SELECT 37 ms slower.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

use super::connect;
use super::connection::Connection;
use super::idle::{self, Woken};
use super::mailbox::same;
use super::reader::{Around, Reader, Walk, unless_stopped};
use super::survey;
use super::turn::Due;
use crate::outcome::Reason;
use crate::source::{Fault, Position, Start};

/// A connection that lived this long, or took something in, is made anew at once when it breaks.
const LASTING: Duration = Duration::from_secs(10);
/// About so many messages of a mailbox are taken before the others have their turn.
const MOST_AT_ONCE: usize = 1000;
/// The pause after an IDLE that the server ended by itself.
const ENDED_WAIT: Duration = Duration::from_secs(1);

/// All mailboxes of a source.
pub(super) struct Round {
    around: Around,
    /// The ledger's places of mailboxes that were not found yet.
    places: BTreeMap<String, String>,
    patterns: Vec<Pattern>,
    /// In the order of the settings, then as patterns find them. None ever goes, so that its place stays.
    readers: Vec<Reader>,
    /// Which of them is open, and which is being read.
    open: Option<usize>,
    busy: Option<usize>,
    /// Whether the connection got as far as an open mailbox.
    opened: bool,
    idle_works: bool,
    /// For how many mailboxes the server was asked to tell of news.
    told_of: usize,
}

/// A name with wildcards.
struct Pattern {
    text: String,
    place: Option<PatternPlace>,
    warned: bool,
}

/// What the ledger keeps for a pattern, under its text: a mailbox that it finds later had no mail before that, so
/// that none of it may be taken for old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct PatternPlace {
    first_contact: Timestamp,
}

impl Round {
    /// `places` are what the ledger keeps for this source.
    pub(super) fn new(around: Around, places: BTreeMap<String, String>) -> Result<Self, Fault> {
        let settings = around.settings.clone();
        let (mut readers, mut patterns): (Vec<Reader>, _) = (Vec::new(), Vec::new());
        for entry in settings.entries() {
            let place = places.get(entry.text).map(String::as_str);
            if entry.is_pattern {
                let place = place.and_then(|text| serde_json::from_str(text).ok());
                patterns.push(Pattern { text: entry.text.to_owned(), place, warned: false });
            } else if !readers.iter().any(|reader| same(&reader.name, entry.text)) {
                readers.push(Reader::new(entry.text, &around, settings.start, place)?);
            }
        }
        let (open, busy, opened, idle_works, told_of) = (None, None, false, true, 0);
        Ok(Self { around, places, patterns, readers, open, busy, opened, idle_works, told_of })
    }

    pub(super) async fn run(mut self) -> Result<(), Fault> {
        let mut trust = None;
        let mut again = false;
        loop {
            let begun = Instant::now();
            for reader in &mut self.readers {
                reader.progress = false;
            }
            let fault = match self.connect_and_read(&mut trust, again).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            let passing = matches!(
                fault.reason,
                Reason::ConnectionLost | Reason::Timeout | Reason::UnexpectedReply | Reason::TooLarge
            );
            let of_use = self.readers.iter().any(|reader| reader.progress) || begun.elapsed() >= LASTING;
            let pause = self.busy.and_then(|busy| self.readers.get(busy)).map(Reader::pause).unwrap_or_default();
            if !passing || !(self.step_back() || self.opened && of_use) {
                return Err(fault);
            }
            info!("connecting to the mail server again, because {fault}");
            again = true;
            if unless_stopped(&self.around.stop, Duration::ZERO, sleep(pause)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Has the mailbox over which the connection ended wait. False: there is no other to read meanwhile.
    fn step_back(&mut self) -> bool {
        let Some(busy) = self.busy else { return false };
        let others = self.readers.iter().enumerate().any(|(i, reader)| i != busy && reader.is_usable());
        if others && let Some(reader) = self.readers.get_mut(busy) {
            reader.turn.put_off(Instant::now());
        }
        others
    }

    fn is_alone(&self) -> bool {
        self.readers.len() <= 1 && self.patterns.is_empty()
    }

    async fn connect_and_read(&mut self, trust: &mut Option<TlsConnector>, again: bool) -> Result<(), Fault> {
        let stop = self.around.stop.clone();
        (self.open, self.busy, self.opened, self.told_of) = (None, None, false, 0);
        let opening = connect::open(&self.around.settings, trust);
        let Some(connection) = unless_stopped(&stop, Duration::ZERO, opening).await else { return Ok(()) };
        let mut connection = connection?;
        // A message that can't be had may have ended the connection before: not as the first thing again.
        let mut most = if again { Due::News } else { Due::All };
        let mut next_look = Instant::now();
        loop {
            let is_due = Instant::now() >= next_look;
            if is_due {
                let looking = unless_stopped(&stop, Duration::ZERO, self.look_round(&mut connection)).await;
                let Some(looked) = looking else { break };
                looked?;
            }
            if !self.read_all(&mut connection, most).await? {
                break;
            }
            self.around.inlet.looked();
            if is_due {
                next_look = Instant::now() + self.period(&connection);
            }
            most = Due::All;
            let turn = self.readers.iter().filter_map(Reader::turn).min();
            let until = turn.map_or(next_look, |turn| turn.min(next_look));
            let period = until.saturating_duration_since(Instant::now());
            if period.is_zero() {
                continue;
            }
            let told = self.idles(&connection) && self.open.is_some();
            match idle::wait(&mut connection, told, period, &stop).await? {
                Woken::News => self.claim_open(Due::News),
                Woken::Elsewhere => next_look = Instant::now(),
                Woken::Due => {}
                Woken::Ended => {
                    self.claim_open(Due::All);
                    unless_stopped(&stop, Duration::ZERO, sleep(ENDED_WAIT)).await;
                    next_look = Instant::now();
                }
                Woken::Refused => {
                    self.idle_works = false;
                    let seconds = self.around.settings.poll_seconds;
                    warn!("the mail server offers IDLE but refuses it; the mailbox is looked at every {seconds} s");
                    next_look = next_look.min(Instant::now() + self.period(&connection));
                }
                Woken::Stopped => break,
            }
        }
        connection.logout().await;
        Ok(())
    }

    fn idles(&self, connection: &Connection) -> bool {
        self.around.settings.idle && self.idle_works && connection.capabilities().has("IDLE")
    }

    /// The time between two looks: that of the open mailbox, unless others have to be asked about.
    fn period(&self, connection: &Connection) -> Duration {
        let (asked, told) = (self.around.settings.period(false), self.around.settings.period(true));
        match (self.idles(connection), self.is_alone()) {
            (true, true) => told,
            (true, false) => asked.min(told),
            (false, _) => asked,
        }
    }

    fn claim_open(&mut self, due: Due) {
        if let Some(reader) = self.open.and_then(|open| self.readers.get_mut(open)) {
            reader.turn.claim(due);
        }
    }

    /// Looks which mailboxes there are, and which of them may have news.
    async fn look_round(&mut self, connection: &mut Connection) -> Result<(), Fault> {
        let mut told = BTreeSet::new();
        for number in 0..self.patterns.len() {
            self.find(connection, number, &mut told).await?;
        }
        // Not NOOP: the numbers are to come from the mailbox, not from what the server remembers.
        let period = self.around.settings.period(self.idles(connection));
        // The first is opened anyway.
        let mut opens_one = self.open.is_none();
        for (number, reader) in self.readers.iter_mut().enumerate() {
            if self.open == Some(number) {
                reader.look_again_after(period);
            } else if opens_one && reader.is_usable() {
                opens_one = false;
            } else if !told.contains(&number) && reader.is_to_be_asked_about() {
                let standing = survey::status(connection, &reader.name).await?;
                reader.notice(standing);
            }
        }
        if connection.capabilities().has("NOTIFY") && self.readers.len() > 1 && self.told_of != self.readers.len() {
            self.told_of = self.readers.len();
            survey::be_told(connection, self.readers.iter().map(|reader| reader.name.as_str())).await?;
        }
        Ok(())
    }

    /// Takes in the mailboxes that a pattern names now; of those that are `told` the numbers came along.
    async fn find(
        &mut self,
        connection: &mut Connection,
        number: usize,
        told: &mut BTreeSet<usize>,
    ) -> Result<(), Fault> {
        let Some(pattern) = self.patterns.get_mut(number) else { return Ok(()) };
        let text = pattern.text.clone();
        let found = survey::list(connection, &text).await?;
        let odd = match &found {
            Ok(found) if found.is_empty() => Some("there is no such mailbox yet".to_owned()),
            Ok(found) if found.len() == survey::MOST => {
                Some(format!("of more mailboxes only {} are read", survey::MOST))
            }
            Ok(_) => None,
            Err(refusal) => Some(format!("the server does not list them: {refusal}")),
        };
        match odd {
            Some(odd) if !std::mem::replace(&mut pattern.warned, true) => warn!("`{text}`: {odd}"),
            Some(_) => {}
            None => pattern.warned = false,
        }
        // A refusal does not say that they are gone.
        let Ok(found) = found else { return Ok(()) };
        let start = match (pattern.place, self.around.settings.start) {
            (Some(place), Start::Now) => Start::Since(place.first_contact),
            (_, start) => start,
        };
        if pattern.place.is_none() {
            let place = PatternPlace { first_contact: self.around.started };
            let value = serde_json::to_string(&place).unwrap_or_default();
            self.around.inlet.commit_position(Position { key: text.clone(), value }).await?;
            pattern.place = Some(place);
        }
        for reader in self.readers.iter_mut().filter(|reader| reader.found_by == Some(number)) {
            reader.is_gone = true;
        }
        for one in found.into_iter().filter(|one| !one.is_at_target(&self.around.settings)) {
            let Some(known) = self.readers.iter().position(|reader| same(&reader.name, &one.name)) else {
                let place = self.places.get(&one.name).map(String::as_str);
                let mut reader = Reader::new(&one.name, &self.around, start, place)?;
                reader.found_by = Some(number);
                self.readers.push(reader);
                continue;
            };
            let Some(reader) = self.readers.get_mut(known) else { continue };
            reader.is_gone = false;
            reader.found_by = reader.found_by.map(|_| number);
            if self.open != Some(known) && one.standing.is_some() && reader.turn.due == Due::Nothing {
                reader.notice(one.standing);
                told.insert(known);
            }
        }
        Ok(())
    }

    /// Reads whatever is due, at most so much in each, and leaves the first mailbox open. False: the source is to stop.
    async fn read_all(&mut self, connection: &mut Connection, at_most: Due) -> Result<bool, Fault> {
        for number in 0..self.readers.len() {
            if !self.read(connection, number, at_most, false).await? {
                return Ok(false);
            }
        }
        // The first that can be opened; if it is put off it is not read, but not closed for it either.
        for number in 0..self.readers.len() {
            let is_usable = self.readers.get(number).is_some_and(Reader::is_usable);
            if is_usable && self.open != Some(number) && !self.read(connection, number, at_most, true).await? {
                return Ok(false);
            }
            if is_usable && self.open == Some(number) {
                break;
            }
        }
        let refusal = self.readers.iter().filter(|reader| !reader.is_gone).map(|reader| reader.refusal.as_ref());
        let refusals: Option<Vec<_>> = refusal.collect();
        match refusals.and_then(|all| all.first().copied().cloned()) {
            Some(fault) => Err(fault),
            None => Ok(true),
        }
    }

    /// Reads a mailbox, if its turn has come, or if it is to be opened in any case. False: the source is to stop.
    async fn read(
        &mut self,
        connection: &mut Connection,
        number: usize,
        at_most: Due,
        in_any_case: bool,
    ) -> Result<bool, Fault> {
        let is_alone = self.is_alone();
        let Some(reader) = self.readers.get_mut(number) else { return Ok(true) };
        let has_turn = reader.turn().is_some_and(|turn| turn <= Instant::now());
        if !has_turn && !in_any_case {
            return Ok(true);
        }
        reader.turn.due = reader.turn.due.min(at_most);
        self.busy = Some(number);
        let is_fresh = self.open != Some(number) || reader.turn.due == Due::All;
        if is_fresh {
            self.open = None;
            let was_fine = reader.refusal.is_none();
            let opening = unless_stopped(&self.around.stop, Duration::ZERO, reader.open(connection)).await;
            let Some(opened) = opening else { return Ok(false) };
            if let Err(fault) = opened? {
                if was_fine && !is_alone {
                    warn!("{fault}; the other mailboxes are read, and this one is tried again");
                }
                self.busy = None;
                return Ok(true);
            }
            (self.open, self.opened) = (Some(number), true);
        }
        let most = if is_alone { usize::MAX } else { MOST_AT_ONCE };
        let walk = reader.read(connection, is_fresh, most).await?;
        // What came meanwhile may not have been listed; once another is open, nobody tells of it.
        if matches!(walk, Walk::Done) && connection.news() {
            reader.turn.claim(Due::News);
        }
        self.busy = None;
        Ok(!matches!(walk, Walk::Stopped))
    }
}
