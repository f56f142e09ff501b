//! Answers that are kept for some seconds: a flat hash table that is filled once and dropped as a whole.

#[cfg(test)]
#[cfg(ringback_loom)]
mod loom_tests;

use prefetch_index::prefetch_index;

use crate::sync::{AtomicU64, AtomicUsize, Ordering, spin_loop};

/// Fingerprint → answer, each entered once; a lookup reads one cache line and takes no lock.
///
/// Fingerprints are hashes with a secret key of the caller, so nobody can choose them. Neither a fingerprint nor
/// an answer may be 0.
#[derive(Debug)]
pub struct Generation {
    /// Cells of a fingerprint (0 where the cell is empty) and an answer (0 until it is written).
    words: Box<[AtomicU64]>,
    /// Index in `words` of the first cache line.
    start: usize,
    /// How many cache lines there are.
    lines: usize,
    /// How many cells are filled.
    used: AtomicUsize,
    /// When it took its first answers, in seconds of the caller's clock.
    began_at: u32,
}

impl Generation {
    /// How many answers fit into a cache line.
    pub const CELLS: usize = CELLS;

    /// An empty generation, in use from second 0 on. Touches every page of its memory, so that the call path need
    /// not wait for page faults. The call path may want this processor, so `pause` is called every 64 KiB.
    #[must_use]
    pub fn new(lines: usize, pause: impl Fn()) -> Self {
        let length = (lines + 1) * LINE;
        let mut words = Vec::with_capacity(length);
        while words.len() < length {
            let end = length.min(words.len() + WORDS_AT_ONCE);
            words.resize_with(end, AtomicU64::default);
            pause();
        }
        let words = words.into_boxed_slice();
        let start = words.as_ptr().align_offset(LINE * 8).min(LINE);
        Self {
            words,
            start,
            lines,
            used: AtomicUsize::new(0),
            began_at: 0,
        }
    }

    /// This generation, in use from this second of the caller's clock on.
    #[must_use]
    pub fn begun_at(self, began_at: u32) -> Self {
        Self { began_at, ..self }
    }

    /// When it took its first answers, in seconds of the caller's clock.
    #[must_use]
    pub const fn began_at(&self) -> u32 {
        self.began_at
    }

    /// How many cache lines there are.
    #[must_use]
    pub const fn lines(&self) -> usize {
        self.lines
    }

    /// How many answers there are.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether it is so full that a new generation should be made.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        self.used() > self.lines * CELLS / 8 * 5
    }

    /// Begins to fetch the line where a fingerprint is looked for first, without waiting for it.
    pub fn prefetch(&self, fingerprint: u64) {
        prefetch_index(&self.words, self.start + self.home_line(fingerprint) * LINE);
    }

    /// The answer to a fingerprint, if one was entered.
    #[must_use]
    #[inline]
    pub fn find(&self, fingerprint: u64) -> Option<u64> {
        let mut number = self.home_line(fingerprint);
        for _ in 0..LINES_TRIED {
            for [key, answer] in self.line(number)?.as_chunks().0 {
                match key.load(Ordering::Relaxed) {
                    0 => return None,
                    known if known == fingerprint => return written(answer),
                    _ => {}
                }
            }
            number = self.next_line(number);
        }
        None
    }

    /// Enters an answer to a fingerprint. Returns the answer that is there already, if any. Without room for it,
    /// the answer is not entered.
    pub fn insert(&self, fingerprint: u64, answer: u64) -> Option<u64> {
        let mut number = self.home_line(fingerprint);
        for _ in 0..LINES_TRIED {
            for [key, known] in self.line(number)?.as_chunks().0 {
                let taken = match key.load(Ordering::Relaxed) {
                    0 => key
                        .compare_exchange(0, fingerprint, Ordering::Relaxed, Ordering::Relaxed)
                        .err(),
                    other => Some(other),
                };
                match taken {
                    None => {
                        self.used.fetch_add(1, Ordering::Relaxed);
                        return write(known, answer);
                    }
                    Some(other) if other == fingerprint => {
                        return written(known).or_else(|| write(known, answer));
                    }
                    Some(_) => {}
                }
            }
            number = self.next_line(number);
        }
        None
    }

    /// The line where the search for a fingerprint starts.
    fn home_line(&self, fingerprint: u64) -> usize {
        // Fingerprints are hashes: their top bits spread them.
        ((u128::from(fingerprint) * self.lines as u128) >> 64) as usize
    }

    /// The line behind a line; the first one behind the last.
    const fn next_line(&self, number: usize) -> usize {
        if number + 1 < self.lines {
            number + 1
        } else {
            0
        }
    }

    /// A cache line.
    #[inline]
    fn line(&self, number: usize) -> Option<&[AtomicU64; LINE]> {
        let words = self.words.get(self.start + number * LINE..)?;
        words.first_chunk()
    }
}

