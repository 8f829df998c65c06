//! Stored sessions delivered anew: for each the version that counts and what was applied of it where, page by page;
//! and the deliveries of the same version that follow if today's templates say something else.
//!
//! Never another version than the one that counts, never a second one beside one that waits or is being sent, and
//! nothing where a person let the version go.

use jiff::Timestamp;

use super::claim::session_key;
use super::course;
use super::delivery::{Delivery, Entry, state_of};
use super::handle::Ledger;
use super::sql::{OptionalExtension, Sql, params};
use super::writer::Transaction;
use super::{DeliveryState, Fault, Leg, Parking};
use crate::ids::{DeliveryId, VersionId};
use crate::outcome::Reason;
use crate::session::SessionKey;

/// Sessions of a page; each comes with its document.
const PAGE: usize = 64;

/// Some sessions, oldest first.
#[derive(Debug)]
pub struct Page {
    /// They.
    pub sessions: Vec<Whole>,
    /// Where the next page begins; `None`: this was the last one.
    pub next: Option<i64>,
}

/// A session with the version that counts.
#[derive(Debug)]
pub struct Whole {
    /// Its identity.
    pub key: SessionKey,
    /// The version.
    pub version: VersionId,
    /// Its number within the session, from 1.
    pub number: u32,
    /// The digest of its document.
    pub digest: String,
    /// The document, as JSON text.
    pub document: String,
    /// Where a version of it went, by the names of the destinations.
    pub there: Vec<There>,
}

/// What was last delivered of a session to one destination.
#[derive(Debug)]
pub struct There {
    /// The destination's name.
    pub destination: String,
    /// The last delivery of the version that counts: its state and record. `None`: only older ones went there.
    pub last: Option<(DeliveryState, Option<String>)>,
    /// The last applied request of each step.
    pub applied: Vec<Applied>,
}

/// The last applied request of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The step.
    pub step: String,
    /// Of the request.
    pub digest: String,
    /// Of the document that it carried.
    pub digest_of_content: String,
    /// The record that it changed.
    pub record: Option<String>,
    /// The delivery of the session that may have replaced it since, if nobody knows the end of that.
    pub in_doubt: Option<DeliveryId>,
}

/// What is to be delivered anew.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The version, as it was found to count.
    pub version: VersionId,
    /// Where to.
    pub leg: Leg,
    /// Steps that are to be sent although their marker is in the record.
    pub again: Vec<String>,
}

/// What became of a [`Replay`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// A new delivery.
    Made(DeliveryId),
    /// The one that was there is in line again.
    BackInLine(DeliveryId),
    /// Nothing was changed, because of this.
    Left(&'static str),
}

impl Ledger {
    /// Sessions whose version that counts came in within this window, from `after` on (0 at first).
    pub async fn replayable(
        &self,
        after: i64,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Page, Fault> {
        self.read(move |sql| {
            let since = since.map_or(i64::MIN, Timestamp::as_millisecond);
            let until = until.map_or(i64::MAX, Timestamp::as_millisecond);
            // A session changes when its newest version comes: the first condition alone passes over most.
            let mut statement = sql.prepare_cached(
                "SELECT s.id, s.instance, s.channel, s.session_id, v.id, v.number, v.digest, v.document \
                 FROM sessions s JOIN versions v ON v.session = s.id AND v.number = s.newest \
                 WHERE s.id > ?1 AND s.content_removed_at IS NULL AND s.changed_at >= ?2 AND v.created_at >= ?2 AND v.created_at < ?3 \
                 ORDER BY s.id LIMIT ?4",
            )?;
            let rows = statement.query_map(params![after, since, until, PAGE as i64], |row| {
                let whole = Whole {
                    key: session_key(row, 1)?,
                    version: VersionId(row.get(4)?),
                    number: row.get(5)?,
                    digest: row.get(6)?,
                    document: row.get(7)?,
                    there: Vec::new(),
                };
                Ok((row.get::<_, i64>(0)?, whole))
            })?;
            let rows: Vec<(i64, Whole)> = rows.collect::<Result<_, _>>()?;
            let next = rows.last().map(|(id, _)| *id).filter(|_| rows.len() == PAGE);
            let mut sessions = Vec::with_capacity(rows.len());
            for (id, mut whole) in rows {
                whole.there = there(sql, id, whole.version)?;
                sessions.push(whole);
            }
            Ok(Page { sessions, next })
        })
        .await
    }

    /// The version that counts of one session.
    pub async fn whole(&self, key: &SessionKey) -> Result<Option<Whole>, Fault> {
        let key = key.clone();
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(
                "SELECT s.id, v.id, v.number, v.digest, v.document FROM sessions s \
                 JOIN versions v ON v.session = s.id AND v.number = s.newest \
                 WHERE s.instance = ?1 AND s.channel = ?2 AND s.session_id = ?3",
            )?;
            let found: Option<(i64, Whole)> = statement
                .query_row(params![key.instance, key.channel.as_str(), key.id], |row| {
                    let whole = Whole {
                        key: key.clone(),
                        version: VersionId(row.get(1)?),
                        number: row.get(2)?,
                        digest: row.get(3)?,
                        document: row.get(4)?,
                        there: Vec::new(),
                    };
                    Ok((row.get(0)?, whole))
                })
                .optional()?;
            let Some((id, mut whole)) = found else { return Ok(None) };
            whole.there = there(sql, id, whole.version)?;
            Ok(Some(whole))
        })
        .await
    }

    /// Puts these in line, all or nothing; one answer each, in order.
    pub async fn replay(&self, replays: Vec<Replay>, now: Timestamp) -> Result<Vec<Replayed>, Fault> {
        self.write(move |tx| replays.iter().map(|replay| one(tx, replay, now)).collect()).await
    }
}

