//! One table: a log-structured merge tree, or several that divide its keys, and in memory the writes that are not
//! in the trees yet.
//!
//! The trees are those beneath the fjall database. All their operations go through here, because they panic on
//! some kinds of damage and leave files behind where they fail.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use lsm_tree::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry, PinningPolicy};
use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, DescriptorTable, Guard, SeqNo, SequenceNumberCounter,
    Slice,
};
use parking_lot::RwLock;
use ringback_engine::JournalError;

use crate::check::Alarm;
use crate::error::{table_error, unavailable};
use crate::interrupt::Interrupt;
use crate::key;
use crate::lsm_files;
use crate::settings::StoreSettings;
use crate::writes::{Entry, SortedWrites};

/// Shared by the tables while they are opened.
pub(crate) struct Opening<'a> {
    /// The directory of the tables.
    directory: &'a Path,
    /// Whether to make missing tables.
    create: bool,
    /// Numbers the writes.
    seqno: SequenceNumberCounter,
    /// Numbers the writes that are visible.
    visible: SequenceNumberCounter,
    /// Caches blocks.
    cache: Arc<Cache>,
    /// Keeps files open.
    files: Arc<DescriptorTable>,
    /// Is told when a read meets damage.
    pub(crate) alarm: Arc<Alarm>,
    /// Cancels rewriting.
    pub(crate) interrupt: Interrupt,
}

impl<'a> Opening<'a> {
    /// Prepares to open tables in this directory; missing ones are made if `create` is set.
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

    /// Opens a table with this many parts.
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
            // Whole filters and indexes of merged tables do not fit into a small cache: every lookup would read
            // them again.
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

/// A filter with this many bits for each key.
pub(crate) fn bloom(bits: f32) -> FilterPolicy {
    FilterPolicy::all(FilterPolicyEntry::Bloom(
        BloomConstructionPolicy::BitsPerKey(bits),
    ))
}

/// One table: trees on disk, and in memory the writes that are not in the trees yet.
pub(crate) struct Table {
    /// Its name, and the name of its directory.
    name: &'static str,
    /// Is told when a read meets damage.
    alarm: Arc<Alarm>,
    /// The writes that are not in the trees yet.
    pub(crate) memory: RwLock<Memory>,
    /// The trees, each for an equal share of the keys by their first bits.
    pub(crate) parts: Vec<Part>,
}

/// A tree of a table.
pub(crate) struct Part {
    /// The tree.
    pub(crate) tree: AnyTree,
    /// Held, shared, by every operation that adds files to the tree.
    files: RwLock<()>,
}

/// The writes of a table that are not in its trees yet.
#[derive(Default)]
pub(crate) struct Memory {
    /// The writes since the last turn-over.
    pub(crate) active: SortedWrites,
    /// The writes that are being written to the trees.
    pub(crate) sealed: Option<Arc<SortedWrites>>,
}

impl Table {
    /// Puts writes into memory; returns by about how many bytes memory grew.
    pub(crate) fn insert<'a>(&self, writes: impl Iterator<Item = Entry<'a>>) -> u64 {
        let mut memory = self.memory.write();
        writes
            .map(|(key, value)| memory.active.insert(key, value) as u64)
            .sum()
    }

    /// The part that a key belongs to.
    pub(crate) fn part_of(&self, key: &[u8]) -> usize {
        usize::from(key.first().copied().unwrap_or(0)) * self.parts.len() / 256
    }

    /// The first key that a part can have, and the first one behind it.
    pub(crate) fn bounds(&self, part: usize) -> (Vec<u8>, Option<[u8; 1]>) {
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
    pub(crate) fn approximate_len(&self) -> usize {
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
        // Read memory first: a write that has left memory since is in the trees.
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

    /// Every key and value in the trees as they are now, whatever is written to them later, in order. Memory is
    /// left out.
    pub(crate) fn on_disk<'a>(
        &'a self,
    ) -> impl Iterator<Item = Result<(Slice, Slice), JournalError>> + use<'a> {
        let opened = self.reading(|| {
            let ranges = self
                .parts
                .iter()
                .map(|part| part.tree.range::<&[u8], _>(.., SeqNo::MAX, None));
            Ok(ranges.collect::<Vec<_>>())
        });
        StoredRange {
            table: self,
            iterator: opened
                .map(|ranges| ranges.into_iter().flatten())
                .map_err(Some),
        }
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

    /// The error for a value that is not what was written. It does not name the key, which may hold a phone
    /// number.
    pub(crate) fn damaged(&self) -> JournalError {
        self.alarm.raise();
        JournalError::Damaged(format!("{}: a record is not readable", self.place()))
    }

    /// An error of a read, with the damaged file and byte. To find them, all of the table's files are read.
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

    /// Reads from the trees, and raises the alarm if that meets damage.
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

    /// The name of this table, for messages.
    pub(crate) fn place(&self) -> String {
        format!("table `{}`", self.name)
    }
}

impl Part {
    /// Runs an operation that adds files to the tree.
    ///
    /// The trees leave files behind where they fail, and remove them only when opened. Without care each attempt
    /// would fill a full disk further. So an attempt after a failure (`again`) runs alone, and its leftovers are
    /// removed at once.
    pub(crate) fn change_files(
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

    /// Removes the lists of files that newer ones have replaced. Opening would remove them too, and so fail on a
    /// disk that has become read-only.
    pub(crate) fn remove_old_versions(&self) -> lsm_tree::Result<()> {
        let path = &self.tree.tree_config().path;
        let mut versions = self.tree.get_version_history_lock();
        versions.maintenance(path, SeqNo::MAX)
    }

    /// Rewrites the whole tree without removed keys; other operations may add files meanwhile.
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

    /// Removes files from this number on that the tree does not refer to. No other operation may be adding files.
    fn remove_leftovers(&self, first: u64) {
        let version = self.tree.current_version();
        // If publishing failed, the version on disk may refer to the new files.
        if self.published_version() != Some(version.id()) {
            return;
        }
        let folder = self.tree.tree_config().path.join("tables");
        for id in first..self.tree.next_table_id() {
            if !version.iter_tables().any(|table| table.id() == id) {
                // Most of these were never created. One that cannot be removed now is removed at the next
                // opening.
                let _ = fs::remove_file(folder.join(id.to_string()));
            }
        }
    }

    /// Checks that there is room for merging: commits matter more, so merging must not fill the disk.
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

    /// The version of the tree that the next opening would find.
    fn published_version(&self) -> Option<u64> {
        let current = fs::read(self.tree.tree_config().path.join("current")).ok()?;
        Some(u64::from_le_bytes(*current.first_chunk()?))
    }
}

/// The records of a range in the trees of a table.
struct StoredRange<'a, I> {
    /// The table.
    table: &'a Table,
    /// The trees' own iterator, or the error that ended it.
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
            // A failed iterator could go on behind the damage; its readers must not.
            self.iterator = Err(None);
        }
        Some(item)
    }
}

/// Runs an operation of the trees. They panic on some kinds of damage; a panic becomes an error.
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

/// The size of a file that merging writes, in bytes.
pub(crate) const FILE_BYTES: u64 = 32 << 20;
