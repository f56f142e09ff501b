//! Where failures meet the shell: the message on standard error and the exit code.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use ringback_api::Problem;
use ringback_store::{OpenStoreError, RestoreError};

use crate::backup::BackupFailure;
use crate::client::ClientError;
use crate::config::ConfigError;
use crate::context::ContextError;
use crate::demo::DemoError;
use crate::doctor::DoctorError;
use crate::export::ExportError;
use crate::import::ImportError;
use crate::init::InitError;
use crate::output::{escaped_json, escaped_lines, notice};
use crate::serve::ServeError;
use crate::top::TopError;
use crate::verb::status::StatusError;

/// Why the program ends with something other than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server could not start or go on.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The data directory cannot be read, or is damaged; the message names the place.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// There is no backup, or no directory made of it.
    #[error(transparent)]
    Backup(#[from] BackupFailure),
    /// The API did not do what was asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The contexts cannot be used.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// Nothing was set up.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The import did not go through in full.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The export is not whole.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The server cannot be watched.
    #[error(transparent)]
    Top(#[from] TopError),
    /// The demonstration did not show what it should.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The server is not in good health.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// There is something to do.
    #[error(transparent)]
    Doctor(#[from] DoctorError),
    /// Calls that return to a number reach nobody, or the number is not one of the environment.
    #[error(
        "{0} of the numbers that calls came from are not owned, or nobody takes returns to them"
    )]
    Unreached(usize),
    /// The person at the terminal said no.
    #[error("nothing was done")]
    Declined,
    /// A file cannot be written.
    #[error("cannot write {0}")]
    Write(String, #[source] io::Error),
    /// The result could not be written.
    #[error("standard output cannot be written")]
    Output(#[from] io::Error),
}

impl Failure {
    /// The exit code, as in `sysexits.h`; of `status --check`, as monitoring plugins use it.
    fn code(&self) -> u8 {
        match self {
            Self::Config(_) => CONFIGURATION,
            Self::Serve(error) if error.is_configuration() => CONFIGURATION,
            Self::Client(error) => client_code(error),
            Self::Context(error) => context_code(error),
            Self::Import(error) => import_code(error),
            Self::Store(error) => store_code(error),
            Self::Backup(error) => backup_code(error),
            Self::Status(error) => error.code,
            Self::Doctor(_) => SOMETHING_TO_DO,
            Self::Unreached(_) => SOMETHING_TO_DO,
            Self::Init(error) if error.is_usage() => USAGE,
            Self::Export(ExportError::OfAll) | Self::Declined => USAGE,
            Self::Serve(_)
            | Self::Init(_)
            | Self::Demo(_)
            | Self::Export(_)
            | Self::Top(_)
            | Self::Write(..)
            | Self::Output(_) => INTERNAL,
        }
    }

    /// The failure as the API would write it.
    fn to_json(&self) -> String {
        if let Self::Client(ClientError::Refused(refusal)) = self {
            return refusal.raw.get().to_owned();
        }
        let code = match self {
            Self::Config(_) => "CONFIGURATION",
            Self::Serve(error) if error.is_configuration() => "CONFIGURATION",
            Self::Client(error) => error.name(),
            Self::Context(_) => "CONTEXT",
            Self::Import(_) => "IMPORT",
            Self::Store(error) => store_word(error),
            Self::Backup(error) => backup_word(error),
            Self::Status(_) => "STATUS",
            Self::Doctor(_) => "DOCTOR",
            Self::Unreached(_) => "NUMBERS_UNREACHED",
            Self::Init(error) if error.is_usage() => "INIT",
            Self::Declined => "DECLINED",
            Self::Export(ExportError::BrokenOff(_)) => "EXPORT_NOT_WHOLE",
            Self::Export(ExportError::OfAll) => "USAGE",
            Self::Top(_) => "UNREACHABLE",
            Self::Serve(_) | Self::Init(_) | Self::Demo(_) | Self::Write(..) | Self::Output(_) => {
                "INTERNAL"
            }
        };
        object(&chain(self), code)
    }
}

/// The exit code of a context that cannot be used.
fn context_code(error: &ContextError) -> u8 {
    if error.is_usage() {
        USAGE
    } else if error.is_not_found() {
        NOT_FOUND
    } else {
        CONFIGURATION
    }
}

/// The exit code of what the API did not do.
fn client_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Context(error) => context_code(error),
        ClientError::Url(_) | ClientError::NoToken | ClientError::BadToken => USAGE,
        ClientError::Ca { .. } | ClientError::NoRoots => CONFIGURATION,
        ClientError::Ambiguous { .. } => REFUSED,
        ClientError::NotFound(_) => NOT_FOUND,
        ClientError::Unreachable { .. } | ClientError::Unreadable { .. } => UNAVAILABLE,
        ClientError::Unwritable(_) => INTERNAL,
        ClientError::Refused(refusal) => match refusal.status {
            401 | 403 => NOT_ALLOWED,
            404 => NOT_FOUND,
            429 | 500.. => UNAVAILABLE,
            _ => REFUSED,
        },
    }
}

