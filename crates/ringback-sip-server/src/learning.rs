//! Learns from calls that pass by: outbound calls and how they end, and answered callbacks.
//!
//! An outbound call is an INVITE without To tag whose dialed number is not ours, and that names an outbound
//! agent: in the agent header, or by its calling number, if exactly one outbound agent owns that. The call is
//! recorded once per Call-ID and environment, however often the INVITE is sent, forked or sent again with
//! credentials. A Call-ID over [`MAX_CALL_ID`] bytes is not recorded.
//!
//! Replies are matched by Call-ID and CSeq number. A mirror may show both sides of a proxy, and so also the
//! branches of a fork, one of which may fail while the call goes on. So a failure counts only if it answers the
//! latest INVITE that was not a fork (same top `Via` branch). A 2xx counts from any branch, and after a 2xx
//! nothing else counts. If environments share a Call-ID, the reply belongs to the INVITE with which it has more
//! in common: `Via` branch, `From` tag, `To` URI.
//!
//! Mirrors send over several sockets, so a final reply may arrive before its INVITE: it is kept for
//! [`EARLY_SECONDS`]. At most [`MAX_EARLY`] replies are kept.
//!
//! Calls are watched for five to ten minutes, at most twice [`MAX_CALLS`]. Nothing is counted or reported here:
//! the functions return what was learned.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use ringback_routing::{
    AgentId, CallStatus, Direction, Directory, DirectoryAgent, E164, EnvironmentId, LearnedCall,
    Timestamp,
};
use ringback_sip_proto::Message;
use ringback_sip_proto::message::StartLine;
use ringback_sip_proto::rsip::Method;
use smallvec::SmallVec;

use crate::clock::Now;
use crate::counters::LearnedEvent;
use crate::identity;
use crate::peers::Peer;

/// Watches calls until their end.
#[derive(Debug)]
pub(crate) struct Learning {
    /// The calls seen lately.
    seen: Mutex<Seen>,
    /// Seeds the hash of Call-IDs and other values from the network.
    hasher: RandomState,
}

/// How to read a message that may be learned from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting<'s> {
    /// The peer that sent it.
    pub(crate) peer: &'s Peer,
    /// The header in which an outbound INVITE names its agent.
    pub(crate) agent_header: &'s str,
    /// Agents and numbers.
    pub(crate) directory: &'s Directory,
    /// When it was captured.
    pub(crate) at: Timestamp,
    /// When it is read.
    pub(crate) now: Now,
}

/// What was learned from one message.
#[derive(Debug)]
pub(crate) struct Learned<'m> {
    /// The agent that calls, if it is the INVITE of an outbound call.
    pub(crate) outbound_agent: Option<AgentId>,
    /// Its `Call-ID`.
    pub(crate) call_id: &'m [u8],
    /// When it was captured.
    pub(crate) at: Timestamp,
    /// What is learned from it: nearly always at most one thing.
    pub(crate) lessons: SmallVec<[Lesson; 1]>,
}

/// One thing learned.
#[derive(Debug)]
pub(crate) enum Lesson {
    /// A new outbound call, perhaps with its last status already.
    Call(LearnedCall),
    /// A new status of an outbound call.
    Status(LearnedCall),
    /// A call that was routed as callback in this environment was answered.
    Answered(EnvironmentId),
    /// Nothing, for this reason.
    Nothing(LearnedEvent),
}

/// The calls and replies seen lately.
#[derive(Debug, Default)]
struct Seen {
    /// The generation that takes new calls.
    current: HashMap<u64, Calls, RandomState>,
    /// The generation before it.
    previous: HashMap<u64, Calls, RandomState>,
    /// When the current generation began, in seconds since the server started.
    turned_at: u64,
    /// Replies that came before their INVITEs.
    early: EarlyReplies,
}

/// The calls of one Call-ID: nearly always one, else one per environment.
type Calls = SmallVec<[Watched; 1]>;

