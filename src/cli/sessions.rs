//! `sessions`: what was found, with its versions and deliveries.

use clap::Subcommand;

use super::filter::{self, FilterArgs};
use super::{Context, Failure, Result, output};
use crate::ledger::DeliveryState;

/// The sessions that were found.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mail2crm sessions list --record C-100482\n  mail2crm sessions show voice-48213")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, newest first.
    #[command(after_help = "Example: mail2crm sessions list --record C-100482")]
    List {
        /// Only those with a delivery in this state, such as `parked` or `dead`.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// The whole story of one: its versions, where each value came from, every delivery and attempt.
    #[command(after_help = "Example: mail2crm sessions show voice-48213")]
    Show {
        /// Such as `voice-48213`, or `emea/voice-48213` for an instance other than `default`.
        session: String,
    },
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    let (_, ledger) = context.open()?;
    let runtime = super::runtime()?;
    match args.command {
        Command::List { state, filter } => {
            let known: Vec<&str> = DeliveryState::ALL.iter().map(|s| s.as_str()).collect();
            let state = filter::state(state.as_deref(), &known, DeliveryState::from_word)?;
            let rows = runtime.block_on(ledger.sessions(filter.filter(state)?))?;
            if context.json {
                return rows.iter().try_for_each(output::print_line);
            }
            let rows: Vec<Vec<String>> = rows
                .into_iter()
                .map(|s| {
                    let deliveries =
                        s.deliveries.iter().map(|(state, n)| format!("{n} {state}")).collect::<Vec<_>>().join(", ");
                    let updated = s.updated_at.map(output::time).unwrap_or_default();
                    vec![s.key, s.versions.to_string(), updated, output::time(s.changed_at), deliveries]
                })
                .collect();
            output::print_table(&["SESSION", "VERSIONS", "UPDATED", "CHANGED", "DELIVERIES"], &rows)
        }
        Command::Show { session } => {
            let key = filter::session_key(&session)?;
            let story = runtime.block_on(ledger.session_story(&key))?.ok_or_else(|| {
                Failure::Usage(
                    format!("there is no session {session}"),
                    "`mail2crm sessions list` shows them".to_owned(),
                )
            })?;
            output::print_story(context.json, &story)
        }
    }
}
