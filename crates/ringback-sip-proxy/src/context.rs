//! The response context of one INVITE (RFC 3261 §16.7): its server transaction, its branches, what leads from one
//! target to the next, and what goes up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringback_sip_proto::check::{Request, Role, Verdict, check};
use ringback_sip_proto::message::Framing;
use ringback_sip_proto::{Message, Origin, Responder, Transport};

use crate::best::{Best, Gathered};
use crate::branch::{Act, Branch, State};
use crate::key::BranchName;
use crate::output::{Attempt, Cause, Event, Outbox, Way};
use crate::plan::{Hop, MOST_OVER_UDP, Plan, Target};
use crate::reply::write_upward;
use crate::request::{Forwarded, status_of, write_reason};
use crate::server::{Server, ServerAct};
use crate::settings::Settings;

/// The response context of one INVITE.
#[derive(Debug)]
pub(crate) struct Context {
    /// What the call is called outside.
    token: u64,
    /// The INVITE as it came, while it may have to be sent, cancelled or answered.
    invite: Option<Box<[u8]>>,
    /// Where it came from.
    origin: Origin,
    /// The way back.
    flow: u64,
    /// Where replies go.
    reply_to: SocketAddr,
    /// What makes a loop.
    loop_hash: u64,
    /// What is to be done.
    plan: Plan,
    /// The server transaction.
    server: Server,
    /// The latest reply that went up, to be sent again; a 2xx is sent again by whoever sent it.
    latest: Option<Box<[u8]>>,
    /// The client transactions. The last one is the one that counts while no final reply went up.
    branches: Vec<Branch>,
    /// The target that is tried next.
    next_target: usize,
    /// The branch whose 3xx is followed by the targets that it named.
    follows: Option<usize>,
    /// The best final reply so far.
    best: Best,
    /// The caller hung up: the `Reason` lines for the targets.
    hung_up: Option<Box<[u8]>>,
}

/// What a context works with, besides itself.
pub(crate) struct Work<'w> {
    /// The time.
    pub(crate) now: Duration,
    /// The times and rules.
    pub(crate) settings: &'w Settings,
    /// Writes replies of our own.
    pub(crate) responder: &'w Responder,
    /// The worker, in the names of branches.
    pub(crate) worker: u16,
    /// Gives names to new branches, and takes them down for this context.
    pub(crate) name: &'w mut dyn FnMut(u16) -> u64,
    /// What goes out.
    pub(crate) out: &'w mut Outbox,
}

/// How trying a target went.
struct Outcome<'o, 'm> {
    /// The status: that of the reply, or the one that it counts as.
    status: u16,
    /// The reply; `None`: it is of our own making.
    reply: Option<&'o Message<'m>>,
    /// Why the target did not take the call.
    cause: Cause,
}

impl Context {
    /// A new INVITE: 100 goes up at once, and it goes to the first target.
    pub(crate) fn begin(
        message: &Message<'_>,
        request: &Request<'_>,
        (origin, flow): (Origin, u64),
        plan: Plan,
        (token, loop_hash): (u64, u64),
        work: &mut Work<'_>,
    ) -> Self {
        let mut context = Self {
            token,
            invite: Some(message.bytes().into()),
            origin,
            flow,
            reply_to: request.via.reply_address(origin),
            loop_hash,
            plan,
            server: Server::Proceeding,
            latest: None,
            branches: Vec::with_capacity(1),
            next_target: 0,
            follows: None,
            best: Best::default(),
            hung_up: None,
        };
        let start = work.out.bytes.len();
        let trying = (100, "Trying");
        work.responder
            .respond(message, request, origin, trying, &[], &mut work.out.bytes);
        context.latest = Some(work.out.bytes.get(start..).unwrap_or_default().into());
        context.send_up(start, work);
        if !context.start_next(work) {
            context.finish(work);
        }
        context
    }

    /// The INVITE came again: the latest reply is sent again, but a 2xx, which its sender repeats.
    pub(crate) fn retransmitted(&self, work: &mut Work<'_>) {
        if matches!(self.server, Server::Proceeding | Server::Completed { .. }) {
            self.resend(work);
        }
    }

    /// An ACK came; whether it ends here.
    pub(crate) fn acknowledge(&mut self, work: &mut Work<'_>) -> bool {
        let is_stream = self.origin.transport.is_stream();
        let ends_here = self.server.acknowledge(work.now, is_stream, work.settings);
        if ends_here {
            self.latest = None;
        }
        ends_here
    }

