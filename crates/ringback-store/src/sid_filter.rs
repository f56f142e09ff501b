//! Recognizes call ids that were never recorded, without reading the tables.
//!
//! Nearly every reported call is a new one, and a lookup that finds nothing is the most expensive one in the
//! trees: it reads every run. So all call ids are in Bloom filters in memory, about two bytes for each. Until
//! every stored id has been entered, which happens while contacts are loaded, any id may be recorded. Removed ids
//! stay in the filters; once they may be many, the next sweep builds new filters.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;

/// The hash of a call id: a key of the table `sids`, whose bits are as good as random.
pub(crate) type SidHash = [u8; 16];

/// The filter; shared by all threads.
pub(crate) struct SidFilter(RwLock<State>);

/// The current filter, and the next one while it is built.
#[derive(Default)]
struct State {
    /// A filter with every id; `None` until the first one is complete.
    whole: Option<Layers>,
    /// A filter with the ids of the shards visited so far, and of all calls recorded since it was begun.
    begun: Option<Begun>,
}

/// A filter being built.
struct Begun {
    /// The ids entered so far.
    layers: Layers,
    /// Which shards of the calls are still to be visited.
    missing: Vec<bool>,
}

impl SidFilter {
    /// The filter of a store that holds nothing yet.
    pub(crate) fn of_nothing() -> Self {
        Self(RwLock::new(State {
            whole: Some(Layers::new(0)),
            begun: None,
        }))
    }

    /// The filter of a store with about this many ids, which must all be passed to [`Self::visited`].
    pub(crate) fn to_build(ids: usize, shards: usize) -> Self {
        let filter = Self(RwLock::default());
        filter.begin(ids, shards);
        filter
    }

    /// Begins a new filter: about this many ids must be passed to [`Self::visited`].
    fn begin(&self, ids: usize, shards: usize) {
        self.0.write().begun = Some(Begun {
            layers: Layers::new(ids),
            missing: vec![true; shards],
        });
    }

    /// Begins a new filter if many ids may have been removed. Call it before a sweep that visits all shards, and
    /// not while ids are being recorded.
    pub(crate) fn begin_if_stale(&self, shards: usize) {
        let state = self.0.read();
        let Some(whole) = &state.whole else {
            return;
        };
        let entered = whole.entered();
        if entered > 2 * whole.expected.max(SMALLEST_LAYER) {
            drop(state);
            self.begin(entered / 2, shards);
        }
    }

    /// Whether an id may have been recorded; `false` is certain.
    pub(crate) fn may_have(&self, hash: &SidHash) -> bool {
        let state = self.0.read();
        state.whole.as_ref().is_none_or(|whole| whole.has(hash))
    }

    /// Enters ids that are recorded. No new filter may begin until a visit can see them.
    pub(crate) fn enter<'a>(&self, hashes: impl Iterator<Item = &'a SidHash>) {
        let state = self.0.read();
        let begun = state.begun.as_ref().map(|begun| &begun.layers);
        let mut full = false;
        for hash in hashes {
            for layers in state.whole.iter().chain(begun) {
                full |= layers.enter(hash);
            }
        }
        drop(state);
        if full {
            self.grow();
        }
    }

    /// Whether ids must be passed to [`Self::visited`].
    pub(crate) fn is_being_built(&self) -> bool {
        self.0.read().begun.is_some()
    }

    /// Enters the ids of a shard that was visited completely, if a filter is being built.
    pub(crate) fn visited(&self, shard: usize, hashes: &[SidHash]) {
        let state = self.0.read();
        let Some(begun) = &state.begun else {
            return;
        };
        let full = hashes
            .iter()
            .fold(false, |full, hash| full | begun.layers.enter(hash));
        drop(state);
        if full {
            self.grow();
        }
        self.end_shard(shard);
    }

    /// Notes that a shard was visited completely; after the last one the new filter is complete.
    fn end_shard(&self, shard: usize) {
        let mut state = self.0.write();
        let Some(begun) = &mut state.begun else {
            return;
        };
        if let Some(missing) = begun.missing.get_mut(shard) {
            *missing = false;
        }
        if !begun.missing.contains(&true) {
            state.whole = state.begun.take().map(|begun| begun.layers);
        }
    }

    /// Adds a layer where the last one is full.
    fn grow(&self) {
        let mut state = self.0.write();
        let State { whole, begun } = &mut *state;
        let layers = [
            whole.as_mut(),
            begun.as_mut().map(|begun| &mut begun.layers),
        ];
        layers.into_iter().flatten().for_each(Layers::grow);
    }
}

/// Bloom filters that together hold a set of ids, each larger than the one before.
struct Layers {
    /// The filters; only the last one is not full.
    layers: Vec<Layer>,
    /// The number of ids that the first filter was made for.
    expected: usize,
}

impl Layers {
    /// Empty, with room for about this many ids.
    fn new(expected: usize) -> Self {
        Self {
            layers: vec![Layer::new(expected + expected / 4)],
            expected,
        }
    }

    /// The number of ids entered.
    fn entered(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| layer.entered.load(Ordering::Relaxed))
            .sum()
    }

    /// Whether an id may be among them.
    fn has(&self, hash: &SidHash) -> bool {
        self.layers.iter().any(|layer| layer.has(hash))
    }

    /// Enters an id; returns whether another layer is needed.
    fn enter(&self, hash: &SidHash) -> bool {
        self.layers.last().is_none_or(|layer| layer.enter(hash))
    }

    /// Adds a layer, if the last one is full.
    fn grow(&mut self) {
        let capacity = match self.layers.last() {
            Some(layer) if layer.entered.load(Ordering::Relaxed) < layer.capacity => return,
            Some(layer) => layer.capacity.saturating_mul(2).min(LARGEST_LAYER),
            None => 0,
        };
        self.layers.push(Layer::new(capacity));
    }
}

