//! Learning from calls that pass by: outbound calls and how they end, and answered callbacks.
//!
//! An outbound call is an INVITE without To tag whose dialed number is not ours, and that names an
//! outbound agent: in the agent header, or by the calling number, if one outbound agent alone owns
//! it. It is recorded once per Call-ID, however often it is sent, forked or sent again with
//! credentials.
//!
//! Replies are matched by Call-ID and CSeq number. A mirror may show both sides of a proxy, so the
//! branches of a fork pass by too, and one of them may fail while the call goes on: a failure
//! counts only if it answers the INVITE seen last that was not a fork (same top `Via` branch), a 2xx
//! whoever sends it, and after a 2xx nothing counts.
//!
//! Calls are watched for five to ten minutes, and at most [`MAX_CALLS`] twice.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use ringback_routing::{
    AgentId, CallStatus, Caller, Country, Direction, Directory, DirectoryAgent, E164,
    EnvironmentId, Timestamp,
};
use ringback_sip_proto::Message;
use ringback_sip_proto::message::{Framing, StartLine};
use ringback_sip_proto::rsip::Method;
use std::hash::BuildHasher;

use crate::core::{Core, Now};
use crate::identity;
use crate::metrics::Learned;
use crate::peers::Peer;
use crate::policy::Policy;
use crate::router::{LearnedCall, Router};

/// Calls whose end is waited for.
#[derive(Debug)]
pub(crate) struct Learning {
    /// By Call-ID.
    calls: Mutex<Calls>,
    /// Seeds the hash of Call-IDs, which come from outside.
    hasher: RandomState,
}

/// A message that may be learned from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting<'s> {
    /// The message.
    pub(crate) bytes: &'s [u8],
    /// Who shows it.
    pub(crate) peer: &'s Peer,
    /// The rules.
    pub(crate) policy: &'s Policy,
    /// When it was captured.
    pub(crate) at: Timestamp,
    /// When it is looked at.
    pub(crate) now: Now,
}

/// Two generations of watched calls.
#[derive(Debug, Default)]
struct Calls {
    /// Takes new calls.
    current: HashMap<u64, Watched, RandomState>,
    /// Calls from before the last turn.
    previous: HashMap<u64, Watched, RandomState>,
    /// When the generations last turned, in seconds since the start.
    turned_at: u64,
}

/// A call.
#[derive(Clone, Debug)]
struct Watched {
    /// What it is.
    call: Call,
    /// Number of the INVITE's CSeq, of the one seen last.
    cseq: u32,
    /// Hash of the top `Via` branch of the same.
    branch: u64,
    /// The status told last; of a callback `Answered` once it is.
    status: CallStatus,
}

/// What is known of a call.
#[derive(Clone, Debug)]
enum Call {
    /// One that an agent made.
    Outbound {
        /// The environment of the agent.
        environment: EnvironmentId,
        /// The agent.
        agent: AgentId,
        /// Who was called.
        contact: E164,
        /// From which number.
        from: Option<E164>,
        /// When.
        started_at: Timestamp,
    },
    /// One that was routed as callback.
    Callback {
        /// The environment of the dialed number.
        environment: EnvironmentId,
    },
}

impl Learning {
    /// Nothing is waited for.
    pub(crate) fn new() -> Self {
        Self {
            calls: Mutex::default(),
            hasher: RandomState::default(),
        }
    }

    /// Learns from a message; true if it was an INVITE or a response.
    pub(crate) fn observe<R: Router>(&self, core: &Core<R>, sighting: &Sighting<'_>) -> bool {
        // A mirrored message is one message, however it was carried.
        let Ok(message) = Message::parse(sighting.bytes, Framing::Datagram) else {
            return false;
        };
        if message.fault().is_some() {
            return false;
        }
        match message.start() {
            StartLine::Response { code, .. } => {
                self.response(core, &message, code, sighting);
                true
            }
            StartLine::Request { .. } if message.method() == Some(Method::Invite) => {
                let directory = core.router.directory();
                let peer = sighting.peer;
                let dialed = identity::dialed(message.dialed(peer.dialed_header.as_deref()), peer);
                if dialed.is_none_or(|dialed| directory.number(dialed).is_none()) {
                    self.outbound(core, &directory, &message, sighting);
                }
                true
            }
            _ => false,
        }
    }

