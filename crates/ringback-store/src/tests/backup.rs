//! Backups: one state whatever goes on meanwhile, and only a whole one is restored.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use ringback_engine::{
    Archive, AuditAction, BackupError, Call, Change, ErasedHash, ErasureSecret, Journal, Tombstone,
};
use ringback_routing::{E164, EnvironmentId, Timestamp};
use ringback_testkit::{Model, Shown, copy_folder};

use super::formats::{assert_written, fixture};
use super::properties::change;
use super::{call, open, put, scratch, tiny};
use crate::backup::BackupReader;
use crate::{
    BackupProgress, Erasures, OpenStoreError, ReadBackupError, RestoreError, RestoreSettings,
    Store, key,
};

/// A backup of what this archive shows.
fn backup(archive: &dyn Archive) -> Vec<u8> {
    let mut bytes = Vec::new();
    archive
        .write_backup(Timestamp::from_millis(7), &mut bytes)
        .unwrap();
    bytes
}

/// Restores without erasures.
fn restore(target: impl AsRef<Path>, bytes: &[u8]) -> Result<BackupProgress, RestoreError> {
    let settings = RestoreSettings {
        erasures: None,
        at: Timestamp::from_millis(8),
    };
    let restored = Store::restore(target, bytes, &settings, |_| ())?;
    assert_eq!(restored.erased, None);
    Ok(restored.backup)
}

/// The audit entry of a restore is behind those of the backup.
fn without_restore(mut shown: Shown) -> Shown {
    let entry = shown.take_latest_audit().expect("there is an entry");
    assert_eq!(entry.action, AuditAction::Restore);
    assert_eq!((entry.at.millis(), entry.environment), (8, None));
    shown
}

/// An agent that made some of the calls.
fn agent(number: u128) -> Change {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    loop {
        let tree = change().new_tree(&mut runner).unwrap();
        if let Change::AgentPut(mut agent) = proptest::strategy::ValueTree::current(&tree) {
            agent.id = ringback_routing::AgentId(uuid::Uuid::from_u128(number));
            return Change::AgentPut(agent);
        }
    }
}

/// The agents of all calls.
fn agents() -> Vec<Change> {
    (0..3).map(agent).collect()
}

/// A store with some calls, and its backup.
fn small(directory: &Path) -> Vec<u8> {
    let mut store = open(directory);
    store.commit(&agents()).unwrap();
    let calls: Vec<_> = (0..20).map(put).collect();
    store.commit(&calls).unwrap();
    backup(&*store.archive())
}

proptest! {
    #![proptest_config(super::cases())]

    #[test]
    fn what_was_committed_is_restored(
        commits in vec(vec(change(), 1..6), 1..30),
        later in vec(change(), 1..6),
    ) {
        let directory = scratch();
        let mut store = open(directory.path());
        store.commit(&agents()).unwrap();
        for commit in &commits {
            store.commit(commit).unwrap();
        }
        let archive = store.archive();
        let shown = Shown::read(&*archive).without_calls_of_deleted_agents();
        let bytes = backup(&*archive);
        store.commit(&later).unwrap();
        let last = store.position().0 + commits.len() as u64 + 1;

        let target = directory.path().join("restored");
        let restored = restore(&target, bytes.as_slice()).unwrap();
        prop_assert_eq!(restored.taken_at, Timestamp::from_millis(7));
        prop_assert_eq!(restored.sequence, last);
        let info = Store::check(&target).unwrap();
        prop_assert_eq!(info.last_sequence, last + 1);
        let mut store = open(&target);
        prop_assert_eq!(store.position().0, last + 1);
        prop_assert_eq!(without_restore(Shown::read(&*store.archive())), shown.clone());
        shown.assert_found_in(&*store.archive());
        Model::after(&commits).assert_answers_kept_by(&*store.archive());
        // It is a store as any other.
        store.commit(&later).unwrap();
        let after = Shown::read(&*store.archive());
        store.abandon();
        drop(store);
        prop_assert_eq!(Shown::read(&*open(&target).archive()), after);
    }
}

