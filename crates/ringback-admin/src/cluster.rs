//! What a cluster tells the administrator, and other nodes.

use std::io::{self, Write};

use ringback_api::{Cluster, ClusterHealth};

/// The part of the program that knows the cluster.
pub trait ClusterSource: Send + Sync + 'static {
    /// The answer of `GET /cluster`.
    fn cluster(&self) -> Cluster;

    /// How this node is in it, and what somebody should look at.
    fn health(&self) -> (ClusterHealth, Vec<String>);

    /// A snapshot for another node, which asks for it with this text; none if it does not prove that it is one.
    fn snapshot(&self, asked: &str) -> Option<Snapshot>;
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
