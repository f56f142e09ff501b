//! What is stored of environments, agents, numbers, roles and tokens, as plain data.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    AgentId, ConnectorId, Country, Dialect, E164, EnvironmentId, Hours, NumberForm, NumberId,
    NumberRulesRef, Timestamp, TokenHash, TokenId,
};

/// A tenant and its settings. What every call needs comes first, side by side in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct Environment {
    /// Its identifier.
    pub id: EnvironmentId,
    /// How old a call may be and still be returned, in seconds, where the role sets no window.
    pub recency_window_seconds: u64,
    /// Country in which numbers without `+` are read.
    pub default_country: Option<Country>,
    /// How digits without `+` or international prefix are read.
    #[serde(default)]
    pub number_form: NumberForm,
    /// Its name, set by the administrator.
    pub name: String,
    /// SIP URI with placeholders, such as `{agent_id}`, for agents that have no targets of their own.
    pub target_template: Option<String>,
    /// Where calls go when no agent takes them.
    pub fallback_targets: Vec<Target>,
    /// What an operator has said of targets, by destination.
    #[serde(default)]
    pub held_targets: Vec<HeldTarget>,
    /// When it was created, by the clock of the node that created it.
    pub created_at: Timestamp,
}

/// What an operator has said of a target: it is so whatever else is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldTarget {
    /// Scheme, host, port and transport of the target, as a URI.
    pub destination: String,
    /// Whether it is up; if not, it is used only where nothing else is left.
    pub is_up: bool,
    /// Since when.
    pub since: Timestamp,
}

/// How a target is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// It replies.
    Up,
    /// It is passed over while another one is up.
    Down,
    /// Nobody has asked it yet; it counts as up.
    #[default]
    Unknown,
}

impl TargetState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Up, Self::Down, Self::Unknown];

    /// Its name in the API and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

impl Environment {
    /// The recency window of an environment that sets none: 30 days, in seconds.
    pub const DEFAULT_RECENCY_WINDOW_SECONDS: u64 = 30 * 24 * 60 * 60;

    /// The rules by which its contacts and the numbers in API requests are read.
    #[must_use]
    pub const fn number_rules(&self) -> NumberRulesRef<'static> {
        NumberRulesRef {
            country: self.default_country,
            international_prefix: None,
            form: self.number_form,
        }
    }
}

/// An agent, inbound or outbound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its identifier.
    pub id: AgentId,
    /// The tenant that it belongs to; this never changes.
    pub environment: EnvironmentId,
    /// What it calls itself.
    pub name: String,
    /// What its owner calls it.
    pub label: String,
    /// What it is for.
    pub description: Option<String>,
    /// Whether it takes or makes calls.
    pub direction: Direction,
    /// Whether it is in use: drafts get no calls.
    pub status: AgentStatus,
    /// The numbers assigned to it, in the order given.
    pub phone_numbers: Vec<NumberId>,
    /// Where its calls go; empty: to the environment's template.
    pub targets: Vec<Target>,
    /// Its ids at platforms that have ids of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external_ids: BTreeMap<Dialect, String>,
    /// The callback role, of an inbound agent that holds one.
    pub role: Option<CallbackRole>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Which source agents' calls an inbound agent takes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackRole {
    /// The outbound agents whose calls come back here; at least one, no repeats, order kept.
    pub source_agents: Vec<AgentId>,
    /// How old a call may be, in seconds; `None`: the environment's window applies.
    pub recency_window_seconds: Option<u64>,
    /// Statuses that qualify a call, in the order given; empty: any.
    pub trigger_statuses: Vec<CallStatus>,
    /// When calls are taken back; `None`: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Box<Hours>>,
    /// Grows each time that any role is set; of two roles, the one with the greater value was set last and wins.
    pub set_sequence: u64,
}

/// A phone number of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhoneNumber {
    /// Its identifier.
    pub id: NumberId,
    /// The tenant that it belongs to.
    pub environment: EnvironmentId,
    /// The digits, in the spelling first recorded.
    pub number: E164,
    /// The country it was entered for, as ISO 3166-1 alpha-2, if known.
    pub country: Option<Country>,
    /// The agent for calls that no role claims.
    pub default_agent: Option<AgentId>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// The assignment of a number to an agent of its environment: the agent owns the number. Kept apart from the
