//! Decides whether a message of a peer is served, and what it gets otherwise. Nothing else decides that.
//!
//! An INVITE is checked twice. First before it is read, because on overload silence has to be cheap. Then again
//! if it turns out to be new: an INVITE that was answered before gets its answer again and uses no budget.

use std::net::IpAddr;
use std::time::Duration;

use crate::admission::excess::{Excess, ExcessCause};
use crate::admission::pressure::{Admission, Arriving, Pressure};
use crate::clock::Now;
use crate::peers::Refusal;
use crate::policy::Source;

/// The limits that one message of a peer must pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate<'r> {
    /// The peer that sent it, with the peer's budgets.
    source: Source<'r>,
    /// Where it came from.
    ip: IpAddr,
    /// How long it waited to be read.
    waited: Duration,
    /// The time of the check, since the server was made.
    now: Duration,
}

impl<'r> Gate<'r> {
    /// For a message that has waited this long.
    pub(crate) fn new(source: Source<'r>, ip: IpAddr, waited: Duration, now: Now) -> Self {
        Self {
            source,
            ip,
            waited,
            now: now.uptime,
        }
    }

    /// Why an INVITE that is not read yet is refused, if it is. It is answered with 503 only if it turns out to
    /// be new.
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
                // Under pressure an INVITE over the rate is not read, so nobody checks whether it was answered
                // before.
                let budget = &self.source.state.invites;
                let is_over = !budget.has(peer.rate?, self.arrived(), self.now);
                return is_over.then_some(Excess::new(ExcessCause::Rate, false));
            }
        };
        Some(Excess::new(ExcessCause::Share, is_answered))
    }

    /// Why a new INVITE is refused; `None`: it is served, and taken off the budget.
    pub(crate) fn new_invite(&self) -> Option<Excess> {
        let peer = self.source.peer;
        let budget = &self.source.state.invites;
        let takes = budget.take(peer.rate?, self.arrived(), self.now);
        let is_answered = peer.refuse == Refusal::Answer;
        (!takes).then_some(Excess::new(ExcessCause::Rate, is_answered))
    }

    /// Whether a message that is no valid INVITE may get a reply; if so, it is taken off the budget.
    pub(crate) fn takes_other(&self) -> bool {
        let rate = self.source.peer.rate;
        let rate = rate.map_or(OTHERS_UNLIMITED, |rate| rate.max(OTHERS_LEAST));
        self.source.state.others.take(rate, self.now, self.now)
    }

    /// When the message arrived, since the server was made.
    fn arrived(&self) -> Duration {
        self.now.saturating_sub(self.waited)
    }
}

/// How many messages other than INVITEs a peer without a rate may have answered each second.
const OTHERS_UNLIMITED: u32 = 20_000;

/// The lowest such limit for a peer with a rate.
const OTHERS_LEAST: u32 = 100;
