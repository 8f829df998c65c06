//! `connector list`: which CRMs there are templates for.

use clap::Subcommand;
use serde_json::json;

use super::{Context, Failure, Result, output};
use crate::connector::plan::Connector;
use crate::diagnostic::Diagnostics;

/// The connectors: which CRMs there are templates for.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, built-in ones and those of `--templates`.
    #[command(after_help = "Example: mail2crm connector list")]
    List,
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    let Command::List = args.command;
    let catalogue = context.catalogue()?;
    let mut faults = Diagnostics::new();
    let mut rows = Vec::new();
    for name in catalogue.connectors() {
        let Some(folder) = catalogue.connector(name) else { continue };
        match Connector::load(folder, catalogue.shared()) {
            Ok(connector) => {
                let manifest = connector.manifest();
                let transports: Vec<&str> = manifest.transports.iter().map(|t| t.as_str()).collect();
                rows.push((name.to_owned(), manifest.title.clone(), transports.join(", ")));
            }
            Err(found) => faults.extend(found),
        }
    }
    if context.json {
        for (name, title, transports) in &rows {
            let transports: Vec<&str> = transports.split(", ").collect();
            output::print_line(&json!({ "name": name, "title": title, "transports": transports }))?;
        }
    } else {
        let rows: Vec<Vec<String>> = rows.into_iter().map(|(n, t, w)| vec![n, w, t]).collect();
        output::print_table(&["CONNECTOR", "TRANSPORTS", "FOR"], &rows)?;
    }
    if faults.is_empty() { Ok(()) } else { Err(Failure::Operator(faults)) }
}
