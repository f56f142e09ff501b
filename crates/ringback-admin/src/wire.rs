//! The shapes of the answers. Keys stand in the order in which they are written.

use ringback_engine::{AgentView, Call, CommandError, NumberView};
use ringback_routing::{
    Agent, AgentId, AgentStatus, CallStatus, CallbackRole, Country, Direction, Directory,
    DirectoryAgent, DirectoryNumber, E164, Environment, EnvironmentId, NumberForm, NumberId,
    PhoneNumber, Target, Timestamp, Token, TokenId,
};
use serde::Serialize;

use crate::error::ApiError;

/// An agent, whole.
#[derive(Serialize)]
pub(crate) struct AgentBody<'a> {
    /// Identifier.
    id: AgentId,
    /// What it calls itself.
    name: &'a str,
    /// What its owner calls it.
    label: &'a str,
    /// What it is for.
    description: Option<&'a str>,
    /// Whether it takes or makes calls.
    direction: Direction,
    /// Whether it takes part in routing.
    current_status: AgentStatus,
    /// The numbers that it owns, first assigned first.
    phone_numbers: Vec<NumberOfAgent<'a>>,
    /// Its own targets.
    targets: &'a [Target],
    /// When it was made.
    created_at: Timestamp,
    /// When it was last changed.
    updated_at: Timestamp,
}

impl<'a> AgentBody<'a> {
    /// The agent as it stands in the directory.
    pub(crate) fn new(directory: &'a Directory, agent: &'a DirectoryAgent) -> Self {
        let numbers = agent.record.phone_numbers.iter();
        Self::with_numbers(
            &agent.record,
            numbers
                .filter_map(|id| directory.number_by_id(*id))
                .map(|number| &number.record),
        )
    }

    /// The agent with these numbers.
    fn with_numbers(agent: &'a Agent, numbers: impl Iterator<Item = &'a PhoneNumber>) -> Self {
        Self {
            id: agent.id,
            name: &agent.name,
            label: &agent.label,
            description: agent.description.as_deref(),
            direction: agent.direction,
            current_status: agent.status,
            phone_numbers: numbers.map(NumberOfAgent::new).collect(),
            targets: &agent.targets,
            created_at: agent.created_at,
            updated_at: agent.updated_at,
        }
    }
}

impl<'a> From<&'a AgentView> for AgentBody<'a> {
    fn from(view: &'a AgentView) -> Self {
        Self::with_numbers(&view.agent, view.phone_numbers.iter())
    }
}

/// A number within an agent.
#[derive(Serialize)]
struct NumberOfAgent<'a> {
    /// Identifier.
    id: NumberId,
    /// The digits.
    number: E164,
    /// ISO 3166-1 alpha-2, if known.
    country_code: Option<&'a Country>,
    /// As its country writes it, with the calling code.
    formatted_number: String,
}

impl<'a> NumberOfAgent<'a> {
    /// The number as it is stored.
    fn new(number: &'a PhoneNumber) -> Self {
        Self {
            id: number.id,
            number: number.number,
            country_code: number.country.as_ref(),
            formatted_number: number.number.formatted(),
        }
    }
}

/// A number, whole.
#[derive(Serialize)]
pub(crate) struct NumberBody<'a> {
    /// Identifier.
    id: NumberId,
    /// The digits.
    number: E164,
    /// ISO 3166-1 alpha-2, if known.
    country_code: Option<&'a Country>,
    /// As its country writes it, with the calling code.
    formatted_number: String,
    /// Who owns it, first assigned first.
    agents: Vec<AgentOfNumber<'a>>,
    /// The agent chosen for calls that no role claims.
    default_agent_id: Option<AgentId>,
    /// When it was entered.
    created_at: Timestamp,
}

/// An agent within a number.
#[derive(Serialize)]
struct AgentOfNumber<'a> {
    /// Identifier.
    id: AgentId,
    /// What it calls itself.
    name: &'a str,
    /// Whether it takes or makes calls.
    direction: Direction,
}

impl<'a> NumberBody<'a> {
    /// The number as it stands in the directory.
    pub(crate) fn new(directory: &'a Directory, number: &'a DirectoryNumber) -> Self {
        let owners = number
            .owners
            .iter()
            .filter_map(|slot| directory.agent(*slot));
        let agents = owners.map(|agent| AgentOfNumber {
            id: agent.record.id,
            name: &agent.record.name,
            direction: agent.record.direction,
        });
        Self::with_owners(&number.record, agents.collect())
    }

    /// The number with these owners.
    fn with_owners(number: &'a PhoneNumber, agents: Vec<AgentOfNumber<'a>>) -> Self {
        Self {
            id: number.id,
            number: number.number,
            country_code: number.country.as_ref(),
            formatted_number: number.number.formatted(),
            agents,
            default_agent_id: number.default_agent,
            created_at: number.created_at,
        }
    }
}

