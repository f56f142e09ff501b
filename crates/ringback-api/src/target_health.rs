//! How targets are: `/targets`.

use ringback_routing::{TargetState, Timestamp};
use serde::{Deserialize, Serialize};

use crate::AgentName;

/// A target, as an entry of `GET /targets`: all targets with one scheme, host, port and transport are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetHealth {
    /// Scheme, host, port and transport.
    pub uri: String,
    /// The agents whose calls go there; none for a fallback target.
    pub agents: Vec<AgentName>,
    /// Its state: what an operator has said, or else what was found out.
    pub state: TargetState,
    /// Since when; none: it is unknown.
    pub since: Option<Timestamp>,
    /// How many milliseconds its last reply to OPTIONS took.
    pub rtt_ms: Option<u32>,
    /// That reply.
    pub last_status: Option<u16>,
    /// Calls of the environment that were sent there since the start of the server.
    pub calls: u64,
    /// Those of them that another target was tried for, or would have been if there was one.
    pub failures: u64,
}

/// Says how a target is: `POST /targets/state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStateNew {
    /// The target: any URI that leads there.
    pub uri: String,
    /// What is said.
    pub state: TargetOverride,
}

/// What an operator says of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetOverride {
    /// It is up, whatever is found out.
    Up,
    /// It is used only where nothing else is left.
    Down,
    /// It is as it is found out.
    Auto,
}
