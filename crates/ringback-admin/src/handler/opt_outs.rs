//! Contacts that do not want to be called: `/opt-outs`.

use std::cmp::Reverse;

use axum::extract::{Request, State};
use axum::response::Response;
use ringback_api::OptOutRow;
use ringback_engine::{EndOptOut, NewOptOut, OptOutContact, OptOutContacts};
use ringback_routing::{ContactHash, Timestamp};

use super::contact_batch;
use super::contacts::{number_in_path, read_number};
use super::remembered::{CURSOR_PROBLEM, Page, page_limit};
use crate::api::Api;
use crate::auth::Tenant;
use crate::body::read_optional_fields;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::path::{PathText, QueryText};
use crate::reply::{self, Answer};
use crate::wire;

/// `GET /opt-outs/{number}`: whether the contact wants to be called, known or not.
pub(crate) async fn show(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let number = number_in_path(&api, tenant, &path)?;
    let directory = api.engine().directory();
    let rights = directory.contact_rights(tenant.environment, number);
    let opt_out = rights.and_then(|rights| rights.opt_out_at(api.engine().now()));
    Ok(reply::ok(wire::opt_out(number, opt_out)))
}

/// `PUT /opt-outs/{number}`: the contact does not want to be called. What was noted before is replaced.
pub(crate) async fn put(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let contact = number_in_path(&api, tenant, &path)?;
    let mut fields = read_optional_fields(request).await?;
    let (reason, until) = read_wish(&mut fields);
    let command = OptOutContact {
        environment: tenant.environment,
        new: NewOptOut {
            contact,
            reason,
            until,
        },
        is_misread: fields.is_misread(),
    };
    api.change_read(tenant, command, fields.finish(), move |opt_out| {
        Ok(Answer::ok(wire::opt_out(contact, Some(opt_out))))
    })
    .await
}

/// `DELETE /opt-outs/{number}`: the contact may be called again; one that has never asked, too.
pub(crate) async fn end(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let contact = number_in_path(&api, tenant, &path)?;
    let command = EndOptOut {
        environment: tenant.environment,
        contact,
    };
    api.change(tenant, command, move |()| {
        Ok(Answer::ok(wire::opt_out(contact, None)))
    })
    .await
}

/// `GET /opt-outs`: newest first, without numbers, of which only hashes are kept.
pub(crate) async fn list(
    State(api): State<Api>,
    tenant: Tenant,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let mut page = Page::new(page_limit(&mut query));
    let after = query.read("cursor", CURSOR_PROBLEM, read_cursor);
    query.errors.into_result()?;
    // All that is known is looked through, in memory.
    let read = tokio::task::spawn_blocking(move || {
        let directory = api.engine().directory();
        let now = api.engine().now();
        for (contact, rights) in directory.all_contact_rights() {
            if rights.environment != tenant.environment {
                continue;
            }
            let Some(opt_out) = rights.opt_out_at(now) else {
                continue;
            };
            let place = (Reverse(opt_out.created_at), *contact);
            if after.is_none_or(|after| place > after) {
                page.offer(place, || OptOutRow {
                    id: hex(contact),
                    reason: opt_out.reason.as_deref().map(str::to_owned),
                    until: opt_out.until,
                    created_at: opt_out.created_at,
                });
            }
        }
        page.into_rows()
    });
    let (rows, last) = read.await.map_err(|_panicked| ApiError::Internal)?;
    let next_cursor =
        last.map(|(Reverse(at), contact)| format!("{}-{}", at.millis(), hex(&contact)));
    Ok(reply::rows(rows, next_cursor))
}

/// `POST /opt-outs/batch`: one JSON object per line.
pub(crate) async fn record(
    State(api): State<Api>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, ApiError> {
    let rules = api.number_rules(tenant)?;
    let read = |fields: &mut Fields| {
        let contact = read_number(fields, rules);
        let (reason, until) = read_wish(fields);
        Some(NewOptOut {
            contact: contact?,
            reason,
            until,
        })
    };
    let command = |contacts| OptOutContacts {
        environment: tenant.environment,
        contacts,
    };
    contact_batch::carry_out(&api, tenant, request, read, command).await
}

/// Reads why a contact does not want to be called, and until when.
fn read_wish(fields: &mut Fields) -> (Option<std::sync::Arc<str>>, Option<Timestamp>) {
    let reason = fields.raw_text("reason");
    let is_word = |text: &String| {
        (1..=40).contains(&text.len())
            && text.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte)
            })
    };
    if reason.as_ref().is_some_and(|text| !is_word(text)) {
        fields.errors.add(
            "reason",
            "The reason field must have 1 to 40 of the characters a-z, 0-9, _, . and -.",
        );
    }
    (
        reason.filter(is_word).map(Into::into),
        fields.optional_timestamp("until"),
    )
}

/// A hash as text.
fn hex(contact: &ContactHash) -> String {
    data_encoding::HEXLOWER.encode(&contact.0)
}

/// Reads what an answer gave as the cursor.
fn read_cursor(text: &str) -> Option<(Reverse<Timestamp>, ContactHash)> {
    let (millis, hash) = text.rsplit_once('-')?;
    let at = Timestamp::from_millis(millis.parse().ok()?);
    let hash = data_encoding::HEXLOWER.decode(hash.as_bytes()).ok()?;
    Some((Reverse(at), ContactHash(hash.try_into().ok()?)))
}
