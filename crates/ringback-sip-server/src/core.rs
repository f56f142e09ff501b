//! From one message to its reply: peer, budget, checks, memory, decision, reply, counters. The same
//! for every transport.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ringback_routing::{Outcome, Question, Target, Timestamp, decide, order_targets};
use ringback_sip_proto::{Action, Input, Invite, Redirector, Reply, Settings, Transport};
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::identity;
use crate::learning::{Learning, Sighting};
use crate::memory::Memory;
use crate::metrics::{Dropped, Lane, Metrics, PeerLane, Refused};
use crate::overload::{Knock, Pressure, Relief};
use crate::peers::Refusal;
use crate::plan::{Decided, HeaderSet, Plan, PlanCache, Plans};
use crate::policy::{Policy, Source};
use crate::router::Router;

/// What all threads of a server share.
#[derive(Debug)]
pub(crate) struct Core<R> {
    /// Decides, counts and records.
    pub(crate) router: R,
    /// Writes replies, one for each combination of headers.
    redirectors: [Redirector; 4],
    /// The rules in force.
    pub(crate) policy: ArcSwap<Policy>,
    /// INVITEs answered lately.
    pub(crate) memory: Memory,
    /// Calls whose end is waited for.
    pub(crate) learning: Learning,
    /// What was counted.
    pub(crate) metrics: Metrics,
    /// Plans of the calls that come over connections.
    pub(crate) shared_plans: Mutex<PlanCache>,
    /// Whether the server is about to end.
    pub(crate) draining: AtomicBool,
    /// When the server was made.
    started: Instant,
}

/// One message and how it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'m> {
    /// One datagram, or one message of a stream.
    pub(crate) bytes: &'m [u8],
    /// Source address.
    pub(crate) source: SocketAddr,
    /// How it came.
    pub(crate) transport: Transport,
    /// Whether it has waited for so long that a new INVITE must be refused.
    pub(crate) late: bool,
    /// When it is looked at.
    pub(crate) now: Now,
}

/// This moment, on two clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For people and recorded calls.
    pub(crate) wall: Timestamp,
    /// The same since 1970, as the system stamps datagrams.
    pub(crate) since_epoch: Duration,
    /// For budgets: since the server was made.
    pub(crate) uptime: Duration,
}

/// A thread at work.
#[derive(Debug)]
pub(crate) struct Seat<'s> {
    /// Which counters are its own.
    pub(crate) lane: usize,
    /// Where it finds plans.
    pub(crate) plans: Plans<'s>,
    /// How it keeps up; a stream holds its peer back by itself.
    pub(crate) pressure: Option<&'s mut Pressure>,
}

/// What a message is handled with.
struct Desk<'d, 's> {
    /// The thread.
    seat: &'d mut Seat<'s>,
    /// The rules.
    policy: &'d Policy,
    /// Whose message it is.
    source: Source<'d>,
    /// Counters of the thread.
    lane: &'d Lane,
    /// Counters of the thread for this peer.
    peer_lane: &'d PeerLane,
    /// When.
    now: Now,
}

/// An INVITE is too much.
#[derive(Clone, Copy, Debug)]
struct Overload {
    /// In which way.
    cause: Cause,
    /// Whether it is answered.
    answers: bool,
}

/// In which way an INVITE is too much.
#[derive(Clone, Copy, Debug)]
enum Cause {
    /// Its peer has sent more than its rate.
    Rate,
    /// It has waited for too long.
    Late,
    /// There is more to do than can be done, and its peer has had its share.
    Share,
}

impl From<Cause> for Dropped {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Rate => Self::Rate,
            Cause::Late => Self::Late,
            Cause::Share => Self::Share,
        }
    }
}

impl From<Cause> for Refused {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Rate => Self::Rate,
            Cause::Late => Self::Late,
            Cause::Share => Self::Share,
        }
    }
}

