//! From one message to its reply: peer, budget, checks, memory, decision, reply, counters. The same
//! for every transport.
//!
//! An INVITE is taken in two steps, [`Core::read`] and [`Core::answer`]. Between them stands
//! [`Core::warm`]: what the answers to several INVITEs will look up is fetched from memory at once,
//! because one fetch takes as long as many that overlap.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use arrayvec::ArrayVec;
use parking_lot::Mutex;
use ringback_routing::{
    AgentId, AgentSlot, CallStatus, Caller, Contacts, Directory, DirectoryNumber, E164,
    EnvironmentSlot, Outcome, Placeholders, Question, Reason, Target, Timestamp, UserSet, decide,
    order_targets,
};
use ringback_sip_proto::message::{Fault, Framing, StartLine};
use ringback_sip_proto::rsip::Method;
use ringback_sip_proto::{
    Action, Input, Invite, Message, Redirector, Reply, Scheme, Settings, Transport,
};
use smallvec::SmallVec;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::admission::pressure::{Admission, Arriving, Pressure};
use crate::learning::{self, Learning, Lesson, Progress, Sighting};
use crate::metrics::{
    CounterShard, Dropped, Excess, ExcessCause, Learned, Metrics, PeerCounters, Refused,
};
use crate::observation::Observations;
use crate::observation::refused::{RefusedCall, shown_dialed, transport_name};
use crate::peers::Refusal;
use crate::policy::{Policy, Source};
use crate::redirect::identity;
use crate::redirect::plan::{Decided, HeaderSet, Plan, PlanCache, Plans};
use crate::redirect::reply_cache::{Generations, ReplyCache, SharedPlan};
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
    pub(crate) reply_cache: ReplyCache,
    /// Calls whose end is waited for.
    pub(crate) learning: Learning,
    /// What was counted.
    pub(crate) metrics: Metrics,
    /// Strangers and refused calls.
    pub(crate) observations: Observations,
    /// Plans of the calls that come over connections.
    pub(crate) shared_plans: Mutex<PlanCache>,
    /// Whether the server is about to end.
    pub(crate) draining: AtomicBool,
    /// When the server was made.
    started: Instant,
}

/// One message and how it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'m> {
    /// One datagram, or one message of a stream.
    pub(crate) bytes: &'m [u8],
    /// Source address.
    pub(crate) source: SocketAddr,
    /// How it came.
    pub(crate) transport: Transport,
    /// How long it has waited to be read.
    pub(crate) waited: Duration,
}

/// What all messages that came together are handled with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot<'r> {
    /// The rules in force.
    pub(crate) policy: &'r Policy,
    /// Agents, numbers and roles.
    pub(crate) directory: &'r Arc<Directory>,
    /// What was answered lately.
    pub(crate) answered: &'r Generations,
    /// When they are looked at.
    pub(crate) now: Now,
}

/// What a message came to when it was read.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most messages are INVITEs, and a box would allocate"
)]
pub(crate) enum Read<'m, 'r> {
    /// It is done with; the reply, if there is one, was written and goes here.
    Done(Option<SocketAddr>),
    /// An INVITE in good order: to be answered.
    Invite(Asked<'m, 'r>),
}

/// An INVITE that was read and is to be answered.
#[derive(Debug)]
pub(crate) struct Asked<'m, 'r> {
    /// All of it.
    invite: Invite<'m>,
    /// How it came.
    transport: Transport,
    /// Where it came from.
    source: Source<'r>,
    /// Why it is refused, if it turns out to be new.
    excess: Option<Excess>,
    /// When it came, since the server was made.
    arrived: Duration,
    /// The number that was dialed, if it can be read.
    dialed: Option<E164>,
    /// That number, if it is ours.
    number: Option<&'r DirectoryNumber>,
    /// Who calls.
    caller: Caller,
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
pub(crate) struct WorkerContext<'s> {
    /// Which counters are its own.
    pub(crate) shard: usize,
    /// Where it finds plans.
    pub(crate) plans: Plans<'s>,
    /// How it keeps up; a stream holds its peer back by itself.
    pub(crate) pressure: Option<&'s mut Pressure>,
}

