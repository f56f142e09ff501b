//! A map: a hash array mapped trie (Bagwell), with up to 32 branches to a node; absent branches take no room.
//!
//! A node is stored inside its parent, and its items in one array. So a search waits for memory once a level.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::iter::{from_fn, once};
use std::mem;
use std::sync::Arc;

use foldhash::fast::FixedState;
use prefetch_index::prefetch_index;

/// An unordered map; see [the module](super).
#[derive(Clone, Debug)]
pub(crate) struct PersistentMap<K, V> {
    /// The trie.
    root: Node<K, V>,
    /// How many entries there are.
    length: usize,
    /// Hashes the keys.
    hasher: FixedState,
}

/// A node: keys whose hashes differ from this level on, or keys that share a whole hash.
#[derive(Clone, Debug)]
struct Node<K, V> {
    /// Bit n is set if branch n exists.
    branches: u32,
    /// The items, in the order of their branches; below the last level, entries in no order.
    items: Arc<[Item<K, V>]>,
}

/// The item on one branch.
#[derive(Clone, Debug)]
enum Item<K, V> {
    /// The only entry on the branch.
    Entry(K, V),
    /// Several entries.
    Node(Node<K, V>),
}

impl<K, V> Default for Node<K, V> {
    fn default() -> Self {
        Self {
            branches: 0,
            items: Arc::default(),
        }
    }
}

impl<K, V> Default for Item<K, V> {
    /// A placeholder for an item that was moved out; costs no memory.
    fn default() -> Self {
        Self::Node(Node::default())
    }
}

impl<K, V> PersistentMap<K, V> {
    /// An empty map. Nobody can foresee the hashes without knowing the seed.
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self {
            root: Node::default(),
            length: 0,
            hasher: FixedState::with_seed(seed),
        }
    }
}

impl<K, V> PersistentMap<K, V> {
    /// The entries, in the order of their hashes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut open = vec![self.root.items.iter()];
        from_fn(move || {
            loop {
                match open.last_mut()?.next() {
                    Some(Item::Entry(key, value)) => return Some((key, value)),
                    Some(Item::Node(child)) => open.push(child.items.iter()),
                    None => drop(open.pop()),
                }
            }
        })
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
            match node.items.get(node.index_of(branch(hash, shift))?)? {
                Item::Entry(other, value) => {
                    return (other.borrow() == key).then_some(value);
                }
                Item::Node(child) => node = child,
            }
        }
        node.items.iter().find_map(|item| item.value_of(key))
    }

    /// Begins to fetch the item that [`Self::get`] of this key will read last, without waiting for it. The nodes
    /// above it are read: there are few of them, so they are in the cache.
    pub(crate) fn prefetch(&self, key: &K) {
        let hash = self.hasher.hash_one(key);
        let mut node = &self.root;
        for level in 0..LEAF_SHIFT / BITS {
            let Some(index) = node.index_of(branch(hash, level * BITS)) else {
                return;
            };
            // A node with this many levels above it holds mostly entries.
            if level >= self.length.max(2).ilog2().saturating_sub(1) as usize / BITS {
                return prefetch_index(&node.items, index);
            }
            match node.items.get(index) {
                Some(Item::Node(child)) => node = child,
                _ => return,
            }
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> PersistentMap<K, V> {
    /// Inserts a value; returns the one that the key had.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hasher = self.hasher.clone();
        let hash = hasher.hash_one(&key);
        let before = self.root.insert(hash, 0, key, value, &hasher);
        self.length += usize::from(before.is_none());
        before
    }

    /// Removes a key; returns its value.
    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        // Check first: removing would copy shared nodes even for a missing key.
        self.get(key)?;
        let hash = self.hasher.hash_one(key);
        let removed = self.root.remove(hash, 0, key);
        self.length -= usize::from(removed.is_some());
        removed
    }
}

impl<K, V> Node<K, V> {
    /// The index of the item on this branch; `None` if the branch is absent.
    const fn index_of(&self, branch: u32) -> Option<usize> {
        let bit = 1 << branch;
        if self.branches & bit == 0 {
            return None;
        }
        Some(self.rank(bit))
    }

    /// The number of branches before this one.
    const fn rank(&self, bit: u32) -> usize {
        (self.branches & (bit - 1)).count_ones() as usize
    }
}

