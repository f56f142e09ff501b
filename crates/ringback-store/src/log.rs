//! The log: every commit is appended and synced here before it is acknowledged or shown.
//!
//! A directory of segments, each named for the sequence of its first record. A segment is closed when
//! the tables turn over a generation (see [`crate::tables`]) and removed once that generation is
//! durable in the tables. Nothing is ever overwritten.
//!
//! Beside each segment there is an empty file, its *marker*, which is made before the segment's first record and
//! removed before the segment is. So a missing segment is noticed, even the newest one.
//!
//! A failed write leaves nothing: its segment is cut back to the last good length, durably, and never written to
//! again; the next segment states that length. Until the cut has succeeded, nothing else is written.

pub(crate) mod segment;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use ringback_engine::{Change, JournalError};
pub(crate) use segment::HEADER_LENGTH;
pub(crate) use segment::Record;
use segment::{Damage, OpenedSegment, RECORD_HEADER_LENGTH, Segment, SegmentHeader, finish_record};

use crate::error::unavailable;
use crate::files::{AppendFile, Files};
use crate::stored::log_record;

/// Appends commits; owned by one thread at a time.
pub(crate) struct Log {
    /// The directory of the segments.
    directory: PathBuf,
    /// The file system, or a failing stand-in.
    files: Box<dyn Files>,
    /// The sequence that the next record gets.
    next: u64,
    /// The segment written to, if any.
    current: Option<Current>,
    /// First sequence and valid length of the newest closed segment, whether or not it is still there.
    previous: Option<(u64, u64)>,
    /// Closed segments that are still there.
    closed: Arc<ClosedSegments>,
    /// What a failed write left behind and must still be undone.
    residue: Option<Residue>,
    /// The record being built.
    buffer: Vec<u8>,
}

/// The segment that is being written to.
struct Current {
    /// Path of the file.
    path: PathBuf,
    /// The sequence of its first record.
    first: u64,
    /// Bytes that are written and synced.
    length: u64,
    /// The file.
    file: Box<dyn AppendFile>,
}

/// Segments that are not written to any more, oldest first, shared with the thread that removes them.
#[derive(Default)]
pub(crate) struct ClosedSegments(Mutex<Vec<Closed>>);

/// A segment that is not written to any more.
struct Closed {
    /// Path of the file.
    path: PathBuf,
    /// The sequence of its last record.
    last: u64,
}

/// A segment with bytes of a failed write.
struct Residue {
    /// Path of the file.
    path: PathBuf,
    /// The length of its valid content; `None`: remove the file.
    good_length: u64,
}

