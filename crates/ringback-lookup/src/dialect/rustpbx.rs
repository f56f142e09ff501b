//! The HTTP router of RustPBX.

use serde_json::json;

use crate::answer::Answer;
use crate::json;
use crate::question::{Asked, Question};
use crate::request::Request;
use crate::routing::Routing;
use crate::settings::{OnNothing, Settings};

/// `{"call_id":...,"from":"<sip:...>","to":"<sip:...>","uri":...}`
pub(super) fn read(request: &Request<'_>) -> Asked {
    let Some(body) = json::read(request.body) else {
        return Asked::Malformed;
    };
    if json::text(&body, &["method"]).is_some_and(|method| method != "INVITE") {
        return Asked::Other;
    }
    let text = |name: &str| json::text(&body, &[name]);
    let to = text("to").or_else(|| text("uri"));
    Question::about(to, text("from"), text("call_id"))
}

/// Targets to be tried one after the other.
pub(super) fn answer(settings: &Settings, routing: Option<&Routing>) -> Answer {
    let targets = routing.map_or(&[][..], |routing| &routing.targets);
    if !targets.is_empty() {
        return Answer::json(&json!({
            "action": "forward",
            "targets": targets,
            "strategy": "sequential",
            "timeout": settings.timeout(),
        }))
        .routed();
    }
    Answer::json(&match settings.on_nothing() {
        OnNothing::Reject(status) => json!({"action": "reject", "status": status}),
        _ => json!({"action": "not_handled"}),
    })
}
