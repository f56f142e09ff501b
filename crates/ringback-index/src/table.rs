//! A hash table from 64 bits to 64 bits that is read without locks and grows by one bucket at a time.
//!
//! Made for many millions of entries: a lookup reads one or two neighboring cache lines, a batch of lookups can
//! wait for memory just once ([`Table::prefetch`]), memory follows the number of entries both ways, and nobody ever
//! waits for a rehash.
//!
//! - [`layout`] says which buckets a hash may be in. Within its group of buckets an entry is stored in the first
//!   cell that was empty, searched from its own cell on; a search ends at the first empty cell. A removal
//!   fills the group again, so that this stays true.
//! - [`stripe`]s of groups have a lock for writers and a version for readers.
//! - [`chunks`] hold the buckets.

mod chunks;
mod layout;
#[cfg(test)]
#[cfg(ringback_loom)]
mod loom_tests;
mod stripe;
#[cfg(test)]
#[cfg(not(ringback_loom))]
mod tests;

use std::fmt;
use std::hash::BuildHasher;
use std::ops::RangeInclusive;
use std::slice;

use foldhash::quality::FixedState;
use prefetch_index::prefetch_index;
use smallvec::SmallVec;

use crate::sync::{AtomicU64, Mutex, Ordering, spin_loop};

use chunks::{CELLS, Cell, Chunks, Directory};
use layout::{Group, State};
use stripe::{Held, Stripe};

/// A hash table from 64 bits to 64 bits that many threads read and write at once; keys must not be 0.
///
/// Readers take no lock. A lookup touches one or two neighboring cache lines, memory follows the number of
/// entries both ways, and nobody waits for a rehash.
pub struct Table<S = FixedState> {
    /// The buckets.
    chunks: Chunks,
    /// The [`State`], packed. A writer changes it only while it holds [`Self::growth`] and the stripe
    /// of the one group that the change concerns, so that readers of other groups are not disturbed.
    state: AtomicU64,
    /// How many entries there are.
    len: AtomicU64,
    /// Held by the thread that makes the table grow or shrink.
    growth: Mutex<()>,
    /// Groups of buckets, by the top bits of their hashes.
    stripes: Box<[Stripe]>,
    /// The level of the smallest table.
    base: u32,
    /// The hash: its top bits name the group, its lower half the column, its last bit the cache line.
    hasher: S,
}

impl Table {
    /// An empty table. Nobody can foresee the hashes without knowing the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_shape(BASE, CHUNK_BITS, FixedState::with_seed(seed))
    }
}

