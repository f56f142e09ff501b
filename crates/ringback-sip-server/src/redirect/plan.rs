//! Plans: everything in a reply that does not come from the request itself.
//!
//! A reply is written from the request and a plan, and from nothing else: so it is the same when the request
//! comes again, whatever has changed. Calls with the same answer share one plan.

use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use parking_lot::Mutex;
use prefetch_index::prefetch_index;
use ringback_routing::{AgentId, AgentSlot, Caller, Decision, E164, Ranked, Target};
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
#[repr(C)]
pub(crate) struct SharedPlan {
    /// Its number, once an answer with it is remembered; until then [`UNREGISTERED`].
    pub(super) number: AtomicU32,
    /// When it last gave an answer, in seconds since the server started.
    pub(super) given_at: AtomicU32,
    /// The plan.
    plan: Plan,
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
    fn of(decision: &Decision<'_>, numbers: (Option<E164>, Caller), settings: Settings) -> Self {
        Self::keeping(&[], decision, numbers, settings)
    }

    /// The same with those targets alone that are kept; those that nothing is said of are.
    pub(crate) fn keeping(
        kept: &[bool],
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
            targets: decision
                .targets()
                .iter()
                .enumerate()
                .filter(|(index, _)| kept.get(*index).copied().unwrap_or(true))
                .filter_map(|(_, target)| planned(target))
                .collect(),
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
            number: AtomicU32::new(UNREGISTERED),
            given_at: AtomicU32::new(0),
            plan,
        }
    }

    /// The plan.
    pub(crate) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Begins to fetch the whole plan, without waiting for it.
    fn prefetch(&self) {
        let words = slice::from_ref(&self.number);
        // An `Arc` counts its references in the two words of its own before the value.
        prefetch_index(words, 0_usize.wrapping_sub(4));
        for line in 0..size_of::<Self>().div_ceil(64) {
            prefetch_index(words, line * WORDS_IN_LINE);
        }
    }
}

/// The plans of the calls answered lately, a table of sets of two: a third one takes the place of the one entered
/// first. A change of the directory makes only the plans useless that it affects: their keys
/// are not used any more.
///
/// The set of a call that is returned follows from the agent that made it: its plan can be fetched before it is
/// decided who takes the call.
#[derive(Debug)]
pub(crate) struct PlanCache {
    /// The sets; a power of two. In each the plan entered last is first.
    sets: Vec<[Option<Entry>; 2]>,
    /// How many plans there are.
    length: usize,
}

/// A plan in the cache: one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Entry {
    /// Its key.
    key: PlanKey,
    /// The plan.
    plan: Arc<SharedPlan>,
}

/// The key of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PlanKey {
    /// The version of the list of targets.
    targets: u64,
    /// Slot of the agent, or of the environment for fallback targets.
    owner: u32,
    /// Slot of the source agent.
    source: u32,
    /// The outcome, the reason and the headers to write, in one word, because that is compared faster.
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
            (None, None) => NOBODY,
        };
        let key = PlanKey {
            targets: targets.version(),
            owner,
            source: decision.source_agent.map_or(NOBODY, |agent| agent.slot.0),
            rest: decision.outcome as u32
                | (decision.reason as u32) << 8
                | u32::from(settings.decision_headers) << 16
                | u32::from(settings.contact_headers) << 17,
            dialed: dialed.filter(|_| targets.varies_by_dialed()),
        };
        if let Some(plan) = self.find(&key) {
            return plan;
        }
        let plan = make();
        self.enter(Entry {
            key,
            plan: Arc::clone(&plan),
        });
        plan
    }

    /// The plan of this key.
    fn find(&self, key: &PlanKey) -> Option<Arc<SharedPlan>> {
        let set = self.sets.get(key.set(self.sets.len()))?;
        let mut entries = set.iter().flatten();
        let entry = entries.find(|entry| entry.key == *key)?;
        Some(Arc::clone(&entry.plan))
    }

    /// Enters a plan. Where it needs the place of another one, the table grows first, if it is half full.
    fn enter(&mut self, entry: Entry) {
        let sets = self.sets.len();
        let Some([first, second]) = self.sets.get_mut(entry.key.set(sets)) else {
            return;
        };
        if second.is_none() {
            self.length += 1;
        } else if self.length >= sets && sets < MOST_SETS {
            self.grow();
            return self.enter(entry);
        }
        *second = first.replace(entry);
    }

    /// Doubles the table.
    fn grow(&mut self) {
        let larger = Self::with_sets(2 * self.sets.len());
        let before = std::mem::replace(self, larger);
        for [first, second] in before.sets {
            for entry in [second, first].into_iter().flatten() {
                self.enter(entry);
            }
        }
    }

    /// An empty table of so many sets.
    fn with_sets(sets: usize) -> Self {
        Self {
            sets: (0..sets).map(|_| [None, None]).collect(),
            length: 0,
        }
    }

    /// Begins to fetch the entry of calls that are returned to the number from which this agent made them, without
    /// waiting for it.
    fn prefetch_entry(&self, source: AgentSlot) {
        let set = PlanKey::set_of_source(source.0, self.sets.len());
        prefetch_index(&self.sets, set);
    }

    /// Begins to fetch the plan of that entry, which is waited for.
    fn prefetch_plan(&self, source: AgentSlot) {
        let set = PlanKey::set_of_source(source.0, self.sets.len());
        if let Some([Some(entry), _]) = self.sets.get(set)
            && entry.key.source == source.0
        {
            entry.plan.prefetch();
        }
    }
}

