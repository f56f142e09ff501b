//! Counters, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use parking_lot::Mutex;
use ringback_routing::{Outcome, Reason};

use crate::api::Api;

/// Somebody else who counts: adds whole metric families to `/metrics`.
pub trait MetricsSource: Send + Sync + 'static {
    /// Appends lines in Prometheus' text format, each ended by a line feed. No family may have the
    /// name of one that is written elsewhere: this crate's are `ringback_http_...`, `ringback_lookup_...`,
    /// `ringback_build_info`, `ringback_storage_available`, `ringback_storage_damaged_places`,
    /// `ringback_index_whole`, `ringback_index_damaged`,
    /// `ringback_contacts`, `ringback_environments`, `ringback_agents` and `ringback_phone_numbers`.
    fn write_metrics(&self, out: &mut String);
}

/// What the HTTP API counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Requests answered: by route, method and status.
    requests: Mutex<BTreeMap<(&'static str, &'static str, u16), u64>>,
    /// How long answers took, by route.
    durations: Mutex<BTreeMap<&'static str, Histogram>>,
    /// Decisions that `POST /route` made and counted, by outcome and reason.
    decisions: [[AtomicU64; Reason::ALL.len()]; Outcome::ALL.len()],
    /// Calls recorded.
    calls_accepted: AtomicU64,
    /// Calls that were not.
    calls_rejected: AtomicU64,
    /// Connections accepted.
    connections_accepted: AtomicU64,
    /// Connections closed.
    connections_closed: AtomicU64,
    /// Connections closed so that others could be taken in.
    connections_evicted: AtomicU64,
}

/// How many durations lie at or below each bound.
#[derive(Clone, Copy, Debug, Default)]
struct Histogram {
    /// Not summed up: each holds what lies between its bound and the one before.
    buckets: [u64; BOUNDS.len() + 1],
    /// Sum of all, in microseconds.
    micros: u64,
}

