//! What is to be done with a message: every condition, in the order in which it counts.
//!
//! 1. Framing: size, the end of the headers, `Content-Length`, lines that are no headers.
//! 2. Start line: its grammar and that of a `sip:`, `sips:` or `tel:` request URI (400), version
//!    (505).
//! 3. Mandatory and single-value headers: missing, repeated, malformed (400).
//! 4. Unknown method (501).
//! 5. Method of `CSeq` (400).
//! 6. To tag (481), for every method but ACK and CANCEL: no dialog is ever made here.
//! 7. A method that SIP knows and this server does not (405).
//! 8. Scheme of the request URI (416).
//! 9. `Require` and `Proxy-Require` (420), but not on CANCEL (RFC 3261 §8.2.2.3) and not on INVITE:
//!    a redirect server goes on without extensions that it does not understand (§8.3).
//! 10. Routing.
//!
//! An ACK is never answered, a response never either; what has no readable top `Via` cannot be.
//!
//! What decides nothing here is not read (§8.2.2: "should ignore any malformed header fields that
//! are not necessary"): a bad `Date`, `Contact` or body goes unnoticed, and so do a broken `Via`
//! below the top one and a broken display name in `To`. Not required, as RFC 2543 did not require
//! them: `Max-Forwards`, a From tag, a branch. `Max-Forwards: 0` is fine, since nothing is forwarded.

use rsip::Method;

use crate::message::Via;
use crate::message::{CSeq, Fault, HeaderError, HeaderName, Message, NameAddr, Problem, StartLine};
use crate::uri::{Scheme, Uri};

/// What is to be done with a message.
#[derive(Clone, Debug)]
pub enum Verdict<'m> {
    /// An INVITE that asks for a route.
    Route(Request<'m>),
    /// An OPTIONS or CANCEL in good order.
    Accept(Request<'m>),
    /// To be answered with an error, addressed by this top `Via`.
    Refuse(Refusal, Via<'m>),
    /// An ACK: done with.
    Absorb,
    /// A response; it matches nothing of ours, but may be learned from.
    Response(Response<'m>),
    /// Nothing can or may be answered.
    Drop(DropCause),
}

/// The parts of a request that passed every check.
#[derive(Clone, Copy, Debug)]
pub struct Request<'m> {
    /// The method.
    pub method: Method,
    /// The request URI.
    pub uri: Uri<'m>,
    /// The top `Via`.
    pub via: Via<'m>,
    /// `Call-ID`.
    pub call_id: &'m [u8],
    /// `CSeq`.
    pub cseq: CSeq<'m>,
    /// `From`.
    pub from: NameAddr<'m>,
    /// `To`.
    pub to: NameAddr<'m>,
}

/// The parts of a response that tell how a call went.
#[derive(Clone, Copy, Debug)]
pub struct Response<'m> {
    /// 100 to 699.
    pub code: u16,
    /// `Call-ID` of the call.
    pub call_id: &'m [u8],
    /// `CSeq` of the request it answers.
    pub cseq: CSeq<'m>,
}

/// Why a request is answered with an error.
///
/// The status and the reason phrase are in [`reply`](crate::reply).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Over the limit of [`MAX_MESSAGE`](crate::message::MAX_MESSAGE).
    TooLarge,
    /// It breaks the grammar.
    Malformed(Defect),
    /// Not SIP/2.0.
    Version,
    /// A method SIP does not know.
    UnknownMethod,
    /// It belongs to a dialog, and there is none.
    NoDialog,
    /// A method SIP knows and this server does not.
    MethodNotAllowed,
    /// A request URI that is no `sip:`, `sips:` or `tel:` URI.
    UriScheme,
    /// It requires an extension.
    Extension,
    /// No new work is taken.
    Draining,
    /// More work than can be done in time.
    Overload,
}

/// What breaks the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Defect {
    /// No empty line behind the headers.
    Unterminated,
    /// A line that is no header.
    HeaderLine,
    /// No `Content-Length` on a stream.
    NoLength,
    /// More than one `Content-Length`.
    RepeatedLength,
    /// A `Content-Length` that is no number.
    BadLength,
    /// A `Content-Length` beyond the end of the datagram.
    ShortBody,
    /// The first line.
    RequestLine,
    /// The request URI.
    RequestUri,
    /// Mandatory headers that are not there.
    Missing(MissingHeaders),
    /// A header that is repeated or malformed.
    Header(HeaderError),
    /// The method in `CSeq` is another one.
    CSeqMethod,
}

/// One or more of the mandatory headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MissingHeaders(u8);

/// Why nothing is answered, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropCause {
    /// Line ends alone: a peer keeps its flow alive.
    KeepAlive,
    /// No reply can be addressed: the top `Via` is missing or unreadable.
    NoVia,
    /// A malformed ACK: an ACK is never answered.
    MalformedAck,
    /// A malformed response.
    MalformedResponse,
    /// The reply would not fit into a datagram.
    ReplyTooLarge,
}

impl MissingHeaders {
    /// In the order in which they are named.
    const MANDATORY: [HeaderName; 4] = [
        HeaderName::CallId,
        HeaderName::CSeq,
        HeaderName::From,
        HeaderName::To,
    ];

