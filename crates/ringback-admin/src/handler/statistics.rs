//! How many calls came back: `/callback-agents/stats` and `/callback-agents/{id}`.

use axum::extract::State;
use axum::response::Response;
use jiff::civil::Date;
use ringback_api::{
    AgentStatistics, CallbackAgentCount, CallbackAgentPage, CallbackStatistics, Period, SourceCount,
};
use ringback_engine::CommandError;

use crate::api::Api;
use crate::auth::Tenant;
use crate::error::ApiError;
use crate::path::{PathText, QueryText, find_agent};
use crate::reply;
use crate::wire;

/// `GET /callback-agents/stats`.
pub(crate) async fn environment(
    State(api): State<Api>,
    tenant: Tenant,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let today = api.engine().now().day();
    let invalid = |name| format!("The {name} must be a day, as in 2026-11-21.");
    let start = query.read("start_date", &invalid("start date"), read_day);
    let end = query.read("end_date", &invalid("end date"), read_day);
    let by_agent = query
        .read("by", "The by must be callback_agent.", |text| {
            (text == "callback_agent").then_some(())
        })
        .is_some();
    let start = start.unwrap_or(today - DEFAULT_DAYS);
    let end = end.unwrap_or(today);
    if query.errors.is_empty() && start > end {
        query.errors.add(
            "end_date",
            "The end date must not be before the start date.",
        );
    }
    query.errors.into_result()?;
    let statistics = api.engine().statistics(tenant.environment, start, end);
    let by_source = statistics
        .by_source
        .iter()
        .map(|source| SourceCount {
            source_agent_id: source.source,
            name: source.name.clone(),
            count: source.count,
        })
        .collect();
    Ok(reply::ok(CallbackStatistics {
        period: Period {
            start: date_of(start),
            end: date_of(end),
        },
        total_callbacks_received: statistics.received,
        callbacks_answered: statistics.answered,
        callbacks_unmatched: statistics.unmatched,
        callbacks_by_source_agent: by_source,
        callbacks_by_callback_agent: by_agent.then(|| {
            let agents = statistics.by_agent.iter();
            agents
                .map(|agent| CallbackAgentCount {
                    callback_agent_id: agent.agent,
                    name: agent.name.clone(),
                    total_callbacks_received: agent.received,
                    callbacks_answered: agent.answered,
                })
                .collect()
        }),
    }))
}

/// `GET /callback-agents/{id}`: the agent, its sources, and its last 30 days.
pub(crate) async fn agent(
    State(api): State<Api>,
    tenant: Tenant,
    path: PathText,
) -> Result<Response, ApiError> {
    let id = path.agent(&api, tenant)?;
    let directory = api.engine().directory();
    let agent = find_agent(&directory, tenant, id)?;
    let role = agent
        .record
        .role
        .as_ref()
        .ok_or(CommandError::NoCallbackRole)?;
    let source_agents = role
        .source_agents
        .iter()
        .filter_map(|source| directory.agent_of(tenant.environment, *source))
        .map(wire::agent_name)
        .collect();
    let today = api.engine().now().day();
    let (received, answered) =
        api.engine()
            .agent_statistics(tenant.environment, id, today - DEFAULT_DAYS, today);
    Ok(reply::ok(CallbackAgentPage {
        agent: wire::agent_brief(agent),
        source_agents,
        stats: AgentStatistics {
            total_callbacks_received: received,
            callbacks_answered: answered,
        },
    }))
}

/// Reads a day written `2026-11-21`; days since 1970-01-01.
pub(super) fn read_day(text: &str) -> Option<i32> {
    let shape = text.len() == 10
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !shape {
        return None;
    }
    let date: Date = text.parse().ok()?;
    EPOCH.until(date).ok().map(|span| span.get_days())
}

/// The day, written `2026-11-21`.
pub(super) fn date_of(day: i32) -> String {
    let span = jiff::Span::new().try_days(day);
    let date = span.and_then(|span| EPOCH.checked_add(span));
    date.map(|date| date.to_string()).unwrap_or_default()
}

/// Day 0.
const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// How many days before today the default period starts.
const DEFAULT_DAYS: i32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970_and_print_back() {
        assert_eq!(read_day("1970-01-01"), Some(0));
        assert_eq!(read_day("2026-11-21"), Some(20_778));
        assert_eq!(date_of(20_778), "2026-11-21");
        assert_eq!(date_of(-1), "1969-12-31");
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "2026-02-30",
            "2026-13-01",
            "21-11-2026",
            "2026-1-1",
            "today",
            "2026-11-21T00",
        ] {
            assert_eq!(read_day(text), None, "{text}");
        }
    }
}
