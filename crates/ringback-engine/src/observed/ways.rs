//! The ways of SIP calls, and how many calls took each: the source of batches and counters. A way is a route on
//! one day.
//!
//! A call raises one integer here. Counters have long keys in an ordered map, so they are raised only once in a
//! while. A batch names a way once, however many of its calls took it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};
use std::hint::black_box;

use arrayvec::ArrayVec;
use foldhash::fast::RandomState;
use ringback_routing::{AgentSlot, Directory, EnvironmentSlot};

use crate::{BatchRoute, CountKey, CountKind, RoutedBatch};

/// Where a SIP call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The environment of the dialed number.
    pub(crate) environment: EnvironmentSlot,
    /// The kind of counter to raise, if any.
    pub(crate) kind: Option<CountKind>,
    /// The agent that it went to.
    pub(crate) agent: Option<AgentSlot>,
    /// The agent whose call was returned.
    pub(crate) source: Option<AgentSlot>,
}

/// A route on one day: all its calls raise the same counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The route of the calls.
    pub(super) route: Route,
    /// The day, in days since 1970-01-01, UTC.
    pub(super) day: i32,
}

/// How many calls took one way.
#[derive(Clone, Copy, Debug)]
pub(super) struct WayCount {
    /// The route and the day.
    pub(super) way: Way,
    /// The number of calls.
    pub(super) calls: u64,
    /// The latest batch that names it, counted from 1; 0 if none does.
    batch: u32,
    /// The index that it has in that batch, or [`NOWHERE`].
    index: u32,
}

/// The ways of calls, by their indexes.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// The index of each way.
    indexes: HashMap<Way, u32, RandomState>,
    /// The number of calls of each way.
    counts: Vec<WayCount>,
    /// How many batches were made.
    batches: u32,
}

impl Ways {
    /// Counts calls by their ways, and appends the index of each way to `indexes`.
    ///
    /// All are looked up before any is counted, so that the reads from memory overlap.
    pub(super) fn raise_all(
        &mut self,
        ways: impl Iterator<Item = Way> + Clone,
        indexes: &mut Vec<u32>,
    ) {
        let from = indexes.len();
        let known = &self.indexes;
        indexes.extend(
            ways.clone()
                .map(|way| known.get(&way).copied().unwrap_or(NOWHERE)),
        );
        for (way, index) in ways.zip(indexes.iter_mut().skip(from)) {
            if *index == NOWHERE {
                *index = self.enter(way);
            }
            if let Some(count) = self.counts.get_mut(*index as usize) {
                count.calls += 1;
            }
        }
    }

    /// The index of a way, which is entered if it is new.
    fn enter(&mut self, way: Way) -> u32 {
        // There are no more ways than calls within a few minutes, so the index fits.
        let next = u32::try_from(self.counts.len()).unwrap_or(NOWHERE);
        match self.indexes.entry(way) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.counts.push(WayCount {
                    way,
                    calls: 0,
                    batch: 0,
                    index: NOWHERE,
                });
                *new.insert(next)
            }
        }
    }

    /// Gives a batch, whose routes are indexes in this table, a list of routes of its own. Calls of a removed
    /// environment are dropped.
    ///
    /// Takes some calls at a time, and yields between: nobody waits for the batch, and the thread that answers calls
    /// may need this core. Each step reads the memory of all of them before the next one needs it, so that the reads
    /// overlap.
    pub(super) fn name_routes(&mut self, batch: &mut RoutedBatch, directory: &Directory) {
        self.batches += 1;
        let mut unnamed: ArrayVec<usize, NAMED_AT_ONCE> = ArrayVec::new();
        for calls in batch.calls.chunks_mut(NAMED_AT_ONCE) {
            for call in &*calls {
                let index = call.route as usize;
                if let Some(count) = self.counts.get_mut(index)
                    && count.batch != self.batches
                {
                    count.batch = self.batches;
                    count.index = NOWHERE;
                    unnamed.push(index);
                }
            }
            for count in unnamed.iter().filter_map(|index| self.counts.get(*index)) {
                let Route { agent, source, .. } = count.way.route;
                for slot in [agent, source].into_iter().flatten() {
                    black_box(directory.identity(slot));
                }
            }
            for index in unnamed.drain(..) {
                let Some(count) = self.counts.get_mut(index) else {
                    continue;
                };
                if let (Some(route), Ok(named)) = (
                    count.way.route.named(directory),
                    u32::try_from(batch.routes.len()),
                ) {
                    count.index = named;
                    batch.routes.push(route);
                }
            }
            for call in calls {
                let count = self.counts.get(call.route as usize);
                call.route = count.map_or(NOWHERE, |count| count.index);
            }
            std::thread::yield_now();
        }
        batch.calls.retain(|call| call.route != NOWHERE);
    }

    /// The ways and their numbers of calls.
    pub(super) fn iter(&self) -> impl Iterator<Item = &WayCount> {
        self.counts.iter()
    }

    /// Empties the table; returns the ways and their numbers of calls.
    pub(super) fn take(&mut self) -> Vec<WayCount> {
        // The table keeps its memory: otherwise the next calls would wait while it grows.
        self.indexes.clear();
        self.batches = 0;
        std::mem::take(&mut self.counts)
    }
}

impl Route {
    /// The route by the identifiers of environment and agents; `None` if the environment was removed and no agent
    /// shows which one it was.
    fn named(&self, directory: &Directory) -> Option<BatchRoute> {
        let identity = |slot: Option<AgentSlot>| slot.and_then(|slot| directory.identity(slot));
        let (agent, source) = (identity(self.agent), identity(self.source));
        Some(BatchRoute {
            environment: match agent {
                Some((environment, _)) => environment,
                None => directory.environment(self.environment)?.record.id,
            },
            agent: agent.map(|(_, id)| id),
            source: source.map(|(_, id)| id),
            kind: self.kind,
        })
    }
}

impl Way {
    /// The counter that these calls raise, if any; they count even if an agent was deleted meanwhile.
    pub(super) fn count_key(&self, directory: &Directory) -> Option<CountKey> {
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
}

impl Hash for Way {
    /// Two integers instead of many fields: a way is looked up for every call.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let slot = |agent: Option<AgentSlot>| agent.map_or(u64::MAX, |slot| u64::from(slot.0));
        let route = &self.route;
        state.write_u64(slot(route.agent) << 32 ^ slot(route.source));
        let kind = route.kind.map_or(u64::MAX, |kind| kind as u64);
        let day = u64::from(self.day.cast_unsigned());
        state.write_u64(day << 32 ^ u64::from(route.environment.0) << 8 ^ kind);
    }
}

/// How many calls of a batch get their routes at once: some microseconds of work.
const NAMED_AT_ONCE: usize = 128;

/// An index that no way has.
const NOWHERE: u32 = u32::MAX;