/// What a message is handled with.
struct Desk<'d, 's, 'r> {
    /// The thread.
    worker: &'d mut WorkerContext<'s>,
    /// The rules, and when.
    snapshot: Snapshot<'r>,
    /// Whose message it is.
    source: Source<'r>,
    /// Counters of the thread.
    shard: &'d CounterShard,
    /// Counters of the thread for this peer.
    peer_counters: &'r PeerCounters,
}

impl Now {
    /// Whole seconds since the server was made.
    pub(crate) fn second(&self) -> u32 {
        u32::try_from(self.uptime.as_secs()).unwrap_or(u32::MAX)
    }
}

impl<R: Router> Core<R> {
    /// A server that has not seen anything yet. `key` makes To tags and fingerprints secret.
    pub(crate) fn new(router: R, key: [u8; 16], policy: Policy, shards: usize) -> Self {
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
            reply_cache: ReplyCache::new(),
            learning: Learning::new(),
            metrics: Metrics::new(shards),
            observations: Observations::new(shards),
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
        worker: &mut WorkerContext<'_>,
        snapshot: Snapshot<'_>,
        arrival: &Received<'_>,
        out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        match self.read(worker, snapshot, arrival, out) {
            Read::Done(destination) => destination,
            Read::Invite(asked) => self.answer(worker, snapshot, &asked, out),
        }
    }

    /// Reads one message, and does everything about it if it is no INVITE in good order. A reply is
    /// appended to `out`.
    pub(crate) fn read<'m, 'r>(
        &self,
        worker: &mut WorkerContext<'_>,
        snapshot: Snapshot<'r>,
        arrival: &Received<'m>,
        out: &mut Vec<u8>,
    ) -> Read<'m, 'r> {
        let shard = self.metrics.shard(worker.shard);
        shard.received(arrival.transport);
        let Some(source) = snapshot.policy.source(arrival.source.ip()) else {
            shard.dropped(Dropped::Stranger);
            self.observations
                .stranger(worker.shard, arrival.source.ip(), arrival.transport.into());
            return Read::Done(None);
        };
        if !source.peer.transports.contains(arrival.transport) {
            shard.dropped(Dropped::Transport);
            return Read::Done(None);
        }
        let mut desk = Desk::new(worker, snapshot, source, shard);
        desk.peer_counters.received();
        // Nothing else of an ACK matters: it is never answered (RFC 3261 §17.1.1.3).
        if arrival.bytes.starts_with(b"ACK ") {
            shard.absorbed();
            return Read::Done(None);
        }
        if arrival.bytes.starts_with(b"INVITE ") {
            self.read_invite(&mut desk, arrival, out)
        } else {
            self.read_other(&desk, arrival, out)
        }
    }

    /// Fetches from memory what the answers to these INVITEs will look up.
    pub(crate) fn warm<const N: usize>(
        &self,
        snapshot: Snapshot<'_>,
        asked: &ArrayVec<Asked<'_, '_>, N>,
    ) {
        snapshot
            .answered
            .warm(asked.iter().map(|asked| asked.invite.fingerprint()));
        let contacts: ArrayVec<_, N> = asked.iter().filter_map(Asked::contact).collect();
        self.router.contacts().warm(&contacts);
        if contacts.len() < WORTH_FOLLOWING {
            return;
        }
        // The same for the agents that called, and those that claim their calls.
        let latest = |(environment, contact): &(EnvironmentSlot, E164)| {
            self.router.contacts().likely_source(*environment, *contact)
        };
        let sources: ArrayVec<AgentSlot, N> = contacts.iter().filter_map(latest).collect();
        let claimant = |source: &AgentSlot| {
            let agent = snapshot.directory.agent(*source)?;
            agent.claimed_by.first().copied()
        };
        let claimants: ArrayVec<AgentSlot, N> = sources.iter().filter_map(claimant).collect();
        for claimant in &claimants {
            black_box(snapshot.directory.agent(*claimant).map(|agent| agent.slot));
        }
    }

