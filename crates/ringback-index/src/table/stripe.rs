//! A stripe: some of the table's groups, their lock, and what did not fit into them.

use std::collections::BTreeMap;

use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, fence};

/// Entries that did not fit into their group, by hash and key.
pub(super) type Overflow = BTreeMap<(u64, u64), u64>;

/// Whole groups of the table. One thread at a time writes them. Readers do not wait; they check afterwards
/// whether they were disturbed, by a version that is odd during a write (a sequence lock).
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Stripe {
    /// Grows by one when a write begins, and when it ends.
    version: AtomicU64,
    /// The lock, held by writers, and by readers after too many attempts without it.
    overflow: Mutex<Overflow>,
}

impl Stripe {
    /// Takes the lock.
    pub(super) fn lock(&self) -> Held<'_> {
        Held {
            version: &self.version,
            overflow: self.overflow.lock(),
        }
    }

    /// Reads without the lock; `None` if a writer may have changed something meanwhile.
    #[inline]
    pub(super) fn undisturbed<R>(&self, read: impl FnOnce() -> R) -> Option<R> {
        let version = self.version.load(Ordering::Acquire);
        if version % 2 == 1 {
            return None;
        }
        let result = read();
        // A thread that read any part of a write sees its odd version here.
        fence(Ordering::Acquire);
        (self.version.load(Ordering::Relaxed) == version).then_some(result)
    }
}

/// A stripe whose lock is held.
pub(super) struct Held<'s> {
    /// Its version.
    version: &'s AtomicU64,
    /// The stripe's entries that did not fit.
    pub(super) overflow: MutexGuard<'s, Overflow>,
}

impl<'s> Held<'s> {
    /// Begins to write; readers try again until the guard is dropped.
    pub(super) fn writing(&self) -> Writing<'s> {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        // A thread that sees any part of what is written from here on sees the odd version too.
        fence(Ordering::Release);
        Writing {
            version: self.version,
        }
    }
}

/// A write in progress. Must not outlive the [`Held`] that it was made from.
pub(super) struct Writing<'s> {
    /// The stripe's version, odd.
    version: &'s AtomicU64,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Release);
    }
}