    /// Records the call of an INVITE whose dialed number is not ours; true if it is outbound.
    pub(crate) fn outbound<R: Router>(
        &self,
        core: &Core<R>,
        directory: &Directory,
        message: &Message<'_>,
        sighting: &Sighting<'_>,
    ) -> bool {
        let (Ok(call_id), Ok(cseq), Ok(to)) = (message.call_id(), message.cseq(), message.to())
        else {
            return false;
        };
        if to.tag().is_some() || cseq.method != b"INVITE" {
            return false;
        }
        let Some((agent, from)) = calling_agent(core, directory, message, sighting) else {
            return false;
        };
        let environment = agent.record.environment;
        let country = directory
            .environment(agent.environment)
            .and_then(|environment| environment.record.default_country);
        let Some(contact) = dialed_in(message, sighting.peer, country) else {
            core.metrics.learned(Learned::UnreadableContact);
            return true;
        };
        let key = self.hasher.hash_one(call_id);
        let branch = self.branch(message);
        let mut calls = self.calls.lock();
        calls.turn_if_due(sighting.now);
        if let Some(known) = calls.get_mut(key) {
            // Sent again with credentials, or by a proxy that forks: a known call.
            if cseq.number > known.cseq {
                known.cseq = cseq.number;
                known.branch = branch;
            }
            core.metrics.learned(Learned::Repeated);
            return true;
        }
        let started_at = sighting.at;
        let call = Call::Outbound {
            environment,
            agent: agent.record.id,
            contact,
            from,
            started_at,
        };
        calls.insert(
            key,
            Watched {
                call,
                cseq: cseq.number,
                branch,
                status: CallStatus::Initiated,
            },
        );
        drop(calls);
        core.metrics.learned(Learned::Call);
        core.router.learned(LearnedCall {
            environment,
            agent: agent.record.id,
            contact,
            from,
            status: CallStatus::Initiated,
            started_at,
            sid: String::from_utf8_lossy(call_id).into_owned(),
        });
        true
    }

    /// A call was routed as callback: its answer counts.
    pub(crate) fn await_answer(&self, call_id: &[u8], environment: EnvironmentId, now: Now) {
        let key = self.hasher.hash_one(call_id);
        let mut calls = self.calls.lock();
        calls.turn_if_due(now);
        if calls.get_mut(key).is_none() {
            calls.insert(
                key,
                Watched {
                    call: Call::Callback { environment },
                    cseq: 0,
                    branch: 0,
                    status: CallStatus::Initiated,
                },
            );
        }
    }

    /// Forgets calls that are watched for long. To be called now and then.
    pub(crate) fn tick(&self, now: Now) {
        self.calls.lock().turn_if_due(now);
    }

    /// Takes note of a reply to an INVITE.
    fn response<R: Router>(
        &self,
        core: &Core<R>,
        message: &Message<'_>,
        code: u16,
        sighting: &Sighting<'_>,
    ) {
        let (Ok(call_id), Ok(cseq)) = (message.call_id(), message.cseq()) else {
            return;
        };
        let Some(status) = status_of(code).filter(|_| cseq.method == b"INVITE") else {
            return;
        };
        let branch = self.branch(message);
        let mut calls = self.calls.lock();
        let Some(watched) = calls.get_mut(self.hasher.hash_one(call_id)) else {
            return;
        };
        if watched.status >= status || watched.status == CallStatus::Answered {
            return;
        }
        match watched.call {
            Call::Callback { environment } => {
                if status != CallStatus::Answered {
                    return;
                }
                watched.status = status;
                drop(calls);
                core.metrics.learned(Learned::Answered);
                core.router.answered(environment, call_id, sighting.at);
            }
            Call::Outbound {
                environment,
                agent,
                contact,
                from,
                started_at,
            } => {
                let is_failure = status > CallStatus::Answered;
                if cseq.number != watched.cseq || (is_failure && branch != watched.branch) {
                    return;
                }
                watched.status = status;
                drop(calls);
                core.metrics.learned(Learned::Status);
                core.router.learned(LearnedCall {
                    environment,
                    agent,
                    contact,
                    from,
                    status,
                    started_at,
                    sid: String::from_utf8_lossy(call_id).into_owned(),
                });
            }
        }
    }

