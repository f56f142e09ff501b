//! Stored data stays readable: the bytes of every kind of record are pinned, and directories of older versions
//! are opened.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringback_engine::{
    Actor, AgentView, AnswerId, AnsweredCall, AuditAction, AuditEntry, AuditId, AuditObject,
    AuditState, BatchCall, BatchRoute, BatchesCounted, Call, CallsSwept, Change, CountKey,
    CountKind, CountMark, ErasedHash, ErasureSecret, Journal, KeptAnswer, LogPlace, NamedAgent,
    NumberView, ObjectType, OwnerView, RoutedBatch, RoutedCall, RoutedDecision, RoutedEvent,
    RoutedOverSip, Session, Tombstone, Via,
};
use ringback_routing::{
    Agent, AgentId, AgentStatus, Assignment, CallStatus, CallbackRole, Caller, Connector,
    ConnectorId, ConnectorSecret, ContactHash, Dialect, Direction, E164, Environment,
    EnvironmentId, NumberForm, NumberId, OptOut, Outcome, PhoneNumber, Reason, Target, Timestamp,
    Token, TokenHash, TokenId,
};
use ringback_testkit::{Shown, copy_folder, routed_since};
use uuid::Uuid;

use crate::batch::{write_batch, write_mark};
use crate::key;
use crate::stored::place::write_place;
use crate::stored::{log_record, routed};
use crate::{OpenStoreError, Store};

/// A file of the fixtures of stored data.
pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/store")
        .join(name)
}

/// An identifier.
fn id(byte: u8) -> Uuid {
    Uuid::from_bytes([byte; 16])
}

/// A number.
fn number(digits: u64) -> E164 {
    E164::from_digits(digits).unwrap()
}

/// A target.
fn target() -> Target {
    Target {
        uri: "sip:{dialed}@192.0.2.1".to_owned(),
        priority: 10,
        weight: 300,
    }
}

/// A call.
fn call() -> Call {
    Call {
        environment: EnvironmentId(id(1)),
        sid: "outbound-1".into(),
        agent: AgentId(id(2)),
        // The spelling that is not the subscriber's.
        contact: number(5_215_555_550_142),
        from: Some(number(551_130_000_000)),
        status: CallStatus::Completed,
        started_at: Timestamp::from_millis(1_800_000_000_123),
    }
}

/// The decision on a call.
fn decision() -> RoutedDecision {
    let named = |byte, name: &str| NamedAgent {
        id: AgentId(id(byte)),
        name: name.to_owned(),
    };
    RoutedDecision {
        outcome: Outcome::Callback,
        reason: Reason::ReturnedCallSameNumber,
        agent: Some(named(4, "taker")),
        source_agent: Some(named(2, "source")),
        call: Some(call()),
        targets: vec![target()],
        dialed: Some(number(551_130_000_000)),
        caller: Some(Caller::Number(number(525_555_550_142))),
    }
}

/// An audit entry about an object in these states.
fn audited(kind: ObjectType, before: Option<AuditState>, after: Option<AuditState>) -> Change {
    Change::Audited(Box::new(AuditEntry {
        id: AuditId(id(7)),
        at: Timestamp::from_millis(1_800_000_000_009),
        environment: Some(EnvironmentId(id(1))),
        actor: Actor::Token {
            id: TokenId(id(6)),
            name: Some("PBX".to_owned()),
        },
        via: Via::Cli,
        action: AuditAction::Update,
        object: AuditObject {
            kind,
            id: Some(id(4)),
            name: Some("taker".to_owned()),
        },
        before,
        after,
        request_id: "request".into(),
    }))
}