/// Writes an answer into a cell that is taken. Returns the answer that is there already, if any. The thread that
/// took the cell may have lost the processor before writing it; then a waiting thread writes, and both return the
/// same answer.
fn write(cell: &AtomicU64, answer: u64) -> Option<u64> {
    cell.compare_exchange(0, answer, Ordering::AcqRel, Ordering::Acquire)
        .err()
}

/// The answer in a cell that another thread took and is about to write; `None` if that takes too long.
fn written(answer: &AtomicU64) -> Option<u64> {
    for _ in 0..PATIENCE {
        let word = answer.load(Ordering::Acquire);
        if word != 0 {
            return Some(word);
        }
        spin_loop();
    }
    None
}

/// The words of a cache line.
const LINE: usize = 8;

/// The cells of a cache line.
const CELLS: usize = LINE / 2;

/// How many lines are searched for an answer, from its first one on. Nearly all answers are in the first; in a
/// half full table one in thirty thousand is beyond the eighth.
const LINES_TRIED: usize = 32;

/// How much memory is touched between two pauses: 64 KiB, about 0.05 ms if each page has to be mapped and zeroed.
const WORDS_AT_ONCE: usize = 8_192;

/// How often an answer that is being written is read again. Once is enough in a model: it tries every order.
const PATIENCE: usize = if cfg!(ringback_loom) { 1 } else { 1_000 };

#[cfg(test)]
#[cfg(not(ringback_loom))]
mod tests {
    use std::collections::HashMap;
    use std::hash::BuildHasher;

    use foldhash::quality::FixedState;

    use super::*;

    /// A hash of a number.
    fn fingerprint(number: u64) -> u64 {
        FixedState::with_seed(7).hash_one(number).max(1)
    }

    #[test]
    fn what_is_entered_is_found_and_the_first_answer_stays() {
        let generation = Generation::new(64, || {});
        let mut model = HashMap::new();
        for number in 0..2_000 {
            let key = fingerprint(number % 100);
            let known = model.get(&key).copied();
            assert_eq!(generation.find(key), known);
            assert_eq!(generation.insert(key, number + 1), known);
            model.entry(key).or_insert(number + 1);
        }
        assert_eq!(generation.used(), 100);
        assert!(!generation.is_filling());
    }

    #[test]
    fn a_full_one_takes_no_more_and_loses_nothing() {
        let generation = Generation::new(16, || {});
        let entered: Vec<u64> = (0..1_000)
            .map(fingerprint)
            .filter(|key| {
                generation.insert(*key, *key);
                generation.find(*key).is_some()
            })
            .collect();
        assert_eq!(entered.len(), 16 * CELLS);
        assert_eq!(generation.used(), 16 * CELLS);
        assert!(generation.is_filling());
        assert!(
            entered
                .iter()
                .all(|key| generation.find(*key) == Some(*key))
        );
    }

    #[test]
    fn threads_that_enter_the_same_agree() {
        let generation = Generation::new(4_096, || {});
        let run = |thread: u64| {
            let answers = (0..8_000).map(|number| {
                let mine = number * 8 + thread + 1;
                generation.insert(fingerprint(number), mine).unwrap_or(mine)
            });
            answers.collect::<Vec<u64>>()
        };
        let answers: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let threads = [0, 1, 2, 3].map(|thread| scope.spawn(move || run(thread)));
            threads.map(|thread| thread.join().unwrap()).into()
        });
        assert!(answers.iter().all(|each| *each == answers[0]));
        assert_eq!(generation.used(), 8_000);
    }
}