/// A call that is watched.
#[derive(Clone, Debug)]
struct Watched {
    /// The outbound call, or the callback.
    call: Call,
    /// The latest INVITE that was not a fork.
    leg: Leg,
    /// The latest status reported; for a callback `Answered` once it was answered.
    status: CallStatus,
}

/// The data of a call.
#[derive(Clone, Debug)]
enum Call {
    /// A call by an agent.
    Outbound {
        /// The environment of the agent.
        environment: EnvironmentId,
        /// The agent.
        agent: AgentId,
        /// The number that was called.
        contact: E164,
        /// The calling number, if it could be read.
        from: Option<E164>,
        /// When the call started.
        started_at: Timestamp,
    },
    /// A call routed as callback.
    Callback {
        /// The environment of the dialed number.
        environment: EnvironmentId,
    },
}

/// The fields by which a reply matches its INVITE, besides the Call-ID; texts as hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leg {
    /// Number of the CSeq.
    cseq: u32,
    /// Branch of the top `Via`.
    branch: u64,
    /// The `From` tag.
    tag: u64,
    /// The `To` URI.
    to: u64,
}

/// Final replies whose INVITEs have not been seen yet, by the hash of their Call-IDs.
#[derive(Debug, Default)]
struct EarlyReplies {
    /// The replies.
    replies: HashMap<u64, SmallVec<[EarlyReply; 1]>, RandomState>,
    /// When each arrived, since the server started, oldest first.
    order: VecDeque<(Duration, u64)>,
}

/// A final reply whose INVITE has not been seen yet.
#[derive(Clone, Copy, Debug)]
struct EarlyReply {
    /// The fields to match with the INVITE.
    leg: Leg,
    /// How the call ended, or `Answered`.
    status: CallStatus,
    /// When it arrived, since the server started.
    at: Duration,
}

impl Learning {
    /// Watches no calls yet.
    pub(crate) fn new() -> Self {
        Self {
            seen: Mutex::default(),
            hasher: RandomState::default(),
        }
    }

