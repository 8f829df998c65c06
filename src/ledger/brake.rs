//! The brake behind all rules against loops: new versions of sessions → those that are held back, until when.
//!
//! Distinct contents are the platform's work and pass. What it counts are deliveries that bring back a content
//! which the same session had before (two programs that answer each other), per record and per sender, and
//! versions of one session without end. It is asked when a delivery is made, in the accepting transaction: there
//! the sender is known, and a claim stays as cheap as it was. What is held back is `parked` with the reason
//! `braked`, so it never holds up the others of its record, and goes on by itself when the window has passed.

use super::Fault;
use super::sql::{OptionalExtension, Sql, params};

/// How much is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake {
    /// The window that is looked at, in milliseconds.
    pub window_ms: i64,
    /// Repeated contents that one record of a destination takes within the window.
    pub repeats_per_record: u32,
    /// Repeated contents that the mails of one sender may cause within the window.
    pub repeats_per_sender: u32,
    /// Versions of one session within the window, repeated or not.
    pub versions_per_session: u32,
}

impl Default for Brake {
    fn default() -> Self {
        Self { window_ms: 120 * 60_000, repeats_per_record: 20, repeats_per_sender: 200, versions_per_session: 200 }
    }
}

/// The brake began to hold back deliveries of a record. Told once per window and record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Where they go.
    pub destination: String,
    /// The record.
    pub record: String,
    /// What there was too much of.
    pub detail: String,
}

/// Why a delivery is held back, and until when.
pub(super) struct Hold {
    pub(super) until: i64,
    pub(super) detail: String,
}

/// What the brake looks at in a new version of a session.
pub(super) struct Pace<'a> {
    brake: Brake,
    now: i64,
    sender: Option<&'a str>,
    /// The session had this content before.
    repeats: bool,
    /// The session has too many versions, until then.
    crowded: Option<i64>,
}

const OF_RECORD: &str = "SELECT at FROM repeats WHERE destination = ?1 AND lane = ?2 AND held = 0 AND at > ?3 ORDER BY at DESC LIMIT 1 OFFSET ?4";
const OF_SENDER: &str =
    "SELECT at FROM repeats WHERE sender = ?1 AND held = 0 AND at > ?2 ORDER BY at DESC LIMIT 1 OFFSET ?3";
const ALARMED: &str = "SELECT 1 FROM repeats WHERE destination = ?1 AND lane = ?2 AND held = 1 AND at > ?3";
const HAD_BEFORE: &str = "SELECT EXISTS (SELECT 1 FROM versions WHERE session = ?1 AND number = 1 AND digest = ?2 AND note_only = 0) \
     OR EXISTS (SELECT 1 FROM versions INDEXED BY versions_content WHERE session = ?1 AND digest = ?2 AND number > 1 AND note_only = 0)";

impl<'a> Pace<'a> {
    /// Of a first version: it repeats nothing.
    pub(super) fn first(brake: Brake, now: i64, sender: Option<&'a str>) -> Self {
        Self { brake, now, sender, repeats: false, crowded: None }
    }

    /// Of a further version, before it is written: `number` will be its.
    pub(super) fn further(self, sql: &Sql, session: i64, number: i64, digest: &str) -> Result<Self, Fault> {
        let repeats = sql.prepare_cached(HAD_BEFORE)?.query_row(params![session, digest], |row| row.get(0))?;
        let made: Option<i64> = sql
            .prepare_cached("SELECT created_at FROM versions WHERE session = ?1 AND number = ?2")?
            .query_row([session, number - i64::from(self.brake.versions_per_session)], |row| row.get(0))
            .optional()?;
        let crowded = made.map(|made| made + self.brake.window_ms).filter(|until| *until > self.now);
        Ok(Self { repeats, crowded, ..self })
    }

    /// Whether a delivery of it to this lane has to wait.
    pub(super) fn hold(&self, sql: &Sql, destination: &str, lane: &str) -> Result<Option<Hold>, Fault> {
        let (brake, since) = (&self.brake, self.now - self.brake.window_ms);
        let minutes = brake.window_ms / 60_000;
        let mut holds = Vec::new();
        if let Some(until) = self.crowded {
            let most = brake.versions_per_session;
            holds.push((until, format!("more than {most} versions of one session came in {minutes} minutes")));
        }
        if self.repeats {
            let nth = i64::from(brake.repeats_per_record) - 1;
            let at: Option<i64> = sql
                .prepare_cached(OF_RECORD)?
                .query_row(params![destination, lane, since, nth], |row| row.get(0))
                .optional()?;
            let most = brake.repeats_per_record;
            let why = || format!("more than {most} contents came back to this record in {minutes} minutes");
            holds.extend(at.map(|at| (at + brake.window_ms, why())));
        }
        if let (true, Some(sender)) = (self.repeats, self.sender) {
            let nth = i64::from(brake.repeats_per_sender) - 1;
            let at: Option<i64> =
                sql.prepare_cached(OF_SENDER)?.query_row(params![sender, since, nth], |row| row.get(0)).optional()?;
            let most = brake.repeats_per_sender;
            let why = || format!("more than {most} contents came back from one sender in {minutes} minutes");
            holds.extend(at.map(|at| (at + brake.window_ms, why())));
        }
        let longest = holds.into_iter().max_by_key(|(until, _)| *until);
        Ok(longest.map(|(until, why)| Hold { until, detail: format!("{why}: is something answering itself?") }))
    }

    /// Counts a delivery that was made. True if it is the first that is held in this lane and window.
    pub(super) fn count(
        &self,
        sql: &Sql,
        delivery: i64,
        destination: &str,
        lane: &str,
        held: bool,
    ) -> Result<bool, Fault> {
        if !held && !self.repeats {
            return Ok(false);
        }
        let since = self.now - self.brake.window_ms;
        let alarms = held && !sql.prepare_cached(ALARMED)?.exists(params![destination, lane, since])?;
        sql.prepare_cached(
            "INSERT INTO repeats (destination, lane, held, at, delivery, sender) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![destination, lane, held, self.now, delivery, self.sender])?;
        Ok(alarms)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::ledger::schema;

    #[test]
    fn what_the_brake_asks_does_not_grow_with_history() {
        let mut sql = Connection::open_in_memory().expect("a database");
        schema::migrate(&mut sql).expect("a schema");
        for (query, index) in [
            (OF_RECORD, "PRIMARY KEY"),
            (OF_SENDER, "repeats_sender"),
            (ALARMED, "PRIMARY KEY"),
            (HAD_BEFORE, "versions_content"),
        ] {
            let mut statement = sql.prepare(&format!("EXPLAIN QUERY PLAN {query}")).expect("a statement");
            let mut rows = statement.raw_query();
            let mut plan = String::new();
            while let Some(row) = rows.next().expect("a row") {
                plan = plan + &row.get::<_, String>(3).expect("a text") + "\n";
            }
            let scans = plan.lines().any(|line| line.starts_with("SCAN") && !line.contains("CONSTANT"));
            assert!(plan.contains(index) && !plan.contains("TEMP B-TREE") && !scans, "{query}\n{plan}");
        }
    }
}
