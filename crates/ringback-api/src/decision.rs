//! Decisions: `/route`, `/routed-calls`, `/decisions`.

use ringback_routing::{
    AgentId, AttemptCause, CallStatus, CallVia, EndedBy, Outcome, Reason, Rung, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{AgentName, Call, ShownNumber, Target};

/// Asks where a call goes, and counts it: `POST /route`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteQuestion {
    /// The dialed number.
    pub to: String,
    /// The caller; left out or empty: anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The call id, 1 to 255 bytes; left out: a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
}

/// Where a call goes, and why: the answer of `/route`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed {
    /// What becomes of the call.
    pub outcome: Outcome,
    /// The reason, one of those in `docs/en/reasons.md`.
    pub reason: Reason,
    /// The agent that takes it.
    pub agent: Option<AgentName>,
    /// The outbound agent whose call is returned.
    pub source_agent: Option<AgentName>,
    /// The call that is returned.
    pub call: Option<Call>,
    /// Where to send the call, in this order, with placeholders filled in.
    pub targets: Vec<Target>,
    /// The call id under which the call was counted; none where nothing was counted.
    pub routed_call_sid: Option<String>,
    /// The rungs that were tried, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Vec<Step>>,
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which rung was tried.
    pub rung: Rung,
    /// Whether it decided the call.
    pub held: bool,
    /// The reason that it gave.
    pub reason: Option<Reason>,
    /// What was found there, for people.
    pub detail: String,
    /// The remembered call that was weighed, on the rung `remembered_call`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<StepCall>,
    /// The agents that could take the call on this rung, and what keeps them from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<StepAgent>,
}

/// A remembered call that was weighed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCall {
    /// The outbound agent that called.
    pub agent: AgentName,
    /// The number that it called from, if known.
    pub from: Option<ShownNumber>,
    /// How far the call got.
    pub status: CallStatus,
    /// When it started, to the second.
    pub started_at: Timestamp,
}

/// An agent that a rung looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepAgent {
    /// Its identifier.
    pub id: AgentId,
    /// What it calls itself.
    pub name: String,
    /// Why it does not take the call; none: it could.
    pub obstacle: Option<Reason>,
}

/// The answer to `POST /routed-calls/{sid}/answered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The call id.
    pub sid: String,
}

/// A decision that was made lately: an entry of `GET /decisions`, an event of `GET /decisions/stream`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When it was made.
    pub at: Timestamp,
    /// How it was asked for.
    pub via: CallVia,
    /// The dialed number, if it could be read.
    pub to: Option<ShownNumber>,
    /// The caller, if it is a number.
    pub from: Option<ShownNumber>,
    /// What became of the call.
    pub outcome: Outcome,
    /// The reason, one of those in `docs/en/reasons.md`.
    pub reason: Reason,
    /// The agent that took it.
    pub agent: Option<AgentOfDecision>,
    /// The outbound agent whose call was returned.
    pub source_agent: Option<AgentOfDecision>,
    /// The call id.
    pub sid: String,
    /// The targets that the call was sent to, in order, once it has ended; none where it was not sent on.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// Who ended a call that was sent on before it was answered; none: it was answered, or nobody replied.
    #[serde(default)]
    pub ended_by: Option<EndedBy>,
}

/// How it went to send a call to a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its URI, with placeholders filled in.
    pub uri: String,
    /// Its final reply; none: there was none in time.
    pub status: Option<u16>,
    /// Why it did not take the call; none: it took it.
    pub cause: Option<AttemptCause>,
    /// When the call was sent to it.
    pub started_at: Timestamp,
    /// How many milliseconds its first reply took; none: there was none.
    pub reply_ms: Option<u32>,
}

/// An agent of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentOfDecision {
    /// Its identifier.
    pub id: AgentId,
    /// What it calls itself now; none if it was deleted since.
    pub name: Option<String>,
}
