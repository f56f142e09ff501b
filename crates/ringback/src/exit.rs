//! Where failures meet the shell: the message on standard error and the exit code.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::demo::DemoError;
use crate::import::ImportError;
use crate::serve::ServeError;

/// Why the program ends with something other than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server could not start or go on.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The API did not do what was asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The import did not go through in full.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The demonstration did not show what it should.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The result could not be written.
    #[error("standard output cannot be written")]
    Output(#[from] io::Error),
}

impl Failure {
    /// The exit code, as in `sysexits.h`.
    fn code(&self) -> u8 {
        match self {
            Self::Config(_) => CONFIGURATION,
            Self::Serve(error) if error.is_configuration() => CONFIGURATION,
            Self::Client(error) if error.is_usage() => USAGE,
            Self::Import(error) if error.is_usage() => USAGE,
            Self::Serve(_)
            | Self::Client(_)
            | Self::Import(_)
            | Self::Demo(_)
            | Self::Output(_) => INTERNAL,
        }
    }
}

/// Says what went wrong, cause by cause.
pub(crate) fn failure(failure: &Failure) -> ExitCode {
    // A reader that has seen enough, such as `head`, is no failure.
    if matches!(failure, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    match failure {
        Failure::Config(ConfigError::Faults(faults)) => {
            for fault in faults {
                eprintln!("ringback: {fault}");
            }
        }
        _ => eprintln!("ringback: {}", chain(failure)),
    }
    ExitCode::from(failure.code())
}

/// Prints help, version or what is wrong with the arguments.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // There is nobody left to tell if this cannot be printed.
    let _unprinted = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// An error and its causes, in one text.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// What was asked cannot be done: the arguments, or what they name, are wrong.
const USAGE: u8 = 64;

/// Something failed that should not.
const INTERNAL: u8 = 70;

/// The configuration cannot be used.
const CONFIGURATION: u8 = 78;
