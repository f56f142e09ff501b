//! Agents: `/agents`.

use std::collections::BTreeMap;

use ringback_routing::{
    AgentId, AgentStatus, Country, Dialect, Direction, E164, NumberId, Target as DomainTarget,
    Timestamp,
};
use serde::{Deserialize, Serialize};

/// An agent, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its identifier.
    pub id: AgentId,
    /// What it calls itself.
    pub name: String,
    /// What its owner calls it.
    pub label: String,
    /// What it is for.
    pub description: Option<String>,
    /// Whether it takes or makes calls.
    pub direction: Direction,
    /// Whether it takes part in routing.
    pub current_status: AgentStatus,
    /// The numbers that it owns, first assigned first.
    pub phone_numbers: Vec<NumberOfAgent>,
    /// Its own targets; empty: the environment's template counts.
    pub targets: Vec<Target>,
    /// Its ids at platforms, by dialect; shown where there is one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external_ids: BTreeMap<Dialect, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A number within an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberOfAgent {
    /// Its identifier.
    pub id: NumberId,
    /// The digits.
    pub number: E164,
    /// ISO 3166-1 alpha-2, if known.
    pub country_code: Option<Country>,
    /// As its country writes it, with the calling code.
    pub formatted_number: String,
}

/// An agent by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentName {
    /// Its identifier.
    pub id: AgentId,
    /// What it calls itself.
    pub name: String,
}

/// An agent in brief.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentBrief {
    /// Its identifier.
    pub id: AgentId,
    /// What it calls itself.
    pub name: String,
    /// Whether it takes or makes calls.
    pub direction: Direction,
    /// Whether it takes part in routing.
    pub current_status: AgentStatus,
}

/// One place that a call can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A SIP URI.
    pub uri: String,
    /// Lower is tried first, as in SRV records (RFC 2782).
    pub priority: u16,
    /// Share within one priority, as in SRV records (RFC 2782).
    pub weight: u16,
}

impl From<&DomainTarget> for Target {
    fn from(target: &DomainTarget) -> Self {
        Self {
            uri: target.uri.clone(),
            priority: target.priority,
            weight: target.weight,
        }
    }
}

/// A target in a request: a `sip:` or `sips:` URI, with placeholders or without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetNew {
    /// One of several; priority and weight are 0 where they are left out.
    Ranked {
        /// The URI.
        uri: String,
        /// Lower is tried first, as in SRV records (RFC 2782).
        #[serde(default)]
        priority: u16,
        /// Share within one priority, as in SRV records (RFC 2782).
        #[serde(default)]
        weight: u16,
    },
    /// The URI alone, with priority and weight 0.
    Uri(String),
}

/// Makes an agent, as a draft: `POST /agents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentNew {
    /// What it calls itself.
    pub name: String,
    /// What its owner calls it.
    pub label: String,
    /// Whether it takes or makes calls.
    pub direction: Direction,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The numbers that it owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number_ids: Option<Vec<NumberId>>,
    /// Its own targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<TargetNew>>,
    /// Its ids at platforms, by dialect.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external_ids: BTreeMap<Dialect, String>,
}

/// Changes what is given and leaves the rest: `PATCH /agents/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPatch {
    /// What it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its owner calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether it takes or makes calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The numbers that it owns from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number_ids: Option<Vec<NumberId>>,
    /// Its own targets from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<TargetNew>>,
    /// Its ids at platforms, by dialect; `None` clears one, and those left out stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external_ids: BTreeMap<Dialect, Option<String>>,
}

/// Sets direction and numbers in one step: `PUT /agents/{id}/calling`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calling {
    /// Whether it takes or makes calls.
    pub direction: Direction,
    /// The numbers that it owns from now on; left out: those it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number_ids: Option<Vec<NumberId>>,
}