    /// Answers an INVITE that was read in the same batch. A reply is appended to `out`; given is
    /// where it goes.
    pub(crate) fn answer(
        &self,
        worker: &mut WorkerContext<'_>,
        snapshot: Snapshot<'_>,
        asked: &Asked<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        let shard = self.metrics.shard(worker.shard);
        let mut desk = Desk::new(worker, snapshot, asked.source, shard);
        let start = out.len();
        let reply = self.answer_invite(&mut desk, asked, out)?;
        desk.send(reply, asked.transport, start, out)
    }

    /// Reads what says that it is an INVITE.
    fn read_invite<'m, 'r>(
        &self,
        desk: &mut Desk<'_, '_, 'r>,
        arrival: &Received<'m>,
        out: &mut Vec<u8>,
    ) -> Read<'m, 'r> {
        // On overload, silence has to be cheap: the first bytes are enough.
        let excess = desk.excess(arrival);
        if let Some(excess) = excess.filter(|excess| !excess.is_answered()) {
            desk.peer_counters.refused(excess);
            desk.shard.dropped(excess.cause().into());
            return Read::Done(None);
        }
        let start = out.len();
        match self.redirectors[0].handle(self.input(arrival), out) {
            Action::Invite(invite) => Read::Invite(desk.asked(invite, arrival, excess)),
            Action::Reply(reply) => {
                // Malformed, so it is not of the budget for INVITEs.
                if !desk.takes_other() {
                    out.truncate(start);
                    return Read::Done(None);
                }
                desk.count_refusal(&reply);
                if let Some(refusal) = reply.refusal {
                    let cause = Refused::from(refusal);
                    self.observations.refused(
                        desk.worker.shard,
                        desk.refused(arrival, cause, reply.status),
                    );
                }
                Read::Done(desk.send(reply, arrival.transport, start, out))
            }
            Action::Drop(cause) => {
                desk.shard.dropped(cause.into());
                Read::Done(None)
            }
            Action::Absorb | Action::Response(_) => Read::Done(None),
        }
    }

    /// Reads everything that is neither an INVITE nor an ACK.
    fn read_other<'m, 'r>(
        &self,
        desk: &Desk<'_, '_, 'r>,
        arrival: &Received<'m>,
        out: &mut Vec<u8>,
    ) -> Read<'m, 'r> {
        if !desk.takes_other() {
            return Read::Done(None);
        }
        let start = out.len();
        match self.redirectors[0].handle(self.input(arrival), out) {
            Action::Reply(reply) => {
                desk.count_refusal(&reply);
                return Read::Done(desk.send(reply, arrival.transport, start, out));
            }
            // Line ends may stand before the start line.
            Action::Invite(invite) => {
                return Read::Invite(desk.asked(invite, arrival, None));
            }
            Action::Absorb => desk.shard.absorbed(),
            Action::Response(_) => {
                desk.shard.dropped(Dropped::Response);
                if desk.source.peer.learn {
                    self.observe(arrival.bytes, &desk.sighting());
                }
            }
            Action::Drop(cause) => desk.shard.dropped(cause.into()),
        }
        Read::Done(None)
    }

