//! `ringback man`: manual pages, made of the same text as `--help`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};

use crate::exit::Failure;

/// `ringback man`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// The folder; made if there is none
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes a page for each command: `ringback.1`, `ringback-serve.1` and so on.
pub(crate) fn write(args: &ManArgs, command: Command) -> Result<(), Failure> {
    let unwritable = |error| Failure::Write(args.folder.display().to_string(), error);
    fs::create_dir_all(&args.folder).map_err(unwritable)?;
    clap_mangen::generate_to(command, &args.folder).map_err(unwritable)
}

/// What follows the options in the long help.
const EXAMPLES: &str = "\
Examples:
  ringback man /usr/local/share/man/man1
  man ringback-serve";