/// One change of every kind, each with every field set, and some with as few as possible.
fn changes() -> Vec<(&'static str, Change)> {
    let environment = Environment {
        id: EnvironmentId(id(1)),
        name: "Acme \u{1f600}".to_owned(),
        default_country: "BR".parse().ok(),
        number_form: NumberForm::E164,
        recency_window_seconds: 86_400,
        target_template: Some("sip:{agent_id}@agents.example.com".to_owned()),
        fallback_targets: vec![target()],
        held_targets: Vec::new(),
        created_at: Timestamp::from_millis(1_800_000_000_001),
    };
    let bare_environment = Environment {
        default_country: None,
        number_form: NumberForm::National,
        target_template: None,
        fallback_targets: Vec::new(),
        ..environment.clone()
    };
    let agent = Agent {
        id: AgentId(id(4)),
        environment: EnvironmentId(id(1)),
        name: "taker".to_owned(),
        label: "Takes \"calls\"".to_owned(),
        description: Some("of Acme".to_owned()),
        direction: Direction::Inbound,
        status: AgentStatus::Published,
        phone_numbers: vec![NumberId(id(5))],
        targets: vec![target()],
        external_ids: BTreeMap::new(),
        role: Some(CallbackRole {
            source_agents: vec![AgentId(id(2)), AgentId(id(3))],
            recency_window_seconds: Some(3_600),
            trigger_statuses: vec![CallStatus::NoAnswer, CallStatus::Busy],
            hours: None,
            set_sequence: 7,
        }),
        created_at: Timestamp::from_millis(1_800_000_000_002),
        updated_at: Timestamp::from_millis(1_800_000_000_003),
    };
    let bare_agent = Agent {
        description: None,
        direction: Direction::Outbound,
        status: AgentStatus::Draft,
        phone_numbers: Vec::new(),
        targets: Vec::new(),
        role: None,
        ..agent.clone()
    };
    let owned = PhoneNumber {
        id: NumberId(id(5)),
        environment: EnvironmentId(id(1)),
        number: number(551_130_000_000),
        country: "BR".parse().ok(),
        default_agent: Some(AgentId(id(4))),
        created_at: Timestamp::from_millis(1_800_000_000_004),
    };
    let token = Token {
        id: TokenId(id(6)),
        environment: EnvironmentId(id(1)),
        name: Some("PBX".to_owned()),
        hash: TokenHash([0xab; 32]),
        masked: false,
        created_at: Timestamp::from_millis(1_800_000_000_005),
    };
    let bare_call = Call {
        from: None,
        contact: number(525_555_550_142),
        status: CallStatus::Initiated,
        ..call()
    };
    let bare_counter = CountKey {
        source: None,
        kind: CountKind::Unmatched,
        ..counter()
    };
    vec![
        (
            "environment put",
            Change::EnvironmentPut(environment.clone()),
        ),
        (
            "environment put, bare",
            Change::EnvironmentPut(bare_environment),
        ),
        (
            "environment removed",
            Change::EnvironmentRemoved(EnvironmentId(id(1))),
        ),
        ("token put", Change::TokenPut(token)),
        (
            "token removed",
            Change::TokenRemoved(EnvironmentId(id(1)), TokenId(id(6))),
        ),
        (
            "connector put",
            Change::ConnectorPut(Box::new(Connector {
                id: ConnectorId(id(12)),
                environment: EnvironmentId(id(1)),
                dialect: Dialect::Twilio,
                name: Some("carrier".to_owned()),
                key: TokenHash([0xab; 32]),
                previous_key: Some((
                    TokenHash([0xcd; 32]),
                    Timestamp::from_millis(1_800_000_000_016),
                )),
                secret: Some(ConnectorSecret("12345".to_owned())),
                options: "{}".to_owned(),
                on_nothing: "{\"action\":\"reject\"}".to_owned(),
                created_at: Timestamp::from_millis(1_800_000_000_015),
            })),
        ),
        (
            "connector removed",
            Change::ConnectorRemoved(EnvironmentId(id(1)), ConnectorId(id(12))),
        ),
        ("agent put", Change::AgentPut(agent.clone())),
        ("agent put, bare", Change::AgentPut(bare_agent)),
        (
            "agent removed",
            Change::AgentRemoved(EnvironmentId(id(1)), AgentId(id(4)), "taker".to_owned()),
        ),
        ("number put", Change::NumberPut(owned.clone())),
        (
            "number removed",
            Change::NumberRemoved(EnvironmentId(id(1)), NumberId(id(5))),
        ),
        ("call put", Change::CallPut(call())),
        ("call put, bare", Change::CallPut(bare_call)),
        (
            "contact forgotten",
            Change::ContactForgotten(EnvironmentId(id(1)), number(525_555_550_142)),
        ),
        ("routed", Change::Routed(events())),
        ("counted", Change::Counted(counter(), 300)),
        ("counted, bare", Change::Counted(bare_counter, 1)),
        ("batch routed", Change::BatchRouted(batch())),
        ("batches counted", Change::BatchesCounted(batches_counted())),
        (
            "calls swept",
            Change::CallsSwept(CallsSwept {
                environment: EnvironmentId(id(1)),
                before: Timestamp::from_seconds(1_800_000_000),
                contacts: vec![number(525_555_550_142), number(551_130_000_000)],
            }),
        ),
        (
            "routed swept",
            Change::RoutedSwept(Timestamp::from_millis(1_800_000_000_008)),
        ),
        (
            "audited, agent and role",
            audited(
                ObjectType::Agent,
                agent.role.clone().map(AuditState::Role),
                Some(AuditState::Agent(AgentView {
                    agent,
                    phone_numbers: vec![owned.clone()],
                })),
            ),
        ),
        (
            "audited, number and environment",
            audited(
                ObjectType::Number,
                Some(AuditState::Environment(environment)),
                Some(AuditState::Number(NumberView {
                    number: owned,
                    agents: vec![OwnerView {
                        id: AgentId(id(4)),
                        name: "taker".to_owned(),
                        direction: Direction::Inbound,
                    }],
                })),
            ),
        ),
        (
            "audited, token",
            audited(
                ObjectType::Token,
                None,
                Some(AuditState::Token {
                    id: TokenId(id(6)),
                    name: None,
                    masked: false,
                    created_at: Timestamp::from_millis(1_800_000_000_005),
                }),
            ),
        ),
        (
            "audited, bare",
            Change::Audited(Box::new(AuditEntry {
                id: AuditId(id(7)),
                at: Timestamp::from_millis(1_800_000_000_009),
                environment: None,
                actor: Actor::Administrator,
                via: Via::Api,
                action: AuditAction::Backup,
                object: AuditObject {
                    kind: ObjectType::Cluster,
                    id: None,
                    name: None,
                },
                before: None,
                after: None,
                request_id: "".into(),
            })),
        ),
        (
            "audit swept",
            Change::AuditSwept(Timestamp::from_millis(1_800_000_000_010)),
        ),
        (
            "answered",
            Change::Answered(Box::new(KeptAnswer {
                id: AnswerId([0x0a; 16]),
                at: Timestamp::from_millis(1_800_000_000_011),
                request: [0x0b; 16],
                answer: vec![1, 2, 3],
            })),
        ),
        (
            "session put",
            Change::SessionPut(Box::new(Session {
                cookie: TokenHash([0xcd; 32]),
                opened_with: TokenHash([0xab; 32]),
                token: Some((EnvironmentId(id(1)), TokenId(id(6)))),
                chosen: None,
                csrf_token: "csrf".to_owned(),
                started_at: Timestamp::from_millis(1_800_000_000_011),
            })),
        ),
        (
            "session put, administrator",
            Change::SessionPut(Box::new(Session {
                cookie: TokenHash([0xcd; 32]),
                opened_with: TokenHash([0xab; 32]),
                token: None,
                chosen: Some(EnvironmentId(id(1))),
                csrf_token: "csrf".to_owned(),
                started_at: Timestamp::from_millis(1_800_000_000_011),
            })),
        ),
        ("session ended", Change::SessionEnded(TokenHash([0xcd; 32]))),
        (
            "erasure secret set",
            Change::ErasureSecretSet(ErasureSecret([0x0c; 16])),
        ),
        (
            "erased",
            Change::Erased(Tombstone {
                hash: ErasedHash([0x0d; 16]),
                at: Timestamp::from_millis(1_800_000_000_012),
            }),
        ),
        (
            "opted out",
            Change::OptedOut(
                EnvironmentId(id(1)),
                ContactHash([0x0e; 16]),
                OptOut {
                    reason: Some("sms.stop".into()),
                    until: Some(Timestamp::from_millis(1_800_000_000_014)),
                    created_at: Timestamp::from_millis(1_800_000_000_013),
                },
            ),
        ),
        (
            "opted out, for good",
            Change::OptedOut(
                EnvironmentId(id(1)),
                ContactHash([0x0e; 16]),
                OptOut {
                    reason: None,
                    until: None,
                    created_at: Timestamp::from_millis(1_800_000_000_013),
                },
            ),
        ),
        (
            "opt-out ended",
            Change::OptOutEnded(EnvironmentId(id(1)), ContactHash([0x0e; 16])),
        ),
        (
            "reassigned",
            Change::Reassigned(
                EnvironmentId(id(1)),
                ContactHash([0x0e; 16]),
                Timestamp::from_seconds(1_800_000_000),
            ),
        ),
        ("placed", Change::Placed(Some(place()))),
        ("placed, nowhere", Change::Placed(None)),
        ("assigned", Change::Assigned(assignment())),
        ("unassigned", Change::Unassigned(assignment())),
        (
            "owners set",
            Change::OwnersSet(NumberId(id(5)), vec![AgentId(id(4)), AgentId(id(2))]),
        ),
    ]
}

