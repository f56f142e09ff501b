//! `/cluster`: the nodes that share a log, and the servers that keep it.

use axum::extract::State;
use axum::response::Response;

use crate::api::Api;
use crate::error::ApiError;
use crate::reply;

/// `GET /cluster`: how the cluster is, as this node knows.
pub(crate) async fn show(State(api): State<Api>) -> Result<Response, ApiError> {
    let source = api.cluster().ok_or(ApiError::NotClustered)?;
    Ok(reply::ok(source.cluster()))
}
