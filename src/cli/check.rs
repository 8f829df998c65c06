//! `check`: everything that is wrong with the configuration and templates, at once; `--online` also logs in
//! to every source and destination, changes nothing, and says which step failed.

use jiff::Timestamp;
use serde_json::json;

use super::{Context, Failure, Result, output};
use crate::config::Config;
use crate::ledger::Ledger;
use crate::message::mark::InstanceKey;
use crate::service;
use crate::source::Recipe as _;

/// Report all problems of the configuration, templates, connectors and routes at once.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mail2crm check\n  mail2crm check --online\n  mail2crm --config /etc/mail2crm/mail2crm.toml --templates /etc/mail2crm/templates check"
)]
pub(super) struct Args {
    /// Also log in to every source and destination; changes nothing.
    #[arg(long)]
    online: bool,
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    // The templates as well, also those that no destination uses: all faults come at once.
    let (_, mut faults) = super::connector::load_all(&context.catalogue()?);
    let ready = context.config().and_then(|config| {
        let targets = service::build_targets(&config, &InstanceKey::of_previews())?;
        Ok((config, targets))
    });
    let (config, targets) = match ready {
        Ok(ready) if faults.is_empty() => ready,
        Ok(_) => return Err(Failure::Operator(faults)),
        Err(Failure::Operator(found)) => {
            faults.extend(found);
            return Err(Failure::Operator(faults));
        }
        Err(other) => return Err(other),
    };
    let (sources, destinations, routes) = (config.sources.len(), config.destinations.len(), config.routes.len());
    if !args.online {
        if context.json {
            output::print_line(
                &json!({ "ok": true, "sources": sources, "destinations": destinations, "routes": routes }),
            )?;
        } else {
            eprintln!(
                "all is well: {}, {}, {}",
                count(sources, "source"),
                count(destinations, "destination"),
                count(routes, "route")
            );
        }
        return Ok(());
    }
    super::runtime()?.block_on(online(context, &config, &targets))
}

async fn online(context: &Context, config: &Config, targets: &service::Targets) -> Result {
    let mut all_well = true;
    let mut say = |kind: &str, name: &str, result: std::result::Result<String, (String, String)>| -> Result {
        all_well &= result.is_ok();
        if context.json {
            let (ok, step, detail) = match &result {
                Ok(detail) => (true, None, detail),
                Err((step, detail)) => (false, Some(step), detail),
            };
            return output::print_line(
                &json!({ "kind": kind, "name": name, "ok": ok, "step": step, "detail": detail }),
            );
        }
        output::print_text(&match result {
            Ok(detail) => format!("ok      {kind} {name}: {detail}\n"),
            Err((step, detail)) => format!("FAILED  {kind} {name}: {step}: {detail}\n"),
        })
    };
    for source in &config.sources {
        let result = source.kind.clone().build(Timestamp::now()).check().await;
        say("source", &source.name, result.map_err(|f| (f.step.to_owned(), format!("{} ({})", f.detail, f.reason))))?;
    }
    for (name, target) in targets {
        let result = target.check().await;
        say("destination", name, result.map_err(|v| (v.reason.to_string(), v.detail)))?;
    }
    if config.state.exists() {
        super::destination::tell_held(&Ledger::open(&config.state)?.paused().await?);
    }
    if all_well { Ok(()) } else { Err(Failure::NotAllWell) }
}

fn count(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}
