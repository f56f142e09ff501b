//! Worlds described as data and made through the HTTP API: an environment with its numbers, agents,
//! roles and calls, everything named by words instead of ids.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use ringback_routing::Timestamp;
use ringback_testkit::{Api, Server};
use serde::Deserialize;
use serde_json::{Value, json};

/// An environment and what it owns.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct World {
    /// What scenarios call it.
    pub(crate) name: String,
    /// Its settings.
    environment: Value,
    /// Its numbers.
    numbers: Vec<Number>,
    /// Its agents, in the order in which they are made.
    agents: Vec<Agent>,
}

/// A number.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Number {
    /// What agents and calls name it by.
    name: String,
    /// In E.164.
    number: String,
    /// The agent that is set as its default, by name.
    default_agent: Option<String>,
}

/// An agent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agent {
    /// Its name.
    name: String,
    /// `inbound` or `outbound`.
    direction: String,
    /// The numbers assigned to it, by name.
    numbers: Vec<String>,
    /// Its targets.
    #[serde(default)]
    targets: Value,
    /// Its callback role.
    callback: Option<Role>,
    /// Whether it is published.
    #[serde(default = "yes")]
    published: bool,
}

/// A callback role.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    /// The source agents, by name.
    sources: Vec<String>,
    /// Which calls count; all if left out.
    trigger_statuses: Option<Vec<String>>,
    /// For how long; the environment's window if left out.
    recency_window_seconds: Option<u64>,
}

/// An outbound call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// Who called, by name.
    agent: String,
    /// From which number, by name.
    from: String,
    /// The contact.
    to: String,
    /// How far it got.
    status: Option<String>,
    /// When it started, counted back from now.
    seconds_ago: i64,
}

/// A world that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// The API of its environment.
    pub(crate) api: Api,
    /// The numbers by name, as `(id, number)`.
    numbers: HashMap<String, (String, String)>,
    /// The ids of its agents by name.
    agents: HashMap<String, String>,
}

impl World {
    /// Makes it on a server.
    pub(crate) fn make(&self, server: &Server) -> Made {
        let mut environment = self.environment.clone();
        environment["name"] = json!(self.name);
        let api = server.environment(environment);
        let mut made = Made {
            api,
            numbers: HashMap::new(),
            agents: HashMap::new(),
        };
        for number in &self.numbers {
            let id = made.api.number(&number.number);
            made.numbers
                .insert(number.name.clone(), (id, number.number.clone()));
        }
        for agent in &self.agents {
            made.make_agent(agent);
        }
        for agent in &self.agents {
            if let Some(role) = &agent.callback {
                made.give_role(&agent.name, role);
            }
        }
        for number in &self.numbers {
            if let Some(default) = &number.default_agent {
                let (id, _) = &made.numbers[&number.name];
                let body = json!({"default_agent_id": made.agent(default)});
                let _patched = made
                    .api
                    .patch(&format!("/api/v1/phone-numbers/{id}"), body)
                    .data(200);
            }
        }
        made
    }
}

impl Made {
    /// The id of an agent.
    pub(crate) fn agent(&self, name: &str) -> &str {
        self.agents
            .get(name)
            .unwrap_or_else(|| panic!("no agent is called {name}"))
    }

    /// Records a call.
    pub(crate) fn record(&self, call: &Call) {
        let mut body = json!({
            "agent_id": self.agent(&call.agent),
            "from": self.numbers[&call.from].1,
            "to": call.to,
            "started_at": before_now(call.seconds_ago),
        });
        if let Some(status) = &call.status {
            body["status"] = json!(status);
        }
        let _recorded = self.api.post("/api/v1/calls", body).data(201);
    }

    /// Puts the ids of agents in the place of `{{name}}`.
    pub(crate) fn fill_in(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, id) in &self.agents {
            filled = filled.replace(&format!("{{{{{name}}}}}"), id);
        }
        filled
    }

    /// Makes an agent.
    fn make_agent(&mut self, agent: &Agent) {
        let numbers: Vec<&str> = agent
            .numbers
            .iter()
            .map(|name| self.numbers[name].0.as_str())
            .collect();
        let mut body = json!({
            "name": agent.name,
            "label": agent.name,
            "direction": agent.direction,
            "phone_number_ids": numbers,
        });
        if !agent.targets.is_null() {
            body["targets"] = agent.targets.clone();
        }
        let created = self.api.post("/api/v1/agents", body).data(201);
        let id = created["id"]
            .as_str()
            .expect("an agent has an id")
            .to_owned();
        if agent.published {
            let path = format!("/api/v1/agents/{id}/publish");
            let _published = self.api.post(&path, json!({})).data(200);
        }
        self.agents.insert(agent.name.clone(), id);
    }

    /// Sets a callback role.
    fn give_role(&self, agent: &str, role: &Role) {
        let sources: Vec<&str> = role.sources.iter().map(|name| self.agent(name)).collect();
        let mut body = json!({"source_agent_ids": sources});
        if let Some(statuses) = &role.trigger_statuses {
            body["callback_trigger_statuses"] = json!(statuses);
        }
        if let Some(seconds) = role.recency_window_seconds {
            body["recency_window_seconds"] = json!(seconds);
        }
        let path = format!("/api/v1/agents/{}/callback", self.agent(agent));
        let _set = self.api.post(&path, body).data(200);
    }
}

/// An instant in RFC 3339.
fn before_now(seconds: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    let millis = i64::try_from(now.as_millis()).expect("the clock is sane");
    Timestamp::from_millis(millis)
        .plus_millis(-seconds * 1_000)
        .to_string()
}

/// What holds if nothing is said.
const fn yes() -> bool {
    true
}
