//! Counters agree with their rows, even if agents are deleted meanwhile.

use ringback_engine::{
    Archive, DeleteAgent, NewCall, PublishAgent, RecordCalls, ReportAnswered, RoleFields, RoleMode,
    SetCallbackRole, SubmitError,
};
use ringback_routing::{
    AgentId, AgentStatus, CallVia, Caller, Direction, EnvironmentId, Outcome, Question, Target,
    UserSet, decide,
};

use crate::support::{
    MemoryJournal, NOW, Running, StillClock, agent, e164, environment, number, open,
};

const DIALED: u64 = 551_140_000_001;
const CONTACT: u64 = 5_511_987_654_321;

/// An environment in which a call of `source` comes back to `taker`.
struct World {
    here: EnvironmentId,
    source: AgentId,
    taker: AgentId,
}

async fn world(engine: &Running) -> World {
    let here = environment(engine).await;
    let line = number(engine, here, DIALED).await;
    let source = agent(engine, here, "source", Direction::Outbound, &[line]).await;
    let taker = agent(engine, here, "taker", Direction::Inbound, &[line]).await;
    let fields = RoleFields {
        source_agent_ids: vec![Some(source)],
        ..RoleFields::default()
    };
    let role = SetCallbackRole {
        environment: here,
        id: taker,
        mode: RoleMode::Anew,
        fields,
    };
    engine.submit(role).await.expect("set");
    let call = NewCall {
        agent: source,
        to: e164(CONTACT),
        from: None,
        status: None,
        started_at: None,
        sid: None,
    };
    let record = RecordCalls {
        environment: here,
        calls: vec![call],
    };
    engine.submit(record).await.expect("recorded");
    World {
        here,
        source,
        taker,
    }
}

async fn delete(engine: &Running, environment: EnvironmentId, id: AgentId) {
    let unpublish = PublishAgent {
        environment,
        id,
        status: AgentStatus::Draft,
    };
    engine.submit(unpublish).await.expect("unpublished");
    engine
        .submit(DeleteAgent { environment, id })
        .await
        .expect("deleted");
}

/// Received, answered, and the counts of the rows.
fn counted(engine: &Running, environment: EnvironmentId) -> (u64, u64, Vec<(String, u64)>) {
    let day = i32::try_from(NOW / 86_400).expect("small");
    let statistics = engine.statistics(environment, day, day);
    let rows = statistics.by_source.into_iter();
    (
        statistics.received,
        statistics.answered,
        rows.map(|row| (row.name, row.count)).collect(),
    )
}

/// A call used to be decided by a directory that knew its source, and counted by one that did not.
#[tokio::test]
async fn a_callback_decided_before_its_source_was_deleted_counts_in_total_and_row() {
    let (memory, clock) = (MemoryJournal::default(), StillClock::at(NOW));
    let engine = open(&memory, &clock);
    let world = world(&engine).await;
    let directory = engine.directory().clone();
    let question = Question {
        dialed: Some(e164(DIALED)),
        caller: Caller::Number(e164(CONTACT)),
        is_verified: true,
        now: engine.now(),
        avoided: UserSet::NONE,
        usable: &|_: &Target, _: &ringback_routing::Placeholders| true,
    };
    let decision = decide(&directory, engine.contacts(), &question).expect("readable");
    assert_eq!(decision.outcome, Outcome::Callback);
    delete(&engine, world.here, world.source).await;
    delete(&engine, world.here, world.taker).await;
    let caller = Caller::Number(e164(CONTACT));
    engine.decided_over_sip(
        CallVia::SipUdp,
        &decision,
        Some(e164(DIALED)),
        caller,
        b"late",
        engine.now(),
    );
    let rows = |answered| (1, answered, vec![("source".to_owned(), 1)]);
    assert_eq!(counted(&engine, world.here), rows(0));

    // Answered callbacks count although both agents are deleted, also after a restart.
    engine.answered_over_sip(world.here, b"late", engine.now());
    assert_eq!(counted(&engine, world.here), rows(1));
    drop(engine);
    let engine = open(&memory, &clock);
    assert_eq!(counted(&engine, world.here), rows(1));
    let again = ReportAnswered {
        environment: world.here,
        sid: "late".to_owned(),
    };
    engine.submit(again).await.expect("known");
    assert_eq!(counted(&engine, world.here), rows(1));
}

#[tokio::test]
async fn an_answer_counts_after_a_restart_without_the_agents() {
    let (memory, clock) = (MemoryJournal::default(), StillClock::at(NOW));
    let engine = open(&memory, &clock);
    let world = world(&engine).await;
    let directory = engine.directory().clone();
    let caller = Caller::Number(e164(CONTACT));
    let question = Question {
        dialed: Some(e164(DIALED)),
        caller,
        is_verified: true,
        now: engine.now(),
        avoided: UserSet::NONE,
        usable: &|_: &Target, _: &ringback_routing::Placeholders| true,
    };
    let decision = decide(&directory, engine.contacts(), &question).expect("readable");
    for call_id in [b"one", b"two"] {
        engine.decided_over_sip(
            CallVia::SipUdp,
            &decision,
            Some(e164(DIALED)),
            caller,
            call_id,
            engine.now(),
        );
    }
    delete(&engine, world.here, world.source).await;
    delete(&engine, world.here, world.taker).await;
    drop(engine);
    let engine = open(&memory, &clock);
    engine.answered_over_sip(world.here, b"one", engine.now());
    let report = ReportAnswered {
        environment: world.here,
        sid: "two".to_owned(),
    };
    engine.submit(report).await.expect("known");
    assert_eq!(
        counted(&engine, world.here),
        (2, 2, vec![("source".to_owned(), 2)])
    );
}

