//! How a server is: `/healthz`, `/readyz`, `/status`, `/refused-calls`, `/reload`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ringback_routing::{CallVia, E164, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ClusterHealth;

/// The answer of `GET /healthz`, which only a living server gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// `ok`.
    pub status: String,
}

/// How ready a server is: the answer of `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// All in all.
    pub status: Health,
    /// Whether changes are taken.
    pub storage: StorageHealth,
    /// Whether contacts are answered from memory.
    pub index: IndexHealth,
    /// Whether calls may be sent here: the probe answers 200, and 503 if not.
    pub ready: bool,
    /// How the server is in its cluster.
    pub cluster: ClusterHealth,
    /// What somebody should look at.
    pub problems: Vec<String>,
}

/// How a server is, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It serves.
    Ready,
    /// It routes, but takes no changes or has damaged data.
    Degraded,
    /// It goes down.
    Draining,
}

impl Health {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
        }
    }
}

/// Whether storage takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageHealth {
    /// It does.
    Available,
    /// It does not: writes are refused, routing goes on.
    Unavailable,
}

impl StorageHealth {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Unavailable => "unavailable",
        }
    }
}

/// How the index of contacts is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexHealth {
    /// Every contact is in memory.
    Whole,
    /// It is being loaded: a contact that is not in memory yet is looked up in the store.
    Loading,
    /// Stored data is damaged: calls of the contacts concerned are answered with 503.
    Damaged,
}

impl IndexHealth {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Loading => "loading",
            Self::Damaged => "damaged",
        }
    }
}

/// How a server is and what it has done since it started: the answer of `GET /status`. What a server
/// does not tell of is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// For how many seconds it has run.
    pub uptime_seconds: u64,
    /// How ready it is.
    pub health: Readiness,
    /// How much it holds.
    pub counts: Counts,
    /// The data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// Reloads of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reloads: Option<ReloadStatus>,
    /// Certificates of TLS listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Vec<CertificateStatus>>,
    /// What comes over SIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip: Option<SipStatus>,
}

/// How much a server holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Contacts in memory.
    pub contacts: u64,
    /// Environments.
    pub environments: u64,
    /// Agents of all environments.
    pub agents: u64,
    /// Numbers of all environments.
    pub phone_numbers: u64,
}

/// The data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageStatus {
    /// Path of the directory.
    pub path: String,
    /// How large it is, in bytes, if the system tells.
    pub bytes: Option<u64>,
    /// How much is left on its disk, in bytes, if the system tells.
    pub free_bytes: Option<u64>,
}

/// Reloads of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// How many put a new configuration in force.
    pub succeeded: u64,
    /// How many were refused.
    pub failed: u64,
    /// The latest one.
    pub last: Option<Reload>,
}

/// One reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// When the configuration was read again.
    pub at: Timestamp,
    /// Whether the new configuration is in force.
    pub succeeded: bool,
    /// Why it is not.
    pub message: Option<String>,
}

/// The answer of `POST /reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Sections and keys that have changed but take effect only at the next start.
    pub restart_needed: Vec<String>,
}

/// The certificate of a TLS listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// `sip_tls` or `http_tls`.
    pub listener: String,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// What a SIP server has done since it started. Causes are those of the metrics; causes that did not occur
/// are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SipStatus {
    /// Whether more calls come than can be served.
    pub overloaded: bool,
    /// Whether the server is about to end.
    pub draining: bool,
    /// How much there was to do in the last seconds.
    pub rates: Rates,
    /// Messages received, by transport.
    pub messages: BTreeMap<String, u64>,
    /// Messages that were not answered, by cause.
    pub dropped: BTreeMap<String, u64>,
    /// Requests refused before routing, by cause.
    pub refused: BTreeMap<String, u64>,
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

/// So many a second, on average over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// The seconds that the averages are of; 0: nothing is known yet.
    pub window_seconds: f64,
    /// Messages received.
    pub messages_per_second: f64,
    /// New INVITEs that were decided on or sent on to their next hop.
    pub calls_per_second: f64,
    /// INVITEs answered again from memory.
    pub retransmissions_per_second: f64,
    /// Replies sent.
    pub replies_per_second: f64,
    /// Requests refused before routing.
    pub refused_per_second: f64,
    /// Messages that were not answered.
    pub dropped_per_second: f64,
}

/// What was counted of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Messages received.
    pub messages: u64,
    /// New INVITEs that were served.
    pub calls: u64,
    /// INVITEs that were too many, by cause.
    pub refused: BTreeMap<String, u64>,
    /// Other messages that were too many.
    pub dropped: u64,
    /// Its TCP and TLS connections open.
    pub connections: u64,
}

/// What sources sent that are no peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrangersStatus {
    /// Messages, and connections over TCP and TLS, of all of them.
    pub messages: u64,
    /// Of these, the ones whose address is not shown.
    pub messages_of_others: u64,
    /// The addresses shown, latest first, at most 100.
    pub addresses: Vec<StrangerStatus>,
}

/// What one source sent that is no peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrangerStatus {
    /// The source address.
    pub address: IpAddr,
    /// `udp`, `tcp`, `tls` or `hep`.
    pub transport: String,
    /// Messages, or connections over TCP and TLS.
    pub messages: u64,
    /// When the first came, to a second or so.
    pub first_seen_at: Timestamp,
    /// When the last came, to a second or so.
    pub last_seen_at: Timestamp,
}

/// A call that was refused, or several that were refused alike: an entry of `GET /refused-calls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedCall {
    /// When; of several the last one.
    pub at: Timestamp,
    /// How it was asked for; none for several calls over SIP.
    pub via: Option<CallVia>,
    /// `udp`, `tcp` or `tls` for SIP; none for several calls.
    pub transport: Option<String>,
    /// The name of the SIP peer; none for HTTP.
    pub peer: Option<String>,
    /// Where it came from; none for HTTP and for several calls.
    pub source: Option<SocketAddr>,
    /// The dialed number, or what was dialed where that is no number; none where it was not read.
    pub to: Option<String>,
    /// The caller, if it is a number.
    pub from: Option<E164>,
    /// The reason of the decision, or the cause of a refusal before there was one.
    pub reason: String,
    /// The SIP status of the reply; none for HTTP, and where there was no reply.
    pub status: Option<u16>,
    /// How many calls.
    pub count: u64,
}
