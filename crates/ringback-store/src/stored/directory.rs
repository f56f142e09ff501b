//! Records of the directory: a version byte, then JSON with named fields.

use std::collections::BTreeMap;

use ringback_routing::{
    Agent, AgentId, AgentStatus, CallbackRole, Connector, ConnectorId, ConnectorSecret, Country,
    Dialect, Direction, E164, Environment, EnvironmentId, HeldTarget, Hours, HoursSpec, NumberForm,
    NumberId, PhoneNumber, SpecialDay, Target, Timestamp, Token, TokenHash, TokenId, Week,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{status_code, status_of};
use crate::key::{hex, read_hex};

/// A record of the domain that the directory is made of.
pub(crate) trait DirectoryRecord: Sized {
    /// The version that is written; all of them since 1 are read.
    const VERSION: u8 = 1;

    /// The stored fields, as JSON.
    type Stored: Serialize + for<'de> Deserialize<'de>;

    /// The stored form of the record.
    fn store(&self) -> Self::Stored;

    /// The record; `None` if a value is not one that was ever written.
    fn read(stored: Self::Stored) -> Option<Self>;
}

/// Appends a record to the buffer.
pub(crate) fn write<T: DirectoryRecord>(record: &T, to: &mut Vec<u8>) -> serde_json::Result<()> {
    to.push(T::VERSION);
    serde_json::to_writer(to, &record.store())
}

/// Reads a record of any version.
pub(crate) fn read<T: DirectoryRecord>(bytes: &[u8]) -> Option<T> {
    match bytes.split_first()? {
        (version, json) if (1..=T::VERSION).contains(version) => {
            T::read(serde_json::from_slice(json).ok()?)
        }
        _ => None,
    }
}

/// The agents that a number is assigned to, in order of assignment, if its record is of version 1, which has the
/// list.
pub(crate) fn read_owners(bytes: &[u8]) -> Option<Vec<AgentId>> {
    match bytes.split_first()? {
        (1, json) => {
            let owners: StoredOwners = serde_json::from_slice(json).ok()?;
            Some(owners.agents.into_iter().map(AgentId).collect())
        }
        _ => None,
    }
}

/// An environment.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredEnvironment {
    id: Uuid,
    name: String,
    default_country: Option<String>,
    number_form: String,
    recency_window_seconds: u64,
    target_template: Option<String>,
    fallback_targets: Vec<StoredTarget>,
    /// Left out where there is nothing, so that the record is as it was before there was this field: a program that
    /// does not know it takes every target as it finds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    held_targets: Vec<StoredHeldTarget>,
    created_at: i64,
}

/// What an operator has said of a target.
#[derive(Serialize, Deserialize)]
struct StoredHeldTarget {
    destination: String,
    up: bool,
    since: i64,
}

impl DirectoryRecord for Environment {
    type Stored = StoredEnvironment;

    fn store(&self) -> StoredEnvironment {
        StoredEnvironment {
            id: self.id.0,
            name: self.name.clone(),
            default_country: self.default_country.map(String::from),
            number_form: form_name(self.number_form).to_owned(),
            recency_window_seconds: self.recency_window_seconds,
            target_template: self.target_template.clone(),
            fallback_targets: self.fallback_targets.iter().map(store_target).collect(),
            held_targets: self
                .held_targets
                .iter()
                .map(|held| StoredHeldTarget {
                    destination: held.destination.clone(),
                    up: held.is_up,
                    since: held.since.millis(),
                })
                .collect(),
            created_at: self.created_at.millis(),
        }
    }

    fn read(stored: StoredEnvironment) -> Option<Self> {
        let mut forms = NumberForm::ALL.into_iter();
        Some(Self {
            id: EnvironmentId(stored.id),
            name: stored.name,
            default_country: read_country(stored.default_country)?,
            number_form: forms.find(|form| form_name(*form) == stored.number_form)?,
            recency_window_seconds: stored.recency_window_seconds,
            target_template: stored.target_template,
            fallback_targets: read_targets(stored.fallback_targets),
            held_targets: stored
                .held_targets
                .into_iter()
                .map(|held| HeldTarget {
                    destination: held.destination,
                    is_up: held.up,
                    since: Timestamp::from_millis(held.since),
                })
                .collect(),
            created_at: Timestamp::from_millis(stored.created_at),
        })
    }
}

