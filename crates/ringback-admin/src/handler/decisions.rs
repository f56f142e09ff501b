//! What was decided lately: `/decisions` and `/decisions/stream`.
//!
//! Both tell decisions as
//! `{at,surface,to,from,outcome,reason,agent:{id,name},source_agent:{id,name},sid}`. `surface` is
//! `sip` or `http`; `to` and `from` are `null` where the number could not be read or was withheld
//! (the reason tells which); `agent` and `source_agent` are `null` where there is none, and their name is
//! `null` once they are deleted; `sid` is cut off after 64 bytes. Numbers are shown in full: they are
//! the tenant's own.
//!
//! The stream sends each decision as an event `decision` whose id goes into `Last-Event-ID` when a
//! client comes back, so that it is told what it has missed, as far as the log reaches back. It ends
//! with the token by which it was opened, and when the server goes down.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use ringback_api::Decision;
use tokio::sync::watch;

use crate::api::Api;
use crate::auth::Tenant;
use crate::error::ApiError;
use crate::open_requests::{OpenRequest, OpenStream};
use crate::path::QueryText;
use crate::reply;
use crate::wire;

/// `GET /decisions`: the latest, newest first.
pub(crate) async fn list(
    State(api): State<Api>,
    tenant: Tenant,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let limit = query.number("limit", 100, (1, 1_000));
    query.errors.into_result()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let records = api.engine().decisions(tenant.environment, limit);
    let directory = api.engine().directory();
    let decisions: Vec<Decision> = records
        .iter()
        .map(|record| wire::decision(&directory, record))
        .collect();
    Ok(reply::ok(decisions))
}

/// `GET /decisions/stream`: every decision from now on, as server-sent events.
pub(crate) async fn follow(
    State(api): State<Api>,
    tenant: Tenant,
    Extension(open): Extension<Arc<OpenRequest>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let stream = open.stream()?;
    let news = api.engine().subscribe_decisions();
    let latest = api.engine().decisions(tenant.environment, 1);
    let latest = latest.first().map_or(0, |record| record.sequence);
    let seen = last_event_id(&headers, api.epoch()).unwrap_or(latest);
    let follower = Follower {
        api,
        tenant,
        news,
        seen,
        greeted: false,
        _open: stream,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let text = follower.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), follower))
    });
    let mut response = reply::text_of(
        StatusCode::OK,
        "text/event-stream",
        Body::from_stream(events),
    );
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Reverse proxies of the nginx kind would hold the events back.
    response
        .headers_mut()
        .insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// One client of the stream.
struct Follower {
    /// Where the decisions come from.
    api: Api,
    /// The environment whose decisions are streamed.
    tenant: Tenant,
    /// Tells that there are new ones.
    news: watch::Receiver<u64>,
    /// The latest that was sent.
    seen: u64,
    /// Whether the stream has been opened with a comment.
    greeted: bool,
    /// Its place among the streams of the token.
    _open: OpenStream,
}

impl Follower {
    /// What to send next; `None`: the stream ends.
    async fn next(&mut self) -> Option<String> {
        if !self.greeted {
            self.greeted = true;
            let missed = self.events();
            return Some(format!(": decisions\n\n{missed}"));
        }
        let draining = self.api.draining().clone();
        let mut quiet = Duration::ZERO;
        loop {
            let news = tokio::select! {
                () = draining.cancelled() => return None,
                news = tokio::time::timeout(CHECK, self.news.changed()) => news,
            };
            if matches!(news, Ok(Err(_))) || !self.is_admitted() {
                return None;
            }
            if news.is_ok() {
                // Where there is one decision, more may follow: they are looked at together.
                tokio::time::sleep(PAUSE).await;
                let events = self.events();
                if !events.is_empty() {
                    return Some(events);
                }
            }
            quiet += CHECK;
            if quiet >= HEARTBEAT {
                return Some(": still here\n\n".to_owned());
            }
        }
    }

    /// Whether the token is still good.
    fn is_admitted(&self) -> bool {
        let directory = self.api.engine().directory();
        directory
            .environment_by_id(self.tenant.environment)
            .is_some_and(|home| {
                home.tokens
                    .iter()
                    .any(|token| token.id == self.tenant.token)
            })
    }

    /// The decisions since the last time.
    fn events(&mut self) -> String {
        self.news.mark_unchanged();
        let records = self
            .api
            .engine()
            .decisions_after(self.tenant.environment, self.seen);
        let directory = self.api.engine().directory();
        let mut text = String::new();
        for record in &records {
            let body = wire::decision(&directory, record);
            let Ok(json) = serde_json::to_string(&body) else {
                continue;
            };
            let id = EventId {
                epoch: self.api.epoch(),
                sequence: record.sequence,
            };
            let _infallible = write!(text, "id: {id}\nevent: decision\ndata: {json}\n\n");
            self.seen = record.sequence;
        }
        text
    }
}

/// Names an event: sequence numbers start again at 1 with each run.
struct EventId {
    /// When the server was started, in milliseconds since 1970: tells its runs apart.
    epoch: i64,
    /// Which decision of it.
    sequence: u64,
}

impl std::fmt::Display for EventId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.epoch, self.sequence)
    }
}

/// The event that the client saw last, if it was of this run.
fn last_event_id(headers: &HeaderMap, epoch: i64) -> Option<u64> {
    let (run, sequence) = headers
        .get("last-event-id")?
        .to_str()
        .ok()?
        .split_once('-')?;
    (run.parse() == Ok(epoch))
        .then(|| sequence.parse().ok())
        .flatten()
}

/// How often a quiet stream shows that it is open.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How often the token is looked at.
const CHECK: Duration = Duration::from_secs(1);

/// How long decisions are gathered before they are sent.
const PAUSE: Duration = Duration::from_millis(20);
