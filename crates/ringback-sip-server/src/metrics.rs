//! The metrics of the server in Prometheus text format; all names start with `ringback_sip_`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringback_routing::{Outcome, Reason};

use crate::admission::excess::Excess;
use crate::counters::{
    Connection, Counter, CounterShard, Dropped, Hep, LATENCY_BOUNDS, LearnedEvent, PeerCounters,
    Refused, STATUSES, TRANSPORTS, Writers,
};
use crate::observation::rates::{Rates, Totals};
use crate::observation::strangers::StrangersStatus;
use crate::peers::Peer;
use crate::policy::{PeerState, Policy};
use crate::status::{PeerStatus, SipStatus};

/// The counters of the whole server.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// One per UDP worker, and one for all connections.
    shards: Box<[CounterShard]>,
    /// Connections, by event.
    connections: [Counter; Connection::NAMES.len()],
    /// HEP packets, by result.
    hep: [Counter; Hep::NAMES.len()],
    /// What was learned, by event.
    learned: [Counter; LearnedEvent::NAMES.len()],
    /// Reloads of the configuration.
    pub(crate) reloads: Counter,
}

impl Metrics {
    /// Nothing counted yet.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards: Writers::of_shards(shards).map(CounterShard::new).collect(),
            connections: Default::default(),
            hep: Default::default(),
            learned: Default::default(),
            reloads: Counter::default(),
        }
    }

    /// The counters of a thread.
    pub(crate) fn shard(&self, shard: usize) -> &CounterShard {
        let last = self.shards.len().saturating_sub(1);
        &self.shards[shard.min(last)]
    }

    /// Whether any thread is overloaded.
    pub(crate) fn is_overloaded(&self) -> bool {
        let mut shards = self.shards.iter();
        shards.any(|shard| shard.overloaded.load(Ordering::Relaxed))
    }

    /// Counts an event of a connection.
    pub(crate) fn connection(&self, event: Connection) {
        self.connections[event as usize].bump_shared();
    }

    /// Counts a HEP packet.
    pub(crate) fn hep(&self, event: Hep) {
        self.hep[event as usize].bump_shared();
    }

    /// Counts an event of learning.
    pub(crate) fn learned(&self, event: LearnedEvent) {
        self.learned[event as usize].bump_shared();
    }

    /// The sums over all threads.
    pub(crate) fn totals(&self) -> Totals {
        let all = |counters: fn(&CounterShard) -> &[Counter]| {
            self.sum(|shard| counters(shard).iter().map(Counter::get).sum())
        };
        let decided = all(|shard| shard.decisions.as_flattened());
        Totals {
            messages: all(|shard| &shard.received),
            calls: decided + self.sum(|shard| shard.forwarded.get()),
            retransmissions: self.sum(|shard| shard.retransmissions.get()),
            replies: all(|shard| &shard.replies),
            refused: all(|shard| &shard.refused),
            dropped: all(|shard| &shard.dropped),
        }
    }

    /// The status of the server, from its counters.
    pub(crate) fn status(
        &self,
        policy: &Policy,
        gauges: &Gauges,
        rates: Rates,
        strangers: StrangersStatus,
    ) -> SipStatus {
        let occurred = |(_, count): &(&str, u64)| *count > 0;
        let peer = |(peer, state): (&Peer, &PeerState)| {
            let shards = state.shards();
            let mut refused = BTreeMap::new();
            for excess in Excess::ALL {
                let count: u64 = shards.iter().map(|shard| shard.refused_as(excess)).sum();
                if count > 0 {
                    *refused.entry(excess.cause().name()).or_default() += count;
                }
            }
            PeerStatus {
                name: peer.name.clone(),
                messages: shards.iter().map(|shard| shard.messages.get()).sum(),
                calls: shards.iter().map(|shard| shard.invites.get()).sum(),
                refused,
                dropped: shards.iter().map(|shard| shard.dropped.get()).sum(),
                connections: state.connections.load(Ordering::Relaxed) as u64,
            }
        };
        SipStatus {
            overloaded: gauges.overloaded,
            draining: gauges.draining,
            rates,
            messages: self.values(&MESSAGES).collect(),
            dropped: self.values(&DROPPED).filter(occurred).collect(),
            refused: self.values(&REFUSED).filter(occurred).collect(),
            socket_drops: gauges.socket_drops,
            connections: gauges.connections,
            peers: policy.peers().map(peer).collect(),
            strangers,
        }
    }

    /// Appends all metrics.
    pub(crate) fn write(&self, policy: &Policy, gauges: &Gauges, out: &mut String) {
        let mut page = Page(out);
        self.write_labelled(&MESSAGES, &mut page);
        self.write_replies(&mut page);
        self.write_durations(&mut page);
        self.write_decisions(&mut page);
        self.write_labelled(&DROPPED, &mut page);
        self.write_labelled(&REFUSED, &mut page);
        for (name, help, read) in TOTALS {
            page.counter(name, help, self.sum(read));
        }
        for (name, help, read) in SERVER_TOTALS {
            page.counter(name, help, read(self, gauges));
        }
        self.write_events(&mut page);
        for (name, help, read) in GAUGES {
            page.head(name, "gauge", help);
            page.line(name, "", read(self, gauges));
        }
        page.peers(policy);
    }

    /// The sum over all shards.
    fn sum(&self, count: impl Fn(&CounterShard) -> u64) -> u64 {
        self.shards.iter().map(count).sum()
    }

    /// The names of a metric's label, each with its value.
    fn values(&self, metric: &Labelled) -> impl Iterator<Item = (&'static str, u64)> {
        let read = metric.read;
        metric.names.iter().enumerate().map(move |(index, name)| {
            let count = self.sum(|shard| read(shard).get(index).map_or(0, Counter::get));
            (*name, count)
        })
    }

    /// Appends a metric with a value for each name of a label.
    fn write_labelled(&self, metric: &Labelled, page: &mut Page<'_>) {
        page.head(metric.name, "counter", metric.help);
        for (name, value) in self.values(metric) {
            let labels = format!("{}=\"{name}\"", metric.label);
            page.line(metric.name, &labels, value);
        }
    }

    /// Appends the number of replies, by status.
    fn write_replies(&self, page: &mut Page<'_>) {
        const NAME: &str = "replies_total";
        page.head(NAME, "counter", "Replies by status");
        for index in 0..=STATUSES.len() {
            let count = self.sum(|shard| shard.replies[index].get());
            match STATUSES.get(index) {
                Some(status) => page.line(NAME, &format!("status=\"{status}\""), count),
                None if count > 0 => page.line(NAME, "status=\"other\"", count),
                None => {}
            }
        }
    }

    /// Appends the duration of replies.
    fn write_durations(&self, page: &mut Page<'_>) {
        page.head(
            "reply_duration_seconds",
            "histogram",
            "Time from a request to its reply; over UDP from its arrival in the system",
        );
        for (index, name) in TRANSPORTS.iter().enumerate() {
            let mut count = 0;
            for bucket in 0..=LATENCY_BOUNDS.len() {
                count += self.sum(|shard| shard.latencies[index].buckets[bucket].get());
                let bound = LATENCY_BOUNDS.get(bucket).map_or("+Inf", |(_, text)| text);
                let labels = format!("transport=\"{name}\",le=\"{bound}\"");
                page.line("reply_duration_seconds_bucket", &labels, count);
            }
            let labels = format!("transport=\"{name}\"");
            let micros = self.sum(|shard| shard.latencies[index].micros.get());
            page.seconds("reply_duration_seconds_sum", &labels, micros);
            page.line("reply_duration_seconds_count", &labels, count);
        }
    }

    /// Appends the number of decisions, by outcome and reason.
    fn write_decisions(&self, page: &mut Page<'_>) {
        const NAME: &str = "decisions_total";
        page.head(
            NAME,
            "counter",
            "Decisions on INVITEs, retransmissions not counted",
        );
        for (outcome_index, outcome) in Outcome::ALL.iter().enumerate() {
            for (reason_index, reason) in Reason::ALL.iter().enumerate() {
                if !outcome.can_have(*reason) {
                    continue;
                }
                let (outcome, reason) = (outcome.name(), reason.name());
                let labels = format!("outcome=\"{outcome}\",reason=\"{reason}\"");
                let count = self.sum(|shard| shard.decisions[outcome_index][reason_index].get());
                page.line(NAME, &labels, count);
            }
        }
    }

    /// Appends the events of connections, HEP packets and learning.
    fn write_events(&self, page: &mut Page<'_>) {
        for (name, help, names, counters) in [
            (
                "connections_total",
                "TCP, TLS and HEP connections, by event",
                Connection::NAMES,
                self.connections.as_slice(),
            ),
            (
                "hep_packets_total",
                "HEP packets, by result",
                Hep::NAMES,
                self.hep.as_slice(),
            ),
            (
                "learned_total",
                "Messages that calls were learned from, by result",
                LearnedEvent::NAMES,
                self.learned.as_slice(),
            ),
        ] {
            page.head(name, "counter", help);
            for (event, counter) in names.iter().zip(counters) {
                page.line(name, &format!("event=\"{event}\""), counter.get());
            }
        }
    }
}

