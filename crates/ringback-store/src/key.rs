//! How records are laid out in the tables. All of it is stored, so it changes only with the format
//! version.
//!
//! - `calls`: hash of the next two (4) ‖ environment number (4) ‖ contact's subscriber (7) ‖ time (8) ‖ sid → agent number (4) ‖
//!   status, with 0x80 where the contact was written in its other spelling (1) ‖ calling number or 0 (7) ‖ the sid if its key holds only its hash. Big-endian, so that
//!   a contact's calls lie together and in order of time. The hash spreads contacts evenly, so that
//!   readers can divide the table, and lets keys differ within the bytes that are compared first.
//! - `sids`: keyed hash of environment number and sid (16) → contact (8) ‖ time (8) ‖ the first twelve
//!   bytes of the value in `calls`, so that a call is found by its sid in one lookup.
//! - `decisions`: the first fifteen bytes of a key in `calls`, of the contact that called or of the number 0 ‖
//!   commit and index in it, as in `state` (12) ‖ index in the chunk (4) → the decision on a call over HTTP.
//! - `state`: everything else, one leading byte for the kind; see the constants. No number of a contact is in it.
//!
//! Each table but `state` is divided into sixteen parts by the first bits of its keys, so that the files with an
//! erased number can be rewritten part by part.
//!
//! In every table the key of a single zero byte holds the sequence of the last commit that it contains.

use ringback_engine::{AnswerId, AuditId, Call, CountKey, CountKind, ErasedHash, Tombstone};
use ringback_routing::{
    AgentId, Assignment, CallStatus, ContactHash, E164, EnvironmentId, NumberId, Timestamp,
    TokenHash,
};
use siphasher::sip128::{Hasher128, SipHasher13};
use uuid::Uuid;

use crate::stored::{status_code, status_of};

/// The key, in every table, of the sequence of the last commit that it contains.
pub(crate) const APPLIED: [u8; 1] = [0];
/// `state`: number (4) → the UUID that it stands for.
pub(crate) const INTERNED: u8 = b'i';
/// `state`: environment UUID (16) → creation (12) ‖ JSON.
pub(crate) const ENVIRONMENT: u8 = b'e';
/// `state`: agent UUID (16) → creation (12) ‖ JSON.
pub(crate) const AGENT: u8 = b'a';
/// `state`: number UUID (16) → creation (12) ‖ JSON.
pub(crate) const NUMBER: u8 = b'p';
/// `state`: number UUID (16) ‖ UUID of an agent that it is assigned to (16) → creation (12) ‖ version (1) ‖ index among
/// those that were assigned by the same change (4).
pub(crate) const ASSIGNED: u8 = b'o';
/// `state`: token UUID (16) → creation (12) ‖ JSON.
pub(crate) const TOKEN: u8 = b't';
/// `state`: connector UUID (16) → creation (12) ‖ JSON.
pub(crate) const CONNECTOR: u8 = b'c';
/// `state`: agent UUID (16) → its last name.
pub(crate) const DEPARTED: u8 = b'x';
/// `state`: latest time in the chunk (8) ‖ sequence (8) ‖ index in the commit (4) → chunk of events.
pub(crate) const ROUTED: u8 = b'r';
/// `state`: latest time in the batch (8) ‖ sequence (8) ‖ index in the commit (4) → batch of SIP calls.
pub(crate) const BATCH: u8 = b'b';
/// `state`: environment UUID (16) ‖ day, its sign turned (4) ‖ agent UUID (16) ‖ kind (1) ‖ source UUID (16) or nothing →
/// count (8) ‖ sequence of the commit that set it (8).
pub(crate) const COUNT: u8 = b'n';
/// `state`: one byte → which batches of SIP calls the counters contain.
pub(crate) const COUNT_MARK: u8 = b'm';
/// `state`: one byte → the place in a log that nodes share.
pub(crate) const PLACE: u8 = b'l';

/// `state`: hash of a session's cookie (32) → version (1) ‖ JSON.
pub(crate) const SESSION: u8 = b's';

