//! Writes before they reach the trees, packed: a list of those of one commit, and a sorted map of those that are
//! not on disk yet.
//!
//! Keys of calls and of call ids start with a hash, so their first bits divide them evenly into shares of a few
//! entries. A share is one piece of memory with its entries one behind the other: finding an entry costs one or
//! two cache misses, an entry needs no allocation, and writing all of them to disk reads memory in order. Keys
//! that all start with the same bits would make a share long; that share becomes an ordinary map.
//!
//! An entry: key length (4), value length or all ones for none (4), key, value.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use lsm_tree::Slice;
use uuid::Uuid;

use crate::key::PartId;

/// A key and its new value; `None` removes the key.
pub(crate) type Entry<'a> = (&'a [u8], Option<&'a [u8]>);

/// An owned [`Entry`].
pub(crate) type Write = (Slice, Option<Slice>);

/// The writes of a commit to each table, in order.
#[derive(Default)]
pub(crate) struct Writes {
    /// To `state`.
    pub(crate) state: Vec<Write>,
    /// To `calls`.
    pub(crate) calls: WriteList,
    /// To `sids`.
    pub(crate) sids: WriteList,
    /// To `decisions`.
    pub(crate) decisions: Vec<Write>,
    /// UUIDs that get the next numbers.
    pub(crate) interned: Vec<Uuid>,
    /// Parts whose files must not keep removed keys.
    pub(crate) erased: Vec<PartId>,
    /// Parts that old calls were dropped from.
    pub(crate) swept: Vec<PartId>,
}

impl Writes {
    /// Removes all writes, but keeps their memory for the next commit.
    pub(crate) fn clear(&mut self) {
        self.state.clear();
        self.calls.clear();
        self.sids.clear();
        self.decisions.clear();
        self.interned.clear();
        self.erased.clear();
        self.swept.clear();
    }
}

/// Writes in the order in which they were made.
#[derive(Default)]
pub(crate) struct WriteList {
    /// The entries.
    bytes: Vec<u8>,
}

impl WriteList {
    /// Adds a write.
    pub(crate) fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.bytes.extend_from_slice(&header((key, value)));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    /// The writes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        Entries(&self.bytes)
    }

    /// Removes all writes, but keeps their memory, up to a limit.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(MOST_KEPT);
    }
}

/// Keys and their values in order; a value of `None` says that the key was removed.
#[derive(Default)]
pub(crate) struct SortedWrites {
    /// The writes by the first bits of their keys; empty until there is one.
    shares: Vec<Share>,
}

impl SortedWrites {
    /// Writes a key; returns by about how many bytes memory grew.
    pub(crate) fn insert(&mut self, key: &[u8], value: Option<&[u8]>) -> usize {
        if self.shares.is_empty() {
            self.shares.resize_with(1 << SHARE_BITS, Share::default);
        }
        let share = self.shares.get_mut(share_of(key));
        share.map_or(0, |share| share.insert((key, value)))
    }

    /// The last write to a key, if any.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<Slice>> {
        match self.shares.get(share_of(key))? {
            Share::Packed(bytes) => {
                let (offset, length) = find(bytes, key);
                let (_, value) = Entries(bytes.get(offset..offset + length)?).next()?;
                Some(value.map(Slice::from))
            }
            Share::Map(map) => map.get(key).cloned(),
        }
    }

    /// The writes from `from` on (inclusive) up to `to` (exclusive), in order.
    pub(crate) fn range<'a>(
        &'a self,
        from: &'a [u8],
        to: Option<&'a [u8]>,
    ) -> impl Iterator<Item = Entry<'a>> {
        let first = share_of(from);
        let last = to.map_or(usize::MAX, share_of);
        self.shares
            .iter()
            .enumerate()
            .skip(first)
            .take_while(move |(index, _)| *index <= last)
            .flat_map(move |(_, share)| share.range(from, to))
    }
}

/// The writes whose keys start with the same bits.
enum Share {
    /// Their entries, in order of their keys.
    Packed(Vec<u8>),
    /// More entries than are packed.
    Map(BTreeMap<Slice, Option<Slice>>),
}

impl Default for Share {
    fn default() -> Self {
        Self::Packed(Vec::new())
    }
}

impl Share {
    /// Writes a key; returns by about how many bytes memory grew.
    fn insert(&mut self, entry: Entry<'_>) -> usize {
        let (key, value) = entry;
        if let Self::Packed(bytes) = self {
            if bytes.len() + length(entry) <= MOST_PACKED {
                return insert_packed(bytes, entry);
            }
            let entries = Entries(bytes).map(|(key, value)| (key.into(), value.map(Slice::from)));
            *self = Self::Map(entries.collect());
        }
        if let Self::Map(map) = self {
            map.insert(key.into(), value.map(Slice::from));
        }
        MAP_ENTRY_BYTES + length(entry)
    }

    /// The writes within these bounds, in order.
    fn range<'a>(
        &'a self,
        from: &'a [u8],
        to: Option<&'a [u8]>,
    ) -> Box<dyn Iterator<Item = Entry<'a>> + 'a> {
        match self {
            Self::Packed(bytes) => Box::new(
                Entries(bytes)
                    .skip_while(move |(key, _)| *key < from)
                    .take_while(move |(key, _)| to.is_none_or(|to| *key < to)),
            ),
            Self::Map(map) => {
                let to = to.map_or(Bound::Unbounded, Bound::Excluded);
                let range = map.range::<[u8], _>((Bound::Included(from), to));
                Box::new(range.map(|(key, value)| (&**key, value.as_deref())))
            }
        }
    }
}

