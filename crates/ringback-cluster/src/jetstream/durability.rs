//! Whether the servers keep what they acknowledge: checked, not hoped for.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::ServerInfo;
use async_nats::jetstream::stream::{DiscardPolicy, Info, PersistenceMode, StorageType};
use serde::Deserialize;

/// What was read of the servers and of the stream, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Durability {
    /// How many servers must keep the stream.
    replicas: usize,
    /// Whether writes are taken although something is wrong.
    is_insecure: bool,
    /// The addresses of the monitoring ports.
    monitor: Vec<String>,
    /// What is wrong with the stream, by its latest state.
    stream: Vec<String>,
    /// The servers that keep the stream.
    members: Vec<String>,
    /// What was found at the monitoring ports.
    servers: Option<Vec<Monitored>>,
}

/// What was found at a monitoring port.
#[derive(Clone, Debug)]
pub(super) struct Monitored {
    /// Its address.
    address: String,
    /// What the server says, or why it could not be read.
    found: Result<Varz, String>,
}

/// What a server says of itself.
#[derive(Clone, Debug, Deserialize)]
struct Varz {
    /// Its name.
    server_name: String,
    /// The version of its program.
    version: String,
    /// The longest message, in bytes.
    max_payload: u64,
    /// Its streams.
    jetstream: Option<Jetz>,
}

/// What a server says of its streams.
#[derive(Clone, Debug, Default, Deserialize)]
struct Jetz {
    /// Its settings.
    config: Option<JetConfig>,
}

/// The settings of a server for its streams.
#[derive(Clone, Debug, Default, Deserialize)]
struct JetConfig {
    /// Whether it syncs every write before it acknowledges.
    #[serde(default)]
    sync_always: bool,
}

impl Durability {
    /// Nothing was read yet.
    pub(super) fn new(replicas: usize, monitor: Vec<String>, is_insecure: bool) -> Self {
        Self {
            replicas,
            is_insecure,
            monitor,
            ..Self::default()
        }
    }

    /// The addresses of the monitoring ports.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.monitor.clone()
    }

    /// Whether writes are refused.
    pub(super) fn forbids_writes(&self) -> bool {
        !self.is_insecure && !self.problems().is_empty()
    }

    /// What is wrong.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.stream.clone();
        let Some(servers) = &self.servers else {
            return problems;
        };
        if servers.is_empty() {
            problems.push(
                "no monitoring port is configured (cluster.monitor): nobody knows whether servers sync before they acknowledge"
                    .to_owned(),
            );
            return problems;
        }
        let mut by_name = BTreeMap::new();
        for server in servers {
            match &server.found {
                Err(error) => problems.push(format!("{}: {error}", server.address)),
                Ok(varz) => {
                    by_name.insert(varz.server_name.as_str(), varz);
                }
            }
        }
        for (name, varz) in &by_name {
            if !is_safe_version(&varz.version) {
                problems.push(format!(
                    "server {name} is nats-server {}; from {SAFE} on acknowledged messages are safe",
                    varz.version
                ));
            }
            let config = varz.jetstream.as_ref().and_then(|jet| jet.config.as_ref());
            if !config.is_some_and(|config| config.sync_always) {
                problems.push(format!(
                    "server {name} acknowledges what it has not synced: set jetstream.sync_interval to always"
                ));
            }
            if varz.max_payload < MOST_PAYLOAD as u64 {
                problems.push(format!(
                    "server {name} takes no messages of 1 MiB (max_payload)"
                ));
            }
        }
        for member in &self.members {
            if !by_name.contains_key(member.as_str()) {
                problems.push(format!(
                    "server {member} keeps the stream, and none of the monitoring ports is its"
                ));
            }
        }
        problems
    }

    /// Takes the state of the stream.
    pub(super) fn read_stream(&mut self, info: &Info, server: &ServerInfo, subjects: &str) {
        let config = &info.config;
        let wrong = [
            (
                config.num_replicas < self.replicas,
                format!(
                    "the stream has {} replicas, not {}",
                    config.num_replicas, self.replicas
                ),
            ),
            (
                self.replicas < SAFE_REPLICAS,
                format!(
                    "{} replicas: from {SAFE_REPLICAS} on the loss of one loses nothing",
                    self.replicas
                ),
            ),
            (
                config.storage != StorageType::File,
                "the stream is not stored in files".to_owned(),
            ),
            (
                config.discard != DiscardPolicy::New,
                "the stream drops old messages when it is full".to_owned(),
            ),
            (
                !config.max_age.is_zero(),
                "the stream drops messages by age".to_owned(),
            ),
            (
                config.max_messages > 0 || config.max_messages_per_subject > 0,
                "the stream drops messages by number".to_owned(),
            ),
            (
                config.subjects != [subjects],
                format!("the stream does not keep exactly {subjects}"),
            ),
            (config.sealed, "the stream is sealed".to_owned()),
            (
                config.mirror.is_some() || config.sources.is_some(),
                "the stream copies another one".to_owned(),
            ),
            (
                config.persist_mode == Some(PersistenceMode::Async),
                "the stream acknowledges what it has not written".to_owned(),
            ),
            (
                !server.version.is_empty() && !is_safe_version(&server.version),
                format!(
                    "server {} is nats-server {}; from {SAFE} on acknowledged messages are safe",
                    server.server_name, server.version
                ),
            ),
        ];
        self.stream = wrong
            .into_iter()
            .filter_map(|(is_wrong, what)| is_wrong.then_some(what))
            .collect();
        if let Some(cluster) = &info.cluster {
            let replicas = cluster.replicas.iter().map(|peer| &peer.name);
            self.members = cluster.leader.iter().chain(replicas).cloned().collect();
            self.members.sort();
        }
    }

    /// Takes what was found at the monitoring ports. A server that is away acknowledges nothing: what it said last
    /// counts until it can be read again.
    pub(super) fn read_servers(&mut self, found: Vec<Monitored>) {
        let before = self.servers.take().unwrap_or_default();
        let latest = |server: Monitored| {
            if server.found.is_ok() {
                return server;
            }
            let known = before
                .iter()
                .find(|known| known.address == server.address && known.found.is_ok());
            known.cloned().unwrap_or(server)
        };
        self.servers = Some(found.into_iter().map(latest).collect());
    }
}

