//! `schema`: JSON Schemas, made from the types.

use clap::ValueEnum;

use super::Result;
use crate::config;
use crate::connector::manifest::Manifest;
use crate::record::context;
use crate::settings;

/// Print a JSON Schema: of the session as templates see it, the configuration, or a connector's manifest.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mail2crm schema session | jq '.properties.rating'")]
pub(super) struct Args {
    /// Which one.
    #[arg(value_enum)]
    of: Of,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Of {
    Session,
    Config,
    Connector,
}

pub(super) fn run(args: Args) -> Result {
    let schema = match args.of {
        Of::Session => context::session_schema(),
        Of::Config => settings::schema_of::<config::File>(),
        Of::Connector => settings::schema_of::<Manifest>(),
    };
    super::output::print_pretty(&schema)
}
