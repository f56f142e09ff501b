//! Plans: everything in a reply that does not come from the request itself.
//!
//! A reply is written from the request and a plan, and from nothing else: so it is the same when the request
//! comes again, whatever has changed. Calls with the same answer share one plan.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use ringback_routing::{AgentId, Caller, Decision, E164, Ranked, Target};
use ringback_sip_proto::{Answer, PreparedAnswer, PreparedTarget, Settings};
use smallvec::SmallVec;

/// How an INVITE is answered.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all plans are decided, and a reply waits for each allocation that it reads"
)]
pub(crate) enum Plan {
    /// By the decision.
    Decided(Decided),
    /// As an outbound call: by the next hop.
    Forward {
        /// A SIP URI. Without a user of its own it gets that of the request. Placeholders are filled in for each
        /// call; if one has no value, the next hop is not used.
        next_hop: Box<str>,
    },
}

/// A plan that many answers share.
#[derive(Debug)]
pub(crate) struct SharedPlan {
    /// The plan.
    plan: Plan,
    /// Its number, once an answer with it is remembered; until then [`UNREGISTERED`].
    pub(super) number: AtomicU32,
    /// When it last gave an answer, in seconds since the server started.
    pub(super) given_at: AtomicU32,
}

/// A decision that does not borrow from the directory.
#[derive(Debug)]
pub(crate) struct Decided {
    /// The status and headers, ready to be written.
    pub(crate) answer: PreparedAnswer,
    /// The targets, in the order of the agent's list.
    pub(crate) targets: SmallVec<[PlannedTarget; 1]>,
}

/// A target of the call.
#[derive(Debug)]
pub(crate) struct PlannedTarget {
    /// Lower is tried first.
    priority: u16,
    /// Share within one priority.
    weight: u16,
    /// Its Contact, ready to be written.
    pub(crate) contact: PreparedTarget,
}

impl Ranked for PlannedTarget {
    fn priority(&self) -> u16 {
        self.priority
    }

    fn weight(&self) -> u16 {
        self.weight
    }
}

impl Plan {
    /// Copies what the answer needs from the directory, and prepares it for writing.
    fn of(
        decision: &Decision<'_>,
        (dialed, caller): (Option<E164>, Caller),
        settings: Settings,
    ) -> Self {
        let filling = decision.placeholders(dialed, caller);
        let id = |id: AgentId| id.0.hyphenated().to_string();
        let agent = decision.agent.map(|agent| id(agent.record.id));
        let source_agent = decision.source_agent.map(|agent| id(agent.record.id));
        let answer = Answer {
            outcome: decision.outcome.name(),
            reason: decision.reason.name(),
            agent: agent.as_deref(),
            source_agent: source_agent.as_deref(),
        };
        let planned = |target: &Target| {
            Some(PlannedTarget {
                priority: target.priority,
                weight: target.weight,
                contact: PreparedTarget::new(&filling.fill(&target.uri)?, &answer, settings),
            })
        };
        Self::Decided(Decided {
            answer: PreparedAnswer::new(&answer, settings),
            targets: decision.targets().iter().filter_map(planned).collect(),
        })
    }

    /// A plan that tests can recognize.
    #[cfg(test)]
    pub(crate) fn for_tests(next_hop: &str) -> Self {
        Self::Forward {
            next_hop: next_hop.into(),
        }
    }
}

impl SharedPlan {
    /// A plan that has given no answer yet.
    pub(crate) const fn new(plan: Plan) -> Self {
        Self {
            plan,
            number: AtomicU32::new(UNREGISTERED),
            given_at: AtomicU32::new(0),
        }
    }

    /// The plan.
    pub(crate) const fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// The plans of the calls answered lately. A change of the directory makes only the plans useless that it
/// affects: their keys are not used any more.
#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    /// The plans used since `old` was last replaced.
    young: HashMap<PlanKey, Arc<SharedPlan>, RandomState>,
    /// The plans used before that. A plan that is used again becomes young again.
    old: HashMap<PlanKey, Arc<SharedPlan>, RandomState>,
}

/// The key of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct PlanKey {
    /// The version of the list of targets.
    targets: u64,
    /// Slot of the agent, or of the environment for fallback targets.
    owner: u32,
    /// Slot of the source agent.
    source: u32,
    /// The outcome, the reason and the headers to write, in one word, because that is hashed faster.
    rest: u32,
    /// The dialed number, if a target contains it.
    dialed: Option<E164>,
}

impl PlanCache {
    /// The plan for a decision on a call with these numbers, dialed and caller.
    pub(crate) fn of(
        &mut self,
        decision: &Decision<'_>,
        (dialed, caller): (Option<E164>, Caller),
        settings: Settings,
    ) -> Arc<SharedPlan> {
        let numbers = (dialed, caller);
        let make = || Arc::new(SharedPlan::new(Plan::of(decision, numbers, settings)));
        let targets = decision.target_set;
        if targets.varies_by_caller() {
            // No other call gets the same plan.
            return make();
        }
        let owner = match (decision.agent, decision.environment) {
            (Some(agent), _) => agent.slot.0,
            (None, Some(environment)) => u32::from(environment.slot.0),
            (None, None) => u32::MAX,
        };
        let key = PlanKey {
            targets: targets.version(),
            owner,
            source: decision.source_agent.map_or(u32::MAX, |agent| agent.slot.0),
            rest: decision.outcome as u32
                | (decision.reason as u32) << 8
                | u32::from(settings.decision_headers) << 16
                | u32::from(settings.contact_headers) << 17,
            dialed: dialed.filter(|_| targets.varies_by_dialed()),
        };
        if let Some(plan) = self.young.get(&key) {
            return Arc::clone(plan);
        }
        if self.young.len() >= MAX_PLANS {
            self.old = std::mem::take(&mut self.young);
        }
        let plan = self.old.remove(&key).unwrap_or_else(make);
        self.young.insert(key, Arc::clone(&plan));
        plan
    }
}

/// The cache of plans that a message uses.
#[derive(Debug)]
pub(crate) enum Plans<'p> {
    /// The cache of a UDP worker.
    Own(&'p mut PlanCache),
    /// The cache of all connections.
    Shared(&'p Mutex<PlanCache>),
}

impl Plans<'_> {
    /// The plan for a decision on a call with these numbers, dialed and caller.
    pub(crate) fn of(
        &mut self,
        decision: &Decision<'_>,
        numbers: (Option<E164>, Caller),
        settings: Settings,
    ) -> Arc<SharedPlan> {
        match self {
            Self::Own(cache) => cache.of(decision, numbers, settings),
            Self::Shared(cache) => {
                let mut cache = cache.lock();
                cache.of(decision, numbers, settings)
            }
        }
    }
}

/// The most young plans; there may be as many old ones.
const MAX_PLANS: usize = 1 << 16;

/// The number of a plan that is not registered.
pub(super) const UNREGISTERED: u32 = u32::MAX;
