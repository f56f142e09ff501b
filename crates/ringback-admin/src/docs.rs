//! The description of the API, for programs and for people.

use axum::http::StatusCode;
use axum::response::Response;

use crate::reply;

/// `GET /api/v1/openapi.json`: OpenAPI 3.1.
pub(crate) async fn description() -> Response {
    reply::text_of(StatusCode::OK, "application/json", OPENAPI)
}

/// `GET /docs`: the same as a page that needs nothing but the description.
pub(crate) async fn page() -> Response {
    reply::text_of(StatusCode::OK, "text/html; charset=utf-8", PAGE)
}

/// The description.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");

/// The page.
const PAGE: &str = include_str!("docs.html");
