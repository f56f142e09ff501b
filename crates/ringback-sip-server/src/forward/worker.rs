//! The proxy of one UDP thread: what is shown to it, and what it sends.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use ringback_routing::{Contacts, TargetState};
use ringback_sip_proto::check::{Request, Role, Verdict, check};
use ringback_sip_proto::message::{Framing, StartLine};
use ringback_sip_proto::rsip::Method;
use ringback_sip_proto::{Message, Origin, Responder, Transport};
use ringback_sip_proxy::{
    Arrived, Attempt, BranchName, Cause, Event, Invited, Keys, Output, Proxy, Taken, Transmit, Way,
};

use crate::admission::gate::Gate;
use crate::clock::Now;
use crate::forward::calls::Calls;
use crate::forward::inbox::{Arrival, Flow, Handed};
use crate::forward::invite::PlannedCall;
use crate::forward::streams::NOBODY;
use crate::outbox::{LocalAddress, Outbox};
use crate::policy::Policy;
use crate::program::Program;
use crate::redirect::effect::{Effect, Outcome};
use crate::redirect::read::sighting;
use crate::redirect::{Call, Received, Snapshot};
use crate::shared::Shared;
use crate::transport::undelivered;

/// The proxy of one UDP thread.
pub(crate) struct Forwarding<P> {
    /// The state shared by all threads.
    pub(super) shared: Arc<Shared<P>>,
    /// Which thread this is.
    pub(super) thread: usize,
    /// The transactions of its calls.
    proxy: Proxy,
    /// What is known of them besides.
    calls: Calls,
    /// Writes replies to CANCELs that belong to no call.
    responder: Responder,
    /// The ways back that are not connections; their places stand for them in the proxy.
    flows: Vec<Flow>,
    /// What was handed over, while it is worked off.
    handed: Vec<Handed>,
}

impl<P: Program> Forwarding<P> {
    /// Without calls; `None`: nothing is forwarded, or this thread owns no calls.
    pub(crate) fn new(shared: &Arc<Shared<P>>, thread: usize) -> Option<Self> {
        let forward = &shared.forward;
        let worker = u16::try_from(thread).ok().filter(|_| forward.is_on)?;
        let settings = shared.policy.load().forward.settings.clone();
        let seed = shared.now().since_epoch.as_nanos() as u64;
        Some(Self {
            shared: Arc::clone(shared),
            thread,
            proxy: Proxy::new(settings, forward.key, worker, seed),
            calls: Calls::default(),
            responder: Responder::new(forward.key),
            flows: Vec::new(),
            handed: Vec::new(),
        })
    }

