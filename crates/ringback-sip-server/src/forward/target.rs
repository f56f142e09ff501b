//! Where a target leads: from its URI to an address, a transport, and our own address on that way.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use parking_lot::RwLock;
use ringback_sip_proto::{Scheme, Transport, Uri};
use ringback_sip_proxy::{Hop, Target};

use crate::config::forward::ForwardConfig;
use crate::peers::Peer;
use crate::policy::Policy;
use crate::server::BoundAddresses;

/// Where our listeners are, and where targets lead.
#[derive(Debug)]
pub(crate) struct Ways {
    /// UDP listeners.
    udp: Vec<SocketAddr>,
    /// TCP listeners.
    tcp: Vec<SocketAddr>,
    /// Our addresses in what is sent on, if not the listeners'.
    advertised: [Option<SocketAddr>; 2],
    /// UDP threads of each UDP listener.
    threads_of_listener: usize,
    /// Our addresses that have been in a `Via`.
    own: RwLock<Vec<SocketAddr>>,
    /// The ways known already; `None`: it leads back to ourselves, or there is none.
    hops: DashMap<(Transport, SocketAddr), Option<Arc<Hop>>, RandomState>,
}

impl Ways {
    /// With these listeners; `threads` is the number of UDP threads in all.
    pub(crate) fn new(config: &ForwardConfig, addresses: &BoundAddresses, threads: usize) -> Self {
        Self {
            udp: addresses.udp.clone(),
            tcp: addresses.tcp.clone(),
            advertised: [config.advertised_udp, config.advertised_tcp],
            threads_of_listener: (threads / addresses.udp.len().max(1)).max(1),
            own: RwLock::default(),
            hops: DashMap::default(),
        }
    }

    /// The UDP listener of a thread, which is the socket of a [`Hop`].
    pub(crate) fn listener_of(&self, thread: usize) -> u32 {
        u32::try_from(thread / self.threads_of_listener).unwrap_or(u32::MAX)
    }

    /// A thread of a UDP listener.
    pub(crate) fn thread_of(&self, listener: u32) -> usize {
        listener as usize * self.threads_of_listener
    }

    /// The target of this URI for a call of this sender; `None`: it is no URI that a request can go to. Where it
    /// leads is not known for a name, and not used if it leads back to ourselves.
    pub(crate) fn target(&self, uri: &[u8], sender: &Peer, policy: &Policy) -> Option<Target> {
        let read = Uri::parse(uri).ok()?;
        if !matches!(read.scheme(), Scheme::Sip | Scheme::Sips) {
            return None;
        }
        // RFC 3261 §19.1.1: what no request URI holds.
        let headers = read.headers().map_or(0, |headers| headers.len() + 1);
        let text = uri.get(..uri.len().saturating_sub(headers))?;
        let text: Arc<str> = std::str::from_utf8(text).ok()?.into();
        let over_tcp = read
            .param("transport")
            .map(|word| word.eq_ignore_ascii_case(b"tcp"));
        let address = address(&read);
        let hop = |transport| address.and_then(|address| self.hop(transport, address));
        let is_secure = read.scheme() == Scheme::Sips;
        let way = if is_secure {
            None
        } else if over_tcp == Some(true) {
            hop(Transport::Tcp)
        } else {
            hop(Transport::Udp)
        };
        let receiver = address.and_then(|address| policy.source(address.ip()));
        Some(Target {
            uri: text,
            // Where the URI names no transport, a long request goes over TCP.
            large: way
                .is_some()
                .then_some(())
                .filter(|()| over_tcp.is_none())
                .and_then(|()| hop(Transport::Tcp)),
            hop: way,
            is_down: false,
            keeps_identity: sender.trusts_identity
                && receiver.is_some_and(|receiver| receiver.peer.is_trusted),
        })
    }

    /// Whether a sent-by is one of ours.
    pub(crate) fn is_own(&self, host: &[u8], port: Option<u16>) -> bool {
        let host = host
            .strip_prefix(b"[")
            .and_then(|host| host.strip_suffix(b"]"))
            .unwrap_or(host);
        let ip: Option<IpAddr> = std::str::from_utf8(host)
            .ok()
            .and_then(|host| host.parse().ok());
        let address = ip.map(|ip| SocketAddr::new(ip, port.unwrap_or(DEFAULT_PORT)));
        address.is_some_and(|address| self.own.read().contains(&address))
    }

    /// The way to an address; `None`: it leads back to ourselves, or no listener of ours is on it.
    fn hop(&self, transport: Transport, address: SocketAddr) -> Option<Arc<Hop>> {
        let key = (transport, address);
        if let Some(known) = self.hops.get(&key) {
            return known.clone();
        }
        let hop = self.find(transport, address);
        if hop.is_none() {
            tracing::warn!(%address, ?transport, "this target is not used: it leads back to this server, or nowhere");
        }
        if self.hops.len() >= MOST_HOPS {
            self.hops.clear();
        }
        self.hops.insert(key, hop.clone());
        hop
    }

    /// Looks for the way.
    fn find(&self, transport: Transport, address: SocketAddr) -> Option<Arc<Hop>> {
        let local = local_address(address)?;
        let (listeners, advertised) = match transport {
            Transport::Udp => (&self.udp, self.advertised[0]),
            Transport::Tcp | Transport::Tls => (&self.tcp, self.advertised[1]),
        };
        let is_ours = |listener: &SocketAddr| {
            listener.port() == address.port()
                && (listener.ip() == address.ip()
                    || (listener.ip().is_unspecified() && local == address.ip()))
        };
        if listeners.iter().any(is_ours) || advertised == Some(address) {
            return None;
        }
        // The listener at the address that the system would take, else one that listens everywhere.
        let serves = |listener: &SocketAddr| listener.is_ipv4() == address.is_ipv4();
        let index = listeners
            .iter()
            .position(|listener| listener.ip() == local)
            .or_else(|| {
                listeners
                    .iter()
                    .position(|listener| serves(listener) && listener.ip().is_unspecified())
            })
            .or_else(|| listeners.iter().position(serves))?;
        let mut own = *listeners.get(index)?;
        if own.ip().is_unspecified() {
            own.set_ip(local);
        }
        let own = advertised.unwrap_or(own);
        let mut known = self.own.write();
        if !known.contains(&own) {
            known.push(own);
        }
        Some(Arc::new(Hop {
            transport,
            address,
            sent_by: own.to_string().into(),
            socket: u32::try_from(index).unwrap_or(u32::MAX),
        }))
    }
}

/// The address in a URI, if it is none that a name stands for.
fn address(uri: &Uri<'_>) -> Option<SocketAddr> {
    let literal = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<IpAddr>().ok();
    let ip = match uri.param("maddr") {
        Some(address) => literal(address)?,
        None => uri.host()?.ip()?,
    };
    let default = if uri.scheme() == Scheme::Sips {
        DEFAULT_PORT + 1
    } else {
        DEFAULT_PORT
    };
    Some(SocketAddr::new(ip, uri.port().unwrap_or(default)))
}

/// The address that the system would send from; nothing is sent.
fn local_address(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The port of a URI or a sent-by that names none.
const DEFAULT_PORT: u16 = 5060;

/// How many ways are kept.
const MOST_HOPS: usize = 65_536;
