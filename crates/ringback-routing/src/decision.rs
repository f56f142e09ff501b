//! The decision: which agent should take a call, and why.
//!
//! Pure: no I/O, no clock, no allocation. SIP, HTTP and the command line all ask here; the
//! explanation is the same code with an observer (see [`crate::explain`]).

use std::slice;

use prefetch_index::prefetch_index;
use serde::{Deserialize, Serialize};

use crate::{
    AgentId, Caller, ContactUnreadable, Contacts, Directory, DirectoryAgent, DirectoryEnvironment,
    DirectoryNumber, E164, Placeholders, RememberedCall, Target, TargetSet, Timestamp, UserSet,
};

/// Decides where a call goes.
///
/// # Errors
/// What is remembered of the caller cannot be read at present, so any answer could be wrong.
pub fn decide<'d>(
    directory: &'d Directory,
    contacts: &impl Contacts,
    question: &Question<'_>,
) -> Result<Decision<'d>, ContactUnreadable> {
    let number = question.dialed.and_then(|dialed| directory.dialed(dialed));
    decide_dialed(directory, number, contacts, question)
}

/// Decides as [`decide`], for a dialed number that was already looked up in this directory; `None`: it is not
/// ours, or cannot be read.
///
/// # Errors
/// As [`decide`].
pub fn decide_dialed<'d>(
    directory: &'d Directory,
    number: Option<DialedNumber<'d>>,
    contacts: &impl Contacts,
    question: &Question<'_>,
) -> Result<Decision<'d>, ContactUnreadable> {
    resolve(directory, number, contacts, question, &mut Unobserved)
}

/// Tries the rungs, from the best answer to the last resort; `observer` is called with the result of each one.
pub(crate) fn resolve<'d>(
    directory: &'d Directory,
    number: Option<DialedNumber<'d>>,
    contacts: &impl Contacts,
    question: &Question<'_>,
    observer: &mut impl Observer,
) -> Result<Decision<'d>, ContactUnreadable> {
    let Some(DialedNumber {
        number,
        environment,
    }) = number
    else {
        observer.number_unknown();
        return Ok(Decision::refused(directory, Reason::NumberUnknown));
    };
    let place = Place {
        directory,
        number,
        environment,
        question,
    };

    let failure = match returned_call(&place, contacts, observer)? {
        Ok(callback) => return Ok(callback),
        Err(failure) => failure,
    };
    if let Some(agent) = default_agent(&place, observer) {
        return Ok(Decision {
            outcome: Outcome::Default,
            reason: failure,
            agent: Some(agent),
            target_set: agent.target_set(environment),
            ..place.unanswered()
        });
    }
    let fallback = &environment.record.fallback_targets;
    let filling = place.placeholders(None, None);
    let held = environment.fallback().has_one_for_all(question.avoided)
        || fallback
            .iter()
            .any(|target| (question.usable)(target, &filling));
    observer.fallback(held);
    if held {
        return Ok(Decision {
            outcome: Outcome::Fallback,
            reason: failure,
            target_set: environment.fallback(),
            ..place.unanswered()
        });
    }
    Ok(place.unanswered())
}

/// A call to decide on.
#[derive(Clone, Copy)]
pub struct Question<'q> {
    /// The dialed number; `None`: it could not be read.
    pub dialed: Option<E164>,
    /// The caller, as read from the request.
    pub caller: Caller,
    /// Whether the caller's number is attested as high as the source of the call must; true where nothing is asked for.
    pub is_verified: bool,
    /// The time of the call: the recency window is counted back from it.
    pub now: Timestamp,
    /// `usable` may reject only targets whose user is in this set: the user of the SIP request's own URI.
    pub avoided: UserSet,
    /// Whether the call can be sent to a target, once its placeholders are filled in. A SIP request cannot be
    /// sent back to its own URI.
    pub usable: &'q dyn Fn(&Target, &Placeholders) -> bool,
}