    /// What wakes the thread when something is handed over.
    pub(crate) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.shared.forward.inboxes.get(self.thread)?.bell()
    }

    /// How long the thread may wait.
    pub(crate) fn patience(&self, now: Now) -> Duration {
        let wakes_by = self.proxy.wakes_by();
        let wait = wakes_by.map_or(LONGEST_WAIT, |at| at.saturating_sub(now.uptime));
        wait.min(LONGEST_WAIT)
    }

    /// Takes a datagram that is a reply to a branch of ours, whoever sent it, because nobody can guess a branch; or
    /// the ACK or CANCEL of a peer in forward mode, with the outcome of that. `None`: it is treated as everywhere.
    pub(crate) fn datagram<'m, 'r, C: Contacts>(
        &mut self,
        snapshot: Snapshot<'r, C>,
        received: Received<'m>,
        local: Option<LocalAddress>,
    ) -> Option<Option<Outcome<'m, 'r>>> {
        let bytes = received.bytes;
        if bytes.starts_with(b"SIP/2.0 ") {
            return self.reply(snapshot.now, bytes).then_some(None);
        }
        let thread = u16::try_from(self.thread).unwrap_or_default();
        let from = Arrival {
            origin: received.origin,
            flow: Flow::Udp(thread, local),
        };
        let ip = received.origin.address.ip();
        let source = snapshot.policy.source(ip);
        let source = source.filter(|source| source.peer.transports.contains(Transport::Udp));
        // A request in a call that we are in the path of, of a peer or a target.
        if memchr::memmem::find(bytes, b";lr").is_some()
            && (source.is_some() || self.shared.forward.names.is_target(ip))
        {
            let mut is_taken = false;
            with_request(bytes, received.origin, |message, request| {
                let is_ack = request.method == Some(Method::Ack);
                let keys = &self.shared.forward.keys;
                if keys.in_dialog(message, request).is_none() {
                    return;
                }
                is_taken = true;
                let may_go = source.is_none_or(|source| {
                    is_ack || Gate::new(source, ip, received.waited, snapshot.now).takes_other()
                });
                if may_go {
                    self.in_dialog(message, request, &from);
                }
            });
            if is_taken {
                return Some(None);
            }
        }
        if !bytes.starts_with(b"ACK ") && !bytes.starts_with(b"CANCEL ") {
            return None;
        }
        let source = source.filter(|source| source.peer.forwards)?;
        self.request(snapshot.now, bytes, from, 0);
        Some(Some(Outcome::new(Ok(source)).with(Effect::Absorbed)))
    }

    /// Shows an INVITE to the transactions; true if it came again.
    pub(crate) fn is_known(
        &mut self,
        now: Now,
        call: &Call<'_, '_>,
        local: Option<LocalAddress>,
    ) -> bool {
        let arrived = self.arrived(call, local);
        self.proxy.request(now.uptime, arrived) != Taken::No
    }

    /// Sends an INVITE on.
    pub(crate) fn begin(
        &mut self,
        now: Now,
        call: &Call<'_, '_>,
        local: Option<LocalAddress>,
        planned: PlannedCall,
    ) {
        let arrived = self.arrived(call, local);
        let invited = Invited {
            token: self.calls.add(planned.decided, planned.open),
            numbers: &call.numbers(),
        };
        self.proxy.begin(now.uptime, arrived, invited, planned.plan);
    }

    /// Takes what the system heard of requests that did not arrive at their target.
    pub(crate) fn undelivered(&mut self, socket: &UdpSocket) {
        let now = self.shared.now();
        undelivered::for_each_branch(socket, |branch| {
            if usize::from(branch.worker) == self.thread {
                self.proxy.failed(now.uptime, branch.id, Cause::Refused);
            } else {
                let handed = Handed::Failed(branch.id, Cause::Refused);
                self.shared.forward.hand(branch.worker, handed);
            }
        });
    }

    /// Does what is due and what was handed over, and puts what is to be sent into the outbox of the thread.
    pub(crate) fn turn(&mut self, policy: &Policy, out: &mut Outbox) {
        let shared = Arc::clone(&self.shared);
        let now = shared.now();
        // A reload may have changed them.
        self.proxy.set(policy.forward.settings.clone());
        let mut handed = std::mem::take(&mut self.handed);
        if let Some(inbox) = shared.forward.inboxes.get(self.thread) {
            inbox.take(&mut handed);
        }
        for handed in handed.drain(..) {
            self.take(now, handed);
        }
        self.handed = handed;
        if self.proxy.wakes_by().is_some_and(|at| now.uptime >= at) {
            self.proxy.timeout(now.uptime);
        }
        self.flush(now, policy, out);
        shared.forward.set_open(self.thread, self.proxy.calls());
        if shared.is_draining() {
            shared
                .forward
                .set_ringing(self.thread, self.proxy.ringing());
        }
    }

    /// The server ends: what rings is cancelled and answered.
    pub(crate) fn shut_down(&mut self, policy: &Policy, out: &mut Outbox) {
        let now = self.shared.now();
        self.proxy.shut_down(now.uptime);
        self.flush(now, policy, out);
    }

    /// An INVITE as it is shown to the proxy.
    fn arrived<'c, 'm>(
        &mut self,
        call: &'c Call<'m, '_>,
        local: Option<LocalAddress>,
    ) -> Arrived<'c, 'm> {
        let thread = u16::try_from(self.thread).unwrap_or_default();
        Arrived {
            message: call.invite.message(),
            request: call.invite.request(),
            origin: call.origin(),
            flow: self.number(Flow::Udp(thread, local)),
        }
    }

    /// Takes what another thread handed over.
    fn take(&mut self, now: Now, handed: Handed) {
        match handed {
            Handed::Begin {
                bytes,
                from,
                numbers,
                planned,
            } => {
                let flow = self.number(from.flow);
                with_request(&bytes, from.origin, |message, request| {
                    let arrived = Arrived {
                        message,
                        request,
                        origin: from.origin,
                        flow,
                    };
                    if self.proxy.request(now.uptime, arrived) == Taken::No {
                        let invited = Invited {
                            token: self.calls.add(planned.decided, planned.open),
                            numbers: &numbers,
                        };
                        self.proxy.begin(now.uptime, arrived, invited, planned.plan);
                    }
                });
            }
            Handed::Request { bytes, from, tries } => self.request(now, &bytes, from, tries),
            Handed::Reply(bytes) => {
                self.reply(now, &bytes);
            }
            Handed::Failed(branch, cause) => self.proxy.failed(now.uptime, branch, cause),
            Handed::Gone(way) => self.proxy.gone(now.uptime, way),
        }
    }

    /// Takes a reply, or hands it to its owner; false if it is to none of our branches.
    fn reply(&mut self, now: Now, bytes: &[u8]) -> bool {
        let Ok(message) = Message::parse(bytes, Framing::Datagram) else {
            return false;
        };
        if let Some(name) = Keys::probe_of(&message) {
            let forward = &self.shared.forward;
            forward
                .probes
                .replied(forward, name, status_of(&message), now);
            return true;
        }
        if self.stateless_reply(&message) {
            return true;
        }
        let Some(branch) = Keys::branch_of(&message) else {
            return false;
        };
        let forward = &self.shared.forward;
        if !matches!(check(&message, Role::Proxy), Verdict::Response(_)) {
            forward.counters.stray();
        } else if usize::from(branch.worker) != self.thread {
            forward.hand(branch.worker, Handed::Reply(bytes.into()));
        } else if !self.take_reply(now, branch, &message) {
            self.shared.forward.counters.stray();
        }
        true
    }

    /// Shows a reply to its transaction, with the targets that it names and that may be followed; false if there is no
    /// such transaction.
    fn take_reply(&mut self, now: Now, branch: BranchName, message: &Message<'_>) -> bool {
        let policy = self.shared.policy.load();
        let is_redirection = matches!(status_of(message), 300..400);
        if !is_redirection || policy.forward.follow.is_empty() {
            return self.proxy.reply(now.uptime, branch, message);
        }
        let mut targets = Vec::new();
        if let Some((origin, invite)) = self.proxy.invite(branch) {
            with_request(invite, origin, |_, request| {
                let forward = &self.shared.forward;
                targets = forward.followed(message, request, origin, (&policy, now.uptime));
            });
        }
        self.proxy.redirected(now.uptime, branch, message, targets)
    }

    /// Takes an ACK or a CANCEL, or hands it on until a thread knows it.
    fn request(&mut self, now: Now, bytes: &[u8], from: Arrival, tries: usize) {
        with_request(bytes, from.origin, |message, request| {
            if self.in_dialog(message, request, &from) {
                return;
            }
            let flow = self.number(from.flow);
            let arrived = Arrived {
                message,
                request,
                origin: from.origin,
                flow,
            };
            if self.proxy.request(now.uptime, arrived) != Taken::No {
                return;
            }
            let forward = &self.shared.forward;
            if tries + 1 < forward.owners() {
                let next = (self.thread + 1) % forward.owners();
                let handed = Handed::Request {
                    bytes: bytes.into(),
                    from,
                    tries: tries + 1,
                };
                forward.hand(u16::try_from(next).unwrap_or_default(), handed);
            } else if request.method == Some(Method::Cancel) {
                // An INVITE that was refused has been answered for good: its CANCEL is accepted all the same.
                let redirect = &self.shared.redirect;
                let fingerprint = redirect.redirector.fingerprint(message, request);
                let answered = redirect.reply_cache.generations();
                let known = redirect
                    .reply_cache
                    .find(&answered, fingerprint, now.second());
                let status = if known.is_some() {
                    (200, "OK")
                } else {
                    (481, "Call/Transaction Does Not Exist")
                };
                self.respond(message, request, &from, status);
            }
        });
    }

    /// Puts what the proxy sends into the outbox, or on its way otherwise.
    fn flush(&mut self, now: Now, policy: &Policy, out: &mut Outbox) {
        let shared = Arc::clone(&self.shared);
        let directory = shared.program.directory();
        let answered = shared.redirect.reply_cache.generations();
        let snapshot = Snapshot {
            policy,
            directory: &directory,
            contacts: shared.program.contacts(),
            answered: &answered,
            now,
            probed: None,
            is_draining: shared.is_draining(),
        };
        let own = shared.forward.ways.listener_of(self.thread);
        let mut unsent = Vec::new();
        while let Some(output) = self.proxy.poll_output() {
            match output {
                Output::Event(event) => {
                    if let Event::Attempt(attempt) = &event {
                        note_attempt(&shared, &mut self.calls, attempt, now, policy);
                    }
                    count(&shared, &event, self.calls.state(event.token()));
                    self.calls.note(&event, now, &shared.program);
                }
                Output::Transmit(transmit) => match transmit.way {
                    Way::Back(flow) => {
                        learn(&shared, snapshot, &transmit);
                        let flow = flow_of(&self.flows, flow);
                        send_back(&shared, self.thread, flow, &transmit, Some(&mut *out));
                    }
                    Way::Out { socket, branch } => {
                        if transmit.transport != Transport::Udp {
                            let thread = u16::try_from(self.thread).unwrap_or_default();
                            shared.forward.streams.send_out(
                                &shared,
                                &transmit,
                                socket,
                                (thread, branch),
                            );
                        } else if socket == own {
                            put(out, None, &transmit);
                        } else {
                            let thread = shared.forward.ways.thread_of(socket);
                            if let Err(error) = send_by(&shared, thread, &transmit) {
                                tracing::debug!(%error, "a request was not sent");
                                unsent.push(branch);
                            }
                        }
                    }
                },
            }
        }
        if unsent.is_empty() {
            return;
        }
        for branch in unsent {
            self.proxy.failed(now.uptime, branch, Cause::Transport);
        }
        self.flush(now, policy, out);
    }

    /// Sends a reply of our own back.
    pub(super) fn respond(
        &self,
        message: &Message<'_>,
        request: &Request<'_>,
        from: &Arrival,
        status: (u16, &str),
    ) {
        let mut bytes = Vec::new();
        let written =
            self.responder
                .respond(message, request, from.origin, status, &[], &mut bytes);
        let transmit = Transmit {
            bytes: &bytes,
            transport: from.origin.transport,
            address: written.destination,
            way: Way::Back(0),
        };
        send_back(&self.shared, self.thread, from.flow, &transmit, None);
    }

    /// The number that stands for a way back in the proxy.
    fn number(&mut self, flow: Flow) -> u64 {
        if let Flow::Connection(id) = flow {
            return CONNECTION | id;
        }
        let known = self.flows.iter().position(|known| *known == flow);
        let index = known.unwrap_or_else(|| {
            if self.flows.len() < MOST_FLOWS {
                self.flows.push(flow);
                return self.flows.len() - 1;
            }
            // More addresses than any machine has: the system chooses one.
            0
        });
        index as u64
    }
}

