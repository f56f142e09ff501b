//! Those parts of format 1 that differ from the current format: read once, to be rewritten.
//!
//! Changes in the log and events were the domain's types of that time in postcard, directory records the same
//! types in JSON. The types here are copies of those, and never change.

use std::collections::BTreeMap;

use ringback_engine::{
    AnsweredCall, BatchCall, BatchRoute, BatchesCounted, Call, Change, CountKey, CountKind,
    CountMark, RoutedBatch, RoutedCall, RoutedEvent, RoutedOverSip,
};
use ringback_routing::{
    Agent, AgentId, AgentStatus, CallStatus, CallbackRole, Country, Direction, E164, Environment,
    EnvironmentId, NumberForm, NumberId, PhoneNumber, Target, Timestamp, Token, TokenHash, TokenId,
};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::status_of;

/// Reads the changes of a commit.
pub(crate) fn read_changes(bytes: &[u8]) -> Result<Vec<Change>, String> {
    let changes: Vec<OldChange> = postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
    // Append these last, so that all other changes keep their index in the commit.
    let mut owners_set = Vec::new();
    let changes = changes
        .into_iter()
        .map(|change| change.read(&mut owners_set));
    let mut changes = changes
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| "a value that was never written".to_owned())?;
    changes.append(&mut owners_set);
    Ok(changes)
}

/// Reads a chunk of events.
pub(crate) fn read_events(bytes: &[u8]) -> Option<Vec<RoutedEvent>> {
    let events: Vec<OldEvent> = postcard::from_bytes(bytes).ok()?;
    Some(events.into_iter().map(OldEvent::read).collect())
}

/// Reads the counter that a key names.
pub(crate) fn read_counter(key: &[u8]) -> Option<CountKey> {
    let counter: OldCounter = postcard::from_bytes(key.get(1..)?).ok()?;
    Some(counter.read())
}

/// Reads an environment of the directory.
pub(crate) fn read_environment(json: &[u8]) -> Option<Environment> {
    serde_json::from_slice::<OldEnvironment>(json).ok()?.read()
}

/// Reads an agent of the directory.
pub(crate) fn read_agent(json: &[u8]) -> Option<Agent> {
    serde_json::from_slice::<OldAgent>(json).ok()?.read()
}

/// Reads a number of the directory, and the agents that it is assigned to.
pub(crate) fn read_number(json: &[u8]) -> Option<(PhoneNumber, Vec<AgentId>)> {
    serde_json::from_slice::<OldNumber>(json).ok()?.read()
}

/// Reads a token of the directory.
pub(crate) fn read_token(json: &[u8]) -> Option<Token> {
    let token: OldToken = serde_json::from_slice(json).ok()?;
    Some(token.read())
}

/// A change; in the order in which the variants were numbered.
#[derive(Deserialize)]
enum OldChange {
    EnvironmentPutWithoutForm(OldEnvironmentWithoutForm),
    EnvironmentRemoved(Uuid),
    TokenPut(OldToken),
    TokenRemoved(Uuid, Uuid),
    AgentPut(OldAgent),
    AgentRemoved(Uuid, Uuid, String),
    NumberPut(OldNumber),
    NumberRemoved(Uuid, Uuid),
    CallPut(OldCall),
    ContactForgotten(Uuid, Digits),
    Routed(Vec<OldEvent>),
    Counted(OldCounter, u64),
    EnvironmentPut(OldEnvironment),
    BatchRouted(OldBatch),
    BatchesCounted(OldBatchesCounted),
}

impl OldChange {
    /// The change in its current form; the owners of a number become a change of their own.
    fn read(self, owners_set: &mut Vec<Change>) -> Option<Change> {
        Some(match self {
            Self::EnvironmentPutWithoutForm(old) => Change::EnvironmentPut(old.with_form().read()?),
            Self::EnvironmentPut(old) => Change::EnvironmentPut(old.read()?),
            Self::EnvironmentRemoved(id) => Change::EnvironmentRemoved(EnvironmentId(id)),
            Self::TokenPut(old) => Change::TokenPut(old.read()),
            Self::TokenRemoved(environment, id) => {
                Change::TokenRemoved(EnvironmentId(environment), TokenId(id))
            }
            Self::AgentPut(old) => Change::AgentPut(old.read()?),
            Self::AgentRemoved(environment, id, name) => {
                Change::AgentRemoved(EnvironmentId(environment), AgentId(id), name)
            }
            Self::NumberPut(old) => {
                let (number, owners) = old.read()?;
                owners_set.push(Change::OwnersSet(number.id, owners));
                Change::NumberPut(number)
            }
            Self::NumberRemoved(environment, id) => {
                Change::NumberRemoved(EnvironmentId(environment), NumberId(id))
            }
            Self::CallPut(old) => Change::CallPut(old.read()?),
            Self::ContactForgotten(environment, contact) => {
                Change::ContactForgotten(EnvironmentId(environment), contact.0)
            }
            Self::Routed(old) => Change::Routed(old.into_iter().map(OldEvent::read).collect()),
            Self::Counted(old, increment) => Change::Counted(old.read(), increment),
            Self::BatchRouted(old) => Change::BatchRouted(old.read()),
            Self::BatchesCounted(old) => Change::BatchesCounted(old.read()),
        })
    }
}