/// A dialed number that one of our environments owns.
#[derive(Clone, Copy, Debug)]
pub struct DialedNumber<'d> {
    /// The number's entry in the directory.
    pub number: &'d DirectoryNumber,
    /// The environment that owns it.
    pub environment: &'d DirectoryEnvironment,
}

impl DialedNumber<'_> {
    /// Begins to fetch what a decision reads of the number and its environment, without waiting for it.
    pub fn prefetch(&self) {
        prefetch_index(slice::from_ref(self.number), 0);
        prefetch_index(slice::from_ref(self.environment), 0);
    }

    /// Begins to fetch the list of the number's owners, without waiting for it.
    pub fn prefetch_owners(&self) {
        self.number.prefetch_owners();
    }
}

/// The answer; it borrows from the directory that the decision read.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'d> {
    /// Where the call goes: to an agent, to fallback targets, or nowhere.
    pub outcome: Outcome,
    /// The stable reason for the outcome.
    pub reason: Reason,
    /// The environment that owns the dialed number.
    pub environment: Option<&'d DirectoryEnvironment>,
    /// The agent that takes the call.
    pub agent: Option<&'d DirectoryAgent>,
    /// The outbound agent whose call is returned.
    pub source_agent: Option<&'d DirectoryAgent>,
    /// The call that is returned.
    pub call: Option<RememberedCall>,
    /// Summary of the targets: placeholders and users in them.
    pub target_set: TargetSet,
    /// The directory that the decision read.
    directory: &'d Directory,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It goes to the callback agent.
    Callback,
    /// It goes to the number's default agent.
    Default,
    /// It goes to the environment's fallback targets.
    Fallback,
    /// It is refused.
    Refused,
}

/// Why a call goes where it goes.
/// The six failures of a remembered call are declared in the order in which they are checked. Of several roles,
/// the one that got furthest gives the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Reason {
    /// The newest qualifying call was placed from the dialed number.
    ReturnedCallSameNumber,
    /// The newest qualifying call was placed from another number.
    ReturnedCall,
    /// The caller withheld the number.
    CallerAnonymous,
    /// The caller's number cannot be read.
    CallerInvalid,
    /// The caller's number is not attested as high as the source of the call must.
    CallerNotVerified,
    /// The caller has asked not to be called.
    ContactOptedOut,
    /// No call to this caller is remembered.
    CallerNeverCalled,
    /// Calls to this number are remembered, all from before it was given to somebody else.
    ContactReassigned,
    /// No role names the agent that called.
    SourceHasNoCallbackAgent,
    /// The callback agent does not own the dialed number: it is not assigned to it.
    CallbackAgentNotOwner,
    /// The callback agent is not published, or has no usable target.
    CallbackAgentNotPublished,
    /// The callback agent takes no calls back at this time.
    CallbackAgentClosed,
    /// The call is older than the recency window.
    CallExpired,
    /// The call's status is not among the role's trigger statuses.
    StatusNotEligible,
    /// The dialed number is not one of ours.
    NumberUnknown,
    /// The number has no usable default agent, and its environment no usable fallback target.
    NoAgentAvailable,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Callback, Self::Default, Self::Fallback, Self::Refused];

    /// The name in JSON, headers and metrics; it never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Default => "default",
            Self::Fallback => "fallback",
            Self::Refused => "refused",
        }
    }

    /// Whether a decision with this outcome can have this reason.
    #[must_use]
    pub const fn can_have(self, reason: Reason) -> bool {
        match reason {
            Reason::ReturnedCallSameNumber | Reason::ReturnedCall => {
                matches!(self, Self::Callback)
            }
            Reason::NumberUnknown | Reason::NoAgentAvailable => matches!(self, Self::Refused),
            _ => matches!(self, Self::Default | Self::Fallback),
        }
    }
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::ReturnedCallSameNumber,
        Self::ReturnedCall,
        Self::CallerAnonymous,
        Self::CallerInvalid,
        Self::CallerNotVerified,
        Self::ContactOptedOut,
        Self::CallerNeverCalled,
        Self::ContactReassigned,
        Self::SourceHasNoCallbackAgent,
        Self::CallbackAgentNotOwner,
        Self::CallbackAgentNotPublished,
        Self::CallbackAgentClosed,
        Self::CallExpired,
        Self::StatusNotEligible,
        Self::NumberUnknown,
        Self::NoAgentAvailable,
    ];

    /// The name in JSON, headers and metrics; it never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReturnedCallSameNumber => "returned_call_same_number",
            Self::ReturnedCall => "returned_call",
            Self::CallerAnonymous => "caller_anonymous",
            Self::CallerInvalid => "caller_invalid",
            Self::CallerNotVerified => "caller_not_verified",
            Self::ContactOptedOut => "contact_opted_out",
            Self::CallerNeverCalled => "caller_never_called",
            Self::ContactReassigned => "contact_reassigned",
            Self::SourceHasNoCallbackAgent => "source_has_no_callback_agent",
            Self::CallbackAgentNotOwner => "callback_agent_not_owner",
            Self::CallbackAgentNotPublished => "callback_agent_not_published",
            Self::CallbackAgentClosed => "callback_agent_closed",
            Self::CallExpired => "call_expired",
            Self::StatusNotEligible => "status_not_eligible",
            Self::NumberUnknown => "number_unknown",
            Self::NoAgentAvailable => "no_agent_available",
        }
    }
}

