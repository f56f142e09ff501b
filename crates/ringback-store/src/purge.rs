//! Removes erased contacts from the files. A log-structured tree keeps the bytes of a removed key until the last
//! table that had it is merged, which may never happen, and the log keeps them until its segment is removed.
//!
//! After an erasure, and a delay that lets several erasures share the work, memory is written to disk and the log
//! is emptied. Then each part of a table that had the contact is rewritten, one at a time, on the merging thread,
//! beside reads and writes. That needs as much free disk as the largest part, stops whenever merging is needed,
//! and lets merging go first between two parts. Records in `state` list the parts that are still to be rewritten,
//! so that a restart does not forget them.
//!
//! Old calls that are dropped in the background stay in files in the same way, and nothing says later in which
//! files. So the parts that they were dropped from are noted, and rewritten with the next erasure.

use std::time::{Duration, Instant};

use lsm_tree::AbstractTree;
use parking_lot::Mutex;
use ringback_engine::JournalError;

use crate::error::unavailable;
use crate::key::{self, PartId};
use crate::log::Log;
use crate::table::describe;
use crate::tables::Tables;
use crate::writes::Writes;

impl Tables {
    /// Does one step of removing erased contacts from the files, if it is time. A step that fails is tried again
    /// later.
    pub(crate) fn purge_if_due(&self, log: &Mutex<Log>) {
        if !self.erasures.are_due() || self.progress.lock().closing {
            return;
        }
        let began = Instant::now();
        let purged = self.purge_step(log);
        let took = began.elapsed();
        let mut state = self.erasures.state.lock();
        match purged {
            Ok(()) => {
                let wait = if state.waiting.is_empty() {
                    None
                } else if state.next_part().is_some() {
                    // Leave most of the time to merging.
                    Some(took * 4)
                } else {
                    Some(self.erasures.delay)
                };
                state.due = wait.map(|wait| Instant::now() + wait);
                drop(state);
                if wait.is_none() {
                    tracing::info!("erased contacts were removed from the files");
                }
            }
            Err(error) => {
                state.due = Some(Instant::now() + AGAIN.max(took * 2));
                drop(state);
                if !self.progress.lock().closing {
                    tracing::warn!(
                        error = %describe(&error),
                        "erased contacts cannot be removed from the files yet; trying again"
                    );
                }
            }
        }
    }

    /// Writes memory to disk if an erasure waits for that, else rewrites one part.
    fn purge_step(&self, log: &Mutex<Log>) -> Result<(), JournalError> {
        let next = self.erasures.state.lock().next_part();
        let Some((part, erased)) = next else {
            let erased = {
                let mut state = self.erasures.state.lock();
                state.round += 1;
                state.waiting.values().copied().max().unwrap_or_default()
            };
            self.write_out(log)?;
            self.erasures.state.lock().written = erased;
            return Ok(());
        };
        self.interrupt.begin();
        let rewritten = self.rewrite(part);
        self.interrupt.end();
        rewritten?;
        self.apply_unlogged(|| {
            let mut state = self.erasures.state.lock();
            if state.waiting.get(&part) == Some(&erased) {
                state.waiting.remove(&part);
            }
            let sequence = erased.to_be_bytes();
            let mut writes = Writes::default();
            let purged = key::part_key(key::PURGED, part);
            writes
                .state
                .push((purged.into(), Some(sequence.as_slice().into())));
            // Calls dropped since memory was written to disk are still in the part's files.
            if state
                .swept
                .get(&part)
                .is_some_and(|round| *round < state.round)
            {
                state.swept.remove(&part);
                let swept = key::part_key(key::SWEPT, part);
                writes.state.push((swept.into(), None));
            }
            Ok((writes, ()))
        })
    }

    /// Rewrites a part without removed keys.
    fn rewrite(&self, (table, part): PartId) -> Result<(), JournalError> {
        let Some(table) = self.by_code(table) else {
            return Ok(());
        };
        let Some(part) = table.parts.get(usize::from(part)) else {
            return Ok(());
        };
        if part.tree.table_count() == 0 {
            return Ok(());
        }
        part.check_room(u64::MAX)?;
        part.rewrite(|| table.place())
    }

    /// Writes memory to disk, and removes the written records from the log.
    fn write_out(&self, log: &Mutex<Log>) -> Result<(), JournalError> {
        loop {
            // With its lock held, no commit is in the log but not yet in the tables.
            let mut log = log
                .try_lock_for(LOCK_WAIT)
                .ok_or_else(|| unavailable("commits are waiting"))?;
            let mut generation = self.generation.lock();
            let mut progress = self.progress.lock();
            if progress.closing {
                return Err(unavailable("the store is closed"));
            }
            if progress.sealed.is_none() {
                self.turn_over(&mut generation, progress);
                log.turn_over();
                break;
            }
            drop((log, generation));
            self.wait_written(&mut progress)?;
        }
        self.wait_written(&mut self.progress.lock())
    }
}

/// The shortest wait after a failure.
const AGAIN: Duration = Duration::from_secs(10);

/// How long to wait for a commit that itself waits.
const LOCK_WAIT: Duration = Duration::from_millis(500);
