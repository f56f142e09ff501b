//! What the administrator is told beside what the HTTP API knows: SIP, the data directory, reloads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ringback_admin::{MetricsSource, StatusSource, TargetSource};
use ringback_api::{
    CertificateStatus, PeerStatus, Rates, RefusedCall, Reload, ReloadStatus, SipStatus, Status,
    StorageStatus, StrangerStatus, StrangersStatus, TargetHealth,
};
use ringback_routing::{EnvironmentId, Timestamp};
use ringback_sip_server::SipServer;

use super::process::{DiskUse, Process, gauge};
use super::program::{EngineProgram, LearningCounters};

/// Everything that is told.
pub(super) struct Sources {
    /// Counts messages, and knows strangers and refused calls.
    pub(super) sip: SipServer<EngineProgram>,
    /// Counts learned calls.
    pub(super) learning: Arc<LearningCounters>,
    /// Counts reloads.
    pub(super) reloads: Reloads,
    /// When the process started.
    pub(super) process: Process,
    /// Where the store is.
    pub(super) data_dir: PathBuf,
    /// When the certificate of HTTP over TLS expires.
    pub(super) http_certificate: Mutex<Option<Timestamp>>,
}

impl Sources {
    /// When the certificate of each listener expires, where there is one.
    fn certificates(&self) -> [(&'static str, &'static str, Option<Timestamp>); 2] {
        [
            ("sip", "SIP", self.sip.certificate_expires_at()),
            ("http", "HTTP", *self.http_certificate.lock()),
        ]
    }
}

/// Reloads of the configuration.
#[derive(Default)]
pub(super) struct Reloads(Mutex<ReloadStatus>);

impl Reloads {
    /// A new configuration is in force.
    pub(super) fn succeeded(&self, at: Timestamp) {
        let mut state = self.0.lock();
        state.succeeded += 1;
        state.last = Some(Reload {
            at,
            succeeded: true,
            message: None,
        });
    }

    /// A new configuration was refused.
    pub(super) fn failed(&self, at: Timestamp, message: String) {
        let mut state = self.0.lock();
        state.failed += 1;
        state.last = Some(Reload {
            at,
            succeeded: false,
            message: Some(message),
        });
    }

    /// Appends the metrics in Prometheus' text format.
    fn write(&self, out: &mut String) {
        let state = self.0.lock();
        let is_good = state.last.as_ref().is_none_or(|last| last.succeeded);
        let _infallible = write!(
            out,
            "# HELP ringback_config_reloads_total Reloads of the configuration.\n\
             # TYPE ringback_config_reloads_total counter\n\
             ringback_config_reloads_total{{result=\"succeeded\"}} {}\n\
             ringback_config_reloads_total{{result=\"failed\"}} {}\n\
             # HELP ringback_config_last_reload_successful \
             0 after a reload that was refused, until one succeeds.\n\
             # TYPE ringback_config_last_reload_successful gauge\n\
             ringback_config_last_reload_successful {}\n",
            state.succeeded,
            state.failed,
            u8::from(is_good),
        );
    }
}

impl MetricsSource for Sources {
    fn write_metrics(&self, out: &mut String) {
        self.sip.write_metrics(out);
        self.learning.write(out);
        self.reloads.write(out);
        self.process.write(out);
        DiskUse::of(&self.data_dir).write(out);
        for (protocol, shown, expires_at) in self.certificates() {
            gauge(
                out,
                &format!("ringback_{protocol}_certificate_expires_timestamp_seconds"),
                "gauge",
                &format!(
                    "When the certificate of {shown} over TLS expires, in seconds since 1970."
                ),
                expires_at.map(|at| at.millis() as f64 / 1e3),
            );
        }
    }
}

impl StatusSource for Sources {
    fn write_status(&self, status: &mut Status) {
        let disk = DiskUse::of(&self.data_dir);
        status.storage = Some(StorageStatus {
            path: self.data_dir.display().to_string(),
            bytes: disk.bytes,
            free_bytes: disk.free_bytes,
        });
        status.reloads = Some(self.reloads.0.lock().clone());
        let certificates = self.certificates().into_iter();
        let certificates = certificates.filter_map(|(protocol, _, expires_at)| {
            Some(CertificateStatus {
                listener: format!("{protocol}_tls"),
                expires_at: expires_at?,
            })
        });
        status.certificates = Some(certificates.collect());
        status.sip = Some(sip_status(self.sip.status()));
    }

    fn refused_calls(&self, limit: usize) -> Vec<RefusedCall> {
        let calls = self.sip.refused_calls(limit).into_iter();
        calls
            .map(|call| RefusedCall {
                at: call.at,
                via: call.via,
                transport: call.transport.map(str::to_owned),
                peer: Some(call.peer.into()),
                source: call.source,
                to: call.to.map(|to| to.as_str().to_owned()),
                from: call.from,
                reason: call.reason.to_owned(),
                status: call.status,
                count: call.count,
            })
            .collect()
    }
}

impl TargetSource for Sources {
    fn write_health(&self, environment: EnvironmentId, health: &mut TargetHealth) {
        let found = self.sip.target_health(environment, &health.uri);
        let millis = |rtt: Duration| u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX);
        health.state = found.state;
        health.since = found.since;
        health.rtt_ms = found.rtt.map(millis);
        health.last_status = found.last_status;
        health.calls = found.calls;
        health.failures = found.failures;
    }
}

/// What the SIP server tells, as the API writes it.
fn sip_status(status: ringback_sip_server::SipStatus) -> SipStatus {
    let rates = status.rates;
    SipStatus {
        overloaded: status.overloaded,
        draining: status.draining,
        rates: Rates {
            window_seconds: rates.window_seconds,
            messages_per_second: rates.messages_per_second,
            calls_per_second: rates.calls_per_second,
            retransmissions_per_second: rates.retransmissions_per_second,
            replies_per_second: rates.replies_per_second,
            refused_per_second: rates.refused_per_second,
            dropped_per_second: rates.dropped_per_second,
        },
        messages: by_name(status.messages),
        dropped: by_name(status.dropped),
        refused: by_name(status.refused),
        socket_drops: status.socket_drops,
        connections: status.connections,
        peers: status.peers.into_iter().map(peer_status).collect(),
        strangers: StrangersStatus {
            messages: status.strangers.messages,
            messages_of_others: status.strangers.messages_of_others,
            addresses: status
                .strangers
                .addresses
                .into_iter()
                .map(stranger_status)
                .collect(),
        },
    }
}

/// What was counted of a peer, as the API writes it.
fn peer_status(peer: ringback_sip_server::PeerStatus) -> PeerStatus {
    PeerStatus {
        name: peer.name.into(),
        messages: peer.messages,
        calls: peer.calls,
        refused: by_name(peer.refused),
        dropped: peer.dropped,
        connections: peer.connections,
    }
}

/// What a source sent that is no peer, as the API writes it.
fn stranger_status(stranger: ringback_sip_server::StrangerStatus) -> StrangerStatus {
    StrangerStatus {
        address: stranger.address,
        transport: stranger.transport.name().to_owned(),
        messages: stranger.messages,
        first_seen_at: stranger.first_seen_at,
        last_seen_at: stranger.last_seen_at,
    }
}

/// Counts by name.
fn by_name(counts: BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    let owned = |(name, count): (&str, u64)| (name.to_owned(), count);
    counts.into_iter().map(owned).collect()
}
