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

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lsm_tree::compaction::Leveled;
use lsm_tree::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry, PinningPolicy};
use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, DescriptorTable, Guard, SeqNo, SequenceNumberCounter,
    Slice,
};
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use ringback_engine::JournalError;

use crate::check::Alarm;
use crate::error::{table_error, unavailable};
use crate::interner::Interner;
use crate::key;
use crate::log::{ClosedSegments, Log};
use crate::lsm_files;
use crate::prepare::{Write, Writes};
use crate::purge::{Erasures, Interrupt};
use crate::sid_filter::SidFilter;
use crate::store::StoreSettings;
use crate::writes::{Entry, SortedWrites};

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
    written: u64,
    /// Merging failed the last time, so that writing shall not wait for it.
    merging_fails: bool,
    /// The threads shall end.
    pub(crate) closing: bool,
}

/// Into how many shares the first byte of their keys divides the calls.
pub(crate) const SHARDS: usize = 256;

/// Into how many parts a table of calls, or of what belongs to them, is divided. Stored.
const PARTS: usize = 16;

/// The numbers that stand for tables in `state`.
pub(crate) const SIDS: u8 = 1;
/// See [`SIDS`].
pub(crate) const CALLS: u8 = 2;
/// See [`SIDS`].
pub(crate) const DECISIONS: u8 = 3;

/// How many times its size a generation grows while the one before it is being written.
const OVERFLOW: u64 = 2;

/// How many runs gather in a tree before they are merged: more make writing cheaper, reading dearer.
const RUNS_TO_MERGE: u8 = 8;

/// Bytes of a file that merging writes.
pub(crate) const FILE_BYTES: u64 = 32 << 20;

/// With more unmerged runs than this in a tree, writing waits for merging.
const MOST_RUNS: usize = 20;

/// More than what one step of merging writes.
const MOST_MERGED_BYTES: u64 = 1 << 30;

/// How often writing looks whether merging has caught up.
const MERGE_POLL: Duration = Duration::from_millis(5);

