//! Which record a delivery goes to: the one that its session names, or the one that this led to before (a
//! look-up, a merge, a follow-up, a person).
//!
//! What a former version of the same session was led to holds for the later ones that name the same record (or
//! none as well). Never for another session: that asks anew.

use jiff::Timestamp;
use serde::Serialize;

use super::Fault;
use super::delivery::{Delivery, lane, moment};
use super::sql::{OptionalExtension, Sql, params};

/// How often a delivery may be led on. A chain that is longer leads nowhere.
const MOST_MOVES: i64 = 8;

/// One time that a delivery was led to another record.
#[derive(Debug, Clone, Serialize)]
pub struct MoveRow {
    /// When.
    pub at: Timestamp,
    /// The record before; `None`: there was none.
    pub from: Option<String>,
    /// The record since then.
    pub to: String,
    /// A sentence: which look-up, policy or person.
    pub how: String,
}

/// The record for a further version of a session that names `named`, if a former version was led on from there.
pub(super) fn known(sql: &Sql, session: i64, destination: &str, named: Option<&str>) -> Result<Option<String>, Fault> {
    let mut at = named.map(str::to_owned);
    let mut found = None;
    for _ in 0..MOST_MOVES {
        let next: Option<String> = sql
            .prepare_cached(
                "SELECT m.to_record FROM deliveries d JOIN moves m ON m.delivery = d.id \
                 WHERE d.session = ?1 AND d.destination = ?2 AND m.from_record IS NOT DISTINCT FROM ?3 \
                 ORDER BY d.id DESC, m.place DESC LIMIT 1",
            )?
            .query_row(params![session, destination, at], |row| row.get(0))
            .optional()?;
        let Some(next) = next.filter(|next| Some(next) != at.as_ref()) else { break };
        at = Some(next.clone());
        found = Some(next);
    }
    Ok(found)
}

/// The record that the session last went to at this destination, sent or being sent.
pub(super) fn former(sql: &Sql, session: i64, destination: &str) -> Result<Option<String>, Fault> {
    Ok(sql
        .prepare_cached(
            "SELECT record FROM deliveries WHERE session = ?1 AND destination = ?2 AND record IS NOT NULL \
             AND (state IN ('delivered', 'unchanged', 'sending') OR uncertain = 1) ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![session, destination], |row| row.get(0))
        .optional()?)
}

/// Writes down that a delivery was led on. False, and nothing written, if it was led too often or in a circle.
pub(super) fn lead(
    sql: &Sql,
    delivery: i64,
    from: Option<&str>,
    to: &str,
    how: &str,
    now: Timestamp,
) -> Result<bool, Fault> {
    let (count, been_there): (i64, bool) = sql
        .prepare_cached(
            "SELECT count(*), coalesce(max(CASE WHEN from_record = ?2 THEN 1 ELSE 0 END), 0) FROM moves \
             WHERE delivery = ?1",
        )?
        .query_row(params![delivery, to], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if count >= MOST_MOVES || been_there {
        return Ok(false);
    }
    sql.prepare_cached(
        "INSERT INTO moves (delivery, place, at, from_record, to_record, how) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![delivery, count, now.as_millisecond(), from, to, how])?;
    Ok(true)
}

/// The moves of a delivery, in order.
pub(super) fn moves(sql: &Sql, delivery: i64) -> Result<Vec<MoveRow>, Fault> {
    let mut statement =
        sql.prepare_cached("SELECT at, from_record, to_record, how FROM moves WHERE delivery = ?1 ORDER BY place")?;
    let rows = statement.query_map([delivery], |row| {
        Ok(MoveRow { at: moment(row.get(0)?), from: row.get(1)?, to: row.get(2)?, how: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Delivery {
    /// Gives it another record, and the lane of that; written with its next change of state.
    pub(super) fn take_record(&mut self, record: &str) {
        let left = std::mem::replace(&mut self.lane, lane(Some(record), self.session));
        self.record = Some(record.to_owned());
        self.left = Some(left);
    }
}
