//! Builds everything from the configuration, and keeps it running until it is told to stop.
//!
//! Sources are supervised: one that fails is started again from its committed position, with growing
//! pauses. On a stop, sources end first, then intake commits what it holds, then deliveries under way end or
//! are given back; what is left in the ledger is taken up by the next start.

mod retention;
mod router;
mod targets;
mod turn;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use router::Router;
pub use targets::{Targets, build as build_targets};
use turn::Turn;

use crate::config::{Config, SourceConfig, Way};
use crate::console::{self, Watch, Watched};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::dispatch::{Dispatcher, Rules};
use crate::intake::Intake;
use crate::ledger::{Fault, Ledger};
use crate::message::mark::InstanceKey;
use crate::source::{Inlet, Recipe as _};
use crate::verify::{Dns, Verifier};

/// The parts of a running service, or of one `process`.
pub struct Service {
    config: Config,
    ledger: Ledger,
    router: Arc<Router>,
    dispatcher: Arc<Dispatcher>,
    verifier: Arc<Verifier>,
    key: InstanceKey,
    watch: Arc<Watch>,
}

impl Service {
    /// Builds it. Credentials are read for the first time here: those that are not there are reported like
    /// every other fault of the configuration.
    pub fn build(config: Config, ledger: Ledger) -> Result<Self, Diagnostics> {
        let key = key_of(&config)?;
        let targets = targets::build(&config, &key)?;
        targets::make_folders(&config)?;
        let router = Arc::new(Router::new(&config));
        let hours = |hours: u32| Duration::from_secs(u64::from(hours) * 3600);
        let rules = Rules {
            horizon: hours(config.delivery.retry_hours),
            park: hours(config.delivery.park_hours),
            ..Rules::default()
        };
        let dispatcher = Arc::new(Dispatcher::new(ledger.clone(), targets, config.stored(), rules));
        let verifier = Arc::new(Verifier::new(Dns::network()));
        let watched = |source: &SourceConfig| (source.name.clone(), Watched::new(source.kind.period()));
        let watch = Arc::new(Watch {
            started: Timestamp::now(),
            sources: config.sources.iter().map(watched).collect(),
            destinations: config.destinations.iter().map(|d| d.name.clone()).collect(),
        });
        Ok(Self { config, ledger, router, dispatcher, verifier, key, watch })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// An intake for a source with this name.
    pub fn intake(&self, source: &str, rules: Arc<crate::intake::Rules>) -> Intake {
        self.intake_on(self.ledger.clone(), source, rules)
    }

    fn intake_on(&self, ledger: Ledger, source: &str, rules: Arc<crate::intake::Rules>) -> Intake {
        let rules = Arc::new(crate::intake::Rules { own: Some(self.key.clone()), ..(*rules).clone() });
        Intake::new(source, rules, ledger, self.router.clone(), self.verifier.clone())
    }

    /// Delivers what is due now or soon, until nothing is. False, and nothing done, if a service runs on this
    /// ledger: it delivers.
    pub async fn drain(&self, soon: Duration, stop: CancellationToken) -> Result<bool, Fault> {
        let Some(_own) = self.ledger.own()? else { return Ok(false) };
        self.ledger.recover(Timestamp::now()).await?;
        self.look_for().await?;
        self.dispatcher.clone().run(stop, Some(soon)).await;
        Ok(true)
    }

    /// Where look-ups were turned on since, what is parked is looked for too.
    async fn look_for(&self) -> Result<(), Fault> {
        let looks_up = |way: &Way| matches!(way, Way::Rest { to, .. } if to.looks_up());
        let all = self.config.destinations.iter().filter(|d| looks_up(&d.way));
        self.ledger.look_for(all.map(|d| d.name.clone()).collect(), Timestamp::now()).await?;
        Ok(())
    }

    /// Runs until `stop`. Only one service may run on a ledger.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Fault> {
        let Some(_own) = self.ledger.own()? else {
            let path = self.ledger.state();
            return Err(Fault::new(format!("another mail2crm runs on `{path}`; stop it, or name another `state`")));
        };
        let left = self.ledger.recover(Timestamp::now()).await?;
        self.look_for().await?;
        if left > 0 {
            tracing::warn!(
                deliveries = left,
                "the last run ended in the middle of deliveries; what became of them is looked up before any is repeated"
            );
        }
        let sources = TaskTracker::new();
        let this = Arc::new(self);
        for source in &this.config.sources {
            sources.spawn(this.clone().supervise(source.clone(), stop.clone()));
        }
        sources.close();
        let keeper =
            tokio::spawn(retention::keep(this.ledger.clone(), this.config.keeping, this.config.brake, stop.clone()));
        let console = this.config.console.map(|settings| {
            tokio::spawn(console::serve(settings, this.ledger.clone(), this.watch.clone(), stop.clone()))
        });
        let dispatching = CancellationToken::new();
        let dispatch = tokio::spawn(this.dispatcher.clone().run(dispatching.clone(), None));
        let names = |n: Vec<&str>| n.join(", ");
        tracing::info!(
            sources = names(this.config.sources.iter().map(|s| s.name.as_str()).collect()),
            destinations = names(this.config.destinations.iter().map(|d| d.name.as_str()).collect()),
            "mail2crm is running"
        );
        stop.cancelled().await;
        tracing::info!("stopping: no new mail is taken, deliveries under way may end");
        let patience = Duration::from_secs(u64::from(this.config.delivery.shutdown_seconds));
        let begun = Instant::now();
        if tokio::time::timeout(patience, sources.wait()).await.is_err() {
            tracing::warn!(
                "a source did not stop in time; it goes on from its last committed position at the next start"
            );
        }
        keeper.abort();
        if let Some(console) = console {
            console.abort();
        }
        dispatching.cancel();
        if tokio::time::timeout(patience.saturating_sub(begun.elapsed()), dispatch).await.is_err() {
            tracing::warn!(
                "deliveries are still under way; the next start looks what became of them before it repeats any"
            );
        }
        tracing::info!("mail2crm has stopped");
        Ok(())
    }