/// How long after a failure to try again.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

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

    /// Writes sealed generations to disk, until closed.
    pub(crate) fn run_writing(&self, log: &ClosedSegments) {
        let mut progress = self.progress.lock();
        loop {
            if progress.closing {
                return;
            }
            let Some(sealed) = progress.sealed else {
                self.changed.wait(&mut progress);
                continue;
            };
            let again = progress.failing.is_some();
            drop(progress);
            let written = self.write_sealed(again);
            if written.is_ok()
                && let Err(error) = log.remove_through(sealed)
            {
                tracing::warn!(error = %error, "a segment of the log cannot be removed yet");
            }
            progress = self.progress.lock();
            match written {
                Ok(()) => {
                    progress.sealed = None;
                    progress.failing = None;
                    progress.written += 1;
                    self.changed.notify_all();
                }
                Err(error) => {
                    let error = describe(&error);
                    tracing::error!(error, "the tables cannot be written to disk");
                    progress.failing = Some(error);
                    self.changed.notify_all();
                    self.changed.wait_for(&mut progress, RETRY);
                }
            }
        }
    }

    /// Writes what is sealed to disk, durably; `again` after a failure.
    fn write_sealed(&self, again: bool) -> Result<(), JournalError> {
        for table in self.in_order() {
            let Some(sealed) = table.memory.read().sealed.clone() else {
                continue;
            };
            // The first part last: it holds the sequence that the whole table contains.
            for (index, part) in table.parts.iter().enumerate().rev() {
                let (from, to) = table.bounds(index);
                let to = to.as_ref().map(<[u8; 1]>::as_slice);
                if sealed.range(&from, to).next().is_none() {
                    continue;
                }
                self.wait_for_merging(part);
                let place = || table.place();
                part.change_files(place, again, || {
                    let mut run = part.tree.ingestion()?;
                    for (key, value) in sealed.range(&from, to) {
                        match value {
                            Some(value) => run.write(key, value)?,
                            None => run.write_tombstone(key)?,
                        }
                    }
                    run.finish()?;
                    part.remove_old_versions()
                })?;
            }
            table.memory.write().sealed = None;
        }
        Ok(())
    }

    /// Waits while too much of a part is unmerged, unless merging fails.
    fn wait_for_merging(&self, part: &Part) {
        while part.tree.l0_run_count() > MOST_RUNS {
            // Merging matters more than rewriting.
            self.interrupt.set();
            let mut progress = self.progress.lock();
            if progress.closing || progress.merging_fails {
                return;
            }
            self.changed.wait_for(&mut progress, MERGE_POLL);
        }
    }

    /// Merges what was written to disk, until closed.
    pub(crate) fn run_merging(&self, log: &Mutex<Log>) {
        let strategy = Leveled::default()
            .with_l0_threshold(RUNS_TO_MERGE)
            .with_table_target_size(FILE_BYTES);
        let strategy = Arc::new(strategy);
        // What was written before this process started may need merging, so the first round is free.
        let mut merged = None;
        loop {
            let again;
            self.purge_if_due(log);
            {
                let mut progress = self.progress.lock();
                again = progress.merging_fails;
                if again {
                    self.changed.wait_for(&mut progress, RETRY);
                } else {
                    while merged == Some(progress.written)
                        && !progress.closing
                        && !self.erasures.are_due()
                    {
                        match self.erasures.due() {
                            Some(due) => drop(self.changed.wait_until(&mut progress, due)),
                            None => self.changed.wait(&mut progress),
                        }
                    }
                }
                if progress.closing {
                    return;
                }
                merged = Some(progress.written);
            }
            let result = self
                .in_order()
                .into_iter()
                .try_for_each(|table| self.merge(table, &strategy, again));
            if let Err(error) = &result
                && !again
            {
                tracing::error!(error = %describe(error), "tables cannot be merged");
            }
            self.progress.lock().merging_fails = result.is_err();
            self.changed.notify_all();
        }
    }

    /// Merges a table until its strategy is content, or the store is closed.
    fn merge(
        &self,
        table: &Table,
        strategy: &Arc<Leveled>,
        again: bool,
    ) -> Result<(), JournalError> {
        for part in &table.parts {
            let mut before = None;
            loop {
                // A run of the strategy does one step; it is content when nothing changes.
                let version = part.tree.current_version().id();
                if self.progress.lock().closing {
                    return Ok(());
                }
                if before.replace(version) == Some(version) {
                    break;
                }
                part.check_room(MOST_MERGED_BYTES)?;
                let place = || table.place();
                // Nobody reads older versions of a record, so none is kept.
                part.change_files(place, again, || {
                    part.tree
                        .compact(Arc::<Leveled>::clone(strategy), SeqNo::MAX)
                })?;
            }
        }
        Ok(())
    }
}

/// What is shared by the tables while they are opened.
pub(crate) struct Opening<'a> {
    /// Where they lie.
    directory: &'a Path,
    /// Whether to make those that are missing.
    create: bool,
    /// Numbers what is written.
    seqno: SequenceNumberCounter,
    /// The same, as far as it is visible.
    visible: SequenceNumberCounter,
    /// Caches blocks.
    cache: Arc<Cache>,
    /// Keeps files open.
    files: Arc<DescriptorTable>,
    /// Told of damage.
    alarm: Arc<Alarm>,
    /// Breaks off rewriting.
    interrupt: Interrupt,
}

impl<'a> Opening<'a> {
    /// Prepares to open tables in this directory, making those that are missing if `create`.
    pub(crate) fn new(directory: &'a Path, create: bool, settings: &StoreSettings) -> Self {
        Self {
            directory,
            create,
            seqno: SequenceNumberCounter::default(),
            visible: SequenceNumberCounter::default(),
            cache: Arc::new(Cache::with_capacity_bytes(settings.cache_bytes)),
            files: Arc::new(DescriptorTable::new(settings.open_files.max(10))),
            alarm: Arc::default(),
            interrupt: Interrupt::default(),
        }
    }

    /// Opens a table of so many parts.
    pub(crate) fn table(
        &self,
        name: &'static str,
        parts: usize,
        filter: FilterPolicy,
    ) -> Result<Table, JournalError> {
        let path = self.directory.join(name);
        let parts = (0..parts)
            .map(|index| match parts {
                1 => self.part(&path, filter.clone()),
                _ => self.part(&path.join(format!("{index:02}")), filter.clone()),
            })
            .collect::<Result<_, _>>()?;
        Ok(Table {
            name,
            alarm: Arc::clone(&self.alarm),
            memory: RwLock::default(),
            parts,
        })
    }

