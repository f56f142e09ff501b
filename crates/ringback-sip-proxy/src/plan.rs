//! What is to be done with a new INVITE.

use std::net::SocketAddr;
use std::sync::Arc;

use ringback_sip_proto::Transport;

/// Where a request goes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The transport, as our `Via` says.
    pub transport: Transport,
    /// The address of the other side.
    pub address: SocketAddr,
    /// Our own address and port in `Via`, where replies come.
    pub sent_by: Arc<str>,
    /// Which socket it leaves from, for whoever sends it.
    pub socket: u32,
}

/// A target that may be tried.
#[derive(Clone, Debug)]
pub struct Target {
    /// The request URI; without what no request URI may hold.
    pub uri: Arc<str>,
    /// Where it leads; `None`: not known, or not to be used, which counts as a 503 of ours.
    pub hop: Option<Arc<Hop>>,
    /// Where it goes instead if the request is longer than [`MOST_OVER_UDP`]: over TCP.
    pub large: Option<Arc<Hop>>,
    /// Record-Route lines that are added in front, each with its end.
    pub record_route: Arc<[u8]>,
    /// Whether it is known to be down: then it does not limit how long the target before it may ring.
    pub is_down: bool,
    /// Whether it may see who the caller really is (RFC 3325).
    pub keeps_identity: bool,
    /// Whether another target named it in a 3xx reply: such a reply of its own is not followed.
    pub is_followed: bool,
}

/// What is to be done with a new INVITE.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The targets, in the order in which they are tried.
    pub targets: Box<[Target]>,
    /// Header lines that are added, each with its end: the decision. They replace lines of the same names.
    pub headers: Arc<[u8]>,
    /// Whether the sender may say what only we say: `X-Ringback-*`.
    pub is_trusted: bool,
}

/// The longest request that goes over UDP where there is a choice (RFC 3261 §18.1.1).
pub const MOST_OVER_UDP: usize = 1_300;
