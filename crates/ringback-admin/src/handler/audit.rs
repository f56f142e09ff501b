//! Who changed what: `/audit`.

use std::ops::ControlFlow;

use axum::extract::State;
use axum::response::Response;
use ringback_engine::{Actor, AuditEntry, AuditId, ObjectType, UndoChange};
use ringback_routing::{EnvironmentId, Timestamp, TokenId, read_id};
use uuid::Uuid;

use crate::api::Api;
use crate::auth::Asker;
use crate::error::{ApiError, FieldErrors};
use crate::path::{PathText, QueryText};
use crate::reply::{self, Answer};
use crate::wire;

/// Which entries are wanted.
struct Wanted {
    /// The environment; `None`: all, and what is about the node.
    environment: Option<EnvironmentId>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    actor: Option<ActorWanted>,
    kind: Option<ObjectType>,
    object: Option<Uuid>,
    /// How many at most.
    limit: usize,
    /// Only those before this one.
    before: Option<AuditId>,
}

/// Whose changes are wanted.
#[derive(Clone, Copy)]
enum ActorWanted {
    Administrator,
    Token(TokenId),
}

/// `GET /audit`: newest first.
pub(crate) async fn list(
    State(api): State<Api>,
    asker: Asker,
    query: QueryText,
) -> Result<Response, ApiError> {
    let wanted = read(asker.environment(&api, None)?, query)?;
    let all = wanted.environment.is_none();
    let engine = api.engine().clone();
    let searched = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        let mut is_end = true;
        let visited = engine.visit_audit(wanted.before, &mut |entry| {
            if wanted.ends_before(&entry) {
                return ControlFlow::Break(());
            }
            if wanted.takes(&entry) {
                if found.len() == wanted.limit {
                    is_end = false;
                    return ControlFlow::Break(());
                }
                found.push(entry);
            }
            ControlFlow::Continue(())
        });
        visited.map(|()| (found, is_end))
    });
    let searched = searched.await.map_err(|_panicked| ApiError::Internal)?;
    let (found, is_end) = searched.map_err(unreadable)?;
    let last = found.last().filter(|_| !is_end);
    let next_cursor = last.map(|entry| entry.id.0.to_string());
    let shown = found.iter().map(|entry| wire::audit_entry(entry, all));
    Ok(reply::rows(shown.collect(), next_cursor))
}

/// `POST /audit/{id}/undo`: makes the inverse change, if the object is still as the change left it.
pub(crate) async fn undo(
    State(api): State<Api>,
    asker: Asker,
    path: PathText,
) -> Result<Response, ApiError> {
    let id = read_id(path.get("id")).map(AuditId);
    let id = id.ok_or(ApiError::AuditEntryNotFound)?;
    let engine = api.engine().clone();
    let found = tokio::task::spawn_blocking(move || engine.audit_entry(id));
    let found = found.await.map_err(|_panicked| ApiError::Internal)?;
    let visible = asker.environment(&api, None)?;
    let entry = found
        .map_err(unreadable)?
        .filter(|entry| visible.is_none() || entry.environment == visible)
        .ok_or(ApiError::AuditEntryNotFound)?;
    // What only the administrator can do, only the administrator can undo.
    let administrators = matches!(
        entry.object.kind,
        ObjectType::Environment | ObjectType::Token
    );
    if administrators && !asker.is_administrator() {
        return Err(ApiError::Forbidden);
    }
    let tokens = open_tokens(&api, &entry);
    let command = UndoChange {
        origin: asker.origin(),
        entry,
    };
    let all = visible.is_none();
    let answer = move |undone: &AuditEntry| Ok(Answer::ok(wire::audit_entry(undone, all)));
    let (_, response) = match asker {
        Asker::Administrator(administrator) => {
            let errors = FieldErrors::default();
            api.carry_out(administrator.asked, command, errors, answer)
                .await?
        }
        Asker::Tenant(tenant) => api.submit(tenant, command, answer).await?,
    };
    for (environment, token) in tokens {
        api.open_requests().end(environment, token);
    }
    Ok(response)
}

/// The tokens that end if the making of this entry's object is undone.
fn open_tokens(api: &Api, entry: &AuditEntry) -> Vec<(EnvironmentId, TokenId)> {
    let Some(environment) = entry.environment else {
        return Vec::new();
    };
    match (entry.object.kind, entry.object.id, &entry.before) {
        (ObjectType::Token, Some(id), None) => vec![(environment, TokenId(id))],
        (ObjectType::Environment, _, None) => {
            let directory = api.engine().directory();
            let found = directory.environment_by_id(environment).into_iter();
            let tokens = found.flat_map(|one| &one.tokens);
            tokens.map(|token| (environment, token.id)).collect()
        }
        _ => Vec::new(),
    }
}

/// Reads a query.
fn read(environment: Option<EnvironmentId>, mut query: QueryText) -> Result<Wanted, ApiError> {
    let limit = query.number("limit", 100, (1, 1_000));
    let time = |text: &str| text.parse().ok();
    let wanted = Wanted {
        environment,
        since: query.read(
            "since",
            "The since must be an RFC 3339 date and time.",
            time,
        ),
        until: query.read(
            "until",
            "The until must be an RFC 3339 date and time.",
            time,
        ),
        actor: query.read(
            "actor",
            "The actor must be a token's id or administrator.",
            |text| match text {
                "administrator" => Some(ActorWanted::Administrator),
                id => read_id(id).map(|id| ActorWanted::Token(TokenId(id))),
            },
        ),
        kind: query.read("type", "The type is unknown.", |text| {
            let mut kinds = ObjectType::ALL.into_iter();
            kinds.find(|kind| kind.name() == text)
        }),
        object: query.read("object", "The object must be an id.", read_id),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        before: query
            .read(
                "cursor",
                "The cursor must be one that an answer gave.",
                read_id,
            )
            .map(AuditId),
    };
    query.errors.into_result()?;
    Ok(wanted)
}

impl Wanted {
    /// Whether this entry is wanted.
    fn takes(&self, entry: &AuditEntry) -> bool {
        let by = match (self.actor, &entry.actor) {
            (None, _) | (Some(ActorWanted::Administrator), Actor::Administrator) => true,
            (Some(ActorWanted::Token(wanted)), Actor::Token { id, .. }) => *id == wanted,
            _ => false,
        };
        by && (self.environment.is_none() || entry.environment == self.environment)
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
            && self.kind.is_none_or(|kind| entry.object.kind == kind)
            && self.object.is_none_or(|id| entry.object.id == Some(id))
    }

    /// Whether this entry and all before it are too old. Entries are in the order of their identifiers, which are made
    /// at nearly the time of the change.
    fn ends_before(&self, entry: &AuditEntry) -> bool {
        self.since.is_some_and(|since| {
            entry.id < AuditId::first_at(since.plus_millis(-DIFFERENCE_MILLIS))
        })
    }
}

/// The answer where the store cannot be read.
fn unreadable(error: ringback_engine::JournalError) -> ApiError {
    tracing::error!(%error, "the audit entries could not be read");
    ApiError::StorageUnavailable
}

/// By how much an identifier and the time of its entry may differ: clocks are set.
const DIFFERENCE_MILLIS: i64 = 24 * 60 * 60 * 1_000;