/// An agent.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredAgent {
    id: Uuid,
    environment: Uuid,
    name: String,
    label: String,
    description: Option<String>,
    outbound: bool,
    published: bool,
    phone_numbers: Vec<Uuid>,
    targets: Vec<StoredTarget>,
    /// By the name of the dialect. Left out where there is none, so that the record is as it was before there was this
    /// field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    external_ids: BTreeMap<String, String>,
    role: Option<StoredRole>,
    created_at: i64,
    updated_at: i64,
}

/// A callback role.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredRole {
    source_agents: Vec<Uuid>,
    recency_window_seconds: Option<u64>,
    trigger_statuses: Vec<u8>,
    set_sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hours: Option<StoredHours>,
}

/// The hours of a role.
#[derive(Serialize, Deserialize)]
struct StoredHours {
    time_zone: String,
    /// By day of the week, Monday first: start and end of each range, as `09:00`.
    weekly: [Vec<[String; 2]>; 7],
    /// The days that are different, as `2026-12-25`.
    except: Vec<(String, Vec<[String; 2]>)>,
}

impl StoredHours {
    /// The stored form of hours.
    fn new(hours: &Hours) -> Self {
        let HoursSpec {
            time_zone,
            weekly,
            except,
        } = hours.spec().clone();
        Self {
            time_zone,
            weekly: [
                weekly.mon, weekly.tue, weekly.wed, weekly.thu, weekly.fri, weekly.sat, weekly.sun,
            ],
            except: except.into_iter().map(|day| (day.date, day.open)).collect(),
        }
    }

    /// The hours; `None` if they are none.
    fn read(self) -> Option<Hours> {
        let [mon, tue, wed, thu, fri, sat, sun] = self.weekly;
        let except = self.except.into_iter();
        let spec = HoursSpec {
            time_zone: self.time_zone,
            weekly: Week {
                mon,
                tue,
                wed,
                thu,
                fri,
                sat,
                sun,
            },
            except: except
                .map(|(date, open)| SpecialDay { date, open })
                .collect(),
        };
        Hours::compile(spec).ok()
    }
}

impl DirectoryRecord for Agent {
    type Stored = StoredAgent;

    fn store(&self) -> StoredAgent {
        StoredAgent {
            id: self.id.0,
            environment: self.environment.0,
            name: self.name.clone(),
            label: self.label.clone(),
            description: self.description.clone(),
            outbound: self.direction == Direction::Outbound,
            published: self.status == AgentStatus::Published,
            phone_numbers: self.phone_numbers.iter().map(|id| id.0).collect(),
            targets: self.targets.iter().map(store_target).collect(),
            external_ids: self
                .external_ids
                .iter()
                .map(|(dialect, id)| (dialect.name().to_owned(), id.clone()))
                .collect(),
            role: self.role.as_ref().map(store_role),
            created_at: self.created_at.millis(),
            updated_at: self.updated_at.millis(),
        }
    }

    fn read(stored: StoredAgent) -> Option<Self> {
        let role = match stored.role {
            None => None,
            Some(role) => Some(read_role(role)?),
        };
        let external_ids = stored.external_ids.into_iter();
        let external_ids = external_ids.map(|(name, id)| Some((Dialect::from_name(&name)?, id)));
        Some(Self {
            id: AgentId(stored.id),
            environment: EnvironmentId(stored.environment),
            name: stored.name,
            label: stored.label,
            description: stored.description,
            direction: if stored.outbound {
                Direction::Outbound
            } else {
                Direction::Inbound
            },
            status: if stored.published {
                AgentStatus::Published
            } else {
                AgentStatus::Draft
            },
            phone_numbers: stored.phone_numbers.into_iter().map(NumberId).collect(),
            targets: read_targets(stored.targets),
            external_ids: external_ids.collect::<Option<_>>()?,
            role,
            created_at: Timestamp::from_millis(stored.created_at),
            updated_at: Timestamp::from_millis(stored.updated_at),
        })
    }
}

/// The stored form of a role.
pub(super) fn store_role(role: &CallbackRole) -> StoredRole {
    let statuses = role.trigger_statuses.iter().copied();
    StoredRole {
        source_agents: role.source_agents.iter().map(|id| id.0).collect(),
        recency_window_seconds: role.recency_window_seconds,
        trigger_statuses: statuses.map(status_code).collect(),
        set_sequence: role.set_sequence,
        hours: role.hours.as_deref().map(StoredHours::new),
    }
}