/// A place in a log that nodes share.
fn place() -> LogPlace {
    LogPlace {
        cluster: id(8),
        sequence: 1 << 40,
        chain: [9; 16],
    }
}

/// The assignment of a number to an agent.
fn assignment() -> Assignment {
    Assignment {
        number: NumberId(id(5)),
        agent: AgentId(id(4)),
    }
}

/// A counter.
fn counter() -> CountKey {
    CountKey {
        environment: EnvironmentId(id(1)),
        day: 20_000,
        agent: AgentId(id(4)),
        source: Some(AgentId(id(2))),
        kind: CountKind::Answered,
    }
}

/// A batch of SIP calls.
fn batch() -> RoutedBatch {
    RoutedBatch {
        number: 12,
        latest: Timestamp::from_millis(1_800_000_002_000),
        routes: vec![
            BatchRoute {
                environment: EnvironmentId(id(1)),
                agent: Some(AgentId(id(4))),
                source: Some(AgentId(id(2))),
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
            sid_hash: 5,
            second: 1_800_000_001,
            route: 1,
        }],
    }
}

/// Counters raised by batches.
fn batches_counted() -> BatchesCounted {
    BatchesCounted {
        growth: vec![(counter(), 300)],
        mark: CountMark {
            complete: 11,
            partial: Some((13, counter())),
        },
    }
}

