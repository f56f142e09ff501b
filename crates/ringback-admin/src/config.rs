//! The settings of the HTTP API: `[http]` of the configuration file.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// `[http]` as written in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HttpSpec {
    /// Addresses to listen on.
    pub listen: Vec<String>,
    /// Addresses at which `/healthz`, `/readyz` and `/metrics` alone are answered, too.
    pub health_listen: Vec<String>,
    /// What the tokens made from now on start with; those made before go on working.
    pub token_prefix: String,
    /// Requests per minute that each token may make; left out: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,
    /// Connections open at once. Over it a new one takes the place of one without a request.
    pub max_connections: u32,
    /// The same for each source address (in IPv6 each /64).
    pub max_connections_per_address: u32,
    /// Requests that each token may have open at once; streams may be half of them.
    pub max_requests_per_token: u32,
}

impl Default for HttpSpec {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:8080".to_owned()],
            health_listen: Vec::new(),
            token_prefix: "talq_".to_owned(),
            rate_limit: None,
            max_connections: 1_024,
            max_connections_per_address: 768,
            max_requests_per_token: 256,
        }
    }
}

/// What the HTTP API runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Addresses to listen on; none: no HTTP.
    pub listen: Vec<SocketAddr>,
    /// Addresses for `/healthz`, `/readyz` and `/metrics` alone.
    pub health_listen: Vec<SocketAddr>,
    /// What tokens start with.
    pub token_prefix: String,
    /// Requests per minute that each token may make.
    pub rate_limit: Option<NonZeroU32>,
    /// Connections open at once.
    pub max_connections: usize,
    /// Connections open at once from one source address.
    pub max_connections_per_address: usize,
    /// Requests open at once by one token.
    pub max_requests_per_token: usize,
}

/// A key of `[http]` has a value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpConfigError {
    /// Not an address and port.
    #[error("http.listen: `{0}` is not an address with a port")]
    Listen(String),
    /// The same for the probes.
    #[error("http.health-listen: `{0}` is not an address with a port")]
    HealthListen(String),
    /// A prefix that would not fit into an Authorization header.
    #[error("http.token-prefix: `{0}` is not 0 to 32 letters, digits, `_` or `-`")]
    TokenPrefix(String),
    /// No requests at all.
    #[error("http.rate-limit: must be at least 1; leave it out for no limit")]
    RateLimit,
    /// No connections at all.
    #[error("http.max-connections: must be at least 1")]
    MaxConnections,
    /// No connections of one address at all.
    #[error("http.max-connections-per-address: must be at least 1")]
    MaxConnectionsPerAddress,
    /// No requests of one token at all.
    #[error("http.max-requests-per-token: must be at least 1")]
    MaxRequestsPerToken,
}

impl TryFrom<HttpSpec> for HttpConfig {
    type Error = HttpConfigError;

    fn try_from(spec: HttpSpec) -> Result<Self, HttpConfigError> {
        let listen = spec
            .listen
            .into_iter()
            .map(|text| text.parse().map_err(|_| HttpConfigError::Listen(text)))
            .collect::<Result<_, _>>()?;
        let health_listen = spec
            .health_listen
            .into_iter()
            .map(|text| {
                text.parse()
                    .map_err(|_| HttpConfigError::HealthListen(text))
            })
            .collect::<Result<_, _>>()?;
        let in_prefix = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if spec.token_prefix.len() > 32 || !spec.token_prefix.bytes().all(in_prefix) {
            return Err(HttpConfigError::TokenPrefix(spec.token_prefix));
        }
        let rate_limit = match spec.rate_limit {
            Some(limit) => Some(NonZeroU32::new(limit).ok_or(HttpConfigError::RateLimit)?),
            None => None,
        };
        let at_least_one = |limit: u32, error| match usize::try_from(limit) {
            Ok(0) => Err(error),
            limit => Ok(limit.unwrap_or(usize::MAX)),
        };
        Ok(Self {
            listen,
            health_listen,
            token_prefix: spec.token_prefix,
            rate_limit,
            max_connections: at_least_one(spec.max_connections, HttpConfigError::MaxConnections)?,
            max_connections_per_address: at_least_one(
                spec.max_connections_per_address,
                HttpConfigError::MaxConnectionsPerAddress,
            )?,
            max_requests_per_token: at_least_one(
                spec.max_requests_per_token,
                HttpConfigError::MaxRequestsPerToken,
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_one_loopback_listener_without_a_rate_limit() {
        let config = HttpConfig::try_from(HttpSpec::default()).unwrap();
        assert_eq!(config.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(config.token_prefix, "talq_");
        assert_eq!(config.rate_limit, None);
    }

    #[test]
    fn errors_name_the_key() {
        let broken = |change: fn(&mut HttpSpec)| {
            let mut spec = HttpSpec::default();
            change(&mut spec);
            HttpConfig::try_from(spec).unwrap_err().to_string()
        };
        assert!(broken(|spec| spec.listen = vec!["8080".into()]).starts_with("http.listen"));
        assert!(broken(|spec| spec.token_prefix = "a b".into()).starts_with("http.token-prefix"));
        assert!(broken(|spec| spec.rate_limit = Some(0)).starts_with("http.rate-limit"));
        assert!(broken(|spec| spec.max_connections = 0).starts_with("http.max-connections:"));
        assert!(
            broken(|spec| spec.max_connections_per_address = 0)
                .starts_with("http.max-connections-per-address")
        );
        assert!(
            broken(|spec| spec.max_requests_per_token = 0)
                .starts_with("http.max-requests-per-token")
        );
        assert!(
            broken(|spec| spec.health_listen = vec!["9090".into()])
                .starts_with("http.health-listen")
        );
    }
}
