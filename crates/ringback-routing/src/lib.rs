//! Who should answer a returning call: numbers, agents, callback roles, remembered calls, and the decision.
//!
//! This crate is pure: no runtime, socket, file, clock or entropy. The caller brings `now`.
//! The call path reads two things: the [`Directory`] (environments, agents, numbers, roles: an
//! immutable snapshot) and the calls remembered of a contact, from whatever implements [`Contacts`]
//! (`ringback-index` does). [`decide`] turns them and a [`Question`] into a [`Decision`].

mod attestation;
mod contact_rights;
mod contacts;
mod decision;
mod directory;
mod explanation;
mod forwarded;
mod hours;
mod id;
mod learned;
mod number;
mod owners;
mod persistent;
mod placeholder;
mod record;
mod target_order;
mod targets;
mod timestamp;
mod via;

pub use attestation::{Attestation, UnknownAttestation};
pub use contact_rights::{ContactHash, ContactKey, ContactRights, OptOut};
pub use contacts::{ContactUnreadable, Contacts, RecentCalls, RememberedCall};
pub use decision::{Decision, DialedNumber, Outcome, Question, Reason, decide, decide_dialed};
pub use directory::{Directory, DirectoryAgent, DirectoryEnvironment, DirectoryNumber, TokenHash};
pub use explanation::{Considered, NamedAgent, Rung, Step, explain};
pub use forwarded::{AttemptCause, EndedBy, ForwardedCall, TargetAttempt};
pub use hours::{Hours, HoursProblem, HoursSpec, SpecialDay, Week};
pub use id::{
    AgentId, AgentSlot, AgentSlots, ConnectorId, EnvironmentId, EnvironmentSlot, NumberId, TokenId,
    read_id,
};
pub use learned::LearnedCall;
pub use number::{
    Caller, Country, E164, NumberForm, NumberRules, NumberRulesRef, UnknownCountry, WrittenNumber,
};
pub use placeholder::Placeholders;
pub use record::{
    Agent, AgentStatus, Assignment, CallStatus, CallbackRole, Connector, ConnectorSecret,
    Direction, Environment, HeldTarget, PhoneNumber, StatusSet, Target, TargetState, Token,
    UnknownStatus,
};
pub use target_order::{Ranked, order_targets};
pub use targets::{TargetSet, UserSet};
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use via::{CallVia, Dialect};
