//! Brings the stored counters up to the batches of SIP calls.
//!
//! With each batch to raise the counters would be to write each of them as often as calls come. They follow
//! from the batches: once in a while a *roll-up* adds to them what all batches since the one before have
//! counted. Where there are many counters it is made durable in pieces, one commit each, in the order of
//! their keys. Each piece carries a [`CountMark`] in the same commit, so that after a crash at any point
//! the counters that lack a batch are raised by it again, and no others.

use std::collections::BTreeMap;

use ringback_routing::{Directory, Timestamp};

use crate::observed::ways::WayCount;
use crate::{BatchesCounted, CountKey, CountMark, RoutedBatch};

/// Which batches the stored counters contain, and by how much they are to grow.
#[derive(Debug, Default)]
pub(super) struct RollUp {
    /// The number that the next batch gets.
    next: u64,
    /// What the stored counters contain.
    stored: CountMark,
    /// The roll-up under way.
    current: Option<Current>,
    /// Growth by batches that were found stored and that no roll-up has begun with.
    found: BTreeMap<CountKey, u64>,
    /// The earliest time of a batch that no roll-up has begun with.
    earliest: Option<Timestamp>,
}

/// A roll-up that is under way.
#[derive(Debug, Default)]
struct Current {
    /// It is about batches with smaller numbers.
    before: u64,
    /// Calls of them whose counters are yet to be looked up.
    ways: Vec<WayCount>,
    /// Growth that is not stored yet.
    growth: BTreeMap<CountKey, u64>,
    /// The earliest time of these batches.
    earliest: Option<Timestamp>,
}

impl RollUp {
    /// Goes on where the stored counters, which contain what this mark says, were left.
    pub(super) fn new(stored: CountMark) -> Self {
        let before = stored.partial.map(|(before, _)| before);
        Self {
            next: stored.complete.max(before.unwrap_or_default()),
            stored,
            current: before.map(|before| Current {
                before,
                ..Current::default()
            }),
            found: BTreeMap::new(),
            earliest: None,
        }
    }

    /// Enters a batch that was found stored, and shows each counter that lacks a call of it.
    pub(super) fn found(&mut self, batch: &RoutedBatch, mut counted: impl FnMut(CountKey)) {
        self.next = self.next.max(batch.number.saturating_add(1));
        if batch.number < self.stored.complete {
            return;
        }
        let current = self.current.as_mut();
        let (growth, earliest) = match current.filter(|current| batch.number < current.before) {
            Some(current) => (&mut current.growth, &mut current.earliest),
            None => (&mut self.found, &mut self.earliest),
        };
        *earliest = Some(earliest.map_or(batch.latest, |earliest| earliest.min(batch.latest)));
        for key in batch.count_keys() {
            if !self.stored.contains(batch.number, &key) {
                *growth.entry(key).or_default() += 1;
                counted(key);
            }
        }
    }

    /// Numbers a new batch.
    pub(super) fn number(&mut self, batch: &mut RoutedBatch) {
        batch.number = self.next;
        self.next += 1;
        let earliest = self.earliest.unwrap_or(batch.latest);
        self.earliest = Some(earliest.min(batch.latest));
    }

    /// Whether a roll-up is under way.
    pub(super) const fn is_under_way(&self) -> bool {
        self.current.is_some()
    }

    /// Whether there are batches to begin one with.
    pub(super) const fn is_possible(&self) -> bool {
        self.current.is_none() && self.next > self.stored.complete
    }

    /// Begins one with all batches numbered so far, the calls of which went these ways.
    pub(super) fn begin(&mut self, ways: Vec<WayCount>) {
        self.current = Some(Current {
            before: self.next,
            ways,
            growth: std::mem::take(&mut self.found),
            earliest: self.earliest.take(),
        });
    }

    /// Calls whose counters are yet to be looked up.
    pub(super) fn ways(&self) -> impl Iterator<Item = &WayCount> {
        self.current.iter().flat_map(|current| &current.ways)
    }

    /// Looks the counters of some calls up, and shows each with its growth; tells whether there are more.
    pub(super) fn look_up(
        &mut self,
        directory: &Directory,
        limit: usize,
        mut counted: impl FnMut(CountKey, u64),
    ) -> bool {
        let Some(current) = &mut self.current else {
            return false;
        };
        let first = current.ways.len().saturating_sub(limit);
        for count in current.ways.drain(first..) {
            if let Some(key) = count.way.count_key(directory) {
                *current.growth.entry(key).or_default() += count.calls;
                counted(key, count.calls);
            }
        }
        !current.ways.is_empty()
    }

    /// The next piece, if there is one and every counter is looked up: its commit takes it by
    /// [`Self::stored`], or gives it back.
    pub(super) fn take_piece(&mut self, limit: usize) -> Option<BatchesCounted> {
        let current = self.current.as_mut()?;
        if !current.ways.is_empty() {
            return None;
        }
        let pop = || current.growth.pop_first();
        let growth: Vec<(CountKey, u64)> = std::iter::from_fn(pop).take(limit).collect();
        let mark = match growth.last() {
            Some((through, _)) if !current.growth.is_empty() => CountMark {
                complete: self.stored.complete,
                partial: Some((current.before, *through)),
            },
            _ => CountMark {
                complete: current.before,
                partial: None,
            },
        };
        Some(BatchesCounted { growth, mark })
    }

    /// Takes back a piece that could not be stored.
    pub(super) fn give_back(&mut self, piece: BatchesCounted) {
        if let Some(current) = &mut self.current {
            current.growth.extend(piece.growth);
        }
    }

    /// Notes that a piece is stored.
    pub(super) fn stored(&mut self, piece: &BatchesCounted) {
        self.stored = piece.mark;
        if self.stored.partial.is_none() {
            self.current = None;
        }
    }

    /// The time from before which batches are in every stored counter.
    pub(super) fn counted_before(&self) -> Timestamp {
        let current = self.current.as_ref().and_then(|current| current.earliest);
        let earliest = current.into_iter().chain(self.earliest).min();
        earliest.unwrap_or(Timestamp::from_millis(i64::MAX))
    }
}
