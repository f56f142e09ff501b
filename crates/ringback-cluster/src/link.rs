//! What runs a replica against a stream, as the journal sees it.

use crate::AppendId;
use crate::replica::{Answer, Applied};

/// Runs a replica against a stream.
pub trait Link: Send + 'static {
    /// Appends facts that were checked on the state at `position`, and waits for the answer. What was appended by
    /// then is given out by [`Self::next`]. Facts that only remove may use the reserve of the log.
    fn append(&mut self, position: u64, facts: Vec<u8>, only_removes: bool) -> (AppendId, Answer);

    /// The next facts of the log, if there are any. Never waits.
    fn next(&mut self) -> Option<Applied>;

    /// Whether no append is open that was answered as unconfirmed. If so, it is given out by [`Self::next`], or it
    /// never comes.
    fn is_settled(&mut self) -> bool;

    /// Notes that the store has all entries up to this one for good.
    fn stored(&mut self, sequence: u64);

    /// Sets a function to be called, from any thread, when there are facts.
    fn watch(&mut self, wake: Box<dyn Fn() + Send + Sync>);
}
