//! Leases due deliveries to workers: in order within a record and one at a time, in turns between
//! destinations and between new work and retries, none of a destination that is paused. What a dead
//! worker left is taken back as uncertain.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::delivery::{Change, Delivery, moment};
use super::handle::Ledger;
use super::replay::applied_to;
use super::sql::{self, OptionalExtension as _, Row, Sql, params};
use super::{Claimed, DeliveryState, Fault, grace, progress};
use crate::connector::Progress;
use crate::ids::{DeliveryId, VersionId};
use crate::outcome::{Outcome, Reason};
use crate::session::{Channel, SessionKey};

/// Leases that ended while the database was away are left alone for so long.
const REUNION: Duration = Duration::from_secs(15);

/// Due heads of one destination: never tried.
const FRESH: &str = "SELECT id FROM deliveries WHERE state = 'waiting' AND head = 1 AND attempts = 0 \
                     AND destination = ?1 AND next_at <= ?2 ORDER BY next_at, id LIMIT ?3 /*pg FOR UPDATE SKIP LOCKED*/";
/// Due heads of one destination: tried before.
const AGAIN: &str = "SELECT id FROM deliveries WHERE state = 'waiting' AND head = 1 AND attempts > 0 \
                     AND destination = ?1 AND next_at <= ?2 ORDER BY next_at, id LIMIT ?3 /*pg FOR UPDATE SKIP LOCKED*/";
/// When the next one of a destination is due.
const NEXT_FRESH: &str = "SELECT min(next_at) FROM deliveries WHERE state = 'waiting' AND head = 1 AND attempts = 0 \
                          AND destination = ?1";
const NEXT_AGAIN: &str = "SELECT min(next_at) FROM deliveries WHERE state = 'waiting' AND head = 1 AND attempts > 0 \
                          AND destination = ?1";
/// When the record of a parked one is next looked for.
const NEXT_LOOK: &str = "SELECT min(look_at) FROM deliveries WHERE state = 'parked' AND destination = ?1";
/// When the first parked one reaches its deadline.
const NEXT_DEADLINE: &str = "SELECT min(next_at) FROM deliveries WHERE state = 'parked'";

/// How long a delivery waits for one of its session that is being sent to another record, in milliseconds.
const ELSEWHERE_MS: i64 = 500;

impl Ledger {
    /// Has the records of parked deliveries looked for that have none: for destinations whose look-ups the
    /// operator has turned on since. Returns how many.
    pub async fn look_for(&self, destinations: Vec<String>, now: Timestamp) -> Result<usize, Fault> {
        self.write(move |tx| {
            let mut count = 0;
            for destination in &destinations {
                count += tx
                    .sql
                    .prepare_cached(
                        "UPDATE deliveries SET look_at = ?2 WHERE state = 'parked' AND destination = ?1 \
                         AND record IS NULL AND look_at IS NULL",
                    )?
                    .execute(params![destination, now.as_millisecond()])?;
            }
            Ok(count)
        })
        .await
    }

