//! Facts: the entries of the log. Applying one twice is the same as applying it once, except for counts, which
//! the journal applies exactly once.
//!
//! The journal decides how they are stored, so these types may change freely.

use std::sync::Arc;

use ringback_routing::{
    Agent, AgentId, Assignment, CallStatus, Caller, Connector, ConnectorId, ContactHash, E164,
    Environment, EnvironmentId, NumberId, OptOut, Outcome, PhoneNumber, Placeholders, Reason,
    Target, Timestamp, Token, TokenHash, TokenId,
};
use uuid::Uuid;

use crate::{AuditEntry, ErasureSecret, KeptAnswer, Session, Tombstone};

/// One change of the stored state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An environment was created or changed.
    EnvironmentPut(Environment),
    /// An environment was removed, with its tokens and connectors.
    EnvironmentRemoved(EnvironmentId),
    /// A token was created.
    TokenPut(Token),
    /// A token was ended.
    TokenRemoved(EnvironmentId, TokenId),
    /// A connector was created or changed.
    ConnectorPut(Box<Connector>),
    /// A connector was removed.
    ConnectorRemoved(EnvironmentId, ConnectorId),
    /// An agent was created or changed.
    AgentPut(Agent),
    /// An agent was deleted; its last name is kept for statistics, its calls are forgotten.
    AgentRemoved(EnvironmentId, AgentId, String),
    /// A number was created or changed.
    NumberPut(PhoneNumber),
    /// A number was removed, and so are its assignments.
    NumberRemoved(EnvironmentId, NumberId),
    /// A number was assigned to an agent, behind its other owners. Does nothing if it was assigned already.
    Assigned(Assignment),
    /// The assignment of a number to an agent was ended.
    Unassigned(Assignment),
    /// A number was assigned to exactly these agents, in this order; agents that owned it keep their position.
    /// Older versions wrote this; now it is only read, and written when old data are rewritten.
    OwnersSet(NumberId, Vec<AgentId>),
    /// A call was recorded, or its status was raised.
    CallPut(Call),
    /// Every call to this contact is forgotten, and its number is removed from the decisions on its own calls.
    ContactForgotten(EnvironmentId, E164),
    /// Incoming calls were routed, or reported as answered.
    Routed(Vec<RoutedEvent>),
    /// A counter grew by this amount.
    Counted(CountKey, u64),
    /// Incoming calls were routed over SIP. The counters follow from them: see [`Self::BatchesCounted`].
    BatchRouted(RoutedBatch),
    /// Counters grew by the calls of batches.
    BatchesCounted(BatchesCounted),
    /// Calls that are older than every window were dropped.
    CallsSwept(CallsSwept),
    /// Something was changed that is audited.
    Audited(Box<AuditEntry>),
    /// A session of the console was opened or changed.
    SessionPut(Box<Session>),
    /// The session with this hash of its cookie was ended.
    SessionEnded(TokenHash),
    /// Audit entries from before this instant are forgotten.
    AuditSwept(Timestamp),
    /// The first answer to a request that may be repeated.
    Answered(Box<KeptAnswer>),
    /// The secret that keys the hashes of erased contacts; written once.
    ErasureSecretSet(ErasureSecret),
    /// A contact was erased: this is left of it.
    Erased(Tombstone),
    /// A contact does not want to be called.
    OptedOut(EnvironmentId, ContactHash, OptOut),
    /// A contact does no longer ask not to be called.
    OptOutEnded(EnvironmentId, ContactHash),
    /// The number of a contact was given to somebody else: calls from before this instant do not count. Of two instants
    /// the later one holds.
    Reassigned(EnvironmentId, ContactHash, Timestamp),
    /// Events of incoming calls before this instant are forgotten, except batches of SIP calls that the stored
    /// counters do not contain yet.
    RoutedSwept(Timestamp),
    /// The store of this node has everything of a log that nodes share, up to this place; `None`: it follows no such
    /// log any more.
    Placed(Option<LogPlace>),
}

impl Change {
    /// Whether this is about the storage of one node, not about the state that all nodes share. A log that
    /// several nodes share applies it only on the node that appended it.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::BatchesCounted(_) | Self::Placed(_))
    }
}

/// A place in a log that nodes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// The cluster that has the log.
    pub cluster: Uuid,
    /// The sequence of the last entry.
    pub sequence: u64,
    /// The hash of everything up to there.
    pub chain: [u8; 16],
}

/// Old calls of some contacts were dropped.
///
/// It names the contacts and the cutoff, so that every node, and every replay of the log, drops the same calls,
/// whatever the time on its clock and however far its own sweep has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallsSwept {
    /// The environment of the contacts.
    pub environment: EnvironmentId,
    /// Calls that started before this instant were dropped, and all calls of deleted agents. A whole second,
    /// because the index in memory has no milliseconds.
    pub before: Timestamp,
    /// The contacts, by the numbers in the records.
    pub contacts: Vec<E164>,
}

