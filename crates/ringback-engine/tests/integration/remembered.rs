//! What is remembered of a contact: bounded work for every call, room that deletions free, and the same view for
//! decisions, for `GET /contacts` and after a restart.

use proptest::prelude::*;
use ringback_engine::{
    Call, CommandError, DeleteAgent, ForgetContact, NewCall, NewOptOut, OptOutContact,
    PublishAgent, RecordBatch, RecordCalls,
};
use ringback_routing::{
    AgentId, AgentStatus, CallStatus, Contacts, Direction, EnvironmentId, LearnedCall, Timestamp,
};
use ringback_testkit::Load;

use crate::support::{MemoryJournal, NOW, Running, StillClock, agent, e164, environment, open};

const CONTACT: u64 = 5_511_987_654_321;

fn at(agent: AgentId, millis: i64, sid: String) -> NewCall {
    NewCall {
        agent,
        to: e164(CONTACT),
        from: None,
        status: None,
        started_at: Some(Timestamp::from_millis(NOW * 1_000 - 60_000 + millis)),
        sid: Some(sid.into()),
    }
}

async fn record(engine: &Running, environment: EnvironmentId, call: NewCall) -> Call {
    let calls = vec![call];
    let recorded = engine.submit(RecordCalls { environment, calls }).await;
    recorded.expect("storage takes it")[0]
        .clone()
        .expect("recorded")
}

async fn delete(engine: &Running, environment: EnvironmentId, id: AgentId) {
    let status = AgentStatus::Draft;
    let unpublish = PublishAgent {
        environment,
        id,
        status,
    };
    engine.submit(unpublish).await.expect("unpublished");
    engine
        .submit(DeleteAgent { environment, id })
        .await
        .expect("deleted");
}

async fn loaded(engine: &Running) {
    while !engine.health().index_whole {
        tokio::task::yield_now().await;
    }
}

/// The agents whose calls decide, newest first.
fn decide_by(engine: &Running, environment: EnvironmentId) -> Vec<AgentId> {
    let directory = engine.directory();
    let slot = directory
        .environment_by_id(environment)
        .expect("it is there")
        .slot;
    let calls = engine
        .contacts()
        .calls(slot, e164(CONTACT))
        .expect("readable");
    let agents = calls.iter().filter_map(|call| directory.agent(call.source));
    agents.map(|agent| agent.record.id).collect()
}

/// The agents that `GET /contacts` shows, newest first.
async fn shown(engine: &Running, environment: EnvironmentId) -> Vec<AgentId> {
    let calls = engine.calls_to(environment, e164(CONTACT)).await;
    calls
        .expect("readable")
        .iter()
        .map(|call| call.agent)
        .collect()
}

/// Ties within a second used to read the whole contact for every call: ten thousand calls took a minute.
#[tokio::test]
async fn one_more_call_reads_no_more_however_many_its_contact_has() {
    const CALLS: i64 = 3_000;
    let memory = MemoryJournal::default();
    let engine = open(&memory, &StillClock::at(NOW));
    let here = environment(&engine).await;
    let mut sources = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        sources.push(agent(&engine, here, name, Direction::Outbound, &[]).await);
    }
    loaded(&engine).await;
    for chunk in 0..CALLS / 100 {
        let calls: Vec<_> = (chunk * 100..(chunk + 1) * 100)
            .map(|call| {
                let source = sources[usize::try_from(call % 6).expect("small")];
                at(source, call % 1_000, format!("{call:05}"))
            })
            .collect();
        let recorded = engine
            .submit(RecordBatch {
                environment: here,
                calls: calls.into(),
            })
            .await;
        assert!(recorded.expect("storage takes it").refused.is_empty());
    }
    // The first tie reads the calls committed so far; no later one reads anything.
    assert!(memory.calls_visited() <= 100, "{}", memory.calls_visited());
    assert_eq!(shown(&engine, here).await.len(), 4);
    assert_eq!(decide_by(&engine, here), shown(&engine, here).await);
}

