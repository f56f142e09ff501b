//! API tokens.

use ringback_routing::{EnvironmentId, Token, TokenHash, TokenId};

use super::Command;
use crate::error::check_fields;
use crate::{Change, CommandError, Draft};

/// Creates a token; the secret itself never gets here.
#[derive(Clone, Debug)]
pub struct CreateToken {
    /// The environment that it gives access to.
    pub environment: EnvironmentId,
    /// Its name.
    pub name: Option<String>,
    /// The hash of its secret.
    pub hash: TokenHash,
    /// Whether answers to it hide numbers of callers and contacts.
    pub masked: bool,
    /// Whether fields could not be read: then nothing is changed.
    pub is_misread: bool,
}

impl Command for CreateToken {
    type Output = Token;

    fn run(&self, draft: &mut Draft<'_>) -> Result<Token, CommandError> {
        if draft
            .directory()
            .environment_by_id(self.environment)
            .is_none()
        {
            return Err(CommandError::EnvironmentNotFound);
        }
        check_fields(Vec::new(), self.is_misread)?;
        let token = Token {
            id: TokenId(draft.new_id(0)),
            environment: self.environment,
            name: self.name.clone(),
            hash: self.hash,
            masked: self.masked,
            created_at: draft.now(),
        };
        draft.change(Change::TokenPut(token.clone()));
        Ok(token)
    }
}

/// A command under a token: refused once the token has ended, even if the request came before that.
#[derive(Clone, Debug)]
pub struct ByToken<C> {
    /// The environment that the token gives access to.
    pub environment: EnvironmentId,
    /// The token.
    pub token: TokenId,
    /// The command.
    pub command: C,
}

impl<C: Command> Command for ByToken<C> {
    type Output = C::Output;

    const CAN_WAIT: bool = C::CAN_WAIT;

    fn run(&self, draft: &mut Draft<'_>) -> Result<C::Output, CommandError> {
        if !draft.directory().has_token(self.environment, self.token) {
            return Err(CommandError::TokenEnded);
        }
        self.command.run(draft)
    }
}

/// Ends a token at once.
#[derive(Clone, Copy, Debug)]
pub struct DeleteToken {
    /// The environment that it gives access to.
    pub environment: EnvironmentId,
    /// The token to end.
    pub id: TokenId,
}

impl Command for DeleteToken {
    type Output = ();

    fn run(&self, draft: &mut Draft<'_>) -> Result<(), CommandError> {
        let environment = draft
            .directory()
            .environment_by_id(self.environment)
            .ok_or(CommandError::EnvironmentNotFound)?;
        if !environment.tokens.iter().any(|token| token.id == self.id) {
            return Err(CommandError::TokenNotFound);
        }
        draft.change(Change::TokenRemoved(self.environment, self.id));
        Ok(())
    }
}
