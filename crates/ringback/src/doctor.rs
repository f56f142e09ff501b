//! `ringback doctor`: whether this machine and a server on it are as they should be, and what to do where not.
//!
//! Nothing is changed: addresses are bound and let go of, a file in the data directory is made and removed. What cannot
//! be told, such as what a server sees that does not run, is said to be unchecked.

mod check;
mod machine;
mod ports;
mod server;

use clap::Args;
use serde::Serialize;

use self::check::{Check, State};
use crate::client::ClientArgs;
use crate::config::{Config, ConfigError, SettingsArgs};
use crate::exit::Failure;
use crate::output::{Paint, escaped, escaped_json, print};

/// `ringback doctor`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// The settings of the server.
    #[command(flatten)]
    settings: SettingsArgs,
    /// The server, if it is not the one of the configuration.
    #[command(flatten)]
    client: ClientArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Something has to be done; all of it has been said.
#[derive(Debug, thiserror::Error)]
#[error("{0} of the checks found something to do")]
pub(crate) struct DoctorError(usize);

/// What was found, as JSON.
#[derive(Serialize)]
struct Report<'c> {
    /// Whether there is nothing to do.
    ok: bool,
    /// Every check.
    checks: &'c [Check],
}

/// Checks everything, and says what was found.
pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let checks = match args.settings.load() {
        Ok(config) => examine(&config, &args.client),
        Err(error) => {
            let mut checks = unusable(&error);
            checks.extend(machine::without_configuration());
            checks
        }
    };
    let problems = checks
        .iter()
        .filter(|check| check.state == State::Problem)
        .count();
    let text = if args.json {
        let report = Report {
            ok: problems == 0,
            checks: &checks,
        };
        escaped_json(&serde_json::to_string(&report).map_err(std::io::Error::from)?) + "\n"
    } else {
        checks.iter().map(readable).collect()
    };
    print(&text)?;
    if problems > 0 {
        return Err(DoctorError(problems).into());
    }
    Ok(())
}

/// Every check.
fn examine(config: &Config, client: &ClientArgs) -> Vec<Check> {
    let running = server::Running::find(config, client);
    let mut checks = configuration(config);
    checks.extend(machine::data_directory(&config.data_dir));
    checks.extend(ports::check(config, running.is_there()));
    checks.extend(machine::without_configuration());
    checks.extend(machine::certificates(config));
    checks.extend(running.check(config.cluster.is_some()));
    checks
}

/// The configuration, which can be used, and what is doubtful in it.
fn configuration(config: &Config) -> Vec<Check> {
    if config.warnings.is_empty() {
        return vec![Check::ok("configuration", "it can be used")];
    }
    let doubt = |warning: &String| {
        let todo = "Write what is meant into the configuration, or raise the limit.";
        Check::advice("configuration", warning, todo)
    };
    config.warnings.iter().map(doubt).collect()
}

/// A configuration that cannot be used.
fn unusable(error: &ConfigError) -> Vec<Check> {
    let problem = |found: String| {
        let todo = "Correct it; `ringback check-config` looks at the file alone.";
        Check::problem("configuration", found, todo)
    };
    match error {
        ConfigError::Faults(faults) => faults.iter().map(|f| problem(f.to_string())).collect(),
        ConfigError::File { .. } => vec![problem(crate::exit::chain(error))],
    }
}

/// A check for people.
fn readable(check: &Check) -> String {
    let paint = Paint::stdout();
    let state = format!("{:<9}", check.state.name());
    let state = match check.state {
        State::Ok => paint.green(&state),
        State::Problem => paint.bold(&state),
        State::Advice => paint.yellow(&state),
        State::Unchecked => paint.dim(&state),
    };
    let mut text = format!("{state} {:<15} {}\n", check.name, escaped(&check.found));
    if let Some(todo) = &check.todo {
        text.push_str(&format!("{:26}{}\n", "", escaped(todo)));
    }
    text
}

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback doctor --config /etc/ringback/ringback.toml
  ringback doctor --json | jq -r '.checks[] | select(.state == \"problem\") | .todo'
Checked are the configuration, the data directory, addresses to listen on, clock, limits, receive buffers, huge pages, the end \
of certificates, and of a running server its peers, strangers and the durability of NATS. For the last three it asks the \
server of the configuration with the administrator token, which is read from the data directory where none is given.
Exit codes: 0 nothing to do (`advice` counts as nothing), 1 something to do; it stands beneath each `problem`.";