/// A, B and C called, A was deleted, D and E were recorded: A used to take up room until a restart.
#[tokio::test]
async fn the_place_of_a_deleted_agent_is_free_at_once() {
    let (memory, clock) = (MemoryJournal::default(), StillClock::at(NOW));
    let engine = open(&memory, &clock);
    let here = environment(&engine).await;
    loaded(&engine).await;
    let mut sources = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        sources.push(agent(&engine, here, name, Direction::Outbound, &[]).await);
    }
    // Each is older than the one before, so the last one is crowded out first.
    let call = |index: usize| {
        let millis = 10_000 - 1_000 * i64::try_from(index).expect("small");
        at(sources[index], millis, format!("{index}"))
    };
    for index in 0..3 {
        record(&engine, here, call(index)).await;
    }
    delete(&engine, here, sources[0]).await;
    for index in 3..5 {
        record(&engine, here, call(index)).await;
    }
    let expected = &sources[1..];
    assert_eq!(decide_by(&engine, here), expected);
    assert_eq!(shown(&engine, here).await, expected);
    drop(engine);
    let engine = open(&memory, &clock);
    assert_eq!(decide_by(&engine, here), expected);
    loaded(&engine).await;
    assert_eq!(decide_by(&engine, here), expected);
    assert_eq!(shown(&engine, here).await, expected);
}

#[tokio::test]
async fn what_was_crowded_out_stays_forgotten_until_it_is_recorded_again() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    loaded(&engine).await;
    let mut sources = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        sources.push(agent(&engine, here, name, Direction::Outbound, &[]).await);
    }
    let call = |index: usize| {
        let millis = 1_000 * i64::try_from(index).expect("small");
        at(sources[index], millis, format!("{index}"))
    };
    for index in 0..5 {
        record(&engine, here, call(index)).await;
    }
    delete(&engine, here, sources[4]).await;
    let left = [sources[3], sources[2], sources[1]];
    let crowded_out = sources[0];
    let decided: Vec<AgentId> = decide_by(&engine, here);
    assert_eq!(
        (decided.as_slice(), shown(&engine, here).await),
        (&left[..], left.to_vec())
    );
    record(&engine, here, call(0)).await;
    let all = [&left[..], &[crowded_out]].concat();
    assert_eq!(
        (decide_by(&engine, here), shown(&engine, here).await),
        (all.clone(), all)
    );
}

/// A contact erased in the first second used to come back until the index was loaded.
#[tokio::test]
async fn what_changes_while_the_index_is_loaded_stays_changed() {
    let (memory, clock) = (MemoryJournal::default(), StillClock::at(NOW));
    let engine = open(&memory, &clock);
    let here = environment(&engine).await;
    let other = e164(CONTACT + 1);
    let mut sources = Vec::new();
    for name in ["a", "b", "c"] {
        sources.push(agent(&engine, here, name, Direction::Outbound, &[]).await);
    }
    record(&engine, here, at(sources[0], 0, "erased".to_owned())).await;
    for (index, source) in sources.iter().enumerate() {
        let to = NewCall {
            to: other,
            ..at(*source, 0, format!("kept {index}"))
        };
        record(&engine, here, to).await;
    }
    drop(engine);

    memory.hold_load(Load::Read);
    let engine = open(&memory, &clock);
    let contact = e164(CONTACT);
    let forget = ForgetContact {
        environment: here,
        contact,
        opt_out: false,
    };
    engine.submit(forget).await.expect("forgotten");
    delete(&engine, here, sources[1]).await;
    let raised = NewCall {
        to: other,
        status: Some(CallStatus::Completed),
        ..at(sources[2], 0, "kept 2".to_owned())
    };
    record(&engine, here, raised).await;
    let statuses = |engine: &Running| {
        let directory = engine.directory();
        let slot = directory.environment_by_id(here).expect("it is there").slot;
        let calls = engine.contacts().calls(slot, other).expect("readable");
        let known = calls
            .iter()
            .filter(|call| directory.agent(call.source).is_some());
        known.map(|call| call.status).collect::<Vec<_>>()
    };
    let kept = [CallStatus::Completed, CallStatus::Initiated];
    assert_eq!(
        (decide_by(&engine, here), statuses(&engine)),
        (Vec::new(), kept.to_vec())
    );
    // Every loader has shown everything that it read before, and none has ended.
    memory.hold_load(Load::Shown);
    memory.wait_for_loaders(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    assert!(!engine.health().index_whole);
    assert_eq!(
        (decide_by(&engine, here), statuses(&engine)),
        (Vec::new(), kept.to_vec())
    );
    memory.hold_load(Load::Done);
    loaded(&engine).await;
    assert_eq!(
        (decide_by(&engine, here), statuses(&engine)),
        (Vec::new(), kept.to_vec())
    );
}

#[tokio::test]
async fn a_learned_call_stays_shown_while_others_of_its_contact_are_recorded() {
    let memory = MemoryJournal::default();
    let engine = open(&memory, &StillClock::at(NOW));
    let here = environment(&engine).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    let other = agent(&engine, here, "other", Direction::Outbound, &[]).await;
    loaded(&engine).await;
    // A tie, so that the exact calls are kept.
    record(&engine, here, at(source, 0, "a".to_owned())).await;
    record(&engine, here, at(source, 1, "b".to_owned())).await;
    let ticket = engine
        .learned_over_sip(learned(here, other))
        .expect("taken");
    assert_eq!(decide_by(&engine, here), [other, source]);
    assert_eq!(shown(&engine, here).await, [other, source]);
    record(&engine, here, at(source, 2, "c".to_owned())).await;
    assert_eq!(decide_by(&engine, here), [other, source]);
    assert_eq!(shown(&engine, here).await, [other, source]);
    let result = engine.record_learned(here, &[ticket]).await;
    assert!(result.expect("storage works").unrecorded.is_empty());
    assert_eq!(decide_by(&engine, here), [other, source]);
    assert_eq!(shown(&engine, here).await, [other, source]);
}

/// A call that was just seen on the wire.
fn learned(environment: EnvironmentId, agent: AgentId) -> LearnedCall {
    LearnedCall {
        environment,
        agent,
        contact: e164(CONTACT),
        from: None,
        status: CallStatus::Initiated,
        started_at: Timestamp::from_millis(NOW * 1_000 - 50_000),
        sid: "learned".to_owned(),
        is_new: true,
    }
}

async fn forget(engine: &Running, environment: EnvironmentId) {
    let contact = e164(CONTACT);
    let forget = ForgetContact {
        environment,
        contact,
        opt_out: false,
    };
    engine.submit(forget).await.expect("forgotten");
}

#[tokio::test]
async fn a_learned_call_to_a_contact_that_opted_out_is_neither_shown_nor_recorded() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    loaded(&engine).await;
    let call = || learned(here, source);
    // One was seen before, and is recorded after the opt-out; a later status of it is not taken then, either.
    let early = engine.learned_over_sip(call()).expect("taken");
    let opt_out = OptOutContact {
        environment: here,
        new: NewOptOut {
            contact: e164(CONTACT),
            reason: None,
            until: None,
        },
        is_misread: false,
    };
    engine.submit(opt_out).await.expect("noted");
    let result = engine.record_learned(here, &[early]).await;
    let result = result.expect("storage works");
    assert_eq!(
        result.unrecorded,
        [(0, Some(CommandError::ContactOptedOut))]
    );
    assert!(decide_by(&engine, here).is_empty());
    assert_eq!(engine.learned_over_sip(call()), None);
    assert_eq!(engine.refused_learned(), 2);
    assert!(shown(&engine, here).await.is_empty());
}

