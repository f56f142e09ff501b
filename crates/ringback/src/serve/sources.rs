//! What the administrator is told beside what the HTTP API knows: SIP, the data directory, reloads.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use ringback_admin::{MetricsSource, RefusedCall, StatusSource};
use ringback_routing::Timestamp;
use ringback_sip_server::SipServer;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::process::{DiskUse, Process, gauge};
use super::router::{EngineRouter, LearningCounters};

/// Everything that is told.
pub(super) struct Sources {
    /// Counts messages, and knows strangers and refused calls.
    pub(super) sip: SipServer<EngineRouter>,
    /// Counts learned calls.
    pub(super) learning: Arc<LearningCounters>,
    /// Counts reloads.
    pub(super) reloads: Reloads,
    /// When the process started.
    pub(super) process: Process,
    /// Where the store is.
    pub(super) data_dir: PathBuf,
}

/// Reloads of the configuration.
#[derive(Default)]
pub(super) struct Reloads(Mutex<ReloadState>);

/// What is known of reloads.
#[derive(Clone, Default, Serialize)]
struct ReloadState {
    /// How many put a new configuration in force.
    succeeded: u64,
    /// How many were refused.
    failed: u64,
    /// The latest one.
    last: Option<Reload>,
}

/// One reload.
#[derive(Clone, Serialize)]
struct Reload {
    /// When the configuration was read again.
    at: Timestamp,
    /// Whether the new configuration is in force.
    succeeded: bool,
    /// Why not.
    message: Option<String>,
}

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
        let expires_at = self.sip.certificate_expires_at();
        gauge(
            out,
            "ringback_sip_certificate_expires_timestamp_seconds",
            "gauge",
            "When the certificate of SIP over TLS expires, in seconds since 1970.",
            expires_at.map(|at| at.millis() as f64 / 1e3),
        );
    }
}

impl StatusSource for Sources {
    fn write_status(&self, status: &mut Map<String, Value>) {
        let reloads = self.reloads.0.lock().clone();
        let disk = DiskUse::of(&self.data_dir);
        let storage = json!({
            "path": self.data_dir.display().to_string(),
            "bytes": disk.bytes,
            "free_bytes": disk.free_bytes,
        });
        let certificates = self.sip.certificate_expires_at();
        let certificates: Vec<_> = certificates
            .iter()
            .map(|at| json!({"listener": "sip_tls", "expires_at": at}))
            .collect();
        for (key, value) in [
            ("storage", storage),
            ("reloads", json!(reloads)),
            ("certificates", json!(certificates)),
            ("sip", json!(self.sip.status())),
        ] {
            status.insert(key.to_owned(), value);
        }
    }

    fn refused_calls(&self, limit: usize) -> Vec<RefusedCall> {
        let calls = self.sip.refused_calls(limit).into_iter();
        calls
            .map(|call| RefusedCall {
                at: call.at,
                surface: "sip",
                transport: call.transport,
                peer: Some(call.peer.into()),
                source: call.source,
                to: call.to.map(|to| to.as_str().to_owned()),
                from: call.from,
                reason: call.reason,
                status: call.status,
                count: call.count,
            })
            .collect()
    }
}
