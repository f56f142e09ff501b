//! What the administrator watches: `/status` and `/refused-calls`.

use axum::extract::State;
use axum::response::Response;
use ringback_api::{Counts, Status};
use ringback_routing::Timestamp;

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
        agents += environment.agent_count() as u64;
        numbers += environment.number_count() as u64;
    }
    let uptime = now.millis().saturating_sub(started.millis()) / 1_000;
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: started,
        uptime_seconds: u64::try_from(uptime).unwrap_or(0),
        health: probes::readiness(&api),
        counts: Counts {
            contacts: api.engine().contacts().len() as u64,
            environments: directory.environments().count() as u64,
            agents,
            phone_numbers: numbers,
        },
        storage: None,
        reloads: None,
        certificates: None,
        sip: None,
    };
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