/// A metric with a value for each name of a label.
struct Labelled {
    /// Its name.
    name: &'static str,
    /// Its help text.
    help: &'static str,
    /// The name of the label.
    label: &'static str,
    /// The values of the label, in the order of the counters.
    names: &'static [&'static str],
    /// Finds the counters in a shard.
    read: fn(&CounterShard) -> &[Counter],
}

/// Messages by transport.
const MESSAGES: Labelled = Labelled {
    name: "messages_received_total",
    help: "SIP messages received",
    label: "transport",
    names: &TRANSPORTS,
    read: |shard| &shard.received,
};

/// Messages without a reply.
const DROPPED: Labelled = Labelled {
    name: "dropped_total",
    help: "Messages that were not answered, by cause",
    label: "cause",
    names: Dropped::NAMES,
    read: |shard| &shard.dropped,
};

/// Requests that were not routed.
const REFUSED: Labelled = Labelled {
    name: "refused_total",
    help: "Requests refused before routing, by cause",
    label: "cause",
    names: Refused::NAMES,
    read: |shard| &shard.refused,
};

/// A metric with one value: its name, its help text, and how to read it.
type Value<Read> = (&'static str, &'static str, Read);

/// A metric whose values are added over all shards.
type ShardValue = Value<fn(&CounterShard) -> u64>;

