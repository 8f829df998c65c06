//! `process`: one-shot through the whole path, with the ledger; also the pipe of an MTA.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;

use super::progress::Progress;
use super::{Context, Failure, Result, output, preview};
use crate::config::{BY_HAND, Config, PIPE};
use crate::digest::sha256;
use crate::intake::{self, Gate, Rules};
use crate::ledger::{DeliveryState, Filter, Ledger, MessageState, Planner as _};
use crate::message::authenticity::{TrustPolicy, Verdict};
use crate::message::mark::InstanceKey;
use crate::record::route::Route;
use crate::service::{Router, Service};
use crate::session::evidence::Extraction;
use crate::source::{BATCH_BYTES, BATCH_ITEMS, Batch, Content, Inlet, Received, Settled, files};
use crate::verify::{Dns, Verifier};

/// Take messages once through the whole path: extract, commit, deliver.
///
/// `-` reads one message from stdin, for the pipe of an MTA: exit 0 once it is committed, 75 on any doubt.
/// Who may cause an effect by it stands in `[pipe]`; files that are named here are trusted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mail2crm process inbox.mbox\n  mail2crm process mail/ --dry-run\n  mail2crm process metadata-48213.json --to archive\n  in /etc/aliases:  sessions: \"|/usr/local/bin/mail2crm process -\""
)]
pub(super) struct Args {
    /// `.eml`, `.json`, mbox, Maildir or folder; `-` is one message on stdin.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Only to this destination, whatever the routes say. Can be given several times.
    #[arg(long, value_name = "DEST")]
    to: Vec<String>,
    /// Send and store nothing; print what would be sent.
    #[arg(long)]
    dry_run: bool,
}

/// How messages of a source that is not in the configuration are read. The operator vouches for the files
/// that it names; what a pipe brings comes from strangers.
pub(super) fn rules(config: &Config, source: &str) -> Rules {
    let trust = if source == PIPE { config.pipe.clone() } else { TrustPolicy::Anyone };
    Rules {
        instance: "default".to_owned(),
        profile: config.profile.clone(),
        limits: config.limits,
        trust,
        privacy: config.privacy.clone(),
        own: own_key(config),
    }
}

/// The key by which this instance knows its own mail, if it was ever started.
pub(super) fn own_key(config: &Config) -> Option<InstanceKey> {
    config.ledger.known_key().unwrap_or_else(|error| {
        tracing::warn!(%error, "mail of this instance is not recognised as its own");
        None
    })
}

fn is_pipe(paths: &[PathBuf]) -> bool {
    paths.iter().any(|path| path == Path::new("-"))
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    let pipe = is_pipe(&args.paths);
    // A fault of this program is no reason to bounce a mail either.
    let result = match pipe {
        true => catch_unwind(AssertUnwindSafe(|| work(context, args)))
            .unwrap_or_else(|_| Err(Failure::Temporary("mail2crm hit a fault; please report it".to_owned()))),
        false => work(context, args),
    };
    match result {
        // An MTA bounces what ends otherwise: whatever is not safe is to be tried again.
        Err(Failure::World(error)) if pipe => Err(Failure::Temporary(format!("{error:#}"))),
        Err(Failure::Operator(faults)) if pipe => Err(Failure::Temporary(faults.render())),
        Err(Failure::Usage(sentence, hint)) if pipe => {
            Err(Failure::Temporary(format!("{sentence}\n  hint: {hint}\nthe message was not taken")))
        }
        Err(Failure::NotAllWell) if pipe => Ok(()),
        result => result,
    }
}

