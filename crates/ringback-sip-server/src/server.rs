//! The server: binds, runs, reloads, drains and stops all listeners.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use ringback_routing::{EnvironmentId, Timestamp};
use ringback_sip_proto::Transport;
use socket2::{Domain, Protocol, Socket, Type};

use crate::admission::packet_filter::PacketFilter;
use crate::config::SipConfig;
use crate::forward::{names, probes};
use crate::metrics::Gauges;
use crate::observation::refused::RefusedCall;
use crate::policy::Policy;
use crate::program::Program;
use crate::shared::{Phase, Shared, reached};
use crate::status::{SipStatus, TargetHealth};
use crate::transport::acceptor::{self, Acceptor};
use crate::transport::hep;
use crate::transport::service::Service;
use crate::transport::udp::{self, Worker};

/// A SIP server; clones share one.
#[derive(Debug)]
pub struct SipServer<P> {
    /// The state shared with all listeners.
    shared: Arc<Shared<P>>,
    /// The state of the server itself.
    own: Arc<Own>,
}

/// The state of the server itself.
#[derive(Debug)]
struct Own {
    /// The sockets, until the server runs and takes them.
    sockets: Mutex<Option<Sockets>>,
    /// The addresses of the sockets.
    addresses: BoundAddresses,
    /// When the certificate expires, if that can be read.
    certificate_expires_at: Mutex<Option<Timestamp>>,
}

/// The addresses of a server: with the real ports, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoundAddresses {
    /// UDP.
    pub udp: Vec<SocketAddr>,
    /// TCP: those of the configuration first, then those of UDP.
    pub tcp: Vec<SocketAddr>,
    /// TLS.
    pub tls: Vec<SocketAddr>,
    /// HEP, UDP and TCP alike.
    pub hep: Vec<SocketAddr>,
}

/// Opened listeners of a server that does not run yet; datagrams and connections wait until it
/// [runs](SipServer::run).
///
/// Opening them first shows whether a start can succeed, before anything is written to disk.
#[derive(Debug)]
pub struct SipListeners {
    /// The sockets.
    sockets: Sockets,
    /// The addresses of the sockets.
    addresses: BoundAddresses,
}

impl SipListeners {
    /// Opens all listeners of a configuration.
    ///
    /// # Errors
    /// An address is in use, or is not of this machine.
    pub fn bind(config: &SipConfig) -> Result<Self, BindError> {
        let (sockets, addresses) = Sockets::bind(config)?;
        Ok(Self { sockets, addresses })
    }
}

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} over {transport}")]
pub struct BindError {
    /// The address of the configuration.
    pub address: SocketAddr,
    /// `udp`, `tcp`, `tls` or `hep`.
    pub transport: &'static str,
    /// The error of the system.
    #[source]
    pub source: io::Error,
}

/// Bound sockets.
#[derive(Debug, Default)]
struct Sockets {
    /// UDP, several per address.
    udp: Vec<UdpSocket>,
    /// TCP.
    tcp: Vec<TcpListener>,
    /// TLS.
    tls: Vec<TcpListener>,
    /// HEP over UDP.
    hep_udp: Vec<UdpSocket>,
    /// HEP over TCP.
    hep_tcp: Vec<TcpListener>,
}

impl<P> Clone for SipServer<P> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            own: Arc::clone(&self.own),
        }
    }
}

impl<P: Program> SipServer<P> {
    /// Opens all listeners; they answer once the server [runs](Self::run).
    ///
    /// `key` should be secret, random, and the same at every start of a node: To tags are derived from it.
    ///
    /// # Errors
    /// An address is in use, or is not of this machine.
    pub fn bind(config: SipConfig, key: [u8; 16], program: P) -> Result<Self, BindError> {
        let listeners = SipListeners::bind(&config)?;
        Ok(Self::new(config, listeners, key, program))
    }

    /// A server on listeners that were opened for this configuration; `key` as in
    /// [`bind`](Self::bind).
    #[must_use]
    pub fn new(config: SipConfig, listeners: SipListeners, key: [u8; 16], program: P) -> Self {
        let SipListeners { sockets, addresses } = listeners;
        if config.serves_loopback_alone
            && let Some(address) = addresses.reachable()
        {
            tracing::warn!(
                %address,
                "no [[sip.peers]] are configured: only this machine is served; all other sources are dropped as strangers"
            );
        }
        let shards = sockets.udp.len() + 1;
        let policy = Policy::new(&config, shards, None);
        let shared = Shared::new(program, key, policy, &addresses, shards);
        shared.certificates.store(config.certificates);
        Self {
            shared: Arc::new(shared),
            own: Arc::new(Own {
                sockets: Mutex::new(Some(sockets)),
                addresses,
                certificate_expires_at: Mutex::new(config.certificate_expires_at),
            }),
        }
    }

