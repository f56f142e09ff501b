//! SIP calls on their way to the tally.
//!
//! Each thread that routes calls notes them in a list that it shares with few other threads or none, so that
//! threads do not wait for each other.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::observed::tally::Arrival;

/// The calls that are not in the tally yet.
#[derive(Debug, Default)]
pub(super) struct Arrivals([List; LISTS]);

/// A list with cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct List(Mutex<Vec<Arrival>>);

impl Arrivals {
    /// The list of this thread.
    pub(super) fn own(&self) -> MutexGuard<'_, Vec<Arrival>> {
        let List(list) = &self.0[OWN.with(|own| *own) % LISTS];
        list.lock()
    }

    /// The lists, one after the other.
    pub(super) fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Vec<Arrival>>> {
        self.0.iter().map(|List(list)| list.lock())
    }
}

thread_local! {
    /// The number of this thread among those that have noted a call.
    static OWN: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// How many threads have noted a call so far.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// How many lists there are.
const LISTS: usize = 16;
