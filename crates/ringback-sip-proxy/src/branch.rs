//! A client transaction of an INVITE (RFC 3261 §17.1.1, RFC 6026 §7.2), and that of its CANCEL (§17.1.2): the states
//! and their timers. What is sent and told is the business of the [context](crate::context).

use std::sync::Arc;
use std::time::Duration;

use crate::plan::Hop;
use crate::settings::Settings;
use crate::timer::Retransmission;

/// A client transaction of an INVITE.
#[derive(Debug)]
pub(crate) struct Branch {
    /// Its name in our `Via`.
    pub(crate) id: u64,
    /// Which target of the plan it tries.
    pub(crate) target: u16,
    /// The way that the INVITE took, and that CANCEL and ACK take.
    pub(crate) hop: Arc<Hop>,
    /// Where it goes if the connection cannot be made that was tried only because the INVITE is long.
    pub(crate) smaller: Option<Arc<Hop>>,
    /// How far it is.
    pub(crate) state: State,
    /// Whether it is to be cancelled as soon as it may be (§9.1: after a provisional reply).
    pub(crate) is_unwanted: bool,
    /// Whether its outcome is known, and told. A late reply does not change it.
    pub(crate) has_outcome: bool,
    /// When it began.
    pub(crate) started_at: Duration,
    /// How long the first reply took.
    pub(crate) first_reply: Option<Duration>,
}

/// How far a client transaction is.
#[derive(Debug)]
pub(crate) enum State {
    /// No reply came.
    Calling {
        /// Timer A: over UDP the INVITE is sent again.
        again: Option<Retransmission>,
        /// When it counts as silent: the reply timeout, and at the latest Timer B.
        silent_at: Duration,
    },
    /// No reply came in time. A late one is still taken.
    Silent {
        /// Timer B.
        ends: Duration,
    },
    /// A provisional reply came.
    Proceeding {
        /// When another target shall have its turn, if one follows.
        rings_until: Option<Duration>,
        /// Timer C.
        timer_c: Duration,
    },
    /// CANCEL was sent.
    Cancelling {
        /// Timer E: over UDP the CANCEL is sent again, until it is answered.
        again: Option<Retransmission>,
        /// Timer F, and when the INVITE counts as cancelled without a reply (§9.1).
        ends: Duration,
    },
    /// A final reply other than 2xx came.
    Completed {
        /// The ACK that is sent whenever the reply comes again.
        ack: Box<[u8]>,
        /// Timer D.
        ends: Duration,
    },
    /// A 2xx came; further ones go up.
    Accepted {
        /// Timer M.
        ends: Duration,
    },
    /// Nothing more comes.
    Terminated,
}

/// What a client transaction wants at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing.
    Nothing,
    /// The INVITE is sent again.
    SendInvite,
    /// The CANCEL is sent again.
    SendCancel,
    /// No reply came in time.
    GiveUp,
    /// It rang for too long: it is to be cancelled.
    Cancel,
    /// The CANCEL did not help.
    Abandon,
}

impl Branch {
    /// The INVITE is sent now.
    pub(crate) fn call(&mut self, now: Duration, settings: &Settings) {
        let is_stream = self.hop.transport.is_stream();
        self.state = State::Calling {
            again: (!is_stream).then(|| Retransmission::after(now, settings.t1)),
            silent_at: now + settings.reply_timeout.min(settings.patience()),
        };
    }

    /// Nobody is there: the INVITE is not sent again, but a late reply is still taken. False: a reply came already.
    pub(crate) fn fall_silent(&mut self, settings: &Settings) -> bool {
        let is_calling = matches!(self.state, State::Calling { .. });
        if is_calling {
            self.state = State::Silent {
                ends: self.started_at + settings.patience(),
            };
        }
        is_calling
    }

    /// The CANCEL is sent now.
    pub(crate) fn cancel(&mut self, now: Duration, settings: &Settings) {
        let is_stream = self.hop.transport.is_stream();
        self.state = State::Cancelling {
            again: (!is_stream).then(|| Retransmission::after(now, settings.t1)),
            ends: now + settings.patience(),
        };
    }

    /// The CANCEL was answered: Timer E slows down, or stops.
    pub(crate) fn cancel_answered(&mut self, now: Duration, is_final: bool, settings: &Settings) {
        if let State::Cancelling { again, .. } = &mut self.state {
            let slower = Retransmission::after(now, settings.t2);
            *again = again.filter(|_| !is_final).map(|_| slower);
        }
    }

    /// A final reply came, and this ACK was sent.
    pub(crate) fn complete(&mut self, now: Duration, ack: Box<[u8]>, settings: &Settings) {
        let is_stream = self.hop.transport.is_stream();
        let wait = if is_stream {
            Duration::ZERO
        } else {
            TIMER_D.max(settings.patience())
        };
        self.state = State::Completed {
            ack,
            ends: now + wait,
        };
    }

    /// Whether it may still ring: a reply is waited for.
    pub(crate) fn is_pending(&self) -> bool {
        !matches!(
            self.state,
            State::Completed { .. } | State::Accepted { .. } | State::Terminated
        )
    }

    /// What is to be done by now.
    pub(crate) fn timeout(&mut self, now: Duration, settings: &Settings) -> Act {
        match &mut self.state {
            State::Calling { silent_at, .. } if now >= *silent_at => {
                self.fall_silent(settings);
                return Act::GiveUp;
            }
            State::Calling { again, .. } => {
                let is_due = Retransmission::is_due(again, now, settings.patience());
                return if is_due {
                    Act::SendInvite
                } else {
                    Act::Nothing
                };
            }
            State::Proceeding {
                rings_until,
                timer_c,
            } if now >= *timer_c || rings_until.is_some_and(|until| now >= until) => {
                return Act::Cancel;
            }
            State::Cancelling { ends, .. } if now >= *ends => {
                self.state = State::Terminated;
                return Act::Abandon;
            }
            State::Cancelling { again, .. } => {
                let is_due = Retransmission::is_due(again, now, settings.t2);
                return if is_due {
                    Act::SendCancel
                } else {
                    Act::Nothing
                };
            }
            State::Silent { ends } | State::Completed { ends, .. } | State::Accepted { ends }
                if now >= *ends =>
            {
                self.state = State::Terminated;
            }
            _ => {}
        }
        Act::Nothing
    }

    /// When something is to be done.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let sooner = |again: &Option<Retransmission>, other: Duration| {
            Some(again.map_or(other, |again| again.at.min(other)))
        };
        match &self.state {
            State::Calling { again, silent_at } => sooner(again, *silent_at),
            State::Cancelling { again, ends } => sooner(again, *ends),
            State::Proceeding {
                rings_until,
                timer_c,
            } => Some(rings_until.map_or(*timer_c, |until| until.min(*timer_c))),
            State::Silent { ends } | State::Completed { ends, .. } | State::Accepted { ends } => {
                Some(*ends)
            }
            State::Terminated => None,
        }
    }
}

/// Timer D over UDP, at least (RFC 3261 §17.1.1.2).
const TIMER_D: Duration = Duration::from_secs(32);
