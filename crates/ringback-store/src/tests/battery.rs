//! The battery that every journal passes.

use ringback_testkit::battery::Rig;
use ringback_testkit::journal_battery;
use tempfile::TempDir;

use super::{open, scratch};
use crate::Store;

/// A directory of a store.
struct Directory(TempDir);

impl Rig for Directory {
    type Journal = Store;

    fn open(&mut self) -> Store {
        open(self.0.path())
    }

    fn crash(&mut self, mut journal: Store) {
        journal.abandon();
    }

    fn close(&mut self, journal: Store) {
        journal.close().unwrap();
    }
}

journal_battery!(Directory(scratch()));
