//! What platforms ask at connectors: `/lookup/{key}`.
//!
//! Each question is a `POST /route` in the dialect of its platform. Asked again within 32 seconds it gets the same
//! bytes; after that it is decided anew, and still counted once. Where storage cannot count it, it is answered from
//! memory. The key is in no log line: the router shows the pattern of the path.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL};
use axum::http::{HeaderMap, HeaderValue, Method as HttpMethod, StatusCode};
use axum::response::{IntoResponse, Response};
use ringback_api::RefusedCall;
use ringback_engine::{ReportAnswered, RouteCall, RoutedDecision, SubmitError, hash_secret};
use ringback_lookup::{
    Answer, Asked, DialEnd, Method, Occasion, Question, Request as Lookup, RoutedAgent, Routing,
    Settings, StepQuestion, answer, is_proven, methods, read,
};
use ringback_routing::{
    AgentId, CallVia, Caller, Connector, Dialect, Outcome, Timestamp, order_targets,
};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::api::Api;
use crate::body::read_at_most;
use crate::error::ApiError;
use crate::identity;
use crate::path::PathText;
use crate::platforms::LookupResult;
use crate::reply;

/// `/lookup/{key}`, by the methods of the connector's dialect.
pub(crate) async fn ask(
    State(api): State<Api>,
    path: PathText,
    request: Request,
) -> Result<Response, ApiError> {
    let now = api.engine().now();
    let key = path.get("key");
    let connector = {
        let directory = api.engine().directory();
        let known = directory.connector_by_key(&hash_secret(key), now);
        known.cloned().ok_or(ApiError::NoSuchPath)?
    };
    let dialect = connector.dialect;
    let Some(method) = method_of(dialect, request.method()) else {
        return Ok(not_allowed(dialect));
    };
    let (parts, body) = request.into_parts();
    let body = read_at_most(&parts.headers, body, MAX_BYTES).await?;
    let url = format!("{}/lookup/{key}", api.public_url());
    let asked = {
        // Within a block: what reads headers cannot wait.
        let header = |name: &str| single(&parts.headers, name);
        let lookup = Lookup {
            method,
            url: &url,
            query: parts.uri.query().unwrap_or_default(),
            header: &header,
            body: &body,
        };
        if let Some(secret) = &connector.secret
            && !is_proven(dialect, &secret.0, &lookup, now)
        {
            let result = LookupResult::Unauthenticated;
            api.platforms().count(dialect, result);
            return Err(ApiError::Unauthenticated);
        }
        read(dialect, &lookup)
    };
    api.platforms().use_connector(connector.id, now);
    warn_of_address(&api, dialect);
    let asker = Asker {
        settings: settings_of(&connector, api.public_url())?,
        api: &api,
        connector: &connector,
        url: &url,
        now,
    };
    let answer = match asked {
        Asked::Question(question) => asker.decide(&question).await?,
        Asked::Step(step) => asker.step(&step).await?,
        Asked::Other => answer(&asker.settings, &url, Occasion::Other),
        Asked::Malformed => {
            api.platforms().count(dialect, LookupResult::Malformed);
            answer(&asker.settings, &url, Occasion::Nothing)
        }
    };
    let mut response = reply::text_of(StatusCode::OK, answer.content_type, answer.body);
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    Ok(response)
}

/// Who answers a request at a connector.
struct Asker<'a> {
    /// The connector's settings, read.
    settings: Settings,
    /// Decides and counts.
    api: &'a Api,
    /// The connector.
    connector: &'a Connector,
    /// Its address.
    url: &'a str,
    /// When the request came.
    now: Timestamp,
}

