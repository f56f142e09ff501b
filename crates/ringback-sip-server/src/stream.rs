//! TCP and TLS: accepting, framing, keep-alives, and the limits that hold for every connection.
//!
//! A connection answers what it reads before it reads on, so replies are in order and a peer that
//! does not take them is not served further: nothing queues up beyond one read and its replies. An
//! idle connection holds no buffer.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use ringback_sip_proto::{Frame, PONG, StreamFramer, Transport};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::core::{Arrival, Round, Seat};
use crate::metrics::Connection;
use crate::plan::Plans;
use crate::policy::PeerState;
use crate::router::Router;
use crate::server::{Phase, Shared, reached};

/// A listener for TCP or TLS.
#[derive(Debug)]
pub(crate) struct Acceptor<R> {
    /// The socket.
    listener: tokio::net::TcpListener,
    /// Which of the two.
    transport: Transport,
    /// What all listeners share.
    shared: Arc<Shared<R>>,
}

impl<R: Router> Acceptor<R> {
    /// Takes over a bound socket.
    pub(crate) fn new(
        listener: TcpListener,
        transport: Transport,
        shared: Arc<Shared<R>>,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: tokio::net::TcpListener::from_std(listener)?,
            transport,
            shared,
        })
    }

    /// Accepts until the server drains.
    pub(crate) async fn run(self, mut phase: watch::Receiver<Phase>) {
        loop {
            let accepted = tokio::select! {
                biased;
                _ = reached(&mut phase, Phase::Draining) => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, source)) => self.admit(stream, source),
                Err(error) => {
                    self.shared
                        .core
                        .metrics
                        .connection(Connection::AcceptFailed);
                    tracing::debug!(%error, "a connection could not be accepted");
                    // Out of descriptors: waiting is all that helps.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection, or closes it at once.
    fn admit(&self, stream: TcpStream, source: SocketAddr) {
        let core = &self.shared.core;
        let policy = core.policy.load();
        let peer = policy
            .source(source.ip())
            .filter(|peer| peer.peer.transports.contains(self.transport));
        let Some(peer) = peer else {
            core.metrics.connection(Connection::Stranger);
            core.observations
                .stranger_elsewhere(source.ip(), self.transport.into());
            return;
        };
        let Some(all) = Slot::take(&self.shared, policy.max_connections, |shared| {
            &shared.connections
        }) else {
            core.metrics.connection(Connection::Limit);
            return;
        };
        let limit = policy.max_connections_per_peer;
        let Some(of_peer) = Slot::take(peer.state, limit, |state: &PeerState| &state.connections)
        else {
            core.metrics.connection(Connection::PeerLimit);
            return;
        };
        core.metrics.connection(Connection::Opened);
        let transport = self.transport;
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let end = open_and_serve(&shared, stream, source, transport).await;
            shared.core.metrics.connection(end);
            tracing::debug!(%source, ?end, "connection closed");
            drop((of_peer, all));
        });
    }
}

/// A place among a limited number, given back when dropped.
struct Slot<T> {
    /// What counts the places.
    counted: Arc<T>,
    /// The number of those taken.
    count: fn(&T) -> &AtomicUsize,
}

