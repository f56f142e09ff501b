//! Answers of some seconds: a flat hash table that is filled once and forgotten as a whole.

#[cfg(test)]
#[cfg(ringback_loom)]
mod loom_tests;

use crate::sync::{AtomicU64, AtomicUsize, Ordering, spin_loop};

/// Fingerprint → answer, each entered once: one cache line to look at, and no lock.
///
/// Fingerprints are hashes that the caller keys, so that nobody can choose them. Neither a fingerprint nor an
/// answer may be 0.
#[derive(Debug)]
pub struct Generation {
    /// Cells of a fingerprint (0 where the cell is empty) and an answer (0 until it is written).
    words: Box<[AtomicU64]>,
    /// Where the first cache line begins.
    start: usize,
    /// How many cache lines there are.
    lines: usize,
    /// How many cells are filled.
    used: AtomicUsize,
    /// When it took its first answers, in seconds since the start.
    began_at: u32,
}

impl Generation {
    /// The answers of a cache line.
    pub const CELLS: usize = CELLS;

    /// An empty one, from the start on. Every page of it is touched here, so that the call path does not wait for that;
    /// not all at once, because the call path may want this processor: `pause` is called every 64 KiB.
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

    /// The same, to take answers from this second on, counted from the start.
    #[must_use]
    pub fn begun_at(self, began_at: u32) -> Self {
        Self { began_at, ..self }
    }

    /// When it took its first answers, in seconds since the start.
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

    /// Whether there should be a new one before this one takes no more.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        self.used() > self.lines * CELLS / 8 * 5
    }

    /// Reads something of the line where a fingerprint is looked for first, so that it is near.
    #[must_use]
    pub fn touch(&self, fingerprint: u64) -> u64 {
        self.line(self.home_line(fingerprint))
            .map_or(0, |line| line[0].load(Ordering::Relaxed))
    }

    /// The answer to a fingerprint.
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

    /// Enters an answer to a fingerprint; gives the one that is there already, if any. Where there is no room
    /// for it, it is not entered.
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

    /// The line that a fingerprint is at home in.
    fn home_line(&self, fingerprint: u64) -> usize {
        // Fingerprints are hashes: their top bits spread them.
        ((u128::from(fingerprint) * self.lines as u128) >> 64) as usize
    }

    /// The line behind a line; behind the last one comes the first.
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

/// Writes an answer into a cell that is taken; gives the one that is there already, if any. Whoever took the
/// cell may have lost the processor before writing: then whoever waits writes, and both give the same answer.
fn write(cell: &AtomicU64, answer: u64) -> Option<u64> {
    cell.compare_exchange(0, answer, Ordering::AcqRel, Ordering::Acquire)
        .err()
}

/// An answer whose cell is taken; whoever took it is about to write it. `None` if that takes long.
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

/// The lines that an answer may stand in, from its home on. Nearly all stand in the first; at half
/// full, one in thirty thousand is beyond the eighth.
const LINES_TRIED: usize = 32;

/// How much is made ready at once: 64 KiB, some 0.05 ms where each page has to be found and zeroed.
const WORDS_AT_ONCE: usize = 8_192;

/// How often an answer that is being written is looked at; a model need not look so often to see everything.
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
