//! The configuration that the server runs on: the `[sip]` section, checked and compiled.

pub(crate) mod forward;
pub(crate) mod problem;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringback_routing::{Country, NumberForm, NumberRules, Timestamp};
use ringback_sip_proto::IdentitySource;
use ringback_sip_proto::message::is_header_name;

use crate::config::forward::ForwardConfig;
use crate::config::problem::{Problems, problem};
use crate::peers::{DialedSource, Peer, PeerTable, Refusal, TransportSet};
use crate::spec::{PeerSpec, SipSpec};
use crate::tls;

pub use crate::config::problem::{ConfigProblem, SipConfigError, SipConfigErrors};

/// A checked configuration with its certificates loaded.
#[derive(Clone, Debug)]
pub struct SipConfig {
    /// UDP listeners; TCP listens there too.
    pub(crate) udp: Vec<SocketAddr>,
    /// Further TCP listeners.
    pub(crate) tcp: Vec<SocketAddr>,
    /// TLS listeners.
    pub(crate) tls: Vec<SocketAddr>,
    /// Certificates; present where there are TLS listeners.
    pub(crate) certificates: Option<Arc<rustls::ServerConfig>>,
    /// When the certificate expires, if that can be read.
    pub(crate) certificate_expires_at: Option<Timestamp>,
    /// HEP listeners.
    pub(crate) hep: Vec<SocketAddr>,
    /// The key without which HEP packets are ignored.
    pub(crate) hep_key: Option<Box<[u8]>>,
    /// Whether replies carry the decision.
    pub(crate) decision_headers: bool,
    /// Whether Contact URIs carry the decision.
    pub(crate) contact_headers: bool,
    /// The header in which an outbound INVITE names its agent.
    pub(crate) agent_header: Box<str>,
    /// How calls are sent on.
    pub(crate) forward: ForwardConfig,
    /// UDP workers per listener; at least one.
    pub(crate) workers: usize,
    /// Networks of the load balancers that name the peer of a connection.
    pub(crate) proxy_protocol: Vec<ipnet::IpNet>,
    /// TCP, TLS and HEP connections open at once.
    pub(crate) max_connections: usize,
    /// The same limit for one peer.
    pub(crate) max_connections_per_peer: usize,
    /// How long a silent connection stays open.
    pub(crate) idle_timeout: Duration,
    /// The peers that are served.
    pub(crate) peers: PeerTable,
    /// Whether only loopback is served, because no peer is configured.
    pub(crate) serves_loopback_alone: bool,
}

impl TryFrom<SipSpec> for SipConfig {
    type Error = SipConfigErrors;

    /// Checks every key and loads the certificates; all problems are reported together.
    fn try_from(spec: SipSpec) -> Result<Self, SipConfigErrors> {
        let problems = &mut Problems::default();
        let tls = listeners("sip.tls.listen", &spec.tls.listen, problems);
        let certificates =
            tls::load_certificates("sip.tls", &spec.tls).unwrap_or_else(|mut errors| {
                problems.0.append(&mut errors);
                None
            });
        let greatest = |limit: usize| (1, limit);
        for (key, value, (least, most)) in [
            ("sip.workers", spec.workers, (0, MAX_WORKERS)),
            (
                "sip.max-connections",
                spec.max_connections,
                greatest(usize::MAX),
            ),
            (
                "sip.max-connections-per-peer",
                spec.max_connections_per_peer,
                greatest(usize::MAX),
            ),
            (
                "sip.idle-timeout",
                usize::try_from(spec.idle_timeout).unwrap_or(usize::MAX),
                greatest(MAX_IDLE_SECONDS),
            ),
        ] {
            if value < least {
                problems.add(key, ConfigProblem::Zero);
            } else if value > most {
                problems.add(key, ConfigProblem::TooGreat { value, most });
            }
        }
        if spec.hep.key.as_ref().is_some_and(String::is_empty) {
            problems.add("sip.hep.key", ConfigProblem::Empty);
        }
        let config = Self {
            udp: listeners("sip.udp", &spec.udp, problems),
            tcp: listeners("sip.tcp", &spec.tcp, problems),
            tls,
            certificates,
            certificate_expires_at: spec
                .tls
                .certificate
                .as_deref()
                .and_then(tls::certificate_expires_at),
            hep: listeners("sip.hep.listen", &spec.hep.listen, problems),
            hep_key: spec.hep.key.as_ref().map(|key| key.as_bytes().into()),
            decision_headers: spec.decision_headers,
            contact_headers: spec.contact_headers,
            agent_header: problems.or_default(header_name("sip.agent-header", &spec.agent_header)),
            forward: ForwardConfig::read(&spec, problems),
            workers: match spec.workers {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                workers => workers,
            },
            proxy_protocol: read_balancers(&spec.proxy_protocol, problems),
            max_connections: spec.max_connections,
            max_connections_per_peer: spec.max_connections_per_peer,
            idle_timeout: Duration::from_secs(spec.idle_timeout),
            serves_loopback_alone: spec.peers.is_empty(),
            peers: read_peers(&spec, problems),
        };
        match std::mem::take(&mut problems.0) {
            none if none.is_empty() => Ok(config),
            errors => Err(SipConfigErrors(errors)),
        }
    }
}

