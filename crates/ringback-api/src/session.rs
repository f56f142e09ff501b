//! Sessions of the console: `/session`.

use ringback_routing::{EnvironmentId, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use crate::Change;

/// Who a session belongs to, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose token it was opened with.
    pub kind: SessionKind,
    /// The environment that it acts in; of the administrator the one that was chosen.
    pub environment: Option<EnvironmentName>,
    /// The token that it was opened with; none for the administrator's.
    pub token: Option<TokenName>,
    /// Whether numbers of contacts are masked.
    pub masked: bool,
    /// What every unsafe method has to carry as `X-CSRF-Token`.
    pub csrf_token: String,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// Whose token a session was opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// One of an environment.
    Environment,
    /// The administrator's.
    Administrator,
}

/// An environment by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentName {
    /// Its identifier.
    pub id: EnvironmentId,
    /// What its administrator calls it.
    pub name: String,
}

/// A token by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenName {
    /// Its identifier.
    pub id: TokenId,
    /// What its maker called it.
    pub name: Option<String>,
}

/// Opens a session: `POST /session`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionNew {
    /// A token of an environment, or the administrator's.
    pub token: String,
}

impl std::fmt::Debug for SessionNew {
    /// Leaves the secret out.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SessionNew").finish_non_exhaustive()
    }
}

/// Has the administrator's session act in an environment: `PATCH /session`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPatch {
    /// The environment; cleared: none.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub environment_id: Change<EnvironmentId>,
}
