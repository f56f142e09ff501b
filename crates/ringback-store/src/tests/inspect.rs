//! Directories that are looked at stay as they are, whatever is found.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ringback_testkit::copy_folder;

use super::formats::fixture;
use super::{open, put, scratch};
use crate::{OpenStoreError, Store};

/// Every file beneath a folder, with its content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn every_format_is_told_and_left_as_it_is() {
    for (name, format) in [
        ("format-1-first", 1),
        ("format-1-second", 1),
        ("format-1-last", 1),
        ("format-2", 2),
        ("format-3", 3),
        ("format-3-audit", 3),
    ] {
        let scratch = scratch();
        copy_folder(&fixture(name), scratch.path());
        let before = content(scratch.path());
        let info = Store::info(scratch.path()).unwrap();
        assert_eq!(info.format, format, "{name}");
        assert_eq!(Store::check(scratch.path()).unwrap(), info, "{name}");
        assert_eq!(content(scratch.path()), before, "{name}");
        // The same as what a store that is opened has, half of which is in the log.
        let store = open(scratch.path());
        let calls = store.verify().unwrap();
        let directory = ringback_engine::Journal::archive(&store)
            .directory()
            .unwrap();
        let records = info.records;
        assert_eq!(records.calls, calls, "{name}");
        assert_eq!(records.agents, directory.agents.len() as u64);
        assert_eq!(records.numbers, directory.numbers.len() as u64);
        assert_eq!(records.assignments, directory.assignments.len() as u64);
        assert_eq!(records.environments, directory.environments.len() as u64);
        assert_eq!(records.tokens, directory.tokens.len() as u64);
        let roles = directory
            .agents
            .iter()
            .filter_map(|agent| agent.role.as_ref());
        assert_eq!(records.roles, roles.count() as u64);
        assert!(records.routed_calls > 0 && info.last_sequence > 0);
        let audited = if name == "format-3-audit" { 13 } else { 0 };
        assert_eq!(records.audit_entries, audited, "{name}");
    }
}

#[test]
fn what_a_crash_left_at_the_end_of_the_log_is_passed_over() {
    let scratch = scratch();
    let mut store = open(scratch.path());
    store.commit(&[put(1)]).unwrap();
    store.commit(&[put(2)]).unwrap();
    store.abandon();
    drop(store);
    let log = content(&scratch.path().join("log"));
    let (path, bytes) = log.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    let before = content(scratch.path());
    let info = Store::check(scratch.path()).unwrap();
    assert_eq!(info.records.calls, 1);
    assert_eq!(content(scratch.path()), before);
}

#[test]
fn a_directory_in_use_or_without_a_store_is_refused() {
    let scratch = scratch();
    let in_use = scratch.path().join("used");
    let store = open(&in_use);
    assert!(matches!(
        Store::info(&in_use),
        Err(OpenStoreError::InUse(_))
    ));
    drop(store);
    assert!(Store::info(&in_use).is_ok());
    let absent = scratch.path().join("absent");
    for folder in [absent.as_path(), scratch.path()] {
        let info = Store::info(folder);
        assert!(matches!(info, Err(OpenStoreError::NoStore(_))), "{info:?}");
    }
    assert!(!absent.exists());
    let newer = fs::read_to_string(in_use.join("FORMAT")).unwrap();
    let newer = newer.replacen("ringback-store 3", "ringback-store 9", 1);
    fs::write(in_use.join("FORMAT"), newer).unwrap();
    assert!(matches!(
        Store::check(&in_use),
        Err(OpenStoreError::NewerFormat { found: 9, .. })
    ));
    fs::remove_file(in_use.join("FORMAT")).unwrap();
    assert!(matches!(
        Store::check(&in_use),
        Err(OpenStoreError::Damaged(_))
    ));
}

#[test]
fn a_changed_byte_is_found_with_its_file() {
    let scratch = scratch();
    let mut store = open(scratch.path());
    let calls: Vec<_> = (0..200).map(put).collect();
    store.commit(&calls).unwrap();
    store.close().unwrap();
    let whole = Store::check(scratch.path()).unwrap();
    let tables = scratch.path().join("tables");
    for (path, bytes) in content(&tables) {
        let within = path.strip_prefix(&tables).unwrap();
        let table = tables.join(within.components().next().unwrap());
        for at in [0, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            fs::write(&path, damaged).unwrap();
            match Store::check(scratch.path()) {
                // No reader looks at this byte.
                Ok(info) => assert_eq!(info, whole, "{} at {at}", path.display()),
                Err(OpenStoreError::Damaged(message)) => {
                    // A damaged pointer to a file names the file that it leads to.
                    let named = table.to_str().unwrap();
                    let place = path.display();
                    assert!(message.contains(named), "{place} at {at}: {message}");
                }
                Err(error) => panic!("{} at {at}: {error:?}", path.display()),
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(Store::check(scratch.path()).unwrap(), whole);
}
