//! `sessions`: what was found, with its versions and deliveries.

use clap::Subcommand;
use jiff::Timestamp;

use super::filter::{self, FilterArgs};
use super::{Context, Failure, Result, output};
use crate::ledger::DeliveryState;

/// The sessions that were found.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mail2crm sessions list --record C-100482\n  mail2crm sessions show voice-48213\n  mail2crm sessions erase voice-48213 --dry-run"
)]
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
    /// Remove one from everywhere in the ledger, with the raw mails that hold it, and say what was removed.
    ///
    /// What was sent stays in the CRM and in files of a `storage` destination. Mails in which it was not found (in
    /// quarantine, automatic replies) are not looked into. If it comes again, it is a new session.
    #[command(
        after_help = "Examples:\n  mail2crm sessions erase voice-48213 --dry-run\n  mail2crm --json sessions erase voice-48213 > receipt.json"
    )]
    Erase {
        /// Such as `voice-48213`, or `emea/voice-48213` for an instance other than `default`.
        session: String,
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
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
            let story = runtime.block_on(ledger.session_story(&key))?.ok_or_else(|| none(&session))?;
            output::print_story(context.json, &story)
        }
        Command::Erase { session, dry_run } => {
            let key = filter::session_key(&session)?;
            let now = Timestamp::now();
            let erased = runtime.block_on(ledger.erase(&key, dry_run, now))?.ok_or_else(|| none(&session))?;
            drop(ledger);
            output::print_story(context.json, &erased)?;
            if !context.json && !erased.under_way.is_empty() {
                eprintln!("a delivery of it was being sent: its effect may still come");
            }
            if !dry_run && !erased.overwritten {
                eprintln!("another program was reading the ledger: the bytes leave its files a little later");
            }
            if !dry_run && !erased.rewritten {
                eprintln!(
                    "the ledger was not written anew: `sqlite3 LEDGER VACUUM` in a quiet hour clears unused parts of its pages too"
                );
            }
            Ok(())
        }
    }
}

fn none(session: &str) -> Failure {
    Failure::Usage(format!("there is no session {session}"), "`mail2crm sessions list` shows them".to_owned())
}
