//! Waiting for new mail: IDLE where the server offers it (RFC 2177), with a look at the mailbox behind it all
//! the same, because an IDLE may be dead without a sign. Uses no CPU while nothing comes.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use crate::source::Fault;

/// Longer than any IDLE.
const LONGER: Duration = Duration::from_secs(3600);

/// Why the waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// The server told of more messages.
    News,
    /// The server told of another mailbox.
    Elsewhere,
    /// It is time to look without being told.
    Due,
    /// The server ended IDLE by itself.
    Ended,
    /// The server offers IDLE and then refuses it.
    Refused,
    /// The source is to stop.
    Stopped,
}

/// Waits for `period` at most; with `told` in IDLE.
pub(super) async fn wait(
    connection: &mut Connection,
    told: bool,
    period: Duration,
    stop: &CancellationToken,
) -> Result<Woken, Fault> {
    if let Some(woken) = news(connection) {
        return Ok(woken);
    }
    if told {
        return if connection.idle().await? { idle(connection, period, stop).await } else { Ok(Woken::Refused) };
    }
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(Woken::Stopped),
        () = sleep(period) => Ok(Woken::Due),
    }
}

fn news(connection: &mut Connection) -> Option<Woken> {
    if connection.news() {
        return Some(Woken::News);
    }
    connection.news_elsewhere().then_some(Woken::Elsewhere)
}

async fn idle(connection: &mut Connection, period: Duration, stop: &CancellationToken) -> Result<Woken, Fault> {
    let until = Instant::now() + period;
    let woken = loop {
        if let Some(woken) = news(connection) {
            break woken;
        }
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => break Woken::Stopped,
            () = sleep_until(until) => break Woken::Due,
            read = connection.next("idle", LONGER, is_tagged) => read?,
        };
        // The server has ended it by itself: there is no IDLE left to end.
        if ended == Some(true) {
            return Ok(news(connection).unwrap_or(Woken::Ended));
        }
    };
    connection.done().await?;
    Ok(woken)
}

fn is_tagged(response: &async_imap::imap_proto::Response<'_>) -> bool {
    matches!(response, async_imap::imap_proto::Response::Done { .. })
}
