//! The callback role.

use ringback_routing::{
    Agent, AgentId, AgentStatus, CallStatus, CallbackRole, Direction, Directory, EnvironmentId,
    read_id,
};

use super::agent::find;
use super::{Command, Override};
use crate::{Change, CommandError, Draft, FieldErrors};

/// Gives an inbound agent the callback role, or replaces it.
#[derive(Clone, Debug)]
pub struct SetCallbackRole {
    /// Whose agent it is.
    pub environment: EnvironmentId,
    /// Which agent.
    pub id: AgentId,
    /// Whether options that are left out are cleared or kept.
    pub mode: RoleMode,
    /// The role.
    pub fields: RoleFields,
}

/// Whether a role that is set keeps the options of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleMode {
    /// `POST`: options left out are cleared, whether or not there was a role.
    Anew,
    /// `PUT`: there must be one; options left out stay.
    Replace,
}

/// What a request says of a role.
#[derive(Clone, Debug, Default)]
pub struct RoleFields {
    /// The sources, as the request lists them; `None`: not even an identifier.
    pub source_agent_ids: Vec<Option<AgentId>>,
    /// The recency window, in seconds.
    pub recency_window_seconds: Override<u64>,
    /// The trigger statuses.
    pub trigger_statuses: Override<Vec<CallStatus>>,
    /// What was found wrong already; holds `source_agent_ids` where that is no proper list.
    pub errors: FieldErrors,
}

impl Command for SetCallbackRole {
    type Output = Agent;

    fn run(self, draft: &mut Draft<'_>) -> Result<Agent, CommandError> {
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
            mut errors,
        } = self.fields;
        let mut source_agents = Vec::with_capacity(source_agent_ids.len());
        for (place, id) in source_agent_ids.iter().enumerate() {
            let found = id.and_then(|id| draft.directory().agent_of(self.environment, id));
            let problem = match (id, found) {
                (None, _) => "The source agent id must be a valid UUID.",
                (_, None) => "The selected source agent does not exist.",
                (_, Some(source)) if source.record.direction != Direction::Outbound => {
                    "The selected source agent must be outbound."
                }
                (_, Some(source)) if source.record.status != AgentStatus::Published => {
                    "The selected source agent must be published."
                }
                (_, Some(source)) => {
                    if !source_agents.contains(&source.record.id) {
                        source_agents.push(source.record.id);
                    }
                    continue;
                }
            };
            errors.add(format!("source_agent_ids.{place}"), problem);
        }
        errors.into_result()?;
        let (window, statuses) = former
            .map(|role| (role.recency_window_seconds, Some(role.trigger_statuses)))
            .unwrap_or_default();
        agent.role = Some(CallbackRole {
            source_agents,
            recency_window_seconds: recency_window_seconds.apply(window),
            trigger_statuses: trigger_statuses.apply(statuses).unwrap_or_default(),
            set_sequence: draft.next_set_sequence(),
        });
        agent.updated_at = draft.now();
        draft.change(Change::AgentPut(agent.clone()));
        Ok(agent)
    }
}

/// Takes the callback role away.
#[derive(Clone, Copy, Debug)]
pub struct RemoveCallbackRole {
    /// Whose agent it is.
    pub environment: EnvironmentId,
    /// Which agent.
    pub id: AgentId,
}

impl Command for RemoveCallbackRole {
    type Output = ();

    fn run(self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
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

/// A configuration to be checked without being set; what is `None` is taken from the stored role.
#[derive(Clone, Debug, Default)]
pub struct ConstraintCheck {
    /// Whether the agent shall be a callback agent.
    pub is_callback_agent: Option<bool>,
    /// The sources, as the request writes them.
    pub source_agents: Option<Vec<String>>,
    /// The trigger statuses, as the request writes them.
    pub trigger_statuses: Option<Vec<String>>,
}

/// Says what keeps the configuration from being valid; nothing: it is. `None`: no such agent.
#[must_use]
pub fn check_constraints(
    directory: &Directory,
    environment: EnvironmentId,
    id: AgentId,
    check: &ConstraintCheck,
) -> Option<Vec<String>> {
    let agent = &directory.agent_of(environment, id)?.record;
    let role = agent.role.as_ref();
    if !check.is_callback_agent.unwrap_or_else(|| role.is_some()) {
        return Some(Vec::new());
    }
    let mut problems = Vec::new();
    if agent.direction != Direction::Inbound {
        problems.push("Agent must be inbound to serve as a callback agent".to_owned());
    }
    let sources = check.source_agents.clone().unwrap_or_else(|| {
        role.iter()
            .flat_map(|role| &role.source_agents)
            .map(ToString::to_string)
            .collect()
    });
    if sources.is_empty() {
        problems.push("At least one source agent is required".to_owned());
    }
    for source in &sources {
        let id = read_id(source).map(AgentId);
        let found = id.and_then(|id| directory.agent_of(environment, id));
        match found.map(|found| &found.record) {
            None => problems.push(format!("Source agent {source} does not exist")),
            // Of several faults the first: what is not outbound has no use for being published.
            Some(found) if found.direction != Direction::Outbound => {
                problems.push(format!("Source agent {source} is not outbound"));
            }
            Some(found) if found.status != AgentStatus::Published => {
                problems.push(format!("Source agent {source} is not published"));
            }
            Some(_) => {}
        }
    }
    for status in check.trigger_statuses.iter().flatten() {
        if status.parse::<CallStatus>().is_err() {
            problems.push(format!("Trigger status {status} is unknown"));
        }
    }
    Some(problems)
}
