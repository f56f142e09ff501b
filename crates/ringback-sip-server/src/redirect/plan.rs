//! Plans: everything of an answer that does not stand in the request itself.
//!
//! A reply is written from the request and a plan, and from nothing else: that is why it is the
//! same when the request comes again, whatever has changed. Calls that are answered alike share one
//! plan.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use ringback_routing::{AgentId, Decision, E164, Placeholders, Ranked, Target};
use ringback_sip_proto::{Answer, PreparedAnswer, PreparedTarget, Settings};

/// How an INVITE is answered.
#[derive(Debug)]
pub(crate) enum Plan {
    /// By the decision.
    Decided(Decided),
    /// It is an outbound call: by the next hop.
    Forward {
        /// A SIP URI; without a user of its own it gets that of the request. Placeholders in it are
        /// filled in for each call, and nobody is sent to one where they cannot be.
        next_hop: Box<str>,
    },
}

/// A plan that many answers share, with what is known of them.
#[derive(Debug)]
pub(crate) struct SharedPlan {
    /// The plan.
    plan: Plan,
    /// Its number, once there is an answer to remember; until then [`UNREGISTERED`].
    pub(super) number: AtomicU32,
    /// When an answer was last given by it, in seconds since the start.
    pub(super) given_at: AtomicU32,
}

/// A decision that outlives the directory it was made by.
#[derive(Debug)]
pub(crate) struct Decided {
    /// What becomes of the call, ready to be written.
    pub(crate) answer: PreparedAnswer,
    /// Where to send the call, in the order of the agent.
    pub(crate) targets: Box<[PlannedTarget]>,
}

/// A target that a call can be sent to.
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
    /// Copies what the answer needs out of the directory, and writes it out.
    fn of(decision: &Decision<'_>, filling: &Placeholders, settings: Settings) -> Self {
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

    /// A plan that can be told from others.
    #[cfg(test)]
    pub(crate) fn for_tests(next_hop: &str) -> Self {
        Self::Forward {
            next_hop: next_hop.into(),
        }
    }
}

impl SharedPlan {
    /// A plan that nothing was answered by yet.
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

/// The plans of the calls answered lately. A change of the directory makes those plans useless that it
/// changes, and no others: their keys are not asked for any more.
#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    /// Those asked for since the others were put aside.
    young: HashMap<PlanKey, Arc<SharedPlan>, RandomState>,
    /// Those put aside; what is asked for again becomes young again.
    old: HashMap<PlanKey, Arc<SharedPlan>, RandomState>,
}

/// What tells two plans apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct PlanKey {
    /// Which list of targets it is.
    targets: u64,
    /// Slot of the agent; of the environment, where the targets are its own.
    owner: u32,
    /// Slot of the source agent.
    source: u32,
    /// The outcome, the reason and where they are written, in one word, which is hashed faster.
    rest: u32,
    /// The dialed number, where a target is made of it.
    dialed: Option<E164>,
}

impl PlanCache {
    /// The plan for a decision.
    pub(crate) fn of(
        &mut self,
        decision: &Decision<'_>,
        filling: &Placeholders,
        settings: Settings,
    ) -> Arc<SharedPlan> {
        let make = || Arc::new(SharedPlan::new(Plan::of(decision, filling, settings)));
        let targets = decision.target_set;
        if targets.varies_by_caller() {
            // Nobody else gets the same.
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
            dialed: filling.dialed.filter(|_| targets.varies_by_dialed()),
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

/// Whose cache a plan is found in.
#[derive(Debug)]
pub(crate) enum Plans<'p> {
    /// That of a UDP worker.
    Own(&'p mut PlanCache),
    /// That of all connections.
    Shared(&'p Mutex<PlanCache>),
}

impl Plans<'_> {
    /// The plan for a decision.
    pub(crate) fn of(
        &mut self,
        decision: &Decision<'_>,
        filling: &Placeholders,
        settings: Settings,
    ) -> Arc<SharedPlan> {
        match self {
            Self::Own(cache) => cache.of(decision, filling, settings),
            Self::Shared(cache) => {
                let mut cache = cache.lock();
                cache.of(decision, filling, settings)
            }
        }
    }
}

/// How many plans are young at most; as many may have been put aside.
const MAX_PLANS: usize = 1 << 16;

/// Stands for the number of a plan that has none.
pub(super) const UNREGISTERED: u32 = u32::MAX;