/// A metric of the whole server.
type ServerValue = Value<fn(&Metrics, &Gauges) -> u64>;

/// The counters of each shard without labels.
const TOTALS: [ShardValue; 3] = [
    (
        "acks_total",
        "ACKs that reached the process and were absorbed; over UDP the system drops them before",
        |shard| shard.acks.get(),
    ),
    (
        "retransmissions_total",
        "INVITEs answered again from memory",
        |shard| shard.retransmissions.get(),
    ),
    (
        "forwarded_total",
        "Outbound INVITEs redirected to their next hop",
        |shard| shard.forwarded.get(),
    ),
];

/// The counters of the whole server.
const SERVER_TOTALS: [ServerValue; 2] = [
    (
        "reloads_total",
        "Configurations loaded while running",
        |metrics, _| metrics.reloads.get(),
    ),
    (
        "socket_drops_total",
        "Datagrams that the system dropped: ACKs, INVITEs held back on overload, and datagrams without room",
        |_, gauges| gauges.socket_drops,
    ),
];

/// The gauges of the server.
const GAUGES: [ServerValue; 4] = [
    (
        "connections",
        "TCP, TLS and HEP connections open",
        |_, gauges| gauges.connections,
    ),
    (
        "remembered_invites",
        "INVITEs whose answer is remembered",
        |_, gauges| gauges.remembered,
    ),
    (
        "overloaded",
        "1 while more calls come than can be served",
        |_, gauges| u64::from(gauges.overloaded),
    ),
    (
        "draining",
        "1 while the server is about to end",
        |_, gauges| u64::from(gauges.draining),
    ),
];

/// Values that are read when metrics are requested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauges {
    /// Open connections.
    pub(crate) connections: u64,
    /// INVITEs in the reply cache.
    pub(crate) remembered: u64,
    /// Whether the server is draining.
    pub(crate) draining: bool,
    /// Whether more calls come than can be answered.
    pub(crate) overloaded: bool,
    /// Datagrams dropped by the system.
    pub(crate) socket_drops: u64,
}

/// The text being written.
struct Page<'o>(&'o mut String);

impl Page<'_> {
    /// Appends the head of a metric.
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = write!(
            self.0,
            "# HELP ringback_sip_{name} {help}\n# TYPE ringback_sip_{name} {kind}\n"
        );
    }

    /// Appends a counter without labels.
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.line(name, "", value);
    }

    /// Appends one value of a metric.
    fn line(&mut self, name: &str, labels: &str, value: u64) {
        let _infallible = if labels.is_empty() {
            writeln!(self.0, "ringback_sip_{name} {value}")
        } else {
            writeln!(self.0, "ringback_sip_{name}{{{labels}}} {value}")
        };
    }

    /// Appends one value of a metric, given in microseconds and written in seconds.
    fn seconds(&mut self, name: &str, labels: &str, micros: u64) {
        let seconds = Duration::from_micros(micros).as_secs_f64();
        let _infallible = writeln!(self.0, "ringback_sip_{name}{{{labels}}} {seconds}");
    }

    /// Appends the counters of each peer.
    fn peers(&mut self, policy: &Policy) {
        type Read = fn(&PeerCounters) -> u64;
        let metrics: [(&str, &str, Read); 4] = [
            ("peer_messages_total", "Messages of a peer", |shard| {
                shard.messages.get()
            }),
            (
                "peer_invites_total",
                "New INVITEs of a peer that were served",
                |shard| shard.invites.get(),
            ),
            (
                "peer_refused_total",
                "INVITEs of a peer refused because they were over a limit",
                PeerCounters::refused_in_all,
            ),
            (
                "peer_dropped_total",
                "Other messages of a peer dropped because they were over their limit",
                |shard| shard.dropped.get(),
            ),
        ];
        for (name, help, read) in metrics {
            self.head(name, "counter", help);
            for (peer, state) in policy.peers() {
                let labels = format!("peer=\"{}\"", escaped(&peer.name));
                self.line(name, &labels, state.shards().iter().map(read).sum());
            }
        }
    }
}

/// A label value, escaped as the format asks.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
