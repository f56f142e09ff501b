//! The layout in `state` of batches of SIP calls, and of the mark that says which batches the counters contain: a
//! version byte, then integers and the numbers that stand for environments and agents.
//!
//! - batch: version (1) ‖ number (8) ‖ latest time (8) ‖ number of routes ‖ routes ‖ calls.
//! - route: environment ‖ agent and source, each as its number plus one, or 0 if there is none ‖ what is counted,
//!   as [`key::kind_code`] plus one, or 0 (1).
//! - call: hash of the Call-ID (8) ‖ seconds before the latest ‖ index of the route.
//! - mark: version (1) ‖ complete (8), and where a part of the counters contains more: before (8) ‖ the last
//!   counter's key in `state`.
//!
//! Integers of a given length are big-endian, the others seven bits to a byte, the lowest first, with 0x80
//! where more follow.

use ringback_engine::{BatchCall, BatchRoute, CountKey, CountMark, RoutedBatch};
use ringback_routing::{AgentId, EnvironmentId, Timestamp};
use uuid::Uuid;

use crate::key;

/// The version that is written.
const VERSION: u8 = 1;

/// Writes a batch; `intern` gives the numbers that stand for identifiers.
pub(crate) fn write_batch(batch: &RoutedBatch, mut intern: impl FnMut(Uuid) -> u32) -> Vec<u8> {
    let mut to = Vec::with_capacity(32 + 12 * batch.routes.len() + 12 * batch.calls.len());
    to.push(VERSION);
    to.extend_from_slice(&batch.number.to_be_bytes());
    to.extend_from_slice(&batch.latest.millis().to_be_bytes());
    write_integer(&mut to, batch.routes.len() as u64);
    for route in &batch.routes {
        write_integer(&mut to, u64::from(intern(route.environment.0)));
        for agent in [route.agent, route.source] {
            write_integer(
                &mut to,
                agent.map_or(0, |agent| u64::from(intern(agent.0)) + 1),
            );
        }
        to.push(route.kind.map_or(0, |kind| key::kind_code(kind) + 1));
    }
    let latest = batch.latest.seconds();
    for call in &batch.calls {
        to.extend_from_slice(&call.sid_hash.to_be_bytes());
        // If a call claims to be later than the latest, the difference wraps when written and when read.
        let before = latest.wrapping_sub(i64::from(call.second)).cast_unsigned();
        write_integer(&mut to, before);
        write_integer(&mut to, u64::from(call.route));
    }
    to
}

/// The number of a batch, without reading the rest of it.
pub(crate) fn batch_number(bytes: &[u8]) -> Option<u64> {
    let (&VERSION, bytes) = bytes.split_first()? else {
        return None;
    };
    Some(u64::from_be_bytes(*bytes.first_chunk()?))
}

/// Reads a batch; ids are looked up by `resolve`.
pub(crate) fn read_batch(
    bytes: &[u8],
    resolve: impl Fn(u32) -> Option<Uuid>,
) -> Option<RoutedBatch> {
    let (&VERSION, bytes) = bytes.split_first()? else {
        return None;
    };
    let (number, bytes) = bytes.split_first_chunk::<8>()?;
    let (latest, bytes) = bytes.split_first_chunk::<8>()?;
    let latest = Timestamp::from_millis(i64::from_be_bytes(*latest));
    let mut bytes = bytes;
    let mut batch = RoutedBatch {
        number: u64::from_be_bytes(*number),
        latest,
        ..RoutedBatch::default()
    };
    let id = |number: u64| resolve(u32::try_from(number).ok()?);
    for _ in 0..read_integer(&mut bytes)? {
        let environment = EnvironmentId(id(read_integer(&mut bytes)?)?);
        let mut agent = || {
            Some(match read_integer(&mut bytes)?.checked_sub(1) {
                None => None,
                Some(number) => Some(AgentId(id(number)?)),
            })
        };
        let (agent, source) = (agent()?, agent()?);
        let (code, rest) = bytes.split_first()?;
        bytes = rest;
        let kind = match code.checked_sub(1) {
            None => None,
            Some(code) => Some(key::kind_of(code)?),
        };
        batch.routes.push(BatchRoute {
            environment,
            agent,
            source,
            kind,
        });
    }
    while !bytes.is_empty() {
        let (sid_hash, rest) = bytes.split_first_chunk::<8>()?;
        bytes = rest;
        let before = read_integer(&mut bytes)?.cast_signed();
        batch.calls.push(BatchCall {
            sid_hash: u64::from_be_bytes(*sid_hash),
            second: u32::try_from(latest.seconds().wrapping_sub(before)).ok()?,
            route: u32::try_from(read_integer(&mut bytes)?).ok()?,
        });
    }
    Some(batch)
}

/// Writes which batches the counters contain.
pub(crate) fn write_mark(mark: &CountMark) -> Vec<u8> {
    let mut to = vec![VERSION];
    to.extend_from_slice(&mark.complete.to_be_bytes());
    if let Some((before, through)) = &mark.partial {
        to.extend_from_slice(&before.to_be_bytes());
        to.extend_from_slice(&key::count_key(through));
    }
    to
}

/// Reads which batches the counters contain.
pub(crate) fn read_mark(bytes: &[u8]) -> Option<CountMark> {
    read_mark_with(bytes, key::decode_count_key)
}