impl<'d> Decision<'d> {
    /// Where to send the call, with placeholders not filled in. Targets that `usable` rejects are still included.
    #[must_use]
    pub fn targets(&self) -> &'d [Target] {
        match (self.agent, self.environment) {
            (Some(agent), _) => self.directory.targets(agent),
            (None, Some(environment)) if self.outcome == Outcome::Fallback => {
                &environment.record.fallback_targets
            }
            _ => &[],
        }
    }

    /// The values of the placeholders in its targets, for a call from this caller to this number.
    #[must_use]
    pub fn placeholders(&self, dialed: Option<E164>, caller: Caller) -> Placeholders {
        Placeholders {
            agent: self.agent.map(|agent| agent.record.id),
            source_agent: self.source_agent.map(|agent| agent.record.id),
            dialed,
            caller,
        }
    }

    /// A refusal for a number that no environment owns.
    fn refused(directory: &'d Directory, reason: Reason) -> Self {
        Self {
            outcome: Outcome::Refused,
            reason,
            environment: None,
            agent: None,
            source_agent: None,
            call: None,
            target_set: TargetSet::default(),
            directory,
        }
    }
}

/// Receives the result of each rung. Every function does nothing by default.
pub(crate) trait Observer {
    /// No environment owns the dialed number.
    fn number_unknown(&mut self) {}
    /// The caller has no readable number, asked not to be called, or no call to that number counts.
    fn nothing_remembered(&mut self, _reason: Reason) {}
    /// One remembered call was checked against the roles.
    fn call_weighed(
        &mut self,
        _place: &Place<'_, '_>,
        _call: &RememberedCall,
        _source: &DirectoryAgent,
        _result: Result<&DirectoryAgent, Reason>,
    ) {
    }
    /// A callback rung was decided.
    fn callback(&mut self, _reason: Reason, _agent: Option<&DirectoryAgent>) {}
    /// The default rung was decided.
    fn default_agent(&mut self, _agent: Option<&DirectoryAgent>) {}
    /// The fallback rung was decided.
    fn fallback(&mut self, _held: bool) {}
}

/// The observer of the call path: it ignores everything.
struct Unobserved;

impl Observer for Unobserved {}

