//! Agents.

use std::collections::{BTreeMap, HashSet};

use ringback_routing::{
    Agent, AgentId, AgentStatus, Assignment, CallbackRole, Dialect, Direction, Directory,
    EnvironmentId, NumberId, PhoneNumber, Target,
};

use super::{AgentView, Command, Override};
use crate::error::check_fields;
use crate::{Change, CommandError, Draft, Fault, Field, FieldProblem};

/// Creates an agent, as a draft.
#[derive(Clone, Debug)]
pub struct CreateAgent {
    /// The environment that the agent will belong to.
    pub environment: EnvironmentId,
    /// Its name.
    pub name: String,
    /// Its label.
    pub label: String,
    /// Free text for administrators.
    pub description: Option<String>,
    /// Whether it takes or makes calls.
    pub direction: Direction,
    /// The numbers to assign, as in the request; `None`: not an identifier.
    pub phone_number_ids: Vec<Option<NumberId>>,
    /// Its targets.
    pub targets: Vec<Target>,
    /// Its ids at platforms.
    pub external_ids: BTreeMap<Dialect, String>,
    /// Whether fields could not be read: then nothing is changed.
    pub is_misread: bool,
}

impl Command for CreateAgent {
    type Output = AgentView;

    fn run(&self, draft: &mut Draft<'_>) -> Result<AgentView, CommandError> {
        let mut problems = Vec::new();
        let phone_numbers = check_numbers(
            draft.directory(),
            self.environment,
            &self.phone_number_ids,
            &mut problems,
        );
        check_fields(problems, self.is_misread)?;
        if draft
            .directory()
            .environment_by_id(self.environment)
            .is_none()
        {
            return Err(CommandError::EnvironmentNotFound);
        }
        let id = AgentId(draft.new_id(0));
        let agent = Agent {
            id,
            environment: self.environment,
            name: self.name.clone(),
            label: self.label.clone(),
            description: self.description.clone(),
            direction: self.direction,
            status: AgentStatus::Draft,
            phone_numbers: Vec::new(),
            targets: self.targets.clone(),
            external_ids: self.external_ids.clone(),
            role: None,
            created_at: draft.now(),
            updated_at: draft.now(),
        };
        // The agent comes first, because the assignments refer to it.
        draft.change(Change::AgentPut(agent.clone()));
        if !phone_numbers.is_empty() {
            assign(draft, agent, phone_numbers);
        }
        AgentView::of(draft.directory(), self.environment, id)
    }
}

/// Changes an agent; what is left out stays.
#[derive(Clone, Debug)]
pub struct UpdateAgent {
    /// The environment of the agent.
    pub environment: EnvironmentId,
    /// The agent to change.
    pub id: AgentId,
    /// The new name.
    pub name: Option<String>,
    /// The new label.
    pub label: Option<String>,
    /// The new description.
    pub description: Override<String>,
    /// The new direction.
    pub direction: Option<Direction>,
    /// The new numbers, as in the request; `None` in the list: not an identifier.
    pub phone_number_ids: Option<Vec<Option<NumberId>>>,
    /// The new targets.
    pub targets: Option<Vec<Target>>,
    /// The new ids at platforms; `None`: the agent has none there any more. Ids at other platforms stay.
    pub external_ids: BTreeMap<Dialect, Option<String>>,
    /// Whether fields could not be read: then nothing is changed.
    pub is_misread: bool,
}

impl Command for UpdateAgent {
    type Output = AgentView;

    fn run(&self, draft: &mut Draft<'_>) -> Result<AgentView, CommandError> {
        let mut agent = find(draft, self.environment, self.id)?;
        let mut problems = Vec::new();
        let phone_numbers = self
            .phone_number_ids
            .as_ref()
            .map(|ids| check_numbers(draft.directory(), self.environment, ids, &mut problems));
        check_fields(problems, self.is_misread)?;
        if let Some(direction) = self.direction
            && direction != agent.direction
        {
            if agent.role.is_some() || is_source(draft.directory(), self.id) {
                return Err(CommandError::AgentInCallbackUse);
            }
            agent.direction = direction;
        }
        agent.name = self.name.clone().unwrap_or(agent.name);
        agent.label = self.label.clone().unwrap_or(agent.label);
        agent.description = self.description.apply(agent.description);
        agent.targets = self.targets.clone().unwrap_or(agent.targets);
        for (dialect, id) in &self.external_ids {
            match id {
                Some(id) => agent.external_ids.insert(*dialect, id.clone()),
                None => agent.external_ids.remove(dialect),
            };
        }
        agent.updated_at = draft.now();
        match phone_numbers {
            Some(phone_numbers) => assign(draft, agent, phone_numbers),
            None => draft.change(Change::AgentPut(agent)),
        }
        AgentView::of(draft.directory(), self.environment, self.id)
    }
}

