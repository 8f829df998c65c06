//! From committed deliveries to changed records: claim → prepare → send → record.
//!
//! One loop claims what is due; each claimed delivery is a task of its own; its end is recorded with the
//! steps that were applied. The ledger gives order per record and fences leases; this decides when to try
//! again, when to hold a whole destination, and what is over. Nothing here knows one CRM from another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ledger::Ledger;
use crate::ledger::{Attempt, Claimed, DeliveryState, Finished, Next};
use crate::outcome::{Class, Outcome, Reason, Verdict};
use crate::session::Session;
use crate::session::stored::Stored;

mod clock;
mod difference;
mod drive;
mod keys;
mod leases;
mod parking;
mod target;

pub use clock::Clock;
pub use difference::{Difference, differs};
pub use keys::Keys;
pub use target::{Preview, Shown, Target, Way, show};

use leases::Leases;
use target::Done;

/// How deliveries are tried.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How long a delivery that fails for a temporary cause is tried again.
    pub horizon: Duration,
    /// A worker that has not answered for so long has lost its lease.
    pub lease: Duration,
    /// How long a delivery waits for its record.
    pub park: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            horizon: Duration::from_secs(5 * 24 * 3600),
            lease: Duration::from_secs(900),
            park: Duration::from_secs(72 * 3600),
        }
    }
}

/// Takes committed deliveries to their destinations.
pub struct Dispatcher {
    /// Where deliveries come from.
    pub ledger: Ledger,
    /// Where they go, by name.
    pub targets: BTreeMap<String, Arc<Target>>,
    /// How documents are read again.
    pub stored: Stored,
    /// How deliveries are tried.
    pub rules: Rules,
    /// What time it is.
    pub clock: Clock,
    /// Destinations that are held or being probed.
    held: Mutex<BTreeMap<String, Held>>,
    leases: Leases,
}

/// How long nobody looks into an idle ledger.
const LOOK: Duration = Duration::from_secs(5);
/// The same where other instances put work into it.
const LOOK_SHARED: Duration = Duration::from_millis(700);

/// A destination that is held.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// How often in a row.
    times: u32,
    /// When it is probed.
    until: Option<Timestamp>,
}

/// Claimed in one commit at most.
const CLAIM: usize = 128;
/// Claimed ahead for each delivery that may be under way, so that sending never waits for a commit.
const AHEAD: usize = 4;

/// The deliveries of one destination that are in hand.
struct Lane {
    /// Claimed and not yet recorded.
    in_hand: AtomicUsize,
    /// As many may be under way at once.
    under_way: Semaphore,
}

/// The lanes of a run, by destination.
type Lanes = BTreeMap<String, Arc<Lane>>;

impl Dispatcher {
    /// A dispatcher for these targets.
    pub fn new(ledger: Ledger, targets: BTreeMap<String, Arc<Target>>, stored: Stored, rules: Rules) -> Self {
        let leases = Leases::new(ledger.clone(), rules.lease);
        Self { ledger, targets, stored, rules, clock: Clock::default(), held: Mutex::default(), leases }
    }