/// number, which may have very many owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Assignment {
    /// The number.
    pub number: NumberId,
    /// The agent.
    pub agent: AgentId,
}

/// An API token: all but its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its identifier.
    pub id: TokenId,
    /// The tenant that it gives access to.
    pub environment: EnvironmentId,
    /// Its name, set by whoever created it.
    pub name: Option<String>,
    /// SHA-256 of the secret.
    pub hash: TokenHash,
    /// Whether answers to it show numbers of callers and contacts with all but their last digits hidden.
    pub masked: bool,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A connector: an address at which a platform asks where calls go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connector {
    /// Its identifier.
    pub id: ConnectorId,
    /// The tenant whose calls it asks about.
    pub environment: EnvironmentId,
    /// The language of the platform; this never changes.
    pub dialect: Dialect,
    /// Its name.
    pub name: Option<String>,
    /// SHA-256 of the key in its address.
    pub key: TokenHash,
    /// The key before that, and until when it holds.
    pub previous_key: Option<(TokenHash, Timestamp)>,
    /// What the platform proves itself with; `None`: the key alone.
    pub secret: Option<ConnectorSecret>,
    /// Its options, as a JSON object.
    pub options: String,
    /// What is answered when nothing routes, as a JSON object.
    pub on_nothing: String,
    /// When it was created.
    pub created_at: Timestamp,
}

/// The secret of a connector. It is never shown, in logs neither.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectorSecret(pub String);

impl fmt::Debug for ConnectorSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ConnectorSecret")
    }
}

/// One destination for a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A SIP URI.
    pub uri: String,
    /// Lower is tried first, as in SRV records (RFC 2782).
    pub priority: u16,
    /// Share within one priority, as in SRV records (RFC 2782).
    pub weight: u16,
}

/// Whether an agent takes or makes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// It takes calls; it may be a callback agent.
    Inbound,
    /// It makes calls; it may be a source agent.
    Outbound,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];

    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Whether an agent takes part in routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// Not in use: no call is routed to it, and it cannot become a source.
    Draft,
    /// It takes part in routing.
    Published,
}

impl AgentStatus {
    /// Both statuses.
    pub const ALL: [Self; 2] = [Self::Draft, Self::Published];

    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
        }
    }
}

/// How far an outbound call got. Variants are in rank order: the higher rank wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CallStatus {
    /// It was placed; nothing more is known.
    Initiated = 0,
    /// The contact's telephone rings.
    Ringing = 1,
    /// Somebody picked up.
    Answered = 2,
    /// A machine picked up.
    Voicemail = 3,
    /// Nobody picked up.
    NoAnswer = 4,
    /// The line was busy.
    Busy = 5,
    /// The call could not be set up.
    Failed = 6,
    /// The call ended after a conversation.
    Completed = 7,
}

/// The text names no call status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a call status")]
pub struct UnknownStatus(pub String);

impl CallStatus {
    /// Every status, in rank order.
    pub const ALL: [Self; 8] = [
        Self::Initiated,
        Self::Ringing,
        Self::Answered,
        Self::Voicemail,
        Self::NoAnswer,
        Self::Busy,
        Self::Failed,
        Self::Completed,
    ];

    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::Answered => "answered",
            Self::Voicemail => "voicemail",
            Self::NoAnswer => "no_answer",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::Completed => "completed",
        }
    }

    /// The status of this rank; the low three bits count.
    #[must_use]
    pub const fn from_rank(rank: u8) -> Self {
        Self::ALL[(rank & 7) as usize]
    }
}

impl fmt::Display for CallStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for CallStatus {
    type Err = UnknownStatus;

