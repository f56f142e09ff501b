//! The table's memory: buckets in large chunks that the system zeroes when they are first touched, and
//! takes back when they are dropped.

use std::sync::Arc;

use crate::sync::{ArcSwap, AtomicU64, Guard, yield_now, zeros};

/// A key (0 where the cell is empty) and its value.
pub(super) type Cell = [AtomicU64; 2];

/// Two cache lines of cells.
pub(super) type Bucket = [Cell; CELLS];

/// How many cells a bucket has: eight are two cache lines; two keep the model small.
pub(super) const CELLS: usize = if cfg!(ringback_loom) { 2 } else { 8 };

/// All chunks; they are added and removed only at the end.
pub(super) struct Chunks {
    /// The chunks as a reader loads them; they stay allocated while it reads.
    directory: ArcSwap<Directory>,
    /// The binary logarithm of a chunk's buckets.
    bits: u32,
}

impl Chunks {
    /// None as yet, of `2^bits` buckets each.
    pub(super) fn new(bits: u32) -> Self {
        let directory = Directory {
            chunks: Vec::new(),
            bits,
        };
        Self {
            directory: ArcSwap::from_pointee(directory),
            bits,
        }
    }

    /// The chunks.
    pub(super) fn load(&self) -> Guard<Arc<Directory>> {
        self.directory.load()
    }

    /// The binary logarithm of a chunk's buckets.
    #[cfg(test)]
    #[cfg(not(ringback_loom))]
    pub(super) const fn bits(&self) -> u32 {
        self.bits
    }

    /// Makes room for this many buckets; new ones are empty. Returns whether the system had memory for them. One
    /// caller at a time.
    pub(super) fn extend(&self, buckets: u64) -> bool {
        let current = self.directory.load_full();
        let needed = buckets.div_ceil(1 << self.bits);
        if current.chunks.len() as u64 >= needed {
            return true;
        }
        let mut chunks = current.chunks.clone();
        while (chunks.len() as u64) < needed {
            let Some(chunk) = Chunk::new(1 << self.bits) else {
                return false;
            };
            chunks.push(Arc::new(chunk));
        }
        let bits = self.bits;
        self.directory.store(Arc::new(Directory { chunks, bits }));
        true
    }

    /// Frees the chunks beyond this many buckets, which must not be in use. One caller at a time.
    ///
    /// Waits for readers that may still read there, which takes nanoseconds. Otherwise the last reader would have
    /// to free the memory, which takes long.
    pub(super) fn truncate(&self, buckets: u64) {
        let current = self.directory.load_full();
        let needed = buckets.div_ceil(1 << self.bits) as usize;
        let Some(chunks) = current.chunks.get(..needed) else {
            return;
        };
        if chunks.len() == current.chunks.len() {
            return;
        }
        let (chunks, bits) = (chunks.to_vec(), self.bits);
        drop(current);
        let last = self.directory.swap(Arc::new(Directory { chunks, bits }));
        while Arc::strong_count(&last) > 1 {
            yield_now();
        }
    }
}

/// Chunks, in order.
pub(super) struct Directory {
    /// The chunks.
    chunks: Vec<Arc<Chunk>>,
    /// The binary logarithm of a chunk's buckets.
    bits: u32,
}

impl Directory {
    /// A bucket; `None` if it is beyond the end.
    #[inline]
    pub(super) fn bucket(&self, number: u64) -> Option<&Bucket> {
        let chunk = self.chunks.get((number >> self.bits) as usize)?;
        let offset = number & ((1 << self.bits) - 1);
        let start = chunk.start + offset as usize * WORDS;
        let words = chunk.words.get(start..)?.first_chunk::<WORDS>()?;
        words.as_chunks().0.first_chunk()
    }

    /// How many chunks there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }
}

/// Many buckets in one piece of memory.
struct Chunk {
    /// The buckets, and room to align the first one to their size.
    words: Box<[AtomicU64]>,
    /// Index in `words` of the first bucket.
    start: usize,
}

impl Chunk {
    /// Empty buckets; `None` if there is no memory.
    fn new(buckets: usize) -> Option<Self> {
        let words = zeros((buckets + 1) * WORDS)?;
        let start = words.as_ptr().align_offset(WORDS * 8).min(WORDS);
        Some(Self { words, start })
    }
}

/// The words of a bucket.
const WORDS: usize = 2 * CELLS;
