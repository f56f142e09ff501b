//! `/cluster`: the nodes that share a log, and the servers that keep it.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use ringback_engine::AuditAction;

use crate::api::Api;
use crate::auth::{Administrator, Asker};
use crate::body::read_optional_fields;
use crate::cluster::{ClusterError, SNAPSHOT_HEADER};
use crate::error::ApiError;
use crate::path::PathText;
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

/// `DELETE /cluster/nodes/{node}`: a node that will not return is not shown any more.
pub(crate) async fn forget(
    State(api): State<Api>,
    administrator: Administrator,
    path: PathText,
) -> Result<Response, ApiError> {
    let source = api.cluster().ok_or(ApiError::NotClustered)?;
    source.forget(path.get("node"))?;
    Asker::Administrator(administrator)
        .note_copy(&api, None, AuditAction::Forget)
        .await?;
    Ok(reply::done("Node forgotten"))
}

/// `POST /cluster/recover`: has the log made anew from what a node has; without `confirm` says what would happen.
pub(crate) async fn recover(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, ApiError> {
    let source = api.cluster().ok_or(ApiError::NotClustered)?;
    let mut fields = read_optional_fields(request).await?;
    let from = fields.optional_name("from", LONGEST_NAME);
    let begin = fields.flag("confirm").unwrap_or(false);
    fields.finish().into_result()?;
    Ok(reply::ok(source.recover(from.as_deref(), begin)?))
}

impl From<ClusterError> for ApiError {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::NoSuchNode => Self::NodeNotFound,
            ClusterError::NodeIsCurrent => Self::NodeIsCurrent,
            ClusterError::LogIsWhole => Self::LogIsWhole,
            ClusterError::ForeignLog => Self::ForeignLog,
            ClusterError::Unreachable => Self::ClusterUnavailable,
        }
    }
}

/// The longest name of a node.
const LONGEST_NAME: usize = 32;
