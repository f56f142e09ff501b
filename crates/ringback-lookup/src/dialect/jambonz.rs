//! Application webhooks of jambonz.
//!
//! One target is dialed at a time. When the dial has ended, jambonz comes back to `?step=N`, N being how many targets
//! were dialed, and is told the next one.

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::form::Form;
use crate::json;
use crate::question::{Asked, DialEnd, Question, StepQuestion, usable_sid};
use crate::request::{Method, Request};
use crate::routing::Routing;
use crate::settings::{OnNothing, Settings};

/// `{"call_sid":...,"from":...,"to":...}`, or the same in the query; at a step with `dial_call_status`.
pub(super) fn read(request: &Request<'_>) -> Asked {
    let Some(query) = Form::read(request.query.as_bytes()) else {
        return Asked::Malformed;
    };
    let body = match request.method {
        Method::Get => None,
        Method::Post => match json::read(request.body) {
            Some(body) => Some(body),
            None => return Asked::Malformed,
        },
    };
    let text = |name: &str| match &body {
        Some(body) => json::text(body, &[name]),
        None => query.text(name),
    };
    let number = |name: &str| match &body {
        Some(body) => json::text(body, &[name]),
        None => query.number(name),
    };
    let sid = text("call_sid");
    if let Some(step) = query.get("step") {
        return match step.parse() {
            Ok(step @ 1..) => Asked::Step(StepQuestion {
                sid: usable_sid(sid),
                from: number("from").unwrap_or_default(),
                step,
                end: DialEnd::from_status(&text("dial_call_status").unwrap_or_default()),
            }),
            _ => Asked::Malformed,
        };
    }
    Question::about(number("to"), number("from"), sid)
}

/// Dials the target behind as many as were dialed.
pub(super) fn dial(settings: &Settings, url: &str, routing: &Routing, dialed: usize) -> Answer {
    let Some(target) = routing.targets.get(dialed) else {
        return nothing(settings, dialed > 0);
    };
    let dial = json!({
        "verb": "dial",
        "answerOnBridge": true,
        "timeout": settings.timeout(),
        "actionHook": format!("{url}?step={}", dialed + 1),
        "target": [{"type": "sip", "sipUri": target}],
    });
    verb(dial).routed()
}

/// What was configured for calls that go nowhere. A call that was answered cannot be declined any more.
pub(super) fn nothing(settings: &Settings, may_be_answered: bool) -> Answer {
    match settings.on_nothing() {
        OnNothing::Redirect(url) => verb(json!({"verb": "redirect", "actionHook": url})),
        _ if may_be_answered => hang_up(),
        other => verb(json!({"verb": "sip:decline", "status": other.status()})),
    }
}

/// Ends the call.
pub(super) fn hang_up() -> Answer {
    verb(json!({"verb": "hangup"}))
}

/// An application of this verb.
fn verb(verb: Value) -> Answer {
    Answer::json(&Value::Array(vec![verb]))
}