    /// Those the message lacks.
    fn of(message: &Message<'_>) -> Self {
        let mut missing = Self::default();
        for (place, name) in Self::MANDATORY.into_iter().enumerate() {
            if message.count(name) == 0 {
                missing.0 |= 1 << place;
            }
        }
        missing
    }

    /// The headers, in the order in which they are named.
    pub fn iter(self) -> impl Iterator<Item = HeaderName> {
        Self::MANDATORY
            .into_iter()
            .enumerate()
            .filter_map(move |(place, name)| (self.0 & (1 << place) != 0).then_some(name))
    }
}

/// Checks a message in the order above.
#[must_use]
pub fn check<'m>(message: &Message<'m>) -> Verdict<'m> {
    if matches!(
        message.start(),
        StartLine::Response { .. } | StartLine::BrokenResponse
    ) {
        return check_response(message);
    }
    // An ACK is never answered, whatever is wrong with it (RFC 3261 §17.1.1.3).
    let is_ack = message.method() == Some(Method::Ack);
    let Some(via) = message.top_via() else {
        return Verdict::Drop(if is_ack {
            DropCause::MalformedAck
        } else {
            DropCause::NoVia
        });
    };
    if is_ack {
        return Verdict::Absorb;
    }
    match check_request(message, via) {
        Ok(request) if request.method == Method::Invite => Verdict::Route(request),
        Ok(request) => Verdict::Accept(request),
        Err(refusal) => Verdict::Refuse(refusal, via),
    }
}

/// A response is of use only if it says which call and which request it belongs to.
fn check_response<'m>(message: &Message<'m>) -> Verdict<'m> {
    let (StartLine::Response { code, .. }, None, Ok(call_id), Ok(cseq)) = (
        message.start(),
        message.fault(),
        message.call_id(),
        message.cseq(),
    ) else {
        return Verdict::Drop(DropCause::MalformedResponse);
    };
    Verdict::Response(Response {
        code,
        call_id,
        cseq,
    })
}

/// Steps 1 to 9.
fn check_request<'m>(message: &Message<'m>, via: Via<'m>) -> Result<Request<'m>, Refusal> {
    if let Some(fault) = message.fault() {
        return Err(refuse_fault(fault));
    }
    let (token, uri) = match message.start() {
        StartLine::Request { method, uri } => (method, uri),
        StartLine::OtherVersion { .. } => return Err(Refusal::Version),
        _ => return Err(Refusal::Malformed(Defect::RequestLine)),
    };
    let uri = Uri::parse(uri)
        .ok()
        // RFC 3261 §19.1.1: a request URI has no headers.
        .filter(|uri| uri.headers().is_none())
        .ok_or(Refusal::Malformed(Defect::RequestUri))?;
    let missing = MissingHeaders::of(message);
    if missing != MissingHeaders::default() {
        return Err(Refusal::Malformed(Defect::Missing(missing)));
    }
    if !via.is_sound() {
        return Err(header_error(HeaderName::Via, Problem::Malformed));
    }
    let refuse = |error| Refusal::Malformed(Defect::Header(error));
    let call_id = message.call_id().map_err(refuse)?;
    let cseq = message.cseq().map_err(refuse)?;
    let from = message.from().map_err(refuse)?;
    let to = message.to().map_err(refuse)?;
    message.max_forwards().map_err(refuse)?;
    if message.count(HeaderName::ContentType) > 1 {
        return Err(header_error(HeaderName::ContentType, Problem::Duplicate));
    }
    let method = message.method().ok_or(Refusal::UnknownMethod)?;
    if cseq.method != token {
        return Err(Refusal::Malformed(Defect::CSeqMethod));
    }
    if to.tag().is_some() && method != Method::Cancel {
        return Err(Refusal::NoDialog);
    }
    if !matches!(method, Method::Invite | Method::Cancel | Method::Options) {
        return Err(Refusal::MethodNotAllowed);
    }
    if uri.scheme() == Scheme::Other {
        return Err(Refusal::UriScheme);
    }
    if method == Method::Options && message.required_extensions().next().is_some() {
        return Err(Refusal::Extension);
    }
    Ok(Request {
        method,
        uri,
        via,
        call_id,
        cseq,
        from,
        to,
    })
}

/// The refusal a fault of the framing leads to.
const fn refuse_fault(fault: Fault) -> Refusal {
    Refusal::Malformed(match fault {
        Fault::TooLarge => return Refusal::TooLarge,
        Fault::Unterminated => Defect::Unterminated,
        Fault::NoLength => Defect::NoLength,
        Fault::RepeatedLength => Defect::RepeatedLength,
        Fault::BadLength => Defect::BadLength,
        Fault::ShortBody => Defect::ShortBody,
        Fault::BadLine => Defect::HeaderLine,
    })
}

/// A refusal that names a header.
const fn header_error(name: HeaderName, problem: Problem) -> Refusal {
    Refusal::Malformed(Defect::Header(HeaderError { name, problem }))
}
