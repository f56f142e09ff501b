//! Reads a message: its peer, whether it is served, and whether it is a valid INVITE. All other messages are
//! completely handled here.

use ringback_routing::{Caller, Contacts};
use ringback_sip_proto::{Action, Input, Invite, MAX_DATAGRAM, Reply, Transport};

use crate::admission::excess::Excess;
use crate::admission::gate::Gate;
use crate::counters::{Dropped, Refused};
use crate::identity;
use crate::learning::Sighting;
use crate::outbox::Outbox;
use crate::policy::{Policy, Source};
use crate::redirect::effect::{Effect, Outcome, UnservedCall};
use crate::redirect::{Call, Read, Received, Redirect, Snapshot, WorkerContext};

impl Redirect {
    /// Reads one message, and handles it completely if it is no valid INVITE. Replies go into the outbox of the
    /// worker.
    pub(crate) fn read<'m, 'r, C: Contacts>(
        &self,
        worker: &mut WorkerContext<'_>,
        snapshot: Snapshot<'r, C>,
        received: Received<'m>,
    ) -> Read<'m, 'r> {
        let (bytes, origin) = (received.bytes, received.origin);
        let ip = origin.address.ip();
        let Some(source) = snapshot.policy.source(ip) else {
            return Read::Done(Outcome::new(Err(Dropped::Stranger)));
        };
        if !source.peer.transports.contains(origin.transport) {
            return Read::Done(Outcome::new(Err(Dropped::Transport)));
        }
        // An ACK is never answered (RFC 3261 §17.1.1.3), so nothing else in it matters.
        if bytes.starts_with(b"ACK ") {
            return done(source, Effect::Absorbed);
        }
        let gate = Gate::new(source, ip, received.waited, snapshot.now);
        let is_invite = bytes.starts_with(b"INVITE ");
        let mut excess = None;
        if !is_invite {
            if !gate.takes_other() {
                return done(source, Effect::Dropped(Dropped::OtherBudget));
            }
        } else if let Some(pressure) = worker.pressure.as_deref_mut() {
            excess = gate.unread_invite(pressure);
            if let Some(excess) = excess.filter(|excess| !excess.is_answered()) {
                return done(source, Effect::Excess(excess));
            }
        }
        let start = worker.out.bytes.len();
        let input = Input {
            bytes,
            source: origin.address,
            transport: origin.transport,
            draining: snapshot.is_draining,
        };
        let reply = match self.redirector.handle(input, &mut worker.out.bytes) {
            Action::Invite(invite) => {
                let call = Call::new(invite, source, gate, excess);
                // Read soon, after other work.
                snapshot.answered.prefetch(call.invite.fingerprint());
                if let Some(dialed) = call.dialed {
                    snapshot.directory.prefetch_dialed(dialed);
                }
                return Read::Invite(call);
            }
            Action::Reply(reply) => reply,
            Action::Absorb => return done(source, Effect::Absorbed),
            Action::Drop(cause) => return done(source, Effect::Dropped(cause.into())),
            Action::Response(message, _) => {
                let mut outcome = Outcome::new(Ok(source)).with(Effect::Dropped(Dropped::Response));
                if source.peer.learn {
                    let learned = self.learning.observe(&message, &sighting(snapshot, source));
                    if let Some(learned) = learned {
                        outcome.effects.push(Effect::Learned(learned));
                    }
                }
                return Read::Done(outcome);
            }
        };
        // A malformed INVITE does not use the budget for INVITEs.
        if is_invite && !gate.takes_other() {
            worker.out.bytes.truncate(start);
            return done(source, Effect::Dropped(Dropped::OtherBudget));
        }
        let mut outcome = Outcome::new(Ok(source));
        if let Some(refusal) = reply.refusal {
            let cause = Refused::from(refusal);
            outcome.effects.push(Effect::Refused(cause));
            if is_invite {
                outcome.effects.push(Effect::Unserved(UnservedCall {
                    at: snapshot.now.wall,
                    user: &[],
                    dialed: None,
                    from: None,
                    reason: cause.name(),
                }));
            }
        }
        send(
            &reply,
            origin.transport,
            start,
            snapshot.policy,
            worker.out,
            &mut outcome,
        );
        Read::Done(outcome)
    }
}

impl<'m, 'r> Call<'m, 'r> {
    /// A call whose numbers are not looked up yet.
    fn new(invite: Invite<'m>, source: Source<'r>, gate: Gate<'r>, excess: Option<Excess>) -> Self {
        Self {
            dialed: identity::first_dialed(&invite, source.peer),
            invite,
            source,
            gate,
            excess,
            number: None,
            caller: Caller::Anonymous,
        }
    }
}

/// How to read a message of this peer for learning.
pub(crate) fn sighting<'r, C>(snapshot: Snapshot<'r, C>, source: Source<'r>) -> Sighting<'r> {
    Sighting {
        peer: source.peer,
        agent_header: &snapshot.policy.agent_header,
        directory: snapshot.directory,
        at: snapshot.now.wall,
        now: snapshot.now,
    }
}

/// Sends the reply written from `start` on, unless it is too long for a datagram. It goes to the source, unless
/// `maddr` is the address of a peer.
pub(crate) fn send(
    reply: &Reply,
    transport: Transport,
    start: usize,
    policy: &Policy,
    out: &mut Outbox,
    outcome: &mut Outcome<'_, '_>,
) {
    if out.bytes.len() - start > MAX_DATAGRAM && transport == Transport::Udp {
        out.bytes.truncate(start);
        outcome
            .effects
            .push(Effect::Dropped(Dropped::ReplyTooLarge));
        return;
    }
    let is_peer = |maddr: &std::net::SocketAddr| policy.source(maddr.ip()).is_some();
    let destination = reply.maddr.filter(is_peer).unwrap_or(reply.destination);
    out.transmit(start, destination);
    outcome.status = Some(reply.status);
}

/// The result of a message that gets no reply.
fn done<'m, 'r>(source: Source<'r>, effect: Effect<'m, 'r>) -> Read<'m, 'r> {
    Read::Done(Outcome::new(Ok(source)).with(effect))
}
