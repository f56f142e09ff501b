//! Error messages for directories that cannot be opened.

use std::fs;

use super::{open, put, tiny};
use crate::{OpenStoreError, Store};

#[test]
fn a_newer_format_is_refused_naming_both_versions() {
    let directory = super::scratch();
    open(directory.path()).close().unwrap();
    let path = directory.path().join("FORMAT");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replacen("ringback-store 3", "ringback-store 7", 1),
    )
    .unwrap();
    let error = Store::open(directory.path(), tiny()).unwrap_err();
    assert!(matches!(
        error,
        OpenStoreError::NewerFormat {
            found: 7,
            supported: 3,
            ..
        }
    ));
    assert!(error.to_string().contains("format 7"));
    assert!(error.to_string().contains("format 3"));
}

#[test]
fn two_cannot_open_one_directory() {
    let directory = super::scratch();
    let store = open(directory.path());
    let second = Store::open(directory.path(), tiny());
    assert!(matches!(second, Err(OpenStoreError::InUse(_))));
    drop(store);
    open(directory.path());
}

#[test]
fn the_node_secret_stays_the_same_and_differs_between_stores() {
    let directory = super::scratch();
    let secret = open(directory.path()).node_secret();
    assert_eq!(open(directory.path()).node_secret(), secret);
    let other = super::scratch();
    assert_ne!(open(other.path()).node_secret(), secret);
}

#[test]
fn missing_parts_of_a_store_are_damage() {
    for part in ["FORMAT", "log", "tables"] {
        let directory = super::scratch();
        let mut store = open(directory.path());
        store.commit(&[put(1)]).unwrap();
        store.close().unwrap();
        fs::rename(directory.path().join(part), directory.path().join("aside")).unwrap();
        let opened = Store::open(directory.path(), tiny());
        assert!(
            matches!(opened, Err(OpenStoreError::Damaged(_))),
            "{part}: {opened:?}"
        );
    }
}

#[test]
fn an_interrupted_first_start_is_begun_anew() {
    let directory = super::scratch();
    open(directory.path()).close().unwrap();
    fs::remove_file(directory.path().join("FORMAT")).unwrap();
    let mut store = open(directory.path());
    store.commit(&[put(1)]).unwrap();
}

#[cfg(unix)]
#[test]
fn the_directory_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let directory = super::scratch();
    let path = directory.path().join("new/store");
    drop(open(&path));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.clone()), 0o700);
    assert_eq!(mode(path.join("FORMAT")), 0o600);
}
