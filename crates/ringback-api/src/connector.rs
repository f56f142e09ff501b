//! Connectors: `/connectors`.

use ringback_routing::{ConnectorId, Dialect, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Change;

/// A connector, as it is listed: without its address and its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connector {
    /// Its identifier.
    pub id: ConnectorId,
    /// The language of the platform.
    pub dialect: Dialect,
    /// What its maker called it.
    pub name: Option<String>,
    /// Its options: those that are set.
    pub options: Value,
    /// What is answered when nothing routes.
    pub on_nothing: Value,
    /// Whether the platform has to prove that it knows a secret.
    pub has_secret: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a platform last asked there, as far as this node has seen since its start.
    pub last_used_at: Option<Timestamp>,
}

/// A connector with its address, which is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorShown {
    /// Its identifier.
    pub id: ConnectorId,
    /// The language of the platform.
    pub dialect: Dialect,
    /// What its maker called it.
    pub name: Option<String>,
    /// The address that the platform is to ask at.
    pub url: String,
    /// Its options: those that are set.
    pub options: Value,
    /// What is answered when nothing routes.
    pub on_nothing: Value,
    /// When it was made.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for ConnectorShown {
    /// Leaves the address out, because of the key in it.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ConnectorShown")
            .field("id", &self.id)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

/// Makes a connector: `POST /connectors`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorNew {
    /// The language of the platform.
    pub dialect: Dialect,
    /// What to call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the platform proves itself with; left out: the address alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What is answered when nothing routes; left out: what the dialect has for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_nothing: Option<Value>,
    /// Its options, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Value>,
}

impl std::fmt::Debug for ConnectorNew {
    /// Leaves the secret out.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ConnectorNew")
            .field("dialect", &self.dialect)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Changes a connector: `PATCH /connectors/{id}`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorPatch {
    /// What to call it.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub name: Change<String>,
    /// What the platform proves itself with.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub secret: Change<String>,
    /// What is answered when nothing routes.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub on_nothing: Change<Value>,
    /// Its options, all of them.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub options: Change<Value>,
}

impl std::fmt::Debug for ConnectorPatch {
    /// Leaves the secret out.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ConnectorPatch")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Gives a connector a new address: `POST /connectors/{id}/rotate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorRotation {
    /// For how many seconds the old address still holds; left out: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u32>,
}
