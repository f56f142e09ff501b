//! The directory: environments, agents, numbers, roles and tokens, compiled for routing.
//!
//! A [`Directory`] is an immutable snapshot to its readers. The one writer clones it (entries are
//! shared behind `Arc`), applies a batch of changes with the `put_` and `remove_` functions, and
//! swaps the clone in. What the call path needs is resolved here, when something changes, so that a
//! decision follows slots instead of searching.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use crate::{
    Agent, AgentId, AgentSlot, AgentSlots, AgentStatus, Direction, E164, Environment,
    EnvironmentId, EnvironmentSlot, NumberId, PhoneNumber, Placeholders, StatusSet, Target, Token,
    TokenId,
};

/// A snapshot of everything that changes rarely.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// By slot; `None` where an environment was removed.
    environments: Vec<Option<Arc<DirectoryEnvironment>>>,
    /// Slots of the environments.
    environment_slots: HashMap<EnvironmentId, EnvironmentSlot, RandomState>,
    /// By slot; `None` where an agent was removed.
    agents: Vec<Option<Arc<DirectoryAgent>>>,
    /// Who has, or had, each slot: what was decided by an earlier directory may name an agent that is gone.
    identities: Vec<(EnvironmentId, AgentId)>,
    /// Slots of the agents.
    agent_slots: HashMap<AgentId, AgentSlot, RandomState>,
    /// The numbers, by their subscribers.
    numbers: HashMap<E164, Arc<DirectoryNumber>, RandomState>,
    /// The numbers' digits, by identifier.
    number_digits: HashMap<NumberId, E164, RandomState>,
    /// Tokens, by the hash of their secret.
    tokens: HashMap<TokenHash, Arc<Token>, RandomState>,
    /// At least the greatest sequence of the roles that are set.
    greatest_set_sequence: u64,
}

/// An environment and what belongs to it.
#[derive(Clone, Debug)]
pub struct DirectoryEnvironment {
    /// What is stored of it.
    pub record: Environment,
    /// Where it stands.
    pub slot: EnvironmentSlot,
    /// Its agents, first made first.
    pub agents: Vec<AgentSlot>,
    /// Its numbers, first entered first.
    pub numbers: Vec<E164>,
    /// Its tokens, first made first.
    pub tokens: Vec<Arc<Token>>,
}

/// An agent and what routing needs resolved.
#[derive(Clone, Debug)]
pub struct DirectoryAgent {
    /// What is stored of it.
    pub record: Agent,
    /// Where it stands.
    pub slot: AgentSlot,
    /// The environment that it belongs to.
    pub environment: EnvironmentSlot,
    /// Where its calls go: its own targets, or the environment's template filled in.
    pub targets: Vec<Target>,
    /// The statuses that its role asks for; empty: any.
    pub trigger_statuses: StatusSet,
    /// The agents whose callback role names this one as a source, role set last first.
    pub claimed_by: AgentSlots,
}

/// A number and what routing needs resolved.
#[derive(Clone, Debug)]
pub struct DirectoryNumber {
    /// What is stored of it.
    pub record: PhoneNumber,
    /// The environment that it belongs to.
    pub environment: EnvironmentSlot,
    /// The agents that own it, first assigned first.
    pub owners: AgentSlots,
    /// The agent chosen for calls that no role claims.
    pub default_agent: Option<AgentSlot>,
}

/// SHA-256 of a token's secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenHash(pub [u8; 32]);

impl Directory {
    /// Compiles a directory from everything stored.
    ///
    /// Records are taken in the order given within each kind, which should be the order of their
    /// creation; entries whose environment is missing are left out.
    #[must_use]
    pub fn load(
        environments: impl IntoIterator<Item = Environment>,
        agents: impl IntoIterator<Item = Agent>,
        numbers: impl IntoIterator<Item = PhoneNumber>,
        tokens: impl IntoIterator<Item = Token>,
    ) -> Self {
        let mut directory = Self::default();
        for environment in environments {
            directory.put_environment(environment);
        }
        let mut with_role = Vec::new();
        for agent in agents {
            if agent.role.is_some() {
                with_role.push(agent.clone());
            }
            directory.put_agent(Agent {
                role: None,
                ..agent
            });
        }
        for agent in with_role {
            directory.put_agent(agent);
        }
        for number in numbers {
            directory.put_number(number);
        }
        for token in tokens {
            directory.put_token(token);
        }
        directory
    }