    /// Answers an INVITE in good order.
    fn answer_invite(
        &self,
        desk: &mut Desk<'_, '_, '_>,
        asked: &Asked<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Option<Reply> {
        let invite = &asked.invite;
        let mut reason = None;
        let plan = match self.reply_cache.find(
            desk.snapshot.answered,
            invite.fingerprint(),
            desk.snapshot.now.second(),
        ) {
            Some(plan) => {
                desk.shard.retransmitted();
                plan
            }
            None => {
                if let Some(excess) = asked.excess.or_else(|| desk.over_rate(asked.arrived)) {
                    return self.refuse(desk, excess, invite, out);
                }
                let Some(decided) = self.plan(desk, asked) else {
                    desk.shard.refused(Refused::Unreadable);
                    let retry_after = desk.source.peer.retry_after;
                    return Some(self.redirectors[0].overloaded(invite, retry_after, out));
                };
                desk.peer_counters.served();
                let plan;
                (plan, reason) = decided;
                plan
            }
        };
        let reply = match plan.plan() {
            Plan::Forward { next_hop } => self.redirectors[0].forward(invite, next_hop, out),
            Plan::Decided(decided) => self.write(decided, invite, out),
        };
        if let Some(reason) = reason
            && reply.status >= 400
        {
            let call = desk.refused_by(asked, reason, reply.status);
            self.observations.refused(desk.worker.shard, call);
        }
        desk.count_refusal(&reply);
        Some(reply)
    }

    /// Answers 503, or not at all.
    fn refuse(
        &self,
        desk: &Desk<'_, '_, '_>,
        excess: Excess,
        invite: &Invite<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Reply> {
        desk.peer_counters.refused(excess);
        if !excess.is_answered() {
            desk.shard.dropped(excess.cause().into());
            return None;
        }
        desk.shard.refused(excess.cause().into());
        let retry_after = desk.source.peer.retry_after;
        Some(self.redirectors[0].overloaded(invite, retry_after, out))
    }

    /// Decides on a new INVITE and remembers how; gives the reason too, unless somebody else was faster or
    /// nothing was decided. `None`: what is remembered of the caller cannot be read at present, and nothing is
    /// remembered of the INVITE.
    fn plan(
        &self,
        desk: &mut Desk<'_, '_, '_>,
        asked: &Asked<'_, '_>,
    ) -> Option<(Arc<SharedPlan>, Option<Reason>)> {
        let invite = &asked.invite;
        if asked.number.is_none()
            && desk.source.peer.learn
            && let Some(plan) = self.learn(desk, asked)
        {
            return Some((plan, None));
        }
        let usable = |target: &Target, filling: &Placeholders| {
            filling
                .fill(&target.uri)
                .is_some_and(|uri| !invite.points_back(uri.as_bytes()))
        };
        let question = Question {
            dialed: asked.dialed,
            caller: asked.caller,
            now: desk.snapshot.now.wall,
            avoided: match invite.uri().scheme() {
                Scheme::Sip | Scheme::Sips => {
                    UserSet::of_user(invite.uri().user().unwrap_or_default())
                }
                _ => UserSet::ALL,
            },
            usable: &usable,
        };
        let decision = decide(desk.snapshot.directory, self.router.contacts(), &question).ok()?;
        let headers = desk.snapshot.policy.headers;
        let plan = desk.worker.plans.of(
            &decision,
            &decision.placeholders(asked.dialed, asked.caller),
            headers,
            &self.redirectors[headers.index()],
        );
        if let Some(earlier) = self.reply_cache.remember(
            desk.snapshot.answered,
            invite.fingerprint(),
            &plan,
            desk.snapshot.now.second(),
        ) {
            // Another thread was faster with the same INVITE.
            return Some((earlier, None));
        }
        desk.shard.decided(decision.outcome, decision.reason);
        let call_id = invite.call_id();
        if desk.snapshot.policy.watches
            && decision.outcome == Outcome::Callback
            && let Some(environment) = decision.environment
        {
            self.learning
                .await_answer(invite.message(), environment.record.id, desk.snapshot.now);
        }
        self.router.decided(
            &decision,
            asked.dialed,
            asked.caller,
            call_id,
            desk.snapshot.now.wall,
        );
        Some((plan, Some(decision.reason)))
    }

    /// Records an outbound call, if the INVITE is one; gives its plan if the peer has a next hop.
    fn learn(&self, desk: &Desk<'_, '_, '_>, asked: &Asked<'_, '_>) -> Option<Arc<SharedPlan>> {
        let invite = &asked.invite;
        let lesson =
            self.learning
                .outbound(desk.snapshot.directory, invite.message(), &desk.sighting());
        let is_outbound = lesson.is_outbound;
        self.take(lesson);
        let plan = desk.source.forward.filter(|_| is_outbound)?;
        let filled = match plan.plan() {
            Plan::Forward { next_hop } if Placeholders::are_in(next_hop) => {
                let filling = desk.outbound_placeholders(asked);
                let next_hop = filling.fill(next_hop).unwrap_or_default().into();
                Some(Arc::new(SharedPlan::new(Plan::Forward { next_hop })))
            }
            _ => None,
        };
        let plan = filled.as_ref().unwrap_or(plan);
        if let Some(earlier) = self.reply_cache.remember(
            desk.snapshot.answered,
            invite.fingerprint(),
            plan,
            desk.snapshot.now.second(),
        ) {
            return Some(earlier);
        }
        desk.shard.forwarded();
        Some(Arc::clone(plan))
    }

    /// Learns from a message that passed by; true if it was an INVITE or a response.
    ///
    /// A mirrored message is one message, however it was carried. What is wrong with its framing does
    /// not matter as long as its headers are whole: capture agents cut bodies off.
    pub(crate) fn observe(&self, bytes: &[u8], sighting: &Sighting<'_>) -> bool {
        let Ok(message) = Message::parse(bytes, Framing::Datagram) else {
            return false;
        };
        if message.fault() == Some(Fault::Unterminated) {
            return false;
        }
        match message.start() {
            StartLine::Response { code, .. } => {
                for progress in self.learning.reply(&message, code, sighting.now) {
                    self.tell(progress, &message, sighting.at);
                }
                true
            }
            StartLine::Request { .. } if message.method() == Some(Method::Invite) => {
                let directory = self.router.directory();
                let peer = sighting.peer;
                let request_uri = message.request_uri_identity(&peer.strip_prefixes);
                let dialed = request_uri.and_then(|request_uri| {
                    identity::dialed(&message, request_uri, peer, &directory)
                });
                if dialed.is_none_or(|dialed| directory.number(dialed).is_none()) {
                    self.take(self.learning.outbound(&directory, &message, sighting));
                }
                true
            }
            _ => false,
        }
    }

    /// Counts and tells what an INVITE taught.
    fn take(&self, lesson: Lesson) {
        if let Some(count) = lesson.count {
            self.metrics.learned(count);
        }
        if let Some(call) = lesson.call {
            // Its end may have been known before it.
            if lesson.count == Some(Learned::Call) && call.status > CallStatus::Initiated {
                self.metrics.learned(Learned::Status);
            }
            self.router.learned(call);
        }
    }

    /// Counts and tells what a reply taught.
    fn tell(&self, progress: Progress, reply: &Message<'_>, at: Timestamp) {
        match progress {
            Progress::Outbound(call) => {
                self.metrics.learned(Learned::Status);
                self.router.learned(call);
            }
            Progress::Answered(environment) => {
                self.metrics.learned(Learned::Answered);
                let call_id = reply.call_id().unwrap_or_default();
                self.router.answered(environment, call_id, at);
            }
        }
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
    fn input<'m>(&self, arrival: &Received<'m>) -> Input<'m> {
        Input {
            bytes: arrival.bytes,
            source: arrival.source,
            transport: arrival.transport,
            draining: self.is_draining(),
        }
    }
}

impl Asked<'_, '_> {
    /// Whose calls the decision looks up, if any.
    fn contact(&self) -> Option<(EnvironmentSlot, E164)> {
        Some((self.number?.environment, self.caller.number()?))
    }
}

impl<'d, 's, 'r> Desk<'d, 's, 'r> {
    /// For a message of this peer.
    fn new(
        worker: &'d mut WorkerContext<'s>,
        snapshot: Snapshot<'r>,
        source: Source<'r>,
        shard: &'d CounterShard,
    ) -> Self {
        Self {
            peer_counters: source.state.shard(worker.shard),
            worker,
            snapshot,
            source,
            shard,
        }
    }