impl<'a> From<&'a NumberView> for NumberBody<'a> {
    fn from(view: &'a NumberView) -> Self {
        let agents = view.agents.iter().map(|agent| AgentOfNumber {
            id: agent.id,
            name: &agent.name,
            direction: agent.direction,
        });
        Self::with_owners(&view.number, agents.collect())
    }
}

/// A callback role.
#[derive(Serialize)]
pub(crate) struct CallbackConfig<'a> {
    /// The agents whose calls come back.
    source_agent_ids: &'a [AgentId],
    /// The statuses that count, where any are set.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    callback_trigger_statuses: &'a [CallStatus],
    /// How old a call may be, where that is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    recency_window_seconds: Option<u64>,
}

impl<'a> CallbackConfig<'a> {
    /// The role of an agent.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn of(agent: &'a Agent) -> Result<Self, ApiError> {
        let role: &CallbackRole = agent.role.as_ref().ok_or(CommandError::NoCallbackRole)?;
        Ok(Self {
            source_agent_ids: &role.source_agents,
            callback_trigger_statuses: &role.trigger_statuses,
            recency_window_seconds: role.recency_window_seconds,
        })
    }
}

/// An agent by name.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct AgentName<'a> {
    /// Identifier.
    pub(crate) id: AgentId,
    /// What it calls itself.
    pub(crate) name: &'a str,
}

impl<'a> AgentName<'a> {
    /// The agent as it stands in the directory.
    pub(crate) fn new(agent: &'a DirectoryAgent) -> Self {
        Self {
            id: agent.record.id,
            name: &agent.record.name,
        }
    }
}

/// An agent in brief.
#[derive(Serialize)]
pub(crate) struct AgentBrief<'a> {
    /// Identifier.
    id: AgentId,
    /// What it calls itself.
    name: &'a str,
    /// Whether it takes or makes calls.
    direction: Direction,
    /// Whether it takes part in routing.
    current_status: AgentStatus,
}

impl<'a> AgentBrief<'a> {
    /// The agent as it stands in the directory.
    pub(crate) fn new(agent: &'a DirectoryAgent) -> Self {
        Self {
            id: agent.record.id,
            name: &agent.record.name,
            direction: agent.record.direction,
            current_status: agent.record.status,
        }
    }
}

/// An outbound call.
#[derive(Serialize)]
pub(crate) struct CallBody<'a> {
    /// The call id.
    sid: &'a str,
    /// The agent that called.
    agent_id: AgentId,
    /// Whom it called.
    to: E164,
    /// The number that it called from.
    from: Option<E164>,
    /// How far it got.
    status: CallStatus,
    /// When it started.
    started_at: Timestamp,
}

impl<'a> From<&'a Call> for CallBody<'a> {
    fn from(call: &'a Call) -> Self {
        Self {
            sid: &call.sid,
            agent_id: call.agent,
            to: call.contact,
            from: call.from,
            status: call.status,
            started_at: call.started_at,
        }
    }
}

/// An environment.
#[derive(Serialize)]
pub(crate) struct EnvironmentBody<'a> {
    /// Identifier.
    id: EnvironmentId,
    /// What its administrator calls it.
    name: &'a str,
    /// ISO 3166-1 alpha-2.
    default_country: Option<&'a Country>,
    /// How numbers without plus are read.
    number_form: NumberForm,
    /// How old a call may be.
    recency_window_seconds: u64,
    /// Where calls go for agents without targets.
    target_template: Option<&'a str>,
    /// Where calls go that no agent takes.
    fallback_targets: &'a [Target],
    /// When it was made.
    created_at: Timestamp,
}

impl<'a> From<&'a Environment> for EnvironmentBody<'a> {
    fn from(environment: &'a Environment) -> Self {
        Self {
            id: environment.id,
            name: &environment.name,
            default_country: environment.default_country.as_ref(),
            number_form: environment.number_form,
            recency_window_seconds: environment.recency_window_seconds,
            target_template: environment.target_template.as_deref(),
            fallback_targets: &environment.fallback_targets,
            created_at: environment.created_at,
        }
    }
}

/// A token; its secret only where it is shown, once.
#[derive(Serialize)]
pub(crate) struct TokenBody<'a> {
    /// Identifier.
    id: TokenId,
    /// What its maker called it.
    name: Option<&'a str>,
    /// The secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    /// When it was made.
    created_at: Timestamp,
}

impl<'a> TokenBody<'a> {
    /// A token, with its secret or without.
    pub(crate) fn new(token: &'a Token, secret: Option<&'a str>) -> Self {
        Self {
            id: token.id,
            name: token.name.as_deref(),
            token: secret,
            created_at: token.created_at,
        }
    }
}
