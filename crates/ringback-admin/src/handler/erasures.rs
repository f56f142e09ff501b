//! What is left of erased contacts: `GET /erasures`.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use data_encoding::HEXLOWER;
use ringback_api::{Erasure, ErasuresEnd};
use ringback_engine::{AuditAction, Engine, JournalError};
use serde::Serialize;

use crate::api::Api;
use crate::auth::{Administrator, Asker};
use crate::error::ApiError;
use crate::open_requests::OpenRequest;
use crate::streamed;

/// `GET /erasures`: a line for each, hashes only, and one that says that it was the last.
pub(crate) async fn list(
    State(api): State<Api>,
    administrator: Administrator,
    Extension(open): Extension<Arc<OpenRequest>>,
) -> Result<Response, ApiError> {
    Asker::Administrator(administrator)
        .note_copy(&api, None, AuditAction::Export)
        .await?;
    let engine = api.engine().clone();
    streamed::answer(&api, open.stream()?, "application/x-ndjson", move |to| {
        write(&engine, to)
    })
    .await
}

/// Writes all lines.
fn write(engine: &Engine, to: &mut dyn Write) -> Result<(), ApiError> {
    let unreadable = |error: JournalError| {
        tracing::error!(%error, "the erasures could not be read");
        ApiError::StorageUnavailable
    };
    let mut count = 0;
    if let Some(secret) = engine.erasure_secret().map_err(unreadable)? {
        let key = HEXLOWER.encode(&secret.id());
        let mut written = Ok(());
        let visited = engine.visit_tombstones(&mut |tombstone| {
            count += 1;
            written = write_line(
                to,
                &Erasure {
                    key: key.clone(),
                    hash: HEXLOWER.encode(&tombstone.hash.0),
                    erased_at: tombstone.at,
                },
            );
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        visited.map_err(unreadable)?;
        written?;
    }
    write_line(to, &ErasuresEnd { count })
}

/// Writes a line.
fn write_line(to: &mut dyn Write, line: &impl Serialize) -> Result<(), ApiError> {
    let text = serde_json::to_string(line).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        ApiError::Internal
    })?;
    // Whoever reads it has gone, or the server goes down.
    writeln!(to, "{text}").map_err(|_gone| ApiError::ShuttingDown)
}
