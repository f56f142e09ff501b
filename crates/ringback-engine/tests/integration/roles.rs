//! Roles, numbers and agents follow the rules.

use std::collections::BTreeMap;

use ringback_engine::{
    CommandError, ConstraintCheck, ConstraintProblem, DeleteAgent, DeleteEnvironment, DeleteNumber,
    Fault, Field, FieldProblem, ForgetContact, NewCall, Override, PublishAgent, RecordCalls,
    RemoveCallbackRole, ReportAnswered, RoleFields, RoleMode, RouteCall, SetCallbackRole,
    SetDefaultAgent, SubmitError, UpdateAgent, check_constraints,
};
use ringback_routing::{
    AgentId, AgentStatus, CallVia, Caller, Direction, EnvironmentId, Outcome, Placeholders,
    Question, Reason, Target, UserSet, decide,
};

use crate::support::{
    MemoryJournal, NOW, Running, StillClock, agent, e164, environment, number, open,
};

const DIALED: u64 = 551_140_000_001;
const CONTACT: u64 = 5_511_987_654_321;

async fn set(
    engine: &Running,
    environment: EnvironmentId,
    id: AgentId,
    mode: RoleMode,
    sources: &[AgentId],
) -> Result<AgentId, SubmitError> {
    let fields = RoleFields {
        source_agent_ids: sources.iter().copied().map(Some).collect(),
        ..RoleFields::default()
    };
    engine
        .submit(SetCallbackRole {
            environment,
            id,
            mode,
            fields,
        })
        .await
        .map(|agent| agent.id)
}

fn rejected<T>(error: CommandError) -> Result<T, SubmitError> {
    Err(SubmitError::Rejected(error))
}

async fn call(engine: &Running, environment: EnvironmentId, source: AgentId, from: Option<u64>) {
    let call = NewCall {
        agent: source,
        to: e164(CONTACT),
        from: from.map(e164),
        status: None,
        started_at: None,
        sid: None,
    };
    let results = engine
        .submit(RecordCalls {
            environment,
            calls: vec![call],
        })
        .await;
    results.expect("storage takes it")[0]
        .clone()
        .expect("recorded");
}

fn route(engine: &Running) -> (Outcome, Reason, Option<AgentId>) {
    let directory = engine.directory();
    let question = Question {
        dialed: Some(e164(DIALED)),
        caller: Caller::Number(e164(CONTACT)),
        is_verified: true,
        now: engine.now(),
        avoided: UserSet::NONE,
        usable: &|_: &Target, _: &Placeholders| true,
    };
    let decision = decide(&directory, engine.contacts(), &question).expect("storage works");
    (
        decision.outcome,
        decision.reason,
        decision.agent.map(|agent| agent.record.id),
    )
}

#[tokio::test]
async fn the_role_set_last_wins_and_survives_a_restart() {
    let memory = MemoryJournal::default();
    let clock = StillClock::at(NOW);
    let engine = open(&memory, &clock);
    let here = environment(&engine).await;
    let line = number(&engine, here, DIALED).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[line]).await;
    let one = agent(&engine, here, "one", Direction::Inbound, &[line]).await;
    let two = agent(&engine, here, "two", Direction::Inbound, &[line]).await;
    call(&engine, here, source, Some(DIALED)).await;
    let (outcome, reason, taken) = route(&engine);
    assert_eq!(
        (outcome, reason),
        (Outcome::Default, Reason::SourceHasNoCallbackAgent)
    );
    assert_eq!(taken, Some(one));
    for (last, mode) in [
        (one, RoleMode::Anew),
        (two, RoleMode::Anew),
        (one, RoleMode::Replace),
    ] {
        set(&engine, here, last, mode, &[source, source])
            .await
            .expect("set");
        let expected = (
            Outcome::Callback,
            Reason::ReturnedCallSameNumber,
            Some(last),
        );
        assert_eq!(route(&engine), expected);
    }
    drop(engine);
    let engine = open(&memory, &clock);
    assert_eq!(
        route(&engine),
        (Outcome::Callback, Reason::ReturnedCallSameNumber, Some(one))
    );
    clock.advance(30 * 24 * 60 * 60);
    assert_eq!(
        route(&engine).0,
        Outcome::Callback,
        "exactly as old as the window still counts"
    );
    clock.advance(1);
    assert_eq!(
        route(&engine),
        (Outcome::Default, Reason::CallExpired, Some(one))
    );
}

