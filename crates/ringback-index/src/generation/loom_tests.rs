//! Threads that enter answers and one that looks for them, in every order.

use std::sync::Arc;

use loom::thread::{JoinHandle, spawn};

use crate::Generation;
use crate::sync::{AtomicU64, Ordering, in_every_order};

/// Fingerprints whose search starts in the same line.
const KEYS: [u64; 2] = [5, 6];

/// Runs this with the shared value in a thread of its own.
fn meanwhile<S: Send + Sync + 'static, R: 'static>(
    shared: &Arc<S>,
    run: impl FnOnce(&S) -> R + Send + 'static,
) -> JoinHandle<R> {
    let shared = Arc::clone(shared);
    spawn(move || run(&shared))
}

#[test]
fn two_that_enter_the_same_agree_and_who_looks_sees_nothing_or_the_same() {
    in_every_order(3, || {
        let generation = Arc::new(Generation::new(1, || {}));
        let threads = [10, 20].map(|answer| {
            meanwhile(&generation, move |generation| {
                generation.insert(KEYS[0], answer).unwrap_or(answer)
            })
        });
        let reader = meanwhile(&generation, |generation| generation.find(KEYS[0]));
        let [first, second] = threads.map(|thread| thread.join().unwrap());
        let seen = reader.join().unwrap();
        assert_eq!(first, second);
        assert!(seen.is_none_or(|seen| seen == first));
        assert_eq!(generation.find(KEYS[0]), Some(first));
        assert_eq!(generation.used(), 1);
    });
}

#[test]
fn different_ones_that_are_entered_at_once_are_all_found() {
    in_every_order(3, || {
        let generation = Arc::new(Generation::new(1, || {}));
        let threads = KEYS.map(|key| {
            meanwhile(&generation, move |generation| {
                assert_eq!(generation.insert(key, 10 * key), None);
            })
        });
        let reader = meanwhile(&generation, |generation| {
            KEYS.map(|key| generation.find(key))
        });
        for thread in threads {
            thread.join().unwrap();
        }
        let seen = reader.join().unwrap();
        for (key, seen) in KEYS.into_iter().zip(seen) {
            assert!(seen.is_none_or(|seen| seen == 10 * key));
            assert_eq!(generation.find(key), Some(10 * key));
        }
        assert_eq!(generation.used(), 2);
    });
}

/// An answer refers to data that was stored before the answer was entered.
#[test]
fn who_sees_an_answer_sees_what_it_names() {
    in_every_order(3, || {
        let shared = Arc::new((Generation::new(1, || {}), [0, 0].map(AtomicU64::new)));
        let is_named = |named: &[AtomicU64; 2], answer: u64| {
            named[answer as usize - 1].load(Ordering::Relaxed) == answer
        };
        let writers = [1, 2].map(|answer| {
            meanwhile(&shared, move |(generation, named)| {
                named[answer as usize - 1].store(answer, Ordering::Relaxed);
                let known = generation.insert(KEYS[0], answer);
                assert!(known.is_none_or(|known| is_named(named, known)));
            })
        });
        let reader = meanwhile(&shared, move |(generation, named)| {
            let seen = generation.find(KEYS[0]);
            assert!(seen.is_none_or(|seen| is_named(named, seen)));
        });
        for thread in writers.into_iter().chain([reader]) {
            thread.join().unwrap();
        }
    });
}