/// `state`: every bit of an entry's identifier turned (16), so that the latest comes first → version (1) ‖ JSON.
pub(crate) const AUDIT: u8 = b'u';

/// `state`: name of a request (16) → its first answer: see [`stored::answer`](crate::stored::answer).
pub(crate) const ANSWER: u8 = b'k';

/// `state`: one byte → the secret that keys the hashes of erased contacts (16).
pub(crate) const ERASURE_SECRET: u8 = b'v';
/// `state`: hash of an erased contact (16) → version (1) ‖ when it was erased, in milliseconds since 1970 (8).
pub(crate) const TOMBSTONE: u8 = b'f';

/// `state`: hash of a contact (16) → its wish not to be called: see [`stored::opt_out`](crate::stored::opt_out).
pub(crate) const OPT_OUT: u8 = b'q';
/// `state`: hash of a contact (16) → from when on calls to it count: see [`stored::opt_out`](crate::stored::opt_out).
pub(crate) const REASSIGNED: u8 = b'd';

/// `state`: table (1) ‖ part (1) → the sequence of the latest commit that erased something of it.
pub(crate) const ERASED: u8 = b'z';
/// `state`: table (1) ‖ part (1) → the sequence up to which what was erased is gone from its files.
pub(crate) const PURGED: u8 = b'y';
/// `state`: table (1) ‖ part (1) → nothing: old calls were dropped from the part; their bytes may still be in its
/// files.
pub(crate) const SWEPT: u8 = b'w';

/// Longer call ids are replaced by their hash in keys, which are limited to 65,535 bytes.
const LONGEST_SID_IN_KEY: usize = 1_024;

/// The version of assignments that is written.
const ASSIGNMENT_VERSION: u8 = 1;

/// The version of what is left of erased contacts that is written.
const TOMBSTONE_VERSION: u8 = 1;

/// Length of what [`details`] encodes.
const DETAILS_LENGTH: usize = 12;

/// Bit beside the status of a call: its contact was written in the other spelling of its subscriber.
const RESPELLED: u8 = 0x80;

/// The content of the status byte of a call.
struct Told {
    /// How far the call got.
    status: CallStatus,
    /// Whether its contact was written in the other spelling of its subscriber.
    is_respelled: bool,
}

/// What all keys in `calls` of one contact start with, and those in `decisions` of its own calls.
pub(crate) fn contact_prefix(environment: u32, contact: E164) -> [u8; 15] {
    digits_prefix(environment, contact.subscriber().digits())
}

