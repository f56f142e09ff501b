//! The tables: what was committed, in a form that can be queried; log-structured merge trees.
//!
//! They are the trees beneath the fjall database, used without fjall's journal and memory: the [log](crate::log)
//! replaces the journal, and one writer needs no concurrent memory. A table is divided into parts by the first
//! bits of its keys, each a tree, so that the part with an erased number can be rewritten without the rest.
//!
//! A commit goes into sorted maps once the log has it; that cannot fail. When the maps are full, a *generation*
//! is turned over: every table notes the sequence that it contains and seals its map, a thread writes the sealed
//! maps into the trees, durably, and then the log up to there is removed. Until then, opening replays the log.
//! Applying a commit again to a table that already contains it changes nothing.
//!
//! A second thread merges the files. Only one sealed generation exists at a time: if the disk is too slow, memory
//! grows to a limit and then commits wait; if the disk fails, commits are refused.

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

/// The tables, shared by the writer, all readers and the background threads.
pub(crate) struct Tables {
    /// Calls by their id.
    pub(crate) sids: Table,
    /// Directory, counters and routed calls.
    pub(crate) state: Table,
    /// Decisions on calls over HTTP.
    pub(crate) decisions: Table,
    /// Every call, by contact and time.
    pub(crate) calls: Table,
    /// The numbers that stand for UUIDs in keys.
    pub(crate) interner: RwLock<Interner>,
    /// Keys the hash of call ids.
    pub(crate) sid_secret: [u8; 16],
    /// Recognizes ids that are certainly not in `sids`.
    pub(crate) sid_filter: SidFilter,
    /// The generation being filled. Hold its lock to write to the tables.
    pub(crate) generation: Mutex<Generation>,
    /// The progress of the background threads.
    pub(crate) progress: Mutex<Progress>,
    /// Signaled whenever `progress` changes.
    pub(crate) changed: Condvar,
    /// The size in memory at which a generation is turned over, in bytes.
    generation_bytes: u64,
    /// The known damage.
    pub(crate) alarm: Arc<Alarm>,
    /// Erasures whose traces are still in files.
    pub(crate) erasures: Erasures,
    /// Cancels the rewriting of a part.
    pub(crate) interrupt: Interrupt,
    /// Locks out other processes for as long as anything here is in use.
    _lock: Arc<File>,
}

/// The size and position of the writes since the last turn-over.
pub(crate) struct Generation {
    /// The last commit applied.
    pub(crate) applied: u64,
    /// Approximate bytes in memory.
    pub(crate) size: u64,
}

/// The progress of the background threads.
#[derive(Default)]
pub(crate) struct Progress {
    /// The last sequence of the sealed generation, while it is not yet on disk.
    pub(crate) sealed: Option<u64>,
    /// Why the last attempt to write the sealed generation failed.
    pub(crate) failing: Option<String>,
    /// How many generations were written; tells the merging thread that there is work.
    pub(crate) written: u64,
    /// The last attempt to merge failed, so writing must not wait for merging.
    pub(crate) merging_fails: bool,
    /// The last commit of the generations that are on disk.
    pub(crate) on_disk: u64,
    /// How many snapshots wait for what is in memory: until they are opened, commits seal no generation.
    pub(crate) snapshots: usize,
    /// The threads must end.
    pub(crate) closing: bool,
}

/// The number of shards of the calls, by the first byte of their keys.
pub(crate) const SHARDS: usize = 256;

/// The numbers of tables in keys of `state`.
pub(crate) const SIDS: u8 = 1;
/// See [`SIDS`].
pub(crate) const CALLS: u8 = 2;
/// See [`SIDS`].
pub(crate) const DECISIONS: u8 = 3;

/// A generation may grow to this multiple of its size while the one before it is being written.
const OVERFLOW: u64 = 2;

