//! `extract`: what is found in each message; stores and sends nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Context, Failure, Result, output, process};
use crate::config::DEFAULT_PROFILE;
use crate::diagnostic::{Diagnostic, SourceFile};
use crate::intake::{self, Gate, Rules};
use crate::message::authenticity::policy::{Domain, Trusted};
use crate::message::authenticity::{Trust, TrustPolicy};
use crate::message::mark::InstanceKey;
use crate::message::{Limits, parse};
use crate::session::evidence::Extraction;
use crate::session::extract::report;
use crate::session::profile::Profile;
use crate::session::redact::Redaction;
use crate::source::{Content, files};
use crate::verify::{Dns, Verifier, Zone};

/// Print what is found in each message, one JSON object a line; store and send nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mail2crm extract inbox.mbox | jq -r '.sessions[].out_ticket_id'\n  mail2crm extract mail/*.eml\n  mail2crm extract - < message.eml"
)]
pub(super) struct Args {
    /// `.eml`, `.json`, mbox, Maildir or folder; `-` is one message on stdin.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The contact-centre instance to name in the output.
    #[arg(long, default_value = "default")]
    instance: String,
    /// How the platform names and labels things: a file of `templates/_profiles`.
    #[arg(long, default_value = DEFAULT_PROFILE)]
    profile: String,
    /// Check who sent each message: whether a domain of its author signed it. Asks DNS.
    #[arg(long)]
    verify: bool,
    /// As `--verify`, with the answers of this zone file in place of DNS.
    #[arg(long, value_name = "FILE")]
    zone: Option<PathBuf>,
    /// Check against this domain in place of the author's own; `*.ccaip.example` for those below it. Can be
    /// given several times.
    #[arg(long, value_name = "DOMAIN")]
    trust_dkim: Vec<String>,
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    let (privacy, own) = of_config(context);
    let rules = Rules {
        instance: args.instance,
        profile: profile(context, &args.profile)?,
        limits: Limits::default(),
        privacy,
        own,
        trust: policy(&args.trust_dkim)?,
    };
    let runtime = super::runtime()?;
    let verifier = match &args.zone {
        Some(path) => Some(Verifier::new(Dns::Zone(Box::new(zone(path)?)))),
        None => (args.verify || !args.trust_dkim.is_empty()).then(|| Verifier::new(Dns::network())),
    };
    let (mut unreadable, mut count) = (false, 0);
    for received in files::walk(&args.paths) {
        count += 1;
        match received {
            Ok(received) => {
                let reading = intake::read_safely(&received, &rules);
                // Nothing is verified for files that the operator names, unless it is asked for.
                let trust = match &verifier {
                    Some(verifier) => {
                        let gate = Gate::new(&rules, verifier);
                        runtime.block_on(gate.judge(&received, &[], Timestamp::now())).0
                    }
                    None => Trust::none(),
                };
                let trust_json = serde_json::to_value(&trust).map_err(anyhow::Error::new)?;
                let mut line = report::to_extract_json(
                    &received.input,
                    reading.message_id.as_deref(),
                    &reading.extraction,
                    &trust_json,
                );
                if let (Content::Mail(raw), Extraction::Sessions(_)) = (&received.content, &reading.extraction) {
                    report::tell_originals(&mut line, &parse::parse(raw, &rules.limits).originals());
                }
                output::print_line(&line)?;
                if verifier.is_some() {
                    tracing::info!(input = %received.input, "{trust}");
                }
                for note in &reading.notes {
                    tracing::info!(input = %received.input, "{note}");
                }
            }
            Err((path, error)) => {
                unreadable = true;
                eprintln!("error: can't read `{path}`: {error}");
            }
        }
    }
    if count == 0 {
        nothing_found(&args.paths);
    }
    if unreadable { Err(Failure::NotAllWell) } else { Ok(()) }
}

fn policy(domains: &[String]) -> Result<TrustPolicy> {
    if domains.is_empty() {
        return Ok(TrustPolicy::Author);
    }
    let trusted = Trusted { dkim: domains.iter().cloned().map(Domain::from).collect(), ..Trusted::default() };
    match trusted.validate(false).into_iter().next() {
        Some((_, sentence, hint)) => Err(Failure::Usage(format!("`--trust-dkim`: {sentence}"), hint)),
        None => Ok(TrustPolicy::Named(Arc::new(trusted))),
    }
}

fn zone(path: &Path) -> Result<Zone> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let fault = Diagnostic::of_file(shown.clone(), "unreadable", format!("can't read the zone file: {error}"));
        Failure::Operator(fault.into())
    })?;
    Ok(Zone::parse(&SourceFile::new(shown, text))?)
}

/// Says that the paths held nothing to read: an empty folder is no fault, but seldom what was meant.
pub(super) fn nothing_found(paths: &[PathBuf]) {
    let names = paths.iter().map(|p| format!("`{}`", p.display())).collect::<Vec<_>>().join(", ");
    eprintln!("warning: no mail and no metadata document in {names}");
}

/// What the configuration says of privacy, and the key of its ledger. Neither is needed: without a
/// configuration card numbers are masked, and only mail of previews is known as our own.
fn of_config(context: &Context) -> (Arc<Redaction>, Option<InstanceKey>) {
    if context.config_path().is_none() {
        // The key of `render` and of the sample mails; no mail of a real instance is signed with it.
        return (Arc::default(), Some(InstanceKey::of_previews()));
    }
    match context.config() {
        Ok(config) => (config.privacy.clone(), process::own_key(&config)),
        Err(_) => {
            tracing::warn!(
                "the configuration has faults (`mail2crm check` tells them): card numbers are masked, and nothing else of it is used"
            );
            Default::default()
        }
    }
}

/// The profile with this name.
pub(super) fn profile(context: &Context, name: &str) -> Result<Arc<Profile>> {
    let catalogue = context.catalogue()?;
    match catalogue.profile(name) {
        Some(file) => Ok(Arc::new(Profile::from_toml(file)?)),
        None => {
            let known: Vec<String> = catalogue.profiles().into_iter().collect();
            let fault = Diagnostic::of_file("--profile", "unknown_profile", format!("there is no profile `{name}`"));
            let hint = crate::diagnostic::suggest(name, known.iter().map(String::as_str));
            Err(Failure::Operator(fault.hint(hint).into()))
        }
    }
}