/// The prefix for the digits of a contact, or for 0.
fn digits_prefix(environment: u32, digits: u64) -> [u8; 15] {
    let mixed = (digits ^ (u64::from(environment) << 50)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut key = [0; 15];
    key[..4].copy_from_slice(&mixed.to_be_bytes()[..4]);
    key[4..8].copy_from_slice(&environment.to_be_bytes());
    key[8..].copy_from_slice(&digits.to_be_bytes()[1..]);
    key
}

/// The key in `decisions` for the call with this index in a chunk of events.
pub(crate) fn decision_key(
    environment: u32,
    contact: Option<E164>,
    chunk: &[u8; 12],
    index: u32,
) -> [u8; 31] {
    let digits = contact.map_or(0, |contact| contact.subscriber().digits());
    let mut key = [0; 31];
    key[..15].copy_from_slice(&digits_prefix(environment, digits));
    key[15..27].copy_from_slice(chunk);
    key[27..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The call that a key in `decisions` names: its chunk's position in the log, and its index in the chunk.
pub(crate) fn decode_decision_key(key: &[u8]) -> Option<([u8; 12], u32)> {
    let (chunk, index) = key.get(15..)?.split_first_chunk::<12>()?;
    Some((*chunk, u32::from_be_bytes(index.try_into().ok()?)))
}

/// The key in `decisions` of the same call after its contact was forgotten.
pub(crate) fn forgotten_decision_key(environment: u32, key: &[u8]) -> Option<[u8; 31]> {
    let (chunk, index) = decode_decision_key(key)?;
    Some(decision_key(environment, None, &chunk, index))
}

/// The key in `state` of the session with this hash of its cookie.
pub(crate) fn session_key(cookie: &TokenHash) -> [u8; 33] {
    let mut key = [SESSION; 33];
    key[1..].copy_from_slice(&cookie.0);
    key
}

/// The first key in `calls` that a call to this contact at or after this instant can have.
pub(crate) fn calls_from(environment: u32, contact: E164, at: Timestamp) -> [u8; 23] {
    let mut key = [0; 23];
    key[..15].copy_from_slice(&contact_prefix(environment, contact));
    key[15..].copy_from_slice(&time_bytes(at));
    key
}

/// The bytes that stand for a sid in a key of `calls`: the sid, or its hash if it is long.
fn sid_in_key<'a>(sid: &'a str, hash: &'a [u8; 16]) -> &'a [u8] {
    if sid.len() <= LONGEST_SID_IN_KEY {
        sid.as_bytes()
    } else {
        hash
    }
}

/// Writes the key in `calls` of the call with this sid and its hash.
pub(crate) fn write_call_key(
    to: &mut Vec<u8>,
    environment: u32,
    contact: E164,
    started_at: Timestamp,
    sid: &str,
    hash: &[u8; 16],
) {
    to.clear();
    to.extend_from_slice(&contact_prefix(environment, contact));
    to.extend_from_slice(&time_bytes(started_at));
    to.extend_from_slice(sid_in_key(sid, hash));
}

/// Writes the value in `calls` of a call by the agent with this number.
pub(crate) fn write_call_value(to: &mut Vec<u8>, call: &Call, agent: u32) {
    to.clear();
    to.extend_from_slice(&details(call, agent));
    if call.sid.len() > LONGEST_SID_IN_KEY {
        to.extend_from_slice(call.sid.as_bytes());
    }
}

/// Agent, status and calling number.
fn details(call: &Call, agent: u32) -> [u8; DETAILS_LENGTH] {
    let mut details = [0; DETAILS_LENGTH];
    details[..4].copy_from_slice(&agent.to_be_bytes());
    let is_respelled = call.contact != call.contact.subscriber();
    details[4] = status_code(call.status) | if is_respelled { RESPELLED } else { 0 };
    details[5..].copy_from_slice(&call.from.map_or(0, E164::digits).to_be_bytes()[1..]);
    details
}

/// Reads the bytes that [`details`] encodes: agent number, status and calling number.
fn decode_details(details: &[u8; DETAILS_LENGTH]) -> Option<(u32, Told, Option<E164>)> {
    let (agent, rest) = details.split_first_chunk::<4>()?;
    let (status, from) = rest.split_first()?;
    let from = match seven_bytes(from.try_into().ok()?) {
        0 => None,
        digits => Some(E164::from_digits(digits)?),
    };
    let told = Told {
        status: status_of(*status & !RESPELLED)?,
        is_respelled: *status & RESPELLED != 0,
    };
    Some((u32::from_be_bytes(*agent), told, from))
}

/// Reads the call from its key and value in `calls`; ids are looked up by `resolve`.
pub(crate) fn decode_call(
    key: &[u8],
    value: &[u8],
    resolve: impl Fn(u32) -> Option<Uuid>,
) -> Option<Call> {
    let (_, key) = key.split_first_chunk::<4>()?;
    let (environment, key) = key.split_first_chunk::<4>()?;
    let (contact, key) = key.split_first_chunk::<7>()?;
    let (started_at, sid_key) = key.split_first_chunk::<8>()?;
    let (details, long_sid) = value.split_first_chunk()?;
    let (agent, told, from) = decode_details(details)?;
    let subscriber = E164::from_digits(seven_bytes(*contact))?;
    let sid = if long_sid.is_empty() {
        sid_key
    } else {
        long_sid
    };
    Some(Call {
        environment: EnvironmentId(resolve(u32::from_be_bytes(*environment))?),
        sid: std::str::from_utf8(sid).ok()?.into(),
        agent: AgentId(resolve(agent)?),
        contact: if told.is_respelled {
            subscriber.respelled()?
        } else {
            subscriber
        },
        from,
        status: told.status,
        started_at: time_from_bytes(*started_at),
    })
}

/// The environment number in a key in `calls`.
pub(crate) fn call_environment(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*key.get(4..)?.first_chunk()?))
}

/// The agent number in a value in `calls`.
pub(crate) fn call_agent(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*value.first_chunk()?))
}

