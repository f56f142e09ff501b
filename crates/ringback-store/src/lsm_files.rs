//! What this crate knows of the private files of the trees' library: which tables make up a tree, and the blocks
//! of each table. The library's version is pinned for that reason.
//!
//! The library reads some parts before it checks them, or without, and never names the file and byte of damage.
//! So trees are checked when they are opened, and all of their blocks in the background.
//!
//! `current` holds the number of a version file (8) and its checksum (16); both kinds of files are
//! archives, whose table of contents lies before a trailer of magic (4), version (1), checksum type (1),
//! checksum of the contents (16), their position (8) and length (8). The sections of a table are rows of
//! blocks: magic (4), type (1), checksum of the data (16), length of the data (4), uncompressed (4), the
//! lower half of a checksum of all before (4), data. All integers are little-endian, all checksums XXH3.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ringback_engine::JournalError;
use xxhash_rust::xxh3::xxh3_128;

use crate::error::unavailable;

/// Bytes of an archive's trailer.
const TRAILER_LENGTH: u64 = 38;

/// What the section `table_version` of a table holds.
const TABLE_VERSION: [u8; 1] = [3];

/// Bytes of a block before its data.
const BLOCK_HEADER_LENGTH: u64 = 33;

/// A damaged or unreadable byte of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The file.
    pub(crate) path: PathBuf,
    /// Bytes from its start.
    pub(crate) offset: u64,
    /// What is wrong there, for the log.
    pub(crate) what: String,
}

impl From<Damage> for JournalError {
    fn from(damage: Damage) -> Self {
        let Damage { path, offset, what } = damage;
        Self::Damaged(format!("{} at byte {offset}: {what}", path.display()))
    }
}

/// Checks those parts of the tree in this directory that the library does not check when it opens the tree.
pub(crate) fn check(directory: &Path) -> Result<(), JournalError> {
    for table in table_paths(directory)? {
        contents(&table).map_err(|failure| failure.into_error(&table))?;
    }
    Ok(())
}

/// Everything that is damaged in the tree in this directory, which is not open.
pub(crate) fn find_damage(directory: &Path) -> Vec<Damage> {
    let Ok(tables) = table_paths(directory) else {
        return Vec::new();
    };
    tables
        .iter()
        .filter_map(|table| check_table(table, |_| true))
        .collect()
}

/// Reads a whole table and returns the first damage or failed read. `go_on` is called with the bytes of each
/// read, and returns false to stop.
pub(crate) fn check_table(path: &Path, mut go_on: impl FnMut(u64) -> bool) -> Option<Damage> {
    let damage = |failure: Failure| Damage {
        path: path.to_owned(),
        offset: failure.offset,
        what: failure.what(),
    };
    let (file, sections) = match contents(path) {
        Ok(contents) => contents,
        Err(failure) => return Some(damage(failure)),
    };
    let mut data = Vec::new();
    for (start, length, is_version) in sections {
        if is_version {
            let mut version = [0];
            let read = file.read_exact_at(&mut version, start);
            if read.is_err() || version != TABLE_VERSION || length != 1 {
                let cause = Cause::Damage("the table's version is not readable");
                return Some(damage(Failure {
                    offset: start,
                    cause,
                }));
            }
            continue;
        }
        let mut offset = start;
        while offset < start.saturating_add(length) {
            match check_block(&file, offset, &mut data) {
                Ok(length) => offset += length,
                Err(cause) => return Some(damage(Failure { offset, cause })),
            }
            if !go_on(data.len() as u64 + BLOCK_HEADER_LENGTH) {
                return None;
            }
        }
    }
    None
}

/// Checks a block and gives its length.
fn check_block(file: &File, offset: u64, data: &mut Vec<u8>) -> Result<u64, Cause> {
    let mut header = [0; BLOCK_HEADER_LENGTH as usize];
    file.read_exact_at(&mut header, offset)?;
    let mut reader = Reader(&header);
    let (Some(magic), Some(_type), Some(checksum), Some(length), Some(_whole), Some(own)) = (
        reader.take::<4>(),
        reader.u8(),
        reader.u128(),
        reader.u32(),
        reader.u32(),
        reader.u32(),
    ) else {
        return Err(Cause::Damage("a block header is too short"));
    };
    let lower_half = xxh3_128(&header[..header.len() - 4]).to_le_bytes();
    if magic != *b"LSM\x03" || lower_half.first_chunk() != Some(&own.to_le_bytes()) {
        return Err(Cause::Damage("checksum mismatch in a block header"));
    }
    data.resize(length as usize, 0);
    file.read_exact_at(data, offset + BLOCK_HEADER_LENGTH)?;
    if xxh3_128(data) != checksum {
        return Err(Cause::Damage("checksum mismatch in a block"));
    }
    Ok(BLOCK_HEADER_LENGTH + u64::from(length))
}

/// The files of the tables that make up the tree in this directory.
fn table_paths(directory: &Path) -> Result<Vec<PathBuf>, JournalError> {
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
    let folder = directory.join("tables");
    Ok(tables
        .into_iter()
        .map(|table| folder.join(table.to_string()))
        .collect())
}

