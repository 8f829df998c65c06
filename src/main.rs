//! The binary: arguments in, exit code out.

use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match mail2crm::cli::parse(std::env::args_os()) {
        Ok(cli) => mail2crm::cli::run(cli),
        Err(code) => code,
    }
}