impl CallsSwept {
    /// Whether a call that started at this instant stays, provided that its agent exists.
    #[must_use]
    pub fn keeps(&self, started_at: Timestamp) -> bool {
        started_at >= self.before
    }
}

/// An outbound call, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The environment of the agent that called.
    pub environment: EnvironmentId,
    /// The call id, unique within the environment.
    pub sid: Arc<str>,
    /// The agent that called.
    pub agent: AgentId,
    /// The number that was called.
    pub contact: E164,
    /// The number that it called from, if known.
    pub from: Option<E164>,
    /// How far the call got, by the highest status reported.
    pub status: CallStatus,
    /// When the call started, as first recorded.
    pub started_at: Timestamp,
}

/// An event of an incoming call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutedEvent {
    /// The call was routed.
    Routed(RoutedCall),
    /// The call was answered.
    Answered(AnsweredCall),
    /// Several calls over SIP took the same route. Older versions wrote this; now it is only read.
    RoutedOverSip(RoutedOverSip),
    /// Several calls were routed over SIP.
    Batch(RoutedBatch),
}

impl RoutedEvent {
    /// When the event happened; for several calls, the latest.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Routed(call) => call.at,
            Self::Answered(call) => call.at,
            Self::RoutedOverSip(calls) => calls.latest,
            Self::Batch(batch) => batch.latest,
        }
    }
}

/// An incoming call that was routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedCall {
    /// The environment of the dialed number.
    pub environment: EnvironmentId,
    /// The hash of its call id (see `hash_sid`).
    pub sid_hash: u64,
    /// When the call was routed.
    pub at: Timestamp,
    /// The agent that it went to, if any.
    pub agent: Option<AgentId>,
    /// The outbound agent whose call was returned: set exactly where the outcome was callback.
    pub source: Option<AgentId>,
    /// The decision, if the call was asked about over HTTP: the same call id gets it again.
    pub decision: Option<Arc<RoutedDecision>>,
}

/// The decision on an incoming call, with everything that an answer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedDecision {
    /// Where the call went: to an agent, to fallback targets, or nowhere.
    pub outcome: Outcome,
    /// The rung that decided, or why none before it did.
    pub reason: Reason,
    /// The agent that took it.
    pub agent: Option<NamedAgent>,
    /// The outbound agent whose call was returned.
    pub source_agent: Option<NamedAgent>,
    /// The call that was returned, as it was at that time; none after its contact was forgotten.
    pub call: Option<Call>,
    /// Where to send the call, with placeholders.
    pub targets: Vec<Target>,
    /// The dialed number, if it is one of the environment.
    pub dialed: Option<E164>,
    /// The caller; none after the contact was forgotten.
    pub caller: Option<Caller>,
}

impl RoutedDecision {
    /// The values of the placeholders in the targets. `caller` is the caller in the request that is answered now;
    /// it is used if the first caller was forgotten.
    #[must_use]
    pub fn placeholders(&self, caller: Caller) -> Placeholders {
        Placeholders {
            agent: self.agent.as_ref().map(|agent| agent.id),
            source_agent: self.source_agent.as_ref().map(|agent| agent.id),
            dialed: self.dialed,
            caller: self.caller.unwrap_or(caller),
        }
    }

    /// Whether this contact was the caller.
    #[must_use]
    pub fn is_about(&self, contact: E164) -> bool {
        let caller = self.caller.and_then(Caller::number);
        caller.map(E164::subscriber) == Some(contact.subscriber())
    }

    /// The decision without the contact's number: a repeated request still gets the same targets.
    #[must_use]
    pub fn without_contact(&self) -> Self {
        Self {
            call: None,
            caller: None,
            ..self.clone()
        }
    }
}

/// An agent, and its name at the time of the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAgent {
    /// Identifier; the agent may have been deleted since.
    pub id: AgentId,
    /// Its name at that time.
    pub name: String,
}

/// Incoming SIP calls that took the same route at about the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedOverSip {
    /// The environment of the dialed numbers.
    pub environment: EnvironmentId,
    /// The agent that they went to, if any.
    pub agent: Option<AgentId>,
    /// The outbound agent whose calls were returned: set exactly where the outcome was callback.
    pub source: Option<AgentId>,
    /// When the last of them was routed.
    pub latest: Timestamp,
    /// The hashes of their Call-IDs, and the seconds since 1970 when they were routed.
    pub calls: Vec<(u64, u32)>,
}

/// Incoming SIP calls that were routed one after the other, each Call-ID once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutedBatch {
    /// Greater than that of every batch before in the log.
    pub number: u64,
    /// When the last of them was routed.
    pub latest: Timestamp,
    /// The routes of the calls, each once.
    pub routes: Vec<BatchRoute>,
    /// The calls.
    pub calls: Vec<BatchCall>,
}

