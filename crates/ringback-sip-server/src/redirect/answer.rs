//! Answers an INVITE: again as before, or with a refusal, a redirect to the next hop, or a decision.

use std::sync::Arc;

use ringback_routing::{
    Contacts, Outcome as DecidedOutcome, Placeholders, Question, Reason, Target, UserSet,
    decide_dialed, order_targets,
};
use ringback_sip_proto::{Reply, Scheme};
use smallvec::SmallVec;

use crate::counters::Refused;
use crate::outbox::Outbox;
use crate::program::DecidedCall;
use crate::redirect::effect::{Effect, Effects, Outcome};
use crate::redirect::plan::{Plan, SharedPlan};
use crate::redirect::read::{send, sighting};
use crate::redirect::{Call, Redirect, Snapshot, WorkerContext};

/// The answer to an INVITE.
pub(crate) enum Verdict {
    /// The reply that a plan makes, and the reason if it was decided just now.
    Plan(Arc<SharedPlan>, Option<Reason>),
    /// The INVITE was here before: the reply that its plan makes.
    Known(Arc<SharedPlan>),
    /// 503.
    Overloaded,
    /// No reply.
    Silence,
}

impl Redirect {
    /// Answers an INVITE whose numbers were resolved. The reply goes into the outbox of the worker, everything
    /// else into `outcome`, which is too large to be copied for each call.
    pub(crate) fn answer<'m, 'r, C: Contacts>(
        &self,
        worker: &mut WorkerContext<'_>,
        snapshot: Snapshot<'r, C>,
        call: &Call<'m, 'r>,
        outcome: &mut Outcome<'m, 'r>,
    ) {
        let verdict = self.verdict(worker, snapshot, call, &mut outcome.effects);
        self.reply(verdict, worker, snapshot, call, outcome);
    }

    /// Writes and sends the reply to an INVITE, if it gets one.
    pub(crate) fn reply<'m, 'r, C: Contacts>(
        &self,
        verdict: Verdict,
        worker: &mut WorkerContext<'_>,
        snapshot: Snapshot<'r, C>,
        call: &Call<'m, 'r>,
        outcome: &mut Outcome<'m, 'r>,
    ) {
        let start = worker.out.bytes.len();
        let (plan, decided) = match verdict {
            Verdict::Plan(plan, decided) => (Some(plan), decided),
            Verdict::Known(plan) => (Some(plan), None),
            Verdict::Overloaded => (None, None),
            Verdict::Silence => return,
        };
        let reply = if let Some(plan) = plan {
            let reply = self.write(plan.plan(), call, worker.out);
            // A reply that does not fit into a datagram becomes a refusal.
            if let Some(refusal) = reply.refusal {
                outcome.effects.push(Effect::Refused(refusal.into()));
            }
            if let Some(reason) = decided.filter(|_| reply.status >= 400) {
                let unserved = call.unserved(snapshot.now, reason.name());
                outcome.effects.push(Effect::Unserved(unserved));
            }
            reply
        } else {
            let retry_after = call.source.peer.retry_after;
            let out = &mut worker.out.bytes;
            self.redirector.overloaded(&call.invite, retry_after, out)
        };
        let transport = call.origin().transport;
        send(
            &reply,
            transport,
            start,
            snapshot.policy,
            worker.out,
            outcome,
        );
    }

