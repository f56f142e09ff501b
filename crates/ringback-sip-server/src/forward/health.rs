//! Targets that are passed over for a while: those that gave no reply at all, or refused the connection.
//!
//! What a target replies never counts against it: a status would be a weapon in the hands of whoever can make it send
//! one.

use std::net::SocketAddr;
use std::time::Duration;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use ringback_sip_proto::Transport;
use ringback_sip_proxy::{Attempt, Cause, Target};

/// The targets that are passed over.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Until when, by the uptime of the server.
    down: DashMap<(Transport, SocketAddr), Duration, RandomState>,
}

impl Health {
    /// Notes how an attempt went; a target that is down now is passed over for `hold_down`. Gives the way of a
    /// target that was up so far and has refused the call: whatever waits there waits in vain.
    pub(crate) fn note(
        &self,
        attempt: &Attempt,
        now: Duration,
        hold_down: Duration,
    ) -> Option<(Transport, SocketAddr)> {
        let way = attempt.way?;
        if attempt.first_reply.is_some() {
            if !self.down.is_empty() && self.down.remove(&way).is_some() {
                tracing::info!(target = %way.1, "a target replies again");
            }
            return None;
        }
        let is_down = matches!(attempt.cause, Some(Cause::Timeout | Cause::Refused));
        if !is_down || hold_down.is_zero() {
            return None;
        }
        if self.down.len() >= MOST_DOWN {
            self.down.retain(|_, until| *until > now);
        }
        let before = self.down.insert(way, now + hold_down);
        let was_up = before.is_none_or(|until| until <= now);
        if was_up {
            tracing::warn!(target = %way.1, cause = ?attempt.cause, "a target gave no reply: it is passed over for a while");
        }
        (was_up && attempt.cause == Some(Cause::Refused)).then_some(way)
    }

    /// Passes over the targets that are down; if all of them are, they are tried all the same.
    pub(crate) fn pass_over(&self, targets: &mut Vec<Target>, now: Duration) {
        if self.down.is_empty() {
            return;
        }
        for target in &mut *targets {
            let way = target.hop.as_ref().map(|hop| (hop.transport, hop.address));
            target.is_down = way.is_some_and(|way| self.is_down(&way, now));
        }
        if !targets.iter().all(|target| target.is_down) {
            targets.retain(|target| !target.is_down);
        }
    }

    /// How many targets are down.
    pub(crate) fn count(&self, now: Duration) -> usize {
        self.down.iter().filter(|until| **until > now).count()
    }

    /// Whether a target is down; what was long enough is forgotten.
    fn is_down(&self, way: &(Transport, SocketAddr), now: Duration) -> bool {
        let Some(until) = self.down.get(way).map(|until| *until) else {
            return false;
        };
        if now >= until {
            self.down.remove(way);
        }
        now < until
    }
}

/// How many targets are noted before those are forgotten that were long enough.
const MOST_DOWN: usize = 65_536;
