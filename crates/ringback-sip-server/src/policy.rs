//! The part of the configuration that a reload replaces as a whole: peers with their budgets, and the headers on
//! replies.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use ringback_sip_proto::Settings;

use crate::admission::excess::Excess;
use crate::admission::rate::Bucket;
use crate::config::SipConfig;
use crate::config::forward::ForwardConfig;
use crate::counters::{PeerCounters, Writers};
use crate::peers::{Peer, PeerTable};
use crate::redirect::plan::{Plan, SharedPlan};

/// The rules in force.
#[derive(Debug)]
pub(crate) struct Policy {
    /// The peers that are served.
    peers: PeerTable,
    /// The state of each peer, in the same order; it outlives a reload.
    states: Vec<Arc<PeerState>>,
    /// The plan that redirects learned INVITEs of each peer.
    forwards: Vec<Option<Arc<SharedPlan>>>,
    /// Which headers carry the decision.
    pub(crate) settings: Settings,
    /// The header in which an outbound INVITE names its agent.
    pub(crate) agent_header: Box<str>,
    /// The key without which HEP packets are ignored.
    pub(crate) hep_key: Option<Box<[u8]>>,
    /// Whether the INVITEs of some peer are sent on.
    pub(crate) has_forwarding: bool,
    /// How calls are sent on.
    pub(crate) forward: ForwardConfig,
    /// Whether replies to INVITEs may pass by, so that calls must be watched.
    pub(crate) watches: bool,
    /// Networks of the load balancers that name the peer of a connection.
    balancers: Vec<IpNet>,
    /// TCP, TLS and HEP connections open at once.
    pub(crate) max_connections: usize,
    /// The same limit for one peer.
    pub(crate) max_connections_per_peer: usize,
    /// How long a silent connection stays open.
    pub(crate) idle_timeout: Duration,
}

/// The state of a peer while it is served.
#[derive(Debug)]
pub(crate) struct PeerState {
    /// The budget for new INVITEs.
    pub(crate) invites: Bucket,
    /// The budget for everything else that gets a reply.
    pub(crate) others: Bucket,
    /// Connections that it holds.
    pub(crate) connections: AtomicUsize,
    /// Its calls of which something is left, where they are sent on.
    calls: AtomicUsize,
    /// How many INVITEs over each limit are in a summary already.
    summarized: [AtomicU64; Excess::ALL.len()],
    /// Counters, one set per thread.
    shards: Box<[PeerCounters]>,
}

/// A call that counts toward the limit of its peer until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenCall(Arc<PeerState>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The peer of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'p> {
    /// The index of the peer in the configuration.
    pub(crate) index: usize,
    /// The peer.
    pub(crate) peer: &'p Peer,
    /// Its state.
    pub(crate) state: &'p Arc<PeerState>,
    /// The plan that redirects its learned INVITEs.
    pub(crate) forward: Option<&'p Arc<SharedPlan>>,
}

impl Policy {
    /// Compiles a configuration; peers that exist already keep their counters and budgets.
    pub(crate) fn new(config: &SipConfig, shards: usize, before: Option<&Self>) -> Self {
        let peers = config.peers.clone();
        let state_of = |peer: &Peer| {
            let known = before.and_then(|before| before.state_of(&peer.name));
            known.map_or_else(|| Arc::new(PeerState::new(shards)), Arc::clone)
        };
        let forward_of = |peer: &Peer| {
            let next_hop = peer.next_hop.clone()?;
            Some(Arc::new(SharedPlan::new(Plan::Forward { next_hop })))
        };
        let has_forwarding = peers.iter().any(|peer| peer.forwards);
        Self {
            states: peers.iter().map(state_of).collect(),
            forwards: peers.iter().map(forward_of).collect(),
            settings: Settings {
                decision_headers: config.decision_headers,
                contact_headers: config.contact_headers,
            },
            agent_header: config.agent_header.clone(),
            hep_key: config.hep_key.clone(),
            has_forwarding,
            forward: config.forward.clone(),
            watches: !config.hep.is_empty() || peers.iter().any(|peer| peer.learn || peer.forwards),
            balancers: config.proxy_protocol.clone(),
            max_connections: config.max_connections,
            max_connections_per_peer: config.max_connections_per_peer,
            idle_timeout: config.idle_timeout,
            peers,
        }
    }

    /// The peer that an address belongs to.
    pub(crate) fn source(&self, ip: IpAddr) -> Option<Source<'_>> {
        let index = self.peers.find(ip)?;
        Some(Source {
            index,
            peer: self.peers.get(index)?,
            state: self.states.get(index)?,
            forward: self.forwards.get(index)?.as_ref(),
        })
    }

    /// Whether an address is a load balancer's, which names the peer of each connection.
    pub(crate) fn is_balancer(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.balancers.iter().any(|network| network.contains(&ip))
    }

    /// Every peer with its state.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (&Peer, &PeerState)> {
        let states = self.states.iter().map(AsRef::as_ref);
        self.peers.iter().zip(states)
    }

    /// The state of the peer with this name.
    fn state_of(&self, name: &str) -> Option<&Arc<PeerState>> {
        let mut known = self.peers.iter().zip(&self.states);
        let (_, state) = known.find(|(peer, _)| &*peer.name == name)?;
        Some(state)
    }
}

impl Source<'_> {
    /// Counts one more call of the peer; `None`: as many as it may have are open.
    pub(crate) fn open_call(&self) -> Option<OpenCall> {
        let most = self.peer.max_transactions.unwrap_or(usize::MAX);
        let more = |open: usize| (open < most).then(|| open + 1);
        let calls = &self.state.calls;
        let counted = calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok().map(|_| OpenCall(Arc::clone(self.state)))
    }
}

impl PeerState {
    /// Full budgets and nothing counted.
    fn new(shards: usize) -> Self {
        Self {
            invites: Bucket::default(),
            others: Bucket::default(),
            connections: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            summarized: Default::default(),
            shards: Writers::of_shards(shards).map(PeerCounters::new).collect(),
        }
    }

    /// The counters of a thread.
    pub(crate) fn shard(&self, shard: usize) -> &PeerCounters {
        let last = self.shards.len().saturating_sub(1);
        &self.shards[shard.min(last)]
    }

    /// How many INVITEs were over this limit since the last call; `counted` is their number until now. Called by
    /// one thread at a time.
    pub(crate) fn take_excess(&self, excess: Excess, counted: u64) -> u64 {
        let before = self
            .summarized
            .get(excess.index())
            .map_or(counted, |summarized| {
                summarized.swap(counted, Ordering::Relaxed)
            });
        counted.saturating_sub(before)
    }

    /// The counters of all threads.
    pub(crate) fn shards(&self) -> &[PeerCounters] {
        &self.shards
    }
}