#[test]
fn a_backup_of_every_format_has_all_that_was_written() {
    for name in [
        "format-1-first",
        "format-1-last",
        "format-2",
        "format-3",
        "format-3-audit",
    ] {
        let scratch = scratch();
        let [old, new] = ["old", "new"].map(|name| scratch.path().join(name));
        copy_folder(&fixture(name), &old);
        let store = open(&old);
        restore(&new, backup(&*store.archive()).as_slice()).unwrap();
        assert_written(&new);
        assert_ne!(store.node_secret(), open(&new).node_secret());
    }
}

#[test]
fn backups_of_every_version_are_restored() {
    let directory = scratch();
    let bytes = fs::read(fixture("backup-1")).unwrap();
    restore(directory.path(), bytes.as_slice()).unwrap();
    assert_written(directory.path());
}

#[test]
fn a_backup_is_one_state_while_calls_are_recorded() {
    let directory = scratch();
    let settings = crate::StoreSettings {
        generation_bytes: 30_000,
        ..tiny()
    };
    let mut store = Store::open(directory.path(), settings).unwrap();
    store.commit(&agents()).unwrap();
    let archive = store.archive();
    let (acknowledged, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let backups = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                // Two in a commit: both are in a backup, or none.
                store.commit(&[put(number), put(number + 1)]).unwrap();
                number += 2;
                acknowledged.store(number, Ordering::Release);
            }
        });
        let mut backups = Vec::new();
        for _ in 0..12 {
            while acknowledged.load(Ordering::Acquire) < (backups.len() as u64 + 1) * 40 {
                std::thread::yield_now();
            }
            let before = acknowledged.load(Ordering::Acquire);
            let bytes = backup(&*archive);
            backups.push((before, bytes, acknowledged.load(Ordering::Acquire) + 2));
        }
        done.store(true, Ordering::Relaxed);
        backups
    });
    for (index, (before, bytes, most)) in backups.iter().enumerate() {
        let target = directory.path().join(index.to_string());
        let restored = restore(&target, bytes.as_slice()).unwrap();
        let count = restored.calls;
        assert!(
            (*before..=*most).contains(&count) && count.is_multiple_of(2),
            "{count}"
        );
        let archive = open(&target).archive();
        for number in 0..count {
            let found = archive.call(call(number).environment, &call(number).sid);
            assert_eq!(found.unwrap(), Some(call(number)));
        }
        let next = archive.call(call(count).environment, &call(count).sid);
        assert_eq!(next.unwrap(), None);
    }
}

#[test]
fn a_backup_has_nothing_of_a_contact_that_was_erased_before() {
    let directory = scratch();
    let mut store = open(directory.path());
    store.commit(&agents()).unwrap();
    let calls: Vec<_> = (0..50).map(put).collect();
    store.commit(&calls).unwrap();
    let erased = call(3);
    let prefixes: Vec<_> = (0..2)
        .map(|environment| key::contact_prefix(environment, erased.contact))
        .collect();
    let seen = |bytes: &[u8]| {
        let mut seen = 0;
        let mut reader = BackupReader::open(bytes).unwrap();
        while reader
            .read_block::<ReadBackupError>(|_, item_key, _| {
                seen += u64::from(prefixes.iter().any(|prefix| item_key.starts_with(prefix)));
                Ok(())
            })
            .unwrap()
        {}
        seen
    };
    let before = backup(&*store.archive());
    assert_eq!(seen(&before), 10);
    for environment in [call(3).environment, call(4).environment] {
        let forget = Change::ContactForgotten(environment, erased.contact);
        store.commit(&[forget]).unwrap();
    }
    assert_eq!(seen(&backup(&*store.archive())), 0);
}

