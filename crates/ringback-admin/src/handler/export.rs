//! `GET /export/{kind}`: everything of one kind, a line for each, as it stands in the API or as separated values.
//!
//! Lines are written while they are read, so the whole is never in memory, and it is no single state: what changes
//! meanwhile may be in it or not. Calls are those of agents that exist, in no order. In separated values, what is a list
//! in JSON is joined by `;`.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use ringback_api::{Agent, AgentOfDecision, Call, CallbackAgent, Decision, PhoneNumber};
use ringback_engine::{AuditAction, Engine};
use ringback_routing::{Directory, EnvironmentId, read_id};
use serde::Serialize;

use crate::api::Api;
use crate::auth::Asker;
use crate::error::ApiError;
use crate::open_requests::OpenRequest;
use crate::path::{PathText, QueryText};
use crate::streamed;
use crate::wire;

/// What can be exported.
#[derive(Clone, Copy)]
enum Kind {
    /// Outbound calls, as `import calls` reads them.
    Calls,
    /// Agents.
    Agents,
    /// Phone numbers.
    Numbers,
    /// Agents with a callback role.
    Roles,
    /// The latest decisions, which are in memory.
    Decisions,
}

/// How lines are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// One JSON object on each line.
    Ndjson,
    /// Separated values (RFC 4180) under a header.
    Csv,
}

/// `GET /export/{kind}`.
pub(crate) async fn export(
    State(api): State<Api>,
    asker: Asker,
    Extension(open): Extension<Arc<OpenRequest>>,
    path: PathText,
    mut query: QueryText,
) -> Result<Response, ApiError> {
    let kind = match path.get("kind") {
        "calls" => Kind::Calls,
        "agents" => Kind::Agents,
        "numbers" => Kind::Numbers,
        "roles" => Kind::Roles,
        "decisions" => Kind::Decisions,
        _ => return Err(ApiError::NoSuchPath),
    };
    let format = query.read(
        "format",
        "The format must be ndjson or csv.",
        |text| match text {
            "ndjson" => Some(Format::Ndjson),
            "csv" => Some(Format::Csv),
            _ => None,
        },
    );
    let named = query.get("environment").map(read_id);
    query.errors.into_result()?;
    let environment = asker.environment(&api, named.map(|id| id.map(EnvironmentId)))?;
    // Decisions as little as those of `GET /decisions`, which are the same.
    if !matches!(kind, Kind::Decisions) {
        asker
            .note_copy(&api, environment, AuditAction::Export)
            .await?;
    }
    let format = format.unwrap_or(Format::Ndjson);
    let content_type = match format {
        Format::Ndjson => "application/x-ndjson",
        Format::Csv => "text/csv; charset=utf-8",
    };
    let engine = api.engine().clone();
    streamed::answer(&api, open.stream()?, content_type, move |to| {
        let lines = Lines {
            to,
            format,
            environment,
        };
        match kind {
            Kind::Calls => calls(&engine, lines),
            Kind::Agents => of_directory(&engine, lines, Agent::COLUMNS, |directory, id, lines| {
                directory
                    .agents_of(id)
                    .try_for_each(|agent| lines.write(id, &wire::agent(directory, agent)))
            }),
            Kind::Numbers => of_directory(
                &engine,
                lines,
                PhoneNumber::COLUMNS,
                |directory, id, lines| {
                    directory
                        .numbers_of(id)
                        .try_for_each(|number| lines.write(id, &wire::number(directory, number)))
                },
            ),
            Kind::Roles => of_directory(
                &engine,
                lines,
                CallbackAgent::COLUMNS,
                |directory, id, lines| {
                    let mut roles = directory
                        .agents_of(id)
                        .filter_map(|agent| wire::callback_agent(&agent.record));
                    roles.try_for_each(|role| lines.write(id, &role))
                },
            ),
            Kind::Decisions => {
                of_directory(&engine, lines, Decision::COLUMNS, |directory, id, lines| {
                    let decisions = engine.decisions(id, usize::MAX);
                    let mut decisions = decisions.iter();
                    decisions
                        .try_for_each(|record| lines.write(id, &wire::decision(directory, record)))
                })
            }
        }
    })
    .await
}

