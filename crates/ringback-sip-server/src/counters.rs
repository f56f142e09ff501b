//! The counters of threads, each in a shard of its own, and their names in metrics.
//!
//! No two cores write to one cache line, so counting is a plain addition. All connections share one shard.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ringback_routing::{Outcome, Reason};
use ringback_sip_proto::message::Problem;
use ringback_sip_proto::{Defect, DropCause, Refusal, Transport};

use crate::admission::excess::{Excess, ExcessCause};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

/// How many threads write to a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Writers {
    /// One thread, so that counting needs no locked instruction.
    One,
    /// Several.
    #[default]
    Many,
}

impl Writers {
    /// The writers of each of this many shards: the last shard is that of all connections.
    pub(crate) fn of_shards(shards: usize) -> impl Iterator<Item = Self> {
        (1..=shards).map(move |shard| {
            if shard < shards {
                Self::One
            } else {
                Self::Many
            }
        })
    }
}

impl Counter {
    /// Adds one to the counter of a shard.
    pub(crate) fn bump(&self, writers: Writers) {
        self.add(1, writers);
    }

    /// Adds to the counter of a shard.
    fn add(&self, count: u64, writers: Writers) {
        match writers {
            Writers::One => self
                .0
                .store(self.get().wrapping_add(count), Ordering::Relaxed),
            Writers::Many => {
                self.0.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Adds one to a counter that all threads share.
    pub(crate) fn bump_shared(&self) {
        self.add(1, Writers::Many);
    }

    /// The current value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Defines the values of a label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The name of each value in metrics.
            pub(crate) const NAMES: &[&str] = &[$($text),+];
        }
    };
}

label! {
    /// Why nothing was answered.
    Dropped {
        /// The source is no peer.
        Stranger = "stranger",
        /// The peer is not served over this transport.
        Transport = "transport",
        /// Line ends that keep a flow alive.
        KeepAlive = "keep_alive",
        /// No reply can be addressed.
        NoVia = "no_via",
        /// A response that is not ours.
        Response = "response",
        /// A response that cannot be read.
        MalformedResponse = "malformed_response",
        /// An ACK that cannot be read.
        MalformedAck = "malformed_ack",
        /// The reply would not fit into a datagram.
        ReplyTooLarge = "reply_too_large",
        /// An INVITE over the peer's rate, refused in silence.
        Rate = "rate",
        /// An INVITE that waited too long, refused in silence.
        Late = "late",
        /// An INVITE of a peer above its share of an overloaded server.
        Share = "share",
        /// Another request, or a malformed one, over the budget for those.
        OtherBudget = "other_budget",
        /// The system could not send the reply.
        SendFailed = "send_failed",
        /// A bug or an unexpected error; see the log.
        Internal = "internal",
    }
}

label! {
    /// Why a request was refused.
    Refused {
        /// An INVITE over the peer's rate.
        Rate = "rate",
        /// An INVITE that waited too long.
        Late = "late",
        /// An INVITE of a peer above its share of an overloaded server.
        Share = "share",
        /// An INVITE whose caller cannot be looked up, because storage is damaged or fails.
        Unreadable = "unreadable",
        /// The server is draining.
        Draining = "draining",
        /// Longer than 64 KiB.
        TooLarge = "too_large",
        /// Another version of SIP.
        Version = "version",
        /// A method that SIP does not know.
        UnknownMethod = "unknown_method",
        /// A method that is not served.
        MethodNotAllowed = "method_not_allowed",
        /// A request in a dialog; we have no dialogs.
        NoDialog = "no_dialog",
        /// A URI that is neither `sip:`, `sips:` nor `tel:`.
        UriScheme = "uri_scheme",
        /// An extension is required.
        Extension = "extension",
        /// The empty line behind the headers is missing.
        Unterminated = "unterminated",
        /// A line that is no header.
        HeaderLine = "header_line",
        /// A `Content-Length` that is missing, repeated, malformed or wrong.
        ContentLength = "content_length",
        /// The first line is malformed.
        RequestLine = "request_line",
        /// The request URI is malformed.
        RequestUri = "request_uri",
        /// A header that is missing.
        MissingHeader = "missing_header",
        /// A header that is repeated.
        DuplicateHeader = "duplicate_header",
        /// A header that is malformed.
        MalformedHeader = "malformed_header",
        /// `CSeq` names another method.
        CSeqMethod = "cseq_method",
        /// It has been here before, and nothing has changed since.
        Loop = "loop",
        /// It may not be forwarded any more.
        TooManyHops = "too_many_hops",
        /// Too many calls are open.
        Transactions = "transactions",
        /// Anything else.
        Other = "other",
    }
}

impl ExcessCause {
    /// The name in metrics.
    pub(crate) fn name(self) -> &'static str {
        Refused::from(self).name()
    }
}