    /// The number of this subscriber, of whichever environment.
    #[must_use]
    pub fn number(&self, number: E164) -> Option<&DirectoryNumber> {
        self.numbers.get(&number.subscriber()).map(Arc::as_ref)
    }

    /// The number with this identifier.
    #[must_use]
    pub fn number_by_id(&self, id: NumberId) -> Option<&DirectoryNumber> {
        self.number_digits
            .get(&id)
            .and_then(|digits| self.number(*digits))
    }

    /// The agent in this slot, unless it was removed.
    #[must_use]
    pub fn agent(&self, slot: AgentSlot) -> Option<&DirectoryAgent> {
        self.agents.get(slot.0 as usize)?.as_deref()
    }

    /// Who has this slot, or had it: the agent and its environment. Slots are never given out twice.
    #[must_use]
    pub fn identity(&self, slot: AgentSlot) -> Option<(EnvironmentId, AgentId)> {
        self.identities.get(slot.0 as usize).copied()
    }

    /// The agent with this identifier, of whichever environment.
    #[must_use]
    pub fn agent_by_id(&self, id: AgentId) -> Option<&DirectoryAgent> {
        self.agent_slots.get(&id).and_then(|slot| self.agent(*slot))
    }

    /// The agent with this identifier, if it is of this environment.
    #[must_use]
    pub fn agent_of(&self, environment: EnvironmentId, id: AgentId) -> Option<&DirectoryAgent> {
        self.agent_by_id(id)
            .filter(|agent| agent.record.environment == environment)
    }

    /// The number with this identifier, if it is of this environment.
    #[must_use]
    pub fn number_of(&self, environment: EnvironmentId, id: NumberId) -> Option<&DirectoryNumber> {
        self.number_by_id(id)
            .filter(|number| number.record.environment == environment)
    }

    /// The environment in this slot, unless it was removed.
    #[must_use]
    pub fn environment(&self, slot: EnvironmentSlot) -> Option<&DirectoryEnvironment> {
        self.environments.get(usize::from(slot.0))?.as_deref()
    }

    /// The environment with this identifier.
    #[must_use]
    pub fn environment_by_id(&self, id: EnvironmentId) -> Option<&DirectoryEnvironment> {
        self.environment_slots
            .get(&id)
            .and_then(|slot| self.environment(*slot))
    }

    /// All environments, first made first.
    pub fn environments(&self) -> impl Iterator<Item = &DirectoryEnvironment> {
        let mut all: Vec<&DirectoryEnvironment> = self
            .environments
            .iter()
            .filter_map(Option::as_deref)
            .collect();
        all.sort_by_key(|environment| (environment.record.created_at, environment.record.id));
        all.into_iter()
    }

    /// The agents of an environment, first made first.
    pub fn agents_of(&self, environment: EnvironmentId) -> impl Iterator<Item = &DirectoryAgent> {
        self.environment_by_id(environment)
            .into_iter()
            .flat_map(|environment| &environment.agents)
            .filter_map(|slot| self.agent(*slot))
    }

    /// The numbers of an environment, first entered first.
    pub fn numbers_of(&self, environment: EnvironmentId) -> impl Iterator<Item = &DirectoryNumber> {
        self.environment_by_id(environment)
            .into_iter()
            .flat_map(|environment| &environment.numbers)
            .filter_map(|digits| self.number(*digits))
    }

    /// The token whose secret has this hash.
    #[must_use]
    pub fn token(&self, hash: &TokenHash) -> Option<&Token> {
        self.tokens.get(hash).map(Arc::as_ref)
    }

    /// Whether this token opens this environment.
    #[must_use]
    pub fn has_token(&self, environment: EnvironmentId, id: TokenId) -> bool {
        self.environment_by_id(environment)
            .is_some_and(|environment| environment.tokens.iter().any(|token| token.id == id))
    }

    /// A sequence that no role in the directory exceeds.
    #[must_use]
    pub const fn greatest_set_sequence(&self) -> u64 {
        self.greatest_set_sequence
    }

    /// Every agent, of all environments, first made first.
    pub fn all_agents(&self) -> impl Iterator<Item = &DirectoryAgent> {
        self.agents.iter().filter_map(Option::as_deref)
    }

    /// Whether another environment still fits ([`EnvironmentSlot::LIMIT`]).
    #[must_use]
    pub fn has_room_for_environment(&self) -> bool {
        self.environment_slots.len() < EnvironmentSlot::LIMIT
    }

