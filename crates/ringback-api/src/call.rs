//! Outbound calls and whom they were made to: `/calls`, `/contacts`.

use ringback_routing::{AgentId, CallStatus, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ShownNumber;

/// An outbound call, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The call id, unique within the environment.
    pub sid: String,
    /// The agent that called.
    pub agent_id: AgentId,
    /// Whom it called.
    pub to: ShownNumber,
    /// The number that it called from, if known.
    pub from: Option<ShownNumber>,
    /// How far it got.
    pub status: CallStatus,
    /// When it started.
    pub started_at: Timestamp,
}

/// Records an outbound call, or a later status of one: `POST /calls`, and a line of `POST /calls/batch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallNew {
    /// The agent that called.
    pub agent_id: AgentId,
    /// Whom it called, in any writing that the environment's rules can read.
    pub to: String,
    /// The number that it called from, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How far it got; left out: `initiated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<CallStatus>,
    /// When it started (RFC 3339), at most five minutes ahead; left out: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The call id, 1 to 255 bytes; left out: a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
}

/// What became of the lines of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchReport {
    /// Calls recorded, or known already.
    pub accepted: u64,
    /// Lines that are no call, or one that cannot be recorded.
    pub rejected: u64,
    /// The first 100 of the rejected lines.
    pub errors: Vec<LineError>,
}

/// Why a line of a batch was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineError {
    /// Its number, from 1; blank lines count.
    pub line: u64,
    /// What is wrong with it, for people.
    pub message: String,
}

/// A contact in the list of all: `GET /contacts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactRow {
    /// Its number, in the spelling first recorded.
    pub number: ShownNumber,
    /// How many calls decide for it.
    pub calls: u64,
    /// When the newest of them started.
    pub last_call_at: Timestamp,
}

/// What is remembered of a contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Its number, in the spelling first recorded.
    pub number: ShownNumber,
    /// The calls that decide, newest first.
    pub calls: Vec<Call>,
}