/// The role; `None` if a status is not one that was ever written, or a time zone is gone.
pub(super) fn read_role(stored: StoredRole) -> Option<CallbackRole> {
    let statuses = stored.trigger_statuses.into_iter().map(status_of);
    Some(CallbackRole {
        source_agents: stored.source_agents.into_iter().map(AgentId).collect(),
        recency_window_seconds: stored.recency_window_seconds,
        trigger_statuses: statuses.collect::<Option<_>>()?,
        hours: match stored.hours {
            None => None,
            Some(hours) => Some(Box::new(hours.read()?)),
        },
        set_sequence: stored.set_sequence,
    })
}

/// The additional fields of version 1 of a number.
#[derive(Deserialize)]
struct StoredOwners {
    agents: Vec<Uuid>,
}

/// A phone number.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredNumber {
    id: Uuid,
    environment: Uuid,
    number: u64,
    country: Option<String>,
    default_agent: Option<Uuid>,
    created_at: i64,
}

impl DirectoryRecord for PhoneNumber {
    const VERSION: u8 = 2;

    type Stored = StoredNumber;

    fn store(&self) -> StoredNumber {
        StoredNumber {
            id: self.id.0,
            environment: self.environment.0,
            number: self.number.digits(),
            country: self.country.map(String::from),
            default_agent: self.default_agent.map(|id| id.0),
            created_at: self.created_at.millis(),
        }
    }

    fn read(stored: StoredNumber) -> Option<Self> {
        Some(Self {
            id: NumberId(stored.id),
            environment: EnvironmentId(stored.environment),
            number: E164::from_digits(stored.number)?,
            country: read_country(stored.country)?,
            default_agent: stored.default_agent.map(AgentId),
            created_at: Timestamp::from_millis(stored.created_at),
        })
    }
}

/// A token without its secret.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredToken {
    id: Uuid,
    environment: Uuid,
    name: Option<String>,
    hash: String,
    /// Left out where it is false, so that the record is as it was before there was this field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    masked: bool,
    created_at: i64,
}

impl DirectoryRecord for Token {
    type Stored = StoredToken;

    fn store(&self) -> StoredToken {
        StoredToken {
            id: self.id.0,
            environment: self.environment.0,
            name: self.name.clone(),
            hash: hex(&self.hash.0),
            masked: self.masked,
            created_at: self.created_at.millis(),
        }
    }

    fn read(stored: StoredToken) -> Option<Self> {
        Some(Self {
            id: TokenId(stored.id),
            environment: EnvironmentId(stored.environment),
            name: stored.name,
            hash: TokenHash(read_hex(&stored.hash)?),
            masked: stored.masked,
            created_at: Timestamp::from_millis(stored.created_at),
        })
    }
}

/// A connector: its keys as hashes, its secret as it is.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredConnector {
    id: Uuid,
    environment: Uuid,
    dialect: String,
    name: Option<String>,
    key: String,
    previous_key: Option<(String, i64)>,
    secret: Option<String>,
    /// A JSON object as text, and so is `on_nothing`.
    options: String,
    on_nothing: String,
    created_at: i64,
}

impl DirectoryRecord for Connector {
    type Stored = StoredConnector;

    fn store(&self) -> StoredConnector {
        StoredConnector {
            id: self.id.0,
            environment: self.environment.0,
            dialect: dialect_name(self.dialect).to_owned(),
            name: self.name.clone(),
            key: hex(&self.key.0),
            previous_key: self
                .previous_key
                .map(|(key, until)| (hex(&key.0), until.millis())),
            secret: self.secret.as_ref().map(|secret| secret.0.clone()),
            options: self.options.clone(),
            on_nothing: self.on_nothing.clone(),
            created_at: self.created_at.millis(),
        }
    }