impl SipConfig {
    /// The addresses to listen on, by the key that lists them: whether over UDP, whether over TCP (as TLS is, too),
    /// and which.
    #[must_use]
    pub fn listen_addresses(&self) -> [(&'static str, bool, bool, &[SocketAddr]); 4] {
        [
            ("sip.udp", true, true, &self.udp),
            ("sip.tcp", false, true, &self.tcp),
            ("sip.tls.listen", false, true, &self.tls),
            ("sip.hep.listen", true, true, &self.hep),
        ]
    }

    /// When the certificate of `[sip.tls]` expires; `None` where there is none, or it cannot be read.
    #[must_use]
    pub const fn certificate_expires_at(&self) -> Option<Timestamp> {
        self.certificate_expires_at
    }

    /// Limits the number of TCP, TLS and HEP connections to at most this, whatever is configured; false if that
    /// is fewer than configured. For a caller that knows how many files the process may open.
    pub fn limit_connections(&mut self, most: usize) -> bool {
        let is_enough = self.max_connections <= most;
        self.max_connections = self.max_connections.min(most);
        is_enough
    }
}

/// Reads the addresses of listeners.
fn listeners(key: &str, texts: &[String], problems: &mut Problems) -> Vec<SocketAddr> {
    let mut addresses = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => problems.add(
                format!("{key}[{index}]"),
                ConfigProblem::ListenAddress(text.clone()),
            ),
        }
    }
    addresses
}

/// Reads a header name: a token (RFC 3261 §25.1).
fn header_name(key: &str, text: &str) -> Result<Box<str>, SipConfigError> {
    if !is_header_name(text.as_bytes()) {
        return Err(problem(key, ConfigProblem::HeaderName(text.to_owned())));
    }
    Ok(text.into())
}

/// Reads all peers.
fn read_peers(sip: &SipSpec, problems: &mut Problems) -> PeerTable {
    let specs = &*sip.peers;
    let forwards = forward::mode("sip.mode", &sip.mode, problems);
    let mut table = PeerTable::default();
    for (index, spec) in specs.iter().enumerate() {
        let key = format!("sip.peers[{index}]");
        let peer = read_peer(&key, spec, forwards, problems);
        if table.iter().any(|other| other.name == peer.name) {
            let name = peer.name.to_string();
            problems.add(format!("{key}.name"), ConfigProblem::SharedName(name));
        }
        if spec.address.is_empty() {
            problems.add(format!("{key}.address"), ConfigProblem::Empty);
        }
        let peer = table.push(peer);
        for (index, text) in spec.address.iter().enumerate() {
            let key = format!("{key}.address[{index}]");
            match read_network(text) {
                Err(problem) => problems.add(key, problem),
                Ok(network) if !table.assign(network, peer) => {
                    problems.add(key, ConfigProblem::SharedAddress(text.clone()));
                }
                Ok(_) => {}
            }
        }
    }
    if specs.is_empty() {
        NumberRules::default().borrowed().warm_up();
        table.serve_loopback(forwards);
    }
    table
}

/// Reads the networks of load balancers.
fn read_balancers(texts: &[String], problems: &mut Problems) -> Vec<ipnet::IpNet> {
    let mut networks = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match read_network(text) {
            Ok(network) => networks.push(network),
            Err(error) => problems.add(format!("sip.proxy-protocol[{index}]"), error),
        }
    }
    networks
}

