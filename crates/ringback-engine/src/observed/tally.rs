//! From calls routed over SIP to batches and counters: each Call-ID once.
//!
//! The threads that route calls move them to the tally, a few at a time. The writer takes two things: a list of
//! calls, which it makes durable as batches, and the number of calls of each way, from which the
//! [roll-up](crate::observed::roll_up) raises counters now and then.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeFrom;

use ringback_routing::{AgentId, Directory, EnvironmentId, Timestamp};

use crate::change::day_of;
use crate::observed::roll_up::RollUp;
use crate::observed::routed::RoutedTable;
use crate::observed::ways::{Route, Way, Ways};
use crate::{
    AnsweredCall, BatchCall, Change, CountKey, CountKind, CountMark, RoutedBatch, RoutedEvent,
    StoredCounts,
};

/// The calls routed within the last day, and the counters.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Calls routed within the last day.
    pub(super) routed: RoutedTable,
    /// The counters, without calls in `ways` and in the roll-up.
    counts: BTreeMap<CountKey, u64>,
    /// SIP calls to be taken up.
    arrivals: Vec<Arrival>,
    /// The indexes of their ways, while they are taken up.
    indexes: Vec<u32>,
    /// The ways of calls since the latest roll-up began.
    ways: Ways,
    /// SIP calls to be made durable; their routes are indexes in `ways`.
    calls: Vec<BatchCall>,
    /// Batches that could not be made durable.
    batches: VecDeque<RoutedBatch>,
    /// Other events to be made durable.
    events: Vec<RoutedEvent>,
    /// Growth of counters to be made durable, without growth by batches.
    growth: BTreeMap<CountKey, u64>,
    /// Adds batches to the stored counters.
    roll_up: RollUp,
    /// An empty batch whose memory is reused.
    spare: RoutedBatch,
}

/// A call routed over SIP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// The hash of its Call-ID.
    pub(crate) sid_hash: u64,
    /// When it was routed, in seconds since 1970.
    pub(crate) second: u32,
    /// Where it went.
    pub(crate) route: Route,
}

impl Arrival {
    /// The way that the call took.
    fn way(&self) -> Way {
        Way {
            route: self.route,
            day: day_of(Timestamp::from_seconds(i64::from(self.second))),
        }
    }
}

impl Tally {
    /// Starts from stored counters, which contain the batches of this mark.
    pub(super) fn new(counts: StoredCounts, mark: CountMark) -> Self {
        Self {
            routed: RoutedTable::default(),
            counts: counts.into_iter().collect(),
            arrivals: Vec::new(),
            indexes: Vec::new(),
            ways: Ways::default(),
            calls: Vec::new(),
            batches: VecDeque::new(),
            events: Vec::new(),
            growth: BTreeMap::new(),
            roll_up: RollUp::new(mark),
            spare: RoutedBatch::default(),
        }
    }

    /// Enters a stored event. `is_known`: its calls are not older than a day.
    pub(super) fn found(&mut self, event: &RoutedEvent, is_known: bool, directory: &Directory) {
        match event {
            RoutedEvent::Batch(batch) if is_known => self.follow(batch, directory),
            RoutedEvent::Batch(batch) => self.count(batch.number, batch.count_keys()),
            _ if is_known => self.routed.replay(event, directory),
            _ => {}
        }
    }

    /// Enters a batch from the log that another node appended, or an earlier run. Of several calls with one
    /// Call-ID the first in the log counts.
    pub(super) fn follow(&mut self, batch: &RoutedBatch, directory: &Directory) {
        let mut keys = Vec::new();
        self.routed.replay_batch(batch, directory, |call| {
            keys.extend(batch.count_key(call));
        });
        self.count(batch.number, keys);
    }

    /// Raises the counters that lack a call of a batch.
    fn count(&mut self, number: u64, keys: impl IntoIterator<Item = CountKey>) {
        let counts = &mut self.counts;
        self.roll_up.found(number, keys, |key| {
            *counts.entry(key).or_default() += 1;
        });
    }

    /// Exchanges the list of arrivals for an empty one; [`Self::take_up`] must follow.
    pub(super) fn swap_arrivals(&mut self, arrivals: &mut Vec<Arrival>) {
        std::mem::swap(&mut self.arrivals, arrivals);
    }

