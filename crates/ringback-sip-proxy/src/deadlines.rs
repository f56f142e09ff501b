//! When which context wants to be woken up: a wheel of time.
//!
//! A call puts in an entry or two, and most are useless when they come up. A binary heap took 0.2 to 0.5 µs for them
//! at 1,000 to 20,000 calls per second (90 s of virtual time, on one core), this takes less than 0.1 µs at any rate.

use std::time::Duration;

/// When which context wants to be woken up: one entry for each, and those that became useless.
#[derive(Debug)]
pub(crate) struct Deadlines {
    /// What is due in each piece of time; what is due later than the wheel reaches is in the last one.
    pieces: Box<[Vec<Deadline>]>,
    /// Which of them hold anything.
    occupied: [u64; PIECES / 64],
    /// The piece that comes next, counted from the beginning of time.
    next: u64,
}

/// A context that wants to be woken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// When.
    pub(crate) at: Duration,
    /// The place of the context.
    pub(crate) slot: u32,
    /// Which of the contexts that have been at that place.
    pub(crate) generation: u32,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            pieces: (0..PIECES).map(|_| Vec::new()).collect(),
            occupied: [0; PIECES / 64],
            next: 0,
        }
    }
}

impl Deadlines {
    /// Adds one.
    pub(crate) fn add(&mut self, deadline: Deadline) {
        let last = self.next + PIECES as u64 - 1;
        let piece = piece_of(deadline.at).clamp(self.next, last);
        let index = index_of(piece);
        if let Some(entries) = self.pieces.get_mut(index) {
            entries.push(deadline);
        }
        self.mark(index, true);
    }

    /// When something may be due; there may turn out to be nothing.
    pub(crate) fn next(&self) -> Option<Duration> {
        let piece = self.first()?;
        let entries = self.pieces.get(index_of(piece))?;
        let starts = Duration::from_millis(piece.saturating_mul(PIECE));
        // What is due later is looked at when the piece comes up, and put further away.
        let soonest = entries.iter().map(|entry| {
            if piece_of(entry.at) > piece {
                starts
            } else {
                entry.at
            }
        });
        soonest.min()
    }

    /// By when somebody is to look: the end of the first piece that holds anything, when all of it is due.
    pub(crate) fn wakes_by(&self) -> Option<Duration> {
        let piece = self.first()?;
        Some(Duration::from_millis(
            piece.saturating_add(1).saturating_mul(PIECE),
        ))
    }

    /// Takes out one that is due.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<Deadline> {
        let current = piece_of(now);
        loop {
            let piece = self.first().filter(|piece| *piece <= current);
            let Some(piece) = piece else {
                self.next = self.next.max(current);
                return None;
            };
            self.next = self.next.max(piece);
            let index = index_of(piece);
            let entries = self.pieces.get_mut(index)?;
            let Some(place) = entries
                .iter()
                .rposition(|entry| entry.at <= now || piece_of(entry.at) > piece)
            else {
                // The rest is due within this piece, but not yet.
                return None;
            };
            let entry = entries.swap_remove(place);
            if entries.is_empty() {
                if entries.capacity() > USUAL_ENTRIES {
                    *entries = Vec::new();
                }
                self.mark(index, false);
            }
            if entry.at <= now {
                return Some(entry);
            }
            // It is due later than the wheel reached when it was put in.
            self.add(entry);
        }
    }

    /// The first piece that holds anything.
    fn first(&self) -> Option<u64> {
        let start = index_of(self.next);
        let words = self.occupied.len();
        // The word of the next piece twice: its later bits first, its earlier ones last.
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = *self.occupied.get(word)?;
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (index + PIECES - start) % PIECES;
                return Some(self.next + ahead as u64);
            }
        }
        None
    }

    /// Notes whether a piece holds anything.
    fn mark(&mut self, index: usize, holds: bool) {
        if let Some(word) = self.occupied.get_mut(index / 64) {
            let bit = 1 << (index % 64);
            if holds {
                *word |= bit;
            } else {
                *word &= !bit;
            }
        }
    }
}

/// The piece of time that holds this moment.
fn piece_of(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX) / PIECE
}

/// Where a piece of time is on the wheel.
fn index_of(piece: u64) -> usize {
    usize::try_from(piece % PIECES as u64).unwrap_or_default()
}

/// How long a piece of time is, in milliseconds.
const PIECE: u64 = 8;

/// How many there are on the wheel: eight seconds.
const PIECES: usize = 1_024;

/// For how many entries of a piece memory is kept.
const USUAL_ENTRIES: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_together_is_looked_at_together() {
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.wakes_by(), None);
        for (slot, micros) in (0..).zip([80_001, 83_500, 87_999, 90_000]) {
            deadlines.add(Deadline {
                at: Duration::from_micros(micros),
                slot,
                generation: 0,
            });
        }
        let end = Duration::from_millis(88);
        assert_eq!(deadlines.wakes_by(), Some(end));
        let mut due = 0;
        while deadlines.pop_due(end).is_some() {
            due += 1;
        }
        assert_eq!(due, 3);
        assert_eq!(deadlines.wakes_by(), Some(Duration::from_millis(96)));
    }

    #[test]
    fn what_is_due_comes_out_in_time_and_once() {
        let mut random = 7_u64;
        let mut roll = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut wheel = Deadlines::default();
        let mut expected: Vec<Duration> = Vec::new();
        let mut now = Duration::from_secs(3);
        for slot in 0..20_000 {
            // Near, far beyond the wheel, and in the past.
            let ahead = [roll(20), roll(5_000), roll(200_000), 0][roll(4) as usize];
            let at = (now + Duration::from_millis(ahead))
                .saturating_sub(Duration::from_micros(roll(999)));
            wheel.add(Deadline {
                at,
                slot,
                generation: 0,
            });
            expected.push(at);
            if roll(3) == 0 {
                now += Duration::from_micros(roll(40_000));
            }
            if roll(50) == 0 {
                now += Duration::from_secs(roll(20));
            }
            expected.sort();
            let due = expected.partition_point(|at| *at <= now);
            let mut out: Vec<Duration> = std::iter::from_fn(|| wheel.pop_due(now))
                .map(|entry| entry.at)
                .collect();
            out.sort();
            assert_eq!(out, expected.drain(..due).collect::<Vec<_>>());
            let next = wheel.next();
            assert_eq!(next.is_some(), !expected.is_empty());
            if let Some((next, first)) = next.zip(expected.first()) {
                assert!(next <= *first, "nothing is due later than it should be");
            }
        }
    }

    #[test]
    fn waking_up_at_every_deadline_leads_to_the_end() {
        let mut wheel = Deadlines::default();
        for (slot, seconds) in [(0, 1), (1, 9), (2, 180), (3, 4_000)] {
            let at = Duration::from_secs(seconds) + Duration::from_micros(1);
            wheel.add(Deadline {
                at,
                slot,
                generation: 0,
            });
        }
        let mut out = Vec::new();
        let mut wakings = 0;
        while let Some(now) = wheel.next() {
            wakings += 1;
            out.extend(
                std::iter::from_fn(|| wheel.pop_due(now)).map(|entry| (entry.slot, now - entry.at)),
            );
        }
        assert_eq!(out, [0, 1, 2, 3].map(|slot| (slot, Duration::ZERO)));
        assert!(wakings < 1_000, "{wakings}");
    }
}
