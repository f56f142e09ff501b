//! One outbound call: `POST /calls`.

use axum::extract::{Request, State};
use axum::response::Response;
use ringback_engine::{CommandError, RecordCall, UnreadCall};

use crate::api::Api;
use crate::auth::Tenant;
use crate::body::read_json_text;
use crate::call_text::{CallText, NotACall};
use crate::error::{ApiError, FieldErrors};
use crate::fields::required;
use crate::ignored::IgnoredFields;
use crate::reply::Answer;
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
    let recorded = api.carry_out(tenant.asked, tenant.command(command), errors, |call| {
        Ok(Answer::created(wire::call(call)))
    });
    let recorded = recorded.await;
    let is_refused = match &recorded {
        Err(ApiError::Rejected(error)) => *error != CommandError::AnsweredBefore,
        Err(ApiError::Invalid(_)) => true,
        _ => false,
    };
    if was_read && (recorded.is_ok() || is_refused) {
        api.metrics()
            .count_calls(u64::from(!is_refused), u64::from(is_refused));
    }
    let (_, response) = recorded?;
    Ok(response)
}
