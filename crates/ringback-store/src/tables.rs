//! The tables: what was committed, in a form that can be queried; three log-structured merge trees.
//!
//! They are the trees beneath the fjall database, used without fjall's own journal: the [log](crate::log)
//! stands in front of them, so a second journal would only be written twice and recovered twice. A
//! commit goes into the trees' memory once the log has it, which cannot fail. When memory has filled, a
//! *generation* is turned over: every tree notes the sequence that it contains and seals its memory, a
//! thread writes the sealed part to disk, and then the log up to there is removed. Until that has
//! happened, opening replays the log. Applying a commit again to a tree that already contains it
//! changes nothing.
//!
//! A second thread merges what was written. Only one sealed generation exists at a time: where the disk
//! does not keep up, memory grows to a limit and then commits wait; where the disk fails, they are refused.

use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lsm_tree::compaction::Leveled;
use lsm_tree::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, DescriptorTable, Guard, SeqNo, SequenceNumberCounter,
    Slice,
};
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use ringback_engine::JournalError;

use crate::error::{table_error, unavailable};
use crate::interner::Interner;
use crate::key;
use crate::log::ClosedSegments;
use crate::prepare::{Write, Writes};
use crate::store::StoreSettings;

/// The tables; shared by the writer, all readers and the threads in the background.
pub(crate) struct Tables {
    /// Where a call lies, by its id.
    pub(crate) sids: Table,
    /// Directory, counters, routed calls.
    pub(crate) state: Table,
    /// Every call.
    pub(crate) calls: Table,
    /// The numbers that stand for UUIDs in keys.
    pub(crate) interner: RwLock<Interner>,
    /// Keys the hash of call ids.
    pub(crate) sid_secret: [u8; 16],
    /// Numbers every write to a tree.
    seqno: SequenceNumberCounter,
    /// The trees' limit of what is visible.
    visible: SequenceNumberCounter,
    /// The generation being filled. Whoever writes to the trees holds this.
    generation: Mutex<Generation>,
    /// What the threads in the background are at.
    progress: Mutex<Progress>,
    /// Signaled whenever `progress` changes.
    changed: Condvar,
    /// Bytes in memory at which a generation is turned over.
    generation_bytes: u64,
    /// Keeps other processes out for as long as anything here is in use.
    _lock: Arc<File>,
}

/// What was written since the last turn-over.
struct Generation {
    /// The last commit applied.
    applied: u64,
    /// Approximate bytes in memory.
    size: u64,
}

/// What the threads in the background are at.
#[derive(Default)]
struct Progress {
    /// The last sequence of the sealed generation, while it is not yet on disk.
    sealed: Option<u64>,
    /// Why the sealed generation could not be written the last time.
    failing: Option<String>,
    /// How many generations have been written; the merging thread follows.
    written: u64,
    /// Merging failed the last time, so that writing shall not wait for it.
    merging_fails: bool,
    /// The threads shall end.
    closing: bool,
}

/// How many times its size a generation grows while the one before it is being written.
const OVERFLOW: u64 = 4;

/// With more unmerged runs than this in a tree, writing waits for merging.
const MOST_RUNS: usize = 20;

/// How often writing looks whether merging has caught up.
const MERGE_POLL: Duration = Duration::from_millis(5);

