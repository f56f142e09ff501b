//! What the writer is asked to do.

use tokio::sync::oneshot;

use crate::choices::Choices;
use crate::{Command, CommandError, Draft, SubmitError};

/// What the writer is asked to do.
pub(crate) enum Job {
    /// Carry a command out.
    Run(Box<dyn Task>),
    /// Make durable what was observed of SIP calls, and whatever else has to be done now and then.
    Tick,
    /// Show what others have appended to the log.
    Follow,
    /// Commit what is there and end.
    Stop,
}

/// A command that somebody waits for.
pub(crate) trait Task: Send {
    /// Runs the command on the draft. It is run again on a newer one where what it did was not committed
    /// because something else was.
    fn run(&mut self, draft: &mut Draft<'_>);

    /// Tells the outcome: what the command came to, unless that could not be committed for this reason.
    fn answer(self: Box<Self>, failure: Option<SubmitError>);
}

/// A submitted command.
pub(crate) struct Submitted<C: Command> {
    /// The command.
    command: C,
    /// What it has chosen, once it has been run.
    choices: Option<Choices>,
    /// What it came to the last time.
    result: Option<Result<C::Output, CommandError>>,
    /// Who waits.
    reply: oneshot::Sender<Result<C::Output, SubmitError>>,
}

impl<C: Command> Submitted<C> {
    /// A command whose outcome is told here.
    pub(crate) const fn new(
        command: C,
        reply: oneshot::Sender<Result<C::Output, SubmitError>>,
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

    fn answer(self: Box<Self>, failure: Option<SubmitError>) {
        let Self {
            command,
            result,
            reply,
            ..
        } = *self;
        // Before the answer, so that whoever gave it memory to share has that to itself again.
        drop(command);
        let result = match (failure, result) {
            (Some(failure), _) => Err(failure),
            (None, Some(Ok(output))) => Ok(output),
            (None, Some(Err(CommandError::StorageUnavailable))) => {
                Err(SubmitError::StorageUnavailable)
            }
            (None, Some(Err(error))) => Err(SubmitError::Rejected(error)),
            (None, None) => Err(SubmitError::ShuttingDown),
        };
        // The client may have gone; what was asked is done all the same.
        let _gone = reply.send(result);
    }
}
