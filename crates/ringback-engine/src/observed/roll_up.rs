//! Brings the stored counters up to the batches of SIP calls.
//!
//! With each batch to raise the counters would be to write each of them as often as calls come. They follow
//! from the batches: once in a while a *roll-up* adds to them what all batches since the one before have
//! counted. Where there are many counters it is made durable in pieces, one commit each, in the order of
//! their keys. Each piece carries a [`CountMark`] in the same commit, so that after a crash at any point
//! the counters that lack a batch are raised by it again, and no others.

use std::collections::BTreeMap;

use ringback_routing::Directory;

use crate::observed::ways::WayCount;
use crate::{BatchesCounted, CountKey, CountMark, RoutedBatch};

/// Which batches the stored counters contain, and by how much they are to grow.
#[derive(Debug, Default)]
pub(super) struct RollUp {
    /// The number of the next batch to become durable.
    next: u64,
    /// What the stored counters contain.
    stored: CountMark,
    /// The roll-up under way.
    current: Option<Current>,
    /// Growth by batches that came out of the log and that no roll-up has begun with.
    found: BTreeMap<CountKey, u64>,
}

/// A roll-up that is under way.
#[derive(Debug, Default)]
struct Current {
    /// It is about batches with smaller numbers. None as long as some of these batches are not durable: they
    /// get their numbers then, which others' batches may raise.
    before: Option<u64>,
    /// How many of its batches are yet to become durable.
    waiting: usize,
    /// Calls of them whose counters are yet to be looked up.
    ways: Vec<WayCount>,
    /// Growth that is not stored yet.
    growth: BTreeMap<CountKey, u64>,
}

impl RollUp {
    /// Goes on where the stored counters, which contain what this mark says, were left.
    pub(super) fn new(stored: CountMark) -> Self {
        let before = stored.partial.map(|(before, _)| before);
        Self {
            next: stored.complete.max(before.unwrap_or_default()),
            stored,
            current: before.map(|before| Current {
                before: Some(before),
                ..Current::default()
            }),
            found: BTreeMap::new(),
        }
    }

    /// Enters a batch that came out of the log, with the counters that its calls raise, and shows each that
    /// lacks a call of it.
    pub(super) fn found(
        &mut self,
        number: u64,
        keys: impl IntoIterator<Item = CountKey>,
        mut counted: impl FnMut(CountKey),
    ) {
        self.next = self.next.max(number.saturating_add(1));
        if number < self.stored.complete {
            return;
        }
        // A roll-up whose own batches are not durable yet is about this one too: theirs come behind it.
        let current = self.current.as_mut().filter(|current| {
            let before = current.before;
            before.is_none_or(|before| number < before)
        });
        let growth = current.map_or(&mut self.found, |current| &mut current.growth);
        for key in keys {
            if !self.stored.contains(number, &key) {
                *growth.entry(key).or_default() += 1;
                counted(key);
            }
        }
    }

    /// Numbers batches that are to become durable next, in this order. Where they do not, they are numbered
    /// again.
    pub(super) fn number(&self, batches: &mut [RoutedBatch]) {
        for (number, batch) in (self.next..).zip(batches) {
            batch.number = number;
        }
    }

    /// Notes that a batch has become durable.
    pub(super) fn became_durable(&mut self, batch: &RoutedBatch) {
        self.next = batch.number.saturating_add(1);
        if let Some(current) = &mut self.current {
            let is_last = current.waiting == 1;
            current.waiting = current.waiting.saturating_sub(1);
            if is_last {
                current.before = Some(self.next);
            }
        }
    }

    /// Notes that no more than this many batches are yet to become durable: others were given up.
    pub(super) fn gave_up_all_but(&mut self, batches: usize) {
        if let Some(current) = &mut self.current
            && current.waiting > batches
        {
            current.waiting = batches;
            if batches == 0 {
                current.before = Some(self.next);
            }
        }
    }

    /// Whether a roll-up is under way.
    pub(super) const fn is_under_way(&self) -> bool {
        self.current.is_some()
    }

    /// Whether there are batches to begin one with, so many that are not durable yet among them.
    pub(super) const fn is_possible(&self, waiting: usize) -> bool {
        self.current.is_none() && (waiting > 0 || self.next > self.stored.complete)
    }

    /// Begins one with all batches so far, the calls of which went these ways; so many of them are yet to
    /// become durable.
    pub(super) fn begin(&mut self, ways: Vec<WayCount>, waiting: usize) {
        self.current = Some(Current {
            before: (waiting == 0).then_some(self.next),
            waiting,
            ways,
            growth: std::mem::take(&mut self.found),
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

    /// The next piece, if there is one, all its batches are durable and every counter is looked up: its commit
    /// takes it by [`Self::stored`], or gives it back.
    pub(super) fn take_piece(&mut self, limit: usize) -> Option<BatchesCounted> {
        let current = self.current.as_mut()?;
        let before = current.before.filter(|_| current.ways.is_empty())?;
        let pop = || current.growth.pop_first();
        let growth: Vec<(CountKey, u64)> = std::iter::from_fn(pop).take(limit).collect();
        let mark = match growth.last() {
            Some((through, _)) if !current.growth.is_empty() => CountMark {
                complete: self.stored.complete,
                partial: Some((before, *through)),
            },
            _ => CountMark {
                complete: before,
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
}
