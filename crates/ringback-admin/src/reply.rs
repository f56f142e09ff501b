//! The envelope of every answer.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

/// 200 with data.
pub(crate) fn ok(data: impl Serialize) -> Response {
    json(
        StatusCode::OK,
        &Success {
            success: true,
            data,
        },
    )
}

/// 201 with data.
pub(crate) fn created(data: impl Serialize) -> Response {
    json(
        StatusCode::CREATED,
        &Success {
            success: true,
            data,
        },
    )
}

/// 200 with a message alone.
pub(crate) fn done(message: &str) -> Response {
    json(
        StatusCode::OK,
        &Done {
            success: true,
            message,
        },
    )
}

/// 200 with one page of a list.
pub(crate) fn page(data: impl Serialize, meta: &Meta) -> Response {
    json(
        StatusCode::OK,
        &Page {
            success: true,
            data,
            meta,
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

/// Data in its envelope.
#[derive(Serialize)]
pub(crate) struct Success<T> {
    /// Always true.
    pub(crate) success: bool,
    /// What was asked for.
    pub(crate) data: T,
}

/// A message in its envelope.
#[derive(Serialize)]
struct Done<'a> {
    /// Always true.
    success: bool,
    /// What was done.
    message: &'a str,
}

/// A page in its envelope.
#[derive(Serialize)]
struct Page<'a, T> {
    /// Always true.
    success: bool,
    /// The entries.
    data: T,
    /// Where the page stands.
    meta: &'a Meta,
}

/// Where a page stands in its list.
#[derive(Serialize)]
pub(crate) struct Meta {
    /// This page, from 1.
    pub(crate) current_page: u64,
    /// How many entries a page has.
    pub(crate) per_page: u64,
    /// How many entries there are.
    pub(crate) total: u64,
    /// The last page, at least 1.
    pub(crate) last_page: u64,
}
