//! Who changed what: an entry for each object that a command changed, in the same commit as the change.
//!
//! Entries follow from the directory before and after the command, so no command has to make its own. What a change
//! drags along, such as a role that loses a deleted source, is an entry of its own. Calls are not audited; an erasure
//! is, without the number.

use std::collections::HashSet;
use std::sync::Arc;

use ringback_routing::{
    Agent, AgentStatus, CallbackRole, ConnectorId, Directory, Environment, EnvironmentId, NumberId,
    Timestamp, Token, TokenId,
};
use uuid::Uuid;

use crate::command::{AgentView, NumberView};
use crate::{Change, Command, CommandError, Draft};

/// The identifier of an audit entry. Later entries have greater ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuditId(pub Uuid);

impl AuditId {
    /// The least identifier that an entry made at this instant can have; of an instant before 1970, the least of all.
    #[must_use]
    pub fn first_at(at: Timestamp) -> Self {
        let millis = u128::try_from(at.millis()).unwrap_or_default();
        Self(Uuid::from_u128(millis << 80))
    }
}

/// One change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its identifier.
    pub id: AuditId,
    /// When the change was made.
    pub at: Timestamp,
    /// The environment that it was made in; `None`: it is about the node.
    pub environment: Option<EnvironmentId>,
    /// Who made it.
    pub actor: Actor,
    /// How.
    pub via: Via,
    /// What was done.
    pub action: AuditAction,
    /// What it was done to.
    pub object: AuditObject,
    /// The object before; `None`: it was not there, or nothing of it is kept.
    pub before: Option<AuditState>,
    /// The object after; `None`: it is gone, or nothing of it is kept.
    pub after: Option<AuditState>,
    /// The name of the request.
    pub request_id: Arc<str>,
}

/// Who made a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The administrator.
    Administrator,
    /// Whoever holds a token of the environment.
    Token {
        /// The token; it may have ended since.
        id: TokenId,
        /// Its name.
        name: Option<String>,
    },
}

/// How a change was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// By a request of some program.
    Api,
    /// In the console: by a session that was opened with the token.
    Console,
    /// By a command of `ringback`.
    Cli,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAction {
    /// The object was made.
    Create,
    /// It was changed.
    Update,
    /// It was deleted.
    Delete,
    /// An agent began to take part in routing.
    Publish,
    /// An agent ceased to take part in routing.
    Unpublish,
    /// A role was given to an agent, or changed.
    Set,
    /// A role was taken from an agent.
    Remove,
    /// A token was ended.
    End,
    /// A contact was forgotten.
    Erase,
    /// The state was made from a backup.
    Restore,
    /// The log of the cluster was made anew.
    Recover,
    /// A node of the cluster was dropped.
    Forget,
    /// The state of the node was copied.
    Backup,
    /// Something was exported.
    Export,
    /// A contact, or several at once, asked not to be called.
    OptOut,
    /// A contact may be called again.
    OptIn,
    /// A number, or several at once, was given to somebody else.
    Reassign,
}

/// The kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectType {
    /// An agent.
    Agent,
    /// A phone number.
    Number,
    /// The callback role of an agent.
    Role,
    /// An environment.
    Environment,
    /// A token.
    Token,
    /// A contact.
    Contact,
    /// A connector.
    Connector,
    /// The node, or all nodes of a cluster.
    Cluster,
}

impl Via {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Console => "console",
            Self::Cli => "cli",
        }
    }
}

impl AuditAction {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Publish => "publish",
            Self::Unpublish => "unpublish",
            Self::Set => "set",
            Self::Remove => "remove",
            Self::End => "end",
            Self::Erase => "erase",
            Self::Restore => "restore",
            Self::Recover => "recover",
            Self::Forget => "forget",
            Self::Backup => "backup",
            Self::Export => "export",
            Self::OptOut => "opt_out",
            Self::OptIn => "opt_in",
            Self::Reassign => "reassign",
        }
    }
}

impl ObjectType {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Agent,
        Self::Number,
        Self::Role,
        Self::Environment,
        Self::Token,
        Self::Contact,
        Self::Connector,
        Self::Cluster,
    ];

    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Number => "number",
            Self::Role => "role",
            Self::Environment => "environment",
            Self::Token => "token",
            Self::Contact => "contact",
            Self::Connector => "connector",
            Self::Cluster => "cluster",
        }
    }
}

