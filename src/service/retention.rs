//! Once an hour: removes raw mail and what is left of finished work that is older than the operator keeps it, batch by
//! batch, with a rest between them in which everybody else writes. What fails is tried again the next time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::config::Keeping;
use crate::ids::MessageId;
use crate::ledger::{Brake, Done, Fault, Ledger};

const EVERY: Duration = Duration::from_secs(3600);
/// Between two batches.
const REST: Duration = Duration::from_millis(100);

/// Works until it is stopped.
pub(super) async fn keep(ledger: Ledger, keeping: Keeping, brake: Brake, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let now = Timestamp::now();
        match sweep(&ledger, keeping, now).await {
            Ok(Swept { messages: 0, attempts: 0, sessions: 0, .. }) => {}
            Ok(Swept { messages, bytes, attempts, sessions }) => {
                tracing::info!(messages, bytes, attempts, sessions, "removed what was kept long enough");
            }
            Err(fault) => {
                tracing::error!(error = %fault, "what was kept long enough could not be removed; it is tried again in an hour")
            }
        }
        let counted = now.saturating_sub(SignedDuration::from_millis(brake.window_ms)).unwrap_or(Timestamp::MIN);
        if let Err(fault) = ledger.sweep_repeats(counted).await {
            tracing::error!(error = %fault, "what the brake counted could not be forgotten; it is tried again in an hour");
        }
        super::wait(EVERY, &stop).await;
    }
}

/// What was removed.
#[derive(Default)]
struct Swept {
    messages: u64,
    bytes: u64,
    /// Deliveries whose requests and answers are gone.
    attempts: u64,
    sessions: u64,
}

async fn sweep(ledger: &Ledger, keeping: Keeping, now: Timestamp) -> Result<Swept, Fault> {
    let mut swept = Swept::default();
    if let Some(before) = keeping.raw.until(now) {
        let mut next = Some(MessageId(0));
        while let Some(after) = next {
            let batch = ledger.sweep_raws(after, before, now).await?;
            (swept.messages, swept.bytes, next) =
                (swept.messages + batch.messages, swept.bytes + batch.bytes, batch.next);
            rest(next.is_some()).await;
        }
    }
    for (keep, what, sum) in [
        (keeping.attempts, Done::Attempts, &mut swept.attempts),
        (keeping.sessions, Done::Sessions, &mut swept.sessions),
    ] {
        let Some(before) = keep.until(now) else { continue };
        let mut next = Some(0);
        while let Some(after) = next {
            let batch = ledger.sweep_finished(what, after, before, now).await?;
            (*sum, next) = (*sum + batch.removed, batch.next);
            rest(next.is_some()).await;
        }
    }
    Ok(swept)
}

async fn rest(more: bool) {
    if more {
        tokio::time::sleep(REST).await;
    }
}
