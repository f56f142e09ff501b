//! The one writer: commands become changes, changes are made durable, then they are applied.
//!
//! Readers (SIP, HTTP) take the [`Directory`](ringback_routing::Directory) snapshot and the contact index from an
//! [`Engine`], and decide without waiting. Writers submit a [`Command`]. A single thread runs commands on a
//! [`Draft`] of the state, appends the resulting [`Change`]s to the [`Journal`], where they become durable (many
//! commands share one entry), applies each entry of the log to the state that readers see, and only then answers.
//! So an acknowledged change is durable and visible.

mod apply;
mod audit;
mod change;
mod choices;
mod clock;
mod command;
mod contact_view;
mod draft;
mod engine;
mod error;
mod housekeeping;
mod job;
mod journal;
mod keyed;
mod learned;
mod observed;
mod outbox;
mod secret;
mod session;
mod shared;
mod tombstone;
mod writer;

pub use audit::{
    Actor, AuditAction, AuditEntry, AuditId, AuditObject, AuditState, Audited, MOST_OWNERS,
    NoteCopy, ObjectType, Origin, Via,
};
pub use change::{
    AnsweredCall, BatchCall, BatchRoute, BatchesCounted, Call, CallsSwept, Change, CountKey,
    CountKind, CountMark, LogPlace, NamedAgent, RoutedBatch, RoutedCall, RoutedDecision,
    RoutedEvent, RoutedOverSip,
};
pub use clock::{Clock, SystemClock};
pub use command::{
    AgentView, BatchRecorded, ByToken, Command, ConstraintCheck, ConstraintProblem, CreateAgent,
    CreateConnector, CreateEnvironment, CreateNumber, CreateToken, DeleteAgent, DeleteConnector,
    DeleteEnvironment, DeleteNumber, DeleteToken, EndOptOut, ForgetContact, HoldTarget, NewCall,
    NewOptOut, NumberView, OptOutContact, OptOutContacts, Override, OwnerView, PublishAgent,
    ReassignContact, ReassignContacts, Reassignment, RecordBatch, RecordCall, RecordCalls,
    RemoveCallbackRole, ReportAnswered, RoleFields, RoleMode, RotateConnector, RouteCall,
    RoutedAnswer, SetCallbackRole, SetDefaultAgent, UndoChange, UnreadCall, UpdateAgent,
    UpdateConnector, UpdateEnvironment, check_constraints,
};
pub use contact_view::ContactView;
pub use draft::Draft;
pub use engine::{Committed, Engine, EngineSettings, Health, Listed, OpenError, WaitingForLog};
pub use error::{CallDifference, CommandError, Fault, Field, FieldProblem, SubmitError};
pub use journal::{
    AppendError, Archive, BackupError, Entry, Journal, JournalError, Sequence, StoredCounts,
    StoredDirectory,
};
pub use keyed::{AnswerId, KeptAnswer, Keyed, Nothing};
pub use learned::{LearnedRecorded, LearnedTicket};
pub use observed::{AgentCount, CallbackStatistics, DecisionRecord, SourceCount, hash_sid};
pub use outbox::{Kept, Outbox};
pub use secret::{generate_secret, hash_secret};
pub use session::{EndSession, PutSession, Session};
pub use tombstone::{ErasedHash, ErasureSecret, Tombstone};
