//! Events of incoming calls, and the decisions on them: a version byte, then positional fields.

use std::sync::Arc;

use ringback_engine::{
    AnsweredCall, NamedAgent, RoutedCall, RoutedDecision, RoutedEvent, RoutedOverSip,
};
use ringback_routing::{AgentId, E164, EnvironmentId, Target, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::batch_record::StoredBatch;
use super::{
    Id, StoredCall, StoredCaller, outcome_code, outcome_of, read_number, reason_code, reason_of,
};

/// The version that is written.
const VERSION: u8 = 1;

/// Appends events to the buffer; with their decisions if `with_decisions` is set.
pub(crate) fn write_events(
    events: &[RoutedEvent],
    with_decisions: bool,
    mut to: Vec<u8>,
) -> postcard::Result<Vec<u8>> {
    to.push(VERSION);
    let events: Vec<StoredEvent<'_>> = events
        .iter()
        .map(|event| StoredEvent::new(event, with_decisions))
        .collect();
    postcard::to_extend(&events, to)
}

/// Reads events of any version.
pub(crate) fn read_events(bytes: &[u8]) -> Option<Vec<RoutedEvent>> {
    match bytes.split_first()? {
        (&VERSION, bytes) => {
            let events: Vec<StoredEvent<'_>> = postcard::from_bytes(bytes).ok()?;
            events.into_iter().map(StoredEvent::read).collect()
        }
        _ => None,
    }
}

/// Writes the decision on a call that was routed at this instant.
pub(crate) fn write_decision(
    decision: &RoutedDecision,
    at: Timestamp,
) -> postcard::Result<Vec<u8>> {
    let mut to = vec![VERSION];
    to.extend_from_slice(&at.millis().to_be_bytes());
    postcard::to_extend(&StoredDecision::new(decision), to)
}

/// Reads a decision of any version, and the instant at which its call was routed.
pub(crate) fn read_decision(bytes: &[u8]) -> Option<(Timestamp, RoutedDecision)> {
    match bytes.split_first()? {
        (&VERSION, bytes) => {
            let (millis, bytes) = bytes.split_first_chunk()?;
            let stored: StoredDecision<'_> = postcard::from_bytes(bytes).ok()?;
            let at = Timestamp::from_millis(i64::from_be_bytes(*millis));
            Some((at, stored.read()?))
        }
        _ => None,
    }
}

/// An event.
#[derive(Serialize, Deserialize)]
enum StoredEvent<'a> {
    /// A call was routed.
    #[serde(borrow)]
    Routed(Box<StoredRoutedCall<'a>>),
    /// A call was answered.
    Answered {
        environment: Id,
        sid_hash: u64,
        at: i64,
    },
    /// Calls over SIP took the same route.
    RoutedOverSip {
        environment: Id,
        agent: Option<Id>,
        source: Option<Id>,
        latest: i64,
        calls: Vec<(u64, u32)>,
    },
    /// Calls were routed over SIP, as a batch.
    Batch(StoredBatch),
}

/// A call that was routed.
#[derive(Serialize, Deserialize)]
struct StoredRoutedCall<'a> {
    environment: Id,
    sid_hash: u64,
    at: i64,
    agent: Option<Id>,
    source: Option<Id>,
    #[serde(borrow)]
    decision: Option<StoredDecision<'a>>,
}

