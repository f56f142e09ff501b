//! The settings of the HTTP API: `[http]` of the configuration file.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use ipnet::IpNet;
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
    /// Whether there is a web console at `/console/`.
    pub console: bool,
    /// Networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count.
    pub trusted_proxies: Vec<String>,
    /// The address by which platforms reach connectors; left out: that of the first listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Where the same is served over TLS.
    pub tls: HttpTlsSpec,
}

/// `[http.tls]` as written in the file. Whoever embeds the API loads the files: see [`Api::use_certificates`].
///
/// [`Api::use_certificates`]: crate::Api::use_certificates
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HttpTlsSpec {
    /// Addresses to listen on; default none.
    pub listen: Vec<String>,
    /// PEM file: the certificate, then its chain to the root. Required if `listen` is set.
    pub certificate: Option<PathBuf>,
    /// PEM file: the certificate's private key. Required if `listen` is set.
    pub private_key: Option<PathBuf>,
    /// PEM file: roots of client certificates. If set, clients without one are refused.
    pub client_ca: Option<PathBuf>,
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
            console: true,
            trusted_proxies: Vec::new(),
            public_url: None,
            tls: HttpTlsSpec::default(),
        }
    }
}

/// What the HTTP API runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Addresses to listen on; none: no HTTP.
    pub listen: Vec<SocketAddr>,
    /// Addresses to listen on for TLS.
    pub tls_listen: Vec<SocketAddr>,
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
    /// Whether there is a web console.
    pub console: bool,
    /// Networks of proxies whose word on clients counts.
    pub trusted_proxies: Vec<IpNet>,
    /// The address by which platforms reach connectors, without a slash at the end.
    pub public_url: Option<String>,
}

/// A key of `[http]` has a value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct HttpConfigError {
    /// The key with its path, such as `http.listen[0]`.
    pub key: String,
    /// What is wrong with it.
    #[source]
    pub problem: HttpConfigProblem,
}

/// What is wrong with a key of `[http]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpConfigProblem {
    /// Not an address and port.
    #[error("`{0}` is not an IP address with a port")]
    Listen(String),
    /// A prefix that would not fit into an Authorization header.
    #[error("`{0}` is not 0 to 32 letters, digits, `_` or `-`")]
    TokenPrefix(String),
    /// Not a network.
    #[error(
        "`{0}` is not an IP address, and no network as 10.0.0.0/8 without bits beyond its prefix"
    )]
    Network(String),
    /// Not an address that others can be given.
    #[error(
        "`{0}` is not http:// or https:// with a host, a port and a path at most, as https://calls.example.com/ringback"
    )]
    PublicUrl(String),
    /// No requests at all.
    #[error("must be at least 1; leave it out for no limit")]
    RateLimit,
    /// None at all.
    #[error("must be at least 1")]
    Zero,
}

/// Everything in `[http]` that cannot be used, in the order of the checks; at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", joined(.0))]
pub struct HttpConfigErrors(pub Vec<HttpConfigError>);

/// The problems in one line.
fn joined(errors: &[HttpConfigError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Collects problems, so that one check goes on after another has failed.
#[derive(Default)]
struct Problems(Vec<HttpConfigError>);

impl Problems {
    /// Adds a problem at a key.
    fn add(&mut self, key: impl Into<String>, problem: HttpConfigProblem) {
        let key = key.into();
        self.0.push(HttpConfigError { key, problem });
    }

    /// Reads the addresses of listeners.
    fn listeners(&mut self, key: &str, texts: &[String]) -> Vec<SocketAddr> {
        let mut addresses = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            match text.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => self.add(
                    format!("{key}[{index}]"),
                    HttpConfigProblem::Listen(text.clone()),
                ),
            }
        }
        addresses
    }
}

/// Whether this is an absolute URL of http or https without user information, query and fragment.
fn is_public_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split('/').next());
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/[]%".contains(&byte);
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(':')) && url.bytes().all(fits)
}

