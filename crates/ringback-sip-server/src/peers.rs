//! Peers: the sources that are served, and their rules. The longest match of the source address wins.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use ipnet::IpNet;
use ringback_routing::{Attestation, NumberRules};
use ringback_sip_proto::{IdentitySource, Transport};

/// A source of requests, and its rules.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its name in metrics and logs.
    pub(crate) name: Box<str>,
    /// The transports over which it is served.
    pub(crate) transports: TransportSet,
    /// The sources of the caller, only trusted ones, in order.
    pub(crate) identity_order: Vec<IdentitySource>,
    /// The sources of the dialed number, in order.
    pub(crate) dialed_order: Vec<DialedSource>,
    /// Prefixes to strip from dialed numbers, longest first.
    pub(crate) strip_prefixes: Vec<Box<str>>,
    /// The rules for its numbers.
    pub(crate) rules: NumberRules,
    /// Whether its configuration sets how numbers without plus are read.
    pub(crate) form_is_set: bool,
    /// Whether outbound calls are learned from its INVITEs.
    pub(crate) learn: bool,
    /// Whether HEP packets are taken from it.
    pub(crate) mirrors: bool,
    /// Where learned INVITEs are redirected.
    pub(crate) next_hop: Option<Box<str>>,
    /// Whether its INVITEs are sent on, and not redirected.
    pub(crate) forwards: bool,
    /// Whether we stay in the path of calls that are sent on for it.
    pub(crate) records_route: bool,
    /// Whether it may send, and is shown, what is meant for our own.
    pub(crate) is_trusted: bool,
    /// Whether the identities that it asserts are believed.
    pub(crate) trusts_identity: bool,
    /// Its calls that may be open at once; `None`: no limit but that of all.
    pub(crate) max_transactions: Option<usize>,
    /// How far callers' numbers must be attested; `None`: they need not be.
    pub(crate) min_attestation: Option<Attestation>,
    /// New INVITEs per second; `None`: no limit.
    pub(crate) rate: Option<u32>,
    /// The reply to refused INVITEs.
    pub(crate) refuse: Refusal,
    /// Seconds for `Retry-After`.
    pub(crate) retry_after: Option<u32>,
}

/// A source of the dialed number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialedSource {
    /// The user of the request URI.
    RequestUri,
    /// A header: all of its values in order.
    Header(Box<str>),
}

/// The reply to an INVITE that is refused on overload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 503.
    Answer,
    /// No reply at all.
    Silence,
}

/// A set of transports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransportSet(u8);

impl TransportSet {
    /// Every transport.
    const ALL: Self = Self(7);

    /// Adds the transport with this name; false if the name is unknown.
    pub(crate) fn allow(&mut self, word: &str) -> bool {
        self.0 |= match word {
            "udp" => Self::bit(Transport::Udp),
            "tcp" => Self::bit(Transport::Tcp),
            "tls" => Self::bit(Transport::Tls),
            _ => return false,
        };
        true
    }

    /// Whether the transport is in the set.
    pub(crate) const fn contains(self, transport: Transport) -> bool {
        self.0 & Self::bit(transport) != 0
    }

    /// The bit of a transport.
    const fn bit(transport: Transport) -> u8 {
        match transport {
            Transport::Udp => 1,
            Transport::Tcp => 2,
            Transport::Tls => 4,
        }
    }
}

/// All peers, and their addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerTable {
    /// In the order of the configuration.
    peers: Vec<Peer>,
    /// Prefix lengths in use for IPv4, longest first, and the indexes of the peers of each.
    v4: Vec<(u8, Networks<u32>)>,
    /// As `v4`, for IPv6.
    v6: Vec<(u8, Networks<u128>)>,
}

/// The indexes of the peers of one prefix length, by network.
type Networks<Bits> = HashMap<Bits, usize, RandomState>;

