//! The directory: environments, agents, numbers, roles and tokens, compiled for routing.
//!
//! For its readers a [`Directory`] is an immutable snapshot. The one writer clones it (a clone shares all data),
//! applies a batch of changes with the `put_` and `remove_` functions, and swaps the clone in. The cost does not
//! depend on the directory's size. The call path needs references by slot; they are resolved here, when something
//! changes, so that a decision follows slots instead of searching.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::owners::Owners;
use crate::persistent::{PersistentMap, PersistentVec};
use crate::targets::TargetSet;
use crate::{
    Agent, AgentId, AgentSlot, AgentSlots, AgentStatus, Assignment, CallbackRole, Connector,
    ConnectorId, ContactHash, ContactKey, ContactRights, DialedNumber, Direction, E164,
    Environment, EnvironmentId, EnvironmentSlot, NumberId, OptOut, PhoneNumber, StatusSet, Target,
    Timestamp, Token, TokenId,
};

/// An immutable snapshot of environments, agents, numbers, roles and tokens.
#[derive(Clone, Debug)]
pub struct Directory {
    /// By slot; `None` where an environment was removed.
    environments: PersistentVec<Option<Arc<DirectoryEnvironment>>>,
    /// Slots of the environments.
    environment_slots: PersistentMap<EnvironmentId, EnvironmentSlot>,
    /// Slots of environments that were removed.
    free_environments: Vec<EnvironmentSlot>,
    /// By slot; `None` where an agent was removed.
    agents: PersistentVec<Option<DirectoryAgent>>,
    /// The agent that has, or had, each slot: a decision by an earlier directory may name an agent that was
    /// deleted since.
    identities: PersistentVec<(EnvironmentId, AgentId)>,
    /// Slots of the agents.
    agent_slots: PersistentMap<AgentId, AgentSlot>,
    /// The numbers, by their subscribers. The environment's slot is beside each one, so that the environment is
    /// known before the number itself is loaded.
    numbers: PersistentMap<E164, (EnvironmentSlot, Arc<DirectoryNumber>)>,
    /// The numbers' digits, by identifier.
    number_digits: PersistentMap<NumberId, E164>,
    /// Tokens, by the hash of their secret.
    tokens: PersistentMap<TokenHash, Arc<Token>>,
    /// Connectors, by the hash of their key, and of the key before that.
    connectors: PersistentMap<TokenHash, Arc<Connector>>,
    /// Keys the hashes of contacts; `None`: no contact can have asked for anything.
    contact_key: Option<ContactKey>,
    /// What contacts asked for; those that asked for nothing are not in it.
    contact_rights: PersistentMap<ContactHash, ContactRights>,
    /// At least the greatest sequence of the roles that are set.
    greatest_set_sequence: u64,
    /// How many times targets were set or resolved.
    target_sets: u64,
}

/// An environment and what belongs to it. What a decision reads comes first, so that it fits into one cache line.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct DirectoryEnvironment {
    /// Its index in this directory.
    pub slot: EnvironmentSlot,
    /// Summary of `template_targets`.
    template: TargetSet,
    /// The stored settings.
    pub record: Environment,
    /// Summary of the fallback targets.
    fallback: TargetSet,
    /// Where calls go for agents without targets of their own: one target, or none.
    template_targets: Vec<Target>,
    /// Its agents, oldest first; removed ones stay listed until the list is thinned.
    agents: PersistentVec<AgentSlot>,
    /// How many of its agents there are.
    agent_count: usize,
    /// Its numbers, oldest first; removed ones stay listed until the list is thinned.
    numbers: PersistentVec<NumberId>,
    /// How many of its numbers there are.
    number_count: usize,
    /// Its tokens, oldest first.
    pub tokens: Vec<Arc<Token>>,
    /// Its connectors, oldest first.
    pub connectors: Vec<Arc<Connector>>,
}

