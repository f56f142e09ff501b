//! The envelope of every answer.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use ringback_api::{Done, Meta, Page, Rows, RowsMeta, Success};
use serde::Serialize;

/// 200 with data.
pub(crate) fn ok(data: impl Serialize) -> Response {
    json(StatusCode::OK, &Success::new(data))
}

/// 201 with data.
pub(crate) fn created(data: impl Serialize) -> Response {
    json(StatusCode::CREATED, &Success::new(data))
}

/// 200 with a message alone.
pub(crate) fn done(message: &str) -> Response {
    json(StatusCode::OK, &Done::new(message))
}

/// 200 with one page of a list.
pub(crate) fn page(data: Vec<impl Serialize>, meta: Meta) -> Response {
    json(
        StatusCode::OK,
        &Page {
            success: true,
            data,
            meta,
        },
    )
}

/// 200 with rows of a list that grows, and where it goes on.
pub(crate) fn rows(data: Vec<impl Serialize>, next_cursor: Option<String>) -> Response {
    json(
        StatusCode::OK,
        &Rows {
            success: true,
            data,
            meta: RowsMeta { next_cursor },
        },
    )
}

/// Any JSON.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => text_of(status, "application/json", text),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            text_of(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}")
        }
    }
}

/// Any text.
pub(crate) fn text_of(
    status: StatusCode,
    content_type: &'static str,
    text: impl Into<Body>,
) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
