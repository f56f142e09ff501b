//! The tables: what was committed, in a form that can be queried; log-structured merge trees.
//!
//! They are the trees beneath the fjall database, used without fjall's journal and memory: the
//! [log](crate::log) stands in front of them already, and one writer needs no concurrent memory. A table is
//! divided into parts by the first bits of its keys, each a tree, so that what holds an erased number can be
//! written anew without the rest. A commit
//! goes into sorted maps once the log has it, which cannot fail. When they have filled, a *generation* is
//! turned over: every table notes the sequence that it contains and seals its map, a thread writes the
//! sealed maps into the trees, durably, and then the log up to there is removed. Until that has happened,
//! opening replays the log. Applying a commit again to a table that already contains it changes nothing.
//!
//! A second thread merges what was written. Only one sealed generation exists at a time: where the disk
//! does not keep up, memory grows to a limit and then commits wait; where the disk fails, they are refused.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsm_tree::AbstractTree;
use lsm_tree::config::FilterPolicy;
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use ringback_engine::JournalError;

use crate::check::Alarm;
use crate::erasures::Erasures;
use crate::error::unavailable;
use crate::interner::Interner;
use crate::interrupt::Interrupt;
use crate::key;
use crate::settings::StoreSettings;
use crate::sid_filter::SidFilter;
use crate::table::{Opening, Table, bloom};
use crate::writes::{Entry, Write, Writes};

/// The tables; shared by the writer, all readers and the threads in the background.
pub(crate) struct Tables {
    /// Where a call lies, by its id.
    pub(crate) sids: Table,
    /// Directory, counters, routed calls.
    pub(crate) state: Table,
    /// What was decided for calls that were asked about over HTTP.
    pub(crate) decisions: Table,
    /// Every call.
    pub(crate) calls: Table,
    /// The numbers that stand for UUIDs in keys.
    pub(crate) interner: RwLock<Interner>,
    /// Keys the hash of call ids.
    pub(crate) sid_secret: [u8; 16],
    /// Tells ids that are in `sids` for certain not.
    pub(crate) sid_filter: SidFilter,
    /// The generation being filled. Whoever writes to the tables holds this.
    pub(crate) generation: Mutex<Generation>,
    /// What the threads in the background are at.
    pub(crate) progress: Mutex<Progress>,
    /// Signaled whenever `progress` changes.
    pub(crate) changed: Condvar,
    /// Bytes in memory at which a generation is turned over.
    generation_bytes: u64,
    /// What is known of damage.
    pub(crate) alarm: Arc<Alarm>,
    /// What is erased and yet to be removed from the files.
    pub(crate) erasures: Erasures,
    /// Breaks off the rewriting of a part.
    pub(crate) interrupt: Interrupt,
    /// Keeps other processes out for as long as anything here is in use.
    _lock: Arc<File>,
}

/// What was written since the last turn-over.
pub(crate) struct Generation {
    /// The last commit applied.
    pub(crate) applied: u64,
    /// Approximate bytes in memory.
    pub(crate) size: u64,
}

/// What the threads in the background are at.
#[derive(Default)]
pub(crate) struct Progress {
    /// The last sequence of the sealed generation, while it is not yet on disk.
    pub(crate) sealed: Option<u64>,
    /// Why the sealed generation could not be written the last time.
    pub(crate) failing: Option<String>,
    /// How many generations have been written; the merging thread follows.
    pub(crate) written: u64,
    /// Merging failed the last time, so that writing shall not wait for it.
    pub(crate) merging_fails: bool,
    /// The threads shall end.
    pub(crate) closing: bool,
}

/// Into how many shares the first byte of their keys divides the calls.
pub(crate) const SHARDS: usize = 256;

/// The numbers that stand for tables in `state`.
pub(crate) const SIDS: u8 = 1;
/// See [`SIDS`].
pub(crate) const CALLS: u8 = 2;
/// See [`SIDS`].
pub(crate) const DECISIONS: u8 = 3;

/// How many times its size a generation grows while the one before it is being written.
const OVERFLOW: u64 = 2;