// It used to route up to 145 ms before it was shown.
#[tokio::test]
async fn a_learned_call_is_shown_as_soon_as_it_routes() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    loaded(&engine).await;
    let ticket = engine
        .learned_over_sip(learned(here, source))
        .expect("taken");
    assert_eq!(decide_by(&engine, here), [source]);
    let calls = engine
        .calls_to(here, e164(CONTACT))
        .await
        .expect("readable");
    assert_eq!(calls.len(), 1);
    assert_eq!(&*calls[0].sid, "learned");
    let result = engine.record_learned(here, &[ticket]).await;
    assert!(result.expect("storage works").unrecorded.is_empty());
    assert_eq!(
        engine
            .calls_to(here, e164(CONTACT))
            .await
            .expect("readable"),
        calls
    );
}

// A learned call that waited to be recorded used to come back after the erasure of its contact.
#[tokio::test]
async fn a_learned_call_that_waits_does_not_come_back_after_its_contact_was_forgotten() {
    let memory = MemoryJournal::default();
    let engine = open(&memory, &StillClock::at(NOW));
    let here = environment(&engine).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    loaded(&engine).await;
    let call = learned(here, source);
    let first = engine.learned_over_sip(call.clone()).expect("taken");
    forget(&engine, here).await;
    assert_eq!(decide_by(&engine, here), []);
    assert_eq!(shown(&engine, here).await, []);
    // A later status of the call, seen after the erasure, belongs to a forgotten call.
    let answered = engine.learned_over_sip(LearnedCall {
        status: CallStatus::Answered,
        is_new: false,
        ..call.clone()
    });
    let tickets = [first, answered.expect("taken")];
    let result = engine.record_learned(here, &tickets).await;
    let unrecorded = result.expect("storage works").unrecorded;
    assert!(
        matches!(unrecorded[..], [(0, None), (1, None)]),
        "{unrecorded:?}"
    );
    assert_eq!(decide_by(&engine, here), []);
    assert_eq!(shown(&engine, here).await, []);
    // A call that is seen after the erasure counts.
    let later = LearnedCall {
        sid: "later".to_owned(),
        ..call
    };
    let ticket = engine.learned_over_sip(later).expect("taken");
    let result = engine.record_learned(here, &[ticket]).await;
    assert!(result.expect("storage works").unrecorded.is_empty());
    assert_eq!(decide_by(&engine, here), [source]);
    assert_eq!(shown(&engine, here).await, [source]);
}

