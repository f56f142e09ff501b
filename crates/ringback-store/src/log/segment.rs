//! The bytes of one segment of the log: a header, then records, each the changes of one commit.
//!
//! Header, 48 bytes, integers little-endian: magic (8), version (4), zero (4), first sequence (8),
//! first sequence of the segment before or zero (8), valid length of the segment before (8), zero (4),
//! CRC-32C of all before (4). Record: payload length (4), sequence (8), CRC-32C of the payload (4),
//! CRC-32C of the sixteen bytes before (4), payload.
//!
//! Each segment states the length of the one before it, so the rest of a failed write at an end cannot come back
//! after writing went on.

use std::fmt;
use std::path::{Path, PathBuf};

use ringback_engine::{Change, JournalError};

use crate::stored::{format1, log_record};

/// Bytes before the first record.
pub(crate) const HEADER_LENGTH: u64 = 48;

/// Bytes before a payload.
pub(crate) const RECORD_HEADER_LENGTH: usize = 20;

/// The first bytes of every segment.
const MAGIC: [u8; 8] = *b"RINGBKWL";

/// The version that is written: changes as in [`crate::stored::log_record`].
const VERSION: u32 = 2;

/// The oldest version that is read: changes as in [`crate::stored::format1`].
const OLDEST_VERSION: u32 = 1;

/// The content of a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The sequence that its first record has or will have.
    pub(crate) first: u64,
    /// The segment before it, if there was one: its first sequence and its valid length in bytes.
    pub(crate) previous: Option<(u64, u64)>,
    /// The version of its layout.
    pub(crate) version: u32,
}

impl SegmentHeader {
    /// The header of a new segment.
    pub(crate) const fn new(first: u64, previous: Option<(u64, u64)>) -> Self {
        Self {
            first,
            previous,
            version: VERSION,
        }
    }

    /// The header's bytes.
    pub(crate) fn encode(self) -> [u8; HEADER_LENGTH as usize] {
        let mut bytes = [0; HEADER_LENGTH as usize];
        let (previous_first, previous_length) = self.previous.unwrap_or_default();
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&previous_first.to_le_bytes());
        bytes[32..40].copy_from_slice(&previous_length.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header at the front of a segment.
    fn decode(bytes: &[u8; HEADER_LENGTH as usize]) -> Result<Self, String> {
        if bytes[..8] != MAGIC {
            return Err("not a log segment".to_owned());
        }
        let checksum = crc32c::crc32c(&bytes[..44]);
        if checksum.to_le_bytes() != bytes[44..] {
            return Err("checksum mismatch in the segment header".to_owned());
        }
        let version = u32_at(bytes, 8);
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(format!(
                "log version {version}, this program reads versions up to {VERSION}"
            ));
        }
        let previous_first = u64_at(bytes, 24);
        Ok(Self {
            first: u64_at(bytes, 16),
            previous: (previous_first != 0).then(|| (previous_first, u64_at(bytes, 32))),
            version,
        })
    }
}

/// Completes a record in a buffer that has room for its header, then the payload.
pub(crate) fn finish_record(
    record: &mut [u8],
    sequence: u64,
) -> Result<(), std::num::TryFromIntError> {
    let length = u32::try_from(record.len() - RECORD_HEADER_LENGTH)?;
    let checksum = crc32c::crc32c(&record[RECORD_HEADER_LENGTH..]);
    record[..4].copy_from_slice(&length.to_le_bytes());
    record[4..12].copy_from_slice(&sequence.to_le_bytes());
    record[12..16].copy_from_slice(&checksum.to_le_bytes());
    let header_checksum = crc32c::crc32c(&record[..16]);
    record[16..20].copy_from_slice(&header_checksum.to_le_bytes());
    Ok(())
}

/// A damaged byte of a segment, and what is wrong there.
#[derive(Debug)]
pub(crate) struct Damage {
    /// The segment.
    pub(crate) path: PathBuf,
    /// Bytes from its start.
    pub(crate) offset: u64,
    /// What is wrong there, for the log.
    pub(crate) what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, what } = self;
        write!(formatter, "{} at byte {offset}: {what}", path.display())
    }
}

impl From<Damage> for JournalError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage.to_string())
    }
}

/// One commit, as logged.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    /// Its position among all commits, from 1 on.
    pub(crate) sequence: u64,
    /// The encoded changes.
    payload: &'a [u8],
    /// The version of the segment's layout.
    version: u32,
    /// Path of its segment.
    path: &'a Path,
    /// Where it starts in the segment, in bytes.
    offset: u64,
}

