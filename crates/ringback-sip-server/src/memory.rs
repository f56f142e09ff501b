//! Which INVITEs were answered, and how: for at least 32 s the same one gets the same reply
//! (RFC 3261 §8.2.7 asks a stateless server for that; what was recorded since would change it).
//!
//! Keys are keyed hashes of what a retransmission repeats; two INVITEs share one by chance once in
//! 2⁶⁴ pairs. Each takes 17 bytes of a table. There are two generations of tables: the current one takes new
//! entries, the previous one is forgotten as a whole, by a thread that has nothing else to do.

use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::Mutex;

use crate::plan::Plan;

/// The INVITEs of the last 32 s, at most twice that.
#[derive(Debug)]
pub(crate) struct Memory {
    /// By some bits of the key.
    shards: Box<[Mutex<Shard>]>,
    /// An empty table with room: the next one to become current.
    spare: Mutex<HashTable<Entry>>,
    /// Entries per shard and generation, at most.
    limit: usize,
}

/// A part of the memory.
#[derive(Debug)]
struct Shard {
    /// Takes new entries.
    current: HashTable<Entry>,
    /// Entries from before the last turn.
    previous: HashTable<Entry>,
    /// When the generations last turned, in seconds since the start (offset, lest all turn at once).
    turned_at: i64,
}

/// How an INVITE was answered.
#[derive(Debug)]
struct Entry {
    /// Keyed hash of the INVITE.
    fingerprint: u64,
    /// What it is answered with.
    plan: Arc<Plan>,
}

impl Memory {
    /// An empty memory.
    pub(crate) fn new() -> Self {
        Self::with_limit(MAX_ENTRIES)
    }

    /// An empty memory that forgets early rather than to hold more than twice so many entries.
    fn with_limit(entries: usize) -> Self {
        let shard = |place: usize| {
            Mutex::new(Shard {
                current: HashTable::new(),
                previous: HashTable::new(),
                turned_at: i64::try_from(place % 32).unwrap_or(0) - KEPT_SECONDS,
            })
        };
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            spare: Mutex::default(),
            limit: (entries / SHARDS).max(1),
        }
    }

    /// What the INVITE was answered with.
    pub(crate) fn find(&self, fingerprint: u64) -> Option<Arc<Plan>> {
        let shard = self.shard(fingerprint)?.lock();
        shard.find(fingerprint).map(Arc::clone)
    }

    /// Remembers an answer, unless another was given in the meantime: that one then counts.
    pub(crate) fn remember(&self, fingerprint: u64, plan: &Arc<Plan>) -> Option<Arc<Plan>> {
        let mut shard = self.shard(fingerprint)?.lock();
        if let Some(plan) = shard.find(fingerprint) {
            return Some(Arc::clone(plan));
        }
        if shard.current.len() >= self.limit {
            let turned_at = shard.turned_at;
            // What is forgotten early may be asked for again; better than to run out of memory.
            drop(shard.turn(HashTable::new(), turned_at));
        }
        let entry = Entry {
            fingerprint,
            plan: Arc::clone(plan),
        };
        shard
            .current
            .insert_unique(fingerprint, entry, |entry| entry.fingerprint);
        None
    }

    /// Forgets what is older than it need be. To be called at least every second.
    pub(crate) fn tick(&self, seconds: u64) {
        let now = i64::try_from(seconds).unwrap_or(i64::MAX);
        for shard in &self.shards {
            if now - shard.lock().turned_at < KEPT_SECONDS {
                continue;
            }
            let spare = std::mem::take(&mut *self.spare.lock());
            let mut old = shard.lock().turn(spare, now);
            // Outside of the lock: each entry lets go of its plan.
            let used = old.len();
            old.clear();
            if used < old.capacity() / 4 {
                old.shrink_to(used, |entry| entry.fingerprint);
            }
            *self.spare.lock() = old;
        }
    }

    /// How many INVITEs are remembered.
    pub(crate) fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.current.len() + shard.previous.len()
        };
        self.shards.iter().map(count).sum()
    }

    /// The part of the memory that a key belongs to; the table uses other bits.
    fn shard(&self, fingerprint: u64) -> Option<&Mutex<Shard>> {
        self.shards.get((fingerprint >> 40) as usize % SHARDS)
    }
}

impl Shard {
    /// What the INVITE was answered with.
    fn find(&self, fingerprint: u64) -> Option<&Arc<Plan>> {
        let is_same = |entry: &Entry| entry.fingerprint == fingerprint;
        let entry = self.current.find(fingerprint, is_same);
        let entry = entry.or_else(|| self.previous.find(fingerprint, is_same));
        entry.map(|entry| &entry.plan)
    }

    /// Makes the current generation the previous one; gives the one before that.
    fn turn(&mut self, next: HashTable<Entry>, now: i64) -> HashTable<Entry> {
        self.turned_at = now;
        let current = std::mem::replace(&mut self.current, next);
        std::mem::replace(&mut self.previous, current)
    }
}

/// Parts of the memory.
const SHARDS: usize = 64;

/// How long an answer is remembered at least (RFC 3261 Timer B and F: 64 × T1).
pub(crate) const KEPT_SECONDS: i64 = 32;

/// Entries of one generation: 32 s at 250,000 calls a second.
const MAX_ENTRIES: usize = 8_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_remembered_for_32_seconds_and_forgotten_after_twice_that() {
        let memory = Memory::new();
        let plan = Arc::new(Plan::for_tests("first"));
        for second in 0..200 {
            memory.tick(second);
            let fingerprint = second.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert!(memory.remember(fingerprint, &plan).is_none());
            for age in 0..=32.min(second) {
                let fingerprint = (second - age).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                assert!(memory.find(fingerprint).is_some(), "{second} {age}");
            }
            assert!(memory.len() <= 65);
        }
        for second in 200..264 {
            memory.tick(second);
        }
        assert_eq!(memory.len(), 0);
        assert_eq!(Arc::strong_count(&plan), 1);
    }

    #[test]
    fn the_first_answer_counts() {
        let memory = Memory::new();
        let (first, second) = (Plan::for_tests("first"), Plan::for_tests("second"));
        let (first, second) = (Arc::new(first), Arc::new(second));
        assert!(memory.remember(7, &first).is_none());
        assert!(Arc::ptr_eq(&memory.remember(7, &second).unwrap(), &first));
    }

    #[test]
    fn memory_is_bounded() {
        let memory = Memory::with_limit(64 * 10);
        let plan = Arc::new(Plan::for_tests("any"));
        for number in 0..100_000_u64 {
            memory.remember(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), &plan);
        }
        assert!(memory.len() <= 2 * 64 * 10);
        assert!(
            memory
                .find(99_999_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .is_some()
        );
    }
}
