//! Phone numbers.

use ringback_routing::{AgentId, Country, E164, EnvironmentId, NumberId, PhoneNumber};
use uuid::Uuid;

use super::{Command, NumberView, Override};
use crate::{Change, CommandError, Draft, FieldErrors};

/// Enters a number.
#[derive(Clone, Copy, Debug)]
pub struct CreateNumber {
    /// The environment that the number will belong to.
    pub environment: EnvironmentId,
    /// Its digits.
    pub number: E164,
    /// Its country.
    pub country: Option<Country>,
}

impl Command for CreateNumber {
    type Output = NumberView;

    fn run(self, draft: &mut Draft<'_>) -> Result<NumberView, CommandError> {
        if draft.directory().number(self.number).is_some() {
            return Err(CommandError::NumberAlreadyExists);
        }
        let id = NumberId(Uuid::now_v7());
        draft.change(Change::NumberPut(PhoneNumber {
            id,
            environment: self.environment,
            number: self.number,
            country: self.country,
            agents: Vec::new(),
            default_agent: None,
            created_at: draft.now(),
        }));
        NumberView::of(draft.directory(), self.environment, id)
    }
}

/// Chooses the agent for calls that no role claims.
#[derive(Clone, Debug)]
pub struct SetDefaultAgent {
    /// Whose number it is.
    pub environment: EnvironmentId,
    /// Which number.
    pub id: NumberId,
    /// The agent.
    pub agent: Override<AgentId>,
    /// What was found wrong already.
    pub errors: FieldErrors,
}

impl Command for SetDefaultAgent {
    type Output = NumberView;

    fn run(self, draft: &mut Draft<'_>) -> Result<NumberView, CommandError> {
        let directory = draft.directory();
        let number = directory
            .number_of(self.environment, self.id)
            .ok_or(CommandError::NumberNotFound)?;
        let mut errors = self.errors;
        if let Override::Set(id) = &self.agent {
            let problem = match directory.agent_of(self.environment, *id) {
                None => Some("The selected agent does not exist."),
                Some(agent) if !number.is_owned_by(agent.slot) => {
                    Some("The selected agent is not assigned to this phone number.")
                }
                Some(agent) if !agent.takes_calls() => {
                    Some("The selected agent must be inbound and published.")
                }
                Some(_) => None,
            };
            if let Some(problem) = problem {
                errors.add("default_agent_id", problem);
            }
        }
        errors.into_result()?;
        let mut record = number.record.clone();
        record.default_agent = self.agent.apply(record.default_agent);
        draft.change(Change::NumberPut(record));
        NumberView::of(draft.directory(), self.environment, self.id)
    }
}

/// Removes a number that no agent owns.
#[derive(Clone, Copy, Debug)]
pub struct DeleteNumber {
    /// The environment of the number.
    pub environment: EnvironmentId,
    /// The number to delete.
    pub id: NumberId,
}

impl Command for DeleteNumber {
    type Output = ();

    fn run(self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        let number = draft
            .directory()
            .number_of(self.environment, self.id)
            .ok_or(CommandError::NumberNotFound)?;
        if !number.record.agents.is_empty() {
            return Err(CommandError::NumberInUse);
        }
        draft.change(Change::NumberRemoved(self.environment, self.id));
        Ok(())
    }
}
