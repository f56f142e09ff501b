//! Commands that are carried out once, however often their request is repeated.
//!
//! A client names a request by a key. The first answer to it is kept in the same commit as the change, so it is
//! there exactly if the change is, on every node and after every crash. What is kept is opaque here: the crate that
//! speaks to clients seals it, so that nobody reads it without the client's key.

use ringback_routing::Timestamp;
use uuid::Uuid;

use crate::shared::Shared;
use crate::{Change, Command, CommandError, Draft, JournalError};

/// The name of a request that may be repeated: a hash of the client's key and of who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnswerId(pub [u8; 16]);

/// The first answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The name of the request.
    pub id: AnswerId,
    /// When it was carried out.
    pub at: Timestamp,
    /// A hash of what the request asked for, which tells it from another one of the same name.
    pub request: [u8; 16],
    /// The answer, sealed.
    pub answer: Vec<u8>,
}

impl KeptAnswer {
    /// For how long an answer is kept, in milliseconds.
    pub const KEPT_MILLIS: i64 = 24 * 60 * 60 * 1_000;

    /// Whether the answer is no longer given at this instant.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.millis().saturating_sub(self.at.millis()) >= Self::KEPT_MILLIS
    }
}

/// A command whose first answer is kept. If one is kept already, the command is refused with
/// [`CommandError::AnsweredBefore`], and the client gets that answer.
#[derive(Clone, Debug)]
pub struct Keyed<C, A> {
    /// The name of the request.
    pub id: AnswerId,
    /// A hash of what it asks for.
    pub request: [u8; 16],
    /// The command.
    pub command: C,
    /// Makes the sealed answer of the result, with an identifier that is used for nothing else; `None`: nothing is
    /// kept.
    pub answer: A,
}

impl<C, A> Command for Keyed<C, A>
where
    C: Command,
    A: Fn(&C::Output, Uuid) -> Option<Vec<u8>> + Send + 'static,
{
    type Output = C::Output;

    fn run(&self, draft: &mut Draft<'_>) -> Result<C::Output, CommandError> {
        if draft.is_answered(self.id)? {
            return Err(CommandError::AnsweredBefore);
        }
        let output = self.command.run(draft)?;
        if let Some(answer) = (self.answer)(&output, draft.new_id(SEAL_ID)) {
            draft.change(Change::Answered(Box::new(KeptAnswer {
                id: self.id,
                at: draft.now(),
                request: self.request,
                answer,
            })));
        }
        Ok(output)
    }
}

/// A command that changes nothing, for the answer to a request that was carried out in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Command for Nothing {
    type Output = ();

    fn run(&self, _draft: &mut Draft<'_>) -> Result<(), CommandError> {
        Ok(())
    }
}

impl Shared {
    /// The first answer to the request with this name, unless it is over at this instant.
    pub(crate) fn kept_answer(
        &self,
        id: AnswerId,
        now: Timestamp,
    ) -> Result<Option<KeptAnswer>, JournalError> {
        let kept = self.archive.kept_answer(id)?;
        Ok(kept.filter(|kept| !kept.is_over(now)))
    }
}

/// The index of the identifier for the seal among those that a command makes. Lists of calls use lower ones, audit
/// entries higher ones.
const SEAL_ID: usize = 0xEF_FFFF;