#[tokio::test]
async fn a_role_needs_inbound_and_published_outbound_sources() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let there = environment(&engine).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[]).await;
    let hidden = agent(&engine, here, "hidden", Direction::Outbound, &[]).await;
    let unpublish = PublishAgent {
        environment: here,
        id: hidden,
        status: AgentStatus::Draft,
    };
    engine.submit(unpublish).await.expect("unpublished");
    let foreign = agent(&engine, there, "foreign", Direction::Outbound, &[]).await;
    let taker = agent(&engine, here, "taker", Direction::Inbound, &[]).await;
    let anew = RoleMode::Anew;
    assert_eq!(
        set(&engine, here, source, anew, &[source]).await,
        rejected(CommandError::InvalidAgentDirection)
    );
    assert_eq!(
        set(&engine, there, taker, anew, &[source]).await,
        rejected(CommandError::AgentNotFound)
    );
    assert_eq!(
        set(&engine, here, taker, RoleMode::Replace, &[source]).await,
        rejected(CommandError::NoCallbackRole)
    );
    let wrong = set(
        &engine,
        here,
        taker,
        anew,
        &[source, hidden, foreign, taker],
    )
    .await;
    let faults = [
        (1, Fault::NotPublished),
        (2, Fault::Unknown),
        (3, Fault::NotOutbound),
    ];
    let problems = faults.map(|(index, fault)| FieldProblem {
        field: Field::SourceAgent(index),
        fault,
    });
    assert_eq!(wrong, rejected(CommandError::Invalid(problems.to_vec())));
    // An inbound draft: of two faults the first is reported.
    let unpublish = PublishAgent {
        environment: here,
        id: taker,
        status: AgentStatus::Draft,
    };
    engine.submit(unpublish).await.expect("unpublished");
    let removed = engine
        .submit(RemoveCallbackRole {
            environment: here,
            id: source,
        })
        .await;
    assert_eq!(removed, rejected(CommandError::InvalidAgentDirection));
    let directory = engine.directory();
    let check = ConstraintCheck {
        is_callback_agent: Some(true),
        source_agents: Some(vec![
            hidden.to_string(),
            foreign.to_string(),
            taker.to_string(),
        ]),
        trigger_statuses: Some(vec!["busy".to_owned(), "gone".to_owned()]),
    };
    let problems = check_constraints(&directory, here, source, &check).expect("it is there");
    assert_eq!(
        problems,
        [
            ConstraintProblem::NotInbound,
            ConstraintProblem::SourceNotPublished(hidden.to_string()),
            ConstraintProblem::SourceUnknown(foreign.to_string()),
            ConstraintProblem::SourceNotOutbound(taker.to_string()),
            ConstraintProblem::StatusUnknown("gone".to_owned()),
        ]
    );
}

#[tokio::test]
async fn deleting_a_source_empties_roles_and_forgets_its_calls() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let line = number(&engine, here, DIALED).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[line]).await;
    let other = agent(&engine, here, "other", Direction::Outbound, &[]).await;
    let taker = agent(&engine, here, "taker", Direction::Inbound, &[line]).await;
    set(&engine, here, taker, RoleMode::Anew, &[source, other])
        .await
        .expect("set");
    call(&engine, here, source, None).await;
    assert_eq!(route(&engine).1, Reason::ReturnedCall);
    let turn = UpdateAgent {
        environment: here,
        id: source,
        name: None,
        label: None,
        description: Override::Keep,
        direction: Some(Direction::Inbound),
        phone_number_ids: None,
        targets: None,
        external_ids: BTreeMap::new(),
        is_misread: false,
    };
    assert_eq!(
        engine.submit(turn).await,
        rejected(CommandError::AgentInCallbackUse)
    );
    let delete = DeleteAgent {
        environment: here,
        id: source,
    };
    assert_eq!(
        engine.submit(delete).await,
        rejected(CommandError::AgentIsPublished)
    );
    for (id, left) in [(source, Some(vec![other])), (other, None)] {
        let unpublish = PublishAgent {
            environment: here,
            id,
            status: AgentStatus::Draft,
        };
        engine.submit(unpublish).await.expect("unpublished");
        engine
            .submit(DeleteAgent {
                environment: here,
                id,
            })
            .await
            .expect("deleted");
        let directory = engine.directory();
        let role = &directory
            .agent_by_id(taker)
            .expect("it is there")
            .record
            .role;
        assert_eq!(role.as_ref().map(|role| role.source_agents.clone()), left);
    }
    assert_eq!(
        route(&engine),
        (Outcome::Default, Reason::CallerNeverCalled, Some(taker))
    );
    assert_eq!(engine.calls_to(here, e164(CONTACT)).await, Ok(Vec::new()));
}

