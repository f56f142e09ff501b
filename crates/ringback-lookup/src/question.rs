//! What platforms ask, in one form for all of them.

use ringback_routing::Attestation;

/// What a request turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Where a call goes.
    Question(Question),
    /// What to do after a target was dialed.
    Step(StepQuestion),
    /// Something that the platform also sends here and that is not about where a call goes: answered as when nothing
    /// routes, and not counted.
    Other,
    /// It cannot be read, or names no dialed number.
    Malformed,
}

/// Where does this call go?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The dialed number as it was written: a number, a URI or a name-addr.
    pub to: String,
    /// The caller likewise; empty: withheld.
    pub from: String,
    /// The platform's call id, 1 to 255 bytes; `None`: there is none that could be used.
    pub sid: Option<String>,
    /// How far the platform says that the caller's number is attested (Twilio, Telnyx).
    pub attestation: Option<Attestation>,
    /// The dialplan context that the answer is for (FreeSWITCH).
    pub dialplan_context: Option<String>,
}

impl Question {
    /// A question about a call, if it names a dialed number.
    pub(crate) fn about(to: Option<String>, from: Option<String>, sid: Option<String>) -> Asked {
        match to {
            Some(to) if !to.trim().is_empty() => Asked::Question(Self {
                to,
                from: from.unwrap_or_default(),
                sid: usable_sid(sid),
                attestation: None,
                dialplan_context: None,
            }),
            _ => Asked::Malformed,
        }
    }
}

/// A call id that can be used: 1 to 255 bytes.
pub(crate) fn usable_sid(sid: Option<String>) -> Option<String> {
    sid.filter(|sid| (1..=MAX_SID_BYTES).contains(&sid.len()))
}

/// What comes after a target was dialed?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepQuestion {
    /// The platform's call id.
    pub sid: Option<String>,
    /// The caller, as in [`Question::from`]: targets may name it.
    pub from: String,
    /// How many targets were dialed, from 1.
    pub step: usize,
    /// How dialing the last one ended.
    pub end: DialEnd,
}

/// How dialing a target ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialEnd {
    /// The target answered.
    Answered,
    /// The caller hung up.
    Canceled,
    /// The target did not take the call.
    Failed,
}

impl DialEnd {
    /// The end with the word that platforms use for it.
    pub(crate) fn from_status(status: &str) -> Self {
        match status {
            "completed" | "answered" => Self::Answered,
            "canceled" => Self::Canceled,
            _ => Self::Failed,
        }
    }
}

/// The longest call id, in bytes.
const MAX_SID_BYTES: usize = 255;
