//! Cutting a stream into messages by `Content-Length` (RFC 3261 §18.3), with the keep-alives of
//! RFC 5626 §3.5.1 between them.
//!
//! The framer only looks for the empty line that ends a head; what the head says is read by
//! [`Message`], the one parser, so that framing and routing cannot disagree. A line ends with
//! LF, with or without CR before it, in both.

use crate::lex;
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
    /// The head of a message after which nothing can be found: handle it like a message, which
    /// answers what is wrong, then end the connection (drained first, or the answer may be lost in
    /// a reset).
    Broken(&'b [u8], Fault),
}

/// The answer to a [`Frame::Ping`].
pub const PONG: &[u8] = b"\r\n";

/// The bytes of one connection that were not consumed yet.
///
/// Holds at most [`MAX_MESSAGE`] bytes and one read more, if every [`push`](Self::push) is followed
/// by [`next_frame`](Self::next_frame) until it says [`Frame::Incomplete`]. However small the pieces
/// are in which a message arrives, its bytes are searched once and its head is read once more.
#[derive(Debug, Default)]
pub struct StreamFramer {
    /// What was pushed and not dropped yet.
    buffer: Vec<u8>,
    /// Bytes at the start that were handed out.
    consumed: usize,
    /// How far the next message was looked at.
    progress: Progress,
}

/// How far the next message was looked at; offsets count from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Looking for the empty line.
    Head {
        /// Start of the line being searched.
        line: usize,
        /// Bytes searched for its end.
        searched: usize,
    },
    /// Waiting for this many bytes.
    Body(usize),
    /// The framing is lost.
    Broken,
}

impl Default for Progress {
    fn default() -> Self {
        Self::Head {
            line: 0,
            searched: 0,
        }
    }
}

impl StreamFramer {
    /// An empty framer; allocates nothing before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was read from the connection. After [`Frame::Broken`] it is thrown away.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.progress == Progress::Broken {
            return;
        }
        // What was handed out is dropped.
        self.buffer.drain(..self.consumed.min(self.buffer.len()));
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that wait for the rest of their message.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len().saturating_sub(self.consumed)
    }

    /// Bytes of memory that are held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// The next frame. What it borrows is gone with the next call.
    pub fn next_frame(&mut self) -> Frame<'_> {
        if self.pending() == 0 {
            // Whoever waits for the next message holds no memory.
            self.buffer = Vec::new();
            self.consumed = 0;
            return Frame::Incomplete;
        }
        if self.progress == Progress::default()
            && let Some(frame) = self.skip_line_ends()
        {
            return frame;
        }
        let bytes = lex::tail(&self.buffer, self.consumed);
        if let Progress::Head { line, searched } = &mut self.progress {
            let Some(head) = find_head(bytes, line, searched) else {
                if bytes.len() <= MAX_MESSAGE {
                    return Frame::Incomplete;
                }
                self.progress = Progress::Broken;
                return Frame::Broken(bytes, Fault::TooLarge);
            };
            let read = Message::parse(head, Framing::Stream).map_or(Err(None), |message| {
                message.length().ok_or_else(|| message.fault())
            });
            match read {
                Ok(length) => self.progress = Progress::Body(length),
                Err(fault) => {
                    self.progress = Progress::Broken;
                    return Frame::Broken(head, fault.unwrap_or(Fault::NoLength));
                }
            }
        }
        let Progress::Body(length) = self.progress else {
            return Frame::Incomplete;
        };
        let Some(message) = bytes.get(..length) else {
            return Frame::Incomplete;
        };
        self.consumed += length;
        self.progress = Progress::default();
        Frame::Message(message)
    }

    /// Skips line ends before a start line; two pairs in a row are a ping.
    fn skip_line_ends(&mut self) -> Option<Frame<'static>> {
        loop {
            match lex::tail(&self.buffer, self.consumed) {
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    self.consumed += 4;
                    return Some(Frame::Ping);
                }
                // A part of a ping, or of a line end before a start line.
                [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => {
                    return Some(Frame::Incomplete);
                }
                [b'\r', b'\n', ..] => self.consumed += 2,
                [b'\n' | b'\r', ..] => self.consumed += 1,
                _ => return None,
            }
        }
    }
}

