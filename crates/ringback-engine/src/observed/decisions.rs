//! The latest decisions of each environment.
//!
//! Each environment has a lock of its own: calls of different environments do not wait for each other. A record
//! is written directly over the oldest one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use ringback_routing::{E164, EnvironmentId, EnvironmentSlot};
use tokio::sync::watch;

use crate::observed::DecisionRecord;

/// The latest decisions of every environment.
#[derive(Debug)]
pub(super) struct Decisions {
    /// By the slot of the environment; created by its first decision.
    logs: Box<[OnceLock<Box<Mutex<Log>>>]>,
    /// The number of the latest decision.
    sequence: AtomicU64,
    /// Notifies subscribers of a new decision.
    latest: watch::Sender<u64>,
}

/// The latest decisions of one environment.
#[derive(Debug)]
struct Log {
    /// The environment that the records belong to: a slot is reused after its environment is removed.
    environment: EnvironmentId,
    /// The records: oldest first from index `oldest` on, then on from index 0.
    records: Vec<DecisionRecord>,
    /// The index of the oldest record, which the next one replaces; 0 while there is room.
    oldest: usize,
}

impl Decisions {
    /// Empty logs.
    pub(super) fn new() -> Self {
        Self {
            logs: (0..EnvironmentSlot::LIMIT)
                .map(|_| OnceLock::new())
                .collect(),
            sequence: AtomicU64::new(0),
            latest: watch::Sender::new(0),
        }
    }

    /// Adds a record; `write` fills in everything but its number.
    pub(super) fn add(
        &self,
        slot: EnvironmentSlot,
        environment: EnvironmentId,
        write: impl FnOnce(&mut DecisionRecord),
    ) {
        let Some(log) = self.logs.get(usize::from(slot.0)) else {
            return;
        };
        let log = log.get_or_init(|| Box::new(Mutex::new(Log::new(environment))));
        let sequence = {
            let mut log = log.lock();
            if log.environment != environment {
                *log = Log::new(environment);
            }
            let record = log.next_record();
            write(record);
            // Under the lock, so that numbers ascend within an environment.
            record.sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
            record.sequence
        };
        if self.latest.receiver_count() > 0 {
            self.tell(sequence);
        }
    }

    /// The latest records, newest first.
    pub(super) fn latest(
        &self,
        slot: EnvironmentSlot,
        environment: EnvironmentId,
        limit: usize,
    ) -> Vec<DecisionRecord> {
        self.read(slot, environment, |log| {
            log.in_order().rev().take(limit).cloned().collect()
        })
    }

    /// The records after this number, oldest first.
    pub(super) fn after(
        &self,
        slot: EnvironmentSlot,
        environment: EnvironmentId,
        sequence: u64,
    ) -> Vec<DecisionRecord> {
        self.read(slot, environment, |log| {
            let newer = log.in_order().filter(|record| record.sequence > sequence);
            newer.cloned().collect()
        })
    }

    /// The latest matching records before this number, newest first. The log is locked for a piece at a time, so
    /// that calls do not wait for a search.
    pub(super) fn find(
        &self,
        slot: EnvironmentSlot,
        environment: EnvironmentId,
        before: u64,
        limit: usize,
        matches: &dyn Fn(&DecisionRecord) -> bool,
    ) -> Vec<DecisionRecord> {
        let mut found = Vec::new();
        let mut before = Some(before);
        while let Some(bound) = before.filter(|_| found.len() < limit) {
            before = self.read(slot, environment, |log| {
                let mut last = None;
                for record in log.before(bound).take(SEARCHED_AT_ONCE) {
                    last = Some(record.sequence);
                    if matches(record) {
                        found.push(record.clone());
                        if found.len() == limit {
                            return None;
                        }
                    }
                }
                last
            });
        }
        found
    }

    /// Removes the decisions about this contact.
    pub(super) fn forget_contact(
        &self,
        slot: EnvironmentSlot,
        environment: EnvironmentId,
        contact: E164,
    ) {
        let Some(log) = self.log(slot) else { return };
        let mut log = log.lock();
        if log.environment == environment {
            let oldest = std::mem::take(&mut log.oldest);
            log.records.rotate_left(oldest);
            log.records.retain(|record| !record.is_about(contact));
        }
    }