/// Reads an address or a CIDR. Bits beyond the prefix are refused: nobody could know whether the one address or
/// the whole network is meant.
pub(crate) fn read_network(text: &str) -> Result<ipnet::IpNet, ConfigProblem> {
    let unreadable = || ConfigProblem::PeerAddress(text.to_owned());
    match text.parse::<ipnet::IpNet>() {
        Ok(network) if network != network.trunc() => Err(ConfigProblem::HostBits {
            value: text.to_owned(),
            network: network.trunc(),
        }),
        Ok(network) => Ok(network),
        Err(_) => match text.parse::<std::net::IpAddr>() {
            Ok(address) => Ok(address.into()),
            Err(_) => Err(unreadable()),
        },
    }
}

/// Reads one peer without its addresses.
fn read_peer(key: &str, spec: &PeerSpec, forwards: bool, problems: &mut Problems) -> Peer {
    let name = match &spec.name {
        Some(name) => name.clone(),
        None => spec.address.first().cloned().unwrap_or_default(),
    };
    if name.is_empty() && spec.name.is_some() {
        problems.add(format!("{key}.name"), ConfigProblem::Empty);
    }
    let mut transports = TransportSet::default();
    for (index, word) in spec.transports.iter().enumerate() {
        if !transports.allow(word) {
            problems.0.push(word_problem(
                format!("{key}.transports[{index}]"),
                word,
                "`udp`, `tcp`, `tls`",
            ));
        }
    }
    let mut identity_order = Vec::new();
    for (index, word) in spec.identity_order.iter().enumerate() {
        let Some(identity) = identity(word) else {
            problems.0.push(word_problem(
                format!("{key}.identity-order[{index}]"),
                word,
                "`p-asserted-identity`, `remote-party-id`, `from`, `p-preferred-identity`, `diversion`",
            ));
            continue;
        };
        let needs_trust = matches!(
            identity,
            IdentitySource::PAssertedIdentity | IdentitySource::RemotePartyId
        );
        if (spec.trust_identity || !needs_trust) && !identity_order.contains(&identity) {
            identity_order.push(identity);
        }
    }
    let min_attestation = spec.min_attestation.as_ref().and_then(|word| {
        let least = word.parse().ok();
        if least.is_none() {
            let key = format!("{key}.min-attestation");
            problems.0.push(word_problem(key, word, "`A`, `B`, `C`"));
        }
        least
    });
    if spec.identity_order.is_empty() {
        problems.add(format!("{key}.identity-order"), ConfigProblem::Empty);
    }
    let refuse = match spec.refuse.as_str() {
        "answer" => Refusal::Answer,
        "silence" => Refusal::Silence,
        word => {
            let key = format!("{key}.refuse");
            problems
                .0
                .push(word_problem(key, word, "`answer`, `silence`"));
            Refusal::Answer
        }
    };
    if spec.rate == Some(0) {
        problems.add(format!("{key}.rate"), ConfigProblem::Zero);
    }
    if spec.max_transactions == Some(0) {
        problems.add(format!("{key}.max-transactions"), ConfigProblem::Zero);
    }
    Peer {
        name: name.into(),
        transports,
        identity_order,
        dialed_order: read_dialed_order(key, spec, problems),
        strip_prefixes: read_strip_prefixes(key, spec, problems),
        rules: read_rules(key, spec, problems),
        form_is_set: spec.number_form.is_some(),
        learn: spec.learn,
        mirrors: spec.learn,
        next_hop: problems.or_default(read_next_hop(key, spec)),
        forwards: spec.mode.as_ref().map_or(forwards, |word| {
            forward::mode(&format!("{key}.mode"), word, problems)
        }),
        records_route: spec.record_route,
        is_trusted: spec.trusted,
        trusts_identity: spec.trust_identity,
        max_transactions: spec.max_transactions,
        min_attestation,
        rate: spec.rate,
        refuse,
        retry_after: spec.retry_after,
    }
}

