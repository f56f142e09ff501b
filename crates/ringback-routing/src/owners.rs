//! The agents that own a number, in the order in which it was assigned to them.
//!
//! Most numbers have a few owners, which are kept inline. With many owners, adding one costs the same however
//! many there are, and membership is looked up instead of searched.

use prefetch_index::prefetch_index;

use crate::persistent::{PersistentMap, PersistentVec};
use crate::{AgentSlot, AgentSlots};

/// The owners of a number; clones share their data.
#[derive(Clone, Debug)]
pub(crate) enum Owners {
    /// At most [`MOST_SEARCHED`] owners, searched one by one.
    Few(AgentSlots),
    /// More owners, found by a map.
    Many(Box<Many>),
}

/// Many owners.
#[derive(Clone, Debug)]
pub(crate) struct Many {
    /// In order of assignment. Some are no longer owners, or were assigned again and are listed a second time
    /// further back.
    listed: PersistentVec<AgentSlot>,
    /// The index in `listed` of each owner.
    indexes: PersistentMap<AgentSlot, u32>,
}

impl Default for Owners {
    fn default() -> Self {
        Self::Few(AgentSlots::new())
    }
}

impl Owners {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(slots) => slots.len(),
            Self::Many(many) => many.indexes.len(),
        }
    }

    /// Whether an agent is among them.
    pub(crate) fn contains(&self, agent: AgentSlot) -> bool {
        match self {
            Self::Few(slots) => slots.contains(&agent),
            Self::Many(many) => many.indexes.get(&agent).is_some(),
        }
    }

    /// Begins to fetch what [`Self::contains`] reads, without waiting for it. Of many owners nothing is fetched.
    pub(crate) fn prefetch(&self) {
        if let Self::Few(slots) = self {
            for first in (0..slots.len()).step_by(SLOTS_IN_LINE) {
                prefetch_index(slots, first);
            }
        }
    }

    /// All of them, first assigned first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = AgentSlot> {
        let (few, many) = match self {
            Self::Few(slots) => (slots.as_slice(), None),
            Self::Many(many) => (&[][..], Some(many)),
        };
        let many = many.into_iter().flat_map(|many| {
            let listed = many.listed.iter().copied().zip(0..);
            let owners = listed.filter(|(slot, index)| many.indexes.get(slot) == Some(index));
            owners.map(|(slot, _)| slot)
        });
        few.iter().copied().chain(many)
    }

    /// Adds an agent behind all others, unless it is among them.
    pub(crate) fn add(&mut self, agent: AgentSlot) {
        if self.contains(agent) {
            return;
        }
        match self {
            Self::Few(slots) if slots.len() < MOST_SEARCHED => slots.push(agent),
            Self::Few(slots) => {
                let mut many = Many::of(slots.iter().copied());
                many.push(agent);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => many.push(agent),
        }
    }

    /// Removes an agent, if it is an owner.
    pub(crate) fn remove(&mut self, agent: AgentSlot) {
        match self {
            Self::Few(slots) => slots.retain(|other| *other != agent),
            Self::Many(many) => {
                many.indexes.remove(&agent);
                let left = many.indexes.len();
                // Thin the list: rare enough that its cost per removal is constant.
                if many.listed.len() > 2 * left + MOST_SEARCHED {
                    let slots: Vec<AgentSlot> = self.iter().collect();
                    *self = if left <= MOST_SEARCHED / 2 {
                        Self::Few(slots.into())
                    } else {
                        Self::Many(Box::new(Many::of(slots)))
                    };
                }
            }
        }
    }
}

impl Many {
    /// Owners in this order.
    fn of(slots: impl IntoIterator<Item = AgentSlot>) -> Self {
        let mut many = Self {
            listed: PersistentVec::default(),
            // A fixed seed is safe: slots are counted up, so nobody can choose colliding ones.
            indexes: PersistentMap::with_seed(0),
        };
        for slot in slots {
            many.push(slot);
        }
        many
    }

    /// Adds an agent that is not among them.
    fn push(&mut self, agent: AgentSlot) {
        // There are no more owners than agent slots, and the list is at most twice as long, so the index fits.
        let index = u32::try_from(self.listed.len()).unwrap_or(u32::MAX);
        self.listed.push(agent);
        self.indexes.insert(agent, index);
    }
}

/// How many slots a cache line holds.
const SLOTS_IN_LINE: usize = 64 / size_of::<AgentSlot>();

/// The most owners that are searched one by one: four cache lines, read at once, where a map takes as many one after the
/// other.
const MOST_SEARCHED: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn owners_are_those_of_a_list(steps in prop::collection::vec((prop::bool::weighted(0.6), 0..200_u32), 0..800)) {
            let mut owners = Owners::default();
            let mut list: Vec<AgentSlot> = Vec::new();
            let mut before = Vec::new();
            for (adds, slot) in steps {
                let slot = AgentSlot(slot);
                before.push((owners.clone(), list.clone()));
                if !adds {
                    owners.remove(slot);
                    list.retain(|other| *other != slot);
                } else {
                    owners.add(slot);
                    if !list.contains(&slot) {
                        list.push(slot);
                    }
                }
                prop_assert_eq!(owners.len(), list.len());
                prop_assert_eq!(owners.contains(slot), list.contains(&slot));
                prop_assert!(owners.iter().eq(list.iter().copied()));
            }
            // Clones made earlier keep their owners.
            for (owners, list) in before {
                prop_assert!(owners.iter().eq(list));
            }
        }
    }
}
