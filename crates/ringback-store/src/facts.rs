//! The stored form of facts, for a log that others keep.

use ringback_engine::{Change, JournalError};

use crate::error::unavailable;
use crate::stored::log_record;

/// The bytes of facts, each with its kind and version: as the log of the store has them.
///
/// # Errors
/// A fact cannot be written: it is larger than a record may be.
pub fn write_facts(facts: &[Change]) -> Result<Vec<u8>, JournalError> {
    log_record::write(facts, Vec::new()).map_err(unavailable)
}

/// Reads the bytes of facts, of any version that was ever written.
///
/// # Errors
/// What cannot be read: facts that are damaged, or that a newer program wrote.
pub fn read_facts(bytes: &[u8]) -> Result<Vec<Change>, String> {
    log_record::read(bytes)
}
