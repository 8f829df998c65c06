//! Commits received messages: raw bytes, sessions, versions, deliveries and the source's position in one
//! transaction. Only after it may a source be told that a message is safe.
//!
//! What is known already (the same item of the same source) changes nothing. What becomes of each session:
//! `standing`. Nothing here calls anybody but the planner, which is pure.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::blob::ZeroBlob;
use serde_json::{Map, Value};

use super::brake::{Alarm, Brake, Pace};
use super::course;
use super::delivery::{Change, Delivery, Entry, lane};
use super::handle::Ledger;
use super::sql::{OptionalExtension, Sql, params};
use super::standing::{Judgement, Stamp, judge};
use super::writer::Transaction;
use super::{Accepted, DeliveryState, Fault, Leg, MessageState, Moved, NewMessage, NewSession, Planner, Standing};
use crate::ids::MessageId;
use crate::outcome::Reason;
use crate::session::version::{self, text_of};

/// Raw bytes that go into the ledger as one value.
const WRITTEN_AT_ONCE: usize = 4 << 20;

impl Ledger {
    /// Commits a batch of messages and where the source now stands, all or nothing. One answer per message,
    /// in order. A message whose source, input and raw bytes are known is answered with `known`.
    ///
    /// `source` is whose position it is: key and value, opaque to the ledger.
    pub async fn accept(
        &self,
        batch: Vec<NewMessage>,
        source: &str,
        position: Option<(String, String)>,
        planner: Arc<dyn Planner>,
        now: Timestamp,
    ) -> Result<Vec<Accepted>, Fault> {
        // Texts are made here, so that the writing thread only writes.
        let batch: Vec<Incoming> = batch.into_iter().map(Incoming::new).collect();
        let (source, reading) = (source.to_owned(), self.reading());
        self.write(move |tx| {
            if let Some(reading) = &reading {
                reading.check(tx.sql)?;
            }
            let intake = Intake { tx, planner: &*planner, brake: planner.brake(), now };
            let accepted = batch.iter().map(|message| intake.message(message)).collect::<Result<_, _>>()?;
            if let Some((key, value)) = &position {
                intake.position(&source, key, value)?;
            }
            Ok(accepted)
        })
        .await
    }

    /// Puts a new result in the place of that of a message that was not `processed`: a quarantined or
    /// ignored one, read again by a newer program or profile. Its raw bytes stay. `None` if there is no
    /// such message, it is processed already, or `message` is of other bytes.
    pub async fn reprocess(
        &self,
        id: MessageId,
        message: NewMessage,
        planner: Arc<dyn Planner>,
        now: Timestamp,
    ) -> Result<Option<Accepted>, Fault> {
        let incoming = Incoming::new(message);
        self.write(move |tx| Intake { tx, planner: &*planner, brake: planner.brake(), now }.again(id, &incoming)).await
    }
}

/// A message with its texts made.
struct Incoming {
    message: NewMessage,
    sessions: Vec<Texts>,
}

struct Texts {
    document: String,
    evidence: String,
    warnings: String,
}

impl Incoming {
    fn new(message: NewMessage) -> Self {
        let sessions = message.sessions.iter().map(Texts::new).collect();
        Self { message, sessions }
    }
}

impl Texts {
    fn new(session: &NewSession) -> Self {
        let place = |(field, evidence): &(String, _)| {
            (field.clone(), serde_json::to_value::<&crate::session::evidence::Evidence>(evidence).unwrap_or_default())
        };
        let evidence: Map<String, Value> = session.evidence.iter().map(place).collect();
        Self {
            document: text_of(&session.document),
            evidence: text_of(&Value::Object(evidence)),
            warnings: Value::from(session.warnings.as_slice()).to_string(),
        }
    }
}

fn each_once(legs: &[Leg]) -> Vec<Leg> {
    let mut once: Vec<Leg> = Vec::with_capacity(legs.len());
    for leg in legs {
        if !once.contains(leg) {
            once.push(leg.clone());
        }
    }
    once
}

/// A session as the ledger has it.
struct Known {
    id: i64,
    newest: i64,
    updated_us: Option<i64>,
    version: i64,
    digest: String,
    /// Whether its documents are gone.
    emptied: bool,
}

