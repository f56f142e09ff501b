//! A new INVITE of a peer in forward mode: what it is decided to, and the plan by which it is sent on.

use std::sync::Arc;

use ringback_routing::{Contacts, order_targets};
use ringback_sip_proto::check::Request;
use ringback_sip_proto::{Origin, Refusal, Scheme};
use ringback_sip_proxy::{Plan as ProxyPlan, Target};
use smallvec::SmallVec;

use crate::counters::Refused;
use crate::forward::Forward;
use crate::forward::calls::Decided;
use crate::forward::health;
use crate::forward::target::Sending;
use crate::policy::OpenCall;
use crate::redirect::answer::Verdict;
use crate::redirect::effect::{Effect, Outcome};
use crate::redirect::plan::Plan;
use crate::redirect::read::send;
use crate::redirect::{Call, Redirect, Snapshot, WorkerContext};

/// An INVITE that is to be sent on.
#[derive(Debug)]
pub(crate) struct PlannedCall {
    /// Where it goes.
    pub(crate) plan: ProxyPlan,
    /// The decision that it comes from; `None`: it is an outbound call.
    pub(crate) decided: Option<Decided>,
    /// Counts it among those of its peer.
    pub(crate) open: OpenCall,
}

impl Redirect {
    /// Decides an INVITE whose numbers were resolved, and which belongs to no transaction. Gives the plan by which
    /// it is sent on; `None`: it was refused, with a reply in the outbox of the worker, or it is not answered.
    pub(crate) fn forward<'m, 'r, C: Contacts>(
        &self,
        forward: &Forward,
        worker: &mut WorkerContext<'_>,
        snapshot: Snapshot<'r, C>,
        call: &Call<'m, 'r>,
        outcome: &mut Outcome<'m, 'r>,
    ) -> Option<PlannedCall> {
        let open = match forward.admit(snapshot, call) {
            Ok(open) => open,
            Err(refused) => {
                self.refuse_call(refused, worker, snapshot, call, outcome);
                return None;
            }
        };
        let verdict = self.verdict(worker, snapshot, call, &mut outcome.effects);
        let plan = match &verdict {
            Verdict::Plan(plan, _) => self.plan(forward, snapshot, call, plan.plan()),
            Verdict::Known(plan) => {
                if self.plan(forward, snapshot, call, plan.plan()).is_some() {
                    // Its transaction is another thread's, and it is absorbed as it would be there.
                    return None;
                }
                None
            }
            Verdict::Overloaded | Verdict::Silence => None,
        };
        let Some(plan) = plan else {
            self.reply(verdict, worker, snapshot, call, outcome);
            return None;
        };
        let environment = call.number.as_ref().map(|number| number.environment);
        let decided = environment.map(|environment| Decided {
            environment: environment.record.id,
            at: snapshot.now.wall,
            call_id: call.invite.call_id().into(),
        });
        Some(PlannedCall {
            plan,
            decided,
            open,
        })
    }

