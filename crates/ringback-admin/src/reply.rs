//! The envelope of every answer.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ringback_api::{Done, Meta, Page, Rows, RowsMeta, Success};
use serde::Serialize;

/// An answer to a change: the first one may be kept for those that ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// Of a batch: how many calls were new, updated and known.
    pub(crate) recorded: Option<HeaderValue>,
    /// The body, JSON.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// 200 with data.
    pub(crate) fn ok(data: impl Serialize) -> Self {
        Self::json(StatusCode::OK, &Success::new(data))
    }

    /// 201 with data.
    pub(crate) fn created(data: impl Serialize) -> Self {
        Self::json(StatusCode::CREATED, &Success::new(data))
    }

    /// 200 with a message alone.
    pub(crate) fn done(message: &str) -> Self {
        Self::json(StatusCode::OK, &Done::new(message))
    }

    /// Any JSON.
    fn json(status: StatusCode, body: &impl Serialize) -> Self {
        let (status, body) = match serde_json::to_vec(body) {
            Ok(text) => (status, text),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written");
                (StatusCode::INTERNAL_SERVER_ERROR, b"{}".to_vec())
            }
        };
        Self {
            status,
            recorded: None,
            body,
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = text_of(self.status, "application/json", self.body);
        if let Some(recorded) = self.recorded {
            response.headers_mut().insert(RECORDED, recorded);
        }
        response
    }
}

/// 200 with data.
pub(crate) fn ok(data: impl Serialize) -> Response {
    Answer::ok(data).into_response()
}

/// 200 with a message alone.
pub(crate) fn done(message: &str) -> Response {
    Answer::done(message).into_response()
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
    Answer::json(status, body).into_response()
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

/// Tells new calls from known ones, beside the body, whose form is settled; a dictionary as of RFC 8941 §3.2.
const RECORDED: HeaderName = HeaderName::from_static("x-recorded-calls");
