//! The table against a plain map, in small shapes that reach every corner, and under many threads.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::AtomicBool;

use foldhash::quality::FixedState;
use proptest::prelude::*;

use super::*;

/// A hash that leaves nothing but some bits of the key's own, at the top and at the bottom, so that
/// groups overflow and columns collide.
#[derive(Clone, Copy)]
struct Poor {
    /// The bits of the key that count.
    mask: u64,
}

impl BuildHasher for Poor {
    type Hasher = PoorHasher;

    fn build_hasher(&self) -> PoorHasher {
        PoorHasher {
            mask: self.mask,
            hash: 0,
        }
    }
}

/// What [`Poor`] builds.
struct PoorHasher {
    mask: u64,
    hash: u64,
}

impl Hasher for PoorHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are integers");
    }

    fn write_u64(&mut self, key: u64) {
        let bits = key & self.mask;
        self.hash = bits << 56 | bits << 29 | bits;
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// What is done to a table.
#[derive(Clone, Debug)]
enum Step {
    /// Sets this many keys from the first value on, each to itself plus the third value.
    Set(u64, u64, u64),
    /// Removes this many keys from the first value on.
    Remove(u64, u64),
    /// Keeps the keys with another remainder than the second value when divided by the first.
    Drop(u64, u64),
    /// Keeps the keys with this remainder when divided by the first value.
    Keep(u64, u64),
    /// Fetches memory, which must change nothing.
    Prefetch(u64, u64),
}

fn step(most: u64) -> impl Strategy<Value = Step> {
    let keys = (1..most, 1..most / 2);
    prop_oneof![
        4 => (keys.clone(), 0..1_000_u64).prop_map(|((from, count), plus)| Step::Set(from, count, plus)),
        1 => (1..most, 1..most / 8).prop_map(|(from, count)| Step::Remove(from, count)),
        1 => (2..9_u64, 0..9_u64).prop_map(|(by, rest)| Step::Drop(by, rest % by)),
        1 => (2..40_u64, 0..40_u64).prop_map(|(by, rest)| Step::Keep(by, rest % by)),
        1 => keys.prop_map(|(from, count)| Step::Prefetch(from, count)),
    ]
}

/// Does the steps to a table and to a plain map; they must agree after each.
fn agree<S: BuildHasher>(table: &Table<S>, most: u64, steps: &[Step]) {
    let mut model = HashMap::new();
    for step in steps {
        match *step {
            Step::Set(from, count, plus) => {
                for key in from..from + count {
                    let known = table.update(key, |value| value.replace(key + plus));
                    assert_eq!(known, model.insert(key, key + plus));
                }
            }
            Step::Remove(from, count) => {
                for key in from..from + count {
                    assert_eq!(table.update(key, Option::take), model.remove(&key));
                }
            }
            Step::Drop(by, rest) => {
                table.retain(|key, value| {
                    assert_eq!(model.get(&key), Some(&value));
                    key % by != rest
                });
                model.retain(|key, _| key % by != rest);
            }
            Step::Keep(by, rest) => {
                table.retain(|key, _| key % by == rest);
                model.retain(|key, _| key % by == rest);
            }
            Step::Prefetch(from, count) => table.prefetch(from..from + count),
        }
        assert_eq!(table.len(), model.len());
        for key in 1..most * 3 / 2 {
            assert_eq!(table.read(key, |value| value), model.get(&key).copied());
        }
        check(table);
    }
}

/// What must hold of a table at rest.
fn check<S: BuildHasher>(table: &Table<S>) {
    let (chunks, state) = (table.chunks.load(), table.state());
    let in_chunk = 1_u64 << table.chunks.bits();
    assert!(chunks.len() as u64 >= state.buckets().div_ceil(in_chunk));
    let entries = |bucket| {
        let bucket: &[Cell; CELLS] = chunks.bucket(bucket).unwrap();
        bucket
            .iter()
            .filter(|cell| cell[0].load(Ordering::Relaxed) != 0)
            .count()
    };
    let all = chunks.len() as u64 * in_chunk;
    assert!((state.buckets()..all).all(|bucket| entries(bucket) == 0));
    let inside: usize = (0..state.buckets()).map(entries).sum();
    let mut beyond = 0;
    for stripe in &table.stripes {
        for (hash, _) in stripe.lock().overflow.keys() {
            let group = state.group(*hash);
            assert!(
                (0..group.columns())
                    .all(|column| entries(group.bucket(table.base, column)) == CELLS),
                "overflow of a group that is not full"
            );
            beyond += 1;
        }
    }
    assert_eq!(inside + beyond, table.len());
}

/// Shapes with the smallest levels and chunks that work.
fn shape() -> impl Strategy<Value = (u32, u32)> {
    (1..4_u32, 0..6_u32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn agrees_with_a_plain_map(
        (base, chunk_bits) in shape(),
        steps in proptest::collection::vec(step(2_000), 1..20),
        seed in any::<u64>(),
    ) {
        let table = Table::with_shape(base, chunk_bits, FixedState::with_seed(seed));
        agree(&table, 2_000, &steps);
    }

    #[test]
    fn agrees_with_a_plain_map_when_hashes_collide(
        (base, chunk_bits) in shape(),
        steps in proptest::collection::vec(step(600), 1..12),
        mask in any::<u8>(),
    ) {
        let table = Table::with_shape(base, chunk_bits, Poor { mask: u64::from(mask) });
        agree(&table, 600, &steps);
    }
}

#[test]
fn memory_follows_the_entries_both_ways() {
    let table = Table::with_shape(1, 4, FixedState::with_seed(7));
    let chunks = || table.chunks.load().len();
    assert_eq!(chunks(), 1);
    for key in 1..=100_000 {
        table.update(key, |value| *value = Some(key));
        let full = table.len() as u64 * 5 / 4 / CELLS as u64;
        let buckets = table.state().buckets();
        assert!(
            buckets <= full.max(16) + 1,
            "{buckets} buckets for {key} entries"
        );
    }
    let many = chunks();
    assert_eq!(many as u64, table.state().buckets().div_ceil(16));
    check(&table);
    table.retain(|key, _| key % 10 == 0);
    assert_eq!(table.len(), 10_000);
    assert!(
        chunks() <= many / 8,
        "{} of {many} chunks are left",
        chunks()
    );
    check(&table);
    table.retain(|_, _| false);
    assert_eq!((table.len(), chunks()), (0, 1));
    assert_eq!(table.state(), State::first(1));
}

#[test]
fn few_entries_overflow() {
    let table = Table::new(7);
    for key in 1..=300_000 {
        table.update(key, |value| *value = Some(key));
    }
    let beyond: usize = table
        .stripes
        .iter()
        .map(|stripe| stripe.lock().overflow.len())
        .sum();
    assert!(beyond < 3_000, "{beyond} of 300,000 entries overflowed");
}

#[test]
fn a_change_that_panics_leaves_the_table_usable() {
    let table = Table::with_shape(1, 2, FixedState::with_seed(7));
    table.update(1, |value| *value = Some(10));
    let panics = std::panic::AssertUnwindSafe(|| {
        table.update(1, |value| {
            *value = None;
            panic!("as a change might");
        })
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(table.read(1, |value| value), Some(10));
    table.update(1, |value| *value = Some(11));
    assert_eq!(table.read(1, |value| value), Some(11));
}

/// Entries that stay, with values that identify their keys, are found at any time, whatever happens to the
/// others; a reader sees all of what a change does, or nothing.
#[test]
fn readers_find_what_stays_while_the_table_grows_and_shrinks() {
    const STAYING: u64 = 500;
    const ROUNDS: u64 = 30;
    let table = Table::with_shape(2, 3, FixedState::with_seed(7));
    let beside: Vec<AtomicU64> = (0..=STAYING).map(AtomicU64::new).collect();
    let set = |key: u64, count: u64| {
        table.update(key, |value| {
            beside[key as usize].store(key << 32 | count, Ordering::Relaxed);
            *value = Some(key << 32 | count);
        });
    };
    for key in 1..=STAYING {
        set(key, 0);
    }
    let writing = AtomicBool::new(true);
    let reads = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3_u64)
            .map(|reader| {
                let (table, beside, writing) = (&table, &beside, &writing);
                scope.spawn(move || {
                    let mut reads = 0;
                    let mut newest = vec![0; STAYING as usize + 1];
                    while writing.load(Ordering::Relaxed) || reads < 10_000 {
                        let key = (reads * 7 + reader) % STAYING + 1;
                        let (value, seen) = table.read(key, |value| {
                            (value, beside[key as usize].load(Ordering::Relaxed))
                        });
                        assert_eq!(value, Some(seen));
                        assert_eq!(seen >> 32, key);
                        assert!(seen >= newest[key as usize], "an older value came back");
                        newest[key as usize] = seen;
                        let volatile = 1_000 + reads % 40_000;
                        let found = table.read(volatile, |value| value);
                        assert!(found.is_none_or(|value| value == volatile));
                        table.prefetch(key..key + 40);
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        let mut writers: Vec<_> = (0..2_u64)
            .map(|writer| {
                let table = &table;
                scope.spawn(move || {
                    // Even and odd keys, so that both write everywhere.
                    let keys = || (1_000..41_000).filter(move |key| key % 2 == writer);
                    for _ in 0..ROUNDS {
                        for key in keys() {
                            table.update(key, |value| *value = Some(key));
                        }
                        for key in keys().step_by(3) {
                            table.update(key, Option::take);
                        }
                    }
                })
            })
            .collect();
        writers.push(scope.spawn(|| {
            for count in 1..=ROUNDS * 3 {
                for key in 1..=STAYING {
                    set(key, count);
                }
                table.retain(|key, _| key <= STAYING);
            }
        }));
        for writer in writers {
            writer.join().unwrap();
        }
        writing.store(false, Ordering::Relaxed);
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum::<u64>()
    });
    assert!(reads >= 30_000);
    check(&table);
    table.retain(|key, _| key <= STAYING);
    assert_eq!(table.len() as u64, STAYING);
    check(&table);
}
