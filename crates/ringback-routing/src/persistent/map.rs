//! A map: a trie over the bits of the keys' hashes (Bagwell's), 32 ways to a node, empty ways left out.
//!
//! A node stands in its parent; what is on its ways stands elsewhere, in one piece. So a search waits for
//! memory once a level.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::iter::once;
use std::mem;
use std::sync::Arc;

use foldhash::fast::FixedState;

/// A map without order; see [the module](super).
#[derive(Clone, Debug)]
pub(crate) struct PersistentMap<K, V> {
    /// The trie.
    root: Node<K, V>,
    /// How many entries there are.
    length: usize,
    /// Hashes the keys.
    hasher: FixedState,
}

/// A node: where the keys below it part, or keys that share a whole hash.
#[derive(Clone, Debug)]
struct Node<K, V> {
    /// Which ways there are.
    ways: u32,
    /// What is there on each way, in their order; below the last level, entries in no order.
    items: Arc<[Item<K, V>]>,
}

/// What stands on one way.
#[derive(Clone, Debug)]
enum Item<K, V> {
    /// The only entry on it.
    Entry(K, V),
    /// Several.
    Node(Node<K, V>),
}

impl<K, V> Default for Node<K, V> {
    fn default() -> Self {
        Self {
            ways: 0,
            items: Arc::default(),
        }
    }
}

impl<K, V> Default for Item<K, V> {
    /// What is left where an item was taken away; costs no memory.
    fn default() -> Self {
        Self::Node(Node::default())
    }
}

impl<K, V> PersistentMap<K, V> {
    /// An empty map, whose hash nobody can foresee who does not know the seed.
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self {
            root: Node::default(),
            length: 0,
            hasher: FixedState::with_seed(seed),
        }
    }
}

impl<K: Eq + Hash, V> PersistentMap<K, V> {
    /// How many entries there are.
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// The value of this key.
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        let mut node = &self.root;
        for shift in (0..LEAF_SHIFT).step_by(BITS) {
            match node.items.get(node.index_of(way(hash, shift))?)? {
                Item::Entry(other, value) => {
                    return (other.borrow() == key).then_some(value);
                }
                Item::Node(child) => node = child,
            }
        }
        node.items.iter().find_map(|item| item.value_of(key))
    }
}

impl<K: Clone + Eq + Hash, V: Clone> PersistentMap<K, V> {
    /// Enters a value; gives the one that the key had.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hasher = self.hasher.clone();
        let hash = hasher.hash_one(&key);
        let before = self.root.insert(hash, 0, key, value, &hasher);
        self.length += usize::from(before.is_none());
        before
    }

    /// Removes a key; gives its value.
    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        // Nothing is copied for a key that is not there.
        self.get(key)?;
        let hash = self.hasher.hash_one(key);
        let removed = self.root.remove(hash, 0, key);
        self.length -= usize::from(removed.is_some());
        removed
    }
}

impl<K, V> Node<K, V> {
    /// Where what stands on this way is; `None`: nothing stands on it.
    const fn index_of(&self, way: u32) -> Option<usize> {
        let bit = 1 << way;
        if self.ways & bit == 0 {
            return None;
        }
        Some(self.rank(bit))
    }

    /// How many ways there are before this one.
    const fn rank(&self, bit: u32) -> usize {
        (self.ways & (bit - 1)).count_ones() as usize
    }
}

impl<K: Clone, V: Clone> Node<K, V> {
    /// Puts an item before the one with this index.
    fn put(&mut self, index: usize, item: Item<K, V>) {
        let (before, after) = Arc::make_mut(&mut self.items).split_at_mut(index);
        let (before, after) = (before.iter_mut(), after.iter_mut());
        self.items = before
            .map(mem::take)
            .chain(once(item))
            .chain(after.map(mem::take))
            .collect();
    }

