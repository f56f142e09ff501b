//! `ringback store`: what a data directory holds, and whether it is whole.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ringback_store::{RecordCounts, Store, StoreInfo};

use crate::exit::Failure;
use crate::output::{Column, escaped_json, print, record};
use crate::show::Shown;

/// `ringback store`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StoreArgs {
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done with a data directory.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Show format, size, records of each kind and the last entry of the log
    Info(DirectoryArgs),
    /// Read every byte, and name the first damage by file and byte
    Verify(DirectoryArgs),
}

/// A data directory, and how to tell what it holds.
#[derive(Debug, Args)]
struct DirectoryArgs {
    /// The data directory of a server that is stopped
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &StoreArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Info(args) => show(args, &Store::info(&args.directory)?),
        Verb::Verify(args) => {
            let info = Store::check(&args.directory)?;
            show(args, &info)?;
            if !args.json {
                print("no damage found\n")?;
            }
            Ok(())
        }
    }
}

/// Prints what a directory holds.
fn show(args: &DirectoryArgs, info: &StoreInfo) -> Result<(), Failure> {
    if args.json {
        let json = serde_json::to_string(info).map_err(std::io::Error::other)?;
        return Ok(print(&format!("{}\n", escaped_json(&json)))?);
    }
    let mut text = record(info, FIELDS);
    text.push_str(&record(&info.records, RECORDS));
    Ok(print(&text)?)
}

/// What is shown of a directory.
const FIELDS: &[Column<StoreInfo>] = &[
    ("FORMAT", |info| Shown::of(info.format)),
    ("BYTES", |info| Shown::of(info.bytes)),
    ("LAST SEQUENCE", |info| Shown::of(info.last_sequence)),
];

/// What is shown of its records.
const RECORDS: &[Column<RecordCounts>] = &[
    ("CALLS", |count| Shown::of(count.calls)),
    ("AGENTS", |count| Shown::of(count.agents)),
    ("NUMBERS", |count| Shown::of(count.numbers)),
    ("ROLES", |count| Shown::of(count.roles)),
    ("ENVIRONMENTS", |count| Shown::of(count.environments)),
    ("TOKENS", |count| Shown::of(count.tokens)),
    ("CONNECTORS", |count| Shown::of(count.connectors)),
    ("ASSIGNMENTS", |count| Shown::of(count.assignments)),
    ("DELETED AGENTS", |count| Shown::of(count.deleted_agents)),
    ("COUNTERS", |count| Shown::of(count.counters)),
    ("ROUTED CALLS", |count| Shown::of(count.routed_calls)),
    ("DECISIONS", |count| Shown::of(count.decisions)),
    ("AUDIT ENTRIES", |count| Shown::of(count.audit_entries)),
    ("KEPT ANSWERS", |count| Shown::of(count.kept_answers)),
    ("ERASURES", |count| Shown::of(count.erasures)),
    ("OPT-OUTS", |count| Shown::of(count.opt_outs)),
    ("REASSIGNED", |count| Shown::of(count.reassigned)),
];

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback store info /var/lib/ringback --json
  ringback store verify /var/lib/ringback

The directory is only read, and an older format is not upgraded. Exit codes: 0 whole, 64 a server uses \
the directory, 66 there is no data in it, 70 it is damaged or cannot be read, 78 its format is newer \
than this program.";
