//! `run`: the service.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Context, Result};
use crate::service::Service;
use crate::telemetry;

/// Run the service: read the sources, update the records, until SIGTERM or Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: mail2crm --config /etc/mail2crm/mail2crm.toml run\n\nLogs go to stderr; `log = \"json\"` in the configuration makes them JSON."
)]
pub(super) struct Args {}

pub(super) fn run(context: &Context, _: Args) -> Result {
    let config = context.config()?;
    telemetry::start(if context.verbosity < 0 { context.verbosity } else { context.verbosity + 1 }, config.log);
    let ledger = super::open_ledger(&config.ledger)?;
    let service = Service::build(config, ledger)?;
    super::runtime()?.block_on(async {
        let stop = stop_on_signal()?;
        service.run(stop).await?;
        Ok(())
    })
}

/// Cancelled by SIGTERM or SIGINT.
pub(super) fn stop_on_signal() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    Ok(stop)
}