    /// Reads the JSON name, and the words of other systems for the same status, in any case. A space, `-` and `_`
    /// between words are equal. Known are the words of the Twilio API (`queued`, `in-progress`, `no-answer`,
    /// `canceled`), and those of Asterisk's call records and `DIALSTATUS` (`ANSWERED`, `ANSWER`, `NO ANSWER`,
    /// `NOANSWER`, `CANCEL`, `CONGESTION`, `CHANUNAVAIL`).
    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        let unknown = || UnknownStatus(text.to_owned());
        let word = text.trim_ascii();
        let mut buffer = [0; LONGEST_STATUS];
        let folded = buffer.get_mut(..word.len()).ok_or_else(unknown)?;
        for (folded, byte) in folded.iter_mut().zip(word.bytes()) {
            *folded = match byte {
                b' ' | b'-' => b'_',
                other => other.to_ascii_lowercase(),
            };
        }
        Ok(match &*folded {
            b"initiated" | b"queued" => Self::Initiated,
            b"ringing" => Self::Ringing,
            b"answered" | b"answer" | b"in_progress" | b"inprogress" => Self::Answered,
            b"voicemail" => Self::Voicemail,
            b"no_answer" | b"noanswer" | b"canceled" | b"cancelled" | b"cancel" => Self::NoAnswer,
            b"busy" => Self::Busy,
            b"failed" | b"congestion" | b"chanunavail" => Self::Failed,
            b"completed" => Self::Completed,
            _ => return Err(unknown()),
        })
    }
}

/// The length of the longest known word for a status, in bytes.
const LONGEST_STATUS: usize = 16;

impl Serialize for CallStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(self.name())
        } else {
            serializer.serialize_u8(*self as u8)
        }
    }
}

impl<'de> Deserialize<'de> for CallStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(serde::de::Error::custom)
        } else {
            u8::deserialize(deserializer).map(Self::from_rank)
        }
    }
}

/// A set of call statuses; the empty set of a role means any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusSet(u8);

impl StatusSet {
    /// Whether the status is in the set.
    #[must_use]
    pub const fn contains(self, status: CallStatus) -> bool {
        self.0 & (1 << status as u8) != 0
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<CallStatus> for StatusSet {
    fn from_iter<I: IntoIterator<Item = CallStatus>>(statuses: I) -> Self {
        Self(
            statuses
                .into_iter()
                .fold(0, |bits, status| bits | 1 << status as u8),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Statuses in the words of other systems used to be refused with the whole call, so that the contact was
    // forgotten.
    #[test]
    fn statuses_are_read_in_any_case_and_in_the_words_of_others() {
        for (status, words) in [
            (CallStatus::Initiated, &["queued"][..]),
            (CallStatus::Ringing, &[]),
            (
                CallStatus::Answered,
                &[
                    "in-progress",
                    "in_progress",
                    "IN PROGRESS",
                    "ANSWERED",
                    "ANSWER",
                ],
            ),
            (CallStatus::Voicemail, &[]),
            (
                CallStatus::NoAnswer,
                &[
                    "no-answer",
                    "NO ANSWER",
                    "NOANSWER",
                    "noanswer",
                    "canceled",
                    "cancelled",
                    "CANCEL",
                ],
            ),
            (CallStatus::Busy, &["BUSY"]),
            (CallStatus::Failed, &["FAILED", "CONGESTION", "CHANUNAVAIL"]),
            (CallStatus::Completed, &[" completed "]),
        ] {
            for word in words.iter().chain([&status.name()]) {
                let capital = format!("{}{}", word[..1].to_uppercase(), &word[1..]);
                for word in [word.to_lowercase(), word.to_uppercase(), capital] {
                    assert_eq!(word.parse(), Ok(status), "{word}");
                }
            }
            // The stored and shown status is always our own word.
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
    }

    #[test]
    fn an_unknown_status_is_an_error_that_names_it() {
        let long = "no_answer".repeat(1_000);
        for text in [
            "",
            " ",
            "gone",
            "no__answer",
            "answered!",
            "b\u{fc}sy",
            "BU\u{17f}Y",
            &long,
        ] {
            let error = text.parse::<CallStatus>().unwrap_err();
            assert_eq!(error, UnknownStatus(text.to_owned()));
        }
    }
}
