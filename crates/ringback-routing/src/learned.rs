//! Outbound calls that were seen on the wire.

use crate::{AgentId, CallStatus, E164, EnvironmentId, Timestamp};

/// An outbound call that was seen on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedCall {
    /// The environment of the agent.
    pub environment: EnvironmentId,
    /// The agent that called.
    pub agent: AgentId,
    /// The number that was called.
    pub contact: E164,
    /// The number that it called from, if it can be read.
    pub from: Option<E164>,
    /// How far the call got, by the messages seen so far.
    pub status: CallStatus,
    /// When its first message was seen.
    pub started_at: Timestamp,
    /// Its Call-ID, which becomes the `sid`.
    pub sid: String,
    /// Whether this is the first message of the call. Otherwise only the status is new, and a call that is
    /// unknown (or forgotten) is not recorded.
    pub is_new: bool,
}