/// One event of every kind.
fn events() -> Vec<RoutedEvent> {
    let routed = RoutedCall {
        environment: EnvironmentId(id(1)),
        sid_hash: 0x0123_4567_89ab_cdef,
        at: Timestamp::from_millis(1_800_000_000_006),
        agent: Some(AgentId(id(4))),
        source: Some(AgentId(id(2))),
        decision: Some(Arc::new(decision())),
    };
    let forgotten = RoutedCall {
        agent: None,
        source: None,
        decision: Some(Arc::new(decision().without_contact())),
        ..routed.clone()
    };
    let undecided = RoutedCall {
        decision: None,
        ..routed.clone()
    };
    vec![
        RoutedEvent::Routed(routed),
        RoutedEvent::Routed(forgotten),
        RoutedEvent::Routed(undecided),
        RoutedEvent::Answered(AnsweredCall {
            environment: EnvironmentId(id(1)),
            sid_hash: 1,
            at: Timestamp::from_millis(1_800_000_000_007),
        }),
        RoutedEvent::RoutedOverSip(RoutedOverSip {
            environment: EnvironmentId(id(1)),
            agent: Some(AgentId(id(4))),
            source: None,
            latest: Timestamp::from_millis(1_800_000_001_000),
            calls: vec![(2, 1_800_000_000), (3, 1_800_000_001)],
        }),
        RoutedEvent::Batch(batch()),
    ]
}

