//! Phone numbers: `/phone-numbers`.

use ringback_routing::{AgentId, Country, Direction, E164, NumberId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Change;

/// A number and who owns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhoneNumber {
    /// Its identifier.
    pub id: NumberId,
    /// The digits.
    pub number: E164,
    /// ISO 3166-1 alpha-2, if known.
    pub country_code: Option<Country>,
    /// As its country writes it, with the calling code.
    pub formatted_number: String,
    /// The agents that own it, first assigned first.
    pub agents: Vec<AgentOfNumber>,
    /// The agent chosen for calls that no role claims.
    pub default_agent_id: Option<AgentId>,
    /// When it was entered.
    pub created_at: Timestamp,
}

/// An agent within a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentOfNumber {
    /// Its identifier.
    pub id: AgentId,
    /// What it calls itself.
    pub name: String,
    /// Whether it takes or makes calls.
    pub direction: Direction,
}

/// Enters a number: `POST /phone-numbers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhoneNumberNew {
    /// The number, in any writing that its country's rules can read.
    pub number: String,
    /// The country in which it is read, ISO 3166-1 alpha-2; left out: the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_code: Option<String>,
}

/// Changes a number: `PATCH /phone-numbers/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhoneNumberPatch {
    /// The agent that takes calls which no role claims: published, inbound and owner of the number.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub default_agent_id: Change<AgentId>,
}
