//! `ringback export`: everything of one kind, line by line on standard output.

use std::io::{self, Read, Write};

use clap::{Args, ValueEnum};

use crate::client::{ApiPath, Client, ClientArgs};
use crate::exit::Failure;
use crate::verb::name;

/// `ringback export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// Which server to ask, and as whom.
    #[command(flatten)]
    client: ClientArgs,
    /// What to export
    kind: Kind,
    /// How to write it
    #[arg(long, default_value = "ndjson")]
    format: Format,
    /// The one environment, by id or name; the administrator's token gives all without it
    #[arg(long, value_name = "ID")]
    environment: Option<String>,
}

/// What can be exported.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Outbound calls, as `import calls` reads them
    Calls,
    /// Agents
    Agents,
    /// Phone numbers
    Numbers,
    /// Agents with a callback role
    Roles,
    /// The latest decisions
    Decisions,
    /// Hashes of erased contacts, for `restore --erasures`; NDJSON, of all environments
    Erasures,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One JSON object on each line
    Ndjson,
    /// Separated values with a header; lists are joined by `;`
    Csv,
}

/// Why an export is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    /// The server broke off, or the line did.
    #[error("the server broke off: what was written is not whole")]
    BrokenOff(#[source] io::Error),
    /// There is one form of this export.
    #[error("erasures are hashes: leave --environment and --format csv out")]
    OfAll,
}

/// Runs the command.
pub(crate) fn run(args: &ExportArgs) -> Result<(), Failure> {
    let client = Client::new(&args.client)?;
    let environment = match &args.environment {
        Some(text) => Some(name::environment(&client, text)?.to_string()),
        None => None,
    };
    let kind = match args.kind {
        Kind::Calls => "calls",
        Kind::Agents => "agents",
        Kind::Numbers => "numbers",
        Kind::Roles => "roles",
        Kind::Decisions => "decisions",
        Kind::Erasures => "erasures",
    };
    let format = match args.format {
        Format::Ndjson => "ndjson",
        Format::Csv => "csv",
    };
    let path = match args.kind {
        // Hashes name no environment.
        Kind::Erasures if environment.is_some() || matches!(args.format, Format::Csv) => {
            return Err(ExportError::OfAll.into());
        }
        Kind::Erasures => ApiPath::new([kind]),
        _ => ApiPath::new(["export", kind])
            .query("format", Some(format))
            .query("environment", environment),
    };
    let mut body = client.download(&path)?;
    let mut out = io::stdout().lock();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = match body.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ExportError::BrokenOff(error).into()),
        };
        out.write_all(piece.get(..length).unwrap_or_default())?;
    }
    Ok(out.flush()?)
}

/// How many bytes are passed on at once.
const PIECE_BYTES: usize = 64 << 10;

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback export calls > calls.ndjson
  ringback import calls calls.ndjson
  ringback export agents --format csv --environment acme > agents.csv
  ringback export erasures > /backup/ringback.erasures

With the administrator's token and without --environment, every line names its environment. Exit code 70: \
the server broke off, and what was written is not whole.";
