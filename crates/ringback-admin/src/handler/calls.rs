//! One outbound call: `POST /calls`.

use axum::extract::{Request, State};
use axum::response::Response;
use ringback_engine::{FieldErrors, NewCall, RecordCalls};
use ringback_routing::Direction;

use crate::api::Api;
use crate::auth::Tenant;
use crate::body::read_json_text;
use crate::call_text::{CallText, NotACall};
use crate::error::ApiError;
use crate::fields::required;
use crate::ignored::IgnoredFields;
use crate::reply;
use crate::wire::CallBody;

/// `POST /calls`: records a call, or raises the status of a known one; 201 either way.
pub(crate) async fn record(
    State(api): State<Api>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, ApiError> {
    let ignored = IgnoredFields::of(&request);
    let text = read_json_text(request).await?;
    let rules = api.number_rules(tenant)?;
    let mut errors = FieldErrors::default();
    let call = match CallText::parse(&text) {
        Ok(fields) => {
            fields.tell_unknown(&ignored);
            let call = fields.read(rules, &mut errors);
            check(&api, tenant, &fields, &mut errors);
            call
        }
        Err(NotACall::Malformed) => return Err(ApiError::MalformedJson),
        Err(NotACall::NoObject) => {
            errors.add("body", "The body must be a JSON object.");
            errors.add("agent_id", required("agent_id"));
            errors.add("to", required("to"));
            None
        }
    };
    errors.into_result()?;
    let calls = Vec::from_iter(call);
    let command = RecordCalls {
        environment: tenant.environment,
        calls,
    };
    let results = api.submit(tenant, command).await?;
    let result = results.into_iter().next().ok_or(ApiError::Internal)?;
    api.metrics()
        .count_calls(u64::from(result.is_ok()), u64::from(result.is_err()));
    Ok(reply::created(CallBody::from(&result?)))
}

/// Checks the agent and the start ahead of the command, so that they are reported along with what
/// else is wrong.
fn check(api: &Api, tenant: Tenant, fields: &CallText<'_>, errors: &mut FieldErrors) {
    let (agent, started_at) = fields.checkable();
    let directory = api.engine().directory();
    match agent.map(|id| directory.agent_of(tenant.environment, id)) {
        Some(None) => errors.add("agent_id", "The selected agent does not exist."),
        Some(Some(agent)) if agent.record.direction != Direction::Outbound => {
            errors.add("agent_id", "The selected agent must be outbound.");
        }
        _ => {}
    }
    let latest = api.engine().now().plus_millis(NewCall::MAX_AHEAD_MILLIS);
    if started_at.is_some_and(|started_at| started_at > latest) {
        errors.add(
            "started_at",
            "The call may start at most five minutes from now.",
        );
    }
    if started_at.is_some_and(|started_at| started_at.millis() < 0) {
        errors.add("started_at", "The call may not start before 1970.");
    }
}
