//! The battery that every journal passes, on the journal in memory, which the engine's tests use.

use ringback_testkit::battery::Rig;
use ringback_testkit::journal_battery;

use crate::support::MemoryJournal;

/// One node of a log in memory.
struct Memory(MemoryJournal);

impl Rig for Memory {
    type Journal = MemoryJournal;

    fn open(&mut self) -> MemoryJournal {
        self.0.clone()
    }

    fn crash(&mut self, journal: MemoryJournal) {
        drop(journal);
    }
}

journal_battery!(Memory(MemoryJournal::default()));