/// How long after a failure to try again.
const RETRY: Duration = Duration::from_secs(1);

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
        let seqno = SequenceNumberCounter::default();
        let visible = SequenceNumberCounter::default();
        let cache = Arc::new(Cache::with_capacity_bytes(settings.cache_bytes));
        let files = Arc::new(DescriptorTable::new(settings.open_files.max(10)));
        let open = |name, filter| {
            let path = directory.join(name);
            if !create && !path.join("current").exists() {
                return Err(JournalError::Damaged(format!(
                    "{}: the table is missing",
                    path.display()
                )));
            }
            let config = Config::new(&path, seqno.clone(), visible.clone())
                .use_cache(Arc::clone(&cache))
                .use_descriptor_table(Some(Arc::clone(&files)))
                .filter_policy(filter);
            Ok(Table {
                name,
                tree: guarded(|| path.display().to_string(), || config.open())?,
            })
        };
        let bloom = |bits| {
            FilterPolicy::all(FilterPolicyEntry::Bloom(
                BloomConstructionPolicy::BitsPerKey(bits),
            ))
        };
        let sids = open("sids", bloom(10.0))?;
        let state = open("state", bloom(10.0))?;
        // Calls are read by contact, which a filter of whole keys cannot help.
        let calls = open("calls", FilterPolicy::disabled())?;
        let mut applied = [0; 3];
        for (table, applied) in [&sids, &state, &calls].into_iter().zip(&mut applied) {
            if let Some(highest) = table.tree.get_highest_seqno() {
                seqno.fetch_max(highest + 1);
                visible.fetch_max(highest + 1);
            }
            if let Some(value) = table.get(&key::APPLIED)? {
                *applied =
                    key::decode_sequence(&value).ok_or_else(|| table.damaged(&key::APPLIED))?;
            }
        }
        let [lowest, .., highest] = {
            applied.sort_unstable();
            applied
        };
        let interner = Interner::load(&state)?;
        let tables = Self {
            sids,
            state,
            calls,
            interner: RwLock::new(interner),
            sid_secret,
            seqno,
            visible,
            generation: Mutex::new(Generation {
                applied: lowest,
                size: 0,
            }),
            progress: Mutex::default(),
            changed: Condvar::new(),
            generation_bytes: settings.generation_bytes.max(1),
            _lock: lock,
        };
        Ok((tables, lowest, highest))
    }

    /// The trees, in the order of writing a generation to disk: what is found through another one
    /// comes before it, so that forgetting a contact finds the call whose id is yet to be forgotten.
    fn in_order(&self) -> [&Table; 3] {
        [&self.sids, &self.state, &self.calls]
    }

    /// Makes room for a commit: waits if memory is full, and says whether a generation was turned over.
    pub(crate) fn make_room(&self) -> Result<bool, JournalError> {
        let mut generation = self.generation.lock();
        if generation.size < self.generation_bytes {
            return Ok(false);
        }
        let mut progress = self.progress.lock();
        if generation.size >= self.generation_bytes.saturating_mul(OVERFLOW) {
            while progress.sealed.is_some() {
                if let Some(failing) = &progress.failing {
                    return Err(unavailable(failing.clone()));
                }
                if progress.closing {
                    return Err(unavailable("the store is closed"));
                }
                self.changed.wait(&mut progress);
            }
        }
        Ok(self.turn_over(&mut generation, progress))
    }

    /// Shows a commit that the log has.
    pub(crate) fn apply(&self, writes: Writes, sequence: u64) {
        let mut generation = self.generation.lock();
        if !writes.interned.is_empty() {
            self.interner.write().extend(&writes.interned);
        }
        generation.size += self.insert(&self.state, writes.state)
            + self.insert(&self.calls, writes.calls)
            + self.insert(&self.sids, writes.sids);
        generation.applied = sequence;
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
        generation.size += self.insert(&self.state, writes.state)
            + self.insert(&self.calls, writes.calls)
            + self.insert(&self.sids, writes.sids);
        Ok(result)
    }

    /// Puts writes into the memory of a tree and returns by how many bytes it grew.
    fn insert(&self, table: &Table, writes: Vec<Write>) -> u64 {
        let mut size = 0;
        for (key, value) in writes {
            // Each write has a number of its own: of two with one key the later one counts.
            let seqno = self.seqno.next();
            size += match value {
                Some(value) => table.tree.insert(key, value, seqno).0,
                None => table.tree.remove(key, seqno).0,
            };
            self.visible.fetch_max(seqno + 1);
        }
        size
    }

    /// Seals the generation, if the one before it is on disk.
    fn turn_over(
        &self,
        generation: &mut Generation,
        mut progress: MutexGuard<'_, Progress>,
    ) -> bool {
        if progress.sealed.is_some() {
            return false;
        }
        for table in self.in_order() {
            let seqno = self.seqno.next();
            let applied = generation.applied.to_be_bytes();
            table.tree.insert(key::APPLIED, applied, seqno);
            self.visible.fetch_max(seqno + 1);
            table.tree.rotate_memtable();
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

    /// Asks the threads in the background to end.
    pub(crate) fn close(&self) {
        self.progress.lock().closing = true;
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
            drop(progress);
            let written = self.write_sealed();
            progress = self.progress.lock();
            match written {
                Ok(()) => {
                    progress.sealed = None;
                    progress.failing = None;
                    progress.written += 1;
                    self.changed.notify_all();
                    drop(progress);
                    if let Err(error) = log.remove_through(sealed) {
                        tracing::warn!(error = %error, "a segment of the log cannot be removed yet");
                    }
                    progress = self.progress.lock();
                }
                Err(error) => {
                    tracing::error!(error = %describe(&error), "the tables cannot be written to disk");
                    progress.failing = Some(describe(&error));
                    self.changed.notify_all();
                    self.changed.wait_for(&mut progress, RETRY);
                }
            }
        }
    }

    /// Writes what is sealed to disk, durably.
    fn write_sealed(&self) -> Result<(), JournalError> {
        for table in self.in_order() {
            while table.tree.l0_run_count() > MOST_RUNS {
                let mut progress = self.progress.lock();
                if progress.closing || progress.merging_fails {
                    break;
                }
                self.changed.wait_for(&mut progress, MERGE_POLL);
            }
            guarded(
                || format!("table `{}`", table.name),
                || {
                    let lock = table.tree.get_flush_lock();
                    // Nobody reads older versions of a record, so none is kept.
                    table.tree.flush(&lock, SeqNo::MAX)
                },
            )?;
        }
        Ok(())
    }

    /// Merges what was written to disk, until closed.
    pub(crate) fn run_merging(&self) {
        let strategy = Arc::new(Leveled::default());
        // What was written before this process started may need merging, so the first round is free.
        let mut merged = None;
        loop {
            {
                let mut progress = self.progress.lock();
                if progress.merging_fails {
                    self.changed.wait_for(&mut progress, RETRY);
                } else {
                    while merged == Some(progress.written) && !progress.closing {
                        self.changed.wait(&mut progress);
                    }
                }
                if progress.closing {
                    return;
                }
                merged = Some(progress.written);
            }
            let result = self.in_order().into_iter().try_for_each(|table| {
                guarded(
                    || format!("table `{}`", table.name),
                    || {
                        // A run of the strategy does one step; it is done when nothing changes.
                        let mut before = None;
                        loop {
                            let version = table.tree.current_version().id();
                            if before.replace(version) == Some(version)
                                || self.progress.lock().closing
                            {
                                return Ok(());
                            }
                            table.tree.compact(strategy.clone(), SeqNo::MAX)?;
                        }
                    },
                )
            });
            if let Err(error) = &result {
                tracing::error!(error = %describe(error), "tables cannot be merged");
            }
            self.progress.lock().merging_fails = result.is_err();
            self.changed.notify_all();
        }
    }
}

