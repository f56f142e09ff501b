//! `ringback import calls`: recorded calls from a file to a running server.
//!
//! One thread reads rows and cuts them into batches; several connections send them. A batch is
//! sent again while the server is away, and the rows acknowledged without a gap are remembered
//! beside the file, so that an interrupted import continues. Every row has a call id, its own or
//! one derived from what it says, so nothing is recorded twice however often a row is sent.

mod known;
mod position;
mod preset;
mod progress;
mod rejects;
mod row;
mod sender;
mod source;
mod table;
mod time;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use encoding_rs::Encoding;
use jiff::tz::TimeZone;

use self::known::Environment;
use self::position::{Fingerprint, PositionFile};
use self::preset::{Column, Preset};
use self::progress::Progress;
use self::rejects::RejectsFile;
use self::row::{Rows, RowsError};
use self::sender::{Sender, Summary};
use self::source::Source;
use self::time::Times;
use crate::client::{Client, ClientError};
use crate::exit::{Failure, chain};
use crate::output::{SessionArgs, escaped_json, print};
use crate::verb::name;

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
    /// The system that wrote the file: its columns, statuses and times are known; only outbound calls are imported
    #[arg(long, value_name = "SYSTEM")]
    preset: Option<Preset>,
    /// How to read it [default: by its first character]
    #[arg(long)]
    format: Option<Format>,
    /// The CSV column that holds a field, by name or by number from 1, such as `to=destination`; repeat for several
    #[arg(long, value_name = "FIELD=COLUMN", value_parser = column)]
    column: Vec<(Column, String)>,
    /// What separates CSV columns; `\t` for a tab [default: by the first line]
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// The first row of CSV is a call, not a header; a preset sees that by itself
    #[arg(long)]
    no_header: bool,
    /// How characters are encoded, such as `windows-1252` [default: UTF-8, or UTF-16 where the file shows it]
    #[arg(long, value_name = "NAME", value_parser = encoding)]
    encoding: Option<&'static Encoding>,
    /// The zone of times that name none, such as `Europe/Berlin` or `+02:00` [default: this machine's; for Twilio UTC]
    #[arg(long, value_name = "ZONE", value_parser = time_zone)]
    time_zone: Option<TimeZone>,
    /// How times are written, such as `%d.%m.%Y %H:%M` (strptime) [default: the usual ways]
    #[arg(long, value_name = "FORMAT", value_parser = time_format)]
    time_format: Option<String>,
    /// Take calls that do not say when they started as placed now
    #[arg(long)]
    started_now: bool,
    /// The outbound agent, by id or name, of rows that name none
    #[arg(long, visible_alias = "agent", value_name = "AGENT")]
    agent_id: Option<String>,
    /// Keep every rejected row in this CSV file: line, field, value, reason
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
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
    /// Separated values
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
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// What is in the file cannot be taken for calls.
    #[error("{path}: {source}")]
    Rows {
        /// The file.
        path: PathBuf,
        /// What is wrong with its rows.
        source: Box<RowsError>,
    },
    /// The server stopped taking rows; the same command goes on from there.
    #[error("the import stopped after {rows} rows; the same command continues it")]
    Stopped {
        /// Rows answered by the server without a gap from the first.
        rows: u64,
        /// The last error of the server, or on the way to it.
        #[source]
        source: ClientError,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// Rejected rows cannot be kept: name another file.
    #[error("cannot write {path}")]
    Rejects {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The server does not say what rows refer to.
    #[error(transparent)]
    Server(ClientError),
    /// Everything was sent, but not every row was taken.
    #[error("{0} rows were rejected")]
    Rejected(u64),
}

/// Imports what the arguments say, and prints what became of it.
pub(crate) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let What::Calls(calls) = &args.what;
    let client = Client::new(&args.session.client)?;
    let summary = import(calls, &client)?;
    if args.session.json {
        print(&format!(
            "{}\n",
            escaped_json(&summary.to_json().to_string())
        ))?;
    } else if !args.session.quiet {
        print(&summary.to_string())?;
    }
    match summary.rejected() {
        0 => Ok(()),
        rejected => Err(ImportError::Rejected(rejected).into()),
    }
}

