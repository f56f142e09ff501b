//! What a running server tells.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ringback_api::{Cluster, PeerStatus, SipStatus, Status};

use super::check::Check;
use crate::client::{ApiPath, Client, ClientArgs, ClientError};
use crate::config::Config;
use crate::exit::chain;
use crate::serve::admin_token;

/// The server of the configuration, or the one that is named.
pub(super) struct Running {
    /// Asks it.
    client: Result<Client, ClientError>,
    /// What it tells.
    status: Option<Result<Status, ClientError>>,
}

impl Running {
    /// Asks the server.
    pub(super) fn find(config: &Config, named: &ClientArgs) -> Self {
        let is_named = named.url.is_some()
            || named.context.is_some()
            || std::env::var_os("RINGBACK_URL").is_some();
        let client = if is_named {
            Client::new(named)
        } else {
            Client::new(&own(config, named))
        };
        let status = client.as_ref().ok().map(|client| {
            let answer = client.get(&ApiPath::new(["status"]));
            answer.map(|answer| answer.data)
        });
        Self { client, status }
    }

    /// Whether a server answers; it may refuse the token.
    pub(super) const fn is_there(&self) -> bool {
        matches!(self.status, Some(Ok(_) | Err(ClientError::Refused(_))))
    }

    /// What it tells of itself.
    pub(super) fn check(&self, is_clustered: bool) -> Vec<Check> {
        let (client, status) = match (&self.client, &self.status) {
            (Ok(client), Some(Ok(status))) => (client, status),
            (Err(error), _) | (_, Some(Err(error))) => return vec![unanswered(error)],
            (Ok(_), None) => return Vec::new(),
        };
        let health = status.health.problems.iter();
        let mut checks: Vec<Check> = health
            .map(|found| Check::problem("server", found, "See `ringback status`, and its log."))
            .collect();
        if checks.is_empty() {
            checks.push(Check::ok("server", format!("{} answers", client.base())));
        }
        if is_clustered {
            checks.extend(durability(client));
        }
        checks.extend(status.sip.iter().flat_map(peers));
        checks
    }
}

/// The server of the configuration, and the administrator's token.
fn own(config: &Config, named: &ClientArgs) -> ClientArgs {
    let url = config.http.listen.first().map(|address| {
        let ip = match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, address.port()))
    });
    let kept = || {
        let path = config.data_dir.join(admin_token::FILE);
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    };
    let token = named.token.clone();
    let token = token.or_else(|| config.admin_token.clone()).or_else(kept);
    ClientArgs {
        url,
        // Without one, the server still shows that it is there: it refuses this.
        token: Some(token.unwrap_or_else(|| "none".to_owned())),
        ..named.clone()
    }
}

/// Why the server tells nothing.
fn unanswered(error: &ClientError) -> Check {
    const NAME: &str = "server";
    match error {
        ClientError::Unreachable { .. } => {
            Check::unchecked(NAME, format!("{}: peers are not checked", chain(error)))
        }
        ClientError::Refused(refusal) if matches!(refusal.status, 401 | 403) => Check::advice(
            NAME,
            "it runs, and does not tell how it is without the administrator's token",
            "Give it with --token or RINGBACK_ADMIN_TOKEN, or run this as the user of the service.",
        ),
        _ => Check::problem(NAME, chain(error), "See the log of the server."),
    }
}

/// Whether the servers of NATS keep what they acknowledge.
fn durability(client: &Client) -> Vec<Check> {
    const NAME: &str = "NATS durability";
    let cluster: Result<_, ClientError> = client.get(&ApiPath::new(["cluster"]));
    let cluster: Cluster = match cluster {
        Ok(answer) => answer.data,
        Err(error) => {
            let found = format!("the server does not tell: {}", chain(&error));
            return vec![Check::unchecked(NAME, found)];
        }
    };
    let durability = cluster.durability;
    if durability.ok {
        return vec![Check::ok(NAME, "servers keep what they acknowledge")];
    }
    let todo = "Set `sync_interval: always` on each server, or at least three servers with three replicas.";
    let problems = durability.problems.into_iter();
    problems
        .map(|found| Check::problem(NAME, found, todo))
        .collect()
}

/// Who sends calls and is refused.
fn peers(sip: &SipStatus) -> Vec<Check> {
    let mut checks: Vec<Check> = sip.peers.iter().filter_map(refused).collect();
    let served: u64 = sip.peers.iter().map(|peer| peer.messages).sum();
    if checks.is_empty() {
        let found = format!("{} configured, none is refused", sip.peers.len());
        checks.push(Check::ok("peers", found));
    }
    let strangers = &sip.strangers;
    if strangers.messages > 0 {
        let latest = strangers.addresses.iter().take(3);
        let latest: Vec<String> = latest.map(|from| from.address.to_string()).collect();
        let found = format!(
            "{} messages from sources that are no peer, the latest from {}",
            strangers.messages,
            latest.join(", ")
        );
        let todo =
            "If one of them is yours, add it under [[sip.peers]]; `ringback status` lists all.";
        // Where nobody else sends anything, it is hardly a scanner.
        checks.push(match served {
            0 => Check::problem("strangers", found, todo),
            _ => Check::advice("strangers", found, todo),
        });
    }
    checks
}

/// A peer that is refused.
fn refused(peer: &PeerStatus) -> Option<Check> {
    let refused: u64 = peer.refused.values().sum();
    if refused + peer.dropped == 0 {
        return None;
    }
    let causes = peer.refused.iter();
    let causes: Vec<String> = causes.map(|(cause, n)| format!("{cause} {n}")).collect();
    let found = format!(
        "{}: {refused} calls refused ({}), {} messages dropped",
        peer.name,
        causes.join(", "),
        peer.dropped
    );
    let todo = "`ringback status --refused` shows the calls; rates are keys of [[sip.peers]].";
    Some(Check::problem("peers", found, todo))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ringback_api::{StrangerStatus, StrangersStatus};
    use ringback_routing::Timestamp;

    use super::super::check::State;
    use super::*;

    /// What a server with one peer tells.
    fn sip(messages: u64, refused: u64, strangers: u64) -> SipStatus {
        let at = Timestamp::from_seconds(0);
        let sip = serde_json::json!({
            "overloaded": false, "draining": false,
            "rates": ringback_api::Rates::default(),
            "messages": {}, "dropped": {}, "refused": {}, "socket_drops": 0, "connections": 0,
            "peers": [PeerStatus {
                name: "carrier".to_owned(),
                messages,
                calls: 0,
                refused: BTreeMap::from([("rate".to_owned(), refused)]),
                dropped: 0,
                connections: 0,
            }],
            "strangers": StrangersStatus {
                messages: strangers,
                messages_of_others: 0,
                addresses: vec![StrangerStatus {
                    address: [192, 0, 2, 7].into(),
                    transport: "udp".to_owned(),
                    messages: strangers,
                    first_seen_at: at,
                    last_seen_at: at,
                }],
            },
        });
        serde_json::from_value(sip).unwrap()
    }

    #[test]
    fn a_stranger_is_a_problem_where_no_peer_sends_anything() {
        for (sip, expected) in [
            (sip(0, 0, 0), vec![State::Ok]),
            (sip(5, 0, 0), vec![State::Ok]),
            (sip(5, 0, 2), vec![State::Ok, State::Advice]),
            (sip(0, 0, 2), vec![State::Ok, State::Problem]),
            (sip(5, 1, 0), vec![State::Problem]),
        ] {
            let states: Vec<State> = peers(&sip).iter().map(|check| check.state).collect();
            assert_eq!(states, expected);
        }
    }
}
