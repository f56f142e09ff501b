//! How the server is, for its operator.

use std::collections::BTreeMap;

use crate::observation::rates::Rates;
use crate::observation::strangers::StrangersStatus;

/// How a SIP server is and what it has done since it started. Causes are those of the metrics.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SipStatus {
    /// Whether more calls come than can be served.
    pub overloaded: bool,
    /// Whether the server is about to end.
    pub draining: bool,
    /// How much there was to do in the last seconds.
    pub rates: Rates,
    /// Messages received, by transport.
    pub messages: BTreeMap<&'static str, u64>,
    /// Messages that were not answered, by cause; causes that did not occur are left out.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Requests refused before routing, by cause; causes that did not occur are left out.
    pub refused: BTreeMap<&'static str, u64>,
    /// Datagrams that the system dropped before they were read: ACKs, what was held back on overload, and
    /// where no room was left.
    pub socket_drops: u64,
    /// TCP and TLS connections open.
    pub connections: u64,
    /// The peers, in the order of the configuration.
    pub peers: Vec<PeerStatus>,
    /// Sources that are no peer.
    pub strangers: StrangersStatus,
}

/// What was counted of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Its name.
    pub name: Box<str>,
    /// Messages received.
    pub messages: u64,
    /// New INVITEs that were served.
    pub calls: u64,
    /// INVITEs that were too many, by cause (`rate`, `late`, `share`); causes that did not occur are left
    /// out.
    pub refused: BTreeMap<&'static str, u64>,
    /// Other messages that were too many.
    pub dropped: u64,
    /// Its TCP and TLS connections open.
    pub connections: u64,
}
