//! The requirements for every journal, in memory, in files, or on a log that several nodes share.
//!
//! A crate with a journal implements how it is opened and how it crashes ([`Rig`]), and runs all tests with
//! [`journal_battery!`](crate::journal_battery).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use ringback_engine::{
    Actor, AnswerId, AnsweredCall, AppendError, AuditAction, AuditEntry, AuditId, AuditObject,
    AuditState, BatchCall, BatchRoute, BatchesCounted, Call, CallsSwept, Change, CountKey,
    CountKind, CountMark, ErasedHash, ErasureSecret, Journal, KeptAnswer, LogPlace, NamedAgent,
    ObjectType, RoutedBatch, RoutedCall, RoutedDecision, RoutedEvent, Sequence, Session, Tombstone,
    Via,
};
use ringback_routing::{
    Agent, AgentId, AgentStatus, Assignment, CallStatus, CallbackRole, Caller, Connector,
    ConnectorId, ConnectorSecret, ContactHash, Dialect, Direction, E164, Environment,
    EnvironmentId, Hours, HoursSpec, NumberForm, NumberId, OptOut, Outcome, PhoneNumber, Reason,
    SpecialDay, Target, Timestamp, Token, TokenHash, TokenId, Week,
};
use uuid::Uuid;

use crate::model::{Model, Shown, routed_since};

/// Storage for one journal, empty at first.
pub trait Rig {
    /// The journal.
    type Journal: Journal;

    /// Opens the journal with everything that was committed to it.
    fn open(&mut self) -> Self::Journal;

    /// Ends a journal as a crash of its process would; its archives are dropped before.
    fn crash(&mut self, journal: Self::Journal);

    /// Ends a journal properly.
    fn close(&mut self, journal: Self::Journal) {
        drop(journal);
    }
}

/// Defines a test for each requirement; the argument makes a [`Rig`].
#[macro_export]
macro_rules! journal_battery {
    ($rig:expr) => {
        $crate::journal_battery!($rig;
            entries_come_out_once_in_order_and_as_they_went_in,
            a_stale_append_is_a_conflict_and_leaves_nothing,
            what_was_appended_survives_crashes_and_closings,
            what_was_appended_and_not_taken_comes_after_a_crash,
            every_kind_of_fact_is_read_back,
            facts_applied_again_change_nothing,
            counters_contain_every_entry_once,
            a_removed_environment_takes_its_tokens,
            owners_of_a_number_stand_in_the_order_of_assignment,
            an_erased_contact_leaves_nothing,
            routed_events_come_by_time_and_answers_behind_calls,
            a_sweep_drops_old_calls_of_the_contacts_that_it_names,
            a_sweep_of_events_keeps_batches_that_counters_lack,
            contacts_are_visited_once_in_any_number_of_parts,
        );
    };
    ($rig:expr; $($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                $crate::battery::$name(&mut $rig);
            }
        )*
    };
}

/// Appends facts as the next entry, and reads that entry back.
fn append(journal: &mut impl Journal, facts: &[Change]) -> Sequence {
    let mut list = facts.to_vec();
    let sequence = journal
        .append(journal.position(), &mut list)
        .expect("nothing fails");
    assert_eq!(list, [], "taken");
    let entry = journal.committed().expect("readable").expect("there");
    assert_eq!((entry.sequence, entry.facts.as_slice()), (sequence, facts));
    assert_eq!(journal.position(), sequence);
    assert_eq!(journal.committed().expect("readable"), None);
    sequence
}

/// Reads all entries of a journal, as an engine does when it starts.
fn take_all(journal: &mut impl Journal) {
    while let Some(entry) = journal.committed().expect("readable") {
        assert_eq!(journal.position(), entry.sequence);
    }
}

/// Opens the journal and reads all its entries.
fn open<R: Rig>(rig: &mut R) -> R::Journal {
    let mut journal = rig.open();
    take_all(&mut journal);
    journal
}

/// Every entry is returned once, behind all those before it, with the facts that were appended.
pub fn entries_come_out_once_in_order_and_as_they_went_in(rig: &mut impl Rig) {
    let mut journal = open(rig);
    let mut last = journal.position();
    for fact in samples() {
        let sequence = append(&mut journal, &[fact.clone(), fact]);
        assert!(sequence > last);
        last = sequence;
    }
    let all = samples();
    assert!(append(&mut journal, &all) > last);
    let last = journal.position();
    let nothing = journal.append(last, &mut Vec::new());
    assert_eq!(nothing.expect("nothing fails"), last);
    assert_eq!(journal.committed().expect("readable"), None);
    rig.crash(journal);
}