    /// Opens the tree in this directory.
    fn part(&self, path: &Path, filter: FilterPolicy) -> Result<Part, JournalError> {
        if !self.create || path.join("current").exists() {
            lsm_files::check(path)?;
        }
        let config = Config::new(path, self.seqno.clone(), self.visible.clone())
            .use_cache(Arc::clone(&self.cache))
            .use_descriptor_table(Some(Arc::clone(&self.files)))
            // Whole filters and indexes of merged tables do not fit into a small cache, and
            // would be read for every lookup.
            .filter_block_partitioning_policy(PinningPolicy::new([false, true]))
            .index_block_partitioning_policy(PinningPolicy::new([false, true]))
            .with_compaction_filter_factory(Some(self.interrupt.filters()))
            .filter_policy(filter);
        let opened = guarded(|| path.display().to_string(), || config.open());
        let tree = opened.map_err(|error| match (&error, lsm_files::find_damage(path).pop()) {
            (JournalError::Damaged(_), Some(damage)) => damage.into(),
            _ => error,
        })?;
        if let Some(highest) = tree.get_highest_seqno() {
            self.seqno.fetch_max(highest + 1);
            self.visible.fetch_max(highest + 1);
        }
        Ok(Part {
            tree,
            files: RwLock::default(),
        })
    }
}

/// A filter of keys with so many bits for each.
pub(crate) fn bloom(bits: f32) -> FilterPolicy {
    FilterPolicy::all(FilterPolicyEntry::Bloom(
        BloomConstructionPolicy::BitsPerKey(bits),
    ))
}

/// Writes as entries.
fn entries(writes: &[Write]) -> impl Iterator<Item = Entry<'_>> {
    writes.iter().map(|(key, value)| (&**key, value.as_deref()))
}

/// One table: trees on disk, and in memory what is yet to be written to them.
pub(crate) struct Table {
    /// Its name, also that of its directory.
    name: &'static str,
    /// Told of damage.
    alarm: Arc<Alarm>,
    /// What the trees do not contain yet.
    memory: RwLock<Memory>,
    /// The trees, each for an equal share of the keys by their first bits.
    pub(crate) parts: Vec<Part>,
}

/// A tree of a table.
pub(crate) struct Part {
    /// The tree.
    pub(crate) tree: AnyTree,
    /// Held, shared, by whoever adds files to the tree.
    files: RwLock<()>,
}

/// What the trees of a table do not contain yet.
#[derive(Default)]
struct Memory {
    /// Written since the last turn-over.
    active: SortedWrites,
    /// Being written to the trees.
    sealed: Option<Arc<SortedWrites>>,
}

