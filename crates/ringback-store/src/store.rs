//! The store: a directory with the log and the tables, and the threads that maintain them.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use ringback_engine::{AppendError, Archive, Change, Entry, Journal, JournalError, Sequence};

use crate::error::{OpenStoreError, unavailable};
use crate::files::{Files, create_directory};
use crate::format::Format;
use crate::log::{ClosedSegments, Log};
use crate::prepare::prepare;
use crate::settings::StoreSettings;
use crate::table::{Table, describe};
use crate::tables::Tables;
use crate::upgrade;
use crate::writes::Writes;

/// The embedded store: a [`Journal`] whose changes survive power loss.
///
/// Dropping it writes everything in memory to the tables, so that the next start is quick; see
/// [`Self::close`]. The directory stays locked until its archives are dropped as well.
pub struct Store {
    /// The committed data.
    tables: Arc<Tables>,
    /// The log. A commit holds its lock until the tables show the commit.
    log: Arc<Mutex<Log>>,
    /// See [`Self::node_secret`].
    node_secret: [u8; 16],
    /// See [`Journal::position`].
    position: Sequence,
    /// Entries that [`Journal::committed`] has not returned yet. Nobody else appends, so they are kept from the
    /// append instead of read back.
    committed: VecDeque<Entry>,
    /// A commit failed, and [`Journal::recover`] has not succeeded since.
    failed: bool,
    /// The empty buffers of the last commit, for the next one.
    writes: Writes,
    /// The threads in the background.
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Makes the directory (mode 0700) if it does not exist, and locks out other processes for as long as the
    /// file is open.
    pub(crate) fn lock(directory: &Path) -> Result<File, OpenStoreError> {
        let failure = |error: io::Error| {
            OpenStoreError::from_journal(directory.to_owned(), unavailable(error))
        };
        create_directory(directory).map_err(failure)?;
        Self::lock_existing(directory)
    }