/// A question whose dialed number has been found, with its environment.
pub(crate) struct Place<'d, 'q> {
    /// The snapshot that all lookups read.
    pub(crate) directory: &'d Directory,
    /// The dialed number.
    pub(crate) number: &'d DirectoryNumber,
    /// The environment that owns the number.
    pub(crate) environment: &'d DirectoryEnvironment,
    /// The call to decide on.
    pub(crate) question: &'q Question<'q>,
}

impl<'d> Place<'d, '_> {
    /// Refused because no agent is available: the last resort.
    fn unanswered(&self) -> Decision<'d> {
        Decision {
            environment: Some(self.environment),
            ..Decision::refused(self.directory, Reason::NoAgentAvailable)
        }
    }

    /// Whether at least one of the agent's targets can be used. `source` is the source agent of a callback, and
    /// `None` otherwise.
    fn has_target(&self, agent: &DirectoryAgent, source: Option<&DirectoryAgent>) -> bool {
        let known = agent.target_set(self.environment);
        if known.has_one_for_agents(self.question.avoided) {
            return true;
        }
        let filling =
            self.placeholders(Some(agent.record.id), source.map(|source| source.record.id));
        self.directory
            .targets(agent)
            .iter()
            .any(|target| (self.question.usable)(target, &filling))
    }

    /// The values of the placeholders in targets, for these agents.
    fn placeholders(&self, agent: Option<AgentId>, source_agent: Option<AgentId>) -> Placeholders {
        Placeholders {
            agent,
            source_agent,
            dialed: self.question.dialed,
            caller: self.question.caller,
        }
    }
}

/// The callback rungs: the newest qualifying call from the dialed number, else the newest qualifying call of all,
/// else the reason why the newest call failed.
fn returned_call<'d>(
    place: &Place<'d, '_>,
    contacts: &impl Contacts,
    observer: &mut impl Observer,
) -> Result<Result<Decision<'d>, Reason>, ContactUnreadable> {
    let contact = match place.question.caller {
        Caller::Number(_) if !place.question.is_verified => Err(Reason::CallerNotVerified),
        Caller::Number(contact) => Ok(contact),
        Caller::Anonymous => Err(Reason::CallerAnonymous),
        Caller::Invalid => Err(Reason::CallerInvalid),
    };
    let contact = match contact {
        Ok(contact) => contact,
        Err(reason) => {
            observer.nothing_remembered(reason);
            return Ok(Err(reason));
        }
    };

    let rights = place
        .directory
        .contact_rights(place.environment.record.id, contact);
    if rights.is_some_and(|rights| rights.opt_out_at(place.question.now).is_some()) {
        observer.nothing_remembered(Reason::ContactOptedOut);
        return Ok(Err(Reason::ContactOptedOut));
    }

    let dialed = place.number.subscriber;
    let mut from_other_number = None;
    let mut failure = None;
    let mut nothing = Reason::CallerNeverCalled;
    for call in contacts.calls(place.number.environment, contact)?.iter() {
        // Deleting an agent deletes its calls, even where the index still holds some.
        let Some(source) = place.directory.agent(call.source) else {
            continue;
        };
        if rights.is_some_and(|rights| !rights.counts(call.started_at)) {
            nothing = Reason::ContactReassigned;
            continue;
        }
        let result = claimant(place, source, call);
        observer.call_weighed(place, call, source, result);
        match result {
            Ok(agent) if call.from.map(E164::subscriber) == Some(dialed) => {
                observer.callback(Reason::ReturnedCallSameNumber, Some(agent));
                return Ok(Ok(callback(
                    place,
                    Reason::ReturnedCallSameNumber,
                    agent,
                    source,
                    call,
                )));
            }
            Ok(agent) => {
                from_other_number.get_or_insert((agent, source, *call));
            }
            Err(reason) => {
                failure.get_or_insert(reason);
            }
        }
    }
    observer.callback(Reason::ReturnedCallSameNumber, None);
    if let Some((agent, source, call)) = from_other_number {
        observer.callback(Reason::ReturnedCall, Some(agent));
        return Ok(Ok(callback(
            place,
            Reason::ReturnedCall,
            agent,
            source,
            &call,
        )));
    }
    observer.callback(Reason::ReturnedCall, None);
    Ok(Err(failure.unwrap_or_else(|| {
        observer.nothing_remembered(nothing);
        nothing
    })))
}