    /// A CANCEL came (§16.10): it is answered each time, and counts once.
    pub(crate) fn hang_up(
        &mut self,
        cancel: &Message<'_>,
        request: &Request<'_>,
        (origin, flow): (Origin, u64),
        work: &mut Work<'_>,
    ) {
        let start = work.out.bytes.len();
        let reply = work.responder.respond(
            cancel,
            request,
            origin,
            (200, "OK"),
            &[],
            &mut work.out.bytes,
        );
        work.out
            .transmit(start, origin.transport, reply.destination, Way::Back(flow));
        if self.hung_up.is_some() || !matches!(self.server, Server::Proceeding) {
            return;
        }
        let mut reason = Vec::new();
        write_reason(cancel, &mut reason);
        self.hung_up = Some(reason.into());
        // What other targets said before does not count any more.
        self.best = Best::default();
        self.cancel_pending(work);
        if !self.branches.last().is_some_and(Branch::is_pending) {
            self.complete_with(487, work);
        }
    }

    /// A reply to the INVITE or the CANCEL of a branch; whether it was expected.
    pub(crate) fn reply(
        &mut self,
        index: usize,
        message: &Message<'_>,
        to_cancel: bool,
        work: &mut Work<'_>,
    ) -> bool {
        let Some(branch) = self.branches.get_mut(index) else {
            return false;
        };
        let status = status_of(message);
        if to_cancel {
            branch.cancel_answered(work.now, status >= 200, work.settings);
            return true;
        }
        if branch.first_reply.is_none() {
            branch.first_reply = Some(work.now.saturating_sub(branch.started_at));
        }
        match status {
            0..200 => self.provisional(index, status, message, work),
            200..300 => self.answer(index, message, work),
            _ => self.refusal(index, status, message, work),
        }
    }

    /// A 3xx reply of a branch, which is shown next, names these targets: they are tried next, if it decides what is.
    pub(crate) fn follow(&mut self, index: usize, targets: Vec<Target>) {
        let Some(branch) = self.branches.get(index) else {
            return;
        };
        let may_follow = self.is_ringing()
            && self.hung_up.is_none()
            && !branch.has_outcome
            && branch.is_pending()
            && self
                .plan
                .targets
                .get(usize::from(branch.target))
                .is_some_and(|target| !target.is_followed);
        if !may_follow {
            return;
        }
        let mut all = std::mem::take(&mut self.plan.targets).into_vec();
        let before = all.len();
        for target in targets {
            let is_new = all.iter().all(|known| known.uri != target.uri);
            if is_new && all.len() < MOST_TARGETS {
                let place = self.next_target + all.len() - before;
                all.insert(place, target);
            }
        }
        self.follows = (all.len() > before).then_some(index);
        self.plan.targets = all.into();
    }

    /// The INVITE as it came, while it is kept, and where it came from.
    pub(crate) fn invite(&self) -> Option<(Origin, &[u8])> {
        Some((self.origin, self.invite.as_deref()?))
    }

    /// The INVITE of a branch could not be sent, or its connection was lost.
    pub(crate) fn failed(&mut self, index: usize, cause: Cause, work: &mut Work<'_>) {
        let Some(branch) = self.branches.get_mut(index) else {
            return;
        };
        // After a provisional reply, the final one may come in another way.
        if !matches!(branch.state, State::Calling { .. }) {
            return;
        }
        if let Some(smaller) = branch.smaller.take() {
            branch.hop = smaller;
            branch.call(work.now, work.settings);
            self.send_invite(index, work);
            return;
        }
        branch.state = State::Terminated;
        let outcome = Outcome {
            status: 503,
            reply: None,
            cause,
        };
        self.settle(index, &outcome, work);
    }

    /// Nobody is at this address: what waits there for a first reply goes to the next target, if one follows that
    /// may be up.
    pub(crate) fn gone(&mut self, way: (Transport, SocketAddr), work: &mut Work<'_>) {
        let Some(index) = self.branches.len().checked_sub(1) else {
            return;
        };
        let another_follows = self.another_follows(|hop| (hop.transport, hop.address) != way);
        let Some(branch) = self.branches.get_mut(index) else {
            return;
        };
        let is_there = (branch.hop.transport, branch.hop.address) == way;
        if is_there && another_follows && branch.fall_silent(work.settings) {
            let outcome = Outcome {
                status: 503,
                reply: None,
                cause: Cause::Refused,
            };
            self.settle(index, &outcome, work);
        }
    }

