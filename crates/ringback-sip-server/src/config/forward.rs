//! How calls are sent on: `sip.mode`, `sip.advertise` and `[sip.forward]`, checked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringback_sip_proto::Uri;
use ringback_sip_proxy::Settings;

use crate::config::problem::{ConfigProblem, Problems};
use crate::config::word_problem;
use crate::spec::SipSpec;
use crate::tls;

/// How calls are sent on.
#[derive(Clone, Debug)]
pub(crate) struct ForwardConfig {
    /// The times and rules of the proxy.
    pub(crate) settings: Settings,
    /// How long a target is passed over that gave no reply; zero: not at all.
    pub(crate) hold_down: Duration,
    /// How often a target is asked whether it is there; zero: never.
    pub(crate) probe: Duration,
    /// After how many failures in a row it is down.
    pub(crate) probe_down: u32,
    /// The hosts, in lower case, that a 3xx reply of a target may send calls to.
    pub(crate) follow: Box<[Box<str>]>,
    /// Whether a 302 leaves targets out that are down.
    pub(crate) probe_redirects: bool,
    /// Calls that may be open at once.
    pub(crate) max_transactions: usize,
    /// Our addresses over UDP, TCP and TLS in what is sent on, where they are not the listeners'.
    pub(crate) advertised: [Option<SocketAddr>; 3],
    /// How targets are reached over TLS; `None`: nothing is sent on.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

impl ForwardConfig {
    /// Checks every key.
    pub(super) fn read(spec: &SipSpec, problems: &mut Problems) -> Self {
        let forward = &spec.forward;
        let mut seconds = |key: &str, value: u64, least: u64| {
            let key = format!("sip.forward.{key}");
            if value < least {
                problems.add(key, ConfigProblem::TooSmall { value, least });
            } else if value > MOST_SECONDS {
                let value = usize::try_from(value).unwrap_or(usize::MAX);
                let most = MOST_SECONDS as usize;
                problems.add(key, ConfigProblem::TooGreat { value, most });
            }
            Duration::from_secs(value.min(MOST_SECONDS))
        };
        let settings = Settings {
            reply_timeout: seconds("reply-timeout", forward.reply_timeout, 1),
            ring_timeout: seconds("ring-timeout", forward.ring_timeout, 1),
            // RFC 3261 §16.6 step 11: more than three minutes.
            invite_timeout: seconds("invite-timeout", forward.invite_timeout, 180),
            failover: forward.failover.iter().copied().collect(),
            ..Settings::default()
        };
        let hold_down = seconds("hold-down", forward.hold_down, 0);
        let probe = seconds("probe", forward.probe, 0);
        if forward.probe_down == 0 {
            let key = "sip.forward.probe-down".to_owned();
            problems.add(key, ConfigProblem::TooSmall { value: 0, least: 1 });
        }
        for (index, status) in forward.failover.iter().enumerate() {
            if !settings.failover.contains(*status) {
                let key = format!("sip.forward.failover[{index}]");
                problems.add(key, ConfigProblem::Status(*status));
            }
        }
        let follow = read_follow(&forward.follow, problems);
        let mut advertised = |key: &str, text: &Option<String>| {
            let text = text.as_ref()?;
            let address = text.parse().ok().filter(|address: &SocketAddr| {
                !address.ip().is_unspecified() && address.port() != 0
            });
            if address.is_none() {
                let key = format!("sip.advertise.{key}");
                problems.add(key, ConfigProblem::Advertised(text.clone()));
            }
            address
        };
        Self {
            settings,
            hold_down,
            probe,
            probe_down: forward.probe_down.max(1),
            follow,
            probe_redirects: forward.probe_redirects && !probe.is_zero(),
            max_transactions: match forward.max_transactions {
                0 => by_memory(),
                most => most,
            },
            advertised: [
                advertised("udp", &spec.advertise.udp),
                advertised("tcp", &spec.advertise.tcp),
                advertised("tls", &spec.advertise.tls),
            ],
            tls: read_tls(spec, problems),
        }
    }
}

/// Reads a mode; whether it is the one that sends calls on.
pub(super) fn mode(key: &str, word: &str, problems: &mut Problems) -> bool {
    if !matches!(word, "redirect" | "forward") {
        let problem = word_problem(key.to_owned(), word, "`redirect`, `forward`");
        problems.0.push(problem);
    }
    word == "forward"
}

/// Reads the hosts that a 3xx reply may send calls to.
fn read_follow(hosts: &[String], problems: &mut Problems) -> Box<[Box<str>]> {
    for (index, host) in hosts.iter().enumerate() {
        let uri = format!("sip:{host}");
        let is_host = Uri::parse(uri.as_bytes()).is_ok_and(|uri| {
            uri.user().is_none()
                && uri
                    .host()
                    .is_some_and(|read| read.as_bytes() == host.as_bytes())
        });
        if !is_host {
            let key = format!("sip.forward.follow[{index}]");
            problems.add(key, ConfigProblem::Host(host.clone()));
        }
    }
    let hosts = hosts.iter();
    hosts.map(|host| host.to_ascii_lowercase().into()).collect()
}

/// Reads how targets are reached over TLS, if there may be any.
fn read_tls(spec: &SipSpec, problems: &mut Problems) -> Option<Arc<rustls::ClientConfig>> {
    let forwards = |mode: &String| mode == "forward";
    let is_on = spec.forward.probe_redirects
        || forwards(&spec.mode)
        || spec
            .peers
            .iter()
            .any(|peer| peer.mode.as_ref().is_some_and(forwards));
    if !is_on && spec.forward.ca.is_none() {
        return None;
    }
    let own = spec
        .tls
        .certificate
        .as_deref()
        .zip(spec.tls.private_key.as_deref());
    match tls::client(spec.forward.ca.as_deref(), own) {
        Ok(config) => Some(config),
        Err(problem) => {
            problems.0.extend(problem);
            None
        }
    }
}

/// Calls for which a quarter of the machine's memory is enough.
fn by_memory() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<usize>().ok());
    // In KiB, of which a call takes four at most.
    total.map_or(DEFAULT_TRANSACTIONS, |total| (total / 4 / 4).max(1_000))
}

/// Where the memory of the machine is not known.
const DEFAULT_TRANSACTIONS: usize = 100_000;

/// One day.
const MOST_SECONDS: u64 = 24 * 60 * 60;