impl Tables {
    /// Opens the trees in this directory; missing ones are made if `create` is set.
    ///
    /// Also returns the sequence that all of them contain, and the greatest one that any contains.
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
        // Calls and decisions are read by contact; a filter of whole keys cannot help.
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
            progress: Mutex::new(Progress {
                on_disk: lowest,
                ..Progress::default()
            }),
            changed: Condvar::new(),
            generation_bytes: settings.generation_bytes.max(1),
            alarm,
            erasures,
            interrupt,
            _lock: lock,
        };
        Ok((tables, lowest, highest))
    }

    /// The trees in the order in which a generation is written to disk. A table that is found through another one
    /// is written before it, so that forgetting a contact finds each call whose id must still be forgotten.
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

    /// Makes room for a commit: waits if memory is full. Returns whether a generation was turned over.
    pub(crate) fn make_room(&self) -> Result<bool, JournalError> {
        let mut generation = self.generation.lock();
        if generation.size < self.generation_bytes {
            return Ok(false);
        }
        let mut progress = self.progress.lock();
        if generation.size >= self.generation_bytes.saturating_mul(OVERFLOW) {
            self.wait_written(&mut progress)?;
        }
        // A snapshot comes first: otherwise commits could seal one generation after the other before it.
        Ok(progress.snapshots == 0 && self.turn_over(&mut generation, progress))
    }

    /// Waits until the sealed generation is on disk.
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

    /// Makes a commit visible that the log has.
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

    /// The files of the tables, and a guard that keeps them from being removed.
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

    /// Runs a background change that is not in the log, while no commit is being applied.
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

    /// Puts writes into memory; returns by about how many bytes memory grew.
    fn insert(&self, writes: &Writes) -> u64 {
        let recorded = writes.sids.iter().filter(|(_, value)| value.is_some());
        self.sid_filter
            .enter(recorded.filter_map(|(key, _)| key.first_chunk()));
        self.erasures.note_swept(&writes.swept);
        let state = entries(&writes.state);
        // In this order, so that whatever is found through another table is there already.
        self.state.insert(state)
            + self.calls.insert(writes.calls.iter())
            + self.decisions.insert(entries(&writes.decisions))
            + self.sids.insert(writes.sids.iter())
    }

    /// Seals the generation if the one before it is on disk.
    pub(crate) fn turn_over(
        &self,
        generation: &mut Generation,
        mut progress: MutexGuard<'_, Progress>,
    ) -> bool {
        if progress.sealed.is_some() {
            return false;
        }
        self.seal(generation, &mut progress);
        true
    }

    /// Seals the generation; the one before it must be on disk.
    pub(crate) fn seal(&self, generation: &mut Generation, progress: &mut Progress) {
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
    }

    /// Why the sealed generation cannot be written to disk at present; `None`: it can.
    pub(crate) fn failing(&self) -> Option<String> {
        self.progress.lock().failing.clone()
    }

    /// Seals the generation and waits until it is on disk.
    pub(crate) fn flush(&self) -> Result<(), JournalError> {
        let mut generation = self.generation.lock();
        loop {
            let mut progress = self.progress.lock();
            self.wait_written(&mut progress)?;
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
            // One shard at a time: a range keeps an old version of the table alive while it is read.
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

    /// Begins a new filter of call ids with the coming sweep, if it is due.
    pub(crate) fn renew_sid_filter(&self) {
        // With the lock held, a commit is either visible already or will be entered into the new filter.
        let _held = self.generation.lock();
        self.sid_filter.begin_if_stale(SHARDS);
    }

    /// Asks the background threads to end.
    pub(crate) fn close(&self) {
        self.alarm.close();
        self.progress.lock().closing = true;
        // Afterwards, so that no rewriting begins without seeing `closing`.
        self.interrupt.set();
        self.changed.notify_all();
    }
}

/// Writes as entries.
fn entries(writes: &[Write]) -> impl Iterator<Item = Entry<'_>> {
    writes.iter().map(|(key, value)| (&**key, value.as_deref()))
}

/// The number of parts of a table of calls, ids or decisions. Part of the stored format.
const PARTS: usize = 16;
