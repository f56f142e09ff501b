//! `GET /problems`: what cannot route, and why.

use axum::extract::State;
use axum::response::Response;

use crate::api::{Api, home};
use crate::auth::Tenant;
use crate::error::ApiError;
use crate::problems::problems;
use crate::reply;

/// `GET /problems`: computed from what stands in the directory now, and which numbers were called from.
pub(crate) async fn list(State(api): State<Api>, tenant: Tenant) -> Result<Response, ApiError> {
    let found = tokio::task::spawn_blocking(move || {
        let directory = api.engine().directory();
        let (contacts, now) = (api.engine().contacts(), api.engine().now());
        home(&directory, tenant).map(|home| problems(&directory, home, contacts, now))
    });
    Ok(reply::ok(found.await.map_err(|_| ApiError::Internal)??))
}