impl Asker<'_> {
    /// Answers a question.
    async fn decide(&self, question: &Question) -> Result<Answer, ApiError> {
        let platforms = self.api.platforms();
        let id = self.connector.id;
        let sid = question.sid.as_deref();
        if let Some(known) = sid.and_then(|sid| platforms.answer(id, sid, self.now)) {
            self.count(&known);
            return Ok(known);
        }
        let dialed = self.read_number(&question.to)?.number();
        let caller = self.read_number(&question.from)?;
        let routed = self.route(question, dialed, caller).await?;
        let routing = self.routing_of(&routed.decision, caller, &routed.sid);
        let decided = Occasion::Decided(question, &routing);
        let mut answer = answer(&self.settings, self.url, decided);
        if answer.left_out > 0 {
            platforms.count_left_out(answer.left_out);
            tracing::warn!(connector = %id, left_out = answer.left_out, "targets cannot stand in a dial string");
        }
        if let Some(sid) = sid {
            answer = platforms.keep(id, sid, self.now, answer);
        }
        self.count(&answer);
        Ok(answer)
    }

    /// Reads a number by the rules of the connector's environment.
    fn read_number(&self, text: &str) -> Result<Caller, ApiError> {
        let directory = self.api.engine().directory();
        let environment = directory.environment_by_id(self.connector.environment);
        let environment = environment.ok_or(ApiError::NoSuchPath)?;
        Ok(identity::read(text, environment.record.number_rules()))
    }

    /// Decides and counts; where storage cannot count, decides from memory.
    async fn route(
        &self,
        question: &Question,
        dialed: Option<ringback_routing::E164>,
        caller: Caller,
    ) -> Result<Routed, ApiError> {
        let api = self.api;
        let via = CallVia::Connector(self.connector.dialect);
        let environment = self.connector.environment;
        let is_verified = self.settings.is_verified(question);
        let from_memory = || {
            let decided = api
                .engine()
                .decide_from_memory(environment, dialed, caller, is_verified)
                .map_err(|_| ApiError::StorageUnavailable)?;
            Ok(Routed {
                sid: question.sid.clone().unwrap_or_default(),
                decision: Arc::new(decided),
            })
        };
        if question
            .sid
            .as_ref()
            .is_some_and(|sid| sid.starts_with(CHECK_PREFIX))
        {
            return from_memory();
        }
        let command = RouteCall {
            environment,
            dialed,
            caller,
            is_verified,
            sid: question.sid.clone(),
            via,
            is_anew: true,
        };
        let answer = match api.engine().submit(command).await {
            Ok(answer) => answer,
            Err(SubmitError::Rejected(ringback_engine::CommandError::StorageUnavailable))
            | Err(
                SubmitError::StorageUnavailable
                | SubmitError::ClusterUnavailable
                | SubmitError::LogFull
                | SubmitError::Conflict,
            ) => {
                api.platforms().count_uncounted();
                return from_memory();
            }
            Err(other) => return Err(other.into()),
        };
        if let Some((outcome, reason)) = answer.decided {
            api.metrics().count_decision(outcome, reason);
            if outcome == Outcome::Refused {
                let shown = || question.to.chars().take(MAX_SHOWN_DIALED).collect();
                api.refused_over_http().push(RefusedCall {
                    at: self.now,
                    via: Some(via),
                    transport: None,
                    peer: None,
                    source: None,
                    to: Some(dialed.map_or_else(shown, |dialed| dialed.to_string())),
                    from: caller.number(),
                    reason: reason.name().to_owned(),
                    status: None,
                    count: 1,
                });
            }
        }
        Ok(Routed {
            sid: answer.sid,
            decision: answer.decision,
        })
    }

    /// Answers what comes after a target was dialed. It never decides, and counts no call.
    async fn step(&self, step: &StepQuestion) -> Result<Answer, ApiError> {
        let environment = self.connector.environment;
        let sid = step.sid.as_deref();
        let known = sid.and_then(|sid| self.api.engine().routed_decision(environment, sid));
        let given = match (step.end, known, sid) {
            (DialEnd::Answered, known, sid) => {
                if let (Some(_), Some(sid)) = (known, sid) {
                    let command = ReportAnswered {
                        environment,
                        sid: sid.to_owned(),
                    };
                    if self.api.engine().submit(command).await.is_err() {
                        self.api.platforms().count_uncounted();
                    }
                }
                answer(&self.settings, self.url, Occasion::Ended)
            }
            (DialEnd::Canceled, ..) => answer(&self.settings, self.url, Occasion::Ended),
            (DialEnd::Failed, Some(decision), Some(sid)) => {
                let routing = self.routing_of(&decision, self.read_number(&step.from)?, sid);
                let next = Occasion::Next(&routing, step.step);
                answer(&self.settings, self.url, next)
            }
            (DialEnd::Failed, ..) => answer(&self.settings, self.url, Occasion::NothingNext),
        };
        self.count(&given);
        Ok(given)
    }

    /// A decision as answers need it.
    fn routing_of(&self, decision: &RoutedDecision, caller: Caller, sid: &str) -> Routing {
        let mut ordered = SmallVec::new();
        order_targets(&decision.targets, sid.as_bytes(), &mut ordered);
        let filling = decision.placeholders(caller);
        let filled = ordered
            .into_iter()
            .filter_map(|target| Some(filling.fill(&target.uri)?.into_owned()));
        Routing {
            outcome: decision.outcome.name(),
            reason: decision.reason.name(),
            agent: decision.agent.as_ref().map(|agent| RoutedAgent {
                id: agent.id.to_string(),
                external_id: self.external_id(agent.id),
            }),
            source_agent: decision
                .source_agent
                .as_ref()
                .map(|agent| agent.id.to_string()),
            call_started_at: decision
                .call
                .as_ref()
                .map(|call| call.started_at.to_string()),
            context: Map::new(),
            targets: filled.collect(),
        }
    }

    /// The platform's own id of an agent, as it is set now.
    fn external_id(&self, agent: AgentId) -> Option<String> {
        let directory = self.api.engine().directory();
        let agent = directory.agent_of(self.connector.environment, agent)?;
        let ids = &agent.record.external_ids;
        ids.get(&self.connector.dialect).cloned()
    }

    /// Counts an answer.
    fn count(&self, answer: &Answer) {
        let dialect = self.connector.dialect;
        let result = LookupResult::of(answer);
        self.api.platforms().count(dialect, result);
    }
}