/// Reads the rules for a peer's numbers.
fn read_rules(key: &str, spec: &PeerSpec, problems: &mut Problems) -> NumberRules {
    let country = spec.country.as_ref().and_then(|code| {
        let country = code.parse::<Country>().ok();
        if country.is_none() {
            problems.add(
                format!("{key}.country"),
                ConfigProblem::Country(code.clone()),
            );
        }
        country
    });
    if let Some(prefix) = &spec.international_prefix
        && (prefix.is_empty()
            || prefix.len() > 8
            || !prefix
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'+'))
    {
        problems.add(
            format!("{key}.international-prefix"),
            ConfigProblem::InternationalPrefix(prefix.clone()),
        );
    }
    let form = match spec.number_form.as_deref() {
        None => NumberForm::default(),
        Some(word) => match NumberForm::ALL.into_iter().find(|form| form.name() == word) {
            Some(form) => form,
            None => {
                let key = format!("{key}.number-form");
                problems
                    .0
                    .push(word_problem(key, word, "`national`, `e164`"));
                NumberForm::default()
            }
        },
    };
    let rules = NumberRules {
        country,
        international_prefix: spec.international_prefix.clone(),
        form,
    };
    // Now, so that the first call does not wait.
    rules.borrowed().warm_up();
    rules
}

/// Reads the sources of a peer's dialed numbers.
fn read_dialed_order(key: &str, spec: &PeerSpec, problems: &mut Problems) -> Vec<DialedSource> {
    let mut order = Vec::new();
    for (index, word) in spec.dialed_order.iter().enumerate() {
        order.push(match word.as_str() {
            "request-uri" => DialedSource::RequestUri,
            name => {
                let key = format!("{key}.dialed-order[{index}]");
                DialedSource::Header(problems.or_default(header_name(&key, name)))
            }
        });
    }
    if order.is_empty() {
        problems.add(format!("{key}.dialed-order"), ConfigProblem::Empty);
    }
    if !spec.dialed_header.is_empty() {
        let name = header_name(&format!("{key}.dialed-header"), &spec.dialed_header);
        let name = problems.or_default(name);
        order.push(DialedSource::Header(name));
    }
    order
}

/// Reads the prefixes to strip from a peer's dialed numbers, longest first.
fn read_strip_prefixes(key: &str, spec: &PeerSpec, problems: &mut Problems) -> Vec<Box<str>> {
    let is_dialed = |byte: u8| byte.is_ascii_digit() || b"+*#".contains(&byte);
    let mut prefixes: Vec<Box<str>> = Vec::new();
    for (index, prefix) in spec.strip_prefixes.iter().enumerate() {
        if prefix.is_empty() || prefix.len() > 16 || !prefix.bytes().all(is_dialed) {
            let key = format!("{key}.strip-prefixes[{index}]");
            problems.add(key, ConfigProblem::Unusable(prefix.clone()));
        }
        prefixes.push(prefix.as_str().into());
    }
    prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
    prefixes
}

/// Reads the next hop of learned INVITEs.
fn read_next_hop(key: &str, spec: &PeerSpec) -> Result<Option<Box<str>>, SipConfigError> {
    let Some(text) = &spec.next_hop else {
        return Ok(None);
    };
    // A user without placeholders would replace every called number.
    let user = text.split_once('@').map(|(user, _)| user);
    let is_fixed = user.is_some_and(|user| !user.contains('{')) || text.contains('?');
    if is_fixed || ringback_sip_proto::validate_target(text).is_err() {
        let key = format!("{key}.next-hop");
        return Err(problem(key, ConfigProblem::NextHop(text.clone())));
    }
    Ok(Some(text.as_str().into()))
}

/// The source of the caller with this name in the configuration.
fn identity(word: &str) -> Option<IdentitySource> {
    Some(match word {
        "p-asserted-identity" => IdentitySource::PAssertedIdentity,
        "remote-party-id" => IdentitySource::RemotePartyId,
        "from" => IdentitySource::From,
        "p-preferred-identity" => IdentitySource::PPreferredIdentity,
        "diversion" => IdentitySource::Diversion,
        _ => return None,
    })
}

/// The error for a word that is not allowed.
fn word_problem(key: String, value: &str, allowed: &'static str) -> SipConfigError {
    let value = value.to_owned();
    problem(key, ConfigProblem::Word { value, allowed })
}

/// More than any machine has cores.
const MAX_WORKERS: usize = 1_024;