/// Imports the file.
fn import(args: &CallsArgs, client: &Client) -> Result<Summary, ImportError> {
    let source = open(&args.file)?;
    let agent_id = match &args.agent_id {
        Some(agent) => Some(
            name::agent(client, agent)
                .map_err(ImportError::Server)?
                .to_string(),
        ),
        None => None,
    };
    let position = position_file(args, &source, client, agent_id.as_deref());
    let done = match &position {
        Some(position) if !args.restart => position.read(),
        _ => None,
    };
    let done = done.unwrap_or_default();

    let progress = Progress::new(source.length(), source.counter());
    if done.rows > 0 {
        progress.note(&format!("continuing after row {}", done.rows));
    }
    if let Some(position) = &position
        && let Err(error) = position.probe()
    {
        progress.note(&format!(
            "cannot write {}: {}; an import that is interrupted starts again from the first row",
            position.path().display(),
            chain(&error)
        ));
    }
    let unkept = |source| ImportError::Rejects {
        path: args.rejects.clone().unwrap_or_default(),
        source,
    };
    let rejects = match &args.rejects {
        Some(path) => Some(RejectsFile::open(path, done.rejects_length).map_err(unkept)?),
        None => None,
    };
    let unusable = |source| match source {
        RowsError::Server(source) => ImportError::Server(source),
        source => ImportError::Rows {
            path: args.file.clone(),
            source: Box::new(source),
        },
    };
    let times = args.times();
    let settings = row::Settings {
        format: args.format,
        preset: args.preset,
        no_header: args.no_header,
        columns: &args.column,
        delimiter: args.delimiter,
        encoding: args.encoding,
        agent_id: agent_id.as_deref(),
        started_now: args.started_now,
        times: times.clone(),
    };
    let rows = Rows::open(source, &settings, Environment::new(client)).map_err(unusable)?;
    let sender = Sender {
        client,
        connections: args.connections,
        batch: args.batch,
        position: position.as_ref(),
        progress: &progress,
        tell_all: rejects.is_some(),
    };
    let summary = sender
        .send(rows, done, rejects)
        .map_err(|error| match error {
            sender::SendError::Rows(source) => unusable(source),
            sender::SendError::Thread(source) => ImportError::Thread(source),
            sender::SendError::Rejects(source) => unkept(source),
            sender::SendError::Server { rows, source } => ImportError::Stopped { rows, source },
        })?;
    if args.time_zone.is_none()
        && let Some(zone) = times.zone_assumed()
    {
        progress.note(&format!(
            "times without a zone were read as those of {zone}; --time-zone names another"
        ));
    }
    Ok(summary)
}

