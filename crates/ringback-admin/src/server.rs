//! Accepting connections, keeping slow clients in bounds, and draining.
//!
//! A connection may take [`MAX_HEAD_TIME`] for each request head (and so be idle no longer), and must
//! take what it is sent within [`MAX_WRITE_STALL`]; pauses within a body are bounded by the reader
//! of the body. Which connections are open is kept in [`crate::connections`].

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Api;
use crate::auth::Reserved;
use crate::client::ConnectedFrom;
use crate::config::HttpConfig;
use crate::connections::{Busy, Connections, Place};
use crate::router::{probes, router};

/// Where requests come in.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For the whole API.
    pub http: Vec<TcpListener>,
    /// The same over TLS.
    pub https: Vec<TcpListener>,
    /// For `/healthz`, `/readyz` and `/metrics` alone.
    pub health: Vec<TcpListener>,
}

/// Opens the configured listeners.
///
/// # Errors
/// An address cannot be bound.
pub async fn bind(config: &HttpConfig) -> io::Result<Listeners> {
    let mut listeners = Listeners::default();
    for address in &config.listen {
        listeners.http.push(bind_one("listen", *address).await?);
    }
    for address in &config.tls_listen {
        let listener = bind_one("tls.listen", *address).await?;
        listeners.https.push(listener);
    }
    for address in &config.health_listen {
        listeners
            .health
            .push(bind_one("health-listen", *address).await?);
    }
    Ok(listeners)
}

/// Serves the API until `shutdown` completes. Then no connection is accepted any more, streams end,
/// requests that have begun are finished, and what is not finished after eight seconds is cut.
pub async fn serve(
    listeners: Listeners,
    api: Api,
    config: &HttpConfig,
    shutdown: impl Future<Output = ()>,
) {
    let server = Server {
        service: TowerToHyperService::new(router(api.clone())),
        connections: Connections::new(config.max_connections, config.max_connections_per_address),
        tasks: TaskTracker::new(),
        cut: CancellationToken::new(),
        api,
    };
    let acceptors = TaskTracker::new();
    let first = listeners.http.first();
    if let Some(address) = first.and_then(|listener| listener.local_addr().ok()) {
        server.api.note_listening(address);
    }
    for listener in listeners.http {
        acceptors.spawn(server.clone().accept(listener, false));
    }
    for listener in listeners.https {
        acceptors.spawn(server.clone().accept(listener, true));
    }
    let probes = Server {
        service: TowerToHyperService::new(probes(server.api.clone())),
        connections: Connections::new(MAX_HEALTH_CONNECTIONS, MAX_HEALTH_CONNECTIONS),
        ..server.clone()
    };
    for listener in listeners.health {
        acceptors.spawn(probes.clone().accept(listener, false));
    }
    shutdown.await;
    server.api.draining().cancel();
    acceptors.close();
    acceptors.wait().await;
    server.tasks.close();
    if tokio::time::timeout(MAX_DRAIN_TIME, server.tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = server.tasks.len(),
            "unfinished requests are cut off"
        );
        server.cut.cancel();
        server.tasks.wait().await;
    }
}

/// What the acceptors share.
#[derive(Clone)]
struct Server {
    /// The state.
    api: Api,
    /// Answers requests.
    service: TowerToHyperService<Router>,
    /// Which connections are open.
    connections: Arc<Connections>,
    /// The tasks that serve them.
    tasks: TaskTracker,
    /// Cancelled when draining has taken too long.
    cut: CancellationToken,
}

impl Server {
    /// Accepts connections until the server goes down.
    async fn accept(self, listener: TcpListener, over_tls: bool) {
        let draining = self.api.draining().clone();
        loop {
            let accepted = tokio::select! {
                () = draining.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, source) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    // Out of file descriptors, most likely: some may be free again in a moment.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let place = self.connections.admit(source.ip());
            let server = self.clone();
            let address = source.ip();
            let source = ConnectedFrom { address, over_tls };
            let _no_matter = stream.set_nodelay(true);
            if !over_tls {
                self.tasks
                    .spawn(server.serve_connection(stream, source, place));
                continue;
            }
            self.tasks.spawn(async move {
                if let Some(stream) = server.shake_hands(stream, &place).await {
                    server.serve_connection(stream, source, place).await;
                }
            });
        }
    }

