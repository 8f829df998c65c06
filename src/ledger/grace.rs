//! A request whose answer never came may still be under way in the CRM: looked up at once, its effect would be
//! missed and made again; and what is sent after it could be overtaken by it. So nothing goes out in its lane
//! for a while, whatever comes into it: another session, or a newer version of the same.

use super::Fault;
use super::delivery::{Delivery, lane};
use super::sql::{Sql, params};

/// How long a lane is left alone, in milliseconds.
pub(super) const GRACE_MS: i64 = 15_000;

/// Holds all that waits in a delivery's lane or is of its session, and what will be, from now on.
pub(super) fn begin(sql: &Sql, delivery: &Delivery, now: i64) -> Result<(), Fault> {
    let until = now.saturating_add(GRACE_MS);
    for lane in [delivery.lane.as_str(), &lane(None, delivery.session)] {
        sql.prepare_cached(
            "INSERT INTO graces (destination, lane, until) VALUES (?1, ?2, ?3) \
             ON CONFLICT (destination, lane) DO UPDATE SET until = excluded.until",
        )?
        .execute(params![delivery.destination, lane, until])?;
    }
    sql.prepare_cached(
        "UPDATE deliveries SET next_at = ?3 WHERE state = 'waiting' AND destination = ?1 AND lane = ?2 AND next_at < ?3",
    )?
    .execute(params![delivery.destination, delivery.lane, until])?;
    sql.prepare_cached(
        "UPDATE deliveries SET next_at = ?3 WHERE state = 'waiting' AND session = ?1 AND destination = ?2 AND next_at < ?3",
    )?
    .execute(params![delivery.session, delivery.destination, until])?;
    Ok(())
}

/// The first moment, from `at` on, at which something of a session may go out in a lane.
pub(super) fn after(sql: &Sql, destination: &str, of: &str, session: i64, at: i64) -> Result<i64, Fault> {
    let until: Option<i64> = sql
        .prepare_cached("SELECT max(until) FROM graces WHERE destination = ?1 AND lane IN (?2, ?3)")?
        .query_row([destination, of, &lane(None, session)], |row| row.get(0))?;
    Ok(until.map_or(at, |until| until.max(at)))
}

/// Forgets those that are over.
pub(super) fn end(sql: &Sql, now: i64) -> Result<(), Fault> {
    sql.prepare_cached("DELETE FROM graces WHERE until <= ?1")?.execute([now])?;
    Ok(())
}
