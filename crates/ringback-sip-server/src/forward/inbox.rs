//! What other threads hand to the owner of a call.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;
use ringback_sip_proto::{Origin, Transport};
use ringback_sip_proxy::Cause;

use crate::forward::invite::PlannedCall;
use crate::outbox::LocalAddress;

/// What was handed to a thread and not taken yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// In the order in which it came.
    handed: Mutex<Vec<Handed>>,
    /// Wakes the thread; `None`: the system has none left, and the thread looks now and then.
    bell: Option<EventFd>,
}

/// Something that is the business of the owner of a call.
#[derive(Debug)]
pub(crate) enum Handed {
    /// A new INVITE that was decided.
    Begin {
        /// The INVITE.
        bytes: Box<[u8]>,
        /// How it came.
        from: Arrival,
        /// Caller and dialed number.
        numbers: [u8; 16],
        /// Where it goes, and why.
        planned: PlannedCall,
    },
    /// A CANCEL or an ACK whose owner is looked for.
    Request {
        /// The request.
        bytes: Box<[u8]>,
        /// How it came.
        from: Arrival,
        /// How many threads have not known it.
        tries: usize,
    },
    /// A reply to a branch of this thread.
    Reply(Box<[u8]>),
    /// A message of this branch could not be sent.
    Failed(u64, Cause),
    /// Nobody is at this address any more.
    Gone((Transport, SocketAddr)),
}

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Where it came from, and over what.
    pub(crate) origin: Origin,
    /// The way back.
    pub(crate) flow: Flow,
}

/// The way back to whoever sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flow {
    /// A UDP socket, by its thread, and which of its addresses.
    Udp(u16, Option<LocalAddress>),
    /// An accepted connection.
    Connection(u64),
    /// A connection that we opened, or any other, to this address.
    Address(SocketAddr),
}

impl Inbox {
    /// Nothing was handed over.
    pub(crate) fn new() -> Self {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = EventFd::from_value_and_flags(0, flags);
        if let Err(error) = &bell {
            tracing::warn!(%error, "threads cannot wake one another at once");
        }
        Self {
            handed: Mutex::default(),
            bell: bell.ok(),
        }
    }

    /// Hands something over.
    pub(crate) fn put(&self, handed: Handed) {
        let mut waiting = self.handed.lock();
        let is_first = waiting.is_empty();
        waiting.push(handed);
        drop(waiting);
        if is_first {
            self.ring();
        }
    }

    /// Wakes the thread.
    pub(crate) fn ring(&self) {
        if let Some(bell) = &self.bell {
            // It fails only if it rings already.
            let _rings = bell.write(1);
        }
    }

    /// Takes out everything, in order.
    pub(crate) fn take(&self, into: &mut Vec<Handed>) {
        if let Some(bell) = &self.bell {
            let _silent = bell.read();
        }
        std::mem::swap(&mut *self.handed.lock(), into);
    }

    /// What a thread waits on.
    pub(crate) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(AsFd::as_fd)
    }
}