/// A number: text in JSON, an integer in postcard.
struct Digits(E164);

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = if deserializer.is_human_readable() {
            E164::from_canonical(String::deserialize(deserializer)?.as_bytes())
        } else {
            E164::from_digits(u64::deserialize(deserializer)?)
        };
        let number = number.ok_or_else(|| serde::de::Error::custom("not a number"))?;
        Ok(Self(number))
    }
}

/// An instant: RFC 3339 in JSON, milliseconds in postcard.
struct Instant(Timestamp);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map(Self).map_err(serde::de::Error::custom)
        } else {
            let millis = i64::deserialize(deserializer)?;
            Ok(Self(Timestamp::from_millis(millis)))
        }
    }
}

/// A status: its name in JSON, its rank in postcard.
struct OldStatus(CallStatus);

impl<'de> Deserialize<'de> for OldStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let status = if deserializer.is_human_readable() {
            let name = String::deserialize(deserializer)?;
            let mut all = CallStatus::ALL.into_iter();
            all.find(|status| status.name() == name)
        } else {
            status_of(u8::deserialize(deserializer)?)
        };
        let status = status.ok_or_else(|| serde::de::Error::custom("not a status"))?;
        Ok(Self(status))
    }
}

/// An environment from before it had a number form, as the log has it.
#[derive(Deserialize)]
struct OldEnvironmentWithoutForm {
    id: Uuid,
    name: String,
    default_country: Option<String>,
    recency_window_seconds: u64,
    target_template: Option<String>,
    fallback_targets: Vec<OldTarget>,
    created_at: Instant,
}

impl OldEnvironmentWithoutForm {
    /// The environment with the form by which its numbers were read.
    fn with_form(self) -> OldEnvironment {
        OldEnvironment {
            id: self.id,
            name: self.name,
            default_country: self.default_country,
            number_form: OldNumberForm::National,
            recency_window_seconds: self.recency_window_seconds,
            target_template: self.target_template,
            fallback_targets: self.fallback_targets,
            created_at: self.created_at,
        }
    }
}

/// An environment.
#[derive(Deserialize)]
struct OldEnvironment {
    id: Uuid,
    name: String,
    default_country: Option<String>,
    #[serde(default)]
    number_form: OldNumberForm,
    recency_window_seconds: u64,
    target_template: Option<String>,
    fallback_targets: Vec<OldTarget>,
    created_at: Instant,
}

/// What digits without a plus are.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OldNumberForm {
    #[default]
    National,
    E164,
}

impl OldEnvironment {
    fn read(self) -> Option<Environment> {
        Some(Environment {
            id: EnvironmentId(self.id),
            name: self.name,
            default_country: read_country(self.default_country)?,
            number_form: match self.number_form {
                OldNumberForm::National => NumberForm::National,
                OldNumberForm::E164 => NumberForm::E164,
            },
            recency_window_seconds: self.recency_window_seconds,
            target_template: self.target_template,
            fallback_targets: read_targets(self.fallback_targets),
            held_targets: Vec::new(),
            created_at: self.created_at.0,
        })
    }
}

/// A token.
#[derive(Deserialize)]
struct OldToken {
    id: Uuid,
    environment: Uuid,
    name: Option<String>,
    hash: [u8; 32],
    created_at: Instant,
}

impl OldToken {
    fn read(self) -> Token {
        Token {
            id: TokenId(self.id),
            environment: EnvironmentId(self.environment),
            name: self.name,
            hash: TokenHash(self.hash),
            masked: false,
            created_at: self.created_at.0,
        }
    }
}

/// An agent.
#[derive(Deserialize)]
struct OldAgent {
    id: Uuid,
    environment: Uuid,
    name: String,
    label: String,
    description: Option<String>,
    direction: OldDirection,
    status: OldAgentStatus,
    phone_numbers: Vec<Uuid>,
    targets: Vec<OldTarget>,
    role: Option<OldRole>,
    created_at: Instant,
    updated_at: Instant,
}

