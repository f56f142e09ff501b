//! Answers that are written piece by piece by a thread, as fast as the client takes them.

use std::io::{self, Write};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::error::ApiError;
use crate::reply;

/// What is sent to the client: bytes, or why there are no more.
type Piece = Result<Bytes, io::Error>;

/// Answers with what `write` writes. It runs on a thread where it may block; an error of its own that comes before
/// it has written much is the answer instead. Later, it can only break off the answer, which the client sees.
///
/// `place` is kept until the stream ends: its place among those of the token. The stream is broken off when the server
/// goes down.
///
/// # Errors
/// `write` failed at once.
pub(crate) async fn answer(
    api: &Api,
    place: impl Send + 'static,
    content_type: &'static str,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let (pieces, mut waiting) = mpsc::channel::<Piece>(PIECES_AHEAD);
    let draining = api.draining().clone();
    let written = tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe {
            pieces,
            draining,
            buffer: Vec::with_capacity(PIECE_BYTES),
        };
        let result = write(&mut pipe);
        // The client gets the last bytes only of an answer that is whole.
        let result = result.and_then(|()| pipe.send().map_err(|_| ApiError::ShuttingDown));
        if result.is_err() {
            let broken = io::Error::other("the answer is not whole");
            // The client may have gone.
            let _gone = pipe.pieces.blocking_send(Err(broken));
        }
        result
    });
    // As long as nothing was sent, a failure can still be told as what it is.
    let first = match waiting.recv().await {
        Some(Ok(first)) => first,
        Some(Err(_)) | None => {
            written.await.map_err(|_panicked| ApiError::Internal)??;
            Bytes::new()
        }
    };
    let pieces = stream::unfold(
        (Some(first), waiting, place),
        |(first, mut waiting, place)| async move {
            let piece = match first {
                Some(first) => Ok(first),
                None => waiting.recv().await?,
            };
            Some((piece, (None, waiting, place)))
        },
    );
    let mut response = reply::text_of(StatusCode::OK, content_type, Body::from_stream(pieces));
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Where the thread writes to.
struct Pipe {
    /// Takes pieces, and makes the thread wait where the client is slower.
    pieces: mpsc::Sender<Piece>,
    /// Cancelled when the server goes down.
    draining: CancellationToken,
    /// The next piece.
    buffer: Vec<u8>,
}

impl Pipe {
    /// Sends the piece.
    fn send(&mut self) -> io::Result<()> {
        if self.draining.is_cancelled() {
            return Err(io::Error::other("the server goes down"));
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        self.pieces
            .blocking_send(Ok(piece.into()))
            .map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    /// Does nothing: pieces are sent when they are full, and at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// About how long a piece is.
const PIECE_BYTES: usize = 64 << 10;

/// How many pieces may wait for the client.
const PIECES_AHEAD: usize = 4;
