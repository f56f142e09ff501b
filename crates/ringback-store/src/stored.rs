//! The stored form of everything: types of the store's own, apart from those of the domain, which may change
//! freely without changing a stored byte.
//!
//! Every record states the version of its kind, and every version that was ever written stays readable: a changed
//! record gets a new version, whose reader is added to the older ones. Records of the directory are JSON with
//! named fields. Records written for every call are positional (postcard), and tests pin their bytes. Any new
//! version raises the number in the file `FORMAT`, so that an older program refuses what it would misread.

pub(crate) mod answer;
pub(crate) mod audit;
pub(crate) mod batch_record;
pub(crate) mod directory;
pub(crate) mod format1;
pub(crate) mod log_record;
pub(crate) mod opt_out;
pub(crate) mod place;
pub(crate) mod routed;
pub(crate) mod session;

use ringback_routing::{CallStatus, Caller, E164, Outcome, Reason};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use ringback_engine::Call;
use ringback_routing::{AgentId, EnvironmentId, Timestamp};

/// A UUID as its sixteen bytes.
pub(crate) type Id = [u8; 16];

/// The stored number of a status.
pub(crate) const fn status_code(status: CallStatus) -> u8 {
    match status {
        CallStatus::Initiated => 0,
        CallStatus::Ringing => 1,
        CallStatus::Answered => 2,
        CallStatus::Voicemail => 3,
        CallStatus::NoAnswer => 4,
        CallStatus::Busy => 5,
        CallStatus::Failed => 6,
        CallStatus::Completed => 7,
    }
}

/// The status with this stored number.
pub(crate) fn status_of(code: u8) -> Option<CallStatus> {
    let mut all = CallStatus::ALL.into_iter();
    all.find(|status| status_code(*status) == code)
}

/// The stored number of an outcome.
const fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Callback => 0,
        Outcome::Default => 1,
        Outcome::Fallback => 2,
        Outcome::Refused => 3,
    }
}

/// The outcome with this stored number.
fn outcome_of(code: u8) -> Option<Outcome> {
    let mut all = Outcome::ALL.into_iter();
    all.find(|outcome| outcome_code(*outcome) == code)
}

/// The stored number of a reason.
const fn reason_code(reason: Reason) -> u8 {
    match reason {
        Reason::ReturnedCallSameNumber => 0,
        Reason::ReturnedCall => 1,
        Reason::CallerAnonymous => 2,
        Reason::CallerInvalid => 3,
        Reason::CallerNeverCalled => 4,
        Reason::SourceHasNoCallbackAgent => 5,
        Reason::CallbackAgentNotOwner => 6,
        Reason::CallbackAgentNotPublished => 7,
        Reason::CallExpired => 8,
        Reason::StatusNotEligible => 9,
        Reason::NumberUnknown => 10,
        Reason::NoAgentAvailable => 11,
        Reason::ContactOptedOut => 12,
        Reason::ContactReassigned => 13,
        Reason::CallerNotVerified => 14,
        Reason::CallbackAgentClosed => 15,
    }
}

/// The reason with this stored number.
fn reason_of(code: u8) -> Option<Reason> {
    let mut all = Reason::ALL.into_iter();
    all.find(|reason| reason_code(*reason) == code)
}

/// A call, version 1.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredCall<'a> {
    /// The environment of the agent.
    environment: Id,
    /// The call id.
    sid: &'a str,
    /// The agent that called.
    agent: Id,
    /// The number that was called: its digits as an integer.
    contact: u64,
    /// The number that it called from: its digits as an integer, if known.
    from: Option<u64>,
    /// See [`status_code`].
    status: u8,
    /// When it started, in milliseconds since 1970.
    started_at: i64,
}

impl<'a> StoredCall<'a> {
    /// The stored form of a call.
    pub(crate) fn new(call: &'a Call) -> Self {
        Self {
            environment: call.environment.0.into_bytes(),
            sid: &call.sid,
            agent: call.agent.0.into_bytes(),
            contact: call.contact.digits(),
            from: call.from.map(E164::digits),
            status: status_code(call.status),
            started_at: call.started_at.millis(),
        }
    }

    /// The call; `None` if a value is not one that was ever written.
    pub(crate) fn read(&self) -> Option<Call> {
        Some(Call {
            environment: EnvironmentId(Uuid::from_bytes(self.environment)),
            sid: self.sid.into(),
            agent: AgentId(Uuid::from_bytes(self.agent)),
            contact: E164::from_digits(self.contact)?,
            from: read_number(self.from)?,
            status: status_of(self.status)?,
            started_at: Timestamp::from_millis(self.started_at),
        })
    }
}

/// The caller of a routed call.
#[derive(Serialize, Deserialize)]
enum StoredCaller {
    /// The contact was erased.
    Forgotten,
    /// The digits of a number as an integer.
    Number(u64),
    /// The number was withheld.
    Anonymous,
    /// The number could not be read.
    Invalid,
}

impl StoredCaller {
    /// The stored form of a caller.
    fn new(caller: Option<Caller>) -> Self {
        match caller {
            None => Self::Forgotten,
            Some(Caller::Number(number)) => Self::Number(number.digits()),
            Some(Caller::Anonymous) => Self::Anonymous,
            Some(Caller::Invalid) => Self::Invalid,
        }
    }

    /// The caller, or `Some(None)` if it was erased; `None` if the digits are no number.
    fn read(&self) -> Option<Option<Caller>> {
        Some(match self {
            Self::Forgotten => None,
            Self::Number(digits) => Some(Caller::Number(E164::from_digits(*digits)?)),
            Self::Anonymous => Some(Caller::Anonymous),
            Self::Invalid => Some(Caller::Invalid),
        })
    }
}

/// An optional number; `None` if there are digits that are no number.
fn read_number(digits: Option<u64>) -> Option<Option<E164>> {
    match digits {
        None => Some(None),
        Some(digits) => E164::from_digits(digits).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_back_and_others_are_refused() {
        for status in CallStatus::ALL {
            assert_eq!(status_of(status_code(status)), Some(status));
        }
        for outcome in Outcome::ALL {
            assert_eq!(outcome_of(outcome_code(outcome)), Some(outcome));
        }
        for reason in Reason::ALL {
            assert_eq!(reason_of(reason_code(reason)), Some(reason));
        }
        assert_eq!(status_of(8), None);
        assert_eq!(outcome_of(4), None);
        assert_eq!(reason_of(16), None);
    }
}