/// Reads a network, or an address as one of its own.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().ok()?,
    };
    (network.trunc() == network).then_some(network)
}

impl TryFrom<HttpSpec> for HttpConfig {
    type Error = HttpConfigErrors;

    /// Checks every key; all problems are reported together.
    fn try_from(spec: HttpSpec) -> Result<Self, HttpConfigErrors> {
        let mut problems = Problems::default();
        let listen = problems.listeners("http.listen", &spec.listen);
        let tls_listen = problems.listeners("http.tls.listen", &spec.tls.listen);
        let health_listen = problems.listeners("http.health-listen", &spec.health_listen);
        let in_prefix = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if spec.token_prefix.len() > 32 || !spec.token_prefix.bytes().all(in_prefix) {
            let prefix = HttpConfigProblem::TokenPrefix(spec.token_prefix.clone());
            problems.add("http.token-prefix", prefix);
        }
        let rate_limit = spec.rate_limit.and_then(NonZeroU32::new);
        if spec.rate_limit == Some(0) {
            problems.add("http.rate-limit", HttpConfigProblem::RateLimit);
        }
        for (key, limit) in [
            ("http.max-connections", spec.max_connections),
            (
                "http.max-connections-per-address",
                spec.max_connections_per_address,
            ),
            ("http.max-requests-per-token", spec.max_requests_per_token),
        ] {
            if limit == 0 {
                problems.add(key, HttpConfigProblem::Zero);
            }
        }
        let mut trusted_proxies = Vec::with_capacity(spec.trusted_proxies.len());
        for (index, text) in spec.trusted_proxies.iter().enumerate() {
            match network(text) {
                Some(network) => trusted_proxies.push(network),
                None => problems.add(
                    format!("http.trusted-proxies[{index}]"),
                    HttpConfigProblem::Network(text.clone()),
                ),
            }
        }
        if let Some(url) = &spec.public_url
            && !is_public_url(url)
        {
            problems.add("http.public-url", HttpConfigProblem::PublicUrl(url.clone()));
        }
        if !problems.0.is_empty() {
            return Err(HttpConfigErrors(problems.0));
        }
        let limit = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Self {
            listen,
            tls_listen,
            health_listen,
            token_prefix: spec.token_prefix,
            rate_limit,
            max_connections: limit(spec.max_connections),
            max_connections_per_address: limit(spec.max_connections_per_address),
            max_requests_per_token: limit(spec.max_requests_per_token),
            console: spec.console,
            trusted_proxies,
            public_url: spec
                .public_url
                .map(|url| url.trim_end_matches('/').to_owned()),
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
    fn every_problem_is_reported_not_the_first_alone() {
        let spec = HttpSpec {
            listen: vec!["127.0.0.1:1".into(), "8080".into(), "x".into()],
            token_prefix: "a b".into(),
            rate_limit: Some(0),
            max_connections: 0,
            ..HttpSpec::default()
        };
        let errors = HttpConfig::try_from(spec).unwrap_err().0;
        let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "http.listen[1]",
                "http.listen[2]",
                "http.token-prefix",
                "http.rate-limit",
                "http.max-connections"
            ]
        );
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
        for url in [
            "",
            "calls.example.com",
            "https://",
            "https://a/?b",
            "https://u@a",
        ] {
            let spec = HttpSpec {
                public_url: Some(url.into()),
                ..HttpSpec::default()
            };
            let error = HttpConfig::try_from(spec).unwrap_err().to_string();
            assert!(error.starts_with("http.public-url"), "{error}");
        }
        for network in ["10.0.0.1/8", "proxy", "10.0.0.0/33"] {
            let spec = HttpSpec {
                trusted_proxies: vec!["::1".into(), "10.0.0.0/8".into(), network.into()],
                ..HttpSpec::default()
            };
            let error = HttpConfig::try_from(spec).unwrap_err().to_string();
            assert!(error.starts_with("http.trusted-proxies[2]"), "{error}");
        }
    }
}