/// An agent and what routing needs resolved: one cache line, so that a decision waits for memory once.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct DirectoryAgent {
    /// The stored settings.
    pub record: Arc<Agent>,
    /// The agents whose callback role names this one as a source; the role that was set last comes first.
    pub claimed_by: AgentSlots,
    /// Summary of its own targets.
    own_targets: TargetSet,
    /// How old a call may be for its role, in seconds; [`AS_ENVIRONMENT`]: the environment's window applies.
    recency_window: u32,
    /// Its index in this directory.
    pub slot: AgentSlot,
    /// The environment that it belongs to.
    pub environment: EnvironmentSlot,
    /// The trigger statuses of its role; empty: any.
    pub trigger_statuses: StatusSet,
    /// Whether it holds a callback role.
    has_role: bool,
    /// Whether it is published and inbound.
    takes_calls: bool,
    /// Whether its role has hours.
    has_hours: bool,
    /// Whether every source of its role was known when the role was linked; if not, the next put links it again.
    is_linked: bool,
}

/// A number and what routing needs resolved, which comes first, so that it fits into one cache line.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct DirectoryNumber {
    /// The agents that own it.
    owners: Owners,
    /// The agent chosen for calls that no role claims.
    pub default_agent: Option<AgentSlot>,
    /// The spelling that stands for its [subscriber](E164::subscriber).
    pub(crate) subscriber: E164,
    /// The environment that it belongs to.
    pub environment: EnvironmentSlot,
    /// The stored settings.
    pub record: PhoneNumber,
}

/// SHA-256 of a token's secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenHash(pub [u8; 32]);

