//! The outbox of a node: a file of what the log does not have yet.
//!
//! It begins with `RBO1`. A record is: its length (4, little-endian), the first 8 bytes of the SHA-256 of the rest, the
//! time in milliseconds since 1970 (8), the facts as the store writes them. It is synced after each record. The last
//! record may be cut off by a crash: it was not kept then, and is cut off at the next start. One that is not whole and
//! has others behind it is damage, which is told with its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ringback_engine::{Change, JournalError, Kept, Outbox};
use ringback_routing::{E164, EnvironmentId, Timestamp};
use sha2::{Digest, Sha256};

use crate::Codec;

/// A file of facts.
#[derive(Debug)]
pub struct OutboxFile {
    /// Where it is.
    path: PathBuf,
    /// The file, open for writing at its end.
    file: File,
    /// Its length.
    length: u64,
    /// The length from which on it takes no more of what may be lost.
    limit: u64,
    /// How facts are written.
    codec: Codec,
}

impl OutboxFile {
    /// Opens the file, or makes it. What may be lost is taken until it has this length.
    ///
    /// # Errors
    /// It cannot be read or written, or is something else.
    pub fn open(path: impl Into<PathBuf>, limit: u64, codec: Codec) -> io::Result<Self> {
        let path = path.into();
        let mut bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        if bytes.len() < MARK.len() {
            bytes = MARK.to_vec();
            write_anew(&path, &bytes)?;
        }
        let rest = bytes.strip_prefix(MARK).ok_or_else(|| {
            let what = format!("{} is no outbox of this version", path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        let whole = Records { bytes: rest }.fold(0, |length, record| length + record.length());
        if !is_cut_off(rest.get(whole..).unwrap_or_default()) {
            let (path, at) = (path.display(), MARK.len() + whole);
            let what = format!("{path} is damaged at byte {at}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let length = (MARK.len() + whole) as u64;
        let file = OpenOptions::new().append(true).open(&path)?;
        if length < bytes.len() as u64 {
            tracing::warn!(file = %path.display(), "the last record of the outbox was cut off by a crash");
            file.set_len(length)?;
            file.sync_data()?;
        }
        Ok(Self {
            path,
            file,
            length,
            limit,
            codec,
        })
    }

    /// Appends bytes for good. What a failure leaves of them is cut off again.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes);
        let result = written.and_then(|()| self.file.sync_data());
        if result.is_ok() {
            self.length += bytes.len() as u64;
        } else {
            self.file.set_len(self.length)?;
        }
        result
    }

    /// Reads the file.
    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&self.path)?
            .take(self.length)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The bytes of a record.
    fn record(&self, at: Timestamp, facts: &[Change]) -> Result<Vec<u8>, JournalError> {
        let mut body = at.millis().to_le_bytes().to_vec();
        body.extend((self.codec.write)(facts)?);
        let length =
            u32::try_from(body.len()).map_err(|error| unavailable(io::Error::other(error)))?;
        let mut record = length.to_le_bytes().to_vec();
        record.extend(check(&body));
        record.extend(body);
        Ok(record)
    }
}

impl Outbox for OutboxFile {
    fn keep(
        &mut self,
        at: Timestamp,
        facts: &[Change],
        is_minor: bool,
    ) -> Result<bool, JournalError> {
        let record = self.record(at, facts)?;
        if is_minor && self.length + record.len() as u64 > self.limit {
            return Ok(false);
        }
        self.append(&record).map_err(unavailable)?;
        Ok(true)
    }

    fn read(&mut self) -> Result<Vec<Kept>, JournalError> {
        let bytes = self.bytes().map_err(unavailable)?;
        let records = Records {
            bytes: bytes.get(MARK.len()..).unwrap_or_default(),
        };
        let kept = records.map(|record| {
            let damaged = |what| JournalError::Damaged(format!("{}: {what}", self.path.display()));
            let facts = (self.codec.read)(record.facts).map_err(damaged)?;
            Ok(Kept {
                at: record.at,
                facts,
            })
        });
        kept.collect()
    }

    fn forget(&mut self, environment: EnvironmentId, contact: E164) -> Result<(), JournalError> {
        let mut bytes = MARK.to_vec();
        let mut is_changed = false;
        for mut kept in self.read()? {
            let before = kept.facts.len();
            kept.forget(environment, contact);
            is_changed |= kept.facts.len() < before;
            if !kept.facts.is_empty() {
                bytes.extend(self.record(kept.at, &kept.facts)?);
            }
        }
        if is_changed {
            write_anew(&self.path, &bytes).map_err(unavailable)?;
            let file = OpenOptions::new().append(true).open(&self.path);
            self.file = file.map_err(unavailable)?;
            self.length = bytes.len() as u64;
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), JournalError> {
        let length = MARK.len() as u64;
        self.file.set_len(length).map_err(unavailable)?;
        self.length = length;
        self.file.sync_data().map_err(unavailable)
    }

    fn is_empty(&self) -> bool {
        self.length <= MARK.len() as u64
    }
}

/// A record.
struct Record<'b> {
    /// When it was kept.
    at: Timestamp,
    /// Its facts.
    facts: &'b [u8],
}

impl Record<'_> {
    /// How many bytes it takes in the file.
    const fn length(&self) -> usize {
        HEAD + TIME + self.facts.len()
    }
}

/// The records of a file, up to the first that is not whole.
struct Records<'b> {
    /// The rest.
    bytes: &'b [u8],
}

impl<'b> Iterator for Records<'b> {
    type Item = Record<'b>;