#[tokio::test]
async fn numbers_are_unique_in_use_and_lose_their_default_with_its_agent() {
    let engine = open(&MemoryJournal::default(), &StillClock::at(NOW));
    let here = environment(&engine).await;
    let there = environment(&engine).await;
    let line = number(&engine, here, DIALED).await;
    let duplicate = ringback_engine::CreateNumber {
        environment: there,
        number: e164(DIALED),
        country: None,
    };
    assert_eq!(
        engine.submit(duplicate).await,
        rejected(CommandError::NumberAlreadyExists)
    );
    let one = agent(&engine, here, "one", Direction::Inbound, &[line]).await;
    let two = agent(&engine, here, "two", Direction::Inbound, &[line]).await;
    let source = agent(&engine, here, "source", Direction::Outbound, &[line]).await;
    assert_eq!(route(&engine).2, Some(one), "the first assigned");
    let choose = |agent| SetDefaultAgent {
        environment: here,
        id: line,
        agent: Override::Set(agent),
        is_misread: false,
    };
    let wrong = engine.submit(choose(source)).await;
    assert!(matches!(
        wrong,
        Err(SubmitError::Rejected(CommandError::Invalid(_)))
    ));
    engine.submit(choose(two)).await.expect("chosen");
    assert_eq!(route(&engine).2, Some(two));
    assert_eq!(
        engine
            .submit(DeleteNumber {
                environment: here,
                id: line
            })
            .await,
        rejected(CommandError::NumberInUse)
    );
    let unassign = UpdateAgent {
        environment: here,
        id: two,
        name: None,
        label: None,
        description: Override::Keep,
        direction: None,
        phone_number_ids: Some(Vec::new()),
        targets: None,
        external_ids: BTreeMap::new(),
        is_misread: false,
    };
    engine.submit(unassign).await.expect("unassigned");
    let directory = engine.directory();
    assert_eq!(
        directory
            .number_by_id(line)
            .expect("there")
            .record
            .default_agent,
        None
    );
    assert_eq!(route(&engine).2, Some(one));
    assert_eq!(
        engine.submit(DeleteEnvironment { id: here }).await,
        rejected(CommandError::EnvironmentNotEmpty)
    );
    engine
        .submit(DeleteEnvironment { id: there })
        .await
        .expect("it is empty");
}

/// An environment in which agent `source` called the contact, and agent `taker` takes the call back; returns all
/// three.
async fn called_back(engine: &Running) -> (EnvironmentId, AgentId, AgentId) {
    let here = environment(engine).await;
    let line = number(engine, here, DIALED).await;
    let source = agent(engine, here, "source", Direction::Outbound, &[line]).await;
    let taker = agent(engine, here, "taker", Direction::Inbound, &[line]).await;
    set(engine, here, taker, RoleMode::Anew, &[source])
        .await
        .expect("set");
    call(engine, here, source, None).await;
    (here, source, taker)
}

/// A call to the environment's number.
fn call_to(environment: EnvironmentId, caller: Caller, sid: &str) -> RouteCall {
    RouteCall {
        environment,
        dialed: Some(e164(DIALED)),
        caller,
        is_verified: true,
        sid: Some(sid.to_owned()),
        via: CallVia::Http,
        is_anew: false,
    }
}

