//! Makes a data directory from a backup, and forgets in it the contacts that were erased since.
//!
//! The records are written into a folder of the directory. Only when the end mark was read, and all is on disk and
//! was read back, the folder's content is moved to where a start looks for it. Until then a start refuses the
//! directory, and another restore begins anew.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use lsm_tree::Slice;
use ringback_engine::{AuditEntry, Change, ErasedHash, ErasureSecret, JournalError, Tombstone};
use ringback_routing::{E164, EnvironmentId, Timestamp};
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

/// How to restore.
#[derive(Clone, Debug)]
pub struct RestoreSettings {
    /// The erasures to repeat in the restored state; `None`: none is known.
    pub erasures: Option<Erasures>,
    /// The time to note for the restore.
    pub at: Timestamp,
}

/// Erasures, as a server has exported them.
#[derive(Clone, Debug, Default)]
pub struct Erasures {
    /// The name of the secret that keys the hashes: see [`ErasureSecret::id`]. `None`: there are no hashes.
    pub secret_id: Option<[u8; 4]>,
    /// What is left of the erased contacts.
    pub tombstones: Vec<Tombstone>,
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// What was in the backup.
    pub backup: BackupProgress,
    /// What was erased again, if erasures were given.
    pub erased: Option<ErasedAgain>,
}

