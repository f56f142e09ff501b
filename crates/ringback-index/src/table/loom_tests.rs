//! A table of two buckets of two cells, in every order of what a few threads do to it.
//!
//! Readers come last, in threads of their own: loom tries another order only where an access follows one of
//! another thread, and it remembers only the latest of those.

use std::hash::Hasher;
use std::sync::Arc;

use loom::thread::{JoinHandle, spawn};

use super::*;
use crate::sync::in_every_order;

/// A hash that is the key's lowest byte, at the top.
#[derive(Clone, Copy)]
struct Plain;

impl BuildHasher for Plain {
    type Hasher = PlainHasher;

    fn build_hasher(&self) -> PlainHasher {
        PlainHasher(0)
    }
}

/// What [`Plain`] builds.
struct PlainHasher(u64);

impl Hasher for PlainHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are integers");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key << 56;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A table with these keys, each with itself as its value.
fn table(keys: &[u64]) -> Arc<Table<Plain>> {
    let table = Table::with_shape(1, 0, Plain);
    for key in keys {
        set(&table, *key, *key);
    }
    Arc::new(table)
}

/// Sets a key's value.
fn set(table: &Table<Plain>, key: u64, value: u64) {
    table.update(key, |known| *known = Some(value));
}

/// The value of a key.
fn get(table: &Table<Plain>, key: u64) -> Option<u64> {
    table.read(key, |value| value)
}

/// Runs this with the shared table in a thread of its own.
fn meanwhile<S: Send + Sync + 'static>(
    shared: &Arc<S>,
    run: impl FnOnce(&S) + Send + 'static,
) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    spawn(move || run(&shared))
}

/// Waits for the threads, none of which may panic.
fn join<const N: usize>(threads: [JoinHandle<()>; N]) {
    for thread in threads {
        thread.join().expect("it ends well");
    }
}

#[test]
fn an_entry_is_read_whole_or_known_to_be_disturbed() {
    type Entry = (Stripe, [AtomicU64; 2]);
    let read = |(stripe, cells): &Entry| {
        stripe.undisturbed(|| {
            [
                cells[0].load(Ordering::Relaxed),
                cells[1].load(Ordering::Relaxed),
            ]
        })
    };
    in_every_order(3, move || {
        let entry: Arc<Entry> = Arc::default();
        let writer = meanwhile(&entry, |(stripe, cells)| {
            for value in 1..=2 {
                let held = stripe.lock();
                let writing = held.writing();
                cells[0].store(value, Ordering::Relaxed);
                cells[1].store(value, Ordering::Relaxed);
                drop(writing);
            }
        });
        let reader = meanwhile(&entry, move |entry| {
            let mut newest = 0;
            for _ in 0..2 {
                if let Some([first, second]) = read(entry) {
                    assert_eq!(first, second, "a torn entry");
                    assert!(first >= newest, "an older entry came back");
                    newest = first;
                }
            }
        });
        join([writer, reader]);
        assert_eq!(read(&entry), Some([2, 2]));
    });
}

#[test]
fn what_is_changed_beside_a_value_is_seen_with_it() {
    in_every_order(3, || {
        let shared = Arc::new((table(&[1]), AtomicU64::new(1)));
        let writer = meanwhile(&shared, |(table, beside)| {
            table.update(1, |value| {
                beside.store(2, Ordering::Relaxed);
                *value = Some(2);
            });
        });
        let reader = meanwhile(&shared, |(table, beside)| {
            let seen = table.read(1, |value| (value, beside.load(Ordering::Relaxed)));
            assert!(matches!(seen, (Some(1), 1) | (Some(2), 2)), "{seen:?}");
        });
        join([writer, reader]);
    });
}

#[test]
fn what_stays_is_found_while_its_neighbors_come_and_go() {
    in_every_order(3, || {
        let table = table(&[1, 2]);
        // The removal moves the second entry of the group into the first one's cell.
        let writer = meanwhile(&table, |table| {
            assert_eq!(table.update(1, Option::take), Some(1));
            set(table, 3, 3);
        });
        let reader = meanwhile(&table, |table| {
            assert_eq!(get(table, 2), Some(2));
            assert!(get(table, 3).is_none_or(|value| value == 3));
        });
        join([writer, reader]);
        assert_eq!(
            [1, 2, 3].map(|key| get(&table, key)),
            [None, Some(2), Some(3)]
        );
        assert_eq!(table.len(), 2);
    });
}

#[test]
fn what_is_there_is_found_while_the_table_grows() {
    in_every_order(3, || {
        // The first two entries are of one group, which the fourth entry splits.
        let table = table(&[0x02, 0x40, 0x80]);
        assert_eq!(table.state(), State::first(1));
        let writer = meanwhile(&table, |table| set(table, 0x81, 0x81));
        let reader = meanwhile(&table, |table| {
            assert_eq!(get(table, 0x40), Some(0x40));
            assert_eq!(get(table, 0x80), Some(0x80));
        });
        join([writer, reader]);
        assert_ne!(table.state(), State::first(1));
        for key in [0x02, 0x40, 0x80, 0x81] {
            assert_eq!(get(&table, key), Some(key));
        }
    });
}

#[test]
fn what_stays_is_found_while_the_table_shrinks_and_gives_memory_back() {
    in_every_order(3, || {
        let table = table(&[0x02, 0x40, 0x80, 0x81]);
        assert!(table.chunks.load().len() > 2);
        let sweeper = meanwhile(&table, |table| table.retain(|key, _| key == 0x40));
        let reader = meanwhile(&table, |table| {
            assert_eq!(get(table, 0x40), Some(0x40));
        });
        join([sweeper, reader]);
        assert_eq!(get(&table, 0x40), Some(0x40));
        assert_eq!((table.len(), table.chunks.load().len()), (1, 2));
    });
}

#[test]
fn writers_lose_nothing_while_the_table_grows() {
    // One thread enters beyond the cells of its group; the other into the same group, into another, or when the
    // table is full already, so that both want it to grow.
    let cases: [(&[u64], _); 3] = [
        (&[1, 2], [3, 0x40]),
        (&[1, 2], [3, 0x80]),
        (&[1, 2, 0x81], [3, 0xc0]),
    ];
    for (there, new) in cases {
        in_every_order(3, move || {
            let table = table(there);
            join(new.map(|key| meanwhile(&table, move |table| set(table, key, key))));
            for key in there.iter().copied().chain(new) {
                assert_eq!(get(&table, key), Some(key));
            }
            assert_eq!(table.len(), there.len() + new.len());
        });
    }
}
