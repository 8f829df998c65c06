//! Records how attempts ended: state, attempt, applied steps. A result under a lease that was taken back is
//! not written: somebody else has the delivery now.

use jiff::Timestamp;
use serde::Serialize;

use super::course;
use super::delivery::{Change, Delivery};
use super::handle::Ledger;
use super::sql::params;
use super::writer::Transaction;
use super::{DeliveryState, Fault, Finished, Next, grace, progress};
use crate::outcome::Reason;

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    /// Written: the delivery is now in this state. `superseded` where `waiting` or `parked` was asked and a
    /// newer version of the session has come in the meantime.
    As(DeliveryState),
    /// Not written: the lease is not the delivery's any more.
    Stale,
}

impl Ledger {
    /// Records the ends of attempts, all or nothing; one answer per result, in order.
    pub async fn record(&self, results: Vec<Finished>, now: Timestamp) -> Result<Vec<Recorded>, Fault> {
        let results: Vec<(Finished, String)> = results
            .into_iter()
            .map(|result| {
                let exchanges = result.attempt.as_ref().map(|attempt| attempt.exchanges.to_string());
                (result, exchanges.unwrap_or_default())
            })
            .collect();
        self.write(move |tx| results.iter().map(|(result, exchanges)| one(tx, result, exchanges, now)).collect()).await
    }
}

fn one(tx: &Transaction<'_>, result: &Finished, exchanges: &str, now: Timestamp) -> Result<Recorded, Fault> {
    let held = Delivery::find(tx.sql, result.delivery.0)?
        .filter(|delivery| delivery.state == DeliveryState::Sending && delivery.lease == result.lease);
    let Some(mut delivery) = held else { return Ok(Recorded::Stale) };
    for (step, digest) in &result.applied {
        progress::apply(tx.sql, &delivery, step, digest)?;
    }
    if let Some(attempt) = &result.attempt {
        tx.sql
            .prepare_cached(
                "INSERT INTO attempts (delivery, lease, started_at, duration_ms, outcome, reason, detail, exchanges) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                delivery.id,
                delivery.lease,
                attempt.started_at.as_millisecond(),
                attempt.duration_ms,
                attempt.outcome.as_str(),
                attempt.reason.as_str(),
                attempt.detail,
                exchanges,
            ])?;
    }
    if result.progress.is_some() {
        if result.uncertain {
            progress::doubt(tx.sql, &delivery)?;
            grace::begin(tx.sql, &delivery, now.as_millisecond())?;
        } else if matches!(result.next, Next::Done(_)) && delivery.lease > 1 {
            progress::trust(tx.sql, &delivery)?;
        }
    }
    let candidates = match &result.next {
        Next::Again { candidates, .. } if !candidates.is_empty() => serde_json::to_string(candidates).ok(),
        _ => None,
    };
    let mut change = Change { candidates: candidates.as_deref(), ..change_of(result, delivery.newest, now)? };
    if let (Next::Moved { record, how }, DeliveryState::Waiting) = (&result.next, change.to) {
        if course::lead(tx.sql, delivery.id, delivery.record.as_deref(), record, how, now)? {
            delivery.take_record(record);
        } else {
            let detail = "the CRM leads from one record to the next, too often or in a circle";
            let reason = change.reason;
            let (attempts, uncertain) = (change.attempts, change.uncertain);
            change = Change { attempts, uncertain, ..Change::new(DeliveryState::Dead, reason, Some(detail)) };
        }
    }
    if let Some(made) = result.progress.as_ref().filter(|_| !change.to.is_end()) {
        progress::keep(tx.sql, &delivery, &made.done, made.in_flight.as_deref())?;
    }
    delivery.become_(tx.sql, change, now)?;
    Ok(Recorded::As(change.to))
}

fn change_of(result: &Finished, newest: bool, now: Timestamp) -> Result<Change<'_>, Fault> {
    let detail = result.attempt.as_ref().map(|attempt| attempt.detail.as_str()).filter(|detail| !detail.is_empty());
    let reason = Some(result.reason);
    let (to, next_at) = match &result.next {
        Next::Done(state @ (DeliveryState::Delivered | DeliveryState::Unchanged)) => (*state, None),
        Next::Done(state) => return Err(Fault::new(format!("no delivery is done as `{}`", state.as_str()))),
        Next::Dead => (DeliveryState::Dead, None),
        Next::Parked(until) | Next::Again { until, .. } => (DeliveryState::Parked, Some(until.as_millisecond())),
        Next::Moved { .. } => (DeliveryState::Waiting, Some(now.as_millisecond())),
        Next::Later(at) | Next::Back(at) => (DeliveryState::Waiting, Some(at.as_millisecond())),
    };
    let back = matches!(result.next, Next::Back(_));
    let would_wait = matches!(to, DeliveryState::Waiting | DeliveryState::Parked);
    let (to, next_at, reason) = if would_wait && !newest {
        (DeliveryState::Superseded, None, Some(Reason::Superseded))
    } else {
        (to, next_at, reason)
    };
    let look_at = match &result.next {
        Next::Again { at, .. } => Some(at.as_millisecond()),
        _ => None,
    };
    Ok(Change {
        next_at,
        look_at,
        attempts: i64::from(!back),
        uncertain: (!back || result.uncertain).then_some(result.uncertain),
        ..Change::new(to, reason, detail)
    })
}