impl<S: BuildHasher> Table<S> {
    /// An empty table that starts at level `base` (1 at least), in chunks of `2^chunk_bits` buckets.
    fn with_shape(base: u32, chunk_bits: u32, hasher: S) -> Self {
        let state = State::first(base);
        let chunks = Chunks::new(chunk_bits);
        // Without memory for the buckets, entries go to the overflow.
        chunks.extend(state.buckets());
        Self {
            chunks,
            state: AtomicU64::new(state.pack()),
            len: AtomicU64::new(0),
            growth: Mutex::new(()),
            stripes: (0..1 << base.min(STRIPE_BITS))
                .map(|_| Stripe::default())
                .collect(),
            base,
            hasher,
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what `look` makes of a key's value.
    ///
    /// `look` may be called again if the value, or what belongs to it, changed meanwhile; only the last result
    /// counts.
    #[inline]
    pub fn read<R>(&self, key: u64, mut look: impl FnMut(Option<u64>) -> R) -> R {
        let hash = self.hasher.hash_one(key);
        let stripe = self.stripe(hash);
        for _ in 0..ATTEMPTS {
            let read = stripe.undisturbed(|| {
                // Load the chunks after the version: then they are those that its state needs, or later ones.
                let chunks = self.chunks.load();
                let value = match self.search(&chunks, self.state(), hash, key) {
                    Place::Found(cell) => Some(cell[1].load(Ordering::Relaxed)),
                    Place::Vacant(_) => None,
                    Place::Nowhere => return None,
                };
                Some(look(value))
            });
            match read {
                Some(Some(result)) => return result,
                Some(None) => break,
                None => spin_loop(),
            }
        }
        self.read_locked(hash, key, look)
    }

    /// Reads under the stripe's lock: where a group is full, or writers disturb the reader.
    #[cold]
    fn read_locked<R>(&self, hash: u64, key: u64, look: impl FnOnce(Option<u64>) -> R) -> R {
        let held = self.stripe(hash).lock();
        let value = match self.search(&self.chunks.load(), self.state(), hash, key) {
            Place::Found(cell) => Some(cell[1].load(Ordering::Relaxed)),
            Place::Vacant(_) => None,
            Place::Nowhere => held.overflow.get(&(hash, key)).copied(),
        };
        look(value)
    }

    /// Lets `change` see and set a key's value: `None` is no entry.
    ///
    /// `change` runs under the lock of the key's stripe. Readers see everything that it changes, or nothing.
    pub fn update<R>(&self, key: u64, change: impl FnOnce(&mut Option<u64>) -> R) -> R {
        debug_assert_ne!(key, 0, "0 marks an empty cell");
        let hash = self.hasher.hash_one(key);
        let mut held = self.stripe(hash).lock();
        let chunks = self.chunks.load();
        let place = self.search(&chunks, self.state(), hash, key);
        let known = match place {
            Place::Found(cell) => Some(cell[1].load(Ordering::Relaxed)),
            Place::Vacant(_) => None,
            Place::Nowhere => held.overflow.get(&(hash, key)).copied(),
        };
        // Before `change`: what it changes besides the value must not be seen half done either.
        let writing = held.writing();
        let mut value = known;
        let result = change(&mut value);
        match (place, value) {
            (Place::Found(cell), Some(value)) => cell[1].store(value, Ordering::Relaxed),
            // A search ends at the first empty cell, so a removal must not leave one in the middle of a group.
            (Place::Found(_), None) => {
                let span = self.state().group(hash).hashes();
                self.refill(&mut held, span, |other, _| other != key);
            }
            (Place::Vacant(cell), Some(value)) => fill(cell, key, value),
            (Place::Nowhere, Some(value)) => {
                held.overflow.insert((hash, key), value);
            }
            (Place::Nowhere, None) => {
                held.overflow.remove(&(hash, key));
            }
            (Place::Vacant(_), None) => {}
        }
        drop(writing);
        // Count before the lock is released: otherwise another thread could remove the entry first, and the count
        // would fall below zero.
        let mut crowded = false;
        if known.is_none() && value.is_some() {
            let len = self.len.fetch_add(1, Ordering::Relaxed) + 1;
            crowded = len > most(self.state());
        } else if known.is_some() && value.is_none() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        drop((held, chunks));
        // Without the lock: to grow, the table locks a stripe, and it may be this one.
        if crowded {
            self.grow();
        }
        result
    }

    /// Drops every entry that `keep` refuses, and returns unused memory to the system.
    ///
    /// Works group by group; a group's readers wait meanwhile.
    pub fn retain(&self, mut keep: impl FnMut(u64, u64) -> bool) {
        let mut next = Some(0);
        while let Some(hash) = next {
            // The group at this hash may have grown or split since the last round, but it never begins above this
            // hash.
            let mut held = self.stripe(hash).lock();
            let span = self.state().group(hash).hashes();
            next = span.end().checked_add(1);
            let writing = held.writing();
            let dropped = self.refill(&mut held, span, &mut keep);
            drop(writing);
            self.len.fetch_sub(dropped, Ordering::Relaxed);
        }
        self.shrink();
    }

    /// Shows every entry that is there from beginning to end, some of them twice if the table grows meanwhile.
    ///
    /// Copies group by group; a group's writers wait for its copy, readers do not wait.
    pub fn visit(&self, mut visitor: impl FnMut(u64, u64)) {
        let mut next = Some(0);
        while let Some(hash) = next {
            // As in `retain`, the group never begins above this hash.
            let held = self.stripe(hash).lock();
            let span = self.state().group(hash).hashes();
            next = span.end().checked_add(1);
            let pairs = self.pairs(&held, &span);
            drop(held);
            for (key, value) in pairs {
                visitor(key, value);
            }
        }
    }

    /// Begins to fetch the memory that lookups of these keys will read first, without waiting for it.
    pub fn prefetch(&self, keys: impl IntoIterator<Item = u64>) {
        let (chunks, state) = (self.chunks.load(), self.state());
        for key in keys {
            let hash = self.hasher.hash_one(key);
            prefetch_index(slice::from_ref(self.stripe(hash)), 0);
            let group = state.group(hash);
            if let Some(bucket) = chunks.bucket(group.bucket(self.base, group.column(hash))) {
                prefetch_index(bucket, first_cell(hash));
            }
        }
    }

    /// The current state. A thread that holds a stripe sees the latest state of its groups.
    fn state(&self) -> State {
        State::unpack(self.state.load(Ordering::Acquire))
    }

    /// The stripe of a hash.
    fn stripe(&self, hash: u64) -> &Stripe {
        &self.stripes[(hash >> (64 - self.stripes.len().trailing_zeros())) as usize]
    }

    /// Finds a key, or the cell where it would be stored. Without the stripe's lock the result may be wrong.
    #[inline]
    fn search<'c>(&self, chunks: &'c Directory, state: State, hash: u64, key: u64) -> Place<'c> {
        let group = state.group(hash);
        let home = group.column(hash);
        for column in (home..group.columns()).chain(0..home) {
            let Some(bucket) = chunks.bucket(group.bucket(self.base, column)) else {
                return Place::Nowhere;
            };
            for index in 0..CELLS {
                let cell = &bucket[index ^ first_cell(hash)];
                match cell[0].load(Ordering::Relaxed) {
                    found if found == key => return Place::Found(cell),
                    0 => return Place::Vacant(cell),
                    _ => {}
                }
            }
        }
        Place::Nowhere
    }