#[tokio::test]
async fn routed_calls_count_once_per_sid_and_answered_ones_once() {
    let memory = MemoryJournal::default();
    let clock = StillClock::at(NOW);
    let engine = open(&memory, &clock);
    let (here, source, taker) = called_back(&engine).await;
    let ask = |caller, sid| call_to(here, caller, sid);
    let returned = Caller::Number(e164(CONTACT));
    let first = engine.submit(ask(returned, "x")).await.expect("routed");
    assert_eq!(first.sid, "x");
    assert_eq!(first.decision.reason, Reason::ReturnedCall);
    assert!(first.decision.call.is_some());
    let again = engine
        .submit(ask(Caller::Anonymous, "x"))
        .await
        .expect("routed");
    assert_eq!(
        again.decision, first.decision,
        "the same sid gets the same answer"
    );
    engine
        .submit(ask(Caller::Anonymous, "y"))
        .await
        .expect("routed");
    let directory = engine.directory();
    let question = Question {
        dialed: Some(e164(DIALED)),
        caller: returned,
        is_verified: true,
        now: engine.now(),
        avoided: UserSet::NONE,
        usable: &|_: &Target, _: &Placeholders| true,
    };
    let over_sip = decide(&directory, engine.contacts(), &question).expect("storage works");
    for _retransmitted in 0..2 {
        engine.decided_over_sip(
            CallVia::SipUdp,
            &over_sip,
            Some(e164(DIALED)),
            returned,
            b"z",
            engine.now(),
        );
    }
    // The call "z" used to be stored behind its answer if the answer came at once; after a restart the answer was
    // forgotten, and counted again.
    for sid in ["z", "x", "x", "z", "y"] {
        let answered = ReportAnswered {
            environment: here,
            sid: sid.to_owned(),
        };
        engine.submit(answered).await.expect("it is known");
    }
    engine.answered_over_sip(here, b"z", engine.now());
    let unknown = ReportAnswered {
        environment: here,
        sid: "w".to_owned(),
    };
    assert_eq!(
        engine.submit(unknown).await,
        rejected(CommandError::RoutedCallNotFound)
    );
    let day = i32::try_from(NOW / 86_400).expect("small");
    let check = |engine: &Running| {
        let statistics = engine.statistics(here, day, day);
        assert_eq!(
            (
                statistics.received,
                statistics.answered,
                statistics.unmatched
            ),
            (2, 2, 1)
        );
        assert_eq!(statistics.by_source.len(), 1);
        let by_source = &statistics.by_source[0];
        assert_eq!((by_source.source, by_source.count), (source, 2));
        assert_eq!(engine.agent_statistics(here, taker, day, day), (2, 2));
        assert_eq!(engine.statistics(here, day + 1, day + 9).received, 0);
    };
    check(&engine);
    assert_eq!(engine.decisions(here, 10).len(), 4);
    drop(directory);
    drop(engine);
    let engine = open(&memory, &clock);
    check(&engine);
    let known = ReportAnswered {
        environment: here,
        sid: "z".to_owned(),
    };
    engine
        .submit(known.clone())
        .await
        .expect("known after a restart");
    check(&engine);
    clock.advance(24 * 60 * 60 + 1);
    assert_eq!(
        engine.submit(known).await,
        rejected(CommandError::RoutedCallNotFound),
        "known for a day"
    );
}

#[tokio::test]
async fn what_was_decided_for_an_erased_contact_is_answered_again_without_it() {
    let memory = MemoryJournal::default();
    let clock = StillClock::at(NOW);
    let engine = open(&memory, &clock);
    let (here, ..) = called_back(&engine).await;
    let ask = |caller, sid| call_to(here, caller, sid);
    let contact = e164(CONTACT);
    let other = Caller::Number(e164(5_511_900_000_009));
    let first = engine.submit(ask(Caller::Number(contact), "x")).await;
    let first = first.expect("routed").decision;
    assert!(first.is_about(contact));
    let others = engine.submit(ask(other, "y")).await.expect("routed");
    let forget = ForgetContact {
        environment: here,
        contact,
        opt_out: false,
    };
    engine.submit(forget).await.expect("forgotten");
    drop(engine);
    for _restarted in 0..2 {
        let engine = open(&memory, &clock);
        let again = engine.submit(ask(Caller::Anonymous, "x")).await;
        let again = again.expect("routed");
        assert_eq!(again.decided, None, "it counts once");
        assert_eq!(*again.decision, first.without_contact());
        assert!(!again.decision.is_about(contact));
        assert_eq!((&again.decision.call, again.decision.caller), (&None, None));
        let same = engine.submit(ask(other, "y")).await.expect("routed");
        assert_eq!(same.decision, others.decision);
    }
}