impl Directory {
    /// An empty directory.
    ///
    /// The seed determines the hashes of its maps. Pass a random seed and keep it secret: otherwise a client
    /// could choose numbers that collide.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            environments: PersistentVec::default(),
            environment_slots: PersistentMap::with_seed(seed),
            free_environments: Vec::new(),
            agents: PersistentVec::default(),
            identities: PersistentVec::default(),
            agent_slots: PersistentMap::with_seed(seed),
            numbers: PersistentMap::with_seed(seed),
            number_digits: PersistentMap::with_seed(seed),
            tokens: PersistentMap::with_seed(seed),
            connectors: PersistentMap::with_seed(seed),
            contact_key: None,
            contact_rights: PersistentMap::with_seed(seed),
            greatest_set_sequence: 0,
            target_sets: 0,
        }
    }

    /// Compiles a directory from everything stored. For the seed see [`Self::new`].
    ///
    /// Records are taken in the order given within each kind, which should be the order of their
    /// creation; entries whose environment is missing are left out.
    #[must_use]
    pub fn load(
        seed: u64,
        environments: impl IntoIterator<Item = Environment>,
        agents: impl IntoIterator<Item = Agent>,
        numbers: impl IntoIterator<Item = PhoneNumber>,
        assignments: impl IntoIterator<Item = Assignment>,
        tokens: impl IntoIterator<Item = Token>,
    ) -> Self {
        let mut directory = Self::new(seed);
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
        for assignment in assignments {
            directory.assign(&assignment);
        }
        for token in tokens {
            directory.put_token(token);
        }
        directory
    }

    /// The number of this subscriber, of whichever environment.
    #[must_use]
    pub fn number(&self, number: E164) -> Option<&DirectoryNumber> {
        let (_, number) = self.numbers.get(&number.subscriber())?;
        Some(number)
    }

    /// The number of this subscriber and its environment, in one lookup.
    #[must_use]
    pub fn dialed(&self, number: E164) -> Option<DialedNumber<'_>> {
        let (environment, number) = self.numbers.get(&number.subscriber())?;
        Some(DialedNumber {
            environment: self.environment(*environment)?,
            number,
        })
    }

    /// Begins to fetch what [`Self::dialed`] will read, without waiting for it.
    pub fn prefetch_dialed(&self, number: E164) {
        self.numbers.prefetch(&number.subscriber());
    }

    /// Begins to fetch the agent in this slot, without waiting for it.
    pub fn prefetch_agent(&self, slot: AgentSlot) {
        self.agents.prefetch(slot.0 as usize);
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
        self.agents.get(slot.0 as usize)?.as_ref()
    }

    /// The agent that has this slot, or had it, and its environment. A slot is never reused.
    #[must_use]
    pub fn identity(&self, slot: AgentSlot) -> Option<(EnvironmentId, AgentId)> {
        self.identities.get(slot.0 as usize).copied()
    }

    /// Where calls to this agent go: its own targets, or else the one that the environment's template makes.
    #[must_use]
    pub fn targets<'d>(&'d self, agent: &'d DirectoryAgent) -> &'d [Target] {
        if !agent.own_targets.is_empty() {
            return &agent.record.targets;
        }
        self.environment(agent.environment)
            .map_or(&[], |environment| &environment.template_targets)
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

    /// All environments, oldest first.
    pub fn environments(&self) -> impl Iterator<Item = &DirectoryEnvironment> {
        let mut all: Vec<&DirectoryEnvironment> = self
            .environments
            .iter()
            .filter_map(Option::as_deref)
            .collect();
        all.sort_by_key(|environment| (environment.record.created_at, environment.record.id));
        all.into_iter()
    }

    /// The agents of an environment, oldest first.
    pub fn agents_of(&self, environment: EnvironmentId) -> impl Iterator<Item = &DirectoryAgent> {
        self.environment_by_id(environment)
            .into_iter()
            .flat_map(|environment| environment.agents.iter())
            .filter_map(|slot| self.agent(*slot))
    }

    /// The numbers of an environment, oldest first.
    pub fn numbers_of(&self, environment: EnvironmentId) -> impl Iterator<Item = &DirectoryNumber> {
        self.environment_by_id(environment)
            .into_iter()
            .flat_map(|environment| environment.numbers.iter())
            .filter_map(|id| self.number_by_id(*id))
    }

    /// The token whose secret has this hash.
    #[must_use]
    pub fn token(&self, hash: &TokenHash) -> Option<&Token> {
        self.tokens.get(hash).map(Arc::as_ref)
    }

    /// Whether this token opens this environment.
    #[must_use]
    pub fn has_token(&self, environment: EnvironmentId, id: TokenId) -> bool {
        self.token_by_id(environment, id).is_some()
    }

    /// The token with this identifier that opens this environment.
    #[must_use]
    pub fn token_by_id(&self, environment: EnvironmentId, id: TokenId) -> Option<&Token> {
        let tokens = &self.environment_by_id(environment)?.tokens;
        let token = tokens.iter().find(|token| token.id == id)?;
        Some(token)
    }

    /// What this contact of the environment asked for; `None`: nothing. Costs nothing while no contact asked for
    /// anything.
    #[must_use]
    pub fn contact_rights(
        &self,
        environment: EnvironmentId,
        contact: E164,
    ) -> Option<&ContactRights> {
        if self.contact_rights.len() == 0 {
            return None;
        }
        let hash = self.contact_key?.hash(environment, contact);
        self.contact_rights.get(&hash)
    }

    /// The same by the hash of the contact.
    #[must_use]
    pub fn rights_by_hash(&self, contact: &ContactHash) -> Option<&ContactRights> {
        self.contact_rights.get(contact)
    }

    /// What contacts of all environments asked for, in no order.
    pub fn all_contact_rights(&self) -> impl Iterator<Item = (&ContactHash, &ContactRights)> {
        self.contact_rights.iter()
    }

    /// What keys the hashes of contacts, if it was set.
    #[must_use]
    pub const fn contact_key(&self) -> Option<ContactKey> {
        self.contact_key
    }

    /// A sequence that no role in the directory exceeds.
    #[must_use]
    pub const fn greatest_set_sequence(&self) -> u64 {
        self.greatest_set_sequence
    }

    /// Every agent of all environments, oldest first.
    pub fn all_agents(&self) -> impl Iterator<Item = &DirectoryAgent> {
        self.agents.iter().filter_map(Option::as_ref)
    }

    /// Whether another environment still fits ([`EnvironmentSlot::LIMIT`]).
    #[must_use]
    pub fn has_room_for_environment(&self) -> bool {
        self.environment_slots.len() < EnvironmentSlot::LIMIT
    }

    /// Adds an environment, or replaces its stored settings. Does nothing when the directory is full: see
    /// [`Self::has_room_for_environment`].
    pub fn put_environment(&mut self, record: Environment) {
        let template_targets: Vec<Target> = template_target(&record).into_iter().collect();
        if let Some(slot) = self.environment_slots.get(&record.id).copied() {
            let Some(Some(entry)) = self.environments.get_mut(usize::from(slot.0)) else {
                return;
            };
            let entry = Arc::make_mut(entry);
            if entry.template_targets != template_targets {
                self.target_sets += 1;
                entry.template = TargetSet::of(&template_targets, self.target_sets);
                entry.template_targets = template_targets;
            }
            if entry.record.fallback_targets != record.fallback_targets {
                self.target_sets += 1;
                entry.fallback = TargetSet::of(&record.fallback_targets, self.target_sets);
            }
            entry.record = record;
            return;
        }
        let slot = match self.free_environments.pop() {
            Some(slot) => slot,
            None => match u16::try_from(self.environments.len()) {
                Ok(slot) if usize::from(slot) < EnvironmentSlot::LIMIT => EnvironmentSlot(slot),
                _ => return,
            },
        };
        self.environment_slots.insert(record.id, slot);
        self.target_sets += 2;
        let entry = Some(Arc::new(DirectoryEnvironment {
            slot,
            template: TargetSet::of(&template_targets, self.target_sets - 1),
            template_targets,
            fallback: TargetSet::of(&record.fallback_targets, self.target_sets),
            record,
            agents: PersistentVec::default(),
            agent_count: 0,
            numbers: PersistentVec::default(),
            number_count: 0,
            tokens: Vec::new(),
            connectors: Vec::new(),
        }));
        match self.environments.get_mut(usize::from(slot.0)) {
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
            self.free_environments.push(slot);
            for token in &entry.tokens {
                self.tokens.remove(&token.hash);
            }
            for connector in &entry.connectors {
                self.forget_keys(connector);
            }
        }
        let rights = self.contact_rights.iter();
        let gone: Vec<ContactHash> = rights
            .filter(|(_, rights)| rights.environment == id)
            .map(|(contact, _)| *contact)
            .collect();
        for contact in gone {
            self.contact_rights.remove(&contact);
        }
    }

    /// Sets what keys the hashes of contacts; do it once, before [`Self::put_contact_rights`].
    pub fn set_contact_key(&mut self, key: ContactKey) {
        self.contact_key = Some(key);
    }

    /// Sets everything that a contact asked for.
    pub fn put_contact_rights(&mut self, contact: ContactHash, rights: ContactRights) {
        if rights.opt_out.is_none() && rights.counts_from.is_none() {
            self.contact_rights.remove(&contact);
        } else {
            self.contact_rights.insert(contact, rights);
        }
    }

    /// Notes that a contact does not want to be called, or, with `None`, that it no longer asks for that.
    pub fn set_opt_out(
        &mut self,
        environment: EnvironmentId,
        contact: ContactHash,
        opt_out: Option<OptOut>,
    ) {
        let rights = self.rights_or_none(environment, contact);
        self.put_contact_rights(contact, ContactRights { opt_out, ..rights });
    }

    /// Notes that calls to a contact from before this instant do not count; of two instants the later one holds.
    pub fn set_counts_from(
        &mut self,
        environment: EnvironmentId,
        contact: ContactHash,
        from: Timestamp,
    ) {
        let rights = self.rights_or_none(environment, contact);
        let counts_from = rights.counts_from.max(Some(from));
        self.put_contact_rights(
            contact,
            ContactRights {
                counts_from,
                ..rights
            },
        );
    }

    /// What a contact asked for, even if that is nothing.
    fn rights_or_none(&self, environment: EnvironmentId, contact: ContactHash) -> ContactRights {
        let known = self.contact_rights.get(&contact).cloned();
        known.unwrap_or_else(|| ContactRights::none(environment))
    }

    /// Adds an agent, or replaces its stored settings. Sources of its role that are unknown are not linked.
    pub fn put_agent(&mut self, record: Agent) {
        let Some(environment) = self.environment_slots.get(&record.environment).copied() else {
            return;
        };
        if let Some(role) = &record.role {
            self.greatest_set_sequence = self.greatest_set_sequence.max(role.set_sequence);
        }
        let slot = match self.agent_slots.get(&record.id).copied() {
            Some(slot) => slot,
            None => {
                let Ok(slot) = u32::try_from(self.agents.len()).map(AgentSlot) else {
                    return;
                };
                if let Some(home) = self.environment_mut(environment) {
                    home.agents.push(slot);
                    home.agent_count += 1;
                }
                self.agent_slots.insert(record.id, slot);
                self.agents.push(None);
                self.identities.push((record.environment, record.id));
                slot
            }
        };
        let before = self.agents.get_mut(slot.0 as usize).and_then(Option::take);
        let kept_targets = before
            .as_ref()
            .filter(|agent| agent.record.targets == record.targets)
            .map(|agent| agent.own_targets);
        let own_targets = kept_targets.unwrap_or_else(|| {
            self.target_sets += 1;
            TargetSet::of(&record.targets, self.target_sets)
        });
        let record = Arc::new(record);
        let (former, claimed_by, is_linked) = match before {
            Some(agent) => (Some(agent.record), agent.claimed_by, agent.is_linked),
            None => (None, AgentSlots::new(), true),
        };
        let entry = DirectoryAgent::new(Arc::clone(&record), slot, environment, own_targets);
        if let Some(held) = self.agents.get_mut(slot.0 as usize) {
            *held = Some(DirectoryAgent {
                claimed_by,
                is_linked,
                ..entry
            });
        }
        let former_role = former.as_ref().and_then(|agent| agent.role.as_ref());
        let role = record.role.as_ref();
        if former_role == role && is_linked {
            return;
        }
        for source in sources(former_role) {
            self.relink(*source, slot);
        }
        let mut is_linked = true;
        for source in sources(role) {
            is_linked &= self.relink(*source, slot);
        }
        if let Some(Some(entry)) = self.agents.get_mut(slot.0 as usize) {
            entry.is_linked = is_linked;
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
        for source in sources(entry.record.role.as_ref()) {
            self.relink(*source, slot);
        }
        let Some(home) = self.environment_mut(entry.environment) else {
            return;
        };
        home.agent_count -= 1;
        let (listed, count) = (home.agents.clone(), home.agent_count);
        if let Some(remaining) = thinned(&listed, count, |slot| self.agent(*slot).is_some())
            && let Some(home) = self.environment_mut(entry.environment)
        {
            home.agents = remaining;
        }
    }

    /// Adds a number, or replaces its stored settings; its owners stay.
    pub fn put_number(&mut self, record: PhoneNumber) {
        let Some(environment) = self.environment_slots.get(&record.environment).copied() else {
            return;
        };
        let owners = self.number_by_id(record.id);
        let owners = owners
            .map(|number| number.owners.clone())
            .unwrap_or_default();
        let default_agent = record
            .default_agent
            .and_then(|id| self.agent_slots.get(&id).copied());
        let known = self.number_digits.insert(record.id, record.number);
        if known.is_none()
            && let Some(home) = self.environment_mut(environment)
        {
            home.numbers.push(record.id);
            home.number_count += 1;
        }
        self.enter_number(DirectoryNumber {
            owners,
            default_agent,
            subscriber: record.number.subscriber(),
            environment,
            record,
        });
    }

    /// Assigns a number to an agent, behind the agents that own it already. Does nothing if the number or the
    /// agent is unknown.
    pub fn assign(&mut self, assignment: &Assignment) {
        self.change_owners(assignment, Owners::add);
    }

    /// Ends the assignment of a number to an agent; does nothing if there is none.
    pub fn unassign(&mut self, assignment: &Assignment) {
        self.change_owners(assignment, Owners::remove);
    }

    /// Changes the owners of a number, if number and agent are known.
    fn change_owners(
        &mut self,
        assignment: &Assignment,
        change: impl FnOnce(&mut Owners, AgentSlot),
    ) {
        let slot = self.agent_slots.get(&assignment.agent).copied();
        let number = self.number_by_id(assignment.number);
        let (Some(slot), Some(number)) = (slot, number) else {
            return;
        };
        let mut changed = number.clone();
        change(&mut changed.owners, slot);
        self.enter_number(changed);
    }

    /// Stores a number under its subscriber.
    fn enter_number(&mut self, number: DirectoryNumber) {
        let (subscriber, environment) = (number.subscriber, number.environment);
        self.numbers
            .insert(subscriber, (environment, Arc::new(number)));
    }

    /// Removes a number and its assignments.
    pub fn remove_number(&mut self, id: NumberId) {
        let Some(digits) = self.number_digits.remove(&id) else {
            return;
        };
        let Some((_, entry)) = self.numbers.remove(&digits.subscriber()) else {
            return;
        };
        let Some(home) = self.environment_mut(entry.environment) else {
            return;
        };
        home.number_count -= 1;
        let (listed, count) = (home.numbers.clone(), home.number_count);
        if let Some(remaining) = thinned(&listed, count, |id| self.number_by_id(*id).is_some())
            && let Some(home) = self.environment_mut(entry.environment)
        {
            home.numbers = remaining;
        }
    }

    /// Adds a token, or replaces it.
    pub fn put_token(&mut self, record: Token) {
        let Some(slot) = self.environment_slots.get(&record.environment) else {
            return;
        };
        let slot = *slot;
        let token = Arc::new(record);
        if let Some(home) = self.environment_mut(slot) {
            home.tokens.retain(|other| other.id != token.id);
            home.tokens.push(Arc::clone(&token));
        }
        self.tokens.insert(token.hash, token);
    }

    /// Ends a token: it gives access to nothing from now on.
    pub fn remove_token(&mut self, environment: EnvironmentId, id: TokenId) {
        let Some(slot) = self.environment_slots.get(&environment).copied() else {
            return;
        };
        let Some(home) = self.environment_mut(slot) else {
            return;
        };
        let ended: Vec<Arc<Token>> = home.tokens.extract_if(.., |token| token.id == id).collect();
        for token in ended {
            self.tokens.remove(&token.hash);
        }
    }

    /// The connector whose address has a key with this hash: its key, or the one before it while that holds.
    #[must_use]
    pub fn connector_by_key(&self, key: &TokenHash, now: Timestamp) -> Option<&Connector> {
        let connector = self.connectors.get(key)?;
        let holds = connector.key == *key
            || connector
                .previous_key
                .is_some_and(|(previous, until)| previous == *key && now < until);
        holds.then_some(connector)
    }

    /// The connector of an environment with this identifier.
    #[must_use]
    pub fn connector(&self, environment: EnvironmentId, id: ConnectorId) -> Option<&Connector> {
        let connectors = &self.environment_by_id(environment)?.connectors;
        let connector = connectors.iter().find(|connector| connector.id == id)?;
        Some(connector)
    }

    /// Adds a connector, or replaces it.
    pub fn put_connector(&mut self, record: Connector) {
        let Some(slot) = self.environment_slots.get(&record.environment).copied() else {
            return;
        };
        let connector = Arc::new(record);
        let Some(home) = self.environment_mut(slot) else {
            return;
        };
        let mut known = home.connectors.iter_mut();
        let replaced = match known.find(|other| other.id == connector.id) {
            Some(place) => Some(std::mem::replace(place, Arc::clone(&connector))),
            None => {
                home.connectors.push(Arc::clone(&connector));
                None
            }
        };
        if let Some(replaced) = replaced {
            self.forget_keys(&replaced);
        }
        if let Some((previous, _)) = connector.previous_key {
            self.connectors.insert(previous, Arc::clone(&connector));
        }
        self.connectors.insert(connector.key, connector);
    }

    /// Removes a connector: nobody is answered at its address from now on.
    pub fn remove_connector(&mut self, environment: EnvironmentId, id: ConnectorId) {
        let Some(slot) = self.environment_slots.get(&environment).copied() else {
            return;
        };
        let Some(home) = self.environment_mut(slot) else {
            return;
        };
        let gone: Vec<Arc<Connector>> = home
            .connectors
            .extract_if(.., |connector| connector.id == id)
            .collect();
        for connector in gone {
            self.forget_keys(&connector);
        }
    }

    /// Forgets the keys of a connector.
    fn forget_keys(&mut self, connector: &Connector) {
        self.connectors.remove(&connector.key);
        if let Some((previous, _)) = &connector.previous_key {
            self.connectors.remove(previous);
        }
    }

    /// An environment to change; copied first if an older snapshot shares it.
    fn environment_mut(&mut self, slot: EnvironmentSlot) -> Option<&mut DirectoryEnvironment> {
        let entry = self.environments.get_mut(usize::from(slot.0))?;
        entry.as_mut().map(Arc::make_mut)
    }

    /// Updates a source's `claimed_by` after the role of `claimant` has changed; false if the source is unknown.
    fn relink(&mut self, source: AgentId, claimant: AgentSlot) -> bool {
        let Some(slot) = self.agent_slots.get(&source).copied() else {
            return false;
        };
        let claims = self.agent(claimant).is_some_and(|agent| {
            let role = agent.record.role.as_ref();
            role.is_some_and(|role| role.source_agents.contains(&source))
        });
        let Some(entry) = self.agent(slot) else {
            return false;
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
            entry.claimed_by = claimed_by;
        }
        true
    }
}

impl DirectoryEnvironment {
    /// How many agents it has.
    #[must_use]
    pub const fn agent_count(&self) -> usize {
        self.agent_count
    }

    /// How many numbers it has.
    #[must_use]
    pub const fn number_count(&self) -> usize {
        self.number_count
    }

    /// Summary of its fallback targets.
    pub(crate) const fn fallback(&self) -> TargetSet {
        self.fallback
    }
}

impl DirectoryAgent {
    /// An agent whose slot no role names yet.
    fn new(
        record: Arc<Agent>,
        slot: AgentSlot,
        environment: EnvironmentSlot,
        own_targets: TargetSet,
    ) -> Self {
        let role = record.role.as_ref();
        let statuses = role.map_or(&[][..], |role| &role.trigger_statuses);
        let window = role.and_then(|role| role.recency_window_seconds);
        Self {
            claimed_by: AgentSlots::new(),
            own_targets,
            recency_window: window.map_or(AS_ENVIRONMENT, |seconds| {
                u32::try_from(seconds).unwrap_or(LONGEST_WINDOW)
            }),
            slot,
            environment,
            trigger_statuses: statuses.iter().copied().collect(),
            has_role: role.is_some(),
            has_hours: role.is_some_and(|role| role.hours.is_some()),
            takes_calls: record.status == AgentStatus::Published
                && record.direction == Direction::Inbound,
            is_linked: true,
            record,
        }
    }

    /// Whether it is published and inbound, so that calls may be sent to it.
    #[must_use]
    pub const fn takes_calls(&self) -> bool {
        self.takes_calls
    }

    /// Whether it holds a callback role.
    #[must_use]
    pub const fn has_role(&self) -> bool {
        self.has_role
    }

    /// Whether its role takes calls back at this instant. Costs nothing where the role has no hours.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        if !self.has_hours {
            return true;
        }
        let role = self.record.role.as_ref();
        let hours = role.and_then(|role| role.hours.as_ref());
        hours.is_none_or(|hours| hours.are_open(now))
    }

    /// Summary of the targets that its calls go to.
    pub(crate) fn target_set(&self, environment: &DirectoryEnvironment) -> TargetSet {
        if self.own_targets.is_empty() {
            environment.template
        } else {
            self.own_targets
        }
    }

    /// How old a call may be for its role, in seconds; the environment's window if the role sets none.
    pub(crate) fn recency_window(&self, environment: &DirectoryEnvironment) -> u64 {
        match self.recency_window {
            AS_ENVIRONMENT => environment.record.recency_window_seconds,
            seconds => u64::from(seconds),
        }
    }
}

