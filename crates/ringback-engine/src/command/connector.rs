//! Connectors: addresses at which platforms ask where calls go.

use ringback_routing::{
    Connector, ConnectorId, ConnectorSecret, Dialect, EnvironmentId, TokenHash,
};

use super::{Command, Override};
use crate::error::check_fields;
use crate::{Change, CommandError, Draft};

/// Creates a connector; the key itself never gets here.
#[derive(Clone, Debug)]
pub struct CreateConnector {
    /// The environment whose calls are asked about.
    pub environment: EnvironmentId,
    /// The language of the platform; `None`: it could not be read.
    pub dialect: Option<Dialect>,
    /// Its name.
    pub name: Option<String>,
    /// The hash of its key.
    pub key: TokenHash,
    /// What the platform proves itself with.
    pub secret: Option<ConnectorSecret>,
    /// Its options, checked, as a JSON object.
    pub options: String,
    /// What is answered when nothing routes, checked, as a JSON object.
    pub on_nothing: String,
    /// Whether fields could not be read: then nothing is changed.
    pub is_misread: bool,
}

impl CreateConnector {
    /// The most connectors of an environment.
    pub const LIMIT: usize = 100;
}

impl Command for CreateConnector {
    type Output = Connector;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Connector, CommandError> {
        let environment = draft
            .directory()
            .environment_by_id(self.environment)
            .ok_or(CommandError::EnvironmentNotFound)?;
        let is_full = environment.connectors.len() >= Self::LIMIT;
        check_fields(Vec::new(), self.is_misread)?;
        let Some(dialect) = self.dialect else {
            return Err(CommandError::Invalid(Vec::new()));
        };
        if is_full {
            return Err(CommandError::TooManyConnectors);
        }
        let connector = Connector {
            id: ConnectorId(draft.new_id(0)),
            environment: self.environment,
            dialect,
            name: self.name.clone(),
            key: self.key,
            previous_key: None,
            secret: self.secret.clone(),
            options: self.options.clone(),
            on_nothing: self.on_nothing.clone(),
            created_at: draft.now(),
        };
        draft.change(Change::ConnectorPut(Box::new(connector.clone())));
        Ok(connector)
    }
}

/// Changes a connector; what is left out stays.
#[derive(Clone, Debug)]
pub struct UpdateConnector {
    /// Its environment.
    pub environment: EnvironmentId,
    /// The connector.
    pub id: ConnectorId,
    /// The new name.
    pub name: Override<String>,
    /// The new secret.
    pub secret: Override<ConnectorSecret>,
    /// The new options, checked.
    pub options: Option<String>,
    /// The new answer when nothing routes, checked.
    pub on_nothing: Option<String>,
    /// Whether fields could not be read: then nothing is changed.
    pub is_misread: bool,
}

impl Command for UpdateConnector {
    type Output = Connector;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Connector, CommandError> {
        let mut connector = find(draft, self.environment, self.id)?;
        check_fields(Vec::new(), self.is_misread)?;
        connector.name = self.name.apply(connector.name);
        connector.secret = self.secret.apply(connector.secret);
        connector.options = self.options.clone().unwrap_or(connector.options);
        connector.on_nothing = self.on_nothing.clone().unwrap_or(connector.on_nothing);
        draft.change(Change::ConnectorPut(Box::new(connector.clone())));
        Ok(connector)
    }
}

/// Gives a connector a new key.
#[derive(Clone, Debug)]
pub struct RotateConnector {
    /// Its environment.
    pub environment: EnvironmentId,
    /// The connector.
    pub id: ConnectorId,
    /// The hash of the new key.
    pub key: TokenHash,
    /// For how long the old key still holds, in milliseconds.
    pub grace_millis: i64,
    /// Whether fields could not be read: then nothing is changed.
    pub is_misread: bool,
}

impl Command for RotateConnector {
    type Output = Connector;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Connector, CommandError> {
        let mut connector = find(draft, self.environment, self.id)?;
        check_fields(Vec::new(), self.is_misread)?;
        let until = draft.now().plus_millis(self.grace_millis);
        connector.previous_key = (self.grace_millis > 0).then_some((connector.key, until));
        connector.key = self.key;
        draft.change(Change::ConnectorPut(Box::new(connector.clone())));
        Ok(connector)
    }
}

/// Removes a connector.
#[derive(Clone, Copy, Debug)]
pub struct DeleteConnector {
    /// Its environment.
    pub environment: EnvironmentId,
    /// The connector.
    pub id: ConnectorId,
}

impl Command for DeleteConnector {
    type Output = ();

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        find(draft, self.environment, self.id)?;
        draft.change(Change::ConnectorRemoved(self.environment, self.id));
        Ok(())
    }
}

/// The connector of an environment.
fn find(
    draft: &Draft<'_>,
    environment: EnvironmentId,
    id: ConnectorId,
) -> Result<Connector, CommandError> {
    let connector = draft.directory().connector(environment, id);
    connector.cloned().ok_or(CommandError::ConnectorNotFound)
}
