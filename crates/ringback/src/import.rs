//! `ringback import calls`: recorded calls from a file to a running server.
//!
//! One thread reads rows and cuts them into batches; several connections send them. A batch is
//! sent again while the server is away, and the rows acknowledged without a gap are remembered
//! beside the file, so that an interrupted import continues. Every row has a call id, its own or
//! one derived from what it says, so nothing is recorded twice however often a row is sent.

mod position;
mod progress;
mod row;
mod sender;
mod source;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use self::position::{Fingerprint, PositionFile};
use self::progress::Progress;
use self::row::{Rows, RowsError};
use self::sender::{Sender, Summary};
use self::source::Source;
use crate::client::{Client, ClientError};
use crate::exit::Failure;
use crate::output::{SessionArgs, print};

/// `ringback import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Server, token, output.
    #[command(flatten)]
    session: SessionArgs,
    /// What to import.
    #[command(subcommand)]
    what: What,
}

/// What can be imported.
#[derive(Debug, Subcommand)]
enum What {
    /// Outbound calls, from CSV or newline-delimited JSON
    #[command(long_about = CALLS, after_long_help = EXAMPLES)]
    Calls(CallsArgs),
}

/// `ringback import calls`.
#[derive(Debug, Args)]
struct CallsArgs {
    /// The file, plain or compressed (gzip, zstd); `-` for standard input
    file: PathBuf,
    /// How to read it [default: by its first character]
    #[arg(long)]
    format: Option<Format>,
    /// The CSV column that holds a field, as `to=destination`; repeat for several
    #[arg(long, value_name = "FIELD=COLUMN", value_parser = column)]
    column: Vec<(String, String)>,
    /// What separates CSV columns; `\t` for a tab
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
    delimiter: u8,
    /// The outbound agent of rows that name none
    #[arg(long, value_name = "AGENT")]
    agent_id: Option<String>,
    /// Connections that send at once, 1 to 64
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Rows in one request, 1 to 100000
    #[arg(long, value_name = "ROWS", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Start from the first row, even if an earlier import of this file was interrupted
    #[arg(long)]
    restart: bool,
    /// Where to remember how far the import got [default: FILE.ringback-position]
    #[arg(long, value_name = "PATH")]
    position_file: Option<PathBuf>,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Comma-separated values with a header
    Csv,
    /// One JSON object on each line
    Ndjson,
}

/// Why an import did not go through in full.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// The file cannot be read: name another.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is in the file cannot be taken for calls.
    #[error("{path}: {source}")]
    Rows {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RowsError,
    },
    /// The server stopped taking rows; the same command goes on from there.
    #[error("{rows} rows went through, then the import stopped; the same command continues it")]
    Stopped {
        /// Rows answered by the server without a gap from the first.
        rows: u64,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// Everything was sent, but not every row was taken.
    #[error("{0} rows were rejected")]
    Rejected(u64),
}

/// Does it.
pub(crate) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let What::Calls(calls) = &args.what;
    let client = Client::new(&args.session.client)?;
    let summary = import(calls, &client)?;
    if args.session.json {
        print(&format!("{}\n", summary.to_json()))?;
    } else {
        print(&summary.to_string())?;
    }
    match summary.rejected() {
        0 => Ok(()),
        rejected => Err(ImportError::Rejected(rejected).into()),
    }
}

/// Imports the file.
fn import(args: &CallsArgs, client: &Client) -> Result<Summary, ImportError> {
    let unreadable = |source| ImportError::File {
        path: args.file.clone(),
        source,
    };
    let from_standard_input = args.file == Path::new("-");
    let source = if from_standard_input {
        Source::open(Box::new(io::stdin()), None)
    } else {
        let file = File::open(&args.file).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(unreadable(io::ErrorKind::IsADirectory.into()));
        }
        let length = metadata.is_file().then_some(metadata.len());
        Source::open(Box::new(file), length)
    }
    .map_err(unreadable)?;

    let position = (!from_standard_input || args.position_file.is_some()).then(|| {
        let path = args.position_file.clone().unwrap_or_else(|| {
            let mut name = args.file.clone().into_os_string();
            name.push(".ringback-position");
            PathBuf::from(name)
        });
        let fingerprint = Fingerprint::new(
            source.head(),
            source.length(),
            &[
                client.base(),
                client.token(),
                args.agent_id.as_deref().unwrap_or_default(),
            ],
        );
        PositionFile::new(path, fingerprint)
    });
    let done = match &position {
        Some(position) if !args.restart => position.read(),
        _ => None,
    };

    let progress = Progress::new(source.length(), source.counter());
    if let Some(done) = &done {
        progress.note(&format!("continuing after row {}", done.rows));
    }
    let unusable = |source| ImportError::Rows {
        path: args.file.clone(),
        source,
    };
    let settings = row::Settings {
        format: args.format,
        columns: &args.column,
        delimiter: args.delimiter,
        agent_id: args.agent_id.as_deref(),
    };
    let rows = Rows::open(source, &settings).map_err(unusable)?;
    let sender = Sender {
        client,
        connections: args.connections,
        batch: args.batch,
        position: position.as_ref(),
        progress: &progress,
    };
    sender
        .send(rows, done.unwrap_or_default())
        .map_err(|error| match error {
            sender::SendError::Rows(source) => unusable(source),
            sender::SendError::Thread(source) => ImportError::Thread(source),
            sender::SendError::Server { rows, source } => ImportError::Stopped { rows, source },
        })
}

/// Reads `FIELD=COLUMN`.
fn column(text: &str) -> Result<(String, String), String> {
    let (field, column) = text.split_once('=').ok_or("write FIELD=COLUMN")?;
    if row::FIELDS.contains(&field) {
        Ok((field.to_owned(), column.to_owned()))
    } else {
        Err(format!("the fields are {}", row::FIELDS.join(", ")))
    }
}

/// Reads a delimiter.
fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err("not a single ASCII character".to_owned()),
    }
}

/// What the long help says first.
const CALLS: &str = "\
Import recorded outbound calls into a running server.

CSV needs a header with the columns `agent_id` and `to`, and may have `from`, `status`,
`started_at` (RFC 3339) and `sid`, in any order; other columns are ignored. Newline-delimited JSON
has the same names as keys. Compression (gzip, zstd) and format are recognized by content.

`sid` is the call's id: a row that was imported before changes nothing, except that a later status
counts. A row without one gets an id derived from its agent, numbers and time as they are written,
so that importing the same file again adds nothing.

How far the import got is remembered in FILE.ringback-position, until it is through: after an
interruption the same command continues. While the server is away, a request is tried again for
about a minute.

Exit code 0 if every row was taken, 65 if the server refused some (the first are listed with their
lines on standard output) or the file cannot be used, 66 if there is no such file, 69 if the import
stopped in between because the server went away.";

/// Examples.
const EXAMPLES: &str = "\
Examples:
  ringback import calls calls.csv
  ringback import calls cdr.csv.gz --delimiter ';' --column to=dst --column from=src \\
    --column started_at=calldate --agent-id AGENT_ID
  zcat old/*.ndjson.gz | ringback import calls - --json";
