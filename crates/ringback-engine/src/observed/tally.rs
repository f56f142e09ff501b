//! From calls routed over SIP to counters: each Call-ID once, calls that went the same way together.
//!
//! Calls are taken up a few at a time by the threads that route them. What is left for the writer is
//! a list of calls for each way that they went.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeFrom;

use foldhash::fast::RandomState;
use ringback_routing::{AgentId, AgentSlot, Directory, EnvironmentId, EnvironmentSlot, Timestamp};

use crate::observed::day_of;
use crate::observed::routed::RoutedTable;
use crate::{AnsweredCall, Change, CountKey, CountKind, RoutedEvent, RoutedOverSip, StoredCounts};

/// The calls routed within the last day, and the counters.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Calls routed within the last day.
    pub(super) routed: RoutedTable,
    /// The counters.
    counts: BTreeMap<CountKey, u64>,
    /// SIP calls to be taken up.
    arrivals: Vec<Arrival>,
    /// SIP calls that the writer has yet to make durable.
    alike: HashMap<Way, Alike, RandomState>,
    /// Other events that it has to make durable.
    events: Vec<RoutedEvent>,
    /// Growth of counters that it has to make durable.
    growth: BTreeMap<CountKey, u64>,
    /// Empty lists with room.
    spare: Vec<Vec<(u64, u32)>>,
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

/// Where a SIP call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    /// Whose it is.
    pub(crate) environment: EnvironmentSlot,
    /// What to count.
    pub(crate) kind: Option<CountKind>,
    /// The agent that it went to.
    pub(crate) agent: Option<AgentSlot>,
    /// The agent whose call was returned.
    pub(crate) source: Option<AgentSlot>,
}

/// Calls that are counted and stored together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Way {
    /// Where they went.
    route: Route,
    /// On which day, in days since 1970-01-01, UTC.
    day: i32,
}

/// The calls of one [`Way`].
#[derive(Debug, Default)]
struct Alike {
    /// The hashes of their Call-IDs, and the seconds since 1970 when they were routed.
    calls: Vec<(u64, u32)>,
    /// How many of them the counters hold already.
    counted: usize,
}

impl Tally {
    /// Starts from what was stored.
    pub(super) fn new(counts: StoredCounts, events: &[RoutedEvent], directory: &Directory) -> Self {
        let mut routed = RoutedTable::default();
        for event in events {
            routed.replay(event, directory);
        }
        Self {
            routed,
            counts: counts.into_iter().collect(),
            arrivals: Vec::new(),
            alike: HashMap::default(),
            events: Vec::new(),
            growth: BTreeMap::new(),
            spare: Vec::new(),
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
            let spare = &mut self.spare;
            let alike = self
                .alike
                .entry(Way { route, day })
                .or_insert_with(|| Alike {
                    calls: spare.pop().unwrap_or_default(),
                    counted: 0,
                });
            alike.calls.push((sid_hash, second));
        }
        if self.arrivals.capacity() > ARRIVALS_USUAL {
            self.arrivals = Vec::new();
        }
    }

    /// Brings the counters up to the calls taken up.
    pub(super) fn count(&mut self, directory: &Directory) {
        for (way, alike) in &mut self.alike {
            let new = alike.calls.len() - alike.counted;
            alike.counted = alike.calls.len();
            if let Some(key) = way.count_key(directory)
                && let Ok(new @ 1..) = u64::try_from(new)
            {
                *self.counts.entry(key).or_default() += new;
                *self.growth.entry(key).or_default() += new;
            }
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

    /// The counters of an environment from this day on (and then those of other environments).
    pub(super) fn counts_from(
        &self,
        environment: EnvironmentId,
        first: i32,
    ) -> impl Iterator<Item = (&CountKey, &u64)> {
        self.counts.range(count_range(environment, first))
    }

    /// What is to be made durable.
    pub(super) fn take_pending(&mut self, directory: &Directory) -> Vec<Change> {
        self.count(directory);
        let growth = std::mem::take(&mut self.growth).into_iter();
        let mut changes: Vec<Change> = growth
            .map(|(key, count)| Change::Counted(key, count))
            .collect();
        let mut events = Vec::with_capacity(self.alike.len() + self.events.len());
        for (way, alike) in self.alike.drain() {
            events.extend(way.event(alike.calls, directory));
        }
        // Behind the calls that they answer.
        events.append(&mut self.events);
        if !events.is_empty() {
            changes.push(Change::Routed(events));
        }
        changes
    }

    /// Takes back what could not be made durable. While storage fails there is an end to what is
    /// kept: later calls are counted, but not known after a restart.
    pub(super) fn give_back(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Counted(key, count) => *self.growth.entry(key).or_default() += count,
                Change::Routed(mut events) => {
                    events.append(&mut self.events);
                    let mut calls = 0;
                    events.retain(|event| {
                        calls += match event {
                            RoutedEvent::RoutedOverSip(alike) => alike.calls.len(),
                            _ => 1,
                        };
                        calls <= PENDING_LIMIT
                    });
                    self.events = events;
                }
                _ => {}
            }
        }
    }

    /// Takes back what has become durable, for the memory that it holds.
    pub(super) fn recycle(&mut self, changes: Vec<Change>) {
        for change in changes {
            let Change::Routed(events) = change else {
                continue;
            };
            for event in events {
                if let RoutedEvent::RoutedOverSip(RoutedOverSip { mut calls, .. }) = event
                    && self.spare.len() < SPARE_LISTS
                    && calls.capacity() <= SPARE_CALLS
                {
                    calls.clear();
                    self.spare.push(calls);
                }
            }
        }
    }
}

impl Way {
    /// The counter that these calls raise, if any: whoever was deleted meanwhile is counted all the same.
    fn count_key(&self, directory: &Directory) -> Option<CountKey> {
        let (environment, agent) = directory.identity(self.route.agent?)?;
        let source = self.route.source.and_then(|slot| directory.identity(slot));
        Some(CountKey {
            environment,
            day: self.day,
            agent,
            source: source.map(|(_, id)| id),
            kind: self.route.kind?,
        })
    }

    /// What is stored of these calls; nothing if their environment is gone.
    fn event(&self, calls: Vec<(u64, u32)>, directory: &Directory) -> Option<RoutedEvent> {
        let identity = |slot: Option<AgentSlot>| slot.and_then(|slot| directory.identity(slot));
        let (agent, source) = (identity(self.route.agent), identity(self.route.source));
        let environment = match agent {
            Some((environment, _)) => environment,
            None => directory.environment(self.route.environment)?.record.id,
        };
        let latest = calls.iter().map(|(_, second)| *second).max()?;
        Some(RoutedEvent::RoutedOverSip(RoutedOverSip {
            environment,
            agent: agent.map(|(_, id)| id),
            source: source.map(|(_, id)| id),
            latest: Timestamp::from_seconds(i64::from(latest)),
            calls,
        }))
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

/// How many empty lists are kept.
const SPARE_LISTS: usize = 256;

/// The longest list that is kept, in calls.
const SPARE_CALLS: usize = 65_536;