    /// The answer to an INVITE: the earlier one if there is one; else, unless it is over a limit, a decision,
    /// which is remembered.
    pub(crate) fn verdict<'m, 'r, C: Contacts>(
        &self,
        worker: &mut WorkerContext<'_>,
        snapshot: Snapshot<'r, C>,
        call: &Call<'m, 'r>,
        effects: &mut Effects<'m, 'r>,
    ) -> Verdict {
        let fingerprint = call.invite.fingerprint();
        let second = snapshot.now.second();
        let known = self
            .reply_cache
            .find(snapshot.answered, fingerprint, second);
        if let Some(plan) = known {
            effects.push(Effect::Retransmitted);
            return Verdict::Known(plan);
        }
        if let Some(excess) = call.excess.or_else(|| call.gate.new_invite()) {
            effects.push(Effect::Excess(excess));
            return if excess.is_answered() {
                Verdict::Overloaded
            } else {
                Verdict::Silence
            };
        }
        // If another thread was faster with the same INVITE, its answer counts.
        let remember = |plan: &Arc<SharedPlan>| {
            self.reply_cache
                .remember(snapshot.answered, fingerprint, plan, second)
        };
        if let Some(plan) = self.next_hop(snapshot, call, effects) {
            if let Some(earlier) = remember(&plan) {
                effects.push(Effect::Retransmitted);
                return Verdict::Known(earlier);
            }
            effects.push(Effect::Forwarded);
            return Verdict::Plan(plan, None);
        }
        // A call that is sent on may go to its own request URI: that is where the target is.
        let may_point_back = call.source.peer.forwards;
        let usable = |target: &Target, filling: &Placeholders| {
            filling
                .fill(&target.uri)
                .is_some_and(|uri| may_point_back || !call.invite.points_back(uri.as_bytes()))
        };
        let question = Question {
            dialed: call.dialed,
            caller: call.caller,
            is_verified: call.is_verified(),
            now: snapshot.now.wall,
            avoided: match call.invite.uri().scheme() {
                Scheme::Sip | Scheme::Sips => {
                    UserSet::of_user(call.invite.uri().user().unwrap_or_default())
                }
                _ => UserSet::ALL,
            },
            usable: &usable,
        };
        let decided = decide_dialed(
            snapshot.directory,
            call.number,
            snapshot.contacts,
            &question,
        );
        let Ok(decision) = decided else {
            // Do not remember this: sent again, the INVITE may be decided.
            effects.push(Effect::Refused(Refused::Unreadable));
            return Verdict::Overloaded;
        };
        let settings = snapshot.policy.settings;
        let numbers = (call.dialed, call.caller);
        let probed = snapshot.probed.filter(|_| !call.forwards());
        let kept = probed.and_then(|forward| forward.kept(&decision, snapshot.now.uptime));
        let plan = match kept {
            None => worker.plans.of(&decision, numbers, settings),
            // No other call gets the same plan: what is down may be up again.
            Some(kept) => Arc::new(SharedPlan::new(Plan::keeping(
                &kept, &decision, numbers, settings,
            ))),
        };
        if let Some(earlier) = remember(&plan) {
            effects.push(Effect::Retransmitted);
            return Verdict::Known(earlier);
        }
        if snapshot.policy.watches
            && decision.outcome == DecidedOutcome::Callback
            && let Some(environment) = decision.environment
        {
            self.learning
                .await_answer(call.invite.message(), environment.record.id, snapshot.now);
        }
        effects.push(Effect::Decided(DecidedCall {
            decision,
            dialed: call.dialed,
            caller: call.caller,
            call_id: call.invite.call_id(),
            at: snapshot.now.wall,
        }));
        Verdict::Plan(plan, Some(decision.reason))
    }

    /// Learns from an INVITE whose dialed number is not ours, if the peer is one to learn from. Returns the plan
    /// that redirects an outbound call, if the peer has a next hop.
    fn next_hop<'m, 'r, C: Contacts>(
        &self,
        snapshot: Snapshot<'r, C>,
        call: &Call<'m, 'r>,
        effects: &mut Effects<'m, 'r>,
    ) -> Option<Arc<SharedPlan>> {
        if call.number.is_some() || !call.source.peer.learn {
            return None;
        }
        let sighting = sighting(snapshot, call.source);
        let learned = self.learning.outbound(call.invite.message(), &sighting)?;
        let agent = learned.outbound_agent;
        effects.push(Effect::Learned(learned));
        let plan = call.source.forward.filter(|_| agent.is_some())?;
        match plan.plan() {
            Plan::Forward { next_hop } if Placeholders::are_in(next_hop) => {
                let filling = Placeholders {
                    agent,
                    source_agent: agent,
                    dialed: call.dialed,
                    caller: call.caller,
                };
                // A next hop with a placeholder that has no value is not used.
                let next_hop = filling.fill(next_hop).unwrap_or_default().into();
                Some(Arc::new(SharedPlan::new(Plan::Forward { next_hop })))
            }
            _ => Some(Arc::clone(plan)),
        }
    }

    /// Writes the reply to an INVITE by a plan: always the same bytes for the same two.
    fn write(&self, plan: &Plan, call: &Call<'_, '_>, out: &mut Outbox) -> Reply {
        let invite = &call.invite;
        let decided = match plan {
            Plan::Forward { next_hop } => {
                return self.redirector.forward(invite, next_hop, &mut out.bytes);
            }
            Plan::Decided(decided) => decided,
        };
        let mut ordered = SmallVec::new();
        match decided.targets.as_slice() {
            [target] => ordered.push(target),
            targets => order_targets(targets, invite.call_id(), &mut ordered),
        }
        let contacts = ordered.iter().map(|target| &target.contact);
        self.redirector
            .answer(invite, &decided.answer, contacts, &mut out.bytes)
    }
}