    /// Enters an environment, or replaces what is stored of it. Without room, nothing happens: see
    /// [`Self::has_room_for_environment`].
    pub fn put_environment(&mut self, record: Environment) {
        if let Some(slot) = self.environment_slots.get(&record.id).copied() {
            let Some(Some(entry)) = self.environments.get_mut(usize::from(slot.0)) else {
                return;
            };
            Arc::make_mut(entry).record = record;
            let agents = entry.agents.clone();
            let environment = Arc::clone(entry);
            for agent in agents {
                if let Some(Some(agent)) = self.agents.get_mut(agent.0 as usize) {
                    let targets = effective_targets(&agent.record, &environment.record);
                    if targets != agent.targets {
                        Arc::make_mut(agent).targets = targets;
                    }
                }
            }
            return;
        }
        let free = self.environments.iter().position(Option::is_none);
        let index = free.unwrap_or(self.environments.len());
        let Some(slot) = u16::try_from(index)
            .ok()
            .filter(|slot| usize::from(*slot) < EnvironmentSlot::LIMIT)
        else {
            return;
        };
        let slot = EnvironmentSlot(slot);
        self.environment_slots.insert(record.id, slot);
        let entry = Some(Arc::new(DirectoryEnvironment {
            record,
            slot,
            agents: Vec::new(),
            numbers: Vec::new(),
            tokens: Vec::new(),
        }));
        match self.environments.get_mut(index) {
            Some(free) => *free = entry,
            None => self.environments.push(entry),
        }
    }

    /// Removes an environment with its tokens. Its agents and numbers must be gone already.
    pub fn remove_environment(&mut self, id: EnvironmentId) {
        let Some(slot) = self.environment_slots.remove(&id) else {
            return;
        };
        if let Some(entry) = self
            .environments
            .get_mut(usize::from(slot.0))
            .and_then(Option::take)
        {
            for token in &entry.tokens {
                self.tokens.remove(&token.hash);
            }
        }
    }

    /// Enters an agent, or replaces what is stored of it; of its role, sources that are unknown are
    /// not linked.
    pub fn put_agent(&mut self, record: Agent) {
        let Some(environment) = self.environment_slots.get(&record.environment).copied() else {
            return;
        };
        let Some(Some(home)) = self.environments.get_mut(usize::from(environment.0)) else {
            return;
        };
        if let Some(role) = &record.role {
            self.greatest_set_sequence = self.greatest_set_sequence.max(role.set_sequence);
        }
        let targets = effective_targets(&record, &home.record);
        let trigger_statuses = record
            .role
            .iter()
            .flat_map(|role| role.trigger_statuses.iter().copied())
            .collect();
        let known = self.agent_slots.get(&record.id).copied();
        let slot = match known {
            Some(slot) => slot,
            None => {
                let Ok(slot) = u32::try_from(self.agents.len()).map(AgentSlot) else {
                    return;
                };
                Arc::make_mut(home).agents.push(slot);
                self.agent_slots.insert(record.id, slot);
                self.agents.push(None);
                self.identities.push((record.environment, record.id));
                slot
            }
        };
        let before = self.agents.get_mut(slot.0 as usize).and_then(Option::take);
        let claimed_by = before
            .as_ref()
            .map(|agent| agent.claimed_by.clone())
            .unwrap_or_default();
        let former_sources = sources(before.as_deref());
        let entry = Arc::new(DirectoryAgent {
            record,
            slot,
            environment,
            targets,
            trigger_statuses,
            claimed_by,
        });
        let current_sources = sources(Some(&entry));
        if let Some(place) = self.agents.get_mut(slot.0 as usize) {
            *place = Some(entry);
        }
        for source in former_sources.into_iter().chain(current_sources) {
            self.relink(source, slot);
        }
    }

    /// Removes an agent. Numbers and roles that name it must have been changed before.
    pub fn remove_agent(&mut self, id: AgentId) {
        let Some(slot) = self.agent_slots.remove(&id) else {
            return;
        };
        let Some(entry) = self.agents.get_mut(slot.0 as usize).and_then(Option::take) else {
            return;
        };
        for source in sources(Some(&entry)) {
            self.relink(source, slot);
        }
        if let Some(Some(home)) = self.environments.get_mut(usize::from(entry.environment.0)) {
            Arc::make_mut(home).agents.retain(|agent| *agent != slot);
        }
    }