impl From<ExcessCause> for Dropped {
    fn from(cause: ExcessCause) -> Self {
        match cause {
            ExcessCause::Rate => Self::Rate,
            ExcessCause::Late => Self::Late,
            ExcessCause::Share => Self::Share,
        }
    }
}

impl From<ExcessCause> for Refused {
    fn from(cause: ExcessCause) -> Self {
        match cause {
            ExcessCause::Rate => Self::Rate,
            ExcessCause::Late => Self::Late,
            ExcessCause::Share => Self::Share,
        }
    }
}

label! {
    /// An event of a connection.
    Connection {
        /// It was opened.
        Opened = "opened",
        /// Refused: a stranger's.
        Stranger = "refused_stranger",
        /// Refused: too many.
        Limit = "refused_limit",
        /// Refused: too many of the peer's.
        PeerLimit = "refused_peer_limit",
        /// Refused: no file descriptor was left, or the system failed otherwise.
        AcceptFailed = "refused_system",
        /// Closed: a load balancer sent no usable PROXY protocol header.
        ProxyHeader = "closed_proxy_header",
        /// Closed: the TLS handshake failed.
        Handshake = "closed_handshake",
        /// Closed by the peer.
        Peer = "closed_peer",
        /// Closed: nothing came for too long.
        Idle = "closed_idle",
        /// Closed: a message took too long to arrive.
        SlowSender = "closed_slow_sender",
        /// Closed: the peer did not read its replies.
        SlowReader = "closed_slow_reader",
        /// Closed: the boundaries of messages in the stream were lost.
        Framing = "closed_framing",
        /// Closed: the peer is no longer served.
        Removed = "closed_removed",
        /// Closed: the server stops.
        Stopped = "closed_stopped",
    }
}

label! {
    /// The result of a HEP packet.
    Hep {
        /// It held an INVITE or a response.
        Taken = "taken",
        /// It held something else.
        Other = "other",
        /// The source may not mirror.
        Stranger = "stranger",
        /// It lacks the configured key.
        Key = "key",
        /// It is of version 1, which is not supported.
        Version1 = "hepv1",
        /// It is of version 2, which is not supported.
        Version2 = "hepv2",
        /// It could not be read.
        Malformed = "malformed",
    }
}

label! {
    /// What was learned from a message.
    LearnedEvent {
        /// A new outbound call.
        Call = "call",
        /// A new status of an outbound call.
        Status = "status",
        /// An answered callback.
        Answered = "answered",
        /// Nothing: the header names no agent that we know, or an inbound one.
        UnknownAgent = "unknown_agent",
        /// Nothing: the contact's number cannot be read.
        UnreadableContact = "unreadable_contact",
        /// Nothing: the Call-ID is longer than 255 bytes.
        LongCallId = "long_call_id",
        /// Nothing: it was known already.
        Repeated = "repeated",
    }
}

