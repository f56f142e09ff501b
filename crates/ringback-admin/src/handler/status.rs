//! What the administrator watches: `/status` and `/refused-calls`.

use axum::extract::State;
use axum::response::Response;
use ringback_routing::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::Api;
use crate::error::ApiError;
use crate::handler::probes;
use crate::path::QueryText;
use crate::reply;

/// `GET /status`: how the server is and what it has done since it started.
pub(crate) async fn show(State(api): State<Api>) -> Response {
    let now = api.engine().now();
    let started = Timestamp::from_millis(api.epoch());
    let directory = api.engine().directory();
    let (mut agents, mut numbers) = (0, 0);
    for environment in directory.environments() {
        agents += environment.agent_count();
        numbers += environment.number_count();
    }
    let mut status = Map::new();
    let mut set = |key: &str, value: Value| status.insert(key.to_owned(), value);
    set("version", json!(env!("CARGO_PKG_VERSION")));
    set("started_at", json!(started));
    let uptime = now.millis().saturating_sub(started.millis()) / 1_000;
    set("uptime_seconds", json!(uptime.max(0)));
    set("health", json!(probes::readiness(&api)));
    let counts = json!({
        "contacts": api.engine().contacts().len(),
        "environments": directory.environments().count(),
        "agents": agents,
        "phone_numbers": numbers,
    });
    set("counts", counts);
    for source in api.status_sources() {
        source.write_status(&mut status);
    }
    reply::ok(status)
}

/// `GET /refused-calls`: the latest calls that were refused, of all environments, newest first.
pub(crate) async fn refused_calls(
    State(api): State<Api>,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let limit = query.number("limit", 100, (1, 1_000));
    query.errors.into_result()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut calls = api.refused_over_http().latest(limit);
    for source in api.status_sources() {
        calls.extend(source.refused_calls(limit));
    }
    // Stable: calls of one millisecond and source stay in their order.
    calls.sort_by_key(|call| std::cmp::Reverse(call.at.millis()));
    calls.truncate(limit);
    Ok(reply::ok(calls))
}
