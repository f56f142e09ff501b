//! Outbound calls, and contacts.

use std::sync::Arc;

use ringback_routing::{AgentId, CallStatus, Direction, E164, EnvironmentId, Timestamp};

use super::Command;
use super::contact::is_opted_out;
use crate::error::check_fields;
use crate::{
    Call, CallDifference, CommandError, Draft, Fault, Field, FieldProblem, LearnedRecorded,
    LearnedTicket,
};

/// Records outbound calls, each separately: a refused one does not affect the others.
#[derive(Clone, Debug)]
pub struct RecordCalls {
    /// The environment of the calling agents.
    pub environment: EnvironmentId,
    /// The calls.
    pub calls: Vec<NewCall>,
}

/// One outbound call, as it is reported.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// The agent that called.
    pub agent: AgentId,
    /// The number that was called.
    pub to: E164,
    /// The number that it called from.
    pub from: Option<E164>,
    /// How far the call got; `None`: `initiated`.
    pub status: Option<CallStatus>,
    /// When the call started; `None`: now, or for a known call its recorded start.
    pub started_at: Option<Timestamp>,
    /// The call id; `None`: the command makes one.
    pub sid: Option<Arc<str>>,
}

impl NewCall {
    /// How far in the future a call may claim to have started, in milliseconds.
    pub const MAX_AHEAD_MILLIS: i64 = 5 * 60 * 1_000;
}

impl Command for RecordCalls {
    type Output = Vec<Result<Call, CommandError>>;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Self::Output, CommandError> {
        Ok(self
            .calls
            .iter()
            .enumerate()
            .map(|(index, new)| {
                let call = match record(draft, self.environment, new, index)? {
                    Recorded::Known(call) => return Ok(call),
                    Recorded::New(call) | Recorded::Updated(call) | Recorded::Again(call) => call,
                };
                draft.put_call(call.clone());
                Ok(call)
            })
            .collect())
    }
}

/// Records one outbound call, or returns everything that is wrong with it.
#[derive(Clone, Debug)]
pub struct RecordCall {
    /// The environment of the calling agent.
    pub environment: EnvironmentId,
    /// The call, or those fields that could be read.
    pub call: Result<NewCall, UnreadCall>,
}

/// A reported call with fields that could not be read.
#[derive(Clone, Debug)]
pub struct UnreadCall {
    /// The agent that called, if it could be read.
    pub agent: Option<AgentId>,
    /// The start of the call, if it was given and could be read.
    pub started_at: Option<Timestamp>,
}

impl Command for RecordCall {
    type Output = Call;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Call, CommandError> {
        let new = match &self.call {
            Ok(new) => new,
            Err(UnreadCall { agent, started_at }) => {
                let problems = check(draft, self.environment, *agent, *started_at);
                return Err(CommandError::Invalid(problems));
            }
        };
        let call = match record(draft, self.environment, new, 0)? {
            Recorded::Known(call) => return Ok(call),
            Recorded::New(call) | Recorded::Updated(call) | Recorded::Again(call) => call,
        };
        draft.put_call(call.clone());
        Ok(call)
    }
}

/// Records outbound calls as [`RecordCalls`] does, but returns only which were refused and how many were new: for
/// batches, whose answer does not show the calls.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    /// The environment of the calling agents.
    pub environment: EnvironmentId,
    /// The calls. The command drops its share before it answers, so the client can reuse their memory.
    pub calls: Arc<Vec<NewCall>>,
}

impl Command for RecordBatch {
    type Output = BatchRecorded;

    fn run(&self, draft: &mut Draft<'_>) -> Result<BatchRecorded, CommandError> {
        draft.reserve_calls(self.calls.len());
        let mut recorded = BatchRecorded::default();
        for (index, new) in self.calls.iter().enumerate() {
            match record(draft, self.environment, new, index) {
                Ok(Recorded::New(call)) => {
                    recorded.new += 1;
                    draft.put_call(call);
                }
                Ok(Recorded::Updated(call)) => {
                    recorded.updated += 1;
                    draft.put_call(call);
                }
                Ok(Recorded::Again(call)) => draft.put_call(call),
                Ok(Recorded::Known(_)) => {}
                Err(error) => recorded.refused.push((index, error)),
            }
        }
        Ok(recorded)
    }
}

/// The result of a batch.
#[derive(Debug, Default)]
pub struct BatchRecorded {
    /// The indexes of the refused calls, and why.
    pub refused: Vec<(usize, CommandError)>,
    /// How many calls were recorded for the first time.
    pub new: usize,
    /// How many known calls got a higher status.
    pub updated: usize,
}

/// Records learned calls, except those whose contacts were forgotten meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct RecordLearned {
    /// The environment of the calling agents.
    pub(crate) environment: EnvironmentId,
    /// The calls.
    pub(crate) tickets: Vec<LearnedTicket>,
}

impl Command for RecordLearned {
    type Output = LearnedRecorded;

