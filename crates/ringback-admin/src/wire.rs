//! From the domain to what is written: the wire types themselves are those of `ringback-api`.

use ringback_api as api;
use ringback_engine::{
    Actor, AgentView, AuditEntry, AuditState, Call, CommandError, DecisionRecord, NumberView,
    OwnerView, Via,
};
use ringback_routing::{
    Agent, AgentId, AgentSlot, CallbackRole, Directory, DirectoryAgent, DirectoryNumber, E164,
    Environment, HeldTarget, OptOut, PhoneNumber, Target, TargetAttempt, TargetState, Token,
};
use uuid::Uuid;

use crate::error::ApiError;

/// An agent as it stands in the directory.
pub(crate) fn agent(directory: &Directory, agent: &DirectoryAgent) -> api::Agent {
    let numbers = agent.record.phone_numbers.iter();
    let numbers = numbers.filter_map(|id| directory.number_by_id(*id));
    agent_with_numbers(&agent.record, numbers.map(|number| &number.record))
}

/// An agent as a command left it.
pub(crate) fn agent_view(view: &AgentView) -> api::Agent {
    agent_with_numbers(&view.agent, view.phone_numbers.iter())
}

/// An agent with these numbers.
fn agent_with_numbers<'a>(
    agent: &Agent,
    numbers: impl Iterator<Item = &'a PhoneNumber>,
) -> api::Agent {
    api::Agent {
        id: agent.id,
        name: agent.name.clone(),
        label: agent.label.clone(),
        description: agent.description.clone(),
        direction: agent.direction,
        current_status: agent.status,
        phone_numbers: numbers.map(number_of_agent).collect(),
        targets: targets(&agent.targets),
        external_ids: agent.external_ids.clone(),
        created_at: agent.created_at,
        updated_at: agent.updated_at,
    }
}

/// A number within an agent.
fn number_of_agent(number: &PhoneNumber) -> api::NumberOfAgent {
    api::NumberOfAgent {
        id: number.id,
        number: number.number,
        country_code: number.country,
        formatted_number: number.number.formatted(),
    }
}

/// A number as it stands in the directory.
pub(crate) fn number(directory: &Directory, number: &DirectoryNumber) -> api::PhoneNumber {
    let owners = number.owners();
    let owners = owners.filter_map(|slot| directory.agent(slot));
    let owner = |agent: &DirectoryAgent| api::AgentOfNumber {
        id: agent.record.id,
        name: agent.record.name.clone(),
        direction: agent.record.direction,
    };
    number_with_owners(&number.record, owners.map(owner).collect())
}

/// A number as a command left it.
pub(crate) fn number_view(view: &NumberView) -> api::PhoneNumber {
    let owner = |agent: &OwnerView| api::AgentOfNumber {
        id: agent.id,
        name: agent.name.clone(),
        direction: agent.direction,
    };
    number_with_owners(&view.number, view.agents.iter().map(owner).collect())
}

/// A number with these owners.
fn number_with_owners(number: &PhoneNumber, agents: Vec<api::AgentOfNumber>) -> api::PhoneNumber {
    api::PhoneNumber {
        id: number.id,
        number: number.number,
        country_code: number.country,
        formatted_number: number.number.formatted(),
        agents,
        default_agent_id: number.default_agent,
        created_at: number.created_at,
    }
}

/// The role of an agent.
///
/// # Errors
/// It has none.
pub(crate) fn callback_config(agent: &Agent) -> Result<api::CallbackConfig, ApiError> {
    let role = agent.role.as_ref().ok_or(CommandError::NoCallbackRole)?;
    Ok(role_config(role))
}

/// A role.
fn role_config(role: &CallbackRole) -> api::CallbackConfig {
    api::CallbackConfig {
        source_agent_ids: role.source_agents.clone(),
        callback_trigger_statuses: role.trigger_statuses.clone(),
        recency_window_seconds: role.recency_window_seconds,
        hours: role.hours.as_ref().map(|hours| hours.spec().clone()),
    }
}

/// An agent with a callback role; `None`: it has none.
pub(crate) fn callback_agent(agent: &Agent) -> Option<api::CallbackAgent> {
    Some(api::CallbackAgent {
        id: agent.id,
        name: agent.name.clone(),
        label: agent.label.clone(),
        direction: agent.direction,
        current_status: agent.status,
        callback_config: callback_config(agent).ok()?,
    })
}

/// An agent by name.
pub(crate) fn agent_name(agent: &DirectoryAgent) -> api::AgentName {
    api::AgentName {
        id: agent.record.id,
        name: agent.record.name.clone(),
    }
}

/// An agent in brief.
pub(crate) fn agent_brief(agent: &DirectoryAgent) -> api::AgentBrief {
    api::AgentBrief {
        id: agent.record.id,
        name: agent.record.name.clone(),
        direction: agent.record.direction,
        current_status: agent.record.status,
    }
}

/// An outbound call.
pub(crate) fn call(call: &Call) -> api::Call {
    api::Call {
        sid: call.sid.as_ref().to_owned(),
        agent_id: call.agent,
        to: call.contact.into(),
        from: call.from.map(Into::into),
        status: call.status,
        started_at: call.started_at,
    }
}

