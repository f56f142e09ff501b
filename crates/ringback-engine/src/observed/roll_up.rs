//! Adds the batches of SIP calls to the stored counters.
//!
//! Raising the counters with each batch would write each of them as often as calls come. Instead, once in a while
//! a *roll-up* adds what all batches since the last one have counted. With many counters it becomes durable in
//! pieces, one commit each, in the order of their keys. Each piece has a [`CountMark`] in the same commit. So
//! after a crash at any point exactly those counters that lack a batch are raised by it again.

use std::collections::BTreeMap;

use ringback_routing::Directory;

use crate::observed::ways::WayCount;
use crate::{BatchesCounted, CountKey, CountMark, RoutedBatch};

/// Which batches the stored counters contain, and how much the counters still have to grow.
#[derive(Debug, Default)]
pub(super) struct RollUp {
    /// The number of the next batch to become durable.
    next: u64,
    /// Which batches the stored counters contain.
    stored: CountMark,
    /// The roll-up in progress.
    current: Option<Current>,
    /// Growth by batches from the log that are in no roll-up yet.
    found: BTreeMap<CountKey, u64>,
}

/// A roll-up in progress.
#[derive(Debug, Default)]
struct Current {
    /// It covers the batches with smaller numbers. `None` until all its batches are durable: they get their
    /// numbers then, and batches of other nodes may raise these.
    before: Option<u64>,
    /// How many of its batches are not durable yet.
    waiting: usize,
    /// Its calls whose counters must still be looked up.
    ways: Vec<WayCount>,
    /// Growth that is not stored yet.
    growth: BTreeMap<CountKey, u64>,
}

impl RollUp {
    /// Goes on from stored counters, which contain the batches of this mark.
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

    /// Adds a batch from the log, with the counters that its calls raise. Passes on each counter that lacks a
    /// call of the batch.
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
        // A roll-up whose own batches are not durable yet covers this one too: they come behind it in the log.
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

    /// Numbers the batches that become durable next, in this order. If they do not become durable, they are
    /// numbered again.
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

    /// Notes that at most this many batches can still become durable: others were given up.
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

    /// Whether a roll-up is in progress.
    pub(super) const fn is_under_way(&self) -> bool {
        self.current.is_some()
    }

    /// Whether there are batches for a roll-up; `waiting` of them are not durable yet.
    pub(super) const fn is_possible(&self, waiting: usize) -> bool {
        self.current.is_none() && (waiting > 0 || self.next > self.stored.complete)
    }

    /// Begins a roll-up of all batches so far, whose calls took these ways; `waiting` of them are not durable
    /// yet.
    pub(super) fn begin(&mut self, ways: Vec<WayCount>, waiting: usize) {
        self.current = Some(Current {
            before: (waiting == 0).then_some(self.next),
            waiting,
            ways,
            growth: std::mem::take(&mut self.found),
        });
    }

    /// Calls whose counters must still be looked up.
    pub(super) fn ways(&self) -> impl Iterator<Item = &WayCount> {
        self.current.iter().flat_map(|current| &current.ways)
    }

    /// Looks up the counters of some calls, and passes on each with its growth; returns whether there are more.
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

    /// The next piece, once all batches of the roll-up are durable and every counter is looked up. After its
    /// commit call [`Self::stored`], or give it back.
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

    /// Returns a piece that could not be stored.
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
