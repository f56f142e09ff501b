//! How the server is: `/healthz`, `/readyz`, `/metrics`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use ringback_api::{Alive, ClusterHealth, Health, IndexHealth, Readiness, StorageHealth};

use crate::api::Api;
use crate::cluster::ClusterSource;
use crate::reply;

/// `GET /healthz`: it answers, so it is alive.
pub(crate) async fn alive() -> Response {
    let status = "ok".to_owned();
    reply::json(StatusCode::OK, &Alive { status })
}

/// `GET /readyz`: whether calls are routed and changes taken. 503 while storage takes no writes
/// (routing goes on from memory), while stored data is damaged (contacts that cannot be read are answered
/// with 503) and while the server goes down. A cluster that cannot be reached is said and is no reason: calls are
/// routed as before. An index that is still being loaded answers rightly and is
/// ready.
pub(crate) async fn ready(State(api): State<Api>) -> Response {
    let readiness = readiness(&api);
    let code = if readiness.status == Health::Ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    reply::json(code, &readiness)
}

/// How ready the server is.
pub(crate) fn readiness(api: &Api) -> Readiness {
    let health = api.engine().health();
    let draining = api.draining().is_cancelled();
    let works = health.storage_available && !health.index_damaged;
    let status = match (draining, works) {
        (true, _) => Health::Draining,
        (false, true) => Health::Ready,
        (false, false) => Health::Degraded,
    };
    let in_cluster = api.cluster().map(ClusterSource::health);
    let (cluster, in_cluster) = in_cluster.unwrap_or((ClusterHealth::Alone, Vec::new()));
    let damaged = format!("{} damaged places in stored data", health.damaged_places);
    let problems = [
        (draining, "the server goes down".to_owned()),
        (
            !health.storage_available,
            "storage takes no writes".to_owned(),
        ),
        (health.index_damaged, damaged),
    ];
    let problems = problems
        .into_iter()
        .filter_map(|(is_so, what)| is_so.then_some(what));
    Readiness {
        status,
        storage: if health.storage_available {
            StorageHealth::Available
        } else {
            StorageHealth::Unavailable
        },
        index: match (health.index_damaged, health.index_whole) {
            (true, _) => IndexHealth::Damaged,
            (false, true) => IndexHealth::Whole,
            (false, false) => IndexHealth::Loading,
        },
        ready: status == Health::Ready,
        cluster,
        problems: problems.chain(in_cluster).collect(),
    }
}

/// `GET /metrics`: in Prometheus' text format.
pub(crate) async fn metrics(State(api): State<Api>) -> Response {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    reply::text_of(StatusCode::OK, content_type, crate::metrics::write(&api))
}
