//! Erased contacts leave the files: of a key that is gone, log-structured trees keep the bytes until the
//! last table that had it is merged, which may take for ever, and the log until its segment is full.
//!
//! After an erasure, and a while in which others may follow, what is in memory is written to disk and the
//! log with it. Then each part of a table that had the contact is written anew, one at a time, on the merging
//! thread, beside reads and writes. That needs as much room on the disk as the largest part, gives way
//! whenever merging is needed, and lets merging go first between two parts. Records in `state` say which
//! parts are yet to be written anew, so that a restart does not forget them.
//!
//! Old calls that are dropped in the background stay in files in the same way, and nothing tells later in
//! which: so the parts that they were dropped from are noted, and written anew with the next erasure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use lsm_tree::AbstractTree;
use lsm_tree::compaction::filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict};
use parking_lot::Mutex;
use ringback_engine::JournalError;

use crate::error::unavailable;
use crate::key;
use crate::log::Log;
use crate::prepare::Writes;
use crate::tables::{Table, Tables, describe};

/// A part of a table: the number of the table, and which of its parts.
pub(crate) type PartId = (u8, u8);

/// Which parts are to be written anew because of erasures, and when.
pub(crate) struct Erasures {
    /// What is known.
    state: Mutex<ErasureState>,
    /// How long after an erasure its parts are written anew.
    delay: Duration,
}

/// What is known of erasures.
#[derive(Default)]
struct ErasureState {
    /// The parts to be written anew, and the latest commit that erased something of each.
    waiting: BTreeMap<PartId, u64>,
    /// The parts that old calls were dropped from since they were last written anew, and at which round.
    swept: BTreeMap<PartId, u64>,
    /// Grows whenever memory is about to be written to disk for erasures.
    round: u64,
    /// What was erased up to this commit is on disk, and gone from memory and from the log.
    written: u64,
    /// When the next part is to be written anew, if any.
    due: Option<Instant>,
}

impl Erasures {
    /// Reads what is yet to be done.
    pub(crate) fn load(state: &Table, delay: Duration) -> Result<Self, JournalError> {
        let read = |kind| -> Result<BTreeMap<PartId, u64>, JournalError> {
            let mut parts = BTreeMap::new();
            for item in state.prefix(&[kind]) {
                let (item_key, value) = item.map_err(|error| state.located(error))?;
                let sequence = if value.is_empty() {
                    Some(0)
                } else {
                    key::decode_sequence(&value)
                };
                let part = key::decode_part_key(&item_key).zip(sequence);
                parts.extend([part.ok_or_else(|| state.damaged())?]);
            }
            Ok(parts)
        };
        let purged = read(key::PURGED)?;
        let mut waiting = read(key::ERASED)?;
        waiting.retain(|part, erased| purged.get(part).is_none_or(|purged| purged < erased));
        let due = (!waiting.is_empty()).then(|| Instant::now() + delay);
        Ok(Self {
            state: Mutex::new(ErasureState {
                waiting,
                swept: read(key::SWEPT)?,
                due,
                ..ErasureState::default()
            }),
            delay,
        })
    }

    /// Notes that the commit with this sequence erased something of these parts; tells whether somebody
    /// has to be woken up for it.
    pub(crate) fn add(&self, parts: &[PartId], sequence: u64) -> bool {
        let mut state = self.state.lock();
        for part in parts {
            let erased = state.waiting.entry(*part).or_default();
            *erased = sequence.max(*erased);
        }
        let is_news = state.due.is_none();
        state.due.get_or_insert_with(|| Instant::now() + self.delay);
        is_news
    }

    /// Notes that old calls were dropped from these parts.
    pub(crate) fn note_swept(&self, parts: &[PartId]) {
        if !parts.is_empty() {
            let mut state = self.state.lock();
            let round = state.round;
            state.swept.extend(parts.iter().map(|part| (*part, round)));
        }
    }

    /// The parts of a table that old calls were dropped from.
    pub(crate) fn swept(&self, table: u8) -> Vec<PartId> {
        let state = self.state.lock();
        let parts = state.swept.range((table, 0)..=(table, u8::MAX));
        parts.map(|(part, _)| *part).collect()
    }

    /// When the next part is to be written anew.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.state.lock().due
    }

    /// Whether it is time.
    pub(crate) fn are_due(&self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now())
    }
}

impl ErasureState {
    /// A part that can be written anew now, and up to which commit it is free of what was erased then.
    fn next_part(&self) -> Option<(PartId, u64)> {
        let mut waiting = self.waiting.iter();
        let (part, erased) = waiting.find(|(_, erased)| **erased <= self.written)?;
        Some((*part, *erased))
    }
}

impl Tables {
    /// Does one step in removing erased contacts from the files, if it is time; later, where that cannot
    /// be done now.
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
                    // Most of the time is left for merging.
                    Some(took * 4)
                } else {
                    Some(self.erasures.delay)
                };
                state.due = wait.map(|wait| Instant::now() + wait);
                drop(state);
                if wait.is_none() {
                    tracing::info!("erased contacts are gone from the files");
                }
            }
            Err(error) => {
                state.due = Some(Instant::now() + AGAIN.max(took * 2));
                drop(state);
                if !self.progress.lock().closing {
                    tracing::warn!(
                        error = %describe(&error),
                        "erased contacts cannot leave the files yet; it is tried again"
                    );
                }
            }
        }
    }

    /// Writes memory to disk, if something waits for that, or else one part anew.
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
            // What was dropped since memory was written to disk is in the part's files still.
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

    /// Writes a part anew, without what is gone.
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

    /// Writes what is in memory to disk, and has what the log holds of it removed.
    fn write_out(&self, log: &Mutex<Log>) -> Result<(), JournalError> {
        loop {
            // No commit is between the log and the tables while its lock is held.
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

/// Breaks off the rewriting of a part, which asks before each record; merging is left alone.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Breaks off the rewriting that is going on, if any.
    pub(crate) fn set(&self) {
        let _none =
            self.0
                .compare_exchange(REWRITING, BROKEN_OFF, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Rewriting begins.
    fn begin(&self) {
        self.0.store(REWRITING, Ordering::Release);
    }

    /// Rewriting has ended.
    fn end(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// What a tree asks.
    pub(crate) fn filters(&self) -> Arc<dyn Factory> {
        Arc::new(self.clone())
    }
}

impl Factory for Interrupt {
    fn name(&self) -> &str {
        "interrupt"
    }

    fn make_filter(&self, _context: &Context) -> Box<dyn CompactionFilter> {
        Box::new(self.clone())
    }
}

impl CompactionFilter for Interrupt {
    fn filter_item(
        &mut self,
        _item: ItemAccessor<'_>,
        _context: &Context,
    ) -> lsm_tree::Result<Verdict> {
        if self.0.load(Ordering::Relaxed) == BROKEN_OFF {
            let interrupted =
                std::io::Error::other("interrupted, because something else matters more");
            return Err(lsm_tree::Error::Io(interrupted));
        }
        Ok(Verdict::Keep)
    }
}

/// A part is being rewritten.
const REWRITING: u8 = 1;

/// The same, and it is to end.
const BROKEN_OFF: u8 = 2;

/// How long after a failure to try again, at least.
const AGAIN: Duration = Duration::from_secs(10);

/// How long to wait for a commit that waits itself.
const LOCK_WAIT: Duration = Duration::from_millis(500);
