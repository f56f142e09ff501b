//! A stripe: some of the table's groups, their lock, and what did not fit into them.

use std::collections::BTreeMap;

use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, fence};

/// What did not fit into its group, by hash and key.
pub(super) type Overflow = BTreeMap<(u64, u64), u64>;

/// Whole groups of the table. One thread at a time writes them; readers do not wait but see afterwards
/// whether they were disturbed, by a version that is odd during a write (a sequence lock).
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Stripe {
    /// Grows by one when a write begins, and when it ends.
    version: AtomicU64,
    /// The lock; writers hold it, and readers that gave up on doing without.
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

    /// Reads something of it, so that it is near.
    pub(super) fn touch(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Reads without the lock; `None` if a writer may have been at it meanwhile.
    #[inline]
    pub(super) fn undisturbed<R>(&self, read: impl FnOnce() -> R) -> Option<R> {
        let version = self.version.load(Ordering::Acquire);
        if version % 2 == 1 {
            return None;
        }
        let result = read();
        // Whatever was read of a write makes its odd version visible here.
        fence(Ordering::Acquire);
        (self.version.load(Ordering::Relaxed) == version).then_some(result)
    }
}

/// A stripe whose lock is held.
pub(super) struct Held<'s> {
    /// Its version.
    version: &'s AtomicU64,
    /// What did not fit.
    pub(super) overflow: MutexGuard<'s, Overflow>,
}

impl<'s> Held<'s> {
    /// Begins to write; readers come back until the guard is dropped.
    pub(super) fn writing(&self) -> Writing<'s> {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        // Whoever sees any of what is written from here on sees the odd version too.
        fence(Ordering::Release);
        Writing {
            version: self.version,
        }
    }
}

/// A write that is under way. Must not outlive the [`Held`] that it is of.
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