/// Facts checked on an older state are refused, remain in the caller's list, and leave no trace.
pub fn a_stale_append_is_a_conflict_and_leaves_nothing(rig: &mut impl Rig) {
    let mut journal = open(rig);
    let stale = journal.position();
    append(&mut journal, &[put_call("first", 1, 1)]);
    let mut late = vec![put_call("late", 2, 2)];
    let refused = journal.append(stale, &mut late);
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
    assert_eq!(late, [put_call("late", 2, 2)]);
    assert_eq!(journal.committed().expect("readable"), None);
    let model = Model::after([&vec![put_call("first", 1, 1)]]);
    model.assert_shown_by(&*journal.archive());
    rig.crash(journal);

    // The journal is not broken: after a new check the facts are accepted.
    let mut journal = open(rig);
    model.assert_shown_by(&*journal.archive());
    append(&mut journal, &late);
    let model = Model::after([&vec![put_call("first", 1, 1)], &late]);
    model.assert_shown_by(&*journal.archive());
    rig.crash(journal);
}

/// Sequences continue, and the archive shows everything, however a journal ended.
pub fn what_was_appended_survives_crashes_and_closings(rig: &mut impl Rig) {
    let mut model = Model::default();
    let mut last = None;
    for (round, fact) in samples().into_iter().enumerate() {
        let mut journal = open(rig);
        model.assert_shown_by(&*journal.archive());
        let entry = [fact, put_call(&round.to_string(), round as u64, 7)];
        let sequence = append(&mut journal, &entry);
        assert!(Some(sequence) > last);
        last = Some(sequence);
        model.commit(&entry);
        if round % 2 == 0 {
            rig.crash(journal);
        } else {
            rig.close(journal);
        }
    }
    let journal = open(rig);
    model.assert_shown_by(&*journal.archive());
    rig.crash(journal);
}

/// An entry is durable once `append` has returned, even if nobody has read it when the process ends.
pub fn what_was_appended_and_not_taken_comes_after_a_crash(rig: &mut impl Rig) {
    let mut journal = open(rig);
    let mut facts = vec![put_call("unseen", 1, 1), Change::Counted(counter(1), 3)];
    let model = Model::after([&facts]);
    let appended = journal.append(journal.position(), &mut facts);
    let sequence = appended.expect("nothing fails");
    rig.crash(journal);
    for _again in 0..2 {
        let journal = open(rig);
        assert_eq!(journal.position(), sequence);
        model.assert_shown_by(&*journal.archive());
        rig.crash(journal);
    }
}

/// The archive shows the result of each kind of fact, at once and after a crash, alone and with all others.
pub fn every_kind_of_fact_is_read_back(rig: &mut impl Rig) {
    let samples = samples();
    let mut kinds: Vec<_> = samples.iter().map(std::mem::discriminant).collect();
    kinds.dedup();
    assert_eq!(kinds.len(), KINDS, "a kind of fact has no sample");
    let mut model = Model::default();
    let mut journal = open(rig);
    for fact in samples {
        append(&mut journal, std::slice::from_ref(&fact));
        model.commit(std::slice::from_ref(&fact));
        model.assert_shown_by(&*journal.archive());
    }
    rig.crash(journal);
    let journal = open(rig);
    model.assert_shown_by(&*journal.archive());
    rig.close(journal);
    let journal = open(rig);
    model.assert_shown_by(&*journal.archive());
    rig.crash(journal);
}

/// Applying the same facts again changes nothing but counters and events, which each entry adds to.
pub fn facts_applied_again_change_nothing(rig: &mut impl Rig) {
    let mut facts = samples();
    facts.retain(|fact| {
        !matches!(
            fact,
            Change::Counted(..)
                | Change::BatchesCounted(_)
                | Change::Routed(_)
                | Change::BatchRouted(_)
        )
    });
    let mut journal = open(rig);
    append(&mut journal, &facts);
    let once = Shown::read(&*journal.archive());
    append(&mut journal, &facts);
    assert_eq!(Shown::read(&*journal.archive()), once);
    for fact in &facts {
        append(&mut journal, std::slice::from_ref(fact));
    }
    assert_eq!(Shown::read(&*journal.archive()), once);
    rig.crash(journal);
}

