//! Every operation on the files of the log fails once, or from some point on.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ringback_engine::{Change, Journal, JournalError};

use super::{put, tiny};
use crate::Store;
use crate::files::{AppendFile, Files, SystemFiles};
use ringback_testkit::{Model, Shown};

/// How a file operation fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Nothing is done.
    Refused,
    /// Writes are done in part; other operations not at all.
    Torn,
    /// The operation is done, but reported as failed.
    Unreported,
}

/// Which operations fail.
#[derive(Clone)]
struct Plan {
    /// The number of operations before the first one that fails.
    countdown: Arc<AtomicI64>,
    /// How many operations fail from there on.
    failures: i64,
    /// How these operations fail.
    fault: Fault,
}

impl Plan {
    /// Whether this operation fails.
    fn fails(&self) -> bool {
        self.is_failing(self.countdown.fetch_sub(1, Ordering::SeqCst))
    }

    /// Whether an operation fails with this many left before the first one that does.
    fn is_failing(&self, left: i64) -> bool {
        left <= 0 && left > -self.failures
    }

    /// Runs an operation or fails.
    fn run<T>(&self, operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if !self.fails() {
            return operation();
        }
        if self.fault == Fault::Unreported {
            drop(operation());
        }
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
}

/// Files that fail as planned.
struct FailingFiles(Plan);

/// A file that fails as planned.
struct FailingFile(Plan, Box<dyn AppendFile>);

impl Files for FailingFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let file = self.0.run(|| SystemFiles.create(path))?;
        Ok(Box::new(FailingFile(self.0.clone(), file)))
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        self.0.run(|| SystemFiles.truncate(path, length))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.run(|| SystemFiles.remove(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.0.run(|| SystemFiles.sync_directory(path))
    }
}

impl AppendFile for FailingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self(plan, file) = self;
        if plan.fault == Fault::Torn && plan.is_failing(plan.countdown.load(Ordering::SeqCst)) {
            file.append(&bytes[..bytes.len() / 2])?;
        }
        plan.run(|| file.append(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        let Self(plan, file) = self;
        plan.run(|| file.sync())
    }
}

/// Commits, recovering from failures, and returns whether anything failed.
fn run(store: &mut Store, commits: &[Vec<Change>], model: &mut Model, attempts: i64) -> bool {
    let mut failed = false;
    for commit in commits {
        let mut committed = store.commit(commit);
        for _ in 0..attempts {
            if committed.is_ok() {
                break;
            }
            failed = true;
            assert!(matches!(committed, Err(JournalError::Unavailable(_))));
            // Nothing of the commit is shown, and no commit is accepted before recovery.
            assert_eq!(Shown::read(&*store.archive()), model.shown());
            assert!(store.commit(commit).is_err());
            if store.recover().is_ok() {
                committed = store.commit(commit);
            }
        }
        if committed.is_err() {
            return true;
        }
        model.commit(commit);
    }
    failed
}

/// Commits of one and of several calls.
fn commits() -> Vec<Vec<Change>> {
    (0..9)
        .map(|number| (number * 3..number * 3 + 1 + number % 3).map(put).collect())
        .collect()
}

/// Opens a store with failing files.
fn open_failing(directory: &Path, countdown: i64, failures: i64, fault: Fault) -> Store {
    let plan = Plan {
        countdown: Arc::new(AtomicI64::new(countdown)),
        failures,
        fault,
    };
    Store::open_with(directory, &tiny(), Box::new(FailingFiles(plan))).unwrap()
}

#[test]
fn after_any_failure_writing_resumes_and_nothing_failed_comes_back() {
    for fault in [Fault::Refused, Fault::Torn, Fault::Unreported] {
        for failures in [1, 3] {
            for countdown in 0.. {
                let directory = super::scratch();
                let mut store = open_failing(directory.path(), countdown, failures, fault);
                let mut model = Model::default();
                let failed = run(&mut store, &commits(), &mut model, failures + 1);
                assert_eq!(model.shown(), Model::after(&commits()).shown());
                model.assert_shown_by(&*store.archive());
                store.abandon();
                drop(store);
                model.assert_shown_by(&*super::open(directory.path()).archive());
                if !failed {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_crash_after_any_failure_leaves_what_was_acknowledged() {
    for fault in [Fault::Refused, Fault::Torn, Fault::Unreported] {
        // One failure is undone at once. After lasting failure the commit may come back, but only whole.
        for failures in [1, i64::MAX] {
            for countdown in 0.. {
                let directory = super::scratch();
                let mut store = open_failing(directory.path(), countdown, failures, fault);
                let mut model = Model::default();
                let failed = run(&mut store, &commits(), &mut model, 0);
                store.abandon();
                drop(store);
                let store = super::open(directory.path());
                let shown = Shown::read(&*store.archive());
                if shown != model.shown() {
                    assert_eq!(failures, i64::MAX, "an undone commit came back");
                    let with_one_more = commits().iter().any(|commit| {
                        let mut with = model.clone();
                        with.commit(commit);
                        with.shown() == shown
                    });
                    assert!(
                        with_one_more,
                        "neither the acknowledged state nor one commit more"
                    );
                }
                if !failed {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_segment_that_cannot_be_removed_is_no_obstacle() {
    let directory = super::scratch();
    let mut store = super::open(directory.path());
    for number in 0..50 {
        store.commit(&[put(number)]).unwrap();
        // Another process cleans up.
        for entry in fs::read_dir(directory.path().join("log")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none() {
                fs::remove_file(path).unwrap();
            }
        }
    }
    store.close().unwrap();
}
