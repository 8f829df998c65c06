//! The end of raw mail: what is older than the operator keeps it goes, in small batches, so that nobody who
//! writes waits for long. Sessions, deliveries and the message's row stay, and say that the bytes are gone.
//!
//! Never what a person has still to decide on: a message in quarantine keeps its bytes.

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
