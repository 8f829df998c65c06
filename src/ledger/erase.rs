//! Removes one session from everywhere in the ledger: versions, evidence, deliveries, attempts with their
//! requests and answers, and the raw mails that hold it. A receipt says what there was.
//!
//! One transaction on a connection of its own, as from another process. References are not followed row by row
//! (no index serves that alone): all that could refer to a removed row is removed with it, and the audit proves
//! it. A message stays as a row without content. A session that comes again later is a new one.
//!
//! The bytes leave the files too: `secure_delete` overwrites what is freed; as SQLite moves rows within and between
//! pages without it, contents are overwritten in place first, and a ledger that is not large is written anew;
//! the write-ahead log is carried over and cut. On PostgreSQL it is an ordinary transaction: the bytes go when its vacuum
//! comes, and with its write-ahead log.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::delivery::advance;
use super::handle::Ledger;
use super::retention::remove_raw;
use super::sql::{OptionalExtension, Sql, params};
use super::{Fault, grace, lock, progress};
use crate::ids::{DeliveryId, MessageId};
use crate::session::SessionKey;

/// What was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// The session.
    pub session: String,
    /// False if it was only looked at.
    pub erased: bool,
    /// Its versions.
    pub versions: u64,
    /// Times it was found in a message, with the evidence.
    pub found: u64,
    /// Its deliveries.
    pub deliveries: Vec<DeliveryId>,
    /// Those of them that were being sent: their effect may still come.
    pub under_way: Vec<DeliveryId>,
    /// Attempts, with requests and answers.
    pub attempts: u64,
    /// Messages whose raw bytes were removed.
    pub messages: Vec<MessageId>,
    /// Those of them that hold other sessions too, which stay.
    pub shared: Vec<MessageId>,
    /// Raw bytes.
    pub raw_bytes: u64,
    /// Whether the write-ahead log was cut. False while another program reads: then the bytes go with the next
    /// look at the log.
    pub overwritten: bool,
    /// Whether the file was written anew. False for a large ledger: a copy of a row that SQLite once moved may
    /// still lie in the unused part of a page, until `VACUUM`.
    pub rewritten: bool,
}

impl Ledger {
    /// Removes a session; `None` if there is no such one. With `dry_run` it only says what it would remove.
    pub async fn erase(&self, key: &SessionKey, dry_run: bool, now: Timestamp) -> Result<Option<Erased>, Fault> {
        let key = key.clone();
        let Some(path) = self.state().file().map(ToOwned::to_owned) else {
            return self.write(move |tx| (Eraser { sql: tx.sql, now }).session(&key, dry_run)).await;
        };
        let work = move || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let sql = Connection::open_with_flags(path, flags)?;
            sql.busy_timeout(Duration::from_secs(30))?;
            sql.pragma_update(None, "synchronous", "full")?;
            sql.pragma_update(None, "foreign_keys", false)?;
            sql.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
            let sql = Sql::Lite(sql);
            sql.begin()?;
            let Some(mut erased) = (Eraser { sql: &sql, now }).session(&key, dry_run)? else { return Ok(None) };
            if dry_run {
                return Ok(Some(erased));
            }
            sql.commit()?;
            let pages = |pragma: &str| sql.query_row(pragma, [], |row| row.get::<_, i64>(0));
            let size = pages("PRAGMA page_count")?.saturating_mul(pages("PRAGMA page_size")?);
            // The session is erased; if this can't be done now, the receipt says so.
            erased.rewritten = size <= QUICKLY_REWRITTEN && sql.execute_batch("VACUUM").is_ok();
            let busy: i64 = sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            erased.overwritten = busy == 0;
            Ok(Some(erased))
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Fault::new(error.to_string()))?
    }
}

/// Ledgers up to this size are written anew in the time that others wait for their turn.
const QUICKLY_REWRITTEN: i64 = 512 << 20;

/// What of a table is overwritten before its rows are removed: text or bytes of the same length, so that it
/// happens in place.
const CONTENTS: &[(&str, &str)] = &[
    ("versions", "document = printf('%.*c', length(CAST(document AS BLOB)), '0') WHERE session = ?1"),
    (
        "found",
        "evidence = printf('%.*c', length(CAST(evidence AS BLOB)), '0'), \
         warnings = printf('%.*c', length(CAST(warnings AS BLOB)), '0') WHERE session = ?1",
    ),
    (
        "attempts",
        "exchanges = printf('%.*c', length(CAST(exchanges AS BLOB)), '0'), \
         detail = printf('%.*c', length(CAST(detail AS BLOB)), '0') \
         WHERE delivery IN (SELECT id FROM deliveries WHERE session = ?1)",
    ),
    (
        "progress",
        "captures = printf('%.*c', length(CAST(captures AS BLOB)), '0'), \
         detail = printf('%.*c', length(CAST(detail AS BLOB)), '0') \
         WHERE delivery IN (SELECT id FROM deliveries WHERE session = ?1)",
    ),
    ("raws", "bytes = zeroblob(length(bytes)) WHERE message IN (SELECT message FROM found WHERE session = ?1)"),
];

struct Eraser<'a> {
    sql: &'a Sql,
    now: Timestamp,
}

