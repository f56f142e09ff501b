//! A disk that is really full; the test needs the right to mount one.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ringback_engine::{Change, Journal, JournalError};
use ringback_testkit::SmallDisk;

use super::put;
use crate::{Store, StoreSettings};
use ringback_testkit::{Model, Shown};

#[test]
fn writes_are_refused_while_the_disk_is_full_and_resume_without_a_restart() {
    let directory = super::scratch();
    let _disk = SmallDisk::mount(directory.path(), 4_096);
    let path = directory.path().join("store");
    let ballast = directory.path().join("ballast");
    fs::write(&ballast, vec![0; 2 << 20]).unwrap();
    let settings = StoreSettings {
        generation_bytes: 100_000,
        ..StoreSettings::default()
    };
    let mut store = Store::open(&path, settings.clone()).unwrap();
    let mut model = Model::default();
    let mut number = 0;
    let mut commit = |store: &mut Store, model: &mut Model| {
        let changes: Vec<Change> = (number..number + 20)
            .filter(|number| number % 7 > 0)
            .map(put)
            .collect();
        let committed = store.commit(&changes);
        if committed.is_ok() {
            model.commit(&changes);
            number += 20;
        }
        committed
    };
    let refused = loop {
        if let Err(error) = commit(&mut store, &mut model) {
            break error;
        }
    };
    assert!(matches!(refused, JournalError::Unavailable(_)));
    assert_eq!(Shown::read(&*store.archive()), model.shown());
    // Nothing changes while it is full.
    for _ in 0..200 {
        if store.recover().is_ok() {
            let _ = commit(&mut store, &mut model);
        }
        assert_eq!(Shown::read(&*store.archive()), model.shown());
    }
    fs::remove_file(ballast).unwrap();
    let freed = Instant::now();
    loop {
        if store.recover().is_ok() && commit(&mut store, &mut model).is_ok() {
            break;
        }
        assert!(
            freed.elapsed() < Duration::from_secs(60),
            "writing does not resume"
        );
        thread::yield_now();
    }
    for _ in 0..20 {
        commit(&mut store, &mut model).unwrap();
    }
    assert_eq!(Shown::read(&*store.archive()), model.shown());
    store.abandon();
    drop(store);
    let mut store = Store::open(&path, settings).unwrap();
    assert_eq!(Shown::read(&*store.archive()), model.shown());
    store.abandon();
}
