//! HEPv3 over UDP and TCP: what other programs mirror is learned from, and never answered.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringback_routing::Timestamp;
use ringback_sip_proto::{HepFrame, HepFramer, HepPacket};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::core::Core;
use crate::learning::Sighting;
use crate::metrics::{Connection, Hep};
use crate::router::Router;
use crate::server::{Phase, Shared, reached};
use crate::strangers::StrangerTransport;

/// Takes packets off a UDP socket until told to stop.
pub(crate) fn serve_udp<R: Router>(core: &Core<R>, socket: &UdpSocket, stopping: &AtomicBool) {
    let mut room = vec![0; MAX_PACKET];
    while !stopping.load(Ordering::Relaxed) {
        // The socket's timeout lets the thread look whether it should stop.
        if let Ok((length, source)) = socket.recv_from(&mut room) {
            take(core, source, room.get(..length).unwrap_or_default());
        }
    }
}

/// Accepts connections until the server stops.
pub(crate) async fn serve_tcp<R: Router>(
    shared: Arc<Shared<R>>,
    listener: TcpListener,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = reached(&mut phase, Phase::Stopped) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, source)) = accepted else {
            shared.core.metrics.connection(Connection::AcceptFailed);
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let mirrors = |core: &Core<R>| {
            let policy = core.policy.load();
            let source = policy.source(source.ip());
            source.is_some_and(|source| source.peer.mirrors)
        };
        if !mirrors(&shared.core) {
            shared.core.metrics.connection(Connection::Stranger);
            shared
                .core
                .observations
                .stranger_elsewhere(source.ip(), StrangerTransport::Hep);
            continue;
        }
        tokio::spawn(read_packets(Arc::clone(&shared), stream, source));
    }
}

/// Reads packets until the connection ends; packets may come days apart.
async fn read_packets<R: Router>(
    shared: Arc<Shared<R>>,
    mut stream: TcpStream,
    source: SocketAddr,
) {
    let mut phase = shared.phase();
    let mut framer = HepFramer::new();
    let mut room = vec![0; READ_BYTES];
    let mut is_partial = false;
    loop {
        let patience = if is_partial { PACKET_TIME } else { IDLE_TIME };
        let read = tokio::select! {
            read = timeout(patience, stream.read(&mut room)) => read,
            _ = reached(&mut phase, Phase::Stopped) => return,
        };
        let Ok(Ok(length @ 1..)) = read else {
            return;
        };
        framer.push(room.get(..length).unwrap_or_default());
        is_partial = true;
        loop {
            match framer.next_frame() {
                HepFrame::Incomplete => break,
                HepFrame::Packet(packet) => {
                    is_partial = false;
                    take(&shared.core, source, packet);
                }
                HepFrame::Broken(error) => {
                    shared.core.metrics.hep(Hep::Malformed);
                    tracing::debug!(%source, %error, "HEP stream cannot be read");
                    return;
                }
            }
        }
    }
}

/// Learns from one packet.
fn take<R: Router>(core: &Core<R>, source: SocketAddr, bytes: &[u8]) {
    let policy = core.policy.load();
    let peer = policy
        .source(source.ip())
        .filter(|source| source.peer.mirrors);
    let Some(peer) = peer else {
        core.metrics.hep(Hep::Stranger);
        core.observations
            .stranger_elsewhere(source.ip(), StrangerTransport::Hep);
        return;
    };
    let packet = match HepPacket::parse(bytes) {
        Ok(packet) => packet,
        Err(error) => {
            core.metrics.hep(Hep::Malformed);
            tracing::debug!(%source, %error, "HEP packet cannot be read");
            return;
        }
    };
    if let Some(key) = &policy.hep_key
        && !packet.has_key(key)
    {
        core.metrics.hep(Hep::Key);
        return;
    }
    let now = core.now();
    let captured_at = packet
        .captured_at()
        .and_then(|micros| i64::try_from(micros / 1_000).ok())
        .map(Timestamp::from_millis);
    // Without a clock a mirror sends zeros; one that is ahead must not make calls of tomorrow.
    let at = captured_at
        .filter(|at| at.seconds() > 0)
        .map_or(now.wall, |at| at.min(now.wall));
    let is_taken = packet.is_sip()
        && core.learning.observe(
            core,
            &Sighting {
                bytes: packet.payload,
                peer: peer.peer,
                policy: &policy,
                at,
                now,
            },
        );
    core.metrics
        .hep(if is_taken { Hep::Taken } else { Hep::Other });
}

/// The longest datagram.
const MAX_PACKET: usize = 65_536;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// How long a packet may take to come once it has begun.
const PACKET_TIME: Duration = Duration::from_secs(10);

/// How long a mirror may have nothing to say.
const IDLE_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
