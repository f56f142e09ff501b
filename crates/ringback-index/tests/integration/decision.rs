//! `decide` agrees with the naive model, and the explanation with `decide`.

use proptest::prelude::*;
use ringback_index::{ContactIndex, Observed};
use ringback_routing::{
    AgentId, Caller, ContactUnreadable, Contacts, Decision, Directory, DirectoryNumber, Outcome,
    Placeholders, Question, Reason, RecentCalls, RememberedCall, Rung, Target, Timestamp, UserSet,
    decide, explain,
};

use crate::model::{ModelCall, NOW, SEED, UNUSABLE, World, contact, number, world};

/// Gives calls to the index, in this order; ties cannot happen, since every call has its own second.
pub(crate) fn fill(index: &ContactIndex, directory: &Directory, calls: &[ModelCall]) {
    for call in calls {
        let agent = directory
            .agent_by_id(call.agent)
            .expect("every agent is in the directory");
        let seen = RememberedCall {
            source: agent.slot,
            from: call.from,
            started_at: Timestamp::from_seconds(call.second),
            status: call.status,
        };
        let observed = index.observe(agent.environment, call.contact, &seen);
        if observed == Observed::Tie {
            // The call came a second time: what is remembered is already right.
            let there = index.calls(agent.environment, call.contact);
            assert!(
                there.iter().any(|other| *other == seen),
                "only repeats tie in this world"
            );
        }
    }
}

fn check(world: &World, order: &[usize]) {
    let directory = world.directory();
    let index = ContactIndex::new(SEED);
    // Every call comes in an order of its own, and some come twice.
    let shuffled: Vec<ModelCall> = order
        .iter()
        .filter_map(|at| world.calls.get(at % world.calls.len().max(1)).cloned())
        .chain(world.calls.iter().cloned())
        .collect();
    fill(&index, &directory, &shuffled);
    let usable = |target: &Target, _: &Placeholders| target.uri != UNUSABLE;
    for dialed in (0..5).map(number) {
        let callers = (0..4)
            .map(|at| (Caller::Number(contact(at)), Ok(contact(at))))
            .chain([
                (Caller::Anonymous, Err(Reason::CallerAnonymous)),
                (Caller::Invalid, Err(Reason::CallerInvalid)),
            ]);
        for (caller, model_caller) in callers {
            for now in [NOW, NOW + 7, NOW + 60, NOW + 9 * 3_600] {
                let question = Question {
                    dialed: Some(dialed),
                    caller,
                    is_verified: true,
                    now: Timestamp::from_seconds(now),
                    avoided: UserSet::of_user(b"here"),
                    usable: &usable,
                };
                let decision =
                    decide(&directory, &index, &question).expect("the index is in memory");
                let expected = world.decide(dialed, model_caller, now, UNUSABLE);
                assert_eq!(
                    decision.outcome, expected.outcome,
                    "{dialed} {caller:?} {now}"
                );
                assert_eq!(
                    decision.reason, expected.reason,
                    "{dialed} {caller:?} {now}"
                );
                let agent = decision.agent.map(|agent| agent.record.id);
                assert_eq!(agent, expected.agent, "{dialed} {caller:?} {now}");
                let source = decision.source_agent.map(|agent| agent.record.id);
                assert_eq!(source, expected.source, "{dialed} {caller:?} {now}");
                check_explanation(&directory, &index, &question);
                // The same if `usable` is asked about every target.
                let careful = Question {
                    avoided: UserSet::ALL,
                    ..question
                };
                // A caller that is not verified is not looked up.
                let unverified = Question {
                    is_verified: false,
                    ..question
                };
                let unverified =
                    decide(&directory, &index, &unverified).expect("the index is in memory");
                let expected = world.decide(
                    dialed,
                    model_caller.and(Err(Reason::CallerNotVerified)),
                    now,
                    UNUSABLE,
                );
                assert_eq!(
                    (unverified.outcome, unverified.reason),
                    (expected.outcome, expected.reason)
                );
                let looked_at =
                    decide(&directory, &index, &careful).expect("the index is in memory");
                let of = |decision: &Decision<'_>| {
                    let agent = decision.agent.map(|agent| agent.slot);
                    (
                        decision.outcome,
                        decision.reason,
                        agent,
                        decision.target_set,
                    )
                };
                assert_eq!(of(&looked_at), of(&decision), "{dialed} {caller:?} {now}");
            }
        }
    }
}

