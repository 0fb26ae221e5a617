//! The `countersign` command: parse, run, exit with a code a script can use.

mod cli;
mod commands;
mod exit;
mod logging;
mod output;
mod report;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os())
}