    fn next(&mut self) -> Option<Record<'b>> {
        let (length, rest) = self.bytes.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (body, rest) = rest.split_at_checked(length)?;
        let (at, facts) = body.split_first_chunk::<TIME>()?;
        if check(body) != *sum {
            return None;
        }
        self.bytes = rest;
        Some(Record {
            at: Timestamp::from_millis(i64::from_le_bytes(*at)),
            facts,
        })
    }
}

/// Whether bytes behind the last whole record can be what a crash has left of one that was being written: all there is
/// belongs to it, or was never written. No bytes can.
fn is_cut_off(rest: &[u8]) -> bool {
    let Some((length, body)) = rest.split_first_chunk::<4>() else {
        return true;
    };
    let reaches = u64::from(u32::from_le_bytes(*length)) + (HEAD - 4) as u64;
    reaches >= body.len() as u64 || rest.iter().all(|byte| *byte == 0)
}

/// By what a record is known to be whole.
fn check(body: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    for (to, from) in sum.iter_mut().zip(Sha256::digest(body)) {
        *to = from;
    }
    sum
}

/// Puts a file with these bytes in the place of the one that is there.
fn write_anew(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// The failure of a file.
fn unavailable(error: io::Error) -> JournalError {
    JournalError::Unavailable(Box::new(error))
}

/// How the file begins.
const MARK: &[u8] = b"RBO1";

/// The bytes of a record before the time.
const HEAD: usize = 12;

/// The bytes of the time.
const TIME: usize = 8;

#[cfg(test)]
mod tests {
    use ringback_engine::Call;
    use ringback_routing::{AgentId, CallStatus};
    use uuid::Uuid;

    use super::*;

    const CODEC: Codec = Codec {
        write: ringback_store::write_facts,
        read: ringback_store::read_facts,
    };

    const ENVIRONMENT: EnvironmentId = EnvironmentId(Uuid::from_u128(1));

    /// A call to a contact.
    fn call(number: u64) -> Change {
        Change::CallPut(Call {
            environment: ENVIRONMENT,
            sid: format!("s{number}").into(),
            agent: AgentId(Uuid::from_u128(2)),
            contact: contact(number),
            from: None,
            status: CallStatus::NoAnswer,
            started_at: Timestamp::from_seconds(1),
        })
    }

    /// A contact.
    fn contact(number: u64) -> E164 {
        E164::from_digits(4_930_000_000_000 + number).unwrap()
    }

    /// What a file has.
    fn facts(outbox: &mut OutboxFile) -> Vec<Change> {
        let kept = outbox.read().unwrap();
        kept.into_iter().flat_map(|kept| kept.facts).collect()
    }

    #[test]
    fn what_was_kept_is_there_at_the_next_start_whatever_was_cut_off_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let open = || OutboxFile::open(&path, 1 << 20, CODEC).unwrap();
        let at = Timestamp::from_seconds(5);
        let mut outbox = open();
        assert!(outbox.is_empty());
        assert!(outbox.keep(at, &[call(1)], true).unwrap());
        let first = outbox.length;
        assert!(outbox.keep(at, &[call(2), call(3)], true).unwrap());
        let whole = fs::read(&path).unwrap();
        for length in first as usize..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(facts(&mut open()), [call(1)], "{length}");
        }
        fs::write(&path, &whole).unwrap();
        let mut outbox = open();
        assert_eq!(facts(&mut outbox), [call(1), call(2), call(3)]);
        outbox.clear().unwrap();
        assert!(outbox.is_empty() && open().is_empty());
        outbox.keep(at, &[call(4)], true).unwrap();
        assert_eq!(facts(&mut open()), [call(4)]);
        fs::write(&path, "something else").unwrap();
        assert!(OutboxFile::open(&path, 1, CODEC).is_err());
    }

    #[test]
    fn damage_before_the_end_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let mut outbox = OutboxFile::open(&path, 1 << 20, CODEC).unwrap();
        let at = Timestamp::from_seconds(5);
        outbox.keep(at, &[call(1)], true).unwrap();
        let second = outbox.length as usize;
        outbox.keep(at, &[call(2)], true).unwrap();
        let third = outbox.length as usize;
        outbox.keep(at, &[call(3)], true).unwrap();
        let whole = fs::read(&path).unwrap();
        for byte in second + 4..third {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let error = OutboxFile::open(&path, 1 << 20, CODEC).unwrap_err();
            let place = format!("is damaged at byte {second}");
            assert!(error.to_string().ends_with(&place), "{byte}: {error}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is cut off");
        }
        // A file that the system made longer before it wrote.
        let mut bytes = whole.clone();
        bytes.resize(whole.len() + 100, 0);
        fs::write(&path, &bytes).unwrap();
        let mut outbox = OutboxFile::open(&path, 1 << 20, CODEC).unwrap();
        assert_eq!(facts(&mut outbox), [call(1), call(2), call(3)]);
    }

    #[test]
    fn an_erased_contact_leaves_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let mut outbox = OutboxFile::open(&path, 1 << 20, CODEC).unwrap();
        let at = Timestamp::from_seconds(5);
        outbox.keep(at, &[call(1), call(2)], true).unwrap();
        outbox.keep(at, &[call(1)], true).unwrap();
        outbox.forget(ENVIRONMENT, contact(1)).unwrap();
        assert_eq!(facts(&mut outbox), [call(2)]);
        outbox.keep(at, &[call(3)], true).unwrap();
        let mut again = OutboxFile::open(&path, 1 << 20, CODEC).unwrap();
        assert_eq!(facts(&mut again), [call(2), call(3)]);
    }

    #[test]
    fn a_full_file_takes_only_what_must_not_be_lost() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = OutboxFile::open(folder.path().join("outbox"), 8, CODEC).unwrap();
        let at = Timestamp::from_seconds(5);
        assert!(!outbox.keep(at, &[call(1)], true).unwrap());
        assert!(outbox.keep(at, &[call(2)], false).unwrap());
        assert_eq!(facts(&mut outbox), [call(2)]);
    }
}