    fn read(stored: StoredConnector) -> Option<Self> {
        let mut dialects = Dialect::ALL.into_iter();
        Some(Self {
            id: ConnectorId(stored.id),
            environment: EnvironmentId(stored.environment),
            dialect: dialects.find(|dialect| dialect_name(*dialect) == stored.dialect)?,
            name: stored.name,
            key: TokenHash(read_hex(&stored.key)?),
            previous_key: match stored.previous_key {
                None => None,
                Some((key, until)) => {
                    Some((TokenHash(read_hex(&key)?), Timestamp::from_millis(until)))
                }
            },
            secret: stored.secret.map(ConnectorSecret),
            options: stored.options,
            on_nothing: stored.on_nothing,
            created_at: Timestamp::from_millis(stored.created_at),
        })
    }
}

/// The stored name of a dialect.
const fn dialect_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::RtJson => "rtjson",
        Dialect::Drachtio => "drachtio",
        Dialect::FreeSwitch => "freeswitch",
        Dialect::Twilio => "twilio",
        Dialect::Telnyx => "telnyx",
        Dialect::Retell => "retell",
        Dialect::Vapi => "vapi",
        Dialect::Jambonz => "jambonz",
        Dialect::RustPbx => "rustpbx",
        Dialect::Ultravox => "ultravox",
        Dialect::ElevenLabs => "elevenlabs",
        Dialect::Text => "text",
    }
}

/// A destination for a call.
#[derive(Serialize, Deserialize)]
struct StoredTarget {
    uri: String,
    priority: u16,
    weight: u16,
}

/// The stored form of a target.
fn store_target(target: &Target) -> StoredTarget {
    StoredTarget {
        uri: target.uri.clone(),
        priority: target.priority,
        weight: target.weight,
    }
}

/// The targets of the stored form.
fn read_targets(stored: Vec<StoredTarget>) -> Vec<Target> {
    let targets = stored.into_iter().map(|target| Target {
        uri: target.uri,
        priority: target.priority,
        weight: target.weight,
    });
    targets.collect()
}

/// An optional country; `None` if the letters name no country.
fn read_country(stored: Option<String>) -> Option<Option<Country>> {
    match stored {
        None => Some(None),
        Some(letters) => letters.parse().ok().map(Some),
    }
}

/// The stored name of a number form.
const fn form_name(form: NumberForm) -> &'static str {
    match form {
        NumberForm::National => "national",
        NumberForm::E164 => "e164",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_at_platforms_are_read_as_they_were_written_and_leave_no_trace_where_there_are_none() {
        let mut agent = Agent {
            id: AgentId(Uuid::from_u128(1)),
            environment: EnvironmentId(Uuid::from_u128(2)),
            name: "one".to_owned(),
            label: String::new(),
            description: None,
            direction: Direction::Inbound,
            status: AgentStatus::Draft,
            phone_numbers: Vec::new(),
            targets: Vec::new(),
            external_ids: BTreeMap::new(),
            role: None,
            created_at: Timestamp::from_millis(1_800_000_000_001),
            updated_at: Timestamp::from_millis(1_800_000_000_001),
        };
        let mut bytes = Vec::new();
        write(&agent, &mut bytes).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("external_ids"));
        assert_eq!(read::<Agent>(&bytes), Some(agent.clone()));
        let ids = Dialect::ALL.map(|dialect| (dialect, format!("at_{}", dialect.name())));
        agent.external_ids = ids.into();
        bytes.clear();
        write(&agent, &mut bytes).unwrap();
        assert_eq!(read::<Agent>(&bytes), Some(agent));
    }

    #[test]
    fn what_an_operator_has_said_of_targets_is_read_as_it_was_written() {
        let mut environment = Environment {
            id: EnvironmentId(Uuid::from_u128(1)),
            name: "one".to_owned(),
            default_country: None,
            number_form: NumberForm::E164,
            recency_window_seconds: 60,
            target_template: None,
            fallback_targets: Vec::new(),
            held_targets: Vec::new(),
            created_at: Timestamp::from_millis(1_800_000_000_001),
        };
        let mut bytes = Vec::new();
        write(&environment, &mut bytes).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("held"));
        assert_eq!(read::<Environment>(&bytes), Some(environment.clone()));
        environment.held_targets = vec![HeldTarget {
            destination: "sip:pbx.example.com;transport=tcp".to_owned(),
            is_up: false,
            since: Timestamp::from_millis(1_800_000_000_002),
        }];
        bytes.clear();
        write(&environment, &mut bytes).unwrap();
        assert_eq!(read::<Environment>(&bytes), Some(environment));
    }
}