/// Nobody knows whether the log has an entry: its calls are counted once, whether it comes or never comes, and until
/// then nothing else is appended.
#[test]
fn calls_of_an_unconfirmed_entry_are_counted_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("it needs nothing");
    for is_kept in [true, false] {
        let clock = StillClock::at(NOW);
        let memory = MemoryJournal::default();
        let engine = open(&memory, &clock);
        let world = runtime.block_on(world(&engine));
        let caller = Caller::Number(e164(CONTACT));
        let directory = engine.directory().clone();
        let question = Question {
            dialed: Some(e164(DIALED)),
            caller,
            is_verified: true,
            now: engine.now(),
            avoided: UserSet::NONE,
            usable: &|_: &Target, _: &ringback_routing::Placeholders| true,
        };
        let decision = decide(&directory, engine.contacts(), &question).expect("readable");
        memory.leave_unconfirmed(is_kept);
        engine.decided_over_sip(
            CallVia::SipUdp,
            &decision,
            question.dialed,
            caller,
            b"one",
            engine.now(),
        );
        // The call goes with the answer, or before it.
        let report = || ReportAnswered {
            environment: world.here,
            sid: "one".to_owned(),
        };
        for _again in 0..2 {
            let refused = runtime.block_on(engine.submit(report())).map(drop);
            assert_eq!(refused, Err(SubmitError::ClusterUnavailable));
        }
        engine.decided_over_sip(
            CallVia::SipUdp,
            &decision,
            question.dialed,
            caller,
            b"two",
            engine.now(),
        );
        assert_eq!(counted(&engine, world.here).0, 2, "they count at once");
        memory.confirm();
        runtime.block_on(engine.submit(report())).expect("known");
        let rows = (2, 1, vec![("source".to_owned(), 2)]);
        assert_eq!(counted(&engine, world.here), rows);
        drop(engine);
        let engine = open(&memory, &clock);
        assert_eq!(counted(&engine, world.here), rows, "kept: {is_kept}");
        let other = open(&memory.beside(), &clock);
        assert_eq!(counted(&other, world.here), rows, "kept: {is_kept}");
    }
}

/// Each node counts the calls of the other one, once, and goes on counting after a restart.
#[test]
fn callbacks_that_one_node_routes_are_counted_by_all() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("it needs nothing");
    let clock = StillClock::at(NOW);
    let first = MemoryJournal::default();
    let journals = [first.clone(), first.beside()];
    let open_all = || [&journals[0], &journals[1]].map(|journal| open(journal, &clock));
    let mut engines = open_all();
    let world = runtime.block_on(world(&engines[0]));
    let wait = |engines: &[Running; 2], count| {
        for engine in engines {
            while counted(engine, world.here).0 != count {
                std::thread::yield_now();
            }
        }
    };
    for (round, node) in (1..).zip([0, 1, 0, 1]) {
        let engine = &engines[node];
        let caller = Caller::Number(e164(CONTACT));
        let question = Question {
            dialed: Some(e164(DIALED)),
            caller,
            is_verified: true,
            now: engine.now(),
            avoided: UserSet::NONE,
            usable: &|_: &Target, _: &ringback_routing::Placeholders| true,
        };
        // Wait until the other node has everything that the first one acknowledged.
        let directory = loop {
            let directory = engine.directory().clone();
            let decision = decide(&directory, engine.contacts(), &question).expect("readable");
            if decision.outcome == Outcome::Callback {
                break directory;
            }
            std::thread::yield_now();
        };
        let decision = decide(&directory, engine.contacts(), &question).expect("readable");
        let call_id = format!("call {round}");
        for _again in 0..2 {
            let call_id = call_id.as_bytes();
            engine.decided_over_sip(
                CallVia::SipUdp,
                &decision,
                question.dialed,
                caller,
                call_id,
                engine.now(),
            );
        }
        wait(&engines, round);
        if round == 2 {
            drop(engines);
            engines = open_all();
            wait(&engines, 2);
        }
    }
    // The answer may be reported to either node; in the end the counters of both contain everything.
    let report = ReportAnswered {
        environment: world.here,
        sid: "call 1".to_owned(),
    };
    runtime.block_on(engines[1].submit(report)).expect("known");
    drop(engines);
    let engines = open_all();
    wait(&engines, 4);
    for (engine, journal) in engines.iter().zip(&journals) {
        let rows = vec![("source".to_owned(), 4)];
        assert_eq!(counted(engine, world.here), (4, 1, rows));
        let stored = || Archive::counts(journal).expect("readable");
        while stored().values().sum::<u64>() != 5 {
            std::thread::yield_now();
        }
    }
}
