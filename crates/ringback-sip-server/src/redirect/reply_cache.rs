//! Which INVITEs were answered, and how: for at least 32 s the same INVITE gets the same reply. RFC 3261 §8.2.7
//! requires that of a stateless server; calls recorded meanwhile would change the reply.
//!
//! Keys are secret hashes of the fields that a retransmission repeats; two INVITEs share a key by chance once in
//! 2⁶⁴ pairs. An answer is the second in which it was given and the number of its plan. Answers are in
//! generations of at most 32 s. The newest generation takes new answers, and each is dropped as a whole 32 s
//! after its last answer was entered, so no answer is ever moved or removed alone. A plan is registered under its
//! number for as long as an answer may name it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::{ArcSwap, Guard};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;
use ringback_index::Generation;

use crate::redirect::plan::{SharedPlan, UNREGISTERED};

/// The INVITEs of the last 32 s, and of at most 64 s.
#[derive(Debug)]
pub(crate) struct ReplyCache {
    /// The answers.
    generations: ArcSwap<Generations>,
    /// The plans that answers name.
    plans: DashMap<u32, Arc<SharedPlan>, RandomState>,
    /// The number of the next plan.
    next: AtomicU32,
    /// From when on old plans are to be dropped, in seconds since the server started.
    sweep_due: AtomicU32,
    /// The most cache lines of all generations together.
    limit: usize,
}

/// Every generation, newest first; never empty.
#[derive(Clone, Debug)]
pub(crate) struct Generations(Vec<Arc<Generation>>);

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    /// When it was given, in seconds since the server started.
    second: u32,
    /// The number of its plan.
    plan: u32,
}

impl Given {
    /// The answer in one word.
    const fn pack(self) -> u64 {
        (self.second as u64) << 32 | self.plan as u64
    }

    /// The reverse of [`Self::pack`].
    const fn unpack(word: u64) -> Self {
        Self {
            second: (word >> 32) as u32,
            plan: word as u32,
        }
    }

    /// Whether it is recent enough to be used.
    const fn counts(self, now: u32) -> bool {
        now.saturating_sub(self.second) <= FORGOTTEN_SECONDS
    }
}

impl ReplyCache {
    /// An empty cache.
    pub(crate) fn new() -> Self {
        Self::with_limit(MOST_LINES)
    }

    /// An empty cache with at most this many cache lines; at the limit, answers are forgotten early.
    fn with_limit(limit: usize) -> Self {
        let first = Generation::new(LEAST_LINES.min(limit), || {});
        Self {
            generations: ArcSwap::from_pointee(Generations(vec![Arc::new(first)])),
            plans: DashMap::with_hasher_and_shard_amount(RandomState::default(), 64),
            next: AtomicU32::new(1),
            sweep_due: AtomicU32::new(0),
            limit,
        }
    }

    /// The generations, to be kept only while a few INVITEs are handled.
    pub(crate) fn generations(&self) -> Guard<Arc<Generations>> {
        self.generations.load()
    }

    /// The plan of the earlier answer to the INVITE.
    pub(crate) fn find(
        &self,
        answered: &Generations,
        fingerprint: u64,
        now: u32,
    ) -> Option<Arc<SharedPlan>> {
        let given = answered.find(key(fingerprint))?;
        self.plan(Given::unpack(given), now)
    }

    /// Remembers an answer, unless another thread has entered one meanwhile; then returns that one.
    pub(crate) fn remember(
        &self,
        answered: &Generations,
        fingerprint: u64,
        plan: &Arc<SharedPlan>,
        now: u32,
    ) -> Option<Arc<SharedPlan>> {
        let given = Given {
            second: now,
            plan: self.register(plan, now),
        };
        let newest = answered.0.first()?;
        let earlier = newest.insert(key(fingerprint), given.pack())?;
        self.plan(Given::unpack(earlier), now)
    }

