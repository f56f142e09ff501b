//! `ringback backup` and `ringback restore`: the state of a node in one file.
//!
//! A backup is checked while it is received, and its file gets its name only when the end mark was there. So a file
//! with that name is whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use data_encoding::HEXLOWER_PERMISSIVE;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use ringback_api::{Erasure, ErasureLine};
use ringback_engine::{Clock, ErasedHash, SystemClock, Tombstone};
use ringback_store::{
    BackupProgress, BackupReader, Erasures, ReadBackupError, RestoreError, RestoreSettings, Store,
};
use serde::Serialize;

use crate::client::ApiPath;
use crate::exit::Failure;
use crate::output::{SessionArgs, escaped, escaped_json, notice, print};

/// `ringback backup`.
#[derive(Debug, Args)]
#[command(after_help = BACKUP_EXAMPLES)]
pub(crate) struct BackupArgs {
    /// Server, token, output.
    #[command(flatten)]
    session: SessionArgs,
    /// The file; `-` is standard output. One that exists is replaced once the new one is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `ringback restore`.
#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(crate) struct RestoreArgs {
    /// The backup; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data directory to make; it must be empty or absent
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Erasures, as `ringback export erasures` writes them: contacts that were erased after the backup are erased again
    #[arg(long, value_name = "FILE")]
    erasures: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why there is no backup, or no directory made of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupFailure {
    /// What was received or read is not whole, or not for this version.
    #[error(transparent)]
    Backup(#[from] ReadBackupError),
    /// The directory could not be made; it is as before.
    #[error("cannot restore into {path}")]
    Restore {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: RestoreError,
    },
    /// The file with the backup cannot be opened.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file with erasures is cut off, or something else.
    #[error("{path}, line {line}: {what}")]
    Erasures {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Nobody wants to see a backup: name a file, or pipe it on.
    #[error("a backup is not text: name a file, or send standard output to one")]
    Terminal,
}

/// What became of a backup, for programs.
#[derive(Serialize)]
struct Summary {
    /// When it was taken.
    taken_at: String,
    /// The last entry of the log that it contains.
    last_sequence: u64,
    /// Outbound calls in it.
    calls: u64,
    /// Other records in it.
    other_records: u64,
    /// Of a restore with erasures: what was erased again.
    #[serde(skip_serializing_if = "Option::is_none")]
    erased_again: Option<ErasedSummary>,
}

/// What was erased again.
#[derive(Serialize)]
struct ErasedSummary {
    /// Erasures that the backup did not have.
    erasures: u64,
    /// Contacts of these that were in the backup.
    contacts: u64,
}

impl From<BackupProgress> for Summary {
    fn from(progress: BackupProgress) -> Self {
        Self {
            taken_at: progress.taken_at.to_string(),
            last_sequence: progress.sequence,
            calls: progress.calls,
            other_records: progress.others,
            erased_again: None,
        }
    }
}

/// Runs `ringback backup`.
pub(crate) fn back_up(args: &BackupArgs) -> Result<(), Failure> {
    let to_output = args.file.as_os_str() == "-";
    if to_output && io::stdout().is_terminal() {
        return Err(BackupFailure::Terminal.into());
    }
    let session = args.session.open()?;
    let body = session.client.download(&ApiPath::new(["backup"]))?;
    if to_output {
        receive(body, io::stdout().lock(), "standard output")?;
        return Ok(());
    }
    let name = args.file.display().to_string();
    let unwritable = |error| Failure::Write(name.clone(), error);
    let folder = match args.file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Readable by its owner alone: it holds the hashes of tokens, and numbers.
    let mut file = tempfile::Builder::new()
        .prefix(".ringback-backup-")
        .suffix(".part")
        .tempfile_in(folder)
        .map_err(unwritable)?;
    let progress = receive(body, file.as_file_mut(), &name)?;
    file.as_file().sync_all().map_err(unwritable)?;
    file.persist(&args.file)
        .map_err(|failed| unwritable(failed.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(unwritable)?;
    if session.json {
        print_json(progress)
    } else {
        Ok(print(&format!(
            "{}: {}\n",
            escaped(&name),
            tell(&progress)
        ))?)
    }
}

/// Writes a backup to where it is wanted while its end mark is looked for.
fn receive(from: impl Read, to: impl Write, name: &str) -> Result<BackupProgress, Failure> {
    let bar = Bar::new();
    let mut tee = Tee {
        from,
        to,
        unwritable: None,
    };
    let checked =
        BackupReader::open(&mut tee).and_then(|reader| reader.check(|seen| bar.show(seen)));
    bar.finish();
    if let Some(error) = tee.unwritable {
        return Err(Failure::Write(name.to_owned(), error));
    }
    let progress = checked.map_err(BackupFailure::from)?;
    tee.to
        .flush()
        .map_err(|error| Failure::Write(name.to_owned(), error))?;
    Ok(progress)
}

/// Reads from one place, and writes what was read to another.
struct Tee<R, W> {
    /// Where bytes come from.
    from: R,
    /// Where they are written.
    to: W,
    /// Why they could not be written.
    unwritable: Option<io::Error>,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        let read = buffer.get(..length).unwrap_or_default();
        if let Err(error) = self.to.write_all(read) {
            self.unwritable = Some(error);
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(length)
    }
}

/// Runs `ringback restore`.
pub(crate) fn restore(args: &RestoreArgs) -> Result<(), Failure> {
    let from: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(&args.file).map_err(|source| BackupFailure::File {
            path: args.file.clone(),
            source,
        })?;
        Box::new(opened)
    };
    let settings = RestoreSettings {
        erasures: args.erasures.as_deref().map(read_erasures).transpose()?,
        at: SystemClock.now(),
    };
    let bar = Bar::new();
    let restored = Store::restore(&args.data_dir, from, &settings, |seen| bar.show(seen));
    bar.finish();
    let restored = restored.map_err(|error| match error {
        RestoreError::Backup(error) => BackupFailure::Backup(error),
        source => BackupFailure::Restore {
            path: args.data_dir.clone(),
            source,
        },
    })?;
    let progress = restored.backup;
    let erased = match restored.erased {
        None => {
            notice(&format!(
                "contacts that were erased after {} are in it again: none of these erasures is known here; give \
                 them with --erasures, or erase them again",
                progress.taken_at
            ));
            String::new()
        }
        Some(erased) => format!(
            "; erased again: {} of {} that it did not have",
            counted(erased.contacts, "contact"),
            counted(erased.erasures, "erasure")
        ),
    };
    if args.json {
        let erased_again = restored.erased.map(|erased| ErasedSummary {
            erasures: erased.erasures,
            contacts: erased.contacts,
        });
        return print_summary(&Summary {
            erased_again,
            ..Summary::from(progress)
        });
    }
    let directory = escaped(&args.data_dir.display().to_string());
    Ok(print(&format!(
        "{directory}: {}{erased}\n",
        tell(&progress)
    ))?)
}

/// Reads the file with erasures.
fn read_erasures(path: &Path) -> Result<Erasures, BackupFailure> {
    let unreadable = |source| BackupFailure::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut erasures = Erasures::default();
    let mut end = None;
    let mut number = 0;
    for text in BufReader::new(file).lines() {
        number += 1;
        let wrong = |what| BackupFailure::Erasures {
            path: path.to_owned(),
            line: number,
            what,
        };
        if end.is_some() {
            return Err(wrong("something follows the end"));
        }
        match serde_json::from_str(&text.map_err(unreadable)?) {
            Ok(ErasureLine::End(line)) => end = Some(line.count),
            Ok(ErasureLine::Erased(line)) => {
                let (secret_id, tombstone) =
                    read_erasure(&line).ok_or_else(|| wrong("no erasure"))?;
                let known = erasures.secret_id.get_or_insert(secret_id);
                if *known != secret_id {
                    return Err(wrong("erasures of another server"));
                }
                erasures.tombstones.push(tombstone);
            }
            Err(_) => return Err(wrong("no erasure")),
        }
    }
    if end == Some(erasures.tombstones.len() as u64) {
        return Ok(erasures);
    }
    Err(BackupFailure::Erasures {
        path: path.to_owned(),
        line: number,
        what: "the erasures are cut off",
    })
}

/// What a line says: the name of the secret, and the erasure.
fn read_erasure(line: &Erasure) -> Option<([u8; 4], Tombstone)> {
    let decode = |text: &str| HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    let tombstone = Tombstone {
        hash: ErasedHash(decode(&line.hash)?.try_into().ok()?),
        at: line.erased_at,
    };
    Some((decode(&line.key)?.try_into().ok()?, tombstone))
}

/// Prints what became of a backup.
fn print_json(progress: BackupProgress) -> Result<(), Failure> {
    print_summary(&Summary::from(progress))
}

/// Prints a summary.
fn print_summary(summary: &Summary) -> Result<(), Failure> {
    let json = serde_json::to_string(summary).map_err(io::Error::other)?;
    Ok(print(&format!("{}\n", escaped_json(&json)))?)
}

/// What is in a backup, in words.
fn tell(progress: &BackupProgress) -> String {
    format!(
        "the state of {}, {} and {}",
        progress.taken_at,
        counted(progress.calls, "call"),
        counted(progress.others, "other record")
    )
}

/// A number with its noun.
fn counted(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// How far it got, on standard error: a bar on a terminal, now and then a line elsewhere.
struct Bar {
    /// The bar, on a terminal.
    bar: Option<ProgressBar>,
    /// When the last line was written.
    last_line: std::cell::Cell<Instant>,
}

impl Bar {
    /// Starts to show.
    fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style =
                ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("━╸─"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            bar,
            last_line: std::cell::Cell::new(Instant::now()),
        }
    }

    /// Shows how far it got.
    fn show(&self, progress: &BackupProgress) {
        let calls = HumanCount(progress.calls);
        if let Some(bar) = &self.bar {
            bar.set_length(progress.about_calls.max(progress.calls));
            bar.set_position(progress.calls);
            bar.set_message(format!("{calls} calls"));
        } else if self.last_line.get().elapsed() >= LINES_APART {
            self.last_line.set(Instant::now());
            let about = HumanCount(progress.about_calls);
            eprintln!("{calls} of about {about} calls");
        }
    }

    /// Ends the bar.
    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How far apart lines are.
const LINES_APART: Duration = Duration::from_secs(5);

/// The bar.
const BAR: &str = "{bar:30.cyan} {percent:>3} %  {msg}  {elapsed} elapsed, {eta} left";

/// What follows the options of `backup` in the long help.
const BACKUP_EXAMPLES: &str = "\
Examples:
  RINGBACK_TOKEN=$(cat /var/lib/ringback/admin.token) ringback backup /backup/ringback.backup
  ringback backup - | ssh backup@203.0.113.5 'cat > ringback.backup'

Needs the administrator token. Routing and writing go on. The file appears under its name only when it \
is whole, readable by its owner alone: it holds numbers and the hashes of tokens, but no administrator \
token. Exit code 70: the server broke off, and there is no file.";

/// What follows the options of `restore` in the long help.
const RESTORE_EXAMPLES: &str = "\
Examples:
  ringback restore /backup/ringback.backup --data-dir /var/lib/ringback
  ringback restore ringback.backup --data-dir /var/lib/ringback --erasures ringback.erasures
  ssh backup@203.0.113.5 'cat ringback.backup' | ringback restore - --data-dir /var/lib/ringback

Needs no server, and none may use the directory. Exit codes: 64 the directory is not empty, 66 there is \
no such file, 70 the backup or the erasures are cut off, altered, or not of one server, or the directory cannot be written (it is then as \
before), 78 a newer version wrote the backup.";
