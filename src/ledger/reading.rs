//! One reader per source, where several instances share a ledger: a lease on the source, with a number that fences.
//!
//! Who has the lease reads; the others ask again. A handle that was given with a lease accepts nothing, and moves no
//! position, once somebody else has it. On SQLite there is one service, and it always has it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Fault;
use super::handle::Ledger;
use super::sql::{OptionalExtension as _, Sql, params};

/// A lease on a source.
#[derive(Debug)]
pub(super) struct Reading {
    source: String,
    fence: i64,
}

impl Reading {
    /// A fault if somebody else took the source over; until this transaction ends, nobody does.
    pub(super) fn check(&self, sql: &Sql) -> Result<(), Fault> {
        let held = sql
            .prepare_cached("SELECT 1 FROM readers WHERE source = ?1 AND fence = ?2 /*pg FOR SHARE*/")?
            .exists(params![self.source, self.fence])?;
        if held { Ok(()) } else { Err(Fault::new(format!("another instance reads `{}` now", self.source))) }
    }
}

impl Ledger {
    /// The right to read this source, for so long: a handle that accepts under it. `None` if another instance
    /// has it.
    pub async fn take_source(&self, source: &str, time: Duration, now: Timestamp) -> Result<Option<Self>, Fault> {
        if !self.is_shared() {
            return Ok(Some(self.clone()));
        }
        let (name, holder) = (source.to_owned(), self.holder());
        let until = now.as_millisecond().saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let fence: Option<i64> = self
            .write(move |tx| {
                Ok(tx
                    .sql
                    .prepare_cached(
                        "INSERT INTO readers (source, holder, fence, until) VALUES (?1, ?2, 1, ?3) \
                         ON CONFLICT (source) DO UPDATE SET holder = excluded.holder, fence = readers.fence + 1, \
                         until = excluded.until WHERE readers.until <= ?4 OR readers.holder = excluded.holder \
                         RETURNING fence",
                    )?
                    .query_row(params![name, holder, until, now.as_millisecond()], |row| row.get(0))
                    .optional()?)
            })
            .await?;
        Ok(fence.map(|fence| self.under(Arc::new(Reading { source: source.to_owned(), fence }))))
    }

    /// Prolongs the right that this handle was given with. False if another instance has it now.
    pub async fn keep_source(&self, time: Duration, now: Timestamp) -> Result<bool, Fault> {
        let until = now.as_millisecond().saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        self.set_source(until).await
    }

    /// Gives the right back, so that another instance need not wait for its end.
    pub async fn leave_source(&self) -> Result<(), Fault> {
        self.set_source(0).await.map(drop)
    }

    async fn set_source(&self, until: i64) -> Result<bool, Fault> {
        let Some(reading) = self.reading() else { return Ok(true) };
        self.write(move |tx| {
            let changed = tx
                .sql
                .prepare_cached("UPDATE readers SET until = ?3 WHERE source = ?1 AND fence = ?2")?
                .execute(params![reading.source, reading.fence, until])?;
            Ok(changed > 0)
        })
        .await
    }
}
