//! In which way an INVITE was one too many.

/// In which way an INVITE was one too many, and whether that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    /// What made it too much.
    cause: ExcessCause,
    /// With 503.
    is_answered: bool,
}

/// In which way an INVITE was one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExcessCause {
    /// Its peer has sent more than its rate.
    Rate,
    /// It has waited for too long.
    Late,
    /// The server is overloaded, and its peer has had its share.
    Share,
}

impl Excess {
    /// Every way.
    pub(crate) const ALL: [Self; 6] = [
        Self::new(ExcessCause::Rate, true),
        Self::new(ExcessCause::Rate, false),
        Self::new(ExcessCause::Late, true),
        Self::new(ExcessCause::Late, false),
        Self::new(ExcessCause::Share, true),
        Self::new(ExcessCause::Share, false),
    ];

    /// For this cause.
    pub(crate) const fn new(cause: ExcessCause, is_answered: bool) -> Self {
        Self { cause, is_answered }
    }

    /// What made it too much.
    pub(crate) const fn cause(self) -> ExcessCause {
        self.cause
    }

    /// Whether it is answered, with 503.
    pub(crate) const fn is_answered(self) -> bool {
        self.is_answered
    }

    /// The status of the reply.
    pub(crate) fn status(self) -> Option<u16> {
        self.is_answered.then_some(503)
    }

    /// The index in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        2 * self.cause as usize + !self.is_answered as usize
    }
}