    fn run(&self, draft: &mut Draft<'_>) -> Result<LearnedRecorded, CommandError> {
        let mut unrecorded = Vec::new();
        for (index, ticket) in self.tickets.iter().enumerate() {
            match record_learned(draft, self.environment, ticket) {
                Ok(Some(Recorded::New(call) | Recorded::Updated(call) | Recorded::Again(call))) => {
                    draft.put_call(call)
                }
                Ok(Some(Recorded::Known(_))) => {}
                Ok(None) => unrecorded.push((index, None)),
                Err(error) => unrecorded.push((index, Some(error))),
            }
        }
        Ok(LearnedRecorded { unrecorded })
    }
}

/// What is to be done with a reported call.
enum Recorded {
    /// It is known with this status or a higher one: do nothing.
    Known(Call),
    /// It is new: put it into the draft.
    New(Call),
    /// It is known with a lower status: put it into the draft.
    Updated(Call),
    /// It is known, but its contact no longer remembers it: put it into the draft.
    Again(Call),
}

/// Checks one learned call; `None` if its contact was forgotten, by this batch or an earlier one.
fn record_learned(
    draft: &Draft<'_>,
    environment: EnvironmentId,
    ticket: &LearnedTicket,
) -> Result<Option<Recorded>, CommandError> {
    let Some((learned, is_new)) = draft.contacts().learned(ticket) else {
        return Ok(None);
    };
    if draft.forgets(environment, learned.contact) {
        return Ok(None);
    }
    // The contact of a known call may have been forgotten before its last status was seen.
    if !is_new && draft.call(environment, &learned.sid)?.is_none() {
        return Ok(None);
    }
    let new = NewCall {
        agent: learned.agent,
        to: learned.contact,
        from: learned.from,
        status: Some(learned.status),
        started_at: Some(learned.started_at),
        sid: Some(learned.sid),
    };
    record(draft, environment, &new, 0).map(Some)
}

/// The errors in agent and start of a reported call, as far as they could be read.
fn check(
    draft: &Draft<'_>,
    environment: EnvironmentId,
    agent: Option<AgentId>,
    started_at: Option<Timestamp>,
) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    let mut add = |field, fault| problems.push(FieldProblem { field, fault });
    match agent.map(|id| draft.directory().agent_of(environment, id)) {
        Some(None) => add(Field::CallingAgent, Fault::Unknown),
        Some(Some(agent)) if agent.record.direction != Direction::Outbound => {
            add(Field::CallingAgent, Fault::NotOutbound);
        }
        _ => {}
    }
    let latest = draft.now().plus_millis(NewCall::MAX_AHEAD_MILLIS);
    if started_at.is_some_and(|started_at| started_at > latest) {
        add(Field::StartedAt, Fault::TooFarAhead);
    }
    if started_at.is_some_and(|started_at| started_at.millis() < 0) {
        add(Field::StartedAt, Fault::Before1970);
    }
    problems
}

/// Checks one call; `index` is its index in the command.
fn record(
    draft: &Draft<'_>,
    environment: EnvironmentId,
    new: &NewCall,
    index: usize,
) -> Result<Recorded, CommandError> {
    let problems = check(draft, environment, Some(new.agent), new.started_at);
    check_fields(problems, false)?;

    let known = match &new.sid {
        Some(sid) => draft.call(environment, sid)?,
        None => None,
    };
    let status = new.status.unwrap_or(CallStatus::Initiated);
    let Some(known) = known else {
        if is_opted_out(draft.directory(), environment, new.to, draft.now()) {
            return Err(CommandError::ContactOptedOut);
        }
        return Ok(Recorded::New(Call {
            environment,
            sid: match &new.sid {
                Some(sid) => Arc::clone(sid),
                None => draft.new_id(index).to_string().into(),
            },
            agent: new.agent,
            contact: new.to,
            from: new.from,
            status,
            started_at: new.started_at.unwrap_or_else(|| draft.now()),
        }));
    };
    let difference = if known.agent != new.agent {
        Some(CallDifference::Agent)
    } else if known.contact.subscriber() != new.to.subscriber() {
        Some(CallDifference::Contact)
    } else if new.from.is_some()
        && known.from.map(E164::subscriber) != new.from.map(E164::subscriber)
    {
        Some(CallDifference::CallingNumber)
    } else if new
        .started_at
        .is_some_and(|started_at| started_at != known.started_at)
    {
        Some(CallDifference::StartTime)
    } else {
        None
    };
    if let Some(difference) = difference {
        return Err(CommandError::CallMismatch(difference));
    }
    if status <= known.status {
        // A call that was crowded out is remembered when it is recorded again, if it is among the newest four
        // then.
        return Ok(if draft.contacts().misses(draft.directory(), &known) {
            Recorded::Again(known)
        } else {
            Recorded::Known(known)
        });
    }
    Ok(Recorded::Updated(Call { status, ..known }))
}
