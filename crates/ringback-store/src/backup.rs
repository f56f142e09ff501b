//! A backup: one state of the store as a stream of bytes, and reading it back.
//!
//! The stream is the line `ringback-backup 1`, then one zstd frame with a checksum, then the XXH3-128 of all bytes before
//! (16). In the frame there are blocks: kind (1) ‖ length of the body (4) ‖ CRC-32C of kind, length and body (4) ‖ body.
//! All integers are little-endian.
//!
//! | kind | body |
//! | --- | --- |
//! | 1 | JSON: see [`Header`]; always the first |
//! | 2, 3, 4 | records of `state`, `decisions` and `calls`: key length (2) ‖ value length (4) ‖ key ‖ value, in the layout of the store's format |
//! | 5 | records of each kind (3 × 8); always the last |
//!
//! A stream without its end is not whole, whatever its length. Call ids are not in it twice: their table
//! follows from the calls. Calls of deleted agents, which nobody sees any more, are left out, and so is what is about
//! files alone.

use std::io::{self, BufRead, BufReader, Read, Write};

use ringback_engine::{BackupError, JournalError};
use ringback_routing::{Agent, Timestamp};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::format::FORMAT;
use crate::key;
use crate::stored::directory;
use crate::tables::Tables;

/// The first line.
const TITLE: &[u8] = b"ringback-backup ";

/// The version of the stream that is written, and the newest that is read.
const VERSION: u32 = 1;

/// Kinds of blocks.
const HEADER: u8 = 1;
const STATE: u8 = 2;
const DECISIONS: u8 = 3;
const CALLS: u8 = 4;
const END: u8 = 5;

/// Bytes of a block before its body.
const BLOCK_HEADER_LENGTH: usize = 9;

/// Bytes of a record before its key.
const RECORD_HEADER_LENGTH: usize = 6;

/// About how long the body of a block becomes.
const BLOCK_BYTES: usize = 64 << 10;

/// The longest body that is read: a record in it may be as long as an entry of the log.
const LONGEST_BLOCK: usize = 256 << 20;

/// How hard zstd tries.
const LEVEL: i32 = 3;

/// The first block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The format of the store whose records follow.
    pub(crate) format: u32,
    /// The last entry of its log that they contain.
    pub(crate) sequence: u64,
    /// When the backup began, in milliseconds since 1970.
    taken_at: i64,
    /// The version of the program that wrote it.
    program: String,
    /// Keys the hash of call ids, in hexadecimal.
    sid_secret: String,
    /// About how many calls follow.
    about_calls: u64,
}

impl Header {
    /// The key of the hash of call ids.
    pub(crate) fn sid_secret(&self) -> Option<[u8; 16]> {
        key::read_hex(&self.sid_secret)
    }
}

/// How far a backup has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupProgress {
    /// When the backup began, in milliseconds since 1970.
    pub taken_at: Timestamp,
    /// The last entry of the log that it contains.
    pub sequence: u64,
    /// Outbound calls so far.
    pub calls: u64,
    /// About how many calls there are in all.
    pub about_calls: u64,
    /// Other records so far.
    pub others: u64,
}

/// Why a backup cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadBackupError {
    /// It is something else.
    #[error("this is no backup of Ringback")]
    NoBackup,
    /// A newer version wrote it: use that version.
    #[error(
        "the backup is of version {found}, this program reads version {VERSION}: use a newer version"
    )]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It holds the data of a newer version: use that version.
    #[error(
        "the backup has data of format {found}, this program supports format {FORMAT}: use a newer version"
    )]
    NewerFormat {
        /// The format of its data.
        found: u32,
    },
    /// It ends before its end mark: it was cut off, or the server broke off.
    #[error("the backup is cut off")]
    CutOff,
    /// It is not as it was written.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// It cannot be read.
    #[error("the backup cannot be read")]
    Unreadable(#[source] io::Error),
}

impl ReadBackupError {
    /// Whether a newer version of the program could read it.
    #[must_use]
    pub const fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::NewerFormat { .. })
    }
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    /// To be kept. What is made from it is no node of a cluster: two nodes would have one place.
    Backup,
    /// For another node, which goes on at the place of this one.
    Snapshot,
}

