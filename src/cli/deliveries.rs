//! `deliveries`: sessions on their way to destinations; dead letters and parked ones by hand.

use clap::Subcommand;
use jiff::Timestamp;

use super::filter::{self, FilterArgs};
use super::{Context, Failure, Result, output};
use crate::config::{Config, Way};
use crate::ids::DeliveryId;
use crate::ledger::{DeliveryState, Ledger};

/// The deliveries: sessions on their way to destinations.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mail2crm deliveries list --state dead\n  mail2crm deliveries show 17\n  mail2crm deliveries retry --all --destination helpdesk --since 2d --dry-run\n  mail2crm deliveries release 17 --record C-100482"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, newest first.
    #[command(after_help = "Example: mail2crm deliveries list --state dead --since 2d")]
    List {
        /// `waiting`, `sending`, `parked`, `delivered`, `unchanged`, `superseded`, `dead` or `discarded`.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// The whole story of one: every attempt with request and answer.
    #[command(after_help = "Example: mail2crm deliveries show 17")]
    Show {
        /// Its number.
        id: DeliveryId,
    },
    /// Try dead ones again now: those with these numbers, or all that fit.
    ///
    /// Everything that is given must fit. Without `--state` the dead ones are meant. Those whose session has a newer
    /// version are not sent; of those that wait already only the time changes. A service that runs goes on with them.
    #[command(
        after_help = "Examples:\n  mail2crm deliveries retry 17 18\n  mail2crm deliveries retry --all --dry-run\n  mail2crm deliveries retry --destination helpdesk --reason unknown_field --since 2d"
    )]
    Retry {
        /// Their numbers.
        #[arg(conflicts_with_all = ["all", "state"])]
        ids: Vec<DeliveryId>,
        /// All of them, or all that fit.
        #[arg(long)]
        all: bool,
        /// Those in this state: `dead` if not said; also `discarded`, `waiting`, and `parked` if the brake holds them.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        filter: FilterArgs,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Let waiting, parked or dead ones go.
    #[command(after_help = "Example: mail2crm deliveries discard 17 --why 'the case is closed for good'")]
    Discard {
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<DeliveryId>,
        /// Why, for those who ask later.
        #[arg(long)]
        why: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Give parked or dead ones the record they belong to, or let go what the brake holds back.
    #[command(
        after_help = "Examples:\n  mail2crm deliveries release 17 --record C-100482\n  mail2crm deliveries release 18   (held back by the brake: it has a record)"
    )]
    Release {
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<DeliveryId>,
        /// The record's id in the CRM. Not needed for those that have one.
        #[arg(long)]
        record: Option<String>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    let (config, ledger) = context.open()?;
    let runtime = super::runtime()?;
    let now = Timestamp::now();
    let handled = match args.command {
        Command::List { state, filter } => {
            let known: Vec<&str> = DeliveryState::ALL.iter().map(|s| s.as_str()).collect();
            let state = filter::state(state.as_deref(), &known, DeliveryState::from_word)?;
            let rows = runtime.block_on(ledger.deliveries(filter.filter(state)?))?;
            if context.json {
                return rows.iter().try_for_each(output::print_line);
            }
            let rows: Vec<Vec<String>> = rows
                .into_iter()
                .map(|d| {
                    let next = d.next_at.map(output::time).unwrap_or_default();
                    let (state, session) =
                        (d.state.as_str().to_owned(), format!("{} v{}", d.session, d.version_number));
                    vec![
                        d.id.to_string(),
                        state,
                        session,
                        d.destination,
                        d.record.unwrap_or_default(),
                        d.attempts.to_string(),
                        next,
                        d.reason.unwrap_or_default(),
                    ]
                })
                .collect();
            return output::print_table(
                &["DELIVERY", "STATE", "SESSION", "DESTINATION", "RECORD", "TRIES", "NEXT OR DEADLINE", "REASON"],
                &rows,
            );
        }
        Command::Show { id } => {
            let story = runtime.block_on(ledger.delivery_story(id))?.ok_or_else(|| {
                Failure::Usage(
                    format!("there is no delivery {id}"),
                    "`mail2crm deliveries list` shows their numbers".to_owned(),
                )
            })?;
            return output::print_story(context.json, &story);
        }
        Command::Retry { ids, all, state, filter, dry_run } => {
            let state = retried(state.as_deref())?;
            let ids = match (ids.is_empty(), filter.is_empty()) {
                (false, true) => ids,
                (false, false) => {
                    return Err(Failure::Usage(
                        "numbers and filters together are not clear".to_owned(),
                        "name the deliveries, or say what they have in common".to_owned(),
                    ));
                }
                (true, true) if !all && state.is_none() => {
                    return Err(Failure::Usage(
                        "which deliveries are to be retried was not said".to_owned(),
                        "name them, narrow them down (`--destination helpdesk --since 2d`), or say `--all`".to_owned(),
                    ));
                }
                (true, _) => {
                    let filter = filter.every(state.or(Some(DeliveryState::Dead)))?;
                    runtime.block_on(ledger.delivery_ids(filter))?
                }
            };
            return retry(context, &runtime, &ledger, &ids, dry_run, now);
        }
        Command::Discard { ids, why, dry_run } => runtime.block_on(ledger.discard(ids, &why, dry_run, now))?,
        Command::Release { ids, record, dry_run } => {
            if let Some(record) = &record {
                for id in &ids {
                    let story = runtime.block_on(ledger.delivery_story(*id))?;
                    fits(&config, story.as_ref().map_or("", |s| s.delivery.destination.as_str()), record)?;
                }
            }
            runtime.block_on(ledger.release(ids, record.as_deref(), dry_run, now))?
        }
    };
    output::print_handled(context.json, "delivery", &handled)
}