/// The exit code of a data directory that cannot be read.
fn store_code(error: &OpenStoreError) -> u8 {
    match error {
        OpenStoreError::InUse(_) => USAGE,
        OpenStoreError::NoStore(_) => NOT_FOUND,
        OpenStoreError::NewerFormat { .. } => CONFIGURATION,
        _ => INTERNAL,
    }
}

/// The word for a data directory that cannot be read.
fn store_word(error: &OpenStoreError) -> &'static str {
    match error {
        OpenStoreError::InUse(_) => "DATA_IN_USE",
        OpenStoreError::NoStore(_) => "NO_DATA",
        OpenStoreError::NewerFormat { .. } => "NEWER_FORMAT",
        OpenStoreError::Damaged(_) => "DATA_DAMAGED",
        _ => "DATA_UNAVAILABLE",
    }
}

/// The exit code of a backup that is not made, or not restored.
fn backup_code(error: &BackupFailure) -> u8 {
    match error {
        BackupFailure::Backup(error) if error.is_newer() => CONFIGURATION,
        BackupFailure::Backup(_) | BackupFailure::Erasures { .. } => INTERNAL,
        BackupFailure::Restore { source, .. } => match source {
            RestoreError::NotEmpty(_) => USAGE,
            RestoreError::Store(error) => store_code(error),
            _ => INTERNAL,
        },
        BackupFailure::File { .. } => NOT_FOUND,
        BackupFailure::Terminal => USAGE,
    }
}

/// The word for a backup that is not made, or not restored.
fn backup_word(error: &BackupFailure) -> &'static str {
    match error {
        BackupFailure::Backup(error) if error.is_newer() => "NEWER_FORMAT",
        BackupFailure::Backup(_) => "BACKUP_NOT_WHOLE",
        BackupFailure::Erasures { .. } => "ERASURES_NOT_WHOLE",
        BackupFailure::Restore { source, .. } => match source {
            RestoreError::NotEmpty(_) => "NOT_EMPTY",
            RestoreError::NoErasureSecret | RestoreError::OtherErasures => "ERASURES_DO_NOT_FIT",
            RestoreError::Store(error) => store_word(error),
            _ => "BACKUP_NOT_WHOLE",
        },
        BackupFailure::File { .. } => "NOT_FOUND",
        BackupFailure::Terminal => "USAGE",
    }
}

/// The exit code of an import.
fn import_code(error: &ImportError) -> u8 {
    match error {
        ImportError::File { .. } => NOT_FOUND,
        ImportError::Stopped { source, .. } | ImportError::Server(source) => client_code(source),
        ImportError::Thread(_) | ImportError::Rejects { .. } => INTERNAL,
        _ => REFUSED,
    }
}

/// Says what went wrong, cause by cause: for people or, where JSON is asked for, as the API would.
pub(crate) fn failure(failure: &Failure, as_json: bool) -> ExitCode {
    // A reader that has seen enough, such as `head`, is no failure.
    if matches!(failure, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    tell(failure, as_json);
    ExitCode::from(failure.code())
}

/// Says what went wrong, and lets the program go on.
pub(crate) fn tell(failure: &Failure, as_json: bool) {
    match failure {
        // A plugin for monitoring speaks on standard output, and has spoken; so has `doctor`.
        Failure::Status(_) | Failure::Doctor(_) => {}
        _ if as_json => eprintln!("{}", escaped_json(&failure.to_json())),
        Failure::Config(ConfigError::Faults(faults)) => {
            for fault in faults {
                notice(&fault.to_string());
            }
        }
        _ => notice(&chain(failure)),
    }
}

/// Prints help, version or what is wrong with the arguments.
pub(crate) fn usage(error: &clap::Error, as_json: bool) -> ExitCode {
    if !error.use_stderr() {
        // There is nobody left to tell if this cannot be printed.
        let _unprinted = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let plain = escaped_lines(&text);
    if as_json {
        let message = text.trim().trim_start_matches("error: ");
        eprintln!("{}", escaped_json(&object(message, "USAGE")));
    } else if plain == text {
        let _unprinted = error.print();
    } else {
        // Colors are control characters too, so text that has others goes without them.
        eprint!("{plain}");
    }
    ExitCode::from(USAGE)
}

/// An error as the API writes it.
fn object(message: &str, code: &str) -> String {
    let problem = Problem::new(message, Some(code));
    // Texts alone can always be written.
    serde_json::to_string(&problem).unwrap_or_default()
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

/// A check has found something to do.
const SOMETHING_TO_DO: u8 = 1;

/// The arguments are wrong.
const USAGE: u8 = 64;

/// What was given was refused.
const REFUSED: u8 = 65;

/// What was named is not there.
const NOT_FOUND: u8 = 66;

/// The server does not answer, or cannot now.
const UNAVAILABLE: u8 = 69;

/// Something failed that should not.
const INTERNAL: u8 = 70;

/// The token does not allow it.
const NOT_ALLOWED: u8 = 77;

/// The configuration cannot be used.
const CONFIGURATION: u8 = 78;