/// A route shared by calls of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRoute {
    /// The environment of the dialed numbers.
    pub environment: EnvironmentId,
    /// The agent that they went to, if any.
    pub agent: Option<AgentId>,
    /// The outbound agent whose calls were returned: set exactly where the outcome was callback.
    pub source: Option<AgentId>,
    /// The counter that each of its calls raises, if any.
    pub kind: Option<CountKind>,
}

/// A call of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchCall {
    /// The hash of its Call-ID (see `hash_sid`).
    pub sid_hash: u64,
    /// When it was routed, in seconds since 1970.
    pub second: u32,
    /// The index of its route in the batch.
    pub route: u32,
}

impl RoutedBatch {
    /// The counters that the calls raise by one each; a counter that several calls raise is repeated.
    pub fn count_keys(&self) -> impl Iterator<Item = CountKey> {
        self.calls.iter().filter_map(|call| self.count_key(call))
    }

    /// The counter that this call raises, if any.
    #[must_use]
    pub fn count_key(&self, call: &BatchCall) -> Option<CountKey> {
        let route = self.routes.get(call.route as usize)?;
        Some(CountKey {
            environment: route.environment,
            day: day_of(Timestamp::from_seconds(i64::from(call.second))),
            agent: route.agent?,
            source: route.source,
            kind: route.kind?,
        })
    }
}

/// Growth of counters by batches of SIP calls, and which batches they then contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchesCounted {
    /// By how much each counter grew.
    pub growth: Vec<(CountKey, u64)>,
    /// Which batches the stored counters contain from now on.
    pub mark: CountMark,
}

/// Which batches of SIP calls the stored counters contain. The other batches are counted again at the next start.
///
/// Counters are raised in pieces, in the order of their keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountMark {
    /// Every counter contains the batches with smaller numbers.
    pub complete: u64,
    /// Counters up to this key also contain the batches with numbers smaller than this one.
    pub partial: Option<(u64, CountKey)>,
}

impl CountMark {
    /// Whether this counter contains the batch with this number.
    #[must_use]
    pub fn contains(&self, number: u64, key: &CountKey) -> bool {
        let partial = self.partial.as_ref();
        number < self.complete
            || partial.is_some_and(|(before, through)| number < *before && key <= through)
    }
}

/// A routed call that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnsweredCall {
    /// The environment of the dialed number.
    pub environment: EnvironmentId,
    /// The hash of its call id.
    pub sid_hash: u64,
    /// When the answer was reported.
    pub at: Timestamp,
}

/// The name of a counter.
///
/// The order of counters is stored, in [`CountMark::partial`], so it must not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountKey {
    /// The environment of the dialed numbers.
    pub environment: EnvironmentId,
    /// The day, in days since 1970-01-01, UTC.
    pub day: i32,
    /// The inbound agent.
    pub agent: AgentId,
    /// The source agent, of callbacks.
    pub source: Option<AgentId>,
    /// Which calls it counts.
    pub kind: CountKind,
}

/// Which calls a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CountKind {
    /// Routed as callback.
    Received,
    /// Routed as callback and answered.
    Answered,
    /// Reached a callback agent by another rung.
    Unmatched,
}

/// The number of the day, in days since 1970-01-01, UTC.
pub(crate) fn day_of(at: Timestamp) -> i32 {
    at.day()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mark stored by an earlier version says for each counter whether it contains a batch. It uses this order,
    /// which follows from the order of fields and variants.
    #[test]
    fn counters_are_ordered_by_environment_day_agent_source_and_kind() {
        let key = |environment, day, agent, source: Option<u128>, kind| CountKey {
            environment: EnvironmentId(Uuid::from_u128(environment)),
            day,
            agent: AgentId(Uuid::from_u128(agent)),
            source: source.map(|id| AgentId(Uuid::from_u128(id))),
            kind,
        };
        use CountKind::{Answered, Received, Unmatched};
        let ascending = [
            key(1, -1, 9, Some(9), Unmatched),
            key(1, 0, 8, Some(9), Unmatched),
            key(1, 0, 9, None, Unmatched),
            key(1, 0, 9, Some(8), Unmatched),
            key(1, 0, 9, Some(9), Received),
            key(1, 0, 9, Some(9), Answered),
            key(1, 0, 9, Some(9), Unmatched),
            key(2, -1, 0, None, Received),
            key(u128::MAX, i32::MAX, 0, None, Received),
        ];
        assert!(ascending.is_sorted_by(|left, right| left < right));
        for (index, through) in ascending.iter().enumerate() {
            let mark = CountMark {
                complete: 0,
                partial: Some((1, *through)),
            };
            for (other, key) in ascending.iter().enumerate() {
                assert_eq!(mark.contains(0, key), other <= index);
            }
        }
    }
}