/// The key in `sids` of a sid.
pub(crate) fn sid_key(secret: &[u8; 16], environment: u32, sid: &str) -> [u8; 16] {
    let mut hasher = SipHasher13::new_with_key(secret);
    std::hash::Hasher::write(&mut hasher, &environment.to_be_bytes());
    std::hash::Hasher::write(&mut hasher, sid.as_bytes());
    hasher.finish128().as_bytes()
}

/// The value in `sids` of a call by the agent with this number.
pub(crate) fn sid_value(call: &Call, agent: u32) -> [u8; 16 + DETAILS_LENGTH] {
    let mut value = [0; 16 + DETAILS_LENGTH];
    value[..8].copy_from_slice(&call.contact.digits().to_be_bytes());
    value[8..16].copy_from_slice(&time_bytes(call.started_at));
    value[16..].copy_from_slice(&details(call, agent));
    value
}

/// The call that a value in `sids` holds.
pub(crate) fn decode_sid_value(
    environment: EnvironmentId,
    sid: &str,
    value: &[u8],
    resolve: impl Fn(u32) -> Option<Uuid>,
) -> Option<Call> {
    let (contact, value) = value.split_first_chunk::<8>()?;
    let (started_at, details) = value.split_first_chunk::<8>()?;
    let (agent, told, from) = decode_details(details.try_into().ok()?)?;
    Some(Call {
        environment,
        sid: sid.into(),
        agent: AgentId(resolve(agent)?),
        contact: E164::from_digits(u64::from_be_bytes(*contact))?,
        from,
        status: told.status,
        started_at: time_from_bytes(*started_at),
    })
}

/// Whether a value in `sids` names this call, whatever its status.
pub(crate) fn sid_value_names(value: &[u8], call: &Call) -> bool {
    value.get(..16) == sid_value(call, 0).get(..16)
}

/// The key in `state` of a record named by a UUID.
pub(crate) fn record_key(kind: u8, id: Uuid) -> [u8; 17] {
    let mut key = [kind; 17];
    key[1..].copy_from_slice(id.as_bytes());
    key
}

/// The key in `state` of the assignment of a number to an agent.
pub(crate) fn assignment_key(assignment: &Assignment) -> [u8; 33] {
    let mut key = [ASSIGNED; 33];
    key[1..17].copy_from_slice(assignment.number.0.as_bytes());
    key[17..].copy_from_slice(assignment.agent.0.as_bytes());
    key
}

/// The assignment that such a key names.
pub(crate) fn decode_assignment_key(key: &[u8]) -> Option<Assignment> {
    let (number, agent) = key.get(1..)?.split_first_chunk::<16>()?;
    Some(Assignment {
        number: NumberId(Uuid::from_bytes(*number)),
        agent: AgentId(Uuid::from_slice(agent).ok()?),
    })
}

/// The value in `state` of an assignment, made by this change as the one with this index.
pub(crate) fn assignment_value(creation: [u8; 12], index: u32) -> [u8; 17] {
    let mut value = [ASSIGNMENT_VERSION; 17];
    value[..12].copy_from_slice(&creation);
    value[13..].copy_from_slice(&index.to_be_bytes());
    value
}

/// The sort key of an assignment among all assignments.
pub(crate) fn assignment_order(value: &[u8]) -> Option<([u8; 12], u32)> {
    let (creation, value) = value.split_first_chunk::<12>()?;
    let (&ASSIGNMENT_VERSION, index) = value.split_first()? else {
        return None;
    };
    Some((*creation, u32::from_be_bytes(index.try_into().ok()?)))
}

