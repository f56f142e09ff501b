//! Any byte of what is stored is changed: it is noticed, or it changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use ringback_engine::{Archive, Change, Journal, JournalError};

use super::model::Model;
use super::{open, put, tiny};
use crate::files::SystemFiles;
use crate::log::Log;
use crate::{OpenStoreError, Store};

/// A log of several segments in this directory, and what was written to it.
fn write_log(directory: &Path) -> Vec<Vec<Change>> {
    let commits: Vec<Vec<Change>> = (8..14).map(|number| vec![put(number)]).collect();
    let mut log = open_log(directory, &mut Vec::new()).unwrap();
    for (index, commit) in commits.iter().enumerate() {
        log.append(commit).unwrap();
        if index % 2 == 1 {
            log.turn_over();
        }
    }
    commits
}

/// Opens a log and adds what it holds.
fn open_log(directory: &Path, found: &mut Vec<Vec<Change>>) -> Result<Log, JournalError> {
    Log::open(
        directory,
        Box::new(SystemFiles),
        Arc::default(),
        0,
        0,
        |record| {
            let changes = postcard::from_bytes(record.payload)
                .map_err(|error| record.damaged(error.to_string()))?;
            found.push(changes);
            Ok(())
        },
    )
}

/// All files beneath a directory, in a fixed order.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn any_changed_byte_of_the_log_is_reported_with_its_place() {
    let directory = super::scratch();
    write_log(directory.path());
    let paths = files(directory.path());
    assert_eq!(paths.len(), 3);
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        for offset in 0..bytes.len() {
            for mask in [1, 0x80, 0xFF, bytes[offset]] {
                if mask == 0 {
                    continue;
                }
                let mut damaged = bytes.clone();
                damaged[offset] ^= mask;
                fs::write(&path, &damaged).unwrap();
                let opened = open_log(directory.path(), &mut Vec::new()).map(drop);
                let Err(JournalError::Damaged(message)) = opened else {
                    panic!("byte {offset} of {}: {opened:?}", path.display());
                };
                assert!(message.contains(" at byte "), "{message}");
                assert!(message.contains(path.to_str().unwrap()), "{message}");
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn a_log_that_is_cut_anywhere_loses_the_end_of_its_newest_segment_alone() {
    let directory = super::scratch();
    let commits = write_log(directory.path());
    let paths = files(directory.path());
    for (index, path) in paths.iter().enumerate() {
        let newest = index + 1 == paths.len();
        let bytes = fs::read(path).unwrap();
        for length in 0..bytes.len() {
            fs::write(path, &bytes[..length]).unwrap();
            let mut found = Vec::new();
            let opened = open_log(directory.path(), &mut found).map(drop);
            if newest {
                opened.unwrap();
                assert!(commits.starts_with(&found) && found.len() >= 4);
            } else {
                assert!(matches!(opened, Err(JournalError::Damaged(_))), "{length}");
            }
        }
        fs::write(path, &bytes).unwrap();
    }
}

#[test]
fn a_log_without_one_of_its_segments_is_refused() {
    let directory = super::scratch();
    write_log(directory.path());
    // The newest would not be missed: nothing says that there ever was one.
    for path in &files(directory.path())[..2] {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let opened = open_log(directory.path(), &mut Vec::new()).map(drop);
        assert!(matches!(opened, Err(JournalError::Damaged(_))));
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn zeros_at_the_end_are_a_write_that_never_happened() {
    let directory = super::scratch();
    let commits = write_log(directory.path());
    let newest = files(directory.path()).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let length = bytes.len();
    bytes.extend([0; 5_000]);
    fs::write(&newest, &bytes).unwrap();
    let mut found = Vec::new();
    open_log(directory.path(), &mut found).unwrap();
    assert_eq!(found, commits);
    assert_eq!(fs::metadata(&newest).unwrap().len(), length as u64);
}

#[test]
fn tables_that_lost_what_the_log_has_no_more_are_noticed() {
    let directory = super::scratch();
    let mut store = open(directory.path());
    for number in 0..40 {
        store.commit(&[put(number)]).unwrap();
    }
    store.close().unwrap();
    let mut store = open(directory.path());
    store.commit(&[put(41)]).unwrap();
    store.abandon();
    drop(store);
    for table in ["calls", "sids", "state"] {
        let path = directory.path().join("tables").join(table);
        let aside = directory.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        let opened = Store::open(directory.path(), tiny());
        let Err(OpenStoreError::Damaged(message)) = opened else {
            panic!("{opened:?}");
        };
        assert!(message.contains(table), "{message}");
        fs::rename(&aside, &path).unwrap();
    }
    open(directory.path());
}

/// Reads all that an archive has, as far as it can be read.
fn read_all(archive: &dyn Archive, expected: &Model) -> Result<(), JournalError> {
    archive.directory()?;
    archive.counts()?;
    for part in 0..2 {
        archive.visit_contacts(part, 2, &mut |_, _, _| std::ops::ControlFlow::Continue(()))?;
    }
    for number in 0..60 {
        let call = super::call(number);
        archive.call(call.environment, &call.sid)?;
        archive.calls_to(call.environment, call.contact)?;
    }
    // Nothing was refused, so all of it has to be right.
    expected.assert_shown_by(archive);
    Ok(())
}

proptest! {
    #![proptest_config(super::cases())]

    #[test]
    fn a_changed_byte_of_a_closed_store_is_noticed_or_harmless(
        commits in prop::collection::vec(
            prop::collection::vec(super::properties::change(), 1..5), 1..20),
        file in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        mask in 1..=255_u8,
    ) {
        let directory = super::scratch();
        let mut store = open(directory.path());
        for commit in &commits {
            store.commit(commit).unwrap();
        }
        store.close().unwrap();
        let files: Vec<PathBuf> = files(directory.path())
            .into_iter()
            .filter(|path| fs::metadata(path).unwrap().len() > 0)
            .collect();
        let path = &files[file.index(files.len())];
        let mut bytes = fs::read(path).unwrap();
        let offset = byte.index(bytes.len());
        bytes[offset] ^= mask;
        fs::write(path, bytes).unwrap();
        match Store::open(directory.path(), tiny()) {
            Ok(mut store) => {
                let read = read_all(&*store.archive(), &Model::after(&commits));
                if let Err(error) = read {
                    prop_assert!(matches!(error, JournalError::Damaged(_)), "{error:?}");
                }
                store.abandon();
            }
            Err(error) => prop_assert!(
                matches!(
                    error,
                    OpenStoreError::Damaged(_) | OpenStoreError::NewerFormat { .. }
                ),
                "{error:?}"
            ),
        }
    }
}
