//! `init`: writes a commented configuration to start from.

use std::path::PathBuf;

use super::{Failure, Result};

/// The configuration that `init` writes; a test checks that it is good as it is.
pub(super) const START: &str = include_str!("init/mail2crm.toml");

/// Write a commented `mail2crm.toml` to start from.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mail2crm init /etc/mail2crm && mail2crm --config /etc/mail2crm/mail2crm.toml check")]
pub(super) struct Args {
    /// The folder to write it to; made if it is not there.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

pub(super) fn run(args: Args) -> Result {
    let path = args.dir.join("mail2crm.toml");
    if path.exists() {
        return Err(Failure::Usage(
            format!("`{}` is there already", path.display()),
            "move it away, or name another folder: `mail2crm init DIR`".to_owned(),
        ));
    }
    std::fs::create_dir_all(&args.dir)?;
    std::fs::write(&path, START)?;
    eprintln!("wrote {}; edit it, then try: mail2crm --config {} check", path.display(), path.display());
    Ok(())
}
