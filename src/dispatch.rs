//! From committed deliveries to changed records: claim → prepare → send → record.
//!
//! One loop claims what is due; each claimed delivery is a task of its own; its end is recorded with the
//! steps that were applied. The ledger gives order per record and fences leases; this decides when to try
//! again, when to hold a whole destination, and what is over. Nothing here knows one CRM from another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::failpoint::{self, Boundary};
use crate::ledger::Ledger;
use crate::ledger::{Attempt, Claimed, DeliveryState, Finished, Next, Paused};
use crate::outcome::{Class, Outcome, Reason, Verdict};
use crate::session::Session;
use crate::session::stored::Stored;

mod circuit;
mod clock;
mod difference;
mod drive;
mod fallback;
mod keys;
mod lane;
mod parking;
mod rate;
mod target;
#[cfg(test)]
mod versions;

pub use clock::Clock;
pub use difference::{Difference, differs};
pub use keys::Keys;
pub use target::{Fallback, Preview, Shown, Target, Way, show};

use circuit::{Hold, Ruling, shows_that_it_works};
use lane::{Lane, Turn, after};
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
    /// The way to each of the targets.
    lanes: BTreeMap<String, Arc<Lane>>,
}

/// How long nobody looks into an idle ledger.
const LOOK: Duration = Duration::from_secs(5);
/// How often the ledger is asked what a person or another process holds.
const LOOK_AT_HOLDS: Duration = Duration::from_secs(1);
/// Claimed in one commit at most.
const CLAIM: usize = 128;
/// A delivery that was tried less often is not given up for its age alone: it may have waited for a destination.
const TRIES: u32 = 3;

impl Dispatcher {
    /// A dispatcher for these targets.
    pub fn new(ledger: Ledger, targets: BTreeMap<String, Arc<Target>>, stored: Stored, rules: Rules) -> Self {
        let lane = |t: &Target| Arc::new(Lane::new(t.concurrency, &t.rates));
        let lanes = targets.iter().map(|(name, target)| (name.clone(), lane(target))).collect();
        Self { ledger, targets, stored, rules, clock: Clock::default(), lanes }
    }

