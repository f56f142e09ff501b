//! Many outbound calls: `POST /calls/batch`, one JSON object per line.
//!
//! The body is read as it comes and never kept: lines are parsed where they lie, gathered into
//! chunks, and a few chunks are on their way to storage at a time, so that commits are shared while
//! the next lines are read. A client that sends slowly has its calls recorded as they come. A body
//! that breaks off is recorded as far as whole lines go, or less.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use ringback_api::{BatchReport, LineError};
use ringback_engine::{
    BatchRecorded, CommandError, Committed, Engine, NewCall, Nothing, RecordBatch, Sequence,
    SubmitError,
};
use ringback_routing::NumberRulesRef;
use tokio::task::JoinHandle;

use crate::api::Api;
use crate::auth::{Asked, Tenant};
use crate::body::{expect_type, next_data};
use crate::call_text::{CallText, NotACall};
use crate::error::{ApiError, FieldErrors, call_rejection, field_messages};
use crate::idempotency::{RequestHash, first_answer, is_answered};
use crate::ignored::IgnoredFields;
use crate::lines::{Line, LineSplitter, MAX_LINE_BYTES};
use crate::reply::Answer;
use crate::sequence;

/// `POST /calls/batch`.
pub(crate) async fn record(
    State(api): State<Api>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, ApiError> {
    let (request, hash) = match begin(&api, tenant, request).await? {
        Begun::Before(response) => return Ok(response),
        Begun::Now(request, hash) => (request, hash.map(|hash| *hash)),
    };
    let ignored = IgnoredFields::of(&request);
    let rules = api.number_rules(tenant)?;
    let mut batch = Batch::new(api.engine().clone(), tenant, rules, ignored, hash);
    let result = batch.read(request).await;
    api.metrics()
        .count_calls(batch.report.body.accepted, batch.report.body.rejected);
    result?;
    let recorded = batch.report.recorded();
    let answer = Answer {
        recorded: Some(recorded),
        ..Answer::ok(batch.report.body)
    };
    end(&api, tenant, batch.hash, batch.sequence, answer).await
}

/// How a batch begins.
pub(crate) enum Begun {
    /// It was carried out before, and this is the first answer.
    Before(Response),
    /// It is to be carried out now. If it may be repeated, its body is to be hashed while it is read.
    Now(Request, Option<Box<RequestHash>>),
}

/// Begins a batch: checks its type, and whether it was carried out before.
///
/// # Errors
/// It is of another type, or its key was used for another request.
pub(crate) async fn begin(api: &Api, tenant: Tenant, request: Request) -> Result<Begun, ApiError> {
    expect_type(request.headers(), "application/x-ndjson")?;
    let hash = tenant.asked.key.map(|key| (key, key.hash(&request)));
    let Some((key, hash)) = hash else {
        return Ok(Begun::Now(request, None));
    };
    if !is_answered(api, key).await? {
        return Ok(Begun::Now(request, Some(Box::new(hash))));
    }
    let key = key.of_request(hash_body(request, hash).await?);
    let first = first_answer(api, key).await?;
    first.map(Begun::Before).ok_or(ApiError::Conflict)
}

/// Ends a batch of which every line was carried out, up to this entry of the log; keeps the answer if the batch may be
/// repeated.
///
/// # Errors
/// Storage takes no writes.
pub(crate) async fn end(
    api: &Api,
    tenant: Tenant,
    hash: Option<RequestHash>,
    sequence: Sequence,
    answer: Answer,
) -> Result<Response, ApiError> {
    let Some((key, hash)) = tenant.asked.key.zip(hash) else {
        let mut response = answer.into_response();
        sequence::show(sequence, response.headers_mut());
        return Ok(response);
    };
    // What is left is the answer.
    let key = key.of_request(hash);
    let asked = Asked {
        key: Some(key),
        ..tenant.asked
    };
    let command = tenant.command(Nothing);
    let answer = move |&(): &()| Ok(answer.clone());
    match api
        .carry_out(asked, command, FieldErrors::default(), answer)
        .await
    {
        Ok((_, response)) => Ok(response),
        // The same batch came twice at once.
        Err(ApiError::Rejected(CommandError::AnsweredBefore)) => {
            first_answer(api, key).await?.ok_or(ApiError::Conflict)
        }
        Err(error) => Err(error),
    }
}

/// Reads a body only to hash it.
async fn hash_body(request: Request, mut hash: RequestHash) -> Result<RequestHash, ApiError> {
    let mut body = request.into_body();
    while let Some(data) = next_data(&mut body).await? {
        hash.update(&data);
    }
    Ok(hash)
}

/// A batch being read.
struct Batch {
    /// Records the calls.
    engine: Engine,
    /// Whose they are: a token that ends meanwhile writes nothing more.
    tenant: Tenant,
    /// By which rules numbers are read.
    rules: NumberRulesRef<'static>,
    /// Fields of any line that mean nothing.
    ignored: IgnoredFields,
    /// The hash of what was read so far, if the request may be repeated.
    hash: Option<RequestHash>,
    /// An entry of the log up to which the calls that have arrived are recorded.
    sequence: Sequence,
    /// Lines read so far.
    lines: u64,
    /// The chunk being gathered.
    chunk: Chunk,
    /// Memory of chunks that have arrived.
    memory: Vec<Vec<NewCall>>,
    /// Chunks on their way to storage, oldest first.
    submitted: VecDeque<Submitted>,
    /// What has become of those that arrived.
    report: Report,
}

/// A chunk on its way to storage.
struct Submitted {
    /// The chunk, without its calls.
    chunk: Chunk,
    /// Its calls, which the engine has too until it has told their outcome.
    calls: Arc<Vec<NewCall>>,
    /// Waits for the outcome.
    outcome: JoinHandle<Result<Committed<BatchRecorded>, SubmitError>>,
}

/// Lines of a batch that are recorded in one command.
#[derive(Default)]
struct Chunk {
    /// The calls.
    calls: Vec<NewCall>,
    /// On which line each stands.
    lines: Vec<u64>,
    /// How many lines were rejected already.
    rejected: u64,
    /// The first of these.
    errors: Vec<LineError>,
}

/// What became of the lines so far.
#[derive(Default)]
struct Report {
    /// What the body of the answer says.
    body: BatchReport,
    /// How many of the accepted were not known; told in a header field.
    new: u64,
    /// How many of the accepted were known, and got further; told in a header field.
    updated: u64,
}

impl Batch {
    /// An empty batch.
    fn new(
        engine: Engine,
        tenant: Tenant,
        rules: NumberRulesRef<'static>,
        ignored: IgnoredFields,
        hash: Option<RequestHash>,
    ) -> Self {
        Self {
            sequence: engine.applied(),
            hash,
            engine,
            tenant,
            rules,
            ignored,
            lines: 0,
            chunk: Chunk::default(),
            memory: Vec::new(),
            submitted: VecDeque::new(),
            report: Report::default(),
        }
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// The body pauses for too long or breaks off, or storage takes no writes. Calls may have been
    /// recorded; none of them is acknowledged.
    async fn read(&mut self, request: Request) -> Result<(), ApiError> {
        let mut splitter = LineSplitter::default();
        let mut body = request.into_body();
        loop {
            let next = tokio::time::timeout(FLUSH_AFTER, next_data(&mut body)).await;
            let next = match next {
                Ok(next) => next?,
                Err(_) => {
                    // The client takes its time: what it has sent need not wait for the rest.
                    self.submit().await?;
                    self.settle_finished().await?;
                    next_data(&mut body).await?
                }
            };
            let Some(data) = next else {
                break;
            };
            if let Some(hash) = &mut self.hash {
                hash.update(&data);
            }
            let mut data = data.as_ref();
            while let Some(line) = splitter.next_line(&mut data) {
                self.take(&line);
                if self.chunk.calls.len() >= CHUNK_CALLS {
                    self.submit().await?;
                }
            }
            tokio::task::consume_budget().await;
        }
        if let Some(line) = splitter.last_line() {
            self.take(&line);
        }
        self.submit().await?;
        while let Some(submitted) = self.submitted.pop_front() {
            self.settle(submitted).await?;
        }
        let rest = std::mem::take(&mut self.chunk);
        self.report.add(rest, &BatchRecorded::default());
        Ok(())
    }

    /// Parses a line and adds it to the chunk.
    fn take(&mut self, line: &Line<'_>) {
        self.lines += 1;
        let result = match line {
            Line::TooLong => Err(format!("Line is longer than {MAX_LINE_BYTES} bytes")),
            Line::Whole(text) if text.trim_ascii().is_empty() => return,
            Line::Whole(text) => parse(text, self.rules, &self.ignored),
        };
        match result {
            Ok(mut call) => {
                if let (None, Some(key), Line::Whole(text)) =
                    (&call.sid, self.tenant.asked.key, line)
                {
                    // Repeated after it was broken off, the batch records each call once.
                    call.sid = Some(key.made_sid(self.lines, text));
                }
                self.chunk.calls.push(call);
                self.chunk.lines.push(self.lines);
            }
            Err(message) => self.chunk.reject(self.lines, message),
        }
    }

    /// Sends the chunk to storage, as soon as few enough are on their way.
    async fn submit(&mut self) -> Result<(), ApiError> {
        if self.chunk.calls.is_empty() {
            return Ok(());
        }
        if self.submitted.len() >= CHUNKS_ON_THEIR_WAY
            && let Some(submitted) = self.submitted.pop_front()
        {
            self.settle(submitted).await?;
        }
        let next = Chunk {
            calls: self.memory.pop().unwrap_or_default(),
            ..Chunk::default()
        };
        let mut chunk = std::mem::replace(&mut self.chunk, next);
        let calls = Arc::new(std::mem::take(&mut chunk.calls));
        let command = RecordBatch {
            environment: self.tenant.environment,
            calls: Arc::clone(&calls),
        };
        let command = self.tenant.command(command);
        // Handed over here, so that lines are recorded in their order; waited for while the next are
        // read.
        let outcome = tokio::spawn(self.engine.enqueue(command).await?);
        self.submitted.push_back(Submitted {
            chunk,
            calls,
            outcome,
        });
        Ok(())
    }

    /// Takes up the oldest chunks, as far as they have arrived.
    async fn settle_finished(&mut self) -> Result<(), ApiError> {
        while self
            .submitted
            .front()
            .is_some_and(|submitted| submitted.outcome.is_finished())
        {
            if let Some(submitted) = self.submitted.pop_front() {
                self.settle(submitted).await?;
            }
        }
        Ok(())
    }

    /// Waits for a chunk to arrive.
    async fn settle(&mut self, submitted: Submitted) -> Result<(), ApiError> {
        let Submitted {
            chunk,
            calls,
            outcome,
        } = submitted;
        let committed = outcome.await.map_err(|_| ApiError::ShuttingDown)??;
        self.sequence = self.sequence.max(committed.sequence);
        let recorded = committed.output;
        if recorded
            .refused
            .iter()
            .any(|(_, error)| matches!(error, CommandError::StorageUnavailable))
        {
            return Err(ApiError::StorageUnavailable);
        }
        self.report.add(chunk, &recorded);
        // For the next chunk: one thread would allocate it and another free it, batch after batch.
        if let Ok(mut memory) = Arc::try_unwrap(calls) {
            memory.clear();
            self.memory.push(memory);
        }
        Ok(())
    }
}

impl Chunk {
    /// Notes a line that is no call.
    fn reject(&mut self, line: u64, message: String) {
        self.rejected += 1;
        if self.errors.len() < ERRORS_SHOWN {
            self.errors.push(LineError { line, message });
        }
    }
}

impl Report {
    /// How many of the accepted calls were new, updated and known already.
    fn recorded(&self) -> HeaderValue {
        let Self { new, updated, .. } = self;
        let known = self.body.accepted.saturating_sub(new + updated);
        let text = format!("new={new}, updated={updated}, known={known}");
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// Adds what became of a chunk.
    fn add(&mut self, chunk: Chunk, recorded: &BatchRecorded) {
        let refused = &recorded.refused;
        let mut errors = chunk.errors;
        self.new += recorded.new as u64;
        self.updated += recorded.updated as u64;
        self.body.accepted += (chunk.lines.len() - refused.len()) as u64;
        self.body.rejected += chunk.rejected + refused.len() as u64;
        // Those found while parsing may stand further down, so none can be left out yet.
        if self.body.errors.len() < ERRORS_SHOWN {
            errors.extend(refused.iter().filter_map(|(index, error)| {
                Some(LineError {
                    line: *chunk.lines.get(*index)?,
                    message: call_rejection(error),
                })
            }));
        }
        errors.sort_by_key(|error| error.line);
        errors.truncate(ERRORS_SHOWN - self.body.errors.len());
        self.body.errors.append(&mut errors);
    }
}

/// Reads a line.
fn parse(
    text: &[u8],
    rules: NumberRulesRef<'static>,
    ignored: &IgnoredFields,
) -> Result<NewCall, String> {
    let fields = CallText::parse(text).map_err(|error| match error {
        NotACall::Malformed => "Malformed JSON".to_owned(),
        NotACall::NoObject => "Line is no JSON object".to_owned(),
    })?;
    fields.tell_unknown(ignored);
    let mut errors = FieldErrors::default();
    fields
        .read(rules, &mut errors)
        .ok_or_else(|| field_messages(&errors))
}

/// How many calls are sent to storage at once.
const CHUNK_CALLS: usize = 1_000;

/// How many chunks are on their way at once.
const CHUNKS_ON_THEIR_WAY: usize = 4;

/// How long calls wait for the client to send more.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// How many of the rejected lines are told.
pub(crate) const ERRORS_SHOWN: usize = 100;
