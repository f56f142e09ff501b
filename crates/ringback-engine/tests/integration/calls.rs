//! Recording calls is commutative, idempotent, and exact to the millisecond and the call id.

use std::sync::Arc;

use proptest::prelude::*;
use ringback_engine::{
    ByToken, Call, CallDifference, CommandError, CreateToken, DeleteToken, Fault, Field,
    FieldProblem, ForgetContact, NewCall, RecordBatch, RecordCalls, SubmitError, hash_secret,
};
use ringback_routing::{AgentId, CallStatus, Contacts, Direction, EnvironmentId, Timestamp};

use crate::support::{MemoryJournal, NOW, Running, StillClock, agent, e164, environment, open};

const CONTACT: u64 = 5_511_987_654_321;

async fn record(
    engine: &Running,
    environment: EnvironmentId,
    calls: Vec<NewCall>,
) -> Vec<Result<Call, CommandError>> {
    engine
        .submit(RecordCalls { environment, calls })
        .await
        .expect("storage takes the calls")
}

fn new(agent: AgentId, sid: &str) -> NewCall {
    NewCall {
        agent,
        to: e164(CONTACT),
        from: None,
        status: None,
        started_at: None,
        sid: Some(sid.into()),
    }
}

#[tokio::test]
async fn the_same_sid_raises_the_status_and_nothing_else() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let source = agent(&engine, here, "caller", Direction::Outbound, &[]).await;
    let first = record(&engine, here, vec![new(source, "a")]).await;
    let first = first[0].clone().expect("recorded");
    assert_eq!(first.status, CallStatus::Initiated);
    let completed = NewCall {
        status: Some(CallStatus::Completed),
        ..new(source, "a")
    };
    let ringing = NewCall {
        status: Some(CallStatus::Ringing),
        ..new(source, "a")
    };
    let later = record(&engine, here, vec![completed, ringing]).await;
    for call in later {
        let call = call.expect("recorded");
        assert_eq!(
            (call.status, call.started_at),
            (CallStatus::Completed, first.started_at)
        );
    }
    let moved = NewCall {
        to: e164(CONTACT + 1),
        ..new(source, "a")
    };
    let retimed = NewCall {
        started_at: Some(Timestamp::from_seconds(NOW - 1)),
        ..new(source, "a")
    };
    let from = NewCall {
        from: Some(e164(CONTACT)),
        ..new(source, "a")
    };
    for (call, what) in [
        (moved, CallDifference::Contact),
        (retimed, CallDifference::StartTime),
        (from, CallDifference::CallingNumber),
    ] {
        let refused = record(&engine, here, vec![call]).await;
        assert_eq!(refused, [Err(CommandError::CallMismatch(what))]);
    }
}

#[tokio::test]
async fn a_call_too_far_ahead_or_of_no_outbound_agent_is_refused() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let there = environment(&engine).await;
    let source = agent(&engine, here, "caller", Direction::Outbound, &[]).await;
    let taker = agent(&engine, here, "taker", Direction::Inbound, &[]).await;
    let ahead = |millis| NewCall {
        started_at: Some(Timestamp::from_millis(NOW * 1_000 + millis)),
        ..new(source, "ahead")
    };
    let results = record(
        &engine,
        here,
        vec![ahead(300_001), new(taker, "b"), ahead(300_000)],
    )
    .await;
    let field = |result: &Result<Call, CommandError>| match result {
        Err(CommandError::Invalid(problems)) => Some(problems.clone()),
        _ => None,
    };
    let problem = |field, fault| Some(vec![FieldProblem { field, fault }]);
    let too_far = problem(Field::StartedAt, Fault::TooFarAhead);
    assert_eq!(field(&results[0]), too_far);
    let not_outbound = problem(Field::CallingAgent, Fault::NotOutbound);
    assert_eq!(field(&results[1]), not_outbound);
    assert!(results[2].is_ok());
    let elsewhere = record(&engine, there, vec![new(source, "c")]).await;
    let unknown = problem(Field::CallingAgent, Fault::Unknown);
    assert_eq!(field(&elsewhere[0]), unknown);
}