impl Log {
    /// Reads the log in this directory and passes on every record after `applied`. The tables contain all records
    /// up to `applied`, and parts of the following ones up to `ahead`.
    ///
    /// Writes nothing, except that it cuts off the rest of a write that a crash broke off and nobody
    /// acknowledged.
    pub(crate) fn open(
        directory: &Path,
        files: Box<dyn Files>,
        closed: Arc<ClosedSegments>,
        applied: u64,
        ahead: u64,
        mut visitor: impl FnMut(Record<'_>) -> Result<(), JournalError>,
    ) -> Result<Self, JournalError> {
        let mut log = Self {
            directory: directory.to_owned(),
            files,
            next: applied + 1,
            current: None,
            previous: None,
            closed,
            residue: None,
            buffer: Vec::new(),
        };
        let Listing {
            segments: paths,
            markers,
        } = list(directory)?;
        for first in &markers {
            if !paths.iter().any(|(other, _)| other == first) {
                return Err(Damage {
                    path: directory.join(segment_name(*first)),
                    offset: 0,
                    what: "the file is missing".to_owned(),
                }
                .into());
            }
        }
        let mut current = None;
        let mut end = None;
        for (index, (first, path)) in paths.iter().enumerate() {
            // Without a marker, nothing in a segment was acknowledged.
            let newest = index + 1 == paths.len() && !markers.contains(first);
            match Segment::open(path, fs::read(path).map_err(unavailable)?, *first)? {
                OpenedSegment::Whole(segment) => {
                    if let Some(before) = current.replace(segment) {
                        let next = current.as_ref().map(|segment| segment.header);
                        log.replay(&before, next, applied, &mut visitor)?;
                    } else if *first > applied + 1 {
                        return Err(JournalError::Damaged(format!(
                            "{}: the log starts with record {first}, but the tables end with record {applied}",
                            directory.display()
                        )));
                    }
                }
                OpenedSegment::Unborn if newest => {
                    tracing::warn!(segment = %path.display(), "removing a segment never written to");
                    log.residue = Some(Residue {
                        path: path.clone(),
                        good_length: 0,
                    });
                }
                OpenedSegment::Unborn => {
                    return Err(Damage {
                        path: path.clone(),
                        offset: 0,
                        what: "the log ends early: the header of this segment is missing"
                            .to_owned(),
                    }
                    .into());
                }
            }
        }
        if let Some(newest) = current {
            let length = log.replay(&newest, None, applied, &mut visitor)?;
            end = Some((newest.path.clone(), length));
        }
        if log.next <= ahead {
            let (path, offset) = end.unwrap_or_else(|| (directory.to_owned(), 0));
            return Err(Damage {
                path,
                offset,
                what: format!(
                    "the log ends early, with record {}, but the tables reach record {ahead}",
                    log.next - 1
                ),
            }
            .into());
        }
        if let Err(error) = log.undo() {
            tracing::warn!(error = %error, "the end of the log cannot be cut off yet");
        }
        Ok(log)
    }

    /// Passes on the records of one segment after `applied`, and returns its valid length; `next` is the header
    /// of the segment after it.
    fn replay(
        &mut self,
        segment: &Segment,
        next: Option<SegmentHeader>,
        applied: u64,
        visitor: &mut impl FnMut(Record<'_>) -> Result<(), JournalError>,
    ) -> Result<u64, JournalError> {
        let first = segment.header.first;
        let stated = match next {
            None => None,
            Some(SegmentHeader {
                previous: Some((previous, length)),
                ..
            }) if previous == first => Some(length),
            Some(next) => {
                return Err(JournalError::Damaged(format!(
                    "{}: a segment is missing between record {first} and record {}",
                    self.directory.display(),
                    next.first
                )));
            }
        };
        let (end, length) = segment.records(stated, |record| {
            if record.sequence > applied {
                visitor(record)
            } else {
                Ok(())
            }
        })?;
        if let Some(next) = next
            && next.first != end
        {
            return Err(Damage {
                path: segment.path.clone(),
                offset: length,
                what: format!(
                    "record {end} is missing; the next segment has {}",
                    next.first
                ),
            }
            .into());
        }
        if next.is_none() && (segment.file_length() > length || end == first) {
            if segment.file_length() > length {
                tracing::warn!(
                    segment = %segment.path.display(),
                    byte = length,
                    dropped = segment.file_length() - length,
                    "the log ends early: an incomplete record is cut off, which was never acknowledged unless the \
                     file was cut afterwards"
                );
            }
            self.residue = Some(Residue {
                path: segment.path.clone(),
                good_length: if end == first { 0 } else { length },
            });
        }
        if end > first {
            self.previous = Some((first, length));
            self.closed.push(segment.path.clone(), end - 1);
        }
        self.next = self.next.max(end);
        Ok(length)
    }

    /// The sequence that the next commit gets.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Makes the changes durable and returns their sequence.
    ///
    /// After an error none of them will be replayed, provided that [`Self::undo`] succeeds before the process
    /// ends. This function has tried it once.
    pub(crate) fn append(&mut self, changes: &[Change]) -> Result<u64, JournalError> {
        self.undo().map_err(unavailable)?;
        let mut record = std::mem::take(&mut self.buffer);
        record.clear();
        record.resize(RECORD_HEADER_LENGTH, 0);
        record = log_record::write(changes, record).map_err(unavailable)?;
        finish_record(&mut record, self.next).map_err(unavailable)?;
        let written = self.write(&record);
        self.buffer = record;
        self.buffer.shrink_to(1 << 20);
        if let Err(error) = written {
            if let Err(error) = self.undo() {
                tracing::error!(error = %error, "a failed write to the log cannot be undone yet");
            }
            return Err(unavailable(error));
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Appends a record to the current segment, or to a new one. An error leaves in `residue` what to undo.
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        self.ensure_segment()?;
        let Some(mut current) = self.current.take() else {
            return Err(io::Error::other("no segment to write to"));
        };
        let written = current
            .file
            .append(record)
            .and_then(|()| current.file.sync());
        match written {
            Ok(()) => {
                current.length += record.len() as u64;
                self.current = Some(current);
                Ok(())
            }
            Err(error) => {
                // Drop the descriptor: nobody knows what a failed sync wrote, and a second one would report
                // success for pages that were never written.
                let has_records = current.length > HEADER_LENGTH;
                self.residue = Some(Residue {
                    path: current.path.clone(),
                    good_length: if has_records { current.length } else { 0 },
                });
                if has_records {
                    self.note_closed(current);
                }
                Err(error)
            }
        }
    }

    /// Opens a segment if none is open. An error leaves in `residue` what to undo.
    pub(crate) fn ensure_segment(&mut self) -> io::Result<()> {
        if self.current.is_some() {
            return Ok(());
        }
        let path = self.directory.join(segment_name(self.next));
        let header = SegmentHeader::new(self.next, self.previous);
        let created = self.files.create(&path).and_then(|mut file| {
            file.append(&header.encode())?;
            file.sync()?;
            // The segment must be durable before its marker says that it exists.
            self.files.sync_directory(&self.directory)?;
            self.files.create(&marker(&path))?;
            self.files.sync_directory(&self.directory)?;
            Ok(file)
        });
        match created {
            Ok(file) => {
                self.current = Some(Current {
                    path,
                    first: self.next,
                    length: HEADER_LENGTH,
                    file,
                });
                Ok(())
            }
            Err(error) => {
                // Any file with this name starts with a record that was never acknowledged.
                self.residue = Some(Residue {
                    path,
                    good_length: 0,
                });
                Err(error)
            }
        }
    }

    /// Undoes a failed write, if there was one.
    pub(crate) fn undo(&mut self) -> io::Result<()> {
        let Some(residue) = &self.residue else {
            return Ok(());
        };
        if residue.good_length > 0 {
            self.files.truncate(&residue.path, residue.good_length)?;
        } else {
            // The marker first: a segment may lack its marker, but a marker must have its segment.
            for path in [&marker(&residue.path), &residue.path] {
                match self.files.remove(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
                self.files.sync_directory(&self.directory)?;
            }
        }
        self.residue = None;
        Ok(())
    }

    /// Closes the segment, so that it can be removed once the tables contain it.
    pub(crate) fn turn_over(&mut self) {
        if let Some(current) = self
            .current
            .take_if(|current| current.length > HEADER_LENGTH)
        {
            self.note_closed(current);
        }
    }

    /// Closes and removes every segment.
    pub(crate) fn remove_all(&mut self) -> io::Result<()> {
        self.turn_over();
        self.closed.remove_through(self.next - 1)
    }

    /// Notes a segment with records as closed.
    fn note_closed(&mut self, current: Current) {
        self.previous = Some((current.first, current.length));
        self.closed.push(current.path, self.next - 1);
    }
}

impl ClosedSegments {
    /// Adds the newest segment.
    fn push(&self, path: PathBuf, last: u64) {
        self.0.lock().push(Closed { path, last });
    }

    /// Removes the segments that hold nothing beyond this sequence. One that cannot be removed now is tried again
    /// by the next call.
    pub(crate) fn remove_through(&self, sequence: u64) -> io::Result<()> {
        let mut closed = self.0.lock();
        while let Some(oldest) = closed.first()
            && oldest.last <= sequence
        {
            for path in [&marker(&oldest.path), &oldest.path] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
                if let Some(directory) = path.parent() {
                    fs::File::open(directory)?.sync_all()?;
                }
            }
            closed.remove(0);
        }
        Ok(())
    }
}

/// The content of a directory of the log.
struct Listing {
    /// The segments, by the sequence in their names, which is the order of writing.
    segments: Vec<(u64, PathBuf)>,
    /// The sequences in the names of the markers.
    markers: Vec<u64>,
}

/// Lists a directory of the log.
fn list(directory: &Path) -> Result<Listing, JournalError> {
    let mut listing = Listing {
        segments: Vec::new(),
        markers: Vec::new(),
    };
    for entry in fs::read_dir(directory).map_err(unavailable)? {
        let path = entry.map_err(unavailable)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let first = |extension| {
            name.and_then(|name| name.strip_suffix(extension)?.strip_suffix('.'))
                .and_then(|digits| digits.parse().ok())
        };
        if let Some(first) = first(SEGMENT) {
            listing.segments.push((first, path));
        } else if let Some(first) = first(MARKER) {
            listing.markers.push(first);
        } else {
            return Err(JournalError::Damaged(format!(
                "{} is no segment of the log",
                path.display()
            )));
        }
    }
    listing.segments.sort_unstable();
    Ok(listing)
}

/// The name of the segment whose first record has this sequence.
fn segment_name(first: u64) -> String {
    format!("{first:020}.{SEGMENT}")
}

/// The marker of a segment.
fn marker(segment: &Path) -> PathBuf {
    segment.with_extension(MARKER)
}

/// Extension of a segment's name.
const SEGMENT: &str = "log";

/// Extension of a marker's name.
const MARKER: &str = "marker";