/// Opens the file.
fn open(path: &Path) -> Result<Source, ImportError> {
    let unreadable = |source| ImportError::File {
        path: path.to_owned(),
        source,
    };
    if path == Path::new("-") {
        return Source::open(Box::new(io::stdin()), None).map_err(unreadable);
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    let length = metadata.is_file().then_some(metadata.len());
    Source::open(Box::new(file), length).map_err(unreadable)
}

/// Where to remember how far the import of this source got; of standard input only where that was asked for. An
/// import that reads the file in another way, or for another server or agent, is another one.
fn position_file(
    args: &CallsArgs,
    source: &Source,
    client: &Client,
    agent_id: Option<&str>,
) -> Option<PositionFile> {
    if args.file == Path::new("-") && args.position_file.is_none() {
        return None;
    }
    let path = args.position_file.clone().unwrap_or_else(|| {
        let mut name = args.file.clone().into_os_string();
        name.push(".ringback-position");
        PathBuf::from(name)
    });
    let reading = format!(
        "{:?}",
        (
            (args.preset, args.format, &args.column, args.delimiter),
            (args.no_header, args.encoding.map(Encoding::name)),
            (&args.time_zone, &args.time_format, args.started_now),
            &args.rejects,
        )
    );
    let fingerprint = Fingerprint::new(
        source.head(),
        source.length(),
        &[
            client.base(),
            client.token(),
            agent_id.unwrap_or_default(),
            &reading,
        ],
    );
    Some(PositionFile::new(path, fingerprint))
}

impl CallsArgs {
    /// How times are read.
    fn times(&self) -> Times {
        let zone = self.time_zone.clone().unwrap_or_else(|| {
            if self.preset.is_some_and(Preset::is_utc) {
                TimeZone::UTC
            } else {
                TimeZone::system()
            }
        });
        Times::new(zone, self.time_format.clone())
    }
}

/// Reads `FIELD=COLUMN`.
fn column(text: &str) -> Result<(Column, String), String> {
    let (field, column) = text.split_once('=').ok_or("write FIELD=COLUMN")?;
    let named = row::NAMED
        .into_iter()
        .find(|named| named.field() == field || (field == "agent" && *named == Column::Agent));
    match named {
        Some(named) => Ok((named, column.to_owned())),
        None => {
            let fields = row::NAMED.map(Column::field);
            Err(format!("the fields are {}", fields.join(", ")))
        }
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

/// Reads the name of an encoding.
fn encoding(text: &str) -> Result<&'static Encoding, String> {
    Encoding::for_label(text.as_bytes()).ok_or_else(|| {
        "no encoding of the WHATWG standard, such as windows-1252 or utf-16le".into()
    })
}

/// Reads a time zone.
fn time_zone(text: &str) -> Result<TimeZone, String> {
    time::zone_named(text)
        .or_else(|| TimeZone::get(text).ok())
        .ok_or_else(|| "no time zone, such as Europe/Berlin, UTC or +02:00".to_owned())
}

/// Reads the format of times.
fn time_format(text: &str) -> Result<String, String> {
    let sample = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    match jiff::fmt::strtime::format(text, &sample) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What the long help says first.
const CALLS: &str = "\
Import recorded outbound calls into a running server.

CSV needs a header with the column `to`. It should have `started_at`, and `agent_id` (id or name) or `from`; it may \
have `status`, `sid` and `direction`. Columns stand in any order, and others are ignored. Newline-delimited JSON \
has the same names as keys. Compression (gzip, zstd), format, \
separator (`,` `;` tab `|`) and UTF-16 are recognized by content.

With --preset the file is read as the system wrote it, with or without its header, and outbound calls alone \
are taken: those to a number that is not one of the environment's, unless the row says otherwise. Inbound and \
internal calls are counted and skipped. Without a preset a column `direction` has the same effect.

  asterisk    Master.csv of cdr_csv and cdr_custom, or the cdr table
  freepbx     the cdr table or the report's CSV
  freeswitch  Master.csv of mod_cdr_csv (templates example, asterisk), lines of mod_json_cdr,
              FusionPBX's table v_xml_cdr
  twilio      the console's CSV, or Call objects of the API, one on a line
  vicidial    the export calls report, or the table vicidial_log

The agent of a row is the one that its column names (for Asterisk and FreeSWITCH the account code, for VICIdial \
the campaign or the user), else that of --agent-id, else the outbound agent that alone owns the calling number. A \
calling number that is an extension is left out.

Times are RFC 3339, `YYYY-MM-DD HH:MM:SS`, RFC 2822, or seconds since 1970; --time-format names another way, \
and --time-zone the zone of times that name none. Calls count by when they were placed, so a file that does \
not say it is refused unless --started-now is given.

`sid` is the call's id: a row that was imported before changes nothing, except that a later status \
counts. A row without one gets an id derived from its agent, numbers and time as they are written, \
so that importing the same file again adds nothing.

The import keeps its position in FILE.ringback-position until it is complete: after an interruption the same \
command continues. While the server is away, a request is tried again for \
about a minute.

A row or line is at most 64 KiB long, and has at most 1024 columns.

Exit code 0: every row was recorded or skipped. 65: some rows were refused (standard output lists the first with \
their lines, --rejects keeps all), or the file cannot be used. 66: there is no such file. 69: the server went away \
before the import was complete.";

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback import calls calls.csv
  ringback import calls /var/log/asterisk/cdr-csv/Master.csv --preset asterisk --agent Sales \\
    --time-zone America/Sao_Paulo --rejects rejects.csv
  ringback import calls cdr.csv.gz --column to=dst --column from=src --column started_at=calldate \\
    --time-format '%d.%m.%Y %H:%M:%S' --encoding windows-1252 --agent-id AGENT_ID
  zcat old/*.ndjson.gz | ringback import calls - --json";