/// No entry is missing from the counters or in them twice, whenever the process ends.
pub fn counters_contain_every_entry_once(rig: &mut impl Rig) {
    let mut counts = BTreeMap::new();
    for round in 1..=20 {
        let mut journal = open(rig);
        let mark = CountMark {
            complete: round,
            partial: None,
        };
        let facts = [
            Change::Counted(counter(round % 3), round),
            Change::Counted(counter(1), 1),
            Change::BatchesCounted(BatchesCounted {
                growth: vec![(counter(round % 2), 10), (counter(2), 100)],
                mark,
            }),
        ];
        append(&mut journal, &facts);
        for (key, count) in [(round % 3, round), (1, 1), (round % 2, 10), (2, 100)] {
            *counts.entry(counter(key)).or_insert(0) += count;
        }
        let stored = journal.archive().counts().expect("readable");
        assert_eq!(stored.into_iter().collect::<BTreeMap<_, _>>(), counts);
        assert_eq!(journal.archive().count_mark().expect("readable"), mark);
        if round % 3 == 0 {
            rig.close(journal);
        } else {
            rig.crash(journal);
        }
    }
    let journal = open(rig);
    let stored = journal.archive().counts().expect("readable");
    assert_eq!(stored.into_iter().collect::<BTreeMap<_, _>>(), counts);
    rig.crash(journal);
}

/// Tokens end with their environment, also those of the same entry, and no others.
pub fn a_removed_environment_takes_its_tokens(rig: &mut impl Rig) {
    let mut journal = open(rig);
    let before = [
        Change::EnvironmentPut(environment(1)),
        Change::EnvironmentPut(environment(2)),
        Change::TokenPut(token(1, 1)),
        Change::TokenPut(token(2, 2)),
    ];
    append(&mut journal, &before);
    let removal = [
        Change::TokenPut(token(3, 1)),
        Change::EnvironmentRemoved(environment(1).id),
    ];
    append(&mut journal, &removal);
    let tokens = |journal: &dyn Journal| {
        let directory = journal.archive().directory().expect("readable");
        assert_eq!(directory.environments, [environment(2)]);
        directory.tokens
    };
    assert_eq!(tokens(&journal), [token(2, 2)]);
    rig.crash(journal);
    let mut journal = open(rig);
    assert_eq!(tokens(&journal), [token(2, 2)]);
    // They do not come back with a new environment of the same identifier.
    append(
        &mut journal,
        &[Change::EnvironmentRemoved(environment(2).id)],
    );
    append(&mut journal, &[Change::EnvironmentPut(environment(2))]);
    assert_eq!(tokens(&journal), []);
    rig.crash(journal);
}

/// An agent that is assigned again keeps its position; after an unassignment it comes last. Removing a number
/// removes its assignments.
pub fn owners_of_a_number_stand_in_the_order_of_assignment(rig: &mut impl Rig) {
    let mut journal = open(rig);
    let owners = |journal: &dyn Journal, line: u64| -> Vec<AgentId> {
        let directory = journal.archive().directory().expect("readable");
        let assignments = directory.assignments.into_iter();
        let of_number = assignments.filter(|one| one.number == number(line).id);
        of_number.map(|one| one.agent).collect()
    };
    let ids = |agents: &[u64]| -> Vec<AgentId> {
        agents.iter().map(|number| agent(*number).id).collect()
    };
    append(
        &mut journal,
        &[Change::NumberPut(number(1)), Change::NumberPut(number(2))],
    );
    append(
        &mut journal,
        &[
            Change::Assigned(assignment(1, 3)),
            Change::Assigned(assignment(1, 1)),
        ],
    );
    append(
        &mut journal,
        &[
            Change::Assigned(assignment(2, 1)),
            Change::Assigned(assignment(1, 2)),
        ],
    );
    append(
        &mut journal,
        &[
            Change::Assigned(assignment(1, 3)),
            Change::NumberPut(number(1)),
        ],
    );
    assert_eq!(owners(&journal, 1), ids(&[3, 1, 2]));
    rig.crash(journal);
    let mut journal = open(rig);
    let again = [
        Change::Unassigned(assignment(1, 1)),
        Change::Assigned(assignment(1, 1)),
        Change::Unassigned(assignment(1, 9)),
    ];
    append(&mut journal, &again);
    assert_eq!(owners(&journal, 1), ids(&[3, 2, 1]));
    append(
        &mut journal,
        &[Change::OwnersSet(number(1).id, ids(&[5, 1, 4, 3]))],
    );
    assert_eq!(owners(&journal, 1), ids(&[3, 1, 5, 4]));
    assert_eq!(owners(&journal, 2), ids(&[1]));
    rig.crash(journal);
    let mut journal = open(rig);
    assert_eq!(owners(&journal, 1), ids(&[3, 1, 5, 4]));
    let removal = [
        Change::Assigned(assignment(1, 6)),
        Change::NumberRemoved(environment(1).id, number(1).id),
    ];
    append(&mut journal, &removal);
    assert_eq!(owners(&journal, 1), []);
    assert_eq!(owners(&journal, 2), ids(&[1]));
    rig.crash(journal);
}

