//! Connects SIP to the engine: what the SIP server asks, and what becomes of its news.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ringback_engine::{ContactView, Engine, LearnedTicket, SubmitError};
use ringback_routing::{
    CallVia, Caller, Directory, E164, EnvironmentId, ForwardedCall, LearnedCall, Timestamp,
};
use ringback_sip_server::{DecidedCall, Events, Snapshots};
use tokio::sync::mpsc;

use crate::logging::masked_unless;

/// The engine, as the SIP server sees it.
pub(super) struct EngineProgram {
    /// Decides, counts, records.
    engine: Engine,
    /// Takes learned calls to the recorder.
    learned: mpsc::Sender<LearnedTicket>,
    /// What is counted here.
    counters: Arc<LearningCounters>,
    /// Whether phone numbers are logged in full; changes with the configuration.
    full_phone_numbers: Arc<AtomicBool>,
}

/// What becomes of learned calls.
#[derive(Debug, Default)]
pub(super) struct LearningCounters {
    /// Recorded, or known already.
    recorded: AtomicU64,
    /// Not recorded: the agent is gone, say, or the contact was forgotten.
    rejected: AtomicU64,
    /// Lost: there were too many at once, or storage took no writes until the server was stopped.
    lost: AtomicU64,
}

impl EngineProgram {
    /// A program on this engine, and the recorder of what it learns, to be run.
    pub(super) fn new(engine: Engine, full_phone_numbers: Arc<AtomicBool>) -> (Self, Recorder) {
        let (learned, queue) = mpsc::channel(LEARNED_QUEUED);
        let counters = Arc::new(LearningCounters::default());
        let recorder = Recorder {
            before: engine.take_learned_before(),
            engine: engine.clone(),
            queue,
            counters: Arc::clone(&counters),
        };
        (
            Self {
                engine,
                learned,
                counters,
                full_phone_numbers,
            },
            recorder,
        )
    }

    /// What is counted of learned calls.
    pub(super) fn counters(&self) -> Arc<LearningCounters> {
        Arc::clone(&self.counters)
    }
}

impl fmt::Debug for EngineProgram {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EngineProgram")
            .finish_non_exhaustive()
    }
}

impl Snapshots for EngineProgram {
    type Contacts = ContactView;

    fn directory(&self) -> arc_swap::Guard<Arc<Directory>> {
        self.engine.directory()
    }

    fn contacts(&self) -> &ContactView {
        self.engine.contacts()
    }
}

impl Events for EngineProgram {
    fn decided(&self, call: &DecidedCall<'_, '_>, via: CallVia) {
        let DecidedCall {
            decision,
            dialed,
            caller,
            call_id,
            at,
        } = *call;
        self.engine
            .decided_over_sip(via, &decision, dialed, caller, call_id, at);
        if tracing::enabled!(tracing::Level::DEBUG) {
            let full = self.full_phone_numbers.load(Ordering::Relaxed);
            tracing::debug!(
                outcome = decision.outcome.name(),
                reason = decision.reason.name(),
                dialed = %Shown { number: dialed, full },
                caller = %match caller {
                    Caller::Number(number) => Shown { number: Some(number), full },
                    _ => Shown { number: None, full },
                },
                call_id = %masked_unless(full, &String::from_utf8_lossy(call_id)),
                "decided"
            );
        }
    }

