//! Outbound calls that were seen on the wire.

use crate::{AgentId, CallStatus, E164, EnvironmentId, Timestamp};

/// An outbound call that was seen on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedCall {
    /// The environment of the agent.
    pub environment: EnvironmentId,
    /// The agent that called.
    pub agent: AgentId,
    /// Who was called.
    pub contact: E164,
    /// The number that it called from, if it could be read.
    pub from: Option<E164>,
    /// How far the call got, as far as was seen.
    pub status: CallStatus,
    /// When it was seen first.
    pub started_at: Timestamp,
    /// Its Call-ID.
    pub sid: String,
    /// Whether it is seen for the first time. Otherwise its status alone is news, and nothing is recorded of a call
    /// that is not known (any more).
    pub is_new: bool,
}
