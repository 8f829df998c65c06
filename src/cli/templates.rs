//! `templates test`: runs the golden cases of connectors.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{Context, Failure, Result, extract, output};
use crate::catalogue::Catalogue;
use crate::config::DEFAULT_PROFILE;
use crate::connector::golden;
use crate::diagnostic::Diagnostics;
use crate::session::document;

/// The templates: run the golden cases of the connectors.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the golden cases: sessions in, the expected requests or mail out.
    #[command(
        after_help = "Examples:\n  mail2crm templates test\n  mail2crm templates test my-templates\n  mail2crm templates test my-templates --bless"
    )]
    Test {
        /// A folder of templates that lies over the built-in ones (like `--templates`).
        dir: Option<PathBuf>,
        /// Only this connector.
        #[arg(long)]
        connector: Option<String>,
        /// Rewrite the cases below DIR to what happens now; look at the difference before you keep it.
        #[arg(long, requires = "dir")]
        bless: bool,
    },
}

pub(super) fn run(context: &Context, args: Args) -> Result {
    let Command::Test { dir, connector, bless } = args.command;
    let catalogue = Catalogue::read(dir.as_deref().or(context.templates.as_deref()))?;
    let names: Vec<&str> = match &connector {
        Some(name) => vec![name],
        None => catalogue.connectors().collect(),
    };
    let profile = extract::profile(context, DEFAULT_PROFILE)?;
    let read = |value: &serde_json::Value| match document::read(value, "default", &profile) {
        Ok((session, _)) => Ok(session),
        Err(none) => Err(none.is_near.unwrap_or_else(|| "it is no session document".to_owned())),
    };
    let (mut passed, mut failed, mut rewritten, mut faults) = (0, 0, 0, Diagnostics::new());
    for name in names {
        let Some(folder) = catalogue.connector(name) else {
            let hint = crate::diagnostic::suggest(name, catalogue.connectors().collect::<Vec<_>>());
            return Err(Failure::Usage(format!("there is no connector `{name}`"), hint));
        };
        match golden::run(folder, catalogue.shared(), &read) {
            Ok(results) => {
                for result in results {
                    let well = result.passed();
                    let file =
                        dir.as_ref().map(|dir| dir.join(name).join(&result.file)).filter(|f| bless && f.exists());
                    if let (Some(file), false, Some(blessed)) = (&file, well, &result.blessed) {
                        std::fs::write(file, blessed)?;
                        eprintln!("rewrote {}", file.display());
                        rewritten += 1;
                        continue;
                    }
                    *if well { &mut passed } else { &mut failed } += 1;
                    if context.json {
                        output::print_line(
                            &json!({ "connector": name, "case": result.file, "passed": well, "problems": result.problems }),
                        )?;
                    } else if !well {
                        let problems = result.problems.join("\n    ");
                        output::print_text(&format!(
                            "FAILED  {name}/{}: {}\n    {problems}\n",
                            result.file, result.about
                        ))?;
                    }
                }
            }
            Err(found) => faults.extend(found),
        }
    }
    if !faults.is_empty() {
        return Err(Failure::Operator(faults));
    }
    if !context.json {
        let rewritten =
            if rewritten > 0 { format!(", {rewritten} rewritten: look at the difference") } else { String::new() };
        output::print_text(&format!("{passed} cases passed, {failed} failed{rewritten}\n"))?;
    }
    if failed == 0 { Ok(()) } else { Err(Failure::NotAllWell) }
}