    /// Enters the arrivals; a Call-ID that is known is not counted again.
    pub(super) fn take_up(&mut self) {
        let routed = &mut self.routed;
        routed.warm(self.arrivals.iter().map(|arrival| arrival.sid_hash));
        self.arrivals.retain(|arrival| {
            let Route { agent, source, .. } = arrival.route;
            routed.insert(arrival.sid_hash, arrival.second, agent, source)
        });
        let ways = self.arrivals.iter().map(Arrival::way);
        self.ways.raise_all(ways, &mut self.indexes);
        for (arrival, route) in self.arrivals.drain(..).zip(self.indexes.drain(..)) {
            // While storage fails or hangs, the list must not grow without limit: later calls are counted, but
            // forgotten after a restart.
            if self.calls.len() < PENDING_LIMIT {
                self.calls.push(BatchCall {
                    sid_hash: arrival.sid_hash,
                    second: arrival.second,
                    route,
                });
            }
        }
        if self.arrivals.capacity() > ARRIVALS_USUAL {
            self.arrivals = Vec::new();
            self.indexes = Vec::new();
        }
    }

    /// Notes that a SIP call was answered, if it is known and was a callback.
    pub(super) fn answered_over_sip(&mut self, call: &AnsweredCall, directory: &Directory) {
        if let Ok(Some(key)) = self.routed.answerable(call, directory) {
            self.routed.mark_answered(call.sid_hash);
            self.add(key, 1);
            *self.growth.entry(key).or_default() += 1;
            if self.events.len() < PENDING_LIMIT {
                self.events.push(RoutedEvent::Answered(*call));
            }
        }
    }

    /// Raises a counter whose growth is durable, or will be.
    pub(super) fn add(&mut self, key: CountKey, count: u64) {
        *self.counts.entry(key).or_default() += count;
    }

    /// Passes on the counters of an environment between two days, both included; a counter may come in parts.
    pub(super) fn visit_counts(
        &self,
        directory: &Directory,
        environment: EnvironmentId,
        (first, last): (i32, i32),
        mut visitor: impl FnMut(CountKey, u64),
    ) {
        for (key, count) in self.counts.range(count_range(environment, first)) {
            if key.environment != environment || key.day > last {
                break;
            }
            visitor(*key, *count);
        }
        let Some(slot) = directory.environment_by_id(environment).map(|one| one.slot) else {
            return;
        };
        for count in self.ways.iter().chain(self.roll_up.ways()) {
            let way = &count.way;
            if way.route.environment == slot
                && (first..=last).contains(&way.day)
                && let Some(key) = way.count_key(directory)
                && key.environment == environment
            {
                visitor(key, count.calls);
            }
        }
    }

    /// The observations to make durable next; see
    /// [`Observed::take_pending`](crate::observed::Observed::take_pending).
    pub(super) fn take_pending(&mut self, directory: &Directory, roll_up: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut batches: Vec<RoutedBatch> = self.batches.drain(..).collect();
        let begins = roll_up && !self.roll_up.is_under_way();
        // Take all calls: their routes are indexes in `ways`, which starts again with the roll-up.
        let limit = if begins {
            self.calls.len()
        } else {
            // Take more if the disk is slow: then a commit takes longer than its calls.
            CALLS_AT_ONCE.max(self.calls.len() / 8)
        };
        batches.extend(self.batch(limit, directory));
        self.roll_up.number(&mut batches);
        if begins && self.roll_up.is_possible(batches.len()) {
            self.roll_up.begin(self.ways.take(), batches.len());
            self.prepare_roll_up(directory);
        }
        changes.extend(batches.into_iter().map(Change::BatchRouted));
        // Answers behind the calls that they answer: a crash must not leave an answer that counts without its call.
        if self.calls.is_empty() {
            let growth = std::mem::take(&mut self.growth).into_iter();
            changes.extend(growth.map(|(key, count)| Change::Counted(key, count)));
            if !self.events.is_empty() {
                changes.push(Change::Routed(std::mem::take(&mut self.events)));
            }
        }
        let piece = self.roll_up.take_piece(COUNTERS_AT_ONCE);
        changes.extend(piece.map(Change::BatchesCounted));
        changes
    }

