//! Agents: `/agents`.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::Response;
use ringback_engine::{AgentView, CreateAgent, DeleteAgent, Override, PublishAgent, UpdateAgent};
use ringback_routing::{AgentStatus, Direction, DirectoryAgent, NumberId};
use uuid::Uuid;

use crate::api::Api;
use crate::auth::Tenant;
use crate::body::read_fields;
use crate::error::ApiError;
use crate::fields::{Fields, MAX_DESCRIPTION, MAX_NAME};
use crate::paging::Paging;
use crate::path::{PathText, QueryText, find_agent};
use crate::reply::{self, Answer};
use crate::wire;

/// `GET /agents`: one page of those that match.
pub(crate) async fn list(
    State(api): State<Api>,
    tenant: Tenant,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let status = query.read("status", "The selected status is invalid.", read_status);
    let direction = query.read(
        "direction",
        "The selected direction is invalid.",
        read_direction,
    );
    let paging = Paging::read(&mut query);
    let search = query.get("search").map(str::to_lowercase);
    query.errors.into_result()?;

    let matches = |agent: &&DirectoryAgent| {
        let agent = &agent.record;
        status.is_none_or(|status| agent.status == status)
            && direction.is_none_or(|direction| agent.direction == direction)
            && search.as_ref().is_none_or(|search| {
                agent.name.to_lowercase().contains(search)
                    || agent.label.to_lowercase().contains(search)
            })
    };
    let directory = api.engine().directory();
    let agents: Vec<&DirectoryAgent> = directory
        .agents_of(tenant.environment)
        .filter(matches)
        .collect();
    Ok(paging.answer(agents, |agent| wire::agent(&directory, agent)))
}

/// `POST /agents`: a draft.
pub(crate) async fn create(
    State(api): State<Api>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, ApiError> {
    let mut fields = read_fields(request).await?;
    let command = CreateAgent {
        environment: tenant.environment,
        name: fields.required_name("name", MAX_NAME),
        label: fields.required_name("label", MAX_NAME),
        description: fields.optional_name("description", MAX_DESCRIPTION),
        // Where it is wrong, `is_misread` keeps the command from being carried out.
        direction: required_direction(&mut fields).unwrap_or(Direction::Inbound),
        phone_number_ids: fields
            .optional_ids("phone_number_ids")
            .map(number_ids)
            .unwrap_or_default(),
        targets: fields.targets("targets").unwrap_or_default(),
        external_ids: fields
            .external_ids("external_ids")
            .into_iter()
            .filter_map(|(dialect, id)| Some((dialect, id?)))
            .collect(),
        is_misread: fields.is_misread(),
    };
    api.change_read(tenant, command, fields.finish(), |agent| {
        Ok(Answer::created(wire::agent_view(agent)))
    })
    .await
}

/// `GET /agents/{id}`.
pub(crate) async fn show(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let id = path.agent(&api, tenant)?;
    let directory = api.engine().directory();
    let agent = find_agent(&directory, tenant, id)?;
    Ok(reply::ok(wire::agent(&directory, agent)))
}

/// `PATCH /agents/{id}`: what is left out stays.
pub(crate) async fn update(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let id = path.agent(&api, tenant)?;
    let mut fields = read_fields(request).await?;
    let command = UpdateAgent {
        environment: tenant.environment,
        id,
        name: fields.kept_name("name", MAX_NAME),
        label: fields.kept_name("label", MAX_NAME),
        description: fields.description("description", MAX_DESCRIPTION),
        direction: fields.kept_choice("direction", read_direction),
        phone_number_ids: fields.kept_ids("phone_number_ids").map(number_ids),
        targets: fields.targets("targets"),
        external_ids: fields.external_ids("external_ids"),
        is_misread: fields.is_misread(),
    };
    api.change_read(tenant, command, fields.finish(), shown)
        .await
}

/// `PUT /agents/{id}/calling`: the direction, and the numbers unless they are left out.
pub(crate) async fn set_calling(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let id = path.agent(&api, tenant)?;
    let mut fields = read_fields(request).await?;
    let command = UpdateAgent {
        environment: tenant.environment,
        id,
        name: None,
        label: None,
        description: Override::Keep,
        direction: required_direction(&mut fields),
        phone_number_ids: fields.kept_ids("phone_number_ids").map(number_ids),
        targets: None,
        external_ids: BTreeMap::new(),
        is_misread: fields.is_misread(),
    };
    api.change_read(tenant, command, fields.finish(), shown)
        .await
}

/// `POST /agents/{id}/publish`.
pub(crate) async fn publish(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    set_status(&api, tenant, &path, AgentStatus::Published).await
}

/// `POST /agents/{id}/unpublish`.
pub(crate) async fn unpublish(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    set_status(&api, tenant, &path, AgentStatus::Draft).await
}

/// `DELETE /agents/{id}`.
pub(crate) async fn delete(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let id = path.agent(&api, tenant)?;
    let command = DeleteAgent {
        environment: tenant.environment,
        id,
    };
    api.change(tenant, command, |()| Ok(Answer::done("Agent deleted")))
        .await
}

/// Publishes an agent, or takes it back.
async fn set_status(
    api: &Api,
    tenant: Tenant,
    path: &PathText,
    status: AgentStatus,
) -> Result<Response, ApiError> {
    let command = PublishAgent {
        environment: tenant.environment,
        id: path.agent(api, tenant)?,
        status,
    };
    api.change(tenant, command, shown).await
}

/// The answer that shows an agent as the request left it.
fn shown(agent: &AgentView) -> Result<Answer, ApiError> {
    Ok(Answer::ok(wire::agent_view(agent)))
}

/// The direction that must be there.
fn required_direction(fields: &mut Fields) -> Option<Direction> {
    fields.required_choice("direction", read_direction)
}

/// Reads a direction.
fn read_direction(text: &str) -> Option<Direction> {
    let mut all = Direction::ALL.into_iter();
    all.find(|direction| direction.name() == text)
}

/// Reads a status.
fn read_status(text: &str) -> Option<AgentStatus> {
    let mut all = AgentStatus::ALL.into_iter();
    all.find(|status| status.name() == text)
}

/// Identifiers as those of numbers.
fn number_ids(ids: Vec<Option<Uuid>>) -> Vec<Option<NumberId>> {
    ids.into_iter().map(|id| id.map(NumberId)).collect()
}
