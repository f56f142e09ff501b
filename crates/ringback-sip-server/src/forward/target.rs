//! Where a target leads: from its URI to addresses, a transport, and our own address on that way.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use parking_lot::RwLock;
use ringback_routing::{Directory, order_targets};
use ringback_sip_proto::{Scheme, Transport, Uri};
use ringback_sip_proxy::{Hop, Target};
use smallvec::SmallVec;

use crate::config::forward::ForwardConfig;
use crate::forward::names::{Destination, Named, Names};
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
    /// TLS listeners.
    tls: Vec<SocketAddr>,
    /// Our addresses over UDP, TCP and TLS in what is sent on, if not the listeners'.
    advertised: [Option<SocketAddr>; 3],
    /// UDP threads of each UDP listener.
    threads_of_listener: usize,
    /// Our addresses that have been in a `Via`.
    known_own: RwLock<Vec<SocketAddr>>,
    /// The ways known already; `None`: it leads back to ourselves, or there is none.
    hops: DashMap<Way, Option<Arc<Hop>>, RandomState>,
    /// Where no connection could be opened, and until when none is tried for long requests alone.
    closed: DashMap<SocketAddr, Duration, RandomState>,
    /// The names that certificates must show; their places are the sockets of [`Hop`]s over TLS.
    certified: RwLock<Vec<Arc<str>>>,
}

/// What a way is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    /// Over what.
    transport: Transport,
    /// Where to.
    address: SocketAddr,
    /// The name that the certificate must show, over TLS.
    certified: Option<Box<str>>,
}

/// Why a request goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoWay {
    /// It would come back to ourselves.
    Own,
    /// It leads nowhere.
    Nowhere,
    /// This name is to be resolved first.
    Unresolved(Named),
}

/// Who sends a call where.
#[derive(Clone, Copy)]
pub(crate) struct Sending<'s> {
    /// The sender.
    pub(crate) sender: &'s Peer,
    /// `Call-ID`, which chooses among the servers of a name.
    pub(crate) call_id: &'s [u8],
    /// The rules in force.
    pub(crate) policy: &'s Policy,
    /// The names that are known.
    pub(crate) names: &'s Names,
    /// The uptime of the server.
    pub(crate) now: Duration,
}

