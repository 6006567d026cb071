//! The `syncline` program: the command line, and nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use syncline::cli::{Cli, run};

/// A message is some hundreds of small allocations, made by one thread and often freed by another: with this allocator it takes a
/// sixth less CPU than with that of the C library (`scripts/load`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return syncline::cli::failed(&format!("the runtime cannot be started: {error}")),
    };
    let code = runtime.block_on(run(cli));
    // Whatever still runs has had its time to end, or is to be left at once: nothing waits for it.
    runtime.shutdown_background();
    code
}
