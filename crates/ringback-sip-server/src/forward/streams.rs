//! Connections: replies go back over the one that a request came with, requests to targets over one that is opened
//! once and used again.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;
use ringback_sip_proto::check::{Role, Verdict, check};
use ringback_sip_proto::message::Framing;
use ringback_sip_proto::{Frame, Message, Origin, PONG, StreamFramer, Transport};
use ringback_sip_proxy::{Cause, Keys, Transmit};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::forward::inbox::{Arrival, Flow, Handed};
use crate::forward::worker::status_of;
use crate::program::Program;
use crate::shared::{Phase, Shared, reached};

/// The connections that forwarded calls go over.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Those that were accepted.
    accepted: DashMap<u64, mpsc::Sender<Box<[u8]>>, RandomState>,
    /// Their numbers, by the addresses of their peers.
    by_address: DashMap<SocketAddr, u64, RandomState>,
    /// The number of the next one.
    next: AtomicU64,
    /// Those that we opened, by the address that was dialled.
    opened: DashMap<Dialled, mpsc::Sender<Outgoing>, RandomState>,
    /// Where their tasks run.
    pub(crate) runtime: OnceLock<Handle>,
}

/// What a connection that we opened is known by.
type Dialled = (Transport, SocketAddr, u32);

/// A request for a target.
#[derive(Debug)]
struct Outgoing {
    /// The request.
    bytes: Box<[u8]>,
    /// Its branch, and the thread that the branch belongs to.
    branch: (u16, u64),
}

/// An accepted connection over which forwarded calls may come.
#[derive(Debug)]
pub(crate) struct Accepted<P> {
    /// The state shared by all listeners.
    shared: Arc<Shared<P>>,
    /// Its number.
    pub(crate) id: u64,
    /// The address of its peer.
    source: SocketAddr,
}

impl<P> Drop for Accepted<P> {
    fn drop(&mut self) {
        let streams = &self.shared.forward.streams;
        streams.accepted.remove(&self.id);
        streams
            .by_address
            .remove_if(&self.source, |_, id| *id == self.id);
    }
}

impl Streams {
    /// Takes in an accepted connection; gives what is to be written to it.
    pub(crate) fn accept<P>(
        &self,
        shared: &Arc<Shared<P>>,
        source: SocketAddr,
    ) -> (Accepted<P>, mpsc::Receiver<Box<[u8]>>) {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.accepted.insert(id, sender);
        self.by_address.insert(source, id);
        let accepted = Accepted {
            shared: Arc::clone(shared),
            id,
            source,
        };
        (accepted, receiver)
    }

    /// Sends something back over an accepted connection; false if that is gone. If it does not read, nothing can be
    /// done.
    pub(crate) fn send_back(&self, id: u64, bytes: &[u8]) -> bool {
        let sender = self.accepted.get(&id).map(|sender| sender.clone());
        is_there(sender.map(|sender| sender.try_send(bytes.into())))
    }

    /// Sends something over any connection to this address; false if there is none.
    pub(crate) fn send_to(&self, address: SocketAddr, bytes: &[u8]) -> bool {
        let accepted = self.by_address.get(&address).map(|id| *id);
        if let Some(id) = accepted {
            return self.send_back(id, bytes);
        }
        let opened = self.opened.iter().find(|opened| opened.key().1 == address);
        let sent = opened.map(|opened| {
            opened.try_send(Outgoing {
                bytes: bytes.into(),
                branch: NOBODY,
            })
        });
        is_there(sent)
    }