/// What something was done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditObject {
    /// Its kind.
    pub kind: ObjectType,
    /// Its identifier; that of a role is its agent's; contacts and the node have none.
    pub id: Option<Uuid>,
    /// Its name; of a number its digits; of a contact none.
    pub name: Option<String>,
}

/// An object as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditState {
    /// An agent with its numbers. Its role is an object of its own.
    Agent(AgentView),
    /// A number with at most [`MOST_OWNERS`] of the agents that own it.
    Number(NumberView),
    /// A role.
    Role(CallbackRole),
    /// An environment.
    Environment(Environment),
    /// A token without its hash.
    Token {
        /// Its identifier.
        id: TokenId,
        /// Its name.
        name: Option<String>,
        /// Whether answers to it hide numbers of callers and contacts.
        masked: bool,
        /// When it was made.
        created_at: Timestamp,
    },
}

/// How many owners of a number an entry keeps: tens of thousands may own one.
pub const MOST_OWNERS: usize = 1_000;

impl AuditEntry {
    /// Whether its inverse is one change: see [`UndoChange`](crate::UndoChange).
    #[must_use]
    pub const fn can_be_undone(&self) -> bool {
        // Nothing is kept of the settings of a connector.
        if matches!(self.object.kind, ObjectType::Connector) {
            return false;
        }
        match self.action {
            AuditAction::Create
            | AuditAction::Update
            | AuditAction::Publish
            | AuditAction::Unpublish
            | AuditAction::Set
            | AuditAction::Remove => true,
            AuditAction::Delete
            | AuditAction::End
            | AuditAction::Erase
            | AuditAction::Restore
            | AuditAction::Recover
            | AuditAction::Forget
            | AuditAction::Backup
            | AuditAction::Export
            | AuditAction::OptOut
            | AuditAction::OptIn
            | AuditAction::Reassign => false,
        }
    }
}

impl AuditEntry {
    /// The entry for a restore, which needs no server: only who can write the data directory can do it.
    #[must_use]
    pub fn restored(at: Timestamp) -> Self {
        Self {
            id: AuditId(Uuid::now_v7()),
            at,
            environment: None,
            actor: Actor::Administrator,
            via: Via::Cli,
            action: AuditAction::Restore,
            object: the_node(),
            before: None,
            after: None,
            request_id: "restore".into(),
        }
    }

    /// The entry for a log that was made anew at this instant. Only the administrator can have it made. It is the same
    /// on all nodes that go on from there, for no log carries it from one to the other.
    #[must_use]
    pub fn recovered(at: Timestamp, cluster: &str) -> Self {
        let AuditId(first) = AuditId::first_at(at);
        Self {
            id: AuditId(
                uuid::Builder::from_u128(first.as_u128())
                    .with_version(uuid::Version::SortRand)
                    .with_variant(uuid::Variant::RFC4122)
                    .into_uuid(),
            ),
            at,
            environment: None,
            actor: Actor::Administrator,
            via: Via::Api,
            action: AuditAction::Recover,
            object: AuditObject {
                name: Some(cluster.to_owned()),
                ..the_node()
            },
            before: None,
            after: None,
            request_id: "recover".into(),
        }
    }
}

/// Where a change comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The token, and its environment; `None`: the administrator.
    pub token: Option<(EnvironmentId, TokenId)>,
    /// How it was asked for.
    pub via: Via,
    /// The name of the request.
    pub request_id: Arc<str>,
}

/// A command whose changes are audited.
#[derive(Clone, Debug)]
pub struct Audited<C> {
    /// Where it comes from.
    pub origin: Origin,
    /// The command.
    pub command: C,
}

impl<C: Command> Command for Audited<C> {
    type Output = C::Output;

    fn run(&self, draft: &mut Draft<'_>) -> Result<C::Output, CommandError> {
        let (output, _) = audited(draft, &self.origin, |draft| self.command.run(draft))?;
        Ok(output)
    }
}

