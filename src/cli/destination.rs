//! `pause` and `resume`: a destination by hand.

use jiff::Timestamp;

use super::{Context, Failure, Result};
use crate::config::Config;
use crate::diagnostic::suggest;
use crate::outcome::Reason;

/// Hold a destination: its deliveries wait until `resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mail2crm pause helpdesk --why 'CRM upgrade tonight'")]
pub(super) struct PauseArgs {
    /// The destination's name.
    destination: String,
    /// What `check` and the lists will say.
    #[arg(long, default_value = "paused by hand")]
    why: String,
}

/// Let a held destination go on at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mail2crm resume helpdesk")]
pub(super) struct ResumeArgs {
    /// The destination's name.
    destination: String,
}

pub(super) fn pause(context: &Context, args: PauseArgs) -> Result {
    let (config, ledger) = context.open()?;
    known(&config, &args.destination)?;
    super::runtime()?.block_on(ledger.pause(&args.destination, Reason::Paused, &args.why, None, Timestamp::now()))?;
    eprintln!("`{}` is held until `mail2crm resume {}`", args.destination, args.destination);
    Ok(())
}

pub(super) fn resume(context: &Context, args: ResumeArgs) -> Result {
    let (config, ledger) = context.open()?;
    known(&config, &args.destination)?;
    super::runtime()?.block_on(ledger.resume(&args.destination))?;
    eprintln!("`{}` goes on", args.destination);
    Ok(())
}

/// A destination of the configuration.
pub(super) fn known(config: &Config, name: &str) -> Result {
    if config.destinations.iter().any(|d| d.name == name) {
        return Ok(());
    }
    let hint = suggest(name, config.destinations.iter().map(|d| d.name.as_str()).collect::<Vec<_>>());
    Err(Failure::Usage(format!("there is no destination `{name}`"), hint))
}