impl PeerTable {
    /// Every peer, in the order of the configuration.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter()
    }

    /// The peer of this index.
    pub(crate) fn get(&self, index: usize) -> Option<&Peer> {
        self.peers.get(index)
    }

    /// The index of the peer with this address. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub(crate) fn find(&self, ip: IpAddr) -> Option<usize> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.iter().find_map(|(length, networks)| {
                let unused = 32_u32.saturating_sub(u32::from(*length));
                let network = ip.to_bits() & u32::MAX.checked_shl(unused).unwrap_or(0);
                networks.get(&network).copied()
            }),
            IpAddr::V6(ip) => self.v6.iter().find_map(|(length, networks)| {
                let unused = 128_u32.saturating_sub(u32::from(*length));
                let network = ip.to_bits() & u128::MAX.checked_shl(unused).unwrap_or(0);
                networks.get(&network).copied()
            }),
        }
    }

    /// Adds a peer without addresses; returns its index.
    pub(crate) fn push(&mut self, peer: Peer) -> usize {
        self.peers.push(peer);
        self.peers.len() - 1
    }

    /// Assigns a network to a peer; false if it is assigned already. The network must have no bits beyond its
    /// prefix.
    pub(crate) fn assign(&mut self, network: IpNet, index: usize) -> bool {
        let before =
            match network {
                IpNet::V4(network) => level(&mut self.v4, network.prefix_len())
                    .insert(network.network().to_bits(), index),
                IpNet::V6(network) => level(&mut self.v6, network.prefix_len())
                    .insert(network.network().to_bits(), index),
            };
        before.is_none()
    }

    /// Serves loopback, for a configuration without peers: with every default, and HEP is accepted.
    pub(crate) fn serve_loopback(&mut self, forwards: bool) {
        let index = self.push(Peer::loopback(forwards));
        for network in ["127.0.0.0/8", "::1/128"] {
            if let Ok(network) = network.parse() {
                self.assign(network, index);
            }
        }
    }
}

impl Peer {
    /// The peer for this machine, if no peers are configured.
    fn loopback(forwards: bool) -> Self {
        Self {
            name: "loopback".into(),
            transports: TransportSet::ALL,
            identity_order: vec![IdentitySource::From],
            dialed_order: vec![DialedSource::RequestUri],
            strip_prefixes: Vec::new(),
            rules: NumberRules::default(),
            form_is_set: false,
            learn: false,
            mirrors: true,
            next_hop: None,
            forwards,
            records_route: false,
            is_trusted: false,
            trusts_identity: false,
            max_transactions: None,
            min_attestation: None,
            rate: None,
            refuse: Refusal::Answer,
            retry_after: None,
        }
    }
}

/// The networks of a prefix length; adds the length if needed, longest first.
fn level<Bits>(levels: &mut Vec<(u8, Networks<Bits>)>, length: u8) -> &mut Networks<Bits> {
    let at = levels.partition_point(|(other, _)| *other > length);
    if levels.get(at).is_none_or(|(other, _)| *other != length) {
        levels.insert(at, (length, Networks::default()));
    }
    &mut levels[at].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_match_wins() {
        let mut table = PeerTable::default();
        for network in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3/32",
            "2001:db8::/32",
        ] {
            let peer = Peer {
                name: network.into(),
                ..Peer::loopback(false)
            };
            let index = table.push(peer);
            assert!(table.assign(network.parse().unwrap(), index));
        }
        for (ip, name) in [
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("10.1.2.4", Some("10.1.0.0/16")),
            ("10.2.0.1", Some("10.0.0.0/8")),
            ("192.0.2.1", Some("0.0.0.0/0")),
            ("::ffff:10.1.9.9", Some("10.1.0.0/16")),
            ("2001:db8:1::1", Some("2001:db8::/32")),
            ("2001:db9::1", None),
        ] {
            let found = table.find(ip.parse().unwrap());
            let found = found.and_then(|index| table.get(index));
            let found = found.map(|peer| &*peer.name);
            assert_eq!(found, name, "{ip}");
        }
    }
}
