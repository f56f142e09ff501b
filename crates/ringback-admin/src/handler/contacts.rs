//! What is remembered of a contact: `/contacts/{number}`.

use axum::extract::State;
use axum::response::Response;
use ringback_api::Contact;
use ringback_engine::ForgetContact;
use ringback_routing::E164;

use crate::api::Api;
use crate::auth::Tenant;
use crate::error::{ApiError, FieldErrors};
use crate::identity;
use crate::path::PathText;
use crate::reply::{self, Answer};
use crate::wire;

/// `GET /contacts/{number}`: the calls that decide, newest first.
pub(crate) async fn show(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let number = read(&api, tenant, &path)?;
    let calls = api.engine().calls_to(tenant.environment, number).await?;
    // Of a subscriber with two spellings, the one that was recorded first.
    let first = calls.last().ok_or(ApiError::ContactNotFound)?;
    Ok(reply::ok(Contact {
        number: first.contact.into(),
        calls: calls.iter().map(wire::call).collect(),
    }))
}

/// `DELETE /contacts/{number}`: forgets it everywhere; one that is not known, too.
pub(crate) async fn forget(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let command = ForgetContact {
        environment: tenant.environment,
        contact: read(&api, tenant, &path)?,
    };
    api.change(tenant, command, |()| Ok(Answer::done("Contact forgotten")))
        .await
}

/// The number in the path. One that cannot be read is an error: it says nothing of the contact that was
/// meant.
fn read(api: &Api, tenant: Tenant, path: &PathText) -> Result<E164, ApiError> {
    let rules = api.number_rules(tenant)?;
    let number = identity::read(path.get("number"), rules).number();
    number.ok_or_else(|| {
        let mut errors = FieldErrors::default();
        errors.add("number", "The number must be a valid phone number.");
        errors.into()
    })
}
