//! What instances on one PostgreSQL lock, so that each change finds the ledger as if it were alone. SQLite has one
//! writer at a time and needs none of it.
//!
//! The order is session, lane, delivery: whoever changes a delivery holds the row of its session (so the version that
//! counts stays the same) and its lane (so numbers in it are given, and its head is chosen, one after the other). Only a
//! claim takes deliveries alone, and passes over those that somebody holds. A lane is locked by one of a fixed
//! set of rows, which its name falls on; two that share one wait for each other, and nothing else.

use super::Fault;
use super::sql::{OptionalExtension as _, Sql, params};

/// Rows in `lane_locks`.
const LANES: u64 = 65_536;

/// Locks a lane.
pub(super) fn lane(sql: &Sql, destination: &str, lane: &str) -> Result<(), Fault> {
    if sql.is_shared() {
        let there = sql
            .prepare_cached("SELECT 1 FROM lane_locks WHERE id = ?1 /*pg FOR UPDATE*/")?
            .exists([row_of(destination, lane)])?;
        if !there {
            return Err(Fault::new("a row of `lane_locks` is missing"));
        }
    }
    Ok(())
}

/// Locks the session and the lane of a delivery; the lane, which may change until the delivery is read.
pub(super) fn around_delivery(sql: &Sql, id: i64) -> Result<Option<String>, Fault> {
    let found: Option<(String, String)> = sql
        .prepare_cached(
            "SELECT d.destination, d.lane FROM deliveries d JOIN sessions s ON s.id = d.session WHERE d.id = ?1 \
             /*pg FOR UPDATE OF s*/",
        )?
        .query_row(params![id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((destination, name)) = found else { return Ok(None) };
    lane(sql, &destination, &name)?;
    Ok(Some(name))
}

/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>): every program that ever runs on a ledger must find the same row.
fn row_of(destination: &str, lane: &str) -> i64 {
    let bytes = destination.bytes().chain([0]).chain(lane.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    ((hash ^ (hash >> 32)) % LANES) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_falls_on_the_same_row_in_every_program() {
        assert_eq!(row_of("rt", "1"), row_of("rt", "1"));
        let rows: std::collections::BTreeSet<_> = (0..1_000).map(|n| row_of("rt", &n.to_string())).collect();
        assert!(rows.len() > 950 && rows.iter().all(|row| (0..LANES as i64).contains(row)), "{}", rows.len());
        assert_ne!(row_of("a", "bc"), row_of("ab", "c"));
    }
}