fn there(sql: &Sql, session: i64, version: VersionId) -> Result<Vec<There>, Fault> {
    let mut statement = sql.prepare_cached(
        "SELECT destination, state, record, version FROM deliveries WHERE session = ?1 ORDER BY destination, id",
    )?;
    let rows = statement.query_map([session], |row| {
        Ok((row.get::<_, String>(0)?, state_of(row, 1)?, row.get::<_, Option<String>>(2)?, row.get::<_, i64>(3)?))
    })?;
    let mut all: Vec<There> = Vec::new();
    for row in rows {
        let (destination, state, record, of) = row?;
        if all.last().is_none_or(|last| last.destination != destination) {
            let applied = applied_to(sql, session, &destination)?;
            all.push(There { destination, last: None, applied });
        }
        if let Some(there) = all.last_mut().filter(|_| of == version.0) {
            there.last = Some((state, record));
        }
    }
    Ok(all)
}

/// The last applied request of each step, for a session at a destination.
pub(super) fn applied_to(sql: &Sql, session: i64, destination: &str) -> Result<Vec<Applied>, Fault> {
    let mut statement = sql.prepare_cached(
        "SELECT a.step, a.digest, v.digest, d.record, a.in_doubt FROM applied a JOIN deliveries d ON d.id = a.delivery \
         JOIN versions v ON v.id = d.version WHERE a.session = ?1 AND a.destination = ?2 ORDER BY a.step",
    )?;
    let rows = statement.query_map(params![session, destination], |row| {
        Ok(Applied {
            step: row.get(0)?,
            digest: row.get(1)?,
            digest_of_content: row.get(2)?,
            record: row.get(3)?,
            in_doubt: row.get::<_, Option<i64>>(4)?.map(DeliveryId),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn one(tx: &Transaction<'_>, replay: &Replay, now: Timestamp) -> Result<Replayed, Fault> {
    let (leg, sql) = (&replay.leg, tx.sql);
    let counts: Option<(i64, bool)> = sql
        .prepare_cached(
            "SELECT v.session, v.number = s.newest FROM versions v JOIN sessions s ON s.id = v.session WHERE v.id = ?1 \
             /*pg FOR UPDATE OF s*/",
        )?
        .query_row([replay.version.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let session = match counts {
        Some((session, true)) => session,
        Some(_) => return Ok(Replayed::Left("a newer version came in the meantime")),
        None => return Ok(Replayed::Left("it was erased in the meantime")),
    };
    let last: Option<i64> = sql
        .prepare_cached("SELECT max(id) FROM deliveries WHERE session = ?1 AND version = ?2 AND destination = ?3")?
        .query_row(params![session, replay.version.0, leg.destination], |row| row.get(0))?;
    let last = last.map(|id| Delivery::find(sql, id)).transpose()?.flatten();
    let record = leg.record.as_deref().filter(|_| leg.refused.is_none());
    // Where a version of it was led to another record, that one is meant.
    let led = course::known(sql, session, &leg.destination, record)?;
    let record = led.as_deref().or(record);
    let answer = match last {
        Some(mut last) => match last.state {
            DeliveryState::Waiting => return Ok(Replayed::Left("it waits, and is rendered when it is sent")),
            DeliveryState::Sending => return Ok(Replayed::Left("it is being sent")),
            DeliveryState::Discarded => return Ok(Replayed::Left("a person let it go")),
            DeliveryState::Parked if last.braked() => return Ok(Replayed::Left("the brake holds it back")),
            DeliveryState::Parked if record.is_none() => return Ok(Replayed::Left("it waits for a record id")),
            DeliveryState::Dead if record.is_none() => return Ok(Replayed::Left("it has no record that it can go to")),
            DeliveryState::Parked | DeliveryState::Dead => {
                last.put_in_line(sql, record.filter(|record| last.record.as_deref() != Some(record)), now)?;
                tx.wake();
                Replayed::BackInLine(DeliveryId(last.id))
            }
            DeliveryState::Delivered | DeliveryState::Unchanged | DeliveryState::Superseded => {
                make(tx, session, replay, now)?
            }
        },
        None => make(tx, session, replay, now)?,
    };
    for step in &replay.again {
        sql.prepare_cached("DELETE FROM applied WHERE session = ?1 AND destination = ?2 AND step = ?3")?
            .execute(params![session, leg.destination, step])?;
    }
    Ok(answer)
}

fn make(tx: &Transaction<'_>, session: i64, replay: &Replay, now: Timestamp) -> Result<Replayed, Fault> {
    let (leg, at) = (&replay.leg, now.as_millisecond());
    let (state, next_at, reason, detail) = match (&leg.refused, &leg.record) {
        (Some((reason, detail)), _) => (DeliveryState::Dead, None, Some(*reason), Some(detail.as_str())),
        (None, None) => (DeliveryState::Parked, Some(at + Parking::default().for_ms), Some(Reason::NoRecordId), None),
        (None, Some(_)) => (DeliveryState::Waiting, Some(at), None, None),
    };
    let (destination, record) = (leg.destination.as_str(), leg.record.as_deref());
    // The dispatcher knows for how long it waits, and whether there are look-ups.
    let look_at = (state == DeliveryState::Parked).then_some(at);
    let version = replay.version.0;
    let entry =
        Entry { session, version, destination, record, state, next_at, reason, detail, look_at, moved_from: None };
    let delivery = entry.insert(tx.sql, now)?;
    if matches!(state, DeliveryState::Waiting | DeliveryState::Parked) {
        tx.wake();
    }
    Ok(Replayed::Made(DeliveryId(delivery)))
}