    /// Sends a request to a target, over the connection that is open, or a new one. `socket` is that of the
    /// [`Hop`](ringback_sip_proxy::Hop).
    pub(crate) fn send_out<P: Program>(
        &self,
        shared: &Arc<Shared<P>>,
        transmit: &Transmit<'_>,
        socket: u32,
        branch: (u16, u64),
    ) {
        let outgoing = Outgoing {
            bytes: transmit.bytes.into(),
            branch,
        };
        let key = (transmit.transport, transmit.address, socket);
        let outgoing = match self.opened.get(&key) {
            None => outgoing,
            Some(sender) => match sender.try_send(outgoing) {
                Ok(()) => return,
                Err(TrySendError::Full(outgoing)) => {
                    return failed(shared, outgoing.branch, Cause::Transport);
                }
                // It has just ended.
                Err(TrySendError::Closed(outgoing)) => outgoing,
            },
        };
        let Some(runtime) = self.runtime.get() else {
            return failed(shared, branch, Cause::Transport);
        };
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        match self.opened.entry(key) {
            Entry::Occupied(mut other) if !other.get().is_closed() => {
                // Another thread was faster.
                if let Err(error) = other.get_mut().try_send(outgoing) {
                    failed(shared, error.into_inner().branch, Cause::Transport);
                }
                return;
            }
            entry => {
                let _fits = sender.try_send(outgoing);
                entry.insert(sender.clone());
            }
        }
        let shared = Arc::clone(shared);
        let tasks = shared.tasks.clone();
        tasks.spawn_on(
            async move {
                let mut connection = Connection {
                    shared,
                    dialled: key,
                    waiting: receiver,
                    open: HashMap::default(),
                };
                let cause = connection.run().await;
                connection.waiting.close();
                let opened = &connection.shared.forward.streams.opened;
                opened.remove_if(&key, |_, current| current.same_channel(&sender));
                connection.fail(cause);
            },
            runtime,
        );
    }
}

/// A connection to a target.
struct Connection<P> {
    /// The state shared by all threads.
    shared: Arc<Shared<P>>,
    /// The target.
    dialled: Dialled,
    /// What is to be sent.
    waiting: mpsc::Receiver<Outgoing>,
    /// Branches that were sent over it and had no reply.
    open: HashMap<(u16, u64), (), RandomState>,
}

impl<P: Program> Connection<P> {
    /// Opens it, and serves it to its end; gives why it ended.
    async fn run(&mut self) -> Cause {
        let (transport, address, socket) = self.dialled;
        let stream = match self.open(address).await {
            Ok(stream) => stream,
            Err(cause) => {
                let now = self.shared.now().uptime;
                self.shared.forward.ways.note_closed(address, now);
                return cause;
            }
        };
        let _best_effort = stream.set_nodelay(true);
        if transport != Transport::Tls {
            return self.serve(stream).await;
        }
        match timeout(HANDSHAKE_TIME, self.secure(stream, socket)).await {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => {
                tracing::warn!(%address, %error, "a target cannot be reached over TLS");
                Cause::Transport
            }
            Err(_) => Cause::Transport,
        }
    }