#[tokio::test]
async fn a_forgotten_contact_and_its_call_ids_are_gone() {
    let memory = MemoryJournal::default();
    let clock = StillClock::at(NOW);
    let engine = open(&memory, &clock);
    let here = environment(&engine).await;
    let source = agent(&engine, here, "caller", Direction::Outbound, &[]).await;
    record(&engine, here, vec![new(source, "a")]).await[0]
        .clone()
        .expect("recorded");
    engine
        .submit(ForgetContact {
            environment: here,
            contact: e164(CONTACT),
            opt_out: false,
        })
        .await
        .expect("done");
    assert_eq!(engine.calls_to(here, e164(CONTACT)).await, Ok(Vec::new()));
    let directory = engine.directory();
    let slot = directory.environment_by_id(here).expect("it is there").slot;
    assert!(
        engine
            .contacts()
            .calls(slot, e164(CONTACT))
            .expect("storage works")
            .is_empty()
    );
    let again = NewCall {
        to: e164(CONTACT + 1),
        ..new(source, "a")
    };
    assert!(record(&engine, here, vec![again]).await[0].is_ok());
}

#[tokio::test]
async fn a_token_that_has_ended_writes_nothing_even_within_one_commit() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let source = agent(&engine, here, "caller", Direction::Outbound, &[]).await;
    let token = CreateToken {
        environment: here,
        name: None,
        hash: hash_secret("secret"),
        masked: false,
        is_misread: false,
    };
    let token = engine.submit(token).await.expect("made").id;
    let by_token = |sid: &str| ByToken {
        environment: here,
        token,
        command: RecordCalls {
            environment: here,
            calls: vec![new(source, sid)],
        },
    };
    // Submitted together: the end of the token comes between the two.
    let before = engine.enqueue(by_token("a")).await.expect("taken");
    let end = DeleteToken {
        environment: here,
        id: token,
    };
    let end = engine.enqueue(end).await.expect("taken");
    let after = engine.enqueue(by_token("b")).await.expect("taken");
    assert!(before.await.expect("the token is good").output[0].is_ok());
    end.await.expect("ended");
    assert_eq!(
        after.await,
        Err(SubmitError::Rejected(CommandError::TokenEnded))
    );
    let calls = engine
        .calls_to(here, e164(CONTACT))
        .await
        .expect("readable");
    let sids: Vec<&str> = calls.iter().map(|call| &*call.sid).collect();
    assert_eq!(sids, ["a"]);
}

#[tokio::test]
async fn commands_after_a_shutdown_are_refused() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let handle = engine.0.clone();
    tokio::task::spawn_blocking(move || handle.shut_down())
        .await
        .expect("it shuts down");
    let late = engine
        .submit(ForgetContact {
            environment: here,
            contact: e164(CONTACT),
            opt_out: false,
        })
        .await;
    assert_eq!(late, Err(SubmitError::ShuttingDown));
}

/// A call as the property makes it: agent, calling number, millisecond, call id, status.
type Made = (usize, Option<u64>, i64, u8, u8);

