//! Changes any byte of the stored data: the damage is noticed, or it changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use ringback_engine::{Archive, Change, Journal, JournalError};
use ringback_routing::Timestamp;

use super::{open, put, tiny};
use crate::files::SystemFiles;
use crate::log::Log;
use crate::log::segment::HEADER_LENGTH;
use crate::lsm_files::check_table;
use crate::{OpenStoreError, Store, StoreSettings};
use ringback_testkit::Model;

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

/// Opens a log and collects its records.
fn open_log(directory: &Path, found: &mut Vec<Vec<Change>>) -> Result<Log, JournalError> {
    Log::open(
        directory,
        Box::new(SystemFiles),
        Arc::default(),
        0,
        0,
        |record| {
            found.push(record.changes()?);
            Ok(())
        },
    )
}

/// All files beneath a directory, in a fixed order.
pub(super) fn files(directory: &Path) -> Vec<PathBuf> {
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

/// The segments of a log, in order.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut paths = files(directory);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths
}

#[test]
fn any_changed_byte_of_the_log_is_reported_with_its_place() {
    let directory = super::scratch();
    write_log(directory.path());
    let paths = segments(directory.path());
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
    let paths = segments(directory.path());
    for (index, path) in paths.iter().enumerate() {
        let newest = index + 1 == paths.len();
        let bytes = fs::read(path).unwrap();
        for length in 0..bytes.len() {
            fs::write(path, &bytes[..length]).unwrap();
            let mut found = Vec::new();
            let opened = open_log(directory.path(), &mut found).map(drop);
            if newest && length >= HEADER_LENGTH as usize {
                opened.unwrap();
                assert!(commits.starts_with(&found) && found.len() >= 4);
            } else {
                let Err(JournalError::Damaged(message)) = opened else {
                    panic!("cut after {length} bytes: {opened:?}");
                };
                assert!(message.contains(path.to_str().unwrap()), "{message}");
                assert!(message.contains(" at byte "), "{message}");
            }
            // Restore what the log cut off, and remove the marker of an empty segment.
            fs::write(path, &bytes).unwrap();
            fs::write(path.with_extension("marker"), "").unwrap();
        }
    }
}

#[test]
fn a_log_without_one_of_its_segments_is_refused() {
    let directory = super::scratch();
    write_log(directory.path());
    // Nobody used to notice that the newest segment was missing, and an erased contact came back.
    for path in segments(directory.path()) {
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let opened = open_log(directory.path(), &mut Vec::new()).map(drop);
        let Err(JournalError::Damaged(message)) = opened else {
            panic!("without {}: {opened:?}", path.display());
        };
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        fs::write(&path, bytes).unwrap();
    }
    open_log(directory.path(), &mut Vec::new()).unwrap();
}

#[test]
fn zeros_at_the_end_are_a_write_that_never_happened() {
    let directory = super::scratch();
    let commits = write_log(directory.path());
    let newest = segments(directory.path()).pop().unwrap();
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
    for table in ["calls", "decisions", "sids", "state"] {
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

/// A closed store with a few calls, and the files of its tables.
fn closed_store(directory: &Path) -> Vec<PathBuf> {
    // One run in each table, so that merging removes none while a test reads it.
    let mut store = Store::open(directory, StoreSettings::default()).unwrap();
    for number in 0..40 {
        store.commit(&[put(number)]).unwrap();
    }
    store.close().unwrap();
    let mut paths = files(&directory.join("tables"));
    paths.retain(|path| path.parent().unwrap().ends_with("tables"));
    paths
}

#[test]
fn any_flipped_bit_of_a_table_is_found_at_its_place() {
    let directory = super::scratch();
    for path in closed_store(directory.path()) {
        let bytes = fs::read(&path).unwrap();
        let name = path.to_str().unwrap();
        assert_eq!(check_table(&path, |_| true), None, "{name}");
        for offset in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[offset] ^= 1 << (offset % 8);
            fs::write(&path, &damaged).unwrap();
            let found = check_table(&path, |_| true).expect(name);
            assert_eq!(found.path, path);
            assert!(found.offset <= offset as u64, "{offset}: {found:?}");
        }
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            check_table(&path, |_| true).expect(name);
        }
        fs::remove_file(&path).unwrap();
        let found = check_table(&path, |_| true).expect(name);
        assert_eq!(found.what, "the file is missing");
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn damage_is_known_while_it_is_there() {
    let directory = super::scratch();
    let paths = closed_store(directory.path());
    // One file of each table: every file takes some seconds.
    let paths = ["calls", "sids", "state"].map(|table| {
        let of_table =
            |path: &&PathBuf| path.starts_with(directory.path().join("tables").join(table));
        paths.iter().find(of_table).unwrap()
    });
    let mut store = Store::open(directory.path(), StoreSettings::default()).unwrap();
    let archive = store.archive();
    let wait_for = |places| {
        while archive.damaged_places() != places {
            std::thread::yield_now();
        }
    };
    for path in paths {
        wait_for(0);
        let bytes = fs::read(path).unwrap();
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 0x10;
        fs::write(path, &damaged).unwrap();
        // As if a read had met the damage.
        store.raise_alarm();
        wait_for(1);
        fs::write(path, &bytes).unwrap();
        wait_for(0);
    }
    store.abandon();
}

/// Reads everything that an archive has, as far as it is readable.
fn read_all(archive: &dyn Archive, expected: &Model) -> Result<(), JournalError> {
    archive.directory()?;
    archive.counts()?;
    archive.visit_routed(Timestamp::from_millis(i64::MIN), &mut drop)?;
    for part in 0..2 {
        archive.visit_contacts(part, 2, &mut |_, _, _| std::ops::ControlFlow::Continue(()))?;
    }
    for number in 0..60 {
        let call = super::call(number);
        archive.call(call.environment, &call.sid)?;
        archive.calls_to(call.environment, call.contact)?;
    }
    // No read failed, so everything must be right.
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
