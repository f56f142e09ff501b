//! Plans: everything of an answer that does not stand in the request itself.
//!
//! A reply is written from the request and a plan, and from nothing else: that is why it is the
//! same when the request comes again, whatever has changed. Calls that are answered alike share one
//! plan.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use ringback_routing::{AgentId, Decision, E164, Placeholders, Ranked, Target};
use ringback_sip_proto::{Answer, PreparedAnswer, PreparedTarget, Redirector};

use crate::redirect::reply_cache::SharedPlan;

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

/// A decision that outlives the directory it was made by.
#[derive(Debug)]
pub(crate) struct Decided {
    /// What becomes of the call, ready to be written.
    pub(crate) answer: PreparedAnswer,
    /// Where to send the call, in the order of the agent.
    pub(crate) targets: Box<[PlannedTarget]>,
    /// Which headers the reply carries.
    pub(crate) headers: HeaderSet,
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

/// Where the decision is written: some of four combinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HeaderSet {
    /// On the reply.
    pub(crate) decision: bool,
    /// Inside Contact URIs.
    pub(crate) contact: bool,
}

impl HeaderSet {
    /// Every combination, in the order of [`Self::index`].
    pub(crate) const ALL: [Self; 4] = [
        Self::new(false, false),
        Self::new(true, false),
        Self::new(false, true),
        Self::new(true, true),
    ];

    /// A combination.
    pub(crate) const fn new(decision: bool, contact: bool) -> Self {
        Self { decision, contact }
    }

    /// Its index in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        self.decision as usize | (self.contact as usize) << 1
    }
}

impl Plan {
    /// Copies what the answer needs out of the directory, and writes it out.
    fn of(
        decision: &Decision<'_>,
        filling: &Placeholders,
        headers: HeaderSet,
        redirector: &Redirector,
    ) -> Self {
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
                contact: redirector.prepare_target(&answer, &filling.fill(&target.uri)?),
            })
        };
        Self::Decided(Decided {
            answer: redirector.prepare(&answer),
            targets: decision.targets().iter().filter_map(planned).collect(),
            headers,
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
    /// The outcome, the reason and the headers.
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
        headers: HeaderSet,
        redirector: &Redirector,
    ) -> Arc<SharedPlan> {
        let make = || {
            Arc::new(SharedPlan::new(Plan::of(
                decision, filling, headers, redirector,
            )))
        };
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
                | u32::try_from(headers.index()).unwrap_or(0) << 16,
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
        headers: HeaderSet,
        redirector: &Redirector,
    ) -> Arc<SharedPlan> {
        match self {
            Self::Own(cache) => cache.of(decision, filling, headers, redirector),
            Self::Shared(cache) => {
                let mut cache = cache.lock();
                cache.of(decision, filling, headers, redirector)
            }
        }
    }
}

/// How many plans are young at most; as many may have been put aside.
const MAX_PLANS: usize = 1 << 16;