/// A Bloom filter whose probes for one id are all in one cache line.
struct Layer {
    /// The bits.
    blocks: Box<[Block]>,
    /// The number of ids it was made for.
    capacity: usize,
    /// The number of ids entered.
    entered: AtomicUsize,
}

/// A cache line of bits.
#[derive(Default)]
#[repr(align(64))]
struct Block([AtomicU64; 8]);

impl Layer {
    /// Empty, with room for this many ids, or a few more.
    fn new(capacity: usize) -> Self {
        let capacity = capacity.max(SMALLEST_LAYER);
        let mut blocks = Vec::new();
        blocks.resize_with((capacity * BITS_PER_ID).div_ceil(512), Block::default);
        Self {
            blocks: blocks.into_boxed_slice(),
            capacity,
            entered: AtomicUsize::new(0),
        }
    }

    /// Whether an id may have been entered.
    fn has(&self, hash: &SidHash) -> bool {
        let (block, probes) = self.locate(hash);
        block.is_some_and(|block| {
            probes.into_iter().all(|(word, bit)| {
                block
                    .0
                    .get(word)
                    .is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
            })
        })
    }

    /// Enters an id; returns whether the layer is full.
    fn enter(&self, hash: &SidHash) -> bool {
        let (Some(block), probes) = self.locate(hash) else {
            return false;
        };
        let mut is_new = false;
        for (word, bit) in probes {
            if let Some(word) = block.0.get(word)
                && word.load(Ordering::Relaxed) & bit == 0
            {
                word.fetch_or(bit, Ordering::Relaxed);
                is_new = true;
            }
        }
        is_new && self.entered.fetch_add(1, Ordering::Relaxed) + 1 >= self.capacity
    }

    /// The block of an id, and its bits there: word and mask.
    fn locate(&self, hash: &SidHash) -> (Option<&Block>, [(usize, u64); PROBES]) {
        let [block, bits] = [0, 8].map(|offset| {
            let mut half = [0; 8];
            half.copy_from_slice(&hash[offset..offset + 8]);
            u64::from_le_bytes(half)
        });
        let index = (u128::from(block) * self.blocks.len() as u128) >> 64;
        let probes = std::array::from_fn(|probe| {
            let position = bits >> (9 * probe);
            ((position >> 6 & 7) as usize, 1 << (position & 63))
        });
        (self.blocks.get(index as usize), probes)
    }
}

/// Bits for each id: one in about two hundred unknown ids is then looked up in vain.
const BITS_PER_ID: usize = 12;

/// Bits that an id sets.
const PROBES: usize = 6;

/// The smallest capacity, in ids: 1.5 MB; small in tests, so that they fill it.
const SMALLEST_LAYER: usize = if cfg!(test) { 1 << 5 } else { 1 << 20 };

/// The largest capacity of an added layer, in ids: 24 MB, which take milliseconds to clear.
const LARGEST_LAYER: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(index: usize) -> SidHash {
        let mut hasher = siphasher::sip128::SipHasher13::new();
        std::hash::Hasher::write_usize(&mut hasher, index);
        siphasher::sip128::Hasher128::finish128(&hasher).as_bytes()
    }

    #[test]
    fn what_was_entered_is_found_and_little_else() {
        let filter = SidFilter::of_nothing();
        let entered = 10_000;
        for index in 0..entered {
            filter.enter([&hash(index)].into_iter());
        }
        assert!((0..entered).all(|index| filter.may_have(&hash(index))));
        let wrong = (entered..2 * entered)
            .filter(|index| filter.may_have(&hash(*index)))
            .count();
        // Each layer adds its own errors.
        assert!(wrong < entered / 10, "{wrong} of {entered}");
        let layers = filter
            .0
            .read()
            .whole
            .as_ref()
            .map(|whole| whole.layers.len());
        assert!(layers > Some(5), "{layers:?}");
    }

    #[test]
    fn nothing_is_ruled_out_before_every_shard_was_visited() {
        let filter = SidFilter::to_build(2, 3);
        assert!(filter.may_have(&hash(9)));
        filter.visited(0, &[hash(0)]);
        filter.visited(2, &[hash(1), hash(2)]);
        filter.enter([&hash(3)].into_iter());
        assert!(filter.may_have(&hash(9)));
        filter.visited(1, &[]);
        assert!(!filter.may_have(&hash(9)));
        assert!((0..4).all(|index| filter.may_have(&hash(index))));
    }

    #[test]
    fn filter_built_anew_drops_what_was_removed() {
        let filter = SidFilter::of_nothing();
        filter.enter([&hash(0)].into_iter());
        filter.begin_if_stale(1);
        assert!(filter.0.read().begun.is_none(), "little was entered");
        filter.begin(1, 1);
        filter.enter([&hash(1)].into_iter());
        assert!(filter.may_have(&hash(0)));
        filter.visited(0, &[hash(2)]);
        assert!(!filter.may_have(&hash(0)));
        assert!(filter.may_have(&hash(1)) && filter.may_have(&hash(2)));
    }
}
