//! The `[sip]` section of the configuration file, as written.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The `[sip]` section: plain values, checked only for their type.
///
/// [`SipConfig::try_from`](crate::SipConfig) is the only way to the configuration that the server runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SipSpec {
    /// Addresses with ports on which UDP listens; default `["127.0.0.1:5060"]`. TCP listens there
    /// too (RFC 3261 §18.2.1), with port 0 on the one port that is free for both.
    pub udp: Vec<String>,
    /// Further addresses on which TCP listens; default none. An address that is also in `udp` is one listener.
    pub tcp: Vec<String>,
    /// Addresses or CIDRs of load balancers that send a PROXY protocol header, version 1 or 2, before SIP on TCP
    /// and before the handshake on TLS; default none. The address in the header is the peer's.
    pub proxy_protocol: Vec<String>,
    /// What a peer gets that does not say: `redirect` or `forward`; default `redirect`. See [`PeerSpec::mode`].
    pub mode: String,
    /// `sip.advertise`: our addresses in messages that are sent on.
    pub advertise: AdvertiseSpec,
    /// `[sip.forward]`.
    pub forward: ForwardSpec,
    /// `[sip.tls]`.
    pub tls: TlsSpec,
    /// `[sip.hep]`.
    pub hep: HepSpec,
    /// Whether replies carry the decision as `X-Ringback-*` headers; default true.
    pub decision_headers: bool,
    /// Whether Contact URIs carry the same headers, so that the agent sees them; default false.
    pub contact_headers: bool,
    /// The header in which an outbound INVITE names its agent; default `X-Ringback-Agent`.
    pub agent_header: String,
    /// Threads and sockets of each UDP listener; default 0: one per core.
    pub workers: usize,
    /// How many TCP, TLS and HEP connections may be open at once; default 32,768. At most half of the files that
    /// the process may open are used, whatever is set.
    pub max_connections: usize,
    /// How many of them one peer may hold; default 16,384.
    pub max_connections_per_peer: usize,
    /// Seconds without data after which a TCP or TLS connection is closed; default 300.
    pub idle_timeout: u64,
    /// `[[sip.peers]]`: the peers that are served; default none: only loopback is served.
    pub peers: Vec<PeerSpec>,
}

/// The `[sip.forward]` section: how calls are sent on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ForwardSpec {
    /// Seconds that a target may take to its first reply; default 4.
    pub reply_timeout: u64,
    /// Seconds that a target may ring while another one follows; default 20.
    pub ring_timeout: u64,
    /// Seconds that the last target may ring (Timer C); default 180, and not less.
    pub invite_timeout: u64,
    /// Final replies after which the next target is tried, of 300 to 599; default 408, 500, 502, 503, 504, 580.
    pub failover: Vec<u16>,
    /// Seconds for which a target is passed over that gave no reply at all, or refused the connection; default 30; 0: it
    /// is tried with the next call.
    pub hold_down: u64,
    /// Seconds between two OPTIONS to a target, a fifth more or less; default 10; 0: none are sent.
    pub probe: u64,
    /// How many OPTIONS in a row must fail until a target is down; default 3. Two successes bring it back.
    pub probe_down: u32,
    /// Whether targets are asked for peers in redirect mode too, whose 302 then leaves out what is down while another
    /// target is up; default false.
    pub probe_redirects: bool,
    /// Calls that may be open at once, those included that ended less than half a minute ago; default 0: by memory.
    pub max_transactions: usize,
    /// Hosts, names or addresses, to which a call goes on if a target answers with a 3xx that names one of them in its
    /// `Contact`; default none: a 3xx is a final reply like any other. What they answer with a 3xx themselves is not
    /// followed.
    pub follow: Vec<String>,
    /// PEM file: the roots by which the certificates of targets are verified; default: those of the system.
    pub ca: Option<PathBuf>,
}

/// `sip.advertise`: an address with port for each transport; default: that of the listener, and where that is a
/// wildcard the local address on the way to the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AdvertiseSpec {
    /// Over UDP.
    pub udp: Option<String>,
    /// Over TCP.
    pub tcp: Option<String>,
    /// Over TLS.
    pub tls: Option<String>,
}

/// The `[sip.tls]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TlsSpec {
    /// Addresses with ports; default none.
    pub listen: Vec<String>,
    /// PEM file: the certificate, then its chain to the root. Required if `listen` is set.
    pub certificate: Option<PathBuf>,
    /// PEM file: the certificate's private key. Required if `listen` is set.
    pub private_key: Option<PathBuf>,
    /// PEM file: roots of client certificates. If set, clients without one are refused.
    pub client_ca: Option<PathBuf>,
}

/// The `[sip.hep]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HepSpec {
    /// Addresses with ports on which HEPv3 is accepted, over UDP and TCP; default none.
    pub listen: Vec<String>,
    /// If set, packets without this key are ignored.
    pub key: Option<String>,
}

