//! Sends batches over several connections and keeps the account.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::position::{Done, PositionFile};
use super::preset::Direction;
use super::progress::Progress;
use super::rejects::{Reject, RejectsFile};
use super::row::{Fault, RowContent, Rows, RowsError};
use crate::client::{ApiPath, BatchAnswer, Client, ClientError};
use crate::output::escaped;

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
    /// Whether every rejected row has to be told with its reason.
    pub(crate) tell_all: bool,
}

/// Why sending ended early.
pub(crate) enum SendError {
    /// The file cannot be read on.
    Rows(RowsError),
    /// A thread could not be started.
    Thread(io::Error),
    /// Rejected rows cannot be kept.
    Rejects(io::Error),
    /// The server takes no more.
    Server {
        /// Rows answered without a gap from the first.
        rows: u64,
        /// The last error of the server, or on the way to it.
        source: ClientError,
    },
}

impl Sender<'_> {
    /// Sends the rows after those that are done.
    pub(crate) fn send(
        &self,
        mut rows: Rows<'_>,
        done: Done,
        rejects: Option<RejectsFile>,
    ) -> Result<Summary, SendError> {
        let account = Account {
            progress: self.progress,
            position: self.position,
            most_early: 4 * usize::from(self.connections),
            state: Mutex::new(State::new(done, rejects)),
            settled: Condvar::new(),
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
            Some(Stop::Rejects(source)) => Err(SendError::Rejects(source)),
            Some(Stop::Server(source)) => Err(SendError::Server {
                rows: state.done.rows,
                source,
            }),
        }
    }

    /// Cuts rows into batches until there are no more, or nobody takes them.
    fn read(
        &self,
        rows: &mut Rows<'_>,
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
            batch.done.rows += 1;
            match row.content {
                RowContent::Call(call) => {
                    batch.body.extend_from_slice(call.as_bytes());
                    batch.body.push(b'\n');
                    batch.lines.push(row.line);
                }
                RowContent::Skipped(Direction::Inbound) => batch.done.inbound += 1,
                RowContent::Skipped(_) => batch.done.internal += 1,
                RowContent::Fault(fault) => batch.unsent.push(Reject {
                    line: row.line,
                    fault,
                }),
            }
            if batch.done.rows >= u64::from(self.batch) || batch.body.len() >= BATCH_BYTES {
                let next = Batch {
                    sequence: batch.sequence + 1,
                    ..Batch::default()
                };
                if batches.send(std::mem::replace(&mut batch, next)).is_err() {
                    return Ok(());
                }
            }
        }
        if batch.done.rows > 0 {
            // If nobody takes it, the account knows why.
            let _refused = batches.send(batch);
        }
        Ok(())
    }

    /// Sends batches until there are no more, or one does not go through.
    fn work(&self, queue: &Mutex<Receiver<Batch>>, account: &Account<'_>) {
        while account.may_go_on() {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = next else { return };
            let sequence = batch.sequence;
            match self.deliver(batch, account) {
                Ok(result) => account.settle(sequence, result),
                Err(error) => {
                    account.stop(Stop::Server(error));
                    return;
                }
            }
        }
    }

    /// Sends one batch.
    fn deliver(&self, batch: Batch, account: &Account<'_>) -> Result<Settled, ClientError> {
        let mut settled = Settled {
            done: batch.done,
            errors: batch.unsent,
        };
        settled.done.rejected += settled.errors.len() as u64;
        if batch.lines.is_empty() {
            return Ok(settled);
        }
        let answer = self.post(&batch.body, account)?;
        let told = Rejected::of(&answer, &batch.body, &batch.lines, 0);
        let last = told.last().map_or(0, |rejected| rejected.index + 1);
        let (mut rejected, mut accepted) = (answer.report.rejected, answer.report.accepted);
        let (mut new, mut updated) = (answer.new, answer.updated);
        let told_count = told.len() as u64;
        settled
            .errors
            .extend(told.into_iter().map(|told| told.reject));
        if self.tell_all && rejected > told_count {
            // The server tells the first hundred of a request alone, so the rows behind them are asked for again
            // in requests of a hundred: what was recorded is known by now, what was rejected is rejected again.
            let mut told_again = 0;
            for (start, piece) in pieces(&batch.body, last, PIECE) {
                let answer = self.post(piece, account)?;
                let told = Rejected::of(&answer, piece, &batch.lines, start);
                told_again += told.len() as u64;
                new += answer.new;
                updated += answer.updated;
                settled
                    .errors
                    .extend(told.into_iter().map(|told| told.reject));
            }
            // Some may have become right in between, such as by an agent that was made.
            accepted += (rejected - told_count).saturating_sub(told_again);
            rejected = told_count + told_again;
        }
        settled.done.accepted += accepted;
        settled.done.rejected += rejected;
        if answer.tells_new {
            settled.done.new += new;
            settled.done.updated += updated;
            settled.done.known += accepted.saturating_sub(new + updated);
        }
        settled.errors.sort_by_key(|reject| reject.line);
        Ok(settled)
    }

    /// Sends lines, again while the server is away.
    fn post(&self, body: &[u8], account: &Account<'_>) -> Result<BatchAnswer, ClientError> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self
                .client
                .post_lines(&ApiPath::new(["calls", "batch"]), body)
            {
                Ok(answer) => return Ok(answer),
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
        }
    }
}

