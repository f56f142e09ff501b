//! What happens when storage fails, and while the index is loaded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringback_engine::{CreateEnvironment, NewCall, RecordCalls, SubmitError};
use ringback_routing::{
    CallStatus, ContactUnreadable, Contacts, Direction, LearnedCall, Timestamp,
};

use crate::support::{MemoryJournal, NOW, StillClock, agent, e164, environment, open};

fn make(name: &str) -> CreateEnvironment {
    CreateEnvironment {
        name: name.to_owned(),
        default_country: None,
        number_form: None,
        recency_window_seconds: None,
        target_template: None,
        fallback_targets: Vec::new(),
        is_misread: false,
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
    nameless.is_misread = true;
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
    let shown = || {
        let calls = engine.contacts().calls(slot, e164(CONTACT));
        calls.expect("storage works").iter().count()
    };
    while !engine.health().index_whole {
        tokio::task::yield_now().await;
    }
    memory.fail(true);
    let call = LearnedCall {
        environment: here,
        agent: source,
        contact: e164(CONTACT),
        from: None,
        status: CallStatus::Initiated,
        started_at: Timestamp::from_seconds(NOW),
        sid: "learned".to_owned(),
        is_new: true,
    };
    let late = call.started_at.plus_millis(NewCall::MAX_AHEAD_MILLIS + 1);
    for refused in [
        LearnedCall {
            agent: inbound,
            ..call.clone()
        },
        LearnedCall {
            started_at: late,
            ..call.clone()
        },
    ] {
        assert_eq!(engine.learned_over_sip(refused.clone()), None);
        assert_eq!(shown(), 0, "{refused:?}");
    }
    let again = LearnedCall {
        is_new: false,
        ..call.clone()
    };
    let tickets = [call, again].map(|call| engine.learned_over_sip(call).expect("taken"));
    assert_eq!(shown(), 1);
    // The call waits until storage accepts writes.
    let failed = engine.record_learned(here, &tickets).await;
    assert!(matches!(failed, Err(SubmitError::StorageUnavailable)));
    assert_eq!(shown(), 1);
    memory.fail(false);
    let result = engine.record_learned(here, &tickets).await;
    assert!(result.expect("storage works").unrecorded.is_empty());
    assert_eq!(shown(), 1);
    let calls = engine.calls_to(here, e164(CONTACT)).await;
    assert_eq!(calls.expect("readable").len(), 1);
}

#[tokio::test]
async fn every_answer_is_right_while_contacts_are_loaded_and_written() {
    const CONTACTS: u64 = 20_000;
    let memory = MemoryJournal::default();
    let clock = StillClock::at(NOW);
    let engine = open(&memory, &clock);
    let here = environment(&engine).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    let call = |index: u64, from: Option<u64>| NewCall {
        agent: source,
        to: e164(5_511_900_000_000 + index),
        from: from.map(e164),
        status: None,
        started_at: None,
        sid: Some(format!("{index}-{from:?}").into()),
    };
    let calls = (0..CONTACTS).map(|index| call(index, None)).collect();
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
            let mut index = 0;
            while !done.load(Ordering::Relaxed) {
                index = (index + 7_919) % CONTACTS;
                let calls = engine
                    .contacts()
                    .calls(slot, e164(5_511_900_000_000 + index))
                    .expect("storage works");
                assert!(
                    calls.iter().any(|call| call.from.is_none()),
                    "{index} was recorded"
                );
            }
        }
    });
    for chunk in 0..20 {
        clock.advance(1);
        let places = (chunk * 100)..(chunk * 100 + 100);
        let calls = places
            .clone()
            .map(|index| call(index, Some(551_140_000_000)))
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
        for index in places {
            let calls = engine
                .contacts()
                .calls(slot, e164(5_511_900_000_000 + index))
                .expect("storage works");
            assert_eq!(calls.iter().count(), 2, "{index} was recorded twice");
        }
    }
    done.store(true, Ordering::Relaxed);
    reader.join().expect("every answer was right");
}

#[tokio::test]
async fn storage_that_heals_is_noticed_without_a_write() {
    // A node that is not ready gets no writes, and so it used to stay that way for good.
    let memory = MemoryJournal::default();
    let engine = open(&memory, &StillClock::at(NOW));
    memory.fail(true);
    let refused = engine.submit(make("during")).await;
    assert_eq!(refused, Err(SubmitError::StorageUnavailable));
    assert!(!engine.health().storage_available);
    memory.fail(false);
    while !engine.health().storage_available {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_contact_that_cannot_be_read_has_no_answer_until_it_can() {
    // A contact that could not be read used to be treated as never called, and its part of the index was never
    // loaded.
    const CONTACTS: u64 = 200;
    const DAMAGED: u64 = 7;
    let memory = MemoryJournal::default();
    let clock = StillClock::at(NOW);
    let engine = open(&memory, &clock);
    let here = environment(&engine).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    let contact = |index: u64| e164(5_511_900_000_000 + index);
    let call = |index: u64, sid: &str| NewCall {
        agent: source,
        to: contact(index),
        from: None,
        status: None,
        started_at: None,
        sid: Some(sid.into()),
    };
    let record = |engine: &ringback_engine::Engine, calls| {
        let command = RecordCalls {
            environment: here,
            calls,
        };
        let engine = engine.clone();
        async move { engine.submit(command).await.expect("recorded") }
    };
    let calls = (0..CONTACTS).map(|index| call(index, &index.to_string()));
    record(&engine, calls.collect()).await;
    drop(engine);

    memory.damage(Some(contact(DAMAGED)));
    let engine = open(&memory, &clock);
    let slot = engine
        .directory()
        .environment_by_id(here)
        .expect("made")
        .slot;
    let known = |index| {
        let calls = engine.contacts().calls(slot, contact(index));
        calls.map(|calls| calls.iter().count())
    };
    while !engine.health().index_damaged {
        assert_eq!(known(DAMAGED), Err(ContactUnreadable));
        tokio::task::yield_now().await;
    }
    for index in (0..CONTACTS).filter(|index| *index != DAMAGED) {
        assert_eq!(known(index), Ok(1), "{index}");
    }
    assert_eq!(known(DAMAGED), Err(ContactUnreadable));
    memory.damage(None);
    assert_eq!(known(DAMAGED), Ok(1), "it is looked up");
    while !engine.health().index_whole {
        tokio::task::yield_now().await;
    }
    assert!(!engine.health().index_damaged);

    // With the index loaded, a change that cannot be read back leaves the index out of date.
    memory.damage(Some(contact(DAMAGED)));
    record(&engine, vec![call(DAMAGED, "again")]).await;
    assert!(engine.health().index_damaged);
    assert_eq!(known(DAMAGED), Err(ContactUnreadable));
    assert_eq!(known(DAMAGED + 1), Ok(1));
    memory.damage(None);
    while engine.health().index_damaged {
        tokio::task::yield_now().await;
    }
    assert_eq!(known(DAMAGED), Ok(1));
}
