//! What is left of erased contacts: `/erasures`.

use ringback_routing::Timestamp;
use serde::{Deserialize, Serialize};

/// A line of `/erasures`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ErasureLine {
    /// An erasure.
    Erased(Erasure),
    /// The last line: without it, the others are not all.
    End(ErasuresEnd),
}

/// An erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// The name of the secret that keys the hash, the same on all servers of a cluster: eight hexadecimal digits.
    pub key: String,
    /// The hash of the contact: 32 hexadecimal digits.
    pub hash: String,
    /// When it was erased, the last time.
    pub erased_at: Timestamp,
}

/// The end of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasuresEnd {
    /// How many lines stand before it.
    pub count: u64,
}
