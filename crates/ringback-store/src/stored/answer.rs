//! The first answer to a request that may be repeated: a version byte, when the request was carried out (8, in
//! milliseconds since 1970, big-endian), the hash of what it asked for (16), the sealed answer. In the log the name of
//! the request (16) stands before it; in the tables it is the key.

use ringback_engine::{AnswerId, KeptAnswer};
use ringback_routing::Timestamp;

/// The version that is written.
const VERSION: u8 = 1;

/// The stored form of an answer, without its name.
pub(crate) fn write_answer(kept: &KeptAnswer, to: &mut Vec<u8>) {
    to.push(VERSION);
    to.extend_from_slice(&kept.at.millis().to_be_bytes());
    to.extend_from_slice(&kept.request);
    to.extend_from_slice(&kept.answer);
}

/// Reads the answer to the request with this name.
pub(crate) fn read_answer(id: AnswerId, bytes: &[u8]) -> Option<KeptAnswer> {
    let (at, bytes) = split(bytes)?;
    let (request, answer) = bytes.split_first_chunk::<16>()?;
    Some(KeptAnswer {
        id,
        at,
        request: *request,
        answer: answer.to_vec(),
    })
}

/// When the request was carried out whose answer this is.
pub(crate) fn read_answered_at(bytes: &[u8]) -> Option<Timestamp> {
    Some(split(bytes)?.0)
}

/// The time, and what stands behind it.
fn split(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (&VERSION, bytes) = bytes.split_first()? else {
        return None;
    };
    let (at, bytes) = bytes.split_first_chunk::<8>()?;
    Some((Timestamp::from_millis(i64::from_be_bytes(*at)), bytes))
}
