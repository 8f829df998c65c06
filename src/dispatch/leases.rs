//! The leases of the deliveries in hand, where several instances share a ledger: short, so that others soon take over what
//! a dead one held, and prolonged while this one lives. Before something is sent it must be sure that it is still ours.
//!
//! With a ledger of one service a lease is long, and nobody asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::ids::DeliveryId;
use crate::ledger::{Claimed, Ledger};

/// How long a lease of a shared ledger is.
const SHARED: Duration = Duration::from_secs(12);
/// How often it is prolonged.
const EVERY: Duration = Duration::from_secs(3);
/// What must be left of it when something is sent.
const LEFT: Duration = Duration::from_secs(4);

/// The leases in hand.
#[derive(Debug)]
pub(super) struct Leases {
    ledger: Ledger,
    /// How long one is.
    pub(super) time: Duration,
    held: Mutex<BTreeMap<DeliveryId, i64>>,
    /// When they were last prolonged, or there was none.
    beat: Mutex<Instant>,
}

impl Leases {
    /// None yet. `alone` is how long one is if nobody else claims.
    pub(super) fn new(ledger: Ledger, alone: Duration) -> Self {
        let time = if ledger.is_shared() { SHARED } else { alone };
        Self { ledger, time, held: Mutex::default(), beat: Mutex::new(Instant::now()) }
    }

    /// A claimed one is to be held.
    pub(super) fn take(&self, claimed: &Claimed) {
        if self.ledger.is_shared() {
            lock(&self.held).insert(claimed.delivery, claimed.lease);
        }
    }

    /// One ended.
    pub(super) fn end(&self, delivery: DeliveryId) {
        if self.ledger.is_shared() {
            lock(&self.held).remove(&delivery);
        }
    }

    /// Whether a delivery is still ours to send. Waits while the ledger does not say.
    pub(super) async fn holds(&self, delivery: DeliveryId, stop: &CancellationToken) -> bool {
        while self.ledger.is_shared() {
            if !lock(&self.held).contains_key(&delivery) {
                return false;
            }
            if stop.is_cancelled() || lock(&self.beat).elapsed() < self.time.saturating_sub(LEFT) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        true
    }

    /// Prolongs them until it is dropped.
    pub(super) async fn keep(&self) {
        if !self.ledger.is_shared() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(EVERY).await;
            let (now, begun) = (Timestamp::now(), Instant::now());
            let held: Vec<(DeliveryId, i64)> = lock(&self.held).iter().map(|(id, lease)| (*id, *lease)).collect();
            let until = now + SignedDuration::try_from(self.time).unwrap_or_default();
            if !held.is_empty() {
                match self.ledger.prolong(held.clone(), until).await {
                    Ok(still) => self.lose(&held, &still),
                    Err(fault) => {
                        tracing::warn!(error = %fault, "leases can't be prolonged: nothing new is sent until they are");
                        continue;
                    }
                }
            }
            *lock(&self.beat) = begun;
        }
    }

    /// Those that are another instance's now, or at their end.
    fn lose(&self, asked: &[(DeliveryId, i64)], still: &[DeliveryId]) {
        let mut held = lock(&self.held);
        for (delivery, lease) in asked {
            if !still.contains(delivery) && held.get(delivery) == Some(lease) {
                held.remove(delivery);
            }
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
