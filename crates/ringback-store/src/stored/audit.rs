//! Audit entries: a version byte, then JSON with named fields. Objects are in the form in which the directory stores
//! them.

use ringback_engine::{
    Actor, AgentView, AuditAction, AuditEntry, AuditId, AuditObject, AuditState, NumberView,
    ObjectType, OwnerView, Via,
};
use ringback_routing::{
    Agent, AgentId, CallbackRole, Direction, Environment, EnvironmentId, PhoneNumber, Timestamp,
    TokenId,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::directory::{
    DirectoryRecord, StoredAgent, StoredEnvironment, StoredNumber, StoredRole, read_role,
    store_role,
};

/// An entry.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredEntry {
    id: Uuid,
    at: i64,
    environment: Option<Uuid>,
    /// The token; none: the administrator.
    token: Option<Uuid>,
    token_name: Option<String>,
    via: String,
    action: String,
    object: String,
    object_id: Option<Uuid>,
    object_name: Option<String>,
    before: Option<StoredState>,
    after: Option<StoredState>,
    request_id: String,
}

/// An object as it was.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredState {
    Agent {
        agent: Box<StoredAgent>,
        numbers: Vec<StoredNumber>,
    },
    Number {
        number: StoredNumber,
        owners: Vec<StoredOwner>,
    },
    Role(StoredRole),
    Environment(StoredEnvironment),
    Token {
        id: Uuid,
        name: Option<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        masked: bool,
        created_at: i64,
    },
}

/// An agent that owns a number.
#[derive(Serialize, Deserialize)]
struct StoredOwner {
    id: Uuid,
    name: String,
    outbound: bool,
}

impl DirectoryRecord for AuditEntry {
    type Stored = StoredEntry;

    fn store(&self) -> StoredEntry {
        let (token, token_name) = match &self.actor {
            Actor::Administrator => (None, None),
            Actor::Token { id, name } => (Some(id.0), name.clone()),
        };
        StoredEntry {
            id: self.id.0,
            at: self.at.millis(),
            environment: self.environment.map(|id| id.0),
            token,
            token_name,
            via: name_of(&VIAS, self.via),
            action: name_of(&ACTIONS, self.action),
            object: name_of(&OBJECTS, self.object.kind),
            object_id: self.object.id,
            object_name: self.object.name.clone(),
            before: self.before.as_ref().map(store_state),
            after: self.after.as_ref().map(store_state),
            request_id: self.request_id.as_ref().to_owned(),
        }
    }

    fn read(stored: StoredEntry) -> Option<Self> {
        Some(Self {
            id: AuditId(stored.id),
            at: Timestamp::from_millis(stored.at),
            environment: stored.environment.map(EnvironmentId),
            actor: match stored.token {
                None => Actor::Administrator,
                Some(id) => Actor::Token {
                    id: TokenId(id),
                    name: stored.token_name,
                },
            },
            via: named(&VIAS, &stored.via)?,
            action: named(&ACTIONS, &stored.action)?,
            object: AuditObject {
                kind: named(&OBJECTS, &stored.object)?,
                id: stored.object_id,
                name: stored.object_name,
            },
            before: read_state(stored.before)?,
            after: read_state(stored.after)?,
            request_id: stored.request_id.into(),
        })
    }
}

/// The stored form of an object.
fn store_state(state: &AuditState) -> StoredState {
    match state {
        AuditState::Agent(view) => StoredState::Agent {
            agent: Box::new(view.agent.store()),
            numbers: view.phone_numbers.iter().map(PhoneNumber::store).collect(),
        },
        AuditState::Number(view) => StoredState::Number {
            number: view.number.store(),
            owners: view
                .agents
                .iter()
                .map(|owner| StoredOwner {
                    id: owner.id.0,
                    name: owner.name.clone(),
                    outbound: owner.direction == Direction::Outbound,
                })
                .collect(),
        },
        AuditState::Role(role) => StoredState::Role(store_role(role)),
        AuditState::Environment(environment) => StoredState::Environment(environment.store()),
        AuditState::Token {
            id,
            name,
            masked,
            created_at,
        } => StoredState::Token {
            id: id.0,
            name: name.clone(),
            masked: *masked,
            created_at: created_at.millis(),
        },
    }
}

/// The object of a stored form; `None` if a value is not one that was ever written.
fn read_state(stored: Option<StoredState>) -> Option<Option<AuditState>> {
    let Some(stored) = stored else {
        return Some(None);
    };
    Some(Some(match stored {
        StoredState::Agent { agent, numbers } => AuditState::Agent(AgentView {
            agent: Agent::read(*agent)?,
            phone_numbers: numbers
                .into_iter()
                .map(PhoneNumber::read)
                .collect::<Option<_>>()?,
        }),
        StoredState::Number { number, owners } => AuditState::Number(NumberView {
            number: PhoneNumber::read(number)?,
            agents: owners
                .into_iter()
                .map(|owner| OwnerView {
                    id: AgentId(owner.id),
                    name: owner.name,
                    direction: if owner.outbound {
                        Direction::Outbound
                    } else {
                        Direction::Inbound
                    },
                })
                .collect(),
        }),
        StoredState::Role(role) => {
            let role: CallbackRole = read_role(role)?;
            AuditState::Role(role)
        }
        StoredState::Environment(environment) => {
            AuditState::Environment(Environment::read(environment)?)
        }
        StoredState::Token {
            id,
            name,
            masked,
            created_at,
        } => AuditState::Token {
            id: TokenId(id),
            name,
            masked,
            created_at: Timestamp::from_millis(created_at),
        },
    }))
}

/// The stored name of a value.
fn name_of<T: PartialEq>(names: &[(T, &'static str)], value: T) -> String {
    let found = names.iter().find(|(other, _)| *other == value);
    // Tests find a name for each.
    found.map_or_else(String::new, |(_, name)| (*name).to_owned())
}

/// The value with a stored name.
fn named<T: Copy>(names: &[(T, &'static str)], name: &str) -> Option<T> {
    let found = names.iter().find(|(_, other)| *other == name);
    found.map(|(value, _)| *value)
}

/// The stored names.
const VIAS: [(Via, &str); 3] = [
    (Via::Api, "api"),
    (Via::Console, "console"),
    (Via::Cli, "cli"),
];

/// The stored names.
const ACTIONS: [(AuditAction, &str); 17] = [
    (AuditAction::Create, "create"),
    (AuditAction::Update, "update"),
    (AuditAction::Delete, "delete"),
    (AuditAction::Publish, "publish"),
    (AuditAction::Unpublish, "unpublish"),
    (AuditAction::Set, "set"),
    (AuditAction::Remove, "remove"),
    (AuditAction::End, "end"),
    (AuditAction::Erase, "erase"),
    (AuditAction::Restore, "restore"),
    (AuditAction::Recover, "recover"),
    (AuditAction::Forget, "forget"),
    (AuditAction::Backup, "backup"),
    (AuditAction::Export, "export"),
    (AuditAction::OptOut, "opt_out"),
    (AuditAction::OptIn, "opt_in"),
    (AuditAction::Reassign, "reassign"),
];

/// The stored names.
const OBJECTS: [(ObjectType, &str); 8] = [
    (ObjectType::Agent, "agent"),
    (ObjectType::Number, "number"),
    (ObjectType::Role, "role"),
    (ObjectType::Environment, "environment"),
    (ObjectType::Token, "token"),
    (ObjectType::Contact, "contact"),
    (ObjectType::Connector, "connector"),
    (ObjectType::Cluster, "cluster"),
];
