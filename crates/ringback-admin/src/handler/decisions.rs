//! What was decided lately: `/decisions` and `/decisions/stream`.
//!
//! Both tell decisions as
//! `{at,via,to,from,outcome,reason,agent:{id,name},source_agent:{id,name},sid}`. `via` is
//! `sip-udp`, `sip-tcp`, `sip-tls`, `http` or the dialect of a connector; `to` and `from` are `null` where the number could not be read or was withheld
//! (the reason tells which); `agent` and `source_agent` are `null` where there is none, and their name is
//! `null` once they are deleted; `sid` is cut off after 64 bytes. Numbers are shown in full: they are
//! the tenant's own. `attempts` are the targets that a call was sent to, `{uri,status,cause,started_at,reply_ms}`,
//! and `ended_by` says who hung up before the answer; both are known once the call has ended, so the stream, which
//! tells a decision when it is made, has none.
//!
//! The stream sends each decision as an event `decision` whose id goes into `Last-Event-ID` when a
//! client comes back, so that it is told what it has missed, as far as the log reaches back. It ends
//! with the token by which it was opened, and when the server goes down.

use std::collections::HashSet;
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
use ringback_engine::DecisionRecord;
use ringback_routing::{
    AgentId, AgentSlot, Directory, E164, EnvironmentId, Outcome, Reason, Timestamp, read_id,
};
use tokio::sync::watch;

use crate::api::Api;
use crate::auth::Tenant;
use crate::error::ApiError;
use crate::open_requests::{OpenRequest, OpenStream};
use crate::path::QueryText;
use crate::reply;
use crate::wire;

/// `GET /decisions`: the latest that fit all filters, newest first.
pub(crate) async fn list(
    State(api): State<Api>,
    tenant: Tenant,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let limit = query.number("limit", 100, (1, 1_000));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let cursor = query.read("cursor", "The cursor is not one of ours.", EventId::read);
    let filter = Filter::read(&mut query, tenant)?;
    query.errors.into_result()?;
    let before = match cursor {
        None => u64::MAX,
        Some(cursor) if cursor.epoch == api.epoch() => cursor.sequence,
        // What was there in an earlier run is forgotten.
        Some(_) => 0,
    };
    let searched = tokio::task::spawn_blocking(move || {
        let directory = api.engine().directory();
        let filter = filter.resolve(&directory, tenant.environment);
        let fits = |record: &DecisionRecord| filter.fits(&directory, record);
        let mut records = api
            .engine()
            .find_decisions(tenant.environment, before, limit + 1, &fits);
        let is_more = records.len() > limit;
        records.truncate(limit);
        let last = records.last().filter(|_| is_more);
        let next_cursor = last.map(|record| EventId {
            epoch: api.epoch(),
            sequence: record.sequence,
        });
        let decisions: Vec<Decision> = records
            .iter()
            .map(|record| wire::decision(&directory, record))
            .collect();
        reply::rows(decisions, next_cursor.map(|cursor| cursor.to_string()))
    });
    searched.await.map_err(|_| ApiError::Internal)
}

/// The digits that are looked for.
enum Digits {
    /// Part of a number.
    Part(String),
    /// A number.
    Whole(E164),
}

/// What a decision has to be like to be listed. What is `None` filters nothing.
#[derive(Default)]
struct Filter {
    /// Digits that are part of caller or dialed number; for a masked token one of them as a whole.
    number: Option<Digits>,
    /// How the call id begins.
    call_id: Option<String>,
    /// An agent's identifier, or part of the name of one.
    agent: Option<String>,
    /// The identifier, if it is one: of an agent that is gone, too.
    id: Option<AgentId>,
    /// The agents that this stands for.
    agents: HashSet<AgentSlot>,
    /// Its reason is one of these.
    reasons: Option<Vec<Reason>>,
    /// Its outcome is one of these.
    outcomes: Option<Vec<Outcome>>,
    /// It was made then or later.
    since: Option<Timestamp>,
    /// It was made before that.
    until: Option<Timestamp>,
}

