//! The end of raw mail and of what is finished: what is older than the operator keeps it goes, in small batches, so
//! that nobody who writes waits for long. Only contents go: raw bytes, documents with their evidence, requests and
//! answers. The rows stay with their digests, times and states, so that the account adds up, the same mail is known
//! when it comes again, and an older version never passes for a new session.
//!
//! Never what is still needed: a message in quarantine, a session with a delivery that has not ended or is dead.

use jiff::Timestamp;

use super::Fault;
use super::MessageState;
use super::handle::Ledger;
use super::sql::{Sql, params};
use crate::ids::MessageId;

/// Messages looked at in one transaction.
const BATCH: usize = 256;
/// Bytes removed in one transaction; one larger mail goes alone. Each page is overwritten.
const BATCH_BYTES: i64 = 8 << 20;

/// Sessions or deliveries in one transaction.
const ROWS: usize = 128;

/// What is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Deliveries that ended and are not dead: their requests and answers.
    Attempts,
    /// Sessions all of whose deliveries ended, none of them dead: their documents and evidence, too.
    Sessions,
}

/// What one batch of finished work came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Sessions or deliveries whose contents were removed.
    pub removed: u64,
    /// Where the next batch goes on; `None`: there is no more.
    pub next: Option<i64>,
}

const ENDED_DELIVERIES: &str = "SELECT id FROM deliveries WHERE id > ?1 AND changed_at < ?2 \
    AND exchanges_removed_at IS NULL AND state IN ('delivered', 'unchanged', 'superseded', 'discarded') \
    ORDER BY id LIMIT ?3";

const ENDED_SESSIONS: &str = "SELECT s.id FROM sessions s WHERE s.id > ?1 AND s.changed_at < ?2 \
    AND s.content_removed_at IS NULL AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.session = s.id \
    AND (d.state IN ('waiting', 'sending', 'parked', 'dead') OR d.changed_at >= ?2)) ORDER BY s.id LIMIT ?3";

/// The statement that marks a row, if that may still be, and those that remove its contents.
type Removal = (&'static str, &'static [&'static str]);

const REMOVE_EXCHANGES: Removal = (
    "UPDATE deliveries SET exchanges_removed_at = ?2 WHERE id = ?1 AND exchanges_removed_at IS NULL \
     AND state IN ('delivered', 'unchanged', 'superseded', 'discarded')",
    &["UPDATE attempts SET exchanges = '[]', detail = '' WHERE delivery = ?1"],
);

const REMOVE_CONTENT: Removal = (
    "UPDATE sessions SET content_removed_at = ?2 WHERE id = ?1 AND content_removed_at IS NULL AND NOT EXISTS \
     (SELECT 1 FROM deliveries d WHERE d.session = ?1 AND d.state IN ('waiting', 'sending', 'parked', 'dead'))",
    &[
        "UPDATE versions SET document = '' WHERE session = ?1",
        "UPDATE found SET evidence = '{}', warnings = '[]' WHERE session = ?1",
        "UPDATE attempts SET exchanges = '[]', detail = '' WHERE delivery IN (SELECT id FROM deliveries WHERE session = ?1)",
        "UPDATE deliveries SET detail = NULL WHERE session = ?1",
    ],
);

/// What one batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Messages whose bytes were removed.
    pub messages: u64,
    /// Bytes removed.
    pub bytes: u64,
    /// Where the next batch goes on; `None`: there is nothing older.
    pub next: Option<MessageId>,
}

impl Ledger {
    /// Removes raw bytes of messages that were recorded before this moment: one batch of those behind `after`.
    pub async fn sweep_raws(&self, after: MessageId, before: Timestamp, now: Timestamp) -> Result<Swept, Fault> {
        self.write(move |tx| {
            let mut swept = Swept { messages: 0, bytes: 0, next: None };
            let mut statement = tx.sql.prepare_cached(
                "SELECT r.message, m.state, m.recorded_at, length(r.bytes) FROM raws r JOIN messages m ON m.id = r.message \
                 WHERE r.message > ?1 ORDER BY r.message LIMIT ?2",
            )?;
            let rows = statement.query_map(params![after.0, BATCH as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            let rows: Vec<(i64, String, i64, i64)> = rows.collect::<Result<_, _>>()?;
            let (mut last, mut bytes) = (None, 0);
            let whole = rows.len() == BATCH;
            for (id, state, recorded_at, length) in rows {
                if recorded_at >= before.as_millisecond() {
                    return Ok(swept);
                }
                if bytes > 0 && bytes + length > BATCH_BYTES {
                    swept.next = last;
                    return Ok(swept);
                }
                last = Some(MessageId(id));
                if state == MessageState::Quarantined.as_str() {
                    continue;
                }
                remove_raw(tx.sql, id, "retention", now)?;
                bytes += length;
                swept.messages += 1;
                swept.bytes += length.unsigned_abs();
            }
            swept.next = last.filter(|_| whole);
            Ok(swept)
        })
        .await
    }

    /// Removes contents of what was finished before this moment: one batch of those with a number above `after`.
    pub async fn sweep_finished(
        &self,
        what: Done,
        after: i64,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<Batch, Fault> {
        let (found, remove) = match what {
            Done::Attempts => (ENDED_DELIVERIES, REMOVE_EXCHANGES),
            Done::Sessions => (ENDED_SESSIONS, REMOVE_CONTENT),
        };
        // Found outside of the writing thread: most of them are looked at in vain.
        let ids: Vec<i64> = self
            .read(move |sql| {
                let mut statement = sql.prepare_cached(found)?;
                let rows =
                    statement.query_map(params![after, before.as_millisecond(), ROWS as i64], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await?;
        let next = ids.last().copied().filter(|_| ids.len() == ROWS);
        if ids.is_empty() {
            return Ok(Batch { removed: 0, next });
        }
        let removed = self
            .write(move |tx| {
                let mut removed = 0;
                for id in &ids {
                    // Something may have begun of it since.
                    let (mark, contents) = remove;
                    let marked = tx.sql.prepare_cached(mark)?.execute(params![id, now.as_millisecond()])?;
                    if marked == 0 {
                        continue;
                    }
                    removed += 1;
                    for statement in contents {
                        tx.sql.prepare_cached(statement)?.execute([id])?;
                    }
                }
                Ok(removed)
            })
            .await?;
        Ok(Batch { removed, next })
    }

    /// Forgets what the brake counted before this moment.
    pub async fn sweep_repeats(&self, before: Timestamp) -> Result<usize, Fault> {
        self.write(move |tx| {
            Ok(tx.sql.prepare_cached("DELETE FROM repeats WHERE at < ?1")?.execute([before.as_millisecond()])?)
        })
        .await
    }
}

/// Removes the raw bytes of a message and says so in its row.
pub(super) fn remove_raw(sql: &Sql, message: i64, why: &str, now: Timestamp) -> Result<(), Fault> {
    sql.prepare_cached("DELETE FROM raws WHERE message = ?1")?.execute([message])?;
    sql.prepare_cached("UPDATE messages SET raw_removed = ?2, raw_removed_at = ?3 WHERE id = ?1")?.execute(params![
        message,
        why,
        now.as_millisecond()
    ])?;
    Ok(())
}
