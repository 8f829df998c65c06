//! `audit`: proves from the ledger that every message and session is accounted for; with `--source`, that it knows all
//! that is in a source, and with `--sessions`, all that an export names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;

use super::export::{self, Exported};
use super::{Context, Failure, Result, output, process};
use crate::config::{BY_HAND, Config, SourceConfig};
use crate::diagnostic::suggest;
use crate::ledger::{KnownSession, Ledger};
use crate::source::{Place, Recipe as _, Sighted};

/// Prove that every message and session is accounted for; exit 1 if not.
///
/// Without options it looks at the ledger alone. `--source` also looks through a mailbox or folder, changes nothing in
/// it, and names what is there and the ledger does not know, with why. `--sessions` compares an export of the
/// contact centre: sessions that were never seen are named, and those that the ledger has in an older version. What was
/// erased counts as never seen.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mail2crm audit && echo all accounted for\n  mail2crm audit --source inbox\n  mail2crm audit --source\n  mail2crm audit --sessions february.csv --sessions metadata/"
)]
pub(super) struct Args {
    /// Look through this source, or through all of them. Can be given several times.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "*")]
    source: Vec<String>,
    /// An export: metadata documents, arrays or lines of JSON, a CSV with a column of ids, or a folder of them.
    #[arg(long, value_name = "FILE|DIR")]
    sessions: Vec<PathBuf>,
    /// The contact-centre instance that the sessions of the export belong to.
    #[arg(long, default_value = "default", requires = "sessions")]
    instance: String,
    /// Also read every byte that the ledger keeps, and compare it with its digest. Takes as long as that.
    #[arg(long)]
    contents: bool,
}

/// Items compared with the ledger at once.
const BATCH: usize = 256;

pub(super) fn run(context: &Context, args: Args) -> Result {
    let (config, ledger) = context.open()?;
    let sources = chosen(&config, &args.source)?;
    let runtime = super::runtime()?;
    let mut audit = runtime.block_on(ledger.audit())?;
    if args.contents {
        audit.gaps.extend(runtime.block_on(ledger.audit_contents())?);
    }
    let mut all_well = audit.is_complete();
    if context.json {
        output::print_line(&audit)?;
    } else {
        output::print_text(&audit.to_string())?;
    }
    for source in sources {
        all_well &= runtime.block_on(through(context, &ledger, source))?;
    }
    if !args.sessions.is_empty() {
        all_well &= sessions(context, &config, &ledger, &runtime, &args)?;
    }
    if all_well { Ok(()) } else { Err(Failure::NotAllWell) }
}

fn chosen<'c>(config: &'c Config, names: &[String]) -> Result<Vec<&'c SourceConfig>> {
    if names.iter().any(|name| name == "*") {
        return Ok(config.sources.iter().collect());
    }
    let find = |name: &String| {
        config.sources.iter().find(|source| source.name == *name).ok_or_else(|| {
            let known: Vec<&str> = config.sources.iter().map(|source| source.name.as_str()).collect();
            Failure::Usage(format!("there is no source `{name}`"), suggest(name, known))
        })
    };
    names.iter().map(find).collect()
}

/// Whether the ledger knows all that is in a source and is to be taken.
async fn through(context: &Context, ledger: &Ledger, source: &SourceConfig) -> Result<bool> {
    let name = source.name.as_str();
    let positions = ledger.positions(name).await?;
    let (to, mut from) = mpsc::channel(BATCH);
    let looking = tokio::spawn(source.kind.clone().build(Timestamp::now()).survey(positions, to));
    let mut account = Account { context, source: name, seen_one: false, counts: BTreeMap::new() };
    let mut batch: Vec<Sighted> = Vec::with_capacity(BATCH);
    while from.recv_many(&mut batch, BATCH).await > 0 {
        let items = batch.iter().map(|one| (one.input.clone(), one.digest.clone())).collect();
        let known = ledger.knows_items(name, items).await?;
        for (sighted, known) in batch.drain(..).zip(known) {
            account.add(&sighted, known)?;
        }
    }
    let looked = looking.await.map_err(anyhow::Error::new)?;
    account.end(looked.err().map(|fault| fault.to_string()), source.kind.period().is_none())
}

/// What became of the items of a source.
struct Account<'a> {
    context: &'a Context,
    source: &'a str,
    /// Whether the ledger knew one of them.
    seen_one: bool,
    counts: BTreeMap<&'static str, u64>,
}