/// The counters of one thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CounterShard {
    /// How many threads write to this shard.
    writers: Writers,
    /// Messages received, by transport.
    pub(crate) received: [Counter; 3],
    /// ACKs absorbed.
    pub(crate) acks: Counter,
    /// INVITEs answered again from memory.
    pub(crate) retransmissions: Counter,
    /// Outbound INVITEs redirected to their next hop.
    pub(crate) forwarded: Counter,
    /// Replies by status.
    pub(crate) replies: [Counter; STATUSES.len() + 1],
    /// Decisions by outcome and reason.
    pub(crate) decisions: [[Counter; Reason::ALL.len()]; Outcome::ALL.len()],
    /// Messages without an answer.
    pub(crate) dropped: [Counter; Dropped::NAMES.len()],
    /// Requests refused.
    pub(crate) refused: [Counter; Refused::NAMES.len()],
    /// How long replies took, by transport.
    pub(crate) latencies: [Latencies; TRANSPORTS.len()],
    /// Whether the thread is overloaded.
    pub(crate) overloaded: AtomicBool,
}

/// How long replies took: the number of replies between two bounds, and the sum of all times.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    /// One for each of [`LATENCY_BOUNDS`], and one for longer times.
    pub(crate) buckets: [Counter; LATENCY_BOUNDS.len() + 1],
    /// The sum of all times, in microseconds.
    pub(crate) micros: Counter,
}

/// The counters of one thread for one peer.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct PeerCounters {
    /// How many threads write to this shard.
    writers: Writers,
    /// Messages received.
    pub(crate) messages: Counter,
    /// New INVITEs served.
    pub(crate) invites: Counter,
    /// Other messages dropped because there were too many.
    pub(crate) dropped: Counter,
    /// INVITEs refused or dropped because there were too many.
    pub(crate) refused: [Counter; Excess::ALL.len()],
}

impl Latencies {
    /// Counts one time, from any thread.
    pub(crate) fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS.partition_point(|(bound, _)| *bound < micros);
        if let Some(counter) = self.buckets.get(bucket) {
            counter.bump_shared();
        }
        self.micros.add(micros, Writers::Many);
    }
}

impl PeerCounters {
    /// Nothing counted yet.
    pub(crate) fn new(writers: Writers) -> Self {
        Self {
            writers,
            ..Self::default()
        }
    }

    /// A message came.
    pub(crate) fn received(&self) {
        self.messages.bump(self.writers);
    }

    /// A new INVITE is served.
    pub(crate) fn served(&self) {
        self.invites.bump(self.writers);
    }

    /// An INVITE was over a limit.
    pub(crate) fn refused(&self, excess: Excess) {
        if let Some(counter) = self.refused.get(excess.index()) {
            counter.bump(self.writers);
        }
    }

    /// How many INVITEs were over this limit.
    pub(crate) fn refused_as(&self, excess: Excess) -> u64 {
        self.refused.get(excess.index()).map_or(0, Counter::get)
    }

    /// How many INVITEs were over any limit.
    pub(crate) fn refused_in_all(&self) -> u64 {
        self.refused.iter().map(Counter::get).sum()
    }

    /// Another message was over its limit.
    pub(crate) fn dropped(&self) {
        self.dropped.bump(self.writers);
    }
}

impl CounterShard {
    /// Nothing counted yet.
    pub(crate) fn new(writers: Writers) -> Self {
        Self {
            writers,
            ..Self::default()
        }
    }

    /// An ACK was absorbed.
    pub(crate) fn absorbed(&self) {
        self.acks.bump(self.writers);
    }

    /// An INVITE was answered again from memory.
    pub(crate) fn retransmitted(&self) {
        self.retransmissions.bump(self.writers);
    }

    /// Notes whether the thread is overloaded.
    pub(crate) fn set_overloaded(&self, is_overloaded: bool) {
        self.overloaded.store(is_overloaded, Ordering::Relaxed);
    }

    /// An outbound INVITE was redirected to its next hop.
    pub(crate) fn forwarded(&self) {
        self.forwarded.bump(self.writers);
    }

    /// A message came.
    pub(crate) fn received(&self, transport: Transport) {
        self.received[transport_index(transport)].bump(self.writers);
    }

