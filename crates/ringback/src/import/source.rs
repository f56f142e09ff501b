//! The bytes of a file, decompressed by what they start with.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An opened file or pipe.
pub(crate) struct Source {
    /// What it starts with, as stored.
    head: Vec<u8>,
    /// Its length as stored, where it has one.
    length: Option<u64>,
    /// How much has been read of what is stored.
    counter: Arc<AtomicU64>,
    /// What is in it.
    content: Box<dyn BufRead + Send>,
}

impl Source {
    /// Recognizes the compression.
    pub(crate) fn open(mut stored: Box<dyn Read + Send>, length: Option<u64>) -> io::Result<Self> {
        let mut head = Vec::with_capacity(HEAD);
        stored.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
        let counter = Arc::new(AtomicU64::new(0));
        let whole = Counting {
            stored: Cursor::new(head.clone()).chain(stored),
            counter: Arc::clone(&counter),
        };
        let content: Box<dyn BufRead + Send> = if head.starts_with(&GZIP) {
            let decoder = flate2::read::MultiGzDecoder::new(whole);
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        } else if head.starts_with(&ZSTD) {
            let decoder = zstd::stream::read::Decoder::new(whole)?;
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        } else {
            Box::new(BufReader::with_capacity(BUFFER, whole))
        };
        Ok(Self {
            head,
            length,
            counter,
            content,
        })
    }

    /// What it starts with, as stored: up to 64 KiB.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Its length as stored, where it has one.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Counts what has been read of what is stored.
    pub(crate) fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.counter)
    }

    /// What is in it, without a byte order mark.
    pub(crate) fn into_content(mut self) -> io::Result<Box<dyn BufRead + Send>> {
        if self.content.fill_buf()?.starts_with(&BYTE_ORDER_MARK) {
            self.content.consume(BYTE_ORDER_MARK.len());
        }
        Ok(self.content)
    }
}

/// Counts what is read.
struct Counting<R> {
    /// What is counted.
    stored: R,
    /// The count, in bytes.
    counter: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stored.read(buffer)?;
        self.counter.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// How much is read to recognize a file, in bytes.
const HEAD: usize = 64 * 1024;

/// How much is decompressed at once, in bytes.
const BUFFER: usize = 256 * 1024;

/// What gzip starts with (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What zstd starts with (RFC 8878 §3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What some programs put before UTF-8.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
