//! The server transaction of an INVITE (RFC 3261 §17.2.1, RFC 6026 §7.1).

use std::time::Duration;

use crate::settings::Settings;
use crate::timer::Retransmission;

/// The server transaction of an INVITE.
#[derive(Debug)]
pub(crate) enum Server {
    /// No final reply went up.
    Proceeding,
    /// A final reply other than 2xx went up, and no ACK came.
    Completed {
        /// Timer G: over UDP the reply is sent again.
        again: Option<Retransmission>,
        /// Timer H: nobody acknowledges it any more.
        ends: Duration,
    },
    /// The ACK came; more of them are absorbed until Timer I.
    Confirmed {
        /// Timer I.
        ends: Duration,
    },
    /// A 2xx went up; INVITEs are absorbed until Timer L.
    Accepted {
        /// Timer L.
        ends: Duration,
    },
    /// Nothing more comes.
    Terminated,
}

/// What a server transaction wants at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerAct {
    /// Nothing.
    Nothing,
    /// The final reply is sent again.
    Resend,
}

impl Server {
    /// A final reply went up.
    pub(crate) fn complete(&mut self, now: Duration, is_stream: bool, settings: &Settings) {
        *self = Self::Completed {
            again: (!is_stream).then(|| Retransmission::after(now, settings.t1)),
            ends: now + settings.patience(),
        };
    }

    /// A 2xx went up. The first one alone counts.
    pub(crate) fn accept(&mut self, now: Duration, settings: &Settings) {
        *self = Self::Accepted {
            ends: now + settings.patience(),
        };
    }

    /// An ACK came; whether it was for the final reply, and so ends here.
    pub(crate) fn acknowledge(
        &mut self,
        now: Duration,
        is_stream: bool,
        settings: &Settings,
    ) -> bool {
        match self {
            Self::Completed { .. } => {
                let ends = now
                    + if is_stream {
                        Duration::ZERO
                    } else {
                        settings.t4
                    };
                *self = Self::Confirmed { ends };
                true
            }
            Self::Confirmed { .. } => true,
            // RFC 6026 §7.1: the ACK of a 2xx is no business of the transaction.
            Self::Proceeding | Self::Accepted { .. } | Self::Terminated => false,
        }
    }

    /// What is to be done by now.
    pub(crate) fn timeout(&mut self, now: Duration, settings: &Settings) -> ServerAct {
        if let Self::Completed { ends, .. } | Self::Confirmed { ends } | Self::Accepted { ends } =
            self
            && now >= *ends
        {
            *self = Self::Terminated;
        }
        let Self::Completed { again, .. } = self else {
            return ServerAct::Nothing;
        };
        if Retransmission::is_due(again, now, settings.t2) {
            ServerAct::Resend
        } else {
            ServerAct::Nothing
        }
    }

    /// When something is to be done.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Proceeding | Self::Terminated => None,
            Self::Completed { again, ends } => {
                Some(again.map_or(*ends, |again| again.at.min(*ends)))
            }
            Self::Confirmed { ends } | Self::Accepted { ends } => Some(*ends),
        }
    }
}