impl<K: Clone, V: Clone> Node<K, V> {
    /// Inserts an item at this index.
    fn put(&mut self, index: usize, item: Item<K, V>) {
        let (before, after) = Arc::make_mut(&mut self.items).split_at_mut(index);
        let (before, after) = (before.iter_mut(), after.iter_mut());
        self.items = before
            .map(mem::take)
            .chain(once(item))
            .chain(after.map(mem::take))
            .collect();
    }

    /// Removes the item at this index.
    fn take(&mut self, index: usize) -> Item<K, V> {
        let (before, after) = Arc::make_mut(&mut self.items).split_at_mut(index);
        let mut after = after.iter_mut().map(mem::take);
        let taken = after.next().unwrap_or_default();
        self.items = before.iter_mut().map(mem::take).chain(after).collect();
        taken
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Node<K, V> {
    /// Inserts a value below this node; returns the one that the key had.
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
        let branch = branch(hash, shift);
        let Some(index) = self.index_of(branch) else {
            let bit = 1 << branch;
            self.put(self.rank(bit), Item::Entry(key, value));
            self.branches |= bit;
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
        // Two keys on one branch: move both to a new child, whose deeper levels part them.
        let mut child = Self::default();
        if let Item::Entry(other, held) = mem::take(item) {
            let other_hash = hasher.hash_one(&other);
            child.insert(other_hash, shift + BITS, other, held, hasher);
        }
        child.insert(hash, shift + BITS, key, value, hasher);
        *item = Item::Node(child);
        None
    }

    /// Removes a key below this node, which must hold it.
    fn remove<Q>(&mut self, hash: u64, shift: usize, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let (bit, index) = if shift >= LEAF_SHIFT {
            let is_meant = |item: &Item<K, V>| item.value_of(key).is_some();
            (0, self.items.iter().position(is_meant)?)
        } else {
            let branch = branch(hash, shift);
            (1 << branch, self.index_of(branch)?)
        };
        if let Item::Node(_) = self.items.get(index)? {
            let item = Arc::make_mut(&mut self.items).get_mut(index)?;
            let Item::Node(child) = item else {
                return None;
            };
            let removed = child.remove(hash, shift + BITS, key)?;
            // Pull a lone entry up, so that its node goes away.
            if let [Item::Entry(..)] = &*child.items {
                *item = child.take(0);
            }
            return Some(removed);
        }
        self.branches &= !bit;
        match self.take(index) {
            Item::Entry(_, value) => Some(value),
            Item::Node(_) => None,
        }
    }
}

impl<K, V> Item<K, V> {
    /// The value, if this is an entry with this key.
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

/// The branch of a hash at a level.
const fn branch(hash: u64, shift: usize) -> u32 {
    ((hash >> shift) % WIDTH) as u32
}

/// The bits of a hash that one level uses.
const BITS: usize = 5;

/// The number of branches of a node.
const WIDTH: u64 = 1 << BITS;

/// The bits of a hash that part keys; keys that share all of them are kept in one list.
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
                map.prefetch(&key_of(key));
                prop_assert_eq!(map.get(&key_of(key)), model.get(&key));
            }
            prop_assert!(is_canonical(&map.root, 0));
            prop_assert_eq!(map.iter().count(), model.len());
            for (key, value) in map.iter() {
                prop_assert_eq!(map.get(key), Some(value));
            }
        }
        Ok(())
    }

    /// Whether every node below the root holds more than one entry, so that removals leave no empty nodes.
    fn is_canonical<K, V>(node: &Node<K, V>, depth: usize) -> bool {
        let counted =
            depth * BITS >= LEAF_SHIFT || node.branches.count_ones() as usize == node.items.len();
        let is_needed = depth == 0 || !matches!(&*node.items, [] | [Item::Entry(..)]);
        counted
            && is_needed
            && node.items.iter().all(|item| match item {
                Item::Entry(..) => true,
                Item::Node(child) => is_canonical(child, depth + 1),
            })
    }

    proptest! {
        /// Behaves as a `HashMap`, and clones made earlier keep their entries.
        #[test]
        fn copies_are_independent_maps(steps in vec(step(), 0..1_500)) {
            check(steps, |key| key)?;
        }

        /// Behaves the same where keys share hashes.
        #[test]
        fn keys_that_share_a_hash_are_told_apart(steps in vec(step(), 0..600)) {
            check(steps, Colliding)?;
        }
    }
}
