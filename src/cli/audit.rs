//! `audit`: proves from the ledger that every message and session is accounted for.

use super::{Context, Failure, Result, output};

/// Prove that every message and session is accounted for; exit 1 if not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mail2crm audit && echo all accounted for")]
pub(super) struct Args {}

pub(super) fn run(context: &Context, _: Args) -> Result {
    let (_, ledger) = context.open()?;
    let audit = super::runtime()?.block_on(ledger.audit())?;
    if context.json {
        output::print_line(&audit)?;
    } else {
        output::print_text(&audit.to_string())?;
    }
    if audit.is_complete() { Ok(()) } else { Err(Failure::NotAllWell) }
}
