//! The callback role: `/agents/{id}/callback` and `/callback-agents`.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use ringback_api::{
    AgentBrief, CallbackAgent, CallbackRoleReplaced, CallbackRoleSet, ErrorDetails, Problem,
};
use ringback_engine::{
    ConstraintCheck, RemoveCallbackRole, RoleFields, RoleMode, SetCallbackRole, check_constraints,
};
use ringback_routing::{Agent, AgentId, AgentStatus, Direction};

use crate::api::{Api, ToAnswer};
use crate::auth::Tenant;
use crate::body::{read_fields, read_optional_fields};
use crate::error::{ApiError, FieldErrors, constraint_message};
use crate::fields::Fields;
use crate::path::PathText;
use crate::reply::{self, Answer};
use crate::wire;

/// `POST /agents/{id}/callback`: gives the role, in place of one that is there.
pub(crate) async fn set(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    submit(&api, tenant, &path, request, RoleMode::Anew, |agent| {
        Ok(Answer::ok(CallbackRoleSet {
            id: agent.id,
            name: agent.name.clone(),
            direction: agent.direction,
            callback_config: wire::callback_config(agent)?,
        }))
    })
    .await
}

/// `PUT /agents/{id}/callback`: replaces the sources; options left out stay.
pub(crate) async fn replace(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    submit(&api, tenant, &path, request, RoleMode::Replace, |agent| {
        Ok(Answer::ok(CallbackRoleReplaced {
            id: agent.id,
            callback_config: wire::callback_config(agent)?,
        }))
    })
    .await
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
    api.change(tenant, command, |()| {
        Ok(Answer::done("Callback role removed"))
    })
    .await
}

/// `GET /callback-agents`: every agent with the role.
pub(crate) async fn list(State(api): State<Api>, tenant: Tenant) -> Result<Response, ApiError> {
    let directory = api.engine().directory();
    let agents: Vec<CallbackAgent> = directory
        .agents_of(tenant.environment)
        .filter_map(|agent| wire::callback_agent(&agent.record))
        .collect();
    Ok(reply::ok(agents))
}

/// `GET /callback-agents/source-agents`: the agents that a role may name.
pub(crate) async fn source_agents(
    State(api): State<Api>,
    tenant: Tenant,
) -> Result<Response, ApiError> {
    let directory = api.engine().directory();
    let agents: Vec<AgentBrief> = directory
        .agents_of(tenant.environment)
        .filter(|agent| {
            agent.record.direction == Direction::Outbound
                && agent.record.status == AgentStatus::Published
        })
        .map(wire::agent_brief)
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
    let errors = problems.iter().map(constraint_message).collect();
    let body = Problem::with_details(
        "Configuration has errors",
        ErrorDetails::Configuration(errors),
    );
    Ok(reply::json(StatusCode::UNPROCESSABLE_ENTITY, &body))
}

/// Has the role set; `answer` shows the agent as this request left it.
async fn submit(
    api: &Api,
    tenant: Tenant,
    path: &PathText,
    request: Request,
    mode: RoleMode,
    answer: impl ToAnswer<Agent>,
) -> Result<Response, ApiError> {
    let id = path.agent(api, tenant)?;
    let (fields, errors) = role_fields(read_fields(request).await?);
    let command = SetCallbackRole {
        environment: tenant.environment,
        id,
        mode,
        fields,
    };
    api.change_read(tenant, command, errors, answer).await
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
        hours: fields.hours("hours"),
        is_misread: fields.is_misread(),
    };
    (role, fields.finish())
}
