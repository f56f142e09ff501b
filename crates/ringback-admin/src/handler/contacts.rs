//! What is remembered of a contact: `/contacts/{number}`.

use axum::extract::State;
use axum::response::Response;
use ringback_engine::{FieldErrors, ForgetContact};
use ringback_routing::E164;
use serde::Serialize;

use crate::api::Api;
use crate::auth::Tenant;
use crate::error::ApiError;
use crate::path::PathText;
use crate::reply;
use crate::wire::CallBody;

/// `GET /contacts/{number}`: the calls that decide, newest first. A number that cannot be read is
/// nobody's.
pub(crate) async fn show(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let number = read(&api, tenant, &path)?.ok_or(ApiError::ContactNotFound)?;
    let calls = api.engine().calls_to(tenant.environment, number).await?;
    // Of a subscriber with two spellings, the one that was recorded first.
    let first = calls.last().ok_or(ApiError::ContactNotFound)?;
    Ok(reply::ok(ContactBody {
        number: first.contact,
        calls: calls.iter().map(CallBody::from).collect(),
    }))
}

/// `DELETE /contacts/{number}`: forgets it everywhere; one that is not known, too. A number that
/// cannot be read is an error, for nothing has been erased.
pub(crate) async fn forget(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let Some(contact) = read(&api, tenant, &path)? else {
        let mut errors = FieldErrors::default();
        errors.add("number", "The number must be a valid phone number.");
        return Err(errors.into());
    };
    let command = ForgetContact {
        environment: tenant.environment,
        contact,
    };
    api.submit(tenant, command).await?;
    Ok(reply::done("Contact forgotten"))
}

/// The number in the path.
fn read(api: &Api, tenant: Tenant, path: &PathText) -> Result<Option<E164>, ApiError> {
    let rules = api.number_rules(tenant)?;
    Ok(rules.read(path.get("number")).number())
}

/// A contact.
#[derive(Serialize)]
struct ContactBody<'a> {
    /// Its number.
    number: E164,
    /// Its calls, newest first.
    calls: Vec<CallBody<'a>>,
}
