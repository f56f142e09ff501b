//! Incoming calls that a PBX routes over HTTP.

use std::sync::Arc;

use ringback_routing::{
    CallVia, Caller, Decision, DirectoryAgent, E164, EnvironmentId, Outcome, Placeholders,
    Question, Reason, Target, UserSet, decide,
};

use super::Command;
use crate::observed::{count_kind, hash_sid};
use crate::{
    AnsweredCall, Call, CommandError, DecisionRecord, Draft, NamedAgent, RoutedCall,
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
    /// The call id; `None`: the command makes one.
    pub sid: Option<String>,
    /// How it was asked for.
    pub via: CallVia,
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
        if let Some(decision) = before.flatten() {
            return Ok(RoutedAnswer {
                sid,
                decision,
                decided: None,
            });
        }
        let now = draft.now();
        let directory = draft.shared_directory();
        let ours = |number: &E164| {
            directory
                .number(*number)
                .is_some_and(|number| number.record.environment == self.environment)
        };
        let question = Question {
            dialed: self.dialed.filter(ours),
            caller: self.caller,
            is_verified: true,
            now,
            avoided: UserSet::NONE,
            usable: &can_be_filled,
        };
        let decision = decide(&directory, draft.contacts(), &question)
            .map_err(|_| CommandError::StorageUnavailable)?;
        let call = draft.matched_call(&decision, self.caller)?;
        let routed_decision = Arc::new(routed_decision(&decision, &question, call));
        if seen {
            // The same call came over SIP and was counted there.
            return Ok(RoutedAnswer {
                sid,
                decision: routed_decision,
                decided: None,
            });
        }
        let routed = RoutedCall {
            environment: self.environment,
            sid_hash,
            at: now,
            agent: decision.agent.map(|agent| agent.record.id),
            source: decision.source_agent.map(|agent| agent.record.id),
            decision: Some(Arc::clone(&routed_decision)),
        };
        draft.routed(RoutedEvent::Routed(routed), count_kind(&decision));
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
