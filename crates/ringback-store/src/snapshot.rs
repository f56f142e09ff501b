//! One state of all tables, to be read for as long as it takes while commits go on.
//!
//! Memory is written to disk first. When that is done, and before the next generation is written, the trees hold
//! exactly one commit and those before it. From then on a snapshot reads the files of that moment: newer ones do not
//! show, and merged ones stay on disk until the snapshot has read past them. So it takes no memory.

use lsm_tree::Slice;
use ringback_engine::JournalError;

use crate::error::unavailable;
use crate::tables::Tables;

/// A key and its value.
type Record = Result<(Slice, Slice), JournalError>;

/// What the tables held after one commit.
pub(crate) struct Snapshot<'a> {
    /// The sequence of that commit.
    pub(crate) sequence: u64,
    /// The records of `state`, in order.
    pub(crate) state: Box<dyn Iterator<Item = Record> + 'a>,
    /// The records of `decisions`, in order.
    pub(crate) decisions: Box<dyn Iterator<Item = Record> + 'a>,
    /// The records of `calls`, in order.
    pub(crate) calls: Box<dyn Iterator<Item = Record> + 'a>,
    /// About how many calls there are.
    pub(crate) about_calls: u64,
}

impl Tables {
    /// Writes memory to disk and returns the state then. It has every commit that was visible before the call.
    pub(crate) fn snapshot(&self) -> Result<Snapshot<'_>, JournalError> {
        self.progress.lock().snapshots += 1;
        let opened = self.open_snapshot();
        self.progress.lock().snapshots -= 1;
        opened
    }

    /// Opens a snapshot while commits seal no generation.
    fn open_snapshot(&self) -> Result<Snapshot<'_>, JournalError> {
        self.wait_written(&mut self.progress.lock())?;
        {
            let mut generation = self.generation.lock();
            let mut progress = self.progress.lock();
            if progress.closing {
                return Err(unavailable("the store is closed"));
            }
            // Some commits, such as a sweep that found nothing, write nothing.
            if generation.size > 0 || generation.applied > progress.on_disk {
                // Another snapshot may have sealed one meanwhile: it has what is asked for here, unless commits
                // followed it.
                self.wait_written(&mut progress)?;
                self.seal(&mut generation, &mut progress);
            }
        }
        let mut progress = self.progress.lock();
        self.wait_written(&mut progress)?;
        // With its lock held, no generation is being written.
        Ok(Snapshot {
            sequence: progress.on_disk,
            state: Box::new(self.state.on_disk()),
            decisions: Box::new(self.decisions.on_disk()),
            calls: Box::new(self.calls.on_disk()),
            about_calls: self.calls.approximate_len() as u64,
        })
    }
}
