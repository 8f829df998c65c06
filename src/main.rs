//! The binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mail2crm::cli::run(mail2crm::cli::Cli::parse())
}
