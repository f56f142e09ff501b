//! The embedded store of Ringback: makes changes durable, keeps them, and reads them back.
//!
//! [`Store`] is the engine's [`Journal`](ringback_engine::Journal); its tables are the
//! [`Archive`](ringback_engine::Archive). A commit is appended to a log and synced, then put into
//! tables in memory, which are written to disk in the background.

mod archive;
mod batch;
mod check;
mod error;
mod files;
mod format;
mod interner;
mod key;
mod log;
mod lsm_files;
mod prepare;
mod purge;
mod sid_filter;
mod store;
mod stored;
mod tables;
mod upgrade;
mod writes;

#[cfg(test)]
mod tests;

pub use error::OpenStoreError;
pub use store::{Store, StoreSettings};