/// Calls to a contact are removed in both spellings, and its number is removed from decisions; other contacts
/// keep theirs.
pub fn an_erased_contact_leaves_nothing(rig: &mut impl Rig) {
    let spellings = [5_215_555_550_142, 525_555_550_142].map(e164);
    let calls = || {
        let mut calls = Vec::new();
        for (index, contact) in spellings.into_iter().enumerate() {
            for home in 1..=2 {
                calls.push(Call {
                    environment: environment(home).id,
                    contact,
                    ..call(&format!("{index}-{home}"), 1, 1)
                });
            }
        }
        calls.push(call("other", 3, 1));
        calls
    };
    let mut facts: Vec<Change> = calls().into_iter().map(Change::CallPut).collect();
    let decided = |home, sid_hash, contact| {
        let mut event = routed(sid_hash, 5, contact);
        event.environment = environment(home).id;
        RoutedEvent::Routed(event)
    };
    facts.push(Change::Routed(vec![
        decided(1, 1, spellings[0]),
        decided(1, 2, spellings[1]),
        decided(2, 3, spellings[0]),
        decided(1, 4, e164(551_130_000_000)),
    ]));
    let erasure = Change::ContactForgotten(environment(1).id, spellings[1]);
    let mut model = Model::default();
    let mut journal = open(rig);
    // With facts from before, and with facts of the same entry.
    append(&mut journal, &facts);
    model.commit(&facts);
    facts.push(erasure);
    append(&mut journal, &facts);
    model.commit(&facts);
    for _again in 0..2 {
        let archive = journal.archive();
        for contact in spellings {
            let found = archive.calls_to(environment(1).id, contact);
            assert_eq!(found.expect("readable"), []);
            let others = archive.calls_to(environment(2).id, contact);
            assert_eq!(others.expect("readable").len(), 2);
        }
        let about = routed_since(&*archive, Timestamp::from_millis(0))
            .into_iter()
            .filter(|event| {
                matches!(event, RoutedEvent::Routed(call)
                    if call.environment == environment(1).id
                        && call.decision.as_ref().is_some_and(|one| one.is_about(spellings[0])))
            });
        assert_eq!(about.count(), 0);
        model.assert_shown_by(&*archive);
        drop(archive);
        rig.crash(journal);
        journal = open(rig);
    }
    rig.crash(journal);
}

/// Events are shown by time, a call before its answer, and old ones can be left out.
pub fn routed_events_come_by_time_and_answers_behind_calls(rig: &mut impl Rig) {
    let mut journal = open(rig);
    let answered = |sid_hash, at| {
        RoutedEvent::Answered(AnsweredCall {
            environment: environment(1).id,
            sid_hash,
            at: Timestamp::from_millis(at),
        })
    };
    let at =
        |sid_hash, millis| RoutedEvent::Routed(routed(sid_hash, millis, e164(525_555_550_142)));
    let late = Change::Routed(vec![at(1, 9_000), answered(9, 1_500)]);
    let batch = batch(1, 4);
    let early = Change::Routed(vec![at(2, 1_000), answered(2, 2_000), at(3, 500)]);
    for fact in [late, Change::BatchRouted(batch.clone()), early] {
        append(&mut journal, &[fact]);
    }
    let batch = || RoutedEvent::Batch(batch.clone());
    let all = [at(2, 1_000), at(3, 500), batch(), at(1, 9_000)];
    let answers = [answered(2, 2_000), answered(9, 1_500)];
    for _again in 0..2 {
        let archive = journal.archive();
        let since = |millis| routed_since(&*archive, Timestamp::from_millis(millis));
        assert_eq!(since(0), [&all[..], &answers].concat());
        assert_eq!(since(1_500), [&all[2..], &answers].concat());
        assert_eq!(since(4_000), all[2..]);
        assert_eq!(since(4_001), all[3..]);
        assert_eq!(since(9_001), []);
        drop(archive);
        rig.crash(journal);
        journal = open(rig);
    }
    rig.crash(journal);
}

