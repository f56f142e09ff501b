//! The callback role: `/agents/{id}/callback` and `/callback-agents`.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use ringback_engine::{
    ConstraintCheck, RemoveCallbackRole, RoleFields, RoleMode, SetCallbackRole, check_constraints,
};
use ringback_routing::{Agent, AgentId, AgentStatus, Direction};
use serde::Serialize;

use crate::api::Api;
use crate::auth::Tenant;
use crate::body::{read_fields, read_optional_fields};
use crate::error::{ApiError, FieldErrors, constraint_message};
use crate::fields::Fields;
use crate::path::PathText;
use crate::reply;
use crate::wire::{AgentBrief, CallbackConfig};

/// `POST /agents/{id}/callback`: gives the role, anew if there is one.
pub(crate) async fn set(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let agent = &submit(&api, tenant, &path, request, RoleMode::Anew).await?;
    Ok(reply::ok(RoleSet {
        id: agent.id,
        name: &agent.name,
        direction: agent.direction,
        callback_config: CallbackConfig::of(agent)?,
    }))
}

/// `PUT /agents/{id}/callback`: replaces the sources; options left out stay.
pub(crate) async fn replace(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let agent = &submit(&api, tenant, &path, request, RoleMode::Replace).await?;
    Ok(reply::ok(RoleReplaced {
        id: agent.id,
        callback_config: CallbackConfig::of(agent)?,
    }))
}

/// `DELETE /agents/{id}/callback`.
pub(crate) async fn remove(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let command = RemoveCallbackRole {
        environment: tenant.environment,
        id: path.agent(&api, tenant)?,
    };
    api.submit(tenant, command).await?;
    Ok(reply::done("Callback role removed"))
}

/// `GET /callback-agents`: every agent with the role.
pub(crate) async fn list(State(api): State<Api>, tenant: Tenant) -> Result<Response, ApiError> {
    let directory = api.engine().directory();
    let agents: Vec<CallbackAgent<'_>> = directory
        .agents_of(tenant.environment)
        .filter_map(|agent| {
            let agent = &agent.record;
            Some(CallbackAgent {
                id: agent.id,
                name: &agent.name,
                label: &agent.label,
                direction: agent.direction,
                current_status: agent.status,
                callback_config: CallbackConfig::of(agent).ok()?,
            })
        })
        .collect();
    Ok(reply::ok(agents))
}

/// `GET /callback-agents/source-agents`: the agents that a role may name.
pub(crate) async fn source_agents(
    State(api): State<Api>,
    tenant: Tenant,
) -> Result<Response, ApiError> {
    let directory = api.engine().directory();
    let agents: Vec<AgentBrief<'_>> = directory
        .agents_of(tenant.environment)
        .filter(|agent| {
            agent.record.direction == Direction::Outbound
                && agent.record.status == AgentStatus::Published
        })
        .map(AgentBrief::new)
        .collect();
    Ok(reply::ok(agents))
}

/// `POST /callback-agents/{id}/check-constraints`: says what would be wrong, changes nothing.
pub(crate) async fn check(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let id = path.agent(&api, tenant)?;
    let mut fields = read_optional_fields(request).await?;
    let check = ConstraintCheck {
        is_callback_agent: fields.flag("is_callback_agent"),
        source_agents: fields.optional_texts("callback_source_agents"),
        trigger_statuses: fields.optional_texts("callback_trigger_statuses"),
    };
    fields.finish().into_result()?;
    let directory = api.engine().directory();
    let problems = check_constraints(&directory, tenant.environment, id, &check)
        .ok_or(ringback_engine::CommandError::AgentNotFound)?;
    if problems.is_empty() {
        return Ok(reply::done("Configuration is valid"));
    }
    let message = "Configuration has errors";
    let body = Problems {
        success: false,
        message,
        errors: problems.iter().map(constraint_message).collect(),
    };
    Ok(reply::json(StatusCode::UNPROCESSABLE_ENTITY, &body))
}

/// Has the role set; returns the agent as this request left it.
async fn submit(
    api: &Api,
    tenant: Tenant,
    path: &PathText,
    request: Request,
    mode: RoleMode,
) -> Result<Agent, ApiError> {
    let id = path.agent(api, tenant)?;
    let (fields, errors) = role_fields(read_fields(request).await?);
    let command = SetCallbackRole {
        environment: tenant.environment,
        id,
        mode,
        fields,
    };
    api.submit_read(tenant, command, errors).await
}

/// What a request says of a role, and what is wrong with it.
fn role_fields(mut fields: Fields) -> (RoleFields, FieldErrors) {
    let source_agent_ids = fields
        .required_ids("source_agent_ids")
        .unwrap_or_default()
        .into_iter()
        .map(|id| id.map(AgentId))
        .collect();
    let role = RoleFields {
        source_agent_ids,
        recency_window_seconds: fields.seconds("recency_window_seconds"),
        trigger_statuses: fields.statuses("callback_trigger_statuses"),
        is_misread: fields.is_misread(),
    };
    (role, fields.finish())
}

/// The answer to `POST`.
#[derive(Serialize)]
struct RoleSet<'a> {
    /// The agent.
    id: AgentId,
    /// Its name.
    name: &'a str,
    /// Its direction: inbound.
    direction: Direction,
    /// Its role.
    callback_config: CallbackConfig<'a>,
}

/// The answer to `PUT`.
#[derive(Serialize)]
struct RoleReplaced<'a> {
    /// The agent.
    id: AgentId,
    /// Its role.
    callback_config: CallbackConfig<'a>,
}

/// An agent with the role.
#[derive(Serialize)]
struct CallbackAgent<'a> {
    /// The agent.
    id: AgentId,
    /// Its name.
    name: &'a str,
    /// Its label.
    label: &'a str,
    /// Its direction.
    direction: Direction,
    /// Whether it takes part in routing.
    current_status: AgentStatus,
    /// Its role.
    callback_config: CallbackConfig<'a>,
}

/// A configuration that is not valid.
#[derive(Serialize)]
struct Problems<'a> {
    /// Always false.
    success: bool,
    /// For people.
    message: &'a str,
    /// What is wrong.
    errors: Vec<String>,
}
