//! The latest decisions of each environment.
//!
//! Each environment has a lock of its own: calls of different environments do not wait for each other. Records lie in
//! pieces of 1,024. While the node has room a full piece is followed by a new one, then by the environment's oldest,
//! which is written over record by record: no call ever waits for much memory to be moved.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use ringback_routing::{E164, EnvironmentId, EnvironmentSlot, Timestamp};
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
    /// How many pieces there are in all logs.
    pieces: AtomicUsize,
    /// From how many pieces on a log writes over its own oldest one, if it has two.
    most_pieces: AtomicUsize,
}

/// The latest decisions of one environment.
#[derive(Debug)]
struct Log {
    /// The environment that the records belong to: a slot is reused after its environment is removed.
    environment: EnvironmentId,
    /// The records, oldest first, in pieces of at most [`PIECE`]. Only the last one grows; erasing may leave the
    /// others with fewer.
    pieces: VecDeque<Vec<DecisionRecord>>,
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
            pieces: AtomicUsize::new(0),
            most_pieces: AtomicUsize::new(DEFAULT_KEPT.div_ceil(PIECE)),
        }
    }

    /// Keeps about so many records from now on; of each environment the last 1,024 are kept in any case.
    pub(super) fn keep(&self, count: usize) {
        self.most_pieces
            .store(count.div_ceil(PIECE), Ordering::Relaxed);
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
                self.clear(&mut log, environment);
            }
            if log.pieces.back().is_none_or(|piece| piece.len() >= PIECE) {
                self.add_piece(&mut log);
            }
            // Under the lock, so that numbers ascend within an environment.
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
            if let Some(piece) = log.pieces.back_mut() {
                piece.push(DecisionRecord::blank());
                if let Some(record) = piece.last_mut() {
                    write(record);
                    record.sequence = sequence;
                }
            }
            sequence
        };
        if self.latest.receiver_count() > 0 {
            self.tell(sequence);
        }
    }

    /// Gives a log an empty last piece: a new one while there is room, then its oldest.
    fn add_piece(&self, log: &mut Log) {
        let most = self.most_pieces.load(Ordering::Relaxed);
        let pieces = self.pieces.load(Ordering::Relaxed);
        let piece = if pieces < most || log.pieces.len() < LEAST_PIECES {
            self.pieces.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        } else {
            let mut oldest = log.pieces.pop_front().unwrap_or_default();
            oldest.clear();
            // Where fewer are to be kept than before, one more goes.
            if pieces > most && log.pieces.len() >= LEAST_PIECES {
                log.pieces.pop_front();
                self.pieces.fetch_sub(1, Ordering::Relaxed);
            }
            oldest
        };
        log.pieces.push_back(piece);
    }

    /// Empties a log, for an environment.
    fn clear(&self, log: &mut Log, environment: EnvironmentId) {
        self.pieces.fetch_sub(log.pieces.len(), Ordering::Relaxed);
        *log = Log::new(environment);
    }

    /// The latest records, newest first.
    pub(super) fn latest(
        &self,
        slot: EnvironmentSlot,
        environment: EnvironmentId,
        limit: usize,
    ) -> Vec<DecisionRecord> {
        self.read(slot, environment, |log| {
            log.before(u64::MAX).take(limit).cloned().collect()
        })
    }

    /// The records after this number, oldest first; the latest 1,024 at most, since a reader that is behind so far
    /// does not catch up.
    pub(super) fn after(
        &self,
        slot: EnvironmentSlot,
        environment: EnvironmentId,
        sequence: u64,
    ) -> Vec<DecisionRecord> {
        let mut records: Vec<DecisionRecord> = self.read(slot, environment, |log| {
            let newest = log.before(u64::MAX).take(PIECE);
            let newer = newest.take_while(|record| record.sequence > sequence);
            newer.cloned().collect()
        });
        records.reverse();
        records
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

    /// Changes a record that was made at this instant; `change` says whether a record was it. False if none was.
    pub(super) fn amend(
        &self,
        slot: EnvironmentSlot,
        environment: EnvironmentId,
        at: Timestamp,
        mut change: impl FnMut(&mut DecisionRecord) -> bool,
    ) -> bool {
        let Some(log) = self.log(slot) else {
            return false;
        };
        let mut log = log.lock();
        if log.environment != environment {
            return false;
        }
        let latest = at.plus_millis(DISORDER_MILLIS);
        let earliest = at.plus_millis(-DISORDER_MILLIS);
        for piece in log.pieces.iter_mut().rev() {
            let end = piece.partition_point(|record| record.at <= latest);
            for record in piece[..end].iter_mut().rev() {
                if record.at < earliest {
                    return false;
                }
                if change(record) {
                    return true;
                }
            }
        }
        false
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
            for piece in &mut log.pieces {
                piece.retain(|record| !record.is_about(contact));
            }
        }
    }

    /// Forgets the decisions of an environment.
    pub(super) fn forget_environment(&self, environment: EnvironmentId) {
        for log in self.logs.iter().filter_map(OnceLock::get) {
            let mut log = log.lock();
            if log.environment == environment {
                self.clear(&mut log, environment);
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
            pieces: VecDeque::new(),
        }
    }

    /// The records before this number, newest first.
    fn before(&self, sequence: u64) -> impl Iterator<Item = &DecisionRecord> {
        let pieces = self.pieces.iter().rev();
        pieces.flat_map(move |piece| {
            let earlier = match piece.last() {
                Some(last) if last.sequence >= sequence => {
                    piece.partition_point(|record| record.sequence < sequence)
                }
                _ => piece.len(),
            };
            piece[..earlier].iter().rev()
        })
    }
}