    /// Learns from a message that passes by; `None` if it is neither an INVITE nor a response.
    pub(crate) fn observe<'m>(
        &self,
        message: &Message<'m>,
        sighting: &Sighting<'_>,
    ) -> Option<Learned<'m>> {
        match message.start() {
            StartLine::Response { code, .. } => Some(self.response(message, code, sighting)),
            StartLine::Request { .. } if message.method() == Some(Method::Invite) => {
                let is_for_us = identity::is_for_us(message, sighting.peer, sighting.directory);
                let learned = (!is_for_us).then(|| self.outbound(message, sighting));
                Some(
                    learned
                        .flatten()
                        .unwrap_or_else(|| Learned::nothing(sighting)),
                )
            }
            _ => None,
        }
    }

    /// Learns from an INVITE whose dialed number is not ours; `None` if there is nothing to count.
    pub(crate) fn outbound<'m>(
        &self,
        message: &Message<'m>,
        sighting: &Sighting<'_>,
    ) -> Option<Learned<'m>> {
        let (call_id, to, leg) = (
            message.call_id().ok()?,
            message.to().ok()?,
            self.leg(message)?,
        );
        if to.tag().is_some() {
            return None;
        }
        let learned = |outbound_agent, lesson| Learned {
            outbound_agent,
            call_id,
            at: sighting.at,
            lessons: SmallVec::from_iter([lesson]),
        };
        let agent = match calling_agent(message, sighting) {
            Ok(agent) => agent,
            Err(NoAgent::Unnamed) => return None,
            Err(NoAgent::Unknown) => {
                let lesson = Lesson::Nothing(LearnedEvent::UnknownAgent);
                return Some(learned(None, lesson));
            }
        };
        let outbound = |lesson| Some(learned(Some(agent.record.id), lesson));
        // An outbound call that is not recorded, for this reason.
        let unrecorded = |event| outbound(Lesson::Nothing(event));
        let environment = agent.record.environment;
        let home = sighting
            .directory
            .environment(agent.environment)
            .map(|environment| &environment.record);
        let Some(contact) = identity::dialed_outbound(message, sighting.peer, home) else {
            return unrecorded(LearnedEvent::UnreadableContact);
        };
        let sid = String::from_utf8_lossy(call_id);
        if sid.len() > MAX_CALL_ID {
            return unrecorded(LearnedEvent::LongCallId);
        }
        let call = Call::Outbound {
            environment,
            agent: agent.record.id,
            contact,
            from: identity::caller(message, sighting.peer, home).number(),
            started_at: sighting.at,
        };
        let key = self.hasher.hash_one(call_id);
        let mut seen = self.seen.lock();
        seen.turn_if_due(sighting.now);
        let Seen {
            current,
            previous,
            early,
            ..
        } = &mut *seen;
        let known = current
            .get_mut(&key)
            .or_else(|| previous.get_mut(&key))
            .and_then(|calls| {
                calls
                    .iter_mut()
                    .find(|watched| watched.call.environment() == environment)
            });
        if let Some(known) = known {
            // Sent again with credentials, or by a proxy that forks: the call is known.
            if leg.cseq > known.leg.cseq {
                known.leg = leg;
                let status = early.take(key, leg, sighting.now.uptime);
                if let Some(call) = status.and_then(|status| known.advance(status, call_id)) {
                    return outbound(Lesson::Status(call));
                }
            }
            return unrecorded(LearnedEvent::Repeated);
        }
        let mut watched = Watched {
            call,
            leg,
            status: CallStatus::Initiated,
        };
        if let Some(status) = early.take(key, leg, sighting.now.uptime) {
            watched.status = status;
        }
        let call = watched.told(&sid, true);
        seen.insert(key, watched);
        outbound(Lesson::Call(call?))
    }

    /// Watches an INVITE that was routed as callback, because its answer counts.
    pub(crate) fn await_answer(&self, message: &Message<'_>, environment: EnvironmentId, now: Now) {
        let (Ok(call_id), Some(leg)) = (message.call_id(), self.leg(message)) else {
            return;
        };
        let key = self.hasher.hash_one(call_id);
        let mut seen = self.seen.lock();
        seen.turn_if_due(now);
        let is_known = seen.calls(key).is_some_and(|calls| {
            calls
                .iter()
                .any(|watched| watched.call.environment() == environment)
        });
        if !is_known {
            seen.insert(
                key,
                Watched {
                    call: Call::Callback { environment },
                    leg,
                    status: CallStatus::Initiated,
                },
            );
        }
    }

    /// Forgets calls that were watched long enough, and replies whose INVITE never came. Call it now and then.
    pub(crate) fn tick(&self, now: Now) {
        let mut seen = self.seen.lock();
        seen.turn_if_due(now);
        seen.early.expire(now.uptime);
    }

    /// Learns from a response with this status code about the calls that it belongs to.
    fn response<'m>(
        &self,
        message: &Message<'m>,
        code: u16,
        sighting: &Sighting<'_>,
    ) -> Learned<'m> {
        let mut learned = Learned::nothing(sighting);
        let (Some(status), Ok(call_id), Some(leg)) =
            (status_of(code), message.call_id(), self.leg(message))
        else {
            return learned;
        };
        learned.call_id = call_id;
        let key = self.hasher.hash_one(call_id);
        let mut seen = self.seen.lock();
        let best = seen.calls(key).and_then(|calls| {
            let fits = calls.iter().filter_map(|watched| watched.fits(leg, status));
            fits.max()
        });
        let Some(best) = best else {
            if status >= CallStatus::Answered {
                seen.early.insert(key, leg, status, sighting.now.uptime);
            }
            return learned;
        };
        // If the calls cannot be told apart, the reply belongs to all of them.
        for watched in seen.calls(key).into_iter().flatten() {
            if watched.fits(leg, status) != Some(best) {
                continue;
            }
            if let Some(call) = watched.advance(status, call_id) {
                learned.lessons.push(Lesson::Status(call));
            } else if let Call::Callback { environment } = watched.call
                && watched.status != CallStatus::Answered
            {
                watched.status = CallStatus::Answered;
                learned.lessons.push(Lesson::Answered(environment));
            }
        }
        learned
    }

    /// The fields of this INVITE, or of this reply, by which they match; `None` if the CSeq is of another method.
    fn leg(&self, message: &Message<'_>) -> Option<Leg> {
        let cseq = message.cseq().ok()?;
        let via = message.top_via();
        let from = message.from().ok();
        let to = message.to().ok();
        (cseq.method == b"INVITE").then(|| Leg {
            cseq: cseq.number,
            branch: self.hasher.hash_one(via.and_then(|via| via.branch())),
            tag: self.hasher.hash_one(from.and_then(|from| from.tag())),
            to: self.hasher.hash_one(to.map(|to| to.uri_bytes())),
        })
    }
}