/// Goes on looking for the empty line behind the first one; remembers how far it came.
fn find_head<'b>(bytes: &'b [u8], line: &mut usize, searched: &mut usize) -> Option<&'b [u8]> {
    while let Some(at) = memchr::memchr(b'\n', bytes.get(*searched..)?) {
        let end = *searched + at + 1;
        if *line > 0 && matches!(bytes.get(*line..end), Some(b"\n" | b"\r\n")) {
            return bytes.get(..end);
        }
        *line = end;
        *searched = end;
    }
    *searched = bytes.len();
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"OPTIONS sip:h SIP/2.0\r\nl: 3\r\n\r\nabc";

    /// Frames of a stream that arrives in pieces of this many bytes, as text.
    fn frames(stream: &[u8], piece: usize) -> Vec<String> {
        let mut framer = StreamFramer::new();
        let mut frames = Vec::new();
        for bytes in stream.chunks(piece) {
            framer.push(bytes);
            loop {
                frames.push(match framer.next_frame() {
                    Frame::Incomplete => break,
                    Frame::Ping => "ping".to_owned(),
                    Frame::Message(message) => format!("message {}", message.len()),
                    Frame::Broken(_, fault) => format!("{fault:?}"),
                });
            }
        }
        frames
    }

    #[test]
    fn pieces_of_any_size_give_the_same_frames() {
        let stream = [b"\r\n\r\n", ONE, b"\r\n", ONE, b"\r\n\r\n", ONE].concat();
        let message = format!("message {}", ONE.len());
        let expected = ["ping", &message, &message, "ping", &message];
        for piece in 1..=stream.len() {
            assert_eq!(frames(&stream, piece), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn lost_framing_ends_the_stream() {
        for (head, fault) in [
            ("", "NoLength"),
            ("l: 1\r\nl: 1\r\n", "RepeatedLength"),
            ("l: -1\r\n", "BadLength"),
            ("l: 65536\r\n", "TooLarge"),
        ] {
            let stream = format!("INVITE sip:h SIP/2.0\r\n{head}\r\n");
            let stream = [stream.as_bytes(), ONE].concat();
            assert_eq!(frames(&stream, 7), [fault]);
        }
    }

    #[test]
    fn endless_head_is_too_large() {
        let stream = [b"INVITE sip:h SIP/2.0\r\nX: ".to_vec(), vec![b'x'; 70_000]].concat();
        assert_eq!(frames(&stream, 1000), ["TooLarge"]);
    }

    #[test]
    fn message_of_exactly_the_limit_is_whole() {
        let head = "INVITE sip:h SIP/2.0\r\nl: 65502\r\n\r\n";
        let mut stream = head.as_bytes().to_vec();
        stream.resize(MAX_MESSAGE, b'x');
        assert_eq!(stream.len(), head.len() + 65_502);
        assert_eq!(frames(&stream, 5000), ["message 65536"]);
    }

    // The memory of a long message was held until the next one came.
    #[test]
    fn a_connection_that_waits_holds_no_memory() {
        let mut framer = StreamFramer::new();
        let head = "INVITE sip:h SIP/2.0\r\nl: 50000\r\n\r\n";
        framer.push(&[head.as_bytes(), &[b'x'; 50_000]].concat());
        assert!(matches!(framer.next_frame(), Frame::Message(_)));
        assert_eq!(framer.next_frame(), Frame::Incomplete);
        assert_eq!((framer.pending(), framer.capacity()), (0, 0));
        framer.push(b"\r\n\r\n");
        assert_eq!(framer.next_frame(), Frame::Ping);
        assert_eq!(framer.next_frame(), Frame::Incomplete);
        assert_eq!(framer.capacity(), 0);
    }
}