impl Filter {
    /// Reads the parameters.
    ///
    /// # Errors
    /// The token is masked, and part of a number is asked for: part after part, it would learn the whole.
    fn read(query: &mut QueryText, tenant: Tenant) -> Result<Self, ApiError> {
        let digits = |text: &str| {
            let digits = text.trim_start_matches(['+', ' ']);
            let is_number = digits.len() >= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.to_owned())
        };
        let message = "The number must be at least 3 digits.";
        let number = match query.read("number", message, digits) {
            Some(digits) if tenant.masked => {
                let whole = digits.parse().ok().and_then(E164::from_digits);
                let whole = whole.filter(|number| number.is_possible());
                Some(Digits::Whole(whole.ok_or(ApiError::TokenIsMasked)?))
            }
            digits => digits.map(Digits::Part),
        };
        Ok(Self {
            number,
            call_id: query.get("call_id").map(str::to_owned),
            agent: query.get("agent").map(str::to_lowercase),
            id: None,
            agents: HashSet::new(),
            reasons: words(query, "reason", &Reason::ALL, Reason::name),
            outcomes: words(query, "outcome", &Outcome::ALL, Outcome::name),
            since: query.timestamp("since"),
            until: query.timestamp("until"),
        })
    }

    /// Looks up the agents that are meant.
    fn resolve(mut self, directory: &Directory, environment: EnvironmentId) -> Self {
        let Some(wanted) = &self.agent else {
            return self;
        };
        self.id = read_id(wanted).map(AgentId);
        if self.id.is_none() {
            let named = directory
                .agents_of(environment)
                .filter(|agent| agent.record.name.to_lowercase().contains(wanted));
            self.agents.extend(named.map(|agent| agent.slot));
        }
        self
    }

    /// Whether a decision is to be listed.
    fn fits(&self, directory: &Directory, record: &DecisionRecord) -> bool {
        let has_digits = |digits: &Digits| {
            let numbers = [record.dialed, record.caller.number()];
            numbers.into_iter().flatten().any(|number| match digits {
                Digits::Part(part) => number.to_string().contains(part.as_str()),
                Digits::Whole(whole) => number.subscriber() == whole.subscriber(),
            })
        };
        let is_of = |agent: Option<AgentSlot>| {
            agent.is_some_and(|slot| match self.id {
                Some(wanted) => directory.identity(slot).is_some_and(|(_, id)| id == wanted),
                None => self.agents.contains(&slot),
            })
        };
        let sid = record.sid();
        // Call ids are cut off where they are long.
        let begins = |wanted: &String| {
            sid.starts_with(wanted.as_str()) || sid.len() > 60 && wanted.starts_with(sid)
        };
        self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until)
            && self
                .reasons
                .as_ref()
                .is_none_or(|reasons| reasons.contains(&record.reason))
            && self
                .outcomes
                .as_ref()
                .is_none_or(|outcomes| outcomes.contains(&record.outcome))
            && (self.agent.is_none() || is_of(record.agent) || is_of(record.source))
            && self.call_id.as_ref().is_none_or(begins)
            && self.number.as_ref().is_none_or(has_digits)
    }
}

/// One or several words, by comma.
fn words<T: Copy>(
    query: &mut QueryText,
    name: &str,
    all: &[T],
    word_of: fn(T) -> &'static str,
) -> Option<Vec<T>> {
    let message = format!("The {name} is unknown.");
    query.read(name, &message, |text| {
        let words = text.split(',').map(str::trim);
        words
            .map(|word| all.iter().copied().find(|known| word_of(*known) == word))
            .collect()
    })
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
            if matches!(news, Ok(Err(_))) || !self.tenant.is_admitted(&self.api) {
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

impl EventId {
    /// Reads what [`std::fmt::Display`] writes.
    fn read(text: &str) -> Option<Self> {
        let (epoch, sequence) = text.split_once('-')?;
        Some(Self {
            epoch: epoch.parse().ok()?,
            sequence: sequence.parse().ok()?,
        })
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.epoch, self.sequence)
    }
}

/// The event that the client saw last, if it was of this run.
fn last_event_id(headers: &HeaderMap, epoch: i64) -> Option<u64> {
    let id = EventId::read(headers.get("last-event-id")?.to_str().ok()?)?;
    (id.epoch == epoch).then_some(id.sequence)
}

/// How often a quiet stream shows that it is open.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How often the token is looked at.
const CHECK: Duration = Duration::from_secs(1);

/// How long decisions are gathered before they are sent.
const PAUSE: Duration = Duration::from_millis(20);
