//! Who changed what: `/audit`.

use ringback_routing::{EnvironmentId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// A change of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its identifier.
    pub id: Uuid,
    /// When the change was made.
    pub at: Timestamp,
    /// Who made it.
    pub actor: AuditActor,
    /// How: `api`, `console` or `cli`.
    pub via: String,
    /// What was done, such as `update`.
    pub action: String,
    /// What it was done to.
    pub object: AuditObject,
    /// The object before, as the API shows it.
    pub before: Option<Value>,
    /// The object after, as the API shows it.
    pub after: Option<Value>,
    /// The name of the request.
    pub request_id: String,
    /// Whether it can be undone.
    pub undo: bool,
    /// The environment that it was made in, where entries of all are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
}

/// Who made a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditActor {
    /// `administrator`, `token` or `session`.
    pub kind: String,
    /// The token.
    pub id: Option<Uuid>,
    /// Its name.
    pub name: Option<String>,
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditObject {
    /// Its kind, such as `agent`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its identifier; that of a role is its agent's.
    pub id: Option<Uuid>,
    /// Its name.
    pub name: Option<String>,
}
