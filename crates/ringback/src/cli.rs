//! The command line.

use std::io;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::CheckArgs;
use crate::demo::DemoArgs;
use crate::doctor::DoctorArgs;
use crate::exit::Failure;
use crate::import::ImportArgs;
use crate::init::InitArgs;
use crate::serve::ServeArgs;
use crate::verb::{agent, call, callback, cluster, contact, environment, number, route, status};
use crate::{
    backup, config, context, demo, doctor, export, import, init, manual, serve, store, top,
};

/// Routes the returning call.
///
/// Ringback remembers which outbound agent last called each contact. When the contact dials back,
/// it sends the call to the callback agent configured for that outbound agent, provided the
/// callback agent owns the dialed number. It speaks SIP to proxies and PBXs, and HTTP to
/// administrators.
#[derive(Debug, Parser)]
#[command(
    name = "ringback",
    version,
    arg_required_else_help = true,
    propagate_version = true
)]
#[command(after_help = EXIT_CODES, after_long_help = START)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first configuration, and make a data directory with an environment
    Init(InitArgs),
    /// Run the server: SIP for calls, HTTP for the API
    Serve(ServeArgs),
    /// Show returning calls being routed, on a server of its own
    Demo(DemoArgs),
    /// Check a configuration as `serve` would, and stop
    CheckConfig(CheckArgs),
    /// Check machine, configuration and server, and say what to do
    Doctor(DoctorArgs),
    /// Manage environments (tenants) and their tokens; needs the administrator token
    Environment(environment::EnvironmentArgs),
    /// Manage agents
    Agent(agent::AgentArgs),
    /// Manage phone numbers
    Number(number::NumberArgs),
    /// Manage callback roles: which agent takes back whose calls
    Callback(callback::CallbackArgs),
    /// Record outbound calls
    Call(call::CallArgs),
    /// Show or forget what is remembered of a contact
    Contact(contact::ContactArgs),
    /// Ask where a call would go; counts nothing
    Route(route::RouteArgs),
    /// Import recorded outbound calls from a file
    Import(ImportArgs),
    /// Export calls, agents, numbers, roles or decisions, line by line
    Export(export::ExportArgs),
    /// Show the state of a server: health, rates, drops, and sources that are no peer
    Status(status::StatusArgs),
    /// Show what a server does right now: rates, outcomes, latency, decisions
    Top(top::TopArgs),
    /// Show the cluster of a server: nodes, stream, durability
    Cluster(cluster::ClusterArgs),
    /// Make a server read its configuration and certificates again
    Reload(status::ReloadArgs),
    /// Write the state of a server into a file; needs the administrator token
    Backup(backup::BackupArgs),
    /// Make a data directory from a backup
    Restore(backup::RestoreArgs),
    /// Look into the data directory of a server that is stopped
    Store(store::StoreArgs),
    /// Keep servers and their tokens under names
    Context(context::ContextArgs),
    /// Write manual pages into a folder
    Man(manual::ManArgs),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Init(args) => init::run(&args)?,
            Command::Serve(args) => serve::run(&args)?,
            Command::Demo(args) => demo::run(&args)?,
            Command::CheckConfig(args) => config::check(&args)?,
            Command::Doctor(args) => doctor::run(&args)?,
            Command::Environment(args) => environment::run(&args)?,
            Command::Agent(args) => agent::run(&args)?,
            Command::Number(args) => number::run(&args)?,
            Command::Callback(args) => callback::run(&args)?,
            Command::Call(args) => call::run(&args)?,
            Command::Contact(args) => contact::run(&args)?,
            Command::Route(args) => route::run(&args)?,
            Command::Import(args) => import::run(&args)?,
            Command::Export(args) => export::run(&args)?,
            Command::Status(args) => status::run(&args)?,
            Command::Top(args) => top::run(&args)?,
            Command::Cluster(args) => cluster::run(&args)?,
            Command::Reload(args) => status::reload(&args)?,
            Command::Backup(args) => backup::back_up(&args)?,
            Command::Restore(args) => backup::restore(&args)?,
            Command::Store(args) => store::run(&args)?,
            Command::Context(args) => context::run(&args)?,
            Command::Man(args) => manual::write(&args, Self::command())?,
            Command::Completions { shell } => {
                let mut command = Self::command();
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command, "ringback", &mut script);
                io::Write::write_all(&mut io::stdout(), &script)?;
            }
        }
        Ok(())
    }
}

/// What ends every first help page.
const EXIT_CODES: &str = "\
Client commands ask the server at RINGBACK_URL (default http://127.0.0.1:8080) with RINGBACK_TOKEN.
Exit codes: 0 done, 64 usage, 65 refused, 66 not found, 69 unavailable, 70 internal, 77 not allowed, \
78 configuration.";

/// What ends the long help page.
const START: &str = "\
Client commands ask the server at RINGBACK_URL (default http://127.0.0.1:8080) with RINGBACK_TOKEN, or \
the one kept with `ringback context`. Wherever an id is taken, a unique name is too. With --json, \
answers and errors are the API's JSON; with --quiet, ids alone are printed.

Exit codes (sysexits.h): 0 done, 64 usage, 65 the input is refused, 66 not found, 69 the server does \
not answer or cannot do it now, 70 internal, 77 the token does not allow it, 78 configuration.

Examples:
  ringback demo
  ringback serve --data-dir /var/lib/ringback --sip-udp 192.0.2.10:5060
  export RINGBACK_TOKEN=talq_...
  ringback route --to +12025550100 --from +12025550142 --explain";

/// Where completion scripts go.
const COMPLETIONS: &str = "\
Examples:
  ringback completions bash > ~/.local/share/bash-completion/completions/ringback
  ringback completions zsh > \"${fpath[1]}/_ringback\"
  ringback completions fish > ~/.config/fish/completions/ringback.fish";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_variable_of_an_argument_is_known() {
        let mut read = std::collections::BTreeSet::new();
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            let variables = command.get_arguments().filter_map(clap::Arg::get_env);
            read.extend(variables.map(|name| name.to_string_lossy().into_owned()));
            commands.extend(command.get_subcommands().cloned());
        }
        read.retain(|name| name.starts_with("RINGBACK_"));
        // The administrator token is no argument, because arguments show in the list of processes;
        // the other two are read by hand, because a context may come before them.
        for name in ["RINGBACK_ADMIN_TOKEN", "RINGBACK_URL", "RINGBACK_TOKEN"] {
            read.insert(name.to_owned());
        }
        let known: Vec<&String> = read.iter().collect();
        assert_eq!(known, config::KNOWN_VARIABLES);
    }
}
