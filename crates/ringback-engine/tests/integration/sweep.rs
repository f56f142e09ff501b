//! The hourly sweep drops what is older than every window, and nothing else.

use std::ops::ControlFlow;

use ringback_engine::{
    Archive, AuditAction, Audited, Clock, CreateEnvironment, DeleteAgent, DeleteEnvironment,
    Journal, NewCall, NewOptOut, OptOutContacts, Origin, PublishAgent, RecordCalls, Via,
};
use ringback_routing::{AgentId, AgentStatus, Direction, EnvironmentId, Timestamp};
use ringback_testkit::Load;

use crate::support::{MemoryJournal, NOW, Running, StillClock, agent, e164, environment, open};

/// Contacts in the order in which a sweep visits them.
const CONTACTS: [u64; 3] = [5_511_987_650_050, 5_511_987_650_100, 5_511_987_650_150];

const DAY: i64 = 24 * 60 * 60;

/// Records a call that started this many seconds after [`NOW`].
async fn record(
    engine: &Running,
    environment: EnvironmentId,
    agent: AgentId,
    contact: u64,
    sid: &str,
    after: i64,
) {
    let call = NewCall {
        agent,
        to: e164(contact),
        from: None,
        status: None,
        started_at: Some(Timestamp::from_seconds(NOW + after)),
        sid: Some(sid.into()),
    };
    let calls = RecordCalls {
        environment,
        calls: vec![call],
    };
    let recorded = engine.submit(calls).await.expect("storage takes the call");
    assert!(matches!(recorded.as_slice(), [Ok(_)]), "{recorded:?}");
}

/// Whether the journal has this call.
fn has(memory: &MemoryJournal, environment: EnvironmentId, sid: &str) -> bool {
    let call = memory.call(environment, sid);
    call.expect("readable").is_some()
}

