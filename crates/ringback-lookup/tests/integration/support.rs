//! Requests and decisions of tests.

use std::collections::BTreeMap;

use ringback_lookup::{Method, Request, RoutedAgent, Routing, Settings};
use ringback_routing::{Dialect, Timestamp};
use serde_json::{Map, Value, json};

pub(crate) const URL: &str = "https://calls.example.com/lookup/k";
pub(crate) const AID: &str = "AID";
pub(crate) const SID: &str = "SID";
pub(crate) const T: &str = "2026-11-21T12:00:00.000Z";

/// A request with owned parts.
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) query: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Sent {
    pub(crate) fn get(query: &str) -> Self {
        Self {
            method: Method::Get,
            query: query.to_owned(),
            headers: BTreeMap::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn post(body: &str) -> Self {
        Self {
            method: Method::Post,
            body: body.as_bytes().to_vec(),
            ..Self::get("")
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn at(mut self, query: &str) -> Self {
        query.clone_into(&mut self.query);
        self
    }

    /// Gives the request to `read`.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Request<'_>) -> T) -> T {
        self.read_at(URL, read)
    }

    /// Gives the request, sent to this address, to `read`.
    pub(crate) fn read_at<T>(&self, url: &str, read: impl FnOnce(&Request<'_>) -> T) -> T {
        read(&Request {
            method: self.method,
            url,
            query: &self.query,
            header: &|name| self.headers.get(name).map(String::as_str),
            body: &self.body,
        })
    }

    pub(crate) fn is_proven(&self, dialect: Dialect, secret: &str, now: i64) -> bool {
        let now = Timestamp::from_millis(now);
        self.read(|request| ringback_lookup::is_proven(dialect, secret, request, now))
    }
}

/// Settings with nothing set.
pub(crate) fn plain(dialect: Dialect) -> Settings {
    settings(dialect, &Value::Null, &Value::Null)
}

pub(crate) fn settings(dialect: Dialect, options: &Value, on_nothing: &Value) -> Settings {
    Settings::check(dialect, options, on_nothing, URL).expect("valid settings")
}

/// The decision of the golden pairs.
pub(crate) fn callback(dialect: Dialect) -> Routing {
    let external_id = match dialect {
        Dialect::Retell => Some("agent_example"),
        Dialect::Vapi => Some("asst_example"),
        Dialect::Ultravox => Some("00000000-0000-4000-8000-000000000001"),
        _ => None,
    };
    Routing {
        outcome: "callback",
        reason: "returned_call_same_number",
        agent: Some(RoutedAgent {
            id: AID.to_owned(),
            external_id: external_id.map(str::to_owned),
        }),
        source_agent: Some(SID.to_owned()),
        call_started_at: Some(T.to_owned()),
        context: Map::from_iter([
            ("lead".to_owned(), json!("L-1")),
            ("n".to_owned(), json!(7)),
        ]),
        targets: vec![
            "sip:a1@agents.example.com".to_owned(),
            "sip:a2@agents.example.com".to_owned(),
        ],
    }
}
