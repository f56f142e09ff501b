//! The changes of a commit as the log stores them, one behind the other, each with its kind (1), the version of
//! that kind (1), the length of the rest (4, little-endian), and the rest.

use ringback_engine::{
    AnswerId, CallsSwept, Change, CountKey, ErasedHash, ErasureSecret, Tombstone,
};
use ringback_routing::{
    AgentId, Assignment, ConnectorId, ContactHash, E164, EnvironmentId, NumberId, Timestamp,
    TokenHash, TokenId,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer::{read_answer, write_answer};
use super::batch_record::{StoredBatch, StoredBatchesCounted};
use super::directory::{self, DirectoryRecord};
use super::opt_out::{read_opt_out, read_reassignment, write_opt_out, write_reassignment};
use super::place::{read_place, write_place};
use super::routed::{read_events, write_events};
use super::{Id, StoredCall};
use crate::key;

/// The kind of a change. A number is never reused for another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    EnvironmentPut = 1,
    EnvironmentRemoved = 2,
    TokenPut = 3,
    TokenRemoved = 4,
    AgentPut = 5,
    AgentRemoved = 6,
    NumberPut = 7,
    NumberRemoved = 8,
    CallPut = 9,
    ContactForgotten = 10,
    Routed = 11,
    Counted = 12,
    BatchRouted = 13,
    BatchesCounted = 14,
    CallsSwept = 15,
    RoutedSwept = 16,
    Assigned = 17,
    Unassigned = 18,
    OwnersSet = 19,
    Placed = 20,
    Audited = 21,
    AuditSwept = 22,
    Answered = 23,
    SessionPut = 24,
    SessionEnded = 25,
    ErasureSecretSet = 26,
    Erased = 27,
    ConnectorPut = 34,
    ConnectorRemoved = 35,
    OptedOut = 42,
    OptOutEnded = 43,
    Reassigned = 44,
}

impl Kind {
    const ALL: [Self; 32] = [
        Self::EnvironmentPut,
        Self::EnvironmentRemoved,
        Self::TokenPut,
        Self::TokenRemoved,
        Self::AgentPut,
        Self::AgentRemoved,
        Self::NumberPut,
        Self::NumberRemoved,
        Self::CallPut,
        Self::ContactForgotten,
        Self::Routed,
        Self::Counted,
        Self::BatchRouted,
        Self::BatchesCounted,
        Self::CallsSwept,
        Self::RoutedSwept,
        Self::Assigned,
        Self::Unassigned,
        Self::OwnersSet,
        Self::Placed,
        Self::Audited,
        Self::AuditSwept,
        Self::Answered,
        Self::SessionPut,
        Self::SessionEnded,
        Self::ErasureSecretSet,
        Self::Erased,
        Self::ConnectorPut,
        Self::ConnectorRemoved,
        Self::OptedOut,
        Self::OptOutEnded,
        Self::Reassigned,
    ];
}

/// The version that is written, of every kind.
const VERSION: u8 = 1;

/// Bytes before the rest of a change.
const HEADER_LENGTH: usize = 6;

/// A record was removed: its environment and id.
#[derive(Serialize, Deserialize)]
struct StoredRemoval {
    environment: Id,
    id: Id,
}

/// An agent was removed.
#[derive(Serialize, Deserialize)]
struct StoredDeparture<'a> {
    environment: Id,
    id: Id,
    name: &'a str,
}

/// A contact was forgotten.
#[derive(Serialize, Deserialize)]
struct StoredErasure {
    environment: Id,
    contact: u64,
}

/// Old calls were dropped.
#[derive(Serialize, Deserialize)]
struct StoredSweep {
    environment: Id,
    /// In milliseconds since 1970.
    before: i64,
    /// The digits as integers.
    contacts: Vec<u64>,
}

/// A number was assigned to an agent, or taken from one.
#[derive(Serialize, Deserialize)]
struct StoredAssignment {
    number: Id,
    agent: Id,
}

impl StoredAssignment {
    /// The stored form of an assignment.
    fn new(assignment: &Assignment) -> Self {
        Self {
            number: assignment.number.0.into_bytes(),
            agent: assignment.agent.0.into_bytes(),
        }
    }

    /// The assignment.
    fn read(&self) -> Assignment {
        Assignment {
            number: NumberId(Uuid::from_bytes(self.number)),
            agent: AgentId(Uuid::from_bytes(self.agent)),
        }
    }
}

/// A number was assigned to these agents and to no others.
#[derive(Serialize, Deserialize)]
struct StoredOwners {
    number: Id,
    agents: Vec<Id>,
}

/// Why changes cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("changes cannot be encoded: {0}")]
pub(crate) struct Unwritable(String);