/// One tree.
pub(crate) struct Table {
    /// Its name, also that of its directory.
    name: &'static str,
    /// The tree.
    tree: AnyTree,
}

impl Table {
    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Slice>, JournalError> {
        guarded(|| self.place(key), || self.tree.get(key, SeqNo::MAX))
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
        let mut last: Slice = from.into();
        let mut iterator = guarded(
            || self.place(from),
            || Ok(self.tree.range::<&[u8], _>(bounds, SeqNo::MAX, None)),
        )
        .map_err(Some);
        std::iter::from_fn(move || {
            let iterator = match &mut iterator {
                Ok(iterator) => iterator,
                Err(error) => return error.take().map(Err),
            };
            let item = guarded(
                || format!("{} or after", self.place(&last)),
                || iterator.next().map(Guard::into_inner).transpose(),
            )
            .transpose()?;
            if let Ok((key, _)) = &item {
                last = key.clone();
            }
            Some(item)
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

    /// The error that says that the value of this key is not what was written.
    pub(crate) fn damaged(&self, key: &[u8]) -> JournalError {
        JournalError::Damaged(format!("{}: not readable", self.place(key)))
    }

    /// This table and a key in it, for messages.
    fn place(&self, key: &[u8]) -> String {
        format!("table `{}` at key {}", self.name, key::hex(key))
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