impl<R: Router> Core<R> {
    /// A server that has not seen anything yet. `key` makes To tags and fingerprints secret.
    pub(crate) fn new(router: R, key: [u8; 16], policy: Policy, lanes: usize) -> Self {
        let redirector = |headers: HeaderSet| {
            let settings = Settings {
                decision_headers: headers.decision,
                contact_headers: headers.contact,
            };
            Redirector::new(key, settings)
        };
        Self {
            router,
            redirectors: HeaderSet::ALL.map(redirector),
            policy: ArcSwap::from_pointee(policy),
            memory: Memory::new(),
            learning: Learning::new(),
            metrics: Metrics::new(lanes),
            shared_plans: Mutex::default(),
            draining: AtomicBool::new(false),
            started: Instant::now(),
        }
    }

    /// This moment.
    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            wall: Timestamp::from_millis(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
            since_epoch: wall,
            uptime: self.started.elapsed(),
        }
    }

    /// Whether the server is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Takes one message. A reply is appended to `out`; given is where it goes.
    pub(crate) fn handle(
        &self,
        seat: &mut Seat<'_>,
        policy: &Policy,
        arrival: &Arrival<'_>,
        out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        let lane = self.metrics.lane(seat.lane);
        lane.received(arrival.transport);
        let Some(source) = policy.source(arrival.source.ip()) else {
            lane.dropped(Dropped::Stranger);
            return None;
        };
        if !source.peer.transports.contains(arrival.transport) {
            lane.dropped(Dropped::Transport);
            return None;
        }
        let peer_lane = source.state.lane(seat.lane);
        peer_lane.messages.bump();
        // Nothing else of an ACK matters: it is never answered (RFC 3261 §17.1.1.3).
        if arrival.bytes.starts_with(b"ACK ") {
            lane.acks.bump();
            return None;
        }
        let mut desk = Desk {
            seat,
            policy,
            source,
            lane,
            peer_lane,
            now: arrival.now,
        };
        let start = out.len();
        let reply = if arrival.bytes.starts_with(b"INVITE ") {
            self.handle_invite(&mut desk, arrival, out)
        } else {
            self.handle_other(&mut desk, arrival, out)
        }?;
        if out.len() - start > MAX_DATAGRAM && arrival.transport == Transport::Udp {
            out.truncate(start);
            lane.dropped(Dropped::ReplyTooLarge);
            return None;
        }
        lane.replied(reply.status);
        Some(reply.destination)
    }

    /// Takes what says that it is an INVITE.
    fn handle_invite(
        &self,
        desk: &mut Desk<'_, '_>,
        arrival: &Arrival<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Reply> {
        // On overload, silence has to be cheap: the first bytes are enough.
        let overload = desk.overload(arrival);
        if let Some(Overload {
            cause,
            answers: false,
        }) = overload
        {
            desk.peer_lane.refused.bump();
            desk.lane.dropped(cause.into());
            return None;
        }
        let start = out.len();
        match self.redirectors[0].handle(self.input(arrival), out) {
            Action::Invite(invite) => self.answer(desk, overload, &invite, out),
            Action::Reply(reply) => {
                // Malformed, so it is not of the budget for INVITEs.
                if !desk.takes_other() {
                    out.truncate(start);
                    return None;
                }
                desk.count_refusal(&reply);
                Some(reply)
            }
            Action::Drop(cause) => {
                desk.lane.dropped(cause.into());
                None
            }
            Action::Absorb | Action::Response(_) => None,
        }
    }

    /// Takes everything that is neither an INVITE nor an ACK.
    fn handle_other(
        &self,
        desk: &mut Desk<'_, '_>,
        arrival: &Arrival<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Reply> {
        if !desk.takes_other() {
            return None;
        }
        match self.redirectors[0].handle(self.input(arrival), out) {
            Action::Reply(reply) => {
                desk.count_refusal(&reply);
                Some(reply)
            }
            // Line ends may stand before the start line.
            Action::Invite(invite) => self.answer(desk, None, &invite, out),
            Action::Absorb => {
                desk.lane.acks.bump();
                None
            }
            Action::Response(_) => {
                desk.lane.dropped(Dropped::Response);
                if desk.source.peer.learn {
                    self.learning.observe(
                        self,
                        &Sighting {
                            bytes: arrival.bytes,
                            peer: desk.source.peer,
                            policy: desk.policy,
                            at: desk.now.wall,
                            now: desk.now,
                        },
                    );
                }
                None
            }
            Action::Drop(cause) => {
                desk.lane.dropped(cause.into());
                None
            }
        }
    }

    /// Answers an INVITE in good order.
    fn answer(
        &self,
        desk: &mut Desk<'_, '_>,
        overload: Option<Overload>,
        invite: &Invite<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Reply> {
        let plan = match self.memory.find(invite.fingerprint()) {
            Some(plan) => {
                desk.lane.retransmissions.bump();
                plan
            }
            None => {
                if let Some(overload) = overload.or_else(|| desk.over_rate()) {
                    return self.refuse(desk, overload, invite, out);
                }
                desk.peer_lane.invites.bump();
                self.plan(desk, invite)
            }
        };
        Some(match &*plan {
            Plan::Forward { next_hop } => self.redirectors[0].forward(invite, next_hop, out),
            Plan::Decided(decided) => self.write(decided, invite, out),
        })
    }

    /// Answers 503, or not at all.
    fn refuse(
        &self,
        desk: &Desk<'_, '_>,
        overload: Overload,
        invite: &Invite<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Reply> {
        desk.peer_lane.refused.bump();
        if !overload.answers {
            desk.lane.dropped(overload.cause.into());
            return None;
        }
        desk.lane.refused(overload.cause.into());
        let retry_after = desk.source.peer.retry_after;
        Some(self.redirectors[0].overloaded(invite, retry_after, out))
    }

    /// Decides on a new INVITE and remembers how.
    fn plan(&self, desk: &mut Desk<'_, '_>, invite: &Invite<'_>) -> Arc<Plan> {
        let directory = self.router.directory();
        let peer = desk.source.peer;
        let message = invite.message();
        let dialed = identity::dialed(invite.dialed(peer.dialed_header.as_deref()), peer);
        let number = dialed.and_then(|dialed| directory.number(dialed));
        if number.is_none()
            && peer.learn
            && let Some(plan) = self.learn(desk, &directory, invite)
        {
            return plan;
        }
        let country = number
            .and_then(|number| directory.environment(number.environment))
            .and_then(|environment| environment.record.default_country);
        let caller = identity::caller(message, peer, country);
        let usable = |target: &Target| !invite.points_back(&target.uri);
        let question = Question {
            dialed,
            caller,
            now: desk.now.wall,
            usable: &usable,
        };
        let decision = decide(&directory, self.router.contacts(), &question);
        let headers = desk.policy.headers;
        let plan = desk.seat.plans.of(
            &directory,
            &decision,
            headers,
            &self.redirectors[headers.index()],
        );
        if let Some(earlier) = self.memory.remember(invite.fingerprint(), &plan) {
            // Another thread was faster with the same INVITE.
            return earlier;
        }
        desk.lane.decided(decision.outcome, decision.reason);
        let call_id = invite.call_id();
        if desk.policy.watches
            && decision.outcome == Outcome::Callback
            && let Some(environment) = decision.environment
        {
            self.learning
                .await_answer(call_id, environment.record.id, desk.now);
        }
        self.router
            .decided(&decision, dialed, caller, call_id, desk.now.wall);
        plan
    }

    /// Records an outbound call, if the INVITE is one; gives its plan if the peer has a next hop.
    fn learn(
        &self,
        desk: &Desk<'_, '_>,
        directory: &ringback_routing::Directory,
        invite: &Invite<'_>,
    ) -> Option<Arc<Plan>> {
        let is_outbound = self.learning.outbound(
            self,
            directory,
            invite.message(),
            &Sighting {
                bytes: &[],
                peer: desk.source.peer,
                policy: desk.policy,
                at: desk.now.wall,
                now: desk.now,
            },
        );
        let plan = desk.source.forward.filter(|_| is_outbound)?;
        if let Some(earlier) = self.memory.remember(invite.fingerprint(), plan) {
            return Some(earlier);
        }
        desk.lane.forwarded.bump();
        Some(Arc::clone(plan))
    }

    /// Writes the reply that a decision makes of an INVITE: the same for the same two.
    fn write(&self, decided: &Decided, invite: &Invite<'_>, out: &mut Vec<u8>) -> Reply {
        let redirector = &self.redirectors[decided.headers.index()];
        let mut ordered = SmallVec::new();
        match &*decided.targets {
            [target] => ordered.push(target),
            targets => order_targets(targets, xxh3_64(invite.call_id()), &mut ordered),
        }
        let contacts = ordered.iter().map(|target| &target.contact);
        redirector.answer(invite, &decided.answer, contacts, out)
    }

    /// A message as the redirect core takes it.
    fn input<'m>(&self, arrival: &Arrival<'m>) -> Input<'m> {
        Input {
            bytes: arrival.bytes,
            source: arrival.source,
            transport: arrival.transport,
            draining: self.is_draining(),
        }
    }
}

impl Desk<'_, '_> {
    /// Whether the peer may have another message answered that is no INVITE.
    fn takes_other(&self) -> bool {
        let rate = self.source.peer.rate;
        let rate = rate.map_or(OTHERS_UNLIMITED, |rate| rate.max(OTHERS_LEAST));
        let takes = self.source.state.others.take(rate, self.now.uptime);
        if !takes {
            self.peer_lane.dropped.bump();
            self.lane.dropped(Dropped::OtherBudget);
        }
        takes
    }

    /// Why an INVITE is refused before it is read, if it is: unless it turns out to be known.
    fn overload(&mut self, arrival: &Arrival<'_>) -> Option<Overload> {
        let wants_answers = self.source.peer.refuse == Refusal::Answer;
        if arrival.late {
            return Some(Overload {
                cause: Cause::Late,
                answers: wants_answers,
            });
        }
        let pressure = self.seat.pressure.as_deref_mut()?;
        let knock = Knock {
            place: self.source.place,
            ip: arrival.source.ip(),
            rate: self.source.peer.rate,
            wants_answers,
        };
        let answers = match pressure.invite(&knock) {
            Relief::Answer => true,
            Relief::Drop => false,
            Relief::Serve => {
                if wants_answers || !pressure.is_high() {
                    return None;
                }
                // Under pressure nobody reads what is over the rate, to see whether it is known.
                let rate = self.source.peer.rate?;
                let is_over = !self.source.state.invites.has(rate, self.now.uptime);
                return is_over.then_some(Overload {
                    cause: Cause::Rate,
                    answers: false,
                });
            }
        };
        Some(Overload {
            cause: Cause::Share,
            answers,
        })
    }

    /// Why a new INVITE is refused, if it is over its peer's rate.
    fn over_rate(&self) -> Option<Overload> {
        let rate = self.source.peer.rate?;
        let takes = self.source.state.invites.take(rate, self.now.uptime);
        (!takes).then_some(Overload {
            cause: Cause::Rate,
            answers: self.source.peer.refuse == Refusal::Answer,
        })
    }

    /// Counts the cause, if the reply is an error.
    fn count_refusal(&self, reply: &Reply) {
        if let Some(refusal) = reply.refusal {
            self.lane.refused(refusal.into());
            tracing::debug!(peer = %self.source.peer.name, ?refusal, "request refused");
        }
    }
}

/// The longest reply that fits into a UDP datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;

/// Messages other than INVITEs that a peer without a rate may have answered each second.
const OTHERS_UNLIMITED: u32 = 20_000;

/// The same for a peer with a rate, at least.
const OTHERS_LEAST: u32 = 100;

#[cfg(test)]
mod tests {
    use ringback_routing::{Caller, ContactIndex, Decision, Directory, E164, EnvironmentId};

    use super::*;
    use crate::router::LearnedCall;
    use crate::{SipConfig, SipSpec};

    /// Knows no number; counts decisions.
    #[derive(Debug)]
    struct Nobody {
        directory: ArcSwap<Directory>,
        contacts: ContactIndex,
        decided: std::sync::atomic::AtomicUsize,
    }

    impl Router for Nobody {
        type Contacts = ContactIndex;

        fn directory(&self) -> arc_swap::Guard<Arc<Directory>> {
            self.directory.load()
        }

        fn contacts(&self) -> &ContactIndex {
            &self.contacts
        }

        fn decided(
            &self,
            _decision: &Decision<'_>,
            _dialed: Option<E164>,
            _caller: Caller,
            _call_id: &[u8],
            _at: Timestamp,
        ) {
            self.decided.fetch_add(1, Ordering::Relaxed);
        }

        fn learned(&self, _call: LearnedCall) {}

        fn answered(&self, _environment: EnvironmentId, _call_id: &[u8], _at: Timestamp) {}
    }

    /// Hands a message to a core; gives the status of the reply.
    fn ask(core: &Core<Nobody>, message: &str, late: bool) -> Option<u16> {
        let mut plans = PlanCache::default();
        let mut seat = Seat {
            lane: 0,
            plans: Plans::Own(&mut plans),
            pressure: None,
        };
        let arrival = Arrival {
            bytes: message.as_bytes(),
            source: "127.0.0.1:5060".parse().unwrap(),
            transport: Transport::Udp,
            late,
            now: core.now(),
        };
        let mut out = Vec::new();
        core.handle(&mut seat, &core.policy.load(), &arrival, &mut out)?;
        String::from_utf8(out).unwrap()[8..11].parse().ok()
    }

    /// A core with this configuration.
    fn core(toml: &str) -> Core<Nobody> {
        let spec: SipSpec = toml::from_str(toml).unwrap();
        let config = SipConfig::try_from(spec).unwrap();
        let nobody = Nobody {
            directory: ArcSwap::default(),
            contacts: ContactIndex::new(),
            decided: Default::default(),
        };
        Core::new(nobody, [1; 16], Policy::new(&config, 1, None), 1)
    }

    /// A request.
    fn request(method: &str, call_id: &str) -> String {
        format!(
            "{method} sip:+551130000000@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{call_id};rport\r\n\
             From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n\r\n"
        )
    }

    #[test]
    fn a_late_invite_is_refused_unless_it_is_known() {
        let core = core("");
        let invite = request("INVITE", "1");
        assert_eq!(ask(&core, &invite, true), Some(503));
        // Refusals are not remembered: sent again in time, it is served.
        assert_eq!(ask(&core, &invite, false), Some(404));
        assert_eq!(ask(&core, &invite, true), Some(404));
        assert_eq!(ask(&core, &request("OPTIONS", "2"), true), Some(200));
        assert_eq!(ask(&core, &request("INVITE", "3"), true), Some(503));
        assert_eq!(core.router.decided.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_late_invite_of_a_peer_to_be_met_with_silence_gets_none() {
        let core = core("[[peers]]\naddress = [\"127.0.0.1\"]\nrefuse = \"silence\"");
        assert_eq!(ask(&core, &request("INVITE", "1"), true), None);
        assert_eq!(ask(&core, &request("OPTIONS", "2"), true), Some(200));
        assert_eq!(ask(&core, &request("INVITE", "1"), false), Some(404));
    }
}
