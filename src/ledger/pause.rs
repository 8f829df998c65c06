//! Destinations that are held: by the dispatcher when they are down, wrong or at their limit, or by a person.
//! A pause burns no delivery; what waits goes on waiting. The dispatcher's holds have an end and never touch a
//! person's, which has none.

use jiff::Timestamp;
use serde::Serialize;

use super::Fault;
use super::delivery::moment;
use super::handle::Ledger;
use super::sql::params;
use super::writer::Transaction;
use crate::outcome::Reason;

/// A destination that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// Its name.
    pub destination: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when it is left alone; then one may look again. `None`: until a person resumes it.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Reason,
    /// A sentence for people.
    pub detail: String,
    /// Probes that failed, and the first failure; 0 by hand.
    pub times: u32,
}

impl Paused {
    /// True if a person holds it.
    pub fn by_hand(&self) -> bool {
        self.until.is_none()
    }
}

impl Ledger {
    /// Holds a destination until a person resumes it. What held it before is replaced, but not its beginning.
    pub async fn pause(&self, destination: &str, detail: &str, now: Timestamp) -> Result<(), Fault> {
        let (destination, detail) = (destination.to_owned(), detail.to_owned());
        self.hold(Paused { destination, since: now, until: None, reason: Reason::Paused, detail, times: 0 }).await
    }

    /// Holds a destination for the dispatcher. A person's pause stays as it is; an earlier hold is replaced, but
    /// not its beginning.
    pub async fn hold(&self, hold: Paused) -> Result<(), Fault> {
        self.write(move |tx| write(tx, &hold)).await
    }

    /// Ends a hold of the dispatcher. False if there was none; a person's pause stays.
    pub async fn release_hold(&self, destination: &str) -> Result<bool, Fault> {
        let destination = destination.to_owned();
        self.write(move |tx| {
            let changed = tx
                .sql
                .prepare_cached(
                    "UPDATE destinations SET paused_at = NULL, paused_until = NULL, paused_reason = NULL, \
                     paused_detail = NULL, paused_times = 0 WHERE name = ?1 AND paused_until IS NOT NULL",
                )?
                .execute([&destination])?;
            Ok(changed > 0)
        })
        .await
    }

    /// Lets a destination go on, whoever held it. False if it was not held.
    pub async fn resume(&self, destination: &str) -> Result<bool, Fault> {
        let destination = destination.to_owned();
        self.write(move |tx| {
            let changed = tx
                .sql
                .prepare_cached(
                    "UPDATE destinations SET paused_at = NULL, paused_until = NULL, paused_reason = NULL, \
                     paused_detail = NULL, paused_times = 0 WHERE name = ?1 AND paused_at IS NOT NULL",
                )?
                .execute([&destination])?;
            if changed > 0 {
                tx.wake();
            }
            Ok(changed > 0)
        })
        .await
    }

    /// The destinations that are held, by name; also those whose `until` has passed without a `resume`.
    pub async fn paused(&self) -> Result<Vec<Paused>, Fault> {
        self.read(|sql| {
            let mut statement = sql.prepare_cached(
                "SELECT name, paused_at, paused_until, paused_reason, paused_detail, paused_times FROM destinations \
                 WHERE paused_at IS NOT NULL ORDER BY name",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(Paused {
                    destination: row.get(0)?,
                    since: moment(row.get(1)?),
                    until: row.get::<_, Option<i64>>(2)?.map(moment),
                    reason: Reason::from_word(row.get_ref(3)?.as_str()?).unwrap_or(Reason::Paused),
                    detail: row.get(4)?,
                    times: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn write(tx: &Transaction<'_>, hold: &Paused) -> Result<(), Fault> {
    tx.sql
        .prepare_cached(
            "INSERT INTO destinations (name, paused_at, paused_until, paused_reason, paused_detail, paused_times) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO UPDATE SET \
             paused_at = coalesce(destinations.paused_at, excluded.paused_at), paused_until = excluded.paused_until, \
             paused_reason = excluded.paused_reason, paused_detail = excluded.paused_detail, \
             paused_times = excluded.paused_times WHERE destinations.paused_at IS NULL \
             OR destinations.paused_until IS NOT NULL OR excluded.paused_until IS NULL",
        )?
        .execute(params![
            hold.destination,
            hold.since.as_millisecond(),
            hold.until.map(Timestamp::as_millisecond),
            hold.reason.as_str(),
            hold.detail,
            hold.times,
        ])?;
    Ok(())
}
