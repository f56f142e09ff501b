//! The index keeps what the rules say, in whatever order calls arrive.

use proptest::prelude::*;
use ringback_index::{ContactIndex, Observed};
use ringback_routing::{
    AgentSlot, CallStatus, Contacts, E164, EnvironmentSlot, RecentCalls, RememberedCall, Timestamp,
};

use crate::model::{SEED, contact, number};

type Told = (usize, u32, Option<usize>, i64, u8);

fn remembered((_, agent, from, second, status): Told) -> RememberedCall {
    RememberedCall {
        source: AgentSlot(agent),
        from: from.map(number),
        started_at: Timestamp::from_seconds(second),
        status: CallStatus::from_rank(status),
    }
}

/// The newest of each line, the newest four lines.
fn expected(told: &[Told], to: usize) -> Vec<RememberedCall> {
    let mut calls: Vec<RememberedCall> = told
        .iter()
        .filter(|call| call.0 == to)
        .map(|call| remembered(*call))
        .collect();
    calls.sort_by_key(|call| std::cmp::Reverse(call.started_at));
    let mut kept: Vec<RememberedCall> = Vec::new();
    for call in calls {
        if !kept
            .iter()
            .any(|newer| (newer.source, newer.from) == (call.source, call.from))
        {
            kept.push(call);
        }
    }
    kept.truncate(RecentCalls::LIMIT);
    kept
}

const HERE: EnvironmentSlot = EnvironmentSlot(16_383);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_order_of_calls_leaves_the_same_index(
        by_second in proptest::collection::btree_map(
            1_700_000_000_i64..1_700_000_200,
            (0..3_usize, 0..4_u32, proptest::option::of(0..3_usize), 0..8_u8),
            1..40,
        ),
        seed in any::<u64>(),
    ) {
        let told: Vec<Told> = by_second
            .into_iter()
            .map(|(second, (to, agent, from, status))| (to, agent, from, second, status))
            .collect();
        let mut shuffled = told.clone();
        shuffled.sort_by_key(|call| seed.wrapping_mul(call.3 as u64 | 1).rotate_left(17));
        for order in [&told, &shuffled] {
            let index = ContactIndex::new(SEED);
            for call in order {
                let seen = index.observe(HERE, contact(call.0), &remembered(*call));
                prop_assert_ne!(seen, Observed::Tie);
            }
            for to in 0..4 {
                let there: Vec<RememberedCall> =
                    index.calls(HERE, contact(to)).iter().copied().collect();
                let likely = index.likely_source(HERE, contact(to));
                prop_assert_eq!(likely, there.first().map(|call| call.source));
                prop_assert_eq!(there, expected(&told, to));
            }
            prop_assert_eq!(index.calls(EnvironmentSlot(0), contact(0)), RecentCalls::default());
        }
    }
}

fn call(agent: u32, second: i64) -> RememberedCall {
    remembered((0, agent, None, second, 0))
}

fn caller() -> E164 {
    contact(0)
}

#[test]
fn calls_of_one_second_are_left_to_who_knows_the_milliseconds() {
    let index = ContactIndex::new(SEED);
    assert_eq!(
        index.observe(HERE, caller(), &call(1, 1_000_000_000)),
        Observed::Kept
    );
    assert_eq!(
        index.observe(HERE, caller(), &call(2, 1_000_000_000)),
        Observed::Tie
    );
    let both: RecentCalls = [call(2, 1_000_000_000), call(1, 1_000_000_000)]
        .into_iter()
        .collect();
    index.replace(HERE, caller(), &both);
    assert_eq!(index.calls(HERE, caller()), both);
}

#[test]
fn forgotten_contacts_leave_nothing_behind() {
    let index = ContactIndex::new(SEED);
    for agent in 0..6 {
        index.observe(
            HERE,
            caller(),
            &call(agent, 1_000_000_000 + i64::from(agent)),
        );
    }
    assert_eq!(
        index.calls(HERE, caller()).iter().count(),
        RecentCalls::LIMIT
    );
    index.replace(HERE, caller(), &RecentCalls::default());
    assert!(index.is_empty());
    assert_eq!(index.observe(HERE, caller(), &call(1, 1)), Observed::Kept);
    assert_eq!(index.calls(HERE, caller()).iter().count(), 1);
}

#[test]
fn sweeping_drops_contacts_without_a_call_worth_keeping() {
    let index = ContactIndex::new(SEED);
    index.observe(HERE, contact(1), &call(1, 100));
    index.observe(HERE, contact(2), &call(1, 100));
    index.observe(HERE, contact(2), &call(2, 300));
    index.retain(|environment, call| {
        assert_eq!(environment, HERE);
        call.started_at >= Timestamp::from_seconds(200)
    });
    assert!(index.calls(HERE, contact(1)).is_empty());
    assert_eq!(index.calls(HERE, contact(2)).iter().count(), 2);
}

#[test]
fn an_absent_contact_is_entered_and_a_present_one_left_alone() {
    let index = ContactIndex::new(SEED);
    let first: RecentCalls = [call(3, 30), call(2, 20)].into_iter().collect();
    let second: RecentCalls = [call(1, 10)].into_iter().collect();
    index.insert_if_absent(HERE, caller(), &first);
    index.insert_if_absent(HERE, caller(), &second);
    assert_eq!(index.calls(HERE, caller()), first);
}
