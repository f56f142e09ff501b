//! `[cluster]`: read so that a file for a cluster is refused by name, not as unknown.

use serde::{Deserialize, Serialize};

/// The `[cluster]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct ClusterSpec {
    /// NATS servers; default none: the embedded store alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    servers: Option<Vec<String>>,
}

impl ClusterSpec {
    /// Whether there is a cluster.
    pub(crate) fn is_configured(&self) -> bool {
        self.servers
            .as_ref()
            .is_some_and(|servers| !servers.is_empty())
    }
}
