//! Where calls are sent, and how it is there: `/targets`.

use axum::extract::{Request, State};
use axum::response::Response;
use ringback_api::TargetHealth;
use ringback_engine::HoldTarget;
use ringback_routing::HeldTarget;
use ringback_sip_proto::destination;

use crate::api::{Api, home};
use crate::auth::Tenant;
use crate::body::read_fields;
use crate::error::ApiError;
use crate::reply::{self, Answer};
use crate::targets::{targets, tell};

/// `GET /targets`: one row for each scheme, host, port and transport.
pub(crate) async fn list(State(api): State<Api>, tenant: Tenant) -> Result<Response, ApiError> {
    let found = tokio::task::spawn_blocking(move || {
        let directory = api.engine().directory();
        let home = home(&directory, tenant)?;
        let found = targets(&directory, home, api.targets());
        Ok::<Vec<TargetHealth>, ApiError>(found.into_values().collect())
    });
    Ok(reply::ok(found.await.map_err(|_| ApiError::Internal)??))
}

/// `POST /targets/state`: what an operator says counts more than what is found out, for this environment alone.
pub(crate) async fn hold(
    State(api): State<Api>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, ApiError> {
    let mut fields = read_fields(request).await?;
    let uri = fields.required_text("uri", MOST_BYTES);
    let state = fields.required_choice("state", |word| match word {
        "up" => Some(Some(true)),
        "down" => Some(Some(false)),
        "auto" => Some(None),
        _ => None,
    });
    fields.finish().into_result()?;
    let destination = destination(&uri).ok_or(ApiError::TargetNotFound)?;
    let directory = api.engine().directory();
    let mut found = targets(&directory, home(&directory, tenant)?, api.targets());
    drop(directory);
    let found = found.remove(&destination);
    let before = found.ok_or(ApiError::TargetNotFound)?;
    let command = HoldTarget {
        environment: tenant.environment,
        destination,
        is_up: state.flatten(),
    };
    let knows = api.clone();
    let answer = move |held: &Option<HeldTarget>| {
        let mut health = before.clone();
        let held = held.as_ref();
        tell(knows.targets(), tenant.environment, &mut health, held);
        Ok(Answer::ok(health))
    };
    api.change(tenant, command, answer).await
}

/// The longest URI that is read.
const MOST_BYTES: usize = 2_048;