/// Appends changes to the buffer.
pub(crate) fn write(changes: &[Change], mut to: Vec<u8>) -> Result<Vec<u8>, Unwritable> {
    let unwritable = |error: &dyn std::fmt::Display| Unwritable(error.to_string());
    for change in changes {
        let start = to.len();
        to.extend_from_slice(&[0; HEADER_LENGTH]);
        let kind;
        (kind, to) = write_one(change, to)?;
        let length =
            u32::try_from(to.len() - start - HEADER_LENGTH).map_err(|error| unwritable(&error))?;
        if let Some(header) = to.get_mut(start..start + HEADER_LENGTH) {
            header[0] = kind as u8;
            header[1] = VERSION;
            header[2..].copy_from_slice(&length.to_le_bytes());
        }
    }
    Ok(to)
}

/// Reads the changes of a commit, or says what cannot be read.
pub(crate) fn read(mut bytes: &[u8]) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    // Append these last, so that all other changes keep their index in the commit.
    let mut owners_set = Vec::new();
    for index in 0.. {
        if bytes.is_empty() {
            break;
        }
        let header = bytes.split_first_chunk::<HEADER_LENGTH>();
        let Some((&[kind, version, a, b, c, d], rest)) = header else {
            return Err(format!("change {index} ends early"));
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some((body, rest)) = rest.split_at_checked(length) else {
            return Err(format!("change {index} ends early"));
        };
        let known = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
        let Some(kind) = known.filter(|_| version == VERSION) else {
            return Err(format!(
                "change {index} is of kind {kind}, version {version}, which this program does not know"
            ));
        };
        let change = read_one(kind, body);
        changes.push(change.ok_or_else(|| format!("change {index} ({kind:?}) is not readable"))?);
        if let Some(Change::NumberPut(number)) = changes.last()
            && let Some(owners) = directory::read_owners(body)
        {
            owners_set.push(Change::OwnersSet(number.id, owners));
        }
        bytes = rest;
    }
    changes.append(&mut owners_set);
    Ok(changes)
}

