//! One delivery's row and its change of state: the one place that writes `deliveries.state` after the row
//! was made, so the law of `states` and the order within a record hold whoever asks.
//!
//! A lane is what goes in order and one at a time: a record at a destination. Its *head* is the waiting
//! delivery with the lowest id, as long as none of the lane is being sent. Only heads can be claimed, so a
//! claim never walks over the ones behind them.

use jiff::Timestamp;

use super::sql::{self, OptionalExtension, Params, Row, Sql, params};
use super::{DeliveryState, Fault, course, grace, lock, progress};
use crate::outcome::Reason;

/// The lane of a record, or of a session that has none yet.
pub(super) fn lane(record: Option<&str>, session: i64) -> String {
    record.map_or_else(|| format!("~session-{session}"), str::to_owned)
}

/// What a change of state looks at.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) id: i64,
    pub(super) session: i64,
    pub(super) destination: String,
    pub(super) record: Option<String>,
    pub(super) lane: String,
    pub(super) state: DeliveryState,
    pub(super) lease: i64,
    pub(super) leased_at: Option<i64>,
    /// The word of its reason.
    pub(super) reason: Option<String>,
    /// The lane that it leaves with its next change of state, for that of another record.
    pub(super) left: Option<String>,
    /// Whether the version it carries is the one that counts for its session.
    pub(super) newest: bool,
    /// Whether its documents are gone.
    pub(super) emptied: bool,
}

/// What it becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) to: DeliveryState,
    pub(super) reason: Option<Reason>,
    pub(super) detail: Option<&'a str>,
    /// Waiting: not before. Parked: the deadline.
    pub(super) next_at: Option<i64>,
    /// Attempts that ended with it.
    pub(super) attempts: i64,
    /// `None` leaves it as it was.
    pub(super) uncertain: Option<bool>,
    /// Parked: when its record is looked for again.
    pub(super) look_at: Option<i64>,
    /// Parked: the records that it could belong to, as JSON.
    pub(super) candidates: Option<&'a str>,
}

impl<'a> Change<'a> {
    /// A change with a reason, that is no attempt.
    pub(super) fn new(to: DeliveryState, reason: Option<Reason>, detail: Option<&'a str>) -> Self {
        Self { to, reason, detail, next_at: None, attempts: 0, uncertain: None, look_at: None, candidates: None }
    }

    /// A newer version took its place.
    pub(super) fn superseded() -> Self {
        Self::new(DeliveryState::Superseded, Some(Reason::Superseded), None)
    }
}

/// The columns of [`Delivery`], from `deliveries d JOIN versions v JOIN sessions s`.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT d.id, d.session, d.destination, d.record, d.lane, d.state, d.lease, d.leased_at, \
             v.number = s.newest, d.reason, s.content_removed_at IS NOT NULL FROM deliveries d JOIN versions v ON v.id = d.version \
             JOIN sessions s ON s.id = d.session WHERE ",
            $condition
        )
    };
}

impl Delivery {
    /// The delivery with this id, which stays as it is until the transaction ends.
    pub(super) fn find(sql: &Sql, id: i64) -> Result<Option<Self>, Fault> {
        let lane = if sql.is_shared() { lock::around_delivery(sql, id)? } else { None };
        let found =
            sql.prepare_cached(select!("d.id = ?1 /*pg FOR UPDATE OF d*/"))?.query_row([id], Self::read).optional()?;
        match (&found, lane) {
            (Some(found), Some(lane)) if found.lane != lane => Err(Fault::passing("the delivery changed its lane")),
            _ => Ok(found),
        }
    }

    /// What of a session waits or is parked.
    pub(super) fn unsent_of(sql: &Sql, session: i64) -> Result<Vec<Self>, Fault> {
        let query = select!("d.session = ?1 AND d.state IN ('waiting', 'parked') ORDER BY d.id");
        Self::all(sql, query, [session], |_, now| matches!(now.state, DeliveryState::Waiting | DeliveryState::Parked))
    }

    /// What is leased until this moment or a former one.
    pub(super) fn leased_until(sql: &Sql, moment: i64) -> Result<Vec<Self>, Fault> {
        let query = select!("d.state = 'sending' AND d.leased_until <= ?1 ORDER BY d.id /*pg LIMIT 64*/");
        Self::all(sql, query, [moment], |found, now| now.state == found.state && now.lease == found.lease)
    }