/// Waits until the journal does not have this call any more.
async fn dropped(memory: &MemoryJournal, environment: EnvironmentId, sid: &str) {
    while has(memory, environment, sid) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn calls_older_than_every_window_are_dropped_and_others_stay() {
    let (memory, clock) = (MemoryJournal::default(), StillClock::at(NOW));
    let engine = open(&memory, &clock);
    let here = environment(&engine).await;
    let week = CreateEnvironment {
        name: "a week".to_owned(),
        default_country: None,
        number_form: None,
        recency_window_seconds: Some(7 * DAY.unsigned_abs()),
        target_template: None,
        fallback_targets: Vec::new(),
        is_misread: false,
    };
    let there = engine.submit(week).await.expect("made").id;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    let other = agent(&engine, there, "other", Direction::Outbound, &[]).await;
    let [first, _, last] = CONTACTS;
    record(&engine, here, source, first, "old", -23 * DAY - 1).await;
    record(&engine, here, source, first, "young", -23 * DAY).await;
    record(&engine, there, other, first, "old there", -DAY).await;
    record(&engine, here, source, last, "last", -24 * DAY).await;
    // A window of thirty days, and one day more.
    clock.advance(8 * DAY);
    dropped(&memory, here, "last").await;
    assert!(!has(&memory, here, "old") && !has(&memory, there, "old there"));
    assert!(has(&memory, here, "young"));
}

#[tokio::test]
async fn calls_of_deleted_agents_are_dropped_also_if_their_environment_is_gone() {
    let (memory, clock) = (MemoryJournal::default(), StillClock::at(NOW));
    let engine = open(&memory, &clock);
    let here = environment(&engine).await;
    let there = environment(&engine).await;
    let keeper = agent(&engine, here, "keeper", Direction::Outbound, &[]).await;
    let [first, second, last] = CONTACTS;
    record(&engine, here, keeper, second, "kept", 0).await;
    for (environment, contact) in [(there, first), (here, last)] {
        let id = agent(&engine, environment, "deleted", Direction::Outbound, &[]).await;
        record(&engine, environment, id, contact, "a", 0).await;
        let unpublish = PublishAgent {
            environment,
            id,
            status: AgentStatus::Draft,
        };
        engine.submit(unpublish).await.expect("a draft");
        let delete = DeleteAgent { environment, id };
        engine.submit(delete).await.expect("deleted");
    }
    let remove = DeleteEnvironment { id: there };
    engine.submit(remove).await.expect("removed");
    clock.advance(60 * 60);
    dropped(&memory, here, "a").await;
    assert!(!has(&memory, there, "a"));
    assert!(has(&memory, here, "kept"));
}

#[tokio::test]
async fn calls_of_an_environment_that_is_made_during_a_sweep_stay() {
    let (memory, clock) = (MemoryJournal::default(), StillClock::at(NOW));
    let engine = open(&memory, &clock);
    let here = environment(&engine).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    let [first, second, last] = CONTACTS;
    record(&engine, here, source, last, "last", -31 * DAY).await;
    memory.hold_load(Load::Read);
    let before = memory.position();
    clock.advance(60 * 60);
    // A sweep drops events first, and has seen the directory by then.
    while memory.position() == before {
        tokio::task::yield_now().await;
    }
    let newcomer = agent(&engine, here, "newcomer", Direction::Outbound, &[]).await;
    record(&engine, here, newcomer, first, "newcomer's", -60).await;
    let new = environment(&engine).await;
    let agent = agent(&engine, new, "agent", Direction::Outbound, &[]).await;
    record(&engine, new, agent, second, "new", -60).await;
    memory.hold_load(Load::Done);
    dropped(&memory, here, "last").await;
    assert!(has(&memory, here, "newcomer's"));
    assert!(has(&memory, new, "new"));
}

/// Identifiers of entries are made by the clock of the machine, so the engine's clock is centuries before or behind it.
#[tokio::test]
async fn audit_entries_older_than_their_days_are_dropped_and_others_stay() {
    let origin = Origin {
        token: None,
        via: Via::Api,
        request_id: "request".into(),
    };
    let (memory, clock) = (
        MemoryJournal::default(),
        StillClock::at(NOW - 30 * 365 * DAY),
    );
    let engine = open(&memory, &clock);
    let made = Audited {
        origin,
        command: CreateEnvironment {
            name: "audited".to_owned(),
            default_country: None,
            number_form: None,
            recency_window_seconds: None,
            target_template: None,
            fallback_targets: Vec::new(),
            is_misread: false,
        },
    };
    let here = engine.submit(made).await.expect("storage takes it").id;
    let entries = || {
        let mut found = Vec::new();
        let visited = engine.visit_audit(None, &mut |entry| {
            found.push((entry.action, entry.environment, entry.at));
            ControlFlow::Continue(())
        });
        visited.expect("readable");
        found
    };
    let entry = (AuditAction::Create, Some(here), clock.now());
    assert_eq!(entries(), [entry]);
    // A sweep by a clock that says 400 days before, and one by a clock that says more.
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    record(&engine, here, source, CONTACTS[0], "old", -30 * 365 * DAY).await;
    clock.advance(400 * DAY);
    dropped(&memory, here, "old").await;
    assert_eq!(entries(), [entry]);
    clock.advance(300 * 365 * DAY);
    while !entries().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn opt_outs_that_are_over_are_dropped_and_others_stay() {
    let (memory, clock) = (MemoryJournal::default(), StillClock::at(NOW));
    let engine = open(&memory, &clock);
    let here = environment(&engine).await;
    let until = |after: i64| Some(Timestamp::from_seconds(NOW + after));
    // More than one fact's worth are over.
    let over = (0..300).map(|number| (5_511_987_000_000 + number, until(60)));
    let kept = [(CONTACTS[0], None), (CONTACTS[1], until(10 * DAY))];
    let contacts = over.chain(kept).map(|(contact, until)| NewOptOut {
        contact: e164(contact),
        reason: None,
        until,
    });
    let opt_outs = OptOutContacts {
        environment: here,
        contacts: contacts.collect(),
    };
    let noted = engine.submit(opt_outs).await.expect("storage takes them");
    assert!(noted.iter().all(Result::is_ok));
    let stored = || memory.directory().expect("readable").contact_rights.len();
    assert_eq!(stored(), 302);
    clock.advance(DAY);
    while stored() > 2 {
        tokio::task::yield_now().await;
    }
    let directory = engine.directory();
    for contact in &CONTACTS[..2] {
        assert!(directory.contact_rights(here, e164(*contact)).is_some());
    }
}