/// Appends one change to the buffer, and returns its kind.
fn write_one(change: &Change, to: Vec<u8>) -> Result<(Kind, Vec<u8>), Unwritable> {
    let removal = |environment: EnvironmentId, id: Uuid, to| {
        let removal = StoredRemoval {
            environment: environment.0.into_bytes(),
            id: id.into_bytes(),
        };
        encode(&removal, to)
    };
    Ok(match change {
        Change::Audited(entry) => (Kind::Audited, put(&**entry, to)?),
        Change::SessionPut(session) => (Kind::SessionPut, put(&**session, to)?),
        Change::SessionEnded(cookie) => (Kind::SessionEnded, encode(&cookie.0, to)?),
        Change::EnvironmentPut(record) => (Kind::EnvironmentPut, put(record, to)?),
        Change::TokenPut(record) => (Kind::TokenPut, put(record, to)?),
        Change::AgentPut(record) => (Kind::AgentPut, put(record, to)?),
        Change::NumberPut(record) => (Kind::NumberPut, put(record, to)?),
        Change::EnvironmentRemoved(id) => (Kind::EnvironmentRemoved, removal(*id, id.0, to)?),
        Change::TokenRemoved(environment, id) => {
            (Kind::TokenRemoved, removal(*environment, id.0, to)?)
        }
        Change::ConnectorPut(record) => (Kind::ConnectorPut, put(&**record, to)?),
        Change::ConnectorRemoved(environment, id) => {
            (Kind::ConnectorRemoved, removal(*environment, id.0, to)?)
        }
        Change::NumberRemoved(environment, id) => {
            (Kind::NumberRemoved, removal(*environment, id.0, to)?)
        }
        Change::AgentRemoved(environment, id, name) => {
            let departure = StoredDeparture {
                environment: environment.0.into_bytes(),
                id: id.0.into_bytes(),
                name,
            };
            (Kind::AgentRemoved, encode(&departure, to)?)
        }
        Change::Assigned(assignment) => (
            Kind::Assigned,
            encode(&StoredAssignment::new(assignment), to)?,
        ),
        Change::Unassigned(assignment) => (
            Kind::Unassigned,
            encode(&StoredAssignment::new(assignment), to)?,
        ),
        Change::OwnersSet(number, agents) => {
            let owners = StoredOwners {
                number: number.0.into_bytes(),
                agents: agents.iter().map(|agent| agent.0.into_bytes()).collect(),
            };
            (Kind::OwnersSet, encode(&owners, to)?)
        }
        Change::CallPut(call) => (Kind::CallPut, encode(&StoredCall::new(call), to)?),
        Change::ContactForgotten(environment, contact) => {
            let erasure = StoredErasure {
                environment: environment.0.into_bytes(),
                contact: contact.digits(),
            };
            (Kind::ContactForgotten, encode(&erasure, to)?)
        }
        Change::Routed(events) => (
            Kind::Routed,
            write_events(events, true, to).map_err(|error| Unwritable(error.to_string()))?,
        ),
        Change::BatchRouted(batch) => (Kind::BatchRouted, encode(&StoredBatch::new(batch), to)?),
        Change::BatchesCounted(counted) => {
            let counted = StoredBatchesCounted::new(counted);
            (Kind::BatchesCounted, encode(&counted, to)?)
        }
        Change::CallsSwept(sweep) => {
            let sweep = StoredSweep {
                environment: sweep.environment.0.into_bytes(),
                before: sweep.before.millis(),
                contacts: sweep.contacts.iter().map(|one| one.digits()).collect(),
            };
            (Kind::CallsSwept, encode(&sweep, to)?)
        }
        Change::Placed(place) => {
            let mut to = to;
            to.extend(place.iter().flat_map(write_place));
            (Kind::Placed, to)
        }
        Change::Answered(kept) => {
            let mut to = to;
            to.extend_from_slice(&kept.id.0);
            write_answer(kept, &mut to);
            (Kind::Answered, to)
        }
        Change::ErasureSecretSet(secret) => {
            let mut to = to;
            to.extend_from_slice(&secret.0);
            (Kind::ErasureSecretSet, to)
        }
        Change::Erased(tombstone) => {
            let mut to = to;
            to.extend_from_slice(&tombstone.hash.0);
            to.extend_from_slice(&key::tombstone_value(tombstone.at));
            (Kind::Erased, to)
        }
        Change::OptedOut(environment, contact, opt_out) => {
            let to = write_opt_out(*environment, opt_out, of_contact(contact, to));
            let to = to.map_err(|error| Unwritable(error.to_string()))?;
            (Kind::OptedOut, to)
        }
        Change::OptOutEnded(environment, contact) => {
            let mut to = of_contact(contact, to);
            to.extend_from_slice(environment.0.as_bytes());
            (Kind::OptOutEnded, to)
        }
        Change::Reassigned(environment, contact, from) => {
            let to = write_reassignment(*environment, *from, of_contact(contact, to));
            let to = to.map_err(|error| Unwritable(error.to_string()))?;
            (Kind::Reassigned, to)
        }
        Change::AuditSwept(before) => (Kind::AuditSwept, encode(&before.millis(), to)?),
        Change::RoutedSwept(before) => (Kind::RoutedSwept, encode(&before.millis(), to)?),
        Change::Counted(counter, increment) => {
            let counted = (key::count_key(counter), increment);
            (Kind::Counted, encode(&counted, to)?)
        }
    })
}

/// Appends the hash of a contact to the buffer.
fn of_contact(contact: &ContactHash, mut to: Vec<u8>) -> Vec<u8> {
    to.extend_from_slice(&contact.0);
    to
}

/// Appends the stored form of a change to the buffer.
fn encode(stored: &impl Serialize, to: Vec<u8>) -> Result<Vec<u8>, Unwritable> {
    postcard::to_extend(stored, to).map_err(|error| Unwritable(error.to_string()))
}

/// Appends a record of the directory to the buffer.
fn put(record: &impl DirectoryRecord, mut to: Vec<u8>) -> Result<Vec<u8>, Unwritable> {
    directory::write(record, &mut to).map_err(|error| Unwritable(error.to_string()))?;
    Ok(to)
}