    /// Keeps one source running.
    async fn supervise(self: Arc<Self>, config: SourceConfig, stop: CancellationToken) {
        const SHORTEST: Duration = Duration::from_secs(1);
        const LONGEST: Duration = Duration::from_secs(120);
        let name = config.name.as_str();
        let mut pause = SHORTEST;
        while !stop.is_cancelled() {
            let Some(turn) = Turn::wait_for(&self.ledger, &config, &stop).await else { return };
            let begun = Instant::now();
            let positions = match self.ledger.positions(name).await {
                Ok(positions) => positions,
                Err(fault) => {
                    turn.end().await;
                    tracing::error!(source = name, error = %fault, "the source's position can't be read; trying again");
                    wait(pause, &stop).await;
                    continue;
                }
            };
            let (to_intake, from_source) = mpsc::channel(2);
            let intake =
                tokio::spawn(self.intake_on(turn.ledger.clone(), name, config.rules.clone()).serve(from_source));
            let source = config.kind.clone().build(Timestamp::now());
            let watched = self.watch.sources.get(name);
            let mut inlet = Inlet::new(name, to_intake);
            if let Some(watched) = watched {
                inlet = inlet.with_pulse(watched.pulse.clone());
            }
            let ended = source.run(inlet, positions, turn.stop.clone()).await;
            if let (Some(watched), Err(fault)) = (watched, &ended) {
                watched.stopped(Timestamp::now(), fault);
            }
            // What it had handed over is committed before it may start again.
            if let Err(error) = intake.await {
                tracing::error!(source = name, %error, "intake stopped by a fault of this program; starting it again");
            }
            let lost = turn.stop.is_cancelled();
            turn.end().await;
            match ended {
                Ok(()) if stop.is_cancelled() => return,
                Ok(()) if lost => continue,
                Ok(()) => tracing::info!(source = name, "the source is at its end; looking again later"),
                Err(fault) => tracing::error!(
                    source = name, step = fault.step, reason = %fault.reason, detail = %fault.detail, again_in_seconds = pause.as_secs(),
                    "the source stopped; it is started again from its committed position"
                ),
            }
            pause = if begun.elapsed() > LONGEST { SHORTEST } else { (pause * 2).min(LONGEST) };
            wait(pause.mul_f64(0.8 + 0.4 * fastrand::f64()), &stop).await;
        }
    }
}

/// The key of this instance, made at its first start.
fn key_of(config: &Config) -> Result<InstanceKey, Diagnostics> {
    let mut random = [0; 32];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = match provider.secure_random.fill(&mut random) {
        Ok(()) => config.ledger.instance_key(random).map_err(|error| error.to_string()),
        Err(_) => Err("the system gives no random numbers".to_owned()),
    };
    key.map_err(|sentence| {
        let fault = Diagnostic::of_file(format!("{}: state", config.shown), "not_ready", sentence);
        fault.hint("the key of this instance, by which it knows its own mail, is a file beside the ledger, or in its database").into()
    })
}

async fn wait(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}
