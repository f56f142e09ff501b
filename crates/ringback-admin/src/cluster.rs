//! What a cluster tells the administrator, and other nodes.

use std::io::{self, Write};

use ringback_api::{Cluster, ClusterHealth, ClusterRecovery};

/// The part of the program that knows the cluster.
pub trait ClusterSource: Send + Sync + 'static {
    /// The answer of `GET /cluster`.
    fn cluster(&self) -> Cluster;

    /// How this node is in it, and what somebody should look at.
    fn health(&self) -> (ClusterHealth, Vec<String>);

    /// A snapshot for another node, which asks for it with this text; none if it does not prove that it is one.
    fn snapshot(&self, asked: &str) -> Option<Snapshot>;

    /// Has all nodes forget one that will not return.
    ///
    /// # Errors
    /// See [`ClusterError`].
    fn forget(&self, node: &str) -> Result<(), ClusterError>;

    /// Has the log made anew from what a node has, `from` or the one that has read most; or only says what would
    /// happen.
    ///
    /// # Errors
    /// See [`ClusterError`].
    fn recover(&self, from: Option<&str>, begin: bool) -> Result<ClusterRecovery, ClusterError>;
}

/// Why something was not done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterError {
    /// No node of this name was heard.
    NoSuchNode,
    /// The node that is to be forgotten is heard.
    NodeIsCurrent,
    /// The log has all that the nodes have read.
    LogIsWhole,
    /// The stream is that of another cluster.
    ForeignLog,
    /// The servers cannot be reached.
    Unreachable,
}

/// A snapshot for another node, or the rest of one.
pub struct Snapshot {
    /// Which one.
    pub id: String,
    /// Writes it, and waits for what is not there yet.
    pub write: WriteSnapshot,
}

/// Writes a snapshot, or fails where it is broken off.
pub type WriteSnapshot = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Snapshot")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The header of requests for a snapshot, and of the answers.
pub(crate) const SNAPSHOT_HEADER: &str = "x-ringback-snapshot";
