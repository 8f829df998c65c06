//! `messages`: what was received, and what became of it.

use std::sync::Arc;

use clap::Subcommand;
use jiff::Timestamp;

use super::filter::{self, FilterArgs};
use super::{Context, Failure, Result, output, process};
use crate::ids::MessageId;
use crate::intake::{self, Gate, Rules};
use crate::ledger::{MessageRow, MessageState};
use crate::message::authenticity::{TrustPolicy, Verdict};
use crate::service::Router;
use crate::source::{Content, Envelope, Received};
use crate::verify::{Dns, Verifier};

/// The messages that were received.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mail2crm messages list --state quarantined\n  mail2crm messages show 42\n  mail2crm messages reprocess 42"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, newest first.
    #[command(after_help = "Example: mail2crm messages list --state quarantined --since 2d")]
    List {
        /// `processed`, `ignored`, `quarantined` or `discarded`.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// The whole story of one: what was found, where each value came from, every delivery and attempt.
    #[command(after_help = "Examples:\n  mail2crm messages show 42\n  mail2crm messages show 42 --raw > message.eml")]
    Show {
        /// Its number.
        id: MessageId,
        /// Print the raw message instead, as it was received.
        #[arg(long)]
        raw: bool,
    },
    /// Read quarantined or ignored ones again, with today's profile, policy and program.
    #[command(after_help = "Example: mail2crm messages reprocess 42 43")]
    Reprocess {
        /// Vouch for them: their sessions may cause an effect, whatever `trust` says.
        #[arg(long)]
        trust: bool,
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<MessageId>,
    },
    /// Let quarantined ones go; their bytes are kept.
    #[command(after_help = "Example: mail2crm messages discard 42 --why 'a test mail'")]
    Discard {
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<MessageId>,
        /// Why, for those who ask later.
        #[arg(long)]
        why: String,
    },
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    let (config, ledger) = context.open()?;
    let runtime = super::runtime()?;
    match args.command {
        Command::List { state, filter } => {
            let known: Vec<&str> = MessageState::ALL.iter().map(|s| s.as_str()).collect();
            let state = filter::state(state.as_deref(), &known, MessageState::from_word)?;
            let rows = runtime.block_on(ledger.messages(filter.filter(state)?))?;
            if context.json {
                return rows.iter().try_for_each(output::print_line);
            }
            let rows: Vec<Vec<String>> = rows
                .into_iter()
                .map(|m| {
                    let what = if m.sessions.is_empty() { m.reason.unwrap_or_default() } else { m.sessions.join(", ") };
                    vec![
                        m.id.to_string(),
                        output::time(m.received_at),
                        m.state.as_str().to_owned(),
                        m.source,
                        m.input,
                        what,
                    ]
                })
                .collect();
            output::print_table(&["MESSAGE", "RECEIVED", "STATE", "SOURCE", "INPUT", "SESSIONS OR REASON"], &rows)
        }
        Command::Show { id, raw: true } => {
            let story = runtime.block_on(ledger.message_story(id))?.ok_or_else(|| none(id))?;
            let raw = runtime.block_on(ledger.message_raw(id))?.ok_or_else(|| gone(&story.message))?;
            Ok(std::io::Write::write_all(&mut std::io::stdout().lock(), &raw)?)
        }
        Command::Show { id, raw: false } => {
            let story = runtime.block_on(ledger.message_story(id))?.ok_or_else(|| none(id))?;
            output::print_story(context.json, &story)
        }
        Command::Discard { ids, why } => {
            let handled = runtime.block_on(ledger.message_discard(ids, &why))?;
            output::print_handled(context.json, "message", &handled)
        }
        Command::Reprocess { ids, trust: vouched } => {
            let router = Arc::new(Router::new(&config));
            let verifier = Verifier::new(Dns::network());
            let mut all_done = true;
            for id in ids {
                let story = runtime.block_on(ledger.message_story(id))?.ok_or_else(|| none(id))?;
                let Some(raw) = runtime.block_on(ledger.message_raw(id))? else {
                    all_done = false;
                    eprintln!("message {id}: left as it is: {}", removed(&story.message));
                    continue;
                };
                let of_source = config.sources.iter().find(|s| s.name == story.message.source).map(|s| s.rules.clone());
                let own = process::own_key(&config);
                let rules = of_source.map_or_else(
                    || process::rules(&config, &story.message.source),
                    |rules| Rules { own, ..(*rules).clone() },
                );
                let rules = if vouched { Rules { trust: TrustPolicy::Anyone, ..rules } } else { rules };
                let content =
                    if story.message.is_document { Content::Document(raw.into()) } else { Content::Mail(raw.into()) };
                let received = Received {
                    input: story.message.input.clone(),
                    content,
                    envelope: Envelope::default(),
                    received_at: Some(story.message.received_at),
                };
                let now = Timestamp::now();
                let mut reading = intake::read_safely(&received, &rules);
                let trust = runtime.block_on(Gate::new(&rules, &verifier).admit(&received, &mut reading, now));
                if trust.verdict == Verdict::Unknown {
                    all_done = false;
                    eprintln!("message {id}: left as it is: {trust}");
                    continue;
                }
                if vouched {
                    reading.notes.push("trusted by hand".to_owned());
                }
                let row = intake::row(&story.message.source, &received, reading, &*router, now);
                let (state, reason) = (row.state, row.reason);
                let done = runtime.block_on(ledger.reprocess(id, row, router.clone(), now))?;
                all_done &= done.is_some() && state != MessageState::Quarantined;
                match done {
                    Some(done) => eprintln!(
                        "message {id}: {}{}, {} deliveries",
                        state.as_str(),
                        reason.map(|r| format!(" ({r})")).unwrap_or_default(),
                        done.deliveries
                    ),
                    None => eprintln!("message {id}: left as it is: it is processed already"),
                }
            }
            if all_done { Ok(()) } else { Err(Failure::NotAllWell) }
        }
    }
}

/// Why a message has no raw bytes.
fn removed(message: &MessageRow) -> String {
    let since = message.raw_removed_at.map(output::time).unwrap_or_default();
    match message.raw_removed.as_deref() {
        Some("erased") => format!("its raw bytes were removed on {since}, with a session that was erased"),
        _ => format!("its raw bytes were removed on {since}, as old as `keep_raw_days` in `[privacy]` says"),
    }
}

fn gone(message: &MessageRow) -> Failure {
    let hint = "`mail2crm messages show` has what was found in it".to_owned();
    Failure::Usage(format!("message {}: {}", message.id, removed(message)), hint)
}

fn none(id: MessageId) -> Failure {
    Failure::Usage(format!("there is no message {id}"), "`mail2crm messages list` shows their numbers".to_owned())
}