    /// Forgets the decisions of an environment.
    pub(super) fn forget_environment(&self, environment: EnvironmentId) {
        for log in self.logs.iter().filter_map(OnceLock::get) {
            let mut log = log.lock();
            if log.environment == environment {
                *log = Log::new(environment);
            }
        }
    }

    /// A channel with the number of the latest decision.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        let receiver = self.latest.subscribe();
        self.tell(self.sequence.load(Ordering::Relaxed));
        receiver
    }

    /// Notifies subscribers of the decision with this number. If two are made at once, the later one may be
    /// announced first.
    fn tell(&self, sequence: u64) {
        self.latest
            .send_modify(|latest| *latest = sequence.max(*latest));
    }

    /// The log in this slot, if there is one.
    fn log(&self, slot: EnvironmentSlot) -> Option<&Mutex<Log>> {
        let log = self.logs.get(usize::from(slot.0))?.get()?;
        Some(log)
    }

    /// Reads the log of an environment; nothing if it has none.
    fn read<T: Default>(
        &self,
        slot: EnvironmentSlot,
        environment: EnvironmentId,
        read: impl FnOnce(&Log) -> T,
    ) -> T {
        let Some(log) = self.log(slot) else {
            return T::default();
        };
        let log = log.lock();
        if log.environment == environment {
            read(&log)
        } else {
            T::default()
        }
    }
}

impl Log {
    /// An empty log.
    const fn new(environment: EnvironmentId) -> Self {
        Self {
            environment,
            records: Vec::new(),
            oldest: 0,
        }
    }

    /// The record to overwrite: a new one while there is room, then the oldest.
    fn next_record(&mut self) -> &mut DecisionRecord {
        let index = if self.records.len() < KEPT && self.oldest == 0 {
            self.records.push(DecisionRecord::blank());
            self.records.len() - 1
        } else {
            let index = self.oldest;
            self.oldest = (index + 1) % self.records.len();
            index
        };
        &mut self.records[index]
    }

    /// The records, oldest first.
    fn in_order(&self) -> impl DoubleEndedIterator<Item = &DecisionRecord> {
        let (newer, older) = self.records.split_at(self.oldest);
        older.iter().chain(newer)
    }

    /// The records before this number, newest first.
    fn before(&self, sequence: u64) -> impl Iterator<Item = &DecisionRecord> {
        let (newer, older) = self.records.split_at(self.oldest);
        let earlier = |records: &[DecisionRecord]| {
            records.partition_point(|record| record.sequence < sequence)
        };
        let (older, newer) = (&older[..earlier(older)], &newer[..earlier(newer)]);
        newer.iter().rev().chain(older.iter().rev())
    }
}

/// How many records are searched while the log is locked: a few microseconds.
const SEARCHED_AT_ONCE: usize = 2_048;