/// The key in `state` of an audit entry.
pub(crate) fn audit_key(id: AuditId) -> [u8; 17] {
    record_key(AUDIT, Uuid::from_u128(!id.0.as_u128()))
}

/// The first key in `state` that an audit entry before this one can have; `None`: there is none before it.
pub(crate) fn audit_before(id: AuditId) -> Option<[u8; 17]> {
    let before = id.0.as_u128().checked_sub(1)?;
    Some(audit_key(AuditId(Uuid::from_u128(before))))
}

/// The key in `state` of the answer to the request with this name.
pub(crate) fn answer_key(id: AnswerId) -> [u8; 17] {
    let mut key = [ANSWER; 17];
    key[1..].copy_from_slice(&id.0);
    key
}

/// The name of the request whose answer such a key names.
pub(crate) fn decode_answer_key(key: &[u8]) -> Option<AnswerId> {
    Some(AnswerId(key.get(1..)?.try_into().ok()?))
}

/// The key in `state` of what is left of an erased contact.
pub(crate) fn tombstone_key(hash: ErasedHash) -> [u8; 17] {
    let mut key = [TOMBSTONE; 17];
    key[1..].copy_from_slice(&hash.0);
    key
}

/// The value in `state` of a contact that was erased at this instant.
pub(crate) fn tombstone_value(at: Timestamp) -> [u8; 9] {
    let mut value = [TOMBSTONE_VERSION; 9];
    value[1..].copy_from_slice(&at.millis().to_be_bytes());
    value
}

/// The key in `state` of something that a contact asked for.
pub(crate) fn contact_rights_key(kind: u8, contact: &ContactHash) -> [u8; 17] {
    let mut key = [kind; 17];
    key[1..].copy_from_slice(&contact.0);
    key
}

/// The contact that such a key names.
pub(crate) fn decode_contact_rights_key(key: &[u8]) -> Option<ContactHash> {
    Some(ContactHash(key.get(1..)?.try_into().ok()?))
}

/// When a contact was erased.
pub(crate) fn decode_tombstone_value(value: &[u8]) -> Option<Timestamp> {
    let (&TOMBSTONE_VERSION, at) = value.split_first()? else {
        return None;
    };
    Some(Timestamp::from_millis(i64::from_be_bytes(
        at.try_into().ok()?,
    )))
}

/// What is left of an erased contact, from its record in `state`.
pub(crate) fn decode_tombstone(key: &[u8], value: &[u8]) -> Option<Tombstone> {
    Some(Tombstone {
        hash: ErasedHash(key.get(1..)?.try_into().ok()?),
        at: decode_tombstone_value(value)?,
    })
}

/// The contact that a key in `calls` or `decisions` begins with, and the number of its environment; `None` where it was
/// forgotten.
pub(crate) fn decode_contact(key: &[u8]) -> Option<(u32, E164)> {
    let (environment, key) = key.get(4..)?.split_first_chunk::<4>()?;
    let digits = seven_bytes(*key.first_chunk::<7>()?);
    Some((u32::from_be_bytes(*environment), E164::from_digits(digits)?))
}

/// The key in `state` of an interned UUID.
pub(crate) fn interned_key(number: u32) -> [u8; 5] {
    let mut key = [INTERNED; 5];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The sort key of a record's creation: commit and index of the change in it.
pub(crate) fn creation(sequence: u64, index: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&sequence.to_be_bytes());
    bytes[8..].copy_from_slice(&index.to_be_bytes());
    bytes
}

/// The key in `state` of a chunk of events, or of a batch.
pub(crate) fn routed_key(kind: u8, latest: Timestamp, sequence: u64, index: u32) -> [u8; 21] {
    let mut key = [kind; 21];
    key[1..9].copy_from_slice(&time_bytes(latest));
    key[9..].copy_from_slice(&creation(sequence, index));
    key
}

