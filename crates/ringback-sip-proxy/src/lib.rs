//! A transaction-stateful SIP proxy without sockets (RFC 3261 §16 and §17, RFC 6026).
//!
//! One [`Proxy`] belongs to one thread. Bytes and the time come in; packets and events come out, and a deadline:
//!
//! 1. A request was checked (`check` with `Role::Proxy`) and is shown to [`Proxy::request`], which takes what belongs to
//!    one of its transactions: a retransmitted INVITE, a CANCEL, an ACK.
//! 2. A new INVITE is decided elsewhere, and given to [`Proxy::begin`] with the targets to be tried.
//! 3. A reply is looked at with [`Keys::branch_of`], which names the worker that it belongs to, and given to
//!    [`Proxy::reply`] there.
//! 4. [`Proxy::poll_output`] gives out what is to be sent and told, until there is nothing left.
//! 5. At [`Proxy::deadline`], [`Proxy::timeout`] is called.
//!
//! Nothing is resolved here: each target comes with the address that it leads to, or without one. Time is whatever
//! grows: a [`Duration`](std::time::Duration) since the start of the program.

mod best;
mod branch;
mod context;
mod deadlines;
mod dialog;
mod key;
mod output;
mod plan;
mod probe;
mod proxy;
mod reply;
mod request;
mod server;
mod settings;
mod timer;

pub use dialog::{InDialog, ReplyTo, Trust};
pub use key::{BranchName, Keys};
pub use output::{Attempt, Cause, Event, Output, Transmit, Way};
pub use plan::{Hop, MOST_OVER_UDP, Plan, Target};
pub use proxy::{Arrived, Invited, Proxy, Taken};
pub use settings::{Settings, StatusSet};