impl Learned<'_> {
    /// Nothing learned.
    fn nothing(sighting: &Sighting<'_>) -> Self {
        Self {
            outbound_agent: None,
            call_id: &[],
            at: sighting.at,
            lessons: SmallVec::new(),
        }
    }
}

impl Call {
    /// The environment of the agent or the dialed number.
    fn environment(&self) -> EnvironmentId {
        match self {
            Self::Outbound { environment, .. } | Self::Callback { environment } => *environment,
        }
    }
}

impl Watched {
    /// How many fields of this call's INVITE a reply repeats; `None` if the reply does not count for the call.
    fn fits(&self, reply: Leg, status: CallStatus) -> Option<u8> {
        let is_about = match self.call {
            // The INVITE that was answered was redirected, and has a CSeq and branch of its own.
            Call::Callback { .. } => status == CallStatus::Answered,
            Call::Outbound { .. } => self.leg.accepts(reply, status),
        };
        let score = u8::from(reply.branch == self.leg.branch) << 2
            | u8::from(reply.tag == self.leg.tag) << 1
            | u8::from(reply.to == self.leg.to);
        is_about.then_some(score)
    }

    /// Notes the status of an outbound call; returns the call to report if the status is new.
    fn advance(&mut self, status: CallStatus, call_id: &[u8]) -> Option<LearnedCall> {
        let is_news = self.status < status && self.status != CallStatus::Answered;
        if !is_news || matches!(self.call, Call::Callback { .. }) {
            return None;
        }
        self.status = status;
        self.told(&String::from_utf8_lossy(call_id), false)
    }

    /// An outbound call in the form in which it is reported.
    fn told(&self, sid: &str, is_new: bool) -> Option<LearnedCall> {
        let Call::Outbound {
            environment,
            agent,
            contact,
            from,
            started_at,
        } = self.call
        else {
            return None;
        };
        Some(LearnedCall {
            environment,
            agent,
            contact,
            from,
            status: self.status,
            started_at,
            sid: sid.to_owned(),
            is_new,
        })
    }
}

impl Leg {
    /// Whether a reply of this status, with the same Call-ID, counts for the INVITE.
    fn accepts(self, reply: Self, status: CallStatus) -> bool {
        let is_failure = status > CallStatus::Answered;
        reply.cseq == self.cseq && (!is_failure || reply.branch == self.branch)
    }
}

impl Seen {
    /// The calls with this key.
    fn calls(&mut self, key: u64) -> Option<&mut Calls> {
        match self.current.get_mut(&key) {
            Some(calls) => Some(calls),
            None => self.previous.get_mut(&key),
        }
    }

    /// Watches a call; at the limit, older calls are forgotten early.
    fn insert(&mut self, key: u64, watched: Watched) {
        if let Some(calls) = self.calls(key) {
            if calls.len() >= MAX_ENVIRONMENTS {
                calls.remove(0);
            }
            calls.push(watched);
            return;
        }
        if self.current.len() >= MAX_CALLS {
            self.previous = std::mem::take(&mut self.current);
        }
        self.current.insert(key, SmallVec::from_iter([watched]));
    }