/// Every kind of record and its bytes.
fn records() -> Vec<(String, Vec<u8>)> {
    let mut records: Vec<(String, Vec<u8>)> = changes()
        .into_iter()
        .map(|(name, change)| {
            let bytes = log_record::write(&[change], Vec::new()).unwrap();
            (format!("log: {name}"), bytes)
        })
        .collect();
    let call = call();
    let sid_key = key::sid_key(&[9; 16], 3, &call.sid);
    let (mut call_key, mut call_value) = (Vec::new(), Vec::new());
    key::write_call_key(
        &mut call_key,
        3,
        call.contact,
        call.started_at,
        &call.sid,
        &sid_key,
    );
    key::write_call_value(&mut call_value, &call, 8);
    let chunk = key::creation(70, 2);
    let caller = number(525_555_550_142);
    let at = Timestamp::from_millis(1_800_000_000_006);
    let mut table = |name: &str, bytes: &[u8]| records.push((name.to_owned(), bytes.to_vec()));
    table("calls: key", &call_key);
    table("calls: value", &call_value);
    table("sids: key", &sid_key);
    table("sids: value", &key::sid_value(&call, 8));
    table(
        "decisions: key",
        &key::decision_key(3, Some(caller), &chunk, 4),
    );
    table(
        "decisions: key, forgotten",
        &key::decision_key(3, None, &chunk, 4),
    );
    table(
        "decisions: value",
        &routed::write_decision(&decision(), at).unwrap(),
    );
    table(
        "state: routed key",
        &key::routed_key(key::ROUTED, at, 70, 2),
    );
    table(
        "state: routed value",
        &routed::write_events(&events(), false, Vec::new()).unwrap(),
    );
    table(
        "state: batch value",
        &write_batch(&batch(), |id| u32::from(id.as_bytes()[0])),
    );
    table("state: count mark", &write_mark(&batches_counted().mark));
    table("state: count value", &key::count_value(300, 70));
    table("state: interned key", &key::interned_key(3));
    table("state: agent key", &key::record_key(key::AGENT, id(4)));
    table("state: assignment key", &key::assignment_key(&assignment()));
    table(
        "state: assignment value",
        &key::assignment_value(key::creation(70, 2), 3),
    );
    table("state: audit key", &key::audit_key(AuditId(id(7))));
    table("state: place value", &write_place(&place()));
    table(
        "state: tombstone key",
        &key::tombstone_key(ErasedHash([0x0d; 16])),
    );
    table(
        "state: opt-out key",
        &key::contact_rights_key(key::OPT_OUT, &ContactHash([0x0e; 16])),
    );
    table(
        "state: reassigned key",
        &key::contact_rights_key(key::REASSIGNED, &ContactHash([0x0e; 16])),
    );
    table("state: answer key", &key::answer_key(AnswerId([0x0a; 16])));
    table(
        "state: session key",
        &key::session_key(&TokenHash([0xcd; 32])),
    );
    table("state: erased key", &key::part_key(key::ERASED, (2, 15)));
    records
}

#[test]
fn the_bytes_of_every_kind_of_record_are_those_that_were_written_before() {
    let written: String = records()
        .into_iter()
        .map(|(name, bytes)| format!("{name} = {}\n", key::hex(&bytes)))
        .collect();
    let pinned = fs::read_to_string(fixture("records.txt")).unwrap();
    assert!(
        written == pinned,
        "stored bytes have changed; a change needs a version of its own. Now:\n{written}"
    );
}

#[test]
fn pinned_records_are_read_back() {
    let all: Vec<Change> = changes().into_iter().map(|(_, change)| change).collect();
    let bytes = log_record::write(&all, Vec::new()).unwrap();
    assert_eq!(log_record::read(&bytes).unwrap(), all);
    for length in 1..bytes.len() {
        // Only whole records are read, wherever the bytes are cut off.
        match log_record::read(&bytes[..length]) {
            Ok(read) => assert!(all.starts_with(&read) && read.len() < all.len()),
            Err(error) => assert!(error.contains("ends early"), "{error}"),
        }
    }
    let at = Timestamp::from_millis(6);
    let bytes = routed::write_decision(&decision(), at).unwrap();
    assert_eq!(routed::read_decision(&bytes), Some((at, decision())));
}

#[test]
fn a_record_of_a_newer_version_is_refused_by_its_number() {
    let (_, change) = changes().remove(0);
    let mut bytes = log_record::write(&[change], Vec::new()).unwrap();
    bytes[1] = 2;
    let error = log_record::read(&bytes).unwrap_err();
    assert!(error.contains("kind 1, version 2"), "{error}");
}

