//! The command line: one file per command. Data goes to stdout, everything else to stderr.
//!
//! Exit codes: 0 all is well; 1 it ran, but something was not delivered, was quarantined, or does not add
//! up; 2 the command line or the operator's files are wrong; 75 temporary failure in pipe mode.

mod audit;
mod check;
mod connector;
mod deliveries;
mod demo;
mod destination;
mod export;
mod extract;
mod filter;
mod init;
mod messages;
mod output;
mod plan;
mod preview;
mod process;
mod progress;
mod render;
mod replay;
mod run;
mod sandbox;
mod schema;
mod sessions;
mod shell;
mod templates;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::catalogue::Catalogue;
use crate::config::{self, Config};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::ledger;
use crate::ledger::{Ledger, State};
use crate::telemetry;

/// `EX_TEMPFAIL` of sysexits.h: an MTA keeps the mail and tries again.
const TRY_AGAIN: u8 = 75;

/// The bridge between contact-centre session metadata and CRMs: session emails in, record updates out.
///
/// Try it with nothing installed: `mail2crm demo`. Then `mail2crm init` writes a configuration to start
/// from, `mail2crm check --online` tells what is wrong with it, and `mail2crm run` is the service.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 all is well; 1 something was not delivered, was quarantined, or does not add up; \
2 the command line or your files are wrong; 75 temporary failure (pipe mode)."
)]
pub struct Cli {
    /// The configuration [default: $MAIL2CRM_CONFIG, ./mail2crm.toml, /etc/mail2crm/mail2crm.toml].
    #[arg(long, global = true, value_name = "FILE", env = "MAIL2CRM_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// A folder of templates that lies over the built-in ones, file by file.
    #[arg(long, global = true, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// Print JSON, one object a line.
    #[arg(long, global = true)]
    json: bool,
    /// Say more on stderr; twice for details.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say only errors on stderr.
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Demo(demo::Args),
    Check(check::Args),
    Run(run::Args),
    Process(process::Args),
    Extract(extract::Args),
    Render(render::Args),
    Plan(plan::Args),
    Sessions(sessions::Args),
    Messages(messages::Args),
    Deliveries(deliveries::Args),
    Replay(replay::Args),
    Pause(destination::PauseArgs),
    Resume(destination::ResumeArgs),
    Audit(audit::Args),
    Templates(templates::Args),
    Connector(connector::Args),
    Sandbox(sandbox::Args),
    Schema(schema::Args),
    Completions(shell::CompletionArgs),
    Man(shell::ManArgs),
}

/// Why a command did not end well.
#[derive(Debug)]
enum Failure {
    /// The operator's files are wrong: exit 2.
    Operator(Diagnostics),
    /// The command line is wrong, or names what is not there: exit 2. A sentence and a hint.
    Usage(String, String),
    /// It ran, but not all is well; the command has said what: exit 1.
    NotAllWell,
    /// Try again (pipe mode): exit 75.
    Temporary(String),
    /// The world is wrong: exit 1.
    World(anyhow::Error),
}

impl From<Diagnostics> for Failure {
    fn from(faults: Diagnostics) -> Self {
        Self::Operator(faults)
    }
}

impl From<ledger::Fault> for Failure {
    fn from(fault: ledger::Fault) -> Self {
        Self::World(anyhow::Error::new(fault))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::World(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::World(error.into())
    }
}

type Result<T = ()> = std::result::Result<T, Failure>;

/// What every command can use.
struct Context {
    config: Option<PathBuf>,
    templates: Option<PathBuf>,
    json: bool,
    verbosity: i8,
}

impl Context {
    /// The template folders.
    fn catalogue(&self) -> Result<Catalogue> {
        Ok(Catalogue::read(self.templates.as_deref())?)
    }

    /// The file that `--config` and its defaults lead to, if there is one.
    fn config_path(&self) -> Option<PathBuf> {
        let defaults = ["mail2crm.toml", "/etc/mail2crm/mail2crm.toml"];
        self.config.clone().or_else(|| defaults.iter().map(PathBuf::from).find(|p| p.exists()))
    }