    /// Opens it.
    async fn open(&self, address: SocketAddr) -> Result<TcpStream, Cause> {
        let stream = match timeout(OPENING_TIME, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(Cause::Refused);
            }
            Ok(Err(_)) | Err(_) => return Err(Cause::Transport),
        };
        // Where nobody listens, a port of the system's choice may be that one, and then it talks to itself.
        if stream.local_addr().is_ok_and(|own| own == address) {
            return Err(Cause::Refused);
        }
        Ok(stream)
    }

    /// Does the handshake of TLS.
    async fn secure(&self, stream: TcpStream, socket: u32) -> io::Result<TlsStream<TcpStream>> {
        let config = self.shared.policy.load().forward.tls.clone();
        let name = self.shared.forward.ways.certified(socket);
        let (config, name) = config.zip(name).ok_or(io::ErrorKind::NotConnected)?;
        let name = ServerName::try_from(name.to_string()).map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    }

    /// Serves it to its end.
    async fn serve(&mut self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Cause {
        let mut phase = self.shared.phase();
        let mut framer = StreamFramer::new();
        let mut room = vec![0; READ_BYTES];
        let mut used_at = Instant::now();
        loop {
            let idle = self.shared.policy.load().idle_timeout;
            tokio::select! {
                outgoing = self.waiting.recv() => {
                    let Some(outgoing) = outgoing else { return Cause::Transport };
                    if outgoing.branch != NOBODY {
                        self.open.insert(outgoing.branch, ());
                    }
                    let written = timeout(WRITE_TIME, async {
                        stream.write_all(&outgoing.bytes).await?;
                        stream.flush().await
                    });
                    let written = written.await;
                    if !matches!(written, Ok(Ok(()))) {
                        return Cause::Transport;
                    }
                    used_at = Instant::now();
                }
                read = timeout_at(used_at + idle, stream.read(&mut room)) => {
                    let Ok(Ok(length @ 1..)) = read else { return Cause::Transport };
                    used_at = Instant::now();
                    framer.push(room.get(..length).unwrap_or_default());
                    if !self.take(&mut framer, &mut stream).await {
                        return Cause::Transport;
                    }
                }
                _ = reached(&mut phase, Phase::Stopped) => return Cause::Transport,
            }
        }
    }

    /// Takes every complete message; false if the connection must end. Requests of a target are not served.
    async fn take(
        &mut self,
        framer: &mut StreamFramer,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> bool {
        loop {
            match framer.next_frame() {
                Frame::Incomplete => return true,
                Frame::Ping => {
                    if stream.write_all(PONG).await.is_err() || stream.flush().await.is_err() {
                        return false;
                    }
                }
                Frame::Message(bytes) => {
                    let (transport, address, _) = self.dialled;
                    let from = Arrival {
                        origin: Origin { address, transport },
                        flow: Flow::Address(address),
                    };
                    if let Some(branch) = self.shared.of_dialog_or_branch(bytes, from) {
                        self.open.remove(&branch);
                    }
                }
                Frame::Broken(..) => return false,
            }
        }
    }

    /// Tells the owners of all requests that had no reply.
    fn fail(&mut self, cause: Cause) {
        let mut branches: Vec<(u16, u64)> = self.open.drain().map(|(branch, ())| branch).collect();
        while let Ok(outgoing) = self.waiting.try_recv() {
            branches.push(outgoing.branch);
        }
        for branch in branches {
            failed(&self.shared, branch, cause);
        }
    }
}

impl<P> Shared<P> {
    /// Hands a message of a connection to the thread that it belongs to, if it is a reply to one of our branches or
    /// probes, or a request with our Route. Gives the branch of a reply.
    pub(crate) fn of_dialog_or_branch(&self, bytes: &[u8], from: Arrival) -> Option<(u16, u64)> {
        let forward = &self.forward;
        let message = Message::parse(bytes, Framing::Stream).ok()?;
        if bytes.starts_with(b"SIP/2.0 ") {
            if let Some(name) = Keys::probe_of(&message) {
                let status = status_of(&message);
                forward.probes.replied(forward, name, status, self.now());
                return None;
            }
            let branch = Keys::branch_of(&message);
            let owner = branch.map_or(0, |branch| branch.worker);
            if branch.is_some() || Keys::is_stateless(&message) {
                forward.hand(owner, Handed::Reply(bytes.into()));
            }
            return branch.map(|branch| (branch.worker, branch.id));
        }
        if let Verdict::Route(request) = check(&message, Role::Proxy)
            && forward.keys.in_dialog(&message, &request).is_some()
        {
            let handed = Handed::Request {
                bytes: bytes.into(),
                from,
                tries: 0,
            };
            forward.hand(forward.owner(request.call_id), handed);
        }
        None
    }
}

/// Whether there was a connection to be written to, by what came of that.
fn is_there<T>(sent: Option<Result<(), TrySendError<T>>>) -> bool {
    match sent {
        Some(Ok(())) => true,
        Some(Err(TrySendError::Full(_))) => {
            tracing::debug!("a message was not sent: its receiver does not read");
            true
        }
        Some(Err(TrySendError::Closed(_))) | None => false,
    }
}

/// Tells the owner of a branch that a request was not sent.
fn failed<P>(shared: &Shared<P>, (thread, branch): (u16, u64), cause: Cause) {
    shared.forward.hand(thread, Handed::Failed(branch, cause));
}

/// The branch of what nobody waits for.
pub(crate) const NOBODY: (u16, u64) = (u16::MAX, 0);

/// How many messages may wait to be written to a connection.
const MOST_WAITING: usize = 4_096;

/// How long a connection may take to open.
const OPENING_TIME: Duration = Duration::from_secs(1);

/// How long the handshake of TLS may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(3);

/// How long a target may take to read a request.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// How many bytes are read at once.
const READ_BYTES: usize = 16 * 1024;