    /// Works until `stop`, then lets what is under way end. With `drain`, it also returns when nothing is
    /// due now or soon (`soon` ahead).
    pub async fn run(self: Arc<Self>, stop: CancellationToken, drain: Option<Duration>) {
        let tasks = TaskTracker::new();
        let ended = Arc::new(Notify::new());
        let work = self.ledger.waiting();
        let mut looked: Option<Instant> = None;
        while !stop.is_cancelled() {
            if looked.is_none_or(|at| at.elapsed() >= LOOK_AT_HOLDS) {
                self.look_at_holds().await;
                self.look_at_fallbacks().await;
                looked = Some(Instant::now());
            }
            let claimed = self.claim().await;
            let count = claimed.len();
            for delivery in claimed {
                if let Some(lane) = self.lanes.get(delivery.way()) {
                    lane.take();
                    let (this, lane, ended, stop) = (self.clone(), lane.clone(), ended.clone(), stop.clone());
                    tasks.spawn(async move { this.take_on(&delivery, &lane, &ended, &stop).await });
                }
            }
            if count > 0 {
                continue;
            }
            let now = self.clock.now();
            // Not by `tasks`: a task that has told of its end is still among them for a moment, and nobody tells of
            // that.
            let idle = self.lanes.values().all(|lane| lane.is_idle());
            if let Some(soon) = drain
                && idle
                && self.due(now, |_| true).await.is_none_or(|due| until(due, now) > soon)
            {
                break;
            }
            let due = self.due(now, |lane| lane.opens(now).is_none()).await;
            let next = self.lanes.values().filter_map(|lane| lane.opens(now)).chain(due).min();
            // A full destination is waited for by `ended`; what is due then is claimed at once.
            // Another process (`process`, `deliveries retry`) may make something due without our being told.
            let wait = next.map_or(LOOK, |next| until(next, now));
            let wait = wait.clamp(Duration::from_millis(if idle { 1 } else { 50 }), LOOK);
            tokio::select! {
                () = stop.cancelled() => {}
                () = work.notified() => {}
                () = ended.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// When there is next something to do for these lanes.
    async fn due(&self, now: Timestamp, concerned: impl Fn(&Lane) -> bool) -> Option<Timestamp> {
        let names = self.lanes.iter().filter(|(_, lane)| concerned(lane)).map(|(name, _)| name.clone());
        match self.ledger.next_due(&names.collect::<Vec<_>>(), now).await {
            Ok(due) => due,
            Err(fault) => {
                tracing::error!(error = %fault, "the ledger can't be read; trying again");
                Some(now + SignedDuration::from_secs(2))
            }
        }
    }

    async fn claim(&self) -> Vec<Claimed> {
        let now = self.clock.now();
        let room = self.lanes.iter().map(|(name, lane)| (name.clone(), lane.room(now)));
        let room: Vec<(String, usize)> = room.filter(|(_, room)| *room > 0).collect();
        if room.is_empty() {
            return Vec::new();
        }
        match self.ledger.claim(CLAIM, &room, self.rules.lease, now).await {
            Ok(claimed) => {
                if !claimed.is_empty() {
                    failpoint::cross(Boundary::Claimed);
                }
                claimed
            }
            Err(fault) => {
                tracing::error!(error = %fault, "no delivery could be claimed; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                Vec::new()
            }
        }
    }

    /// Takes over from the ledger what holds destinations: what the last process left, a person or another
    /// instance did.
    async fn look_at_holds(&self) {
        let before: Vec<u64> = self.lanes.values().map(|lane| lane.changes()).collect();
        match self.ledger.paused().await {
            Ok(paused) => {
                for ((name, lane), changes) in self.lanes.iter().zip(before) {
                    let paused = paused.iter().find(|paused| paused.destination == *name);
                    lane.adopt(paused.map(|paused| Hold::of(paused, self.clock.now())), changes);
                }
            }
            Err(fault) => tracing::error!(error = %fault, "the held destinations can't be read"),
        }
    }

    /// Takes a claimed delivery to its end: waits for its turn, tries it, records what became of it. On a stop,
    /// while its destination is held, and if a rate would make it wait, it is given back untried.
    async fn take_on(&self, claimed: &Claimed, lane: &Lane, ended: &Notify, stop: &CancellationToken) {
        let finished = match lane.turn(claimed.record.as_deref().unwrap_or_default(), &self.clock, stop).await {
            Turn::Begin(_under_way) => self.deliver(claimed, lane).await,
            Turn::Back(at, reason) => untried(claimed, at, reason),
        };
        self.record(finished).await;
        lane.let_go();
        ended.notify_one();
    }

    /// One attempt, from the claimed row to what is to be recorded of it.
    async fn deliver(&self, claimed: &Claimed, lane: &Lane) -> Finished {
        let started_at = self.clock.now();
        let done = match self.targets.get(claimed.way()) {
            Some(target) => match self.session(claimed) {
                Ok(session) => target.deliver(&self.ledger, &self.clock, claimed, &session, lane).await,
                Err(verdict) => Done::of(verdict),
            },
            None => Done::of(Verdict::new(Class::Pause, Reason::Paused, "the configuration has no such destination")),
        };
        let now = self.clock.now();
        let next = match parking::led(claimed, &done, self.rules.park, now) {
            Some(next) => {
                self.worked(claimed, &done, lane, started_at).await;
                next
            }
            None => self.next(claimed, &done, lane, started_at, now).await,
        };
        let (delivery, session, destination, record) =
            (claimed.delivery.0, claimed.key.to_string(), claimed.way(), claimed.record.as_deref().unwrap_or(""));
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

    /// What follows from the end of an attempt, and the reason to record.
    async fn next(
        &self,
        claimed: &Claimed,
        done: &Done,
        lane: &Lane,
        began: Timestamp,
        now: Timestamp,
    ) -> (Next, Reason) {
        let (destination, verdict) = (claimed.way(), &done.verdict);
        let record = claimed.record.as_deref().unwrap_or_default();
        let reason = verdict.reason;
        if let Some(wait) = done.over_rate {
            return (Next::Back(after(now, wait)), reason);
        }
        self.worked(claimed, done, lane, began).await;
        let (ruling, hold) = lane.fails(record, verdict, now);
        if let Some(hold) = hold {
            self.hold(destination, hold, verdict, lane).await;
        }
        match verdict.class {
            Class::Ok | Class::Partial => {
                let state =
                    if reason == Reason::Unchanged { DeliveryState::Unchanged } else { DeliveryState::Delivered };
                (Next::Done(state), reason)
            }
            Class::Dead | Class::Park => (Next::Dead, reason),
            // The ledger keeps it until the hold ends.
            _ if ruling != Ruling::Own => (Next::Back(now), reason),
            Class::Retry | Class::Conflict | Class::Pause => {
                let age = now.duration_since(claimed.since);
                let horizon = SignedDuration::try_from(self.rules.horizon).unwrap_or(SignedDuration::MAX);
                if age > horizon && claimed.attempts >= TRIES {
                    return (Next::Dead, Reason::Expired);
                }
                let wait = backoff(verdict.class, claimed.attempts, fastrand::f64())
                    .max(verdict.retry_after.unwrap_or_default());
                (Next::Later(after(now, wait)), reason)
            }
        }
    }

    /// Takes in what an attempt shows: what a delivery costs, and that the destination works, if it does.
    async fn worked(&self, claimed: &Claimed, done: &Done, lane: &Lane, began: Timestamp) {
        lane.costs(done.requests);
        let record = claimed.record.as_deref().unwrap_or_default();
        if done.requests > 0 && shows_that_it_works(&done.verdict) && lane.works(record, began) {
            self.released(claimed.way()).await;
        }
    }

    /// Writes down that a destination is held; it is probed by itself, each time later.
    async fn hold(&self, destination: &str, hold: Hold, verdict: &Verdict, lane: &Lane) {
        let Some(until) = hold.until else { return };
        let (reason, detail) = (verdict.reason, verdict.detail.as_str());
        let paused = Paused {
            destination: destination.to_owned(),
            since: hold.since,
            until: Some(until),
            reason,
            detail: detail.to_owned(),
            times: hold.times,
        };
        if let Err(fault) = self.ledger.hold(paused).await {
            tracing::error!(error = %fault, destination, "a hold could not be recorded");
        }
        lane.written();
        match verdict.class {
            Class::Pause => tracing::error!(destination, %reason, detail, probe_at = %until,
                "the destination is held: its configuration looks wrong; no delivery is lost, and it is probed by itself"),
            _ if hold.times > 1 => {
                tracing::info!(destination, %reason, detail, probe_at = %until, "the destination is still held");
            }
            _ if matches!(reason, Reason::RateLimited | Reason::Quota) => {
                tracing::warn!(destination, %reason, detail, until = %until, "the destination is held: it takes no more for now");
            }
            _ => tracing::error!(destination, %reason, detail, probe_at = %until,
                "the destination is held: it is down; no delivery is lost, and it is probed by itself"),
        }
    }

    /// Writes down that a destination is held no more.
    async fn released(&self, destination: &str) {
        match self.ledger.release_hold(destination).await {
            Ok(_) => tracing::info!(destination, "the destination works again and goes on"),
            Err(fault) => tracing::error!(error = %fault, destination, "the end of a hold could not be recorded"),
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
        failpoint::cross(Boundary::Recorded);
    }
}

fn untried(claimed: &Claimed, at: Timestamp, reason: Reason) -> Finished {
    Finished {
        delivery: claimed.delivery,
        lease: claimed.lease,
        next: Next::Back(at),
        reason,
        uncertain: claimed.uncertain,
        applied: Vec::new(),
        progress: None,
        attempt: None,
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
    }
}