    /// Makes a batch of the first calls that are to be made durable.
    fn batch(&mut self, limit: usize, directory: &Directory) -> Option<RoutedBatch> {
        let mut batch = std::mem::take(&mut self.spare);
        batch
            .calls
            .extend(self.calls.drain(..limit.min(self.calls.len())));
        self.ways.name_routes(&mut batch, directory);
        let Some(latest) = batch.calls.iter().map(|call| call.second).max() else {
            self.spare = batch;
            return None;
        };
        batch.latest = Timestamp::from_seconds(i64::from(latest));
        Some(batch)
    }

    /// How many calls and answers wait to be made durable.
    pub(super) fn pending(&self) -> usize {
        let batches = self.batches.iter().map(|batch| batch.calls.len());
        self.calls.len() + batches.sum::<usize>() + self.events.len()
    }

    /// Whether a whole batch is waiting to be made durable.
    pub(super) fn has_much_pending(&self) -> bool {
        self.calls.len() >= CALLS_AT_ONCE
    }

    /// Looks up the counters of some of the ways; returns whether there are more.
    pub(super) fn prepare_roll_up(&mut self, directory: &Directory) -> bool {
        let counts = &mut self.counts;
        self.roll_up.look_up(directory, WAYS_AT_ONCE, |key, count| {
            *counts.entry(key).or_default() += count;
        })
    }

    /// Whether a roll-up is in progress.
    pub(super) const fn is_rolling_up(&self) -> bool {
        self.roll_up.is_under_way()
    }

    /// Returns observations that could not be made durable. While storage fails their number is limited: later
    /// calls are counted, but forgotten after a restart.
    pub(super) fn give_back(&mut self, changes: Vec<Change>) {
        let mut calls = 0;
        for change in changes {
            match change {
                Change::Counted(key, count) => *self.growth.entry(key).or_default() += count,
                Change::BatchRouted(batch) => {
                    calls += batch.calls.len();
                    if calls <= PENDING_LIMIT {
                        self.batches.push_back(batch);
                    }
                }
                Change::Routed(mut events) => {
                    events.append(&mut self.events);
                    events.truncate(PENDING_LIMIT);
                    self.events = events;
                }
                Change::BatchesCounted(piece) => self.roll_up.give_back(piece),
                _ => {}
            }
        }
        self.roll_up.gave_up_all_but(self.batches.len());
    }

    /// Notes observations that have become durable, and reuses their memory.
    pub(super) fn made_durable(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::BatchRouted(mut batch) => {
                    self.roll_up.became_durable(&batch);
                    if batch.calls.capacity() <= SPARE_CALLS {
                        batch.calls.clear();
                        batch.routes.clear();
                        self.spare = batch;
                    }
                }
                Change::BatchesCounted(piece) => self.roll_up.stored(&piece),
                _ => {}
            }
        }
    }
}

/// The range of counters of an environment from this day on. Counters of other environments follow.
fn count_range(environment: EnvironmentId, first: i32) -> RangeFrom<CountKey> {
    let least = AgentId(uuid::Uuid::nil());
    CountKey {
        environment,
        day: first,
        agent: least,
        source: None,
        kind: CountKind::Received,
    }..
}

/// The most calls that wait while storage fails.
const PENDING_LIMIT: usize = 1_000_000;

/// A longer list of arrivals comes from a lock that was held for long; its memory is not kept.
const ARRIVALS_USUAL: usize = 16_384;

/// How many calls are made durable at once: about 100 microseconds of work.
const CALLS_AT_ONCE: usize = if cfg!(test) { 16 } else { 2_048 };

/// How many counters are raised in one commit.
const COUNTERS_AT_ONCE: usize = if cfg!(test) { 3 } else { 1_024 };

/// How many ways get their counters looked up at once: about 100 microseconds of work.
const WAYS_AT_ONCE: usize = if cfg!(test) { 2 } else { 128 };

/// The longest list that is kept for the next batch, in calls.
const SPARE_CALLS: usize = 65_536;

#[cfg(test)]
mod tests;