/// Reads the monitoring ports at these addresses.
pub(super) async fn look_at(addresses: Vec<String>) -> Vec<Monitored> {
    let read = tokio::task::spawn_blocking(move || {
        let read = |address: String| Monitored {
            found: read_varz(&address),
            address,
        };
        addresses.into_iter().map(read).collect()
    });
    read.await.unwrap_or_default()
}

/// Reads what a server says of itself.
fn read_varz(address: &str) -> Result<Varz, String> {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(MONITOR_WAIT))
        .build()
        .new_agent();
    let url = format!("{}/varz", address.trim_end_matches('/'));
    let answer = agent.get(url).call();
    let mut answer = answer.map_err(|error| format!("cannot be read: {error}"))?;
    let varz = answer.body_mut().read_json();
    varz.map_err(|error| format!("is no monitoring port of nats-server: {error}"))
}

/// Whether a version keeps what it acknowledges.
fn is_safe_version(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next(), next()) >= (2, 14, 7)
}

/// The first version that keeps what it acknowledges.
const SAFE: &str = "2.14.7";

/// From how many replicas on the loss of one server loses nothing.
const SAFE_REPLICAS: usize = 3;

/// The longest message that nodes publish, in bytes.
pub(super) const MOST_PAYLOAD: usize = 1 << 20;

/// How long an answer of a monitoring port is waited for.
const MONITOR_WAIT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, version: &str, sync_always: bool) -> Monitored {
        Monitored {
            address: format!("http://{name}"),
            found: Ok(Varz {
                server_name: name.to_owned(),
                version: version.to_owned(),
                max_payload: 1 << 20,
                jetstream: Some(Jetz {
                    config: Some(JetConfig { sync_always }),
                }),
            }),
        }
    }

    fn checked(servers: Vec<Monitored>) -> Durability {
        let mut durability = Durability::new(3, Vec::new(), false);
        durability.members = vec!["a".to_owned(), "b".to_owned()];
        durability.read_servers(servers);
        durability
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (version, is_safe) in [
            ("2.14.7", true),
            ("2.15.1", true),
            ("2.14.10-RC.1", true),
            ("3.0.0", true),
            ("2.14.6", false),
            ("2.9.10", false),
            ("", false),
        ] {
            assert_eq!(is_safe_version(version), is_safe, "{version}");
        }
    }

    #[test]
    fn servers_that_sync_and_are_new_are_fine() {
        let durability = checked(vec![
            server("a", "2.15.1", true),
            server("b", "2.15.1", true),
        ]);
        assert_eq!(durability.problems(), [] as [String; 0]);
        assert!(!durability.forbids_writes());
    }

    #[test]
    fn every_server_that_keeps_the_stream_is_named_if_it_is_unsafe_or_unknown() {
        let problems = |servers| checked(servers).problems().join("; ");
        let found = problems(vec![
            server("a", "2.15.1", false),
            server("b", "2.9.10", true),
        ]);
        assert!(
            found.contains("server a acknowledges what it has not synced"),
            "{found}"
        );
        assert!(found.contains("server b is nats-server 2.9.10"), "{found}");
        let found = problems(vec![server("a", "2.15.1", true)]);
        assert!(found.contains("server b keeps the stream"), "{found}");
        assert!(problems(Vec::new()).contains("no monitoring port"));
        let away = Monitored {
            address: "http://c".to_owned(),
            found: Err("cannot be read".to_owned()),
        };
        assert!(problems(vec![away]).contains("http://c: cannot be read"));
    }

    #[test]
    fn a_server_that_is_away_counts_by_what_it_said_last() {
        let away = |name: &str| Monitored {
            address: format!("http://{name}"),
            found: Err("cannot be read".to_owned()),
        };
        let mut durability = checked(vec![
            server("a", "2.15.1", true),
            server("b", "2.15.1", true),
        ]);
        for _ in 0..2 {
            durability.read_servers(vec![server("a", "2.15.1", true), away("b")]);
            assert!(!durability.forbids_writes());
        }
        durability.read_servers(vec![
            server("a", "2.15.1", true),
            server("b", "2.15.1", false),
        ]);
        assert!(durability.forbids_writes());
        durability.read_servers(vec![server("a", "2.15.1", true), away("b")]);
        assert!(durability.forbids_writes());
        assert!(checked(vec![server("a", "2.15.1", true), away("b")]).forbids_writes());
    }

    #[test]
    fn what_is_wrong_forbids_writes_unless_that_is_wanted() {
        let mut durability = checked(Vec::new());
        assert!(durability.forbids_writes());
        durability.is_insecure = true;
        assert!(!durability.forbids_writes());
        assert!(!durability.problems().is_empty(), "it is still said");
    }
}
