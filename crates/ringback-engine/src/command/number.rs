//! Phone numbers.

use ringback_routing::{AgentId, Country, E164, EnvironmentId, NumberId, PhoneNumber};

use super::{Command, NumberView, Override};
use crate::error::check_fields;
use crate::{Change, CommandError, Draft, Fault, Field, FieldProblem};

/// Creates a number.
#[derive(Clone, Copy, Debug)]
pub struct CreateNumber {
    /// The environment that the number will belong to.
    pub environment: EnvironmentId,
    /// Its digits.
    pub number: E164,
    /// The country shown for it.
    pub country: Option<Country>,
}

impl Command for CreateNumber {
    type Output = NumberView;

    fn run(&self, draft: &mut Draft<'_>) -> Result<NumberView, CommandError> {
        if draft.directory().number(self.number).is_some() {
            return Err(CommandError::NumberAlreadyExists);
        }
        if draft
            .directory()
            .environment_by_id(self.environment)
            .is_none()
        {
            return Err(CommandError::EnvironmentNotFound);
        }
        let id = NumberId(draft.new_id(0));
        draft.change(Change::NumberPut(PhoneNumber {
            id,
            environment: self.environment,
            number: self.number,
            country: self.country,
            default_agent: None,
            created_at: draft.now(),
        }));
        NumberView::of(draft.directory(), self.environment, id)
    }
}

/// Chooses the agent for calls that no role claims.
#[derive(Clone, Debug)]
pub struct SetDefaultAgent {
    /// The environment of the number.
    pub environment: EnvironmentId,
    /// The number to change.
    pub id: NumberId,
    /// The new default agent.
    pub agent: Override<AgentId>,
    /// Whether fields could not be read: then nothing is changed.
    pub is_misread: bool,
}

impl Command for SetDefaultAgent {
    type Output = NumberView;

    fn run(&self, draft: &mut Draft<'_>) -> Result<NumberView, CommandError> {
        let directory = draft.directory();
        let number = directory
            .number_of(self.environment, self.id)
            .ok_or(CommandError::NumberNotFound)?;
        let mut problems = Vec::new();
        if let Override::Set(id) = &self.agent {
            let fault = match directory.agent_of(self.environment, *id) {
                None => Some(Fault::Unknown),
                Some(agent) if !number.is_owned_by(agent.slot) => Some(Fault::NotAssigned),
                Some(agent) if !agent.takes_calls() => Some(Fault::TakesNoCalls),
                Some(_) => None,
            };
            let field = Field::DefaultAgent;
            problems.extend(fault.map(|fault| FieldProblem { field, fault }));
        }
        check_fields(problems, self.is_misread)?;
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

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        let number = draft
            .directory()
            .number_of(self.environment, self.id)
            .ok_or(CommandError::NumberNotFound)?;
        if number.owner_count() > 0 {
            return Err(CommandError::NumberInUse);
        }
        draft.change(Change::NumberRemoved(self.environment, self.id));
        Ok(())
    }
}