/// Notes what changes no object: the state of the node was copied, or something exported.
#[derive(Clone, Debug)]
pub struct NoteCopy {
    /// Where it comes from.
    pub origin: Origin,
    /// The environment; `None`: all of them.
    pub environment: Option<EnvironmentId>,
    /// [`AuditAction::Backup`], [`AuditAction::Export`], or what was done to a cluster.
    pub action: AuditAction,
}

impl Command for NoteCopy {
    type Output = ();

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        let found = self.environment.map(|id| {
            let environment = draft.directory().environment_by_id(id);
            environment.ok_or(CommandError::EnvironmentNotFound)
        });
        let object = match found.transpose()? {
            Some(environment) => environment_object(&environment.record),
            None => the_node(),
        };
        if self.action == AuditAction::Backup {
            // So that every backup has the secret, and later erasures can be told by it.
            draft.erasure_secret()?;
        }
        let difference = Difference {
            environment: self.environment,
            action: self.action,
            object,
            before: None,
            after: None,
        };
        append(draft, &self.origin, vec![difference]);
        Ok(())
    }
}

/// Runs part of a command, adds an entry for each object that it changed, and returns these entries.
pub(crate) fn audited<T>(
    draft: &mut Draft<'_>,
    origin: &Origin,
    run: impl FnOnce(&mut Draft<'_>) -> Result<T, CommandError>,
) -> Result<(T, Vec<AuditEntry>), CommandError> {
    let before = draft.shared_directory();
    let first = draft.len();
    let output = run(draft)?;
    let differences = differences(&before, draft.directory(), draft.changes_since(first));
    Ok((output, append(draft, origin, differences)))
}

/// Adds entries to the draft, and returns them.
fn append(draft: &mut Draft<'_>, origin: &Origin, differences: Vec<Difference>) -> Vec<AuditEntry> {
    let actor = match origin.token {
        None => Actor::Administrator,
        Some((environment, id)) => {
            let environment = draft.directory().environment_by_id(environment);
            let mut tokens = environment.into_iter().flat_map(|one| &one.tokens);
            let token = tokens.find(|token| token.id == id);
            Actor::Token {
                id,
                name: token.and_then(|token| token.name.clone()),
            }
        }
    };
    let mut entries = Vec::with_capacity(differences.len());
    for (index, difference) in differences.into_iter().enumerate() {
        let entry = AuditEntry {
            id: AuditId(draft.new_id(FIRST_ID + index)),
            at: draft.now(),
            environment: difference.environment,
            actor: actor.clone(),
            via: origin.via,
            action: difference.action,
            object: difference.object,
            before: difference.before,
            after: difference.after,
            request_id: Arc::clone(&origin.request_id),
        };
        draft.change(Change::Audited(Box::new(entry.clone())));
        entries.push(entry);
    }
    entries
}

/// What happened to one object.
struct Difference {
    environment: Option<EnvironmentId>,
    action: AuditAction,
    object: AuditObject,
    before: Option<AuditState>,
    after: Option<AuditState>,
}

/// What these changes, which made one directory of the other, did to each object.
fn differences(before: &Directory, after: &Directory, changes: &[Change]) -> Vec<Difference> {
    let mut comparison = Comparison {
        before,
        after,
        seen: HashSet::new(),
        found: Vec::new(),
    };
    for change in changes {
        match change {
            Change::AgentPut(Agent { id, .. }) | Change::AgentRemoved(_, id, _) => {
                comparison.agent(*id);
            }
            Change::NumberPut(record) => comparison.number(record.id),
            Change::NumberRemoved(_, id) => comparison.number(*id),
            Change::EnvironmentPut(record) => comparison.environment(record.id),
            Change::EnvironmentRemoved(id) => {
                let environment = before.environment_by_id(*id);
                for token in environment.into_iter().flat_map(|one| &one.tokens) {
                    comparison.token(AuditAction::End, token);
                }
                comparison.environment(*id);
            }
            Change::TokenPut(token) => comparison.token(AuditAction::Create, token),
            Change::TokenRemoved(environment, id) => {
                let environment = before.environment_by_id(*environment);
                let mut tokens = environment.into_iter().flat_map(|one| &one.tokens);
                if let Some(token) = tokens.find(|token| token.id == *id) {
                    comparison.token(AuditAction::End, token);
                }
            }
            Change::ConnectorPut(connector) => {
                comparison.connector(connector.environment, connector.id);
            }
            Change::ConnectorRemoved(environment, id) => comparison.connector(*environment, *id),
            Change::ContactForgotten(environment, _) => {
                comparison
                    .found
                    .push(of_contact(*environment, AuditAction::Erase));
            }
            Change::OptedOut(environment, ..) => {
                comparison.contacts(*environment, AuditAction::OptOut);
            }
            Change::OptOutEnded(environment, _) => {
                comparison.contacts(*environment, AuditAction::OptIn);
            }
            Change::Reassigned(environment, ..) => {
                comparison.contacts(*environment, AuditAction::Reassign);
            }
            // Owners of a number change with the agents that own it.
            Change::Assigned(_)
            | Change::Unassigned(_)
            | Change::OwnersSet(..)
            | Change::CallPut(_)
            | Change::CallsSwept(_)
            | Change::Routed(_)
            | Change::RoutedSwept(_)
            | Change::BatchRouted(_)
            | Change::Counted(..)
            | Change::BatchesCounted(_)
            | Change::Placed(_)
            | Change::Audited(_)
            | Change::AuditSwept(_)
            | Change::Answered(_)
            | Change::SessionPut(_)
            | Change::SessionEnded(_)
            | Change::ErasureSecretSet(_)
            | Change::Erased(_) => {}
        }
    }
    comparison.found
}

/// Two directories, and what was found to differ.
struct Comparison<'a> {
    before: &'a Directory,
    after: &'a Directory,
    /// Objects that were compared already.
    seen: HashSet<Uuid>,
    found: Vec<Difference>,
}

