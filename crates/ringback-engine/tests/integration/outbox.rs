//! What a node keeps while the log that it shares cannot be reached.

use ringback_engine::{
    Call, Change, Engine, ForgetContact, Journal, Kept, ReportAnswered, RouteCall, SubmitError,
};
use ringback_routing::{
    AgentId, CallStatus, CallVia, Caller, Direction, EnvironmentId, LearnedCall, Timestamp,
};

use crate::support::{
    MemoryJournal, NOW, Running, StillClock, agent, e164, environment, number, open,
};

const DIALED: u64 = 551_130_000_000;
const CONTACT: u64 = 5_511_900_000_001;

/// An incoming call over HTTP.
fn route(environment: EnvironmentId, sid: &str) -> RouteCall {
    RouteCall {
        environment,
        dialed: Some(e164(DIALED)),
        caller: Caller::Number(e164(CONTACT)),
        is_verified: true,
        sid: Some(sid.to_owned()),
        via: CallVia::Http,
        is_anew: false,
    }
}

/// An environment with a number and an outbound agent.
async fn campaign(engine: &Engine) -> (EnvironmentId, AgentId) {
    let here = environment(engine).await;
    let dialed = number(engine, here, DIALED).await;
    let source = agent(engine, here, "source", Direction::Outbound, &[dialed]).await;
    (here, source)
}

/// A learned call.
fn learned(environment: EnvironmentId, agent: AgentId) -> LearnedCall {
    LearnedCall {
        environment,
        agent,
        contact: e164(CONTACT),
        from: None,
        status: CallStatus::NoAnswer,
        started_at: Timestamp::from_seconds(NOW),
        sid: "out-1".to_owned(),
        is_new: true,
    }
}

/// The ids of the calls that are known of the contact.
async fn known(engine: &Engine, environment: EnvironmentId) -> Vec<String> {
    let calls = engine.calls_to(environment, e164(CONTACT)).await;
    let calls = calls.expect("memory can be read");
    calls.iter().map(|call| call.sid.to_string()).collect()
}

/// While the log is away, calls are routed over HTTP and learned calls are kept; a start without the log goes on with
/// them, and the log has each once when it is back.
#[tokio::test]
async fn what_waits_for_the_log_outlives_a_restart_and_comes_once() {
    let clock = StillClock::at(NOW);
    let memory = MemoryJournal::default();
    memory.set_outbox(Vec::new());
    let node = open(&memory, &clock);
    let (here, source) = campaign(&node).await;
    memory.cut_off(true);
    let ticket = node
        .learned_over_sip(learned(here, source))
        .expect("known agent");
    let routed = node.submit(route(here, "in-1")).await.expect("it is kept");
    assert!(routed.decided.is_some());
    let again = node.submit(route(here, "in-1")).await.expect("it is known");
    assert!(again.decided.is_none());
    // A command that needs the log is refused, and so is one that would tell of a call that nobody knows.
    let contact = e164(CONTACT);
    let forget = ForgetContact {
        environment: here,
        contact,
        opt_out: false,
    };
    let refused = node.submit(forget).await;
    assert!(
        matches!(refused, Err(SubmitError::ClusterUnavailable)),
        "{refused:?}"
    );
    let unknown = ReportAnswered {
        environment: here,
        sid: "in-2".to_owned(),
    };
    let refused = node.submit(unknown).await;
    assert!(
        matches!(refused, Err(SubmitError::Rejected(_))),
        "{refused:?}"
    );
    let recorded = node.record_learned(here, &[ticket]).await;
    assert!(recorded.is_err(), "it waits");
    drop(node);
    let node = open(&memory, &clock);
    let again = node.submit(route(here, "in-1")).await.expect("it is known");
    assert!(again.decided.is_none(), "it counts already");
    let tickets = node.take_learned_before();
    assert_eq!(tickets.len(), 1);
    assert!(node.take_learned_before().is_empty());
    assert_eq!(node.waiting().calls, 2);
    memory.cut_off(false);
    let recorded = node
        .record_learned(here, &tickets)
        .await
        .expect("the log is back");
    assert!(recorded.unrecorded.is_empty());
    assert_eq!(known(&node, here).await, ["out-1"]);
    drop(node);
    let facts = memory.facts();
    let calls = |fact: &Change| match fact {
        Change::BatchRouted(batch) => batch.calls.len(),
        _ => 0,
    };
    assert_eq!(facts.iter().map(calls).sum::<usize>(), 1);
    let other = memory.beside();
    let other = open(&other, &clock);
    assert_eq!(known(&other, here).await, ["out-1"]);
    let again = other
        .submit(route(here, "in-1"))
        .await
        .expect("it is known");
    assert!(again.decided.is_none());
    let mut left = memory;
    let left = left.outbox().expect("it has one");
    assert!(left.is_empty(), "the log has everything");
}

/// A contact that was erased after a call to it was kept does not come back by it; one that is called again later does.
#[tokio::test]
async fn what_was_kept_of_a_contact_before_its_erasure_is_dropped() {
    let clock = StillClock::at(NOW);
    for (kept_at, is_left) in [(NOW - 10, false), (NOW + 59, false), (NOW + 61, true)] {
        let memory = MemoryJournal::default();
        let node = open(&memory, &clock);
        let (here, source) = campaign(&node).await;
        let forget = ForgetContact {
            environment: here,
            contact: e164(CONTACT),
            opt_out: false,
        };
        node.submit(forget).await.expect("it is forgotten");
        drop(node);
        let call = Call {
            environment: here,
            sid: "out-1".into(),
            agent: source,
            contact: e164(CONTACT),
            from: None,
            status: CallStatus::NoAnswer,
            started_at: Timestamp::from_seconds(NOW - 20),
        };
        memory.set_outbox(vec![Kept {
            at: Timestamp::from_seconds(kept_at),
            facts: vec![Change::CallPut(call)],
        }]);
        let node: Running = open(&memory, &clock);
        assert_eq!(!node.take_learned_before().is_empty(), is_left, "{kept_at}");
    }
}
