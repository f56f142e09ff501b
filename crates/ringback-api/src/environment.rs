//! Environments and their tokens: `/environments`.

use std::collections::BTreeMap;

use ringback_routing::{Country, EnvironmentId, NumberForm, TargetState, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use crate::{Change, Target, TargetNew};

/// A tenant and its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its identifier.
    pub id: EnvironmentId,
    /// What its administrator calls it.
    pub name: String,
    /// Country in which numbers without `+` are read, ISO 3166-1 alpha-2.
    pub default_country: Option<Country>,
    /// What digits without `+` are.
    pub number_form: NumberForm,
    /// How old a call may be and still be returned, where the role says nothing.
    pub recency_window_seconds: u64,
    /// SIP URI for agents without targets of their own, with placeholders.
    pub target_template: Option<String>,
    /// Where calls go that no agent takes.
    pub fallback_targets: Vec<Target>,
    /// What an operator has said of targets, by scheme, host, port and transport; left out where there is nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub target_states: BTreeMap<String, TargetState>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Makes an environment: `POST /environments`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentNew {
    /// What its administrator calls it.
    pub name: String,
    /// Its settings; those left out have their defaults.
    #[serde(flatten)]
    pub settings: EnvironmentSettings,
}

/// Changes what is given and leaves the rest: `PATCH /environments/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentPatch {
    /// What its administrator calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its settings.
    #[serde(flatten)]
    pub settings: EnvironmentSettings,
}

/// The settings of an environment in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentSettings {
    /// Country in which numbers without `+` are read, ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub default_country: Change<String>,
    /// What digits without `+` are.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub number_form: Change<NumberForm>,
    /// How old a call may be and still be returned, where the role says nothing.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub recency_window_seconds: Change<u64>,
    /// SIP URI for agents without targets of their own, with placeholders.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub target_template: Change<String>,
    /// Where calls go that no agent takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_targets: Option<Vec<TargetNew>>,
}

/// A token: all but its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its identifier.
    pub id: TokenId,
    /// What its maker called it.
    pub name: Option<String>,
    /// Whether answers to it hide numbers of callers and contacts; left out where they do not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Makes a token: `POST /environments/{id}/tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenNew {
    /// What to call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether answers to it hide numbers of callers and contacts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
}

/// A token with its secret, which is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenShown {
    /// Its identifier.
    pub id: TokenId,
    /// What its maker called it.
    pub name: Option<String>,
    /// The secret.
    pub token: String,
    /// Whether answers to it hide numbers of callers and contacts; left out where they do not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for TokenShown {
    /// Leaves the secret out.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TokenShown")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("masked", &self.masked)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}
