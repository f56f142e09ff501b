//! Incoming calls that a PBX routes over HTTP.

use std::sync::Arc;

use ringback_routing::{
    CallVia, Caller, ContactUnreadable, Decision, Directory, DirectoryAgent, E164, EnvironmentId,
    Outcome, Placeholders, Question, Reason, Target, Timestamp, UserSet, decide,
};

use super::Command;
use crate::observed::{count_kind, hash_sid};
use crate::{
    AnsweredCall, Call, CommandError, ContactView, DecisionRecord, Draft, NamedAgent, RoutedCall,
    RoutedDecision, RoutedEvent,
};

/// Routes an incoming call and counts it, once per call id.
#[derive(Clone, Debug)]
pub struct RouteCall {
    /// The environment of the token; numbers of other environments are unknown to it.
    pub environment: EnvironmentId,
    /// The dialed number; `None`: it cannot be read.
    pub dialed: Option<E164>,
    /// The caller, as read from the request.
    pub caller: Caller,
    /// Whether the caller's number is attested as far as it must be.
    pub is_verified: bool,
    /// The call id; `None`: the command makes one.
    pub sid: Option<String>,
    /// How it was asked for.
    pub via: CallVia,
    /// Whether a call that is known is decided anew. It is not counted again, and the later decision is kept.
    pub is_anew: bool,
}

/// The answer to [`RouteCall`].
#[derive(Clone, Debug)]
pub struct RoutedAnswer {
    /// The call id from the request, or the one made.
    pub sid: String,
    /// The decision of this request, or of the first one with this call id.
    pub decision: Arc<RoutedDecision>,
    /// Outcome and reason, if this request decided; `None` if the call was counted before.
    pub decided: Option<(Outcome, Reason)>,
}

impl Command for RouteCall {
    type Output = RoutedAnswer;

    const CAN_WAIT: bool = true;

    fn run(&self, draft: &mut Draft<'_>) -> Result<RoutedAnswer, CommandError> {
        let sid = self.sid.clone();
        let sid = sid.unwrap_or_else(|| draft.new_id(0).to_string());
        let sid_hash = hash_sid(self.environment, sid.as_bytes());
        let before = draft.routed_before(sid_hash);
        let seen = before.is_some();
        if let Some(decision) = before.flatten().filter(|_| !self.is_anew) {
            return Ok(RoutedAnswer {
                sid,
                decision,
                decided: None,
            });
        }
        let now = draft.now();
        let directory = draft.shared_directory();
        let incoming = Incoming {
            dialed: self.dialed,
            caller: self.caller,
            is_verified: self.is_verified,
        };
        let question = question(self.environment, incoming, now, &directory);
        let decision = decide(&directory, draft.contacts(), &question)
            .map_err(|_| CommandError::StorageUnavailable)?;
        let call = draft.matched_call(&decision, self.caller)?;
        let routed_decision = Arc::new(routed_decision(&decision, &question, call));
        if seen {
            // The same call was counted before, here or over SIP.
            if self.is_anew {
                let again = routed_event(self.environment, sid_hash, now, &routed_decision);
                draft.routed(again, None);
            }
            return Ok(RoutedAnswer {
                sid,
                decision: routed_decision,
                decided: None,
            });
        }
        let routed = routed_event(self.environment, sid_hash, now, &routed_decision);
        draft.routed(routed, count_kind(&decision));
        let (dialed, caller) = (self.dialed, self.caller);
        let record = DecisionRecord::new(now, self.via, dialed, caller, &decision, sid.as_bytes());
        draft.decided(self.environment, record);
        Ok(RoutedAnswer {
            sid,
            decision: routed_decision,
            decided: Some((decision.outcome, decision.reason)),
        })
    }
}

/// What is known of an incoming call.
#[derive(Clone, Copy)]
pub(crate) struct Incoming {
    /// The dialed number; `None`: it cannot be read.
    pub(crate) dialed: Option<E164>,
    /// The caller.
    pub(crate) caller: Caller,
    /// Whether the caller's number is attested as far as it must be.
    pub(crate) is_verified: bool,
}

/// The question about a call. Another environment's number is as unknown as nobody's.
fn question(
    environment: EnvironmentId,
    incoming: Incoming,
    now: Timestamp,
    directory: &Directory,
) -> Question<'static> {
    let ours = |number: &E164| {
        directory
            .number(*number)
            .is_some_and(|number| number.record.environment == environment)
    };
    Question {
        dialed: incoming.dialed.filter(ours),
        caller: incoming.caller,
        is_verified: incoming.is_verified,
        now,
        avoided: UserSet::NONE,
        usable: &can_be_filled,
    }
}

/// Decides without storage, and counts nothing: the call that is returned is left out.
pub(crate) fn decide_from_memory(
    environment: EnvironmentId,
    incoming: Incoming,
    now: Timestamp,
    directory: &Directory,
    contacts: &ContactView,
) -> Result<RoutedDecision, ContactUnreadable> {
    let question = question(environment, incoming, now, directory);
    let decision = decide(directory, contacts, &question)?;
    Ok(routed_decision(&decision, &question, None))
}

/// The event of a call that was routed by this decision.
fn routed_event(
    environment: EnvironmentId,
    sid_hash: u64,
    at: Timestamp,
    decision: &Arc<RoutedDecision>,
) -> RoutedEvent {
    let id = |agent: &Option<NamedAgent>| agent.as_ref().map(|agent| agent.id);
    RoutedEvent::Routed(RoutedCall {
        environment,
        sid_hash,
        at,
        agent: id(&decision.agent),
        source: id(&decision.source_agent),
        decision: Some(Arc::clone(decision)),
    })
}

/// The decision in a form that can be kept, with everything that an answer needs.
fn routed_decision(
    decision: &Decision<'_>,
    question: &Question<'_>,
    call: Option<Call>,
) -> RoutedDecision {
    let named = |agent: &DirectoryAgent| NamedAgent {
        id: agent.record.id,
        name: agent.record.name.clone(),
    };
    RoutedDecision {
        outcome: decision.outcome,
        reason: decision.reason,
        agent: decision.agent.map(named),
        source_agent: decision.source_agent.map(named),
        call,
        targets: decision.targets().to_vec(),
        dialed: question.dialed,
        caller: Some(question.caller),
    }
}

/// Whether an HTTP answer can show a target: whether all its placeholders have values.
fn can_be_filled(target: &Target, filling: &Placeholders) -> bool {
    filling.fill(&target.uri).is_some()
}

/// Counts a routed call as answered, once.
#[derive(Clone, Debug)]
pub struct ReportAnswered {
    /// The environment of the dialed number.
    pub environment: EnvironmentId,
    /// Its call id.
    pub sid: String,
}

impl Command for ReportAnswered {
    type Output = ();

    const CAN_WAIT: bool = true;

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        let answered = AnsweredCall {
            environment: self.environment,
            sid_hash: hash_sid(self.environment, self.sid.as_bytes()),
            at: draft.now(),
        };
        draft.answered(answered)
    }
}
