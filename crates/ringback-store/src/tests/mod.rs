//! The whole store, compared with a naive model, through crashes, failing files and damage.

mod backup;
mod battery;
mod damage;
mod failing_files;
mod formats;
mod full_disk;
mod inspect;
mod opening;
mod properties;
mod purge;

use std::path::Path;

use proptest::test_runner::Config as ProptestConfig;
use ringback_engine::{AnswerId, Call, Change, Journal, KeptAnswer, LogPlace};
use ringback_routing::{AgentId, CallStatus, E164, EnvironmentId, Timestamp};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{Store, StoreSettings};

/// Settings with which generations turn over all the time.
fn tiny() -> StoreSettings {
    StoreSettings {
        generation_bytes: 2_000,
        ..StoreSettings::default()
    }
}

/// A temporary directory, in memory if the system offers that: crashes are simulated, and the many syncs of these
/// tests would only wait for the disk.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// How many random cases to try: `PROPTEST_CASES`, or few.
fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: match std::env::var_os("PROPTEST_CASES") {
            Some(_) => ProptestConfig::default().cases,
            None => 32,
        },
        ..ProptestConfig::default()
    }
}

/// Opens a store that ought to open.
fn open(directory: &Path) -> Store {
    Store::open(directory, tiny()).unwrap()
}

/// A call derived from a number.
fn call(number: u64) -> Call {
    Call {
        environment: EnvironmentId(Uuid::from_u128(u128::from(number % 2))),
        sid: match number % 7 {
            // Longer than the trees allow for a key.
            0 if number == 49 => format!("{number}-{}", "long".repeat(20_000)).into(),
            0 => format!("{number}-{}", "long".repeat(300)).into(),
            _ => format!("call-{number}").into(),
        },
        agent: AgentId(Uuid::from_u128(u128::from(number % 3))),
        contact: E164::from_digits(5_511_900_000_000 + number % 5).unwrap(),
        from: (!number.is_multiple_of(4))
            .then(|| E164::from_digits(5_511_300_000_000 + number % 4).unwrap()),
        status: CallStatus::Initiated,
        started_at: Timestamp::from_millis(i64::try_from(number / 2).unwrap() - 3),
    }
}

/// The change that records such a call.
fn put(number: u64) -> Change {
    Change::CallPut(call(number))
}

#[test]
fn the_latest_place_in_a_shared_log_is_kept() {
    let directory = scratch();
    let place = |sequence| LogPlace {
        cluster: Uuid::from_u128(5),
        sequence,
        chain: [6; 16],
    };
    let steps = [None, Some(place(1)), Some(place(1 << 40)), None];
    let mut before = None;
    for next in steps {
        let mut store = open(directory.path());
        assert_eq!(store.archive().place().unwrap(), before);
        store.commit(&[put(1), Change::Placed(next)]).unwrap();
        assert_eq!(store.archive().place().unwrap(), next);
        before = next;
        if next.is_none() {
            store.close().unwrap();
        } else {
            store.abandon();
        }
    }
}

#[test]
fn answers_that_are_over_are_removed_unless_their_name_was_used_again() {
    let directory = scratch();
    let kept = |id, at| KeptAnswer {
        id: AnswerId([id; 16]),
        at: Timestamp::from_millis(at),
        request: [0; 16],
        answer: vec![id],
    };
    let put = |id, at| Change::Answered(Box::new(kept(id, at)));
    let mut store = open(directory.path());
    store
        .commit(&[put(1, 9), put(2, 10), put(3, 9), put(3, 11)])
        .unwrap();
    for _ in 0..2 {
        let archive = store.archive();
        archive.tidy(Timestamp::from_millis(10)).unwrap();
        let found = |id| archive.kept_answer(AnswerId([id; 16])).unwrap();
        assert_eq!(found(1), None);
        assert_eq!(found(2), Some(kept(2, 10)));
        assert_eq!(found(3), Some(kept(3, 11)));
        drop(archive);
        store.close().unwrap();
        store = open(directory.path());
    }
    store.close().unwrap();
    let records = Store::info(directory.path()).unwrap().records;
    assert_eq!(records.kept_answers, 2);
}

#[test]
fn calls_survive_closing_and_crashing() {
    let directory = scratch();
    for round in 0..6 {
        let mut store = open(directory.path());
        let archive = store.archive();
        for number in 0..round * 50 {
            let found = archive.call(call(number).environment, &call(number).sid);
            assert_eq!(found.unwrap(), Some(call(number)));
        }
        for number in round * 50..(round + 1) * 50 {
            store.commit(&[put(number)]).unwrap();
        }
        if round % 2 == 0 {
            store.abandon();
        } else {
            store.close().unwrap();
        }
    }
}

#[test]
fn verifying_counts_every_call_wherever_it_is() {
    let directory = scratch();
    let mut store = open(directory.path());
    for number in 0..100 {
        store.commit(&[put(number)]).unwrap();
    }
    assert_eq!(store.verify().unwrap(), 100);
    store.close().unwrap();
    assert_eq!(open(directory.path()).verify().unwrap(), 100);
}

#[test]
fn closing_leaves_nothing_to_replay() {
    let directory = scratch();
    let mut store = open(directory.path());
    for number in 0..100 {
        store.commit(&[put(number)]).unwrap();
    }
    store.close().unwrap();
    let mut segments = std::fs::read_dir(directory.path().join("log")).unwrap();
    assert!(segments.next().is_none());
    assert_eq!(open(directory.path()).verify().unwrap(), 100);
}
