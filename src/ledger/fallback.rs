//! One effect, two routes: deliveries of a destination that has been held for long go the way of its fallback.
//!
//! The choice (`via`) is committed before anything is sent, so a crash in between finds the same route. Only what is
//! certain to have had no effect is chosen; what is not yet sent comes back when the destination does. Whose delivery
//! it is, its lane and its marker never change.

use std::borrow::Cow;

use super::Fault;
use super::handle::Ledger;
use super::sql::params;

/// Due ones of others that go this destination's way.
pub(super) const VIA: &str = "SELECT id FROM deliveries WHERE state = 'waiting' AND head = 1 AND via = ?1 \
                              AND next_at <= ?2 ORDER BY next_at, id LIMIT ?3";
/// When the next one of these is due.
pub(super) const NEXT_VIA: &str =
    "SELECT min(next_at) FROM deliveries WHERE state = 'waiting' AND head = 1 AND via = ?1";

/// Under which name the applied steps of a delivery are kept: what one route applied says nothing of the other.
pub(super) fn route<'a>(destination: &'a str, via: Option<&str>) -> Cow<'a, str> {
    via.map_or(Cow::Borrowed(destination), |via| Cow::Owned(format!("{destination} via {via}")))
}

impl Ledger {
    /// Lets up to `limit` waiting deliveries of `destination` go the way of `to`, the longest due first: heads of
    /// their lanes that are certain (no result unknown, no step applied) and that `to` has not refused before.
    /// Returns how many.
    pub async fn divert(&self, destination: &str, to: &str, limit: usize) -> Result<usize, Fault> {
        let (destination, to) = (destination.to_owned(), to.to_owned());
        self.write(move |tx| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let count = tx
                .sql
                .prepare_cached(
                    "UPDATE deliveries SET via = ?2 WHERE id IN (SELECT d.id FROM deliveries d \
                     WHERE d.state = 'waiting' AND d.head = 1 AND d.destination = ?1 AND d.via IS NULL \
                     AND d.uncertain = 0 AND d.record IS NOT NULL \
                     AND NOT EXISTS (SELECT 1 FROM applied a WHERE a.session = d.session \
                     AND a.destination = d.destination AND a.delivery = d.id) \
                     AND NOT EXISTS (SELECT 1 FROM progress p WHERE p.delivery = d.id) \
                     AND NOT EXISTS (SELECT 1 FROM attempts t WHERE t.delivery = d.id AND t.via = ?2 \
                     AND t.outcome = 'failed') ORDER BY d.next_at, d.id LIMIT ?3)",
                )?
                .execute(params![destination, to, limit])?;
            if count > 0 {
                tx.wake();
            }
            Ok(count)
        })
        .await
    }

    /// The destination works again: those of its deliveries that were to go the way of `to` and have had no effect
    /// there go its own way. Returns how many.
    pub async fn undivert(&self, destination: &str, to: &str) -> Result<usize, Fault> {
        let (destination, to) = (destination.to_owned(), to.to_owned());
        self.write(move |tx| {
            let count = tx
                .sql
                .prepare_cached(
                    "UPDATE deliveries SET via = NULL WHERE state = 'waiting' AND via = ?2 AND destination = ?1 \
                     AND uncertain = 0 AND NOT EXISTS (SELECT 1 FROM progress p WHERE p.delivery = deliveries.id) \
                     AND NOT EXISTS (SELECT 1 FROM applied a WHERE a.session = deliveries.session \
                     AND a.destination = ?3 AND a.delivery = deliveries.id)",
                )?
                .execute(params![destination, to, route(&destination, Some(&to))])?;
            if count > 0 {
                tx.wake();
            }
            Ok(count)
        })
        .await
    }
}