/// Lines from this one on, in pieces of so many: the number of the first, and the piece.
fn pieces(body: &[u8], from: usize, size: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = body;
    let mut index = 0;
    let mut take = move |lines: usize| {
        let mut length = 0;
        let mut count = 0;
        for line in rest.split_inclusive(|byte| *byte == b'\n').take(lines) {
            length += line.len();
            count += 1;
        }
        let (piece, behind) = rest.split_at(length);
        let start = index;
        rest = behind;
        index += count;
        (start, piece)
    };
    take(from);
    std::iter::from_fn(move || Some(take(size)).filter(|(_, piece)| !piece.is_empty()))
}

/// Rows that are sent in one request.
#[derive(Default)]
struct Batch {
    /// Its number among the batches, from 0.
    sequence: u64,
    /// How many rows it has, and how many of them are skipped.
    done: Done,
    /// The calls, one on each line.
    body: Vec<u8>,
    /// The line of the file on which each of them stands.
    lines: Vec<u64>,
    /// Rows that are no calls.
    unsent: Vec<Reject>,
}

/// A row that the server rejected.
struct Rejected {
    /// Its index among the rows of the batch.
    index: usize,
    /// What it is told as.
    reject: Reject,
}

impl Rejected {
    /// The rows that an answer names. The request had this body, whose first line is this one of the batch, and
    /// `lines` are the lines of the file on which the batch's rows stand.
    fn of(answer: &BatchAnswer, body: &[u8], lines: &[u64], first: usize) -> Vec<Self> {
        let mut sent = body.split(|byte| *byte == b'\n');
        let mut next = 0;
        let mut rejected = Vec::new();
        for error in &answer.report.errors {
            let line = usize::try_from(error.line).ok();
            let Some(index) = line.and_then(|line| line.checked_sub(1)) else {
                continue;
            };
            // Errors are told in the order of their lines.
            let call = index.checked_sub(next).and_then(|ahead| sent.nth(ahead));
            next = index + 1;
            let call: Value = call
                .and_then(|call| serde_json::from_slice(call).ok())
                .unwrap_or_default();
            let reason = error.message.as_str();
            let field = field_of(reason);
            let value = call.get(field).and_then(Value::as_str);
            rejected.push(Self {
                index: first + index,
                reject: Reject {
                    line: lines.get(first + index).copied().unwrap_or(0),
                    fault: Fault::new(field, value.unwrap_or_default(), reason),
                },
            });
        }
        rejected
    }
}

/// The field of which a reason of the API speaks first.
fn field_of(reason: &str) -> &'static str {
    REASONS
        .iter()
        .filter_map(|(words, field)| Some((reason.find(words)?, field)))
        .min_by_key(|(index, _)| *index)
        .map_or("", |(_, field)| field)
}

/// What became of a batch.
struct Settled {
    /// How many rows.
    done: Done,
    /// Rows that were rejected; not necessarily all.
    errors: Vec<Reject>,
}

/// Keeps the account of all batches.
struct Account<'a> {
    /// Shows the account to people.
    progress: &'a Progress,
    /// Remembers the account beside the file.
    position: Option<&'a PositionFile>,
    /// How many batches may be answered before their turn until the others wait.
    most_early: usize,
    /// What it says.
    state: Mutex<State>,
    /// Told when batches have come to their turn, or there is nothing more to do.
    settled: Condvar,
    /// Whether to stop.
    stopped: AtomicBool,
}

/// What the account says.
struct State {
    /// Rows answered without a gap from the first.
    done: Done,
    /// The first rejected rows among them.
    errors: Vec<Reject>,
    /// Keeps all of them.
    rejects: Option<RejectsFile>,
    /// The batch that comes next.
    next: u64,
    /// Batches that were answered before their turn.
    early: BTreeMap<u64, Settled>,
    /// When the position was last remembered.
    remembered: Instant,
    /// When waiting was last noted.
    waiting: Option<Instant>,
    /// Why to stop.
    failure: Option<Stop>,
}

/// Why to stop.
enum Stop {
    /// The server takes no more.
    Server(ClientError),
    /// Rejected rows cannot be kept.
    Rejects(io::Error),
}

impl State {
    /// An account that starts here.
    fn new(done: Done, rejects: Option<RejectsFile>) -> Self {
        Self {
            done,
            errors: Vec::new(),
            rejects,
            next: 0,
            early: BTreeMap::new(),
            remembered: Instant::now(),
            waiting: None,
            failure: None,
        }
    }
}

