//! What threads share: the standard library's atomics, `parking_lot`'s locks and `arc-swap`'s pointers. With
//! `--cfg ringback_loom` it is loom's, which runs a test in every order that threads and memory allow.

#[cfg(not(ringback_loom))]
pub(crate) use self::machine::*;
#[cfg(ringback_loom)]
pub(crate) use self::model::*;

#[cfg(not(ringback_loom))]
mod machine {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use std::thread::yield_now;

    pub(crate) use arc_swap::{ArcSwap, Guard};
    pub(crate) use parking_lot::{Mutex, MutexGuard};

    /// This many zeros; `None` without memory for them. Large arrays are in memory that the system has not
    /// touched yet.
    pub(crate) fn zeros(count: usize) -> Option<Box<[AtomicU64]>> {
        bytemuck::try_zeroed_slice_box(count).ok()
    }
}

/// The same types made of loom's, with a pointer that keeps the promises of `arc-swap`.
#[cfg(ringback_loom)]
mod model {
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use loom::thread::yield_now;

    use std::sync::{Arc, PoisonError};

    /// A lock that a panic does not poison.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        /// Waits for the lock and takes it.
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Takes it if it is free.
        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    impl<T> Mutex<T> {
        /// A free one.
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }
    }

    /// A pointer whose readers get the latest value stored, and keep it alive while they use it.
    pub(crate) struct ArcSwap<T> {
        /// The number of the current value.
        current: AtomicUsize,
        /// All values stored, by number; `None` for those that were replaced.
        stored: std::sync::Mutex<Vec<Option<Arc<T>>>>,
    }

    /// A value that a reader holds.
    pub(crate) type Guard<T> = T;

    impl<T> ArcSwap<T> {
        /// A pointer to this value.
        pub(crate) fn from_pointee(value: T) -> Self {
            Self {
                current: AtomicUsize::new(0),
                stored: std::sync::Mutex::new(vec![Some(Arc::new(value))]),
            }
        }

        /// The current value.
        pub(crate) fn load(&self) -> Guard<Arc<T>> {
            self.load_full()
        }

        /// The current value.
        pub(crate) fn load_full(&self) -> Arc<T> {
            // An atomic change reads the latest number; a plain load need not.
            let number = self.current.fetch_add(0, Ordering::Acquire);
            let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
            let value = stored.get(number).and_then(Option::as_ref);
            Arc::clone(value.expect("the current one is not swapped"))
        }

        /// Makes this the current value.
        pub(crate) fn store(&self, value: Arc<T>) {
            drop(self.swap(value));
        }

        /// Makes this the current value, and returns the one before.
        pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
            let number = {
                let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
                stored.push(Some(value));
                stored.len() - 1
            };
            let last = self.current.swap(number, Ordering::AcqRel);
            let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
            let value = stored.get_mut(last).and_then(Option::take);
            value.expect("each is swapped once")
        }
    }

    /// Runs a test in every order of its threads with at most this many preemptions; a thread that waits always
    /// lets others run.
    #[cfg(test)]
    pub(crate) fn in_every_order(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
        builder.max_branches = 10_000;
        builder.check(run);
    }

    /// This many zeros.
    pub(crate) fn zeros(count: usize) -> Option<Box<[AtomicU64]>> {
        Some((0..count).map(|_| AtomicU64::new(0)).collect())
    }
}