/// Opens an archive and returns its sections: position, length, and whether it is the version of the table
/// instead of a row of blocks.
fn contents(path: &Path) -> Result<(File, Vec<Place>), Failure> {
    let at = |offset| {
        move |error: io::Error| Failure {
            offset,
            cause: error.into(),
        }
    };
    let file = File::open(path).map_err(at(0))?;
    let length = file.metadata().map_err(at(0))?.len();
    let failed = |offset, what| Failure {
        offset,
        cause: Cause::Damage(what),
    };
    let trailer_at = length
        .checked_sub(TRAILER_LENGTH)
        .ok_or_else(|| failed(length, "the file ends early"))?;
    let mut trailer = [0; TRAILER_LENGTH as usize];
    file.read_exact_at(&mut trailer, trailer_at)
        .map_err(at(trailer_at))?;
    let trailer = Reader(&trailer)
        .trailer()
        .filter(|trailer| trailer.position.checked_add(trailer.length) == Some(trailer_at))
        .ok_or_else(|| failed(trailer_at, "the end of the file is not readable"))?;
    let mut bytes = vec![0; usize::try_from(trailer.length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, trailer.position)
        .map_err(at(trailer.position))?;
    if xxh3_128(&bytes) != trailer.checksum {
        return Err(failed(
            trailer.position,
            "checksum mismatch in the table of contents",
        ));
    }
    let sections = Reader(&bytes)
        .sections()
        .ok_or_else(|| failed(trailer.position, "the table of contents is not readable"))?;
    let places = sections.into_iter().map(|section| {
        let is_version = section.name == b"table_version";
        (section.position, section.length, is_version)
    });
    Ok((file, places.collect()))
}

/// The numbers of the tables that a version file names.
fn tables(bytes: &[u8]) -> Option<Vec<u64>> {
    let trailer_at = bytes.len().checked_sub(TRAILER_LENGTH as usize)?;
    let trailer = Reader(&bytes[trailer_at..]).trailer()?;
    let contents = bytes.get(usize::try_from(trailer.position).ok()?..trailer_at)?;
    let sections = Reader(contents).sections()?;
    let section = sections.iter().find(|section| section.name == b"tables")?;
    let start = usize::try_from(section.position).ok()?;
    let end = start.checked_add(usize::try_from(section.length).ok()?)?;
    let mut section = Reader(bytes.get(start..end)?);
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

/// Position and length of a section, and whether it is the version of the table.
type Place = (u64, u64, bool);

/// A byte of a file that cannot be read, and the cause.
struct Failure {
    /// Bytes from its start.
    offset: u64,
    /// The cause, to tell damage from a failing disk.
    cause: Cause,
}

/// Why a file cannot be read.
enum Cause {
    /// The bytes are not what was written.
    Damage(&'static str),
    /// The system reports an error.
    System(io::Error),
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Damage("the file is missing"),
            io::ErrorKind::UnexpectedEof => Self::Damage("the file ends early"),
            _ => Self::System(error),
        }
    }
}

impl Failure {
    /// The cause, for the log.
    fn what(&self) -> String {
        match &self.cause {
            Cause::Damage(what) => (*what).to_owned(),
            Cause::System(error) => format!("cannot be read: {error}"),
        }
    }

    /// The error for the file at this path.
    fn into_error(self, path: &Path) -> JournalError {
        match self.cause {
            Cause::System(error) => unavailable(error),
            Cause::Damage(what) => Damage {
                path: path.to_owned(),
                offset: self.offset,
                what: what.to_owned(),
            }
            .into(),
        }
    }
}

/// The trailer of an archive.
struct Trailer {
    /// Checksum of the table of contents.
    checksum: u128,
    /// Where the table of contents starts.
    position: u64,
    /// Length of the table of contents.
    length: u64,
}

/// A section of an archive.
struct Section<'a> {
    /// Its name.
    name: &'a [u8],
    /// Where it starts.
    position: u64,
    /// How long it is.
    length: u64,
}

/// Takes integers off the front of a buffer.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `current`: version and checksum.
    fn version(&mut self) -> Option<(u64, u128)> {
        let version = (self.u64()?, self.u128()?);
        // The checksum's type must be 0, and the last byte.
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

    /// Reads a table of contents.
    fn sections(&mut self) -> Option<Vec<Section<'a>>> {
        if self.take()? != *b"TOC!" {
            return None;
        }
        let mut sections = Vec::new();
        for _ in 0..self.u32()? {
            let (position, length) = (self.u64()?, self.u64()?);
            let name_length = self.take().map(u16::from_le_bytes)?;
            let name = self.slice(usize::from(name_length))?;
            sections.push(Section {
                name,
                position,
                length,
            });
        }
        Some(sections)
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

/// The error for a damaged file.
fn damaged(path: &Path, what: &str) -> JournalError {
    JournalError::Damaged(format!("{}: {what}", path.display()))
}