    /// Parked ones whose deadline has come.
    pub(super) fn parked_until(sql: &Sql, moment: i64) -> Result<Vec<Self>, Fault> {
        let query = select!("d.state = 'parked' AND d.next_at <= ?1 ORDER BY d.next_at /*pg LIMIT 64*/");
        Self::all(sql, query, [moment], |found, now| now.state == found.state)
    }

    /// What a query finds. Where others may change it meanwhile, each is locked, and is left out if it is not any more
    /// what was looked for.
    fn all(
        sql: &Sql,
        query: &str,
        of: impl Params,
        is_still: impl Fn(&Self, &Self) -> bool,
    ) -> Result<Vec<Self>, Fault> {
        let found: Vec<Self> = sql.prepare_cached(query)?.query_map(of, Self::read)?.collect::<Result<_, _>>()?;
        if !sql.is_shared() {
            return Ok(found);
        }
        let mut held = Vec::with_capacity(found.len());
        for found in found {
            held.extend(Self::find(sql, found.id)?.filter(|now| is_still(&found, now)));
        }
        Ok(held)
    }

    fn read(row: &Row<'_>) -> sql::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            session: row.get(1)?,
            destination: row.get(2)?,
            record: row.get(3)?,
            lane: row.get(4)?,
            state: state_of(row, 5)?,
            lease: row.get(6)?,
            leased_at: row.get(7)?,
            newest: row.get(8)?,
            reason: row.get(9)?,
            emptied: row.get(10)?,
            left: None,
        })
    }

    /// Parked ones of a destination whose record is to be looked for again.
    pub(super) fn to_be_looked_for(sql: &Sql, destination: &str, moment: i64, most: usize) -> Result<Vec<Self>, Fault> {
        let query =
            select!("d.state = 'parked' AND d.destination = ?1 AND d.look_at <= ?2 ORDER BY d.look_at, d.id LIMIT ?3");
        Self::all(sql, query, params![destination, moment, most as i64], |found, now| now.state == found.state)
    }

    /// Whether the brake holds it back.
    pub(super) fn braked(&self) -> bool {
        self.reason.as_deref() == Some(Reason::Braked.as_str())
    }

    /// Puts it in line by hand, due now, with the record that it goes to if that was said; the retry horizon
    /// begins anew.
    pub(super) fn put_in_line(&mut self, sql: &Sql, record: Option<&str>, now: Timestamp) -> Result<(), Fault> {
        let at = now.as_millisecond();
        if let Some(record) = record.filter(|record| self.record.as_deref() != Some(record)) {
            // A person may lead it anywhere, and as often as it takes.
            course::lead(sql, self.id, self.record.as_deref(), record, "released by hand", now)?;
            self.take_record(record);
        }
        let change = Change { next_at: Some(at), ..Change::new(DeliveryState::Waiting, None, None) };
        self.become_(sql, change, now)?;
        sql.prepare_cached("UPDATE deliveries SET since = ?2 WHERE id = ?1")?.execute([self.id, at])?;
        Ok(())
    }

    /// Changes its state, ends its lease, and lets the next of its lane come forward.
    pub(super) fn become_(&self, sql: &Sql, change: Change<'_>, now: Timestamp) -> Result<(), Fault> {
        self.state.check_change(change.to)?;
        if self.left.is_some() {
            lock::lane(sql, &self.destination, &self.lane)?;
        }
        let mut next_at = change.next_at;
        if change.to == DeliveryState::Waiting {
            next_at =
                next_at.map(|at| grace::after(sql, &self.destination, &self.lane, self.session, at)).transpose()?;
        }
        if change.to.is_end() {
            progress::forget(sql, self.id)?;
        }
        let back_by_hand = change.to == DeliveryState::Waiting && self.state != DeliveryState::Sending;
        if back_by_hand || (change.to == DeliveryState::Waiting && self.left.is_some()) {
            // It may belong before the one that is head now.
            sql.prepare_cached(
                "UPDATE deliveries SET head = 0 WHERE state = 'waiting' AND destination = ?1 AND lane = ?2 AND head = 1",
            )?
            .execute(params![self.destination, self.lane])?;
        }
        sql.prepare_cached(
            "UPDATE deliveries SET state = ?2, head = 0, reason = ?3, detail = ?4, next_at = ?5, \
             attempts = attempts + ?6, uncertain = coalesce(?7, uncertain), changed_at = ?8, record = ?9, lane = ?10, \
             look_at = CASE WHEN ?2 = 'parked' THEN ?11 WHEN ?2 = 'waiting' AND ?9 IS NOT DISTINCT FROM record \
             THEN look_at END, candidates = CASE WHEN ?2 = 'parked' THEN ?12 \
             WHEN ?9 IS NOT DISTINCT FROM record THEN candidates END, \
             leased_at = NULL, leased_until = NULL WHERE id = ?1",
        )?
        .execute(params![
            self.id,
            change.to.as_str(),
            change.reason.map(Reason::as_str),
            change.detail,
            next_at,
            change.attempts,
            change.uncertain,
            now.as_millisecond(),
            self.record,
            self.lane,
            change.look_at,
            change.candidates,
        ])?;
        advance(sql, &self.destination, &self.lane)?;
        self.left.iter().try_for_each(|left| advance(sql, &self.destination, left))
    }
}

