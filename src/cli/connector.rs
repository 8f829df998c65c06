//! `connector list`: which CRMs there are templates for.

use clap::Subcommand;
use serde_json::json;

use super::{Context, Failure, Result, output};
use crate::catalogue::Catalogue;
use crate::connector::Connector;
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
    let (connectors, faults) = load_all(&catalogue);
    let rows: Vec<_> = connectors
        .iter()
        .map(|connector| {
            let manifest = &connector.manifest;
            let transports: Vec<&str> = manifest.transports.iter().map(|t| t.as_str()).collect();
            (connector.name().to_owned(), manifest.title.clone(), transports.join(", "))
        })
        .collect();
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

/// Every connector of the catalogue, and all that is wrong with the others.
pub(super) fn load_all(catalogue: &Catalogue) -> (Vec<Connector>, Diagnostics) {
    let mut faults = Diagnostics::new();
    let folders = catalogue.connectors().filter_map(|name| catalogue.connector(name));
    let loaded = folders.filter_map(|folder| match Connector::load(folder, catalogue.shared()) {
        Ok(connector) => Some(connector),
        Err(found) => {
            faults.extend(found);
            None
        }
    });
    (loaded.collect(), faults)
}