#[tokio::test]
async fn a_learned_call_that_is_refused_is_shown_no_longer() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    let other = agent(&engine, here, "other", Direction::Outbound, &[]).await;
    loaded(&engine).await;
    record(&engine, here, at(source, 0, "learned".to_owned())).await;
    let ticket = engine
        .learned_over_sip(learned(here, other))
        .expect("taken");
    assert_eq!(decide_by(&engine, here), [other, source]);
    let result = engine.record_learned(here, &[ticket]).await;
    let unrecorded = result.expect("storage works").unrecorded;
    assert!(
        matches!(unrecorded[..], [(0, Some(CommandError::CallMismatch(_)))]),
        "{unrecorded:?}"
    );
    assert_eq!(decide_by(&engine, here), [source]);
    assert_eq!(shown(&engine, here).await, [source]);
}

/// An action on the contact.
#[derive(Clone, Debug)]
enum Step {
    /// A call: agent, calling number, millisecond.
    Record(usize, Option<u64>, i64),
    /// The agent is deleted.
    Delete(usize),
    /// The contact is forgotten.
    Forget,
}

/// How many agents there are.
const AGENTS: usize = 6;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = (0..AGENTS, proptest::option::of(0..2_u64), 0..3_000_i64)
        .prop_map(|(agent, from, millis)| Step::Record(agent, from, millis));
    let step = prop_oneof![
        12 => record,
        2 => (0..AGENTS).prop_map(Step::Delete),
        1 => Just(Step::Forget),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What the rules say is remembered: (agent, from, millisecond, call id), newest first.
type Kept = (usize, Option<u64>, i64, String);

fn by_the_rules(kept: &mut Vec<Kept>, deleted: &mut [bool], number: usize, step: &Step) {
    match *step {
        Step::Record(agent, from, millis) if !deleted[agent] => {
            kept.push((agent, from, millis, format!("{number:03}")));
            kept.sort_by_key(|call| std::cmp::Reverse((call.2, call.3.clone())));
            let mut lines = Vec::new();
            kept.retain(|call| {
                let new = !lines.contains(&(call.0, call.1));
                lines.push((call.0, call.1));
                new
            });
            kept.truncate(4);
        }
        Step::Record(..) => {}
        Step::Delete(agent) => {
            deleted[agent] = true;
            kept.retain(|call| call.0 != agent);
        }
        Step::Forget => kept.clear(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn decisions_and_contacts_agree_with_the_rules_after_every_step(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(compare(&steps));
    }
}

async fn compare(steps: &[Step]) {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let mut sources = Vec::new();
    for name in 0..AGENTS {
        sources.push(agent(&engine, here, &name.to_string(), Direction::Outbound, &[]).await);
    }
    loaded(&engine).await;
    let (mut kept, mut deleted) = (Vec::new(), vec![false; AGENTS]);
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Record(agent, from, millis) if !deleted[agent] => {
                let from = from.map(|from| e164(5_511_400_000_000 + from));
                let call = at(sources[agent], millis, format!("{number:03}"));
                record(&engine, here, NewCall { from, ..call }).await;
            }
            Step::Record(..) => {}
            Step::Delete(agent) if deleted[agent] => {}
            Step::Delete(agent) => delete(&engine, here, sources[agent]).await,
            Step::Forget => {
                forget(&engine, here).await;
            }
        }
        by_the_rules(&mut kept, &mut deleted, number, step);
        let sids: Vec<String> = engine
            .calls_to(here, e164(CONTACT))
            .await
            .expect("readable")
            .into_iter()
            .map(|call| call.sid.as_ref().to_owned())
            .collect();
        let expected: Vec<String> = kept.iter().map(|call| call.3.clone()).collect();
        assert_eq!(sids, expected, "after step {number}");
        let agents: Vec<AgentId> = kept.iter().map(|call| sources[call.0]).collect();
        assert_eq!(decide_by(&engine, here), agents, "after step {number}");
    }
}