impl Eraser<'_> {
    fn session(&self, key: &SessionKey, dry_run: bool) -> Result<Option<Erased>, Fault> {
        let id: Option<i64> = self
            .sql
            .prepare_cached(
                "SELECT id FROM sessions WHERE instance = ?1 AND channel = ?2 AND session_id = ?3 /*pg FOR UPDATE*/",
            )?
            .query_row(params![key.instance, key.channel.as_str(), key.id], |row| row.get(0))
            .optional()?;
        let Some(id) = id else { return Ok(None) };
        let messages = self.ids("SELECT DISTINCT message FROM found WHERE session = ?1 ORDER BY 1", id)?;
        let mut shared = Vec::new();
        let mut raw_bytes = 0;
        for message in &messages {
            if self.count("SELECT count(*) FROM found WHERE message = ?1 AND session <> ?2", &[*message, id])? > 0 {
                shared.push(*message);
            }
            raw_bytes +=
                self.count("SELECT coalesce(sum(length(bytes)), 0) FROM raws WHERE message = ?1", &[*message])?;
        }
        let deliveries = self.ids("SELECT id FROM deliveries WHERE session = ?1 ORDER BY id", id)?;
        let under_way =
            self.ids("SELECT id FROM deliveries WHERE session = ?1 AND state = 'sending' ORDER BY id", id)?;
        let mut attempts = 0;
        for delivery in &deliveries {
            attempts += self.count("SELECT count(*) FROM attempts WHERE delivery = ?1", &[*delivery])?;
        }
        let erased = Erased {
            session: key.to_string(),
            erased: !dry_run,
            versions: self.count("SELECT count(*) FROM versions WHERE session = ?1", &[id])?,
            found: self.count("SELECT count(*) FROM found WHERE session = ?1", &[id])?,
            deliveries: deliveries.iter().copied().map(DeliveryId).collect(),
            under_way: under_way.into_iter().map(DeliveryId).collect(),
            attempts,
            messages: messages.iter().copied().map(MessageId).collect(),
            shared: shared.iter().copied().map(MessageId).collect(),
            raw_bytes,
            overwritten: false,
            rewritten: false,
        };
        if !dry_run {
            self.remove(id, &deliveries)?;
            for message in &messages {
                self.strip(*message, shared.contains(message))?;
            }
            self.write_down(&erased)?;
        }
        Ok(Some(erased))
    }

    fn remove(&self, session: i64, deliveries: &[i64]) -> Result<(), Fault> {
        let mut lanes =
            self.sql.prepare_cached("SELECT DISTINCT destination, lane FROM deliveries WHERE session = ?1")?;
        let lanes: Vec<(String, String)> =
            lanes.query_map([session], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        for (destination, lane) in &lanes {
            lock::lane(self.sql, destination, lane)?;
        }
        for (table, content) in CONTENTS.iter().filter(|_| !self.sql.is_shared()) {
            self.sql.execute(&format!("UPDATE {table} SET {content}"), [session])?;
        }
        for delivery in deliveries {
            self.sql.prepare_cached("DELETE FROM attempts WHERE delivery = ?1")?.execute([delivery])?;
            self.sql.prepare_cached("DELETE FROM repeats WHERE delivery = ?1")?.execute([delivery])?;
            progress::forget(self.sql, *delivery)?;
            self.sql.prepare_cached("DELETE FROM moves WHERE delivery = ?1")?.execute([delivery])?;
        }
        for table in ["applied", "deliveries", "found", "versions"] {
            self.sql.execute(&format!("DELETE FROM {table} WHERE session = ?1"), [session])?;
        }
        self.sql.execute("DELETE FROM sessions WHERE id = ?1", [session])?;
        grace::end(self.sql, self.now.as_millisecond())?;
        // Those that stood behind it in line come forward.
        lanes.iter().try_for_each(|(destination, lane)| advance(self.sql, destination, lane))
    }

    /// A message keeps its row, its state and what else was found in it, and nothing of what it said. Its digest
    /// goes too, so that the same mail, if it comes again, is taken for a new one.
    fn strip(&self, message: i64, is_shared: bool) -> Result<(), Fault> {
        remove_raw(self.sql, message, "erased", self.now)?;
        self.sql
            .prepare_cached(
                "UPDATE messages SET raw_digest = 'erased-' || id, message_id = NULL, detail = NULL, note = NULL, \
                 input = CASE WHEN ?2 = 1 THEN input ELSE 'erased' END WHERE id = ?1",
            )?
            .execute(params![message, is_shared])?;
        // The places of the others have no hole.
        for (at, place) in
            self.ids("SELECT place FROM found WHERE message = ?1 ORDER BY place", message)?.iter().enumerate()
        {
            self.sql
                .prepare_cached("UPDATE found SET place = ?3 WHERE message = ?1 AND place = ?2")?
                .execute([message, *place, at as i64])?;
        }
        Ok(())
    }

    fn write_down(&self, erased: &Erased) -> Result<(), Fault> {
        self.sql.execute(
            "INSERT INTO erasures (at, versions, deliveries, attempts, messages) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                self.now.as_millisecond(),
                erased.versions as i64,
                erased.deliveries.len() as i64,
                erased.attempts as i64,
                erased.messages.len() as i64,
            ],
        )?;
        Ok(())
    }

    fn ids(&self, query: &str, of: i64) -> Result<Vec<i64>, Fault> {
        let mut statement = self.sql.prepare_cached(query)?;
        let rows = statement.query_map([of], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn count(&self, query: &str, of: &[i64]) -> Result<u64, Fault> {
        let count = self.sql.prepare_cached(query)?.query_row(of, |row| row.get::<_, i64>(0));
        Ok(count?.unsigned_abs())
    }
}
