//! The HTTP console of a running service: `GET /healthz` says whether it works, for monitors and for people.
//!
//! It decides nothing and changes nothing but one small row that proves that the ledger can be written. Never in an
//! answer: addresses, record ids, session ids, anything of a mail.

mod health;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::Mutex as Turn;
use tokio_util::sync::CancellationToken;

pub use health::{DestinationHealth, Health, LedgerHealth, SourceHealth, judge};

use crate::ledger::Ledger;
use crate::source::{Fault, Pulse};

/// How long an answer is good: whoever asks often costs no more than who asks now and then.
const FRESH: Duration = Duration::from_secs(5);
/// A ledger that takes longer for a small write is not one that sources can rely on.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to listen.
const AGAIN: Duration = Duration::from_secs(10);

/// What the operator says of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How old the oldest delivery that is in line may be.
    pub overdue: Duration,
}

/// What is known of the sources of a running service.
#[derive(Debug)]
pub struct Watch {
    /// When the service started.
    pub started: Timestamp,
    /// The sources, by name.
    pub sources: BTreeMap<String, Watched>,
    /// The destinations.
    pub destinations: Vec<String>,
}

/// One source.
#[derive(Debug)]
pub struct Watched {
    /// Its signs of life.
    pub pulse: Pulse,
    /// The longest time between two of them while all is well; `None` if it waits to be called.
    pub period: Option<Duration>,
    stopped: Mutex<Option<Stopped>>,
}

/// How a source last stopped by itself.
#[derive(Debug, Clone)]
pub struct Stopped {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub fault: Fault,
}

impl Watched {
    /// A source that was not started yet.
    pub fn new(period: Option<Duration>) -> Self {
        Self { pulse: Pulse::default(), period, stopped: Mutex::default() }
    }

    /// It stopped by itself.
    pub fn stopped(&self, at: Timestamp, fault: &Fault) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stopped { at, fault: fault.clone() });
    }

    /// How it last stopped, if it has not looked since.
    pub fn fault(&self) -> Option<Stopped> {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stopped.filter(|stopped| self.pulse.last_look().is_none_or(|look| look <= stopped.at))
    }
}

struct Console {
    settings: Settings,
    ledger: Ledger,
    watch: Arc<Watch>,
    /// The last answer; who asks while it is made waits for it.
    last: Turn<Option<(Instant, Health)>>,
}

/// Answers until `stop`. If it can't listen, it says so and tries again: the service works without it.
pub async fn serve(settings: Settings, ledger: Ledger, watch: Arc<Watch>, stop: CancellationToken) {
    let console = Arc::new(Console { settings, ledger, watch, last: Turn::new(None) });
    let router = Router::new().route("/healthz", get(healthz)).with_state(console);
    while !stop.is_cancelled() {
        match TcpListener::bind(settings.listen).await {
            Ok(listener) => {
                tracing::info!("the console answers on http://{}/healthz", settings.listen);
                let until = stop.clone().cancelled_owned();
                if let Err(error) = axum::serve(listener, router.clone()).with_graceful_shutdown(until).await {
                    tracing::error!(%error, "the console stopped; it is started again");
                }
            }
            Err(error) => tracing::error!(
                listen = %settings.listen, %error, "the console can't listen there; the service works without it, and it tries again"
            ),
        }
        let _stopped = stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
    }
}

async fn healthz(State(console): State<Arc<Console>>) -> Response {
    let health = console.health().await;
    let status = if health.is_well() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(health)).into_response()
}

impl Console {
    async fn health(&self) -> Health {
        let mut last = self.last.lock().await;
        if let Some((at, health)) = &*last
            && at.elapsed() < FRESH
        {
            return health.clone();
        }
        let begun = Instant::now();
        let asked = tokio::time::timeout(PATIENCE, async {
            self.ledger.beat(Timestamp::now()).await?;
            let wrote = begun.elapsed();
            Ok((wrote, self.ledger.backlog().await?, self.ledger.paused().await?))
        });
        let ledger = match asked.await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(fault)) => Err(crate::ledger::Fault::to_string(&fault)),
            Err(_) => Err(format!("the ledger does not answer within {} s", PATIENCE.as_secs())),
        };
        let health = judge(&self.watch, self.settings.overdue, ledger, Timestamp::now());
        *last = Some((Instant::now(), health.clone()));
        health
    }
}

#[cfg(test)]
mod tests;