/// How many decisions are kept of each environment.
const KEPT: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use ringback_routing::{Caller, Timestamp};
    use uuid::Uuid;

    use super::*;

    /// An environment by its number.
    fn environment(number: u16) -> EnvironmentId {
        EnvironmentId(Uuid::from_u128(u128::from(number)))
    }

    /// A contact by its number.
    fn contact(number: u64) -> E164 {
        E164::from_digits(5_511_987_650_000 + number).unwrap()
    }

    /// A step that changes the logs.
    #[derive(Clone, Debug)]
    enum Event {
        /// Decisions about one contact: environment, contact and how many.
        Decided(u16, u64, usize),
        /// A contact is forgotten.
        ForgetContact(u16, u64),
        /// An environment is removed, and another one, with a number greater by 10, takes its slot.
        Replace(u16),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0..3_u16, 0..3_u64, 1..700_usize)
                .prop_map(|(slot, contact, count)| Event::Decided(slot, contact, count)),
            2 => (0..3_u16, 0..3_u64).prop_map(|(slot, contact)| Event::ForgetContact(slot, contact)),
            1 => (0..3_u16).prop_map(Event::Replace),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_latest_decisions_are_those_of_a_simple_queue(events in prop::collection::vec(event(), 1..20)) {
            let decisions = Decisions::new();
            let mut named = [0, 1, 2].map(environment);
            let mut queues: [VecDeque<(u64, E164)>; 3] = Default::default();
            let mut sequence = 0;
            for event in events {
                match event {
                    Event::Decided(slot, number, count) => {
                        let queue = &mut queues[usize::from(slot)];
                        for _ in 0..count {
                            sequence += 1;
                            decisions.add(EnvironmentSlot(slot), named[usize::from(slot)], |record| {
                                record.caller = Caller::Number(contact(number));
                                record.at = Timestamp::from_seconds(i64::from(slot));
                            });
                            if queue.len() == KEPT {
                                queue.pop_front();
                            }
                            queue.push_back((sequence, contact(number)));
                        }
                    }
                    Event::ForgetContact(slot, number) => {
                        let id = named[usize::from(slot)];
                        decisions.forget_contact(EnvironmentSlot(slot), id, contact(number));
                        queues[usize::from(slot)].retain(|(_, other)| *other != contact(number));
                    }
                    Event::Replace(slot) => {
                        let index = usize::from(slot);
                        decisions.forget_environment(named[index]);
                        let before = named[index];
                        named[index] = EnvironmentId(Uuid::from_u128(before.0.as_u128() + 10));
                        queues[index].clear();
                        prop_assert!(decisions.latest(EnvironmentSlot(slot), before, 10).is_empty());
                    }
                }
                for slot in 0..3_u16 {
                    let (queue, id) = (&queues[usize::from(slot)], named[usize::from(slot)]);
                    let shown = decisions.latest(EnvironmentSlot(slot), id, 700);
                    let expected = queue.iter().rev().take(700).map(|(sequence, _)| *sequence);
                    prop_assert!(shown.iter().map(|record| record.sequence).eq(expected));
                    let middle = sequence / 2;
                    let odd = |record: &DecisionRecord| record.sequence % 2 == 1;
                    let shown = decisions.find(EnvironmentSlot(slot), id, middle, 90, &odd);
                    let expected = queue.iter().rev().map(|(sequence, _)| *sequence);
                    let expected = expected.filter(|sequence| *sequence < middle && sequence % 2 == 1);
                    prop_assert!(shown.iter().map(|record| record.sequence).eq(expected.take(90)));
                    let shown = decisions.after(EnvironmentSlot(slot), id, middle);
                    let expected = queue.iter().map(|(sequence, _)| *sequence);
                    let expected = expected.filter(|sequence| *sequence > middle);
                    prop_assert!(shown.iter().map(|record| record.sequence).eq(expected));
                }
            }
        }
    }

    /// A decision for an environment may be noted after that environment was removed. It must not be shown to the
    /// environment that has the slot now.
    #[test]
    fn a_late_decision_is_not_shown_to_the_next_environment_in_its_slot() {
        let decisions = Decisions::new();
        let slot = EnvironmentSlot(7);
        decisions.add(slot, environment(1), |_| {});
        decisions.forget_environment(environment(1));
        decisions.add(slot, environment(1), |_| {});
        assert!(decisions.latest(slot, environment(2), 10).is_empty());
        decisions.add(slot, environment(2), |_| {});
        assert_eq!(decisions.latest(slot, environment(2), 10).len(), 1);
        assert!(decisions.latest(slot, environment(1), 10).is_empty());
    }

    #[test]
    fn threads_that_decide_at_once_leave_every_decision_in_order() {
        let decisions = Decisions::new();
        let subscriber = decisions.subscribe();
        std::thread::scope(|scope| {
            for thread in 0..4_u16 {
                let decisions = &decisions;
                scope.spawn(move || {
                    for _ in 0..200 {
                        decisions.add(EnvironmentSlot(thread % 2), environment(thread % 2), |_| {});
                    }
                });
            }
        });
        let mut all = Vec::new();
        for number in 0..2 {
            let shown = decisions.after(EnvironmentSlot(number), environment(number), 0);
            assert_eq!(shown.len(), 400);
            let numbers: Vec<u64> = shown.iter().map(|record| record.sequence).collect();
            assert!(numbers.is_sorted());
            all.extend(numbers);
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(1..=800));
        assert_eq!(*subscriber.borrow(), 800);
    }
}
