//! A decision, as far as answers need it.

use serde_json::{Map, Value};

/// Where a call goes.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// The outcome: `callback`, `default`, `fallback` or `refused`.
    pub outcome: &'static str,
    /// The stable reason.
    pub reason: &'static str,
    /// The agent that takes the call.
    pub agent: Option<RoutedAgent>,
    /// The id of the outbound agent whose call is returned.
    pub source_agent: Option<String>,
    /// When the call that is returned started, RFC 3339.
    pub call_started_at: Option<String>,
    /// What was recorded with the call that is returned.
    pub context: Map<String, Value>,
    /// SIP URIs in the order in which they are tried, placeholders filled in.
    pub targets: Vec<String>,
}

/// The agent that takes a call.
#[derive(Clone, Debug, Default)]
pub struct RoutedAgent {
    /// Our id of it.
    pub id: String,
    /// The platform's own id of it.
    pub external_id: Option<String>,
}

impl Routing {
    /// Whether the call goes anywhere at all.
    pub(crate) fn is_taken(&self) -> bool {
        self.outcome != "refused"
    }

    /// The platform's own id of the agent.
    pub(crate) fn external_id(&self) -> Option<&str> {
        self.agent.as_ref()?.external_id.as_deref()
    }

    /// The decision and the context as variables of the platform, all of them strings.
    pub(crate) fn variables(&self) -> Map<String, Value> {
        let agent = self.agent.as_ref().map(|agent| agent.id.as_str());
        let ours = [
            ("ringback_outcome", Some(self.outcome)),
            ("ringback_reason", Some(self.reason)),
            ("ringback_agent_id", agent),
            ("ringback_source_agent_id", self.source_agent.as_deref()),
            ("ringback_call_started_at", self.call_started_at.as_deref()),
        ];
        let ours = ours
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        let context = self.context.iter().filter_map(|(name, value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(is) => is.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            };
            is_variable_name(name).then(|| (format!("ctx_{name}"), Value::from(value)))
        });
        ours.chain(context).collect()
    }
}

/// Whether a name of the context can be part of a variable's name: `[A-Za-z0-9_]{1,40}`.
fn is_variable_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=40).contains(&name.len()) && name.bytes().all(fits)
}
