//! From calls routed over SIP to batches and counters: each Call-ID once.
//!
//! Calls are taken up a few at a time by the threads that route them. What is left for the writer is one
//! list of calls, which it makes durable as batches, and how many calls went which way, from which the
//! [roll-up](crate::observed::roll_up) brings counters up now and then.

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
    /// The counters, but for calls in `ways` and in the roll-up.
    counts: BTreeMap<CountKey, u64>,
    /// SIP calls to be taken up.
    arrivals: Vec<Arrival>,
    /// The ways that calls went since the latest roll-up began.
    ways: Ways,
    /// SIP calls to be made durable; their routes are indexes of ways.
    calls: Vec<BatchCall>,
    /// Batches that could not be made durable.
    batches: VecDeque<RoutedBatch>,
    /// Other events to be made durable.
    events: Vec<RoutedEvent>,
    /// Growth of counters to be made durable, but for that by batches.
    growth: BTreeMap<CountKey, u64>,
    /// Brings stored counters up to the batches.
    roll_up: RollUp,
    /// An empty batch with room.
    spare: RoutedBatch,
}

/// A call routed over SIP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// The hash of its Call-ID.
    pub(crate) sid_hash: u64,
    /// When, in seconds since 1970.
    pub(crate) second: u32,
    /// Where it went.
    pub(crate) route: Route,
}

/// What was stored of incoming calls.
pub(crate) struct StoredObserved<'a> {
    /// The counters.
    pub(crate) counts: StoredCounts,
    /// Which batches they contain.
    pub(crate) mark: CountMark,
    /// Every event that is stored, in the order committed.
    pub(crate) events: &'a [RoutedEvent],
    /// Calls routed before this are not known any more.
    pub(crate) known_since: Timestamp,
}

impl Tally {
    /// Starts from what was stored.
    pub(super) fn new(stored: StoredObserved<'_>, directory: &Directory) -> Self {
        let mut routed = RoutedTable::default();
        let mut counts: BTreeMap<CountKey, u64> = stored.counts.into_iter().collect();
        let mut roll_up = RollUp::new(stored.mark);
        for event in stored.events {
            if event.at() >= stored.known_since {
                routed.replay(event, directory);
            }
            if let RoutedEvent::Batch(batch) = event {
                roll_up.found(batch, |key| *counts.entry(key).or_default() += 1);
            }
        }
        Self {
            routed,
            counts,
            arrivals: Vec::new(),
            ways: Ways::default(),
            calls: Vec::new(),
            batches: VecDeque::new(),
            events: Vec::new(),
            growth: BTreeMap::new(),
            roll_up,
            spare: RoutedBatch::default(),
        }
    }

    /// Exchanges the list of arrivals for an empty one; [`Self::take_up`] must follow.
    pub(super) fn swap_arrivals(&mut self, arrivals: &mut Vec<Arrival>) {
        std::mem::swap(&mut self.arrivals, arrivals);
    }

    /// Enters the arrivals; a Call-ID that is known counts no more.
    pub(super) fn take_up(&mut self) {
        self.routed
            .warm(self.arrivals.iter().map(|arrival| arrival.sid_hash));
        for arrival in self.arrivals.drain(..) {
            let Arrival {
                sid_hash,
                second,
                route,
            } = arrival;
            if !self
                .routed
                .insert(sid_hash, second, route.agent, route.source)
            {
                continue;
            }
            let day = day_of(Timestamp::from_seconds(i64::from(second)));
            let route = self.ways.raise(Way { route, day });
            // While storage fails or hangs there is an end to what is kept: later calls are counted, but
            // not known after a restart.
            if self.calls.len() < PENDING_LIMIT {
                self.calls.push(BatchCall {
                    sid_hash,
                    second,
                    route,
                });
            }
        }
        if self.arrivals.capacity() > ARRIVALS_USUAL {
            self.arrivals = Vec::new();
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

    /// Raises a counter whose growth is durable, or on its way.
    pub(super) fn add(&mut self, key: CountKey, count: u64) {
        *self.counts.entry(key).or_default() += count;
    }

    /// Shows the counters of an environment between two days, both included; a counter may come in parts.
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

    /// What is to be made durable next; see [`Observed::take_pending`](crate::observed::Observed::take_pending).
    pub(super) fn take_pending(&mut self, directory: &Directory, roll_up: bool) -> Vec<Change> {
        let growth = std::mem::take(&mut self.growth).into_iter();
        let mut changes: Vec<Change> = growth
            .map(|(key, count)| Change::Counted(key, count))
            .collect();
        changes.extend(self.batches.drain(..).map(Change::BatchRouted));
        let begins = roll_up && !self.roll_up.is_under_way();
        // With all calls, because those that are left would belong to ways of before.
        let limit = if begins {
            self.calls.len()
        } else {
            // More where the disk does not keep up: then a commit is what takes long.
            CALLS_AT_ONCE.max(self.calls.len() / 8)
        };
        changes.extend(self.batch(limit, directory).map(Change::BatchRouted));
        if begins && self.roll_up.is_possible() {
            self.roll_up.begin(self.ways.take());
            self.prepare_roll_up(directory);
        }
        // Behind the calls that they answer.
        if !self.events.is_empty() {
            changes.push(Change::Routed(std::mem::take(&mut self.events)));
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
        self.roll_up.number(&mut batch);
        Some(batch)
    }

    /// Whether a whole batch waits to be made durable.
    pub(super) fn has_much_pending(&self) -> bool {
        self.calls.len() >= CALLS_AT_ONCE
    }

    /// Looks up the counters of some of the ways that calls went; tells whether there are more.
    pub(super) fn prepare_roll_up(&mut self, directory: &Directory) -> bool {
        let counts = &mut self.counts;
        self.roll_up.look_up(directory, WAYS_AT_ONCE, |key, count| {
            *counts.entry(key).or_default() += count;
        })
    }

    /// Whether counters are being brought up to the calls.
    pub(super) const fn is_rolling_up(&self) -> bool {
        self.roll_up.is_under_way()
    }

    /// The time from before which calls are in every stored counter.
    pub(super) fn counted_before(&self) -> Timestamp {
        self.roll_up.counted_before()
    }

    /// Takes back what could not be made durable. While storage fails there is an end to what is
    /// kept: later calls are counted, but not known after a restart.
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
    }

    /// Takes note of what has become durable, and keeps the memory that it holds.
    pub(super) fn made_durable(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::BatchRouted(mut batch) if batch.calls.capacity() <= SPARE_CALLS => {
                    batch.calls.clear();
                    batch.routes.clear();
                    self.spare = batch;
                }
                Change::BatchesCounted(piece) => self.roll_up.stored(&piece),
                _ => {}
            }
        }
    }
}

/// The counters of an environment from this day on (and then those of other environments).
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

/// How many calls wait at most while storage fails.
const PENDING_LIMIT: usize = 1_000_000;

/// A list of arrivals longer than this is the mark of a lock held for long, and not kept.
const ARRIVALS_USUAL: usize = 16_384;

/// How many calls are made durable at once: some 100 microseconds' work.
const CALLS_AT_ONCE: usize = if cfg!(test) { 16 } else { 2_048 };

/// How many counters are brought up in one commit.
const COUNTERS_AT_ONCE: usize = if cfg!(test) { 3 } else { 1_024 };

/// The counters of how many ways are looked up at once: some 100 microseconds' work.
const WAYS_AT_ONCE: usize = if cfg!(test) { 2 } else { 128 };

/// The longest list that is kept for the next batch, in calls.
const SPARE_CALLS: usize = 65_536;

#[cfg(test)]
mod tests;