impl Table {
    /// Puts writes into memory and returns by about how many bytes it grew.
    fn insert<'a>(&self, writes: impl Iterator<Item = Entry<'a>>) -> u64 {
        let mut memory = self.memory.write();
        writes
            .map(|(key, value)| memory.active.insert(key, value) as u64)
            .sum()
    }

    /// Which part a key belongs to.
    pub(crate) fn part_of(&self, key: &[u8]) -> usize {
        usize::from(key.first().copied().unwrap_or(0)) * self.parts.len() / 256
    }

    /// The first key that a part can have, and the first one behind it.
    fn bounds(&self, part: usize) -> (Vec<u8>, Option<[u8; 1]>) {
        let first = |part: usize| u8::try_from(part * 256 / self.parts.len()).ok();
        let from = first(part).filter(|_| part > 0);
        (
            from.into_iter().collect(),
            first(part + 1).map(|byte| [byte]),
        )
    }

    /// The sequence of the last commit that the table contains.
    pub(crate) fn applied(&self) -> Result<u64, JournalError> {
        let value = self.get(&key::APPLIED);
        match value.map_err(|error| self.located(error))? {
            Some(value) => key::decode_sequence(&value).ok_or_else(|| self.damaged()),
            None => Ok(0),
        }
    }

    /// About how many records are on disk.
    fn approximate_len(&self) -> usize {
        let parts = self.parts.iter();
        parts.map(|part| part.tree.approximate_len()).sum()
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Slice>, JournalError> {
        {
            let memory = self.memory.read();
            let sealed = memory.sealed.as_ref();
            let written = memory
                .active
                .get(key)
                .or_else(|| sealed.and_then(|sealed| sealed.get(key)));
            if let Some(value) = written {
                return Ok(value);
            }
        }
        let Some(part) = self.parts.get(self.part_of(key)) else {
            return Ok(None);
        };
        self.reading(|| part.tree.get(key, SeqNo::MAX))
    }

    /// Every key and value from `from` on (inclusive) up to `to` (exclusive).
    pub(crate) fn range<'a>(
        &'a self,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<(Slice, Slice), JournalError>> + use<'a> {
        let bounds = (
            Bound::Included(from),
            to.map_or(Bound::Unbounded, Bound::Excluded),
        );
        let mut written = BTreeMap::new();
        {
            let memory = self.memory.read();
            for map in memory.sealed.as_deref().into_iter().chain([&memory.active]) {
                for (key, value) in map.range(from, to) {
                    written.insert(Slice::from(key), value.map(Slice::from));
                }
            }
        }
        let last = to.map_or(self.parts.len(), |to| self.part_of(to) + 1);
        let parts = self.parts.get(self.part_of(from)..last).unwrap_or_default();
        // The trees are looked at after memory: what has left memory since is in the trees.
        let opened = self.reading(|| {
            let ranges = parts
                .iter()
                .map(|part| part.tree.range::<&[u8], _>(bounds, SeqNo::MAX, None));
            Ok(ranges.collect::<Vec<_>>())
        });
        let mut stored = StoredRange {
            table: self,
            iterator: opened
                .map(|ranges| ranges.into_iter().flatten())
                .map_err(Some),
        }
        .peekable();
        let mut written = written.into_iter().peekable();
        std::iter::from_fn(move || {
            loop {
                let next_stored = match stored.peek() {
                    Some(Ok((key, _))) => Some(key),
                    Some(Err(_)) => return stored.next(),
                    None => None,
                };
                let Some((key, _)) = written.peek() else {
                    return stored.next();
                };
                match next_stored.map(|stored_key| stored_key.cmp(key)) {
                    Some(Ordering::Less) => return stored.next(),
                    Some(Ordering::Equal) => drop(stored.next()),
                    Some(Ordering::Greater) | None => {}
                }
                if let Some((key, Some(value))) = written.next() {
                    return Some(Ok((key, value)));
                }
            }
        })
    }

    /// Every key and value whose key starts with these bytes.
    pub(crate) fn prefix<'a>(
        &'a self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Slice, Slice), JournalError>> + use<'a> {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                break;
            }
        }
        self.range(prefix, (!end.is_empty()).then_some(end.as_slice()))
    }

    /// Every key and value whose key has this first byte.
    pub(crate) fn shard(
        &self,
        shard: usize,
    ) -> impl Iterator<Item = Result<(Slice, Slice), JournalError>> {
        // The key of a single zero byte is no record.
        let shard = u8::try_from(shard).unwrap_or(u8::MAX);
        let end = shard.checked_add(1).map(|next| [next, 0]);
        self.range(&[shard, 0], end.as_ref().map(<[u8; 2]>::as_slice))
    }

    /// The error that says that a value is not what was written. Its key is not named: it may hold a
    /// phone number.
    pub(crate) fn damaged(&self) -> JournalError {
        self.alarm.raise();
        JournalError::Damaged(format!("{}: a record is not readable", self.place()))
    }

    /// An error of a read with the file and the place in it, for which all of the table's files are read.
    pub(crate) fn located(&self, error: JournalError) -> JournalError {
        if !matches!(error, JournalError::Damaged(_)) {
            return error;
        }
        let found = self.parts.iter().find_map(|part| {
            let version = part.tree.current_version();
            version
                .iter_tables()
                .find_map(|table| lsm_files::check_table(&table.path, |_| true))
        });
        found.map_or(error, JournalError::from)
    }

    /// Reads from the trees, and raises the alarm where that meets damage.
    fn reading<T>(
        &self,
        operation: impl FnOnce() -> lsm_tree::Result<T>,
    ) -> Result<T, JournalError> {
        guarded(|| self.place(), operation).inspect_err(|error| {
            if matches!(error, JournalError::Damaged(_)) {
                self.alarm.raise();
            }
        })
    }

    /// This table, for messages.
    pub(crate) fn place(&self) -> String {
        format!("table `{}`", self.name)
    }
}

