//! From one message to its outcome: a reply, and effects that are counted and reported elsewhere.
//!
//! A message is [read](read), its numbers are [resolved](resolve), the data for the answer is [fetched from
//! memory](prefetch), and the message is [answered](answer). All inputs are parameters, and nothing else is changed:
//! no counter, no list and no program is reached from here. For INVITEs that came together, each step is done for
//! all of them before the next one: one fetch from memory takes as long as many that overlap.

pub(crate) mod answer;
pub(crate) mod effect;
pub(crate) mod plan;
pub(crate) mod prefetch;
pub(crate) mod read;
pub(crate) mod reply_cache;
pub(crate) mod resolve;

use std::time::Duration;

use ringback_routing::{Caller, Contacts, DialedNumber, Directory, E164};
use ringback_sip_proto::{Invite, Origin, Redirector};

use crate::admission::excess::Excess;
use crate::admission::gate::Gate;
use crate::admission::pressure::Pressure;
use crate::clock::Now;
use crate::forward::Forward;
use crate::identity;
use crate::learning::Learning;
use crate::outbox::Outbox;
use crate::policy::{Policy, Source};
use crate::redirect::effect::{Outcome, UnservedCall};
use crate::redirect::plan::Plans;
use crate::redirect::reply_cache::{Generations, ReplyCache};
use crate::redirect::resolve::resolve;

/// Answers messages; all threads share its memory.
#[derive(Debug)]
pub(crate) struct Redirect {
    /// Checks messages and writes replies.
    pub(crate) redirector: Redirector,
    /// INVITEs answered lately.
    pub(crate) reply_cache: ReplyCache,
    /// Calls whose end is waited for.
    pub(crate) learning: Learning,
}

/// One message and how it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'m> {
    /// One datagram, or one message of a stream.
    pub(crate) bytes: &'m [u8],
    /// Where it came from, and over what.
    pub(crate) origin: Origin,
    /// How long it waited to be read.
    pub(crate) waited: Duration,
}

/// The state for all messages that came together.
#[derive(Debug)]
pub(crate) struct Snapshot<'r, C> {
    /// The rules in force.
    pub(crate) policy: &'r Policy,
    /// Agents, numbers and roles.
    pub(crate) directory: &'r Directory,
    /// Remembered calls.
    pub(crate) contacts: &'r C,
    /// The INVITEs answered lately.
    pub(crate) answered: &'r Generations,
    /// When the messages are handled.
    pub(crate) now: Now,
    /// What knows which targets are down, if a 302 leaves those out.
    pub(crate) probed: Option<&'r Forward>,
    /// Whether the server is draining.
    pub(crate) is_draining: bool,
}

impl<C> Clone for Snapshot<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Snapshot<'_, C> {}

/// The state of the thread or connection that handles a message.
#[derive(Debug)]
pub(crate) struct WorkerContext<'s> {
    /// The cache of plans.
    pub(crate) plans: Plans<'s>,
    /// The overload state; a connection has none, because it holds its peer back by itself.
    pub(crate) pressure: Option<&'s mut Pressure>,
    /// The packets to send.
    pub(crate) out: &'s mut Outbox,
}

/// The result of reading a message.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most messages are INVITEs, and a box would allocate"
)]
pub(crate) enum Read<'m, 'r> {
    /// The message is completely handled.
    Done(Outcome<'m, 'r>),
    /// A valid INVITE, to be answered.
    Invite(Call<'m, 'r>),
}

/// A valid INVITE, and what is known about it.
#[derive(Debug)]
pub(crate) struct Call<'m, 'r> {
    /// The parsed message.
    pub(crate) invite: Invite<'m>,
    /// The peer that sent it, with the peer's budgets and counters.
    pub(crate) source: Source<'r>,
    /// The limits that it must pass if it is new.
    gate: Gate<'r>,
    /// Why it is refused if it is new.
    excess: Option<Excess>,
    /// The dialed number, if it can be read; before it is [resolved](resolve), from the request URI alone.
    pub(crate) dialed: Option<E164>,
    /// The dialed number's entry, if it is ours.
    pub(crate) number: Option<DialedNumber<'r>>,
    /// The caller, once the INVITE is resolved.
    pub(crate) caller: Caller,
}