impl Ways {
    /// With these listeners; `threads` is the number of UDP threads in all.
    pub(crate) fn new(config: &ForwardConfig, addresses: &BoundAddresses, threads: usize) -> Self {
        Self {
            udp: addresses.udp.clone(),
            tcp: addresses.tcp.clone(),
            tls: addresses.tls.clone(),
            advertised: config.advertised,
            threads_of_listener: (threads / addresses.udp.len().max(1)).max(1),
            known_own: RwLock::default(),
            hops: DashMap::default(),
            closed: DashMap::default(),
            certified: RwLock::default(),
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

    /// The name that the certificate must show on a way over TLS with this socket.
    pub(crate) fn certified(&self, socket: u32) -> Option<Arc<str>> {
        self.certified.read().get(socket as usize).cloned()
    }

    /// Adds what a call may try for this URI, in order: several addresses if its name has several servers. What is
    /// not known, or leads back to ourselves, is added without a way. Nothing is added if it is no URI that a request
    /// can go to.
    pub(crate) fn add_targets(&self, uri: &[u8], sending: Sending<'_>, targets: &mut Vec<Target>) {
        let Ok(read) = Uri::parse(uri) else { return };
        if !matches!(read.scheme(), Scheme::Sip | Scheme::Sips) {
            return;
        }
        // RFC 3261 §19.1.1: what no request URI holds.
        let headers = read.headers().map_or(0, |headers| headers.len() + 1);
        let text = uri.get(..uri.len().saturating_sub(headers));
        let Some(text) = text.and_then(|text| std::str::from_utf8(text).ok()) else {
            return;
        };
        let text: Arc<str> = text.into();
        let before = targets.len();
        let names = |named: &Named| sending.names.destinations(named);
        for (transport, address) in destinations(&read, sending.call_id, names) {
            let Some(hop) = self.hop(transport, address, &read) else {
                continue;
            };
            let receiver = sending.policy.source(address.ip());
            // Where the URI names no transport, a long request goes over TCP.
            let is_free = transport == Transport::Udp
                && read.param("transport").is_none()
                && !self.is_closed(address, sending.now);
            targets.push(Target {
                uri: Arc::clone(&text),
                hop: Some(hop),
                large: is_free
                    .then(|| self.hop(Transport::Tcp, address, &read))
                    .flatten(),
                record_route: Arc::from(*b""),
                is_down: false,
                keeps_identity: sending.sender.trusts_identity
                    && receiver.is_some_and(|receiver| receiver.peer.is_trusted),
                is_followed: false,
            });
            if targets.len() - before >= MOST_TRIED {
                return;
            }
        }
        if targets.len() == before {
            targets.push(Target {
                uri: text,
                hop: None,
                large: None,
                record_route: Arc::from(*b""),
                is_down: false,
                keeps_identity: false,
                is_followed: false,
            });
        }
    }

    /// Notes that no connection could be opened to an address: for a while long requests go there over UDP at once.
    pub(crate) fn note_closed(&self, address: SocketAddr, now: Duration) {
        if self.closed.len() >= MOST_HOPS {
            self.closed.retain(|_, until| now < *until);
        }
        self.closed.insert(address, now + CLOSED_TIME);
    }

    /// Whether no connection could be opened to an address a while ago.
    fn is_closed(&self, address: SocketAddr, now: Duration) -> bool {
        !self.closed.is_empty() && self.closed.get(&address).is_some_and(|until| now < *until)
    }

    /// All ways that a destination leads, those left out that lead back to ourselves.
    pub(crate) fn all(&self, uri: &str, names: &Names) -> Vec<Arc<Hop>> {
        let Ok(read) = Uri::parse(uri.as_bytes()) else {
            return Vec::new();
        };
        let names = |named: &Named| names.destinations(named);
        let ways = destinations(&read, b"", names).into_iter();
        ways.filter_map(|(transport, address)| self.hop(transport, address, &read))
            .collect()
    }

    /// The way that a URI in a request of a dialog leads.
    ///
    /// # Errors
    /// It leads back to ourselves, or nowhere, or its name is to be resolved first.
    pub(crate) fn way_to(
        &self,
        uri: &[u8],
        call_id: &[u8],
        names: &Names,
    ) -> Result<Arc<Hop>, NoWay> {
        let read = Uri::parse(uri).map_err(|_| NoWay::Nowhere)?;
        if let Some(named) = Named::of(&read)
            && names.in_dialog(&named).is_none()
        {
            return Err(NoWay::Unresolved(named));
        }
        let names = |named: &Named| names.in_dialog(named);
        let found = destinations(&read, call_id, names).first().copied();
        let (transport, address) = found.ok_or(NoWay::Nowhere)?;
        self.hop(transport, address, &read).ok_or(NoWay::Own)
    }

    /// The way back to a sender that is at this address and calls itself `host`.
    pub(crate) fn way_back(
        &self,
        transport: Transport,
        address: SocketAddr,
        host: &[u8],
    ) -> Option<Arc<Hop>> {
        let uri = [b"sip:", host].concat();
        self.hop(transport, address, &Uri::parse(&uri).ok()?)
    }

    /// Our own address on the way to another one, and the place of its listener.
    pub(crate) fn own(
        &self,
        transport: Transport,
        address: SocketAddr,
    ) -> Option<(SocketAddr, usize)> {
        let local = local_address(address)?;
        let (listeners, advertised) = self.listeners(transport);
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
            .or_else(|| listeners.iter().position(serves));
        let mut own = match index.and_then(|index| listeners.get(index)) {
            Some(listener) => *listener,
            // Replies come back over the connection; a sent-by is wanted all the same.
            None if transport == Transport::Tls => SocketAddr::new(local, DEFAULT_PORT + 1),
            None => return None,
        };
        if own.ip().is_unspecified() {
            own.set_ip(local);
        }
        Some((advertised.unwrap_or(own), index.unwrap_or_default()))
    }

    /// The listeners of a transport, and our address there in what is sent on, if it is another one.
    fn listeners(&self, transport: Transport) -> (&[SocketAddr], Option<SocketAddr>) {
        match transport {
            Transport::Udp => (&self.udp, self.advertised[0]),
            Transport::Tcp => (&self.tcp, self.advertised[1]),
            Transport::Tls => (&self.tls, self.advertised[2]),
        }
    }

    /// Whether a sent-by is one of ours.
    pub(crate) fn is_own(&self, host: &[u8], port: Option<u16>) -> bool {
        let address = literal(host).map(|ip| SocketAddr::new(ip, port.unwrap_or(DEFAULT_PORT)));
        address.is_some_and(|address| self.known_own.read().contains(&address))
    }

    /// The way to an address; `None`: it leads back to ourselves, or no listener of ours is on it.
    fn hop(&self, transport: Transport, address: SocketAddr, uri: &Uri<'_>) -> Option<Arc<Hop>> {
        let certified = (transport == Transport::Tls)
            .then(|| std::str::from_utf8(uri.host()?.as_bytes()).ok())
            .flatten()
            .map(|host| host.trim_matches(['[', ']']).to_ascii_lowercase().into());
        let way = Way {
            transport,
            address,
            certified,
        };
        if let Some(known) = self.hops.get(&way) {
            return known.clone();
        }
        let hop = self.find(&way);
        if hop.is_none() {
            tracing::warn!(%address, ?transport, "this target is not used: it leads back to this server, or nowhere");
        }
        if self.hops.len() >= MOST_HOPS {
            self.hops.clear();
        }
        self.hops.insert(way, hop.clone());
        hop
    }

    /// Looks for the way.
    fn find(&self, way: &Way) -> Option<Arc<Hop>> {
        let address = way.address;
        let local = local_address(address)?;
        let (listeners, advertised) = self.listeners(way.transport);
        let is_ours = |listener: &SocketAddr| {
            listener.port() == address.port()
                && (listener.ip() == address.ip()
                    || (listener.ip().is_unspecified() && local == address.ip()))
        };
        if listeners.iter().any(is_ours) || advertised == Some(address) {
            return None;
        }
        let (own, index) = self.own(way.transport, address)?;
        let mut known = self.known_own.write();
        if !known.contains(&own) {
            known.push(own);
        }
        let socket = match &way.certified {
            Some(name) => self.certify(name),
            None => index,
        };
        Some(Arc::new(Hop {
            transport: way.transport,
            address,
            sent_by: own.to_string().into(),
            socket: u32::try_from(socket).unwrap_or(u32::MAX),
        }))
    }

    /// The place of a name that a certificate must show.
    fn certify(&self, name: &str) -> usize {
        let mut certified = self.certified.write();
        let known = certified.iter().position(|known| **known == *name);
        known.unwrap_or_else(|| {
            certified.push(name.into());
            certified.len() - 1
        })
    }
}

/// Calls `run` with the URI of every target, with placeholders.
pub(crate) fn for_each_target(directory: &Directory, mut run: impl FnMut(&str)) {
    for agent in directory.all_agents() {
        for target in directory.targets(agent) {
            run(&target.uri);
        }
    }
    for environment in directory.environments() {
        for target in &environment.record.fallback_targets {
            run(&target.uri);
        }
    }
}

/// Where a URI leads: its address, or those of the servers of its name, best first.
fn destinations(
    uri: &Uri<'_>,
    call_id: &[u8],
    names: impl FnOnce(&Named) -> Option<Arc<Vec<Destination>>>,
) -> SmallVec<[(Transport, SocketAddr); 2]> {
    if let Some(named) = Named::of(uri) {
        let known = names(&named).unwrap_or_default();
        let mut ordered = SmallVec::new();
        order_targets(&**known, call_id, &mut ordered);
        return ordered
            .iter()
            .map(|destination| (destination.transport, destination.address))
            .collect();
    }
    let is_secure = uri.scheme() == Scheme::Sips;
    let transport = match uri.param("transport") {
        _ if is_secure => Transport::Tls,
        None => Transport::Udp,
        Some(word) if word.eq_ignore_ascii_case(b"udp") => Transport::Udp,
        Some(word) if word.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
        Some(_) => return SmallVec::new(),
    };
    let ip = match uri.param("maddr") {
        Some(address) => literal(address),
        None => uri.host().and_then(|host| host.ip()),
    };
    let default = DEFAULT_PORT + u16::from(is_secure);
    ip.map(|ip| {
        (
            transport,
            SocketAddr::new(ip, uri.port().unwrap_or(default)),
        )
    })
    .into_iter()
    .collect()
}

/// An address, an IPv6 one with or without its brackets.
fn literal(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    text.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
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

/// How long no connection is tried for a long request where none could be opened.
const CLOSED_TIME: Duration = Duration::from_secs(30);

/// How many servers of one name a call tries.
const MOST_TRIED: usize = 4;