    /// The addresses of the listeners.
    #[must_use]
    pub fn addresses(&self) -> &BoundAddresses {
        &self.own.addresses
    }

    /// Serves until [`stop`](Self::stop); returns when every thread and connection has ended. Needs
    /// a Tokio runtime with I/O and time. A second call returns at once.
    ///
    /// # Errors
    /// A thread could not be started.
    pub async fn run(&self) -> io::Result<()> {
        let Some(sockets) = self.own.sockets.lock().take() else {
            return Ok(());
        };
        let stopping = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let receiving: io::Result<Vec<_>> = sockets.udp.iter().map(UdpSocket::try_clone).collect();
        let receiving = receiving?;
        if self.shared.forward.is_on {
            let sending: io::Result<Box<[_]>> =
                sockets.udp.iter().map(UdpSocket::try_clone).collect();
            let _first = self.shared.forward.sockets.set(sending?);
            let runtime = tokio::runtime::Handle::current();
            let _first = self.shared.forward.streams.runtime.set(runtime);
            for socket in &sockets.udp {
                // ACKs end transactions.
                if let Err(error) = PacketFilter::default().attach(socket, true) {
                    tracing::debug!(%error, "the packet filter cannot be changed");
                }
            }
        }
        let started = self.start(sockets, &stopping, &mut threads);
        if started.is_ok() {
            reached(&mut self.shared.phase(), Phase::Stopped).await;
        } else {
            self.stop();
        }
        stopping.store(true, Ordering::Relaxed);
        receiving.iter().for_each(udp::wake);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _panicked = thread.join();
            }
        });
        let _panicked = joined.await;
        // Connections notice the phase by themselves; the server does not wait for one that hangs.
        self.shared.tasks.close();
        let _stuck = tokio::time::timeout(CLOSING_TIME, self.shared.tasks.wait()).await;
        started
    }

    /// Applies a new configuration: peers, headers and certificates. Listeners stay, and so do the counters of
    /// peers that keep their names.
    pub fn reload(&self, config: SipConfig) {
        let shared = &self.shared;
        let before = shared.policy.load_full();
        let policy = Policy::new(&config, shared.shards(), Some(&before));
        if policy.has_forwarding && !shared.forward.is_on {
            tracing::warn!(
                "no peer was in forward mode at the start: calls are redirected until the next one"
            );
        }
        shared.policy.store(Arc::new(policy));
        if config.certificates.is_some() {
            self.shared.certificates.store(config.certificates);
            *self.own.certificate_expires_at.lock() = config.certificate_expires_at;
        }
        shared.metrics.reloads.bump_shared();
    }

    /// From now on OPTIONS gets 503 and new connections are refused; calls are still served.
    pub fn drain(&self) {
        self.shared.enter(Phase::Draining);
        self.shared.forward.wake();
    }

    /// Asks this server for names, and not the one that the system asks. To be called before [`run`](Self::run).
    pub fn resolve_by(&self, name_server: SocketAddr) {
        *self.shared.forward.names.server.lock() = Some(name_server);
    }

    /// Forwarded calls that have no final reply, some moments after the server began to [drain](Self::drain).
    #[must_use]
    pub fn ringing(&self) -> usize {
        self.shared.forward.ringing()
    }

    /// Stops everything; [`run`](Self::run) returns soon.
    pub fn stop(&self) {
        self.shared.enter(Phase::Stopped);
    }

    /// Appends all metrics in the Prometheus text format; names start with `ringback_sip_`.
    pub fn write_metrics(&self, out: &mut String) {
        let shared = &self.shared;
        shared
            .metrics
            .write(&shared.policy.load(), &self.gauges(), out);
        let forward = &shared.forward;
        forward
            .counters
            .write(forward.open(), forward.names.states(), out);
        let down = forward.health.count(shared.now().uptime);
        forward.counters.write_down(down, out);
    }

    /// The status of the server, and its totals since the start.
    #[must_use]
    pub fn status(&self) -> SipStatus {
        let shared = &self.shared;
        let policy = shared.policy.load();
        let strangers = shared.observations.strangers(&policy, shared.now());
        let rates = shared.observations.rates();
        shared
            .metrics
            .status(&policy, &self.gauges(), rates, strangers)
    }

    /// When the certificate of TLS expires; `None` where there is none, or it cannot be read.
    #[must_use]
    pub fn certificate_expires_at(&self) -> Option<Timestamp> {
        *self.own.certificate_expires_at.lock()
    }

    /// The latest refused INVITEs, newest first, at most `limit` of them.
    #[must_use]
    pub fn refused_calls(&self, limit: usize) -> Vec<RefusedCall> {
        let shared = &self.shared;
        shared
            .observations
            .latest_refused(&shared.policy.load(), shared.now(), limit)
    }

    /// How a target is, as far as is known without an operator, and how the calls of an environment went there;
    /// `destination` is that of [`ringback_sip_proto::destination`].
    #[must_use]
    pub fn target_health(&self, environment: EnvironmentId, destination: &str) -> TargetHealth {
        let forward = &self.shared.forward;
        let hops = forward.ways.all(destination, &forward.names);
        let ways: Vec<_> = hops
            .iter()
            .map(|hop| (hop.transport, hop.address))
            .collect();
        let now = self.shared.now().uptime;
        forward.health.of(&ways, environment, now)
    }

    /// Values that are read when somebody asks for the status.
    fn gauges(&self) -> Gauges {
        let shared = &self.shared;
        Gauges {
            connections: self.shared.connections.load(Ordering::Relaxed) as u64,
            remembered: shared.redirect.reply_cache.len() as u64,
            draining: shared.is_draining(),
            overloaded: shared.metrics.is_overloaded(),
            socket_drops: socket_drops(&self.own.addresses.udp),
        }
    }

    /// Starts a thread or task for every socket.
    fn start(
        &self,
        sockets: Sockets,
        stopping: &Arc<AtomicBool>,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> io::Result<()> {
        let shared = &self.shared;
        for (shard, socket) in sockets.udp.into_iter().enumerate() {
            let worker = Worker {
                socket,
                shared: Arc::clone(shared),
                shard,
                stopping: Arc::clone(stopping),
            };
            threads.push(spawn(format!("sip-udp-{shard}"), move || worker.run())?);
        }
        for socket in sockets.hep_udp {
            let (shared, stopping) = (Arc::clone(shared), Arc::clone(stopping));
            let run = move || hep::serve_udp(&shared, &socket, &stopping);
            threads.push(spawn("hep-udp".to_owned(), run)?);
        }
        let (upkeep, stopping) = (Arc::clone(shared), Arc::clone(stopping));
        let forget = move || {
            let shared = upkeep;
            let pause = || {
                if !stopping.load(Ordering::Relaxed) {
                    std::thread::sleep(BREATH);
                }
            };
            while !stopping.load(Ordering::Relaxed) {
                shared.redirect.learning.tick(shared.now());
                let policy = shared.policy.load();
                shared
                    .observations
                    .tick(|| shared.metrics.totals(), &policy, shared.now());
                drop(policy);
                let clock = || shared.now().second();
                shared.redirect.reply_cache.tick(clock, pause);
                std::thread::sleep(TICK);
            }
        };
        threads.push(spawn("sip-upkeep".to_owned(), forget)?);
        if shared.forward.is_on {
            shared.tasks.spawn(names::run(Arc::clone(shared)));
            shared.tasks.spawn(probes::run(Arc::clone(shared)));
        }
        let phase = || self.shared.phase();
        for (listeners, service) in [
            (sockets.tcp, Service::Sip(Transport::Tcp)),
            (sockets.tls, Service::Sip(Transport::Tls)),
            (sockets.hep_tcp, Service::Hep),
        ] {
            for listener in listeners {
                let acceptor = Acceptor::new(listener, service, Arc::clone(&self.shared))?;
                shared.tasks.spawn(acceptor.run(phase()));
            }
        }
        Ok(())
    }
}