/// A sweep depends only on the fact and on the state: contacts, cutoff, and deleted agents.
pub fn a_sweep_drops_old_calls_of_the_contacts_that_it_names(rig: &mut impl Rig) {
    let mut journal = open(rig);
    let mut facts = vec![
        Change::EnvironmentPut(environment(1)),
        Change::AgentPut(agent(1)),
        Change::AgentPut(agent(2)),
        Change::AgentRemoved(environment(1).id, agent(2).id, "gone".to_owned()),
    ];
    let of_gone = Call {
        agent: agent(2).id,
        ..call("gone", 1, 9)
    };
    facts.extend([
        put_call("old", 1, 1),
        put_call("cutoff", 1, 2),
        put_call("new", 1, 3),
        put_call("unnamed", 2, 1),
        Change::CallPut(of_gone),
    ]);
    let sweep = Change::CallsSwept(CallsSwept {
        environment: environment(1).id,
        before: Timestamp::from_seconds(2),
        contacts: vec![
            call("old", 1, 1).contact,
            call("never called", 9, 1).contact,
        ],
    });
    let mut model = Model::default();
    model.commit(&facts);
    append(&mut journal, &facts);
    append(&mut journal, std::slice::from_ref(&sweep));
    model.commit(std::slice::from_ref(&sweep));
    // Calls recorded after a sweep stay until the next one, however old they are; also calls behind it in the
    // same entry.
    let later = [put_call("old", 1, 1), sweep, put_call("later", 1, 1)];
    append(&mut journal, &later);
    model.commit(&later);
    for _again in 0..2 {
        let calls = journal
            .archive()
            .calls_to(environment(1).id, call("old", 1, 1).contact);
        let mut sids: Vec<Arc<str>> = calls
            .expect("readable")
            .into_iter()
            .map(|call| call.sid)
            .collect();
        sids.sort();
        assert_eq!(sids, ["cutoff".into(), "later".into(), "new".into()]);
        let gone = journal.archive().call(environment(1).id, "old");
        assert_eq!(gone.expect("readable"), None);
        model.assert_shown_by(&*journal.archive());
        rig.crash(journal);
        journal = open(rig);
    }
    rig.crash(journal);
}

/// Stored calls that the counters lack stay until the counters contain them, even beyond a day.
pub fn a_sweep_of_events_keeps_batches_that_counters_lack(rig: &mut impl Rig) {
    let mut journal = open(rig);
    let event = Change::Routed(vec![RoutedEvent::Routed(routed(
        7,
        1_000,
        e164(525_555_550_142),
    ))]);
    let counted = |complete| {
        Change::BatchesCounted(BatchesCounted {
            growth: Vec::new(),
            mark: CountMark {
                complete,
                partial: Some((9, counter(1))),
            },
        })
    };
    let sweep = Change::RoutedSwept(Timestamp::from_seconds(3));
    let numbers = |journal: &dyn Journal| -> Vec<u64> {
        let events = routed_since(&*journal.archive(), Timestamp::from_millis(0));
        let numbers = events.into_iter().map(|event| match event {
            RoutedEvent::Batch(batch) => batch.number,
            other => panic!("{other:?} is older than what is kept"),
        });
        numbers.collect()
    };
    let batches = [batch(1, 1), batch(2, 2), batch(3, 3)].map(Change::BatchRouted);
    append(&mut journal, &batches);
    append(&mut journal, &[event.clone(), counted(2), sweep.clone()]);
    assert_eq!(numbers(&journal), [2, 3]);
    rig.crash(journal);
    let mut journal = open(rig);
    append(&mut journal, std::slice::from_ref(&sweep));
    assert_eq!(numbers(&journal), [2, 3]);
    append(&mut journal, &[counted(4)]);
    append(&mut journal, &[event, sweep]);
    assert_eq!(numbers(&journal), [3], "as old as the cutoff is not older");
    rig.crash(journal);
    let journal = open(rig);
    assert_eq!(numbers(&journal), [3]);
    rig.crash(journal);
}

/// With any number of threads, each contact is visited by one of them, with all of its calls.
pub fn contacts_are_visited_once_in_any_number_of_parts(rig: &mut impl Rig) {
    let mut journal = open(rig);
    let mut facts = Vec::new();
    for contact in 0..300 {
        for second in 0..=contact % 3 {
            let sid = format!("{contact}-{second}");
            facts.push(put_call(&sid, contact, second));
        }
    }
    append(&mut journal, &facts);
    for _again in 0..2 {
        let archive = journal.archive();
        for parts in [1, 2, 3, 256] {
            let mut seen = BTreeMap::new();
            for part in 0..parts {
                let visited = archive.visit_contacts(part, parts, &mut |home, contact, calls| {
                    assert_eq!(home, environment(1).id);
                    assert_eq!(seen.insert(contact, calls.len()), None, "visited twice");
                    ControlFlow::Continue(())
                });
                visited.expect("readable");
            }
            let expected =
                (0..300).map(|contact| (call("", contact, 0).contact, contact as usize % 3 + 1));
            assert_eq!(seen, expected.collect());
        }
        let mut shown = 0;
        let first = archive.visit_contacts(0, 1, &mut |_, _, _| {
            shown += 1;
            ControlFlow::Break(())
        });
        first.expect("readable");
        assert_eq!(shown, 1, "the visitor breaks off");
        let within = Timestamp::from_seconds(1)..Timestamp::from_seconds(2);
        let mut found = Vec::new();
        let contact = call("", 2, 0).contact;
        let visited = archive.visit_calls(environment(1).id, contact, within, &mut |call| {
            found.push(call.sid);
        });
        visited.expect("readable");
        assert_eq!(found, ["2-1".into()]);
        drop(archive);
        rig.crash(journal);
        journal = open(rig);
    }
    rig.crash(journal);
}

