//! The effects of a message, besides its reply. They are only listed here; the caller counts and reports them.

use arrayvec::ArrayVec;
use ringback_routing::{E164, Timestamp};

use crate::admission::excess::Excess;
use crate::counters::{Dropped, Refused};
use crate::learning::Learned;
use crate::policy::Source;
use crate::program::DecidedCall;

/// The outcome of one message.
#[derive(Debug)]
pub(crate) struct Outcome<'m, 'r> {
    /// The peer that sent the message.
    ///
    /// # Errors
    /// The source is no peer, or not served over this transport.
    pub(crate) source: Result<Source<'r>, Dropped>,
    /// The status of its reply, which is in the outbox; `None`: there is no reply.
    pub(crate) status: Option<u16>,
    /// The effects to count and report, in this order.
    pub(crate) effects: Effects<'m, 'r>,
}

/// The effects of one message, stored inline, so that nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Effects<'m, 'r>(ArrayVec<Effect<'m, 'r>, MOST_EFFECTS>);

/// Something to count or report.
#[derive(Debug)]
pub(crate) enum Effect<'m, 'r> {
    /// The message gets no reply.
    Dropped(Dropped),
    /// It was an ACK.
    Absorbed,
    /// It is an INVITE that is answered again.
    Retransmitted,
    /// It is an INVITE over a limit.
    Excess(Excess),
    /// It is refused.
    Refused(Refused),
    /// It is an INVITE that gets no target; shown to the operator.
    Unserved(UnservedCall<'m>),
    /// It is an outbound INVITE, and is redirected to the next hop.
    Forwarded,
    /// It is an INVITE that was decided.
    Decided(DecidedCall<'m, 'r>),
    /// Something was learned from it about calls.
    Learned(Learned<'m>),
}

/// An INVITE that gets no target, as shown to the operator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnservedCall<'m> {
    /// When it was refused.
    pub(crate) at: Timestamp,
    /// The user part of the request URI, if it was read.
    pub(crate) user: &'m [u8],
    /// The dialed number, if it could be read.
    pub(crate) dialed: Option<E164>,
    /// The caller, if it is a number.
    pub(crate) from: Option<E164>,
    /// The reason of the decision, or the cause of the refusal as in the metrics.
    pub(crate) reason: &'static str,
}

impl<'m, 'r> Outcome<'m, 'r> {
    /// No effects yet.
    pub(crate) fn new(source: Result<Source<'r>, Dropped>) -> Self {
        Self {
            source,
            status: None,
            effects: Effects::default(),
        }
    }

    /// This outcome with one more effect.
    pub(crate) fn with(mut self, effect: Effect<'m, 'r>) -> Self {
        self.effects.push(effect);
        self
    }
}

impl<'m, 'r> Effects<'m, 'r> {
    /// Adds an effect.
    pub(crate) fn push(&mut self, effect: Effect<'m, 'r>) {
        let added = self.0.try_push(effect);
        debug_assert!(added.is_ok(), "no message has so many effects");
    }

    /// Takes all effects out, in order.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Effect<'m, 'r>> {
        self.0.drain(..)
    }
}

/// The most effects of one message: an INVITE is learned from, decided, refused because its reply does not fit,
/// shown for that, and dropped because the refusal does not fit either.
const MOST_EFFECTS: usize = 5;