    /// Enters a number, or replaces what is stored of it.
    pub fn put_number(&mut self, record: PhoneNumber) {
        let Some(environment) = self.environment_slots.get(&record.environment).copied() else {
            return;
        };
        let owners = record
            .agents
            .iter()
            .filter_map(|id| self.agent_slots.get(id).copied())
            .collect();
        let default_agent = record
            .default_agent
            .and_then(|id| self.agent_slots.get(&id).copied());
        if self
            .number_digits
            .insert(record.id, record.number)
            .is_none()
            && let Some(Some(home)) = self.environments.get_mut(usize::from(environment.0))
        {
            Arc::make_mut(home).numbers.push(record.number);
        }
        self.numbers.insert(
            record.number.subscriber(),
            Arc::new(DirectoryNumber {
                record,
                environment,
                owners,
                default_agent,
            }),
        );
    }

    /// Removes a number.
    pub fn remove_number(&mut self, id: NumberId) {
        let Some(digits) = self.number_digits.remove(&id) else {
            return;
        };
        let Some(entry) = self.numbers.remove(&digits.subscriber()) else {
            return;
        };
        if let Some(Some(home)) = self.environments.get_mut(usize::from(entry.environment.0)) {
            Arc::make_mut(home)
                .numbers
                .retain(|number| *number != digits);
        }
    }

    /// Enters a token.
    pub fn put_token(&mut self, record: Token) {
        let Some(slot) = self.environment_slots.get(&record.environment) else {
            return;
        };
        let token = Arc::new(record);
        if let Some(Some(home)) = self.environments.get_mut(usize::from(slot.0)) {
            let home = Arc::make_mut(home);
            home.tokens.retain(|other| other.id != token.id);
            home.tokens.push(Arc::clone(&token));
        }
        self.tokens.insert(token.hash, token);
    }

    /// Ends a token.
    pub fn remove_token(&mut self, environment: EnvironmentId, id: TokenId) {
        let Some(slot) = self.environment_slots.get(&environment) else {
            return;
        };
        if let Some(Some(home)) = self.environments.get_mut(usize::from(slot.0)) {
            let home = Arc::make_mut(home);
            for token in home.tokens.extract_if(.., |token| token.id == id) {
                self.tokens.remove(&token.hash);
            }
        }
    }

    /// Brings a source's `claimed_by` up to date after the role of `claimant` has changed.
    fn relink(&mut self, source: AgentId, claimant: AgentSlot) {
        let Some(slot) = self.agent_slots.get(&source).copied() else {
            return;
        };
        let claims = self.agent(claimant).is_some_and(|agent| {
            agent
                .record
                .role
                .as_ref()
                .is_some_and(|role| role.source_agents.contains(&source))
        });
        let Some(entry) = self.agent(slot) else {
            return;
        };
        let mut claimed_by = entry.claimed_by.clone();
        claimed_by.retain(|other| *other != claimant);
        if claims {
            claimed_by.push(claimant);
            claimed_by.sort_by_key(|agent| {
                let role = self
                    .agent(*agent)
                    .and_then(|agent| agent.record.role.as_ref());
                std::cmp::Reverse(role.map_or(0, |role| role.set_sequence))
            });
        }
        if let Some(Some(entry)) = self.agents.get_mut(slot.0 as usize) {
            Arc::make_mut(entry).claimed_by = claimed_by;
        }
    }
}

impl DirectoryAgent {
    /// Whether it is published and inbound, so that calls may be sent to it.
    #[must_use]
    pub fn takes_calls(&self) -> bool {
        self.record.status == AgentStatus::Published && self.record.direction == Direction::Inbound
    }
}

impl DirectoryNumber {
    /// Whether the number is assigned to the agent.
    #[must_use]
    pub fn is_owned_by(&self, agent: AgentSlot) -> bool {
        self.owners.contains(&agent)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenHash(..)")
    }
}

/// The source agents of an agent's role.
fn sources(agent: Option<&DirectoryAgent>) -> Vec<AgentId> {
    agent
        .and_then(|agent| agent.record.role.as_ref())
        .map(|role| role.source_agents.clone())
        .unwrap_or_default()
}

/// The agent's own targets, or else the one that the environment's template makes; placeholders that
/// stand for the agent are filled in, the others are those of each call.
fn effective_targets(agent: &Agent, environment: &Environment) -> Vec<Target> {
    let mut targets = agent.targets.clone();
    if let Some(template) = environment
        .target_template
        .as_ref()
        .filter(|_| targets.is_empty())
    {
        targets.push(Target {
            uri: template.clone(),
            priority: 0,
            weight: 0,
        });
    }
    for target in targets
        .iter_mut()
        .filter(|target| Placeholders::are_in(&target.uri))
    {
        let id = agent.id.to_string();
        target.uri = target.uri.replace("{agent_id}", &id);
    }
    targets
}