    /// Drops old generations, and makes room for new answers. Call it a few times a second, from one thread.
    /// `clock` returns the seconds since the server started. `pause` is called again and again while memory is
    /// prepared, which takes seconds if it waits, so that other threads get the processor.
    pub(crate) fn tick(&self, clock: impl Fn() -> u32, pause: impl Fn()) {
        let mut generations = self.generations.load().0.clone();
        let next = generations
            .first()
            .and_then(|newest| self.next(newest, clock(), pause));
        // Until now the newest generation took answers.
        let now = clock();
        let before = generations.len();
        // Each generation took its last answer when the next one began.
        let mut ended_at = now;
        generations.retain(|generation| {
            let is_young = now.saturating_sub(ended_at) <= KEPT_SECONDS;
            ended_at = generation.began_at();
            is_young
        });
        let is_new = next.is_some();
        let begun = next.map(|next| next.begun_at(now));
        generations.splice(0..0, begun.map(Arc::new));
        let mut lines = 0;
        generations.retain(|generation| {
            // A retransmission may then be decided again; that is better than running out of memory.
            lines += generation.lines();
            lines <= self.limit
        });
        if is_new || generations.len() != before {
            let old = self.generations.swap(Arc::new(Generations(generations)));
            // Free it here, which can take long, and not in the last thread that reads it.
            while Arc::strong_count(&old) > 1 {
                std::thread::yield_now();
            }
        }
        self.drop_old_plans(now);
    }

    /// Drops plans that no answer names any more; every few seconds, because that reads the memory of all plans.
    fn drop_old_plans(&self, now: u32) {
        if now < self.sweep_due.load(Ordering::Relaxed) {
            return;
        }
        self.sweep_due
            .store(now.saturating_add(SWEEP_SECONDS), Ordering::Relaxed);
        self.plans.retain(|_, plan| {
            let given_at = plan.given_at.load(Ordering::Relaxed);
            // Nobody else holds the plan, so it will give no more answers.
            Arc::strong_count(plan) > 1 || now.saturating_sub(given_at) <= FORGOTTEN_SECONDS
        });
    }

    /// The next generation, if it is time for it.
    fn next(&self, newest: &Generation, now: u32, pause: impl Fn()) -> Option<Generation> {
        let is_old = now.saturating_sub(newest.began_at()) >= KEPT_SECONDS;
        let is_needed = newest.used() > 0 || newest.lines() > LEAST_LINES;
        let lines = if newest.is_filling() {
            GROWTH * newest.lines()
        } else if is_old && is_needed {
            // With as many answers again it will be half full.
            newest.used() * 2 / Generation::CELLS
        } else {
            return None;
        };
        // Two generations of the greatest size may exist at once.
        let lines = lines.max(LEAST_LINES).min(self.limit / 2).max(1);
        Some(Generation::new(lines, pause))
    }

    /// How many INVITEs are remembered.
    pub(crate) fn len(&self) -> usize {
        let generations = self.generations.load();
        generations.0.iter().map(|each| each.used()).sum()
    }

    /// The plan of an answer, if the answer is recent enough.
    fn plan(&self, given: Given, now: u32) -> Option<Arc<SharedPlan>> {
        let plan = self.plans.get(&given.plan).filter(|_| given.counts(now))?;
        Some(Arc::clone(&plan))
    }

    /// The number of a plan that gives an answer now.
    fn register(&self, plan: &Arc<SharedPlan>, now: u32) -> u32 {
        if plan.given_at.load(Ordering::Relaxed) != now {
            plan.given_at.store(now, Ordering::Relaxed);
        }
        match plan.number.load(Ordering::Acquire) {
            UNREGISTERED => self.register_new(plan),
            number => number,
        }
    }