impl<T> Slot<T> {
    /// Takes a place, if one is left.
    fn take(counted: &Arc<T>, limit: usize, count: fn(&T) -> &AtomicUsize) -> Option<Self> {
        let taken = count(counted).fetch_add(1, Ordering::Relaxed);
        let slot = Self {
            counted: Arc::clone(counted),
            count,
        };
        (taken < limit).then_some(slot)
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        (self.count)(&self.counted).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Agrees on TLS, if that is asked for, and serves the connection to its end.
async fn open_and_serve<R: Router>(
    shared: &Arc<Shared<R>>,
    stream: TcpStream,
    source: SocketAddr,
    transport: Transport,
) -> Connection {
    // A reply is one write; waiting for more to send would only delay it.
    let _best_effort = stream.set_nodelay(true);
    if transport != Transport::Tls {
        return serve(shared, stream, source, transport).await;
    }
    let Some(certificates) = shared.certificates.load_full() else {
        return Connection::Handshake;
    };
    let handshake = tokio_rustls::TlsAcceptor::from(certificates).accept(stream);
    match timeout(HANDSHAKE_TIME, handshake).await {
        Ok(Ok(stream)) => serve(shared, stream, source, transport).await,
        Ok(Err(error)) => {
            tracing::debug!(%source, %error, "TLS handshake failed");
            Connection::Handshake
        }
        Err(_) => Connection::Handshake,
    }
}

/// Reads, answers and writes until the connection ends.
async fn serve<R: Router>(
    shared: &Arc<Shared<R>>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    source: SocketAddr,
    transport: Transport,
) -> Connection {
    let mut phase = shared.phase();
    let mut framer = StreamFramer::new();
    let mut out = Vec::new();
    let mut message_began: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let deadline = match message_began {
            Some(began) => began + MESSAGE_TIME,
            None => now + shared.core.policy.load().idle_timeout,
        };
        let read = tokio::select! {
            read = timeout_at(deadline, read_into(&mut stream, &mut framer)) => read,
            _ = reached(&mut phase, Phase::Stopped) => {
                return close(stream, Connection::Stopped).await;
            }
        };
        match read {
            Ok(Ok(0)) => return Connection::Peer,
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Connection::Peer,
            Err(_) if message_began.is_some() => {
                return close(stream, Connection::SlowSender).await;
            }
            Err(_) => return close(stream, Connection::Idle).await,
        }
        let answered = answer(shared, &mut framer, source, transport, &mut out);
        if !out.is_empty() {
            match timeout(WRITE_TIME, write_out(&mut stream, &out)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Connection::Peer,
                Err(_) => return Connection::SlowReader,
            }
            // An idle connection keeps no buffer.
            out = Vec::new();
        }
        if let Some(end) = answered.end {
            if end == Connection::Framing {
                return drain_and_close(stream, end).await;
            }
            return close(stream, end).await;
        }
        message_began = match message_began {
            _ if framer.pending() == 0 => None,
            Some(began) if answered.frames == 0 => Some(began),
            _ => Some(Instant::now()),
        };
    }
}

/// What became of the bytes of one read.
struct Answered {
    /// Messages and keep-alives found in them.
    frames: usize,
    /// Why the connection has to end, if it has to.
    end: Option<Connection>,
}

/// Answers every whole message that has been read.
fn answer<R: Router>(
    shared: &Shared<R>,
    framer: &mut StreamFramer,
    source: SocketAddr,
    transport: Transport,
    out: &mut Vec<u8>,
) -> Answered {
    let core = &shared.core;
    let policy = core.policy.load();
    let mut answered = Answered {
        frames: 0,
        end: None,
    };
    if policy.source(source.ip()).is_none() {
        answered.end = Some(Connection::Removed);
        return answered;
    }
    let mut seat = Seat {
        lane: shared.stream_lane(),
        plans: Plans::Shared(&core.shared_plans),
        pressure: None,
    };
    let round = Round {
        policy: &policy,
        directory: &core.router.directory(),
        answered: &core.memory.generations(),
        now: core.now(),
    };
    let mut handle = |bytes: &[u8], out: &mut Vec<u8>| {
        let arrival = Arrival {
            bytes,
            source,
            transport,
            waited: Duration::ZERO,
        };
        // On a stream every reply goes where the request came from.
        if core.handle(&mut seat, round, &arrival, out).is_some() {
            let took = core.now().uptime.saturating_sub(round.now.uptime);
            core.metrics
                .lane(shared.stream_lane())
                .took(transport, took);
        }
    };
    loop {
        match framer.next_frame() {
            Frame::Incomplete => return answered,
            Frame::Ping => out.extend_from_slice(PONG),
            Frame::Message(bytes) => handle(bytes, out),
            Frame::Broken(bytes, fault) => {
                tracing::debug!(%source, ?fault, "the stream lost its framing");
                handle(bytes, out);
                answered.end = Some(Connection::Framing);
                return answered;
            }
        }
        answered.frames += 1;
    }
}

/// Reads what is there, by way of the stack: who waits holds no buffer.
async fn read_into(
    stream: &mut (impl AsyncRead + Unpin),
    framer: &mut StreamFramer,
) -> io::Result<usize> {
    poll_fn(|context| {
        let mut room = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
        framer.push(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    })
    .await
}

/// Writes everything.
async fn write_out(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Ends a connection in good manners, but not at any price.
async fn close(mut stream: impl AsyncWrite + Unpin, end: Connection) -> Connection {
    let _best_effort = timeout(CLOSE_TIME, stream.shutdown()).await;
    end
}

/// Ends a connection whose peer still sends: what it sends is read for a while, for the answer would
/// be lost in the reset that unread bytes cause.
async fn drain_and_close(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    end: Connection,
) -> Connection {
    let drained = timeout(CLOSE_TIME, async {
        let _best_effort = stream.shutdown().await;
        let mut left = DRAINED_BYTES;
        while left > 0 {
            let read = poll_fn(|context| {
                let mut room = [0; READ_BYTES];
                let mut buffer = ReadBuf::new(&mut room);
                ready!(Pin::new(&mut stream).poll_read(context, &mut buffer))?;
                Poll::Ready(io::Result::Ok(buffer.filled().len()))
            });
            match read.await {
                Ok(0) | Err(_) => break,
                Ok(length) => left = left.saturating_sub(length),
            }
        }
    });
    let _best_effort = drained.await;
    end
}

/// Connections that wait to be accepted.
pub(crate) const BACKLOG: i32 = 4_096;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Bytes read and thrown away after the framing is lost.
const DRAINED_BYTES: usize = 1024 * 1024;

/// How long TLS may take to be agreed on.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How long a message may take to come once it has begun.
const MESSAGE_TIME: Duration = Duration::from_secs(10);

/// How long replies may take to be taken.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// How long the end of a connection may take.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// How long to wait when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