fn work(context: &Context, args: Args) -> Result {
    let mut config = context.config()?;
    for name in &args.to {
        super::destination::known(&config, name)?;
    }
    if !args.to.is_empty() {
        config.routes = vec![Route { to: args.to, ..Route::default() }];
    }
    let source = if is_pipe(&args.paths) { PIPE } else { BY_HAND };
    if args.dry_run {
        return dry_run(context, &config, &args.paths, source);
    }
    let ledger = super::open_ledger(&config.ledger)?;
    let begun = Timestamp::now();
    let service = Service::build(config, ledger.clone())?;
    let runtime = super::runtime()?;
    let taken = runtime.block_on(take_in(&service, args.paths, source))?;
    runtime.block_on(async {
        let stop = super::run::stop_on_signal()?;
        if !service.drain(Duration::from_secs(3), stop).await? {
            eprintln!("the service that runs on this ledger delivers them");
            return if taken.unreadable + taken.refused == 0 { Ok(()) } else { Err(Failure::NotAllWell) };
        }
        report(context, &ledger, &taken, source, begun).await
    })
}

/// What was taken in.
#[derive(Default)]
struct Taken {
    messages: usize,
    refused: usize,
    unreadable: usize,
}

/// Commits everything that the paths hold, in batches, each while the next is being read.
async fn take_in(service: &Service, paths: Vec<PathBuf>, source: &str) -> Result<Taken> {
    let mut progress = Progress::over(&paths);
    let (to_intake, from_source) = mpsc::channel(2);
    let intake = tokio::spawn(service.intake(source, Arc::new(rules(service.config(), source))).serve(from_source));
    let inlet = Inlet::new(source, to_intake);
    let (to_batches, mut from_files) =
        mpsc::channel::<std::result::Result<Received, (String, std::io::Error)>>(2 * BATCH_ITEMS);
    let max_bytes = service.config().limits.message_bytes;
    let named_paths = paths.clone();
    let reader = tokio::task::spawn_blocking(move || {
        for received in files::walk(&paths).max_bytes(max_bytes) {
            if to_batches.blocking_send(received).is_err() {
                return;
            }
        }
    });
    let mut taken = Taken::default();
    let (mut items, mut bytes) = (Vec::new(), 0);
    loop {
        let received = from_files.recv().await;
        let end = received.is_none();
        match received {
            Some(Ok(received)) if received.input == "-" && matches!(received.content, Content::TooLarge(_)) => {
                // Nobody else keeps it: the MTA is to give it back to its sender, not we to drop it.
                let limit = max_bytes;
                let sentence =
                    format!("the message on stdin is larger than the limit of {limit} bytes and was not taken");
                return Err(Failure::Usage(sentence, "raise `message_bytes` in `[limits]`".to_owned()));
            }
            Some(Ok(received)) => {
                let size = received.content.len();
                progress.add(size);
                bytes += size;
                items.push(named(received));
            }
            Some(Err((path, error))) if path == "-" => {
                return Err(Failure::World(anyhow::anyhow!("can't read the message on stdin: {error}")));
            }
            Some(Err((path, error))) => {
                taken.unreadable += 1;
                eprintln!("error: can't read `{path}`: {error}");
            }
            None => {}
        }
        if !items.is_empty() && (end || items.len() >= BATCH_ITEMS || bytes >= BATCH_BYTES) {
            bytes = 0;
            let batch = Batch { items: std::mem::take(&mut items), position: None };
            for settled in inlet.hand_over(batch).await {
                taken.messages += 1;
                match settled {
                    Settled::Accepted => {}
                    Settled::Refused(_) => taken.refused += 1,
                    Settled::TryAgain(detail) => {
                        return Err(Failure::World(anyhow::anyhow!("not committed: {detail}")));
                    }
                }
            }
        }
        if end {
            break;
        }
    }
    progress.end();
    if taken.messages == 0 && taken.unreadable == 0 {
        super::extract::nothing_found(&named_paths);
    }
    drop(inlet);
    reader.await.map_err(anyhow::Error::new)?;
    intake.await.map_err(anyhow::Error::new)?;
    Ok(taken)
}

