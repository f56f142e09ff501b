//! An API to be asked, and ways to ask it.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use ringback_admin::{Api, HttpConfig, HttpSpec};
use ringback_engine::{Engine, hash_secret};
use ringback_testkit::{MemoryJournal, StillClock};
use serde_json::Value;
use tower::ServiceExt;

use crate::description;

/// The secret of the administrator in all tests.
pub(crate) const ADMINISTRATOR: &str = "administrator-secret";

/// 2026-11-21T12:00:00Z.
pub(crate) const NOW: i64 = 1_795_262_400;

/// A running engine and the API on it.
pub(crate) struct Harness {
    pub(crate) engine: Engine,
    pub(crate) memory: MemoryJournal,
    pub(crate) clock: StillClock,
    pub(crate) api: Api,
    pub(crate) config: HttpConfig,
    router: Router,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// An environment with everything that a call needs.
pub(crate) struct Tenant {
    pub(crate) environment: String,
    pub(crate) token_id: String,
    pub(crate) token: String,
    pub(crate) number: String,
    pub(crate) digits: String,
    pub(crate) inbound: String,
    pub(crate) outbound: String,
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(HttpSpec::default())
    }

    pub(crate) fn with(spec: HttpSpec) -> Self {
        Self::on(
            MemoryJournal::default(),
            StillClock::at(NOW),
            spec,
            ADMINISTRATOR,
        )
    }

    /// Another node on the log of this one.
    pub(crate) fn beside(&self) -> Self {
        self.beside_of(ADMINISTRATOR)
    }

    /// The same with another administrator.
    pub(crate) fn beside_of(&self, administrator: &str) -> Self {
        let (memory, clock) = (self.memory.beside(), self.clock.clone());
        Self::on(memory, clock, HttpSpec::default(), administrator)
    }

    /// The same node after a restart.
    pub(crate) fn restarted(self) -> Self {
        let (memory, clock) = (self.memory.clone(), self.clock.clone());
        drop(self);
        Self::on(memory, clock, HttpSpec::default(), ADMINISTRATOR)
    }

    fn on(memory: MemoryJournal, clock: StillClock, spec: HttpSpec, administrator: &str) -> Self {
        let engine = Engine::open(memory.clone(), clock.clone()).expect("memory opens");
        let config = HttpConfig::try_from(spec).expect("the test writes good settings");
        let api = Api::new(
            engine.clone(),
            hash_secret(administrator),
            &config,
            Vec::new(),
            Vec::new(),
        );
        let router = ringback_admin::router(api.clone());
        Self {
            engine,
            memory,
            clock,
            api,
            config,
            router,
        }
    }

    /// Sends a request. What the description of the API does not foresee is a failure.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        let host = request.headers_mut().entry("host");
        host.or_insert(HeaderValue::from_static("localhost"));
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("the router answers");
        let (parts, body) = response.into_parts();
        let bytes = body
            .collect()
            .await
            .expect("the answer is whole")
            .to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("answers are text");
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            text,
        };
        description::check(&method, &path, &answer);
        answer
    }

    /// Sends a request with a token and, unless it is empty, a JSON body.
    pub(crate) async fn ask(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"));
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        self.send(
            request
                .body(Body::from(body.to_owned()))
                .expect("a request"),
        )
        .await
    }

    /// The same; the answer must be a success, and its data is returned.
    pub(crate) async fn done(&self, token: &str, method: &str, path: &str, body: &str) -> Value {
        let answer = self.ask(token, method, path, body).await;
        assert!(
            answer.status.is_success(),
            "{method} {path}: {} {}",
            answer.status,
            answer.text
        );
        answer.json()["data"].clone()
    }

    /// A new environment with a token, a number, a published inbound and a published outbound agent,
    /// both owning the number, and a callback role that joins them.
    pub(crate) async fn tenant(&self, digits: &str) -> Tenant {
        let settings = r#"{"name":"Acme","default_country":"BR","target_template":"sip:{agent_id}@agents.example.com"}"#;
        let environment = self
            .done(ADMINISTRATOR, "POST", "/api/v1/environments", settings)
            .await;
        let environment = text(&environment["id"]);
        let path = format!("/api/v1/environments/{environment}/tokens");
        let made = self.done(ADMINISTRATOR, "POST", &path, "").await;
        let (token_id, token) = (text(&made["id"]), text(&made["token"]));
        let body = format!(r#"{{"number":"{digits}"}}"#);
        let number = text(
            &self
                .done(&token, "POST", "/api/v1/phone-numbers", &body)
                .await["id"],
        );
        let mut agents = Vec::new();
        for direction in ["inbound", "outbound"] {
            let body = format!(
                r#"{{"name":"{direction}","label":"{direction}","direction":"{direction}","phone_number_ids":["{number}"]}}"#
            );
            let id = text(&self.done(&token, "POST", "/api/v1/agents", &body).await["id"]);
            self.done(&token, "POST", &format!("/api/v1/agents/{id}/publish"), "")
                .await;
            agents.push(id);
        }
        let (outbound, inbound) = (agents.remove(1), agents.remove(0));
        let body = format!(r#"{{"source_agent_ids":["{outbound}"]}}"#);
        self.done(
            &token,
            "POST",
            &format!("/api/v1/agents/{inbound}/callback"),
            &body,
        )
        .await;
        let digits = digits.to_owned();
        Tenant {
            environment,
            token_id,
            token,
            number,
            digits,
            inbound,
            outbound,
        }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        let engine = self.engine.clone();
        let _panicked = std::thread::spawn(move || engine.shut_down()).join();
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("header values are text"))
    }

    /// The fields that the answer complains of.
    pub(crate) fn fields(&self) -> Vec<String> {
        let json = self.json();
        json["errors"]
            .as_object()
            .map(|errors| errors.keys().cloned().collect())
            .unwrap_or_default()
    }
}

/// A JSON string's text.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