/// The number of kinds of facts: every one is in this list, or it does not compile.
const KINDS: usize = 32;

/// A fact of every kind, by kind; each builds on the results of the facts before it.
#[must_use]
pub fn samples() -> Vec<Change> {
    // Add a new kind to the list below, and count it.
    let _every_kind = |fact: &Change| match fact {
        Change::EnvironmentPut(_)
        | Change::EnvironmentRemoved(_)
        | Change::TokenPut(_)
        | Change::TokenRemoved(..)
        | Change::ConnectorPut(_)
        | Change::ConnectorRemoved(..)
        | Change::AgentPut(_)
        | Change::AgentRemoved(..)
        | Change::NumberPut(_)
        | Change::NumberRemoved(..)
        | Change::Assigned(_)
        | Change::Unassigned(_)
        | Change::OwnersSet(..)
        | Change::CallPut(_)
        | Change::ContactForgotten(..)
        | Change::CallsSwept(_)
        | Change::Routed(_)
        | Change::RoutedSwept(_)
        | Change::Counted(..)
        | Change::BatchRouted(_)
        | Change::BatchesCounted(_)
        | Change::Placed(_)
        | Change::Audited(_)
        | Change::AuditSwept(_)
        | Change::Answered(_)
        | Change::SessionPut(_)
        | Change::SessionEnded(_)
        | Change::ErasureSecretSet(_)
        | Change::Erased(_)
        | Change::OptedOut(..)
        | Change::OptOutEnded(..)
        | Change::Reassigned(..) => {}
    };
    let contact = e164(525_555_550_142);
    vec![
        Change::EnvironmentPut(environment(1)),
        Change::EnvironmentPut(environment(2)),
        Change::EnvironmentPut(environment(3)),
        Change::EnvironmentRemoved(environment(3).id),
        Change::TokenPut(token(1, 1)),
        Change::TokenPut(token(2, 2)),
        Change::TokenRemoved(environment(2).id, token(2, 2).id),
        Change::ConnectorPut(Box::new(connector(1, 1))),
        Change::ConnectorPut(Box::new(connector(2, 1))),
        Change::ConnectorRemoved(environment(1).id, connector(2, 1).id),
        Change::AgentPut(agent(1)),
        Change::AgentPut(agent(2)),
        Change::AgentPut(agent(3)),
        Change::AgentRemoved(environment(1).id, agent(3).id, "gone".to_owned()),
        Change::NumberPut(number(1)),
        Change::NumberPut(number(2)),
        Change::NumberRemoved(environment(1).id, number(2).id),
        Change::Assigned(assignment(1, 2)),
        Change::Assigned(assignment(1, 1)),
        Change::Unassigned(assignment(1, 2)),
        Change::OwnersSet(number(1).id, vec![agent(2).id, agent(1).id]),
        put_call("kept", 1, 10),
        put_call("forgotten", 2, 10),
        put_call("swept", 3, 1),
        put_call("not swept", 3, 10),
        Change::ContactForgotten(environment(1).id, call("", 2, 0).contact),
        Change::CallsSwept(CallsSwept {
            environment: environment(1).id,
            before: Timestamp::from_seconds(10),
            contacts: vec![call("", 3, 0).contact],
        }),
        Change::Routed(vec![
            RoutedEvent::Routed(routed(1, 1, contact)),
            RoutedEvent::Routed(routed(2, 10_000, contact)),
            RoutedEvent::Answered(AnsweredCall {
                environment: environment(1).id,
                sid_hash: 1,
                at: Timestamp::from_millis(10_001),
            }),
        ]),
        Change::Routed(vec![RoutedEvent::Routed(routed(3, 1, contact))]),
        Change::RoutedSwept(Timestamp::from_millis(2)),
        Change::Counted(counter(1), 5),
        Change::BatchRouted(batch(0, 11)),
        Change::BatchesCounted(BatchesCounted {
            growth: vec![(counter(1), 1), (counter(2), 7)],
            mark: CountMark {
                complete: 0,
                partial: Some((1, counter(1))),
            },
        }),
        audited(1, 10),
        audited(2, 30),
        audited(3, 20),
        Change::AuditSwept(Timestamp::from_millis(20)),
        answered(1, 0),
        answered(2, 0),
        answered(1, 1),
        Change::SessionPut(Box::new(session(1))),
        Change::SessionPut(Box::new(session(2))),
        Change::SessionEnded(session(1).cookie),
        Change::ErasureSecretSet(ErasureSecret([4; 16])),
        erased(1, 5),
        erased(2, 6),
        erased(1, 7),
        opted_out(1, 1),
        opted_out(2, 2),
        opted_out(1, 3),
        Change::OptOutEnded(environment(1).id, ContactHash([2; 16])),
        Change::Reassigned(
            environment(1).id,
            ContactHash([1; 16]),
            Timestamp::from_seconds(9),
        ),
        Change::Reassigned(
            environment(1).id,
            ContactHash([1; 16]),
            Timestamp::from_seconds(8),
        ),
        Change::Placed(None),
        Change::Placed(Some(LogPlace {
            cluster: id(9, 1),
            sequence: 1 << 40,
            chain: [0xfe; 16],
        })),
    ]
}

