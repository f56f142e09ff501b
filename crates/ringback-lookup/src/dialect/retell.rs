//! Inbound webhooks of Retell.

use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::answer::Answer;
use crate::json;
use crate::question::{Asked, Question};
use crate::request::Request;
use crate::routing::Routing;

/// `{"event":"call_inbound","event_timestamp":ms,"call_inbound":{"from_number":...,"to_number":...}}`
pub(super) fn read(request: &Request<'_>) -> Asked {
    let Some(body) = json::read(request.body) else {
        return Asked::Malformed;
    };
    if json::text(&body, &["event"]).is_some_and(|event| event != "call_inbound") {
        return Asked::Other;
    }
    let to = json::text(&body, &["call_inbound", "to_number"]);
    let from = json::text(&body, &["call_inbound", "from_number"]);
    let sid = json::text(&body, &["event_timestamp"]).map(|at| {
        // There is no call id; this is the same when the platform asks again.
        let mut hash = Sha256::new();
        for part in [to.as_deref(), from.as_deref(), Some(at.as_str())] {
            hash.update(part.unwrap_or_default());
            hash.update([0]);
        }
        let hash = HEXLOWER.encode(&hash.finalize());
        format!("retell-{}", hash.get(..32).unwrap_or_default())
    });
    Question::about(to, from, sid)
}

/// The agent, by the platform's own id, with variables.
pub(super) fn answer(routing: Option<&Routing>) -> Answer {
    let Some(routing) = routing else {
        return Answer::json(&json!({"call_inbound": {}}));
    };
    let mut call = Map::new();
    let agent = routing.external_id();
    if let Some(agent) = agent {
        call.insert("override_agent_id".to_owned(), Value::from(agent));
    }
    call.insert(
        "dynamic_variables".to_owned(),
        Value::Object(routing.variables()),
    );
    let metadata = json!({"ringback_reason": routing.reason});
    call.insert("metadata".to_owned(), metadata);
    let answer = Answer::json(&json!({"call_inbound": call}));
    match agent {
        Some(_) => answer.routed(),
        None => answer,
    }
}
