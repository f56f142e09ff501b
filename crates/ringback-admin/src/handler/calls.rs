//! One outbound call: `POST /calls`.

use axum::extract::{Request, State};
use axum::response::Response;
use ringback_engine::{RecordCall, SubmitError, UnreadCall};

use crate::api::Api;
use crate::auth::Tenant;
use crate::body::read_json_text;
use crate::call_text::{CallText, NotACall};
use crate::error::{ApiError, FieldErrors};
use crate::fields::required;
use crate::ignored::IgnoredFields;
use crate::reply;
use crate::wire;

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
    let (call, (agent, started_at)) = match CallText::parse(&text) {
        Ok(fields) => {
            fields.tell_unknown(&ignored);
            (fields.read(rules, &mut errors), fields.checkable())
        }
        Err(NotACall::Malformed) => return Err(ApiError::MalformedJson),
        Err(NotACall::NoObject) => {
            errors.add("body", "The body must be a JSON object.");
            errors.add("agent_id", required("agent_id"));
            errors.add("to", required("to"));
            (None, (None, None))
        }
    };
    let was_read = call.is_some();
    let command = RecordCall {
        environment: tenant.environment,
        call: call.ok_or(UnreadCall { agent, started_at }),
    };
    let recorded = api.engine().submit(tenant.command(command)).await;
    if was_read && matches!(recorded, Ok(_) | Err(SubmitError::Rejected(_))) {
        let accepted = recorded.is_ok();
        api.metrics()
            .count_calls(u64::from(accepted), u64::from(!accepted));
    }
    Ok(reply::created(wire::call(&errors.join(recorded)?)))
}
