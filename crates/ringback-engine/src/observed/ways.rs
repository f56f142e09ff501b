//! The ways that SIP calls went, and how many calls went each: what batches and counters are made from.
//!
//! A call raises one integer here. Counters, which have long keys and stand in an ordered map, are brought
//! up once in a while, and a batch names a way once, however many of its calls went there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};

use foldhash::fast::RandomState;
use ringback_routing::{AgentSlot, Directory, EnvironmentSlot};

use crate::{BatchRoute, CountKey, CountKind, RoutedBatch};

/// Where a SIP call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A route on one day: calls of one way raise the same counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Where they went.
    pub(super) route: Route,
    /// The day, in days since 1970-01-01, UTC.
    pub(super) day: i32,
}

/// How many calls went one way.
#[derive(Clone, Copy, Debug)]
pub(super) struct WayCount {
    /// The way.
    pub(super) way: Way,
    /// How many.
    pub(super) calls: u64,
    /// The latest batch that names it: how many batches were made before, and one.
    batch: u32,
    /// The index that it has in that batch, or [`NOWHERE`].
    index: u32,
}

/// The ways that calls went, by their indexes.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// The index of each way.
    indexes: HashMap<Way, u32, RandomState>,
    /// How many calls went each.
    counts: Vec<WayCount>,
    /// How many batches were made.
    batches: u32,
}

impl Ways {
    /// Counts a call; returns the index of its way.
    pub(super) fn raise(&mut self, way: Way) -> u32 {
        // There are no more ways than calls within a few minutes.
        let next = u32::try_from(self.counts.len()).unwrap_or(u32::MAX);
        let index = match self.indexes.entry(way) {
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
        };
        if let Some(count) = self.counts.get_mut(index as usize) {
            count.calls += 1;
        }
        index
    }

    /// Gives the calls of a batch, whose routes are indexes of ways, routes of its own. Calls of an
    /// environment that is gone are left out.
    pub(super) fn name_routes(&mut self, batch: &mut RoutedBatch, directory: &Directory) {
        self.batches += 1;
        let routes = &mut batch.routes;
        batch.calls.retain_mut(|call| {
            let Some(count) = self.counts.get_mut(call.route as usize) else {
                return false;
            };
            if count.batch != self.batches {
                count.batch = self.batches;
                count.index = NOWHERE;
                if let (Some(route), Ok(index)) = (
                    count.way.route.named(directory),
                    u32::try_from(routes.len()),
                ) {
                    count.index = index;
                    routes.push(route);
                }
            }
            call.route = count.index;
            call.route != NOWHERE
        });
    }

    /// How many calls went which way.
    pub(super) fn iter(&self) -> impl Iterator<Item = &WayCount> {
        self.counts.iter()
    }

    /// Begins anew; returns how many calls went which way until now.
    pub(super) fn take(&mut self) -> Vec<WayCount> {
        // The table keeps its memory, because the calls that come next would wait while it grows.
        self.indexes.clear();
        self.batches = 0;
        std::mem::take(&mut self.counts)
    }
}

impl Route {
    /// The route by the identifiers of environment and agents; none where the environment is gone and no
    /// agent tells which it was.
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
    /// The counter that these calls raise, if any: whoever was deleted meanwhile is counted all the same.
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
    /// Two integers instead of a dozen parts: a way is looked up for every call.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let slot = |agent: Option<AgentSlot>| agent.map_or(u64::MAX, |slot| u64::from(slot.0));
        let route = &self.route;
        state.write_u64(slot(route.agent) << 32 ^ slot(route.source));
        let kind = route.kind.map_or(u64::MAX, |kind| kind as u64);
        let day = u64::from(self.day.cast_unsigned());
        state.write_u64(day << 32 ^ u64::from(route.environment.0) << 8 ^ kind);
    }
}

/// Stands for no index.
const NOWHERE: u32 = u32::MAX;