    /// Reads who calls whom.
    fn asked<'m>(
        &self,
        invite: Invite<'m>,
        arrival: &Received<'_>,
        excess: Option<Excess>,
    ) -> Asked<'m, 'r> {
        let (directory, peer) = (self.snapshot.directory, self.source.peer);
        let dialed = identity::dialed(
            invite.message(),
            invite.request_uri_identity(&peer.strip_prefixes),
            peer,
            directory,
        );
        let number = dialed.and_then(|dialed| directory.number(dialed));
        let environment = number
            .and_then(|number| directory.environment(number.environment))
            .map(|environment| &environment.record);
        let caller = identity::caller(invite.message(), peer, environment);
        Asked {
            invite,
            transport: arrival.transport,
            source: self.source,
            excess,
            arrived: self.arrived(arrival),
            dialed,
            number,
            caller,
        }
    }

    /// What the placeholders of a next hop stand for. Both agents are the one that calls: the one that
    /// the agent header names, or else the only outbound agent that owns the calling number.
    fn outbound_placeholders(&self, asked: &Asked<'_, '_>) -> Placeholders {
        let directory = self.snapshot.directory;
        let mut named = asked
            .invite
            .message()
            .header(&self.snapshot.policy.agent_header)
            .filter_map(|value| Uuid::try_parse(value.text().trim()).ok());
        let calling = || {
            let owner = learning::sole_outbound_owner(directory, asked.caller.number()?)?;
            Some(owner.record.id)
        };
        let agent = named.next().map(AgentId).or_else(calling);
        Placeholders {
            agent,
            source_agent: agent,
            dialed: asked.dialed,
            caller: asked.caller,
        }
    }

