//! The memory and files that a store may use.

use std::time::Duration;

/// How much memory and how many files a store uses.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreSettings {
    /// Bytes of changes gathered in memory before they are written to the tables. Default 32 MiB. Twice as much
    /// is in use while they are being written, four times if the disk is slow. Opening after a crash replays as
    /// much.
    pub generation_bytes: u64,
    /// Bytes of tables cached in memory. Default 16 MiB.
    pub cache_bytes: u64,
    /// Files of tables kept open. Default 256.
    pub open_files: usize,
    /// How long after the erasure of a contact its traces are removed from the files; erasures within this time
    /// share one rewrite. Default one minute; longer if rewriting takes long.
    pub erase_after: Duration,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            generation_bytes: 32 << 20,
            cache_bytes: 16 << 20,
            open_files: 256,
            erase_after: Duration::from_secs(60),
        }
    }
}
