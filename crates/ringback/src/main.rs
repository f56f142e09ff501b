//! Ringback: sends the returning call to its callback agent.
//!
//! This crate is the program: it reads the command line and the configuration, wires the crates
//! that do the work, and turns every failure into a message and an exit code.

mod backup;
mod cli;
mod client;
mod config;
mod context;
mod demo;
mod doctor;
mod exit;
mod export;
mod import;
mod init;
mod logging;
mod manual;
mod otel;
mod output;
mod serve;
mod show;
mod store;
mod top;
mod verb;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    // Known before the arguments are read, because an error about them is told in JSON too.
    let as_json = std::env::args_os().any(|argument| argument == "--json");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return exit::usage(&usage, as_json),
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::failure(&failure, as_json),
    }
}
