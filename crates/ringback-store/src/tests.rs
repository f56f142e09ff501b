//! The store as a whole: what was committed is there, whatever happens in between.

use ringback_engine::{Call, Change, Journal};
use ringback_routing::{AgentId, CallStatus, E164, EnvironmentId, Timestamp};
use uuid::Uuid;

use crate::{Store, StoreSettings};

/// A call numbered `number` in environment 1.
fn call(number: u64) -> Call {
    Call {
        environment: EnvironmentId(Uuid::from_u128(1)),
        sid: format!("call-{number}"),
        agent: AgentId(Uuid::from_u128(7)),
        contact: E164::from_digits(5_511_900_000_000 + number % 10).unwrap(),
        from: None,
        status: CallStatus::Ringing,
        started_at: Timestamp::from_seconds(i64::try_from(number).unwrap()),
    }
}

#[test]
fn calls_survive_closing_and_crashing() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let mut store = Store::open(directory.path(), StoreSettings::default()).unwrap();
        let archive = store.archive();
        for number in 0..round * 100 {
            let found = archive
                .call(call(number).environment, &call(number).sid)
                .unwrap();
            assert_eq!(found, Some(call(number)));
        }
        for number in round * 100..(round + 1) * 100 {
            store.commit(&[Change::CallPut(call(number))]).unwrap();
        }
        let calls = archive
            .calls_to(call(0).environment, call(0).contact)
            .unwrap();
        assert_eq!(calls.len() as u64, (round + 1) * 10);
        if round % 2 == 0 {
            store.abandon();
        } else {
            store.close().unwrap();
        }
    }
}