/// A decision, and the call id that draws the order of its targets.
struct Routed {
    /// The call id.
    sid: String,
    /// The decision.
    decision: Arc<RoutedDecision>,
}

/// The settings of a connector. They were checked when they were set.
fn settings_of(connector: &Connector, ours: &str) -> Result<Settings, ApiError> {
    let json = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let (options, on_nothing) = (json(&connector.options), json(&connector.on_nothing));
    Settings::check(connector.dialect, &options, &on_nothing, ours).map_err(|problems| {
        // Since then `public-url` may have become what a call is redirected to.
        let id = connector.id;
        tracing::error!(connector = %id, ?problems, "settings of a connector cannot be used any more");
        ApiError::Internal
    })
}

/// Says once that platforms come back to, or sign, an address that was not configured.
fn warn_of_address(api: &Api, dialect: Dialect) {
    let needs_it = matches!(
        dialect,
        Dialect::Twilio | Dialect::Telnyx | Dialect::Jambonz
    );
    if needs_it && !api.has_public_url() && api.platforms().is_first_warning() {
        tracing::warn!("a platform is told to come back, but [http] public-url is not set");
    }
}

/// The method, if the dialect is asked by it.
fn method_of(dialect: Dialect, method: &HttpMethod) -> Option<Method> {
    let method = match *method {
        HttpMethod::GET => Method::Get,
        HttpMethod::POST => Method::Post,
        _ => return None,
    };
    methods(dialect).contains(&method).then_some(method)
}

/// The answer to other methods.
fn not_allowed(dialect: Dialect) -> Response {
    let allowed = match methods(dialect) {
        [Method::Get] => "GET",
        [Method::Post] => "POST",
        _ => "GET, POST",
    };
    let mut response = ApiError::MethodNotAllowed.into_response();
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The value of a header that came once and is ASCII.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// The largest question, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// Call ids of `ringback lookup check`, which are decided and not counted, begin with this.
const CHECK_PREFIX: &str = "ringback-check-";

/// How much of a dialed number that cannot be read is shown to the administrator.
const MAX_SHOWN_DIALED: usize = 64;
