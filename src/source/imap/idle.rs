//! Waiting for new mail: IDLE where the server offers it (RFC 2177), with a look at the mailbox behind it all
//! the same, because an IDLE may be dead without a sign. Uses no CPU while nothing comes.

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::connection::Connection;
use super::settings::Settings;
use crate::source::Fault;

/// Why the waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// The server told of more messages.
    News,
    /// It is time to look without being told.
    Due,
    /// The source is to stop.
    Stopped,
}

/// Waits. `idle_works` becomes false when the server offers IDLE and then refuses it.
pub(super) async fn wait(
    connection: &mut Connection,
    settings: &Settings,
    idle_works: &mut bool,
    stop: &CancellationToken,
) -> Result<Woken, Fault> {
    if connection.news() {
        return Ok(Woken::News);
    }
    if settings.idle && *idle_works && connection.capabilities().has("IDLE") {
        if connection.idle().await? {
            return idle(connection, settings, stop).await;
        }
        *idle_works = false;
        warn!("the mail server offers IDLE but refuses it; the mailbox is looked at every {} s", settings.poll_seconds);
    }
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(Woken::Stopped),
        () = sleep(settings.period(false)) => Ok(Woken::Due),
    }
}

async fn idle(connection: &mut Connection, settings: &Settings, stop: &CancellationToken) -> Result<Woken, Fault> {
    let period = settings.period(true);
    let until = Instant::now() + period;
    let woken = loop {
        if connection.news() {
            break Woken::News;
        }
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => break Woken::Stopped,
            () = sleep_until(until) => break Woken::Due,
            read = connection.next("idle", period * 2, is_tagged) => read?,
        };
        // The server has ended it by itself: there is no IDLE left to end.
        if ended == Some(true) {
            return Ok(if connection.news() { Woken::News } else { Woken::Due });
        }
    };
    connection.done().await?;
    Ok(woken)
}

fn is_tagged(response: &async_imap::imap_proto::Response<'_>) -> bool {
    matches!(response, async_imap::imap_proto::Response::Done { .. })
}