    /// Begins a new generation if it is time.
    fn turn_if_due(&mut self, now: Now) {
        let seconds = now.uptime.as_secs();
        if seconds.saturating_sub(self.turned_at) >= WATCHED_SECONDS {
            self.turned_at = seconds;
            self.previous = std::mem::take(&mut self.current);
        }
    }
}

impl EarlyReplies {
    /// Keeps a reply; at the limit, the oldest is forgotten.
    fn insert(&mut self, key: u64, leg: Leg, status: CallStatus, at: Duration) {
        self.expire(at);
        if self.order.len() >= MAX_EARLY {
            self.forget_oldest();
        }
        let replies = self.replies.entry(key).or_default();
        let is_known = |known: &EarlyReply| (known.leg, known.status) == (leg, status);
        if replies.len() >= MAX_EARLY_OF_CALL || replies.iter().any(is_known) {
            return;
        }
        replies.push(EarlyReply { leg, status, at });
        self.order.push_back((at, key));
    }

    /// Takes out the replies that came before this INVITE. Returns that the call was answered, or else how it
    /// failed.
    fn take(&mut self, key: u64, leg: Leg, now: Duration) -> Option<CallStatus> {
        self.expire(now);
        let replies = self.replies.get_mut(&key)?;
        let mut statuses: SmallVec<[CallStatus; 4]> = SmallVec::new();
        replies.retain(|reply| {
            let is_taken = leg.accepts(reply.leg, reply.status) && reply.leg.tag == leg.tag;
            if is_taken {
                statuses.push(reply.status);
            }
            !is_taken
        });
        if replies.is_empty() {
            self.replies.remove(&key);
        }
        let answered = statuses
            .iter()
            .find(|status| **status == CallStatus::Answered);
        answered.or_else(|| statuses.iter().max()).copied()
    }

    /// Forgets replies that have waited too long.
    fn expire(&mut self, now: Duration) {
        let is_old = |at: Duration| now.saturating_sub(at) > Duration::from_secs(EARLY_SECONDS);
        while self.order.front().is_some_and(|(at, _)| is_old(*at)) {
            self.forget_oldest();
        }
    }

    /// Forgets the reply that has waited longest, unless it was taken.
    fn forget_oldest(&mut self) {
        let Some((at, key)) = self.order.pop_front() else {
            return;
        };
        if let Some(replies) = self.replies.get_mut(&key) {
            replies.retain(|reply| reply.at > at);
            if replies.is_empty() {
                self.replies.remove(&key);
            }
        }
    }
}

/// Why a message has no outbound agent.
enum NoAgent {
    /// The header names no agent that we know, or an inbound one.
    Unknown,
    /// Neither the header nor the calling number names an agent.
    Unnamed,
}

/// The outbound agent that calls.
///
/// # Errors
/// No outbound agent is named.
fn calling_agent<'d>(
    message: &Message<'_>,
    sighting: &Sighting<'d>,
) -> Result<&'d DirectoryAgent, NoAgent> {
    let directory = sighting.directory;
    // A dial plan without an agent sends an empty header: it names nobody.
    let named = message
        .header(sighting.agent_header)
        .map(|value| value.as_bytes().trim_ascii())
        .find(|value| !value.is_empty());
    match named {
        Some(value) => {
            let id = std::str::from_utf8(value).ok();
            let id = id.and_then(|id| id.parse::<AgentId>().ok());
            id.and_then(|id| directory.agent_by_id(id))
                .filter(|agent| agent.record.direction == Direction::Outbound)
                .ok_or(NoAgent::Unknown)
        }
        None => {
            let from = identity::caller(message, sighting.peer, None).number();
            from.and_then(|from| sole_outbound_owner(directory, from))
                .ok_or(NoAgent::Unnamed)
        }
    }
}

/// The outbound agent that owns a number, if exactly one does.
fn sole_outbound_owner(directory: &Directory, number: E164) -> Option<&DirectoryAgent> {
    let owners = directory.number(number)?.owners();
    let mut outbound = owners
        .filter_map(|slot| directory.agent(slot))
        .filter(|agent| agent.record.direction == Direction::Outbound);
    let agent = outbound.next()?;
    outbound.next().is_none().then_some(agent)
}

