//! A message that can be kept: for a transaction, which outlives the datagram that began it.

use super::index::Index;
use super::{Framing, KeepAlive, Message};

/// A message that owns its bytes. It is indexed once; [`Self::message`] reads it like one that just arrived.
#[derive(Clone, Debug)]
pub struct OwnedMessage {
    /// All that arrived.
    bytes: Box<[u8]>,
    /// Where everything stands in it.
    index: Index,
}

impl OwnedMessage {
    /// Indexes the bytes of one datagram, or of one message cut from a stream.
    ///
    /// # Errors
    ///
    /// If there are no bytes but line ends. Whatever else is wrong is shown by the message itself.
    pub fn parse(bytes: impl Into<Box<[u8]>>, framing: Framing) -> Result<Self, KeepAlive> {
        let bytes = bytes.into();
        let mut index = Index::new();
        index.read(&bytes, framing)?;
        Ok(Self { bytes, index })
    }

    /// The message, to be read. This copies the index, some hundred bytes.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        Message {
            bytes: &self.bytes,
            index: self.index.clone(),
        }
    }

    /// All that arrived.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<&Message<'_>> for OwnedMessage {
    /// Copies the bytes; nothing is read again.
    fn from(message: &Message<'_>) -> Self {
        Self {
            bytes: message.bytes.into(),
            index: message.index.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::HeaderName;

    #[test]
    fn a_kept_message_reads_as_it_did_when_it_arrived() {
        let bytes = b"\r\nINVITE sip:a@h SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
            Route: <sip:p1;lr>,\r\n <sip:p2;lr>\r\nTo: <sip:b@h>\r\nRoute: <sip:p3;lr>\r\n\
            Call-ID: 1\r\nContent-Length: 4\r\n\r\nbodyrest";
        let message = Message::parse(bytes, Framing::Datagram).unwrap();
        let kept = OwnedMessage::from(&message);
        let parsed = OwnedMessage::parse(&bytes[..], Framing::Datagram).unwrap();
        for read in [kept.message(), parsed.message()] {
            assert_eq!(read.bytes(), bytes);
            assert_eq!(read.start(), message.start());
            assert_eq!(read.fault(), None);
            assert_eq!(read.body(), b"body");
            assert_eq!(read.call_id().unwrap(), b"1");
            assert_eq!(read.to().unwrap().uri_bytes(), b"sip:b@h");
            let via = read.top_via().and_then(|via| via.branch());
            assert_eq!(via, Some(&b"z9hG4bK1"[..]));
            let routes = read.known(HeaderName::Route).flat_map(|value| value.list());
            let routes: Vec<&[u8]> = routes.map(|value| value.as_bytes()).collect();
            assert_eq!(
                routes,
                [&b"<sip:p1;lr>"[..], b"<sip:p2;lr>", b"<sip:p3;lr>"]
            );
            let (lines, before) = (read.lines(), message.lines());
            assert!(lines.eq(before));
        }
    }
}