/// What was done to a contact, of which nothing is kept.
fn of_contact(environment: EnvironmentId, action: AuditAction) -> Difference {
    Difference {
        environment: Some(environment),
        action,
        object: AuditObject {
            kind: ObjectType::Contact,
            id: None,
            name: None,
        },
        before: None,
        after: None,
    }
}

impl Comparison<'_> {
    /// Adds what was done to contacts, once however many they are: a batch may have a million.
    fn contacts(&mut self, environment: EnvironmentId, action: AuditAction) {
        if !self.found.iter().any(|one| one.action == action) {
            self.found.push(of_contact(environment, action));
        }
    }

    /// Compares an agent, and its role.
    fn agent(&mut self, id: ringback_routing::AgentId) {
        if !self.seen.insert(id.0) {
            return;
        }
        let [before, after] = [self.before, self.after].map(|directory| {
            let agent = directory.agent_by_id(id)?;
            Some(AgentView::new(directory, agent))
        });
        let Some(shown) = after.as_ref().or(before.as_ref()) else {
            return;
        };
        let environment = Some(shown.agent.environment);
        let name = Some(shown.agent.name.clone());
        let [old_role, new_role] = [&before, &after].map(|view| view.as_ref()?.agent.role.clone());
        if old_role != new_role {
            let action = match new_role {
                Some(_) => AuditAction::Set,
                None => AuditAction::Remove,
            };
            self.found.push(Difference {
                environment,
                action,
                object: AuditObject {
                    kind: ObjectType::Role,
                    id: Some(id.0),
                    name: name.clone(),
                },
                before: old_role.map(AuditState::Role),
                after: new_role.map(AuditState::Role),
            });
        }
        let action = match (&before, &after) {
            (None, _) => AuditAction::Create,
            (_, None) => AuditAction::Delete,
            (Some(before), Some(after)) => {
                let [old, new] = [before, after].map(|view| without_role(&view.agent));
                if old == new {
                    return;
                }
                let only_status = Agent {
                    status: new.status,
                    ..old
                } == new;
                match new.status {
                    AgentStatus::Published if only_status => AuditAction::Publish,
                    AgentStatus::Draft if only_status => AuditAction::Unpublish,
                    _ => AuditAction::Update,
                }
            }
        };
        let state = |view: AgentView| {
            AuditState::Agent(AgentView {
                agent: Agent {
                    role: None,
                    ..view.agent
                },
                ..view
            })
        };
        self.found.push(Difference {
            environment,
            action,
            object: AuditObject {
                kind: ObjectType::Agent,
                id: Some(id.0),
                name,
            },
            before: before.map(state),
            after: after.map(state),
        });
    }

    /// Compares a number.
    fn number(&mut self, id: NumberId) {
        if !self.seen.insert(id.0) {
            return;
        }
        let [before, after] = [self.before, self.after].map(|directory| {
            let number = directory.number_by_id(id)?;
            Some(NumberView::of_some(directory, number, MOST_OWNERS))
        });
        let action = match (&before, &after) {
            (None, Some(_)) => AuditAction::Create,
            (Some(_), None) => AuditAction::Delete,
            (Some(before), Some(after)) if before.number != after.number => AuditAction::Update,
            _ => return,
        };
        let Some(shown) = after.as_ref().or(before.as_ref()) else {
            return;
        };
        self.found.push(Difference {
            environment: Some(shown.number.environment),
            action,
            object: AuditObject {
                kind: ObjectType::Number,
                id: Some(id.0),
                name: Some(shown.number.number.to_string()),
            },
            before: before.map(AuditState::Number),
            after: after.map(AuditState::Number),
        });
    }

    /// Compares a connector. Nothing of its settings is kept in entries: they may hold what is secret.
    fn connector(&mut self, environment: EnvironmentId, id: ConnectorId) {
        if !self.seen.insert(id.0) {
            return;
        }
        let [before, after] =
            [self.before, self.after].map(|directory| directory.connector(environment, id));
        let action = match (before, after) {
            (None, Some(_)) => AuditAction::Create,
            (Some(_), None) => AuditAction::Delete,
            (Some(before), Some(after)) if before != after => AuditAction::Update,
            _ => return,
        };
        self.found.push(Difference {
            environment: Some(environment),
            action,
            object: AuditObject {
                kind: ObjectType::Connector,
                id: Some(id.0),
                name: after.or(before).and_then(|shown| shown.name.clone()),
            },
            before: None,
            after: None,
        });
    }

    /// Compares an environment.
    fn environment(&mut self, id: EnvironmentId) {
        if !self.seen.insert(id.0) {
            return;
        }
        let [before, after] = [self.before, self.after].map(|directory| {
            let environment = directory.environment_by_id(id)?;
            Some(environment.record.clone())
        });
        let action = match (&before, &after) {
            (None, Some(_)) => AuditAction::Create,
            (Some(_), None) => AuditAction::Delete,
            (Some(before), Some(after)) if before != after => AuditAction::Update,
            _ => return,
        };
        let Some(shown) = after.as_ref().or(before.as_ref()) else {
            return;
        };
        self.found.push(Difference {
            environment: Some(id),
            action,
            object: environment_object(shown),
            before: before.map(AuditState::Environment),
            after: after.map(AuditState::Environment),
        });
    }

    /// Notes that a token was made or ended.
    fn token(&mut self, action: AuditAction, token: &Token) {
        let state = AuditState::Token {
            id: token.id,
            name: token.name.clone(),
            masked: token.masked,
            created_at: token.created_at,
        };
        let (before, after) = match action {
            AuditAction::Create => (None, Some(state)),
            _ => (Some(state), None),
        };
        self.found.push(Difference {
            environment: Some(token.environment),
            action,
            object: AuditObject {
                kind: ObjectType::Token,
                id: Some(token.id.0),
                name: token.name.clone(),
            },
            before,
            after,
        });
    }
}

/// The node, or all nodes of a cluster, as an object.
fn the_node() -> AuditObject {
    AuditObject {
        kind: ObjectType::Cluster,
        id: None,
        name: None,
    }
}

/// An environment as an object.
fn environment_object(environment: &Environment) -> AuditObject {
    AuditObject {
        kind: ObjectType::Environment,
        id: Some(environment.id.0),
        name: Some(environment.name.clone()),
    }
}

/// What counts of an agent when it is compared: all but its role, and when it was changed.
pub(crate) fn without_role(agent: &Agent) -> Agent {
    Agent {
        role: None,
        updated_at: agent.created_at,
        ..agent.clone()
    }
}

/// The index of the first identifier of entries among those that a command makes. Lists of calls, which use the lower
/// ones, are shorter.
const FIRST_ID: usize = 0xF0_0000;
