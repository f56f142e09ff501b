//! Counts the effects of messages and reports them to the program. All effects are handled here.

use ringback_routing::CallStatus;
use ringback_sip_proto::Origin;

use crate::counters::{Dropped, LearnedEvent};
use crate::learning::{Learned, Lesson};
use crate::observation::refused::{RefusedCall, shown_dialed, transport_name, via};
use crate::program::Events;
use crate::redirect::effect::{Effect, Outcome, UnservedCall};
use crate::shared::Shared;

impl<P: Events> Shared<P> {
    /// Counts and reports the effects of a message that came from `origin`. `shard` is the index of the thread's
    /// counters.
    pub(crate) fn drain(&self, shard: usize, origin: Origin, outcome: &mut Outcome<'_, '_>) {
        let counters = self.metrics.shard(shard);
        counters.received(origin.transport);
        if let Some(status) = outcome.status {
            counters.replied(status);
        }
        let source = match outcome.source {
            Ok(source) => source,
            Err(cause) => {
                counters.dropped(cause);
                if cause == Dropped::Stranger {
                    let ip = origin.address.ip();
                    self.observations
                        .stranger(shard, ip, origin.transport.into());
                }
                return;
            }
        };
        let peer_counters = source.state.shard(shard);
        peer_counters.received();
        for effect in outcome.effects.drain() {
            match effect {
                Effect::Dropped(cause) => {
                    counters.dropped(cause);
                    if cause == Dropped::OtherBudget {
                        peer_counters.dropped();
                    }
                }
                Effect::Absorbed => counters.absorbed(),
                Effect::Retransmitted => counters.retransmitted(),
                Effect::Excess(excess) => {
                    peer_counters.refused(excess);
                    if excess.is_answered() {
                        counters.refused(excess.cause().into());
                    } else {
                        counters.dropped(excess.cause().into());
                    }
                }
                Effect::Refused(cause) => {
                    counters.refused(cause);
                    tracing::debug!(peer = %source.peer.name, cause = cause.name(), "request refused");
                }
                Effect::Unserved(call) => {
                    let call = shown(call, &source.peer.name, origin, outcome.status);
                    self.observations.refused(shard, call);
                }
                Effect::Forwarded => {
                    peer_counters.served();
                    counters.forwarded();
                }
                Effect::Decided(call) => {
                    peer_counters.served();
                    counters.decided(call.decision.outcome, call.decision.reason);
                    self.program.decided(&call, via(origin.transport));
                }
                Effect::Learned(learned) => self.tell(learned),
            }
        }
    }

    /// Counts and reports what was learned from a message.
    pub(crate) fn tell(&self, learned: Learned<'_>) {
        for lesson in learned.lessons {
            match lesson {
                Lesson::Call(call) => {
                    self.metrics.learned(LearnedEvent::Call);
                    // Its last status may have arrived before its INVITE.
                    if call.status > CallStatus::Initiated {
                        self.metrics.learned(LearnedEvent::Status);
                    }
                    self.program.learned(call);
                }
                Lesson::Status(call) => {
                    self.metrics.learned(LearnedEvent::Status);
                    self.program.learned(call);
                }
                Lesson::Answered(environment) => {
                    self.metrics.learned(LearnedEvent::Answered);
                    self.program
                        .answered(environment, learned.call_id, learned.at);
                }
                Lesson::Nothing(event) => self.metrics.learned(event),
            }
        }
    }
}

/// A refused call in the form shown to operators.
fn shown(call: UnservedCall<'_>, peer: &str, origin: Origin, status: Option<u16>) -> RefusedCall {
    RefusedCall {
        at: call.at,
        via: Some(via(origin.transport)),
        transport: Some(transport_name(origin.transport)),
        peer: peer.into(),
        source: Some(origin.address),
        to: shown_dialed(call.dialed, call.user),
        from: call.from,
        reason: call.reason,
        status,
        count: 1,
    }
}
