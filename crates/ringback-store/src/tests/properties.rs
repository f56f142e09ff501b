//! Random commits, closings and crashes.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use ringback_engine::{
    Actor, AnswerId, AnsweredCall, AuditAction, AuditEntry, AuditId, AuditObject, BatchCall,
    BatchRoute, BatchesCounted, CallsSwept, Change, CountKey, CountKind, CountMark, ErasedHash,
    ErasureSecret, Journal, KeptAnswer, NamedAgent, ObjectType, RoutedBatch, RoutedCall,
    RoutedDecision, RoutedEvent, RoutedOverSip, Session, Tombstone, Via,
};
use ringback_routing::{
    Agent, AgentId, AgentStatus, Assignment, CallStatus, Caller, ContactHash, Direction, E164,
    Environment, EnvironmentId, NumberId, OptOut, Outcome, PhoneNumber, Reason, Timestamp, Token,
    TokenHash, TokenId,
};
use uuid::Uuid;

use super::{call, open, tiny};
use crate::Store;
use crate::log::HEADER_LENGTH;
use ringback_testkit::Model;

/// An action on a store.
#[derive(Clone, Debug)]
enum Event {
    /// A commit.
    Commit(Vec<Change>),
    /// The store is closed and opened.
    Reopen,
    /// Its process is killed and another one opens it.
    Crash,
}

/// One of three identifiers.
fn id() -> impl Strategy<Value = Uuid> {
    (0..3_u128).prop_map(Uuid::from_u128)
}

/// One of twenty instants.
fn instant() -> impl Strategy<Value = Timestamp> {
    (-3..13_i64).prop_map(Timestamp::from_millis)
}

/// The decision on a call of one of a few contacts, or of another caller.
fn decision(agent: Uuid, chance: u64) -> RoutedDecision {
    let contact = call(chance % 60).contact;
    RoutedDecision {
        outcome: Outcome::Callback,
        reason: Reason::ReturnedCall,
        agent: Some(NamedAgent {
            id: AgentId(agent),
            name: chance.to_string(),
        }),
        source_agent: None,
        call: chance.is_multiple_of(2).then(|| call(chance % 60)),
        targets: Vec::new(),
        dialed: None,
        caller: Some(match chance % 4 {
            0 => Caller::Anonymous,
            _ => Caller::Number(contact),
        }),
    }
}

/// Something that happened to an incoming call.
fn routed_event() -> impl Strategy<Value = RoutedEvent> {
    prop_oneof![
        (id(), any::<u64>(), instant(), proptest::option::of(id())).prop_map(
            |(environment, sid_hash, at, agent)| {
                RoutedEvent::Routed(RoutedCall {
                    environment: EnvironmentId(environment),
                    sid_hash,
                    at,
                    agent: agent.map(AgentId),
                    source: None,
                    decision: agent.map(|agent| Arc::new(decision(agent, sid_hash))),
                })
            }
        ),
        (id(), any::<u64>(), instant()).prop_map(|(environment, sid_hash, latest)| {
            RoutedEvent::RoutedOverSip(RoutedOverSip {
                environment: EnvironmentId(environment),
                agent: None,
                source: None,
                latest,
                calls: vec![(sid_hash, 1), (sid_hash, 2)],
            })
        }),
        (id(), any::<u64>(), instant()).prop_map(|(environment, sid_hash, at)| {
            RoutedEvent::Answered(AnsweredCall {
                environment: EnvironmentId(environment),
                sid_hash,
                at,
            })
        }),
    ]
}

/// A batch of SIP calls.
fn batch() -> impl Strategy<Value = RoutedBatch> {
    (
        0..9_u64,
        instant(),
        vec((id(), proptest::option::of(id())), 0..3),
    )
        .prop_map(|(number, latest, routes)| RoutedBatch {
            number,
            latest,
            calls: (0..routes.len())
                .map(|route| BatchCall {
                    sid_hash: number,
                    second: 1,
                    route: u32::try_from(route).unwrap(),
                })
                .collect(),
            routes: routes
                .into_iter()
                .map(|(environment, agent)| BatchRoute {
                    environment: EnvironmentId(environment),
                    agent: agent.map(AgentId),
                    source: None,
                    kind: agent.map(|_| CountKind::Unmatched),
                })
                .collect(),
        })
}

/// One of twelve counters.
fn counter() -> impl Strategy<Value = CountKey> {
    (id(), 0..2, any::<bool>()).prop_map(|(agent, day, answered)| CountKey {
        environment: EnvironmentId(Uuid::nil()),
        day,
        agent: AgentId(agent),
        source: None,
        kind: if answered {
            CountKind::Answered
        } else {
            CountKind::Unmatched
        },
    })
}

/// Counters raised by batches; some more than once.
fn batches_counted() -> impl Strategy<Value = BatchesCounted> {
    let partial = proptest::option::of((0..9_u64, counter()));
    (vec((counter(), 1..5_u64), 0..4), 0..9_u64, partial).prop_map(|(growth, complete, partial)| {
        BatchesCounted {
            growth,
            mark: CountMark { complete, partial },
        }
    })
}