/// What a restore has erased again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErasedAgain {
    /// Erasures that the backup does not know.
    pub erasures: u64,
    /// Contacts of these that were in the backup.
    pub contacts: u64,
}

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
    /// The backup has no secret of erasures, so nobody can tell which contacts the hashes mean: an older version made it.
    /// Restore without erasures, and repeat the requests.
    #[error("the backup is of a version that kept no hashes of erased contacts")]
    NoErasureSecret,
    /// The erasures are those of another server or cluster than the backup: give those of its own.
    #[error("the erasures are not of the server that the backup is of")]
    OtherErasures,
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
    /// The new directory has the state of the backup, without the contacts that were erased since as far as that is known,
    /// and a secret of its own. Its log goes on behind the backup's sequence, with an audit entry.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn restore(
        directory: impl AsRef<Path>,
        from: impl Read,
        settings: &RestoreSettings,
        seen: impl FnMut(&BackupProgress),
    ) -> Result<Restored, RestoreError> {
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
        let cleared = &[RESTORED, "tables", "log"];
        let restored = write(directory, reader, Some(settings), seen, cleared);
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
        let replaced = write(directory, reader, None, seen, &[RESTORED])?;
        Ok(replaced.backup)
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
    settings: Option<&RestoreSettings>,
    mut seen: impl FnMut(&BackupProgress),
    removed_first: &[&str],
) -> Result<Restored, RestoreError> {
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
    let erasures = settings.and_then(|settings| settings.erasures.as_ref());
    let mut later = erasures.map(LaterErasures::new);
    loop {
        let mut writes = Writes::default();
        let add = |table, item_key: &[u8], value: &[u8]| -> Result<(), RestoreError> {
            if let Some(later) = &mut later {
                later.see(table, item_key, value)?;
            }
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
    if info.records.calls != progress.calls {
        return Err(ReadBackupError::Damaged("two calls have the same key".to_owned()).into());
    }
    // A snapshot stays as it is: nodes are compared with one another.
    let erased = match settings {
        Some(settings) => amend(&folder, later, settings.at)?,
        None => None,
    };
    move_in(directory, &folder).map_err(io_failure)?;
    Ok(Restored {
        backup: progress,
        erased,
    })
}

/// Forgets contacts that were erased since in a restored state, and notes the restore.
fn amend(
    folder: &Path,
    later: Option<LaterErasures>,
    at: Timestamp,
) -> Result<Option<ErasedAgain>, RestoreError> {
    let mut facts = vec![Change::Audited(Box::new(AuditEntry::restored(at)))];
    let mut erased = None;
    if let Some(later) = later {
        erased = Some(ErasedAgain {
            erasures: later.open.len() as u64,
            contacts: later.contacts.len() as u64,
        });
        let contacts = later.contacts.into_iter();
        facts.extend(
            contacts.map(|(environment, contact)| Change::ContactForgotten(environment, contact)),
        );
        let open = later.open.into_iter();
        facts.extend(open.map(|(hash, at)| Change::Erased(Tombstone { hash, at })));
    }
    let mut store = Store::open(folder, StoreSettings::default())?;
    let failure = |error| OpenStoreError::from_journal(folder.to_owned(), error);
    for facts in facts.chunks(FACTS_AT_ONCE) {
        store.commit(facts).map_err(failure)?;
    }
    store.close().map_err(failure)?;
    Ok(erased)
}

/// Finds the contacts of a backup that were erased after it was taken. The backup tells which erasures it contains.
struct LaterErasures {
    /// The name of the secret that keys the hashes.
    secret_id: Option<[u8; 4]>,
    /// The erasures that the backup does not contain, as far as it was read.
    open: HashMap<ErasedHash, Timestamp>,
    /// The secret.
    secret: Option<ErasureSecret>,
    /// The UUIDs that numbers stand for.
    interned: Vec<Uuid>,
    /// The contacts.
    contacts: BTreeSet<(EnvironmentId, E164)>,
    /// What the key of the record before begins with: all records of a contact stand together.
    last: [u8; 15],
}

impl LaterErasures {
    /// All of them are later, until the backup tells otherwise.
    fn new(erasures: &Erasures) -> Self {
        let mut open = HashMap::new();
        for tombstone in &erasures.tombstones {
            let at = open.entry(tombstone.hash).or_insert(tombstone.at);
            *at = tombstone.at.max(*at);
        }
        Self {
            secret_id: erasures.secret_id,
            open,
            secret: None,
            interned: Vec::new(),
            contacts: BTreeSet::new(),
            last: [0; 15],
        }
    }

    /// Looks at a record of the backup; those of `state` come first.
    fn see(
        &mut self,
        table: BackupTable,
        item_key: &[u8],
        value: &[u8],
    ) -> Result<(), RestoreError> {
        if table == BackupTable::State {
            self.see_state(item_key, value).ok_or_else(|| {
                ReadBackupError::Damaged("a record is not readable".to_owned()).into()
            })
        } else {
            self.see_contact(item_key)
        }
    }

    /// Looks at a record of `state`; `None` if it is not readable.
    fn see_state(&mut self, item_key: &[u8], value: &[u8]) -> Option<()> {
        match item_key.first() {
            Some(&key::INTERNED) => self.interned.push(Uuid::from_slice(value).ok()?),
            Some(&key::ERASURE_SECRET) => self.secret = Some(ErasureSecret(value.try_into().ok()?)),
            Some(&key::TOMBSTONE) => {
                let known = key::decode_tombstone(item_key, value)?;
                if self.open.get(&known.hash).is_some_and(|at| *at <= known.at) {
                    self.open.remove(&known.hash);
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Looks at the contact of a call or a decision.
    fn see_contact(&mut self, item_key: &[u8]) -> Result<(), RestoreError> {
        let prefix = item_key.first_chunk::<15>().copied().unwrap_or_default();
        if self.open.is_empty() || prefix == self.last {
            return Ok(());
        }
        self.last = prefix;
        let secret = self.secret.ok_or(RestoreError::NoErasureSecret)?;
        if self.secret_id != Some(secret.id()) {
            return Err(RestoreError::OtherErasures);
        }
        let found = key::decode_contact(item_key).and_then(|(number, contact)| {
            let environment = EnvironmentId(*self.interned.get(number as usize)?);
            Some((environment, contact))
        });
        if let Some((environment, contact)) = found
            && self.open.contains_key(&secret.hash(environment, contact))
        {
            self.contacts.insert((environment, contact));
        }
        Ok(())
    }
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

/// How many facts are committed at once.
const FACTS_AT_ONCE: usize = 1_024;
