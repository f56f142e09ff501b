//! What happened: the entries of the log. Applying one twice is the same as applying it once, except
//! for counts, which the journal applies exactly once.

use ringback_routing::{
    Agent, AgentId, CallStatus, E164, Environment, EnvironmentId, NumberId, PhoneNumber, Timestamp,
    Token, TokenId,
};
use serde::{Deserialize, Serialize};

/// One change of the stored state.
///
/// The encoded form is stored: variants are appended, never reordered or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// An environment was made or changed.
    EnvironmentPut(Environment),
    /// An environment was removed, with its tokens.
    EnvironmentRemoved(EnvironmentId),
    /// A token was made.
    TokenPut(Token),
    /// A token was ended.
    TokenRemoved(EnvironmentId, TokenId),
    /// An agent was made or changed.
    AgentPut(Agent),
    /// An agent was deleted; its last name is kept for statistics, its calls are forgotten.
    AgentRemoved(EnvironmentId, AgentId, String),
    /// A number was entered or changed.
    NumberPut(PhoneNumber),
    /// A number was removed.
    NumberRemoved(EnvironmentId, NumberId),
    /// A call was recorded, or its status was raised.
    CallPut(Call),
    /// Every call to this contact is forgotten.
    ContactForgotten(EnvironmentId, E164),
    /// Incoming calls were routed, or reported as answered.
    Routed(Vec<RoutedEvent>),
    /// A counter grew by so much.
    Counted(CountKey, u64),
}

/// An outbound call, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Whose it is.
    pub environment: EnvironmentId,
    /// The call id, unique within the environment.
    pub sid: String,
    /// The agent that called.
    pub agent: AgentId,
    /// Whom it called.
    pub contact: E164,
    /// The number that it called from, if known.
    pub from: Option<E164>,
    /// How far it got.
    pub status: CallStatus,
    /// When it started.
    pub started_at: Timestamp,
}

/// Something that happened to an incoming call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoutedEvent {
    /// It was routed.
    Routed(RoutedCall),
    /// It was answered.
    Answered(AnsweredCall),
    /// Several were routed over SIP, all alike.
    RoutedOverSip(RoutedOverSip),
}

impl RoutedEvent {
    /// When it happened; of several calls, the latest.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Routed(call) => call.at,
            Self::Answered(call) => call.at,
            Self::RoutedOverSip(calls) => calls.latest,
        }
    }
}

/// An incoming call that was routed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutedCall {
    /// Whose it is.
    pub environment: EnvironmentId,
    /// The hash of its call id (see `hash_sid`).
    pub sid_hash: u64,
    /// When.
    pub at: Timestamp,
    /// The agent that it went to, if any.
    pub agent: Option<AgentId>,
    /// The outbound agent whose call was returned: set exactly where the outcome was callback.
    pub source: Option<AgentId>,
    /// The answer given over HTTP, to be given again for the same call id.
    pub response: Option<String>,
}

/// Incoming SIP calls that were routed alike, at about the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutedOverSip {
    /// Whose they are.
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

/// A routed call that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredCall {
    /// Whose it is.
    pub environment: EnvironmentId,
    /// The hash of its call id.
    pub sid_hash: u64,
    /// When that was reported.
    pub at: Timestamp,
}

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CountKey {
    /// Whose calls.
    pub environment: EnvironmentId,
    /// The day, in days since 1970-01-01, UTC.
    pub day: i32,
    /// The inbound agent.
    pub agent: AgentId,
    /// The source agent, of callbacks.
    pub source: Option<AgentId>,
    /// Which calls.
    pub kind: CountKind,
}

/// Which calls a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CountKind {
    /// Routed as callback.
    Received,
    /// Routed as callback and answered.
    Answered,
    /// Reached a callback agent by another rung.
    Unmatched,
}