/// The explanation gives the same decision, and its last rung is the one that decided.
fn check_explanation(directory: &Directory, index: &ContactIndex, question: &Question<'_>) {
    let decision = decide(directory, index, question).expect("the index is in memory");
    let (explained, steps) = explain(directory, index, question).expect("the index is in memory");
    assert_eq!(
        (explained.outcome, explained.reason),
        (decision.outcome, decision.reason)
    );
    let last = steps.last().expect("at least one rung was tried");
    assert!(last.held);
    let rung = match (decision.outcome, decision.reason) {
        (Outcome::Callback, Reason::ReturnedCallSameNumber) => Rung::ReturnedCallSameNumber,
        (Outcome::Callback, _) => Rung::ReturnedCall,
        (Outcome::Default, _) => Rung::Default,
        (Outcome::Fallback, _) => Rung::Fallback,
        (Outcome::Refused, _) => Rung::Refused,
    };
    assert_eq!(last.rung, rung);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn decide_agrees_with_the_naive_rules(
        world in world(),
        order in proptest::collection::vec(0..64_usize, 0..40),
    ) {
        check(&world, &order);
    }

    #[test]
    fn a_directory_changed_step_by_step_equals_one_loaded_at_once(
        before in world(),
        after in world(),
    ) {
        let mut directory = before.directory();
        for environment in after.environments.clone() {
            directory.put_environment(environment);
        }
        for agent in after.agents.clone() {
            directory.put_agent(agent);
        }
        for number in before.numbers.iter().map(|number| number.id) {
            directory.remove_number(number);
        }
        for number in after.numbers.clone() {
            directory.put_number(number);
        }
        // Take numbers from some agents, and change the directory in between.
        for assignment in before.assignments.iter().chain(&after.assignments) {
            directory.assign(assignment);
        }
        for assignment in &before.assignments {
            directory.unassign(assignment);
        }
        for number in after.numbers.clone() {
            directory.put_number(number);
        }
        for assignment in &after.assignments {
            directory.unassign(assignment);
            directory.assign(assignment);
        }
        // A role may have named a source before that source existed.
        for agent in after.agents.clone() {
            directory.put_agent(agent);
        }
        let loaded = after.directory();
        for agent in loaded.all_agents() {
            let changed = directory.agent_by_id(agent.record.id).expect("it was put");
            prop_assert_eq!(&changed.record, &agent.record);
            prop_assert_eq!(directory.targets(changed), loaded.targets(agent));
            prop_assert_eq!(&changed.claimed_by, &agent.claimed_by);
        }
        for number in &after.numbers {
            let changed = directory.number(number.number).expect("it was put");
            let fresh = loaded.number(number.number).expect("it was loaded");
            let owners = |directory: &Directory, number: &DirectoryNumber| -> Vec<AgentId> {
                let owners = number.owners().filter_map(|slot| directory.agent(slot));
                owners.map(|agent| agent.record.id).collect()
            };
            prop_assert_eq!(owners(&directory, changed), after.owners(number.id));
            prop_assert_eq!(owners(&loaded, fresh), after.owners(number.id));
            prop_assert_eq!(changed.default_agent, fresh.default_agent);
        }
    }
}

/// Contacts that remember nothing.
struct Nothing;

impl Contacts for Nothing {
    fn calls(
        &self,
        _environment: ringback_routing::EnvironmentSlot,
        _contact: ringback_routing::E164,
    ) -> Result<RecentCalls, ContactUnreadable> {
        Ok(RecentCalls::default())
    }
}

/// Contacts that cannot be read.
struct Unreadable;

impl Contacts for Unreadable {
    fn calls(
        &self,
        _environment: ringback_routing::EnvironmentSlot,
        _contact: ringback_routing::E164,
    ) -> Result<RecentCalls, ContactUnreadable> {
        Err(ContactUnreadable)
    }
}

proptest! {
    #[test]
    fn a_contact_that_cannot_be_read_is_never_decided_as_never_called(world in world()) {
        let directory = world.directory();
        for number in &world.numbers {
            for caller in [Caller::Number(number.number), Caller::Anonymous, Caller::Invalid] {
                let question = Question {
                    dialed: Some(number.number),
                    caller,
                    is_verified: true,
                    now: Timestamp::from_seconds(NOW),
                    avoided: UserSet::ALL,
                    usable: &|_: &Target, _: &Placeholders| true,
                };
                let decided = decide(&directory, &Unreadable, &question);
                let explained = explain(&directory, &Unreadable, &question);
                // A caller without a number is not looked up.
                prop_assert_eq!(decided.is_err(), matches!(caller, Caller::Number(_)));
                prop_assert_eq!(explained.is_err(), decided.is_err());
            }
        }
    }
}

#[test]
fn a_dialed_number_that_cannot_be_read_is_unknown() {
    let question = Question {
        dialed: None,
        caller: Caller::Anonymous,
        is_verified: true,
        now: Timestamp::from_seconds(NOW),
        avoided: UserSet::ALL,
        usable: &|_: &Target, _: &Placeholders| true,
    };
    let directory = Directory::new(SEED);
    let decision = decide(&directory, &Nothing, &question).expect("nothing is read");
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Refused, Reason::NumberUnknown)
    );
}
