//! `render`: the exact requests or the exact mail for a session; sends nothing.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use jiff::Timestamp;

use super::{Context, Failure, Result, preview, process};
use crate::config::BY_HAND;
use crate::ledger::{Leg, Planner as _};
use crate::record::route::Route;
use crate::service::Router;
use crate::session::evidence::Extraction;
use crate::source::files;

/// Print the exact HTTP requests or the exact email for each session of a file; send nothing.
///
/// Values that only an answer of the CRM can give are shown as `«steps.ticket.etag»`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mail2crm render message.eml --to helpdesk\n  mail2crm --json render metadata-48213.json --to cases | jq .mail.raw -r"
)]
pub(super) struct Args {
    /// `.eml`, `.json`, mbox, Maildir or folder; `-` is one message on stdin.
    path: PathBuf,
    /// The destination.
    #[arg(long, value_name = "DEST")]
    to: String,
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    let mut config = context.config()?;
    super::destination::known(&config, &args.to)?;
    config.routes = vec![Route { to: vec![args.to], ..Route::default() }];
    let router = Router::new(&config);
    let rules = process::rules(&config, BY_HAND);
    let (runtime, ledger) = (super::runtime()?, preview::ledger(&config)?);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut sessions, mut count, now) = (0, 0, Timestamp::now());
    let paths = [args.path];
    for received in files::walk(&paths).max_bytes(config.limits.message_bytes) {
        count += 1;
        let received = received.map_err(|(path, error)| {
            Failure::Usage(format!("can't read `{path}`: {error}"), "name a file that is there".to_owned())
        })?;
        match crate::intake::read_safely(&received, &rules).extraction {
            Extraction::Sessions(found) => {
                for found in &found {
                    sessions += 1;
                    let version = runtime.block_on(preview::number_of(ledger.as_ref(), found))?;
                    let legs: Vec<Leg> = router.legs_of(&found.session);
                    for leg in &legs {
                        preview::print(
                            &mut out,
                            context.json,
                            &config,
                            &received.input,
                            (found, version, false),
                            leg,
                            now,
                        )?;
                    }
                }
            }
            Extraction::None => eprintln!("{}: no session metadata", received.input),
            Extraction::Refused(reason, detail) => eprintln!("{}: {detail} ({reason})", received.input),
        }
    }
    out.flush()?;
    if count == 0 {
        super::extract::nothing_found(&paths);
    }
    if sessions > 0 { Ok(()) } else { Err(Failure::NotAllWell) }
}
