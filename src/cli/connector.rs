//! `connector list`: which CRMs there are templates for. `connector new`: a folder to start another from, made
//! of the files below `connector/new`, whose golden cases pass as they are.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::{Context, Failure, Result, output};
use crate::catalogue::Catalogue;
use crate::connector::Connector;
use crate::diagnostic::Diagnostics;

/// The files of a new folder; `NAME` in them is its name.
const START: [(&str, &str); 7] = [
    ("connector.toml", include_str!("connector/new/connector.toml")),
    ("update.json", include_str!("connector/new/update.json")),
    ("note.json", include_str!("connector/new/note.json")),
    ("note.txt.hbs", include_str!("connector/new/note.txt.hbs")),
    ("README.md", include_str!("connector/new/README.md")),
    ("golden/voice.json", include_str!("connector/new/golden/voice.json")),
    ("golden/closed.json", include_str!("connector/new/golden/closed.json")),
];

/// The connectors: which CRMs there are templates for, and a start for another.
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
    /// Write a new folder to start from; it passes its own golden cases.
    ///
    /// It goes into the folder that `--templates` names, else into `templates` here, and fits the sandbox CRM
    /// until you change it.
    #[command(
        after_help = "Example: mail2crm --templates my-templates connector new acme && mail2crm templates test my-templates --connector acme"
    )]
    New {
        /// Its name, as `connector = "NAME"` will say it: small letters, digits and `-`.
        name: String,
    },
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    match args.command {
        Command::List => list(context),
        Command::New { name } => new(context, &name),
    }
}

fn new(context: &Context, name: &str) -> Result {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 40 || !name.chars().all(good) || name.starts_with('-') {
        let hint = "use small letters, digits and `-`, such as `acme-desk`".to_owned();
        return Err(Failure::Usage(format!("`{name}` can't name a connector"), hint));
    }
    if Catalogue::read(None)?.connector(name).is_some() {
        let hint = "choose another name; to change a built-in one, put only the files that differ into a folder of \
                    its name below `--templates`";
        return Err(Failure::Usage(format!("the connector `{name}` is built in"), hint.to_owned()));
    }
    let root = context.templates.clone().unwrap_or_else(|| PathBuf::from("templates"));
    let folder = root.join(name);
    if folder.exists() {
        let sentence = format!("`{}` is there already", folder.display());
        return Err(Failure::Usage(sentence, "choose another name, or move it away".to_owned()));
    }
    for (path, text) in START {
        write(&folder.join(path), &text.replace("NAME", name))?;
    }
    let root = root.display();
    eprintln!(
        "wrote {}; try: mail2crm templates test {root} --connector {name}\n\
         then name it in the configuration (see its README.md), and: mail2crm --templates {root} check",
        folder.display()
    );
    Ok(())
}

fn write(path: &Path, text: &str) -> Result {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, text)?)
}

fn list(context: &Context) -> Result {
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
