//! The file `FORMAT`: which version of the layout a directory has, and the store's secrets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use ringback_engine::JournalError;

use crate::error::{OpenStoreError, unavailable};
use crate::key::{hex, read_hex};

/// The format that this program writes, and the newest that it reads. Older ones are rewritten when they
/// are opened (see [`crate::upgrade`]).
///
/// - 1: changes in the log are positional, trees undivided.
/// - 2: every record has a version, tables of calls have sixteen parts, the calls of one subscriber in two
///   spellings are stored together.
/// - 3: the assignment of a number to an agent is a record of its own; in 2 each number has the list of them.
///   Everything else is as in 2, so data of format 2 are changed in place.
pub(crate) const FORMAT: u32 = 3;

/// The oldest format whose tables and log have the current layout.
pub(crate) const SAME_LAYOUT_SINCE: u32 = 2;

/// The first word of the file.
const TITLE: &str = "ringback-store";

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// The format of the directory.
    pub(crate) version: u32,
    /// See [`Store::node_secret`](crate::Store::node_secret).
    pub(crate) node_secret: [u8; 16],
    /// Keys the hash of call ids in the tables.
    pub(crate) sid_secret: [u8; 16],
}

impl Format {
    /// Reads the file in this directory; `None` if there is none.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, OpenStoreError> {
        let path = directory.join("FORMAT");
        let text = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(OpenStoreError::from_journal(
                    directory.to_owned(),
                    unavailable(error),
                ));
            }
        };
        let damaged = || OpenStoreError::Damaged(format!("{} is not readable", path.display()));
        let text = String::from_utf8(text).map_err(|_| damaged())?;
        let first_line = text.lines().next().unwrap_or_default();
        let found: u32 = first_line
            .strip_prefix(TITLE)
            .and_then(|rest| rest.trim().parse().ok())
            .ok_or_else(damaged)?;
        if found == 0 {
            return Err(damaged());
        }
        if found > FORMAT {
            return Err(OpenStoreError::NewerFormat {
                path: directory.to_owned(),
                found,
                supported: FORMAT,
            });
        }
        Self::parse(found, &text).map(Some).ok_or_else(damaged)
    }

    /// Makes a new one, with random secrets.
    pub(crate) fn create() -> Result<Self, JournalError> {
        let mut format = Self {
            version: FORMAT,
            node_secret: [0; 16],
            sid_secret: [0; 16],
        };
        getrandom::fill(&mut format.node_secret).map_err(unavailable)?;
        getrandom::fill(&mut format.sid_secret).map_err(unavailable)?;
        Ok(format)
    }

    /// Writes the file durably: after a crash the old or the new content is there, whole.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let draft = directory.join("FORMAT.new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft)?;
        file.write_all(self.print().as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, directory.join("FORMAT"))?;
        File::open(directory)?.sync_all()
    }

    /// The text of the file.
    fn print(&self) -> String {
        let body = format!(
            "{TITLE} {}\nnode-secret {}\nsid-secret {}\n",
            self.version,
            hex(&self.node_secret),
            hex(&self.sid_secret)
        );
        let checksum = crc32c::crc32c(body.as_bytes());
        format!("{body}checksum {checksum:08x}\n")
    }

    /// Reads the text back, if it is exactly what [`Self::print`] would print.
    fn parse(version: u32, text: &str) -> Option<Self> {
        let secret = |name| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            read_hex(line)
        };
        let format = Self {
            version,
            node_secret: secret("node-secret")?,
            sid_secret: secret("sid-secret")?,
        };
        (format.print() == text).then_some(format)
    }
}
