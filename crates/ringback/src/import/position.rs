//! How far an import got, remembered beside the file.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Rows that the server has answered, without a gap from the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// How many rows.
    pub(crate) rows: u64,
    /// How many of them were taken.
    pub(crate) accepted: u64,
    /// How many of them were not.
    pub(crate) rejected: u64,
    /// How many of the taken ones were new to the server.
    #[serde(default)]
    pub(crate) new: u64,
    /// How many of the taken ones it knew, and now knows more of.
    #[serde(default)]
    pub(crate) updated: u64,
    /// How many of the taken ones it knew.
    #[serde(default)]
    pub(crate) known: u64,
    /// How many were skipped because a contact had called.
    #[serde(default)]
    pub(crate) inbound: u64,
    /// How many were skipped because nobody outside had been called.
    #[serde(default)]
    pub(crate) internal: u64,
    /// How long the file of rejected rows was then, in bytes.
    #[serde(default)]
    pub(crate) rejects_length: u64,
}

impl Done {
    /// Adds what became of further rows; the file of rejected rows is somebody else's.
    pub(crate) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.new += other.new;
        self.updated += other.updated;
        self.known += other.known;
        self.inbound += other.inbound;
        self.internal += other.internal;
    }
}

/// Tells one import from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint(String);

impl Fingerprint {
    /// Of a file by its start and length, and of where it goes.
    pub(crate) fn new(head: &[u8], length: Option<u64>, purpose: &[&str]) -> Self {
        let mut digest = Sha256::new();
        digest.update(length.unwrap_or(u64::MAX).to_be_bytes());
        for part in purpose {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        digest.update(head);
        Self(hex(&digest.finalize()))
    }
}

/// The file that remembers.
pub(crate) struct PositionFile {
    /// Path of the file.
    path: PathBuf,
    /// Which import it is about.
    fingerprint: Fingerprint,
}

/// What is in it.
#[derive(Serialize, Deserialize)]
struct Content {
    /// Which import it is about.
    import: Fingerprint,
    /// How far that got.
    #[serde(flatten)]
    done: Done,
}

impl PositionFile {
    /// The file at this path, about this import.
    pub(crate) fn new(path: PathBuf, fingerprint: Fingerprint) -> Self {
        Self { path, fingerprint }
    }

    /// How far the same import got before; `None`: there was none, or it is through.
    pub(crate) fn read(&self) -> Option<Done> {
        let text = fs::read_to_string(&self.path).ok()?;
        let content: Content = serde_json::from_str(&text).ok()?;
        (content.import == self.fingerprint && content.done.rows > 0).then_some(content.done)
    }

    /// Remembers; a reader sees the old content or the new one.
    pub(crate) fn write(&self, done: Done) -> io::Result<()> {
        let content = Content {
            import: self.fingerprint.clone(),
            done,
        };
        let new = self.new_path();
        let mut file = fs::File::create(&new)?;
        file.write_all(serde_json::to_string(&content)?.as_bytes())?;
        fs::rename(&new, &self.path)
    }

    /// Whether something can be remembered there.
    pub(crate) fn probe(&self) -> io::Result<()> {
        let new = self.new_path();
        fs::File::create(&new)?;
        fs::remove_file(&new)
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the content is written before it takes its place.
    fn new_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        PathBuf::from(name)
    }

    /// The import is through.
    pub(crate) fn remove(&self) {
        // Where there is none, or it cannot be removed, the next import starts after its last row
        // and finds nothing to do, or starts from the first row and changes nothing.
        let _left = fs::remove_file(&self.path);
    }
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_belongs_to_one_file_and_purpose() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("position");
        let print = |length, purpose: &str| Fingerprint::new(b"head", Some(length), &[purpose]);
        let done = Done {
            rows: 7,
            accepted: 5,
            rejected: 2,
            ..Done::default()
        };
        let position = PositionFile::new(path.clone(), print(10, "a"));
        assert_eq!(position.read(), None);
        position.write(done).unwrap();
        assert_eq!(position.read(), Some(done));
        assert_eq!(PositionFile::new(path.clone(), print(11, "a")).read(), None);
        assert_eq!(PositionFile::new(path.clone(), print(10, "b")).read(), None);
        position.remove();
        assert_eq!(position.read(), None);
    }
}