/// The connector with this number, of the environment with that one.
fn connector(number: u64, of: u64) -> Connector {
    Connector {
        id: ConnectorId(id(12, number)),
        environment: environment(of).id,
        dialect: Dialect::Twilio,
        name: Some(format!("connector {number}")),
        key: TokenHash([u8::try_from(number).unwrap_or_default(); 32]),
        previous_key: Some((TokenHash([0xee; 32]), Timestamp::from_seconds(9))),
        secret: Some(ConnectorSecret("secret".to_owned())),
        options: "{\"timeout\":20}".to_owned(),
        on_nothing: "{\"action\":\"reject\"}".to_owned(),
        created_at: Timestamp::from_seconds(1),
    }
}

/// What is left of the contact with this number, erased at this millisecond.
fn erased(number: u8, millis: i64) -> Change {
    Change::Erased(Tombstone {
        hash: ErasedHash([number; 16]),
        at: Timestamp::from_millis(millis),
    })
}

/// The contact with this number does not want to be called, as was noted at this millisecond.
fn opted_out(number: u8, millis: i64) -> Change {
    let opt_out = OptOut {
        reason: Some("sms.stop".into()),
        until: (millis > 2).then(|| Timestamp::from_millis(1 << 42)),
        created_at: Timestamp::from_millis(millis),
    };
    Change::OptedOut(environment(1).id, ContactHash([number; 16]), opt_out)
}

/// The answer to the request with this number, kept at this millisecond.
fn answered(number: u8, millis: i64) -> Change {
    Change::Answered(Box::new(KeptAnswer {
        id: AnswerId([number; 16]),
        at: Timestamp::from_millis(millis),
        request: [3; 16],
        answer: millis.to_string().into_bytes(),
    }))
}

/// The audit entry of the agent with this number, which was made at this millisecond.
fn audited(number: u64, millis: u64) -> Change {
    let Agent { id: agent_id, .. } = agent(number);
    Change::Audited(Box::new(AuditEntry {
        id: AuditId(Uuid::from_u128(
            u128::from(millis) << 80 | u128::from(number),
        )),
        at: Timestamp::from_millis(0),
        environment: Some(environment(1).id),
        actor: Actor::Token {
            id: token(1, 1).id,
            name: Some("PBX".to_owned()),
        },
        via: Via::Cli,
        action: AuditAction::Set,
        object: AuditObject {
            kind: ObjectType::Role,
            id: Some(agent_id.0),
            name: Some(format!("agent {number}")),
        },
        before: None,
        after: agent(number).role.map(AuditState::Role),
        request_id: "request".into(),
    }))
}

/// A session that was opened with the token with the same number.
fn session(number: u8) -> Session {
    let token = token(u64::from(number), 1);
    Session {
        cookie: TokenHash([number; 32]),
        opened_with: token.hash,
        token: Some((token.environment, token.id)),
        chosen: None,
        csrf_token: format!("csrf {number}"),
        started_at: Timestamp::from_millis(7),
    }
}

/// An identifier.
fn id(kind: u128, number: u64) -> Uuid {
    Uuid::from_u128(kind << 64 | u128::from(number))
}

/// A number.
fn e164(digits: u64) -> E164 {
    E164::from_digits(digits).expect("the battery writes numbers of the right length")
}

/// An environment.
fn environment(number: u64) -> Environment {
    Environment {
        id: EnvironmentId(id(1, number)),
        name: format!("environment {number}"),
        default_country: "BR".parse().ok(),
        number_form: NumberForm::E164,
        recency_window_seconds: number,
        target_template: Some("sip:{agent_id}@agents.example.com".to_owned()),
        fallback_targets: vec![target()],
        held_targets: Vec::new(),
        created_at: Timestamp::from_millis(1),
    }
}