/// Publishes an agent, or makes it a draft again; its role and its calls stay.
#[derive(Clone, Copy, Debug)]
pub struct PublishAgent {
    /// The environment of the agent.
    pub environment: EnvironmentId,
    /// The agent to publish or unpublish.
    pub id: AgentId,
    /// Its new status.
    pub status: AgentStatus,
}

impl Command for PublishAgent {
    type Output = AgentView;

    fn run(&self, draft: &mut Draft<'_>) -> Result<AgentView, CommandError> {
        let mut agent = find(draft, self.environment, self.id)?;
        if agent.status != self.status {
            agent.status = self.status;
            agent.updated_at = draft.now();
            draft.change(Change::AgentPut(agent));
        }
        AgentView::of(draft.directory(), self.environment, self.id)
    }
}

/// Deletes an unpublished agent with its calls; it is removed from every role and every number.
#[derive(Clone, Copy, Debug)]
pub struct DeleteAgent {
    /// The environment of the agent.
    pub environment: EnvironmentId,
    /// The agent to delete.
    pub id: AgentId,
}

impl Command for DeleteAgent {
    type Output = ();

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        let agent = find(draft, self.environment, self.id)?;
        if agent.status == AgentStatus::Published {
            return Err(CommandError::AgentIsPublished);
        }
        let directory = draft.directory();
        let claimants = directory
            .agent_by_id(self.id)
            .map(|agent| agent.claimed_by.clone())
            .unwrap_or_default();
        let roles: Vec<Agent> = claimants
            .iter()
            .filter_map(|slot| directory.agent(*slot))
            .map(|other| Agent::clone(&other.record))
            .collect();
        for mut other in roles {
            other.role = other.role.and_then(|mut role: CallbackRole| {
                role.source_agents.retain(|source| *source != self.id);
                (!role.source_agents.is_empty()).then_some(role)
            });
            draft.change(Change::AgentPut(other));
        }
        let name = agent.name.clone();
        assign(draft, agent, Vec::new());
        draft.change(Change::AgentRemoved(self.environment, self.id, name));
        Ok(())
    }
}

/// The agent's record.
pub(super) fn find(
    draft: &Draft<'_>,
    environment: EnvironmentId,
    id: AgentId,
) -> Result<Agent, CommandError> {
    let agent = draft
        .directory()
        .agent_of(environment, id)
        .ok_or(CommandError::AgentNotFound)?;
    Ok(Agent::clone(&agent.record))
}

/// Whether a callback role names the agent.
fn is_source(directory: &Directory, id: AgentId) -> bool {
    directory
        .agent_by_id(id)
        .is_some_and(|agent| !agent.claimed_by.is_empty())
}

/// The numbers in the request, without repeats; wrong ones are added to `problems`.
fn check_numbers(
    directory: &Directory,
    environment: EnvironmentId,
    ids: &[Option<NumberId>],
    problems: &mut Vec<FieldProblem>,
) -> Vec<NumberId> {
    let mut numbers = Vec::with_capacity(ids.len());
    let mut seen = HashSet::new();
    for (index, id) in ids.iter().enumerate() {
        match id.filter(|id| directory.number_of(environment, *id).is_some()) {
            Some(id) if seen.insert(id) => numbers.push(id),
            Some(_) => {}
            None => problems.push(FieldProblem {
                field: Field::PhoneNumber(index),
                fault: Fault::Unknown,
            }),
        }
    }
    numbers
}

/// Stores the agent with exactly these numbers. A number that is taken from it also loses it as its default
/// agent.
fn assign(draft: &mut Draft<'_>, agent: Agent, phone_numbers: Vec<NumberId>) {
    let before: HashSet<NumberId> = agent.phone_numbers.iter().copied().collect();
    let after: HashSet<NumberId> = phone_numbers.iter().copied().collect();
    let id = agent.id;
    let lost: Vec<NumberId> = agent
        .phone_numbers
        .iter()
        .copied()
        .filter(|number| !after.contains(number))
        .collect();
    let gained = phone_numbers.clone().into_iter();
    let gained = gained.filter(|number| !before.contains(number));
    draft.change(Change::AgentPut(Agent {
        phone_numbers,
        ..agent
    }));
    for number in lost {
        let entry = draft.directory().number_by_id(number);
        if let Some(entry) = entry.filter(|entry| entry.record.default_agent == Some(id)) {
            let record = PhoneNumber {
                default_agent: None,
                ..entry.record.clone()
            };
            draft.change(Change::NumberPut(record));
        }
        draft.change(Change::Unassigned(Assignment { number, agent: id }));
    }
    for number in gained {
        draft.change(Change::Assigned(Assignment { number, agent: id }));
    }
}