impl Metrics {
    /// Counts an answer.
    pub(crate) fn count_request(
        &self,
        route: &'static str,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let key = (route, method_name(method), status.as_u16());
        *self.requests.lock().entry(key).or_default() += 1;
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS.len());
        let mut durations = self.durations.lock();
        let histogram = durations.entry(route).or_default();
        if let Some(bucket) = histogram.buckets.get_mut(bucket) {
            *bucket += 1;
        }
        histogram.micros += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    }

    /// Counts a decision.
    pub(crate) fn count_decision(&self, outcome: Outcome, reason: Reason) {
        if let Some(counter) = self.decision(outcome, reason) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts reported calls.
    pub(crate) fn count_calls(&self, accepted: u64, rejected: u64) {
        self.calls_accepted.fetch_add(accepted, Ordering::Relaxed);
        self.calls_rejected.fetch_add(rejected, Ordering::Relaxed);
    }

    /// Counts a new connection.
    pub(crate) fn connection_accepted(&self) {
        self.connections_accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that is gone.
    pub(crate) fn connection_closed(&self) {
        self.connections_closed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that has made room for another.
    pub(crate) fn connection_evicted(&self) {
        self.connections_evicted.fetch_add(1, Ordering::Relaxed);
    }

    /// The counter of these decisions.
    fn decision(&self, outcome: Outcome, reason: Reason) -> Option<&AtomicU64> {
        let outcome = Outcome::ALL.iter().position(|other| *other == outcome)?;
        let reason = Reason::ALL.iter().position(|other| *other == reason)?;
        self.decisions.get(outcome)?.get(reason)
    }
}

/// Writes all metrics, those of the other sources last.
pub(crate) fn write(api: &Api) -> String {
    let mut out = String::with_capacity(16 * 1024);
    write_state(api, &mut out);
    write_http(api.metrics(), &mut out);
    api.platforms().write_metrics(&mut out);
    for source in api.sources() {
        source.write_metrics(&mut out);
    }
    out
}

/// How the engine is and what it holds.
fn write_state(api: &Api, out: &mut String) {
    let health = api.engine().health();
    let directory = api.engine().directory();
    let environments = directory.environments().count();
    let (mut agents, mut numbers) = (0, 0);
    for environment in directory.environments() {
        agents += environment.agent_count();
        numbers += environment.number_count();
    }
    let version = env!("CARGO_PKG_VERSION");
    family(
        out,
        "ringback_build_info",
        "gauge",
        "Always 1; the version is a label.",
    );
    line(
        out,
        &format!("ringback_build_info{{version=\"{version}\"}}"),
        1,
    );
    for (name, help, value) in [
        (
            "ringback_storage_available",
            "Whether storage takes writes.",
            u64::from(health.storage_available),
        ),
        (
            "ringback_index_whole",
            "Whether every stored contact is in memory.",
            u64::from(health.index_whole),
        ),
        (
            "ringback_index_damaged",
            "Whether stored data is damaged, or contacts cannot be read.",
            u64::from(health.index_damaged),
        ),
        (
            "ringback_storage_damaged_places",
            "Places in the data directory that are known to be damaged; the log names them.",
            health.damaged_places,
        ),
        (
            "ringback_contacts",
            "Contacts in memory.",
            api.engine().contacts().len() as u64,
        ),
        (
            "ringback_environments",
            "Environments.",
            environments as u64,
        ),
        ("ringback_agents", "Agents.", agents as u64),
        ("ringback_phone_numbers", "Phone numbers.", numbers as u64),
    ] {
        family(out, name, "gauge", help);
        line(out, name, value);
    }
    let name = "ringback_calls_refused_total";
    let help = "Learned outbound calls that were not recorded, by reason.";
    family(out, name, "counter", help);
    let reason = Reason::ContactOptedOut.name();
    line(
        out,
        &format!("{name}{{reason=\"{reason}\"}}"),
        api.engine().refused_learned(),
    );
}

/// What was counted here.
fn write_http(metrics: &Metrics, out: &mut String) {
    let name = "ringback_http_requests_total";
    family(out, name, "counter", "Requests answered.");
    for ((route, method, status), count) in &*metrics.requests.lock() {
        let labels = format!("{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}");
        line(out, &format!("{name}{labels}"), *count);
    }

    let name = "ringback_http_request_duration_seconds";
    family(
        out,
        name,
        "histogram",
        "Time from request to the head of the answer.",
    );
    for (route, histogram) in &*metrics.durations.lock() {
        let mut sum = 0;
        for (index, count) in histogram.buckets.iter().enumerate() {
            sum += count;
            let bound = BOUNDS
                .get(index)
                .map_or_else(|| "+Inf".to_owned(), f64::to_string);
            line(
                out,
                &format!("{name}_bucket{{route=\"{route}\",le=\"{bound}\"}}"),
                sum,
            );
        }
        let seconds = Duration::from_micros(histogram.micros).as_secs_f64();
        let _infallible = writeln!(out, "{name}_sum{{route=\"{route}\"}} {seconds}");
        line(out, &format!("{name}_count{{route=\"{route}\"}}"), sum);
    }

    let name = "ringback_http_decisions_total";
    family(out, name, "counter", "Decisions that POST /route made.");
    for outcome in Outcome::ALL {
        for reason in Reason::ALL
            .into_iter()
            .filter(|reason| outcome.can_have(*reason))
        {
            let count = metrics
                .decision(outcome, reason)
                .map_or(0, |count| count.load(Ordering::Relaxed));
            let labels = format!(
                "{{outcome=\"{}\",reason=\"{}\"}}",
                outcome.name(),
                reason.name()
            );
            line(out, &format!("{name}{labels}"), count);
        }
    }

    let accepted = metrics.connections_accepted.load(Ordering::Relaxed);
    let closed = metrics.connections_closed.load(Ordering::Relaxed);
    let calls_accepted = metrics.calls_accepted.load(Ordering::Relaxed);
    let calls_rejected = metrics.calls_rejected.load(Ordering::Relaxed);
    for (name, kind, help, value) in [
        (
            "ringback_http_connections",
            "gauge",
            "Connections open.",
            accepted.saturating_sub(closed),
        ),
        (
            "ringback_http_connections_total",
            "counter",
            "Connections accepted.",
            accepted,
        ),
        (
            "ringback_http_connections_evicted_total",
            "counter",
            "Connections without a request that made room for others.",
            metrics.connections_evicted.load(Ordering::Relaxed),
        ),
        (
            "ringback_http_calls_accepted_total",
            "counter",
            "Outbound calls recorded.",
            calls_accepted,
        ),
        (
            "ringback_http_calls_rejected_total",
            "counter",
            "Outbound calls that were not recorded.",
            calls_rejected,
        ),
    ] {
        family(out, name, kind, help);
        line(out, name, value);
    }
}

/// Opens a family.
fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _infallible = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Writes one value.
fn line(out: &mut String, series: &str, value: u64) {
    let _infallible = writeln!(out, "{series} {value}");
}

/// The method as a label; clients cannot add to the list.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The upper bounds of the histogram, in seconds.
const BOUNDS: [f64; 11] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
];
