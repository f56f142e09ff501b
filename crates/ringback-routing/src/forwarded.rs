//! What became of calls that were sent on to their targets.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What became of a call that was sent on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardedCall {
    /// The targets that were tried, in order.
    pub attempts: Vec<TargetAttempt>,
    /// Who ended it before it was answered; `None`: it was answered, or nobody replied.
    pub ended_by: Option<EndedBy>,
}

/// How trying a target went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetAttempt {
    /// Its URI, with placeholders filled in.
    pub uri: Arc<str>,
    /// Its final reply; `None`: there was none in time.
    pub status: Option<u16>,
    /// Why it did not take the call; `None`: it took it.
    pub cause: Option<AttemptCause>,
    /// When the call was sent to it.
    pub started_at: Timestamp,
    /// How many milliseconds its first reply took, 100 included; `None`: there was none.
    pub reply_millis: Option<u32>,
}

/// Why a target did not take a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptCause {
    /// It was silent, or rang for too long.
    Timeout,
    /// Nobody listens there.
    Refused,
    /// It could not be reached for another reason, or is not known.
    Transport,
    /// Its own reply.
    Status,
    /// The caller hung up.
    Cancelled,
}

/// Who ended a call before it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The caller hung up.
    Caller,
    /// A target refused it.
    Target,
}