    /// The configuration, checked with its templates.
    fn config(&self) -> Result<Config> {
        let Some(path) = self.config_path() else {
            let fault = Diagnostic::of_file("mail2crm.toml", "no_configuration", "there is no configuration file");
            return Err(Failure::Operator(
                fault.hint("`mail2crm init` writes one to start from; `--config FILE` names one elsewhere").into(),
            ));
        };
        Ok(config::load(&path, &self.catalogue()?)?)
    }

    /// The configuration with its ledger, which is made if it is not there.
    fn open(&self) -> Result<(Config, Ledger)> {
        let config = self.config()?;
        let ledger = open_ledger(&config.ledger)?;
        Ok((config, ledger))
    }
}

fn open_ledger(state: &State) -> Result<Ledger> {
    state.open().map_err(|fault| {
        Failure::World(anyhow::anyhow!("{fault}\n  hint: `state` in the configuration names the ledger (`{state}`)"))
    })
}

/// Reads the command line. What is wrong with it, or was asked of it, is said; the exit code then is all that is
/// left: 2, or 75 in pipe mode, where an MTA bounces what ends with anything else.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> std::result::Result<Cli, ExitCode> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    Cli::try_parse_from(&arguments).map_err(|error| {
        let _closed = error.print();
        let is_pipe = ["process", "-"].iter().all(|word| arguments.iter().any(|argument| argument == word));
        let code = if error.use_stderr() && is_pipe { i32::from(TRY_AGAIN) } else { error.exit_code() };
        ExitCode::from(u8::try_from(code).unwrap_or(2))
    })
}

/// Runs a command and says how it ended.
pub fn run(cli: Cli) -> ExitCode {
    let context = Context {
        config: cli.config,
        templates: cli.templates,
        json: cli.json,
        verbosity: if cli.quiet { -1 } else { i8::try_from(cli.verbose).unwrap_or(3) },
    };
    if !matches!(cli.command, Command::Run(_) | Command::Demo(_) | Command::Sandbox(_)) {
        telemetry::start(context.verbosity, telemetry::Form::Text);
    }
    let result = match cli.command {
        Command::Init(args) => init::run(args),
        Command::Demo(args) => demo::run(&context, args),
        Command::Check(args) => check::run(&context, args),
        Command::Run(args) => run::run(&context, args),
        Command::Process(args) => process::run(&context, args),
        Command::Extract(args) => extract::run(&context, args),
        Command::Render(args) => render::run(&context, args),
        Command::Plan(args) => plan::run(&context, args),
        Command::Sessions(args) => sessions::run(&context, args),
        Command::Messages(args) => messages::run(&context, args),
        Command::Deliveries(args) => deliveries::run(&context, args),
        Command::Replay(args) => replay::run(&context, args),
        Command::Pause(args) => destination::pause(&context, args),
        Command::Resume(args) => destination::resume(&context, args),
        Command::Audit(args) => audit::run(&context, args),
        Command::Templates(args) => templates::run(&context, args),
        Command::Connector(args) => connector::run(&context, args),
        Command::Sandbox(args) => sandbox::run(&context, args),
        Command::Schema(args) => schema::run(args),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(context.json),
    }
}

impl Failure {
    /// Says it on stderr and gives its exit code.
    fn tell(self, json: bool) -> ExitCode {
        match self {
            Self::Operator(faults) => {
                if json {
                    for fault in faults.sorted() {
                        eprintln!("{}", serde_json::to_string(fault).unwrap_or_default());
                    }
                } else {
                    eprint!("{}", faults.render());
                }
                ExitCode::from(2)
            }
            Self::Usage(sentence, hint) => {
                eprintln!("error: {sentence}\n  hint: {hint}");
                ExitCode::from(2)
            }
            Self::NotAllWell => ExitCode::from(1),
            Self::Temporary(sentence) => {
                eprintln!("error: {sentence}; try again later");
                ExitCode::from(TRY_AGAIN)
            }
            Self::World(error) => {
                // Somebody who reads only the head of our output closes the pipe: that is no fault.
                if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
                    return ExitCode::SUCCESS;
                }
                eprintln!("error: {error:#}");
                ExitCode::from(1)
            }
        }
    }
}

/// The runtime of commands that talk to the world.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(16).enable_all().build()?)
}