    /// Refuses an INVITE before anything is decided.
    fn refuse_call<'m, 'r, C: Contacts>(
        &self,
        (refusal, cause): (Refusal, Refused),
        worker: &mut WorkerContext<'_>,
        snapshot: Snapshot<'r, C>,
        call: &Call<'m, 'r>,
        outcome: &mut Outcome<'m, 'r>,
    ) {
        let start = worker.out.bytes.len();
        let out = &mut worker.out.bytes;
        let reply = self.redirector.refuse_invite(&call.invite, refusal, out);
        outcome.effects.push(Effect::Refused(cause));
        let unserved = call.unserved(snapshot.now, cause.name());
        outcome.effects.push(Effect::Unserved(unserved));
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

    /// The plan of the proxy; `None`: the call goes nowhere.
    fn plan<C: Contacts>(
        &self,
        forward: &Forward,
        snapshot: Snapshot<'_, C>,
        call: &Call<'_, '_>,
        plan: &Plan,
    ) -> Option<ProxyPlan> {
        let sender = call.source.peer;
        let sending = Sending {
            sender,
            call_id: call.invite.call_id(),
            policy: snapshot.policy,
            names: &forward.names,
            now: snapshot.now.uptime,
        };
        let mut targets: Vec<Target> = Vec::new();
        // What an operator says of each of them.
        let mut held = Vec::new();
        let environment = call.number.as_ref().map(|number| number.environment);
        let known = environment.map_or(&[][..], |environment| &environment.record.held_targets);
        let mut add = |uri: &[u8]| {
            forward.ways.add_targets(uri, sending, &mut targets);
            let uri = std::str::from_utf8(uri).unwrap_or_default();
            held.resize(targets.len(), health::held(known, uri));
        };
        let headers: Arc<[u8]> = match plan {
            Plan::Forward { next_hop } => {
                let uri = self.redirector.next_hop_uri(&call.invite, next_hop)?;
                add(&uri);
                Arc::from(*b"")
            }
            Plan::Decided(decided) if decided.answer.is_refusal() => return None,
            Plan::Decided(decided) => {
                let mut ordered = SmallVec::new();
                order_targets(&decided.targets, call.invite.call_id(), &mut ordered);
                let uris = ordered.iter().map(|planned| planned.contact.uri());
                usable(uris, call.invite.is_sips())
                    .into_iter()
                    .for_each(add);
                decided.answer.header_lines().into()
            }
        };
        let now = snapshot.now.uptime;
        forward.health.pass_over(&mut targets, &held, now);
        if sender.records_route {
            for target in &mut targets {
                forward.record_route(call.invite.request(), call.origin(), target);
            }
        }
        (!targets.is_empty()).then(|| ProxyPlan {
            targets: targets.into(),
            headers,
            is_trusted: sender.is_trusted,
        })
    }
}

impl Forward {
    /// Puts the Record-Route lines into a target of a call: ours toward the target, and below it ours toward the
    /// caller, if that is another one (RFC 5658).
    pub(super) fn record_route(&self, request: &Request<'_>, origin: Origin, target: &mut Target) {
        let Some(hop) = &target.hop else { return };
        let mut lines = Vec::new();
        let down = (hop.transport, &*hop.sent_by);
        self.keys.write_record_route(request, down, &mut lines);
        if let Some((own, _)) = self.ways.own(origin.transport, origin.address) {
            let own = own.to_string();
            let up = (origin.transport, own.as_str());
            if up != down {
                self.keys.write_record_route(request, up, &mut lines);
            }
        }
        target.record_route = lines.into();
    }

    /// Counts an INVITE among the open calls of its peer; else why it is not sent on, whatever would be decided.
    fn admit<C: Contacts>(
        &self,
        snapshot: Snapshot<'_, C>,
        call: &Call<'_, '_>,
    ) -> Result<OpenCall, (Refusal, Refused)> {
        let message = call.invite.message();
        let refuse = |refusal: Refusal| Err((refusal, Refused::from(refusal)));
        if snapshot.is_draining {
            return refuse(Refusal::Draining);
        }
        // The checks of a redirect server read it already.
        if message.max_forwards() == Ok(Some(0)) {
            return refuse(Refusal::TooManyHops);
        }
        let is_own = |host: &[u8], port| self.ways.is_own(host, port);
        let numbers = call.numbers();
        if self
            .keys
            .is_loop(message, call.invite.request(), &numbers, is_own)
        {
            return refuse(Refusal::Loop);
        }
        if message.required_of_proxies().next().is_some() {
            return refuse(Refusal::ProxyExtension);
        }
        let too_many = (Refusal::Overload, Refused::Transactions);
        if self.open() >= snapshot.policy.forward.max_transactions {
            return Err(too_many);
        }
        call.source.open_call().ok_or(too_many)
    }
}

impl Call<'_, '_> {
    /// What the decision depends on besides the request URI: caller and dialed number.
    pub(crate) fn numbers(&self) -> [u8; 16] {
        let dialed = self.dialed.map_or(0, |number| number.digits());
        let caller = self.caller.number().map_or(0, |number| number.digits());
        let mut numbers = [0; 16];
        for (place, byte) in numbers
            .iter_mut()
            .zip([dialed.to_be_bytes(), caller.to_be_bytes()].as_flattened())
        {
            *place = *byte;
        }
        numbers
    }
}

/// The targets that a call may go to: of a `sips:` request `sips:` ones alone (RFC 5630 §3.3); of another `sips:` ones
/// only if there is no other.
fn usable<'t>(uris: impl Iterator<Item = &'t [u8]> + Clone, is_sips: bool) -> Vec<&'t [u8]> {
    let is_secure = |uri: &&[u8]| {
        ringback_sip_proto::Uri::parse(uri).is_ok_and(|uri| uri.scheme() == Scheme::Sips)
    };
    let (secure, other): (Vec<&[u8]>, Vec<&[u8]>) = uris.partition(is_secure);
    if is_sips || other.is_empty() {
        secure
    } else {
        other
    }
}