/// A record that can't be one of the destination's CRM is refused before anything goes there.
fn fits(config: &Config, destination: &str, record: &str) -> Result {
    let found = config.destinations.iter().find(|d| d.name == destination);
    let connector = match found.map(|d| &d.way) {
        Some(Way::Rest { to, .. } | Way::Email { to, .. }) => &to.connector,
        _ => return Ok(()),
    };
    match connector.refuses_record(record).filter(|_| connector.manifest.record.required) {
        None => Ok(()),
        Some(why) => Err(Failure::Usage(why, format!("`--record` takes an id as `{destination}` knows it"))),
    }
}

/// The states that a retry can be asked for.
fn retried(word: Option<&str>) -> Result<Option<DeliveryState>> {
    use DeliveryState::{Dead, Discarded, Parked, Waiting};
    let known = [Dead, Discarded, Waiting, Parked].map(DeliveryState::as_str);
    filter::state(word, &known, |word| DeliveryState::from_word(word).filter(|state| known.contains(&state.as_str())))
}

/// Batch by batch, so that others write in between.
fn retry(
    context: &Context,
    runtime: &tokio::runtime::Runtime,
    ledger: &Ledger,
    ids: &[DeliveryId],
    dry_run: bool,
    now: Timestamp,
) -> Result {
    const BATCH: usize = 256;
    let (mut retried, mut all_well) = (0_usize, true);
    for batch in ids.chunks(BATCH) {
        let handled = runtime.block_on(ledger.retry(batch.to_vec(), dry_run, now))?;
        let is_back = |state| matches!(state, DeliveryState::Waiting | DeliveryState::Parked);
        retried += handled.iter().filter(|one| one.after.is_some_and(is_back)).count();
        match output::print_handled(context.json, "delivery", &handled) {
            Err(Failure::NotAllWell) => all_well = false,
            other => other?,
        }
    }
    if dry_run {
        eprintln!("nothing was changed: {retried} of {} would be put back in line", ids.len());
    } else if ids.is_empty() {
        eprintln!("no delivery fits: nothing was changed");
    } else if context.verbosity >= 0 && ids.len() > 1 {
        eprintln!("{retried} of {} are back in line", ids.len());
    }
    if all_well { Ok(()) } else { Err(Failure::NotAllWell) }
}