/// Writes a copy of the state now.
pub(crate) fn write(
    tables: &Tables,
    at: Timestamp,
    to: &mut dyn Write,
    copy: Copy,
) -> Result<(), BackupError> {
    let snapshot = tables.snapshot()?;
    let mut to = Hashed::new(to);
    writeln!(to, "ringback-backup {VERSION}").map_err(BackupError::Write)?;
    let mut encoder = zstd::Encoder::new(to, LEVEL).map_err(BackupError::Write)?;
    encoder.include_checksum(true).map_err(BackupError::Write)?;
    let header = Header {
        format: FORMAT,
        sequence: snapshot.sequence,
        taken_at: at.millis(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        sid_secret: key::hex(&tables.sid_secret),
        about_calls: snapshot.about_calls,
    };
    let mut blocks = BlockWriter {
        to: encoder,
        block: Vec::with_capacity(BLOCK_BYTES * 2),
    };
    let header = serde_json::to_vec(&header).map_err(|error| BackupError::Write(error.into()))?;
    blocks.begin(HEADER);
    blocks.block.extend_from_slice(&header);
    blocks.finish()?;
    let mut counts = [0_u64; 3];
    // Whether the agent with each number exists.
    let mut exists = Vec::new();
    blocks.begin(STATE);
    for item in snapshot.state {
        let (item_key, value) = item.map_err(|error| tables.state.located(error))?;
        match item_key.first().copied().unwrap_or_default() {
            0 | key::ERASED | key::PURGED | key::SWEPT => continue,
            key::PLACE if copy == Copy::Backup => continue,
            key::AGENT => {
                let agent = value.get(12..).and_then(directory::read::<Agent>);
                let agent = agent.ok_or_else(|| tables.state.damaged())?;
                let number = tables.interner.read().number(agent.id.0);
                if let Some(number) = number.map(|number| number as usize) {
                    if exists.len() <= number {
                        exists.resize(number + 1, false);
                    }
                    exists[number] = true;
                }
            }
            _ => {}
        }
        counts[0] += 1;
        blocks.record(STATE, &item_key, &value)?;
    }
    blocks.finish()?;
    blocks.begin(DECISIONS);
    for item in snapshot.decisions {
        let (item_key, value) = item.map_err(|error| tables.decisions.located(error))?;
        if *item_key != key::APPLIED {
            counts[1] += 1;
            blocks.record(DECISIONS, &item_key, &value)?;
        }
    }
    blocks.finish()?;
    blocks.begin(CALLS);
    for item in snapshot.calls {
        let (item_key, value) = item.map_err(|error| tables.calls.located(error))?;
        if *item_key == key::APPLIED {
            continue;
        }
        let agent = key::call_agent(&value).ok_or_else(|| tables.calls.damaged())?;
        if exists.get(agent as usize) == Some(&true) {
            counts[2] += 1;
            blocks.record(CALLS, &item_key, &value)?;
        }
    }
    blocks.finish()?;
    blocks.begin(END);
    for count in counts {
        blocks.block.extend_from_slice(&count.to_le_bytes());
    }
    blocks.finish()?;
    let mut to = blocks.to.finish().map_err(BackupError::Write)?;
    let digest = to.hasher.digest128();
    to.write_all(&digest.to_le_bytes())
        .and_then(|()| to.flush())
        .map_err(BackupError::Write)
}

/// Writes blocks.
struct BlockWriter<W> {
    /// The frame.
    to: W,
    /// The block in the making.
    block: Vec<u8>,
}

impl<W: Write> BlockWriter<W> {
    /// Begins a block.
    fn begin(&mut self, kind: u8) {
        self.block.clear();
        self.block.resize(BLOCK_HEADER_LENGTH, 0);
        self.block[0] = kind;
    }

    /// Adds a record to a block; a full one is written, and another one of the kind begun.
    fn record(&mut self, kind: u8, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        let too_long = |_| BackupError::Write(io::Error::other("a record is too long"));
        let key_length = u16::try_from(key.len()).map_err(too_long)?;
        let value_length = u32::try_from(value.len()).map_err(too_long)?;
        self.block.extend_from_slice(&key_length.to_le_bytes());
        self.block.extend_from_slice(&value_length.to_le_bytes());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        if self.block.len() >= BLOCK_BYTES {
            self.finish()?;
            self.begin(kind);
        }
        Ok(())
    }

    /// Writes the block, unless nothing is in it.
    fn finish(&mut self) -> Result<(), BackupError> {
        let length = self.block.len() - BLOCK_HEADER_LENGTH;
        if length == 0 {
            return Ok(());
        }
        let stated = u32::try_from(length)
            .map_err(|_| BackupError::Write(io::Error::other("a record is too long")))?;
        self.block[1..5].copy_from_slice(&stated.to_le_bytes());
        let checksum = checksum(&self.block[..5], &self.block[BLOCK_HEADER_LENGTH..]);
        self.block[5..BLOCK_HEADER_LENGTH].copy_from_slice(&checksum.to_le_bytes());
        self.to.write_all(&self.block).map_err(BackupError::Write)
    }
}

/// The checksum of a block.
fn checksum(start: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(start), body)
}