    /// Registers a plan under a new number.
    #[cold]
    fn register_new(&self, plan: &Arc<SharedPlan>) -> u32 {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            // A number is reused after four thousand million others. It is never 0, so that no packed answer is
            // 0.
            let is_usable = number != UNREGISTERED && number != 0;
            let (true, Entry::Vacant(entry)) = (is_usable, self.plans.entry(number)) else {
                continue;
            };
            let was = plan.number.compare_exchange(
                UNREGISTERED,
                number,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            return match was {
                Ok(_) => {
                    entry.insert(Arc::clone(plan));
                    number
                }
                // Another thread was faster.
                Err(number) => number,
            };
        }
    }
}

impl Generations {
    /// Begins to fetch what a lookup of this fingerprint will read, without waiting for it.
    pub(crate) fn prefetch(&self, fingerprint: u64) {
        for generation in &self.0 {
            generation.prefetch(key(fingerprint));
        }
    }

    /// The latest answer to a fingerprint.
    fn find(&self, fingerprint: u64) -> Option<u64> {
        self.0.iter().find_map(|each| each.find(fingerprint))
    }
}

/// A fingerprint as a key of a generation, in which 0 marks an empty cell.
fn key(fingerprint: u64) -> u64 {
    fingerprint.max(1)
}

/// The shortest time for which an answer is remembered, in seconds (RFC 3261 Timer B and F: 64 × T1).
pub(crate) const KEPT_SECONDS: u32 = 32;

/// The time after which an answer is not used any more, even if it is still there.
const FORGOTTEN_SECONDS: u32 = 2 * KEPT_SECONDS;

/// How often plans are looked through, in seconds.
const SWEEP_SECONDS: u32 = 8;

/// Cache lines of the smallest generation: two megabytes, for 82,000 calls until a greater one is made.
const LEAST_LINES: usize = 32_768;

/// How much larger a generation is than one that filled up early. Fewer generations mean fewer lines to read. But
/// preparing memory long before it is needed takes processor time during a flood of calls, when it is short.
const GROWTH: usize = 2;

