//! The messages of the stream.
//!
//! A message is: `RB` (2), the version of this layout (1), the kind (1), the chain before it (16), the sequence
//! before it (8), the author's instance (8), the number of the author's append (8), the index of the part (2), the
//! number of parts (2), the rest (facts as the store encodes them). Numbers are little-endian.
//!
//! Facts that do not fit into one message are cut into parts, which take effect with the last one.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The hash of a log up to one of its messages: two logs with equal chains at a sequence are equal up to there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(pub [u8; 16]);

impl Chain {
    /// The chain of an empty log of this cluster.
    #[must_use]
    pub fn start(cluster: Uuid) -> Self {
        Self::of(&[cluster.as_bytes()])
    }

    /// The chain behind one more message.
    #[must_use]
    pub fn then(self, message: &[u8]) -> Self {
        Self::of(&[&self.0, message])
    }

    /// Reads what [`Display`](std::fmt::Display) writes.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut chain = [0; 16];
        if text.len() != 2 * chain.len() || !text.is_ascii() {
            return None;
        }
        for (index, byte) in chain.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(chain))
    }

    /// The hash of these bytes: half of SHA-256.
    fn of(pieces: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for piece in pieces {
            hash.update(piece);
        }
        let mut chain = [0; 16];
        for (to, from) in chain.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Self(chain)
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{self}")
    }
}

/// How far a log was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The sequence of the last message that was read; 0 before the first.
    pub sequence: u64,
    /// The chain up to this message.
    pub chain: Chain,
}

/// Which append a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppendId {
    /// The run of a node that appended: made at each start, never the same twice.
    pub instance: u64,
    /// The number of the append in this run.
    pub number: u64,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Facts, or a part of them.
    Facts = 1,
    /// Nothing: it takes a sequence, so that a message of which nobody knows whether it will come cannot take it.
    Fence = 2,
    /// What comes before a sequence (8) is not needed any more, and is purged.
    Trim = 3,
}

/// A message, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// What it is for.
    pub(crate) kind: Kind,
    /// Where it follows.
    pub(crate) after: Place,
    /// The append that it belongs to.
    pub(crate) append: AppendId,
    /// The index of this part.
    pub(crate) part: u16,
    /// How many parts the append has.
    pub(crate) parts: u16,
    /// The rest.
    pub(crate) body: &'a [u8],
}

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A newer program wrote it: this node must be upgraded.
    #[error("a message of version {0} needs a newer program")]
    Version(u8),
    /// Nobody of the cluster wrote it.
    #[error("a message that no node has written")]
    Foreign,
}

impl<'a> Message<'a> {
    /// The bytes of the message.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(HEADER_LENGTH + self.body.len());
        to.extend_from_slice(MAGIC);
        to.extend_from_slice(&[VERSION, self.kind as u8]);
        to.extend_from_slice(&self.after.chain.0);
        to.extend_from_slice(&self.after.sequence.to_le_bytes());
        to.extend_from_slice(&self.append.instance.to_le_bytes());
        to.extend_from_slice(&self.append.number.to_le_bytes());
        to.extend_from_slice(&self.part.to_le_bytes());
        to.extend_from_slice(&self.parts.to_le_bytes());
        to.extend_from_slice(self.body);
        to
    }

    /// The floor, if this is a marker.
    pub(crate) fn floor(&self) -> Option<u64> {
        let floor = <[u8; 8]>::try_from(self.body).ok()?;
        (self.kind == Kind::Trim).then(|| u64::from_le_bytes(floor))
    }

    /// Reads the bytes of a message.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(MessageError::Foreign)?;
        let (&version, mut rest) = rest.split_first().ok_or(MessageError::Foreign)?;
        if version != VERSION {
            return Err(MessageError::Version(version));
        }
        let kind = match take(&mut rest)? {
            [1] => Kind::Facts,
            [2] => Kind::Fence,
            [3] => Kind::Trim,
            _ => return Err(MessageError::Foreign),
        };
        let chain = Chain(take(&mut rest)?);
        let sequence = u64::from_le_bytes(take(&mut rest)?);
        let append = AppendId {
            instance: u64::from_le_bytes(take(&mut rest)?),
            number: u64::from_le_bytes(take(&mut rest)?),
        };
        let part = u16::from_le_bytes(take(&mut rest)?);
        let parts = u16::from_le_bytes(take(&mut rest)?);
        if part >= parts {
            return Err(MessageError::Foreign);
        }
        Ok(Self {
            kind,
            after: Place { sequence, chain },
            append,
            part,
            parts,
            body: rest,
        })
    }
}

/// The next bytes.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], MessageError> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(MessageError::Foreign)?;
    *bytes = rest;
    Ok(*taken)
}

/// What every message begins with.
const MAGIC: &[u8] = b"RB";

/// The version of the layout.
const VERSION: u8 = 1;

/// Bytes before the rest.
pub(crate) const HEADER_LENGTH: usize = 2 + 1 + 1 + 16 + 8 + 8 + 8 + 2 + 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Message<'static> {
        Message {
            kind: Kind::Facts,
            after: Place {
                sequence: 0x0102,
                chain: Chain([7; 16]),
            },
            append: AppendId {
                instance: 3,
                number: 4,
            },
            part: 1,
            parts: 2,
            body: b"facts",
        }
    }

    /// Nodes of different versions read one log, so the bytes must not change.
    #[test]
    fn the_bytes_of_a_message_are_pinned() {
        let hex: String = sample()
            .write()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "52420101070707070707070707070707070707070201000000000000\
             0300000000000000040000000000000001000200\
             6661637473"
        );
    }

    #[test]
    fn a_message_is_read_as_it_was_written_and_a_cut_one_is_foreign() {
        let bytes = sample().write();
        assert_eq!(Message::read(&bytes), Ok(sample()));
        for length in 0..HEADER_LENGTH {
            assert_eq!(Message::read(&bytes[..length]), Err(MessageError::Foreign));
        }
    }

    #[test]
    fn a_message_of_a_newer_version_says_so() {
        let mut bytes = sample().write();
        bytes[2] = 2;
        assert_eq!(Message::read(&bytes), Err(MessageError::Version(2)));
    }

    #[test]
    fn chains_differ_by_cluster_and_by_every_message() {
        let start = Chain::start(Uuid::from_u128(1));
        assert_ne!(start, Chain::start(Uuid::from_u128(2)));
        assert_ne!(start.then(b"a").then(b"b"), start.then(b"b").then(b"a"));
        assert_eq!(start.then(b"a"), start.then(b"a"));
    }
}