/// A delivery that is to be written down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) session: i64,
    pub(super) version: i64,
    pub(super) destination: &'a str,
    pub(super) record: Option<&'a str>,
    pub(super) state: DeliveryState,
    pub(super) next_at: Option<i64>,
    pub(super) reason: Option<Reason>,
    pub(super) detail: Option<&'a str>,
    /// Parked: when its record is looked for.
    pub(super) look_at: Option<i64>,
    /// The record that former versions of its session went to, if that was another one.
    pub(super) moved_from: Option<&'a str>,
}

impl Entry<'_> {
    /// Writes the row, at its place in line; gives its number.
    pub(super) fn insert(&self, sql: &Sql, now: Timestamp) -> Result<i64, Fault> {
        let lane = lane(self.record, self.session);
        lock::lane(sql, self.destination, &lane)?;
        let waits = self.state == DeliveryState::Waiting;
        let head = waits && is_free(sql, self.destination, &lane)?;
        let at = self.next_at.filter(|_| waits);
        let after_grace = at.map(|at| grace::after(sql, self.destination, &lane, self.session, at)).transpose()?;
        sql.prepare_cached("INSERT INTO destinations (name) VALUES (?1) ON CONFLICT DO NOTHING")?
            .execute([self.destination])?;
        Ok(sql
            .prepare_cached(
                "INSERT INTO deliveries (session, version, destination, record, lane, state, head, next_at, \
                 reason, detail, created_at, since, changed_at, look_at, moved_from) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?11, ?12, ?13)",
            )?
            .insert(params![
                self.session,
                self.version,
                self.destination,
                self.record,
                lane,
                self.state.as_str(),
                head,
                after_grace.or(self.next_at),
                self.reason.map(Reason::as_str),
                self.detail,
                now.as_millisecond(),
                self.look_at,
                self.moved_from,
            ])?)
    }
}

/// Makes the first waiting one of a lane its head, if none of the lane is being sent.
pub(super) fn advance(sql: &Sql, destination: &str, lane: &str) -> Result<(), Fault> {
    if is_sending(sql, destination, lane)? {
        return Ok(());
    }
    sql.prepare_cached(
        "UPDATE deliveries SET head = 1 WHERE head = 0 AND id = (SELECT id FROM deliveries \
         WHERE state = 'waiting' AND destination = ?1 AND lane = ?2 ORDER BY id LIMIT 1)",
    )?
    .execute([destination, lane])?;
    Ok(())
}

/// Whether a new delivery would be the head of this lane.
fn is_free(sql: &Sql, destination: &str, lane: &str) -> Result<bool, Fault> {
    let waits = sql
        .prepare_cached("SELECT 1 FROM deliveries WHERE state = 'waiting' AND destination = ?1 AND lane = ?2 LIMIT 1")?
        .exists([destination, lane])?;
    Ok(!waits && !is_sending(sql, destination, lane)?)
}

fn is_sending(sql: &Sql, destination: &str, lane: &str) -> Result<bool, Fault> {
    Ok(sql
        .prepare_cached("SELECT 1 FROM deliveries WHERE state = 'sending' AND destination = ?1 AND lane = ?2")?
        .exists([destination, lane])?)
}

/// The delivery state in a column; the table's CHECK lets no other word in.
pub(super) fn state_of(row: &Row<'_>, column: usize) -> sql::Result<DeliveryState> {
    let word = row.get_ref(column)?.as_str()?;
    DeliveryState::from_word(word).ok_or_else(|| sql::Error::word(word))
}

/// A moment from its milliseconds; what is no moment (nobody writes such) is 1970.
pub(super) fn moment(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}
