//! What comes out of a proxy.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringback_sip_proto::Transport;

/// Something to be sent or told.
#[derive(Debug)]
pub enum Output<'o> {
    /// Send this.
    Transmit(Transmit<'o>),
    /// This happened.
    Event(Event),
}

/// A message to be sent.
#[derive(Debug)]
pub struct Transmit<'o> {
    /// The message.
    pub bytes: &'o [u8],
    /// Over what.
    pub transport: Transport,
    /// Where it goes.
    pub address: SocketAddr,
    /// How.
    pub way: Way,
}

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Back where a request came from: the flow that it came with.
    Back(u64),
    /// To a target, from this socket. If it cannot be sent, [`Proxy::failed`](crate::Proxy::failed) is to be told
    /// this branch.
    Out {
        /// The socket of the [`Hop`](crate::Hop).
        socket: u32,
        /// The branch.
        branch: u64,
    },
}

/// Something that happened to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A target has been tried.
    Attempt(Attempt),
    /// Another target is tried, because the one before did not take the call.
    Failover {
        /// Which call.
        token: u64,
        /// Why it did not.
        cause: Cause,
    },
    /// The first 2xx went up.
    Answered {
        /// Which call.
        token: u64,
        /// Which target.
        target: u16,
    },
    /// Another final reply went up.
    Failed {
        /// Which call.
        token: u64,
        /// The status.
        status: u16,
        /// Whether the caller hung up before.
        is_cancelled: bool,
        /// Whether it is of our own making: no target sent it.
        is_own: bool,
    },
    /// Nothing of the call is left.
    Closed {
        /// Which call.
        token: u64,
    },
}

impl Event {
    /// Which call it happened to.
    #[must_use]
    pub const fn token(&self) -> u64 {
        match self {
            Self::Attempt(Attempt { token, .. })
            | Self::Failover { token, .. }
            | Self::Answered { token, .. }
            | Self::Failed { token, .. }
            | Self::Closed { token } => *token,
        }
    }
}

/// How trying a target went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which call.
    pub token: u64,
    /// Which of its targets.
    pub target: u16,
    /// Its request URI.
    pub uri: Arc<str>,
    /// Where that led; `None`: nowhere.
    pub way: Option<(Transport, SocketAddr)>,
    /// The final reply; `None`: there was none in time.
    pub status: Option<u16>,
    /// Why the target did not take the call; `None`: it took it.
    pub cause: Option<Cause>,
    /// When it began.
    pub started_at: Duration,
    /// How long the first reply took, 100 included.
    pub first_reply: Option<Duration>,
}

/// Why a target did not take a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was silent, or rang too long.
    Timeout,
    /// Nobody listens there.
    Refused,
    /// It could not be reached for another reason.
    Transport,
    /// Its own reply.
    Status,
    /// The caller hung up.
    Cancelled,
}

/// What waits to be given out.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The bytes of all messages.
    pub(crate) bytes: Vec<u8>,
    /// Messages and events, in order.
    queue: VecDeque<Queued>,
}

/// A message or an event.
#[derive(Debug)]
enum Queued {
    /// A message.
    Transmit {
        /// Where it starts.
        start: usize,
        /// Where it ends.
        end: usize,
        /// Over what.
        transport: Transport,
        /// Where it goes.
        address: SocketAddr,
        /// How.
        way: Way,
    },
    /// An event.
    Event(Event),
}

impl Outbox {
    /// Adds what was written into the bytes from `start` on.
    pub(crate) fn transmit(
        &mut self,
        start: usize,
        transport: Transport,
        address: SocketAddr,
        way: Way,
    ) {
        self.queue.push_back(Queued::Transmit {
            start,
            end: self.bytes.len(),
            transport,
            address,
            way,
        });
    }

    /// Adds an event.
    pub(crate) fn event(&mut self, event: Event) {
        self.queue.push_back(Queued::Event(event));
    }

    /// Takes out what was added first.
    pub(crate) fn poll(&mut self) -> Option<Output<'_>> {
        let Some(first) = self.queue.pop_front() else {
            self.bytes.clear();
            self.bytes.shrink_to(USUAL_BYTES);
            self.queue.shrink_to(USUAL_ENTRIES);
            return None;
        };
        Some(match first {
            Queued::Event(event) => Output::Event(event),
            Queued::Transmit {
                start,
                end,
                transport,
                address,
                way,
            } => Output::Transmit(Transmit {
                bytes: self.bytes.get(start..end).unwrap_or_default(),
                transport,
                address,
                way,
            }),
        })
    }
}

/// For how many messages and events memory stays allocated.
const USUAL_ENTRIES: usize = 1_024;

/// How many bytes stay allocated.
const USUAL_BYTES: usize = 64 * 1024;