/// Opens a store and checks that it holds what `fixtures/store/write` writes.
pub(super) fn assert_written(directory: &Path) {
    let mut store = super::open(directory);
    let archive = store.archive();
    let stored = archive.directory().unwrap();
    let [acme, second] = stored.environments.as_slice() else {
        panic!("{:?}", stored.environments);
    };
    assert_eq!(
        (acme.name.as_str(), second.name.as_str()),
        ("acme", "second")
    );
    assert_eq!(acme.default_country.unwrap().code(), "BR");
    assert_eq!(acme.number_form, NumberForm::National);
    assert_eq!(acme.recency_window_seconds, 3_000_000_000);
    assert_eq!(
        acme.target_template.as_deref(),
        Some("sip:{agent_id}@agents.example.com")
    );
    assert_eq!(acme.fallback_targets[0].uri, "sip:fallback@192.0.2.9");
    let [source, taker] = stored.agents.as_slice() else {
        panic!("{:?}", stored.agents);
    };
    assert_eq!(
        (source.name.as_str(), taker.name.as_str()),
        ("source", "taker")
    );
    assert_eq!(source.direction, Direction::Outbound);
    assert_eq!(taker.direction, Direction::Inbound);
    assert_eq!(source.status, AgentStatus::Published);
    assert_eq!(taker.label, "relabeled");
    assert_eq!((taker.targets[0].priority, taker.targets[0].weight), (1, 2));
    let role = taker.role.as_ref().unwrap();
    assert_eq!(role.source_agents, [source.id]);
    assert_eq!(
        role.trigger_statuses,
        [CallStatus::NoAnswer, CallStatus::Busy]
    );
    assert_eq!(role.recency_window_seconds, Some(3_000_000_000));
    let [line] = stored.numbers.as_slice() else {
        panic!("{:?}", stored.numbers);
    };
    assert_eq!(line.number, number(551_130_000_000));
    let owners: Vec<AgentId> = stored.assignments.iter().map(|one| one.agent).collect();
    assert_eq!(owners, [source.id, taker.id]);
    assert!(stored.assignments.iter().all(|one| one.number == line.id));
    assert_eq!(source.phone_numbers, [line.id]);
    assert_eq!(stored.tokens[0].name.as_deref(), Some("PBX"));
    assert_eq!(stored.departed.into_values().collect::<Vec<_>>(), ["gone"]);

    Shown::read(&*archive).assert_found_in(&*archive);
    for (sid, contact, status, millis) in [
        ("table-1", 5_511_987_654_321, CallStatus::NoAnswer, 123),
        ("table-2", 525_555_550_142, CallStatus::Completed, 1_000),
        ("log-1", 5_511_987_654_322, CallStatus::NoAnswer, 3_000),
    ] {
        let call = archive.call(acme.id, sid).unwrap().unwrap();
        assert_eq!(call.contact, number(contact));
        assert_eq!(call.from, Some(line.number));
        assert_eq!((call.agent, call.status), (source.id, status));
        assert_eq!(call.started_at.millis(), 1_767_225_600_000 + millis);
        assert_eq!(archive.calls_to(acme.id, call.contact).unwrap(), [call]);
    }
    assert_eq!(store.verify().unwrap(), 3, "an erased call came back");
    let events = routed_since(&*archive, Timestamp::from_millis(0));
    let (mut answered, mut over_sip) = (0, 0);
    let mut counts = archive.counts().unwrap();
    let mark = archive.count_mark().unwrap();
    for event in &events {
        match event {
            RoutedEvent::Answered(_) => answered += 1,
            RoutedEvent::RoutedOverSip(alike) => over_sip += alike.calls.len(),
            RoutedEvent::Batch(batch) => {
                over_sip += batch.calls.len();
                // A crash left this batch to be counted at the next start.
                for counter in batch.count_keys() {
                    if !mark.contains(batch.number, &counter) {
                        *counts.entry(counter).or_default() += 1;
                    }
                }
            }
            RoutedEvent::Routed(_) => {}
        }
    }
    assert_eq!((answered, over_sip), (2, 2));
    let counted = |kind| {
        let of_kind = counts.iter().filter(|(counter, _)| counter.kind == kind);
        of_kind.map(|(_, count)| count).sum::<u64>()
    };
    assert_eq!(counted(CountKind::Received), 4);
    assert_eq!(counted(CountKind::Answered), 2);
    store.abandon();
}

/// The first line of a directory's `FORMAT`.
fn format_line(directory: &Path) -> String {
    let text = fs::read_to_string(directory.join("FORMAT")).unwrap();
    text.lines().next().unwrap().to_owned()
}

