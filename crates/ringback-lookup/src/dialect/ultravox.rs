//! Handlers of Ultravox. The fields of its request are not public: `from`, `to` and `callId` are read.

use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::json;
use crate::question::{Asked, Question};
use crate::request::Request;
use crate::routing::Routing;

/// `{"callId":...,"from":...,"to":...}`
pub(super) fn read(request: &Request<'_>) -> Asked {
    let Some(body) = json::read(request.body) else {
        return Asked::Malformed;
    };
    let text = |name: &str| json::text(&body, &[name]);
    Question::about(text("to"), text("from"), text("callId"))
}

/// The agent, by the platform's own id, with variables.
pub(super) fn answer(routing: Option<&Routing>) -> Answer {
    let agent = routing.and_then(|routing| Some((routing, routing.external_id()?)));
    let Some((routing, agent)) = agent else {
        return Answer::json(&json!({"reject": {}}));
    };
    let mut start = Map::new();
    start.insert("agentId".to_owned(), Value::from(agent));
    let variables = Value::Object(routing.variables());
    start.insert("templateContext".to_owned(), variables);
    Answer::json(&json!({"startAgentCall": start})).routed()
}
