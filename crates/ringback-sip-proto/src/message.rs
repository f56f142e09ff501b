//! A message as an index over the bytes that arrived: nothing is copied, nothing allocated.
//!
//! [`Message::parse`] walks over the header section once and notes where each header this crate
//! reads itself stands first, and how often it occurs. The index holds offsets alone, so that a message
//! that is to be kept takes its bytes along: [`OwnedMessage`]. Typed readers ([`Message::cseq`],
//! [`Message::to`], ...) parse a value when asked. There is no limit on the number of headers, only
//! one on the size of the message ([`MAX_MESSAGE`]).
//!
//! Tolerated: a bare LF as a line end (every line end is read the same way by the framer, so the
//! two cannot disagree; CR alone is no line end), line ends before the start line (RFC 3261 §7.5),
//! bytes that are no UTF-8, and unknown headers with any value. A header line without a colon, or
//! whose name is no token, is an error.
//!
//! A message that breaks the rules is still indexed as far as it can be read, because the reply
//! that says so needs its `Via`, `From`, `To`, `Call-ID` and `CSeq`. What is wrong is shown by
//! [`Message::start`], [`Message::fault`] and the typed readers; in which order it counts is
//! decided in [`check`](crate::check).

mod header;
mod identity;
mod index;
mod name_addr;
mod owned;
mod value;
mod via;

use std::fmt;

use rsip::Method;

use crate::lex::{self, Cursor, Octets};

use index::Index;

pub use header::{HeaderLine, HeaderLines, HeaderName, Values, is_header_name};
pub use identity::{Digits, Identity, IdentitySource};
pub use name_addr::NameAddr;
pub use owned::OwnedMessage;
pub use value::{BrokenParam, List, Param, Params, Value};
pub use via::Via;

pub(crate) use value::write_unfolded;
pub(crate) use via::write_number;

/// How the end of the message was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The bytes are one datagram: the body ends with it, bytes beyond `Content-Length` are
    /// ignored (RFC 3261 §18.3).
    Datagram,
    /// The bytes come from a stream, where `Content-Length` is required.
    Stream,
}

/// There is nothing to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only line ends, as sent to keep a flow alive")]
pub struct KeepAlive;

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'m> {
    /// `INVITE sip:a@h SIP/2.0`; the URI is not read yet.
    Request {
        /// The method, case-sensitive.
        method: &'m [u8],
        /// The request URI as sent.
        uri: &'m [u8],
    },
    /// `SIP/2.0 200 OK`.
    Response {
        /// 100 to 699.
        code: u16,
        /// The reason phrase; may be empty.
        reason: &'m [u8],
    },
    /// A request of another version than 2.0.
    OtherVersion {
        /// The method, case-sensitive.
        method: &'m [u8],
    },
    /// A request line that breaks the grammar.
    BrokenRequest {
        /// What stands before the first space, if it is a token; else empty.
        method: &'m [u8],
    },
    /// A status line that breaks the grammar or is of another version.
    BrokenResponse,
}

impl<'m> StartLine<'m> {
    /// The method of a request, as sent; empty for a response.
    #[must_use]
    pub fn method(&self) -> &'m [u8] {
        match self {
            Self::Request { method, .. }
            | Self::OtherVersion { method }
            | Self::BrokenRequest { method } => method,
            Self::Response { .. } | Self::BrokenResponse => &[],
        }
    }
}

/// What is wrong with the header section or the framing; the first thing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Longer than [`MAX_MESSAGE`], or `Content-Length` says so on a stream.
    TooLarge,
    /// No empty line ends the header section.
    Unterminated,
    /// No `Content-Length` on a stream.
    NoLength,
    /// More than one `Content-Length`.
    RepeatedLength,
    /// `Content-Length` is no number.
    BadLength,
    /// `Content-Length` reaches beyond the datagram.
    ShortBody,
    /// A line that is no header.
    BadLine,
}

/// A header that is missing, repeated or malformed. Displays as a reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{problem} {name}")]
pub struct HeaderError {
    /// Which header.
    pub name: HeaderName,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// It is not there.
    Missing,
    /// It may be there only once.
    Duplicate,
    /// Its value breaks the grammar.
    Malformed,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Problem {
    /// The word for it in a reason phrase.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "Missing",
            Self::Duplicate => "Duplicate",
            Self::Malformed => "Malformed",
        }
    }
}

/// `CSeq`: the number and method of a request (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'m> {
    /// Less than 2³¹.
    pub number: u32,
    /// Case-sensitive.
    pub method: &'m [u8],
}

