//! Incoming calls that a PBX asks about over HTTP.

use ringback_routing::{
    Caller, Decision, E164, EnvironmentId, Outcome, Placeholders, Question, Target, UserSet, decide,
};
use uuid::Uuid;

use super::Command;
use crate::observed::{count_kind, hash_sid};
use crate::{
    AnsweredCall, Call, CommandError, DecisionRecord, Draft, RoutedCall, RoutedEvent, Surface,
};

/// Routes an incoming call and counts it, once per call id.
pub struct RouteCall {
    /// Whose token asks: a number of another environment is unknown to it.
    pub environment: EnvironmentId,
    /// The dialed number; `None`: it cannot be read.
    pub dialed: Option<E164>,
    /// Who calls.
    pub caller: Caller,
    /// The call id; `None`: one is made.
    pub sid: Option<String>,
    /// Writes the answer, which is kept and given again to whoever asks for the same call id.
    pub render: fn(&Decision<'_>, &Placeholders, Option<&Call>, &str) -> String,
}

/// The answer to [`RouteCall`].
#[derive(Clone, Debug)]
pub struct RoutedAnswer {
    /// What `render` wrote, now or the first time.
    pub response: String,
    /// What was decided; `None` if that was earlier.
    pub decided: Option<(Outcome, ringback_routing::Reason)>,
}

impl Command for RouteCall {
    type Output = RoutedAnswer;

    fn run(self, draft: &mut Draft<'_>) -> Result<RoutedAnswer, CommandError> {
        let sid = self.sid.unwrap_or_else(|| Uuid::now_v7().to_string());
        let sid_hash = hash_sid(self.environment, sid.as_bytes());
        let before = draft.routed_before(sid_hash);
        let seen = before.is_some();
        if let Some(response) = before.flatten() {
            return Ok(RoutedAnswer {
                response,
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
            now,
            avoided: UserSet::NONE,
            usable: &can_be_filled,
        };
        let decision = decide(&directory, draft.contacts(), &question)
            .map_err(|_| CommandError::StorageUnavailable)?;
        let filling = decision.placeholders(question.dialed, self.caller);
        let call = draft.matched_call(&decision, self.caller)?;
        let response = (self.render)(&decision, &filling, call.as_ref(), &sid);
        if seen {
            // The same call came over SIP, and was counted there.
            return Ok(RoutedAnswer {
                response,
                decided: None,
            });
        }
        let agent = decision.agent.map(|agent| agent.record.id);
        let source = decision.source_agent.map(|agent| agent.record.id);
        let routed = RoutedCall {
            environment: self.environment,
            sid_hash,
            at: now,
            agent,
            source,
            response: Some(response.clone()),
        };
        draft.routed(RoutedEvent::Routed(routed), count_kind(&decision));
        let (dialed, caller) = (self.dialed, self.caller);
        let record = DecisionRecord::new(
            now,
            Surface::Http,
            dialed,
            caller,
            &decision,
            sid.as_bytes(),
        );
        draft.decided(self.environment, record);
        Ok(RoutedAnswer {
            response,
            decided: Some((decision.outcome, decision.reason)),
        })
    }
}

/// Whether a target is one for whoever asks over HTTP.
fn can_be_filled(target: &Target, filling: &Placeholders) -> bool {
    filling.fill(&target.uri).is_some()
}

/// Counts a routed call as answered, once.
#[derive(Clone, Debug)]
pub struct ReportAnswered {
    /// Whose call.
    pub environment: EnvironmentId,
    /// Its call id.
    pub sid: String,
}

impl Command for ReportAnswered {
    type Output = ();

    fn run(self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        let answered = AnsweredCall {
            environment: self.environment,
            sid_hash: hash_sid(self.environment, self.sid.as_bytes()),
            at: draft.now(),
        };
        draft.answered(answered)
    }
}
