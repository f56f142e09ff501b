//! How a node and its cluster are, for people and probes.

use std::time::Duration;

use async_nats::jetstream::stream::Info;
use uuid::Uuid;

use super::durability::Durability;
use super::recovery::MadeAnew;
use super::{cluster_of, created_at};
use crate::Chain;
use crate::replica::{Counts, Fault, Replica};

/// How a node and its cluster are.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// The name of the cluster.
    pub name: String,
    /// The name of this node.
    pub node: String,
    /// Whether there is a connection to a server.
    pub is_connected: bool,
    /// The condition of this node.
    pub condition: Condition,
    /// The stream, when it was last looked at.
    pub stream: Option<StreamStatus>,
    /// Why servers may lose what they have acknowledged.
    pub durability_problems: Vec<String>,
    /// This node and those that were heard.
    pub nodes: Vec<NodeStatus>,
    /// Whether nodes that have read equally far have read the same; none if no two have.
    pub agree: Option<bool>,
    /// What became of the appends of this node since it was started.
    pub counts: Counts,
}

/// The condition of a node in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has read all that there was when it started.
    Current,
    /// It is reading what there was when it started.
    CatchingUp,
    /// The stream cannot be reached: it routes from what it has, and writes wait.
    Unreachable,
    /// It does not follow the log any more, for this reason: it routes from what it has, and refuses writes.
    Diverged(Fault),
    /// Servers may lose what they have acknowledged: it refuses writes.
    Unsafe,
}

/// The state of the stream.
#[derive(Clone, Debug)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at: i64,
    /// The first sequence that it has.
    pub first_sequence: u64,
    /// The last sequence.
    pub last_sequence: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many servers keep it.
    pub replicas: usize,
    /// The server that leads it.
    pub leader: Option<String>,
    /// If it was made anew from what a node had: the sequence that stands for all of that.
    pub recovered: Option<u64>,
    /// Whether it is that of another cluster.
    pub is_foreign: bool,
}

impl StreamStatus {
    /// What its leader says of it.
    pub(super) fn new(info: &Info, ours: Uuid) -> Self {
        let cluster = info.cluster.as_ref();
        Self {
            name: info.config.name.clone(),
            created_at: created_at(info),
            first_sequence: info.state.first_sequence,
            last_sequence: info.state.last_sequence,
            bytes: info.state.bytes,
            replicas: info.config.num_replicas,
            leader: cluster.and_then(|cluster| cluster.leader.clone()),
            recovered: MadeAnew::read(info).map(|anew| anew.place().sequence),
            is_foreign: cluster_of(info) != Some(ours),
        }
    }
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// The version of its program.
    pub version: String,
    /// Where its API is.
    pub url: String,
    /// How far it has read the log.
    pub applied_sequence: u64,
    /// How many messages it is behind the end of the log as this node knows it.
    pub lag: u64,
    /// The hash of all that it has read.
    pub chain: Chain,
    /// How long ago it was heard.
    pub silent_for: Duration,
    /// Whether it is current; none if it is gone.
    pub is_current: Option<bool>,
}

impl ClusterStatus {
    /// What a replica knows.
    pub(super) fn new(
        replica: &Replica,
        now: Duration,
        name: &str,
        stream: Option<StreamStatus>,
        durability: &Durability,
    ) -> Self {
        let own = replica.presence();
        let last = stream.as_ref().map_or(0, |stream| stream.last_sequence);
        let others = replica.neighbors();
        let last = others.fold(last.max(own.place.sequence), |last, other| {
            last.max(other.presence.place.sequence)
        });
        let node = |presence: &crate::replica::Presence, silent_for, is_gone: bool| NodeStatus {
            node: presence.node.clone(),
            version: presence.version.clone(),
            url: presence.url.clone(),
            applied_sequence: presence.place.sequence,
            lag: last - presence.place.sequence,
            chain: presence.place.chain,
            silent_for,
            is_current: (!is_gone).then_some(presence.is_current),
        };
        let mut nodes = vec![node(&own, Duration::ZERO, false)];
        nodes.extend(replica.neighbors().map(|other| {
            let silent_for = now.saturating_sub(other.seen_at);
            node(&other.presence, silent_for, other.is_gone(now))
        }));
        nodes.sort_by(|one, other| one.node.cmp(&other.node));
        let condition = match replica.fault() {
            Some(fault) => Condition::Diverged(fault),
            None if durability.forbids_writes() => Condition::Unsafe,
            None if !replica.is_reachable(now) => Condition::Unreachable,
            None if replica.is_current() => Condition::Current,
            None => Condition::CatchingUp,
        };
        let compared = replica.neighbors().filter(|other| !other.is_gone(now));
        let agree = compared
            .filter_map(|other| other.agrees)
            .reduce(|one, other| one && other);
        Self {
            name: name.to_owned(),
            node: own.node,
            is_connected: replica.is_connected(),
            condition,
            stream,
            durability_problems: durability.problems(),
            nodes,
            agree,
            counts: replica.counts(),
        }
    }
}
