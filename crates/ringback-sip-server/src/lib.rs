//! The SIP sockets of Ringback: UDP, TCP and TLS listeners, peers, overload, and learning.
//!
//! Bytes come in here, `ringback-sip-proto` reads and answers them, and `ringback-routing` decides. The embedding
//! program provides the directory and the contacts, and counts the decisions: it implements [`Snapshots`] and
//! [`Events`].
//!
//! [`SipListeners::bind`] opens every listener of a [`SipConfig`], [`SipServer::run`] serves them until
//! [`SipServer::stop`]. UDP has threads of its own; connections are tasks of the Tokio runtime that
//! `run` is called in.

mod admission;
mod clock;
mod config;
mod counters;
mod drain;
mod expiry;
mod forward;
mod identity;
mod learning;
mod metrics;
mod observation;
mod outbox;
mod peers;
mod policy;
mod program;
mod redirect;
mod server;
mod shared;
mod spec;
mod status;
mod tls;
mod transport;

pub use config::{ConfigProblem, SipConfig, SipConfigError, SipConfigErrors};
pub use observation::{Rates, RefusedCall, StrangerStatus, StrangerTransport, StrangersStatus};
pub use program::{DecidedCall, Events, Program, Snapshots};
pub use server::{BindError, BoundAddresses, SipListeners, SipServer};
pub use spec::{AdvertiseSpec, ForwardSpec, HepSpec, PeerSpec, SipSpec, TlsSpec};
pub use status::{PeerStatus, SipStatus, TargetHealth};
pub use tls::{certificate_expires_at, load_certificates};
pub use transport::udp::RECEIVE_BUFFER_BYTES;
