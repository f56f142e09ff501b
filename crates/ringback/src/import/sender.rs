//! Sends batches over several connections and keeps the account.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::position::{Done, PositionFile};
use super::progress::Progress;
use super::row::{Rows, RowsError};
use crate::client::{Answer, ApiPath, Client, ClientError};

/// Sends rows to a server.
pub(crate) struct Sender<'a> {
    /// The server.
    pub(crate) client: &'a Client,
    /// How many requests are under way at once.
    pub(crate) connections: u16,
    /// How many rows there are in one.
    pub(crate) batch: u32,
    /// Remembers how far it got.
    pub(crate) position: Option<&'a PositionFile>,
    /// Shows how far it got.
    pub(crate) progress: &'a Progress,
}

/// Why sending ended early.
pub(crate) enum SendError {
    /// The file cannot be read on.
    Rows(RowsError),
    /// A thread could not be started.
    Thread(io::Error),
    /// The server takes no more.
    Server {
        /// Rows answered without a gap from the first.
        rows: u64,
        /// Why.
        source: ClientError,
    },
}

impl Sender<'_> {
    /// Sends the rows after those that are done.
    pub(crate) fn send(&self, mut rows: Rows, done: Done) -> Result<Summary, SendError> {
        let account = Account {
            progress: self.progress,
            position: self.position,
            state: Mutex::new(State::new(done)),
            stopped: AtomicBool::new(false),
        };
        let outcome = thread::scope(|scope| {
            let (batches, queue) = sync_channel(usize::from(self.connections));
            let queue = Arc::new(Mutex::new(queue));
            for _ in 0..self.connections {
                let (queue, account) = (Arc::clone(&queue), &account);
                thread::Builder::new()
                    .name("sender".to_owned())
                    .spawn_scoped(scope, move || self.work(&queue, account))
                    .map_err(SendError::Thread)?;
            }
            // The queue ends with the last worker, so that nobody waits for one that is gone.
            drop(queue);
            self.read(&mut rows, done.rows, &batches)
                .map_err(SendError::Rows)
        });
        self.progress.finish();
        let mut state = account
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = self.position {
            match (&outcome, &state.failure) {
                (Ok(()), None) => position.remove(),
                _ => remember(position, state.done),
            }
        }
        outcome?;
        match state.failure.take() {
            None => Ok(Summary {
                done: state.done,
                errors: state.errors,
            }),
            Some(source) => Err(SendError::Server {
                rows: state.done.rows,
                source,
            }),
        }
    }

    /// Cuts rows into batches until there are no more, or nobody takes them.
    fn read(
        &self,
        rows: &mut Rows,
        skip: u64,
        batches: &SyncSender<Batch>,
    ) -> Result<(), RowsError> {
        for _ in 0..skip {
            if rows.next_row()?.is_none() {
                break;
            }
        }
        let mut batch = Batch::default();
        while let Some(row) = rows.next_row()? {
            batch.rows += 1;
            match row.call {
                Ok(call) => {
                    batch.body.extend_from_slice(call.as_bytes());
                    batch.body.push(b'\n');
                    batch.lines.push(row.line);
                }
                Err(message) => batch.unsent.push((row.line, message)),
            }
            if batch.rows >= u64::from(self.batch) || batch.body.len() >= BATCH_BYTES {
                let next = Batch {
                    sequence: batch.sequence + 1,
                    ..Batch::default()
                };
                if batches.send(std::mem::replace(&mut batch, next)).is_err() {
                    return Ok(());
                }
            }
        }
        if batch.rows > 0 {
            // If nobody takes it, the account knows why.
            let _refused = batches.send(batch);
        }
        Ok(())
    }

    /// Sends batches until there are no more, or one does not go through.
    fn work(&self, queue: &Mutex<Receiver<Batch>>, account: &Account<'_>) {
        while !account.stopped.load(Ordering::Relaxed) {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = next else { return };
            match self.deliver(&batch, account) {
                Ok(result) => account.settle(batch.sequence, result),
                Err(error) => {
                    account.stop(error);
                    return;
                }
            }
        }
    }

    /// Sends one batch, again while the server is away.
    fn deliver(&self, batch: &Batch, account: &Account<'_>) -> Result<Settled, ClientError> {
        let mut settled = Settled {
            done: Done {
                rows: batch.rows,
                accepted: 0,
                rejected: batch.unsent.len() as u64,
            },
            errors: batch.unsent.clone(),
        };
        if batch.lines.is_empty() {
            return Ok(settled);
        }
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let answer = loop {
            match self
                .client
                .post_lines(&ApiPath::new(["calls", "batch"]), &batch.body)
            {
                Ok(answer) => break answer,
                Err(error) if error.is_passing() && begun.elapsed() < PATIENCE => {
                    if account.stopped.load(Ordering::Relaxed) {
                        return Err(error);
                    }
                    account.wait_noted(&error);
                    thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        };
        settled.add(&answer, &batch.lines);
        Ok(settled)
    }
}

/// Rows that are sent in one request.
#[derive(Default)]
struct Batch {
    /// Its place among the batches, from 0.
    sequence: u64,
    /// How many rows it has, with those that are not sent.
    rows: u64,
    /// The calls, one on each line.
    body: Vec<u8>,
    /// The line of the file on which each of them stands.
    lines: Vec<u64>,
    /// Rows that are no calls: line and why.
    unsent: Vec<(u64, String)>,
}

/// What became of a batch.
struct Settled {
    /// How many rows.
    done: Done,
    /// Rows that were rejected: line and why; not necessarily all.
    errors: Vec<(u64, String)>,
}

impl Settled {
    /// Adds what the server says; `lines` are the lines of what was sent.
    fn add(&mut self, answer: &Answer, lines: &[u64]) {
        let count = |name: &str| answer.value.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.done.accepted += count("accepted");
        self.done.rejected += count("rejected");
        let errors = answer.value.get("errors").and_then(Value::as_array);
        for error in errors.into_iter().flatten() {
            let place = error.get("line").and_then(Value::as_u64).unwrap_or(0);
            let line = usize::try_from(place)
                .ok()
                .and_then(|place| place.checked_sub(1))
                .and_then(|place| lines.get(place));
            let message = error
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or("rejected");
            self.errors
                .push((line.copied().unwrap_or(0), message.to_owned()));
        }
        self.errors.sort_by_key(|(line, _)| *line);
    }
}

/// Keeps the account of all batches.
struct Account<'a> {
    /// Shows it.
    progress: &'a Progress,
    /// Remembers it.
    position: Option<&'a PositionFile>,
    /// What it says.
    state: Mutex<State>,
    /// Whether to stop.
    stopped: AtomicBool,
}