/// By how much the instants of records may be out of order: threads take the time before they add a record.
const DISORDER_MILLIS: i64 = 50;

/// How many records are searched while the log is locked: a few microseconds.
const SEARCHED_AT_ONCE: usize = 2_048;

/// How many records a piece has.
const PIECE: usize = 1_024;

/// How many pieces every log may have: one that is full, and one that is filled.
const LEAST_PIECES: usize = 2;

/// How many records are kept unless somebody says otherwise.
const DEFAULT_KEPT: usize = 100_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringback_routing::Caller;
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
            6 => (0..3_u16, 0..3_u64, 1..1_500_usize)
                .prop_map(|(slot, contact, count)| Event::Decided(slot, contact, count)),
            2 => (0..3_u16, 0..3_u64).prop_map(|(slot, contact)| Event::ForgetContact(slot, contact)),
            1 => (0..3_u16).prop_map(Event::Replace),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_shown_are_the_latest_decisions_that_were_not_forgotten(
            keep in 0..10_000_usize,
            events in prop::collection::vec(event(), 1..20),
        ) {
            let decisions = Decisions::new();
            decisions.keep(keep);
            let mut named = [0, 1, 2].map(environment);
            // Everything that was decided and not forgotten, and how much of it has to be there.
            let mut histories: [Vec<(u64, E164)>; 3] = Default::default();
            let mut certain = [PIECE; 3];
            let mut sequence = 0;
            for event in events {
                match event {
                    Event::Decided(slot, number, count) => {
                        for _ in 0..count {
                            sequence += 1;
                            decisions.add(EnvironmentSlot(slot), named[usize::from(slot)], |record| {
                                record.caller = Caller::Number(contact(number));
                                record.at = Timestamp::from_seconds(i64::from(slot));
                            });
                            histories[usize::from(slot)].push((sequence, contact(number)));
                        }
                    }
                    Event::ForgetContact(slot, number) => {
                        let id = named[usize::from(slot)];
                        decisions.forget_contact(EnvironmentSlot(slot), id, contact(number));
                        histories[usize::from(slot)].retain(|(_, other)| *other != contact(number));
                        certain[usize::from(slot)] = 0;
                    }
                    Event::Replace(slot) => {
                        let index = usize::from(slot);
                        decisions.forget_environment(named[index]);
                        let before = named[index];
                        named[index] = EnvironmentId(Uuid::from_u128(before.0.as_u128() + 10));
                        histories[index].clear();
                        certain[index] = PIECE;
                        prop_assert!(decisions.latest(EnvironmentSlot(slot), before, 10).is_empty());
                    }
                }
                let mut kept = 0;
                for slot in 0..3_u16 {
                    let (history, id) = (&histories[usize::from(slot)], named[usize::from(slot)]);
                    let numbers = || history.iter().rev().map(|(sequence, _)| *sequence);
                    let slot = EnvironmentSlot(slot);
                    let of = |shown: &[DecisionRecord]| -> Vec<u64> {
                        shown.iter().map(|record| record.sequence).collect()
                    };
                    let all = of(&decisions.latest(slot, id, usize::MAX));
                    kept += all.len();
                    prop_assert!(all.iter().copied().eq(numbers().take(all.len())));
                    prop_assert!(all.len() >= certain[usize::from(slot.0)].min(history.len()));
                    let shown = of(&decisions.latest(slot, id, 700));
                    prop_assert_eq!(&shown[..], &all[..all.len().min(700)]);
                    let middle = sequence / 2;
                    let odd = |record: &DecisionRecord| record.sequence % 2 == 1;
                    let shown = of(&decisions.find(slot, id, middle, 90, &odd));
                    let expected = all.iter().copied().filter(|number| *number < middle && number % 2 == 1);
                    prop_assert!(shown.into_iter().eq(expected.take(90)));
                    let mut shown = of(&decisions.after(slot, id, middle));
                    shown.reverse();
                    let expected = all.iter().copied().take(PIECE).filter(|number| *number > middle);
                    prop_assert!(shown.into_iter().eq(expected));
                }
                prop_assert!(kept <= keep.next_multiple_of(PIECE) + 3 * LEAST_PIECES * PIECE, "{}", kept);
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
    fn a_record_is_found_by_its_instant_among_others_that_are_a_little_out_of_order() {
        let decisions = Decisions::new();
        let slot = EnvironmentSlot(7);
        let jitter = |number: i64| number * 3 + (number * 7) % 31;
        for number in 0..5_000 {
            decisions.add(slot, environment(1), |record| {
                record.at = Timestamp::from_millis(jitter(number));
                record.reason = ringback_routing::Reason::NumberUnknown;
            });
        }
        for number in (0..5_000).step_by(7) {
            let at = Timestamp::from_millis(jitter(number));
            let sequence = u64::try_from(number).unwrap() + 1;
            let found = decisions.amend(slot, environment(1), at, |record| {
                record.sequence == sequence
            });
            assert!(found, "{number}");
        }
        let never = Timestamp::from_millis(1_000_000);
        assert!(!decisions.amend(slot, environment(1), never, |_| true));
        let then = Timestamp::from_millis(0);
        assert!(!decisions.amend(slot, environment(2), then, |_| true));
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
