//! The threads behind the tables: one writes sealed generations to disk, the other merges what was written and,
//! in between, removes erased contacts from the files.

use std::sync::Arc;
use std::time::Duration;

use lsm_tree::compaction::Leveled;
use lsm_tree::{AbstractTree, SeqNo};
use parking_lot::Mutex;
use ringback_engine::JournalError;

use crate::log::{ClosedSegments, Log};
use crate::table::{FILE_BYTES, Part, Table, describe};
use crate::tables::Tables;

impl Tables {
    /// Writes sealed generations to disk, until closed.
    pub(crate) fn run_writing(&self, log: &ClosedSegments) {
        let mut progress = self.progress.lock();
        loop {
            if progress.closing {
                return;
            }
            let Some(sealed) = progress.sealed else {
                self.changed.wait(&mut progress);
                continue;
            };
            let again = progress.failing.is_some();
            drop(progress);
            let written = self.write_sealed(again);
            if written.is_ok()
                && let Err(error) = log.remove_through(sealed)
            {
                tracing::warn!(error = %error, "a segment of the log cannot be removed yet");
            }
            progress = self.progress.lock();
            match written {
                Ok(()) => {
                    progress.sealed = None;
                    progress.on_disk = sealed;
                    progress.failing = None;
                    progress.written += 1;
                    self.changed.notify_all();
                }
                Err(error) => {
                    let error = describe(&error);
                    tracing::error!(error, "the tables cannot be written to disk");
                    progress.failing = Some(error);
                    self.changed.notify_all();
                    self.changed.wait_for(&mut progress, RETRY);
                }
            }
        }
    }

    /// Writes the sealed generation to disk, durably. Set `again` after a failure.
    fn write_sealed(&self, again: bool) -> Result<(), JournalError> {
        for table in self.in_order() {
            let Some(sealed) = table.memory.read().sealed.clone() else {
                continue;
            };
            // The first part comes last: it holds the sequence that the whole table contains.
            for (index, part) in table.parts.iter().enumerate().rev() {
                let (from, to) = table.bounds(index);
                let to = to.as_ref().map(<[u8; 1]>::as_slice);
                if sealed.range(&from, to).next().is_none() {
                    continue;
                }
                self.wait_for_merging(part);
                let place = || table.place();
                part.change_files(place, again, || {
                    let mut run = part.tree.ingestion()?;
                    for (key, value) in sealed.range(&from, to) {
                        match value {
                            Some(value) => run.write(key, value)?,
                            None => run.write_tombstone(key)?,
                        }
                    }
                    run.finish()?;
                    part.remove_old_versions()
                })?;
            }
            table.memory.write().sealed = None;
        }
        Ok(())
    }

    /// Waits while a part has too many unmerged runs, unless merging fails.
    fn wait_for_merging(&self, part: &Part) {
        while part.tree.l0_run_count() > MOST_RUNS {
            // Merging is more urgent than rewriting.
            self.interrupt.set();
            let mut progress = self.progress.lock();
            if progress.closing || progress.merging_fails {
                return;
            }
            self.changed.wait_for(&mut progress, MERGE_POLL);
        }
    }

    /// Merges what was written to disk, until closed.
    pub(crate) fn run_merging(&self, log: &Mutex<Log>) {
        let strategy = Leveled::default()
            .with_l0_threshold(RUNS_TO_MERGE)
            .with_table_target_size(FILE_BYTES);
        let strategy = Arc::new(strategy);
        // Files of an earlier process may need merging, so the first round does not wait for a new generation.
        let mut merged = None;
        loop {
            let again;
            self.purge_if_due(log);
            {
                let mut progress = self.progress.lock();
                again = progress.merging_fails;
                if again {
                    self.changed.wait_for(&mut progress, RETRY);
                } else {
                    while merged == Some(progress.written)
                        && !progress.closing
                        && !self.erasures.are_due()
                    {
                        match self.erasures.due() {
                            Some(due) => drop(self.changed.wait_until(&mut progress, due)),
                            None => self.changed.wait(&mut progress),
                        }
                    }
                }
                if progress.closing {
                    return;
                }
                merged = Some(progress.written);
            }
            let result = self
                .in_order()
                .into_iter()
                .try_for_each(|table| self.merge(table, &strategy, again));
            if let Err(error) = &result
                && !again
            {
                tracing::error!(error = %describe(error), "tables cannot be merged");
            }
            self.progress.lock().merging_fails = result.is_err();
            self.changed.notify_all();
        }
    }

    /// Merges a table until its strategy has nothing to do, or the store is closed.
    fn merge(
        &self,
        table: &Table,
        strategy: &Arc<Leveled>,
        again: bool,
    ) -> Result<(), JournalError> {
        for part in &table.parts {
            let mut before = None;
            loop {
                // A run of the strategy does one step; when nothing changes there is nothing left to do.
                let version = part.tree.current_version().id();
                if self.progress.lock().closing {
                    return Ok(());
                }
                if before.replace(version) == Some(version) {
                    break;
                }
                part.check_room(MOST_MERGED_BYTES)?;
                let place = || table.place();
                // Nobody reads older versions of a record, so drop them.
                part.change_files(place, again, || {
                    part.tree
                        .compact(Arc::<Leveled>::clone(strategy), SeqNo::MAX)
                })?;
            }
        }
        Ok(())
    }
}

/// How many runs gather in a tree before they are merged: more make writing cheaper and reading slower.
const RUNS_TO_MERGE: u8 = 8;

/// With more unmerged runs than this in a tree, writing waits for merging.
const MOST_RUNS: usize = 20;

/// More bytes than one step of merging writes.
const MOST_MERGED_BYTES: u64 = 1 << 30;

/// How often a waiting writer checks whether merging has caught up.
const MERGE_POLL: Duration = Duration::from_millis(5);

/// How long to wait after a failure before the next try.
pub(crate) const RETRY: Duration = Duration::from_secs(1);
