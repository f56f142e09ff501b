//! The status of the server, for its operator.

use std::collections::BTreeMap;
use std::time::Duration;

use ringback_routing::{TargetState, Timestamp};

use crate::observation::rates::Rates;
use crate::observation::strangers::StrangersStatus;

/// The status of a SIP server, and its totals since it started. Causes are those of the metrics.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SipStatus {
    /// Whether more calls come than can be answered.
    pub overloaded: bool,
    /// Whether the server is draining.
    pub draining: bool,
    /// The load of the last seconds.
    pub rates: Rates,
    /// Messages received, by transport.
    pub messages: BTreeMap<&'static str, u64>,
    /// Messages that were not answered, by cause; causes that did not occur are left out.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Requests refused before routing, by cause; causes that did not occur are left out.
    pub refused: BTreeMap<&'static str, u64>,
    /// Datagrams that the system dropped before they were read: ACKs, INVITEs held back on overload, and
    /// datagrams without room in the socket.
    pub socket_drops: u64,
    /// TCP and TLS connections open.
    pub connections: u64,
    /// The peers, in the order of the configuration.
    pub peers: Vec<PeerStatus>,
    /// Sources that are no peer.
    pub strangers: StrangersStatus,
}

/// How a target is, and how the calls of an environment went there since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetHealth {
    /// Its state.
    pub state: TargetState,
    /// Since when; `None`: it is unknown.
    pub since: Option<Timestamp>,
    /// How long its last reply to OPTIONS took.
    pub rtt: Option<Duration>,
    /// That reply.
    pub last_status: Option<u16>,
    /// Calls that were sent there.
    pub calls: u64,
    /// Those that another target was tried for, or would have been if there was one.
    pub failures: u64,
}

/// The counters of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Its name.
    pub name: Box<str>,
    /// Messages received.
    pub messages: u64,
    /// New INVITEs that were served.
    pub calls: u64,
    /// INVITEs over a limit, by cause (`rate`, `late`, `share`); causes that did not occur are left out.
    pub refused: BTreeMap<&'static str, u64>,
    /// Other messages over their limit.
    pub dropped: u64,
    /// Its TCP and TLS connections open.
    pub connections: u64,
}
