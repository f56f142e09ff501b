//! What is counted of forwarded calls; all names start with `ringback_forward_`.

use std::fmt::Write;
use std::time::Duration;

use ringback_routing::TargetState;
use ringback_sip_proxy::Cause;

use crate::counters::{Counter, LATENCY_BOUNDS, Latencies};
use crate::forward::health::Probe;

/// What is counted of forwarded calls.
#[derive(Debug)]
pub(crate) struct ForwardCounters {
    /// Calls that ended, by the state of the last target and the final status from 200 on.
    calls: [Box<[Counter]>; TargetState::ALL.len()],
    /// Probes, by what they found.
    probes: [Counter; PROBES.len()],
    /// Failovers, by cause.
    failovers: [Counter; CAUSES.len()],
    /// How long targets took to their first reply.
    first_reply: Latencies,
    /// Replies that match no branch.
    strays: Counter,
}

impl Default for ForwardCounters {
    fn default() -> Self {
        Self {
            calls: TargetState::ALL.map(|_| (0..STATUSES).map(|_| Counter::default()).collect()),
            probes: Default::default(),
            failovers: Default::default(),
            first_reply: Latencies::default(),
            strays: Counter::default(),
        }
    }
}

impl ForwardCounters {
    /// A call ended with this final reply; the last target was in this state when it was tried.
    pub(crate) fn ended(&self, state: TargetState, status: u16) {
        let index = usize::from(status).checked_sub(FIRST_STATUS);
        let calls = self.calls.get(state as usize);
        if let Some(counter) = calls.zip(index).and_then(|(calls, index)| calls.get(index)) {
            counter.bump_shared();
        }
    }

    /// A probe found this.
    pub(crate) fn probed(&self, probe: Probe) {
        let index = match probe {
            Probe::Silent => 2,
            _ => usize::from(!probe.is_life()),
        };
        if let Some(counter) = self.probes.get(index) {
            counter.bump_shared();
        }
    }

    /// Another target was tried.
    pub(crate) fn failed_over(&self, cause: Cause) {
        let index = CAUSES.iter().position(|(known, _)| *known == cause);
        if let Some(counter) = index.and_then(|index| self.failovers.get(index)) {
            counter.bump_shared();
        }
    }

    /// A target gave its first reply after this long.
    pub(crate) fn first_reply(&self, took: Duration) {
        self.first_reply.count(took);
    }

    /// A reply matched no branch.
    pub(crate) fn stray(&self) {
        self.strays.bump_shared();
    }

    /// Appends all metrics; `open` is the number of calls, `names` of names by [`NAME_STATES`].
    pub(crate) fn write(&self, open: usize, names: [usize; 3], out: &mut String) {
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _infallible = write!(
                out,
                "# HELP ringback_forward_{name} {help}\n# TYPE ringback_forward_{name} {kind}\n"
            );
        };
        let line = |out: &mut String, name: &str, value: &dyn std::fmt::Display| {
            let _infallible = writeln!(out, "ringback_forward_{name} {value}");
        };
        head(
            out,
            "calls_total",
            "counter",
            "Forwarded calls that ended, by the state of the last target and final status",
        );
        for (state, calls) in TargetState::ALL.iter().zip(&self.calls) {
            for (index, counter) in calls.iter().enumerate() {
                let count = counter.get();
                if count > 0 {
                    let (state, status) = (state.name(), index + FIRST_STATUS);
                    let name = format!("calls_total{{state=\"{state}\",status=\"{status}\"}}");
                    line(out, &name, &count);
                }
            }
        }
        head(
            out,
            "probes_total",
            "counter",
            "OPTIONS to targets, by what they found: a reply, 408 or 503, or nothing",
        );
        for (result, counter) in PROBES.iter().zip(&self.probes) {
            let name = format!("probes_total{{result=\"{result}\"}}");
            line(out, &name, &counter.get());
        }
        head(
            out,
            "failovers_total",
            "counter",
            "Targets that were tried because the one before did not take the call, by cause",
        );
        for ((_, cause), counter) in CAUSES.iter().zip(&self.failovers) {
            line(
                out,
                &format!("failovers_total{{cause=\"{cause}\"}}"),
                &counter.get(),
            );
        }
        head(
            out,
            "strays_total",
            "counter",
            "Replies that match no forwarded call",
        );
        line(out, "strays_total", &self.strays.get());
        head(
            out,
            "transactions",
            "gauge",
            "Forwarded calls that are open, those included that ended less than 32 s ago",
        );
        line(out, "transactions", &open);
        head(
            out,
            "names",
            "gauge",
            "Names of targets, by whether they lead anywhere",
        );
        for (state, count) in NAME_STATES.iter().zip(names) {
            line(out, &format!("names{{state=\"{state}\"}}"), &count);
        }
        const FIRST: &str = "first_reply_seconds";
        head(
            out,
            FIRST,
            "histogram",
            "Time from an INVITE to the first reply of its target",
        );
        let mut count = 0;
        for (index, bucket) in self.first_reply.buckets.iter().enumerate() {
            count += bucket.get();
            let bound = LATENCY_BOUNDS.get(index).map_or("+Inf", |(_, text)| text);
            line(out, &format!("{FIRST}_bucket{{le=\"{bound}\"}}"), &count);
        }
        let seconds = Duration::from_micros(self.first_reply.micros.get()).as_secs_f64();
        line(out, &format!("{FIRST}_sum"), &seconds);
        line(out, &format!("{FIRST}_count"), &count);
    }
}

impl ForwardCounters {
    /// Appends how many targets are passed over.
    pub(crate) fn write_down(&self, down: usize, out: &mut String) {
        const NAME: &str = "ringback_forward_targets_down";
        let _infallible = write!(
            out,
            "# HELP {NAME} Addresses of targets that are passed over because they gave no reply, to calls or to OPTIONS\n# TYPE {NAME} gauge\n{NAME} {down}\n"
        );
    }
}

/// The causes of a failover, and their names.
const CAUSES: [(Cause, &str); 4] = [
    (Cause::Timeout, "timeout"),
    (Cause::Refused, "refused"),
    (Cause::Transport, "transport"),
    (Cause::Status, "status"),
];

/// What a probe may find.
const PROBES: [&str; 3] = ["alive", "unavailable", "silent"];

/// The states of the names of targets.
pub(crate) const NAME_STATES: [&str; 3] = ["resolved", "nowhere", "unknown"];

/// The first final status.
const FIRST_STATUS: usize = 200;

/// How many there are.
const STATUSES: usize = 500;