/// A token.
fn token(number: u64, home: u64) -> Token {
    Token {
        id: TokenId(id(2, number)),
        environment: environment(home).id,
        name: Some(format!("token {number}")),
        hash: TokenHash([number as u8; 32]),
        masked: number.is_multiple_of(2),
        created_at: Timestamp::from_millis(2),
    }
}

/// An agent of the first environment.
fn agent(number: u64) -> Agent {
    Agent {
        id: AgentId(id(3, number)),
        environment: environment(1).id,
        name: format!("agent {number}"),
        label: String::new(),
        description: Some("for the battery".to_owned()),
        direction: Direction::Inbound,
        status: AgentStatus::Published,
        phone_numbers: vec![NumberId(id(4, 1))],
        targets: vec![target()],
        external_ids: (number == 1)
            .then(|| (Dialect::Vapi, "asst_example".to_owned()))
            .into_iter()
            .collect(),
        role: Some(CallbackRole {
            source_agents: vec![AgentId(id(3, 1))],
            recency_window_seconds: Some(number),
            trigger_statuses: vec![CallStatus::Busy],
            hours: (number == 1).then(|| {
                let spec = HoursSpec {
                    time_zone: "America/Sao_Paulo".to_owned(),
                    weekly: Week {
                        mon: vec![["09:00".to_owned(), "18:00".to_owned()]],
                        ..Week::default()
                    },
                    except: vec![SpecialDay {
                        date: "2026-12-25".to_owned(),
                        open: Vec::new(),
                    }],
                };
                Box::new(Hours::compile(spec).expect("good hours"))
            }),
            set_sequence: number,
        }),
        created_at: Timestamp::from_millis(3),
        updated_at: Timestamp::from_millis(4),
    }
}

/// A target.
fn target() -> Target {
    Target {
        uri: "sip:{dialed}@192.0.2.1".to_owned(),
        priority: 1,
        weight: 2,
    }
}

/// A number of the first environment.
fn number(number: u64) -> PhoneNumber {
    PhoneNumber {
        id: NumberId(id(4, number)),
        environment: environment(1).id,
        number: e164(551_130_000_000 + number),
        country: "BR".parse().ok(),
        default_agent: Some(agent(1).id),
        created_at: Timestamp::from_millis(5),
    }
}

/// The assignment of a number to an agent.
fn assignment(line: u64, owner: u64) -> Assignment {
    Assignment {
        number: number(line).id,
        agent: agent(owner).id,
    }
}

/// A call of the first environment to the contact with this number, at this second.
fn call(sid: &str, contact: u64, second: u64) -> Call {
    Call {
        environment: environment(1).id,
        sid: sid.into(),
        agent: agent(1).id,
        contact: e164(4_930_000_000_000 + contact),
        from: None,
        status: CallStatus::NoAnswer,
        started_at: Timestamp::from_seconds(second.cast_signed()),
    }
}

/// The fact that records such a call.
fn put_call(sid: &str, contact: u64, second: u64) -> Change {
    Change::CallPut(call(sid, contact, second))
}

/// An incoming call, and its decision.
fn routed(sid_hash: u64, millis: i64, contact: E164) -> RoutedCall {
    let named = |number| NamedAgent {
        id: agent(number).id,
        name: agent(number).name,
    };
    RoutedCall {
        environment: environment(1).id,
        sid_hash,
        at: Timestamp::from_millis(millis),
        agent: Some(agent(1).id),
        source: Some(agent(2).id),
        decision: Some(Arc::new(RoutedDecision {
            outcome: Outcome::Callback,
            reason: Reason::ReturnedCall,
            agent: Some(named(1)),
            source_agent: Some(named(2)),
            call: Some(Call {
                contact,
                ..call("returned", 0, 1)
            }),
            targets: vec![target()],
            dialed: Some(e164(551_130_000_001)),
            caller: Some(Caller::Number(contact)),
        })),
    }
}

/// A counter of the first environment.
fn counter(number: u64) -> CountKey {
    CountKey {
        environment: environment(1).id,
        day: number as i32,
        agent: agent(1).id,
        source: Some(agent(2).id),
        kind: CountKind::Received,
    }
}

/// A batch with this number, of one call at this second.
fn batch(number: u64, second: u32) -> RoutedBatch {
    RoutedBatch {
        number,
        latest: Timestamp::from_seconds(i64::from(second)),
        routes: vec![BatchRoute {
            environment: environment(1).id,
            agent: Some(agent(1).id),
            source: Some(agent(2).id),
            kind: Some(CountKind::Received),
        }],
        calls: vec![BatchCall {
            sid_hash: number,
            second,
            route: 0,
        }],
    }
}
