//! Ringback: sends the returning call to its callback agent.
//!
//! This crate is the program: it reads the command line and the configuration, wires the crates
//! that do the work, and turns every failure into a message and an exit code.

mod cli;
mod client;
mod config;
mod demo;
mod exit;
mod import;
mod logging;
mod output;
mod serve;
mod verb;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return exit::usage(&usage),
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::failure(&failure),
    }
}