    /// Locks other processes out of a directory for as long as the file is open.
    pub(crate) fn lock_existing(directory: &Path) -> Result<File, OpenStoreError> {
        let failure = |error: io::Error| {
            OpenStoreError::from_journal(directory.to_owned(), unavailable(error))
        };
        let lock = File::open(directory).map_err(failure)?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(OpenStoreError::InUse(directory.to_owned())),
            Err(TryLockError::Error(error)) => Err(failure(error)),
        }
    }

    /// Opens the data of a locked directory. If it has no format yet, makes it with what `new_format` returns.
    pub(crate) fn open_locked(
        directory: &Path,
        settings: &StoreSettings,
        files: Box<dyn Files>,
        lock: File,
        stored_format: Option<Format>,
        new_format: impl FnOnce() -> Result<Format, JournalError>,
    ) -> Result<Self, OpenStoreError> {
        let failure = |error| OpenStoreError::from_journal(directory.to_owned(), error);
        let io_failure = |error: io::Error| failure(unavailable(error));
        let log_directory = directory.join("log");
        let format = match &stored_format {
            Some(format) => format.clone(),
            None => new_format().map_err(failure)?,
        };
        if stored_format.is_some() && !log_directory.is_dir() {
            return Err(OpenStoreError::Damaged(format!(
                "{}: the log is missing",
                log_directory.display()
            )));
        }
        create_directory(&log_directory).map_err(io_failure)?;
        let (tables, applied, ahead) = Tables::open(
            &directory.join("tables"),
            stored_format.is_none(),
            settings,
            format.sid_secret,
            Arc::new(lock),
        )
        .map_err(failure)?;
        let tables = Arc::new(tables);
        let closed = Arc::new(ClosedSegments::default());
        let segments = Arc::clone(&closed);
        let mut threads = Vec::new();
        let writing = (Arc::clone(&tables), Arc::clone(&closed));
        // Replaying may fill memory, so the writing thread starts first.
        spawn(&mut threads, "store-write", move || {
            writing.0.run_writing(&writing.1);
        })
        .map_err(io_failure)?;
        let log = Log::open(&log_directory, files, segments, applied, ahead, |record| {
            let writes = prepare(
                &tables,
                &record.changes()?,
                record.sequence,
                Writes::default(),
            )?;
            tables.apply(&writes, record.sequence);
            Ok(())
        });
        // From here on, dropping the store ends its threads.
        let mut store = match log {
            Ok(log) => Self {
                tables,
                position: Sequence(log.next_sequence() - 1),
                committed: VecDeque::new(),
                log: Arc::new(Mutex::new(log)),
                node_secret: format.node_secret,
                failed: false,
                writes: Writes::default(),
                threads,
            },
            Err(error) => {
                end_threads(&tables, threads);
                return Err(failure(error));
            }
        };
        store.start_housekeeping().map_err(io_failure)?;
        if stored_format.is_none() {
            if store.log.lock().next_sequence() > 1 {
                store.abandon();
                return Err(upgrade::format_missing(directory));
            }
            format.write(directory).map_err(io_failure)?;
        }
        Ok(store)
    }

    /// The committed data.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The table with everything but calls: the directory, the counters, events.
    pub(crate) fn state(&self) -> &Table {
        &self.tables.state
    }

    /// Has the next commit follow the one with this sequence. Nothing may have been written yet.
    pub(crate) fn continue_from(&self, sequence: u64) {
        self.tables.generation.lock().applied = sequence;
    }

    /// Writes records past the log: they are durable once the store is closed.
    pub(crate) fn write_unlogged(&self, writes: Writes) -> Result<(), JournalError> {
        self.tables.apply_unlogged(|| Ok((writes, ())))
    }

    /// Sixteen random bytes, made with the store: the same at every start.
    #[must_use]
    pub fn node_secret(&self) -> [u8; 16] {
        self.node_secret
    }

    /// Reads everything that is stored, so that any damage is found, and returns the number of calls. Takes as
    /// long as reading all files.
    ///
    /// # Errors
    /// Something is damaged, or cannot be read right now.
    pub fn verify(&self) -> Result<u64, JournalError> {
        self.tables.verify()
    }

    /// Writes everything in memory to the tables and ends the threads; the next start then replays nothing.
    ///
    /// # Errors
    /// The tables could not be written; nothing is lost, the next start replays the log.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.shut_down()
    }

    /// Ends the threads and leaves everything on disk as it is, as a crash would.
    pub(crate) fn abandon(&mut self) {
        end_threads(&self.tables, std::mem::take(&mut self.threads));
    }

    /// Writes everything in memory to the tables, unless that was done, and ends the threads.
    fn shut_down(&mut self) -> Result<(), JournalError> {
        if self.threads.is_empty() {
            return Ok(());
        }
        let flushed = self.tables.flush().and_then(|()| {
            // The tables contain all of the log.
            self.log.lock().remove_all().map_err(unavailable)
        });
        let undone = self.log.lock().undo();
        if let Err(error) = undone {
            tracing::error!(error = %error, "a failed write to the log could not be undone");
        }
        end_threads(&self.tables, std::mem::take(&mut self.threads));
        flushed
    }

    /// Whether erased contacts must still be removed from the files.
    #[cfg(test)]
    pub(crate) fn has_erasures_waiting(&self) -> bool {
        self.tables.erasures.due().is_some()
    }

    /// Has all files checked, as after a read that meets damage.
    #[cfg(test)]
    pub(crate) fn raise_alarm(&self) {
        self.tables.alarm.raise();
    }

    /// Starts the threads that merge and that look for damage.
    fn start_housekeeping(&mut self) -> io::Result<()> {
        let merging = (Arc::clone(&self.tables), Arc::clone(&self.log));
        spawn(&mut self.threads, "store-merge", move || {
            merging.0.run_merging(&merging.1);
        })?;
        let checking = Arc::clone(&self.tables);
        spawn(&mut self.threads, "store-check", move || {
            checking.alarm.run_checking(|| checking.files());
        })
    }

    /// Makes changes durable and shows them in the tables.
    pub(crate) fn commit(&mut self, changes: &[Change]) -> Result<(), JournalError> {
        if self.failed {
            return Err(unavailable("an earlier commit failed"));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let result = self.try_commit(changes);
        self.failed = result.is_err();
        result
    }

    /// Skips what is in the log so far: `committed` returns only later entries.
    pub(crate) fn skip_to_end(&mut self) {
        self.position = Sequence(self.log.lock().next_sequence() - 1);
    }

    /// Commits without looking at `failed`.
    fn try_commit(&mut self, changes: &[Change]) -> Result<(), JournalError> {
        let mut log = self.log.lock();
        if self.tables.make_room()? {
            log.turn_over();
        }
        let sequence = log.next_sequence();
        let empty = std::mem::take(&mut self.writes);
        let mut writes = prepare(&self.tables, changes, sequence, empty)?;
        log.append(changes)?;
        self.tables.apply(&writes, sequence);
        writes.clear();
        self.writes = writes;
        Ok(())
    }
}

impl Journal for Store {
    fn position(&self) -> Sequence {
        self.position
    }

    fn append(
        &mut self,
        expected: Sequence,
        facts: &mut Vec<Change>,
    ) -> Result<Sequence, AppendError> {
        let last = Sequence(self.log.lock().next_sequence() - 1);
        if expected != last {
            return Err(AppendError::Conflict);
        }
        if facts.is_empty() {
            return Ok(last);
        }
        self.commit(facts)?;
        let sequence = Sequence(last.0 + 1);
        let facts = std::mem::take(facts);
        self.committed.push_back(Entry {
            sequence,
            facts,
            is_own: true,
        });
        Ok(sequence)
    }

    fn committed(&mut self) -> Result<Option<Entry>, JournalError> {
        let entry = self.committed.pop_front();
        if let Some(entry) = &entry {
            self.position = entry.sequence;
        }
        Ok(entry)
    }

    fn recover(&mut self) -> Result<(), JournalError> {
        if !self.failed {
            return Ok(());
        }
        if let Some(failing) = self.tables.failing() {
            return Err(unavailable(failing));
        }
        let mut log = self.log.lock();
        log.undo().map_err(unavailable)?;
        log.ensure_segment().map_err(unavailable)?;
        self.failed = false;
        Ok(())
    }

    fn archive(&self) -> Arc<dyn Archive> {
        Arc::<Tables>::clone(&self.tables)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            tracing::error!(error = %describe(&error), "the tables could not be written; the next start replays the log");
        }
    }
}

/// Starts a named thread.
fn spawn(
    threads: &mut Vec<JoinHandle<()>>,
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    threads.push(thread.spawn(run)?);
    Ok(())
}

/// Ends the threads and waits for them.
fn end_threads(tables: &Tables, threads: Vec<JoinHandle<()>>) {
    tables.close();
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the store panicked");
        }
    }
}