    /// Leases up to `limit` due deliveries, for each destination at most as many as it has room for. A
    /// delivery comes only after all earlier ones of its record at its destination have ended, and never
    /// while one of them is being sent. New work and retries take turns, and so do the destinations.
    ///
    /// Leases that ended before `now` are taken back first (see [`Ledger::recover`]), and parked
    /// deliveries whose deadline has passed become dead, or wait again if it was the brake that held them.
    pub async fn claim(
        &self,
        limit: usize,
        destinations: &[(String, usize)],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Claimed>, Fault> {
        let destinations = destinations.to_vec();
        let turn = self.turn();
        self.write(move |tx| {
            let at = now.as_millisecond();
            grace::end(tx.sql, at)?;
            // After the database was away, everybody has the time to say that he is there.
            if !tx.sql.is_renewed_within(REUNION) {
                take_back(tx.sql, at, now)?;
            }
            expire_parked(tx.sql, now)?;
            for (destination, room) in destinations.iter().filter(|(_, room)| *room > 0) {
                look_again(tx.sql, destination, (*room).min(limit), now)?;
            }
            let mut lines = Vec::with_capacity(destinations.len());
            for (destination, room) in &destinations {
                let room = (*room).min(limit);
                if room > 0 && !is_paused(tx.sql, destination, at)? {
                    let fresh = due(tx.sql, FRESH, destination, at, room)?;
                    let again = due(tx.sql, AGAIN, destination, at, room)?;
                    lines.push(in_turns(vec![fresh, again], turn, room));
                }
            }
            // Half the rate, so that a destination doesn't always meet the same side of its own turns.
            let until = at.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
            let mut claimed = Vec::new();
            for id in in_turns(lines, turn / 2, limit) {
                if !is_elsewhere(tx.sql, id, at)? {
                    claimed.push(take(tx.sql, id, at, until)?);
                }
            }
            Ok(claimed)
        })
        .await
    }

    /// Takes back everything that is being sent: for the start of the one service that owns the ledger
    /// ([`Ledger::own`]), when whoever held the leases is dead. Where several share the ledger, only those whose lease
    /// has ended. Each waits again, marked uncertain, with an
    /// attempt that says so. Returns how many there were.
    pub async fn recover(&self, now: Timestamp) -> Result<usize, Fault> {
        self.write(move |tx| {
            let until = if tx.sql.is_shared() { now.as_millisecond() } else { i64::MAX };
            let taken = take_back(tx.sql, until, now)?;
            if taken > 0 {
                tx.wake();
            }
            Ok(taken)
        })
        .await
    }

    /// Prolongs leases until this moment; gives the deliveries that are still held under them.
    pub async fn prolong(&self, leases: Vec<(DeliveryId, i64)>, until: Timestamp) -> Result<Vec<DeliveryId>, Fault> {
        const AT_ONCE: usize = 500;
        self.write(move |tx| {
            let mut held = Vec::with_capacity(leases.len());
            for leases in leases.chunks(AT_ONCE) {
                let pairs: Vec<String> = leases.iter().map(|(id, lease)| format!("({}, {lease})", id.0)).collect();
                let mut statement = tx.sql.prepare_cached(&format!(
                    "UPDATE deliveries SET leased_until = {} WHERE state = 'sending' AND (id, lease) IN (VALUES {}) \
                     RETURNING id",
                    until.as_millisecond(),
                    pairs.join(", ")
                ))?;
                for id in statement.query_map([], |row| row.get(0))? {
                    held.push(DeliveryId(id?));
                }
            }
            Ok(held)
        })
        .await
    }

    /// When there is next something to do for one of these destinations (name those with room): a delivery
    /// that becomes due, a pause that ends with work behind it, a parked delivery's deadline. May lie
    /// before `now`: then there is something at once. `None` if nothing will happen by itself.
    pub async fn next_due(&self, destinations: &[String], now: Timestamp) -> Result<Option<Timestamp>, Fault> {
        let destinations = destinations.to_vec();
        self.read(move |sql| {
            let mut next: Option<i64> = sql.prepare_cached(NEXT_DEADLINE)?.query_row([], |row| row.get(0))?;
            for destination in &destinations {
                let until = match pause_of(sql, destination)? {
                    Some(None) => continue,
                    Some(Some(until)) if until > now.as_millisecond() => until,
                    _ => i64::MIN,
                };
                for query in [NEXT_FRESH, NEXT_AGAIN, NEXT_LOOK] {
                    let due: Option<i64> = sql.prepare_cached(query)?.query_row([destination], |row| row.get(0))?;
                    next = next.into_iter().chain(due.map(|due| due.max(until))).min();
                }
            }
            Ok(next.map(moment))
        })
        .await
    }
}

/// Merges lines by turns, beginning with another one each turn.
fn in_turns(lines: Vec<Vec<i64>>, turn: usize, limit: usize) -> Vec<i64> {
    let count = lines.len().max(1);
    let mut lines: Vec<_> = lines.into_iter().map(Vec::into_iter).collect();
    lines.rotate_left(turn % count);
    let mut merged = Vec::new();
    while merged.len() < limit {
        let before = merged.len();
        merged.extend(lines.iter_mut().filter_map(Iterator::next));
        if merged.len() == before {
            break;
        }
    }
    merged.truncate(limit);
    merged
}

fn due(sql: &Sql, query: &str, destination: &str, now: i64, room: usize) -> Result<Vec<i64>, Fault> {
    let mut statement = sql.prepare_cached(query)?;
    let rows = statement.query_map(params![destination, now, room as i64], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// `None`: not paused. `Some(None)`: until a person resumes it.
fn pause_of(sql: &Sql, destination: &str) -> Result<Option<Option<i64>>, Fault> {
    Ok(sql
        .prepare_cached("SELECT paused_until FROM destinations WHERE name = ?1 AND paused_at IS NOT NULL")?
        .query_row([destination], |row| row.get(0))
        .optional()?)
}

fn is_paused(sql: &Sql, destination: &str, now: i64) -> Result<bool, Fault> {
    Ok(pause_of(sql, destination)?.is_some_and(|until| until.is_none_or(|until| until > now)))
}

/// Puts parked deliveries in line whose record is to be looked for again.
fn look_again(sql: &Sql, destination: &str, most: usize, now: Timestamp) -> Result<(), Fault> {
    let at = now.as_millisecond();
    if is_paused(sql, destination, at)? {
        return Ok(());
    }
    for delivery in Delivery::to_be_looked_for(sql, destination, at, most)? {
        let reason = delivery.reason.as_deref().and_then(Reason::from_word);
        let change = Change::new(DeliveryState::Waiting, reason, None);
        delivery.become_(sql, Change { next_at: Some(at), ..change }, now)?;
    }
    Ok(())
}

/// True if the session is being sent to another record of the destination: then the delivery waits a little, for
/// a session that moves is never written to both at once.
fn is_elsewhere(sql: &Sql, id: i64, now: i64) -> Result<bool, Fault> {
    if sql.is_shared() {
        // Not waited for: whoever holds the session may wait for the delivery.
        let free = sql
            .prepare_cached(
                "SELECT 1 FROM sessions s JOIN deliveries d ON d.session = s.id WHERE d.id = ?1 \
                 /*pg FOR UPDATE OF s SKIP LOCKED*/",
            )?
            .exists([id])?;
        if !free {
            return Ok(true);
        }
    }
    let is_sending = sql
        .prepare_cached(
            "SELECT 1 FROM deliveries d JOIN deliveries o ON o.session = d.session AND o.destination = d.destination \
             WHERE d.id = ?1 AND o.state = 'sending'",
        )?
        .exists([id])?;
    if is_sending {
        sql.prepare_cached("UPDATE deliveries SET next_at = ?2 WHERE id = ?1")?.execute([id, now + ELSEWHERE_MS])?;
    }
    Ok(is_sending)
}

fn take(sql: &Sql, id: i64, now: i64, until: i64) -> Result<Claimed, Fault> {
    sql.prepare_cached(
        "UPDATE deliveries SET state = 'sending', head = 0, next_at = NULL, lease = lease + 1, leased_at = ?2, \
         leased_until = ?3, changed_at = ?2 WHERE id = ?1 AND state = 'waiting'",
    )?
    .execute([id, now, until])?;
    let (mut claimed, session) = sql
        .prepare_cached(
            "SELECT d.session, d.version, d.destination, d.record, d.lease, d.attempts, d.uncertain, d.created_at, \
             d.since, v.number, v.digest, s.instance, s.channel, s.session_id, v.document \
             FROM deliveries d JOIN versions v ON v.id = d.version JOIN sessions s ON s.id = d.session \
             WHERE d.id = ?1",
        )?
        .query_row([id], |row| {
            let claimed = Claimed {
                delivery: DeliveryId(id),
                version: VersionId(row.get(1)?),
                version_number: row.get(9)?,
                key: session_key(row, 11)?,
                destination: row.get(2)?,
                record: row.get(3)?,
                document: row.get(14)?,
                digest: row.get(10)?,
                attempts: row.get(5)?,
                uncertain: row.get(6)?,
                created_at: moment(row.get(7)?),
                since: moment(row.get(8)?),
                applied: Vec::new(),
                progress: Progress::default(),
                marked: Vec::new(),
                lease: row.get(4)?,
            };
            Ok((claimed, row.get::<_, i64>(0)?))
        })?;
    // What was never leased before has nothing behind it.
    if claimed.lease > 1 {
        claimed.progress = progress::read(sql, id)?;
    }
    for applied in applied_to(sql, session, &claimed.destination)? {
        if applied.digest_of_content == claimed.digest && applied.record == claimed.record {
            claimed.marked.push(applied.step.clone());
        }
        if applied.in_doubt.is_some_and(|by| by != claimed.delivery) {
            claimed.progress.doubtful.push(applied.step.clone());
        }
        claimed.applied.push((applied.step, applied.digest));
    }
    Ok(claimed)
}

/// Three columns as a session's key.
pub(super) fn session_key(row: &Row<'_>, first: usize) -> sql::Result<SessionKey> {
    let word = row.get_ref(first + 1)?.as_str()?;
    let channel = Channel::from_word(word).ok_or_else(|| sql::Error::word(word))?;
    Ok(SessionKey { instance: row.get(first)?, channel, id: row.get(first + 2)? })
}

/// Ends leases that ran out: nobody knows whether their effect took place.
fn take_back(sql: &Sql, until: i64, now: Timestamp) -> Result<usize, Fault> {
    let lost = Delivery::leased_until(sql, until)?;
    for delivery in &lost {
        let detail = "the process stopped while it was under way: whether it took effect is not known";
        let started_at = delivery.leased_at.unwrap_or_else(|| now.as_millisecond());
        sql.prepare_cached(
            "INSERT INTO attempts (delivery, lease, started_at, duration_ms, outcome, reason, detail, exchanges) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            delivery.id,
            delivery.lease,
            started_at,
            (now.as_millisecond() - started_at).max(0),
            Outcome::Deferred.as_str(),
            Reason::Interrupted.as_str(),
            detail,
            Value::Array(Vec::new()).to_string(),
        ])?;
        // Nothing of the same record overtakes it, lest the older one lands on the newer; nor of the same session,
        // where that has moved to another record.
        grace::begin(sql, delivery, now.as_millisecond())?;
        progress::doubt(sql, delivery)?;
        let change = if delivery.newest {
            let change = Change::new(DeliveryState::Waiting, Some(Reason::Interrupted), Some(detail));
            Change { next_at: Some(now.as_millisecond()), ..change }
        } else {
            Change::superseded()
        };
        delivery.become_(sql, Change { attempts: 1, uncertain: Some(true), ..change }, now)?;
    }
    Ok(lost.len())
}

fn expire_parked(sql: &Sql, now: Timestamp) -> Result<(), Fault> {
    for delivery in Delivery::parked_until(sql, now.as_millisecond())? {
        if delivery.braked() {
            let detail = "it was held back by the brake";
            let change = Change::new(DeliveryState::Waiting, Some(Reason::Braked), Some(detail));
            delivery.become_(sql, Change { next_at: Some(now.as_millisecond()), ..change }, now)?;
            continue;
        }
        let reason = delivery.reason.as_deref().and_then(Reason::from_word).unwrap_or(Reason::NoRecordId);
        let detail = match reason {
            Reason::NoRecordId => "no record id came before the deadline",
            Reason::RecordAmbiguous => "more than one record fits, and nobody chose one before the deadline",
            _ => "the record was not there, or not ready, before the deadline",
        };
        delivery.become_(sql, Change::new(DeliveryState::Dead, Some(reason), Some(detail)), now)?;
        tracing::error!(
            delivery = delivery.id, destination = %delivery.destination, %reason, detail,
            "a parked delivery is over its deadline; `mail2crm deliveries release` gives it a record"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::ledger::schema;

    #[test]
    fn what_a_claim_asks_reads_partial_indexes_only() {
        let mut sql = Connection::open_in_memory().expect("a database");
        schema::migrate(&mut sql).expect("a schema");
        let plan = |query: &str| -> String {
            let mut statement = sql.prepare(&format!("EXPLAIN QUERY PLAN {query}")).expect("a statement");
            let mut rows = statement.raw_query();
            let mut lines = Vec::new();
            while let Some(row) = rows.next().expect("a row") {
                lines.push(row.get::<_, String>(3).expect("a text"));
            }
            lines.join("\n")
        };
        for (query, index) in [
            (FRESH, "deliveries_fresh"),
            (AGAIN, "deliveries_again"),
            (NEXT_FRESH, "deliveries_fresh"),
            (NEXT_AGAIN, "deliveries_again"),
            (NEXT_DEADLINE, "deliveries_parked"),
            (
                "SELECT id FROM deliveries WHERE state = 'waiting' AND destination = ?1 AND lane = ?2 ORDER BY id LIMIT 1",
                "deliveries_lane",
            ),
            (
                "SELECT 1 FROM deliveries WHERE state = 'sending' AND destination = ?1 AND lane = ?2",
                "deliveries_sending",
            ),
            ("SELECT id FROM deliveries d WHERE d.state = 'sending' AND d.leased_until <= ?1", "deliveries_leased"),
            ("SELECT id FROM deliveries d WHERE d.state = 'parked' AND d.next_at <= ?1", "deliveries_parked"),
            (NEXT_LOOK, "deliveries_look"),
            (
                "SELECT id FROM deliveries d WHERE d.state = 'parked' AND d.destination = ?1 AND d.look_at <= ?2 \
                 ORDER BY d.look_at, d.id LIMIT ?3",
                "deliveries_look",
            ),
        ] {
            let plan = plan(query);
            assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{query}\n{plan}");
        }
    }

    #[test]
    fn lines_take_turns_and_none_is_always_first() {
        let lines = || vec![vec![1, 2, 3], vec![], vec![10]];
        assert_eq!(in_turns(lines(), 0, 9), [1, 10, 2, 3]);
        assert_eq!(in_turns(lines(), 2, 1), [10]);
        assert_eq!(in_turns(Vec::new(), 5, 3), [0_i64; 0]);
    }
}