/// One of nine assignments.
fn assignment() -> impl Strategy<Value = Assignment> {
    (id(), id()).prop_map(|(number, agent)| Assignment {
        number: NumberId(number),
        agent: AgentId(agent),
    })
}

/// Any change.
pub(super) fn change() -> impl Strategy<Value = Change> {
    let call_put = (0..60_u64, 0..8_u8).prop_map(|(number, rank)| {
        let mut call = call(number);
        call.status = CallStatus::from_rank(rank);
        Change::CallPut(call)
    });
    prop_oneof![
        8 => call_put,
        2 => (0..2_u128, 0..5_u64).prop_map(|(environment, contact)| Change::ContactForgotten(
            EnvironmentId(Uuid::from_u128(environment)),
            E164::from_digits(5_511_900_000_000 + contact).unwrap(),
        )),
        1 => (0..2_u128, -3..30_i64, vec(0..5_u64, 0..5)).prop_map(|(environment, before, contacts)| {
            Change::CallsSwept(CallsSwept {
                environment: EnvironmentId(Uuid::from_u128(environment)),
                before: Timestamp::from_millis(before),
                contacts: contacts
                    .into_iter()
                    .map(|contact| E164::from_digits(5_511_900_000_000 + contact).unwrap())
                    .collect(),
            })
        }),
        1 => instant().prop_map(Change::RoutedSwept),
        2 => (counter(), 1..5_u64)
            .prop_map(|(counter, increment)| Change::Counted(counter, increment)),
        1 => batch().prop_map(Change::BatchRouted),
        1 => batches_counted().prop_map(Change::BatchesCounted),
        1 => vec(routed_event(), 0..4).prop_map(Change::Routed),
        1 => (id(), ".{0,3}").prop_map(|(id, name)| Change::EnvironmentPut(Environment {
            id: EnvironmentId(id),
            name,
            default_country: None,
            number_form: ringback_routing::NumberForm::National,
            recency_window_seconds: 1,
            target_template: None,
            fallback_targets: Vec::new(),
            held_targets: Vec::new(),
            created_at: Timestamp::from_millis(0),
        })),
        1 => id().prop_map(|id| Change::EnvironmentRemoved(EnvironmentId(id))),
        2 => (id(), id(), ".{0,3}").prop_map(|(id, environment, name)| Change::AgentPut(Agent {
            id: AgentId(id),
            environment: EnvironmentId(environment),
            name,
            label: String::new(),
            description: None,
            direction: Direction::Inbound,
            status: AgentStatus::Draft,
            phone_numbers: Vec::new(),
            targets: Vec::new(),
            external_ids: BTreeMap::new(),
            role: None,
            created_at: Timestamp::from_millis(0),
            updated_at: Timestamp::from_millis(0),
        })),
        1 => (id(), ".{0,3}").prop_map(|(id, name)| {
            Change::AgentRemoved(EnvironmentId(Uuid::nil()), AgentId(id), name)
        }),
        1 => (id(), 0..3_u64).prop_map(|(id, number)| Change::NumberPut(PhoneNumber {
            id: NumberId(id),
            environment: EnvironmentId(Uuid::nil()),
            number: E164::from_digits(5_511_300_000_000 + number).unwrap(),
            country: None,
            default_agent: None,
            created_at: Timestamp::from_millis(0),
        })),
        2 => assignment().prop_map(Change::Assigned),
        1 => assignment().prop_map(Change::Unassigned),
        1 => (id(), prop::sample::subsequence(vec![0, 1, 2], 0..3)).prop_map(|(number, agents)| {
            let agents = agents.into_iter().rev();
            Change::OwnersSet(
                NumberId(number),
                agents.map(|agent| AgentId(Uuid::from_u128(agent))).collect(),
            )
        }),
        1 => id().prop_map(|id| {
            Change::NumberRemoved(EnvironmentId(Uuid::nil()), NumberId(id))
        }),
        2 => (id(), id(), any::<[u8; 32]>()).prop_map(|(id, environment, hash)| {
            Change::TokenPut(Token {
                id: TokenId(id),
                environment: EnvironmentId(environment),
                name: None,
                masked: hash[0].is_multiple_of(2),
                hash: TokenHash(hash),
                created_at: Timestamp::from_millis(0),
            })
        }),
        1 => id().prop_map(|id| Change::TokenRemoved(EnvironmentId(Uuid::nil()), TokenId(id))),
        2 => (0..40_u128, proptest::option::of(id())).prop_map(|(id, environment)| {
            // Two entries for each millisecond.
            Change::Audited(Box::new(AuditEntry {
                id: AuditId(Uuid::from_u128(((id / 2) << 80) | (id % 2))),
                at: Timestamp::from_millis(0),
                environment: environment.map(EnvironmentId),
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
                request_id: "request".into(),
            }))
        }),
        1 => any::<u8>().prop_map(|byte| Change::ErasureSecretSet(ErasureSecret([byte; 16]))),
        2 => (0..3_u8, 0..9_i64).prop_map(|(hash, at)| {
            Change::Erased(Tombstone {
                hash: ErasedHash([hash; 16]),
                at: Timestamp::from_millis(at),
            })
        }),
        2 => (0..3_u8, proptest::option::of(0..9_i64)).prop_map(|(number, until)| {
            let (environment, contact) = asking(number);
            let opt_out = OptOut {
                reason: until.map(|until| until.to_string().into()),
                until: until.map(Timestamp::from_millis),
                created_at: Timestamp::from_millis(i64::from(number)),
            };
            Change::OptedOut(environment, contact, opt_out)
        }),
        1 => (0..3_u8).prop_map(|number| {
            let (environment, contact) = asking(number);
            Change::OptOutEnded(environment, contact)
        }),
        2 => (0..3_u8, 0..9_i64).prop_map(|(number, from)| {
            let (environment, contact) = asking(number);
            Change::Reassigned(environment, contact, Timestamp::from_millis(from))
        }),
        2 => (0..3_u8, 0..3_u8, 0..40_usize).prop_map(|(id, at, length)| {
            Change::Answered(Box::new(KeptAnswer {
                id: AnswerId([id; 16]),
                at: Timestamp::from_millis(i64::from(at)),
                request: [at; 16],
                answer: vec![at; length],
            }))
        }),
        2 => (0..3_u8, id()).prop_map(|(cookie, token)| {
            Change::SessionPut(Box::new(Session {
                cookie: TokenHash([cookie; 32]),
                opened_with: TokenHash([7; 32]),
                token: Some((EnvironmentId(Uuid::nil()), TokenId(token))),
                chosen: None,
                csrf_token: String::new(),
                started_at: Timestamp::from_millis(0),
            }))
        }),
        1 => (0..3_u8).prop_map(|cookie| Change::SessionEnded(TokenHash([cookie; 32]))),
        1 => (-1..20_i64).prop_map(|before| Change::AuditSwept(Timestamp::from_millis(before))),
    ]
}