    /// Does what is due.
    pub(crate) fn timeout(&mut self, work: &mut Work<'_>) {
        if self.server.timeout(work.now, work.settings) == ServerAct::Resend {
            self.resend(work);
        }
        for index in 0..self.branches.len() {
            let Some(branch) = self.branches.get_mut(index) else {
                return;
            };
            match branch.timeout(work.now, work.settings) {
                Act::Nothing => {}
                Act::SendInvite => self.send_invite(index, work),
                Act::SendCancel => self.send_cancel(index, work),
                Act::Cancel => {
                    self.cancel_branch(index, work);
                    self.settle(index, &Outcome::TIMEOUT, work);
                }
                Act::GiveUp | Act::Abandon => self.settle(index, &Outcome::TIMEOUT, work),
            }
        }
        self.forget();
    }

    /// The server ends: what still rings is cancelled, and answered 503.
    pub(crate) fn shut_down(&mut self, work: &mut Work<'_>) {
        if matches!(self.server, Server::Proceeding) {
            self.cancel_pending(work);
            self.complete_with(503, work);
        }
    }

    /// When something is to be done; `None`: never, so that nothing is left of it.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let branches = self.branches.iter().filter_map(Branch::deadline);
        branches.chain(self.server.deadline()).min()
    }

    /// Whether no final reply went up yet.
    pub(crate) fn is_ringing(&self) -> bool {
        matches!(self.server, Server::Proceeding)
    }

    /// What the call is called outside.
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// The names of all branches.
    pub(crate) fn branch_ids(&self) -> impl Iterator<Item = u64> {
        self.branches.iter().map(|branch| branch.id)
    }

    /// Sends the INVITE to the next target that can be reached; false if there is none.
    fn start_next(&mut self, work: &mut Work<'_>) -> bool {
        loop {
            let index = self.next_target;
            let Some(target) = self.plan.targets.get(index) else {
                return false;
            };
            self.next_target += 1;
            let number = u16::try_from(index).unwrap_or(u16::MAX);
            let Some(hop) = target.hop.clone() else {
                self.best.gather(503, None::<fn() -> Box<[u8]>>);
                work.out.event(Event::Attempt(Attempt {
                    token: self.token,
                    target: number,
                    uri: Arc::clone(&target.uri),
                    way: None,
                    status: None,
                    cause: Some(Cause::Transport),
                    started_at: work.now,
                    first_reply: None,
                }));
                continue;
            };
            let place = u16::try_from(self.branches.len()).unwrap_or(u16::MAX);
            let mut branch = Branch {
                id: (work.name)(place),
                target: number,
                hop,
                smaller: None,
                state: State::Terminated,
                is_unwanted: false,
                has_outcome: false,
                started_at: work.now,
                first_reply: None,
            };
            branch.call(work.now, work.settings);
            self.branches.reserve_exact(1);
            self.branches.push(branch);
            self.choose_transport(work);
            self.send_invite(usize::from(place), work);
            return true;
        }
    }

    /// A long INVITE goes over TCP where that is possible (§18.1.1).
    fn choose_transport(&mut self, work: &mut Work<'_>) {
        let Some(branch) = self.branches.last() else {
            return;
        };
        let target = self.plan.targets.get(usize::from(branch.target));
        let Some(large) = target.and_then(|target| target.large.clone()) else {
            return;
        };
        let start = work.out.bytes.len();
        let index = self.branches.len() - 1;
        self.write(index, &mut work.out.bytes, work.worker, |forwarded, out| {
            forwarded.write_invite(out)
        });
        let length = work.out.bytes.len() - start;
        work.out.bytes.truncate(start);
        if length > MOST_OVER_UDP
            && let Some(branch) = self.branches.last_mut()
        {
            branch.smaller = Some(std::mem::replace(&mut branch.hop, large));
            branch.call(work.now, work.settings);
        }
    }

    /// Whether another target is left that may be up, and whose way fits.
    fn another_follows(&self, fits: impl Fn(&Hop) -> bool) -> bool {
        let others = self.plan.targets.get(self.next_target..);
        let mut others = others.unwrap_or_default().iter();
        others.any(|target| !target.is_down && target.hop.as_deref().is_some_and(&fits))
    }

    /// A provisional reply (§16.7 steps 2 and 5).
    fn provisional(
        &mut self,
        index: usize,
        status: u16,
        message: &Message<'_>,
        work: &mut Work<'_>,
    ) -> bool {
        let another_follows = self.another_follows(|_| true);
        let Some(branch) = self.branches.get_mut(index) else {
            return false;
        };
        match &mut branch.state {
            State::Calling { .. } if !branch.is_unwanted => {
                branch.state = State::Proceeding {
                    rings_until: another_follows.then(|| work.now + work.settings.ring_timeout),
                    timer_c: work.now + work.settings.invite_timeout,
                };
            }
            // Nobody waits for it any more.
            State::Calling { .. } | State::Silent { .. } => {
                self.cancel_now(index, work);
                return true;
            }
            State::Proceeding { timer_c, .. } if status > 100 => {
                *timer_c = work.now + work.settings.invite_timeout;
            }
            State::Proceeding { .. } => {}
            _ => return true,
        }
        if status > 100 && self.is_ringing() {
            let start = self.write_up(message, work);
            self.latest = Some(work.out.bytes.get(start..).unwrap_or_default().into());
            self.send_up(start, work);
        }
        true
    }

    /// A 2xx: it goes up, whatever went up before (§16.7 step 5, RFC 6026).
    fn answer(&mut self, index: usize, message: &Message<'_>, work: &mut Work<'_>) -> bool {
        let token = self.token;
        let Some(branch) = self.branches.get_mut(index) else {
            return false;
        };
        match branch.state {
            State::Accepted { .. } => {}
            // A target that refused the call does not take it afterwards.
            State::Completed { .. } | State::Terminated => return false,
            _ => {
                branch.state = State::Accepted {
                    ends: work.now + work.settings.patience(),
                };
                if !std::mem::replace(&mut branch.has_outcome, true) {
                    let status = Some(status_of(message));
                    let attempt = branch.attempt(token, &self.plan, status, None);
                    work.out.event(Event::Attempt(attempt));
                }
            }
        }
        let target = branch.target;
        let start = self.write_up(message, work);
        self.send_up(start, work);
        if self.is_ringing() {
            self.server.accept(work.now, work.settings);
            self.latest = None;
            self.best = Best::default();
            work.out.event(Event::Answered { token, target });
            self.cancel_pending(work);
        }
        self.forget();
        true
    }

    /// Another final reply: it is acknowledged each time, and counts once.
    fn refusal(
        &mut self,
        index: usize,
        status: u16,
        message: &Message<'_>,
        work: &mut Work<'_>,
    ) -> bool {
        let Some(branch) = self.branches.get(index) else {
            return false;
        };
        let way = branch.way();
        let start = work.out.bytes.len();
        match &branch.state {
            State::Completed { ack, .. } => {
                work.out.bytes.extend_from_slice(ack);
                let hop = &branch.hop;
                work.out.transmit(start, hop.transport, hop.address, way);
                return true;
            }
            State::Accepted { .. } | State::Terminated => return false,
            _ => {}
        }
        let write = |forwarded: &Forwarded<'_, '_>, out: &mut Vec<u8>| {
            forwarded.write_ack(message, out);
        };
        self.write(index, &mut work.out.bytes, work.worker, write);
        work.out
            .transmit(start, branch.hop.transport, branch.hop.address, way);
        let ack = work.out.bytes.get(start..).unwrap_or_default().into();
        if let Some(branch) = self.branches.get_mut(index) {
            branch.complete(work.now, ack, work.settings);
        }
        let outcome = Outcome {
            status,
            reply: Some(message),
            cause: Cause::Status,
        };
        self.settle(index, &outcome, work);
        self.forget();
        true
    }

    /// The outcome of a branch: another target is tried, or the best reply goes up, or nothing changes because it is
    /// late.
    fn settle(&mut self, index: usize, outcome: &Outcome<'_, '_>, work: &mut Work<'_>) {
        let has_hung_up = self.hung_up.is_some();
        let is_last = index + 1 == self.branches.len();
        let Some(branch) = self.branches.get_mut(index) else {
            return;
        };
        let is_late = std::mem::replace(&mut branch.has_outcome, true);
        if !is_late {
            let cause = if has_hung_up {
                Cause::Cancelled
            } else {
                outcome.cause
            };
            let status = outcome.reply.map(status_of);
            let attempt = branch.attempt(self.token, &self.plan, status, Some(cause));
            work.out.event(Event::Attempt(attempt));
        }
        if !self.is_ringing() {
            return;
        }
        let is_stream = self.origin.transport.is_stream();
        let upward = outcome.reply.map(|message| {
            move || {
                let mut bytes = Vec::new();
                write_upward(message, is_stream, &mut bytes);
                bytes.into_boxed_slice()
            }
        });
        if has_hung_up {
            if is_last {
                match upward {
                    Some(upward) => self.complete(outcome.status, &upward(), false, work),
                    None => self.complete_with(487, work),
                }
            }
            return;
        }
        if self.follows.take_if(|follows| *follows == index).is_some() && self.start_next(work) {
            return;
        }
        let is_own = upward.is_none();
        self.best.gather(outcome.status, upward);
        if outcome.status >= 600 {
            // Nobody wants the call (§16.7 step 5).
            self.finish(work);
        } else if !is_late {
            let fails_over = is_own || work.settings.failover.contains(outcome.status);
            if fails_over && self.start_next(work) {
                work.out.event(Event::Failover {
                    token: self.token,
                    cause: outcome.cause,
                });
            } else {
                self.finish(work);
            }
        }
    }

    /// The best reply goes up, and what still rings is cancelled.
    fn finish(&mut self, work: &mut Work<'_>) {
        match self.best.take() {
            Some(Gathered {
                status,
                reply: Some(reply),
            }) => self.complete(status, &reply, false, work),
            // Our own trouble is no reason to stop asking us (§16.7 step 6).
            Some(Gathered { status: 503, .. }) => self.complete_with(500, work),
            Some(Gathered { status, .. }) => self.complete_with(status, work),
            None => self.complete_with(480, work),
        }
        self.cancel_pending(work);
    }

    /// A final reply of our own goes up.
    fn complete_with(&mut self, status: u16, work: &mut Work<'_>) {
        let phrase = match status {
            408 => "Request Timeout",
            480 => "Temporarily Unavailable",
            487 => "Request Terminated",
            503 => "Service Unavailable",
            _ => "Server Internal Error",
        };
        let mut reply = Vec::new();
        self.read_invite(|message| {
            // It passed every check when it came.
            if let Verdict::Route(request) = check(message, Role::Proxy) {
                let status = (status, phrase);
                work.responder
                    .respond(message, &request, self.origin, status, &[], &mut reply);
            }
        });
        self.complete(status, &reply, true, work);
    }

    /// This final reply, none of 2xx, goes up.
    fn complete(&mut self, status: u16, reply: &[u8], is_own: bool, work: &mut Work<'_>) {
        let status = if status == 503 && reply.starts_with(b"SIP/2.0 500") {
            500
        } else {
            status
        };
        let start = work.out.bytes.len();
        work.out.bytes.extend_from_slice(reply);
        self.send_up(start, work);
        self.latest = Some(reply.into());
        let is_stream = self.origin.transport.is_stream();
        self.server.complete(work.now, is_stream, work.settings);
        work.out.event(Event::Failed {
            token: self.token,
            status,
            is_cancelled: self.hung_up.is_some(),
            is_own,
        });
    }

    /// Cancels every branch that may still ring, as soon as it may be.
    fn cancel_pending(&mut self, work: &mut Work<'_>) {
        for index in 0..self.branches.len() {
            self.cancel_branch(index, work);
        }
    }

    /// Cancels a branch, or notes that it is to be cancelled at its first reply (§9.1).
    fn cancel_branch(&mut self, index: usize, work: &mut Work<'_>) {
        let Some(branch) = self.branches.get_mut(index) else {
            return;
        };
        branch.is_unwanted = true;
        if matches!(branch.state, State::Proceeding { .. }) {
            self.cancel_now(index, work);
        }
    }

    /// Sends the CANCEL of a branch for the first time.
    fn cancel_now(&mut self, index: usize, work: &mut Work<'_>) {
        if let Some(branch) = self.branches.get_mut(index) {
            branch.cancel(work.now, work.settings);
        }
        self.send_cancel(index, work);
    }

    /// Sends the INVITE of a branch.
    fn send_invite(&self, index: usize, work: &mut Work<'_>) {
        self.send(index, work, |forwarded, out| forwarded.write_invite(out));
    }

    /// Sends the CANCEL of a branch.
    fn send_cancel(&self, index: usize, work: &mut Work<'_>) {
        let reason = self.hung_up.as_deref().unwrap_or_default();
        self.send(index, work, |forwarded, out| {
            forwarded.write_cancel(reason, out)
        });
    }

    /// Sends what is written, the way of a branch.
    fn send(
        &self,
        index: usize,
        work: &mut Work<'_>,
        write: impl FnOnce(&Forwarded<'_, '_>, &mut Vec<u8>),
    ) {
        let start = work.out.bytes.len();
        self.write(index, &mut work.out.bytes, work.worker, write);
        if let Some(branch) = self.branches.get(index) {
            let hop = &branch.hop;
            work.out
                .transmit(start, hop.transport, hop.address, branch.way());
        }
    }

    /// Writes something for a branch.
    fn write(
        &self,
        index: usize,
        out: &mut Vec<u8>,
        worker: u16,
        write: impl FnOnce(&Forwarded<'_, '_>, &mut Vec<u8>),
    ) {
        let Some(branch) = self.branches.get(index) else {
            return;
        };
        let Some(target) = self.plan.targets.get(usize::from(branch.target)) else {
            return;
        };
        let hop: &Arc<Hop> = &branch.hop;
        self.read_invite(|message| {
            let forwarded = Forwarded {
                message,
                origin: self.origin,
                plan: &self.plan,
                target,
                hop,
                branch: BranchName {
                    worker,
                    id: branch.id,
                    loop_hash: self.loop_hash,
                },
            };
            write(&forwarded, out);
        });
    }

    /// Reads the INVITE.
    fn read_invite(&self, read: impl FnOnce(&Message<'_>)) {
        debug_assert!(
            self.invite.is_some(),
            "the INVITE is kept while it is needed"
        );
        let framing = if self.origin.transport.is_stream() {
            Framing::Stream
        } else {
            Framing::Datagram
        };
        let invite = self.invite.as_deref().unwrap_or_default();
        if let Ok(message) = Message::parse(invite, framing) {
            read(&message);
        }
    }

    /// Writes a reply of a target as it goes up; gives where it starts.
    fn write_up(&self, message: &Message<'_>, work: &mut Work<'_>) -> usize {
        let start = work.out.bytes.len();
        write_upward(
            message,
            self.origin.transport.is_stream(),
            &mut work.out.bytes,
        );
        start
    }

    /// Sends up what was written from `start` on.
    fn send_up(&self, start: usize, work: &mut Work<'_>) {
        let transport = self.origin.transport;
        work.out
            .transmit(start, transport, self.reply_to, Way::Back(self.flow));
    }

    /// Sends the latest reply again.
    fn resend(&self, work: &mut Work<'_>) {
        if let Some(latest) = &self.latest {
            let start = work.out.bytes.len();
            work.out.bytes.extend_from_slice(latest);
            self.send_up(start, work);
        }
    }

    /// Forgets the INVITE once nothing can be written from it any more.
    fn forget(&mut self) {
        if !self.is_ringing() && !self.branches.iter().any(Branch::is_pending) {
            self.invite = None;
        }
    }
}

impl Branch {
    /// How its messages are sent.
    fn way(&self) -> Way {
        Way::Out {
            socket: self.hop.socket,
            branch: self.id,
        }
    }

    /// How trying its target went.
    fn attempt(
        &self,
        token: u64,
        plan: &Plan,
        status: Option<u16>,
        cause: Option<Cause>,
    ) -> Attempt {
        let target = plan.targets.get(usize::from(self.target));
        Attempt {
            token,
            target: self.target,
            uri: target.map_or_else(|| Arc::from(""), |target| Arc::clone(&target.uri)),
            way: Some((self.hop.transport, self.hop.address)),
            status,
            cause,
            started_at: self.started_at,
            first_reply: self.first_reply,
        }
    }
}

/// How many targets a call has at most, those included that 3xx replies name.
const MOST_TARGETS: usize = 64;

impl Outcome<'_, '_> {
    /// It was silent, or rang too long.
    const TIMEOUT: Self = Self {
        status: 408,
        reply: None,
        cause: Cause::Timeout,
    };
}