/// One transaction's work.
struct Intake<'a> {
    tx: &'a Transaction<'a>,
    planner: &'a dyn Planner,
    brake: Brake,
    now: Timestamp,
}

/// What follows from one session of a message.
struct Followed {
    standing: Standing,
    due: usize,
    alarms: Vec<Alarm>,
    moved: Vec<(String, String, String)>,
}

/// Deliveries of one version.
#[derive(Default)]
struct Made {
    due: usize,
    alarms: Vec<Alarm>,
    /// Destination, record of former versions, record of this one.
    moved: Vec<(String, String, String)>,
}

/// A version to be written.
struct NewVersion<'a> {
    number: i64,
    standing: Standing,
    digest: &'a str,
    document: &'a str,
    legs: &'a [Leg],
}

impl Intake<'_> {
    fn message(&self, incoming: &Incoming) -> Result<Accepted, Fault> {
        let message = &incoming.message;
        let inserted = self
            .tx
            .sql
            .prepare_cached(
                "INSERT INTO messages (source, input, raw_digest, message_id, is_document, received_at, recorded_at, \
                 state, reason, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING \
                 RETURNING id",
            )?
            .query_row(
                params![
                    message.source,
                    message.input,
                    message.raw_digest,
                    message.message_id,
                    message.is_document,
                    message.received_at.as_millisecond(),
                    self.now.as_millisecond(),
                    message.state.as_str(),
                    message.reason.map(Reason::as_str),
                    message.detail,
                ],
                |row| row.get(0),
            )
            .optional()?;
        let Some(id) = inserted else { return self.known(message) };
        self.raw(id, &message.raw)?;
        self.sessions(id, incoming)
    }

    /// Writes the raw bytes. SQLite holds a bound value twice more until the row is written, so large ones are
    /// written into their place.
    fn raw(&self, message: i64, raw: &[u8]) -> Result<(), Fault> {
        const ROW: &str = "INSERT INTO raws (message, bytes) VALUES (?1, ?2)";
        let sql = match self.tx.sql {
            Sql::Lite(sql) if raw.len() > WRITTEN_AT_ONCE => sql,
            sql => return Ok(sql.prepare_cached(ROW)?.execute(params![message, raw]).map(drop)?),
        };
        sql.prepare_cached(ROW)?.execute((message, ZeroBlob(raw.len() as u64)))?;
        let mut place = sql.blob_open("main", "raws", "bytes", message, false)?;
        for (piece, at) in raw.chunks(WRITTEN_AT_ONCE).zip((0..).step_by(WRITTEN_AT_ONCE)) {
            place.write_at(piece, at)?;
        }
        Ok(place.close()?)
    }

    fn known(&self, message: &NewMessage) -> Result<Accepted, Fault> {
        let id = self
            .tx
            .sql
            .prepare_cached("SELECT id FROM messages WHERE source = ?1 AND input = ?2 AND raw_digest = ?3")?
            .query_row([&message.source, &message.input, &message.raw_digest], |row| row.get(0))?;
        let sessions = message.sessions.iter().map(|s| (s.key.clone(), Standing::Duplicate)).collect();
        Ok(Accepted {
            message: MessageId(id),
            known: true,
            sessions,
            deliveries: 0,
            alarms: Vec::new(),
            moved: Vec::new(),
        })
    }

    fn again(&self, id: MessageId, incoming: &Incoming) -> Result<Option<Accepted>, Fault> {
        let message = &incoming.message;
        let old: Option<(String, String)> = self
            .tx
            .sql
            .prepare_cached("SELECT state, raw_digest FROM messages WHERE id = ?1 /*pg FOR UPDATE*/")?
            .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((state, raw_digest)) = old else { return Ok(None) };
        let allowed = MessageState::from_word(&state)
            .is_some_and(|from| from == message.state || from.may_become().contains(&message.state));
        if !allowed || raw_digest != message.raw_digest || state == MessageState::Processed.as_str() {
            return Ok(None);
        }
        self.tx
            .sql
            .prepare_cached("UPDATE messages SET state = ?2, reason = ?3, detail = ?4, message_id = ?5 WHERE id = ?1")?
            .execute(params![
                id.0,
                message.state.as_str(),
                message.reason.map(Reason::as_str),
                message.detail,
                message.message_id
            ])?;
        self.sessions(id.0, incoming).map(Some)
    }

    fn sessions(&self, message: i64, incoming: &Incoming) -> Result<Accepted, Fault> {
        let mut accepted = Accepted {
            message: MessageId(message),
            known: false,
            sessions: Vec::new(),
            deliveries: 0,
            alarms: Vec::new(),
            moved: Vec::new(),
        };
        let sender = incoming.message.sender.as_deref();
        for (place, (session, texts)) in incoming.message.sessions.iter().zip(&incoming.sessions).enumerate() {
            let followed = self.session((message, sender), place, session, texts)?;
            accepted.sessions.push((session.key.clone(), followed.standing));
            accepted.deliveries += followed.due;
            accepted.alarms.extend(followed.alarms);
            accepted.moved.extend(followed.moved.into_iter().map(|(destination, from, to)| Moved {
                session: session.key.clone(),
                destination,
                from,
                to,
            }));
        }
        if accepted.deliveries > 0 {
            self.tx.wake();
        }
        Ok(accepted)
    }

    fn session(
        &self,
        (message, sender): (i64, Option<&str>),
        place: usize,
        new: &NewSession,
        texts: &Texts,
    ) -> Result<Followed, Fault> {
        let pace = Pace::first(self.brake, self.now.as_millisecond(), sender);
        let updated_us = new.updated_at.map(Timestamp::as_microsecond);
        let known = self.find(new)?;
        let newest = known.as_ref().map(|k| Stamp { updated_us: k.updated_us, digest: &k.digest });
        let judgement = judge(newest, Stamp { updated_us, digest: &new.digest });
        let (session, version, standing, made) = match (known, judgement) {
            (None, _) => {
                let session = self.insert_session(new, updated_us)?;
                let legs = each_once(&new.legs);
                let version = NewVersion {
                    number: 1,
                    standing: Standing::First,
                    digest: &new.digest,
                    document: &texts.document,
                    legs: &legs,
                };
                let version = self.insert_version(session, message, new, updated_us, &version)?;
                (session, version, Standing::First, self.deliver(session, version, &legs, &pace, false)?)
            }
            (Some(known), Judgement::Same { forward }) => {
                if forward {
                    self.move_on(known.id, known.newest, updated_us)?;
                }
                (known.id, known.version, Standing::Duplicate, Made::default())
            }
            (Some(known), Judgement::Older) => match self.recorded(known.id, &new.digest)? {
                Some(version) => (known.id, version, Standing::Duplicate, Made::default()),
                None => {
                    let version = NewVersion {
                        number: self.next_number(known.id)?,
                        standing: Standing::Older,
                        digest: &new.digest,
                        // It is of no use any more, and nobody looks after it again.
                        document: if known.emptied { "" } else { &texts.document },
                        legs: &[],
                    };
                    let version = self.insert_version(known.id, message, new, updated_us, &version)?;
                    (known.id, version, Standing::Older, Made::default())
                }
            },
            (Some(known), Judgement::EqualAge) => {
                let merged = version::merge(&self.document(known.version)?, &new.document);
                let digest = version::digest(&merged);
                if digest == known.digest {
                    (known.id, known.version, Standing::Duplicate, Made::default())
                } else {
                    let text = text_of(&merged);
                    let legs = self.planner.legs(&new.key, &merged);
                    let content = (Standing::Supplement, digest.as_str(), text.as_str(), legs.as_slice());
                    let taken = self.take_over(message, new, updated_us, &known, content, pace)?;
                    (known.id, taken.0, Standing::Supplement, taken.1)
                }
            }
            (Some(known), Judgement::Newer | Judgement::First) => {
                let content = (Standing::Newer, new.digest.as_str(), texts.document.as_str(), new.legs.as_slice());
                let taken = self.take_over(message, new, updated_us, &known, content, pace)?;
                (known.id, taken.0, Standing::Newer, taken.1)
            }
        };
        self.tx
            .sql
            .prepare_cached(
                "INSERT INTO found (message, place, session, version, standing, evidence, warnings) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                message,
                place as i64,
                session,
                version,
                standing.as_str(),
                texts.evidence,
                texts.warnings
            ])?;
        Ok(Followed { standing, due: made.due, alarms: made.alarms, moved: made.moved })
    }

    /// A version that becomes the newest: what of the session was not sent yet is superseded, at every
    /// destination, also where the new one does not go: the newest version alone decides.
    fn take_over(
        &self,
        message: i64,
        new: &NewSession,
        updated_us: Option<i64>,
        known: &Known,
        (standing, digest, document, legs): (Standing, &str, &str, &[Leg]),
        pace: Pace<'_>,
    ) -> Result<(i64, Made), Fault> {
        let legs = each_once(legs);
        let number = self.next_number(known.id)?;
        let pace = pace.further(self.tx.sql, known.id, number, digest)?;
        let version = NewVersion { number, standing, digest, document, legs: &legs };
        let version = self.insert_version(known.id, message, new, updated_us, &version)?;
        self.move_on(known.id, number, updated_us)?;
        for unsent in Delivery::unsent_of(self.tx.sql, known.id)? {
            unsent.become_(self.tx.sql, Change::superseded(), self.now)?;
        }
        Ok((version, self.deliver(known.id, version, &legs, &pace, true)?))
    }

    /// The session, which stays as it is until the transaction ends.
    fn find(&self, new: &NewSession) -> Result<Option<Known>, Fault> {
        let key = &new.key;
        let session: Option<(i64, i64, Option<i64>, bool)> = self
            .tx
            .sql
            .prepare_cached(
                "SELECT id, newest, updated_us, content_removed_at IS NOT NULL FROM sessions WHERE instance = ?1 AND channel = ?2 AND session_id = ?3 \
                 /*pg FOR UPDATE*/",
            )?
            .query_row([key.instance.as_str(), key.channel.as_str(), key.id.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        let Some((id, newest, updated_us, emptied)) = session else { return Ok(None) };
        // Apart, because what was waited for may have added it.
        let (version, digest) = self
            .tx
            .sql
            .prepare_cached("SELECT id, digest FROM versions WHERE session = ?1 AND number = ?2")?
            .query_row([id, newest], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Some(Known { id, newest, updated_us, version, digest, emptied }))
    }

    fn insert_session(&self, new: &NewSession, updated_us: Option<i64>) -> Result<i64, Fault> {
        let key = &new.key;
        Ok(self
            .tx
            .sql
            .prepare_cached(
                "INSERT INTO sessions (instance, channel, session_id, newest, updated_us, created_at, changed_at) \
                 VALUES (?1, ?2, ?3, 1, ?4, ?5, ?5)",
            )?
            .insert(params![key.instance, key.channel.as_str(), key.id, updated_us, self.now.as_millisecond()])?)
    }

    fn insert_version(
        &self,
        session: i64,
        message: i64,
        new: &NewSession,
        updated_us: Option<i64>,
        version: &NewVersion<'_>,
    ) -> Result<i64, Fault> {
        Ok(self
            .tx
            .sql
            .prepare_cached(
                "INSERT INTO versions (session, number, updated_us, digest, found_digest, standing, message, legs, \
                 created_at, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .insert(params![
                session,
                version.number,
                updated_us,
                version.digest,
                new.digest,
                version.standing.as_str(),
                message,
                version.legs.len() as i64,
                self.now.as_millisecond(),
                version.document,
            ])?)
    }

    fn move_on(&self, session: i64, newest: i64, updated_us: Option<i64>) -> Result<(), Fault> {
        self.tx
            .sql
            .prepare_cached(
                "UPDATE sessions SET newest = ?2, updated_us = ?3, changed_at = ?4, \
                 content_removed_at = CASE WHEN newest = ?2 THEN content_removed_at END WHERE id = ?1",
            )?
            .execute(params![session, newest, updated_us, self.now.as_millisecond()])?;
        Ok(())
    }

    fn next_number(&self, session: i64) -> Result<i64, Fault> {
        Ok(self
            .tx
            .sql
            .prepare_cached("SELECT max(number) + 1 FROM versions WHERE session = ?1")?
            .query_row([session], |row| row.get(0))?)
    }

    /// The version that holds this content, whole or as what was merged into it.
    fn recorded(&self, session: i64, digest: &str) -> Result<Option<i64>, Fault> {
        Ok(self
            .tx
            .sql
            .prepare_cached(
                "SELECT id FROM versions WHERE session = ?1 AND (digest = ?2 OR found_digest = ?2) ORDER BY number LIMIT 1",
            )?
            .query_row(params![session, digest], |row| row.get(0))
            .optional()?)
    }

    fn document(&self, version: i64) -> Result<Value, Fault> {
        let text: String = self
            .tx
            .sql
            .prepare_cached("SELECT document FROM versions WHERE id = ?1")?
            .query_row([version], |row| row.get(0))?;
        if text.is_empty() {
            // Its content was removed: what comes now is all there is.
            return Ok(Value::Object(Map::new()));
        }
        serde_json::from_str(&text).map_err(|error| Fault::new(format!("the document of version {version}: {error}")))
    }

    /// Writes a delivery per leg; how many of them are to be sent, and what the brake says of them.
    /// `further`: the session has former versions.
    fn deliver(&self, session: i64, version: i64, legs: &[Leg], pace: &Pace<'_>, further: bool) -> Result<Made, Fault> {
        let now = self.now.as_millisecond();
        let mut made = Made::default();
        for leg in legs {
            let (mut led, mut moved_from) = (None, None);
            if further && leg.refused.is_none() {
                led = course::known(self.tx.sql, session, &leg.destination, leg.record.as_deref())?;
                moved_from = course::former(self.tx.sql, session, &leg.destination)?;
            }
            let record = led.as_ref().or(leg.record.as_ref());
            moved_from = moved_from.filter(|from| record.is_some_and(|record| record != from));
            let lane = lane(record.map(String::as_str), session);
            let may_go = leg.refused.is_none() && record.is_some();
            let parking = self.planner.parking(&leg.destination);
            let hold = if may_go { pace.hold(self.tx.sql, &leg.destination, &lane)? } else { None };
            let look_at = (leg.refused.is_none() && record.is_none() && parking.look_up).then_some(now);
            let (state, next_at, reason, detail) = match (&leg.refused, record) {
                (None, Some(_)) if let Some(hold) = &hold => {
                    (DeliveryState::Parked, Some(hold.until), Some(Reason::Braked), Some(hold.detail.as_str()))
                }
                (Some((reason, detail)), _) => (DeliveryState::Dead, None, Some(*reason), Some(detail.as_str())),
                (None, None) => (DeliveryState::Parked, Some(now + parking.for_ms), Some(Reason::NoRecordId), None),
                (None, Some(_)) => (DeliveryState::Waiting, Some(now), None, None),
            };
            let waits = state == DeliveryState::Waiting;
            let delivery = Entry {
                session,
                version,
                destination: &leg.destination,
                record: record.map(String::as_str),
                state,
                next_at,
                reason,
                detail,
                look_at,
                moved_from: moved_from.as_deref(),
            }
            .insert(self.tx.sql, self.now)?;
            if let Some(led) = &led {
                let how = "as a former version of the session";
                course::lead(self.tx.sql, delivery, leg.record.as_deref(), led, how, self.now)?;
            }
            if let (Some(from), Some(to)) = (moved_from, record) {
                made.moved.push((leg.destination.clone(), from, to.clone()));
            }
            made.due += usize::from(waits || look_at.is_some());
            let held = hold.is_some();
            if may_go && pace.count(self.tx.sql, delivery, &leg.destination, &lane, held)? {
                made.alarms.push(Alarm {
                    destination: leg.destination.clone(),
                    record: record.cloned().unwrap_or_default(),
                    detail: hold.map(|hold| hold.detail).unwrap_or_default(),
                });
            }
        }
        Ok(made)
    }

    fn position(&self, source: &str, key: &str, value: &str) -> Result<(), Fault> {
        self.tx
            .sql
            .prepare_cached(
                "INSERT INTO positions (source, key, value, changed_at) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (source, key) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at",
            )?
            .execute(params![source, key, value, self.now.as_millisecond()])?;
        Ok(())
    }
}