/// Stdin has no name of its own: its content names it, so that the same message again is known.
fn named(mut received: Received) -> Received {
    if received.input == "-" {
        let bytes = match &received.content {
            Content::Mail(bytes) | Content::Document(bytes) => bytes.clone(),
            Content::TooLarge(_) => bytes::Bytes::new(),
        };
        received.input = format!("stdin-{}", sha256(&bytes).get(..16).unwrap_or_default());
    }
    received
}

/// Says what became of it; not all well if something was not delivered or was quarantined.
async fn report(context: &Context, ledger: &Ledger, taken: &Taken, source: &str, begun: Timestamp) -> Result {
    let deliveries = ledger.deliveries(Filter { since: Some(begun), ..Filter::default() }).await?;
    let messages =
        ledger.messages(Filter { source: Some(source.to_owned()), since: Some(begun), ..Filter::default() }).await?;
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for delivery in &deliveries {
        *states.entry(delivery.state.as_str()).or_default() += 1;
    }
    if context.json {
        output::print_line(
            &json!({ "messages": taken.messages, "unreadable": taken.unreadable, "refused": taken.refused, "deliveries": states }),
        )?;
    } else {
        let states = states.iter().map(|(state, n)| format!("{n} {state}")).collect::<Vec<_>>().join(", ");
        let states = if states.is_empty() { "nothing to deliver".to_owned() } else { states };
        let plural = if taken.messages == 1 { "" } else { "s" };
        eprintln!(
            "{} message{plural} taken in, {} put into quarantine; deliveries: {states}",
            taken.messages, taken.refused
        );
    }
    let well = |state: DeliveryState| {
        matches!(state, DeliveryState::Delivered | DeliveryState::Unchanged | DeliveryState::Superseded)
    };
    let all_well = taken.unreadable == 0
        && taken.refused == 0
        && deliveries.iter().all(|d| well(d.state))
        && messages.iter().all(|m| m.state != MessageState::Quarantined);
    if all_well { Ok(()) } else { Err(Failure::NotAllWell) }
}

fn dry_run(context: &Context, config: &Config, paths: &[PathBuf], source: &str) -> Result {
    let (router, rules) = (Router::new(config), rules(config, source));
    let (runtime, ledger, verifier) = (super::runtime()?, preview::ledger(config)?, Verifier::new(Dns::network()));
    let gate = Gate::new(&rules, &verifier);
    let mut progress = Progress::over(paths);
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let (mut all_well, now) = (true, Timestamp::now());
    let mut count = 0;
    for received in files::walk(paths).max_bytes(config.limits.message_bytes) {
        count += 1;
        let received = match received {
            Ok(received) => received,
            Err((path, error)) => {
                all_well = false;
                eprintln!("error: can't read `{path}`: {error}");
                continue;
            }
        };
        progress.add(received.content.len());
        let mut reading = intake::read_safely(&received, &rules);
        let trust = runtime.block_on(gate.admit(&received, &mut reading, now));
        if trust.verdict == Verdict::Unknown {
            all_well = false;
            eprintln!("{}: would be tried again later: {trust}", received.input);
            continue;
        }
        match reading.extraction {
            Extraction::Sessions(found) => {
                for found in &found {
                    let version = runtime.block_on(preview::number_of(ledger.as_ref(), found))?;
                    for leg in router.legs_of(&found.session) {
                        all_well &= leg.refused.is_none() && leg.record.is_some();
                        preview::print(&mut out, context.json, config, &received.input, (found, version), &leg, now)?;
                    }
                }
            }
            Extraction::None => {}
            Extraction::Refused(reason, detail) if intake::state_of(reason) == MessageState::Ignored => {
                eprintln!("{}: would have no effect: {detail} ({reason})", received.input);
            }
            Extraction::Refused(reason, detail) => {
                all_well = false;
                eprintln!("{}: would be put into quarantine: {detail} ({reason})", received.input);
            }
        }
    }
    out.flush()?;
    progress.end();
    if count == 0 {
        super::extract::nothing_found(paths);
    }
    if all_well { Ok(()) } else { Err(Failure::NotAllWell) }
}
