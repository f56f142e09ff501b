//! Requests of calls that were answered and bear our Route, and their replies: forwarded without any state.

use std::sync::Arc;

use ringback_sip_proto::check::Request;
use ringback_sip_proto::rsip::Method;
use ringback_sip_proto::{Message, Transport};
use ringback_sip_proxy::{Hop, Transmit, Trust, Way};

use crate::forward::asked::{WaitingRequest, Waits};
use crate::forward::inbox::Arrival;
use crate::forward::streams::NOBODY;
use crate::forward::target::NoWay;
use crate::forward::worker::{Forwarding, reply_anew, send_by};
use crate::program::Program;

impl<P: Program> Forwarding<P> {
    /// Sends on a request that bears our Route; false: it bears none.
    pub(super) fn in_dialog(
        &self,
        message: &Message<'_>,
        request: &Request<'_>,
        from: &Arrival,
    ) -> bool {
        let forward = &self.shared.forward;
        let Some(way) = forward.keys.in_dialog(message, request) else {
            return false;
        };
        let policy = self.shared.policy.load();
        let found = forward
            .ways
            .way_to(way.next, request.call_id, &forward.names);
        match found {
            Ok(hop) => {
                let sender = policy.source(from.origin.address.ip());
                let receiver = policy.source(hop.address.ip());
                let trust = Trust {
                    is_sender_trusted: sender.is_some_and(|sender| sender.peer.is_trusted),
                    keeps_identity: sender.is_some_and(|sender| sender.peer.trusts_identity)
                        && receiver.is_some_and(|receiver| receiver.peer.is_trusted),
                };
                let mut bytes = Vec::with_capacity(message.bytes().len() + 256);
                forward
                    .keys
                    .write_in_dialog(message, from.origin, &way, &hop, trust, &mut bytes);
                self.send_on(&hop, &bytes);
            }
            Err(NoWay::Own) => self.refuse(message, request, from, (482, "Loop Detected")),
            Err(NoWay::Nowhere) => {
                self.refuse(message, request, from, (500, "Server Internal Error"))
            }
            Err(NoWay::Unresolved(named)) => {
                let waiting = WaitingRequest {
                    bytes: message.bytes().into(),
                    from: *from,
                    thread: u16::try_from(self.thread).unwrap_or_default(),
                };
                match forward.names.asked.wait(&self.shared, named, waiting) {
                    Waits::Yes => {}
                    Waits::TooMany => {
                        self.refuse(message, request, from, (503, "Service Unavailable"));
                    }
                    Waits::NobodyToAsk => {
                        self.refuse(message, request, from, (500, "Server Internal Error"));
                    }
                }
            }
        }
        true
    }

    /// Answers a request that goes nowhere; an ACK gets no answer.
    fn refuse(
        &self,
        message: &Message<'_>,
        request: &Request<'_>,
        from: &Arrival,
        status: (u16, &str),
    ) {
        if request.method != Some(Method::Ack) {
            self.respond(message, request, from, status);
        }
    }

    /// Takes the reply to a request that was sent on without state; false: it is none.
    pub(super) fn stateless_reply(&self, message: &Message<'_>) -> bool {
        if !ringback_sip_proxy::Keys::is_stateless(message) {
            return false;
        }
        let forward = &self.shared.forward;
        let mut bytes = Vec::with_capacity(message.bytes().len());
        let Some(to) = forward.keys.write_stateless_reply(message, &mut bytes) else {
            forward.counters.stray();
            return true;
        };
        if to.is_stream {
            if !forward.streams.send_to(to.address, &bytes) {
                reply_anew(&self.shared, to.address.ip(), &bytes);
            }
            return true;
        }
        let transmit = Transmit {
            bytes: &bytes,
            transport: Transport::Udp,
            address: to.address,
            way: Way::Back(0),
        };
        let thread = self.thread_for(to.address);
        if let Err(error) = send_by(&self.shared, thread, &transmit) {
            tracing::debug!(%error, "a reply was not sent");
        }
        true
    }

    /// Sends a request on this way.
    fn send_on(&self, hop: &Arc<Hop>, bytes: &[u8]) {
        let transmit = Transmit {
            bytes,
            transport: hop.transport,
            address: hop.address,
            way: Way::Back(0),
        };
        if hop.transport == Transport::Udp {
            let thread = self.shared.forward.ways.thread_of(hop.socket);
            if let Err(error) = send_by(&self.shared, thread, &transmit) {
                tracing::debug!(%error, "a request was not sent");
            }
        } else {
            // No transaction of ours waits for it.
            let streams = &self.shared.forward.streams;
            streams.send_out(&self.shared, &transmit, hop.socket, NOBODY);
        }
    }

    /// A thread whose socket can send to this address.
    fn thread_for(&self, address: std::net::SocketAddr) -> usize {
        let ways = &self.shared.forward.ways;
        let own = ways.own(Transport::Udp, address);
        own.map_or(self.thread, |(_, index)| {
            ways.thread_of(u32::try_from(index).unwrap_or(u32::MAX))
        })
    }
}
