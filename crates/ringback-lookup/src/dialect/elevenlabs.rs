//! Conversation initiation of ElevenLabs: the agent is chosen there, and gets the context.

use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::json;
use crate::question::{Asked, Question};
use crate::request::Request;
use crate::routing::Routing;

/// `{"caller_id":...,"agent_id":...,"called_number":...,"call_sid":...}`
pub(super) fn read(request: &Request<'_>) -> Asked {
    let Some(body) = json::read(request.body) else {
        return Asked::Malformed;
    };
    let text = |name: &str| json::text(&body, &[name]);
    Question::about(text("called_number"), text("caller_id"), text("call_sid"))
}

/// Variables; none: nothing is known of the call.
pub(super) fn answer(routing: Option<&Routing>) -> Answer {
    let variables = routing.map_or_else(Map::new, Routing::variables);
    let mut data = Map::new();
    data.insert(
        "type".to_owned(),
        Value::from("conversation_initiation_client_data"),
    );
    data.insert("dynamic_variables".to_owned(), Value::Object(variables));
    let answer = Answer::json(&json!(data));
    match routing {
        Some(_) => answer.routed(),
        None => answer,
    }
}
