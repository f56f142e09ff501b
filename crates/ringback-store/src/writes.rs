//! Writes in memory, sorted by key.
//!
//! Keys of calls and of call ids start with a hash, so their first bits divide them evenly: each
//! share is a map of a few entries, which costs one or two cache misses where a single large map would cost
//! one for each of its levels. Keys that all start alike share one map, which is then an ordinary one.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;

use lsm_tree::Slice;

/// Keys and their values in order, or none where the key is gone.
#[derive(Default)]
pub(crate) struct SortedWrites {
    /// The writes by the first bits of their keys; empty until there is one.
    shares: Vec<Share>,
}

/// The writes whose keys start with the same bits.
type Share = BTreeMap<Slice, Option<Slice>>;

impl SortedWrites {
    /// Writes a key.
    pub(crate) fn insert(&mut self, key: Slice, value: Option<Slice>) {
        if self.shares.is_empty() {
            self.shares.resize_with(1 << SHARE_BITS, Share::new);
        }
        if let Some(share) = self.shares.get_mut(share_of(&key)) {
            share.insert(key, value);
        }
    }

    /// What was written to a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Option<Slice>> {
        self.shares.get(share_of(key))?.get(key)
    }

    /// All writes in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Slice, &Option<Slice>)> {
        self.shares.iter().flatten()
    }

    /// The writes from `from` on (inclusive) up to `to` (exclusive), in order.
    pub(crate) fn range<'a>(
        &'a self,
        from: &'a [u8],
        to: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Slice, &'a Option<Slice>)> {
        let bounds = (
            Bound::Included(from),
            to.map_or(Bound::Unbounded, Bound::Excluded),
        );
        let first = share_of(from);
        let last = to.map_or(usize::MAX, share_of);
        let shares = self.shares.iter().enumerate().skip(first);
        shares
            .take_while(move |(index, _)| *index <= last)
            .flat_map(
                move |(_, share)| -> btree_map::Range<'_, Slice, Option<Slice>> {
                    share.range::<[u8], _>(bounds)
                },
            )
    }
}

/// The share that a key belongs to; shares are in the order of their keys.
fn share_of(key: &[u8]) -> usize {
    let byte = |index: usize| usize::from(key.get(index).copied().unwrap_or(0));
    (byte(0) << 8 | byte(1)) >> (16 - SHARE_BITS)
}

/// How many leading bits divide keys: at the default size of a generation, a share has about seven.
const SHARE_BITS: u32 = 14;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn writes_are_those_of_one_map(
            writes in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..4), any::<bool>()), 0..200),
            from in prop::collection::vec(any::<u8>(), 0..3),
            length in prop::collection::vec(any::<u8>(), 1..3),
        ) {
            let mut map = BTreeMap::new();
            let mut sorted = SortedWrites::default();
            for (key, is_there) in &writes {
                let value = is_there.then(|| Slice::from(key.as_slice()));
                map.insert(Slice::from(key.as_slice()), value.clone());
                sorted.insert(key.as_slice().into(), value);
            }
            prop_assert!(map.iter().eq(sorted.iter()));
            for key in map.keys() {
                prop_assert_eq!(map.get(key), sorted.get(key));
            }
            prop_assert_eq!(sorted.get(&[]), None);
            let to = [from.as_slice(), &length].concat();
            for to in [None, Some(to.as_slice())] {
                let bounds = (Bound::Included(from.as_slice()), to.map_or(Bound::Unbounded, Bound::Excluded));
                prop_assert!(map.range::<[u8], _>(bounds).eq(sorted.range(&from, to)));
            }
        }
    }
}