    /// Works until `stop`, then lets what is under way end. With `drain`, it also returns when nothing is
    /// due now or soon (`soon` ahead).
    pub async fn run(self: Arc<Self>, stop: CancellationToken, drain: Option<Duration>) {
        let tasks = TaskTracker::new();
        let lane = |t: &Target| Lane { in_hand: AtomicUsize::new(0), under_way: Semaphore::new(t.concurrency) };
        let lanes: Lanes = self.targets.iter().map(|(name, t)| (name.clone(), Arc::new(lane(t)))).collect();
        let ended = Arc::new(Notify::new());
        let work = self.ledger.waiting();
        let names: Vec<String> = self.targets.keys().cloned().collect();
        match self.ledger.paused().await {
            Ok(paused) => {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                held.extend(paused.into_iter().map(|p| (p.destination, Held { times: 1, until: p.until })));
            }
            Err(fault) => tracing::error!(error = %fault, "the held destinations can't be read"),
        }
        let look = if self.ledger.is_shared() { LOOK_SHARED } else { LOOK };
        let this = self.clone();
        let keeper = tokio::spawn(async move { this.leases.keep().await });
        while !stop.is_cancelled() {
            let claimed = self.claim(&lanes).await;
            let count = claimed.len();
            for delivery in claimed {
                if let Some(lane) = lanes.get(&delivery.destination) {
                    lane.in_hand.fetch_add(1, Ordering::Relaxed);
                    self.leases.take(&delivery);
                    let (this, lane, ended, stop) = (self.clone(), lane.clone(), ended.clone(), stop.clone());
                    tasks.spawn(async move { this.take_on(&delivery, &lane, &ended, &stop).await });
                }
            }
            if count > 0 {
                continue;
            }
            let wait = match self.ledger.next_due(&names, self.clock.now()).await {
                Ok(due) => due.map(|t| until(t, self.clock.now())),
                Err(fault) => {
                    tracing::error!(error = %fault, "the ledger can't be read; trying again");
                    Some(Duration::from_secs(2))
                }
            };
            // Not by `tasks`: a task that has told of its end is still among them for a moment, and nobody tells of
            // that.
            let idle = lanes.values().all(|lane| lane.in_hand.load(Ordering::Relaxed) == 0);
            if let Some(soon) = drain
                && idle
                && wait.is_none_or(|w| w > soon)
            {
                break;
            }
            // A full destination is waited for by `ended`; what is due then is claimed at once.
            // Another process (`process`, `deliveries retry`) may make something due without our being told.
            let wait = wait.unwrap_or(look).clamp(Duration::from_millis(if idle { 1 } else { 50 }), look);
            tokio::select! {
                () = stop.cancelled() => {}
                () = work.notified() => {}
                () = ended.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        tasks.close();
        tasks.wait().await;
        keeper.abort();
    }

    async fn claim(&self, lanes: &Lanes) -> Vec<Claimed> {
        let in_hand = |name: &str| lanes.get(name).map_or(0, |lane| lane.in_hand.load(Ordering::Relaxed));
        let room = |t: &Arc<Target>| (t.name.clone(), self.room(t, in_hand(&t.name)));
        let room: Vec<(String, usize)> = self.targets.values().map(room).filter(|(_, room)| *room > 0).collect();
        if room.is_empty() {
            return Vec::new();
        }
        match self.ledger.claim(CLAIM, &room, self.leases.time, self.clock.now()).await {
            Ok(claimed) => claimed,
            Err(fault) => {
                tracing::error!(error = %fault, "no delivery could be claimed; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                Vec::new()
            }
        }
    }

    /// How many may be claimed for a destination: one at a time while it is probed; otherwise many at once,
    /// when half of what it can have in hand is gone, because each claim is a commit.
    fn room(&self, target: &Target, in_hand: usize) -> usize {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(&target.name) {
            return 1_usize.saturating_sub(in_hand);
        }
        let most = AHEAD * target.concurrency;
        if in_hand > most / 2 { 0 } else { most - in_hand }
    }

    /// Takes a claimed delivery to its end: waits for its turn, tries it, records what became of it. On a stop,
    /// and while its destination is held, it is given back untried.
    async fn take_on(&self, claimed: &Claimed, lane: &Lane, ended: &Notify, stop: &CancellationToken) {
        let turn = lane.under_way.acquire().await;
        // One that is another instance's by now is not ours to send, nor to give back.
        if self.leases.holds(claimed.delivery, stop).await {
            let finished = match self.untried(claimed, stop) {
                Some(back) => back,
                None => self.deliver(claimed).await,
            };
            drop(turn);
            self.record(finished).await;
        }
        self.leases.end(claimed.delivery);
        lane.in_hand.fetch_sub(1, Ordering::Relaxed);
        ended.notify_one();
    }

    fn untried(&self, claimed: &Claimed, stop: &CancellationToken) -> Option<Finished> {
        let now = self.clock.now();
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.get(&claimed.destination).and_then(|h| h.until).filter(|until| *until > now);
        let (at, reason) = match held {
            Some(until) => (until, Reason::Paused),
            None if stop.is_cancelled() => (now, Reason::Interrupted),
            None => return None,
        };
        Some(Finished {
            delivery: claimed.delivery,
            lease: claimed.lease,
            next: Next::Back(at),
            reason,
            uncertain: claimed.uncertain,
            applied: Vec::new(),
            progress: None,
            attempt: None,
        })
    }

    /// One attempt, from the claimed row to what is to be recorded of it.
    async fn deliver(&self, claimed: &Claimed) -> Finished {
        let started_at = self.clock.now();
        let done = match self.targets.get(&claimed.destination) {
            Some(target) => match self.session(claimed) {
                Ok(session) => target.deliver(&self.ledger, &self.clock, claimed, &session).await,
                Err(verdict) => Done::of(verdict),
            },
            None => Done::of(Verdict::new(Class::Pause, Reason::Paused, "the configuration has no such destination")),
        };
        let now = self.clock.now();
        let next = match parking::led(claimed, &done, self.rules.park, now) {
            Some(next) => {
                self.works(&claimed.destination).await;
                next
            }
            None => self.next(claimed, &done.verdict, now).await,
        };
        let (delivery, session, destination, record) = (
            claimed.delivery.0,
            claimed.key.to_string(),
            &claimed.destination,
            claimed.record.as_deref().unwrap_or(""),
        );
        let (reason, detail) = (next.1, done.verdict.detail.as_str());
        match &next.0 {
            Next::Done(_) if done.verdict.class == Class::Partial => {
                tracing::warn!(delivery, %session, %destination, record, %reason, detail, "applied a session in part");
            }
            Next::Done(DeliveryState::Unchanged) => {
                tracing::info!(delivery, %session, %destination, record, "the record is as the session says already")
            }
            Next::Done(_) => {
                tracing::info!(delivery, %session, %destination, record, "applied a session to its record")
            }
            Next::Later(at) => {
                tracing::info!(delivery, %session, %destination, record, %reason, detail, again_at = %at, "a delivery is deferred")
            }
            Next::Back(at) => {
                tracing::debug!(delivery, %session, %destination, record, %reason, again_at = %at, "a delivery is held")
            }
            Next::Dead => {
                tracing::error!(delivery, %session, %destination, record, %reason, detail, "a delivery failed for good; `mail2crm deliveries show` tells why")
            }
            Next::Parked(at) => {
                tracing::warn!(delivery, %session, %destination, until = %at, %reason, "a delivery is parked")
            }
            // Once for each delivery; how it goes on is in the ledger.
            Next::Again { until, .. } if claimed.attempts == 0 => {
                tracing::warn!(delivery, %session, %destination, record, %until, %reason, detail, "a delivery is parked; its record is looked for until then")
            }
            Next::Again { at, .. } => {
                tracing::debug!(delivery, %session, %destination, record, again_at = %at, %reason, detail, "a delivery stays parked")
            }
            Next::Moved { record: to, .. } => {
                tracing::warn!(delivery, %session, %destination, record, %to, %reason, detail, "a delivery goes on with another record")
            }
        }
        let outcome = match &next.0 {
            Next::Done(_) => Outcome::Delivered,
            Next::Later(_) | Next::Back(_) | Next::Parked(_) | Next::Again { .. } | Next::Moved { .. } => {
                Outcome::Deferred
            }
            Next::Dead => Outcome::Failed,
        };
        // What an earlier attempt left open stays open until one succeeds, or all of it is known to go elsewhere.
        let settled = outcome == Outcome::Delivered || matches!(next.0, Next::Moved { .. });
        let counted = !matches!(next.0, Next::Back(_));
        Finished {
            delivery: claimed.delivery,
            lease: claimed.lease,
            next: next.0,
            reason,
            uncertain: !settled && (done.verdict.uncertain || claimed.uncertain),
            applied: done.applied,
            progress: Some(done.progress),
            attempt: counted.then(|| Attempt {
                started_at,
                duration_ms: now.duration_since(started_at).as_millis() as i64,
                outcome,
                reason,
                detail: done.verdict.detail,
                exchanges: done.exchanges,
            }),
        }
    }

    fn session(&self, claimed: &Claimed) -> Result<Session, Verdict> {
        let value = serde_json::from_str(&claimed.document)
            .map_err(|e| Verdict::new(Class::Dead, Reason::Internal, e.to_string()))?;
        self.stored.read(&claimed.key, &value).ok_or_else(|| {
            Verdict::new(Class::Dead, Reason::Internal, "the stored document no longer reads as a session")
        })
    }

    /// What follows from a verdict, and the reason to record.
    async fn next(&self, claimed: &Claimed, verdict: &Verdict, now: Timestamp) -> (Next, Reason) {
        let reason = verdict.reason;
        match verdict.class {
            Class::Ok | Class::Partial => {
                self.works(&claimed.destination).await;
                let state =
                    if reason == Reason::Unchanged { DeliveryState::Unchanged } else { DeliveryState::Delivered };
                (Next::Done(state), reason)
            }
            Class::Dead | Class::Park => (Next::Dead, reason),
            Class::Pause => (Next::Back(self.hold(&claimed.destination, verdict, now).await), reason),
            Class::Retry | Class::Conflict => {
                let age = now.duration_since(claimed.since);
                if age > SignedDuration::try_from(self.rules.horizon).unwrap_or(SignedDuration::MAX) {
                    return (Next::Dead, Reason::Expired);
                }
                let wait = backoff(verdict.class, claimed.attempts, fastrand::f64())
                    .max(verdict.retry_after.unwrap_or_default());
                (Next::Later(now + SignedDuration::try_from(wait).unwrap_or(SignedDuration::from_hours(1))), reason)
            }
        }
    }

    /// Holds a destination whose configuration looks wrong; it is probed by itself, each time later.
    async fn hold(&self, destination: &str, verdict: &Verdict, now: Timestamp) -> Timestamp {
        let until = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let pause = held.entry(destination.to_owned()).or_default();
            if pause.until.is_some_and(|until| until > now) {
                return pause.until.unwrap_or(now); // one of those that were under way together
            }
            pause.times += 1;
            let until =
                now + SignedDuration::try_from(probe_after(pause.times)).unwrap_or(SignedDuration::from_mins(1));
            pause.until = Some(until);
            until
        };
        if let Err(fault) = self.ledger.pause(destination, verdict.reason, &verdict.detail, Some(until), now).await {
            tracing::error!(error = %fault, destination, "a pause could not be recorded");
        }
        tracing::error!(destination, reason = %verdict.reason, detail = %verdict.detail, probe_at = %until,
            "the destination is held: its configuration looks wrong; no delivery is lost, and it is probed by itself");
        until
    }

    /// A destination took something: if it was held, it is no more.
    async fn works(&self, destination: &str) {
        if self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(destination).is_none() {
            return;
        }
        match self.ledger.resume(destination).await {
            Ok(_) => tracing::info!(destination, "the destination works again and goes on"),
            Err(fault) => tracing::error!(error = %fault, destination, "the end of a pause could not be recorded"),
        }
    }

    async fn record(&self, finished: Finished) {
        // The effect is in the CRM: what is known of it is kept trying until it is in the ledger.
        let mut pause = Duration::from_millis(200);
        while let Err(fault) = self.ledger.record(vec![finished.clone()], self.clock.now()).await {
            tracing::error!(delivery = finished.delivery.0, error = %fault, "the end of a delivery could not be recorded; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }
}

fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

/// How long to wait before the next attempt: doubling from 30 seconds to an hour (a conflict: from 2 seconds
/// to a minute), with a jitter of a fifth either way so that what failed together does not come together.
/// `random` is from 0 to 1.
pub fn backoff(class: Class, attempts: u32, random: f64) -> Duration {
    let (first, longest) = if class == Class::Conflict { (2.0, 60.0) } else { (30.0, 3600.0) };
    let plain = (first * 2f64.powi(attempts.min(20) as i32)).min(longest);
    Duration::from_secs_f64(plain * (0.8 + 0.4 * random))
}

/// How long a held destination is left alone: doubling from 30 seconds to 15 minutes.
fn probe_after(times: u32) -> Duration {
    Duration::from_secs((30_u64 << times.saturating_sub(1).min(10)).min(900))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_an_hour_within_its_jitter() {
        assert_eq!(backoff(Class::Retry, 0, 0.5), Duration::from_secs(30));
        assert_eq!(backoff(Class::Retry, 1, 0.5), Duration::from_secs(60));
        assert_eq!(backoff(Class::Retry, 40, 0.5), Duration::from_secs(3600));
        assert_eq!(backoff(Class::Retry, 0, 0.0), Duration::from_secs(24));
        assert_eq!(backoff(Class::Retry, 0, 1.0), Duration::from_secs(36));
        assert_eq!(backoff(Class::Conflict, 0, 0.5), Duration::from_secs(2));
        assert_eq!(backoff(Class::Conflict, 40, 0.5), Duration::from_secs(60));
        assert_eq!([1, 2, 9].map(probe_after), [30, 60, 900].map(Duration::from_secs));
    }
}