impl BoundAddresses {
    /// The first listener that other machines can reach.
    fn reachable(&self) -> Option<SocketAddr> {
        let mut all = [&self.udp, &self.tcp, &self.tls, &self.hep]
            .into_iter()
            .flatten();
        all.find(|address| !address.ip().to_canonical().is_loopback())
            .copied()
    }
}

impl Sockets {
    /// Opens every listener of a configuration.
    fn bind(config: &SipConfig) -> Result<(Self, BoundAddresses), BindError> {
        let mut sockets = Self::default();
        let mut bound = BoundAddresses::default();
        // TCP listens where UDP does; an address in both lists is one pair of listeners.
        let mut alone = config.tcp.clone();
        let mut beside_udp = Vec::new();
        for &address in &config.udp {
            alone.retain(|other| *other != address);
            let (udp, tcp) = bind_pair(address, config.workers)?;
            bound.udp.push(local(&tcp, address, "udp")?);
            sockets.udp.extend(udp);
            beside_udp.push(tcp);
        }
        for address in alone {
            let listener = listen(address).map_err(failed(address, "tcp"))?;
            bound.tcp.push(local(&listener, address, "tcp")?);
            sockets.tcp.push(listener);
        }
        bound.tcp.extend_from_slice(&bound.udp);
        sockets.tcp.append(&mut beside_udp);
        for &address in &config.tls {
            let listener = listen(address).map_err(failed(address, "tls"))?;
            bound.tls.push(local(&listener, address, "tls")?);
            sockets.tls.push(listener);
        }
        for &address in &config.hep {
            let (mut udp, tcp) = bind_pair(address, 1).map_err(|error| BindError {
                transport: "hep",
                ..error
            })?;
            bound.hep.push(local(&tcp, address, "hep")?);
            sockets.hep_udp.append(&mut udp);
            sockets.hep_tcp.push(tcp);
        }
        Ok((sockets, bound))
    }
}