/// What the account says.
struct State {
    /// Rows answered without a gap from the first.
    done: Done,
    /// The first rejected rows among them.
    errors: Vec<(u64, String)>,
    /// The batch that comes next.
    next: u64,
    /// Batches that were answered before their turn.
    early: BTreeMap<u64, Settled>,
    /// When the position was last remembered.
    remembered: Instant,
    /// When waiting was last noted.
    waiting: Option<Instant>,
    /// Why to stop.
    failure: Option<ClientError>,
}

impl State {
    /// An account that starts here.
    fn new(done: Done) -> Self {
        Self {
            done,
            errors: Vec::new(),
            next: 0,
            early: BTreeMap::new(),
            remembered: Instant::now(),
            waiting: None,
            failure: None,
        }
    }
}

impl Account<'_> {
    /// Enters a batch.
    fn settle(&self, sequence: u64, settled: Settled) {
        let mut state = self.lock();
        state.early.insert(sequence, settled);
        let next = state.next;
        let mut turn = next;
        while let Some(settled) = state.early.remove(&turn) {
            turn += 1;
            state.done.rows += settled.done.rows;
            state.done.accepted += settled.done.accepted;
            state.done.rejected += settled.done.rejected;
            let room = ERRORS.saturating_sub(state.errors.len());
            state.errors.extend(settled.errors.into_iter().take(room));
        }
        state.next = turn;
        if turn > next
            && state.remembered.elapsed() >= REMEMBERED_APART
            && let Some(position) = self.position
        {
            remember(position, state.done);
            state.remembered = Instant::now();
        }
        self.progress.advance(state.done.rows, state.done.rejected);
    }

    /// The server takes no more.
    fn stop(&self, error: ClientError) {
        self.stopped.store(true, Ordering::Relaxed);
        self.lock().failure.get_or_insert(error);
    }

    /// Says now and then that the server is waited for.
    fn wait_noted(&self, error: &ClientError) {
        let mut state = self.lock();
        if state
            .waiting
            .is_none_or(|noted| noted.elapsed() >= NOTES_APART)
        {
            state.waiting = Some(Instant::now());
            self.progress
                .note(&format!("{}; trying again", crate::exit::chain(error)));
        }
    }

    /// What the account says.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Remembers how far it got. Where that fails, an interrupted import starts anew: that costs time,
/// not rows.
fn remember(position: &PositionFile, done: Done) {
    let _not_remembered = position.write(done);
}

/// What became of an import.
pub(crate) struct Summary {
    /// All rows.
    done: Done,
    /// The first rejected ones: line and why.
    errors: Vec<(u64, String)>,
}

impl Summary {
    /// How many rows were rejected.
    pub(crate) fn rejected(&self) -> u64 {
        self.done.rejected
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let errors: Vec<Value> = self
            .errors
            .iter()
            .map(|(line, message)| json!({"line": line, "message": message}))
            .collect();
        json!({
            "accepted": self.done.accepted,
            "rejected": self.done.rejected,
            "errors": errors,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} rows: {} accepted, {} rejected",
            self.done.rows, self.done.accepted, self.done.rejected
        )?;
        for (line, message) in self.errors.iter().take(ERRORS_SHOWN) {
            writeln!(formatter, "  line {line}: {message}")?;
        }
        let more = self.done.rejected.saturating_sub(ERRORS_SHOWN as u64);
        if more > 0 && !self.errors.is_empty() {
            writeln!(formatter, "  and {more} more")?;
        }
        Ok(())
    }
}

/// A batch is not made longer than this, in bytes.
const BATCH_BYTES: usize = 4 << 20;

/// How many rejected rows are kept with their reason.
const ERRORS: usize = 100;

/// How many of them people are shown.
const ERRORS_SHOWN: usize = 20;

/// How long a batch is tried again.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause before the second try; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// How far apart the position is remembered.
const REMEMBERED_APART: Duration = Duration::from_millis(200);

/// How far apart waiting is noted.
const NOTES_APART: Duration = Duration::from_secs(5);
