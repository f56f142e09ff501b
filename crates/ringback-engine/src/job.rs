//! The jobs of the writer.

use tokio::sync::oneshot;

use crate::choices::Choices;
use crate::{Command, CommandError, Committed, Draft, Sequence, SubmitError};

/// A job of the writer.
pub(crate) enum Job {
    /// Run a command.
    Run(Box<dyn Task>),
    /// Make observed SIP calls durable, and do the periodic work.
    Tick,
    /// Apply what other nodes have appended to the log.
    Follow,
    /// Commit what is queued and end.
    Stop,
}

/// A command with a client that waits.
pub(crate) trait Task: Send {
    /// Runs the command on the draft. It runs again, on a newer draft, if another entry was committed first.
    fn run(&mut self, draft: &mut Draft<'_>);

    /// See [`Command::CAN_WAIT`].
    fn can_wait(&self) -> bool;

    /// Sends the result of the command to the client: its changes are in the log up to this entry, or were not
    /// committed.
    fn answer(self: Box<Self>, committed: Result<Sequence, SubmitError>);
}

/// A submitted command.
pub(crate) struct Submitted<C: Command> {
    /// The command.
    command: C,
    /// Its choices, once it has run.
    choices: Option<Choices>,
    /// The result of its latest run.
    result: Option<Result<C::Output, CommandError>>,
    /// The channel to the client.
    reply: oneshot::Sender<Result<Committed<C::Output>, SubmitError>>,
}

impl<C: Command> Submitted<C> {
    /// A command whose result is sent to this channel.
    pub(crate) const fn new(
        command: C,
        reply: oneshot::Sender<Result<Committed<C::Output>, SubmitError>>,
    ) -> Self {
        Self {
            command,
            choices: None,
            result: None,
            reply,
        }
    }
}

impl<C: Command> Task for Submitted<C> {
    fn run(&mut self, draft: &mut Draft<'_>) {
        draft.begin_command(self.choices.take());
        self.result = Some(self.command.run(draft));
        self.choices = Some(draft.end_command());
    }

    fn can_wait(&self) -> bool {
        C::CAN_WAIT
    }

    fn answer(self: Box<Self>, committed: Result<Sequence, SubmitError>) {
        let Self {
            command,
            result,
            reply,
            ..
        } = *self;
        // Before the answer, so that a client that shares the command's memory is its only owner again.
        drop(command);
        let result = match (committed, result) {
            (Err(failure), _) => Err(failure),
            (Ok(sequence), Some(Ok(output))) => Ok(Committed { output, sequence }),
            (Ok(_), Some(Err(CommandError::StorageUnavailable))) => {
                Err(SubmitError::StorageUnavailable)
            }
            (Ok(_), Some(Err(error))) => Err(SubmitError::Rejected(error)),
            (Ok(_), None) => Err(SubmitError::ShuttingDown),
        };
        // The client may have gone; its command was run all the same.
        let _gone = reply.send(result);
    }
}