impl Tables {
    /// Opens the trees in this directory, making those that are missing if `create`.
    ///
    /// Also returns the sequence that all of them contain, and the one that some contain.
    pub(crate) fn open(
        directory: &Path,
        create: bool,
        settings: &StoreSettings,
        sid_secret: [u8; 16],
        lock: Arc<File>,
    ) -> Result<(Self, u64, u64), JournalError> {
        let opening = Opening::new(directory, create, settings);
        let sids = opening.table("sids", PARTS, bloom(10.0))?;
        let state = opening.table("state", 1, bloom(10.0))?;
        // Calls are read by contact, which a filter of whole keys cannot help.
        let decisions = opening.table("decisions", PARTS, FilterPolicy::disabled())?;
        let calls = opening.table("calls", PARTS, FilterPolicy::disabled())?;
        let Opening {
            alarm, interrupt, ..
        } = opening;
        let mut applied = [0; 4];
        for (table, applied) in [&sids, &state, &decisions, &calls]
            .into_iter()
            .zip(&mut applied)
        {
            *applied = table.applied()?;
        }
        let [lowest, .., highest] = {
            applied.sort_unstable();
            applied
        };
        let interner = Interner::load(&state).map_err(|error| state.located(error))?;
        let erasures = Erasures::load(&state, settings.erase_after)?;
        let sid_filter = match sids.approximate_len() {
            0 => SidFilter::of_nothing(),
            stored => SidFilter::to_build(stored, SHARDS),
        };
        let tables = Self {
            sids,
            state,
            decisions,
            calls,
            interner: RwLock::new(interner),
            sid_secret,
            sid_filter,
            generation: Mutex::new(Generation {
                applied: lowest,
                size: 0,
            }),
            progress: Mutex::default(),
            changed: Condvar::new(),
            generation_bytes: settings.generation_bytes.max(1),
            alarm,
            erasures,
            interrupt,
            _lock: lock,
        };
        Ok((tables, lowest, highest))
    }

    /// The trees, in the order of writing a generation to disk: what is found through another one
    /// comes before it, so that forgetting a contact finds the call whose id is yet to be forgotten.
    pub(crate) fn in_order(&self) -> [&Table; 4] {
        [&self.sids, &self.state, &self.decisions, &self.calls]
    }

    /// The table that a number stands for in `state`.
    pub(crate) fn by_code(&self, code: u8) -> Option<&Table> {
        match code {
            SIDS => Some(&self.sids),
            CALLS => Some(&self.calls),
            DECISIONS => Some(&self.decisions),
            _ => None,
        }
    }

    /// Makes room for a commit: waits if memory is full, and says whether a generation was turned over.
    pub(crate) fn make_room(&self) -> Result<bool, JournalError> {
        let mut generation = self.generation.lock();
        if generation.size < self.generation_bytes {
            return Ok(false);
        }
        let mut progress = self.progress.lock();
        if generation.size >= self.generation_bytes.saturating_mul(OVERFLOW) {
            self.wait_written(&mut progress)?;
        }
        Ok(self.turn_over(&mut generation, progress))
    }

    /// Waits until nothing sealed is left in memory.
    pub(crate) fn wait_written(
        &self,
        progress: &mut MutexGuard<'_, Progress>,
    ) -> Result<(), JournalError> {
        while progress.sealed.is_some() {
            if let Some(failing) = &progress.failing {
                return Err(unavailable(failing.clone()));
            }
            if progress.closing {
                return Err(unavailable("the store is closed"));
            }
            self.changed.wait(progress);
        }
        Ok(())
    }

    /// Shows a commit that the log has.
    pub(crate) fn apply(&self, writes: &Writes, sequence: u64) {
        let mut generation = self.generation.lock();
        if !writes.interned.is_empty() {
            self.interner.write().extend(&writes.interned);
        }
        generation.size += self.insert(writes);
        generation.applied = sequence;
        if !writes.erased.is_empty() && self.erasures.add(&writes.erased, sequence) {
            self.changed.notify_all();
        }
    }

    /// The files of the tables, and what keeps them from being removed.
    pub(crate) fn files(&self) -> (impl Sized + use<>, Vec<PathBuf>) {
        let parts = self.in_order().into_iter().flat_map(|table| &table.parts);
        let versions: Vec<_> = parts.map(|part| part.tree.current_version()).collect();
        let paths = versions
            .iter()
            .flat_map(|version| version.iter_tables())
            .map(|table| PathBuf::clone(&table.path))
            .collect();
        (versions, paths)
    }

