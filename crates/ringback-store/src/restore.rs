//! Makes a data directory from a backup.
//!
//! The records are written into a folder of the directory. Only when the end mark was read, and all is on disk and
//! was read back, the folder's content is moved to where a start looks for it. Until then a start refuses the
//! directory, and another restore begins anew.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use lsm_tree::Slice;
use ringback_engine::JournalError;
use uuid::Uuid;

use crate::backup::{BackupProgress, BackupReader, BackupTable, ReadBackupError};
use crate::error::{OpenStoreError, unavailable};
use crate::files::{SystemFiles, create_directory};
use crate::format::Format;
use crate::key;
use crate::settings::StoreSettings;
use crate::store::Store;
use crate::upgrade::{RESTORED, move_in, remove_folder};
use crate::writes::{Write, Writes};

/// Why a directory could not be made from a backup. The directory is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is something in the directory: choose an empty one.
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    /// The backup is cut off or damaged, or cannot be read.
    #[error(transparent)]
    Backup(#[from] ReadBackupError),
    /// The directory cannot be written, or a process uses it.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
}

impl From<JournalError> for RestoreError {
    fn from(error: JournalError) -> Self {
        Self::Store(OpenStoreError::from_journal(PathBuf::new(), error))
    }
}

impl Store {
    /// Makes a directory from a backup. `seen` is called after each block of it.
    ///
    /// The new directory has the state and the sequence of the backup, and a secret of its own.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn restore(
        directory: impl AsRef<Path>,
        from: impl Read,
        seen: impl FnMut(&BackupProgress),
    ) -> Result<BackupProgress, RestoreError> {
        let directory = directory.as_ref();
        // First, because a file that is no backup says more than a directory that is not empty.
        let reader = BackupReader::open(from)?;
        let failure = |error: io::Error| {
            RestoreError::Store(OpenStoreError::from_journal(
                directory.to_owned(),
                unavailable(error),
            ))
        };
        let is_new = !directory.exists();
        if !is_new && !directory.is_dir() {
            return Err(RestoreError::NotEmpty(directory.to_owned()));
        }
        let lock = Self::lock(directory)?;
        if !is_free(directory).map_err(failure)? {
            return Err(RestoreError::NotEmpty(directory.to_owned()));
        }
        let restored = write(directory, reader, seen, &[RESTORED, "tables", "log"]);
        if restored.is_err() {
            // What cannot be removed now is removed by the next restore; a start refuses it.
            let _left = remove_folder(&directory.join(RESTORED));
            drop(lock);
            if is_new {
                let _left = fs::remove_dir(directory);
            }
        }
        restored
    }

    /// Replaces what a directory has, if anything, by a snapshot. `seen` is called after each block of it. If it is
    /// broken off, the directory may be unfit for a start until it is replaced again.
    ///
    /// # Errors
    /// See [`RestoreError`]; never that the directory is not empty.
    pub fn replace(
        directory: impl AsRef<Path>,
        from: impl Read,
        seen: impl FnMut(&BackupProgress),
    ) -> Result<BackupProgress, RestoreError> {
        let directory = directory.as_ref();
        let reader = BackupReader::open(from)?;
        let _lock = Self::lock(directory)?;
        write(directory, reader, seen, &[RESTORED])
    }

    /// Removes what a directory has.
    ///
    /// # Errors
    /// It cannot be removed, or a process uses the directory.
    pub fn discard(directory: impl AsRef<Path>) -> Result<(), OpenStoreError> {
        let directory = directory.as_ref();
        let failure =
            |error| OpenStoreError::from_journal(directory.to_owned(), unavailable(error));
        let _lock = Self::lock(directory)?;
        // Without its format a directory with data is refused, so that comes last.
        for name in ["tables", "log"] {
            remove_folder(&directory.join(name)).map_err(failure)?;
        }
        match fs::remove_file(directory.join("FORMAT")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failure(error)),
            _ => Ok(()),
        }
    }
}

/// Writes the records of a backup into a folder, and moves them in. Some of what there is is removed before.
fn write(
    directory: &Path,
    mut reader: BackupReader<'_>,
    mut seen: impl FnMut(&BackupProgress),
    removed_first: &[&str],
) -> Result<BackupProgress, RestoreError> {
    let io_failure =
        |error: io::Error| OpenStoreError::from_journal(directory.to_owned(), unavailable(error));
    let failure = |error| OpenStoreError::from_journal(directory.to_owned(), error);
    for left in removed_first {
        remove_folder(&directory.join(left)).map_err(io_failure)?;
    }
    let folder = directory.join(RESTORED);
    create_directory(&folder).map_err(io_failure)?;
    let header = reader.header().clone();
    let sid_secret = header
        .sid_secret()
        .ok_or_else(|| ReadBackupError::Damaged("its header is not readable".to_owned()))?;
    let new_format = || {
        let mut format = Format::create()?;
        format.version = header.format;
        format.sid_secret = sid_secret;
        Ok(format)
    };
    let store = Store::open_locked(
        &folder,
        &StoreSettings::default(),
        Box::new(SystemFiles),
        Store::lock(&folder)?,
        None,
        new_format,
    )?;
    store.continue_from(header.sequence);
    loop {
        let mut writes = Writes::default();
        let add = |table, item_key: &[u8], value: &[u8]| -> Result<(), RestoreError> {
            add(&mut writes, &sid_secret, table, item_key, value)
                .ok_or_else(|| ReadBackupError::Damaged("a call is not readable".to_owned()).into())
        };
        if !reader.read_block(add)? {
            break;
        }
        store.write_unlogged(writes).map_err(failure)?;
        seen(&reader.progress());
    }
    store.close().map_err(failure)?;
    // Read back, so that what would keep a server from starting is found while the old directory is still there.
    let info = Store::info(&folder)?;
    let progress = reader.progress();
    if info.records.map(|records| records.calls) != Some(progress.calls) {
        return Err(ReadBackupError::Damaged("two calls have the same key".to_owned()).into());
    }
    move_in(directory, &folder).map_err(io_failure)?;
    Ok(progress)
}

/// Adds the writes of one record; `None` if it is a call that is not readable.
fn add(
    writes: &mut Writes,
    sid_secret: &[u8; 16],
    table: BackupTable,
    item_key: &[u8],
    value: &[u8],
) -> Option<()> {
    let write = || -> Write { (Slice::from(item_key), Some(Slice::from(value))) };
    match table {
        BackupTable::State => writes.state.push(write()),
        BackupTable::Decisions => writes.decisions.push(write()),
        BackupTable::Calls => {
            let call = key::decode_call(item_key, value, |_| Some(Uuid::nil()))?;
            let environment = key::call_environment(item_key)?;
            let agent = key::call_agent(value)?;
            let sid_key = key::sid_key(sid_secret, environment, &call.sid);
            writes.calls.push(item_key, Some(value));
            let named = key::sid_value(&call, agent);
            writes.sids.push(&sid_key, Some(&named));
        }
    }
    Some(())
}

/// Whether nothing is in a directory but what a broken-off restore left, or the file system put there.
fn is_free(directory: &Path) -> io::Result<bool> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name());
    }
    let broken_off = names.iter().any(|name| name == RESTORED);
    Ok(names.iter().all(|name| {
        name == "lost+found"
            || broken_off && (name == RESTORED || name == "tables" || name == "log")
    }))
}
