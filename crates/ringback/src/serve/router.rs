//! Connects SIP to the engine: what the SIP server asks, counts and learns.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringback_engine::{ContactView, Engine, NewCall, RecordCalls, SubmitError};
use ringback_routing::{Caller, Decision, Directory, E164, EnvironmentId, Timestamp};
use ringback_sip_server::{LearnedCall, Router};
use tokio::sync::mpsc;

use crate::logging::masked_unless;

/// The engine, as the SIP server sees it.
pub(super) struct EngineRouter {
    /// Decides, counts, records.
    engine: Engine,
    /// Takes learned calls to the recorder.
    learned: mpsc::Sender<LearnedCall>,
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
    /// Refused: the agent is gone, say.
    rejected: AtomicU64,
    /// Lost: there were too many at once, or storage took no writes.
    lost: AtomicU64,
}

impl EngineRouter {
    /// A router on this engine, and the recorder of what it learns, to be run.
    pub(super) fn new(engine: Engine, full_phone_numbers: Arc<AtomicBool>) -> (Self, Recorder) {
        let (learned, queue) = mpsc::channel(LEARNED_QUEUED);
        let counters = Arc::new(LearningCounters::default());
        let recorder = Recorder {
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

impl fmt::Debug for EngineRouter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EngineRouter")
            .finish_non_exhaustive()
    }
}

impl Router for EngineRouter {
    type Contacts = ContactView;

    fn directory(&self) -> arc_swap::Guard<Arc<Directory>> {
        self.engine.directory()
    }

    fn contacts(&self) -> &ContactView {
        self.engine.contacts()
    }

    fn decided(
        &self,
        decision: &Decision<'_>,
        dialed: Option<E164>,
        caller: Caller,
        call_id: &[u8],
        at: Timestamp,
    ) {
        self.engine
            .decided_over_sip(decision, dialed, caller, call_id, at);
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
        let shown = ringback_engine::LearnedCall {
            agent: call.agent,
            from: call.from,
            status: call.status,
            started_at: call.started_at,
        };
        self.engine
            .learned_over_sip(call.environment, call.contact, &shown);
        // The call path waits for nobody: what does not fit is counted.
        if self.learned.try_send(call).is_err() {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn answered(&self, environment: EnvironmentId, call_id: &[u8], at: Timestamp) {
        self.engine.answered_over_sip(environment, call_id, at);
    }
}

/// Records what was learned, many calls at once.
pub(super) struct Recorder {
    /// Records.
    engine: Engine,
    /// What was learned.
    queue: mpsc::Receiver<LearnedCall>,
    /// What becomes of it.
    counters: Arc<LearningCounters>,
}

impl Recorder {
    /// Records until told to stop, and then what is left.
    pub(super) async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut calls = Vec::with_capacity(LEARNED_AT_ONCE);
        loop {
            let count = tokio::select! {
                count = self.queue.recv_many(&mut calls, LEARNED_AT_ONCE) => count,
                () = &mut stop, if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            // One command for each environment; nearly always there is one.
            calls.sort_by_key(|call| call.environment.0);
            while let Some(environment) = calls.last().map(|call| call.environment) {
                let first = calls.partition_point(|call| call.environment.0 < environment.0);
                let of_environment = calls.drain(first..).map(new_call).collect();
                self.record(environment, of_environment).await;
            }
        }
    }

    /// Records the calls of an environment.
    async fn record(&self, environment: EnvironmentId, calls: Vec<NewCall>) {
        let count = calls.len() as u64;
        match self.engine.submit(RecordCalls { environment, calls }).await {
            Ok(results) => {
                let rejected = results.iter().filter(|result| result.is_err()).count() as u64;
                for error in results.iter().filter_map(|result| result.as_ref().err()) {
                    tracing::debug!(%error, "a learned call was not recorded");
                }
                self.counters
                    .recorded
                    .fetch_add(count - rejected, Ordering::Relaxed);
                self.counters
                    .rejected
                    .fetch_add(rejected, Ordering::Relaxed);
            }
            Err(error) => {
                if !matches!(error, SubmitError::ShuttingDown) {
                    tracing::warn!(%error, count, "learned calls were not recorded");
                }
                self.counters.lost.fetch_add(count, Ordering::Relaxed);
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

/// A learned call as it is recorded.
fn new_call(call: LearnedCall) -> NewCall {
    NewCall {
        agent: call.agent,
        to: call.contact,
        from: call.from,
        status: Some(call.status),
        started_at: Some(call.started_at),
        sid: Some(call.sid),
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

/// How many learned calls may wait to be recorded.
const LEARNED_QUEUED: usize = 65_536;

/// How many learned calls are recorded at once.
const LEARNED_AT_ONCE: usize = 1_024;
