//! HEPv3 over UDP and TCP: mirrored messages are learned from and never answered.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringback_routing::Timestamp;
use ringback_sip_proto::hep::HepError;
use ringback_sip_proto::message::Framing;
use ringback_sip_proto::{Fault, HepFrame, HepFramer, HepPacket, Message};

use crate::counters::{Connection, Hep};
use crate::learning::Sighting;
use crate::observation::strangers::StrangerTransport;
use crate::outbox::Outbox;
use crate::program::Program;
use crate::shared::Shared;
use crate::transport::service::Service;
use crate::transport::stream::{Handled, Protocol};

/// Receives packets from a UDP socket until told to stop.
pub(crate) fn serve_udp<P: Program>(shared: &Shared<P>, socket: &UdpSocket, stopping: &AtomicBool) {
    let mut room = vec![0; MAX_PACKET];
    while !stopping.load(Ordering::Relaxed) {
        // The socket has a timeout, so that the thread checks whether it should stop.
        if let Ok((length, source)) = socket.recv_from(&mut room) {
            take(shared, source, room.get(..length).unwrap_or_default());
        }
    }
}

/// HEP on a connection.
pub(crate) struct Mirror<P> {
    /// The state shared by all listeners.
    shared: Arc<Shared<P>>,
    /// The address of the mirror.
    source: SocketAddr,
    /// Finds the packets in the stream.
    framer: HepFramer,
}

impl<P: Program> Mirror<P> {
    /// Nothing was read yet.
    pub(crate) fn new(shared: &Arc<Shared<P>>, source: SocketAddr) -> Self {
        Self {
            shared: Arc::clone(shared),
            source,
            framer: HepFramer::new(),
        }
    }
}

impl<P: Program> Protocol for Mirror<P> {
    fn idle_time(&self) -> Duration {
        IDLE_TIME
    }

    fn push(&mut self, bytes: &[u8]) {
        self.framer.push(bytes);
    }

    fn handle(&mut self, _out: &mut Outbox) -> Handled {
        let shared = &self.shared;
        let mut handled = Handled::default();
        let policy = shared.policy.load();
        let peer = policy.source(self.source.ip());
        if !peer.is_some_and(|peer| Service::Hep.serves(&peer)) {
            handled.end = Some(Connection::Removed);
            return handled;
        }
        drop(policy);
        loop {
            match self.framer.next_frame() {
                HepFrame::Incomplete => return handled,
                HepFrame::Packet(packet) => take(shared, self.source, packet),
                HepFrame::Broken(error) => {
                    unreadable(shared, self.source, error);
                    handled.end = Some(Connection::Framing);
                    return handled;
                }
            }
            handled.frames += 1;
        }
    }

    fn pending(&self) -> usize {
        self.framer.pending()
    }
}

/// Learns from one packet.
fn take<P: Program>(shared: &Shared<P>, source: SocketAddr, bytes: &[u8]) {
    let policy = shared.policy.load();
    let peer = policy
        .source(source.ip())
        .filter(|peer| Service::Hep.serves(peer));
    let Some(peer) = peer else {
        shared.metrics.hep(Hep::Stranger);
        shared
            .observations
            .stranger_elsewhere(source.ip(), StrangerTransport::Hep);
        return;
    };
    let packet = match HepPacket::parse(bytes) {
        Ok(packet) => packet,
        Err(error) => return unreadable(shared, source, error),
    };
    if let Some(key) = &policy.hep_key
        && !packet.has_key(key)
    {
        shared.metrics.hep(Hep::Key);
        return;
    }
    if !packet.is_sip() {
        shared.metrics.hep(Hep::Other);
        return;
    }
    let mut room = Vec::new();
    let message = match packet.message(&mut room) {
        Ok(message) => message,
        Err(error) => return unreadable(shared, source, error),
    };
    let now = shared.now();
    let sighting = Sighting {
        peer: peer.peer,
        agent_header: &policy.agent_header,
        directory: &shared.program.directory(),
        at: captured_at(&packet, now.wall),
        now,
    };
    let learned =
        whole(message).and_then(|message| shared.redirect.learning.observe(&message, &sighting));
    shared.metrics.hep(if learned.is_some() {
        Hep::Taken
    } else {
        Hep::Other
    });
    if let Some(learned) = learned {
        shared.tell(learned);
    }
}

/// Reads a mirrored message. It is always one message, and errors in its framing do not matter as long as its
/// headers are complete: capture agents cut off bodies.
fn whole(bytes: &[u8]) -> Option<Message<'_>> {
    let message = Message::parse(bytes, Framing::Datagram).ok()?;
    (message.fault() != Some(Fault::Unterminated)).then_some(message)
}

/// Counts a packet that cannot be read.
fn unreadable<P: Program>(shared: &Shared<P>, source: SocketAddr, error: HepError) {
    shared.metrics.hep(match error {
        HepError::Version(1) => Hep::Version1,
        HepError::Version(2) => Hep::Version2,
        _ => Hep::Malformed,
    });
    tracing::debug!(%source, %error, "HEP packet cannot be read");
}

/// When a packet was captured: by its own clock, unless that is clearly wrong, then now. A clock at 1970 must not
/// make every call expire, and a clock that is ahead must not record calls of tomorrow.
fn captured_at(packet: &HepPacket<'_>, now: Timestamp) -> Timestamp {
    let said = packet
        .captured_at()
        .and_then(|micros| i64::try_from(micros / 1_000).ok())
        .map(Timestamp::from_millis);
    let earliest = now.plus_millis(-MAX_BACK_MILLIS);
    let latest = now.plus_millis(MAX_AHEAD_MILLIS);
    said.filter(|at| (earliest..=latest).contains(at))
        .unwrap_or(now)
}

/// The longest datagram, in bytes.
const MAX_PACKET: usize = 65_536;

/// How long a mirror may be silent; the system detects that it is gone.
const IDLE_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How far ahead a capture time may be, as for a call reported over HTTP.
const MAX_AHEAD_MILLIS: i64 = 5 * 60 * 1_000;

/// How far back a capture time may be.
const MAX_BACK_MILLIS: i64 = 24 * 60 * 60 * 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    // A capture clock at 1970 used to make every call expire at once.
    #[test]
    fn a_capture_time_that_is_clearly_wrong_is_replaced_by_the_arrival() {
        let now = Timestamp::from_millis(1_800_000_000_250);
        let captured = |seconds: i64, microseconds| {
            let packet = HepPacket {
                seconds: u32::try_from(1_800_000_000 + seconds).ok(),
                microseconds,
                ..HepPacket::default()
            };
            captured_at(&packet, now)
        };
        let at = |millis: i64| now.plus_millis(millis);
        assert_eq!(captured(-3_600, Some(250_999)), at(-3_600_000));
        assert_eq!(captured(-86_400, Some(250_000)), at(-86_400_000));
        assert_eq!(captured(-86_400, Some(249_000)), now);
        assert_eq!(captured(300, Some(250_000)), at(300_000));
        assert_eq!(captured(300, Some(251_000)), now);
        assert_eq!(captured(-1_800_000_000, None), now, "1970");
        assert_eq!(captured(2_000_000_000, None), now, "2090");
        assert_eq!(captured_at(&HepPacket::default(), now), now, "no time");
    }
}