/// Reads a mark whose counters are named as `read_counter` reads them.
pub(crate) fn read_mark_with(
    bytes: &[u8],
    read_counter: impl Fn(&[u8]) -> Option<CountKey>,
) -> Option<CountMark> {
    let (&VERSION, bytes) = bytes.split_first()? else {
        return None;
    };
    let (complete, bytes) = bytes.split_first_chunk::<8>()?;
    let partial = match bytes {
        [] => None,
        bytes => {
            let (before, through) = bytes.split_first_chunk::<8>()?;
            let through = read_counter(through)?;
            Some((u64::from_be_bytes(*before), through))
        }
    };
    Some(CountMark {
        complete: u64::from_be_bytes(*complete),
        partial,
    })
}

/// Writes an integer in as many bytes as it needs.
fn write_integer(to: &mut Vec<u8>, mut integer: u64) {
    while integer >= 0x80 {
        to.push(integer as u8 | 0x80);
        integer >>= 7;
    }
    to.push(integer as u8);
}

/// Reads an integer written by [`write_integer`] from the front of the bytes.
fn read_integer(bytes: &mut &[u8]) -> Option<u64> {
    let mut integer = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        integer |= part.checked_shl(shift)?;
        if part << shift >> shift != part {
            return None;
        }
        if byte & 0x80 == 0 {
            return Some(integer);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringback_engine::CountKind;

    use super::*;

    /// The identifier that a number stands for.
    fn id(number: u32) -> Uuid {
        Uuid::from_u128(u128::from(number))
    }

    /// The number that stands for an identifier.
    fn number(id: Uuid) -> u32 {
        u32::try_from(id.as_u128()).unwrap()
    }

    fn kind() -> impl Strategy<Value = Option<CountKind>> {
        prop::option::of((0_u8..3).prop_map(|code| key::kind_of(code).unwrap()))
    }

    prop_compose! {
        fn batch()(
            (batch_number, latest) in (any::<u64>(), any::<u32>()),
            routes in prop::collection::vec(
                (any::<u32>(), prop::option::of(any::<u32>()), prop::option::of(any::<u32>()), kind()),
                0..5,
            ),
            calls in prop::collection::vec((any::<u64>(), any::<u32>(), any::<u32>()), 0..9),
        ) -> RoutedBatch {
            let route = |(environment, agent, source, kind): (u32, Option<u32>, Option<u32>, _)| BatchRoute {
                environment: EnvironmentId(id(environment)),
                agent: agent.map(|agent| AgentId(id(agent))),
                source: source.map(|source| AgentId(id(source))),
                kind,
            };
            RoutedBatch {
                number: batch_number,
                latest: Timestamp::from_seconds(i64::from(latest)),
                routes: routes.into_iter().map(route).collect(),
                calls: calls
                    .into_iter()
                    .map(|(sid_hash, second, route)| BatchCall { sid_hash, second, route })
                    .collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn a_batch_is_read_as_it_was_written(batch in batch()) {
            let bytes = write_batch(&batch, number);
            prop_assert_eq!(read_batch(&bytes, |number| Some(id(number))), Some(batch));
        }

        #[test]
        fn bytes_of_any_kind_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _batch = read_batch(&bytes, |number| Some(id(number)));
            let _mark = read_mark(&bytes);
            let versioned = [&[VERSION], bytes.as_slice()].concat();
            let _batch = read_batch(&versioned, |number| Some(id(number)));
            let _mark = read_mark(&versioned);
        }
    }

    #[test]
    fn the_bytes_of_a_batch_are_these() {
        let batch = RoutedBatch {
            number: 7,
            latest: Timestamp::from_seconds(1_800_000_000),
            routes: vec![
                BatchRoute {
                    environment: EnvironmentId(id(1)),
                    agent: Some(AgentId(id(200))),
                    source: Some(AgentId(id(3))),
                    kind: Some(CountKind::Received),
                },
                BatchRoute {
                    environment: EnvironmentId(id(1)),
                    agent: None,
                    source: None,
                    kind: None,
                },
            ],
            calls: vec![BatchCall {
                sid_hash: 0x0102_0304_0506_0708,
                second: 1_799_999_870,
                route: 1,
            }],
        };
        let mut expected = vec![1, 0, 0, 0, 0, 0, 0, 0, 7];
        expected.extend_from_slice(&1_800_000_000_000_i64.to_be_bytes());
        expected.extend_from_slice(&[2, 1, 0xc9, 1, 4, 1, 1, 0, 0, 0]);
        expected.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 0x82, 1, 1]);
        assert_eq!(write_batch(&batch, number), expected);
        assert_eq!(
            read_batch(&expected, |number| Some(id(number))),
            Some(batch)
        );
        // Any other version, a truncated mark, or an unknown identifier is damage.
        for end in 0..expected.len() {
            let whole = end == expected.len() - 11;
            let read = read_batch(&expected[..end], |number| Some(id(number)));
            assert_eq!(read.is_some(), whole, "{end}");
        }
        assert_eq!(read_batch(&expected, |_| None), None);
        expected[0] = 2;
        assert_eq!(read_batch(&expected, |number| Some(id(number))), None);
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let through = CountKey {
            environment: EnvironmentId(id(1)),
            day: 20_833,
            agent: AgentId(id(2)),
            source: Some(AgentId(id(3))),
            kind: CountKind::Received,
        };
        for partial in [None, Some((9, through))] {
            let mark = CountMark {
                complete: 5,
                partial,
            };
            let mut bytes = write_mark(&mark);
            assert_eq!(bytes[..9], [1, 0, 0, 0, 0, 0, 0, 0, 5]);
            assert_eq!(read_mark(&bytes), Some(mark));
            bytes[0] = 2;
            assert_eq!(read_mark(&bytes), None);
        }
    }
}