    /// Runs a background change that the log does not see, while no commit is being applied.
    pub(crate) fn apply_unlogged<T>(
        &self,
        prepare: impl FnOnce() -> Result<(Writes, T), JournalError>,
    ) -> Result<T, JournalError> {
        self.make_room()?;
        let mut generation = self.generation.lock();
        if self.progress.lock().closing {
            return Err(unavailable("the store is closed"));
        }
        let (writes, result) = prepare()?;
        generation.size += self.insert(&writes);
        Ok(result)
    }

    /// Puts writes into memory and returns by about how many bytes it grew.
    fn insert(&self, writes: &Writes) -> u64 {
        let recorded = writes.sids.iter().filter(|(_, value)| value.is_some());
        self.sid_filter
            .enter(recorded.filter_map(|(key, _)| key.first_chunk()));
        self.erasures.note_swept(&writes.swept);
        let state = entries(&writes.state);
        // In this order, what is found through another table is there already.
        self.state.insert(state)
            + self.calls.insert(writes.calls.iter())
            + self.decisions.insert(entries(&writes.decisions))
            + self.sids.insert(writes.sids.iter())
    }

    /// Seals the generation, if the one before it is on disk.
    pub(crate) fn turn_over(
        &self,
        generation: &mut Generation,
        mut progress: MutexGuard<'_, Progress>,
    ) -> bool {
        if progress.sealed.is_some() {
            return false;
        }
        for table in self.in_order() {
            let mut memory = table.memory.write();
            let mut active = std::mem::take(&mut memory.active);
            let applied = generation.applied.to_be_bytes();
            active.insert(&key::APPLIED, Some(&applied));
            memory.sealed = Some(Arc::new(active));
        }
        generation.size = 0;
        progress.sealed = Some(generation.applied);
        self.changed.notify_all();
        true
    }

    /// Whether sealed memory cannot be written to disk at present, and why.
    pub(crate) fn failing(&self) -> Option<String> {
        self.progress.lock().failing.clone()
    }

    /// Seals what is in memory and waits until all is on disk, or says why it is not.
    pub(crate) fn flush(&self) -> Result<(), JournalError> {
        let mut generation = self.generation.lock();
        loop {
            let mut progress = self.progress.lock();
            while progress.sealed.is_some() {
                if let Some(failing) = &progress.failing {
                    return Err(unavailable(failing.clone()));
                }
                if progress.closing {
                    return Err(unavailable("the store is closed"));
                }
                self.changed.wait(&mut progress);
            }
            if generation.size == 0 {
                return Ok(());
            }
            self.turn_over(&mut generation, progress);
        }
    }

    /// Reads all that is stored and returns the number of calls.
    pub(crate) fn verify(&self) -> Result<u64, JournalError> {
        let mut calls = 0;
        for table in self.in_order() {
            // A 256th at a time, so that no old version of the table is held for long.
            for first in 0..=u8::MAX {
                for item in table.prefix(&[first]) {
                    let (item_key, _) = item?;
                    calls +=
                        u64::from(std::ptr::eq(table, &self.calls) && *item_key != key::APPLIED);
                }
            }
        }
        Ok(calls)
    }

    /// Builds the filter of call ids anew along with the sweep that is about to begin, if it is due.
    pub(crate) fn renew_sid_filter(&self) {
        // What is being applied is entered into the new filter, or already visible.
        let _held = self.generation.lock();
        self.sid_filter.begin_if_stale(SHARDS);
    }

    /// Asks the threads in the background to end.
    pub(crate) fn close(&self) {
        self.alarm.close();
        self.progress.lock().closing = true;
        // After that, so that no rewriting begins unseen.
        self.interrupt.set();
        self.changed.notify_all();
    }
}

/// Writes as entries.
fn entries(writes: &[Write]) -> impl Iterator<Item = Entry<'_>> {
    writes.iter().map(|(key, value)| (&**key, value.as_deref()))
}

/// Into how many parts a table of calls, or of what belongs to them, is divided. Stored.
const PARTS: usize = 16;
