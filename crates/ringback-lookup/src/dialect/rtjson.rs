//! Kamailio: `http_async_client` asks, the `rtjson` module reads the answer and serves the routes.

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::form::Form;
use crate::question::{Asked, Question};
use crate::request::Request;
use crate::routing::Routing;

/// `?to=&from=&sid=`
pub(super) fn read(request: &Request<'_>) -> Asked {
    let Some(query) = Form::read(request.query.as_bytes()) else {
        return Asked::Malformed;
    };
    Question::about(query.number("to"), query.number("from"), query.text("sid"))
}

/// One route after the other.
pub(super) fn answer(routing: Option<&Routing>) -> Answer {
    let routes: Vec<Value> = routing.map_or_else(Vec::new, |routing| {
        let extra = header_lines(routing);
        let route = |target: &String| {
            json!({
                "uri": target,
                "fr_timer": REPLY_MILLIS,
                "fr_inv_timer": RING_MILLIS,
                "headers": {"extra": extra},
            })
        };
        routing.targets.iter().map(route).collect()
    });
    let is_routed = !routes.is_empty();
    let answer = Answer::json(&json!({"version": "1.0", "routing": "serial", "routes": routes}));
    if is_routed { answer.routed() } else { answer }
}

/// Header lines made of ids and our own words.
fn header_lines(routing: &Routing) -> String {
    let agent = routing.agent.as_ref().map(|agent| agent.id.as_str());
    let lines = [
        ("Outcome", Some(routing.outcome)),
        ("Reason", Some(routing.reason)),
        ("Agent", agent),
        ("Source-Agent", routing.source_agent.as_deref()),
    ];
    let lines = lines
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("X-Ringback-{name}: {value}\r\n")));
    lines.collect()
}

/// How long a target may take to its first reply.
const REPLY_MILLIS: u32 = 4_000;

/// How long it may ring.
const RING_MILLIS: u32 = 20_000;
