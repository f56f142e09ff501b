//! Erased contacts leave every file of the directory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ringback_engine::{Call, Change, Journal};
use ringback_routing::{E164, EnvironmentId};
use uuid::Uuid;

use super::model::Model;
use super::{call, open, tiny};
use crate::{Store, StoreSettings};

/// The contact that is erased.
const ERASED: u64 = 4_930_901_820;

/// A call to a contact, whose id has the contact's number.
fn call_to(digits: u64, place: u64) -> Change {
    Change::CallPut(Call {
        sid: format!("{place}@+{digits}"),
        contact: E164::from_digits(digits).unwrap(),
        environment: EnvironmentId(Uuid::nil()),
        ..call(place)
    })
}

/// Files in which the number stands: as text, as it is stored in tables, or as in the log.
fn files_with(directory: &Path, digits: u64) -> Vec<String> {
    let text = digits.to_string().into_bytes();
    let table = digits.to_be_bytes()[1..].to_vec();
    let log = postcard::to_stdvec(&digits).unwrap();
    let mut found = Vec::new();
    for path in super::damage::files(directory) {
        // A file may go while it is looked at.
        let bytes = fs::read(&path).unwrap_or_default();
        for needle in [&text, &table, &log] {
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(format!("{} has {needle:02x?}", path.display()));
            }
        }
    }
    found
}

/// Waits until no erasure is waiting.
fn wait_purged(store: &Store) {
    while store.has_erasures_waiting() {
        std::thread::yield_now();
    }
}

#[test]
fn an_erased_number_leaves_every_file() {
    // The number used to stay in table files as bytes of keys and in call ids, and in the log.
    let directory = super::scratch();
    let settings = |erase_after| StoreSettings {
        erase_after,
        ..tiny()
    };
    let patient = settings(Duration::from_secs(3_600));
    let hurried = settings(Duration::ZERO);
    let mut model = Model::default();
    let mut commits = Vec::new();
    for place in 0..200 {
        let changes = vec![call_to(ERASED + place % 5 * 1_000, place)];
        model.commit(&changes);
        commits.push(changes);
    }
    let mut store = Store::open(directory.path(), patient.clone()).unwrap();
    for changes in &commits {
        store.commit(changes).unwrap();
    }
    store.close().unwrap();
    assert!(!files_with(directory.path(), ERASED).is_empty());

    let erasure = [Change::ContactForgotten(
        EnvironmentId(Uuid::nil()),
        E164::from_digits(ERASED).unwrap(),
    )];
    let mut store = Store::open(directory.path(), patient).unwrap();
    store.commit(&erasure).unwrap();
    model.commit(&erasure);
    assert!(!files_with(directory.path(), ERASED).is_empty());
    // What is due is not forgotten in a crash.
    store.abandon();
    drop(store);
    let mut store = Store::open(directory.path(), hurried.clone()).unwrap();
    wait_purged(&store);
    assert_eq!(files_with(directory.path(), ERASED), Vec::<String>::new());
    assert!(!files_with(directory.path(), ERASED + 1_000).is_empty());
    assert_eq!(Model::read(&*store.archive()), model);

    // And while it is served.
    let erasure = [Change::ContactForgotten(
        EnvironmentId(Uuid::nil()),
        E164::from_digits(ERASED + 1_000).unwrap(),
    )];
    store.commit(&erasure).unwrap();
    model.commit(&erasure);
    wait_purged(&store);
    assert_eq!(
        files_with(directory.path(), ERASED + 1_000),
        Vec::<String>::new()
    );
    assert_eq!(Model::read(&*store.archive()), model);
    store.abandon();
    drop(store);
    let mut store = open(directory.path());
    assert_eq!(Model::read(&*store.archive()), model);
    store.abandon();
}