/// The way back with this number.
fn flow_of(flows: &[Flow], number: u64) -> Flow {
    if number & CONNECTION != 0 {
        return Flow::Connection(number & !CONNECTION);
    }
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    flows.get(index).copied().unwrap_or(Flow::Udp(0, None))
}

/// Sends something back where a request came from.
fn send_back<P: Program>(
    shared: &Arc<Shared<P>>,
    thread: usize,
    flow: Flow,
    transmit: &Transmit<'_>,
    out: Option<&mut Outbox>,
) {
    match (flow, out) {
        (Flow::Connection(id), _) => {
            if !shared.forward.streams.send_back(id, transmit.bytes) {
                reply_anew(shared, transmit.address.ip(), transmit.bytes);
            }
        }
        (Flow::Address(address), _) => {
            if !shared.forward.streams.send_to(address, transmit.bytes) {
                reply_anew(shared, transmit.address.ip(), transmit.bytes);
            }
        }
        (Flow::Udp(from, local), Some(out)) if usize::from(from) == thread => {
            put(out, local, transmit);
        }
        (Flow::Udp(from, _), _) => {
            if let Err(error) = send_by(shared, usize::from(from), transmit) {
                tracing::debug!(%error, "a reply was not sent");
            }
        }
    }
}

/// Sends a reply over a new connection, because that of its request is gone: to where the request came from, at the
/// port that its sender gives in `Via` (RFC 3261 §18.2.2).
pub(super) fn reply_anew<P: Program>(shared: &Arc<Shared<P>>, ip: IpAddr, bytes: &[u8]) {
    let message = Message::parse(bytes, Framing::Stream).ok();
    let Some(via) = message.and_then(|message| message.top_via()) else {
        return;
    };
    let (transport, default) = if via.transport().eq_ignore_ascii_case(b"TLS") {
        (Transport::Tls, 5_061)
    } else {
        (Transport::Tcp, 5_060)
    };
    let address = SocketAddr::new(ip, via.port().unwrap_or(default));
    let ways = &shared.forward.ways;
    let Some(hop) = ways.way_back(transport, address, via.sent_by().as_bytes()) else {
        return;
    };
    let transmit = Transmit {
        bytes,
        transport,
        address,
        way: Way::Back(0),
    };
    let streams = &shared.forward.streams;
    streams.send_out(shared, &transmit, hop.socket, NOBODY);
}