/// Writes the calls.
fn calls(engine: &Engine, mut lines: Lines<'_>) -> Result<(), ApiError> {
    lines.begin(Call::COLUMNS)?;
    let mut unwritten = None;
    let visited = engine.visit_calls(&mut |call| {
        if lines
            .environment
            .is_some_and(|only| only != call.environment)
        {
            return ControlFlow::Continue(());
        }
        match lines.write(call.environment, &wire::call(call)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                unwritten = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    if let Err(error) = visited {
        tracing::error!(%error, "calls could not be read for an export");
        return Err(ApiError::StorageUnavailable);
    }
    unwritten.map_or(Ok(()), |error| Err(error.into()))
}

/// Writes what the directory has of each environment that is asked for.
fn of_directory(
    engine: &Engine,
    mut lines: Lines<'_>,
    header: &[&str],
    write: impl Fn(&Directory, EnvironmentId, &mut Lines<'_>) -> io::Result<()>,
) -> Result<(), ApiError> {
    let directory = Arc::clone(&engine.directory());
    let only = lines.environment;
    lines.begin(header)?;
    for environment in directory.environments() {
        let id = environment.record.id;
        if only.is_none_or(|only| only == id) {
            write(&directory, id, &mut lines)?;
        }
    }
    Ok(())
}

/// Writes lines.
struct Lines<'a> {
    /// Where to.
    to: &'a mut dyn Write,
    /// How.
    format: Format,
    /// The one environment that is asked for; `None`: all, and each line names its own.
    environment: Option<EnvironmentId>,
}

impl Lines<'_> {
    /// Writes the header, where there is one.
    fn begin(&mut self, columns: &[&str]) -> io::Result<()> {
        if self.format == Format::Ndjson {
            return Ok(());
        }
        let environment = self.environment.is_none().then_some("environment_id");
        let cells = columns.iter().copied().chain(environment);
        self.separated(cells.map(str::to_owned))
    }

    /// Writes a line about something in this environment.
    fn write<R: Row>(&mut self, environment: EnvironmentId, row: &R) -> io::Result<()> {
        let environment_id = self.environment.is_none().then_some(environment);
        if self.format == Format::Csv {
            let environment = environment_id.map(|id| id.to_string());
            return self.separated(row.cells().into_iter().chain(environment));
        }
        let line = Line {
            row,
            environment_id,
        };
        serde_json::to_writer(&mut *self.to, &line)?;
        self.to.write_all(b"\n")
    }

    /// Writes cells.
    fn separated(&mut self, cells: impl Iterator<Item = String>) -> io::Result<()> {
        let mut line = String::new();
        for (index, cell) in cells.enumerate() {
            if index > 0 {
                line.push(',');
            }
            if cell.contains(['"', ',', '\n', '\r']) {
                line.push('"');
                line.push_str(&cell.replace('"', "\"\""));
                line.push('"');
            } else {
                line.push_str(&cell);
            }
        }
        line.push_str("\r\n");
        self.to.write_all(line.as_bytes())
    }
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a, R> {
    /// What it is about.
    #[serde(flatten)]
    row: &'a R,
    /// The environment, where lines are of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_id: Option<EnvironmentId>,
}

/// Something that can be exported.
trait Row: Serialize {
    /// The columns of separated values.
    const COLUMNS: &'static [&'static str];

    /// The values in them.
    fn cells(&self) -> Vec<String>;
}

impl Row for Call {
    // As `ringback import calls` names them.
    const COLUMNS: &'static [&'static str] =
        &["sid", "agent_id", "to", "from", "status", "started_at"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.sid.clone(),
            self.agent_id.to_string(),
            self.to.to_string(),
            shown(self.from.as_ref()),
            self.status.name().to_owned(),
            self.started_at.to_string(),
        ]
    }
}

impl Row for Agent {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "name",
        "label",
        "description",
        "direction",
        "current_status",
        "phone_numbers",
        "targets",
        "created_at",
        "updated_at",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.label.clone(),
            self.description.clone().unwrap_or_default(),
            self.direction.name().to_owned(),
            self.current_status.name().to_owned(),
            joined(self.phone_numbers.iter().map(|number| number.number)),
            joined(self.targets.iter().map(|target| &target.uri)),
            self.created_at.to_string(),
            self.updated_at.to_string(),
        ]
    }
}

impl Row for PhoneNumber {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "number",
        "country_code",
        "formatted_number",
        "agent_ids",
        "default_agent_id",
        "created_at",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.number.to_string(),
            shown(self.country_code),
            self.formatted_number.clone(),
            joined(self.agents.iter().map(|agent| agent.id)),
            shown(self.default_agent_id),
            self.created_at.to_string(),
        ]
    }
}

impl Row for CallbackAgent {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "name",
        "label",
        "direction",
        "current_status",
        "source_agent_ids",
        "callback_trigger_statuses",
        "recency_window_seconds",
    ];

    fn cells(&self) -> Vec<String> {
        let config = &self.callback_config;
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.label.clone(),
            self.direction.name().to_owned(),
            self.current_status.name().to_owned(),
            joined(config.source_agent_ids.iter()),
            joined(
                config
                    .callback_trigger_statuses
                    .iter()
                    .map(|one| one.name()),
            ),
            shown(config.recency_window_seconds),
        ]
    }
}

impl Row for Decision {
    const COLUMNS: &'static [&'static str] = &[
        "at",
        "via",
        "to",
        "from",
        "outcome",
        "reason",
        "agent_id",
        "agent",
        "source_agent_id",
        "source_agent",
        "sid",
    ];

    fn cells(&self) -> Vec<String> {
        let id = |agent: &Option<AgentOfDecision>| shown(agent.as_ref().map(|agent| agent.id));
        let name = |agent: &Option<AgentOfDecision>| {
            let name = agent.as_ref().and_then(|agent| agent.name.clone());
            name.unwrap_or_default()
        };
        vec![
            self.at.to_string(),
            self.via.name().to_owned(),
            shown(self.to.as_ref()),
            shown(self.from.as_ref()),
            self.outcome.name().to_owned(),
            self.reason.name().to_owned(),
            id(&self.agent),
            name(&self.agent),
            id(&self.source_agent),
            name(&self.source_agent),
            self.sid.clone(),
        ]
    }
}

/// A value, or nothing.
fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A list in one cell.
fn joined(values: impl Iterator<Item = impl ToString>) -> String {
    let values: Vec<String> = values.map(|value| value.to_string()).collect();
    values.join(";")
}

impl From<io::Error> for ApiError {
    /// Whoever reads an answer has gone, or is being cut off.
    fn from(_error: io::Error) -> Self {
        Self::ShuttingDown
    }
}