impl Account<'_> {
    /// Waits until there are few enough batches that were answered before their turn; false: stop. The batch whose
    /// turn it is has been taken by somebody, because batches are taken in their order.
    fn may_go_on(&self) -> bool {
        let mut state = self.lock();
        while !self.stopped.load(Ordering::Relaxed) && state.early.len() >= self.most_early {
            state = self
                .settled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        !self.stopped.load(Ordering::Relaxed)
    }

    /// Enters a batch.
    fn settle(&self, sequence: u64, settled: Settled) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.early.insert(sequence, settled);
        let next = state.next;
        let mut turn = next;
        while let Some(settled) = state.early.remove(&turn) {
            if let Some(rejects) = &mut state.rejects {
                if let Err(error) = rejects.add(&settled.errors) {
                    state.failure.get_or_insert(Stop::Rejects(error));
                    self.stopped.store(true, Ordering::Relaxed);
                    break;
                }
                state.done.rejects_length = rejects.length();
            }
            turn += 1;
            state.done.add(settled.done);
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
        drop(guard);
        self.settled.notify_all();
    }

    /// There is nothing more to do.
    fn stop(&self, reason: Stop) {
        let mut state = self.lock();
        self.stopped.store(true, Ordering::Relaxed);
        state.failure.get_or_insert(reason);
        drop(state);
        self.settled.notify_all();
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

/// Remembers how far it got. Where that fails, an interrupted import starts from the first row: that costs time,
/// not rows, and was said at the start.
fn remember(position: &PositionFile, done: Done) {
    let _not_remembered = position.write(done);
}

/// What became of an import.
pub(crate) struct Summary {
    /// All rows.
    done: Done,
    /// The first rejected ones.
    errors: Vec<Reject>,
}

impl Summary {
    /// How many rows were rejected.
    pub(crate) fn rejected(&self) -> u64 {
        self.done.rejected
    }

    /// The summary for `--json`.
    pub(crate) fn to_json(&self) -> Value {
        let errors: Vec<Value> = self
            .errors
            .iter()
            .map(|Reject { line, fault }| {
                json!({"line": line, "field": fault.field, "value": fault.value,
                    "message": fault.reason})
            })
            .collect();
        json!({
            "rows": self.done.rows,
            "accepted": self.done.accepted,
            "rejected": self.done.rejected,
            "new": self.done.new,
            "updated": self.done.updated,
            "known": self.done.known,
            "outbound": self.outbound(),
            "inbound": self.done.inbound,
            "internal": self.done.internal,
            "errors": errors,
        })
    }

    /// How many rows were taken for outbound calls.
    fn outbound(&self) -> u64 {
        let skipped = self.done.inbound + self.done.internal;
        self.done.rows.saturating_sub(skipped)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = &self.done;
        let skipped = done.inbound + done.internal;
        writeln!(
            formatter,
            "{} rows: {} accepted, {} rejected, {skipped} skipped",
            done.rows, done.accepted, done.rejected
        )?;
        if done.new + done.updated + done.known > 0 {
            writeln!(
                formatter,
                "  of the accepted: {} new, {} updated, {} known already",
                done.new, done.updated, done.known
            )?;
        }
        if skipped > 0 {
            writeln!(
                formatter,
                "  by direction: {} outbound, {} inbound and {} internal; only outbound calls are imported",
                self.outbound(),
                done.inbound,
                done.internal
            )?;
        }
        for Reject { line, fault } in self.errors.iter().take(ERRORS_SHOWN) {
            let Fault {
                field,
                value,
                reason,
            } = fault;
            let subject = match (*field, value.as_str()) {
                ("", "") => String::new(),
                ("", value) => format!("`{value}`: "),
                (field, "") => format!("{field}: "),
                (field, value) => format!("{field} `{value}`: "),
            };
            writeln!(
                formatter,
                "  line {line}: {}",
                escaped(&format!("{subject}{reason}"))
            )?;
        }
        let shown = self.errors.len().min(ERRORS_SHOWN) as u64;
        let more = done.rejected.saturating_sub(shown);
        if more > 0 && shown > 0 {
            writeln!(formatter, "  and {more} more")?;
        }
        Ok(())
    }
}

/// By which words of a reason its field is known.
const REASONS: &[(&str, &str)] = &[
    ("The agent id field", "agent_id"),
    ("The selected agent", "agent_id"),
    ("another agent", "agent_id"),
    ("The to field", "to"),
    ("another contact", "to"),
    ("The from field", "from"),
    ("another calling number", "from"),
    ("The selected status", "status"),
    ("The status field", "status"),
    ("The started at field", "started_at"),
    ("The call may ", "started_at"),
    ("another start time", "started_at"),
    ("The sid field", "sid"),
];

/// A batch is not made longer than this, in bytes.
const BATCH_BYTES: usize = 4 << 20;

/// How many rows are asked for again at once: as many as the server tells the errors of.
const PIECE: usize = 100;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_were_not_told_are_cut_into_pieces() {
        let body = b"a\nb\nc\nd\ne\n";
        let cut = |from, size| pieces(body, from, size).collect::<Vec<_>>();
        assert_eq!(cut(0, 5), [(0, &body[..])]);
        assert_eq!(cut(1, 2), [(1, &b"b\nc\n"[..]), (3, b"d\ne\n")]);
        assert_eq!(cut(4, 2), [(4, &b"e\n"[..])]);
        assert_eq!(cut(5, 2), []);
    }
}