/// Contacts that were erased after a backup, and what is left of them.
#[test]
fn erasures_after_a_backup_are_repeated_and_those_before_it_are_not() {
    let secret = ErasureSecret([3; 16]);
    let scratch = scratch();
    let mut store = open(&scratch.path().join("old"));
    store.commit(&agents()).unwrap();
    let calls: Vec<Call> = (0..20).map(call).collect();
    let contacts: BTreeSet<_> = calls
        .iter()
        .map(|call| (call.environment, call.contact))
        .collect();
    let [first, second, third, ..] = contacts.iter().copied().collect::<Vec<_>>()[..] else {
        panic!("{contacts:?}");
    };
    let erase = |(environment, contact): (EnvironmentId, E164), at| {
        let tombstone = Tombstone {
            hash: secret.hash(environment, contact),
            at: Timestamp::from_millis(at),
        };
        let forgotten = Change::ContactForgotten(environment, contact);
        (vec![forgotten, Change::Erased(tombstone)], tombstone)
    };
    store.commit(&[Change::ErasureSecretSet(secret)]).unwrap();
    // One contact was erased before its calls, which stay; another one twice.
    let (facts, before) = erase(first, 1);
    store.commit(&facts).unwrap();
    store.commit(&erase(second, 2).0).unwrap();
    let puts: Vec<Change> = calls.iter().cloned().map(Change::CallPut).collect();
    store.commit(&puts).unwrap();
    let bytes = backup(&*store.archive());
    let (_, again) = erase(second, 3);
    let (_, later) = erase(third, 4);
    let stranger = (first.0, E164::from_digits(493_012_345_678).unwrap());
    let (_, unknown) = erase(stranger, 5);

    let restore = |name: &str, erasures| {
        let target = scratch.path().join(name);
        let settings = RestoreSettings {
            erasures: Some(erasures),
            at: Timestamp::from_millis(8),
        };
        let restored = Store::restore(&target, bytes.as_slice(), &settings, |_| ());
        restored.map(|restored| (target, restored.erased.unwrap()))
    };
    let tombstones = vec![before, again, later, unknown];
    let erasures = |secret: ErasureSecret, tombstones| Erasures {
        secret_id: Some(secret.id()),
        tombstones,
    };
    let (target, erased) = restore("new", erasures(secret, tombstones.clone())).unwrap();
    assert_eq!((erased.erasures, erased.contacts), (3, 2));
    let restored = open(&target);
    let archive = restored.archive();
    for (environment, contact) in contacts {
        let found = archive.calls_to(environment, contact).unwrap();
        let is_erased = [second, third].contains(&(environment, contact));
        assert_eq!(found.is_empty(), is_erased, "{contact}");
    }
    // The next export has all of them.
    let mut left = Vec::new();
    archive
        .visit_tombstones(&mut |tombstone| {
            left.push(tombstone);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    left.sort_by_key(|tombstone| tombstone.at);
    assert_eq!(left, tombstones);

    // Those of another server, and none at all.
    let other = ErasureSecret([4; 16]);
    let foreign = restore("foreign", erasures(other, tombstones)).unwrap_err();
    assert!(matches!(foreign, RestoreError::OtherErasures));
    assert!(!scratch.path().join("foreign").exists());
    let (_, erased) = restore("none", Erasures::default()).unwrap();
    assert_eq!((erased.erasures, erased.contacts), (0, 0));
}

#[test]
fn a_backup_without_the_secret_takes_no_erasures() {
    let scratch = scratch();
    let bytes = small(&scratch.path().join("old"));
    let settings = RestoreSettings {
        erasures: Some(Erasures {
            secret_id: Some([1; 4]),
            tombstones: vec![Tombstone {
                hash: ErasedHash([1; 16]),
                at: Timestamp::from_millis(1),
            }],
        }),
        at: Timestamp::from_millis(8),
    };
    let target = scratch.path().join("new");
    let refused = Store::restore(&target, bytes.as_slice(), &settings, |_| ());
    assert!(matches!(refused, Err(RestoreError::NoErasureSecret)));
}

#[test]
fn a_cut_backup_is_refused_and_leaves_the_directory_as_it_was() {
    let directory = scratch();
    let bytes = small(&directory.path().join("store"));
    let [empty, absent] = ["empty", "absent"].map(|name| directory.path().join(name));
    fs::create_dir(&empty).unwrap();
    for length in 0..bytes.len() {
        let error = match BackupReader::open(&bytes[..length]) {
            Ok(reader) => reader.check(|_| ()).unwrap_err(),
            Err(error) => error,
        };
        assert!(
            matches!(error, ReadBackupError::CutOff) || length == 0,
            "{length}: {error:?}"
        );
    }
    for length in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        for target in [&empty, &absent] {
            let restored = restore(target, &bytes[..length]);
            assert!(matches!(restored, Err(RestoreError::Backup(_))));
        }
        assert!(!absent.exists());
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    }
    restore(&empty, bytes.as_slice()).unwrap();
}

#[test]
fn an_altered_backup_is_refused() {
    let directory = scratch();
    let bytes = small(&directory.path().join("store"));
    for at in 0..bytes.len() {
        for flip in [1, 0x80] {
            let mut altered = bytes.clone();
            altered[at] ^= flip;
            let checked =
                BackupReader::open(altered.as_slice()).and_then(|reader| reader.check(|_| ()));
            assert!(checked.is_err(), "{at}");
        }
    }
    let longer = [bytes.as_slice(), b"\0"].concat();
    let checked = BackupReader::open(longer.as_slice()).and_then(|reader| reader.check(|_| ()));
    assert!(matches!(checked, Err(ReadBackupError::Damaged(_))));
    let newer = [b"ringback-backup 2\n".as_slice(), &bytes[18..]].concat();
    let opened = BackupReader::open(newer.as_slice());
    assert!(matches!(opened, Err(ReadBackupError::Newer { found: 2 })));
    let opened = BackupReader::open(b"PK\x03\x04".as_slice());
    assert!(matches!(opened, Err(ReadBackupError::NoBackup)));
}

#[test]
fn only_an_empty_directory_is_restored_into() {
    let directory = scratch();
    let used = directory.path().join("store");
    let bytes = small(&used);
    let before = Store::info(&used).unwrap();
    let restore = |target: &Path| restore(target, bytes.as_slice());
    assert!(matches!(restore(&used), Err(RestoreError::NotEmpty(_))));
    let store = open(&used);
    let in_use = restore(&used);
    assert!(matches!(
        in_use,
        Err(RestoreError::Store(OpenStoreError::InUse(_)))
    ));
    drop(store);
    assert_eq!(Store::info(&used).unwrap(), before);
    let target = directory.path().join("target");
    fs::create_dir_all(target.join("lost+found")).unwrap();
    restore(&target).unwrap();
    assert!(matches!(restore(&target), Err(RestoreError::NotEmpty(_))));
    // A file is no directory.
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(restore(&file), Err(RestoreError::NotEmpty(_))));
}

