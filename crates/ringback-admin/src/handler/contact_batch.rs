//! Many contacts at once: a batch of which each line is about one contact.
//!
//! The body is read as it comes and never kept: lines are gathered into chunks, and each chunk is durable before the
//! next one is read. A body that breaks off is carried out as far as whole lines go, or less.

use axum::extract::Request;
use axum::response::Response;
use ringback_api::{BatchReport, LineError};
use ringback_engine::{Command, CommandError, Committed, Sequence};
use serde_json::Value;

use super::batch::{Begun, ERRORS_SHOWN, begin, end};
use crate::api::Api;
use crate::auth::Tenant;
use crate::body::next_data;
use crate::error::{ApiError, FieldErrors, call_rejection, field_messages};
use crate::fields::Fields;
use crate::idempotency::RequestHash;
use crate::ignored::IgnoredFields;
use crate::lines::{Line, LineSplitter, MAX_LINE_BYTES};
use crate::reply::Answer;

/// Carries out a batch: `read` reads what a line asks for, `command` makes a command of many lines, whose result says
/// for each line whether it was refused.
///
/// # Errors
/// The body is of another type, pauses for too long or breaks off, or storage takes no writes.
pub(super) async fn carry_out<T, O, C>(
    api: &Api,
    tenant: Tenant,
    request: Request,
    read: impl Fn(&mut Fields) -> Option<T>,
    command: impl Fn(Vec<T>) -> C,
) -> Result<Response, ApiError>
where
    C: Command<Output = Vec<Result<O, CommandError>>>,
    O: Send + 'static,
{
    let (request, hash) = match begin(api, tenant, request).await? {
        Begun::Before(response) => return Ok(response),
        Begun::Now(request, hash) => (request, hash.map(|hash| *hash)),
    };
    let mut batch = Batch {
        api,
        tenant,
        ignored: IgnoredFields::of(&request),
        hash,
        sequence: api.engine().applied(),
        line: 0,
        asked: Vec::new(),
        lines: Vec::new(),
        report: BatchReport::default(),
    };
    batch.read(request, read, command).await?;
    let Batch {
        hash,
        sequence,
        report,
        ..
    } = batch;
    end(api, tenant, hash, sequence, Answer::ok(report)).await
}

/// A batch being read.
struct Batch<'a, T> {
    /// Carries it out.
    api: &'a Api,
    /// Whose it is.
    tenant: Tenant,
    /// Fields of any line that mean nothing.
    ignored: IgnoredFields,
    /// The hash of what was read so far, if the request may be repeated.
    hash: Option<RequestHash>,
    /// An entry of the log up to which it was carried out.
    sequence: Sequence,
    /// Lines read so far.
    line: u64,
    /// What the lines of the chunk ask for.
    asked: Vec<T>,
    /// On which line each stands.
    lines: Vec<u64>,
    /// What has become of the lines before.
    report: BatchReport,
}

impl<T> Batch<'_, T> {
    /// Reads the body to its end.
    async fn read<O, C>(
        &mut self,
        request: Request,
        read: impl Fn(&mut Fields) -> Option<T>,
        command: impl Fn(Vec<T>) -> C,
    ) -> Result<(), ApiError>
    where
        C: Command<Output = Vec<Result<O, CommandError>>>,
        O: Send + 'static,
    {
        let mut splitter = LineSplitter::default();
        let mut body = request.into_body();
        while let Some(data) = next_data(&mut body).await? {
            if let Some(hash) = &mut self.hash {
                hash.update(&data);
            }
            let mut data = data.as_ref();
            while let Some(line) = splitter.next_line(&mut data) {
                self.take(&line, &read);
                if self.asked.len() >= CHUNK_LINES {
                    self.submit(&command).await?;
                }
            }
            tokio::task::consume_budget().await;
        }
        if let Some(line) = splitter.last_line() {
            self.take(&line, &read);
        }
        self.submit(&command).await
    }

    /// Reads a line and adds it to the chunk.
    fn take(&mut self, line: &Line<'_>, read: impl Fn(&mut Fields) -> Option<T>) {
        self.line += 1;
        let result = match line {
            Line::TooLong => Err(format!("Line is longer than {MAX_LINE_BYTES} bytes")),
            Line::Whole(text) if text.trim_ascii().is_empty() => return,
            Line::Whole(text) => self.parse(text, read),
        };
        match result {
            Ok(asked) => {
                self.asked.push(asked);
                self.lines.push(self.line);
            }
            Err(message) => self.reject(self.line, message),
        }
    }

    /// What a line asks for.
    fn parse(&self, text: &[u8], read: impl Fn(&mut Fields) -> Option<T>) -> Result<T, String> {
        let value: Value =
            serde_json::from_slice(text).map_err(|_malformed| "Malformed JSON".to_owned())?;
        if !value.is_object() {
            return Err("Line is no JSON object".to_owned());
        }
        let mut fields = Fields::new(value, self.ignored.clone());
        let asked = read(&mut fields);
        let errors: FieldErrors = fields.finish();
        asked
            .filter(|_| errors.is_empty())
            .ok_or_else(|| field_messages(&errors))
    }

    /// Notes a line that was not carried out.
    fn reject(&mut self, line: u64, message: String) {
        self.report.rejected += 1;
        if self.report.errors.len() < 2 * ERRORS_SHOWN {
            self.report.errors.push(LineError { line, message });
        }
    }

    /// Has the chunk carried out.
    async fn submit<O, C>(&mut self, command: impl Fn(Vec<T>) -> C) -> Result<(), ApiError>
    where
        C: Command<Output = Vec<Result<O, CommandError>>>,
        O: Send + 'static,
    {
        if !self.asked.is_empty() {
            let command = command(std::mem::take(&mut self.asked));
            let command = self.tenant.audited(command);
            let Committed { output, sequence } = self.api.engine().submit_at(command).await?;
            self.sequence = self.sequence.max(sequence);
            for (line, result) in std::mem::take(&mut self.lines).into_iter().zip(output) {
                match result {
                    Ok(_) => self.report.accepted += 1,
                    Err(CommandError::StorageUnavailable) => {
                        return Err(ApiError::StorageUnavailable);
                    }
                    Err(error) => self.reject(line, call_rejection(&error)),
                }
            }
        }
        // Those found while reading stand before and behind those that the command found.
        self.report.errors.sort_by_key(|error| error.line);
        self.report.errors.truncate(ERRORS_SHOWN);
        Ok(())
    }
}

/// How many lines are carried out at once.
const CHUNK_LINES: usize = 1_000;