/// The most cache lines of all generations, 512 MB: enough for 250,000 calls per second.
const MOST_LINES: usize = 8_388_608;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::redirect::plan::Plan;

    /// A plan that the tests can recognize by its next hop.
    fn plan(next_hop: &str) -> Arc<SharedPlan> {
        Arc::new(SharedPlan::new(Plan::for_tests(next_hop)))
    }

    /// Ticks at this second, without pauses.
    fn tick(reply_cache: &ReplyCache, second: u32) {
        reply_cache.tick(|| second, || {});
    }

    /// Remembers as a thread of its own would.
    fn remember(
        reply_cache: &ReplyCache,
        fingerprint: u64,
        plan: &Arc<SharedPlan>,
        now: u32,
    ) -> Option<Arc<SharedPlan>> {
        let answered = reply_cache.generations();
        let known = reply_cache.find(&answered, fingerprint, now);
        known.or_else(|| reply_cache.remember(&answered, fingerprint, plan, now))
    }

    /// Looks up as a thread of its own would.
    fn find(reply_cache: &ReplyCache, fingerprint: u64, now: u32) -> Option<Arc<SharedPlan>> {
        reply_cache.find(&reply_cache.generations(), fingerprint, now)
    }

    /// A hash of a number.
    fn fingerprint(number: u32) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes())
    }

    #[test]
    fn an_answer_is_remembered_for_32_seconds_and_forgotten_after_twice_that() {
        let reply_cache = ReplyCache::new();
        let plan = plan("first");
        for second in 0..200 {
            tick(&reply_cache, second);
            assert!(remember(&reply_cache, fingerprint(second), &plan, second).is_none());
            for age in 0..=32.min(second) {
                let found = find(&reply_cache, fingerprint(second - age), second);
                assert!(found.is_some(), "{second} {age}");
            }
            assert!(reply_cache.len() <= 66);
        }
        for second in 200..266 {
            tick(&reply_cache, second);
        }
        assert_eq!(reply_cache.len(), 0);
        assert!(find(&reply_cache, fingerprint(199), 265).is_none());
    }

    #[test]
    fn a_plan_is_held_for_as_long_as_an_answer_may_name_it() {
        let reply_cache = ReplyCache::new();
        let plan = plan("first");
        remember(&reply_cache, 1, &plan, 100);
        let weak = Arc::downgrade(&plan);
        drop(plan);
        tick(&reply_cache, 132);
        assert!(find(&reply_cache, 1, 132).is_some());
        for second in 133..=165 {
            tick(&reply_cache, second);
        }
        assert!(find(&reply_cache, 1, 165).is_none());
        for second in 166..165 + SWEEP_SECONDS {
            tick(&reply_cache, second);
        }
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn the_first_answer_counts() {
        let reply_cache = ReplyCache::new();
        let (first, second) = (plan("first"), plan("second"));
        assert!(remember(&reply_cache, 7, &first, 0).is_none());
        tick(&reply_cache, 32);
        // Another generation takes the new answers now.
        let counted = remember(&reply_cache, 7, &second, 32).unwrap();
        assert!(Arc::ptr_eq(&counted, &first));
        tick(&reply_cache, 65);
        assert!(remember(&reply_cache, 7, &second, 65).is_none());
        assert!(Arc::ptr_eq(&find(&reply_cache, 7, 66).unwrap(), &second));
    }

    #[test]
    fn room_follows_what_comes() {
        let reply_cache = ReplyCache::new();
        let plan = plan("any");
        let lines = || {
            let generations = reply_cache.generations.load();
            generations.0.iter().map(|each| each.lines()).sum::<usize>()
        };
        let mut number = 0;
        for quarter in 0..40 {
            tick(&reply_cache, quarter / 4);
            for _ in 0..20_000 {
                remember(&reply_cache, fingerprint(number), &plan, quarter / 4);
                number += 1;
            }
        }
        for number in 0..number {
            assert!(
                find(&reply_cache, fingerprint(number), 10).is_some(),
                "{number}"
            );
        }
        assert!(lines() > number as usize / Generation::CELLS);
        for second in 10..140 {
            tick(&reply_cache, second);
        }
        assert_eq!(lines(), LEAST_LINES);
    }

    // A generation used to begin when the preparation of its memory began, so answers given meanwhile were
    // forgotten too early by that time.
    #[test]
    fn answers_given_while_room_is_made_are_remembered_for_32_seconds_too() {
        let reply_cache = ReplyCache::new();
        let plan = plan("any");
        for number in 0..100_000 {
            remember(&reply_cache, fingerprint(number), &plan, 0);
        }
        let second = Cell::new(0);
        let pause = || {
            second.set(second.get() + 1);
            remember(
                &reply_cache,
                fingerprint(200_000 + second.get()),
                &plan,
                second.get(),
            );
        };
        reply_cache.tick(|| second.get(), pause);
        let last = second.get();
        assert!(last > 32, "{last}");
        for later in last..=last + 32 {
            tick(&reply_cache, later);
            let found = find(&reply_cache, fingerprint(200_000 + last), later);
            assert!(found.is_some(), "{last} {later}");
        }
    }

    #[test]
    fn memory_is_bounded_and_the_latest_answers_are_kept() {
        let reply_cache = ReplyCache::with_limit(1_000);
        let plan = plan("any");
        for number in 0..10_000 {
            // A hundred per second.
            remember(&reply_cache, fingerprint(number), &plan, number / 100);
            if number % 100 == 99 {
                tick(&reply_cache, number / 100);
            }
        }
        let generations = reply_cache.generations.load();
        assert!(generations.0.iter().map(|each| each.lines()).sum::<usize>() <= 1_000);
        for number in 9_000..10_000 {
            assert!(
                find(&reply_cache, fingerprint(number), 99).is_some(),
                "{number}"
            );
        }
    }
}
