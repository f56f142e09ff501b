//! `/cluster`: the nodes that share a log, and the servers that keep it.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

use crate::api::Api;
use crate::cluster::SNAPSHOT_HEADER;
use crate::error::ApiError;
use crate::{reply, streamed};

/// `GET /cluster`: how the cluster is, as this node knows.
pub(crate) async fn show(State(api): State<Api>) -> Result<Response, ApiError> {
    let source = api.cluster().ok_or(ApiError::NotClustered)?;
    Ok(reply::ok(source.cluster()))
}

/// `GET /cluster/snapshot`: the state of this node for another one, which proves that it has the secret of the cluster.
pub(crate) async fn snapshot(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let source = api.cluster().ok_or(ApiError::NotClustered)?;
    let asked = headers.get(SNAPSHOT_HEADER);
    let asked = asked.and_then(|value| value.to_str().ok());
    let snapshot = asked.and_then(|asked| source.snapshot(asked));
    let snapshot = snapshot.ok_or(ApiError::Unauthenticated)?;
    let id = HeaderValue::from_str(&snapshot.id).map_err(|_| ApiError::Internal)?;
    let write = snapshot.write;
    let mut response = streamed::answer(&api, (), "application/octet-stream", move |to| {
        write(to).map_err(|error| {
            tracing::warn!(%error, "a snapshot was broken off");
            ApiError::ShuttingDown
        })
    })
    .await?;
    response.headers_mut().insert(SNAPSHOT_HEADER, id);
    Ok(response)
}
