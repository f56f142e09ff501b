//! The embedded store of Ringback: makes changes durable, keeps them, and reads them back.
//!
//! [`Store`] is the engine's [`Journal`](ringback_engine::Journal); its tables are the
//! [`Archive`](ringback_engine::Archive). A commit is appended to a log and synced, then put into
//! tables in memory, which are written to disk in the background. A backup is one state of all of it as a stream, of
//! which [`Store::restore`] makes a directory.

mod archive;
mod background;
mod backup;
mod batch;
mod check;
mod erasures;
mod error;
mod facts;
mod files;
mod format;
mod inspect;
mod interner;
mod interrupt;
mod key;
mod log;
mod lsm_files;
mod open;
mod prepare;
mod purge;
mod restore;
mod settings;
mod sid_filter;
mod snapshot;
mod store;
mod stored;
mod table;
mod tables;
mod upgrade;
mod writes;

#[cfg(test)]
mod tests;

pub use backup::{BackupProgress, BackupReader, ReadBackupError};
pub use error::OpenStoreError;
pub use facts::{read_facts, write_facts};
pub use inspect::{RecordCounts, StoreInfo};
pub use restore::{ErasedAgain, Erasures, RestoreError, RestoreSettings, Restored};
pub use settings::StoreSettings;
pub use store::Store;
