//! `sandbox`: the sandbox CRM alone, for trying templates before pointing at the real CRM.

use std::net::SocketAddr;

use secrecy::SecretString;

use super::{Context, Failure, Result};
use crate::sandbox::{Faults, Records, Sandbox, Settings};
use crate::telemetry;

/// Start a small local ticket system with REST and mail intake, and injectable faults.
///
/// Use it with `connector = "sandbox"` in a destination. Everything is in memory and gone at the end.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mail2crm sandbox\n  mail2crm sandbox --faults '429=0.1,500=0.05,slow=200ms' --records C-1..C-500"
)]
pub(super) struct Args {
    /// Where REST and the web page listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7025")]
    http: SocketAddr,
    /// Where the mail intake (SMTP) listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7026")]
    smtp: SocketAddr,
    /// What `Authorization: Bearer …` must carry.
    #[arg(long, default_value = "sandbox", env = "SANDBOX_TOKEN", hide_env_values = true)]
    token: String,
    /// Which tickets there are: `C-1..C-500`, a list, or `C-*` and `*`, which make one when its id is first asked for.
    #[arg(long, default_value = "*")]
    records: String,
    /// What goes wrong by itself, and how often.
    #[arg(long, default_value = "")]
    faults: String,
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    telemetry::start(
        if context.verbosity < 0 { context.verbosity } else { context.verbosity + 1 },
        telemetry::Form::Text,
    );
    let usage = |option: &'static str| {
        move |text: String| {
            Failure::Usage(format!("`--{option}`: {text}"), "`mail2crm sandbox --help` shows examples".to_owned())
        }
    };
    let records: Records = args.records.parse().map_err(usage("records"))?;
    let faults: Faults = args.faults.parse().map_err(usage("faults"))?;
    super::runtime()?.block_on(async {
        let settings = Settings {
            http: args.http,
            smtp: Some(args.smtp),
            token: SecretString::from(args.token),
            records,
            faults,
            exposed: false,
        };
        let running = Sandbox::start(settings).await?;
        eprintln!(
            "the sandbox CRM is at http://{}/ (REST below /api, mail intake at {})",
            running.http_addr, args.smtp
        );
        super::run::stop_on_signal()?.cancelled().await;
        running.stop().await;
        Ok(())
    })
}