/// Whether an agent takes or makes calls.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OldDirection {
    Inbound,
    Outbound,
}

/// Whether an agent takes part in routing.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OldAgentStatus {
    Draft,
    Published,
}

/// A callback role.
#[derive(Deserialize)]
struct OldRole {
    source_agents: Vec<Uuid>,
    recency_window_seconds: Option<u64>,
    trigger_statuses: Vec<OldStatus>,
    set_sequence: u64,
}

impl OldAgent {
    fn read(self) -> Option<Agent> {
        Some(Agent {
            id: AgentId(self.id),
            environment: EnvironmentId(self.environment),
            name: self.name,
            label: self.label,
            description: self.description,
            direction: match self.direction {
                OldDirection::Inbound => Direction::Inbound,
                OldDirection::Outbound => Direction::Outbound,
            },
            status: match self.status {
                OldAgentStatus::Draft => AgentStatus::Draft,
                OldAgentStatus::Published => AgentStatus::Published,
            },
            phone_numbers: self.phone_numbers.into_iter().map(NumberId).collect(),
            targets: read_targets(self.targets),
            external_ids: BTreeMap::new(),
            role: self.role.map(|role| CallbackRole {
                source_agents: role.source_agents.into_iter().map(AgentId).collect(),
                recency_window_seconds: role.recency_window_seconds,
                trigger_statuses: role
                    .trigger_statuses
                    .iter()
                    .map(|status| status.0)
                    .collect(),
                hours: None,
                set_sequence: role.set_sequence,
            }),
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
        })
    }
}

/// A phone number.
#[derive(Deserialize)]
struct OldNumber {
    id: Uuid,
    environment: Uuid,
    number: Digits,
    country: Option<String>,
    agents: Vec<Uuid>,
    default_agent: Option<Uuid>,
    created_at: Instant,
}

impl OldNumber {
    fn read(self) -> Option<(PhoneNumber, Vec<AgentId>)> {
        let number = PhoneNumber {
            id: NumberId(self.id),
            environment: EnvironmentId(self.environment),
            number: self.number.0,
            country: read_country(self.country)?,
            default_agent: self.default_agent.map(AgentId),
            created_at: self.created_at.0,
        };
        Some((number, self.agents.into_iter().map(AgentId).collect()))
    }
}

/// A destination for a call.
#[derive(Deserialize)]
struct OldTarget {
    uri: String,
    priority: u16,
    weight: u16,
}

/// A call.
#[derive(Deserialize)]
struct OldCall {
    environment: Uuid,
    sid: String,
    agent: Uuid,
    contact: Digits,
    from: Option<Digits>,
    status: OldStatus,
    started_at: Instant,
}

impl OldCall {
    fn read(self) -> Option<Call> {
        Some(Call {
            environment: EnvironmentId(self.environment),
            sid: self.sid.into(),
            agent: AgentId(self.agent),
            contact: self.contact.0,
            from: self.from.map(|from| from.0),
            status: self.status.0,
            started_at: self.started_at.0,
        })
    }
}

/// An event of an incoming call.
#[derive(Deserialize)]
enum OldEvent {
    Routed {
        environment: Uuid,
        sid_hash: u64,
        at: Instant,
        agent: Option<Uuid>,
        source: Option<Uuid>,
        /// The text of an HTTP answer. Ignored: it does not hold the whole decision.
        _response: Option<String>,
    },
    Answered {
        environment: Uuid,
        sid_hash: u64,
        at: Instant,
    },
    RoutedOverSip {
        environment: Uuid,
        agent: Option<Uuid>,
        source: Option<Uuid>,
        latest: Instant,
        calls: Vec<(u64, u32)>,
    },
    Batch(OldBatch),
}

impl OldEvent {
    fn read(self) -> RoutedEvent {
        match self {
            Self::Routed {
                environment,
                sid_hash,
                at,
                agent,
                source,
                ..
            } => RoutedEvent::Routed(RoutedCall {
                environment: EnvironmentId(environment),
                sid_hash,
                at: at.0,
                agent: agent.map(AgentId),
                source: source.map(AgentId),
                decision: None,
            }),
            Self::Answered {
                environment,
                sid_hash,
                at,
            } => RoutedEvent::Answered(AnsweredCall {
                environment: EnvironmentId(environment),
                sid_hash,
                at: at.0,
            }),
            Self::RoutedOverSip {
                environment,
                agent,
                source,
                latest,
                calls,
            } => RoutedEvent::RoutedOverSip(RoutedOverSip {
                environment: EnvironmentId(environment),
                agent: agent.map(AgentId),
                source: source.map(AgentId),
                latest: latest.0,
                calls,
            }),
            Self::Batch(old) => RoutedEvent::Batch(old.read()),
        }
    }
}