    /// Removes the entries of these hashes and enters those again that `keep` accepts; returns how many it
    /// dropped.
    fn refill(
        &self,
        held: &mut Held<'_>,
        hashes: RangeInclusive<u64>,
        mut keep: impl FnMut(u64, u64) -> bool,
    ) -> u64 {
        let mut pairs = self.pairs(held, &hashes);
        let before = pairs.len();
        pairs.retain(|(key, value)| keep(*key, *value));
        let dropped = before - pairs.len();
        if dropped > 0 {
            self.clear(held, &hashes);
            self.enter(held, &pairs);
        }
        dropped as u64
    }

    /// All entries of these hashes, which are whole groups.
    fn pairs(&self, held: &Held<'_>, hashes: &RangeInclusive<u64>) -> Pairs {
        let mut pairs = Pairs::new();
        self.each_cell(hashes, |cell| {
            let key = cell[0].load(Ordering::Relaxed);
            if key != 0 {
                pairs.push((key, cell[1].load(Ordering::Relaxed)));
            }
        });
        let beyond = held.overflow.range(bounds(hashes));
        pairs.extend(beyond.map(|((_, key), value)| (*key, *value)));
        pairs
    }

    /// Empties the groups of these hashes.
    fn clear(&self, held: &mut Held<'_>, hashes: &RangeInclusive<u64>) {
        self.each_cell(hashes, |cell| cell[0].store(0, Ordering::Relaxed));
        held.overflow
            .extract_if(bounds(hashes), |_, _| true)
            .for_each(drop);
    }

    /// Enters pairs whose keys are not there.
    fn enter(&self, held: &mut Held<'_>, pairs: &[(u64, u64)]) {
        let (chunks, state) = (self.chunks.load(), self.state());
        for (key, value) in pairs {
            let hash = self.hasher.hash_one(key);
            match self.search(&chunks, state, hash, *key) {
                Place::Found(cell) | Place::Vacant(cell) => fill(cell, *key, *value),
                Place::Nowhere => {
                    held.overflow.insert((hash, *key), *value);
                }
            }
        }
    }

    /// Visits every cell of the groups of these hashes.
    fn each_cell(&self, hashes: &RangeInclusive<u64>, mut visit: impl FnMut(&Cell)) {
        let (chunks, state) = (self.chunks.load(), self.state());
        let mut visit_group = |group: Group| {
            (0..group.columns())
                .filter_map(|column| chunks.bucket(group.bucket(self.base, column)))
                .flatten()
                .for_each(&mut visit);
        };
        // Two groups at most: the halves of a group that splits.
        let first = state.group(*hashes.start());
        visit_group(first);
        if first.hashes().end() != hashes.end() {
            visit_group(state.group(*hashes.end()));
        }
    }