/// An environment.
pub(crate) fn environment(environment: &Environment) -> api::Environment {
    api::Environment {
        id: environment.id,
        name: environment.name.clone(),
        default_country: environment.default_country,
        number_form: environment.number_form,
        recency_window_seconds: environment.recency_window_seconds,
        target_template: environment.target_template.clone(),
        fallback_targets: targets(&environment.fallback_targets),
        target_states: environment
            .held_targets
            .iter()
            .map(|held| (held.destination.clone(), held_state(held)))
            .collect(),
        created_at: environment.created_at,
    }
}

/// What an operator has said of a target.
pub(crate) const fn held_state(held: &HeldTarget) -> TargetState {
    if held.is_up {
        TargetState::Up
    } else {
        TargetState::Down
    }
}

/// A token without its secret.
pub(crate) fn token(token: &Token) -> api::Token {
    api::Token {
        id: token.id,
        name: token.name.clone(),
        masked: token.masked,
        created_at: token.created_at,
    }
}

/// A token with its secret.
pub(crate) fn token_shown(token: &Token, secret: &str) -> api::TokenShown {
    api::TokenShown {
        id: token.id,
        name: token.name.clone(),
        token: secret.to_owned(),
        masked: token.masked,
        created_at: token.created_at,
    }
}

/// A decision, with the agents as they are called now.
pub(crate) fn decision(directory: &Directory, record: &DecisionRecord) -> api::Decision {
    let agent = |slot: AgentSlot| {
        let (_, id) = directory.identity(slot)?;
        Some(api::AgentOfDecision {
            id,
            name: directory.agent(slot).map(|agent| agent.record.name.clone()),
        })
    };
    let forwarded = record.forwarded.as_deref();
    api::Decision {
        at: record.at,
        via: record.via,
        to: record.dialed.map(Into::into),
        from: record.caller.number().map(Into::into),
        outcome: record.outcome,
        reason: record.reason,
        agent: record.agent.and_then(agent),
        source_agent: record.source.and_then(agent),
        sid: record.sid().to_owned(),
        attempts: forwarded
            .map_or_else(Vec::new, |call| call.attempts.iter().map(attempt).collect()),
        ended_by: forwarded.and_then(|call| call.ended_by),
    }
}

/// Whether a contact wants to be called.
pub(crate) fn opt_out(number: E164, opt_out: Option<&OptOut>) -> api::OptOut {
    api::OptOut {
        number: number.into(),
        opted_out: opt_out.is_some(),
        reason: opt_out.and_then(|one| one.reason.as_deref().map(str::to_owned)),
        until: opt_out.and_then(|one| one.until),
        created_at: opt_out.map(|one| one.created_at),
    }
}

/// An attempt to send a call to a target.
fn attempt(attempt: &TargetAttempt) -> api::Attempt {
    api::Attempt {
        uri: attempt.uri.as_ref().to_owned(),
        status: attempt.status,
        cause: attempt.cause,
        started_at: attempt.started_at,
        reply_ms: attempt.reply_millis,
    }
}

/// An audit entry; `all`: where those of every environment are shown.
pub(crate) fn audit_entry(entry: &AuditEntry, all: bool) -> api::AuditEntry {
    let (kind, id, name) = match &entry.actor {
        Actor::Administrator => ("administrator", None, None),
        Actor::Token { id, name } => {
            let kind = match entry.via {
                Via::Console => "session",
                Via::Api | Via::Cli => "token",
            };
            (kind, Some(id.0), name.clone())
        }
    };
    let state = |state: &Option<AuditState>| {
        let state = state.as_ref()?;
        audit_state(state, entry.object.id).ok()
    };
    api::AuditEntry {
        id: entry.id.0,
        at: entry.at,
        actor: api::AuditActor {
            kind: kind.to_owned(),
            id,
            name,
        },
        via: entry.via.name().to_owned(),
        action: entry.action.name().to_owned(),
        object: api::AuditObject {
            kind: entry.object.kind.name().to_owned(),
            id: entry.object.id,
            name: entry.object.name.clone(),
        },
        before: state(&entry.before),
        after: state(&entry.after),
        request_id: entry.request_id.as_ref().to_owned(),
        undo: entry.can_be_undone(),
        environment_id: entry.environment.filter(|_| all),
    }
}

/// An object as the API shows it. A role is shown with the identifier of its agent.
fn audit_state(state: &AuditState, id: Option<Uuid>) -> serde_json::Result<serde_json::Value> {
    match state {
        AuditState::Agent(view) => serde_json::to_value(agent_view(view)),
        AuditState::Number(view) => serde_json::to_value(number_view(view)),
        AuditState::Environment(record) => serde_json::to_value(environment(record)),
        AuditState::Role(role) => serde_json::to_value(api::CallbackRoleReplaced {
            id: AgentId(id.unwrap_or_default()),
            callback_config: role_config(role),
        }),
        AuditState::Token {
            id,
            name,
            masked,
            created_at,
        } => serde_json::to_value(api::Token {
            id: *id,
            name: name.clone(),
            masked: *masked,
            created_at: *created_at,
        }),
    }
}

/// Targets as they are stored, placeholders included.
fn targets(targets: &[Target]) -> Vec<api::Target> {
    targets.iter().map(api::Target::from).collect()
}
