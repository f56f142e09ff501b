//! One connection of any protocol: reading, answering, and the common limits.
//!
//! A connection answers what it has read before it reads on, so replies are in order, and a peer that does not
//! read them is not served further: nothing queues up beyond one read and its replies. A connection that waits
//! for a message holds no buffer. A message that has begun must be complete within [`MESSAGE_TIME`].

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use ringback_routing::Contacts;
use ringback_sip_proto::check::{Role, Verdict, check};
use ringback_sip_proto::message::{Framing, HeaderName};
use ringback_sip_proto::{Frame, Message, Origin, PONG, StreamFramer, Transport};
use ringback_sip_proxy::Keys;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::counters::Connection;
use crate::forward::inbox::{Arrival, Flow, Handed};
use crate::forward::streams::Accepted;
use crate::outbox::Outbox;
use crate::program::Program;
use crate::redirect::effect::{Effect, Outcome};
use crate::redirect::plan::Plans;
use crate::redirect::resolve::resolve;
use crate::redirect::{Read, Received, Snapshot, WorkerContext};
use crate::shared::{Phase, Shared, reached};

/// The protocol of a connection.
pub(crate) trait Protocol {
    /// How long a connection may be silent between messages.
    fn idle_time(&self) -> Duration;

    /// Adds bytes that were read.
    fn push(&mut self, bytes: &[u8]);

    /// Handles every complete message; replies are appended to `out`.
    fn handle(&mut self, out: &mut Outbox) -> Handled;

    /// How many bytes wait for the rest of their message.
    fn pending(&self) -> usize;

    /// What is written to the connection besides the replies of [`Self::handle`].
    fn outgoing(&mut self) -> Option<mpsc::Receiver<Box<[u8]>>> {
        None
    }
}

/// The result of handling the bytes of one read.
#[derive(Debug, Default)]
pub(crate) struct Handled {
    /// Messages and keep-alives found in them.
    pub(crate) frames: usize,
    /// Why the connection must end, if it must.
    pub(crate) end: Option<Connection>,
}

/// Reads, answers and writes until the connection ends.
pub(crate) async fn serve<P: Program>(
    shared: &Shared<P>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut protocol: impl Protocol,
) -> Connection {
    let mut phase = shared.phase();
    let mut out = Outbox::default();
    let mut timer = MessageTimer::default();
    let mut outgoing = protocol.outgoing();
    loop {
        let deadline = timer.deadline(Instant::now(), protocol.idle_time());
        let read = tokio::select! {
            read = timeout_at(deadline, read_into(&mut stream, |bytes| protocol.push(bytes))) => read,
            Some(bytes) = next(&mut outgoing) => {
                match timeout(WRITE_TIME, write_out(&mut stream, &bytes)).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) => return Connection::Peer,
                    Err(_) => return Connection::SlowReader,
                }
            }
            _ = reached(&mut phase, Phase::Stopped) => {
                return close(stream, Connection::Stopped).await;
            }
        };
        match read {
            Ok(Ok(0) | Err(_)) => return Connection::Peer,
            Ok(Ok(_)) => {}
            Err(_) => return close(stream, timer.too_late()).await,
        }
        let handled = protocol.handle(&mut out);
        if !out.bytes.is_empty() {
            match timeout(WRITE_TIME, write_out(&mut stream, &out.bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Connection::Peer,
                Err(_) => return Connection::SlowReader,
            }
            // An idle connection holds no buffer.
            out = Outbox::default();
        }
        match handled.end {
            Some(Connection::Framing) => {
                return drain_and_close(stream, Connection::Framing).await;
            }
            Some(end) => return close(stream, end).await,
            None => timer.handled(handled.frames, protocol.pending(), Instant::now()),
        }
    }
}

/// How long the next read may take: a message that has begun has a limit as a whole, in however many pieces it
/// arrives.
#[derive(Debug, Default)]
struct MessageTimer {
    /// When the incomplete message began, if there is one.
    began: Option<Instant>,
}

impl MessageTimer {
    /// The latest time for the next bytes.
    fn deadline(&self, now: Instant, idle_time: Duration) -> Instant {
        match self.began {
            Some(began) => began + MESSAGE_TIME,
            None => now + idle_time,
        }
    }

    /// Notes the result of a read: how many complete messages, and how many bytes of an incomplete one.
    fn handled(&mut self, frames: usize, pending: usize, now: Instant) {
        self.began = match self.began {
            _ if pending == 0 => None,
            Some(began) if frames == 0 => Some(began),
            _ => Some(now),
        };
    }