/// The status of a call with this reply; `None` if the reply says nothing about the call.
fn status_of(code: u16) -> Option<CallStatus> {
    Some(match code {
        180 | 183 => CallStatus::Ringing,
        200..=299 => CallStatus::Answered,
        486 | 600 => CallStatus::Busy,
        408 | 480 | 487 => CallStatus::NoAnswer,
        401 | 407 => return None,
        400..=699 => CallStatus::Failed,
        _ => return None,
    })
}

/// How long a generation of calls lasts: longer than a telephone rings.
const WATCHED_SECONDS: u64 = 300;

/// The most Call-IDs of one generation.
const MAX_CALLS: usize = 500_000;

/// The most environments that may share a Call-ID.
const MAX_ENVIRONMENTS: usize = 8;

/// How long a final reply waits for its INVITE.
const EARLY_SECONDS: u64 = 30;

/// The most final replies that wait for their INVITEs: about 30 MB.
const MAX_EARLY: usize = 262_144;

/// The most of one Call-ID: more than a fork has branches that end at once.
const MAX_EARLY_OF_CALL: usize = 8;

/// The longest Call-ID, in bytes, of a call that is recorded.
const MAX_CALL_ID: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of the INVITE of a call.
    const LEG: Leg = Leg {
        cseq: 1,
        branch: 2,
        tag: 3,
        to: 4,
    };

    #[test]
    fn an_early_reply_waits_half_a_minute() {
        let at = Duration::from_millis;
        let mut early = EarlyReplies::default();
        early.insert(1, LEG, CallStatus::Busy, at(1_000));
        early.insert(2, LEG, CallStatus::Busy, at(1_000));
        assert_eq!(early.take(1, LEG, at(31_000)), Some(CallStatus::Busy));
        assert_eq!(early.take(1, LEG, at(31_000)), None, "taken");
        assert_eq!(early.take(2, LEG, at(31_001)), None, "too late");
        assert!(early.replies.is_empty() && early.order.is_empty());
    }

    #[test]
    fn an_early_reply_is_taken_by_its_own_invite_alone() {
        let at = Duration::from_secs(1);
        let mut early = EarlyReplies::default();
        early.insert(1, LEG, CallStatus::Failed, at);
        for other in [
            Leg { cseq: 2, ..LEG },
            Leg { branch: 9, ..LEG },
            Leg { tag: 9, ..LEG },
        ] {
            assert_eq!(early.take(1, other, at), None, "{other:?}");
        }
        // A 2xx counts on every branch, and before a failure.
        early.insert(1, Leg { branch: 9, ..LEG }, CallStatus::Answered, at);
        assert_eq!(early.take(1, LEG, at), Some(CallStatus::Answered));
        assert_eq!(early.take(1, LEG, at), None);
    }

    #[test]
    fn early_replies_are_bounded() {
        let at = |key: usize| Duration::from_millis(key as u64 / 100);
        let mut early = EarlyReplies::default();
        for key in 0..MAX_EARLY + 1_000 {
            early.insert(key as u64, LEG, CallStatus::Busy, at(key));
        }
        assert_eq!(early.order.len(), MAX_EARLY);
        assert_eq!(early.replies.len(), MAX_EARLY);
        let now = at(MAX_EARLY + 1_000);
        assert_eq!(early.take(999, LEG, now), None);
        assert_eq!(early.take(1_000, LEG, now), Some(CallStatus::Busy));
        for branch in 0..100 {
            early.insert(0, Leg { branch, ..LEG }, CallStatus::Busy, now);
            early.insert(0, Leg { branch, ..LEG }, CallStatus::Busy, now);
        }
        assert_eq!(early.replies[&0].len(), MAX_EARLY_OF_CALL);
        early.expire(now + Duration::from_secs(EARLY_SECONDS + 1));
        assert!(early.replies.is_empty() && early.order.is_empty());
    }
}