impl Redirect {
    /// Has not seen anything yet. `key` is the secret behind To tags and fingerprints.
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self {
            redirector: Redirector::new(key),
            reply_cache: ReplyCache::new(),
            learning: Learning::new(),
        }
    }

    /// Handles one message. Replies go into the outbox of the worker.
    pub(crate) fn handle<'m, 'r, C: Contacts>(
        &self,
        worker: &mut WorkerContext<'_>,
        snapshot: Snapshot<'r, C>,
        received: Received<'m>,
    ) -> Outcome<'m, 'r> {
        match self.read(worker, snapshot, received) {
            Read::Done(outcome) => outcome,
            Read::Invite(mut call) => {
                resolve(std::slice::from_mut(&mut call), snapshot);
                let mut outcome = call.outcome();
                self.answer(worker, snapshot, &call, &mut outcome);
                outcome
            }
        }
    }
}

impl<'m, 'r> Call<'m, 'r> {
    /// An outcome of this message, to be filled in.
    pub(crate) fn outcome(&self) -> Outcome<'m, 'r> {
        Outcome::new(Ok(self.source))
    }

    /// Where it came from.
    pub(crate) fn origin(&self) -> Origin {
        self.invite.origin()
    }

    /// Whether the caller's number is attested as high as its peer must.
    pub(crate) fn is_verified(&self) -> bool {
        let environment = self.number.map(|number| &number.environment.record);
        identity::is_verified(self.invite.message(), self.source.peer, environment)
    }

    /// Whether it is sent on, and not redirected.
    pub(crate) fn forwards(&self) -> bool {
        self.source.peer.forwards
    }

