//! Undoing an audited change.

use ringback_routing::{AgentId, Dialect, Directory, EnvironmentId, NumberId, TokenId};

use super::{
    AgentView, Command, DeleteAgent, DeleteEnvironment, DeleteNumber, DeleteToken, NumberView,
    Override, PublishAgent, RemoveCallbackRole, RoleFields, RoleMode, SetCallbackRole,
    SetDefaultAgent, UpdateAgent, UpdateEnvironment,
};
use crate::audit::{audited, without_role};
use crate::{AuditAction, AuditEntry, AuditState, CommandError, Draft, ObjectType, Origin};

/// Undoes the change that an audit entry tells of, if the object is still as that change left it. The inverse is an
/// ordinary change: the rules hold for it, and it has an entry of its own, which is returned.
#[derive(Clone, Debug)]
pub struct UndoChange {
    /// Where this comes from.
    pub origin: Origin,
    /// The entry.
    pub entry: AuditEntry,
}

impl Command for UndoChange {
    type Output = AuditEntry;

    fn run(&self, draft: &mut Draft<'_>) -> Result<AuditEntry, CommandError> {
        let entry = &self.entry;
        let (Some(environment), Some(_)) = (entry.environment, entry.object.id) else {
            return Err(CommandError::NotUndoable);
        };
        if !entry.can_be_undone() {
            return Err(CommandError::NotUndoable);
        }
        if !is_as_left(entry, environment, draft.directory()) {
            return Err(CommandError::ChangedSince);
        }
        let ((), entries) = audited(draft, &self.origin, |draft| {
            invert(entry, environment, draft)
        })?;
        let mut entries = entries.into_iter();
        let about = entries.find(|other| other.object.kind == entry.object.kind);
        // An inverse that changes nothing was made by another change already.
        about.ok_or(CommandError::ChangedSince)
    }
}

/// Whether the object of an entry is as the entry's change left it.
fn is_as_left(entry: &AuditEntry, environment: EnvironmentId, directory: &Directory) -> bool {
    let id = entry.object.id.unwrap_or_default();
    let agent = directory.agent_of(environment, AgentId(id));
    match (&entry.after, entry.object.kind) {
        (Some(AuditState::Agent(AgentView { agent: left, .. })), _) => {
            agent.is_some_and(|agent| without_role(&agent.record) == without_role(left))
        }
        (Some(AuditState::Role(left)), _) => {
            agent.is_some_and(|agent| agent.record.role.as_ref() == Some(left))
        }
        (None, ObjectType::Role) => agent.is_some_and(|agent| agent.record.role.is_none()),
        (Some(AuditState::Number(NumberView { number: left, .. })), _) => directory
            .number_of(environment, NumberId(id))
            .is_some_and(|number| number.record == *left),
        (Some(AuditState::Environment(left)), _) => directory
            .environment_by_id(environment)
            .is_some_and(|one| one.record == *left),
        (Some(AuditState::Token { id, .. }), _) => directory.has_token(environment, *id),
        (None, _) => false,
    }
}

/// Makes the inverse of an entry's change.
fn invert(
    entry: &AuditEntry,
    environment: EnvironmentId,
    draft: &mut Draft<'_>,
) -> Result<(), CommandError> {
    let id = entry.object.id.unwrap_or_default();
    match (entry.object.kind, &entry.before) {
        (ObjectType::Agent, None) => DeleteAgent {
            environment,
            id: AgentId(id),
        }
        .run(draft),
        (ObjectType::Agent, Some(AuditState::Agent(AgentView { agent, .. }))) => {
            if matches!(entry.action, AuditAction::Publish | AuditAction::Unpublish) {
                let publish = PublishAgent {
                    environment,
                    id: agent.id,
                    status: agent.status,
                };
                return publish.run(draft).map(drop);
            }
            let numbers = agent.phone_numbers.iter();
            let update = UpdateAgent {
                environment,
                id: agent.id,
                name: Some(agent.name.clone()),
                label: Some(agent.label.clone()),
                description: restored(agent.description.clone()),
                direction: Some(agent.direction),
                phone_number_ids: Some(numbers.map(|number| Some(*number)).collect()),
                targets: Some(agent.targets.clone()),
                external_ids: Dialect::ALL
                    .into_iter()
                    .map(|dialect| (dialect, agent.external_ids.get(&dialect).cloned()))
                    .collect(),
                is_misread: false,
            };
            update.run(draft).map(drop)
        }
        (ObjectType::Role, None) => RemoveCallbackRole {
            environment,
            id: AgentId(id),
        }
        .run(draft),
        (ObjectType::Role, Some(AuditState::Role(role))) => {
            let sources = role.source_agents.iter();
            let set = SetCallbackRole {
                environment,
                id: AgentId(id),
                mode: RoleMode::Anew,
                fields: RoleFields {
                    source_agent_ids: sources.map(|source| Some(*source)).collect(),
                    recency_window_seconds: restored(role.recency_window_seconds),
                    trigger_statuses: Override::Set(role.trigger_statuses.clone()),
                    hours: restored(role.hours.clone()),
                    is_misread: false,
                },
            };
            set.run(draft).map(drop)
        }
        (ObjectType::Number, None) => DeleteNumber {
            environment,
            id: NumberId(id),
        }
        .run(draft),
        (ObjectType::Number, Some(AuditState::Number(NumberView { number, .. }))) => {
            let set = SetDefaultAgent {
                environment,
                id: number.id,
                agent: restored(number.default_agent),
                is_misread: false,
            };
            set.run(draft).map(drop)
        }
        (ObjectType::Environment, None) => DeleteEnvironment { id: environment }.run(draft),
        (ObjectType::Environment, Some(AuditState::Environment(before))) => {
            let update = UpdateEnvironment {
                id: environment,
                name: Some(before.name.clone()),
                default_country: restored(before.default_country),
                number_form: Override::Set(before.number_form),
                recency_window_seconds: Override::Set(before.recency_window_seconds),
                target_template: restored(before.target_template.clone()),
                fallback_targets: Some(before.fallback_targets.clone()),
                held_targets: Some(before.held_targets.clone()),
                is_misread: false,
            };
            update.run(draft).map(drop)
        }
        (ObjectType::Token, None) => DeleteToken {
            environment,
            id: TokenId(id),
        }
        .run(draft),
        _ => Err(CommandError::NotUndoable),
    }
}

/// The request for an optional setting to be as it was.
fn restored<T>(before: Option<T>) -> Override<T> {
    before.map_or(Override::Clear, Override::Set)
}
