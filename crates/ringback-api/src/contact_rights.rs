//! What contacts ask for: `/opt-outs`, `/contacts/{number}/reassigned`, and being forgotten.

use ringback_routing::{E164, NumberId, Outcome, Reason, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{AgentName, Call, Decision, ShownNumber};

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

/// All that is known of a number: `GET /contacts/{number}/export`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactExport {
    /// The number, as it was asked about.
    pub number: ShownNumber,
    /// When this was read.
    pub exported_at: Timestamp,
    /// Every call to it that is stored, newest first, also those that do not decide.
    pub calls: Vec<Call>,
    /// The latest decisions on its own calls, newest first, as far as they are remembered.
    pub routed_calls: Vec<Decision>,
    /// That it does not want to be called.
    pub opt_out: Option<OptOut>,
    /// The day before which calls to it do not count, as `2026-11-21`.
    pub reassigned_before: Option<String>,
}

/// A number that outbound calls came from: `GET /phone-numbers/audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallingNumber {
    /// The number.
    pub number: E164,
    /// Whether it is a number of the environment.
    pub owned: bool,
    /// Its identifier, if it is.
    pub phone_number_id: Option<NumberId>,
    /// How many calls came from it in the last 30 days.
    pub calls: u64,
    /// When the newest of them started.
    pub last_called_at: Timestamp,
    /// Where a return by the contact of the newest call would go now.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The agent that would take it.
    pub agent: Option<AgentName>,
}
