//! What cannot route: `/problems`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Something in an environment by which calls do not go where they are meant to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingProblem {
    /// What is wrong.
    pub code: ProblemCode,
    /// How bad it is.
    pub severity: Severity,
    /// The same for people.
    pub message: String,
    /// What it is about: the one to mend first.
    pub objects: Vec<ProblemObject>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// An agent that gets calls has no id at a platform of a connector that can answer with nothing else.
    AgentWithoutExternalId,
    /// A callback agent owns no number, so no call can come back to it.
    CallbackAgentWithoutNumber,
    /// A callback agent has no target of its own, and its environment has no template.
    CallbackAgentWithoutTarget,
    /// Several roles name the same outbound agent; the one set last takes its calls.
    CompetingRoles,
    /// Calls to a number that no role claims are refused.
    NumberWithoutDefault,
    /// An agent called from a number in the last 30 days, and a call that returns to it reaches no callback agent.
    ReturnNotRouted,
    /// An agent with a callback role is a draft.
    RoleOnDraftAgent,
    /// No callback role names a published outbound agent.
    SourceNotTaken,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A call would not go where it is meant to go.
    Error,
    /// It may be meant so.
    Warning,
}

/// Something that a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemObject {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ObjectKind,
    /// Its identifier.
    pub id: Uuid,
    /// What it is called; of a number its digits.
    pub name: String,
}

/// What a problem can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// An agent.
    Agent,
    /// A number.
    Number,
    /// An environment.
    Environment,
}
