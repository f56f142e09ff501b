//! When which context wants to be woken up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// When which context wants to be woken up: one entry for each, and those that became useless.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(BinaryHeap<Reverse<Deadline>>);

/// A context that wants to be woken up. The earliest compares as the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    /// When.
    pub(crate) at: Duration,
    /// The place of the context.
    pub(crate) slot: u32,
    /// Which of the contexts that have been at that place.
    pub(crate) generation: u32,
}

impl Deadlines {
    /// Adds one.
    pub(crate) fn add(&mut self, deadline: Deadline) {
        self.0.push(Reverse(deadline));
    }

    /// The earliest, which may be useless by now.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.0.peek().map(|Reverse(first)| first.at)
    }

    /// Takes out the earliest if it is due.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<Deadline> {
        if self.next()? > now {
            return None;
        }
        let due = self.0.pop().map(|Reverse(first)| first);
        if self.0.is_empty() {
            // What a busy hour needed is not kept for ever.
            self.0.shrink_to(USUAL_ENTRIES);
        }
        due
    }
}

/// How many entries stay allocated.
const USUAL_ENTRIES: usize = 1_024;
