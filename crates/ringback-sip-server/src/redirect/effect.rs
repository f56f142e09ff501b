//! What a message comes to, besides what is sent: whoever handles it counts and tells this, and nothing here does.

use arrayvec::ArrayVec;
use ringback_routing::{E164, Timestamp};

use crate::admission::excess::Excess;
use crate::counters::{Dropped, Refused};
use crate::learning::Learned;
use crate::policy::Source;
use crate::program::DecidedCall;

/// What one message came to.
#[derive(Debug)]
pub(crate) struct Outcome<'m, 'r> {
    /// Whose message it was.
    ///
    /// # Errors
    /// Nobody's who is served that way.
    pub(crate) source: Result<Source<'r>, Dropped>,
    /// The status of its reply, which waits to be sent; `None`: there is no reply.
    pub(crate) status: Option<u16>,
    /// What is to be counted and told, in this order.
    pub(crate) effects: Effects<'m, 'r>,
}

/// The effects of one message: in place, so that nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Effects<'m, 'r>(ArrayVec<Effect<'m, 'r>, MOST_EFFECTS>);

/// Something to be counted or told.
#[derive(Debug)]
pub(crate) enum Effect<'m, 'r> {
    /// It gets no reply.
    Dropped(Dropped),
    /// It was an ACK.
    Absorbed,
    /// It is an INVITE that was answered before.
    Retransmitted,
    /// It is an INVITE too many.
    Excess(Excess),
    /// It is refused.
    Refused(Refused),
    /// It is an INVITE that gets no target: what people are shown of it.
    Unserved(UnservedCall<'m>),
    /// It is an outbound INVITE, and is redirected to the next hop.
    Forwarded,
    /// It is an INVITE that was decided.
    Decided(DecidedCall<'m, 'r>),
    /// It taught something about calls.
    Learned(Learned<'m>),
}

/// An INVITE that gets no target, as people are shown it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnservedCall<'m> {
    /// When.
    pub(crate) at: Timestamp,
    /// The user part of the request URI, if it was read.
    pub(crate) user: &'m [u8],
    /// The dialed number, if it could be read.
    pub(crate) dialed: Option<E164>,
    /// The caller, if it is a number.
    pub(crate) from: Option<E164>,
    /// The reason of the decision, or the cause of the refusal as the metrics name it.
    pub(crate) reason: &'static str,
}

impl<'m, 'r> Outcome<'m, 'r> {
    /// Nothing yet.
    pub(crate) fn new(source: Result<Source<'r>, Dropped>) -> Self {
        Self {
            source,
            status: None,
            effects: Effects::default(),
        }
    }

    /// The same with an effect more.
    pub(crate) fn with(mut self, effect: Effect<'m, 'r>) -> Self {
        self.effects.push(effect);
        self
    }
}

impl<'m, 'r> Effects<'m, 'r> {
    /// Adds one.
    pub(crate) fn push(&mut self, effect: Effect<'m, 'r>) {
        let added = self.0.try_push(effect);
        debug_assert!(added.is_ok(), "no message has so many effects");
    }

    /// Takes all of them out, first one first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Effect<'m, 'r>> {
        self.0.drain(..)
    }
}

/// How many effects a message has at most: an INVITE is learned from, decided, refused because its answer does not fit,
/// shown for that, and dropped because the refusal does not fit either.
const MOST_EFFECTS: usize = 5;
