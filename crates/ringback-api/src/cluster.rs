//! A cluster: `/cluster`.

use ringback_routing::Timestamp;
use serde::{Deserialize, Serialize};

/// The answer of `GET /cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// The name of the node that answers.
    pub node: String,
    /// Whether this node has a connection to a server.
    pub connected: bool,
    /// The stream, when this node last heard of it.
    pub stream: Option<ClusterStream>,
    /// Whether the servers keep what they acknowledge.
    pub durability: Durability,
    /// The nodes that this one knows, itself among them, by name.
    pub nodes: Vec<ClusterNode>,
    /// Whether nodes that have read equally far have read the same; null if no two have.
    pub agree: Option<bool>,
}

/// The stream that has the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStream {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The first sequence that it has.
    pub first_sequence: u64,
    /// The last sequence.
    pub last_sequence: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many servers keep it.
    pub replicas: usize,
    /// The server that leads it, if one does.
    pub leader: Option<String>,
}

/// Whether servers keep what they acknowledge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durability {
    /// Whether they do, as far as can be read.
    pub ok: bool,
    /// What is wrong, or cannot be read.
    pub problems: Vec<String>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNode {
    /// Its name.
    pub node: String,
    /// The version of its program.
    pub version: String,
    /// Where its API is.
    pub url: String,
    /// How far it has read the log.
    pub applied_sequence: u64,
    /// How many messages it is behind.
    pub lag: u64,
    /// The hash of everything that it has read, as 32 hex digits.
    pub digest: String,
    /// The sequence up to which `digest` goes.
    pub digest_sequence: u64,
    /// When it was last heard.
    pub seen_at: Timestamp,
    /// How it is.
    pub state: NodeState,
}

/// What `POST /cluster/recover` would do, or has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecovery {
    /// The node whose state counts from then on.
    pub base: String,
    /// Where the new log begins.
    pub first_sequence: u64,
    /// Whether it has begun.
    pub begun: bool,
    /// The nodes, and what differs.
    pub nodes: Vec<RecoveredNode>,
}

/// A node, as a recovery finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveredNode {
    /// Its name.
    pub node: String,
    /// How far it has read the old log.
    pub applied_sequence: u64,
    /// How many messages the base has read that it has not.
    pub behind: u64,
    /// How many it has read that the base has not: what these say is lost.
    pub lost: u64,
    /// Whether it is heard.
    pub heard: bool,
}

/// The body of `POST /cluster/recover`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverCluster {
    /// The node whose state is to count; none: the one that has read most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whether to begin.
    #[serde(default)]
    pub confirm: bool,
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It has read everything that there was when it started.
    Current,
    /// It has not, or cannot read on.
    CatchingUp,
    /// It was not heard for ten seconds.
    Gone,
}

impl NodeState {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::CatchingUp => "catching_up",
            Self::Gone => "gone",
        }
    }
}

/// How a server is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterHealth {
    /// It is in no cluster.
    Alone,
    /// It has read everything that there was when it started.
    Current,
    /// It has not.
    CatchingUp,
    /// The log cannot be reached: writes wait, routing goes on.
    Unreachable,
    /// The log is not the one that this node has read, or cannot be read on: writes are refused, routing goes on.
    Diverged,
    /// Servers may lose what they have acknowledged: writes are refused, routing goes on.
    Unsafe,
}

impl ClusterHealth {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Current => "current",
            Self::CatchingUp => "catching_up",
            Self::Unreachable => "unreachable",
            Self::Diverged => "diverged",
            Self::Unsafe => "unsafe",
        }
    }
}
