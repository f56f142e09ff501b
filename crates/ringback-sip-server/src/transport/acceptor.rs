//! Accepts connections, for SIP and HEP alike: who may open one and how many, and what comes before the first
//! message: the PROXY protocol and TLS.
//!
//! A connection of a load balancer counts among all connections from the start, and among those of a peer once
//! the header names the peer.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringback_sip_proto::Transport;
use ringback_sip_proto::proxy_protocol::{ProxyHeader, read_header};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::counters::Connection;
use crate::policy::{PeerState, Policy};
use crate::program::Program;
use crate::shared::{Phase, Shared, reached};
use crate::transport::hep::Mirror;
use crate::transport::service::Service;
use crate::transport::stream::{self, SipStream};

/// A listener for connections.
#[derive(Debug)]
pub(crate) struct Acceptor<P> {
    /// The socket.
    listener: tokio::net::TcpListener,
    /// The protocol of its connections.
    service: Service,
    /// The state shared by all listeners.
    shared: Arc<Shared<P>>,
}

impl<P: Program> Acceptor<P> {
    /// Takes over a bound socket.
    pub(crate) fn new(
        listener: TcpListener,
        service: Service,
        shared: Arc<Shared<P>>,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: tokio::net::TcpListener::from_std(listener)?,
            service,
            shared,
        })
    }

    /// Accepts until the server drains.
    pub(crate) async fn run(self, mut phase: watch::Receiver<Phase>) {
        loop {
            let accepted = tokio::select! {
                biased;
                _ = reached(&mut phase, Phase::Draining) => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, source)) => {
                    let mut stream = Some(stream);
                    if let Err(refused) = self.admit(&mut stream, source) {
                        // Before the connection is closed, so that a client that sees the close finds it counted.
                        self.shared.metrics.connection(refused);
                    }
                }
                Err(error) => {
                    let metrics = &self.shared.metrics;
                    metrics.connection(Connection::AcceptFailed);
                    tracing::debug!(%error, "a connection could not be accepted");
                    if !is_of_one_connection(&error) {
                        // Out of file descriptors: only waiting helps.
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    /// Serves a connection, or drops it, which closes it at once.
    fn admit(
        &self,
        accepted: &mut Option<TcpStream>,
        source: SocketAddr,
    ) -> Result<(), Connection> {
        let policy = self.shared.policy.load();
        // A load balancer names the peer of a connection once that is open.
        let is_named_later = self.service != Service::Hep && policy.is_balancer(source.ip());
        let of_peer = if is_named_later {
            None
        } else {
            Some(admit(self.service, &self.shared, &policy, source.ip())?)
        };
        let of_all = self.take_slot(&policy)?;
        let Some(stream) = accepted.take() else {
            return Ok(());
        };
        let shared = Arc::clone(&self.shared);
        match self.service {
            Service::Sip(transport) => self.spawn(of_all, source, async move {
                let opened = open(&shared, stream, source, transport, of_peer).await;
                opened.unwrap_or_else(|end| end)
            }),
            Service::Hep => self.spawn((of_all, of_peer), source, async move {
                shared.metrics.connection(Connection::Opened);
                keep_alive(&stream);
                stream::serve(&shared, stream, Mirror::new(&shared, source)).await
            }),
        }
        Ok(())
    }

    /// Takes a slot among all connections.
    fn take_slot(&self, policy: &Policy) -> Result<Slot<Shared<P>>, Connection> {
        let limit = policy.max_connections;
        Slot::take(&self.shared, limit, |shared| &shared.connections).ok_or(Connection::Limit)
    }

    /// Runs a connection in a task of its own, and counts how it ends.
    fn spawn(
        &self,
        slots: impl Send + 'static,
        source: SocketAddr,
        connection: impl Future<Output = Connection> + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move {
            let end = connection.await;
            shared.metrics.connection(end);
            tracing::debug!(%source, ?end, "connection closed");
            drop(slots);
        });
    }
}

/// Takes a slot among the connections of the peer of this address.
fn admit<P: Program>(
    service: Service,
    shared: &Shared<P>,
    policy: &Policy,
    ip: IpAddr,
) -> Result<Slot<PeerState>, Connection> {
    let peer = policy.source(ip).filter(|peer| service.serves(peer));
    let peer = peer.ok_or_else(|| {
        shared.observations.stranger_elsewhere(ip, service.into());
        Connection::Stranger
    })?;
    let limit = policy.max_connections_per_peer;
    Slot::take(peer.state, limit, |state| &state.connections).ok_or(Connection::PeerLimit)
}

/// A slot among a limited number, given back when dropped.
struct Slot<T> {
    /// The owner of the counter.
    counted: Arc<T>,
    /// The counter of slots in use.
    count: fn(&T) -> &AtomicUsize,
}

impl<T> Slot<T> {
    /// Takes a slot, if one is left.
    fn take(counted: &Arc<T>, limit: usize, count: fn(&T) -> &AtomicUsize) -> Option<Self> {
        let taken = count(counted).fetch_add(1, Ordering::Relaxed);
        let slot = Self {
            counted: Arc::clone(counted),
            count,
        };
        (taken < limit).then_some(slot)
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        (self.count)(&self.counted).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Finds the peer of a connection, does the TLS handshake if needed, and serves the connection to its end.
///
/// # Errors
/// The connection ends before it is served.
async fn open<P: Program>(
    shared: &Arc<Shared<P>>,
    mut stream: TcpStream,
    source: SocketAddr,
    transport: Transport,
    of_peer: Option<Slot<PeerState>>,
) -> Result<Connection, Connection> {
    let (source, _of_peer) = match of_peer {
        Some(slot) => (source, slot),
        None => {
            let named = in_time(shared, named_source(&mut stream), Connection::ProxyHeader);
            let source = named
                .await?
                .ok_or(Connection::ProxyHeader)?
                .unwrap_or(source);
            let policy = shared.policy.load();
            let admitted = admit(Service::Sip(transport), shared, &policy, source.ip());
            (source, admitted?)
        }
    };
    shared.metrics.connection(Connection::Opened);
    // A reply is one write; waiting for more data would only delay it.
    let _best_effort = stream.set_nodelay(true);
    let protocol = SipStream::new(shared, source, transport);
    if transport != Transport::Tls {
        return Ok(stream::serve(shared, stream, protocol).await);
    }
    // In a box, so that connections without TLS stay small.
    Box::pin(async {
        let certificates = shared.certificates.load_full();
        let acceptor = tokio_rustls::TlsAcceptor::from(certificates.ok_or(Connection::Handshake)?);
        let handshake = in_time(shared, acceptor.accept(stream), Connection::Handshake);
        let stream = handshake.await?.map_err(|error| {
            tracing::debug!(%source, %error, "TLS handshake failed");
            Connection::Handshake
        })?;
        Ok(stream::serve(shared, stream, protocol).await)
    })
    .await
}

/// Waits for a step of opening a connection, with a limit, and no longer than the server runs.
async fn in_time<P, T>(
    shared: &Shared<P>,
    opening: impl Future<Output = T>,
    too_late: Connection,
) -> Result<T, Connection> {
    let mut phase = shared.phase();
    tokio::select! {
        opened = timeout(OPENING_TIME, opening) => opened.map_err(|_| too_late),
        _ = reached(&mut phase, Phase::Stopped) => Err(Connection::Stopped),
    }
}

/// Reads the PROXY protocol header of a load balancer, and nothing behind it. `Some(None)`: the connection is for
/// the balancer itself; `None`: there is no usable header.
async fn named_source(stream: &mut TcpStream) -> Option<Option<SocketAddr>> {
    let mut header = Vec::new();
    loop {
        let wanted = match read_header(&header) {
            ProxyHeader::Incomplete(wanted) => wanted,
            ProxyHeader::Named(source) => return Some(Some(source)),
            ProxyHeader::Own => return Some(None),
            ProxyHeader::Broken => return None,
        };
        let before = header.len();
        header.resize(before + wanted.min(HEADER_PIECE), 0);
        let room = header.get_mut(before..).unwrap_or_default();
        let length = stream.read(room).await.ok().filter(|length| *length > 0)?;
        header.truncate(before + length);
    }
}

/// Lets the system detect that a mirror is gone: it may be silent for long.
fn keep_alive(stream: &TcpStream) {
    let probes = TcpKeepalive::new()
        .with_time(KEEP_ALIVE_IDLE)
        .with_interval(KEEP_ALIVE_INTERVAL);
    let _best_effort = SockRef::from(stream).set_tcp_keepalive(&probes);
}

/// Whether the error concerns only the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// The most connections that wait to be accepted.
pub(crate) const BACKLOG: i32 = 4_096;

/// How long the header of a balancer may take, and how long the TLS handshake.
const OPENING_TIME: Duration = Duration::from_secs(10);

/// How many bytes of a balancer's header are read at once.
const HEADER_PIECE: usize = 256;

/// How long a mirror may be silent before the system probes it.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);

/// The time between two probes.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How long to wait when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
