//! Which buckets a group has, as the table grows: linear hashing with partial expansions (Larson 1982).
//!
//! A level `l` has `2^l` groups; a hash belongs to the group that its top `l` bits name. Every group
//! has the same number of *columns*, each a bucket, but for the groups below `split`, which have one
//! more already. So the table grows by one bucket at a time, and its groups differ by an eighth in
//! fullness at most. A group of sixteen columns is two groups of eight of the next level; that change
//! moves nothing, because the buckets keep their numbers.
//!
//! Buckets are numbered in the order in which they are added, so that the newest is the last.

use std::ops::RangeInclusive;

/// How far the table has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// There are `2^level` groups.
    level: u32,
    /// The columns of a group, [`FEWEST_COLUMNS`] to twice that, less one.
    columns: u32,
    /// How many groups have a column more.
    split: u64,
}

impl State {
    /// The state that a table of this base level starts in.
    pub(super) const fn first(base: u32) -> Self {
        Self {
            level: base,
            columns: FEWEST_COLUMNS,
            split: 0,
        }
    }

    /// The state in one word.
    pub(super) const fn pack(self) -> u64 {
        (self.level as u64) << 56 | (self.columns as u64) << 48 | self.split
    }

    /// The reverse of [`Self::pack`].
    pub(super) const fn unpack(word: u64) -> Self {
        Self {
            level: (word >> 56) as u32,
            columns: (word >> 48) as u32 & 0xff,
            split: word & ((1 << 48) - 1),
        }
    }

    /// How many buckets there are.
    pub(super) const fn buckets(self) -> u64 {
        ((self.columns as u64) << self.level) + self.split
    }

    /// The state with one bucket more; `None` where the hash has no more bits for it.
    pub(super) const fn grown(self) -> Option<Self> {
        let mut next = self;
        next.split += 1;
        if next.split >> next.level != 0 {
            next.split = 0;
            next.columns += 1;
        }
        if next.columns == 2 * FEWEST_COLUMNS {
            next.columns = FEWEST_COLUMNS;
            next.level += 1;
        }
        if next.level > MOST_LEVEL {
            return None;
        }
        Some(next)
    }

    /// The state with one bucket less; `None` if it is the first of a table of this base level.
    pub(super) const fn shrunk(self, base: u32) -> Option<Self> {
        let mut last = self;
        if last.split == 0 {
            if last.columns == FEWEST_COLUMNS {
                if last.level == base {
                    return None;
                }
                last.level -= 1;
                last.columns = 2 * FEWEST_COLUMNS;
            }
            last.columns -= 1;
            last.split = 1 << last.level;
        }
        last.split -= 1;
        Some(last)
    }

    /// The hashes whose buckets differ between this state and the one that it grows into.
    pub(super) const fn next_to_grow(self) -> RangeInclusive<u64> {
        Group {
            level: self.level,
            number: self.split,
            columns: self.columns,
        }
        .hashes()
    }

    /// The group that a hash belongs to.
    pub(super) const fn group(self, hash: u64) -> Group {
        let number = hash >> (64 - self.level);
        if number >= self.split {
            Group {
                level: self.level,
                number,
                columns: self.columns,
            }
        } else if self.columns + 1 < 2 * FEWEST_COLUMNS {
            Group {
                level: self.level,
                number,
                columns: self.columns + 1,
            }
        } else {
            Group {
                level: self.level + 1,
                number: hash >> (63 - self.level),
                columns: FEWEST_COLUMNS,
            }
        }
    }
}

/// Buckets that share the hashes of a range among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The level by whose rules it is laid out.
    level: u32,
    /// Its number at that level.
    number: u64,
    /// How many columns it has.
    columns: u32,
}

impl Group {
    /// How many columns it has.
    pub(super) const fn columns(self) -> u32 {
        self.columns
    }

    /// The column where the search for a hash starts.
    pub(super) const fn column(self, hash: u64) -> u32 {
        (((hash & u32::MAX as u64) * self.columns as u64) >> 32) as u32
    }

