//! What happens when storage fails, and while the index is loaded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringback_engine::{
    CreateEnvironment, FieldErrors, LearnedCall, NewCall, RecordCalls, SubmitError,
};
use ringback_routing::{CallStatus, Contacts, Direction, Timestamp};

use crate::support::{MemoryJournal, NOW, StillClock, agent, e164, environment, open};

fn make(name: &str) -> CreateEnvironment {
    CreateEnvironment {
        name: name.to_owned(),
        default_country: None,
        recency_window_seconds: None,
        target_template: None,
        fallback_targets: Vec::new(),
        errors: FieldErrors::default(),
    }
}

#[tokio::test]
async fn failing_storage_refuses_writes_shows_nothing_of_them_and_recovers() {
    let memory = MemoryJournal::default();
    let engine = open(&memory, &StillClock::at(NOW));
    engine.submit(make("before")).await.expect("storage works");
    memory.fail(true);
    for _again in 0..3 {
        let refused = engine.submit(make("during")).await;
        assert_eq!(refused, Err(SubmitError::StorageUnavailable));
        assert!(!engine.health().storage_available);
    }
    let mut nameless = make("");
    nameless.errors.add("name", "The name field is required.");
    let invalid = engine.submit(nameless).await;
    assert!(
        matches!(invalid, Err(SubmitError::Rejected(_))),
        "needs no storage"
    );
    assert_eq!(engine.directory().environments().count(), 1);
    memory.fail(false);
    engine
        .submit(make("after"))
        .await
        .expect("storage works again");
    assert!(engine.health().storage_available);
    let directory = engine.directory();
    let names: Vec<&str> = directory
        .environments()
        .map(|environment| environment.record.name.as_str())
        .collect();
    assert_eq!(names, ["before", "after"]);
}

#[tokio::test]
async fn learned_call_counts_before_it_is_durable() {
    const CONTACT: u64 = 5_511_987_654_321;
    let memory = MemoryJournal::default();
    let engine = open(&memory, &StillClock::at(NOW));
    let here = environment(&engine).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    let inbound = agent(&engine, here, "inbound", Direction::Inbound, &[]).await;
    let slot = engine
        .directory()
        .environment_by_id(here)
        .expect("made")
        .slot;
    let shown = || engine.contacts().calls(slot, e164(CONTACT)).iter().count();
    while !engine.health().index_whole {
        tokio::task::yield_now().await;
    }
    memory.fail(true);
    let call = LearnedCall {
        agent: source,
        from: None,
        status: CallStatus::Initiated,
        started_at: Timestamp::from_seconds(NOW),
    };
    let late = call.started_at.plus_millis(NewCall::MAX_AHEAD_MILLIS + 1);
    for refused in [
        LearnedCall {
            agent: inbound,
            ..call
        },
        LearnedCall {
            started_at: late,
            ..call
        },
    ] {
        engine.learned_over_sip(here, e164(CONTACT), &refused);
        assert_eq!(shown(), 0, "{refused:?}");
    }
    engine.learned_over_sip(here, e164(CONTACT), &call);
    engine.learned_over_sip(here, e164(CONTACT), &call);
    assert_eq!(shown(), 1);
}

#[tokio::test]
async fn every_answer_is_right_while_contacts_are_loaded_and_written() {
    const CONTACTS: u64 = 20_000;
    let memory = MemoryJournal::default();
    let clock = StillClock::at(NOW);
    let engine = open(&memory, &clock);
    let here = environment(&engine).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    let call = |place: u64, from: Option<u64>| NewCall {
        agent: source,
        to: e164(5_511_900_000_000 + place),
        from: from.map(e164),
        status: None,
        started_at: None,
        sid: Some(format!("{place}-{from:?}")),
    };
    let calls = (0..CONTACTS).map(|place| call(place, None)).collect();
    engine
        .submit(RecordCalls {
            environment: here,
            calls,
        })
        .await
        .expect("recorded");
    drop(engine);

    let engine = Arc::new(open(&memory, &clock));
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (engine, done) = (Arc::clone(&engine), Arc::clone(&done));
        move || {
            let slot = engine
                .directory()
                .environment_by_id(here)
                .expect("it is there")
                .slot;
            let mut place = 0;
            while !done.load(Ordering::Relaxed) {
                place = (place + 7_919) % CONTACTS;
                let calls = engine
                    .contacts()
                    .calls(slot, e164(5_511_900_000_000 + place));
                assert!(
                    calls.iter().any(|call| call.from.is_none()),
                    "{place} was recorded"
                );
            }
        }
    });
    for chunk in 0..20 {
        clock.advance(1);
        let places = (chunk * 100)..(chunk * 100 + 100);
        let calls = places
            .clone()
            .map(|place| call(place, Some(551_140_000_000)))
            .collect();
        engine
            .submit(RecordCalls {
                environment: here,
                calls,
            })
            .await
            .expect("recorded");
        let slot = engine
            .directory()
            .environment_by_id(here)
            .expect("it is there")
            .slot;
        for place in places {
            let calls = engine
                .contacts()
                .calls(slot, e164(5_511_900_000_000 + place));
            assert_eq!(calls.iter().count(), 2, "{place} was recorded twice");
        }
    }
    done.store(true, Ordering::Relaxed);
    reader.join().expect("every answer was right");
}
