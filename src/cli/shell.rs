//! `completions` and `man`: what shells and the manual need.

use std::io::Write as _;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Result};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mail2crm completions bash > /etc/bash_completion.d/mail2crm")]
pub(super) struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the manual page.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mail2crm man > /usr/local/share/man/man1/mail2crm.1")]
pub(super) struct ManArgs {}

pub(super) fn completions(args: CompletionArgs) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mail2crm", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

pub(super) fn man(_: ManArgs) -> Result {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    Ok(std::io::stdout().lock().write_all(&page)?)
}
