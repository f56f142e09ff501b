//! drachtio-server's request for routing, which jambonz's sbc-call-router answers too.

use serde_json::json;

use crate::answer::Answer;
use crate::form::Form;
use crate::question::{Asked, Question};
use crate::request::Request;
use crate::routing::Routing;
use crate::settings::{OnNothing, Settings};

/// `?method=INVITE&fromUser=&toUser=&uriUser=`; the server sends no call id.
pub(super) fn read(request: &Request<'_>) -> Asked {
    let Some(query) = Form::read(request.query.as_bytes()) else {
        return Asked::Malformed;
    };
    if query.get("method").is_some_and(|method| method != "INVITE") {
        return Asked::Other;
    }
    let to = query.number("uriUser").or_else(|| query.number("toUser"));
    Question::about(to, query.number("fromUser"), None)
}

/// `proxy`, `redirect`, `reject` or `route`.
pub(super) fn answer(settings: &Settings, routing: Option<&Routing>) -> Answer {
    let targets = routing.map_or(&[][..], |routing| &routing.targets);
    if targets.is_empty() {
        return nothing(settings);
    }
    let answer = if settings.redirects() {
        let contacts: Vec<_> = targets.iter().map(|uri| format!("<{uri}>")).collect();
        json!({"action": "redirect", "data": {"contact": contacts}})
    } else {
        json!({"action": "proxy", "data": {
            "recordRoute": false,
            "followRedirects": false,
            "simultaneous": false,
            "provisionalTimeout": "4s",
            "finalTimeout": "60s",
            "destination": targets,
        }})
    };
    Answer::json(&answer).routed()
}

/// What was configured for calls that go nowhere.
fn nothing(settings: &Settings) -> Answer {
    Answer::json(&match settings.on_nothing() {
        OnNothing::RouteUri(uri) => json!({"action": "route", "data": {"uri": uri}}),
        OnNothing::RouteTag(tag) => json!({"action": "route", "data": {"tag": tag}}),
        other => {
            let data = json!({"status": other.status(), "reason": "no_agent_available"});
            json!({"action": "reject", "data": data})
        }
    })
}
