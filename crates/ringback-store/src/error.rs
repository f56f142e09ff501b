//! Why a store cannot be opened, and how errors of the layers below are reported.

use std::io;
use std::path::PathBuf;

use ringback_engine::JournalError;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// The file system refused: check permissions and space.
    #[error("cannot open the store in {path}")]
    Unavailable {
        /// The store's directory.
        path: PathBuf,
        /// The error of the file system.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has the directory open: stop it, or use another directory.
    #[error("the store in {0} is in use by another process")]
    InUse(PathBuf),
    /// There is no store in the directory.
    #[error("there is no data of Ringback in {0}")]
    NoStore(PathBuf),
    /// A restore into the directory did not come to its end: restore again.
    #[error("a restore into {0} was broken off: restore again")]
    RestoreBrokenOff(PathBuf),
    /// The data was written by a newer version: use that version.
    #[error(
        "the store in {path} has format {found}, this program supports format {supported}: use a newer version"
    )]
    NewerFormat {
        /// The store's directory.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format that this program reads.
        supported: u32,
    },
    /// The stored data is damaged at this position: restore a backup.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

impl OpenStoreError {
    /// The error for a store in this directory.
    pub(crate) fn from_journal(path: PathBuf, error: JournalError) -> Self {
        match error {
            JournalError::Damaged(what) => Self::Damaged(what),
            JournalError::Unavailable(source) => Self::Unavailable { path, source },
            error => Self::Unavailable {
                path,
                source: Box::new(error),
            },
        }
    }
}

/// The error of storage that cannot be used at present.
pub(crate) fn unavailable(
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> JournalError {
    JournalError::Unavailable(error.into())
}

/// The error of a table; `place` names the table; it runs only for damage.
pub(crate) fn table_error(place: impl FnOnce() -> String, error: lsm_tree::Error) -> JournalError {
    match error {
        // A file that is missing or too short, or an impossible position in one, is damage, not a passing
        // failure.
        lsm_tree::Error::Io(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::InvalidInput
            ) =>
        {
            unavailable(error)
        }
        error => JournalError::Damaged(format!("{}: {error}", place())),
    }
}
