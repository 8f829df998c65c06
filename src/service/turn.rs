//! Whose turn it is to read a source, where several instances share a ledger: one reads a mailbox, the others wait
//! for it to end or to die. Listeners run everywhere.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::wait;
use crate::config::SourceConfig;
use crate::ledger::Ledger;
use crate::source::Recipe as _;

/// How long the right to read lasts: so long nobody reads when the reader dies.
const LEASE: Duration = Duration::from_secs(15);
/// How often it is prolonged.
const EVERY: Duration = Duration::from_secs(4);
/// How often the others ask for it.
const ASK: Duration = Duration::from_secs(3);

/// The right to read a source.
pub(super) struct Turn {
    /// What accepts under it.
    pub(super) ledger: Ledger,
    /// Cancelled when it is over, or at a stop.
    pub(super) stop: CancellationToken,
    keeper: Option<JoinHandle<()>>,
}

impl Turn {
    /// Waits for it. `None` at a stop.
    pub(super) async fn wait_for(ledger: &Ledger, source: &SourceConfig, stop: &CancellationToken) -> Option<Self> {
        let mut said = false;
        while !stop.is_cancelled() {
            let over = stop.child_token();
            if !ledger.is_shared() || !source.kind.reads_alone() {
                return Some(Self { ledger: ledger.clone(), stop: over, keeper: None });
            }
            match ledger.take_source(&source.name, LEASE, Timestamp::now()).await {
                Ok(Some(ledger)) => {
                    tracing::info!(source = source.name, "this instance reads the source");
                    let keeper = tokio::spawn(keep(ledger.clone(), source.name.clone(), over.clone()));
                    return Some(Self { ledger, stop: over, keeper: Some(keeper) });
                }
                Ok(None) if !said => {
                    said = true;
                    tracing::info!(
                        source = source.name,
                        "another instance reads the source; this one takes over if it ends"
                    );
                }
                Ok(None) => {}
                Err(fault) => {
                    tracing::error!(source = source.name, error = %fault, "the ledger does not say who reads; trying again");
                }
            }
            wait(ASK.mul_f64(0.8 + 0.4 * fastrand::f64()), stop).await;
        }
        None
    }

    /// Gives it back.
    pub(super) async fn end(self) {
        self.stop.cancel();
        let Some(keeper) = self.keeper else { return };
        let _ = keeper.await;
        if let Err(fault) = self.ledger.leave_source().await {
            tracing::debug!(error = %fault, "the right to read a source ends by itself");
        }
    }
}

async fn keep(ledger: Ledger, source: String, over: CancellationToken) {
    let mut kept = Instant::now();
    loop {
        wait(EVERY, &over).await;
        if over.is_cancelled() {
            return;
        }
        let asked = Instant::now();
        match ledger.keep_source(LEASE, Timestamp::now()).await {
            Ok(true) => kept = asked,
            Ok(false) => break,
            Err(_) if kept.elapsed() < LEASE => {}
            Err(_) => break,
        }
    }
    tracing::warn!(source, "another instance may read the source now; this one stops reading it");
    over.cancel();
}