/// A process that ends in the middle of a restore leaves some of these steps.
#[test]
fn a_broken_off_restore_is_refused_at_a_start_and_can_be_repeated() {
    let directory = scratch();
    let bytes = small(&directory.path().join("store"));
    let whole = directory.path().join("whole");
    restore(&whole, bytes.as_slice()).unwrap();
    for step in 0..4 {
        let target = directory.path().join(step.to_string());
        let unfinished = target.join("restore.unfinished");
        copy_folder(&whole, &unfinished);
        let moved: &[&str] = match step {
            0 => {
                fs::remove_file(unfinished.join("FORMAT")).unwrap();
                &[]
            }
            1 => &["tables"],
            2 => &["tables", "log"],
            _ => &["tables", "log", "FORMAT"],
        };
        for name in moved {
            fs::rename(unfinished.join(name), target.join(name)).unwrap();
        }
        if step < 3 {
            let opened = Store::open(&target, tiny());
            assert!(
                matches!(opened, Err(OpenStoreError::RestoreBrokenOff(_))),
                "{step}: {opened:?}"
            );
            restore(&target, bytes.as_slice()).unwrap();
        }
        assert_eq!(open(&target).verify().unwrap(), 20);
        assert!(!unfinished.exists());
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_backup_and_nothing_else() {
    struct Gone(usize);
    impl std::io::Write for Gone {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            self.0 -= 1;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let directory = scratch();
    let mut store = open(directory.path());
    store.commit(&agents()).unwrap();
    for number in 0..50 {
        store.commit(&[put(number)]).unwrap();
    }
    for writes in 0..3 {
        let result = store
            .archive()
            .write_backup(Timestamp::from_millis(0), &mut Gone(writes));
        assert!(matches!(result, Err(BackupError::Write(_))), "{writes}");
        store.commit(&[put(50 + writes as u64)]).unwrap();
    }
    assert_eq!(store.verify().unwrap(), 53);
}