/// Opens UDP sockets and a TCP listener on one address; with port 0, on a port free for both.
fn bind_pair(
    address: SocketAddr,
    workers: usize,
) -> Result<(Vec<UdpSocket>, TcpListener), BindError> {
    for attempt in 0.. {
        let is_last = address.port() != 0 || attempt == PORTS_TRIED;
        let first = udp::bind(address, workers > 1).map_err(failed(address, "udp"))?;
        let chosen = first.local_addr().map_err(failed(address, "udp"))?;
        let tcp = match listen(chosen) {
            Ok(tcp) => tcp,
            Err(_) if !is_last => continue,
            Err(error) => return Err(failed(address, "tcp")(error)),
        };
        let mut udp = vec![first];
        for _ in 1..workers {
            udp.push(udp::bind(chosen, true).map_err(failed(address, "udp"))?);
        }
        return Ok((udp, tcp));
    }
    Err(failed(address, "udp")(io::ErrorKind::AddrInUse.into()))
}

/// Opens a TCP listener.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for connections of the earlier run.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(acceptor::BACKLOG)?;
    Ok(socket.into())
}

/// The real address of a listener.
fn local(
    listener: &TcpListener,
    address: SocketAddr,
    transport: &'static str,
) -> Result<SocketAddr, BindError> {
    listener.local_addr().map_err(failed(address, transport))
}

/// Turns an error of the system into a [`BindError`].
fn failed(address: SocketAddr, transport: &'static str) -> impl FnOnce(io::Error) -> BindError {
    move |source| BindError {
        address,
        transport,
        source,
    }
}

/// Starts a named thread.
fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(run)
}

/// Datagrams that the system dropped at the sockets with these ports, from `/proc`; 0 if it cannot be read.
fn socket_drops(addresses: &[SocketAddr]) -> u64 {
    let mut drops = 0;
    for file in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        let table = std::fs::read_to_string(file).unwrap_or_default();
        for line in table.lines().skip(1) {
            let mut fields = line.split_ascii_whitespace();
            let port = fields
                .nth(1)
                .and_then(|local| u16::from_str_radix(local.rsplit(':').next()?, 16).ok());
            let is_ours = addresses.iter().any(|ours| Some(ours.port()) == port);
            if is_ours {
                let dropped = fields
                    .next_back()
                    .and_then(|field| field.parse::<u64>().ok());
                drops += dropped.unwrap_or(0);
            }
        }
    }
    drops
}

/// How many ports are tried to find one that is free for UDP and TCP.
const PORTS_TRIED: u32 = 64;

/// How long open connections may take to end when the server stops.
const CLOSING_TIME: Duration = Duration::from_secs(3);

/// How often old entries are forgotten.
const TICK: Duration = Duration::from_millis(250);

/// The pause between pieces of memory for answers, which take about 0.05 ms each. So a generation of 134 MB takes
/// four seconds to prepare; the room left in the one before is enough for that time.
const BREATH: Duration = Duration::from_millis(2);
