//! Logs: sentences on stderr with the same identifiers as fields, as text or as JSON, one line an event.
//! What may never be in them: addresses, subjects, bodies, notes, credentials. `RUST_LOG`-like filters are
//! not read: a level is enough, and other crates' debug lines could hold what must not be logged.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `verbosity`: 0 warnings, 1 also information (the default of `run`), 2 also details;
/// negative: errors only.
pub fn start(verbosity: i8, form: Form) {
    let level = match verbosity {
        ..0 => LevelFilter::ERROR,
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let own = Targets::new().with_target("mail2crm", level).with_default(LevelFilter::ERROR.min(level));
    let layer = match form {
        Form::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()))
            .boxed(),
        Form::Json => fmt::layer().json().flatten_event(true).with_target(false).with_writer(std::io::stderr).boxed(),
    };
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(layer.with_filter(own)).try_init();
}