fn made() -> impl Strategy<Value = Vec<Made>> {
    let call = (
        0..3_usize,
        proptest::option::of(0..2_u64),
        0..4_000_i64,
        0..12_u8,
        0..8_u8,
    );
    proptest::collection::vec(call, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn calls_in_any_order_and_any_batches_leave_the_same_contact(
        calls in made(),
        seed in any::<u64>(),
        batch in 1..6_usize,
    ) {
        // One call per call id: the first one counts.
        let mut unique: Vec<Made> = Vec::new();
        for call in calls {
            match unique.iter().find(|other| other.3 == call.3) {
                Some(known) => unique.push((known.0, known.1, known.2, known.3, call.4)),
                None => unique.push(call),
            }
        }
        let mut shuffled = unique.clone();
        shuffled.sort_by_key(|call| {
            seed.wrapping_mul(0x9e37_79b9 | 1).wrapping_add(call.2 as u64).rotate_left(u32::from(call.4) * 7)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let left = runtime.block_on(outcome(&unique, unique.len()));
        let right = runtime.block_on(outcome(&shuffled, batch));
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(left, expected(&unique));
    }
}

/// What is remembered: (agent, from, millisecond, call id, status), newest first.
type Kept = (usize, Option<u64>, i64, u8, CallStatus);

fn expected(calls: &[Made]) -> Vec<Kept> {
    let mut merged: Vec<Kept> = Vec::new();
    for (agent, from, millis, sid, status) in calls.iter().copied() {
        let status = CallStatus::from_rank(status);
        match merged.iter_mut().find(|other| other.3 == sid) {
            Some(known) => known.4 = known.4.max(status),
            None => merged.push((agent, from, millis, sid, status)),
        }
    }
    merged.sort_by_key(|call| std::cmp::Reverse((call.2, format!("sid-{:03}", call.3))));
    let mut kept: Vec<Kept> = Vec::new();
    for call in merged {
        if !kept
            .iter()
            .any(|newer| (newer.0, newer.1) == (call.0, call.1))
        {
            kept.push(call);
        }
    }
    kept.truncate(4);
    kept
}

async fn outcome(calls: &[Made], batch: usize) -> Vec<Kept> {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let mut sources = Vec::new();
    for name in ["a", "b", "c"] {
        sources.push(agent(&engine, here, name, Direction::Outbound, &[]).await);
    }
    for chunk in calls.chunks(batch) {
        let chunk = chunk
            .iter()
            .map(|(agent, from, millis, sid, status)| NewCall {
                agent: sources[*agent],
                to: e164(CONTACT),
                from: from.map(|from| e164(5_511_400_000_000 + from)),
                status: Some(CallStatus::from_rank(*status)),
                started_at: Some(Timestamp::from_millis(NOW * 1_000 - 10_000 + millis)),
                sid: Some(format!("sid-{sid:03}").into()),
            })
            .collect();
        for result in record(&engine, here, chunk).await {
            result.expect("recorded");
        }
    }
    let position = |id: AgentId| {
        sources
            .iter()
            .position(|source| *source == id)
            .expect("ours")
    };
    let stored: Vec<Kept> = engine
        .calls_to(here, e164(CONTACT))
        .await
        .expect("readable")
        .into_iter()
        .map(|call| {
            let sid = call.sid.trim_start_matches("sid-").parse().expect("ours");
            let from = call.from.map(|from| from.digits() - 5_511_400_000_000);
            let millis = call.started_at.millis() - (NOW * 1_000 - 10_000);
            (position(call.agent), from, millis, sid, call.status)
        })
        .collect();
    // The index has the same calls, to the second.
    let directory = engine.directory();
    let slot = directory.environment_by_id(here).expect("it is there").slot;
    let indexed = engine
        .contacts()
        .calls(slot, e164(CONTACT))
        .expect("storage works");
    let indexed: Vec<_> = indexed
        .iter()
        .map(|call| {
            let agent = directory.agent(call.source).expect("it is there").record.id;
            let from = call.from.map(|from| from.digits() - 5_511_400_000_000);
            (
                position(agent),
                from,
                call.started_at.seconds(),
                call.status,
            )
        })
        .collect();
    let seconds = |millis: i64| (NOW * 1_000 - 10_000 + millis) / 1_000;
    let stored_in_seconds: Vec<_> = stored
        .iter()
        .map(|call| (call.0, call.1, seconds(call.2), call.4))
        .collect();
    assert_eq!(indexed, stored_in_seconds);
    stored
}

// A batch travelled home in the result of its command, which could not be run again then.
#[tokio::test]
async fn whoever_shares_a_batch_has_its_memory_back_with_the_outcome() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let source = agent(&engine, here, "caller", Direction::Outbound, &[]).await;
    let calls = Arc::new(vec![new(source, "a"), new(source, "b")]);
    let recorded = engine
        .submit(RecordBatch {
            environment: here,
            calls: Arc::clone(&calls),
        })
        .await
        .expect("recorded");
    assert_eq!(recorded.new, 2);
    let memory = Arc::try_unwrap(calls).expect("nobody else has it");
    assert_eq!(memory.len(), 2);
}
