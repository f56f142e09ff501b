//! What contacts ask for: `/opt-outs`, `/contacts/{number}/reassigned`, and being forgotten.

use ringback_routing::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ShownNumber;

/// Whether a contact wants to be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOut {
    /// Its number, as it was asked about.
    pub number: ShownNumber,
    /// Whether it does not want to be called.
    pub opted_out: bool,
    /// Why, in a word of whoever noted it.
    pub reason: Option<String>,
    /// Until when; none: for good.
    pub until: Option<Timestamp>,
    /// When it was noted.
    pub created_at: Option<Timestamp>,
}

/// A contact that does not want to be called: `PUT /opt-outs/{number}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOutNew {
    /// Why: 1 to 40 of `a-z`, `0-9`, `_`, `.` and `-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until when (RFC 3339), ahead; left out: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A contact that does not want to be called, in the list of all, which knows no numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOutRow {
    /// The keyed hash of the contact, hexadecimal.
    pub id: String,
    /// Why, in a word of whoever noted it.
    pub reason: Option<String>,
    /// Until when; none: for good.
    pub until: Option<Timestamp>,
    /// When it was noted.
    pub created_at: Timestamp,
}

/// A number was given to somebody else: `POST /contacts/{number}/reassigned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReassignedNew {
    /// The day, UTC, before which calls do not count: `2026-11-21`.
    pub before: String,
}

/// A number that was given to somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reassigned {
    /// The number, as it was asked about.
    pub number: ShownNumber,
    /// The day, UTC, before which calls do not count; of several the latest.
    pub before: String,
}

/// A contact that was forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Its number, as it was asked about.
    pub number: ShownNumber,
    /// When it was forgotten.
    pub erased_at: Timestamp,
    /// When the data directory and the log are free of it.
    pub clean_by: Timestamp,
}
