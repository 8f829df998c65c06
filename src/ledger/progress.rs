//! What a delivery has done before its end: steps with their digests and captures, and the step `once` that is
//! under way. A restart goes on from it. Kept while the delivery may be tried again, and gone with its end,
//! since captures can be personal data. Never written under a lease that was taken back.

use serde_json::Value;

use super::delivery::{Delivery, moment};
use super::handle::Ledger;
use super::sql::{Sql, params};
use super::{DeliveryState, Fault};
use crate::connector::{Progress, StepDone};
use crate::ids::DeliveryId;
use crate::outcome::Reason;

impl Ledger {
    /// Writes down that a request which must never be repeated is about to go out, with all that was done before
    /// it; returns after the commit. False: the lease is not the delivery's any more, and nothing may be sent.
    pub async fn begin_once(
        &self,
        delivery: DeliveryId,
        lease: i64,
        step: &str,
        digest: &str,
        done: Vec<StepDone>,
    ) -> Result<bool, Fault> {
        let (step, digest) = (step.to_owned(), digest.to_owned());
        self.write(move |tx| {
            let Some(delivery) = held(tx.sql, delivery, lease)? else { return Ok(false) };
            keep(tx.sql, &delivery, &done, None)?;
            tx.sql
                .prepare_cached(
                    "INSERT INTO progress (delivery, step, digest, applied) VALUES (?1, ?2, ?3, 1) \
                     ON CONFLICT (delivery, step) DO UPDATE SET digest = excluded.digest, done_at = NULL",
                )?
                .execute(params![delivery.id, step, digest])?;
            Ok(true)
        })
        .await
    }

    /// Hands over what a delivery has done so far, for the next commit; nobody waits for it, and a crash before
    /// may lose it. `urgent`: it is worth a commit of its own.
    pub fn note_progress(&self, delivery: DeliveryId, lease: i64, progress: Progress, urgent: bool) {
        self.hand_in(urgent, move |tx| match held(tx.sql, delivery, lease)? {
            Some(delivery) => keep(tx.sql, &delivery, &progress.done, progress.in_flight.as_deref()),
            None => Ok(()),
        });
    }
}

fn held(sql: &Sql, delivery: DeliveryId, lease: i64) -> Result<Option<Delivery>, Fault> {
    let delivery = Delivery::find(sql, delivery.0)?;
    Ok(delivery.filter(|d| d.state == DeliveryState::Sending && d.lease == lease))
}

/// Adds steps that are done. What was written down as under way is so no more, but for `in_flight`.
pub(super) fn keep(sql: &Sql, delivery: &Delivery, done: &[StepDone], in_flight: Option<&str>) -> Result<(), Fault> {
    for step in done {
        let (reason, detail) =
            step.partial.as_ref().map_or((None, None), |(r, d)| (Some(r.as_str()), Some(d.as_str())));
        sql.prepare_cached(
            "INSERT INTO progress (delivery, step, digest, done_at, applied, captures, reason, detail) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (delivery, step) DO UPDATE SET \
             digest = excluded.digest, done_at = excluded.done_at, applied = excluded.applied, \
             captures = excluded.captures, reason = excluded.reason, detail = excluded.detail",
        )?
        .execute(params![
            delivery.id,
            step.step,
            step.digest,
            step.at.as_millisecond(),
            step.applied,
            step.captures.as_ref().map(|c| Value::Object(c.clone()).to_string()),
            reason,
            detail,
        ])?;
        if step.applied {
            apply(sql, delivery, &step.step, &step.digest)?;
        }
    }
    sql.prepare_cached("DELETE FROM progress WHERE delivery = ?1 AND done_at IS NULL AND step <> ?2")?
        .execute(params![delivery.id, in_flight.unwrap_or("")])?;
    Ok(())
}

/// This request is now the last that was applied of its step.
pub(super) fn apply(sql: &Sql, delivery: &Delivery, step: &str, digest: &str) -> Result<(), Fault> {
    sql.prepare_cached(
        "INSERT INTO applied (session, destination, step, digest, delivery) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (session, destination, step) \
         DO UPDATE SET digest = excluded.digest, delivery = excluded.delivery, in_doubt = NULL",
    )?
    .execute(params![delivery.session, delivery.destination, step, digest, delivery.id])?;
    Ok(())
}

/// An attempt ended and nobody knows with what: it may have replaced what other deliveries applied.
pub(super) fn doubt(sql: &Sql, delivery: &Delivery) -> Result<(), Fault> {
    sql.prepare_cached(
        "UPDATE applied SET in_doubt = ?3 \
         WHERE session = ?1 AND destination = ?2 AND delivery <> ?3 AND in_doubt IS NULL",
    )?
    .execute(params![delivery.session, delivery.destination, delivery.id])?;
    Ok(())
}

/// It ended well, and so all that it could have changed is known.
pub(super) fn trust(sql: &Sql, delivery: &Delivery) -> Result<(), Fault> {
    sql.prepare_cached("UPDATE applied SET in_doubt = NULL WHERE session = ?1 AND destination = ?2 AND in_doubt = ?3")?
        .execute(params![delivery.session, delivery.destination, delivery.id])?;
    Ok(())
}

/// Its end: what was done is in `applied`, and the rest is of no use any more.
pub(super) fn forget(sql: &Sql, delivery: i64) -> Result<(), Fault> {
    sql.prepare_cached("DELETE FROM progress WHERE delivery = ?1")?.execute([delivery])?;
    Ok(())
}

/// A person decides that what was under way is to be sent again.
pub(super) fn forget_in_flight(sql: &Sql, delivery: i64) -> Result<(), Fault> {
    sql.prepare_cached("DELETE FROM progress WHERE delivery = ?1 AND done_at IS NULL")?.execute([delivery])?;
    Ok(())
}

/// What earlier attempts of a delivery did. `doubtful` is not of it alone, and left empty.
pub(super) fn read(sql: &Sql, delivery: i64) -> Result<Progress, Fault> {
    let mut statement = sql.prepare_cached(
        "SELECT step, digest, done_at, applied, captures, reason, detail FROM progress WHERE delivery = ?1 \
         ORDER BY done_at, step",
    )?;
    let mut progress = Progress::default();
    let rows = statement.query_map([delivery], |row| {
        let step: String = row.get(0)?;
        let Some(at) = row.get::<_, Option<i64>>(2)? else {
            progress.in_flight = Some(step);
            return Ok(());
        };
        let captures: Option<String> = row.get(4)?;
        let reason: Option<String> = row.get(5)?;
        let detail: Option<String> = row.get(6)?;
        progress.done.push(StepDone {
            step,
            digest: row.get(1)?,
            at: moment(at),
            applied: row.get(3)?,
            captures: captures.and_then(|text| serde_json::from_str(&text).ok()),
            partial: reason.and_then(|word| Reason::from_word(&word)).zip(detail),
        });
        Ok(())
    })?;
    rows.collect::<Result<(), _>>()?;
    Ok(progress)
}