    /// A reply was written.
    pub(crate) fn replied(&self, status: u16) {
        let index = STATUSES.iter().position(|known| *known == status);
        self.replies[index.unwrap_or(STATUSES.len())].bump(self.writers);
    }

    /// A reply was sent this long after its request had arrived.
    pub(crate) fn took(&self, transport: Transport, latency: Duration) {
        let latencies = &self.latencies[transport_index(transport)];
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS.partition_point(|(bound, _)| *bound < micros);
        if let Some(counter) = latencies.buckets.get(bucket) {
            counter.bump(self.writers);
        }
        latencies.micros.add(micros, self.writers);
    }

    /// A decision was made.
    pub(crate) fn decided(&self, outcome: Outcome, reason: Reason) {
        let counters = self.decisions.get(outcome as usize);
        if let Some(counter) = counters.and_then(|counters| counters.get(reason as usize)) {
            counter.bump(self.writers);
        }
    }

    /// A message got no reply.
    pub(crate) fn dropped(&self, cause: Dropped) {
        self.dropped[cause as usize].bump(self.writers);
    }

    /// A request was refused.
    pub(crate) fn refused(&self, cause: Refused) {
        self.refused[cause as usize].bump(self.writers);
    }
}

impl Refused {
    /// The name in metrics.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.get(self as usize).copied().unwrap_or("other")
    }
}

impl From<DropCause> for Dropped {
    fn from(cause: DropCause) -> Self {
        match cause {
            DropCause::KeepAlive => Self::KeepAlive,
            DropCause::NoVia => Self::NoVia,
            DropCause::MalformedAck => Self::MalformedAck,
            DropCause::MalformedResponse => Self::MalformedResponse,
            DropCause::ReplyTooLarge => Self::ReplyTooLarge,
            _ => Self::Internal,
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let defect = match refusal {
            Refusal::TooLarge => return Self::TooLarge,
            Refusal::Malformed(defect) => defect,
            Refusal::Version => return Self::Version,
            Refusal::UnknownMethod => return Self::UnknownMethod,
            Refusal::NoDialog => return Self::NoDialog,
            Refusal::MethodNotAllowed => return Self::MethodNotAllowed,
            Refusal::UriScheme => return Self::UriScheme,
            Refusal::Extension | Refusal::ProxyExtension => return Self::Extension,
            Refusal::Loop => return Self::Loop,
            Refusal::TooManyHops => return Self::TooManyHops,
            Refusal::Draining => return Self::Draining,
            _ => return Self::Other,
        };
        match defect {
            Defect::Unterminated => Self::Unterminated,
            Defect::HeaderLine => Self::HeaderLine,
            Defect::NoLength | Defect::RepeatedLength | Defect::BadLength | Defect::ShortBody => {
                Self::ContentLength
            }
            Defect::RequestLine => Self::RequestLine,
            Defect::RequestUri => Self::RequestUri,
            Defect::Missing(_) => Self::MissingHeader,
            Defect::Header(error) => match error.problem {
                Problem::Missing => Self::MissingHeader,
                Problem::Duplicate => Self::DuplicateHeader,
                Problem::Malformed => Self::MalformedHeader,
            },
            Defect::CSeqMethod => Self::CSeqMethod,
            _ => Self::Other,
        }
    }
}

/// The index of a transport in [`TRANSPORTS`].
const fn transport_index(transport: Transport) -> usize {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
        Transport::Tls => 2,
    }
}

/// The upper bounds of durations in microseconds, and their text in metrics, in seconds.
pub(crate) const LATENCY_BOUNDS: [(u64, &str); 12] = [
    (50, "0.00005"),
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (200_000, "0.2"),
    (500_000, "0.5"),
    (1_000_000, "1"),
];

/// The transports, in the order of the counters.
pub(crate) const TRANSPORTS: [&str; 3] = ["udp", "tcp", "tls"];

/// The statuses that the server sends.
pub(crate) const STATUSES: [u16; 13] = [
    200, 302, 400, 404, 405, 416, 420, 480, 481, 501, 503, 505, 513,
];