impl Account<'_> {
    fn add(&mut self, sighted: &Sighted, known: bool) -> Result {
        self.seen_one |= known;
        let (word, why) = match sighted.place {
            _ if known => ("known", ""),
            Place::Before => ("before_start", "it is from before `start`"),
            Place::Early if !self.seen_one => ("before_start", "it was there before the first contact"),
            Place::Early | Place::Passed => ("missing", "the source has passed it by, and the ledger does not know it"),
            Place::Ahead => ("not_read", "the source has not read it yet: does the service run?"),
            Place::Unreadable => ("missing", "it could not be read yet; it is tried again"),
        };
        *self.counts.entry(word).or_default() += 1;
        if known || (word == "before_start" && self.context.verbosity <= 0 && !self.context.json) {
            return Ok(());
        }
        if self.context.json {
            let received_at = sighted.received_at;
            return output::print_line(
                &json!({ "source": self.source, "input": sighted.input, "received_at": received_at, "result": word, "why": why }),
            );
        }
        let when = sighted.received_at.map(|at| format!(" of {}", output::time(at))).unwrap_or_default();
        output::print_text(&format!("{} `{}`{when}: {why}\n", word.replace('_', " "), sighted.input))
    }

    fn end(&self, fault: Option<String>, is_listener: bool) -> Result<bool> {
        let count = |word: &str| self.counts.get(word).copied().unwrap_or(0);
        let all_well = fault.is_none() && count("missing") + count("not_read") == 0;
        if self.context.json {
            output::print_line(&json!({ "source": self.source, "counts": self.counts, "fault": fault }))?;
            return Ok(all_well);
        }
        let counts = self.counts.iter().map(|(word, n)| format!("{n} {}", word.replace('_', " "))).collect::<Vec<_>>();
        let counts = match counts.is_empty() {
            true if is_listener => "waits to be called, and keeps nothing to look at".to_owned(),
            true => "nothing in it".to_owned(),
            false => counts.join(", "),
        };
        let fault = fault.map(|fault| format!("; it could not be looked through: {fault}")).unwrap_or_default();
        output::print_text(&format!("source {}: {counts}{fault}\n", self.source))?;
        Ok(all_well)
    }
}

/// Whether the ledger knows all sessions of an export, in no older version.
fn sessions(
    context: &Context,
    config: &Config,
    ledger: &Ledger,
    runtime: &tokio::runtime::Runtime,
    args: &Args,
) -> Result<bool> {
    let mut rules = process::rules(config, BY_HAND);
    rules.instance.clone_from(&args.instance);
    let of_instance = config.sources.iter().find(|source| source.rules.instance == args.instance);
    if let Some(source) = of_instance {
        rules.profile = source.rules.profile.clone();
    }
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut batch: Vec<Exported> = Vec::new();
    let compare = |batch: &mut Vec<Exported>, counts: &mut BTreeMap<&'static str, u64>| -> Result {
        let asked = batch.iter().map(|one| (one.key.clone(), one.digest.clone())).collect();
        let known = runtime.block_on(ledger.knows_sessions(asked))?;
        for (exported, known) in batch.drain(..).zip(known) {
            *counts.entry(tell(context, &exported, known.as_ref())?).or_default() += 1;
        }
        Ok(())
    };
    export::walk(&args.sessions, &rules, |told| -> Result {
        match told {
            Ok(exported) => batch.push(exported),
            Err(said) => {
                *counts.entry("unreadable").or_default() += 1;
                eprintln!("{said}");
            }
        }
        if batch.len() >= BATCH { compare(&mut batch, &mut counts) } else { Ok(()) }
    })?;
    compare(&mut batch, &mut counts)?;
    if context.json {
        output::print_line(&json!({ "sessions": counts }))?;
    } else {
        let all = counts.iter().map(|(word, n)| format!("{n} {}", word.replace('_', " "))).collect::<Vec<_>>();
        let all = if all.is_empty() { "no session in it".to_owned() } else { all.join(", ") };
        output::print_text(&format!("export: {all}\n"))?;
    }
    Ok(counts.keys().all(|word| *word == "known"))
}

fn tell(context: &Context, exported: &Exported, known: Option<&KnownSession>) -> Result<&'static str> {
    let is_older = |known: &KnownSession| {
        !known.has_content && exported.updated_at.is_some_and(|at| known.updated_at.is_none_or(|known| known < at))
    };
    let word = match known {
        None => "never_seen",
        Some(known) if is_older(known) => "older_version",
        Some(_) => return Ok("known"),
    };
    let (key, here) = (exported.key.to_string(), known.and_then(|known| known.updated_at));
    if context.json {
        output::print_line(&json!({
            "session": key, "result": word, "input": exported.input,
            "updated_at": exported.updated_at, "known_updated_at": here,
        }))?;
        return Ok(word);
    }
    let times = match (word, exported.updated_at, here) {
        ("older_version", Some(there), Some(here)) => {
            format!(", of {} there and {} here", output::time(there), output::time(here))
        }
        ("older_version", Some(there), None) => format!(", of {} there and without a time here", output::time(there)),
        _ => String::new(),
    };
    output::print_text(&format!("{} {key} (`{}`){times}\n", word.replace('_', " "), exported.input))?;
    Ok(word)
}