    /// The hash of the top `Via` branch.
    fn branch(&self, message: &Message<'_>) -> u64 {
        let via = message.top_via();
        self.hasher.hash_one(via.and_then(|via| via.branch()))
    }
}

impl Calls {
    /// The call of this key.
    fn get_mut(&mut self, key: u64) -> Option<&mut Watched> {
        match self.current.get_mut(&key) {
            Some(watched) => Some(watched),
            None => self.previous.get_mut(&key),
        }
    }

    /// Watches a call; forgets older ones early rather than to watch too many.
    fn insert(&mut self, key: u64, watched: Watched) {
        if self.current.len() >= MAX_CALLS {
            self.previous = std::mem::take(&mut self.current);
        }
        self.current.insert(key, watched);
    }

    /// Begins a new generation if it is time to.
    fn turn_if_due(&mut self, now: Now) {
        let seconds = now.uptime.as_secs();
        if seconds.saturating_sub(self.turned_at) >= WATCHED_SECONDS {
            self.turned_at = seconds;
            self.previous = std::mem::take(&mut self.current);
        }
    }
}

/// The outbound agent that calls, and the number that it calls from.
fn calling_agent<'d, R: Router>(
    core: &Core<R>,
    directory: &'d Directory,
    message: &Message<'_>,
    sighting: &Sighting<'_>,
) -> Option<(&'d DirectoryAgent, Option<E164>)> {
    let named = message.header(&sighting.policy.agent_header).next();
    let agent = match named {
        Some(value) => {
            let id = std::str::from_utf8(value.as_bytes()).ok();
            let id = id.and_then(|id| id.trim().parse::<AgentId>().ok());
            let agent = id.and_then(|id| directory.agent_by_id(id));
            let agent = agent.filter(|agent| agent.record.direction == Direction::Outbound);
            if agent.is_none() {
                core.metrics.learned(Learned::UnknownAgent);
            }
            agent?
        }
        None => {
            let from = identity::caller(message, sighting.peer, None).number()?;
            sole_outbound_owner(directory, from)?
        }
    };
    let country = directory
        .environment(agent.environment)
        .and_then(|environment| environment.record.default_country);
    let from = match identity::caller(message, sighting.peer, country) {
        Caller::Number(from) => Some(from),
        Caller::Anonymous | Caller::Invalid => None,
    };
    Some((agent, from))
}

/// The outbound agent that owns a number, if it is the only one that does.
fn sole_outbound_owner(directory: &Directory, number: E164) -> Option<&DirectoryAgent> {
    let owners = &directory.number(number)?.owners;
    let mut outbound = owners
        .iter()
        .filter_map(|slot| directory.agent(*slot))
        .filter(|agent| agent.record.direction == Direction::Outbound);
    let agent = outbound.next()?;
    outbound.next().is_none().then_some(agent)
}

/// The dialed number, read in the country of the agent that dialed.
fn dialed_in(message: &Message<'_>, peer: &Peer, country: Option<Country>) -> Option<E164> {
    let country = peer.rules.country.or(country);
    message
        .dialed(peer.dialed_header.as_deref())
        .find_map(|text| identity::read(text.as_str(), peer, country).number())
}

/// How far a call got that is replied to so; `None` if the reply says nothing about it.
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

/// Calls of one generation.
const MAX_CALLS: usize = 500_000;
