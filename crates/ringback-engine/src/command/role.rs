//! The callback role.

use ringback_routing::{
    Agent, AgentId, AgentStatus, CallStatus, CallbackRole, Direction, Directory, EnvironmentId,
    Hours, read_id,
};

use super::agent::find;
use super::{Command, Override};
use crate::error::check_fields;
use crate::{Change, CommandError, Draft, Fault, Field, FieldProblem};

/// Gives an inbound agent the callback role, or replaces it.
#[derive(Clone, Debug)]
pub struct SetCallbackRole {
    /// The environment of the agent.
    pub environment: EnvironmentId,
    /// The agent that gets the role.
    pub id: AgentId,
    /// Whether options that are left out are cleared or kept.
    pub mode: RoleMode,
    /// The fields of the request.
    pub fields: RoleFields,
}

/// Whether setting a role keeps the options of the existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleMode {
    /// `POST`: options left out are cleared, whether or not there was a role.
    Anew,
    /// `PUT`: there must be a role; options left out stay.
    Replace,
}

/// The fields of a role in a request.
#[derive(Clone, Debug, Default)]
pub struct RoleFields {
    /// The sources, as in the request; `None`: not an identifier.
    pub source_agent_ids: Vec<Option<AgentId>>,
    /// The recency window, in seconds.
    pub recency_window_seconds: Override<u64>,
    /// The trigger statuses.
    pub trigger_statuses: Override<Vec<CallStatus>>,
    /// The hours.
    pub hours: Override<Box<Hours>>,
    /// Whether fields could not be read (perhaps `source_agent_ids` as a whole): then nothing is changed.
    pub is_misread: bool,
}

impl Command for SetCallbackRole {
    type Output = Agent;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Agent, CommandError> {
        let mut agent = find(draft, self.environment, self.id)?;
        if agent.direction != Direction::Inbound {
            return Err(CommandError::InvalidAgentDirection);
        }
        let former = match self.mode {
            RoleMode::Anew => None,
            RoleMode::Replace => Some(agent.role.take().ok_or(CommandError::NoCallbackRole)?),
        };
        let RoleFields {
            source_agent_ids,
            recency_window_seconds,
            trigger_statuses,
            hours,
            is_misread,
        } = &self.fields;
        let mut problems = Vec::new();
        let mut source_agents = Vec::with_capacity(source_agent_ids.len());
        for (index, id) in source_agent_ids.iter().enumerate() {
            let found = id.and_then(|id| draft.directory().agent_of(self.environment, id));
            let fault = match (id, found) {
                (None, _) => Fault::Unreadable,
                (_, None) => Fault::Unknown,
                (_, Some(source)) if source.record.direction != Direction::Outbound => {
                    Fault::NotOutbound
                }
                (_, Some(source)) if source.record.status != AgentStatus::Published => {
                    Fault::NotPublished
                }
                (_, Some(source)) => {
                    if !source_agents.contains(&source.record.id) {
                        source_agents.push(source.record.id);
                    }
                    continue;
                }
            };
            let field = Field::SourceAgent(index);
            problems.push(FieldProblem { field, fault });
        }
        check_fields(problems, *is_misread)?;
        let (window, statuses, former_hours) = former
            .map(|role| {
                let statuses = Some(role.trigger_statuses);
                (role.recency_window_seconds, statuses, role.hours)
            })
            .unwrap_or_default();
        agent.role = Some(CallbackRole {
            source_agents,
            recency_window_seconds: recency_window_seconds.apply(window),
            trigger_statuses: trigger_statuses.apply(statuses).unwrap_or_default(),
            hours: hours.apply(former_hours),
            set_sequence: draft.next_set_sequence(),
        });
        agent.updated_at = draft.now();
        draft.change(Change::AgentPut(agent.clone()));
        Ok(agent)
    }
}

/// Removes the callback role.
#[derive(Clone, Copy, Debug)]
pub struct RemoveCallbackRole {
    /// The environment of the agent.
    pub environment: EnvironmentId,
    /// The agent that loses the role.
    pub id: AgentId,
}

impl Command for RemoveCallbackRole {
    type Output = ();

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        let mut agent = find(draft, self.environment, self.id)?;
        if agent.direction != Direction::Inbound {
            return Err(CommandError::InvalidAgentDirection);
        }
        agent.role.take().ok_or(CommandError::NoCallbackRole)?;
        agent.updated_at = draft.now();
        draft.change(Change::AgentPut(agent));
        Ok(())
    }
}

/// A configuration to check without setting it; a field that is `None` is taken from the stored role.
#[derive(Clone, Debug, Default)]
pub struct ConstraintCheck {
    /// Whether the agent is to be a callback agent.
    pub is_callback_agent: Option<bool>,
    /// The sources, as the request writes them.
    pub source_agents: Option<Vec<String>>,
    /// The trigger statuses, as the request writes them.
    pub trigger_statuses: Option<Vec<String>>,
}

/// An error in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConstraintProblem {
    /// The agent makes calls instead of taking them.
    NotInbound,
    /// No source agent is named.
    NoSource,
    /// The environment has no agent with this identifier.
    SourceUnknown(String),
    /// This source agent takes calls instead of making them.
    SourceNotOutbound(String),
    /// This source agent is a draft.
    SourceNotPublished(String),
    /// This is not a call status.
    StatusUnknown(String),
}

/// The errors in the configuration; empty if it is valid. `None`: no such agent.
#[must_use]
pub fn check_constraints(
    directory: &Directory,
    environment: EnvironmentId,
    id: AgentId,
    check: &ConstraintCheck,
) -> Option<Vec<ConstraintProblem>> {
    let agent = &directory.agent_of(environment, id)?.record;
    let role = agent.role.as_ref();
    if !check.is_callback_agent.unwrap_or_else(|| role.is_some()) {
        return Some(Vec::new());
    }
    let mut problems = Vec::new();
    if agent.direction != Direction::Inbound {
        problems.push(ConstraintProblem::NotInbound);
    }
    let sources = check.source_agents.clone().unwrap_or_else(|| {
        role.iter()
            .flat_map(|role| &role.source_agents)
            .map(ToString::to_string)
            .collect()
    });
    if sources.is_empty() {
        problems.push(ConstraintProblem::NoSource);
    }
    for source in sources {
        let id = read_id(&source).map(AgentId);
        let found = id.and_then(|id| directory.agent_of(environment, id));
        match found.map(|found| &found.record) {
            None => problems.push(ConstraintProblem::SourceUnknown(source)),
            // Only the first of several faults: for an agent that is not outbound, its status does not matter.
            Some(found) if found.direction != Direction::Outbound => {
                problems.push(ConstraintProblem::SourceNotOutbound(source));
            }
            Some(found) if found.status != AgentStatus::Published => {
                problems.push(ConstraintProblem::SourceNotPublished(source));
            }
            Some(_) => {}
        }
    }
    for status in check.trigger_statuses.iter().flatten() {
        if status.parse::<CallStatus>().is_err() {
            problems.push(ConstraintProblem::StatusUnknown(status.clone()));
        }
    }
    Some(problems)
}
