//! Checks the files of a tree that its library reads before, or without, checking them: which tables
//! make up the tree, and where in each table its sections are. The rest of a table carries checksums
//! that are checked whenever it is read.
//!
//! `current` holds the number of a version file (8) and its checksum (16); both kinds of files are
//! archives, whose table of contents lies before a trailer of magic (4), version (1), checksum type (1),
//! checksum of the contents (16), their position (8) and length (8). All integers are little-endian,
//! all checksums XXH3.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ringback_engine::JournalError;
use xxhash_rust::xxh3::xxh3_128;

use crate::error::unavailable;

/// Bytes of an archive's trailer.
const TRAILER_LENGTH: u64 = 38;

/// Checks the files of the tree in this directory.
pub(crate) fn check(directory: &Path) -> Result<(), JournalError> {
    let current_path = directory.join("current");
    let current = read(&current_path)?;
    let (version, checksum) = Reader(&current)
        .version()
        .ok_or_else(|| damaged(&current_path, "not readable"))?;
    let path = directory.join(format!("v{version}"));
    let bytes = read(&path)?;
    if xxh3_128(&bytes) != checksum {
        return Err(damaged(&path, "checksum mismatch"));
    }
    let tables = tables(&bytes).ok_or_else(|| damaged(&path, "not readable"))?;
    for table in tables {
        let path = directory.join("tables").join(table.to_string());
        check_contents(&path)?;
    }
    Ok(())
}

/// Checks the table of contents of an archive.
fn check_contents(path: &Path) -> Result<(), JournalError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => damaged(path, "missing"),
        io::ErrorKind::UnexpectedEof => damaged(path, "too short"),
        _ => unavailable(error),
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let Some(trailer_at) = length.checked_sub(TRAILER_LENGTH) else {
        return Err(damaged(path, "too short"));
    };
    let mut trailer = [0; TRAILER_LENGTH as usize];
    file.read_exact_at(&mut trailer, trailer_at)
        .map_err(failed)?;
    let contents = Reader(&trailer)
        .trailer()
        .filter(|trailer| trailer.position.checked_add(trailer.length) == Some(trailer_at))
        .ok_or_else(|| damaged(path, "its end is not readable"))?;
    let mut bytes = vec![0; usize::try_from(contents.length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, contents.position)
        .map_err(failed)?;
    if xxh3_128(&bytes) != contents.checksum {
        return Err(damaged(path, "checksum mismatch in its contents"));
    }
    Ok(())
}

/// The numbers of the tables that a version file names.
fn tables(bytes: &[u8]) -> Option<Vec<u64>> {
    let trailer_at = bytes.len().checked_sub(TRAILER_LENGTH as usize)?;
    let trailer = Reader(&bytes[trailer_at..]).trailer()?;
    let contents = bytes.get(usize::try_from(trailer.position).ok()?..trailer_at)?;
    let mut section = Reader(Reader(contents).section(b"tables", bytes)?);
    let mut tables = Vec::new();
    for _ in 0..section.u8()? {
        for _ in 0..section.u8()? {
            for _ in 0..section.u32()? {
                tables.push(section.u64()?);
                // Checksum type, checksum and sequence number.
                section.take::<25>()?;
            }
        }
    }
    Some(tables)
}

/// What an archive's trailer says of its contents.
struct Trailer {
    /// Their checksum.
    checksum: u128,
    /// Where they start.
    position: u64,
    /// How long they are.
    length: u64,
}

/// Takes integers off the front of a buffer.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// What `current` says: version and checksum.
    fn version(&mut self) -> Option<(u64, u128)> {
        let version = (self.u64()?, self.u128()?);
        // The checksum's type, then nothing.
        (self.0 == [0]).then_some(version)
    }

    /// An archive's trailer.
    fn trailer(&mut self) -> Option<Trailer> {
        if self.take()? != *b"SFA!\x01\x00" {
            return None;
        }
        Some(Trailer {
            checksum: self.u128()?,
            position: self.u64()?,
            length: self.u64()?,
        })
    }

    /// The section with this name, by a table of contents.
    fn section<'b>(&mut self, name: &[u8], archive: &'b [u8]) -> Option<&'b [u8]> {
        if self.take()? != *b"TOC!" {
            return None;
        }
        for _ in 0..self.u32()? {
            let position = usize::try_from(self.u64()?).ok()?;
            let length = usize::try_from(self.u64()?).ok()?;
            let name_length = self.take().map(u16::from_le_bytes)?;
            let found = self.slice(usize::from(name_length))?;
            if found == name {
                return archive.get(position..position.checked_add(length)?);
            }
        }
        None
    }

    /// The next bytes.
    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next bytes.
    fn take<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// The next byte.
    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    /// The next integer.
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    /// The next integer.
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// The next integer.
    fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }
}

/// Reads a small file that has to be there.
fn read(path: &Path) -> Result<Vec<u8>, JournalError> {
    fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged(path, "missing"),
        _ => unavailable(error),
    })
}

/// The error that says what is wrong with a file.
fn damaged(path: &Path, what: &str) -> JournalError {
    JournalError::Damaged(format!("{}: {what}", path.display()))
}
