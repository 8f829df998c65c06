//! `pause` and `resume`: a destination by hand.

use jiff::Timestamp;

use super::{Context, Failure, Result, output};
use crate::config::Config;
use crate::diagnostic::suggest;
use crate::ledger::Paused;

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
    super::runtime()?.block_on(ledger.pause(&args.destination, &args.why, Timestamp::now()))?;
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

/// Says on standard error which destinations are held, and why.
pub(super) fn tell_held(held: &[Paused]) {
    for paused in held {
        let (name, since, detail) = (&paused.destination, output::time(paused.since), &paused.detail);
        let until = match paused.until {
            Some(until) => format!("it is probed by itself at {}", output::time(until)),
            None => format!("until `mail2crm resume {name}`"),
        };
        let why = if paused.by_hand() { detail.clone() } else { format!("{} ({detail})", paused.reason) };
        eprintln!("`{name}` is held since {since}: {}; {until}", output::harmless(&why));
    }
}

/// A destination of the configuration.
pub(super) fn known(config: &Config, name: &str) -> Result {
    if config.destinations.iter().any(|d| d.name == name) {
        return Ok(());
    }
    let hint = suggest(name, config.destinations.iter().map(|d| d.name.as_str()).collect::<Vec<_>>());
    Err(Failure::Usage(format!("there is no destination `{name}`"), hint))
}
