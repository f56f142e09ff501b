//! The result of a command for its answer. It is taken from the draft, so that an answer shows what its own
//! request set, whatever later commands set at the same time.

use ringback_routing::{
    Agent, AgentId, Direction, Directory, DirectoryAgent, DirectoryNumber, EnvironmentId, NumberId,
    PhoneNumber,
};

use crate::CommandError;

/// An agent with the numbers that it owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentView {
    /// The agent.
    pub agent: Agent,
    /// Its numbers, in order of assignment.
    pub phone_numbers: Vec<PhoneNumber>,
}

impl AgentView {
    /// The agent as in this directory.
    #[must_use]
    pub fn new(directory: &Directory, agent: &DirectoryAgent) -> Self {
        let numbers = agent.record.phone_numbers.iter();
        Self {
            agent: Agent::clone(&agent.record),
            phone_numbers: numbers
                .filter_map(|id| directory.number_by_id(*id))
                .map(|number| number.record.clone())
                .collect(),
        }
    }

    /// The agent of an environment as in this directory.
    pub(super) fn of(
        directory: &Directory,
        environment: EnvironmentId,
        id: AgentId,
    ) -> Result<Self, CommandError> {
        let agent = directory
            .agent_of(environment, id)
            .ok_or(CommandError::AgentNotFound)?;
        Ok(Self::new(directory, agent))
    }
}

/// A number with the agents that own it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberView {
    /// The number.
    pub number: PhoneNumber,
    /// Its owners, in order of assignment.
    pub agents: Vec<OwnerView>,
}

/// An agent that owns a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerView {
    /// Identifier.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Whether it takes or makes calls.
    pub direction: Direction,
}

impl NumberView {
    /// The number as in this directory.
    #[must_use]
    pub fn new(directory: &Directory, number: &DirectoryNumber) -> Self {
        Self::of_some(directory, number, usize::MAX)
    }

    /// The same with so many of its owners at most.
    pub(crate) fn of_some(directory: &Directory, number: &DirectoryNumber, most: usize) -> Self {
        let owners = number.owners();
        Self {
            number: number.record.clone(),
            agents: owners
                .take(most)
                .filter_map(|slot| directory.agent(slot))
                .map(|agent| OwnerView {
                    id: agent.record.id,
                    name: agent.record.name.clone(),
                    direction: agent.record.direction,
                })
                .collect(),
        }
    }

    /// The number of an environment as in this directory.
    pub(super) fn of(
        directory: &Directory,
        environment: EnvironmentId,
        id: NumberId,
    ) -> Result<Self, CommandError> {
        let number = directory
            .number_of(environment, id)
            .ok_or(CommandError::NumberNotFound)?;
        Ok(Self::new(directory, number))
    }
}