/// A batch of SIP calls.
#[derive(Deserialize)]
struct OldBatch {
    number: u64,
    latest: Instant,
    routes: Vec<OldRoute>,
    /// The hash of each Call-ID, when it was routed, and the index of its route.
    calls: Vec<(u64, u32, u32)>,
}

/// A route shared by calls of a batch.
#[derive(Deserialize)]
struct OldRoute {
    environment: Uuid,
    agent: Option<Uuid>,
    source: Option<Uuid>,
    kind: Option<OldCountKind>,
}

impl OldBatch {
    fn read(self) -> RoutedBatch {
        let route = |route: OldRoute| BatchRoute {
            environment: EnvironmentId(route.environment),
            agent: route.agent.map(AgentId),
            source: route.source.map(AgentId),
            kind: route.kind.map(OldCountKind::read),
        };
        let call = |(sid_hash, second, route)| BatchCall {
            sid_hash,
            second,
            route,
        };
        RoutedBatch {
            number: self.number,
            latest: self.latest.0,
            routes: self.routes.into_iter().map(route).collect(),
            calls: self.calls.into_iter().map(call).collect(),
        }
    }
}

/// Counters raised by batches.
#[derive(Deserialize)]
struct OldBatchesCounted {
    growth: Vec<(OldCounter, u64)>,
    mark: OldCountMark,
}

/// Which batches the counters contain.
#[derive(Deserialize)]
struct OldCountMark {
    complete: u64,
    partial: Option<(u64, OldCounter)>,
}

impl OldBatchesCounted {
    fn read(self) -> BatchesCounted {
        let growth = self.growth.into_iter();
        let partial = self.mark.partial;
        BatchesCounted {
            growth: growth
                .map(|(counter, increment)| (counter.read(), increment))
                .collect(),
            mark: CountMark {
                complete: self.mark.complete,
                partial: partial.map(|(before, through)| (before, through.read())),
            },
        }
    }
}

/// A counter.
#[derive(Deserialize)]
struct OldCounter {
    environment: Uuid,
    day: i32,
    agent: Uuid,
    source: Option<Uuid>,
    kind: OldCountKind,
}

/// What a counter counts.
#[derive(Deserialize)]
enum OldCountKind {
    Received,
    Answered,
    Unmatched,
}

impl OldCounter {
    fn read(self) -> CountKey {
        CountKey {
            environment: EnvironmentId(self.environment),
            day: self.day,
            agent: AgentId(self.agent),
            source: self.source.map(AgentId),
            kind: self.kind.read(),
        }
    }
}

impl OldCountKind {
    fn read(self) -> CountKind {
        match self {
            Self::Received => CountKind::Received,
            Self::Answered => CountKind::Answered,
            Self::Unmatched => CountKind::Unmatched,
        }
    }
}

/// An optional country; `None` if the letters name no country.
fn read_country(letters: Option<String>) -> Option<Option<Country>> {
    match letters {
        None => Some(None),
        Some(letters) => letters.parse().ok().map(Some),
    }
}

/// Targets in their current form.
fn read_targets(targets: Vec<OldTarget>) -> Vec<Target> {
    let targets = targets.into_iter().map(|target| Target {
        uri: target.uri,
        priority: target.priority,
        weight: target.weight,
    });
    targets.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_without_number_form_is_read() {
        // One change, variant 0, then its fields one after the other, as format 1 had them.
        let mut bytes = vec![1, 0, 16];
        bytes.extend_from_slice(&[7; 16]);
        bytes.extend_from_slice(b"\x04Acme\x01\x02BR\x80\x9a\x9e\x01\x00\x00");
        let created_at = Timestamp::from_seconds(1_800_000_000);
        bytes.extend(postcard::to_stdvec(&created_at.millis()).unwrap());
        let read = read_changes(&bytes).unwrap();
        let expected = Environment {
            id: EnvironmentId(Uuid::from_bytes([7; 16])),
            name: "Acme".to_owned(),
            default_country: "BR".parse().ok(),
            number_form: NumberForm::National,
            recency_window_seconds: 30 * 86_400,
            target_template: None,
            fallback_targets: Vec::new(),
            held_targets: Vec::new(),
            created_at,
        };
        assert_eq!(read, [Change::EnvironmentPut(expected)]);
    }
}
