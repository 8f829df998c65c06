//! What is still to be done, in numbers, for those who ask whether the service works; and a small write that shows
//! whether the ledger takes any. Reads indexes over what is not finished: its cost is that of the backlog.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::delivery::moment;
use super::handle::Ledger;
use super::sql::{Sql, params};
use super::{DeliveryState, Fault};

/// What is not finished.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Backlog {
    /// Deliveries, by destination.
    pub destinations: BTreeMap<String, Undelivered>,
    /// Messages that wait for a person.
    pub quarantined: u64,
}

/// Deliveries to one destination that are not finished.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Undelivered {
    /// In line.
    pub waiting: u64,
    /// Under way.
    pub sending: u64,
    /// Without a record id, or held back by the brake.
    pub parked: u64,
    /// Refused for good: a person's work.
    pub dead: u64,
    /// When the oldest one that is in line was made.
    pub oldest: Option<Timestamp>,
}

/// Where the last beat is kept: a position of no source.
const BEAT: [&str; 2] = ["~health", "beat"];

impl Ledger {
    /// Writes a few bytes durably: the proof that the ledger takes what sources hand over.
    pub async fn beat(&self, now: Timestamp) -> Result<(), Fault> {
        self.write(move |tx| {
            tx.sql
                .prepare_cached(
                    "INSERT INTO positions (source, key, value, changed_at) VALUES (?1, ?2, '', ?3) \
                     ON CONFLICT (source, key) DO UPDATE SET changed_at = excluded.changed_at",
                )?
                .execute(params![BEAT[0], BEAT[1], now.as_millisecond()])?;
            Ok(())
        })
        .await
    }

    /// What is not finished.
    pub async fn backlog(&self) -> Result<Backlog, Fault> {
        self.read(|sql| {
            let quarantined = sql
                .prepare_cached("SELECT count(*) FROM messages WHERE state = 'quarantined'")?
                .query_row([], |row| row.get::<_, i64>(0))?
                .unsigned_abs();
            let mut backlog = Backlog { quarantined, ..Backlog::default() };
            for (state, query) in [
                (DeliveryState::Waiting, WAITING),
                (DeliveryState::Sending, SENDING),
                (DeliveryState::Parked, PARKED),
                (DeliveryState::Dead, DEAD),
            ] {
                for (destination, count, first) in counted(sql, query)? {
                    let of = backlog.destinations.entry(destination).or_default();
                    match state {
                        DeliveryState::Sending => of.sending = count,
                        DeliveryState::Parked => of.parked = count,
                        DeliveryState::Dead => of.dead = count,
                        _ => {
                            of.waiting = count;
                            of.oldest = Some(made_at(sql, first)?);
                        }
                    }
                }
            }
            Ok(backlog)
        })
        .await
    }
}

const WAITING: &str =
    "SELECT destination, count(*), min(id) FROM deliveries WHERE state = 'waiting' GROUP BY destination";
const SENDING: &str =
    "SELECT destination, count(*), min(id) FROM deliveries WHERE state = 'sending' GROUP BY destination";
const PARKED: &str =
    "SELECT destination, count(*), min(id) FROM deliveries WHERE state = 'parked' GROUP BY destination";
const DEAD: &str = "SELECT destination, count(*), min(id) FROM deliveries WHERE state = 'dead' GROUP BY destination";

fn counted(sql: &Sql, query: &str) -> Result<Vec<(String, u64, i64)>, Fault> {
    let mut statement = sql.prepare_cached(query)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs(), row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn made_at(sql: &Sql, delivery: i64) -> Result<Timestamp, Fault> {
    let at = sql
        .prepare_cached("SELECT created_at FROM deliveries WHERE id = ?1")?
        .query_row([delivery], |row| row.get(0))?;
    Ok(moment(at))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::ledger::schema;

    #[test]
    fn what_is_asked_reads_indexes_over_what_is_not_finished() {
        let mut sql = Connection::open_in_memory().expect("a database");
        schema::migrate(&mut sql).expect("a schema");
        for query in [WAITING, SENDING, PARKED, DEAD] {
            let mut statement = sql.prepare(&format!("EXPLAIN QUERY PLAN {query}")).expect("a statement");
            let lines = statement.query_map([], |row| row.get::<_, String>(3)).expect("rows");
            let plan = lines.collect::<Result<Vec<_>, _>>().expect("lines").join("\n");
            assert!(plan.contains("INDEX deliveries_"), "{query}\n{plan}");
        }
    }
}