    /// Secures a connection by the certificates of this moment; `None`: the client has not done its part in time.
    async fn shake_hands(&self, stream: TcpStream, place: &Place) -> Option<TlsStream<TcpStream>> {
        let certificates = self.api.certificates()?;
        let handshake = TlsAcceptor::from(certificates).accept(stream);
        let result = tokio::select! {
            result = tokio::time::timeout(MAX_HANDSHAKE_TIME, handshake) => result,
            () = place.evicted() => return None,
            () = self.api.draining().cancelled() => return None,
        };
        match result {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_late) => tracing::debug!("a TLS handshake took too long"),
        }
        None
    }

    /// Serves one connection to its end.
    async fn serve_connection(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        source: ConnectedFrom,
        place: Arc<Place>,
    ) {
        self.api.metrics().connection_accepted();
        let io = TokioIo::new(WriteTimeout::new(stream));
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(MAX_HEAD_TIME)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_BUFFER_BYTES);
        let service = Placed {
            service: self.service.clone(),
            source,
            place: Arc::clone(&place),
        };
        let connection = builder.serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        let draining = self.api.draining().cancelled();
        let mut draining = std::pin::pin!(draining);
        let mut asked_to_end = false;
        let result = loop {
            tokio::select! {
                result = connection.as_mut() => break result,
                () = self.cut.cancelled() => break Ok(()),
                () = place.evicted() => {
                    self.api.metrics().connection_evicted();
                    break Ok(());
                }
                () = draining.as_mut(), if !asked_to_end => {
                    connection.as_mut().graceful_shutdown();
                    asked_to_end = true;
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection ended");
        }
        self.api.metrics().connection_closed();
    }
}

/// Opens one listener.
async fn bind_one(key: &str, address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("http.{key}: {address} cannot be bound: {error}"),
        )
    })
}

/// Whether only the connection that was to be accepted is at fault.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Answers the requests of one connection, and keeps the connection from making room meanwhile.
struct Placed {
    /// Answers requests.
    service: TowerToHyperService<Router>,
    /// Where the connection comes from.
    source: ConnectedFrom,
    /// The connection.
    place: Arc<Place>,
}

impl Service<Request<Incoming>> for Placed {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.source);
        let busy = self.place.begin();
        if self.place.is_reserved() || busy.is_none() {
            request.extensions_mut().insert(Reserved);
        }
        let response = self.service.call(request);
        Box::pin(async move {
            let response = response.await?;
            Ok(response.map(|body| Body::new(Sent { body, _busy: busy })))
        })
    }
}

/// The body of an answer; until it is sent, the connection does not make room for others.
struct Sent {
    /// The body.
    body: Body,
    /// Dropped with the body.
    _busy: Option<Busy>,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that fails once the other side has taken nothing for [`MAX_WRITE_STALL`].
struct WriteTimeout<S> {
    /// The stream.
    stream: S,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    /// Wraps a stream.
    const fn new(stream: S) -> Self {
        Self {
            stream,
            stalled: None,
        }
    }

    /// Passes a result on; an error, if writing has waited for too long.
    fn limit_stall<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let stalled = self.stalled.get_or_insert_with(|| {
            Box::pin(tokio::time::sleep_until(Instant::now() + MAX_WRITE_STALL))
        });
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limit_stall(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.limit_stall(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.limit_stall(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// How long a client may take for a request head, and be idle between requests.
const MAX_HEAD_TIME: Duration = Duration::from_secs(30);

/// How long a client may take to secure a connection.
const MAX_HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How long a client may take nothing of what it is sent.
const MAX_WRITE_STALL: Duration = Duration::from_secs(30);

/// How long requests that have begun may take when the server goes down.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(8);

/// How long to wait after a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much is read at once, in bytes.
const MAX_BUFFER_BYTES: usize = 128 * 1024;

/// The longest request head, in bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Connections open at once at the addresses for probes.
const MAX_HEALTH_CONNECTIONS: usize = 64;