    /// How a connection ends if its bytes did not arrive in time.
    fn too_late(&self) -> Connection {
        match self.began {
            Some(_) => Connection::SlowSender,
            None => Connection::Idle,
        }
    }
}

/// SIP on a connection.
pub(crate) struct SipStream<P> {
    /// The state shared by all listeners.
    shared: Arc<Shared<P>>,
    /// The address of the peer.
    source: SocketAddr,
    /// TCP or TLS.
    transport: Transport,
    /// Finds the messages in the stream.
    framer: StreamFramer,
    /// The connection among those that forwarded calls come over, if its peer is in forward mode.
    accepted: Option<Accepted<P>>,
    /// What is written to it then, until somebody takes it.
    outgoing: Option<mpsc::Receiver<Box<[u8]>>>,
}

impl<P: Program> SipStream<P> {
    /// Nothing was read yet.
    pub(crate) fn new(shared: &Arc<Shared<P>>, source: SocketAddr, transport: Transport) -> Self {
        let policy = shared.policy.load();
        let forwards = shared.forward.is_on
            && policy
                .source(source.ip())
                .is_some_and(|source| source.peer.forwards);
        let (accepted, outgoing) = forwards
            .then(|| shared.forward.streams.accept(shared, source))
            .unzip();
        Self {
            shared: Arc::clone(shared),
            source,
            transport,
            framer: StreamFramer::new(),
            accepted,
            outgoing,
        }
    }
}

impl<P: Program> Protocol for SipStream<P> {
    fn idle_time(&self) -> Duration {
        self.shared.policy.load().idle_timeout
    }

    fn push(&mut self, bytes: &[u8]) {
        self.framer.push(bytes);
    }

    fn handle(&mut self, out: &mut Outbox) -> Handled {
        let shared = &*self.shared;
        let policy = shared.policy.load();
        let mut handled = Handled::default();
        if policy.source(self.source.ip()).is_none() {
            handled.end = Some(Connection::Removed);
            return handled;
        }
        let snapshot = Snapshot {
            policy: &policy,
            directory: &shared.program.directory(),
            contacts: shared.program.contacts(),
            answered: &shared.redirect.reply_cache.generations(),
            now: shared.now(),
            probed: shared.forward.probed(&policy),
            is_draining: shared.is_draining(),
        };
        let (source, shard) = (self.source, shared.stream_shard());
        let origin = Origin {
            address: source,
            transport: self.transport,
        };
        let answer = |bytes: &[u8], out: &mut Outbox| {
            let mut worker = WorkerContext {
                plans: Plans::Shared(&shared.plans),
                pressure: None,
                // On a stream every reply goes to the source of the request.
                out,
            };
            let received = Received {
                bytes,
                origin,
                waited: Duration::ZERO,
            };
            let forwarded = self
                .accepted
                .as_ref()
                .and_then(|accepted| forward(shared, &mut worker, snapshot, received, accepted.id));
            let mut outcome = forwarded
                .unwrap_or_else(|| shared.redirect.handle(&mut worker, snapshot, received));
            if outcome.status.is_some() {
                let took = shared.now().uptime.saturating_sub(snapshot.now.uptime);
                shared.metrics.shard(shard).took(origin.transport, took);
            }
            shared.drain(shard, origin, &mut outcome);
        };
        loop {
            match self.framer.next_frame() {
                Frame::Incomplete => return handled,
                Frame::Ping => out.bytes.extend_from_slice(PONG),
                Frame::Message(bytes) => answer(bytes, out),
                Frame::Broken(bytes, fault) => {
                    tracing::debug!(%source, ?fault, "the stream lost its framing");
                    answer(bytes, out);
                    handled.end = Some(Connection::Framing);
                    return handled;
                }
            }
            handled.frames += 1;
        }
    }

    fn pending(&self) -> usize {
        self.framer.pending()
    }

    fn outgoing(&mut self) -> Option<mpsc::Receiver<Box<[u8]>>> {
        self.outgoing.take()
    }
}