    /// Takes the item with this index away.
    fn take(&mut self, index: usize) -> Item<K, V> {
        let (before, after) = Arc::make_mut(&mut self.items).split_at_mut(index);
        let mut after = after.iter_mut().map(mem::take);
        let taken = after.next().unwrap_or_default();
        self.items = before.iter_mut().map(mem::take).chain(after).collect();
        taken
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Node<K, V> {
    /// Enters a value below this node; gives the one that the key had.
    fn insert(
        &mut self,
        hash: u64,
        shift: usize,
        key: K,
        value: V,
        hasher: &FixedState,
    ) -> Option<V> {
        if shift >= LEAF_SHIFT {
            for item in Arc::make_mut(&mut self.items) {
                if let Item::Entry(other, held) = item
                    && *other == key
                {
                    return Some(mem::replace(held, value));
                }
            }
            self.put(self.items.len(), Item::Entry(key, value));
            return None;
        }
        let way = way(hash, shift);
        let Some(index) = self.index_of(way) else {
            let bit = 1 << way;
            self.put(self.rank(bit), Item::Entry(key, value));
            self.ways |= bit;
            return None;
        };
        let item = Arc::make_mut(&mut self.items).get_mut(index)?;
        match item {
            Item::Node(child) => {
                return child.insert(hash, shift + BITS, key, value, hasher);
            }
            Item::Entry(other, held) if *other == key => {
                return Some(mem::replace(held, value));
            }
            Item::Entry(..) => {}
        }
        // Two keys on one way: they part further down.
        let mut child = Self::default();
        if let Item::Entry(other, held) = mem::take(item) {
            let other_hash = hasher.hash_one(&other);
            child.insert(other_hash, shift + BITS, other, held, hasher);
        }
        child.insert(hash, shift + BITS, key, value, hasher);
        *item = Item::Node(child);
        None
    }

    /// Removes a key that stands below this node.
    fn remove<Q>(&mut self, hash: u64, shift: usize, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let (bit, index) = if shift >= LEAF_SHIFT {
            let is_meant = |item: &Item<K, V>| item.value_of(key).is_some();
            (0, self.items.iter().position(is_meant)?)
        } else {
            let way = way(hash, shift);
            (1 << way, self.index_of(way)?)
        };
        if let Item::Node(_) = self.items.get(index)? {
            let item = Arc::make_mut(&mut self.items).get_mut(index)?;
            let Item::Node(child) = item else {
                return None;
            };
            let removed = child.remove(hash, shift + BITS, key)?;
            // An entry left alone needs no node around it.
            if let [Item::Entry(..)] = &*child.items {
                *item = child.take(0);
            }
            return Some(removed);
        }
        self.ways &= !bit;
        match self.take(index) {
            Item::Entry(_, value) => Some(value),
            Item::Node(_) => None,
        }
    }
}

impl<K, V> Item<K, V> {
    /// The value, if it is an entry of this key.
    fn value_of<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        match self {
            Self::Entry(other, value) if other.borrow() == key => Some(value),
            _ => None,
        }
    }
}

/// Which way a hash takes at a level.
const fn way(hash: u64, shift: usize) -> u32 {
    ((hash >> shift) % WIDTH) as u32
}

/// How many bits of a hash a level takes.
const BITS: usize = 5;

/// How many ways there are at a node.
const WIDTH: u64 = 1 << BITS;

/// How many bits of a hash part keys; those that share them stand in one list.
const LEAF_SHIFT: usize = 60;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::hash::Hasher;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u16),
        Remove(u16),
        Copy,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0_u16..400, any::<u16>()).prop_map(|(key, value)| Step::Insert(key, value)),
            4 => (0_u16..400).prop_map(Step::Remove),
            1 => Just(Step::Copy),
        ]
    }

    /// A key of which four share each hash.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Colliding(u16);

    impl Hash for Colliding {
        fn hash<H: Hasher>(&self, state: &mut H) {
            (self.0 / 4).hash(state);
        }
    }

    fn check<K: Clone + Eq + Hash + std::fmt::Debug>(
        steps: Vec<Step>,
        key_of: impl Fn(u16) -> K,
    ) -> Result<(), TestCaseError> {
        let mut map = PersistentMap::with_seed(7);
        let mut model: HashMap<u16, u16> = HashMap::new();
        let mut copies = Vec::new();
        for step in steps {
            match step {
                Step::Insert(key, value) => {
                    prop_assert_eq!(map.insert(key_of(key), value), model.insert(key, value));
                }
                Step::Remove(key) => {
                    prop_assert_eq!(map.remove(&key_of(key)), model.remove(&key));
                }
                Step::Copy => copies.push((map.clone(), model.clone())),
            }
        }
        copies.push((map, model));
        for (map, model) in copies {
            prop_assert_eq!(map.len(), model.len());
            for key in 0..400 {
                prop_assert_eq!(map.get(&key_of(key)), model.get(&key));
            }
            prop_assert!(is_canonical(&map.root, 0));
        }
        Ok(())
    }

    /// Whether every node below the root holds more than one entry, so that removals leave nothing behind.
    fn is_canonical<K, V>(node: &Node<K, V>, depth: usize) -> bool {
        let counted =
            depth * BITS >= LEAF_SHIFT || node.ways.count_ones() as usize == node.items.len();
        let is_needed = depth == 0 || !matches!(&*node.items, [] | [Item::Entry(..)]);
        counted
            && is_needed
            && node.items.iter().all(|item| match item {
                Item::Entry(..) => true,
                Item::Node(child) => is_canonical(child, depth + 1),
            })
    }

    proptest! {
        /// Behaves as a `HashMap`, and copies made earlier keep what they held.
        #[test]
        fn copies_are_independent_maps(steps in vec(step(), 0..1_500)) {
            check(steps, |key| key)?;
        }

        /// The same where hashes are shared.
        #[test]
        fn keys_that_share_a_hash_are_told_apart(steps in vec(step(), 0..600)) {
            check(steps, Colliding)?;
        }
    }
}
