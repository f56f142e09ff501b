//! Forwarding: calls of peers in forward mode are sent on to their target, by the proxy of `ringback-sip-proxy`.
//!
//! Each UDP thread has a proxy of its own and owns the calls that it began. Whatever arrives elsewhere is
//! [handed over](inbox): replies by the branch in our `Via`, messages of connections by their Call-ID. What a call
//! is decided to is decided where it arrives ([`invite`]); only then it is the business of its owner ([`worker`]).

mod asked;
pub(crate) mod calls;
mod dialog;
mod follow;
pub(crate) mod health;
pub(crate) mod inbox;
pub(crate) mod invite;
pub(crate) mod metrics;
pub(crate) mod names;
pub(crate) mod probes;
pub(crate) mod streams;
pub(crate) mod target;
pub(crate) mod worker;

use std::hash::BuildHasher;
use std::net::UdpSocket;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use ringback_routing::Decision;
use ringback_sip_proto::destination;
use ringback_sip_proxy::Keys;

use crate::forward::health::{Health, Rank};
use crate::forward::inbox::{Handed, Inbox};
use crate::forward::metrics::ForwardCounters;
use crate::forward::names::Names;
use crate::forward::probes::Probes;
use crate::forward::streams::Streams;
use crate::forward::target::Ways;
use crate::policy::Policy;
use crate::server::BoundAddresses;

/// What all threads share of forwarding.
#[derive(Debug)]
pub(crate) struct Forward {
    /// Whether some peer is in forward mode, or targets are asked for those in redirect mode: set at the start, because threads wait in another way then.
    pub(crate) is_on: bool,
    /// The key of every hash.
    key: [u8; 16],
    /// Makes hashes.
    pub(crate) keys: Keys,
    /// Where our listeners are, and where targets lead.
    pub(crate) ways: Ways,
    /// What the names of targets stand for.
    pub(crate) names: Names,
    /// What was handed to each UDP thread.
    inboxes: Box<[Inbox]>,
    /// How many calls each of them has.
    open: Box<[AtomicUsize]>,
    /// How many of them have no final reply, once the server drains.
    ringing: Box<[AtomicUsize]>,
    /// Accepted connections and those that we opened.
    pub(crate) streams: Streams,
    /// The socket of each UDP thread.
    pub(crate) sockets: OnceLock<Box<[UdpSocket]>>,
    /// How targets are.
    pub(crate) health: Health,
    /// What asks them.
    pub(crate) probes: Probes,
    /// What is counted.
    pub(crate) counters: ForwardCounters,
    /// Spreads the calls of connections over the threads.
    hasher: RandomState,
}

impl Forward {
    /// Without calls; `threads` is the number of UDP threads, the same for each UDP address.
    pub(crate) fn new(
        key: [u8; 16],
        policy: &Policy,
        addresses: &BoundAddresses,
        threads: usize,
    ) -> Self {
        // Another key than that of To tags, which everybody is shown.
        let key = key.map(|byte| byte ^ 0x5c);
        // Without UDP nobody owns calls.
        let is_on = (policy.has_forwarding || policy.forward.probe_redirects) && threads > 0;
        let owners = if is_on { threads } else { 0 };
        Self {
            is_on,
            key,
            keys: Keys::new(key),
            ways: Ways::new(&policy.forward, addresses, threads),
            names: Names::default(),
            inboxes: (0..owners).map(|_| Inbox::new()).collect(),
            open: (0..owners).map(|_| AtomicUsize::new(0)).collect(),
            ringing: (0..owners).map(|_| AtomicUsize::new(0)).collect(),
            streams: Streams::default(),
            sockets: OnceLock::new(),
            health: Health::default(),
            probes: Probes::default(),
            counters: ForwardCounters::default(),
            hasher: RandomState::default(),
        }
    }

    /// What knows which targets are down, if a 302 leaves those out.
    pub(crate) fn probed(&self, policy: &Policy) -> Option<&Self> {
        (self.is_on && policy.forward.probe_redirects).then_some(self)
    }

    /// Which targets of a decision a 302 has, where it leaves some out: those that are down while another one is up.
    pub(crate) fn kept(&self, decision: &Decision<'_>, now: Duration) -> Option<Vec<bool>> {
        let environment = decision.environment;
        let held = environment.map_or(&[][..], |environment| &environment.record.held_targets);
        if self.health.is_all_well() && held.is_empty() {
            return None;
        }
        let ranks = decision.targets().iter().map(|target| {
            let destination = destination(&target.uri).unwrap_or_default();
            let hops = self.ways.all(&destination, &self.names).into_iter();
            let ways = hops.map(|hop| (hop.transport, hop.address));
            self.health
                .rank_of(ways, health::held(held, &target.uri), now)
        });
        let ranks: Vec<Rank> = ranks.collect();
        let best = ranks.iter().min().copied()?;
        let leaves_some_out = ranks.iter().any(|rank| *rank > best);
        leaves_some_out.then(|| ranks.into_iter().map(|rank| rank == best).collect())
    }

    /// Hands something to a thread.
    pub(crate) fn hand(&self, thread: u16, handed: Handed) {
        if let Some(inbox) = self.inboxes.get(usize::from(thread)) {
            inbox.put(handed);
        }
    }

    /// Hands something to every thread that owns calls.
    pub(crate) fn hand_to_all(&self, handed: impl Fn() -> Handed) {
        for inbox in &self.inboxes {
            inbox.put(handed());
        }
    }

    /// The thread that owns the calls of connections with this Call-ID.
    pub(crate) fn owner(&self, call_id: &[u8]) -> u16 {
        let hash = self.hasher.hash_one(call_id);
        let threads = self.inboxes.len().max(1) as u64;
        u16::try_from(hash % threads).unwrap_or_default()
    }

    /// How many threads own calls.
    pub(crate) fn owners(&self) -> usize {
        self.inboxes.len()
    }

    /// Calls of which something is left.
    pub(crate) fn open(&self) -> usize {
        let open = self.open.iter().map(|open| open.load(Ordering::Relaxed));
        open.sum()
    }

    /// Calls without a final reply, once the server drains; before that nobody counts them.
    pub(crate) fn ringing(&self) -> usize {
        let ringing = self.ringing.iter();
        ringing.map(|ringing| ringing.load(Ordering::Relaxed)).sum()
    }

    /// Wakes all threads that own calls.
    pub(crate) fn wake(&self) {
        self.inboxes.iter().for_each(Inbox::ring);
    }

    /// Notes how many calls of a thread have no final reply.
    fn set_ringing(&self, thread: usize, calls: usize) {
        if let Some(ringing) = self.ringing.get(thread) {
            ringing.store(calls, Ordering::Relaxed);
        }
    }

    /// Notes how many calls a thread has.
    fn set_open(&self, thread: usize, calls: usize) {
        if let Some(open) = self.open.get(thread) {
            open.store(calls, Ordering::Relaxed);
        }
    }
}