/// The agent that takes the call back: of the roles by which the call qualifies, the one set last; else the step
/// at which no role was left.
fn claimant<'d>(
    place: &Place<'d, '_>,
    source: &DirectoryAgent,
    call: &RememberedCall,
) -> Result<&'d DirectoryAgent, Reason> {
    let mut furthest = Reason::SourceHasNoCallbackAgent;
    for slot in &source.claimed_by {
        let Some(agent) = place.directory.agent(*slot) else {
            continue;
        };
        match obstacle(place, agent, source, call) {
            None => return Ok(agent),
            Some(reason) => furthest = furthest.max(reason),
        }
    }
    Err(furthest)
}

/// Why the role of this agent does not take the call back; `None`: it does.
pub(crate) fn obstacle(
    place: &Place<'_, '_>,
    agent: &DirectoryAgent,
    source: &DirectoryAgent,
    call: &RememberedCall,
) -> Option<Reason> {
    if !agent.has_role() {
        return Some(Reason::SourceHasNoCallbackAgent);
    }
    let window = agent.recency_window(place.environment);
    let age = place
        .question
        .now
        .seconds()
        .saturating_sub(call.started_at.seconds());
    if !place.number.is_owned_by(agent.slot) {
        Some(Reason::CallbackAgentNotOwner)
    } else if !agent.takes_calls() || !place.has_target(agent, Some(source)) {
        Some(Reason::CallbackAgentNotPublished)
    } else if !agent.is_open(place.question.now) {
        Some(Reason::CallbackAgentClosed)
    } else if u64::try_from(age).is_ok_and(|age| age > window) {
        Some(Reason::CallExpired)
    } else if !agent.trigger_statuses.is_empty() && !agent.trigger_statuses.contains(call.status) {
        Some(Reason::StatusNotEligible)
    } else {
        None
    }
}

/// The agent for calls that no role claims: the number's default agent if usable, else the first assigned agent
/// that is usable.
fn default_agent<'d>(
    place: &Place<'d, '_>,
    observer: &mut impl Observer,
) -> Option<&'d DirectoryAgent> {
    let chosen = place
        .number
        .default_agent
        .filter(|slot| place.number.is_owned_by(*slot));
    let agent = chosen
        .into_iter()
        .chain(place.number.owners())
        .filter_map(|slot| place.directory.agent(slot))
        .find(|agent| agent.takes_calls() && place.has_target(agent, None));
    observer.default_agent(agent);
    agent
}

/// The decision to send the call to this callback agent.
fn callback<'d>(
    place: &Place<'d, '_>,
    reason: Reason,
    agent: &'d DirectoryAgent,
    source: &'d DirectoryAgent,
    call: &RememberedCall,
) -> Decision<'d> {
    Decision {
        outcome: Outcome::Callback,
        reason,
        environment: Some(place.environment),
        agent: Some(agent),
        source_agent: Some(source),
        call: Some(*call),
        target_set: agent.target_set(place.environment),
        directory: place.directory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_and_outcome_is_explained_once_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/en/reasons.md");
        let page = std::fs::read_to_string(path).unwrap();
        let mut explained: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        explained.sort_unstable();
        let reasons = Reason::ALL.map(Reason::name);
        let outcomes = Outcome::ALL.map(Outcome::name);
        let mut all = [&reasons[..], &outcomes[..]].concat();
        all.sort_unstable();
        assert_eq!(explained, all);
        for row in page.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            assert!(
                cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()),
                "{row}"
            );
        }
    }
}
