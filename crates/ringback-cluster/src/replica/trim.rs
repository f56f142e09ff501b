//! Trimming: the log loses what is older than it has to keep, by one node at a time.
//!
//! First a marker names the new floor, an entry of the log like any other; then everything before the floor is
//! purged. So every node knows what may be missing, and whoever finds a marker without its purge can complete it.

use std::time::Duration;

/// What a node knows of the beginning of the log.
#[derive(Debug, Default)]
pub(super) struct Trim {
    /// The last message that is older than the log keeps.
    older: u64,
    /// When to find out again which one that is.
    look_at: Duration,
    /// The floor of the latest marker: messages before it are no longer needed.
    floor: u64,
    /// Since when there has been something to do, and nobody has done it.
    due_since: Option<Duration>,
    /// When this node may do something again.
    next: Duration,
}

/// What is to be trimmed by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The first sequence that the log has.
    pub(super) first: u64,
    /// How far the slowest current node has read.
    pub(super) slowest: u64,
    /// Whether the log is so large that everything goes that nobody needs.
    pub(super) is_large: bool,
    /// How many current nodes come before this one.
    pub(super) rank: u32,
}

/// What a node does next to trim the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Publish a marker with this floor.
    Mark(u64),
    /// Have everything before this floor purged.
    Purge(u64),
}

impl Trim {
    /// Whether it is time to find out which messages are older than the log keeps.
    pub(super) fn looks(&mut self, now: Duration, retain: Duration) -> bool {
        let is_due = now >= self.look_at;
        if is_due {
            self.look_at = now + (retain / LOOKS).clamp(LEAST_PAUSE, MOST_PAUSE);
        }
        is_due
    }

    /// When to look again.
    pub(super) fn next_look(&self) -> Duration {
        self.look_at
    }

    /// Notes the last message that is older than the log keeps.
    pub(super) fn aged(&mut self, sequence: u64) {
        self.older = self.older.max(sequence);
    }

    /// Notes the floor of a marker.
    pub(super) fn marked(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.due_since = None;
        self.next = Duration::ZERO;
    }

    /// The next step, if there is one and it is this node's turn: nodes take it one after the other, so that the
    /// first of them does it and the others only if that one does not.
    pub(super) fn step(&mut self, now: Duration, limits: Limits) -> Option<Step> {
        let by_size = if limits.is_large { limits.slowest } else { 0 };
        let by_age = self.older + 1;
        // A node that is current must find what it has not read, whatever the size and age.
        let wanted = by_size.max(by_age).min(limits.slowest);
        let step = if self.floor > limits.first {
            Step::Purge(self.floor)
        } else if wanted > self.floor.max(limits.first) {
            Step::Mark(wanted)
        } else {
            self.due_since = None;
            return None;
        };
        let since = *self.due_since.get_or_insert(now);
        if now < since + TURN * limits.rank || now < self.next {
            return None;
        }
        self.next = now + TURN;
        Some(step)
    }
}

/// How often within the time that the log keeps its messages it is looked which are older.
const LOOKS: u32 = 48;

/// The shortest pause between two looks.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const MOST_PAUSE: Duration = Duration::from_secs(600);

/// How long a node waits for the one whose turn it is.
const TURN: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits {
            first: 1,
            slowest: 100,
            is_large: false,
            rank: 0,
        }
    }

    #[test]
    fn what_is_old_is_marked_and_then_purged() {
        let mut trim = Trim::default();
        assert_eq!(trim.step(SECOND, limits()), None);
        trim.aged(40);
        assert_eq!(trim.step(SECOND, limits()), Some(Step::Mark(41)));
        assert_eq!(
            trim.step(SECOND, limits()),
            None,
            "its turn is over for now"
        );
        trim.marked(41);
        let later = SECOND + TURN;
        assert_eq!(trim.step(later, limits()), Some(Step::Purge(41)));
        let purged = Limits {
            first: 41,
            ..limits()
        };
        assert_eq!(trim.step(later + TURN, purged), None);
    }

    #[test]
    fn nothing_goes_that_a_current_node_has_not_read() {
        let mut trim = Trim::default();
        trim.aged(90);
        let slow = Limits {
            slowest: 50,
            is_large: true,
            ..limits()
        };
        assert_eq!(trim.step(SECOND, slow), Some(Step::Mark(50)));
    }

    #[test]
    fn a_large_log_loses_all_that_nobody_needs() {
        let mut trim = Trim::default();
        let large = Limits {
            is_large: true,
            ..limits()
        };
        assert_eq!(trim.step(SECOND, large), Some(Step::Mark(100)));
    }

    #[test]
    fn nodes_wait_for_those_before_them() {
        let mut trim = Trim::default();
        trim.aged(40);
        let third = Limits {
            rank: 2,
            ..limits()
        };
        assert_eq!(trim.step(SECOND, third), None);
        assert_eq!(trim.step(SECOND + TURN, third), None);
        assert_eq!(trim.step(SECOND + 2 * TURN, third), Some(Step::Mark(41)));
    }
}