/// Writes a key into entries in order; returns by how many bytes their memory grew.
fn insert_packed(bytes: &mut Vec<u8>, entry: Entry<'_>) -> usize {
    let (key, value) = entry;
    let (offset, replaced) = find(bytes, key);
    let added = length(entry);
    let before = (bytes.len(), bytes.capacity());
    let after = before.0 - replaced + added;
    if after > before.1 {
        // Grow by less than a vector does on its own: there are many shares, and half of their memory would be
        // empty.
        bytes.reserve_exact(after - before.0 + after / 4);
    }
    bytes.resize(before.0.max(after), 0);
    bytes.copy_within(offset + replaced..before.0, offset + added);
    bytes.truncate(after);
    let (head, rest) = bytes[offset..offset + added].split_at_mut(HEADER_LENGTH);
    head.copy_from_slice(&header(entry));
    rest[..key.len()].copy_from_slice(key);
    rest[key.len()..].copy_from_slice(value.unwrap_or_default());
    bytes.capacity() - before.1
}

/// The offset in sorted entries of the one with this key, and its length; where it would start, and 0, if there is
/// none.
fn find(bytes: &[u8], key: &[u8]) -> (usize, usize) {
    let mut offset = 0;
    for entry in Entries(bytes) {
        match entry.0.cmp(key) {
            Ordering::Less => offset += length(entry),
            Ordering::Equal => return (offset, length(entry)),
            Ordering::Greater => break,
        }
    }
    (offset, 0)
}

/// Reads entries.
struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (key_length, rest) = self.0.split_first_chunk::<4>()?;
        let (value_length, rest) = rest.split_first_chunk::<4>()?;
        let value_length = u32::from_le_bytes(*value_length);
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
        if value_length == NO_VALUE {
            self.0 = rest;
            return Some((key, None));
        }
        let (value, rest) = rest.split_at_checked(value_length as usize)?;
        self.0 = rest;
        Some((key, Some(value)))
    }
}

/// The bytes before a key: two lengths. The trees limit both to less than these integers hold.
fn header((key, value): Entry<'_>) -> [u8; HEADER_LENGTH] {
    let mut header = [0; HEADER_LENGTH];
    header[..4].copy_from_slice(&(key.len() as u32).to_le_bytes());
    let value_length = value.map_or(NO_VALUE, |value| value.len() as u32);
    header[4..].copy_from_slice(&value_length.to_le_bytes());
    header
}

/// The length of an entry in bytes.
fn length((key, value): Entry<'_>) -> usize {
    HEADER_LENGTH + key.len() + value.map_or(0, <[u8]>::len)
}

/// The share that a key belongs to; shares are in the order of their keys.
fn share_of(key: &[u8]) -> usize {
    let byte = |index: usize| usize::from(key.get(index).copied().unwrap_or(0));
    (byte(0) << 8 | byte(1)) >> (16 - SHARE_BITS)
}

/// How many leading bits divide keys: at the default size of a generation, a share has about 20 entries.
const SHARE_BITS: u32 = 14;

/// Bytes before the key of an entry.
const HEADER_LENGTH: usize = 8;

/// The length that marks a missing value.
const NO_VALUE: u32 = u32::MAX;

/// The longest share whose entries are packed, in bytes.
const MOST_PACKED: usize = if cfg!(test) { 256 } else { 8 << 10 };

/// About how many bytes an entry of a map takes besides its key and value.
const MAP_ENTRY_BYTES: usize = 88;

/// How much memory a list keeps, in bytes.
const MOST_KEPT: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys of few first bits, so that some shares grow long, and values of any length.
    fn writes() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
        let key = (0..3_u8, prop::collection::vec(0..9_u8, 0..3))
            .prop_map(|(first, rest)| [&[first * 80], rest.as_slice()].concat());
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
        prop::collection::vec((key, value), 0..200)
    }

    proptest! {
        #[test]
        fn writes_are_those_of_one_map(
            writes in writes(),
            from in prop::collection::vec(any::<u8>(), 0..3),
            length in prop::collection::vec(any::<u8>(), 1..3),
        ) {
            let mut map = BTreeMap::new();
            let mut list = WriteList::default();
            for (key, value) in &writes {
                map.insert(key.as_slice(), value.as_deref());
                list.push(key, value.as_deref());
            }
            prop_assert_eq!(list.iter().count(), writes.len());
            let mut sorted = SortedWrites::default();
            for (key, value) in list.iter() {
                sorted.insert(key, value);
            }
            prop_assert!(map.iter().map(|(key, value)| (*key, *value)).eq(sorted.range(&[], None)));
            for (key, value) in &map {
                prop_assert_eq!(sorted.get(key), Some(value.map(Slice::from)));
            }
            prop_assert_eq!(sorted.get(&[200]), None);
            let to = [from.as_slice(), &length].concat();
            for to in [None, Some(to.as_slice())] {
                let bounds = (Bound::Included(from.as_slice()), to.map_or(Bound::Unbounded, Bound::Excluded));
                let range = map.range::<[u8], _>(bounds);
                prop_assert!(range.map(|(key, value)| (*key, *value)).eq(sorted.range(&from, to)));
            }
        }
    }
}
