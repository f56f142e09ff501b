//! What a thread knows of its calls besides the transactions: which decision they come from, and what was tried.

use std::time::Duration;

use ringback_routing::{
    AttemptCause, EndedBy, EnvironmentId, ForwardedCall, TargetAttempt, TargetState, Timestamp,
};
use ringback_sip_proxy::{Attempt, Cause, Event};

use crate::clock::Now;
use crate::policy::OpenCall;
use crate::program::Events;

/// The decision that a call comes from.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    /// The environment.
    pub(crate) environment: EnvironmentId,
    /// When it was decided.
    pub(crate) at: Timestamp,
    /// `Call-ID`.
    pub(crate) call_id: Box<[u8]>,
}

/// The calls of a thread, by their tokens.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// By token; `None`: free.
    calls: Vec<Option<Known>>,
    /// Tokens that are free.
    free: Vec<u64>,
}

/// A call.
#[derive(Debug)]
struct Known {
    /// Where it comes from; `None`: it is an outbound call.
    decided: Option<Decided>,
    /// Counts it among those of its peer.
    _open: OpenCall,
    /// What became of it so far.
    told: ForwardedCall,
    /// Whether its final reply went up.
    has_ended: bool,
    /// Whether the program knows all of it.
    is_told: bool,
    /// How the target was that was tried last.
    state: TargetState,
}

impl Calls {
    /// Takes in a call; gives its token. An outbound call comes from no decision.
    pub(crate) fn add(&mut self, decided: Option<Decided>, open: OpenCall) -> u64 {
        let known = Known {
            decided,
            _open: open,
            told: ForwardedCall::default(),
            has_ended: false,
            is_told: false,
            state: TargetState::Unknown,
        };
        let token = self.free.pop().unwrap_or_else(|| {
            self.calls.push(None);
            self.calls.len() as u64 - 1
        });
        if let Some(call) = self.calls.get_mut(place(token)) {
            *call = Some(known);
        }
        token
    }

    /// The environment of a call that comes from a decision.
    pub(crate) fn environment(&self, token: u64) -> Option<EnvironmentId> {
        let call = self.calls.get(place(token))?.as_ref()?;
        Some(call.decided.as_ref()?.environment)
    }

    /// How the target was that a call tried last.
    pub(crate) fn state(&self, token: u64) -> TargetState {
        let call = self.calls.get(place(token)).and_then(Option::as_ref);
        call.map_or(TargetState::Unknown, |call| call.state)
    }

    /// Notes how a target was that a call has tried.
    pub(crate) fn set_state(&mut self, token: u64, state: TargetState) {
        if let Some(Some(call)) = self.calls.get_mut(place(token)) {
            call.state = state;
        }
    }

    /// Takes what happened to a call, and tells the program once it has ended.
    pub(crate) fn note(&mut self, event: &Event, now: Now, program: &impl Events) {
        let token = event.token();
        if let Some(Some(call)) = self.calls.get_mut(place(token)) {
            call.note(event, now);
            // A target that was cancelled may still be silent when the call ends.
            if call.has_ended && !call.is_told {
                call.tell(program);
            }
        }
        if matches!(event, Event::Closed { .. }) {
            self.remove(token);
        }
    }

    /// Forgets a call.
    fn remove(&mut self, token: u64) {
        if let Some(call) = self.calls.get_mut(place(token)) {
            *call = None;
            self.free.push(token);
        }
        if self.free.len() == self.calls.len() && self.calls.len() > USUAL_CALLS {
            // Gives back what a busy hour needed.
            *self = Self::default();
        }
    }
}

impl Known {
    /// Takes what happened.
    fn note(&mut self, event: &Event, now: Now) {
        match event {
            Event::Attempt(attempt) => {
                self.told.attempts.push(told(attempt, now));
                self.is_told = false;
            }
            Event::Answered { .. } => self.has_ended = true,
            Event::Failed {
                is_cancelled,
                is_own,
                ..
            } => {
                self.has_ended = true;
                self.told.ended_by = match (is_cancelled, is_own) {
                    (true, _) => Some(EndedBy::Caller),
                    (false, false) => Some(EndedBy::Target),
                    (false, true) => None,
                };
            }
            Event::Failover { .. } | Event::Closed { .. } => {}
        }
    }

    /// Tells the program. A decision that was made by another thread may not be known to it yet: then this is done
    /// again at the end.
    fn tell(&mut self, program: &impl Events) {
        self.is_told = self.decided.as_ref().is_none_or(|decided| {
            let Decided {
                environment,
                call_id,
                at,
            } = decided;
            program.forwarded(*environment, call_id, *at, &self.told)
        });
    }
}

/// An attempt in the words of the program.
fn told(attempt: &Attempt, now: Now) -> TargetAttempt {
    let ago = now.uptime.saturating_sub(attempt.started_at);
    let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    TargetAttempt {
        uri: attempt.uri.clone(),
        status: attempt.status,
        cause: attempt.cause.map(|cause| match cause {
            Cause::Timeout => AttemptCause::Timeout,
            Cause::Refused => AttemptCause::Refused,
            Cause::Transport => AttemptCause::Transport,
            Cause::Status => AttemptCause::Status,
            Cause::Cancelled => AttemptCause::Cancelled,
        }),
        started_at: now.wall.plus_millis(-i64::from(millis(ago))),
        reply_millis: attempt.first_reply.map(millis),
    }
}

/// Where a token stands.
fn place(token: u64) -> usize {
    usize::try_from(token).unwrap_or(usize::MAX)
}

/// Up to how many calls memory is kept for the next ones.
const USUAL_CALLS: usize = 1_024;