    /// The hashes that belong to it.
    pub(super) const fn hashes(self) -> RangeInclusive<u64> {
        let first = self.number << (64 - self.level);
        first..=first | u64::MAX >> self.level
    }

    /// The number of the bucket in a column, in a table of this base level.
    ///
    /// A column from the ninth on was appended at this level. The first eight of an odd group were appended one
    /// level below, as the ninth to sixteenth of the group that both halves come from. Those of an even group are
    /// older: they are the first eight of that group. A bucket whose origin is not above the base level was there
    /// from the start.
    pub(super) const fn bucket(self, base: u32, column: u32) -> u64 {
        if column >= FEWEST_COLUMNS {
            return (column as u64) << self.level | self.number;
        }
        let above = self.level - base;
        let age = self.number.trailing_zeros();
        if age >= above {
            (column as u64) << base | self.number >> above
        } else {
            let column = (FEWEST_COLUMNS + column) as u64;
            column << (self.level - 1 - age) | self.number >> (age + 1)
        }
    }
}

/// The columns of a group that has just split off; a power of two.
const FEWEST_COLUMNS: u32 = if cfg!(ringback_loom) { 1 } else { 8 };

/// The greatest level: a hash's upper half names the group, its lower half the column.
const MOST_LEVEL: u32 = 31;

#[cfg(test)]
#[cfg(not(ringback_loom))]
mod tests {
    use super::*;

    /// The buckets of all groups of a state.
    fn all_buckets(state: State, base: u32) -> Vec<u64> {
        let mut buckets = Vec::new();
        let mut hash = 0;
        loop {
            let group = state.group(hash);
            assert_eq!(*group.hashes().start(), hash);
            buckets.extend((0..group.columns()).map(|column| group.bucket(base, column)));
            match group.hashes().end().checked_add(1) {
                Some(next) => hash = next,
                None => return buckets,
            }
        }
    }

    #[test]
    fn buckets_are_numbered_without_gaps_in_every_state() {
        for base in 1..5 {
            let mut state = State::first(base);
            for count in (8 << base).. {
                assert_eq!(state.buckets(), count);
                assert_eq!(State::unpack(state.pack()), state);
                let mut buckets = all_buckets(state, base);
                buckets.sort_unstable();
                assert!(buckets.into_iter().eq(0..count), "{state:?}");
                let next = state.grown().unwrap();
                assert_eq!(next.shrunk(base), Some(state));
                state = next;
                if state.level == base + 3 {
                    break;
                }
            }
            assert_eq!(State::first(base).shrunk(base), None);
        }
    }

    #[test]
    fn a_step_touches_one_group_and_one_new_bucket() {
        let base = 2;
        let mut state = State::first(base);
        while state.level < base + 3 {
            let (span, next) = (state.next_to_grow(), state.grown().unwrap());
            for hash in (0..=u64::MAX).step_by(1 << 56) {
                let (before, after) = (state.group(hash), next.group(hash));
                let buckets = |group: Group| -> Vec<u64> {
                    (0..group.columns())
                        .map(|column| group.bucket(base, column))
                        .collect()
                };
                if span.contains(&hash) {
                    let known = buckets(before);
                    assert!(
                        buckets(after)
                            .iter()
                            .all(|bucket| known.contains(bucket) || *bucket == state.buckets())
                    );
                } else {
                    assert_eq!(buckets(before), buckets(after));
                    assert_eq!(before.column(hash), after.column(hash));
                }
            }
            state = next;
        }
    }

    #[test]
    fn a_table_ends_to_grow_where_the_hash_has_no_more_bits() {
        let last = State {
            level: MOST_LEVEL,
            columns: 2 * FEWEST_COLUMNS - 1,
            split: (1 << MOST_LEVEL) - 1,
        };
        assert_eq!(last.grown(), None);
        assert_eq!(last.group(0).level, MOST_LEVEL + 1);
    }
}