/// What a backup is read from.
type Source<'a> = BufReader<Box<dyn Read + 'a>>;

/// Hashes what is written to it, or read from it.
struct Hashed<T> {
    /// Where bytes go to, or come from.
    inner: T,
    /// The hash so far.
    hasher: Xxh3,
}

impl<T> Hashed<T> {
    /// Hashes from here on.
    fn new(inner: T) -> Self {
        Self {
            inner,
            hasher: Xxh3::new(),
        }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Read for Hashed<Source<'_>> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(to)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Hashed<Source<'_>> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        let read = self.inner.buffer().get(..amount);
        self.hasher.update(read.unwrap_or_default());
        self.inner.consume(amount);
    }
}

/// A table of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackupTable {
    /// `state`.
    State,
    /// `decisions`.
    Decisions,
    /// `calls`.
    Calls,
}

/// Reads a backup. Every block is checked before any of it is given out.
pub struct BackupReader<'a> {
    /// The frame.
    from: zstd::Decoder<'a, Hashed<Source<'a>>>,
    /// The first block.
    header: Header,
    /// The body of the block read last.
    body: Vec<u8>,
    /// Records of each kind so far.
    counts: [u64; 3],
}

impl std::fmt::Debug for BackupReader<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BackupReader")
            .finish_non_exhaustive()
    }
}

impl<'a> BackupReader<'a> {
    /// Reads the beginning of a backup.
    ///
    /// # Errors
    /// It is no backup, or not one that this version reads.
    pub fn open(from: impl Read + 'a) -> Result<Self, ReadBackupError> {
        let from: Box<dyn Read + 'a> = Box::new(from);
        let mut from = Hashed::new(BufReader::with_capacity(BLOCK_BYTES, from));
        read_title(&mut from)?;
        let from = zstd::Decoder::with_buffer(from).map_err(failure)?;
        let mut reader = Self {
            from: from.single_frame(),
            header: Header {
                format: 0,
                sequence: 0,
                taken_at: 0,
                program: String::new(),
                sid_secret: String::new(),
                about_calls: 0,
            },
            body: Vec::new(),
            counts: [0; 3],
        };
        let kind = reader.block()?;
        let header = serde_json::from_slice(&reader.body).ok();
        reader.header = header
            .filter(|_| kind == HEADER)
            .ok_or_else(|| ReadBackupError::Damaged("its header is not readable".to_owned()))?;
        let found = reader.header.format;
        if found > FORMAT {
            return Err(ReadBackupError::NewerFormat { found });
        }
        Ok(reader)
    }

    /// The first block.
    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// How far it has been read.
    #[must_use]
    pub fn progress(&self) -> BackupProgress {
        let [state, decisions, calls] = self.counts;
        BackupProgress {
            taken_at: Timestamp::from_millis(self.header.taken_at),
            sequence: self.header.sequence,
            calls,
            about_calls: self.header.about_calls,
            others: state + decisions,
        }
    }

    /// Reads the rest, and says whether it is whole. `seen` is called after each block.
    ///
    /// # Errors
    /// The backup is cut off or damaged, or cannot be read.
    pub fn check(
        mut self,
        mut seen: impl FnMut(&BackupProgress),
    ) -> Result<BackupProgress, ReadBackupError> {
        while self.read_block(|_, _, _| Ok(()))? {
            seen(&self.progress());
        }
        Ok(self.progress())
    }

