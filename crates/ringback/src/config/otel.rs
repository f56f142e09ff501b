//! `[otel]`: where spans and log records go.

use serde::{Deserialize, Serialize};

use super::fault::Faults;

/// The `[otel]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct OtelSpec {
    /// The address of an OpenTelemetry collector that takes OTLP over HTTP; default: nothing is exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
}

impl OtelSpec {
    /// The address.
    pub(super) fn check(self, faults: &mut Faults<'_>) -> Option<String> {
        let endpoint = self.endpoint?;
        let host = endpoint
            .strip_prefix("http://")
            .or_else(|| endpoint.strip_prefix("https://"));
        let is_address = endpoint.parse::<ureq::http::Uri>().is_ok();
        if host.is_none_or(|host| host.is_empty() || host.contains(['?', '#'])) || !is_address {
            let message = format!("`{endpoint}` is no address as http://127.0.0.1:4318");
            faults.add("otel.endpoint", message);
        }
        Some(endpoint)
    }
}
