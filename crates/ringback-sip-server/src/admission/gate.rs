//! Whether a message of a peer is served, and what becomes of it if it is not. Nothing else decides that.
//!
//! An INVITE is asked about twice. Before it is read: on overload silence has to be cheap. And again once it
//! turns out to be new: one that was answered before gets its answer again and takes nothing of a budget.

use std::net::IpAddr;
use std::time::Duration;

use crate::admission::excess::{Excess, ExcessCause};
use crate::admission::pressure::{Admission, Arriving, Pressure};
use crate::clock::Now;
use crate::peers::Refusal;
use crate::policy::Source;

/// What one message of a peer has to pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate<'r> {
    /// Whose message it is.
    source: Source<'r>,
    /// Where it came from.
    ip: IpAddr,
    /// How long it has waited to be read.
    waited: Duration,
    /// When it is looked at, since the server was made.
    now: Duration,
}

impl<'r> Gate<'r> {
    /// For a message that has waited so long.
    pub(crate) fn new(source: Source<'r>, ip: IpAddr, waited: Duration, now: Now) -> Self {
        Self {
            source,
            ip,
            waited,
            now: now.uptime,
        }
    }

    /// Why an INVITE that was not read yet is refused, if it is: with an answer only if it turns out to be
    /// new.
    pub(crate) fn unread_invite(&self, pressure: &mut Pressure) -> Option<Excess> {
        let peer = self.source.peer;
        let wants_answers = peer.refuse == Refusal::Answer;
        if pressure.is_late(self.waited) {
            return Some(Excess::new(ExcessCause::Late, wants_answers));
        }
        let arriving = Arriving {
            index: self.source.index,
            ip: self.ip,
            rate: peer.rate,
            wants_answers,
        };
        let is_answered = match pressure.invite(&arriving) {
            Admission::Answer => true,
            Admission::Drop => false,
            Admission::Serve => {
                if wants_answers || !pressure.is_high() {
                    return None;
                }
                // Under pressure nobody reads what is over the rate, to see whether it is known.
                let budget = &self.source.state.invites;
                let is_over = !budget.has(peer.rate?, self.arrived(), self.now);
                return is_over.then_some(Excess::new(ExcessCause::Rate, false));
            }
        };
        Some(Excess::new(ExcessCause::Share, is_answered))
    }

    /// Why an INVITE that was not answered before is refused, if it is; else it is taken off the budget.
    pub(crate) fn new_invite(&self) -> Option<Excess> {
        let peer = self.source.peer;
        let budget = &self.source.state.invites;
        let takes = budget.take(peer.rate?, self.arrived(), self.now);
        let is_answered = peer.refuse == Refusal::Answer;
        (!takes).then_some(Excess::new(ExcessCause::Rate, is_answered))
    }

    /// Whether the peer may have another message answered that is no INVITE in good order; it is taken off
    /// the budget.
    pub(crate) fn takes_other(&self) -> bool {
        let rate = self.source.peer.rate;
        let rate = rate.map_or(OTHERS_UNLIMITED, |rate| rate.max(OTHERS_LEAST));
        self.source.state.others.take(rate, self.now, self.now)
    }

    /// When the message came, since the server was made.
    fn arrived(&self) -> Duration {
        self.now.saturating_sub(self.waited)
    }
}

/// Messages other than INVITEs that a peer without a rate may have answered each second.
const OTHERS_UNLIMITED: u32 = 20_000;

/// The same for a peer with a rate, at least.
const OTHERS_LEAST: u32 = 100;
