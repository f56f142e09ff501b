//! The callback role: `/agents/{id}/callback`, `/callback-agents`.

use ringback_routing::{AgentId, AgentStatus, CallStatus, Direction, HoursSpec};
use serde::{Deserialize, Serialize};

use crate::{AgentBrief, AgentName, Change};

/// A callback role, as it is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackConfig {
    /// The agents whose calls come back here, in the order given.
    pub source_agent_ids: Vec<AgentId>,
    /// The statuses that qualify a call; left out where none are set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callback_trigger_statuses: Vec<CallStatus>,
    /// How old a call may be, in seconds; left out where the environment's window counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recency_window_seconds: Option<u64>,
    /// When calls are taken back; left out where it is at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<HoursSpec>,
}

/// Sets a role: `POST` and `PUT /agents/{id}/callback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackRole {
    /// The published outbound agents whose calls come back here: 1 to 1,000.
    pub source_agent_ids: Vec<AgentId>,
    /// The statuses that qualify a call.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub callback_trigger_statuses: Change<Vec<CallStatus>>,
    /// How old a call may be, in seconds.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub recency_window_seconds: Change<u64>,
    /// When calls are taken back.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub hours: Change<HoursSpec>,
}

/// The answer to `POST /agents/{id}/callback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackRoleSet {
    /// The agent.
    pub id: AgentId,
    /// What it calls itself.
    pub name: String,
    /// Inbound.
    pub direction: Direction,
    /// Its role.
    pub callback_config: CallbackConfig,
}

/// The answer to `PUT /agents/{id}/callback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackRoleReplaced {
    /// The agent.
    pub id: AgentId,
    /// Its role.
    pub callback_config: CallbackConfig,
}

/// An agent with the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackAgent {
    /// Its identifier.
    pub id: AgentId,
    /// What it calls itself.
    pub name: String,
    /// What its owner calls it.
    pub label: String,
    /// Inbound.
    pub direction: Direction,
    /// Whether it takes part in routing.
    pub current_status: AgentStatus,
    /// Its role.
    pub callback_config: CallbackConfig,
}

/// An agent with the role, its sources and its last 30 days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackAgentPage {
    /// The agent.
    pub agent: AgentBrief,
    /// Its sources, in the order set.
    pub source_agents: Vec<AgentName>,
    /// Its last 30 days.
    pub stats: AgentStatistics,
}

/// How often an agent took calls back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatistics {
    /// Calls routed to it as callback.
    pub total_callbacks_received: u64,
    /// Of these, answered.
    pub callbacks_answered: u64,
}

/// How many calls came back to an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackStatistics {
    /// The days that were counted.
    pub period: Period,
    /// Calls routed as callback.
    pub total_callbacks_received: u64,
    /// Of these, answered.
    pub callbacks_answered: u64,
    /// Calls that reached a callback agent by another rung; outside the total.
    pub callbacks_unmatched: u64,
    /// The total by source agent: the most first, then by name.
    pub callbacks_by_source_agent: Vec<SourceCount>,
    /// The total by callback agent: the most first, then by name; only where it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callbacks_by_callback_agent: Option<Vec<CallbackAgentCount>>,
}

/// What a callback agent took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackAgentCount {
    /// The agent.
    pub callback_agent_id: AgentId,
    /// What it calls itself, or did when it was deleted.
    pub name: String,
    /// Calls routed to it as callback.
    pub total_callbacks_received: u64,
    /// Of these, answered.
    pub callbacks_answered: u64,
}

/// Some days, both included, as `2026-01-31` (UTC).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// The first day.
    pub start: String,
    /// The last day.
    pub end: String,
}

/// The callbacks to the calls of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCount {
    /// The agent.
    pub source_agent_id: AgentId,
    /// What it calls itself, or did when it was deleted.
    pub name: String,
    /// How many callbacks there were.
    pub count: u64,
}

/// Asks whether a role could be set: `POST /callback-agents/{id}/check-constraints`. What is left out comes
/// from the stored role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConstraintCheck {
    /// Whether the agent is to have a role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_callback_agent: Option<bool>,
    /// The sources; whatever they are, the answer says what is wrong with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_source_agents: Option<Vec<String>>,
    /// The statuses, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_trigger_statuses: Option<Vec<String>>,
}
