//! What is remembered of a contact: `/contacts/{number}`.

use axum::extract::{Request, State};
use axum::response::Response;
use ringback_api::{Contact, ContactExport, Erased, Reassigned};
use ringback_engine::{
    AuditAction, DecisionRecord, ForgetContact, ReassignContact, ReassignContacts, Reassignment,
};
use ringback_routing::{E164, NumberRulesRef, Timestamp};

use super::contact_batch;
use super::statistics::{date_of, read_day as read_date};
use crate::api::Api;
use crate::auth::{Asker, Tenant};
use crate::body::read_fields;
use crate::error::{ApiError, FieldErrors};
use crate::fields::{Fields, MAX_NAME};
use crate::identity;
use crate::path::{PathText, QueryText};
use crate::reply::{self, Answer};
use crate::wire;

/// `GET /contacts/{number}`: the calls that decide, newest first.
pub(crate) async fn show(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let number = number_in_path(&api, tenant, &path)?;
    let calls = api.engine().calls_to(tenant.environment, number).await?;
    // Of a subscriber with two spellings, the one that was recorded first.
    let first = calls.last().ok_or(ApiError::ContactNotFound)?;
    Ok(reply::ok(Contact {
        number: first.contact.into(),
        calls: calls.iter().map(wire::call).collect(),
    }))
}

/// `DELETE /contacts/{number}`: forgets it everywhere; one that is not known, too. With `opt_out=true` it is noted, too,
/// that it does not want to be called.
pub(crate) async fn forget(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let number = number_in_path(&api, tenant, &path)?;
    let opt_out = query.read("opt_out", "The opt out must be true or false.", |text| {
        text.parse().ok()
    });
    query.errors.into_result()?;
    let command = ForgetContact {
        environment: tenant.environment,
        contact: number,
        opt_out: opt_out.unwrap_or(false),
    };
    let kept_for = api.erased_stays_for();
    api.change(tenant, command, move |erased_at| {
        Ok(Answer::ok(Erased {
            number: number.into(),
            erased_at: *erased_at,
            clean_by: erased_at.plus_millis(kept_for),
        }))
    })
    .await
}

/// `POST /contacts/{number}/reassigned`: the number was given to somebody else.
pub(crate) async fn reassign(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let contact = number_in_path(&api, tenant, &path)?;
    let mut fields = read_fields(request).await?;
    let before = read_day(&mut fields);
    fields.finish().into_result()?;
    let command = ReassignContact {
        environment: tenant.environment,
        new: Reassignment {
            contact,
            before: before.ok_or(ApiError::Internal)?,
        },
    };
    api.change(tenant, command, move |before| {
        Ok(Answer::ok(Reassigned {
            number: contact.into(),
            before: date_of(before.day()),
        }))
    })
    .await
}

/// `POST /contacts/reassigned`: one JSON object per line.
pub(crate) async fn reassign_many(
    State(api): State<Api>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, ApiError> {
    let rules = api.number_rules(tenant)?;
    let read = |fields: &mut Fields| {
        let (contact, before) = (read_number(fields, rules), read_day(fields));
        Some(Reassignment {
            contact: contact?,
            before: before?,
        })
    };
    let command = |contacts| ReassignContacts {
        environment: tenant.environment,
        contacts,
    };
    contact_batch::carry_out(&api, tenant, request, read, command).await
}

/// `GET /contacts/{number}/export`: all that is known of a number, known or not.
pub(crate) async fn export(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let number = number_in_path(&api, tenant, &path)?;
    Asker::Tenant(tenant)
        .note_copy(&api, Some(tenant.environment), AuditAction::Export)
        .await?;
    // The store is read.
    let exported = tokio::task::spawn_blocking(move || {
        let engine = api.engine();
        let calls = engine
            .all_calls_to(tenant.environment, number)
            .map_err(|error| {
                tracing::error!(%error, "a contact could not be read for an export");
                ApiError::StorageUnavailable
            })?;
        let is_caller = |record: &DecisionRecord| {
            let caller = record.caller.number();
            caller.map(E164::subscriber) == Some(number.subscriber())
        };
        let decisions = engine.find_decisions(tenant.environment, u64::MAX, usize::MAX, &is_caller);
        let directory = engine.directory();
        let rights = directory.contact_rights(tenant.environment, number);
        let opt_out = rights.and_then(|rights| rights.opt_out_at(engine.now()));
        let counts_from = rights.and_then(|rights| rights.counts_from);
        Ok(reply::ok(ContactExport {
            number: number.into(),
            exported_at: engine.now(),
            calls: calls.iter().map(wire::call).collect(),
            routed_calls: decisions
                .iter()
                .map(|record| wire::decision(&directory, record))
                .collect(),
            opt_out: opt_out.map(|opt_out| wire::opt_out(number, Some(opt_out))),
            reassigned_before: counts_from.map(|from| date_of(from.day())),
        }))
    });
    exported.await.map_err(|_panicked| ApiError::Internal)?
}

/// Reads the day before which calls do not count; the instant at which it begins.
fn read_day(fields: &mut Fields) -> Option<Timestamp> {
    let text = fields.required_text("before", MAX_NAME);
    if text.is_empty() {
        return None;
    }
    let day = read_date(&text);
    if day.is_none() {
        let message = "The before field must be a day, as in 2026-11-21.";
        fields.errors.add("before", message);
    }
    Some(Timestamp::from_seconds(i64::from(day?) * 86_400))
}

/// Reads the number of a contact, which must be there.
pub(super) fn read_number(fields: &mut Fields, rules: NumberRulesRef<'_>) -> Option<E164> {
    let text = fields.required_text("number", MAX_NAME);
    if text.is_empty() {
        return None;
    }
    let number = identity::read(&text, rules).number();
    if number.is_none() {
        let message = "The number field must be a valid phone number.";
        fields.errors.add("number", message);
    }
    number
}

/// The number in the path. One that cannot be read is an error: it says nothing of the contact that was
/// meant.
pub(super) fn number_in_path(api: &Api, tenant: Tenant, path: &PathText) -> Result<E164, ApiError> {
    let rules = api.number_rules(tenant)?;
    let number = identity::read(path.get("number"), rules).number();
    number.ok_or_else(|| {
        let mut errors = FieldErrors::default();
        errors.add("number", "The number must be a valid phone number.");
        errors.into()
    })
}
