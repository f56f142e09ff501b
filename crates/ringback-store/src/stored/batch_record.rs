//! Batches of SIP calls as the log stores them. The tables store them in fewer bytes: see [`crate::batch`].

use ringback_engine::{BatchCall, BatchRoute, BatchesCounted, CountMark, RoutedBatch};
use ringback_routing::{AgentId, EnvironmentId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Id;
use crate::key;

/// A batch of SIP calls, version 1.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredBatch {
    number: u64,
    /// In milliseconds since 1970.
    latest: i64,
    routes: Vec<StoredRoute>,
    /// The hash of each Call-ID, when the call was routed in seconds since 1970, and the index of its route.
    calls: Vec<(u64, u32, u32)>,
}

/// A route shared by calls of a batch.
#[derive(Serialize, Deserialize)]
struct StoredRoute {
    environment: Id,
    agent: Option<Id>,
    source: Option<Id>,
    /// See [`key::kind_code`].
    kind: Option<u8>,
}

impl StoredBatch {
    /// The stored form of a batch.
    pub(crate) fn new(batch: &RoutedBatch) -> Self {
        let id = |agent: Option<AgentId>| agent.map(|agent| agent.0.into_bytes());
        let routes = batch.routes.iter().map(|route| StoredRoute {
            environment: route.environment.0.into_bytes(),
            agent: id(route.agent),
            source: id(route.source),
            kind: route.kind.map(key::kind_code),
        });
        let calls = batch.calls.iter();
        Self {
            number: batch.number,
            latest: batch.latest.millis(),
            routes: routes.collect(),
            calls: calls
                .map(|call| (call.sid_hash, call.second, call.route))
                .collect(),
        }
    }

    /// The batch.
    pub(crate) fn read(self) -> Option<RoutedBatch> {
        let agent = |id: Option<Id>| id.map(|id| AgentId(Uuid::from_bytes(id)));
        let route = |route: StoredRoute| {
            Some(BatchRoute {
                environment: EnvironmentId(Uuid::from_bytes(route.environment)),
                agent: agent(route.agent),
                source: agent(route.source),
                kind: match route.kind {
                    None => None,
                    Some(code) => Some(key::kind_of(code)?),
                },
            })
        };
        let call = |(sid_hash, second, route)| BatchCall {
            sid_hash,
            second,
            route,
        };
        Some(RoutedBatch {
            number: self.number,
            latest: Timestamp::from_millis(self.latest),
            routes: self.routes.into_iter().map(route).collect::<Option<_>>()?,
            calls: self.calls.into_iter().map(call).collect(),
        })
    }
}

/// Counters raised by batches, version 1. Counters are named by their keys in `state`.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredBatchesCounted {
    growth: Vec<(Vec<u8>, u64)>,
    complete: u64,
    partial: Option<(u64, Vec<u8>)>,
}

impl StoredBatchesCounted {
    /// The stored form of the counters.
    pub(crate) fn new(counted: &BatchesCounted) -> Self {
        let growth = counted.growth.iter();
        let partial = counted.mark.partial.as_ref();
        Self {
            growth: growth
                .map(|(counter, increment)| (key::count_key(counter), *increment))
                .collect(),
            complete: counted.mark.complete,
            partial: partial.map(|(before, through)| (*before, key::count_key(through))),
        }
    }

    /// The counters.
    pub(crate) fn read(self) -> Option<BatchesCounted> {
        let growth = self.growth.into_iter();
        let growth =
            growth.map(|(counter, increment)| Some((key::decode_count_key(&counter)?, increment)));
        Some(BatchesCounted {
            growth: growth.collect::<Option<_>>()?,
            mark: CountMark {
                complete: self.complete,
                partial: match self.partial {
                    None => None,
                    Some((before, through)) => Some((before, key::decode_count_key(&through)?)),
                },
            },
        })
    }
}