/// The first key in `state` that a chunk with events, or a batch, at or after this instant can have.
pub(crate) fn routed_from(kind: u8, since: Timestamp) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&time_bytes(since));
    key
}

/// The position of a chunk in the log, from its key: commit and index of the change in it.
pub(crate) fn routed_position(key: &[u8]) -> Option<&[u8; 12]> {
    key.get(9..)?.try_into().ok()
}

/// The key in `state` of a counter.
pub(crate) fn count_key(counter: &CountKey) -> Vec<u8> {
    let mut key = Vec::with_capacity(54);
    key.push(COUNT);
    key.extend_from_slice(counter.environment.0.as_bytes());
    key.extend_from_slice(&(counter.day ^ i32::MIN).to_be_bytes());
    key.extend_from_slice(counter.agent.0.as_bytes());
    key.push(kind_code(counter.kind));
    if let Some(source) = counter.source {
        key.extend_from_slice(source.0.as_bytes());
    }
    key
}

/// The counter that a key in `state` names.
pub(crate) fn decode_count_key(key: &[u8]) -> Option<CountKey> {
    let (&[COUNT], key) = key.split_first_chunk()? else {
        return None;
    };
    let (environment, key) = key.split_first_chunk::<16>()?;
    let (day, key) = key.split_first_chunk::<4>()?;
    let (agent, key) = key.split_first_chunk::<16>()?;
    let (kind, source) = key.split_first()?;
    Some(CountKey {
        environment: EnvironmentId(Uuid::from_bytes(*environment)),
        day: i32::from_be_bytes(*day) ^ i32::MIN,
        agent: AgentId(Uuid::from_bytes(*agent)),
        source: match source {
            [] => None,
            source => Some(AgentId(Uuid::from_slice(source).ok()?)),
        },
        kind: kind_of(*kind)?,
    })
}

/// The stored number of a kind of counter.
pub(crate) const fn kind_code(kind: CountKind) -> u8 {
    match kind {
        CountKind::Received => 0,
        CountKind::Answered => 1,
        CountKind::Unmatched => 2,
    }
}

/// The kind of counter with this stored number.
pub(crate) const fn kind_of(code: u8) -> Option<CountKind> {
    match code {
        0 => Some(CountKind::Received),
        1 => Some(CountKind::Answered),
        2 => Some(CountKind::Unmatched),
        _ => None,
    }
}

/// A part of a table: the number of the table, and which of its parts.
pub(crate) type PartId = (u8, u8);

/// The key in `state` of something about a part of a table.
pub(crate) const fn part_key(kind: u8, (table, part): PartId) -> [u8; 3] {
    [kind, table, part]
}

/// The part, and its table, that a key in `state` names.
pub(crate) fn decode_part_key(key: &[u8]) -> Option<(u8, u8)> {
    let [_, table, part] = key else { return None };
    Some((*table, *part))
}

/// The value of a counter set by the commit with this sequence.
pub(crate) fn count_value(count: u64, sequence: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&count.to_be_bytes());
    value[8..].copy_from_slice(&sequence.to_be_bytes());
    value
}

/// Reads a counter's value: count, and the sequence of the commit that set it.
pub(crate) fn decode_count_value(value: &[u8]) -> Option<(u64, u64)> {
    let (count, sequence) = value.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*count), decode_sequence(sequence)?))
}

/// A sequence stored as eight bytes.
pub(crate) fn decode_sequence(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

/// An instant as bytes that sort like instants.
fn time_bytes(at: Timestamp) -> [u8; 8] {
    (at.millis() ^ i64::MIN).to_be_bytes()
}

/// The instant that such bytes encode.
fn time_from_bytes(bytes: [u8; 8]) -> Timestamp {
    Timestamp::from_millis(i64::from_be_bytes(bytes) ^ i64::MIN)
}

/// A seven-byte big-endian integer.
fn seven_bytes(bytes: [u8; 7]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The bytes of a key in hexadecimal, for messages.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that hexadecimal text encodes.
pub(crate) fn read_hex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    if text.len() != 2 * LENGTH || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}