/// One of `[[sip.peers]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PeerSpec {
    /// Its name in metrics and logs; default its first address.
    pub name: Option<String>,
    /// Source addresses: IP addresses or CIDRs, at least one. The longest match wins.
    pub address: Vec<String>,
    /// The transports over which it is served, of `udp`, `tcp` and `tls`; default all.
    pub transports: Vec<String>,
    /// Whether its `P-Asserted-Identity` and `Remote-Party-ID` are believed; default false.
    pub trust_identity: bool,
    /// How far its callers' numbers must be attested (SHAKEN): `A`, `B` or `C`; others are `caller_not_verified`. Counts
    /// `verstat` and `P-Attestation-Indicator` with `trust-identity` alone. Default none: they need not be.
    pub min_attestation: Option<String>,
    /// The sources of the caller, in order; default `p-asserted-identity`, `remote-party-id`, `from`.
    /// `p-preferred-identity` and `diversion` may be listed too.
    pub identity_order: Vec<String>,
    /// The sources of the dialed number: `request-uri` and names of headers. The first number of ours is used,
    /// else the first number; default `request-uri` alone.
    pub dialed_order: Vec<String>,
    /// A header that is read if the sources in `dialed-order` hold no number of ours; default none.
    pub dialed_header: String,
    /// Prefixes to strip from dialed numbers before they are read, such as `9` or `1234#`; default none.
    pub strip_prefixes: Vec<String>,
    /// How digits without `+` or international prefix are read: `national`, as dialed within the country, or
    /// `e164`. Default `national`; without `country`, as set in the environment that owns the dialed number.
    pub number_form: Option<String>,
    /// Country (ISO 3166-1 alpha-2) in which its numbers are read; default none: that of the
    /// environment that owns the dialed number.
    pub country: Option<String>,
    /// The digits that stand for `+` in its numbers; default none: the country's own, else `00`.
    pub international_prefix: Option<String>,
    /// Whether outbound calls are learned from its INVITEs and HEP packets; default false.
    pub learn: bool,
    /// SIP URI without a user to which learned outbound INVITEs are redirected; default none: they are answered
    /// like any other.
    pub next_hop: Option<String>,
    /// `redirect`: its INVITEs are answered with a 302. `forward`: they are sent on to the target. Default: as
    /// `mode` of `[sip]` says.
    pub mode: Option<String>,
    /// Whether Ringback stays in the path of the calls that it sends on for this peer; default false.
    pub record_route: bool,
    /// Whether it may send, and is shown, what is meant for our own: `X-Ringback-*` of others and
    /// `P-Asserted-Identity`; default false.
    pub trusted: bool,
    /// Its calls that may be open at once where they are sent on, counted as under `[sip.forward]`; default none: no
    /// limit but that of all.
    pub max_transactions: Option<usize>,
    /// New INVITEs per second, with a burst of one second; default none: no limit.
    pub rate: Option<u32>,
    /// The reply to an INVITE over the rate or on overload: `answer` (503) or `silence`; default `answer`.
    pub refuse: String,
    /// Seconds for `Retry-After` on 503; default none: the header is left out.
    pub retry_after: Option<u32>,
}

impl Default for SipSpec {
    fn default() -> Self {
        Self {
            udp: vec!["127.0.0.1:5060".to_owned()],
            tcp: Vec::new(),
            proxy_protocol: Vec::new(),
            mode: "redirect".to_owned(),
            advertise: AdvertiseSpec::default(),
            forward: ForwardSpec::default(),
            tls: TlsSpec::default(),
            hep: HepSpec::default(),
            decision_headers: true,
            contact_headers: false,
            agent_header: "X-Ringback-Agent".to_owned(),
            workers: 0,
            max_connections: 32_768,
            max_connections_per_peer: 16_384,
            idle_timeout: 300,
            peers: Vec::new(),
        }
    }
}

impl Default for ForwardSpec {
    fn default() -> Self {
        Self {
            reply_timeout: 4,
            ring_timeout: 20,
            invite_timeout: 180,
            failover: vec![408, 500, 502, 503, 504, 580],
            hold_down: 30,
            probe: 10,
            probe_down: 3,
            probe_redirects: false,
            max_transactions: 0,
            follow: Vec::new(),
            ca: None,
        }
    }
}

impl Default for PeerSpec {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Self {
            name: None,
            address: Vec::new(),
            transports: words(&["udp", "tcp", "tls"]),
            trust_identity: false,
            min_attestation: None,
            identity_order: words(&["p-asserted-identity", "remote-party-id", "from"]),
            dialed_order: words(&["request-uri"]),
            dialed_header: String::new(),
            strip_prefixes: Vec::new(),
            number_form: None,
            country: None,
            international_prefix: None,
            learn: false,
            next_hop: None,
            mode: None,
            record_route: false,
            trusted: false,
            max_transactions: None,
            rate: None,
            refuse: "answer".to_owned(),
            retry_after: None,
        }
    }
}
