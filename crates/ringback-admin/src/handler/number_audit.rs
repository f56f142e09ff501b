//! Which numbers outbound calls came from, and where a return to each would go: `GET /phone-numbers/audit`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use ringback_api::{AgentName, CallingNumber};
use ringback_engine::Call;
use ringback_routing::{
    Caller, Directory, E164, Placeholders, Question, Target, Timestamp, UserSet, decide,
};

use crate::api::Api;
use crate::auth::Tenant;
use crate::error::ApiError;
use crate::reply;

/// `GET /phone-numbers/audit`: the number with the most calls first.
pub(crate) async fn audit(State(api): State<Api>, tenant: Tenant) -> Result<Response, ApiError> {
    // All that is stored is read.
    let read = tokio::task::spawn_blocking(move || {
        let now = api.engine().now();
        let since = now.plus_millis(-COUNTED_MILLIS);
        let mut found: HashMap<E164, Calls> = HashMap::new();
        let visited = api.engine().visit_calls(&mut |call| {
            if call.environment == tenant.environment
                && call.started_at >= since
                && let Some(from) = call.from
            {
                let calls = found.entry(from.subscriber()).or_insert_with(|| Calls {
                    count: 0,
                    number: from,
                    newest: (call.started_at, Arc::clone(&call.sid), call.contact),
                });
                calls.add(call, from);
            }
            ControlFlow::Continue(())
        });
        visited.map_err(|error| {
            tracing::error!(%error, "calls could not be read for an audit of numbers");
            ApiError::StorageUnavailable
        })?;
        let mut rows = Vec::with_capacity(found.len());
        let directory = Arc::clone(&api.engine().directory());
        for calls in found.into_values() {
            rows.push(row(&api, tenant, &directory, &calls, now)?);
        }
        rows.sort_by_key(|row| (Reverse(row.calls), row.number));
        Ok(reply::ok(rows))
    });
    read.await.map_err(|_panicked| ApiError::Internal)?
}

/// The calls that came from a number.
struct Calls {
    /// How many they are.
    count: u64,
    /// The number, as the newest call has it.
    number: E164,
    /// The newest call: when it started, its call id, and whom it was made to.
    newest: (Timestamp, Arc<str>, E164),
}

impl Calls {
    /// Adds a call.
    fn add(&mut self, call: &Call, from: E164) {
        self.count += 1;
        let (started_at, sid, _) = &self.newest;
        if (call.started_at, &call.sid) >= (*started_at, sid) {
            self.number = from;
            self.newest = (call.started_at, Arc::clone(&call.sid), call.contact);
        }
    }
}

/// Where a return by the contact of the newest call would go now.
fn row(
    api: &Api,
    tenant: Tenant,
    directory: &Directory,
    calls: &Calls,
    now: Timestamp,
) -> Result<CallingNumber, ApiError> {
    let (last_called_at, _, contact) = &calls.newest;
    let number = directory.number(calls.number);
    let owned = number.filter(|number| number.record.environment == tenant.environment);
    let question = Question {
        dialed: owned.map(|number| number.record.number),
        caller: Caller::Number(*contact),
        is_verified: true,
        now,
        avoided: UserSet::NONE,
        usable: &|target: &Target, filling: &Placeholders| filling.fill(&target.uri).is_some(),
    };
    let decision = decide(directory, api.engine().contacts(), &question)
        .map_err(|_unreadable| ApiError::StorageUnavailable)?;
    Ok(CallingNumber {
        number: calls.number,
        owned: owned.is_some(),
        phone_number_id: owned.map(|number| number.record.id),
        calls: calls.count,
        last_called_at: *last_called_at,
        outcome: decision.outcome,
        reason: decision.reason,
        agent: decision.agent.map(|agent| AgentName {
            id: agent.record.id,
            name: agent.record.name.clone(),
        }),
    })
}

/// How far back calls are counted: 30 days.
const COUNTED_MILLIS: i64 = 30 * 24 * 60 * 60 * 1_000;