    /// Shows the records of the next block; false at the end of a backup that is whole.
    pub(crate) fn read_block<E: From<ReadBackupError>>(
        &mut self,
        mut visitor: impl FnMut(BackupTable, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let kind = self.block()?;
        let (table, index) = match kind {
            STATE => (BackupTable::State, 0),
            DECISIONS => (BackupTable::Decisions, 1),
            CALLS => (BackupTable::Calls, 2),
            END => {
                self.end()?;
                return Ok(false);
            }
            other => {
                let what = format!("a block is of the unknown kind {other}");
                return Err(ReadBackupError::Damaged(what).into());
            }
        };
        let mut bytes = self.body.as_slice();
        while !bytes.is_empty() {
            let Some((key, value, rest)) = read_record(bytes) else {
                let what = "a record is not readable".to_owned();
                return Err(ReadBackupError::Damaged(what).into());
            };
            visitor(table, key, value)?;
            self.counts[index] += 1;
            bytes = rest;
        }
        Ok(true)
    }

    /// Checks the last block, and that nothing follows.
    fn end(&mut self) -> Result<(), ReadBackupError> {
        let mut expected = Vec::new();
        for count in self.counts {
            expected.extend_from_slice(&count.to_le_bytes());
        }
        let differs = |what: &str| ReadBackupError::Damaged(what.to_owned());
        if self.body != expected {
            return Err(differs("its content is not what its end mark says"));
        }
        let mut byte = [0];
        if self.from.read(&mut byte).map_err(failure)? > 0 {
            return Err(differs("something follows the end mark"));
        }
        let from = self.from.get_mut();
        let digest = from.hasher.digest128();
        let mut stated = [0; 16];
        from.read_exact(&mut stated).map_err(failure)?;
        if stated != digest.to_le_bytes() {
            return Err(differs("its checksum is wrong"));
        }
        if from.read(&mut byte).map_err(failure)? > 0 {
            return Err(differs("something follows its end"));
        }
        Ok(())
    }

    /// Reads the next block into `body`, and returns its kind.
    fn block(&mut self) -> Result<u8, ReadBackupError> {
        let mut start = [0; BLOCK_HEADER_LENGTH];
        self.from.read_exact(&mut start).map_err(failure)?;
        let [kind, a, b, c, d, ..] = start;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > LONGEST_BLOCK {
            return Err(ReadBackupError::Damaged("a block is too long".to_owned()));
        }
        self.body.clear();
        // Memory grows with what is there, not with what is claimed.
        let read = self
            .from
            .by_ref()
            .take(length as u64)
            .read_to_end(&mut self.body)
            .map_err(failure)?;
        if read < length {
            return Err(ReadBackupError::CutOff);
        }
        let stated = &start[5..];
        if checksum(&start[..5], &self.body).to_le_bytes() != *stated {
            return Err(ReadBackupError::Damaged("a checksum is wrong".to_owned()));
        }
        Ok(kind)
    }
}

/// Reads the first line.
fn read_title(from: &mut impl BufRead) -> Result<(), ReadBackupError> {
    let mut line = Vec::new();
    from.take(LONGEST_TITLE)
        .read_until(b'\n', &mut line)
        .map_err(failure)?;
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let version = line.strip_prefix(TITLE);
    let version = version.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match version {
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION => Err(ReadBackupError::Newer { found }),
        // The beginning of the line may be all that there is.
        None if !line.is_empty() && TITLE.starts_with(line) => Err(ReadBackupError::CutOff),
        _ => Err(ReadBackupError::NoBackup),
    }
}

/// The first record of these bytes, its key and value, and the rest.
fn read_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&[a, b, c, d, e, f], rest) = bytes.split_first_chunk::<RECORD_HEADER_LENGTH>()?;
    let (key, rest) = rest.split_at_checked(u16::from_le_bytes([a, b]).into())?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes([c, d, e, f]) as usize)?;
    Some((key, value, rest))
}

/// The error of a read: the system's, or that of the frame.
fn failure(error: io::Error) -> ReadBackupError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        ReadBackupError::CutOff
    } else if error.raw_os_error().is_some() {
        ReadBackupError::Unreadable(error)
    } else {
        ReadBackupError::Damaged(error.to_string())
    }
}

impl From<ReadBackupError> for JournalError {
    fn from(error: ReadBackupError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// The longest first line.
const LONGEST_TITLE: u64 = 32;