    /// How a message is read that may be learned from.
    fn sighting(&self) -> Sighting<'r> {
        Sighting {
            peer: self.source.peer,
            agent_header: &self.snapshot.policy.agent_header,
            at: self.snapshot.now.wall,
            now: self.snapshot.now,
        }
    }

    /// Lets a reply go that was appended to the buffer from `start` on, unless it is too long; gives
    /// where it goes.
    fn send(
        &self,
        reply: Reply,
        transport: Transport,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        if out.len() - start > MAX_DATAGRAM && transport == Transport::Udp {
            out.truncate(start);
            self.shard.dropped(Dropped::ReplyTooLarge);
            return None;
        }
        self.shard.replied(reply.status);
        Some(self.destination(&reply))
    }

    /// Where a reply goes: to its source, unless `maddr` names a peer.
    fn destination(&self, reply: &Reply) -> SocketAddr {
        let is_peer = |maddr: &SocketAddr| self.snapshot.policy.source(maddr.ip()).is_some();
        reply.maddr.filter(is_peer).unwrap_or(reply.destination)
    }

    /// Whether the peer may have another message answered that is no INVITE.
    fn takes_other(&self) -> bool {
        let rate = self.source.peer.rate;
        let rate = rate.map_or(OTHERS_UNLIMITED, |rate| rate.max(OTHERS_LEAST));
        let now = self.snapshot.now.uptime;
        let takes = self.source.state.others.take(rate, now, now);
        if !takes {
            self.peer_counters.dropped();
            self.shard.dropped(Dropped::OtherBudget);
        }
        takes
    }

    /// When a message came, since the server was made.
    fn arrived(&self, arrival: &Received<'_>) -> Duration {
        self.snapshot.now.uptime.saturating_sub(arrival.waited)
    }

    /// Why an INVITE is refused before it is read, if it is: unless it turns out to be known.
    fn excess(&mut self, arrival: &Received<'_>) -> Option<Excess> {
        let wants_answers = self.source.peer.refuse == Refusal::Answer;
        let arrived = self.arrived(arrival);
        let pressure = self.worker.pressure.as_deref_mut()?;
        if pressure.is_late(arrival.waited) {
            return Some(Excess::new(ExcessCause::Late, wants_answers));
        }
        let arriving = Arriving {
            index: self.source.index,
            ip: arrival.source.ip(),
            rate: self.source.peer.rate,
            wants_answers,
        };
        let is_answered = match pressure.invite(&arriving) {
            Admission::Answer => true,
            Admission::Drop => false,
            Admission::Serve => {
                if wants_answers || !pressure.is_high() {
                    return None;
                }
                // Under pressure nobody reads what is over the rate, to see whether it is known.
                let rate = self.source.peer.rate?;
                let now = self.snapshot.now.uptime;
                let is_over = !self.source.state.invites.has(rate, arrived, now);
                return is_over.then_some(Excess::new(ExcessCause::Rate, false));
            }
        };
        Some(Excess::new(ExcessCause::Share, is_answered))
    }

    /// Why a new INVITE is refused, if it is over its peer's rate.
    fn over_rate(&self, arrived: Duration) -> Option<Excess> {
        let rate = self.source.peer.rate?;
        let now = self.snapshot.now.uptime;
        let takes = self.source.state.invites.take(rate, arrived, now);
        let is_answered = self.source.peer.refuse == Refusal::Answer;
        (!takes).then_some(Excess::new(ExcessCause::Rate, is_answered))
    }

    /// What the operator is shown of an INVITE that could not be read.
    fn refused(&self, arrival: &Received<'_>, cause: Refused, status: u16) -> RefusedCall {
        RefusedCall {
            at: self.snapshot.now.wall,
            transport: Some(transport_name(arrival.transport)),
            peer: self.source.peer.name.clone(),
            source: Some(arrival.source),
            to: None,
            from: None,
            reason: cause.name(),
            status: Some(status),
            count: 1,
        }
    }

    /// What the operator is shown of an INVITE that was refused by a decision.
    fn refused_by(&self, asked: &Asked<'_, '_>, reason: Reason, status: u16) -> RefusedCall {
        let user = asked.invite.uri().user().unwrap_or_default();
        RefusedCall {
            at: self.snapshot.now.wall,
            transport: Some(transport_name(asked.transport)),
            peer: self.source.peer.name.clone(),
            source: Some(asked.invite.origin().address),
            to: shown_dialed(asked.dialed, user),
            from: asked.caller.number(),
            reason: reason.name(),
            status: Some(status),
            count: 1,
        }
    }

    /// Counts the cause, if the reply is an error.
    fn count_refusal(&self, reply: &Reply) {
        if let Some(refusal) = reply.refusal {
            self.shard.refused(refusal.into());
            tracing::debug!(peer = %self.source.peer.name, ?refusal, "request refused");
        }
    }
}