/// The decision on a call.
#[derive(Serialize, Deserialize)]
struct StoredDecision<'a> {
    outcome: u8,
    reason: u8,
    #[serde(borrow)]
    agent: Option<(Id, &'a str)>,
    #[serde(borrow)]
    source_agent: Option<(Id, &'a str)>,
    #[serde(borrow)]
    call: Option<StoredCall<'a>>,
    #[serde(borrow)]
    targets: Vec<(&'a str, u16, u16)>,
    dialed: Option<u64>,
    caller: StoredCaller,
}

impl<'a> StoredEvent<'a> {
    /// The stored form of an event.
    fn new(event: &'a RoutedEvent, with_decisions: bool) -> Self {
        let id = |agent: Option<AgentId>| agent.map(|agent| agent.0.into_bytes());
        match event {
            RoutedEvent::Routed(call) => Self::Routed(Box::new(StoredRoutedCall {
                environment: call.environment.0.into_bytes(),
                sid_hash: call.sid_hash,
                at: call.at.millis(),
                agent: id(call.agent),
                source: id(call.source),
                decision: call
                    .decision
                    .as_deref()
                    .filter(|_| with_decisions)
                    .map(StoredDecision::new),
            })),
            RoutedEvent::Answered(call) => Self::Answered {
                environment: call.environment.0.into_bytes(),
                sid_hash: call.sid_hash,
                at: call.at.millis(),
            },
            RoutedEvent::RoutedOverSip(alike) => Self::RoutedOverSip {
                environment: alike.environment.0.into_bytes(),
                agent: id(alike.agent),
                source: id(alike.source),
                latest: alike.latest.millis(),
                calls: alike.calls.clone(),
            },
            RoutedEvent::Batch(batch) => Self::Batch(StoredBatch::new(batch)),
        }
    }

    /// The event.
    fn read(self) -> Option<RoutedEvent> {
        let environment = |id| EnvironmentId(Uuid::from_bytes(id));
        let agent = |id: Option<Id>| id.map(|id| AgentId(Uuid::from_bytes(id)));
        Some(match self {
            Self::Routed(call) => RoutedEvent::Routed(RoutedCall {
                environment: environment(call.environment),
                sid_hash: call.sid_hash,
                at: Timestamp::from_millis(call.at),
                agent: agent(call.agent),
                source: agent(call.source),
                decision: match call.decision {
                    None => None,
                    Some(decision) => Some(Arc::new(decision.read()?)),
                },
            }),
            Self::Answered {
                environment: of,
                sid_hash,
                at,
            } => RoutedEvent::Answered(AnsweredCall {
                environment: environment(of),
                sid_hash,
                at: Timestamp::from_millis(at),
            }),
            Self::RoutedOverSip {
                environment: of,
                agent: taker,
                source,
                latest,
                calls,
            } => RoutedEvent::RoutedOverSip(RoutedOverSip {
                environment: environment(of),
                agent: agent(taker),
                source: agent(source),
                latest: Timestamp::from_millis(latest),
                calls,
            }),
            Self::Batch(batch) => RoutedEvent::Batch(batch.read()?),
        })
    }
}

impl<'a> StoredDecision<'a> {
    /// The stored form of a decision.
    fn new(decision: &'a RoutedDecision) -> Self {
        let named = |agent: &'a NamedAgent| (agent.id.0.into_bytes(), agent.name.as_str());
        let target = |target: &'a Target| (target.uri.as_str(), target.priority, target.weight);
        Self {
            outcome: outcome_code(decision.outcome),
            reason: reason_code(decision.reason),
            agent: decision.agent.as_ref().map(named),
            source_agent: decision.source_agent.as_ref().map(named),
            call: decision.call.as_ref().map(StoredCall::new),
            targets: decision.targets.iter().map(target).collect(),
            dialed: decision.dialed.map(E164::digits),
            caller: StoredCaller::new(decision.caller),
        }
    }

    /// The decision.
    fn read(self) -> Option<RoutedDecision> {
        let named = |(id, name): (Id, &str)| NamedAgent {
            id: AgentId(Uuid::from_bytes(id)),
            name: name.to_owned(),
        };
        let target = |(uri, priority, weight): (&str, u16, u16)| Target {
            uri: uri.to_owned(),
            priority,
            weight,
        };
        Some(RoutedDecision {
            outcome: outcome_of(self.outcome)?,
            reason: reason_of(self.reason)?,
            agent: self.agent.map(named),
            source_agent: self.source_agent.map(named),
            call: match self.call {
                None => None,
                Some(call) => Some(call.read()?),
            },
            targets: self.targets.into_iter().map(target).collect(),
            dialed: read_number(self.dialed)?,
            caller: self.caller.read()?,
        })
    }
}
