//! How calls are sent on: `sip.mode`, `sip.advertise` and `[sip.forward]`, checked.

use std::net::SocketAddr;
use std::time::Duration;

use ringback_sip_proxy::Settings;

use crate::config::problem::{ConfigProblem, Problems};
use crate::config::word_problem;
use crate::spec::SipSpec;

/// How calls are sent on.
#[derive(Clone, Debug)]
pub(crate) struct ForwardConfig {
    /// The times and rules of the proxy.
    pub(crate) settings: Settings,
    /// Calls that may be open at once.
    pub(crate) max_transactions: usize,
    /// Our address over UDP in what is sent on, if it is not the listener's.
    pub(crate) advertised_udp: Option<SocketAddr>,
    /// The same over TCP.
    pub(crate) advertised_tcp: Option<SocketAddr>,
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
        for (index, status) in forward.failover.iter().enumerate() {
            if !settings.failover.contains(*status) {
                let key = format!("sip.forward.failover[{index}]");
                problems.add(key, ConfigProblem::Status(*status));
            }
        }
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
            max_transactions: match forward.max_transactions {
                0 => by_memory(),
                most => most,
            },
            advertised_udp: advertised("udp", &spec.advertise.udp),
            advertised_tcp: advertised("tcp", &spec.advertise.tcp),
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