/// A message on the wire, indexed.
#[derive(Clone, Debug)]
pub struct Message<'m> {
    /// All that arrived.
    bytes: &'m [u8],
    /// Where everything stands in it.
    index: Index,
}

impl<'m> Message<'m> {
    /// Indexes the bytes of one datagram, or of one message cut from a stream.
    ///
    /// # Errors
    ///
    /// If there are no bytes but line ends. Whatever else is wrong is shown by the message itself.
    pub fn parse(bytes: &'m [u8], framing: Framing) -> Result<Self, KeepAlive> {
        let mut message = Self {
            bytes,
            index: Index::new(),
        };
        message.index.read(bytes, framing)?;
        Ok(message)
    }

    /// All that arrived: line ends before the message, and what follows it in its datagram, included.
    #[must_use]
    pub fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// What the first line says.
    #[must_use]
    pub fn start(&self) -> StartLine<'m> {
        self.index.start_line(self.bytes)
    }

    /// What is wrong with the framing or the header section, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.index.fault
    }

    /// The body, as far as `Content-Length` says.
    #[must_use]
    pub fn body(&self) -> &'m [u8] {
        self.index.body.of(self.bytes)
    }

    /// Where the body ends in [`Self::bytes`]; what follows in a datagram does not belong to the message.
    #[must_use]
    pub fn end(&self) -> usize {
        self.index.body.range().end
    }

    /// The method of a request, as sent; empty for a response.
    #[must_use]
    pub fn method_bytes(&self) -> &'m [u8] {
        self.start().method()
    }

    /// The method of a request, if SIP knows it.
    #[must_use]
    pub fn method(&self) -> Option<Method> {
        method_from_bytes(self.method_bytes())
    }

    /// Every header line in order.
    pub fn lines(&self) -> HeaderLines<'m> {
        self.index
            .lines_from(self.bytes, self.index.section.start())
    }

    /// How many lines this header has.
    #[must_use]
    pub fn count(&self, name: HeaderName) -> usize {
        self.index.slot(name).count as usize
    }

    /// The value of each line of this header, in order; each may be a list.
    #[must_use]
    pub fn known(&self, name: HeaderName) -> Values<'m> {
        self.index.known(self.bytes, name)
    }

    /// The value of the first line of this header.
    #[must_use]
    pub fn first(&self, name: HeaderName) -> Option<Value<'m>> {
        self.index.first(self.bytes, name)
    }

    /// The value of each line of any header, in order; long and compact names are the same.
    pub fn header<'n>(&self, name: &'n str) -> impl Iterator<Item = Value<'m>> + use<'m, 'n> {
        let known = HeaderName::from_bytes(name.as_bytes()).map(|name| self.known(name));
        let other = known
            .is_none()
            .then(|| self.lines())
            .into_iter()
            .flatten()
            .filter(move |line| line.is_named(name.as_bytes()))
            .map(|line| line.value);
        known.into_iter().flatten().chain(other)
    }

    /// The one value of a header that may occur only once.
    ///
    /// # Errors
    ///
    /// If it is missing or repeated.
    pub fn single(&self, name: HeaderName) -> Result<Value<'m>, HeaderError> {
        let problem = match self.index.slot(name).count {
            0 => Problem::Missing,
            1 => Problem::Malformed,
            _ => Problem::Duplicate,
        };
        match (problem, self.first(name)) {
            (Problem::Malformed, Some(value)) => Ok(value),
            _ => Err(HeaderError { name, problem }),
        }
    }

    /// Every `Via` value in order, over all lines; `None` for one that cannot be read.
    pub fn vias(&self) -> impl Iterator<Item = Option<Via<'m>>> + use<'m> {
        self.known(HeaderName::Via)
            .flat_map(Value::list)
            .map(Via::parse)
    }

    /// The top `Via`, if it says where a reply would go.
    #[must_use]
    pub fn top_via(&self) -> Option<Via<'m>> {
        let value = self.first(HeaderName::Via)?;
        Via::parse(value.split_first().0)
    }

    /// `CSeq`.
    ///
    /// # Errors
    ///
    /// If it is missing, repeated or malformed; a number of 2³¹ or more is malformed (§8.1.1.5).
    pub fn cseq(&self) -> Result<CSeq<'m>, HeaderError> {
        self.read(HeaderName::CSeq, |value| {
            let mut cursor = Cursor::new(value.as_bytes());
            let digits = cursor.take_while(|byte| byte.is_ascii_digit());
            let number = lex::decimal(digits).filter(|&number| number < 1 << 31)?;
            let gap = cursor.at();
            cursor.skip_space();
            let method = cursor.take_in(&lex::TOKEN);
            (cursor.at() > gap && !method.is_empty() && cursor.is_done()).then_some(CSeq {
                number: u32::try_from(number).ok()?,
                method,
            })
        })
    }

    /// `Call-ID`: any text without white space or control characters.
    ///
    /// # Errors
    ///
    /// If it is missing, repeated, empty or holds such a character.
    pub fn call_id(&self) -> Result<&'m [u8], HeaderError> {
        self.read(HeaderName::CallId, |value| {
            let text = value.as_bytes();
            let sound = !text.is_empty() && lex::position(text, Octets::is_invisible).is_none();
            sound.then_some(text)
        })
    }

    /// `From`.
    ///
    /// # Errors
    ///
    /// If it is missing, repeated or malformed.
    pub fn from(&self) -> Result<NameAddr<'m>, HeaderError> {
        self.read(HeaderName::From, NameAddr::parse)
    }

    /// `To`. Nobody is shown its display name here, so a broken one does not matter.
    ///
    /// # Errors
    ///
    /// If it is missing, repeated or malformed.
    pub fn to(&self) -> Result<NameAddr<'m>, HeaderError> {
        self.read(HeaderName::To, NameAddr::parse_any_name)
    }

    /// `Max-Forwards`; a message of RFC 2543 has none.
    ///
    /// # Errors
    ///
    /// If it is repeated or no number up to 255.
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        if self.count(HeaderName::MaxForwards) == 0 {
            return Ok(None);
        }
        self.read(HeaderName::MaxForwards, |value| {
            u8::try_from(lex::decimal(value.as_bytes())?).ok()
        })
        .map(Some)
    }

    /// Every option tag of `Require`, then those of `Proxy-Require`, in order.
    pub fn required_extensions(&self) -> impl Iterator<Item = Value<'m>> + use<'m> {
        self.known(HeaderName::Require)
            .chain(self.known(HeaderName::ProxyRequire))
            .flat_map(Value::list)
            .filter(|tag| !tag.as_bytes().is_empty())
    }

    /// Every option tag of `Proxy-Require`, in order.
    pub fn required_of_proxies(&self) -> impl Iterator<Item = Value<'m>> + use<'m> {
        self.known(HeaderName::ProxyRequire)
            .flat_map(Value::list)
            .filter(|tag| !tag.as_bytes().is_empty())
    }

    /// Bytes of the whole message, line ends before it included, if the head says how many.
    pub(crate) fn length(&self) -> Option<usize> {
        self.index.length
    }

    /// Where the first line of this header stands in [`Self::bytes`], its folds and its end included.
    #[must_use]
    pub fn first_line(&self, name: HeaderName) -> Option<std::ops::Range<usize>> {
        let slot = self.index.slot(name);
        (slot.count > 0).then(|| slot.line.range())
    }

    /// Where the first line of this header stands in [`Self::bytes`], its end included, if it may stand in a reply
    /// as it is.
    pub(crate) fn plain_line(&self, name: HeaderName) -> Option<std::ops::Range<usize>> {
        let slot = self.index.slot(name);
        slot.is_plain.then(|| slot.line.range())
    }

    /// Reads the one value of a header.
    fn read<T>(
        &self,
        name: HeaderName,
        parse: impl FnOnce(Value<'m>) -> Option<T>,
    ) -> Result<T, HeaderError> {
        parse(self.single(name)?).ok_or(HeaderError {
            name,
            problem: Problem::Malformed,
        })
    }
}

/// The method of this name, compared case-sensitively (RFC 3261 §7.1); `None` if SIP knows none.
#[must_use]
pub fn method_from_bytes(method: &[u8]) -> Option<Method> {
    Some(match method {
        b"INVITE" => Method::Invite,
        b"ACK" => Method::Ack,
        b"CANCEL" => Method::Cancel,
        b"OPTIONS" => Method::Options,
        b"BYE" => Method::Bye,
        b"REGISTER" => Method::Register,
        b"SUBSCRIBE" => Method::Subscribe,
        b"NOTIFY" => Method::Notify,
        b"MESSAGE" => Method::Message,
        b"REFER" => Method::Refer,
        b"INFO" => Method::Info,
        b"UPDATE" => Method::Update,
        b"PRACK" => Method::PRack,
        b"PUBLISH" => Method::Publish,
        _ => return None,
    })
}

/// The longest message that is read, in bytes; a longer one is answered with 513.
pub const MAX_MESSAGE: usize = 65_536;
