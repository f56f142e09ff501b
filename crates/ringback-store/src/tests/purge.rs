//! Erased contacts leave every file of the directory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringback_engine::{Call, CallsSwept, Change, Journal, RoutedCall, RoutedDecision, RoutedEvent};
use ringback_routing::{AgentId, Caller, E164, EnvironmentId, Outcome, Reason, Target, Timestamp};
use ringback_testkit::{Model, Shown};
use uuid::Uuid;

use super::{call, open, tiny};
use crate::{Store, StoreSettings};

/// The contact that is erased.
const ERASED: u64 = 4_930_901_820;

/// A call to a contact, whose id has the contact's number.
fn call_to(digits: u64, index: u64) -> Change {
    Change::CallPut(Call {
        sid: format!("{index}@+{digits}").into(),
        contact: E164::from_digits(digits).unwrap(),
        environment: EnvironmentId(Uuid::nil()),
        ..call(index)
    })
}

/// Files that hold the number: as text, as in the tables, or as in the log.
fn files_with(directory: &Path, digits: u64) -> Vec<String> {
    let text = digits.to_string().into_bytes();
    let table = digits.to_be_bytes()[1..].to_vec();
    let log = postcard::to_stdvec(&digits).unwrap();
    let mut found = Vec::new();
    for path in super::damage::files(directory) {
        // A file may be removed while this runs.
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
    // The number used to stay in table files, in keys and in call ids, and in the log.
    let directory = super::scratch();
    let settings = |erase_after| StoreSettings {
        erase_after,
        ..tiny()
    };
    let patient = settings(Duration::from_secs(3_600));
    let hurried = settings(Duration::ZERO);
    let mut model = Model::default();
    let mut commits = Vec::new();
    for index in 0..200 {
        let changes = vec![call_to(ERASED + index % 5 * 1_000, index)];
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
    // A crash does not forget the waiting erasure.
    store.abandon();
    drop(store);
    let mut store = Store::open(directory.path(), hurried.clone()).unwrap();
    wait_purged(&store);
    assert_eq!(files_with(directory.path(), ERASED), Vec::<String>::new());
    assert!(!files_with(directory.path(), ERASED + 1_000).is_empty());
    assert_eq!(Shown::read(&*store.archive()), model.shown());

    // And while the store is in use.
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
    assert_eq!(Shown::read(&*store.archive()), model.shown());
    store.abandon();
    drop(store);
    let mut store = open(directory.path());
    assert_eq!(Shown::read(&*store.archive()), model.shown());
    store.abandon();
}

/// Settings by which erasures are carried out at once.
fn at_once() -> StoreSettings {
    StoreSettings {
        erase_after: Duration::ZERO,
        ..StoreSettings::default()
    }
}

/// The change that forgets a contact.
fn forget(digits: u64) -> Change {
    Change::ContactForgotten(
        EnvironmentId(Uuid::nil()),
        E164::from_digits(digits).unwrap(),
    )
}

/// The decision on a call of a contact over HTTP.
fn routed(digits: u64, sid_hash: u64) -> Change {
    let contact = E164::from_digits(digits).unwrap();
    let decision = RoutedDecision {
        outcome: Outcome::Callback,
        reason: Reason::ReturnedCall,
        agent: None,
        source_agent: None,
        call: Some(Call {
            sid: format!("out@+{digits}").into(),
            contact,
            ..call(1)
        }),
        targets: vec![Target {
            uri: "sip:{caller}@192.0.2.1".to_owned(),
            priority: 0,
            weight: 0,
        }],
        dialed: None,
        caller: Some(Caller::Number(contact)),
    };
    Change::Routed(vec![RoutedEvent::Routed(RoutedCall {
        environment: EnvironmentId(Uuid::nil()),
        sid_hash,
        at: Timestamp::from_millis(5),
        agent: Some(AgentId(Uuid::nil())),
        source: None,
        decision: Some(Arc::new(decision)),
    })])
}

#[test]
fn what_was_decided_for_an_erased_contact_is_kept_without_its_number() {
    // The answer to `POST /route` used to be kept as text, with the number in it, for a day after an erasure.
    let directory = super::scratch();
    let mut model = Model::default();
    let mut store = Store::open(directory.path(), at_once()).unwrap();
    for changes in [
        vec![routed(ERASED, 1), routed(ERASED + 1_000, 2)],
        vec![routed(ERASED, 3), forget(ERASED), routed(ERASED + 1_000, 4)],
    ] {
        store.commit(&changes).unwrap();
        model.commit(&changes);
    }
    // It is hidden at once, the others are shown, and soon it is in no file.
    assert_eq!(Shown::read(&*store.archive()), model.shown());
    wait_purged(&store);
    assert_eq!(files_with(directory.path(), ERASED), Vec::<String>::new());
    assert!(!files_with(directory.path(), ERASED + 1_000).is_empty());
    assert_eq!(Shown::read(&*store.archive()), model.shown());
    store.abandon();
    drop(store);
    let mut store = open(directory.path());
    assert_eq!(Shown::read(&*store.archive()), model.shown());
    store.abandon();
}

/// The files of tables, each with the folder of its part.
fn table_files(directory: &Path) -> BTreeSet<(PathBuf, PathBuf)> {
    let files = super::damage::files(&directory.join("tables"));
    let of_part = |path: PathBuf| {
        let folder = path.parent()?;
        let part = folder.ends_with("tables").then(|| folder.parent())??;
        Some((part.to_owned(), path))
    };
    files.into_iter().filter_map(of_part).collect()
}

#[test]
fn an_erasure_rewrites_only_the_parts_that_hold_the_contact() {
    // Every tree used to be rewritten as a whole, so one erasure cost as much as rewriting all data.
    let directory = super::scratch();
    let mut store = Store::open(directory.path(), at_once()).unwrap();
    let commits: Vec<Vec<Change>> = (0..40)
        .map(|commit| {
            let places = commit * 50..(commit + 1) * 50;
            places
                .map(|index| call_to(ERASED + index * 1_000, index))
                .collect()
        })
        .collect();
    for changes in &commits {
        store.commit(changes).unwrap();
    }
    store.close().unwrap();
    let before = table_files(directory.path());
    let parts: BTreeSet<&PathBuf> = before.iter().map(|(part, _)| part).collect();
    // Of `decisions` only the part that holds the table's sequence.
    assert_eq!(parts.len(), 16 + 16 + 1 + 1);
    let holding = files_with(directory.path(), ERASED);
    let holding: BTreeSet<&PathBuf> = before
        .iter()
        .filter(|(_, path)| {
            let path = path.to_str().unwrap();
            holding
                .iter()
                .any(|found| found.starts_with(&format!("{path} ")))
        })
        .map(|(part, _)| part)
        .collect();
    assert_eq!(holding.len(), 2, "one part of the calls, one of their ids");

    let mut store = Store::open(directory.path(), at_once()).unwrap();
    store.commit(&[forget(ERASED)]).unwrap();
    // Commits go on meanwhile.
    let mut extra = 10_000;
    while store.has_erasures_waiting() {
        store.commit(&[call_to(ERASED + 7 + extra, extra)]).unwrap();
        extra += 1;
    }
    let after = table_files(directory.path());
    let rewritten: BTreeSet<&PathBuf> = before.difference(&after).map(|(part, _)| part).collect();
    assert_eq!(rewritten, holding);
    assert_eq!(files_with(directory.path(), ERASED), Vec::<String>::new());
    assert_eq!(store.verify().unwrap(), 2_000 - 1 + extra - 10_000);
    store.abandon();
}

#[test]
fn calls_dropped_before_an_erasure_leave_the_files_with_it() {
    let directory = super::scratch();
    let mut store = Store::open(directory.path(), at_once()).unwrap();
    let changes: Vec<Change> = (0..50)
        .map(|index| call_to(ERASED + index % 2 * 1_000, index))
        .collect();
    store.commit(&changes).unwrap();
    store.close().unwrap();
    let mut store = Store::open(directory.path(), at_once()).unwrap();
    let Change::ContactForgotten(environment, contact) = forget(ERASED) else {
        unreachable!("that is what it makes");
    };
    let swept = Change::CallsSwept(CallsSwept {
        environment,
        before: Timestamp::from_millis(i64::MAX),
        contacts: vec![contact],
    });
    store.commit(&[swept]).unwrap();
    assert_eq!(store.verify().unwrap(), 25);
    store.close().unwrap();
    assert!(!files_with(directory.path(), ERASED).is_empty());
    let mut store = Store::open(directory.path(), at_once()).unwrap();
    store.commit(&[forget(ERASED)]).unwrap();
    wait_purged(&store);
    assert_eq!(files_with(directory.path(), ERASED), Vec::<String>::new());
    store.abandon();
}