    /// Adds a bucket or two, unless another thread does so already or there is no memory.
    #[cold]
    fn grow(&self) {
        let Some(_growing) = self.growth.try_lock() else {
            return;
        };
        for _ in 0..STEPS {
            let state = self.state();
            if self.len.load(Ordering::Relaxed) <= most(state) {
                return;
            }
            let Some(grown) = state.grown() else {
                return;
            };
            if !self.chunks.extend(grown.buckets()) {
                return;
            }
            // The system may have to zero a page first, even a huge one: do that before readers have to wait.
            if let Some(bucket) = self.chunks.load().bucket(state.buckets()) {
                bucket[0][0].store(0, Ordering::Relaxed);
            }
            self.step(&state.next_to_grow(), grown);
        }
    }

    /// Takes buckets away while few of the cells are in use, and returns their memory.
    fn shrink(&self) {
        let _shrinking = self.growth.lock();
        let mut state = self.state();
        while self.len.load(Ordering::Relaxed) < least(state)
            && let Some(shrunk) = state.shrunk(self.base)
        {
            self.step(&shrunk.next_to_grow(), shrunk);
            state = shrunk;
        }
        self.chunks.truncate(state.buckets());
    }

    /// Changes to the next or the previous state, which differs for these hashes. [`Self::growth`] must be held.
    fn step(&self, hashes: &RangeInclusive<u64>, state: State) {
        let mut held = self.stripe(*hashes.start()).lock();
        let pairs = self.pairs(&held, hashes);
        let writing = held.writing();
        self.clear(&mut held, hashes);
        self.state.store(state.pack(), Ordering::Release);
        self.enter(&mut held, &pairs);
        drop(writing);
    }
}

impl<S> fmt::Debug for Table<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Table")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Where a key is.
#[derive(Clone, Copy)]
enum Place<'c> {
    /// In this cell.
    Found(&'c Cell),
    /// Not in the table; it would be stored in this cell.
    Vacant(&'c Cell),
    /// Not in its group, which is full: perhaps in the overflow.
    Nowhere,
}

/// Entries of a group; room for as many as a group has where steps happen, without allocating.
type Pairs = SmallVec<[(u64, u64); 16 * CELLS]>;

/// Writes an entry into a cell.
fn fill(cell: &Cell, key: u64, value: u64) {
    cell[1].store(value, Ordering::Relaxed);
    cell[0].store(key, Ordering::Relaxed);
}

/// Index in a bucket of the cell where the search for a hash begins: the start of either cache line.
const fn first_cell(hash: u64) -> usize {
    (hash % 2) as usize * (CELLS / 2)
}

/// The keys of the overflow that belong to these hashes.
const fn bounds(hashes: &RangeInclusive<u64>) -> RangeInclusive<(u64, u64)> {
    (*hashes.start(), 0)..=(*hashes.end(), u64::MAX)
}

/// The most entries without growing: four fifths of the cells.
const fn most(state: State) -> u64 {
    state.buckets() * CELLS as u64 * 4 / 5
}

/// The fewest entries without shrinking: seven tenths of the cells. The distance to [`most`] keeps the table from
/// growing and shrinking all the time.
const fn least(state: State) -> u64 {
    state.buckets() * CELLS as u64 * 7 / 10
}

/// The level of the smallest table: a megabyte.
const BASE: u32 = 10;

/// The top bits of a hash that name its stripe.
const STRIPE_BITS: u32 = 10;

/// The binary logarithm of the buckets of a chunk of 32 MiB. From this size on the GNU C library always maps an
/// allocation separately: untouched memory costs nothing, and dropped memory goes back to the system.
const CHUNK_BITS: u32 = 18;

/// How often a reader tries without the lock.
const ATTEMPTS: usize = if cfg!(ringback_loom) { 1 } else { 64 };

/// The most steps of growth in one insertion. One step for every six insertions would be enough.
const STEPS: usize = 2;