/// Puts a message into the outbox of this thread.
fn put(out: &mut Outbox, local: Option<LocalAddress>, transmit: &Transmit<'_>) {
    let start = out.bytes.len();
    out.bytes.extend_from_slice(transmit.bytes);
    out.leave_from(local);
    out.transmit(start, transmit.address);
}

/// Sends a message from the socket of another thread.
pub(super) fn send_by<P>(
    shared: &Shared<P>,
    thread: usize,
    transmit: &Transmit<'_>,
) -> std::io::Result<usize> {
    let sockets: &[UdpSocket] = shared.forward.sockets.get().map_or(&[], |all| all);
    let socket = sockets
        .get(thread)
        .ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let sent = undelivered::send(socket, transmit.bytes, transmit.address)?;
    Ok(sent)
}

/// Learns from the final reply that goes up: how an outbound call ended, and that a callback was answered.
fn learn<P: Program, C: Contacts>(
    shared: &Shared<P>,
    snapshot: Snapshot<'_, C>,
    transmit: &Transmit<'_>,
) {
    let is_final = transmit
        .bytes
        .strip_prefix(b"SIP/2.0 ")
        .and_then(<[u8]>::first)
        .is_some_and(|digit| *digit != b'1');
    if !is_final {
        return;
    }
    let Some(source) = snapshot.policy.source(transmit.address.ip()) else {
        return;
    };
    if let Ok(message) = Message::parse(transmit.bytes, Framing::Datagram) {
        let sighting = sighting(snapshot, source);
        if let Some(learned) = shared.redirect.learning.observe(&message, &sighting) {
            shared.tell(learned);
        }
    }
}

