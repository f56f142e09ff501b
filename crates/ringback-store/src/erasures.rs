//! Which parts of tables must be rewritten because of erasures, and when; see [`crate::purge`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ringback_engine::JournalError;

use crate::key::{self, PartId};
use crate::table::Table;

/// Which parts must be rewritten because of erasures, and when.
pub(crate) struct Erasures {
    /// The waiting work.
    pub(crate) state: Mutex<ErasureState>,
    /// How long after an erasure its parts are rewritten.
    pub(crate) delay: Duration,
}

/// The erasures whose traces may still be in files.
#[derive(Default)]
pub(crate) struct ErasureState {
    /// The parts to rewrite, and the latest commit that erased something of each.
    pub(crate) waiting: BTreeMap<PartId, u64>,
    /// The parts that old calls were dropped from since they were last rewritten, and the round in which that
    /// happened.
    pub(crate) swept: BTreeMap<PartId, u64>,
    /// Grows each time before memory is written to disk for erasures.
    pub(crate) round: u64,
    /// Erasures up to this commit are on disk, and gone from memory and from the log.
    pub(crate) written: u64,
    /// When the next part is to be rewritten, if any.
    pub(crate) due: Option<Instant>,
}

impl Erasures {
    /// Reads the waiting work from `state`.
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

    /// Notes that the commit with this sequence erased something of these parts. Returns whether a thread must be
    /// woken up for it.
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

    /// When the next part is to be rewritten.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.state.lock().due
    }

    /// Whether it is time to rewrite a part.
    pub(crate) fn are_due(&self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now())
    }
}

impl ErasureState {
    /// A part that can be rewritten now, and the commit up to which all its erasures will then be gone.
    pub(crate) fn next_part(&self) -> Option<(PartId, u64)> {
        let mut waiting = self.waiting.iter();
        let (part, erased) = waiting.find(|(_, erased)| **erased <= self.written)?;
        Some((*part, *erased))
    }
}
