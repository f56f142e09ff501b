//! The `assistant-request` of Vapi.

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::json;
use crate::question::{Asked, Question};
use crate::request::Request;
use crate::routing::Routing;
use crate::settings::{OnNothing, Settings};

/// `{"message":{"type":"assistant-request","call":{"id":...},"customer":{"number":...},"phoneNumber":{...}}}`
pub(super) fn read(request: &Request<'_>) -> Asked {
    let Some(body) = json::read(request.body) else {
        return Asked::Malformed;
    };
    match json::text(&body, &["message", "type"]).as_deref() {
        Some("assistant-request") => {}
        Some(_) => return Asked::Other,
        None => return Asked::Malformed,
    }
    let number = |of: &str| {
        json::text(&body, &["message", of, "number"])
            .or_else(|| json::text(&body, &["message", "call", of, "number"]))
    };
    let sid = json::text(&body, &["message", "call", "id"]);
    Question::about(number("phoneNumber"), number("customer"), sid)
}

/// The assistant, or a target where it has no id at the platform.
pub(super) fn answer(settings: &Settings, routing: Option<&Routing>) -> Answer {
    if let Some(id) = routing.and_then(Routing::external_id) {
        return Answer::json(&assistant(id, routing)).routed();
    }
    if let Some(target) = routing.and_then(|routing| routing.targets.first()) {
        let destination = json!({"type": "sip", "sipUri": target, "message": ""});
        return Answer::json(&json!({"destination": destination})).routed();
    }
    Answer::json(&match settings.on_nothing() {
        OnNothing::Assistant(id) => assistant(id, routing),
        OnNothing::Error(Some(message)) => json!({"error": message}),
        _ => json!({"error": DEFAULT_ERROR}),
    })
}

/// The answer to other messages of the server.
pub(super) fn nothing_to_say() -> Answer {
    Answer::json(&json!({}))
}

/// An assistant, with variables if there is a decision.
fn assistant(id: &str, routing: Option<&Routing>) -> Value {
    match routing {
        Some(routing) => {
            let variables = routing.variables();
            json!({"assistantId": id, "assistantOverrides": {"variableValues": variables}})
        }
        None => json!({"assistantId": id}),
    }
}

/// What callers hear where nothing else is configured.
const DEFAULT_ERROR: &str = "This number cannot take calls now.";
