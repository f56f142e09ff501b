//! The limits that an INVITE can exceed.

/// The limit that an INVITE exceeded, and whether it gets a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    /// The limit.
    cause: ExcessCause,
    /// Whether the reply is 503; otherwise there is none.
    is_answered: bool,
}

/// A limit for INVITEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExcessCause {
    /// Its peer has sent more than its configured rate.
    Rate,
    /// It has waited for too long.
    Late,
    /// The server is overloaded, and its peer has used up its share.
    Share,
}

impl Excess {
    /// Every combination.
    pub(crate) const ALL: [Self; 6] = [
        Self::new(ExcessCause::Rate, true),
        Self::new(ExcessCause::Rate, false),
        Self::new(ExcessCause::Late, true),
        Self::new(ExcessCause::Late, false),
        Self::new(ExcessCause::Share, true),
        Self::new(ExcessCause::Share, false),
    ];

    /// For this limit.
    pub(crate) const fn new(cause: ExcessCause, is_answered: bool) -> Self {
        Self { cause, is_answered }
    }

    /// The limit.
    pub(crate) const fn cause(self) -> ExcessCause {
        self.cause
    }

    /// Whether it gets a reply, with 503.
    pub(crate) const fn is_answered(self) -> bool {
        self.is_answered
    }

    /// The status of the reply, if there is one.
    pub(crate) fn status(self) -> Option<u16> {
        self.is_answered.then_some(503)
    }

    /// The index in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        2 * self.cause as usize + !self.is_answered as usize
    }
}
