//! What contacts asked for, by the hash of the contact: version (1) ‖ the rest.

use ringback_routing::{EnvironmentId, OptOut, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Id;

/// The version that is written.
const VERSION: u8 = 1;

/// A wish not to be called, version 1.
#[derive(Serialize, Deserialize)]
struct StoredOptOut<'a> {
    environment: Id,
    reason: Option<&'a str>,
    /// In milliseconds since 1970.
    until: Option<i64>,
    /// In milliseconds since 1970.
    created_at: i64,
}

/// Calls from before an instant do not count, version 1.
#[derive(Serialize, Deserialize)]
struct StoredReassignment {
    environment: Id,
    /// In milliseconds since 1970.
    from: i64,
}

/// Appends the stored form of an opt-out.
pub(crate) fn write_opt_out(
    environment: EnvironmentId,
    opt_out: &OptOut,
    to: Vec<u8>,
) -> Result<Vec<u8>, postcard::Error> {
    let stored = StoredOptOut {
        environment: environment.0.into_bytes(),
        reason: opt_out.reason.as_deref(),
        until: opt_out.until.map(Timestamp::millis),
        created_at: opt_out.created_at.millis(),
    };
    postcard::to_extend(&stored, versioned(to))
}

/// Reads what [`write_opt_out`] wrote.
pub(crate) fn read_opt_out(value: &[u8]) -> Option<(EnvironmentId, OptOut)> {
    let stored: StoredOptOut<'_> = postcard::from_bytes(body(value)?).ok()?;
    let opt_out = OptOut {
        reason: stored.reason.map(Into::into),
        until: stored.until.map(Timestamp::from_millis),
        created_at: Timestamp::from_millis(stored.created_at),
    };
    Some((EnvironmentId(Uuid::from_bytes(stored.environment)), opt_out))
}

/// Appends the stored form of the instant from which on calls count.
pub(crate) fn write_reassignment(
    environment: EnvironmentId,
    from: Timestamp,
    to: Vec<u8>,
) -> Result<Vec<u8>, postcard::Error> {
    let stored = StoredReassignment {
        environment: environment.0.into_bytes(),
        from: from.millis(),
    };
    postcard::to_extend(&stored, versioned(to))
}

/// Reads what [`write_reassignment`] wrote.
pub(crate) fn read_reassignment(value: &[u8]) -> Option<(EnvironmentId, Timestamp)> {
    let stored: StoredReassignment = postcard::from_bytes(body(value)?).ok()?;
    Some((
        EnvironmentId(Uuid::from_bytes(stored.environment)),
        Timestamp::from_millis(stored.from),
    ))
}

/// The buffer with the version behind what is in it.
fn versioned(mut to: Vec<u8>) -> Vec<u8> {
    to.push(VERSION);
    to
}

/// What is behind the version, if that is known.
fn body(value: &[u8]) -> Option<&[u8]> {
    let (&VERSION, body) = value.split_first()? else {
        return None;
    };
    Some(body)
}
