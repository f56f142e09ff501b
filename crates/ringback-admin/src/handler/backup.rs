//! `GET /backup`: the state of the node as a stream.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use ringback_engine::{AuditAction, BackupError};

use crate::api::Api;
use crate::auth::{Administrator, Asker};
use crate::error::ApiError;
use crate::open_requests::OpenRequest;
use crate::streamed;

/// `GET /backup`: one state of everything that is stored. It ends with a mark, so that a stream that was cut off is
/// not taken for whole.
pub(crate) async fn backup(
    State(api): State<Api>,
    administrator: Administrator,
    Extension(open): Extension<Arc<OpenRequest>>,
) -> Result<Response, ApiError> {
    Asker::Administrator(administrator)
        .note_copy(&api, None, AuditAction::Backup)
        .await?;
    let engine = api.engine().clone();
    streamed::answer(&api, open.stream()?, "application/octet-stream", move |to| {
        let began = engine.now();
        tracing::info!("a backup has begun");
        match engine.write_backup(to) {
            Ok(()) => {
                let duration_ms = engine.now().millis() - began.millis();
                tracing::info!(duration_ms, "a backup was written");
                Ok(())
            }
            Err(BackupError::Write(error)) => {
                tracing::warn!(%error, "a backup was broken off: its reader has gone, or the server goes down");
                Err(ApiError::ShuttingDown)
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "a backup could not be written");
                Err(ApiError::StorageUnavailable)
            }
        }
    })
    .await
}