    fn learned(&self, call: LearnedCall) {
        // The call path waits for nobody: what does not fit is counted. What will not be recorded is not shown either.
        let Ok(place) = self.learned.try_reserve() else {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        match self.engine.learned_over_sip(call) {
            Some(ticket) => place.send(ticket),
            None => {
                self.counters.rejected.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn forwarded(
        &self,
        environment: EnvironmentId,
        call_id: &[u8],
        at: Timestamp,
        call: &ForwardedCall,
    ) -> bool {
        self.engine
            .forwarded_over_sip(environment, call_id, at, call)
    }

    fn answered(&self, environment: EnvironmentId, call_id: &[u8], at: Timestamp) {
        self.engine.answered_over_sip(environment, call_id, at);
    }
}

/// Records what was learned, many calls at once.
pub(super) struct Recorder {
    /// Records what was learned.
    engine: Engine,
    /// What an earlier run has learned and not recorded.
    before: Vec<LearnedTicket>,
    /// What was learned.
    queue: mpsc::Receiver<LearnedTicket>,
    /// What becomes of it.
    counters: Arc<LearningCounters>,
}

impl Recorder {
    /// Records until told to stop, and then what is left.
    pub(super) async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut tickets = Vec::with_capacity(LEARNED_AT_ONCE);
        loop {
            let count = if self.before.is_empty() {
                tokio::select! {
                    count = self.queue.recv_many(&mut tickets, LEARNED_AT_ONCE) => count,
                    () = &mut stop, if !self.queue.is_closed() => {
                        self.queue.close();
                        continue;
                    }
                }
            } else {
                let count = self.before.len().min(LEARNED_AT_ONCE);
                tickets.extend(self.before.drain(..count));
                count
            };
            if count == 0 {
                return;
            }
            // One command for each environment; nearly always there is one. Stable: of a call the order stays.
            tickets.sort_by_key(|ticket| ticket.environment().0);
            while let Some(environment) = tickets.last().map(LearnedTicket::environment) {
                let first =
                    tickets.partition_point(|ticket| ticket.environment().0 < environment.0);
                let of_environment: Vec<LearnedTicket> = tickets.drain(first..).collect();
                while !self.record(environment, &of_environment).await && !self.queue.is_closed() {
                    tokio::select! {
                        () = tokio::time::sleep(RETRY_AFTER) => {}
                        () = &mut stop => self.queue.close(),
                    }
                }
            }
        }
    }

    /// Records the calls of an environment; false if it is worth trying again.
    async fn record(&self, environment: EnvironmentId, tickets: &[LearnedTicket]) -> bool {
        let count = tickets.len() as u64;
        let counters = &self.counters;
        match self.engine.record_learned(environment, tickets).await {
            Ok(result) => {
                let rejected = result.unrecorded.len() as u64;
                for error in result
                    .unrecorded
                    .iter()
                    .filter_map(|(_, error)| error.as_ref())
                {
                    tracing::debug!(%error, "a learned call was not recorded");
                }
                counters
                    .recorded
                    .fetch_add(count - rejected, Ordering::Relaxed);
                counters.rejected.fetch_add(rejected, Ordering::Relaxed);
                true
            }
            Err(
                SubmitError::StorageUnavailable
                | SubmitError::ClusterUnavailable
                | SubmitError::LogFull
                | SubmitError::Conflict,
            ) if !self.queue.is_closed() => false,
            Err(error) => {
                if !matches!(error, SubmitError::ShuttingDown) {
                    tracing::warn!(%error, count, "learned calls were not recorded");
                }
                counters.lost.fetch_add(count, Ordering::Relaxed);
                true
            }
        }
    }
}

impl LearningCounters {
    /// Appends the metrics in Prometheus' text format.
    pub(super) fn write(&self, out: &mut String) {
        use fmt::Write as _;
        out.push_str(
            "# HELP ringback_learned_calls_total Outbound calls learned over SIP or HEP.\n",
        );
        out.push_str("# TYPE ringback_learned_calls_total counter\n");
        for (result, count) in [
            ("recorded", &self.recorded),
            ("rejected", &self.rejected),
            ("lost", &self.lost),
        ] {
            let count = count.load(Ordering::Relaxed);
            let _infallible = writeln!(
                out,
                "ringback_learned_calls_total{{result=\"{result}\"}} {count}"
            );
        }
    }
}

/// A phone number in the log.
struct Shown {
    /// The number, if there is one.
    number: Option<E164>,
    /// Whether it is written in full.
    full: bool,
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            None => formatter.write_str("-"),
            Some(number) if self.full => number.fmt(formatter),
            Some(number) => number.masked().fmt(formatter),
        }
    }
}

/// After how long it is tried again to record learned calls when storage took no writes.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many learned calls may wait to be recorded.
const LEARNED_QUEUED: usize = 65_536;

/// How many learned calls are recorded at once.
const LEARNED_AT_ONCE: usize = 1_024;