impl Default for PlanCache {
    fn default() -> Self {
        Self::with_sets(LEAST_SETS)
    }
}

impl PlanKey {
    /// The index of its set in a table of so many sets, a power of two.
    const fn set(&self, sets: usize) -> usize {
        let agent = if self.source == NOBODY {
            self.owner
        } else {
            self.source
        };
        // Nothing is added for what is usual, so that its set follows from the source agent alone.
        let dialed = match self.dialed {
            Some(dialed) => dialed.digits(),
            None => 0,
        };
        let rest = (self.rest & DECIDED) as u64 ^ dialed;
        let spread = rest.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Self::set_of_source(agent.wrapping_add(spread as u32), sets)
    }

    /// The index of the set of an agent's returned calls.
    const fn set_of_source(source: u32, sets: usize) -> usize {
        source as usize & (sets - 1)
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
    /// Begins to fetch the entry of calls of this agent that are returned, without waiting for it.
    pub(crate) fn prefetch_entry(&self, source: AgentSlot) {
        if let Self::Own(cache) = self {
            cache.prefetch_entry(source);
        }
    }

    /// Begins to fetch the plan of that entry.
    pub(crate) fn prefetch_plan(&self, source: AgentSlot) {
        if let Self::Own(cache) = self {
            cache.prefetch_plan(source);
        }
    }

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

/// The sets of the smallest table: 64 KiB.
const LEAST_SETS: usize = 1 << 9;

/// The most sets: 8 MiB, besides the plans.
const MOST_SETS: usize = 1 << 16;

/// No agent, in a key.
const NOBODY: u32 = u32::MAX;

/// The bits of [`PlanKey::rest`] that hold outcome and reason: zero for the usual ones.
const DECIDED: u32 = 0xffff;

/// How many words like [`SharedPlan::number`] a cache line holds.
const WORDS_IN_LINE: usize = 64 / size_of::<AtomicU32>();

/// The number of a plan that is not registered.
pub(super) const UNREGISTERED: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A key of few agents and reasons.
    fn key() -> impl Strategy<Value = PlanKey> {
        (0..2_000_u32, 0..3_u32, 0..4_u32, any::<bool>()).prop_map(
            |(agent, owner, rest, is_returned)| PlanKey {
                targets: 1,
                owner,
                source: if is_returned { agent } else { NOBODY },
                rest,
                dialed: None,
            },
        )
    }

    /// Enters a plan, and returns it.
    fn enter(cache: &mut PlanCache, key: PlanKey) -> Arc<SharedPlan> {
        let plan = Arc::new(SharedPlan::new(Plan::for_tests("sip:next@hop")));
        cache.enter(Entry {
            key,
            plan: Arc::clone(&plan),
        });
        plan
    }

    proptest! {
        /// A key has its own plan or none, and the plan entered last is always there.
        #[test]
        fn no_key_gets_the_plan_of_another(keys in vec(key(), 1..3_000)) {
            let mut cache = PlanCache::default();
            let mut model: Vec<(PlanKey, Arc<SharedPlan>)> = Vec::new();
            for key in keys {
                let known = model.iter().find(|(other, _)| *other == key);
                let found = cache.find(&key);
                if let Some(found) = &found {
                    prop_assert!(known.is_some_and(|(_, plan)| Arc::ptr_eq(plan, found)));
                    continue;
                }
                model.retain(|(other, _)| *other != key);
                let plan = enter(&mut cache, key);
                prop_assert!(cache.find(&key).is_some_and(|found| Arc::ptr_eq(&found, &plan)));
                model.push((key, plan));
            }
            let entries = cache.sets.iter().flatten().flatten();
            prop_assert_eq!(entries.count(), cache.length);
        }
    }

    #[test]
    fn returned_calls_of_many_agents_keep_their_plans() {
        let mut cache = PlanCache::default();
        let of_source = |source| PlanKey {
            targets: 1,
            owner: 7,
            source,
            rest: 0,
            dialed: None,
        };
        for source in 0..50_000 {
            enter(&mut cache, of_source(source));
        }
        for source in 0..50_000 {
            cache.prefetch_entry(AgentSlot(source));
            cache.prefetch_plan(AgentSlot(source));
            assert!(cache.find(&of_source(source)).is_some());
        }
        assert!(cache.sets.len() <= MOST_SETS);
    }

    #[test]
    fn an_entry_takes_one_cache_line() {
        assert_eq!(size_of::<Option<Entry>>(), 64);
    }
}
