//! Cutting a stream into messages by `Content-Length` (RFC 3261 §18.3), with the keep-alives of
//! RFC 5626 §3.5.1 between them.
//!
//! The framer only looks for the empty line that ends a head; what the head says is read by
//! [`Message`], the one parser, so that framing and routing cannot disagree. A line ends with
//! LF, with or without CR before it, in both.

use crate::message::{Fault, Framing, MAX_MESSAGE, Message};

/// What comes next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'b> {
    /// Not enough bytes yet.
    Incomplete,
    /// A double CRLF between messages: answer with [`PONG`].
    Ping,
    /// One whole message.
    Message(&'b [u8]),
    /// A message after which nothing can be found: answer it like any other, which says what is
    /// wrong, then end the connection (drained first, or the answer may be lost in a reset).
    Broken(&'b [u8], Fault),
}

/// The answer to a [`Frame::Ping`].
pub const PONG: &[u8] = b"\r\n";

/// The bytes of one connection that were not consumed yet.
///
/// Holds at most [`MAX_MESSAGE`] bytes and one read more, if every [`push`](Self::push) is followed
/// by [`next_frame`](Self::next_frame) until it says [`Frame::Incomplete`].
#[derive(Debug, Default)]
pub struct StreamFramer {
    /// What was pushed and not dropped yet.
    buffer: Vec<u8>,
    /// Bytes at the start that were handed out.
    consumed: usize,
    /// Bytes behind those that hold whole lines without an empty one.
    scanned: usize,
    /// Once true, nothing more is read.
    broken: bool,
}

impl StreamFramer {
    /// An empty framer; allocates nothing before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was read from the connection. After [`Frame::Broken`] it is thrown away.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken {
            return;
        }
        self.compact();
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that wait for the rest of their message.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len().saturating_sub(self.consumed)
    }

    /// The next frame. What it borrows is gone with the next call.
    pub fn next_frame(&mut self) -> Frame<'_> {
        if self.broken {
            return Frame::Incomplete;
        }
        if let Some(ping) = self.skip_line_ends() {
            return ping;
        }
        let bytes = self.buffer.get(self.consumed..).unwrap_or_default();
        let Some(_head) = head_end(bytes, &mut self.scanned) else {
            if bytes.len() > MAX_MESSAGE {
                self.broken = true;
                return Frame::Broken(bytes, Fault::TooLarge);
            }
            return Frame::Incomplete;
        };
        let Ok(message) = Message::parse(bytes, Framing::Stream) else {
            return Frame::Incomplete;
        };
        let Some(length) = message.length() else {
            self.broken = true;
            let fault = message.fault().unwrap_or(Fault::NoLength);
            return Frame::Broken(bytes, fault);
        };
        let Some(whole) = bytes.get(..length) else {
            return Frame::Incomplete;
        };
        self.consumed += length;
        self.scanned = 0;
        Frame::Message(whole)
    }

    /// Skips line ends before a start line; two pairs in a row are a ping.
    fn skip_line_ends(&mut self) -> Option<Frame<'static>> {
        if self.scanned > 0 {
            return None;
        }
        loop {
            match self.buffer.get(self.consumed..).unwrap_or_default() {
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    self.consumed += 4;
                    return Some(Frame::Ping);
                }
                // A part of a ping, or of a line end before a start line.
                [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Some(Frame::Incomplete),
                [b'\r', b'\n', ..] => self.consumed += 2,
                [b'\n' | b'\r', ..] => self.consumed += 1,
                _ => return None,
            }
        }
    }

    /// Drops what was handed out, and the memory of a long message.
    fn compact(&mut self) {
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed.min(self.buffer.len()));
            self.consumed = 0;
        }
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
    }
}

/// Memory that an idle connection may keep, in bytes.
const KEPT: usize = 4096;

/// Length of the head up to and with its empty line. `scanned` remembers the lines seen.
pub(crate) fn head_end(bytes: &[u8], scanned: &mut usize) -> Option<usize> {
    loop {
        let rest = bytes.get(*scanned..)?;
        let end = memchr::memchr(b'\n', rest)? + 1;
        let line = rest.get(..end)?;
        if matches!(line, b"\n" | b"\r\n") && *scanned > 0 {
            return Some(*scanned + end);
        }
        *scanned += end;
    }
}