impl Part {
    /// Runs an operation that adds files to the tree.
    ///
    /// The trees leave files behind where they fail, and remove them when opened. So that a full disk
    /// is not filled further by every attempt, one after a failure (`again`) is made alone, and what it
    /// left is removed at once.
    fn change_files(
        &self,
        place: impl Fn() -> String,
        again: bool,
        operation: impl FnOnce() -> lsm_tree::Result<()>,
    ) -> Result<(), JournalError> {
        if !again {
            let _shared = self.files.read();
            return guarded(place, operation);
        }
        let _alone = self.files.write();
        let first = self.tree.next_table_id();
        let result = guarded(place, operation);
        if result.is_err() {
            self.remove_leftovers(first);
        }
        result
    }

    /// Removes the lists of files that newer ones have replaced. Otherwise opening does, which so would
    /// fail on a disk that has become read-only.
    fn remove_old_versions(&self) -> lsm_tree::Result<()> {
        let path = &self.tree.tree_config().path;
        let mut versions = self.tree.get_version_history_lock();
        versions.maintenance(path, SeqNo::MAX)
    }

    /// Writes all of the tree anew, without what is gone, while files are added to it.
    pub(crate) fn rewrite(&self, place: impl Fn() -> String) -> Result<(), JournalError> {
        let first = self.tree.next_table_id();
        let shared = self.files.read();
        let rewritten = guarded(place, || self.tree.major_compact(FILE_BYTES, SeqNo::MAX));
        drop(shared);
        if rewritten.is_err() {
            let _alone = self.files.write();
            self.remove_leftovers(first);
        }
        rewritten
    }

    /// Removes files from this number on that the tree does not refer to; nobody may be adding any.
    fn remove_leftovers(&self, first: u64) {
        let version = self.tree.current_version();
        // Where publishing itself failed, the new files may be referred to on disk.
        if self.published_version() != Some(version.id()) {
            return;
        }
        let folder = self.tree.tree_config().path.join("tables");
        for id in first..self.tree.next_table_id() {
            if !version.iter_tables().any(|table| table.id() == id) {
                // Most were never created; one that cannot be removed will be when next opened.
                let _ = fs::remove_file(folder.join(id.to_string()));
            }
        }
    }

    /// Checks that there is room for merging, which must not be what fills a disk: commits matter more.
    pub(crate) fn check_room(&self, most: u64) -> Result<(), JournalError> {
        let disk = rustix::fs::statvfs(&self.tree.tree_config().path).map_err(unavailable)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = self.tree.disk_space().min(most);
        if free < needed {
            return Err(unavailable(format!(
                "{needed} bytes may be needed, {free} are free"
            )));
        }
        Ok(())
    }

    /// The version of the tree that opening would find.
    fn published_version(&self) -> Option<u64> {
        let current = fs::read(self.tree.tree_config().path.join("current")).ok()?;
        Some(u64::from_le_bytes(*current.first_chunk()?))
    }
}

/// What the trees of a table hold of a range.
struct StoredRange<'a, I> {
    /// The table.
    table: &'a Table,
    /// The trees' own iterators, or why there are none.
    iterator: Result<I, Option<JournalError>>,
}

impl<I, G> Iterator for StoredRange<'_, I>
where
    I: Iterator<Item = G>,
    G: Guard,
{
    type Item = Result<(Slice, Slice), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let iterator = match &mut self.iterator {
            Ok(iterator) => iterator,
            Err(error) => return error.take().map(Err),
        };
        let table = self.table;
        let item = table
            .reading(|| iterator.next().map(Guard::into_inner).transpose())
            .transpose()?;
        if item.is_err() {
            // An iterator that failed may go on behind the damage; its readers must not.
            self.iterator = Err(None);
        }
        Some(item)
    }
}

/// Runs an operation of the trees; one that panics, as they do on some damage, fails.
fn guarded<T>(
    place: impl Fn() -> String,
    operation: impl FnOnce() -> lsm_tree::Result<T>,
) -> Result<T, JournalError> {
    match catch_unwind(AssertUnwindSafe(operation)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(table_error(place, error)),
        Err(_) => Err(JournalError::Damaged(format!("{}: not readable", place()))),
    }
}

/// An error and its causes in one line.
pub(crate) fn describe(error: &JournalError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