/// Takes a message of a peer in forward mode: hands what belongs to calls to their owners. `None`: it is treated as
/// everywhere.
fn forward<'m, 'r, P: Program, C: Contacts>(
    shared: &Shared<P>,
    worker: &mut WorkerContext<'_>,
    snapshot: Snapshot<'r, C>,
    received: Received<'m>,
    connection: u64,
) -> Option<Outcome<'m, 'r>> {
    let from = Arrival {
        origin: received.origin,
        flow: Flow::Connection(connection),
    };
    let bytes = received.bytes;
    let message = || Message::parse(bytes, Framing::Stream).ok();
    if bytes.starts_with(b"SIP/2.0 ") {
        let message = message()?;
        if Keys::branch_of(&message).is_none() && !Keys::is_stateless(&message) {
            return None;
        }
        shared.of_dialog_or_branch(bytes, from);
        return Some(Outcome::new(Ok(snapshot
            .policy
            .source(from.origin.ip())?)));
    }
    let source = snapshot.policy.source(from.origin.ip())?;
    if !source.peer.forwards || !source.peer.transports.contains(from.origin.transport) {
        return None;
    }
    if bytes.starts_with(b"ACK ") || bytes.starts_with(b"CANCEL ") {
        let owner = shared.forward.owner(message()?.call_id().ok()?);
        let handed = Handed::Request {
            bytes: bytes.into(),
            from,
            tries: 0,
        };
        shared.forward.hand(owner, handed);
        return Some(Outcome::new(Ok(source)).with(Effect::Absorbed));
    }
    let bears_route = message().is_some_and(|message| {
        message.count(HeaderName::Route) > 0
            && matches!(check(&message, Role::Proxy), Verdict::Route(request)
                if shared.forward.keys.in_dialog(&message, &request).is_some())
    });
    if bears_route {
        shared.of_dialog_or_branch(bytes, from);
        return Some(Outcome::new(Ok(source)));
    }
    if !bytes.starts_with(b"INVITE ") {
        return None;
    }
    let mut call = match shared.redirect.read(worker, snapshot, received) {
        Read::Done(outcome) => return Some(outcome),
        Read::Invite(call) => call,
    };
    resolve(std::slice::from_mut(&mut call), snapshot);
    let mut outcome = call.outcome();
    let forward = &shared.forward;
    let planned = shared
        .redirect
        .forward(forward, worker, snapshot, &call, &mut outcome);
    if let Some(planned) = planned {
        let handed = Handed::Begin {
            bytes: bytes.into(),
            from,
            numbers: call.numbers(),
            planned,
        };
        forward.hand(forward.owner(call.invite.call_id()), handed);
    }
    Some(outcome)
}

/// What is written next, if anything ever is.
async fn next(outgoing: &mut Option<mpsc::Receiver<Box<[u8]>>>) -> Option<Box<[u8]>> {
    match outgoing {
        Some(outgoing) => outgoing.recv().await,
        None => std::future::pending().await,
    }
}

/// Reads what has arrived through a buffer on the stack, so that a connection that waits holds none.
async fn read_into(
    stream: &mut (impl AsyncRead + Unpin),
    mut take: impl FnMut(&[u8]),
) -> io::Result<usize> {
    poll_fn(|context| {
        let mut room = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
        take(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    })
    .await
}

/// Writes everything.
async fn write_out(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Closes a connection properly, with a time limit.
async fn close(mut stream: impl AsyncWrite + Unpin, end: Connection) -> Connection {
    let _best_effort = timeout(CLOSE_TIME, stream.shutdown()).await;
    end
}

/// Closes a connection whose peer still sends. Its data is read for a while, because unread bytes cause a reset,
/// and the reset would discard our answer.
async fn drain_and_close(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    end: Connection,
) -> Connection {
    let drained = timeout(CLOSE_TIME, async {
        let _best_effort = stream.shutdown().await;
        let mut left = DRAINED_BYTES;
        while left > 0 {
            match read_into(&mut stream, |_| {}).await {
                Ok(0) | Err(_) => break,
                Ok(length) => left = left.saturating_sub(length),
            }
        }
    });
    let _best_effort = drained.await;
    end
}

/// How many bytes are read at once.
const READ_BYTES: usize = 16 * 1024;

/// The most bytes read and discarded after the framing is lost.
const DRAINED_BYTES: usize = 1024 * 1024;

/// How long a message may take from its first byte to its last.
const MESSAGE_TIME: Duration = Duration::from_secs(10);

/// How long the peer may take to read replies.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// How long closing a connection may take.
const CLOSE_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    // Each byte of a HEP packet used to allow another ten seconds, and so a connection without end.
    #[test]
    fn a_byte_does_not_give_a_message_more_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let idle = Duration::from_secs(300);
        let mut timer = MessageTimer::default();
        assert_eq!(timer.deadline(start, idle), at(300));
        assert_eq!(timer.too_late(), Connection::Idle);
        for second in 0..9 {
            timer.handled(0, 1, at(second));
            assert_eq!(timer.deadline(at(second), idle), at(10));
        }
        assert_eq!(timer.too_late(), Connection::SlowSender);
        // The message is complete, and the next one begins.
        timer.handled(1, 1, at(9));
        assert_eq!(timer.deadline(at(9), idle), at(19));
        timer.handled(1, 0, at(12));
        assert_eq!(timer.deadline(at(12), idle), at(312));
    }
}