/// A contact that asks for something. Its hash is of its environment too, so it has one.
fn asking(number: u8) -> (EnvironmentId, ContactHash) {
    let environment = EnvironmentId(Uuid::from_u128(u128::from(number)));
    (environment, ContactHash([number; 16]))
}

/// Any event.
fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => vec(change(), 1..6).prop_map(Event::Commit),
        1 => Just(Event::Reopen),
        2 => Just(Event::Crash),
    ]
}

proptest! {
    #![proptest_config(super::cases())]

    #[test]
    fn what_was_committed_is_shown_whatever_happens(events in vec(event(), 1..60)) {
        let directory = super::scratch();
        let mut store = open(directory.path());
        let mut model = Model::default();
        for event in events {
            match event {
                Event::Commit(changes) => {
                    store.commit(&changes).unwrap();
                    model.commit(&changes);
                }
                Event::Reopen => {
                    store.close().unwrap();
                    store = open(directory.path());
                    model.assert_shown_by(&*store.archive());
                }
                Event::Crash => {
                    store.abandon();
                    drop(store);
                    store = open(directory.path());
                    model.assert_shown_by(&*store.archive());
                }
            }
        }
        model.assert_shown_by(&*store.archive());
    }

    #[test]
    fn a_torn_last_commit_is_there_whole_or_not_at_all(
        commits in vec(vec(change(), 1..5), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let directory = super::scratch();
        let settings = crate::StoreSettings::default();
        let mut store = Store::open(directory.path(), settings).unwrap();
        let segment = |directory: &std::path::Path| {
            let mut files: Vec<_> = fs::read_dir(directory.join("log"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
                .collect();
            prop_assert_eq!(files.len(), 1);
            Ok(files.remove(0))
        };
        // The header is synced before the first commit, so no torn commit reaches into it; a cut there is damage.
        let mut before = HEADER_LENGTH;
        for commit in &commits {
            before = segment(directory.path())
                .map_or(HEADER_LENGTH, |path| fs::metadata(path).unwrap().len());
            store.commit(commit).unwrap();
        }
        store.abandon();
        drop(store);
        let path = segment(directory.path())?;
        let length = fs::metadata(&path).unwrap().len();
        let kept = before + cut.index(usize::try_from(length - before).unwrap() + 1) as u64;
        OpenOptions::new().write(true).open(&path).unwrap().set_len(kept).unwrap();

        let acknowledged = if kept == length { commits.len() } else { commits.len() - 1 };
        let mut expected = Model::after(&commits[..acknowledged]);
        let mut store = Store::open(directory.path(), tiny()).unwrap();
        expected.assert_shown_by(&*store.archive());
        // Writing goes on, and the part that was cut off does not come back.
        for commit in &commits {
            store.commit(commit).unwrap();
            expected.commit(commit);
        }
        store.abandon();
        drop(store);
        expected.assert_shown_by(&*open(directory.path()).archive());
    }
}
