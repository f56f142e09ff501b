//! What is kept of the questions of platforms: the answers of the last half minute, and counters.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use ringback_lookup::Answer;
use ringback_routing::{ConnectorId, Dialect, Timestamp};

/// The questions of platforms.
#[derive(Debug, Default)]
pub(crate) struct Platforms {
    /// Answers of the last half minute: who asks again gets the same.
    answers: Mutex<Answers>,
    /// When each connector was last used.
    used: Mutex<HashMap<ConnectorId, Timestamp>>,
    /// Questions by dialect and result.
    results: [[AtomicU64; LookupResult::ALL.len()]; Dialect::ALL.len()],
    /// Questions that were answered, but could not be counted as calls.
    uncounted: AtomicU64,
    /// Targets that a dial string cannot hold.
    left_out: AtomicU64,
    /// Whether it was said that the public address is not configured.
    has_warned: AtomicBool,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupResult {
    /// The answer sends the call somewhere.
    Routed,
    /// It does not.
    Nothing,
    /// The question could not be read.
    Malformed,
    /// The platform did not prove who it is.
    Unauthenticated,
}

impl LookupResult {
    /// All of them.
    const ALL: [Self; 4] = [
        Self::Routed,
        Self::Nothing,
        Self::Malformed,
        Self::Unauthenticated,
    ];

    /// The result of an answer.
    pub(crate) const fn of(answer: &Answer) -> Self {
        if answer.is_routed {
            Self::Routed
        } else {
            Self::Nothing
        }
    }

    /// Its name in metrics.
    const fn name(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Nothing => "nothing",
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

/// Answers, the oldest first.
#[derive(Debug, Default)]
struct Answers {
    /// By connector and call id.
    known: HashMap<(ConnectorId, String), Answer>,
    /// When each was given.
    order: VecDeque<(Timestamp, (ConnectorId, String))>,
}

impl Answers {
    /// Forgets answers that are too old, and the oldest where there are too many.
    fn expire(&mut self, now: Timestamp) {
        let is_over = |answers: &Self| {
            let (at, _) = answers.order.front()?;
            let age = now.millis().saturating_sub(at.millis());
            Some(age >= SAME_ANSWER_MILLIS || answers.order.len() > MOST_ANSWERS)
        };
        while is_over(self) == Some(true) {
            if let Some((_, oldest)) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

impl Platforms {
    /// The answer that a connector gave on a call within the last half minute.
    pub(crate) fn answer(
        &self,
        connector: ConnectorId,
        sid: &str,
        now: Timestamp,
    ) -> Option<Answer> {
        let mut answers = self.answers.lock();
        answers.expire(now);
        answers.known.get(&(connector, sid.to_owned())).cloned()
    }

    /// Keeps an answer; if another request was faster, its answer is the one to give.
    pub(crate) fn keep(
        &self,
        connector: ConnectorId,
        sid: &str,
        now: Timestamp,
        answer: Answer,
    ) -> Answer {
        let mut answers = self.answers.lock();
        answers.expire(now);
        let key = (connector, sid.to_owned());
        if let Some(known) = answers.known.get(&key) {
            return known.clone();
        }
        answers.order.push_back((now, key.clone()));
        answers.known.insert(key, answer.clone());
        answer
    }

    /// Notes that a connector was used.
    pub(crate) fn use_connector(&self, connector: ConnectorId, now: Timestamp) {
        self.used.lock().insert(connector, now);
    }

    /// When a connector was last used.
    pub(crate) fn last_used(&self, connector: ConnectorId) -> Option<Timestamp> {
        self.used.lock().get(&connector).copied()
    }

    /// Counts a question.
    pub(crate) fn count(&self, dialect: Dialect, result: LookupResult) {
        if let Some(counter) = self.counter(dialect, result) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a call that could not be counted.
    pub(crate) fn count_uncounted(&self) {
        self.uncounted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts targets that were left out.
    pub(crate) fn count_left_out(&self, targets: usize) {
        self.left_out.fetch_add(targets as u64, Ordering::Relaxed);
    }

    /// Whether nobody has warned before of a public address that is not configured.
    pub(crate) fn is_first_warning(&self) -> bool {
        !self.has_warned.swap(true, Ordering::Relaxed)
    }

    /// Writes what was counted.
    pub(crate) fn write_metrics(&self, out: &mut String) {
        let name = "ringback_lookup_total";
        out.push_str("# HELP ringback_lookup_total Questions of platforms at connectors.\n");
        out.push_str("# TYPE ringback_lookup_total counter\n");
        for dialect in Dialect::ALL {
            for result in LookupResult::ALL {
                let counter = self.counter(dialect, result);
                let count = counter.map_or(0, |counter| counter.load(Ordering::Relaxed));
                let (dialect, result) = (dialect.name(), result.name());
                let labels = format!("{{dialect=\"{dialect}\",result=\"{result}\"}}");
                // Writing to a string does not fail.
                let _ = writeln!(out, "{name}{labels} {count}");
            }
        }
        for (name, help, counter) in [
            (
                "ringback_lookup_uncounted_total",
                "Questions of platforms that were answered from memory, because storage could not count them.",
                &self.uncounted,
            ),
            (
                "ringback_lookup_targets_left_out_total",
                "Targets that were left out of answers to platforms, because a dial string cannot hold them.",
                &self.left_out,
            ),
        ] {
            let count = counter.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {count}"
            );
        }
    }

    /// The counter of a dialect and a result.
    fn counter(&self, dialect: Dialect, result: LookupResult) -> Option<&AtomicU64> {
        let dialect = Dialect::ALL.iter().position(|other| *other == dialect)?;
        let result = LookupResult::ALL
            .iter()
            .position(|other| *other == result)?;
        self.results.get(dialect)?.get(result)
    }
}

/// For how long the same question gets the same answer, as in SIP.
const SAME_ANSWER_MILLIS: i64 = 32_000;

/// The most answers kept.
const MOST_ANSWERS: usize = 100_000;