impl DirectoryNumber {
    /// Whether the number is assigned to the agent.
    #[must_use]
    pub fn is_owned_by(&self, agent: AgentSlot) -> bool {
        self.owners.contains(agent)
    }

    /// Begins to fetch the list of its owners, without waiting for it.
    pub(crate) fn prefetch_owners(&self) {
        self.owners.prefetch();
    }

    /// The agents that own it, in order of assignment.
    pub fn owners(&self) -> impl Iterator<Item = AgentSlot> {
        self.owners.iter()
    }

    /// How many agents own it.
    #[must_use]
    pub fn owner_count(&self) -> usize {
        self.owners.len()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenHash(..)")
    }
}

/// The source agents of a role.
fn sources(role: Option<&CallbackRole>) -> &[AgentId] {
    role.map_or(&[], |role| &role.source_agents)
}

/// The target that the environment's template makes, for agents without targets of their own.
fn template_target(environment: &Environment) -> Option<Target> {
    let uri = environment.target_template.clone()?;
    Some(Target {
        uri,
        priority: 0,
        weight: 0,
    })
}

/// An environment's list without the removed entries, once more than half of them are removed. Thinning is so
/// rare that its cost per removal is constant.
fn thinned<T: Clone>(
    listed: &PersistentVec<T>,
    present: usize,
    is_present: impl Fn(&T) -> bool,
) -> Option<PersistentVec<T>> {
    if listed.len() <= 2 * present + FEW {
        return None;
    }
    let mut remaining = PersistentVec::default();
    for item in listed.iter().filter(|item| is_present(item)) {
        remaining.push(item.clone());
    }
    Some(remaining)
}

/// A list with this many removed entries or fewer is never thinned.
const FEW: usize = 64;

/// Value of [`DirectoryAgent::recency_window`] where the role sets no window of its own.
const AS_ENVIRONMENT: u32 = u32::MAX;

/// The longest window of a role's own, in seconds: 136 years, longer than any call is remembered.
const LONGEST_WINDOW: u32 = u32::MAX - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_takes_one_cache_line() {
        assert_eq!(size_of::<Option<DirectoryAgent>>(), 64);
    }

    #[test]
    fn what_a_call_reads_of_a_number_takes_one_cache_line() {
        assert!(std::mem::offset_of!(DirectoryNumber, record) <= 64);
    }

    #[test]
    fn what_a_call_reads_of_an_environment_takes_one_cache_line() {
        let record = std::mem::offset_of!(DirectoryEnvironment, record);
        assert!(record + std::mem::offset_of!(Environment, name) <= 64);
    }
}
