//! Once an hour: removes raw mail that is older than the operator keeps it, batch by batch, with a rest between
//! them in which everybody else writes. What fails is tried again the next time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::config::KeepRaw;
use crate::ids::MessageId;
use crate::ledger::{Brake, Fault, Ledger};

const EVERY: Duration = Duration::from_secs(3600);
/// Between two batches.
const REST: Duration = Duration::from_millis(100);

/// Works until it is stopped.
pub(super) async fn keep(ledger: Ledger, keep_raw: KeepRaw, brake: Brake, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let now = Timestamp::now();
        match sweep(&ledger, keep_raw, now).await {
            Ok((0, _)) => {}
            Ok((messages, bytes)) => tracing::info!(messages, bytes, "removed raw mail that was kept long enough"),
            Err(fault) => {
                tracing::error!(error = %fault, "raw mail could not be removed; it is tried again in an hour")
            }
        }
        let counted = now.saturating_sub(SignedDuration::from_millis(brake.window_ms)).unwrap_or(Timestamp::MIN);
        if let Err(fault) = ledger.sweep_repeats(counted).await {
            tracing::error!(error = %fault, "what the brake counted could not be forgotten; it is tried again in an hour");
        }
        super::wait(EVERY, &stop).await;
    }
}

/// Messages and bytes removed.
async fn sweep(ledger: &Ledger, keep_raw: KeepRaw, now: Timestamp) -> Result<(u64, u64), Fault> {
    let KeepRaw::Days(days) = keep_raw else { return Ok((0, 0)) };
    let kept = SignedDuration::from_hours(i64::from(days) * 24);
    let before = now.saturating_sub(kept).unwrap_or(Timestamp::MIN);
    let (mut messages, mut bytes, mut next) = (0, 0, Some(MessageId(0)));
    while let Some(after) = next {
        let swept = ledger.sweep_raws(after, before, now).await?;
        (messages, bytes, next) = (messages + swept.messages, bytes + swept.bytes, swept.next);
        if next.is_some() {
            tokio::time::sleep(REST).await;
        }
    }
    Ok((messages, bytes))
}
