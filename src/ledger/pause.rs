//! Destinations that are held: by the dispatcher when their configuration is wrong, or by a person.
//! A pause burns no delivery; what waits goes on waiting.

use jiff::Timestamp;
use serde::Serialize;

use super::Fault;
use super::delivery::moment;
use super::handle::Ledger;
use super::sql::params;
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
}

impl Ledger {
    /// Holds a destination. A second pause replaces the first but keeps its beginning.
    pub async fn pause(
        &self,
        destination: &str,
        reason: Reason,
        detail: &str,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let (destination, detail) = (destination.to_owned(), detail.to_owned());
        self.write(move |tx| {
            tx.sql
                .prepare_cached(
                    "INSERT INTO destinations (name, paused_at, paused_until, paused_reason, paused_detail) \
                     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO UPDATE SET \
                     paused_at = coalesce(destinations.paused_at, excluded.paused_at), paused_until = excluded.paused_until, \
                     paused_reason = excluded.paused_reason, paused_detail = excluded.paused_detail",
                )?
                .execute(params![
                    destination,
                    now.as_millisecond(),
                    until.map(Timestamp::as_millisecond),
                    reason.as_str(),
                    detail
                ])?;
            Ok(())
        })
        .await
    }

    /// Lets a destination go on. False if it was not held.
    pub async fn resume(&self, destination: &str) -> Result<bool, Fault> {
        let destination = destination.to_owned();
        self.write(move |tx| {
            let changed = tx
                .sql
                .prepare_cached(
                    "UPDATE destinations SET paused_at = NULL, paused_until = NULL, paused_reason = NULL, \
                     paused_detail = NULL WHERE name = ?1 AND paused_at IS NOT NULL",
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
                "SELECT name, paused_at, paused_until, paused_reason, paused_detail FROM destinations \
                 WHERE paused_at IS NOT NULL ORDER BY name",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(Paused {
                    destination: row.get(0)?,
                    since: moment(row.get(1)?),
                    until: row.get::<_, Option<i64>>(2)?.map(moment),
                    reason: Reason::from_word(row.get_ref(3)?.as_str()?).unwrap_or(Reason::Paused),
                    detail: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}
