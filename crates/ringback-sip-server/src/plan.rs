//! Plans: everything of an answer that does not stand in the request itself.
//!
//! A reply is written from the request and a plan, and from nothing else: that is why it is the
//! same when the request comes again, whatever has changed. Calls that are answered alike share one
//! plan.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use ringback_routing::{AgentId, Decision, Directory, Outcome, Reason, Target};
use uuid::fmt::Hyphenated;

/// How an INVITE is answered.
#[derive(Debug)]
pub(crate) enum Plan {
    /// By the decision.
    Decided(Decided),
    /// It is an outbound call: by the next hop.
    Forward {
        /// A SIP URI without a user.
        next_hop: Box<str>,
    },
}

/// A decision that outlives the directory it was made by.
#[derive(Debug)]
pub(crate) struct Decided {
    /// What becomes of the call.
    pub(crate) outcome: Outcome,
    /// Why.
    pub(crate) reason: Reason,
    /// The agent that takes the call.
    pub(crate) agent: Option<IdText>,
    /// The agent whose call is returned.
    pub(crate) source_agent: Option<IdText>,
    /// Where to send the call, in the order of the agent.
    pub(crate) targets: Box<[Target]>,
    /// Which headers the reply carries.
    pub(crate) headers: HeaderSet,
}

/// Where the decision is written: some of four combinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HeaderSet {
    /// On the reply.
    pub(crate) decision: bool,
    /// Inside Contact URIs.
    pub(crate) contact: bool,
}

/// An identifier as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdText([u8; Hyphenated::LENGTH]);

impl IdText {
    /// Writes an agent's identifier.
    fn new(id: AgentId) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        id.0.hyphenated().encode_lower(&mut text);
        Self(text)
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
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

    /// Its place in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        self.decision as usize | (self.contact as usize) << 1
    }
}

impl Plan {
    /// Copies what the answer needs out of the directory.
    fn of(decision: &Decision<'_>, headers: HeaderSet) -> Self {
        Self::Decided(Decided {
            outcome: decision.outcome,
            reason: decision.reason,
            agent: decision.agent.map(|agent| IdText::new(agent.record.id)),
            source_agent: decision
                .source_agent
                .map(|agent| IdText::new(agent.record.id)),
            targets: decision.targets.into(),
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

/// The plans of the calls answered since the directory last changed.
#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    /// The directory that all plans were made by. Held, so that no other can take its address.
    directory: Option<Arc<Directory>>,
    /// The plans.
    plans: HashMap<PlanKey, Arc<Plan>, RandomState>,
}

/// What tells two plans of one directory apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct PlanKey {
    /// Slot of the agent; of the environment, where the targets are its own.
    owner: u32,
    /// Slot of the source agent.
    source: u32,
    /// The outcome, the reason and the headers.
    rest: u32,
}

impl PlanCache {
    /// The plan for a decision.
    pub(crate) fn of(
        &mut self,
        directory: &Arc<Directory>,
        decision: &Decision<'_>,
        headers: HeaderSet,
    ) -> Arc<Plan> {
        let is_current = |known: &Arc<Directory>| Arc::ptr_eq(known, directory);
        if !self.directory.as_ref().is_some_and(is_current) {
            self.plans.clear();
            self.directory = Some(Arc::clone(directory));
        } else if self.plans.len() >= MAX_PLANS {
            self.plans.clear();
        }
        let owner = match (decision.agent, decision.environment) {
            (Some(agent), _) => agent.slot.0,
            (None, Some(environment)) => u32::from(environment.slot.0),
            (None, None) => u32::MAX,
        };
        let key = PlanKey {
            owner,
            source: decision.source_agent.map_or(u32::MAX, |agent| agent.slot.0),
            rest: decision.outcome as u32
                | (decision.reason as u32) << 8
                | u32::try_from(headers.index()).unwrap_or(0) << 16,
        };
        let plan = self
            .plans
            .entry(key)
            .or_insert_with(|| Arc::new(Plan::of(decision, headers)));
        Arc::clone(plan)
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
        directory: &Arc<Directory>,
        decision: &Decision<'_>,
        headers: HeaderSet,
    ) -> Arc<Plan> {
        match self {
            Self::Own(cache) => cache.of(directory, decision, headers),
            Self::Shared(cache) => cache.lock().of(directory, decision, headers),
        }
    }
}

/// Plans of one directory that are kept at once.
const MAX_PLANS: usize = 1 << 16;