    /// The call as it is shown to the operator if it gets no target.
    pub(crate) fn unserved(&self, now: Now, reason: &'static str) -> UnservedCall<'m> {
        UnservedCall {
            at: now.wall,
            user: self.invite.uri().user().unwrap_or_default(),
            dialed: self.dialed,
            from: self.caller.number(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use ringback_index::ContactIndex;
    use ringback_sip_proto::Transport;

    use super::*;
    use crate::admission::excess::ExcessCause;
    use crate::clock::Clock;
    use crate::counters::Dropped;
    use crate::redirect::effect::Effect;
    use crate::redirect::plan::PlanCache;
    use crate::{SipConfig, SipSpec};

    /// A redirect with a directory without numbers.
    struct Server {
        redirect: Redirect,
        policy: Policy,
        directory: Directory,
        contacts: ContactIndex,
        clock: Clock,
    }

    impl Server {
        /// A server with this configuration.
        fn new(toml: &str) -> Self {
            let spec: SipSpec = toml::from_str(toml).unwrap();
            let config = SipConfig::try_from(spec).unwrap();
            Self {
                redirect: Redirect::new([1; 16]),
                policy: Policy::new(&config, 1, None),
                directory: Directory::new(7),
                contacts: ContactIndex::new(7),
                clock: Clock::start(),
            }
        }

        /// Handles a message that has waited too long (`is_late`) or not; returns the status of the reply, and
        /// the effects.
        fn ask(&self, message: &str, is_late: bool) -> (Option<u16>, Vec<String>) {
            let (mut plans, mut pressure) = (PlanCache::default(), Pressure::default());
            let mut out = Outbox::default();
            let mut worker = WorkerContext {
                plans: Plans::Own(&mut plans),
                pressure: Some(&mut pressure),
                out: &mut out,
            };
            let received = Received {
                bytes: message.as_bytes(),
                origin: Origin {
                    address: "127.0.0.1:5060".parse().unwrap(),
                    transport: Transport::Udp,
                },
                waited: Duration::from_secs(if is_late { 33 } else { 0 }),
            };
            let snapshot = Snapshot {
                policy: &self.policy,
                directory: &self.directory,
                contacts: &self.contacts,
                answered: &self.redirect.reply_cache.generations(),
                now: self.clock.now(),
                probed: None,
                is_draining: false,
            };
            let mut outcome = self.redirect.handle(&mut worker, snapshot, received);
            let effects = outcome.effects.drain().map(|effect| match effect {
                Effect::Decided(call) => format!("Decided {}", call.decision.reason.name()),
                Effect::Unserved(call) => format!("Unserved {}", call.reason),
                Effect::Learned(learned) => format!("Learned {:?}", learned.lessons),
                other => format!("{other:?}"),
            });
            let effects = effects.collect();
            (outcome.status, effects)
        }
    }

    /// A request.
    fn request(method: &str, call_id: &str) -> String {
        format!(
            "{method} sip:+551130000000@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{call_id};rport\r\n\
             From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n\r\n"
        )
    }

    /// The effects of an INVITE that waited too long.
    fn late(is_answered: bool) -> Vec<String> {
        let excess = Excess::new(ExcessCause::Late, is_answered);
        vec![format!("{:?}", Effect::Excess(excess))]
    }

    #[test]
    fn a_late_invite_is_refused_unless_it_is_known() {
        let server = Server::new("");
        let invite = request("INVITE", "1");
        assert_eq!(server.ask(&invite, true), (Some(503), late(true)));
        // A refusal is not remembered: sent again in time, the INVITE is decided, once.
        let decided = [
            "Decided number_unknown".to_owned(),
            "Unserved number_unknown".to_owned(),
        ];
        assert_eq!(server.ask(&invite, false), (Some(404), decided.into()));
        let known = vec!["Retransmitted".to_owned()];
        assert_eq!(server.ask(&invite, true), (Some(404), known));
        assert_eq!(server.ask(&request("OPTIONS", "2"), true).0, Some(200));
        assert_eq!(server.ask(&request("INVITE", "3"), true).0, Some(503));
    }

    #[test]
    fn a_late_invite_of_a_peer_to_be_met_with_silence_gets_none() {
        let server = Server::new("[[peers]]\naddress = [\"127.0.0.1\"]\nrefuse = \"silence\"");
        let invite = request("INVITE", "1");
        assert_eq!(server.ask(&invite, true), (None, late(false)));
        assert_eq!(server.ask(&request("OPTIONS", "2"), true).0, Some(200));
        assert_eq!(server.ask(&invite, false).0, Some(404));
    }

    // The effects used to be one more than there was room for.
    #[test]
    fn an_invite_that_nothing_fits_has_all_its_effects() {
        let toml = "[[peers]]\naddress = [\"127.0.0.1\"]\nlearn = true";
        let server = Server::new(toml);
        let invite =
            request("INVITE", "1").replace("\r\n\r\n", "\r\nX-Ringback-Agent: nobody\r\n\r\n");
        let name = "n".repeat(65_530 - invite.len());
        let invite = invite.replace("From: <", &format!("From: {name} <"));
        let effects = [
            "Learned [Nothing(UnknownAgent)]",
            "Decided number_unknown",
            "Refused(TooLarge)",
            "Unserved number_unknown",
            "Dropped(ReplyTooLarge)",
        ];
        let effects = effects.map(str::to_owned).into();
        assert_eq!(server.ask(&invite, false), (None, effects));
    }

    #[test]
    fn what_gets_no_reply_says_why() {
        let server = Server::new("[[peers]]\naddress = [\"127.0.0.1\"]");
        let cause = |cause| vec![format!("{:?}", Effect::Dropped(cause))];
        assert_eq!(
            server.ask("\r\n\r\n", false),
            (None, cause(Dropped::KeepAlive))
        );
        assert_eq!(
            server.ask("SIP/2.0 200 OK\r\n\r\n", false),
            (None, cause(Dropped::MalformedResponse))
        );
        let absorbed = vec!["Absorbed".to_owned()];
        assert_eq!(server.ask(&request("ACK", "1"), false), (None, absorbed));
        let refused = ["Refused(CSeqMethod)", "Unserved cseq_method"].map(str::to_owned);
        let malformed = request("INVITE", "1").replace("1 INVITE", "1 ACK");
        assert_eq!(server.ask(&malformed, false), (Some(400), refused.into()));
    }
}
