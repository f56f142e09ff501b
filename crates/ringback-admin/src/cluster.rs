//! What a cluster tells the administrator.

use ringback_api::{Cluster, ClusterHealth};

/// The part of the program that knows the cluster.
pub trait ClusterSource: Send + Sync + 'static {
    /// The answer of `GET /cluster`.
    fn cluster(&self) -> Cluster;

    /// How this node is in it, and what somebody should look at.
    fn health(&self) -> (ClusterHealth, Vec<String>);
}