/// From how many contacts on their agents are fetched beforehand too: for fewer, following the way twice
/// takes longer than is won.
const WORTH_FOLLOWING: usize = 4;

/// The longest reply that fits into a UDP datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;

/// Messages other than INVITEs that a peer without a rate may have answered each second.
const OTHERS_UNLIMITED: u32 = 20_000;

/// The same for a peer with a rate, at least.
const OTHERS_LEAST: u32 = 100;

#[cfg(test)]
mod tests {
    use ringback_index::ContactIndex;
    use ringback_routing::{Decision, EnvironmentId, LearnedCall};

    use super::*;
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

    /// Hands a message to a core, after it has waited for too long or not; gives the status of the reply.
    fn ask(core: &Core<Nobody>, message: &str, late: bool) -> Option<u16> {
        let mut plans = PlanCache::default();
        let mut pressure = Pressure::default();
        let mut worker = WorkerContext {
            shard: 0,
            plans: Plans::Own(&mut plans),
            pressure: Some(&mut pressure),
        };
        let arrival = Received {
            bytes: message.as_bytes(),
            source: "127.0.0.1:5060".parse().unwrap(),
            transport: Transport::Udp,
            waited: Duration::from_secs(if late { 33 } else { 0 }),
        };
        let snapshot = Snapshot {
            policy: &core.policy.load(),
            directory: &core.router.directory(),
            answered: &core.reply_cache.generations(),
            now: core.now(),
        };
        let mut out = Vec::new();
        core.handle(&mut worker, snapshot, &arrival, &mut out)?;
        String::from_utf8(out).unwrap()[8..11].parse().ok()
    }

    /// A core with this configuration.
    fn core(toml: &str) -> Core<Nobody> {
        let spec: SipSpec = toml::from_str(toml).unwrap();
        let config = SipConfig::try_from(spec).unwrap();
        let nobody = Nobody {
            directory: ArcSwap::from_pointee(Directory::new(7)),
            contacts: ContactIndex::new(7),
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