#[test]
fn directories_of_every_format_are_opened() {
    for name in [
        "format-1-first",
        "format-1-second",
        "format-1-last",
        "format-2",
        "format-3",
        "format-3-audit",
    ] {
        let scratch = super::scratch();
        let directory = scratch.path().join("data");
        copy_folder(&fixture(name), &directory);
        assert_written(&directory);
        assert_eq!(format_line(&directory), "ringback-store 3", "{name}");
        let secrets = |path: PathBuf| {
            let text = fs::read_to_string(path.join("FORMAT")).unwrap();
            text.lines()
                .skip(1)
                .take(2)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(secrets(directory.clone()), secrets(fixture(name)));
        assert!(!directory.join("upgrade").exists());
        // And again, as any other directory.
        assert_written(&directory);
    }
}

#[test]
fn an_upgrade_that_was_broken_off_is_begun_anew_or_ended() {
    let scratch = super::scratch();
    let upgraded = scratch.path().join("upgraded");
    copy_folder(&fixture("format-1-last"), &upgraded);
    super::open(&upgraded).close().unwrap();
    for step in 0..6 {
        let directory = scratch.path().join(format!("broken off {step}"));
        copy_folder(&fixture("format-1-last"), &directory);
        let new = directory.join("upgrade");
        if step == 0 {
            // An unfinished folder is useless and is replaced.
            fs::create_dir_all(directory.join("upgrade.unfinished/tables/calls")).unwrap();
        } else {
            copy_folder(&upgraded, &new);
        }
        let moved: &[&str] = match step {
            2 => &["tables"],
            3 => &["tables", "log"],
            4 | 5 => &["tables", "log", "FORMAT"],
            _ => &[],
        };
        for name in moved {
            let old = directory.join(name);
            if old.is_dir() {
                fs::remove_dir_all(&old).unwrap();
            }
            fs::rename(new.join(name), old).unwrap();
        }
        if step == 5 {
            // A crash after the old data were removed, before the new ones were moved in.
            fs::copy(fixture("format-1-last/FORMAT"), directory.join("FORMAT")).unwrap();
            copy_folder(&upgraded, &new);
            fs::remove_dir_all(directory.join("tables")).unwrap();
        }
        assert_written(&directory);
        assert!(!new.exists());
        assert_eq!(format_line(&directory), "ringback-store 3");
    }
}

#[test]
fn assignments_that_were_made_of_lists_in_part_are_made_to_the_end() {
    let scratch = super::scratch();
    copy_folder(&fixture("format-2"), scratch.path());
    for closes in [false, true, false] {
        let mut store = super::open(scratch.path());
        if closes {
            store.close().unwrap();
        } else {
            store.abandon();
            drop(store);
        }
        // The process ended before the format was raised.
        fs::copy(fixture("format-2/FORMAT"), scratch.path().join("FORMAT")).unwrap();
    }
    assert_written(scratch.path());
    assert_eq!(format_line(scratch.path()), "ringback-store 3");
}

/// The log record of a number with the list of its owners, as in format 2.
#[test]
fn a_number_with_its_owners_is_read_as_two_changes() {
    let id = "05050505-0505-0505-0505-050505050505";
    let [environment, taker, other] = ["01", "04", "02"].map(|byte| id.replace("05", byte));
    let json = format!(
        r#"{{"id":"{id}","environment":"{environment}","number":551130000000,"country":"BR","agents":["{taker}","{other}"],"default_agent":"{taker}","created_at":1800000000004}}"#
    );
    let body = [&[1], json.as_bytes()].concat();
    let mut bytes = vec![7, 1];
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&body);
    let number_put = |name| {
        let mut all = changes().into_iter();
        all.find(|(other, _)| *other == name).unwrap().1
    };
    // The changes behind it keep their indexes.
    bytes.extend(log_record::write(&[number_put("counted")], Vec::new()).unwrap());
    let expected = [
        number_put("number put"),
        number_put("counted"),
        number_put("owners set"),
    ];
    assert_eq!(log_record::read(&bytes).unwrap(), expected);
}

#[test]
fn damage_in_a_directory_of_an_older_format_is_told_and_changes_nothing() {
    for damaged in ["tables/calls/tables/0", "log/00000000000000000019.log"] {
        let scratch = super::scratch();
        copy_folder(&fixture("format-1-last"), scratch.path());
        let path = scratch.path().join(damaged);
        let mut bytes = fs::read(&path).unwrap();
        bytes[100] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let opened = Store::open(scratch.path(), super::tiny());
        let Err(OpenStoreError::Damaged(message)) = opened else {
            panic!("{opened:?}");
        };
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert_eq!(format_line(scratch.path()), "ringback-store 1");
        // With the damage undone, it opens.
        bytes[100] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_written(scratch.path());
    }
}
