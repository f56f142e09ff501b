//! The embedded store of Ringback: makes changes durable, keeps them, and reads them back.
//!
//! [`Store`] is the engine's [`Journal`](ringback_engine::Journal); its tables are the
//! [`Archive`](ringback_engine::Archive). A commit is appended to a log and synced, then put into
//! tables in memory, which are written to disk in the background.

mod archive;
mod background;
mod batch;
mod check;
mod erasures;
mod error;
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
mod settings;
mod sid_filter;
mod store;
mod stored;
mod table;
mod tables;
mod upgrade;
mod writes;

#[cfg(test)]
mod tests;

pub use error::OpenStoreError;
pub use inspect::{RecordCounts, StoreInfo};
pub use settings::StoreSettings;
pub use store::Store;
