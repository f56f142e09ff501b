//! A client of the HTTP API that checks only what it is told to.

use std::time::Duration;

use serde_json::Value;
use ureq::http::Request;

/// A client with one token.
#[derive(Clone, Debug)]
pub struct Api {
    /// Keeps connections open between requests.
    agent: ureq::Agent,
    /// `http://HOST:PORT`.
    base: String,
    /// The token.
    token: String,
    /// The `Idempotency-Key` of every request.
    key: Option<String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body; `null` if there is none, or if it is not JSON.
    pub body: Value,
}

impl Reply {
    /// The `data` of an answer with this status.
    ///
    /// # Panics
    /// It has another status, or no `data`.
    #[must_use]
    pub fn data(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        let data = self.body.get("data");
        data.cloned()
            .unwrap_or_else(|| panic!("no data in {}", self.body))
    }
}

impl Api {
    /// A client of the server at this address.
    #[must_use]
    pub fn new(base: &str, token: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .no_delay(true)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(120)))
            .build();
        Self {
            agent: config.new_agent(),
            base: base.to_owned(),
            token: token.to_owned(),
            key: None,
        }
    }

    /// The same client, whose requests carry this `Idempotency-Key`.
    #[must_use]
    pub fn keyed(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Gets a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None)
    }

    /// Posts JSON.
    #[must_use]
    pub fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, Some(body))
    }

    /// Puts JSON.
    #[must_use]
    pub fn put(&self, path: &str, body: Value) -> Reply {
        self.send("PUT", path, Some(body))
    }

    /// Patches with JSON.
    #[must_use]
    pub fn patch(&self, path: &str, body: Value) -> Reply {
        self.send("PATCH", path, Some(body))
    }

    /// Deletes a path.
    #[must_use]
    pub fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, None)
    }

    /// Sends a request with a JSON body or none; `None`: the server ended before it had answered.
    #[must_use]
    pub fn attempt(&self, method: &str, path: &str, body: Option<Value>) -> Option<Reply> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.exchange(method, path, "application/json", &body).ok()
    }

    /// Posts lines to `/api/v1/calls/batch`; `None`: the server ended before it had answered.
    #[must_use]
    pub fn batch(&self, lines: &str) -> Option<Reply> {
        self.exchange("POST", "/api/v1/calls/batch", "application/x-ndjson", lines)
            .ok()
    }

    /// Creates an agent with its name and direction, assigns these numbers, and publishes it; returns its id.
    ///
    /// # Panics
    /// The server refuses.
    pub fn agent(&self, name: &str, direction: &str, number_ids: &[&str], target: &str) -> String {
        let targets: Vec<Value> = target
            .split_whitespace()
            .map(|uri| serde_json::json!({"uri": uri}))
            .collect();
        let body = serde_json::json!({
            "name": name, "label": name, "direction": direction,
            "phone_number_ids": number_ids, "targets": targets,
        });
        let id = text(&self.post("/api/v1/agents", body).data(201), "id");
        let published = self.post(
            &format!("/api/v1/agents/{id}/publish"),
            serde_json::json!({}),
        );
        assert_eq!(published.status, 200, "{}", published.body);
        id
    }

    /// Creates an outbound agent and an inbound one that takes its calls back, of these names and with this number;
    /// returns their ids.
    ///
    /// # Panics
    /// The server refuses.
    pub fn callback_pair(
        &self,
        [source, taker]: [&str; 2],
        number_id: &str,
        target: &str,
    ) -> [String; 2] {
        let source = self.agent(source, "outbound", &[number_id], "");
        let taker = self.agent(taker, "inbound", &[number_id], target);
        let set = self.post(
            &format!("/api/v1/agents/{taker}/callback"),
            serde_json::json!({"source_agent_ids": [source]}),
        );
        assert_eq!(set.status, 200, "{}", set.body);
        [source, taker]
    }

    /// Takes a published agent out of routing and deletes it.
    ///
    /// # Panics
    /// The server refuses.
    pub fn remove_agent(&self, id: &str) {
        let path = format!("/api/v1/agents/{id}");
        let unpublished = self.post(&format!("{path}/unpublish"), serde_json::json!({}));
        assert_eq!(unpublished.status, 200, "{}", unpublished.body);
        assert_eq!(self.delete(&path).status, 200);
    }

    /// Creates a number; returns its id.
    ///
    /// # Panics
    /// The server refuses.
    pub fn number(&self, number: &str) -> String {
        let body = serde_json::json!({"number": number});
        text(&self.post("/api/v1/phone-numbers", body).data(201), "id")
    }

    /// Sends a request.
    fn send(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.exchange(method, path, "application/json", &body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends a request and reads the answer.
    fn exchange(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Result<Reply, ureq::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Authorization", format!("Bearer {}", self.token));
        if let Some(key) = &self.key {
            request = request.header("Idempotency-Key", key);
        }
        let mut response = if body.is_empty() {
            self.agent.run(request.body(())?)?
        } else {
            self.agent
                .run(request.header("Content-Type", content_type).body(body)?)?
        };
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_string()?;
        Ok(Reply {
            status,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
        })
    }
}

/// A text field of an object.
fn text(object: &Value, key: &str) -> String {
    let text = object.get(key).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no {key} in {object}"))
        .to_owned()
}