/// One week.
const MAX_IDLE_SECONDS: usize = 7 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the error in this section, or nothing.
    fn refused_key(toml: &str) -> String {
        let spec: SipSpec = match toml::from_str(toml) {
            Ok(spec) => spec,
            Err(error) => return error.to_string(),
        };
        match SipConfig::try_from(spec) {
            Ok(_) => String::new(),
            Err(errors) => {
                let keys: Vec<String> = errors.0.into_iter().map(|error| error.key).collect();
                keys.join(" ")
            }
        }
    }

    #[test]
    fn an_empty_section_serves_loopback_on_the_standard_port() {
        let config = SipConfig::try_from(SipSpec::default()).unwrap();
        assert_eq!(config.udp, ["127.0.0.1:5060".parse().unwrap()]);
        assert!(config.tls.is_empty() && config.hep.is_empty());
        let serves = |ip: &str| config.peers.find(ip.parse().unwrap()).is_some();
        assert!(serves("127.0.0.1") && serves("::1") && serves("127.8.0.3"));
        assert!(!serves("10.0.0.1") && !serves("fe80::1"));
        assert_eq!(refused_key(""), "");
    }

    #[test]
    fn every_key_of_a_full_section_is_read() {
        let toml = r#"
            udp = ["0.0.0.0:5060", "[::]:5060"]
            tcp = ["0.0.0.0:5070"]
            decision-headers = false
            contact-headers = true
            agent-header = "X-Campaign-Agent"
            [tls]
            listen = []
            [hep]
            listen = ["127.0.0.1:9060"]
            key = "secret"
            [[peers]]
            name = "carrier-a"
            address = ["203.0.113.0/24", "2001:db8::/32"]
            transports = ["udp", "tls"]
            trust-identity = false
            identity-order = ["remote-party-id", "from"]
            dialed-header = "P-Called-Party-ID"
            country = "BR"
            international-prefix = "00"
            learn = true
            next-hop = "sip:gw.example.net;transport=tcp"
            rate = 1000
            refuse = "silence"
            retry-after = 10
        "#;
        let config = SipConfig::try_from(toml::from_str::<SipSpec>(toml).unwrap()).unwrap();
        let index = config.peers.find("203.0.113.9".parse().unwrap()).unwrap();
        let peer = config.peers.get(index).unwrap();
        assert_eq!(&*peer.name, "carrier-a");
        assert_eq!(peer.identity_order, [IdentitySource::From]);
        assert_eq!(peer.rate, Some(1_000));
        assert_eq!(peer.refuse, Refusal::Silence);
        assert!(config.peers.find("127.0.0.1".parse().unwrap()).is_none());
    }

    #[test]
    fn every_problem_is_reported_not_the_first_alone() {
        let toml = r#"
            udp = ["localhost", "127.0.0.1:5060", "[::1]"]
            agent-header = "a b"
            workers = 5000
            max-connections = 0
            idle-timeout = 99999999
            [tls]
            listen = ["127.0.0.1:0"]
            certificate = "/nonexistent/certificate"
            private-key = "/nonexistent/key"
            client-ca = "/nonexistent/ca"
            [hep]
            key = ""
            [[peers]]
            address = ["10.0.0.1/8", "10.0.0.300"]
            country = "XX"
            rate = 0
            refuse = "no"
            transports = ["udp", "sctp"]
            [[peers]]
            name = "10.0.0.1/8"
            address = []
            next-hop = "tel:+1"
        "#;
        let mut keys: Vec<String> = refused_key(toml).split(' ').map(str::to_owned).collect();
        keys.sort();
        assert_eq!(
            keys,
            [
                "sip.agent-header",
                "sip.hep.key",
                "sip.idle-timeout",
                "sip.max-connections",
                "sip.peers[0].address[0]",
                "sip.peers[0].address[1]",
                "sip.peers[0].country",
                "sip.peers[0].rate",
                "sip.peers[0].refuse",
                "sip.peers[0].transports[1]",
                "sip.peers[1].address",
                "sip.peers[1].name",
                "sip.peers[1].next-hop",
                "sip.tls.certificate",
                "sip.tls.client-ca",
                "sip.tls.private-key",
                "sip.udp[0]",
                "sip.udp[2]",
                "sip.workers",
            ]
        );
    }

    #[test]
    fn a_network_with_host_bits_is_refused_and_the_right_one_named() {
        for (text, network) in [
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("2001:db8::1/32", "2001:db8::/32"),
        ] {
            let problem = read_network(text).unwrap_err().to_string();
            assert!(problem.contains(network), "{problem}");
            assert!(read_network(network).is_ok());
        }
        assert_eq!(read_network("203.0.113.7").unwrap().prefix_len(), 32);
        assert_eq!(read_network("203.0.113.7/32").unwrap().prefix_len(), 32);
    }

    #[test]
    fn an_error_names_its_key() {
        let peer = |line: &str| format!("[[peers]]\naddress = [\"10.0.0.1\"]\n{line}");
        for (toml, key) in [
            ("udp = [\"localhost\"]".to_owned(), "sip.udp[0]"),
            ("tcp = [\"127.0.0.1:1\", \"x\"]".to_owned(), "sip.tcp[1]"),
            ("agent-header = \"a b\"".to_owned(), "sip.agent-header"),
            ("[hep]\nlisten = [\"h\"]".to_owned(), "sip.hep.listen[0]"),
            ("[hep]\nkey = \"\"".to_owned(), "sip.hep.key"),
            (
                "[tls]\nlisten = [\"127.0.0.1:0\"]".to_owned(),
                "sip.tls.certificate sip.tls.private-key",
            ),
            (
                "[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"c\"".to_owned(),
                "sip.tls.private-key",
            ),
            (
                "[tls]\ncertificate = \"/nonexistent\"\nprivate-key = \"/nonexistent\"".to_owned(),
                "sip.tls.certificate sip.tls.private-key",
            ),
            ("[[peers]]".to_owned(), "sip.peers[0].address"),
            (
                "[[peers]]\naddress = [\"10.0.0.1\", \"10.0.0.300\"]".to_owned(),
                "sip.peers[0].address[1]",
            ),
            (
                peer("[[peers]]\nname = \"b\"\naddress = [\"10.0.0.1/32\"]"),
                "sip.peers[1].address[0]",
            ),
            (
                peer("[[peers]]\nname = \"10.0.0.1\"\naddress = [\"10.0.0.2\"]"),
                "sip.peers[1].name",
            ),
            (
                peer("transports = [\"sctp\"]"),
                "sip.peers[0].transports[0]",
            ),
            (peer("identity-order = []"), "sip.peers[0].identity-order"),
            (peer("country = \"XX\""), "sip.peers[0].country"),
            (
                peer("international-prefix = \"a\""),
                "sip.peers[0].international-prefix",
            ),
            (peer("next-hop = \"sip:a@b\""), "sip.peers[0].next-hop"),
            (peer("mode = \"proxy\""), "sip.peers[0].mode"),
            ("mode = \"\"".to_owned(), "sip.mode"),
            (
                "advertise = { udp = \"0.0.0.0:5060\", tcp = \"h:5060\", tls = \"[::1]:0\" }".to_owned(),
                "sip.advertise.udp sip.advertise.tcp sip.advertise.tls",
            ),
            (
                "[forward]\nreply-timeout = 0\nring-timeout = 0\ninvite-timeout = 179\nfailover = [503, 200, 600]"
                    .to_owned(),
                "sip.forward.reply-timeout sip.forward.ring-timeout sip.forward.invite-timeout \
                 sip.forward.failover[1] sip.forward.failover[2]",
            ),
            (
                "[forward]\nca = \"/nonexistent\"".to_owned(),
                "sip.forward.ca",
            ),
            (
                "[forward]\nring-timeout = 99999999\nhold-down = 99999999".to_owned(),
                "sip.forward.ring-timeout sip.forward.hold-down",
            ),
            (peer("next-hop = \"tel:+1\""), "sip.peers[0].next-hop"),
            (peer("rate = 0"), "sip.peers[0].rate"),
            (peer("refuse = \"no\""), "sip.peers[0].refuse"),
            (peer("dialed-header = \"a:\""), "sip.peers[0].dialed-header"),
            ("idle-timeout = 0".to_owned(), "sip.idle-timeout"),
            (
                "proxy-protocol = [\"10.0.0.0/8\", \"balancer\"]".to_owned(),
                "sip.proxy-protocol[1]",
            ),
        ] {
            assert_eq!(refused_key(&toml), key, "{toml}");
        }
        assert!(refused_key("unknown = 1").contains("unknown field `unknown`"));
    }
}
