//! The way to one destination: how many deliveries may be under way (`circuit`), how fast (`rate`), and the
//! waiting for a turn. Whoever would wait longer than a moment gives its place back, so that nobody stands in
//! line behind it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::circuit::{Circuit, Hold, Ruling};
use super::clock::Clock;
use super::rate::Rates;
use crate::connector::manifest::Rate;
use crate::outcome::{Class, Reason, Scope, Verdict};

/// Claimed ahead for each delivery that may be under way, so that sending never waits for a commit.
const AHEAD: usize = 4;
/// A delivery that would have to wait longer for a rate before it begins is given back.
const MOMENT: Duration = Duration::from_secs(1);
/// In the middle of a delivery it waits for so long, rather than break off what is half done.
const PATIENCE: Duration = Duration::from_secs(20);

/// The deliveries of one destination that are in hand.
#[derive(Debug)]
pub(super) struct Lane {
    /// Claimed and not yet recorded.
    in_hand: AtomicUsize,
    state: Mutex<State>,
    /// A place became free, or nobody may begin any more.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    circuit: Circuit,
    rates: Rates,
    under_way: usize,
    /// Counts the changes of the circuit, so that what was read of the ledger before one is not believed.
    changes: u64,
    /// Holds that are being written to the ledger.
    writing: usize,
}

/// What a claimed delivery is to do.
#[derive(Debug)]
pub(super) enum Turn<'a> {
    /// It may begin; it is under way until this is dropped.
    Begin(UnderWay<'a>),
    /// It is given back, to be claimed at this time.
    Back(Timestamp, Reason),
}

/// A delivery's place among those under way.
#[derive(Debug)]
pub(super) struct UnderWay<'a>(&'a Lane);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
        self.0.changed.notify_one();
    }
}

impl Lane {
    pub(super) fn new(concurrency: usize, rates: &[Rate]) -> Self {
        let (circuit, rates) = (Circuit::new(concurrency.max(1)), Rates::new(rates, Timestamp::now()));
        let state = Mutex::new(State { circuit, rates, under_way: 0, changes: 0, writing: 0 });
        Self { in_hand: AtomicUsize::new(0), state, changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A delivery was claimed.
    pub(super) fn take(&self) {
        self.in_hand.fetch_add(1, Ordering::Relaxed);
    }

    /// Its end is recorded.
    pub(super) fn let_go(&self) {
        self.in_hand.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_hand.load(Ordering::Relaxed) == 0
    }

    /// How many may be claimed: one at a time while it is probed; otherwise many at once, when half of what may
    /// be in hand is gone, because each claim is a commit. Never more than the rates let through soon.
    pub(super) fn room(&self, now: Timestamp) -> usize {
        let in_hand = self.in_hand.load(Ordering::Relaxed);
        let state = self.state();
        let width = state.circuit.width(now);
        let most = if state.circuit.hold().is_some() { width } else { AHEAD * width };
        let most = most.min(state.rates.room(2 * MOMENT, now));
        if in_hand > most / 2 { 0 } else { most - in_hand }
    }

    /// When there is room again by itself, if nothing is in hand.
    pub(super) fn opens(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.state();
        match state.circuit.holds(now) {
            Some(hold) => hold.until,
            None => (state.rates.room(2 * MOMENT, now) == 0).then(|| now + SignedDuration::from_millis(500)),
        }
    }

    /// What holds it, or is being probed.
    pub(super) fn hold(&self) -> Option<Hold> {
        self.state().circuit.hold().cloned()
    }

    /// Waits for the turn of a claimed delivery to this record.
    pub(super) async fn turn(&self, record: &str, clock: &Clock, stop: &CancellationToken) -> Turn<'_> {
        loop {
            let changed = self.changed.notified();
            {
                let now = clock.now();
                let mut state = self.state();
                if stop.is_cancelled() {
                    return Turn::Back(now, Reason::Interrupted);
                }
                // The ledger itself keeps what it holds: so it goes on at once when it is resumed by hand.
                if state.circuit.holds(now).is_some() {
                    return Turn::Back(now, Reason::Paused);
                }
                let wait = state.rates.wait(record, now);
                if wait > MOMENT {
                    return Turn::Back(after(now, wait), Reason::RateLimited);
                }
                let width = state.circuit.width(now);
                if state.under_way < width {
                    state.under_way += 1;
                    if state.under_way < width {
                        self.changed.notify_one();
                    }
                    return Turn::Begin(UnderWay(self));
                }
            }
            tokio::select! {
                () = changed => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Waits until a request may go. The error is the wish to come back: nothing was sent.
    pub(super) async fn request(&self, step: &str, record: &str, clock: &Clock) -> Result<(), Verdict> {
        let place = self.state().rates.take(step, record, PATIENCE, clock.now());
        match place {
            Ok(Duration::ZERO) => Ok(()),
            Ok(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Err(wait) => {
                let detail = format!("not sent: a rate of this destination lets it go in {} s", wait.as_secs().max(1));
                let wish = Verdict::new(Class::Retry, Reason::RateLimited, detail);
                Err(Verdict { retry_after: Some(wait), scope: Scope::Record, ..wish })
            }
        }
    }

    /// A delivery took so many requests.
    pub(super) fn costs(&self, requests: usize) {
        self.state().rates.costs(requests);
    }

    /// What was sent at `began` was answered as by a destination that works. True: it was held until now.
    pub(super) fn works(&self, record: &str, began: Timestamp) -> bool {
        let mut state = self.state();
        let ended = state.circuit.works(record, began);
        state.changes += u64::from(ended);
        ended
    }

    /// A delivery failed. With news of a hold comes the hold, to be written down: tell `written` then.
    pub(super) fn fails(&self, record: &str, verdict: &Verdict, now: Timestamp) -> (Ruling, Option<Hold>) {
        let mut state = self.state();
        let ruling = state.circuit.fails(record, verdict, now);
        let news = matches!(ruling, Ruling::Held { news: true, .. });
        let hold = state.circuit.hold().filter(|_| news).cloned();
        if news {
            state.changes += 1;
            state.writing += 1;
            drop(state);
            self.changed.notify_waiters();
        }
        (ruling, hold)
    }

    /// A change of the circuit is in the ledger, or can't get there.
    pub(super) fn written(&self) {
        let mut state = self.state();
        state.writing = state.writing.saturating_sub(1);
    }

    /// What to give to `adopt` with what is read of the ledger from now on.
    pub(super) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Takes over what the ledger says of the destination, unless the circuit has changed since `changes`.
    pub(super) fn adopt(&self, hold: Option<Hold>, changes: u64) {
        let mut state = self.state();
        if state.changes != changes || state.writing > 0 {
            return;
        }
        state.circuit.adopt(hold);
        drop(state);
        self.changed.notify_waiters();
    }
}

pub(super) fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now + SignedDuration::try_from(wait).unwrap_or(SignedDuration::from_hours(24))
}