/// Reads one change of this kind.
fn read_one(kind: Kind, body: &[u8]) -> Option<Change> {
    let removal = || {
        let removal: StoredRemoval = postcard::from_bytes(body).ok()?;
        let environment = EnvironmentId(Uuid::from_bytes(removal.environment));
        Some((environment, Uuid::from_bytes(removal.id)))
    };
    let assignment = || {
        let assignment: StoredAssignment = postcard::from_bytes(body).ok()?;
        Some(assignment.read())
    };
    Some(match kind {
        Kind::EnvironmentPut => Change::EnvironmentPut(directory::read(body)?),
        Kind::TokenPut => Change::TokenPut(directory::read(body)?),
        Kind::AgentPut => Change::AgentPut(directory::read(body)?),
        Kind::NumberPut => Change::NumberPut(directory::read(body)?),
        Kind::EnvironmentRemoved => Change::EnvironmentRemoved(removal()?.0),
        Kind::TokenRemoved => {
            let (environment, id) = removal()?;
            Change::TokenRemoved(environment, TokenId(id))
        }
        Kind::ConnectorPut => Change::ConnectorPut(Box::new(directory::read(body)?)),
        Kind::ConnectorRemoved => {
            let (environment, id) = removal()?;
            Change::ConnectorRemoved(environment, ConnectorId(id))
        }
        Kind::NumberRemoved => {
            let (environment, id) = removal()?;
            Change::NumberRemoved(environment, NumberId(id))
        }
        Kind::AgentRemoved => {
            let departure: StoredDeparture<'_> = postcard::from_bytes(body).ok()?;
            Change::AgentRemoved(
                EnvironmentId(Uuid::from_bytes(departure.environment)),
                AgentId(Uuid::from_bytes(departure.id)),
                departure.name.to_owned(),
            )
        }
        Kind::Assigned => Change::Assigned(assignment()?),
        Kind::Unassigned => Change::Unassigned(assignment()?),
        Kind::OwnersSet => {
            let owners: StoredOwners = postcard::from_bytes(body).ok()?;
            let agents = owners.agents.into_iter();
            Change::OwnersSet(
                NumberId(Uuid::from_bytes(owners.number)),
                agents.map(|id| AgentId(Uuid::from_bytes(id))).collect(),
            )
        }
        Kind::CallPut => {
            let call: StoredCall<'_> = postcard::from_bytes(body).ok()?;
            Change::CallPut(call.read()?)
        }
        Kind::ContactForgotten => {
            let erasure: StoredErasure = postcard::from_bytes(body).ok()?;
            Change::ContactForgotten(
                EnvironmentId(Uuid::from_bytes(erasure.environment)),
                E164::from_digits(erasure.contact)?,
            )
        }
        Kind::Routed => Change::Routed(read_events(body)?),
        Kind::BatchRouted => {
            let batch: StoredBatch = postcard::from_bytes(body).ok()?;
            Change::BatchRouted(batch.read()?)
        }
        Kind::BatchesCounted => {
            let counted: StoredBatchesCounted = postcard::from_bytes(body).ok()?;
            Change::BatchesCounted(counted.read()?)
        }
        Kind::CallsSwept => {
            let sweep: StoredSweep = postcard::from_bytes(body).ok()?;
            let contacts = sweep.contacts.into_iter().map(E164::from_digits);
            Change::CallsSwept(CallsSwept {
                environment: EnvironmentId(Uuid::from_bytes(sweep.environment)),
                before: Timestamp::from_millis(sweep.before),
                contacts: contacts.collect::<Option<_>>()?,
            })
        }
        Kind::Placed if body.is_empty() => Change::Placed(None),
        Kind::Placed => Change::Placed(Some(read_place(body)?)),
        Kind::Audited => Change::Audited(Box::new(directory::read(body)?)),
        Kind::Answered => {
            let (id, answer) = body.split_first_chunk::<16>()?;
            Change::Answered(Box::new(read_answer(AnswerId(*id), answer)?))
        }
        Kind::SessionPut => Change::SessionPut(Box::new(directory::read(body)?)),
        Kind::SessionEnded => Change::SessionEnded(TokenHash(postcard::from_bytes(body).ok()?)),
        Kind::ErasureSecretSet => Change::ErasureSecretSet(ErasureSecret(body.try_into().ok()?)),
        Kind::Erased => {
            let (hash, value) = body.split_first_chunk::<16>()?;
            Change::Erased(Tombstone {
                hash: ErasedHash(*hash),
                at: key::decode_tombstone_value(value)?,
            })
        }
        Kind::OptedOut => {
            let (contact, opt_out) = body.split_first_chunk::<16>()?;
            let (environment, opt_out) = read_opt_out(opt_out)?;
            Change::OptedOut(environment, ContactHash(*contact), opt_out)
        }
        Kind::OptOutEnded => {
            let (contact, environment) = body.split_first_chunk::<16>()?;
            let environment = EnvironmentId(Uuid::from_slice(environment).ok()?);
            Change::OptOutEnded(environment, ContactHash(*contact))
        }
        Kind::Reassigned => {
            let (contact, from) = body.split_first_chunk::<16>()?;
            let (environment, from) = read_reassignment(from)?;
            Change::Reassigned(environment, ContactHash(*contact), from)
        }
        Kind::AuditSwept => {
            Change::AuditSwept(Timestamp::from_millis(postcard::from_bytes(body).ok()?))
        }
        Kind::RoutedSwept => {
            Change::RoutedSwept(Timestamp::from_millis(postcard::from_bytes(body).ok()?))
        }
        Kind::Counted => {
            let (counter, increment): (Vec<u8>, u64) = postcard::from_bytes(body).ok()?;
            let counter: CountKey = key::decode_count_key(&counter)?;
            Change::Counted(counter, increment)
        }
    })
}