/// Notes what an attempt says about its target.
fn note_attempt<P>(
    shared: &Shared<P>,
    calls: &mut Calls,
    attempt: &Attempt,
    now: Now,
    policy: &Policy,
) {
    let forward = &shared.forward;
    let Some(way) = attempt.way else { return };
    calls.set_state(attempt.token, forward.health.state(&way, now.uptime));
    if let Some(environment) = calls.environment(attempt.token) {
        let failover = &policy.forward.settings.failover;
        let is_failure = match attempt.cause {
            None | Some(Cause::Cancelled) => false,
            Some(Cause::Status) => attempt
                .status
                .is_some_and(|status| failover.contains(status)),
            Some(Cause::Timeout | Cause::Refused | Cause::Transport) => true,
        };
        forward.health.count_call(environment, way, is_failure);
    }
    let hold_down = policy.forward.hold_down;
    if let Some(way) = forward.health.note(attempt, now, hold_down) {
        forward.hand_to_all(|| Handed::Gone(way));
    }
}

/// Counts what happened; `state` is that of the last target.
fn count<P>(shared: &Shared<P>, event: &Event, state: TargetState) {
    let counters = &shared.forward.counters;
    match event {
        Event::Attempt(Attempt {
            first_reply: Some(took),
            ..
        }) => counters.first_reply(*took),
        Event::Failover { cause, .. } => counters.failed_over(*cause),
        Event::Answered { .. } => counters.ended(state, 200),
        Event::Failed { status, .. } => counters.ended(state, *status),
        Event::Attempt(_) | Event::Closed { .. } => {}
    }
}

/// The status of a reply; 0 if it is none.
pub(super) fn status_of(message: &Message<'_>) -> u16 {
    match message.start() {
        StartLine::Response { code, .. } => code,
        _ => 0,
    }
}

/// Reads a request that is in good order; of another nothing is done.
fn with_request(bytes: &[u8], origin: Origin, run: impl FnOnce(&Message<'_>, &Request<'_>)) {
    let framing = if origin.transport.is_stream() {
        Framing::Stream
    } else {
        Framing::Datagram
    };
    if let Ok(message) = Message::parse(bytes, framing)
        && let Verdict::Route(request) = check(&message, Role::Proxy)
    {
        run(&message, &request);
    }
}

/// Marks the number of a connection.
const CONNECTION: u64 = 1 << 63;

/// How many ways back are kept apart.
const MOST_FLOWS: usize = 4_096;

/// How long a thread sleeps at most: then it looks whether there are other settings.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
