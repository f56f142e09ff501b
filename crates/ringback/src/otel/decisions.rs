//! A span for each decided call, from the log of decisions.

use std::collections::HashMap;
use std::time::Duration;

use ringback_engine::{DecisionRecord, Engine};
use ringback_routing::{E164, EnvironmentId};

use super::{Exporter, Item, Span, Value};
use crate::logging::masked_unless;

/// Follows the decisions of all environments until the engine is gone. Those that the log has forgotten before they
/// were read, because more came than it keeps, have no span.
pub(crate) async fn follow(engine: Engine, exporter: Exporter) {
    let mut news = engine.subscribe_decisions();
    let mut seen: HashMap<EnvironmentId, u64> = HashMap::new();
    let mut start = *news.borrow_and_update();
    loop {
        let directory = std::sync::Arc::clone(&engine.directory());
        for environment in directory.environments() {
            let id = environment.record.id;
            let last = seen.entry(id).or_insert(start);
            for record in engine.decisions_after(id, *last) {
                *last = record.sequence;
                exporter.take(Item::Span(span(id, &record)));
            }
        }
        // An environment that is made later has had no decision before.
        start = 0;
        if news.changed().await.is_err() {
            return;
        }
        // Where there is one decision, more may follow: they are looked at together.
        tokio::time::sleep(GATHERED).await;
        news.mark_unchanged();
    }
}

/// The span of a decision. How long it took is told by metrics: here it has no length.
fn span(environment: EnvironmentId, record: &DecisionRecord) -> Span {
    let number = |number: Option<E164>| number.map(|number| number.masked().to_string());
    let call_id = masked_unless(false, record.sid()).into_owned();
    let mut attributes = vec![
        ("ringback.outcome", record.outcome.name().to_owned()),
        ("ringback.reason", record.reason.name().to_owned()),
        ("ringback.via", record.via.name().to_owned()),
        ("ringback.environment_id", environment.to_string()),
        ("ringback.call_id", call_id),
    ];
    attributes.extend(number(record.dialed).map(|text| ("ringback.dialed", text)));
    attributes.extend(number(record.caller.number()).map(|text| ("ringback.caller", text)));
    let at = u128::try_from(record.at.millis()).unwrap_or_default() * 1_000_000;
    Span {
        name: "decide call".to_owned(),
        is_server: true,
        parent: None,
        times: (at, at),
        attributes: attributes
            .into_iter()
            .map(|(key, text)| (key, Value::Text(text)))
            .collect(),
        is_error: false,
    }
}

/// How long decisions are gathered.
const GATHERED: Duration = Duration::from_millis(200);