impl Record<'_> {
    /// The changes of the commit.
    pub(crate) fn changes(&self) -> Result<Vec<Change>, JournalError> {
        let changes = if self.version == OLDEST_VERSION {
            format1::read_changes(self.payload)
        } else {
            log_record::read(self.payload)
        };
        changes.map_err(|error| self.damaged(format!("unreadable changes: {error}")))
    }

    /// The error for a record that is not what was written.
    fn damaged(&self, what: String) -> JournalError {
        JournalError::from(Damage {
            path: self.path.to_owned(),
            offset: self.offset,
            what,
        })
    }
}

/// A segment read into memory.
pub(crate) struct Segment {
    /// Path of the file.
    pub(crate) path: PathBuf,
    /// All its bytes.
    bytes: Vec<u8>,
    /// Its header.
    pub(crate) header: SegmentHeader,
}

/// The result of opening a segment.
pub(crate) enum OpenedSegment {
    /// A segment with a valid header.
    Whole(Segment),
    /// Its header was never completely written, so nothing in it was ever acknowledged.
    Unborn,
}

impl Segment {
    /// Reads a file's header; `name_first` is the sequence in its name.
    pub(crate) fn open(
        path: &Path,
        bytes: Vec<u8>,
        name_first: u64,
    ) -> Result<OpenedSegment, Damage> {
        let Some(header) = bytes.first_chunk() else {
            return Ok(OpenedSegment::Unborn);
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(OpenedSegment::Unborn);
        }
        let damage = |what| Damage {
            path: path.to_owned(),
            offset: 0,
            what,
        };
        let header = SegmentHeader::decode(header).map_err(damage)?;
        if header.first != name_first {
            return Err(damage(format!(
                "holds the log from {} on, but its name says {name_first}",
                header.first
            )));
        }
        Ok(OpenedSegment::Whole(Self {
            path: path.to_owned(),
            bytes,
            header,
        }))
    }

    /// Passes on every record, and returns the sequence after the last one and the valid length.
    ///
    /// `length` is what the next segment states of this one. The newest segment has no next one; there an
    /// incomplete record at the end is a write that was never acknowledged.
    pub(crate) fn records(
        &self,
        length: Option<u64>,
        mut visitor: impl FnMut(Record<'_>) -> Result<(), JournalError>,
    ) -> Result<(u64, u64), JournalError> {
        let damage = |offset: usize, what: String| {
            JournalError::from(Damage {
                path: self.path.clone(),
                offset: offset as u64,
                what,
            })
        };
        let torn_allowed = length.is_none();
        let bytes = match length {
            None => self.bytes.as_slice(),
            Some(length) => usize::try_from(length)
                .ok()
                .and_then(|length| self.bytes.get(..length))
                .ok_or_else(|| {
                    damage(
                        self.bytes.len(),
                        format!("ends here, but the next segment says it has {length} bytes"),
                    )
                })?,
        };
        let mut sequence = self.header.first;
        let mut offset = HEADER_LENGTH as usize;
        while offset < bytes.len() {
            let rest = &bytes[offset..];
            let header = rest.get(..RECORD_HEADER_LENGTH);
            let torn = header.is_none() || rest.iter().all(|byte| *byte == 0);
            let Some(header) = header.filter(|_| !torn) else {
                if torn_allowed {
                    break;
                }
                return Err(damage(offset, "incomplete record".to_owned()));
            };
            if crc32c::crc32c(&header[..16]) != u32_at(header, 16) {
                return Err(damage(
                    offset,
                    "checksum mismatch in a record header".to_owned(),
                ));
            }
            let found = u64_at(header, 4);
            if found != sequence {
                return Err(damage(
                    offset,
                    format!("record {found} where record {sequence} belongs"),
                ));
            }
            let end = RECORD_HEADER_LENGTH + u32_at(header, 0) as usize;
            let Some(payload) = rest.get(RECORD_HEADER_LENGTH..end) else {
                if torn_allowed {
                    break;
                }
                return Err(damage(offset, "incomplete record".to_owned()));
            };
            if crc32c::crc32c(payload) != u32_at(header, 12) {
                return Err(damage(
                    offset,
                    format!("checksum mismatch in record {sequence}"),
                ));
            }
            visitor(Record {
                sequence,
                payload,
                version: self.header.version,
                path: &self.path,
                offset: offset as u64,
            })?;
            sequence += 1;
            offset += end;
        }
        Ok((sequence, offset as u64))
    }

    /// The length of the file in bytes.
    pub(crate) fn file_length(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The little-endian integer at this offset; the buffer must reach beyond it.
fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(value)
}

/// The little-endian integer at this offset; the buffer must reach beyond it.
fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(value)
}
