//! What is to be done with a message: every condition, in the order in which it counts, for each [`Role`].
//!
//! For a redirect server:
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
//! A proxy (RFC 3261 §16.3) takes every method, in dialogs too, and so leaves out 4, 6, 7 and 9. Instead:
//!
//! - Behind the scheme: `Max-Forwards: 0` (483), but a CANCEL or an ACK, which go no further than their INVITE, and
//!   an OPTIONS, which is answered here, as a traceroute wants it (§16.3 item 3). Where there is none the check is
//!   passed.
//! - Then `Proxy-Require` (420), but not on CANCEL and ACK, which must not bear it (§9.1). `Require` is for whoever
//!   the request goes to.
//!
//! Loops (§16.3 item 4) are seen by whoever knows the branches of its own; nobody is asked for credentials.
//!
//! An ACK is never answered, a response never either; what has no readable top `Via` cannot be.
//!
//! What decides nothing here is not read (§8.2.2: "should ignore any malformed header fields that
//! are not necessary"): a bad `Date`, `Contact` or body goes unnoticed, and so do a broken `Via`
//! below the top one and a broken display name in `To`. Not required, as RFC 2543 did not require
//! them: `Max-Forwards`, a From tag, a branch. `Max-Forwards: 0` is fine where nothing is forwarded.

use rsip::Method;

use crate::message::Via;
use crate::message::{
    CSeq, Fault, HeaderError, HeaderName, Message, NameAddr, Problem, StartLine, method_from_bytes,
};
use crate::uri::{Scheme, Uri};

/// As what a message is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A redirect server: every request ends here.
    Redirect,
    /// A proxy: requests go on, those in dialogs too.
    Proxy,
}

/// What is to be done with a message.
#[derive(Clone, Debug)]
pub enum Verdict<'m> {
    /// A request that asks for a route: of a redirect server an INVITE; of a proxy any method, so also an ACK and a
    /// CANCEL, which may belong to a transaction.
    Route(Request<'m>),
    /// To be answered with 200: an OPTIONS in good order, of a redirect server a CANCEL too.
    Accept(Request<'m>),
    /// To be answered with an error, addressed by this top `Via`.
    Refuse(Refusal, Via<'m>),
    /// An ACK at a redirect server: done with.
    Absorb,
    /// A response; it matches nothing of ours, but may be learned from.
    Response(Response<'m>),
    /// Nothing can or may be answered.
    Drop(DropCause),
}

/// The parts of a request that passed every check.
#[derive(Clone, Copy, Debug)]
pub struct Request<'m> {
    /// The method; `None`, at a proxy, if SIP does not know it.
    pub method: Option<Method>,
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
    /// It requires an extension of proxies.
    ProxyExtension,
    /// It may not be forwarded any more.
    TooManyHops,
    /// It has been here before, and nothing has changed since.
    Loop,
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
        for (index, name) in Self::MANDATORY.into_iter().enumerate() {
            if message.count(name) == 0 {
                missing.0 |= 1 << index;
            }
        }
        missing
    }

    /// The headers, in the order in which they are named.
    pub fn iter(self) -> impl Iterator<Item = HeaderName> {
        Self::MANDATORY
            .into_iter()
            .enumerate()
            .filter_map(move |(index, name)| (self.0 & (1 << index) != 0).then_some(name))
    }
}

/// Checks a message in the order above.
#[must_use]
pub fn check<'m>(message: &Message<'m>, role: Role) -> Verdict<'m> {
    let start = message.start();
    if matches!(
        start,
        StartLine::Response { .. } | StartLine::BrokenResponse
    ) {
        return check_response(message);
    }
    let method = method_from_bytes(start.method());
    // An ACK is never answered, whatever is wrong with it (RFC 3261 §17.1.1.3).
    let is_ack = method == Some(Method::Ack);
    let Some(via) = message.top_via() else {
        return Verdict::Drop(if is_ack {
            DropCause::MalformedAck
        } else {
            DropCause::NoVia
        });
    };
    if is_ack && role == Role::Redirect {
        return Verdict::Absorb;
    }
    match check_request(message, start, method, via, role) {
        Ok((Goal::Route, request)) => Verdict::Route(request),
        Ok((Goal::Here, request)) => Verdict::Accept(request),
        Err(_) if is_ack => Verdict::Drop(DropCause::MalformedAck),
        Err(refusal) => Verdict::Refuse(refusal, via),
    }
}

/// Where a request in good order goes.
#[derive(Clone, Copy)]
enum Goal {
    /// Where a route leads it.
    Route,
    /// No further.
    Here,
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

/// Steps 1 to 9, or what a proxy looks at.
fn check_request<'m>(
    message: &Message<'m>,
    start: StartLine<'m>,
    method: Option<Method>,
    via: Via<'m>,
    role: Role,
) -> Result<(Goal, Request<'m>), Refusal> {
    if let Some(fault) = message.fault() {
        return Err(refuse_fault(fault));
    }
    let uri = match start {
        StartLine::Request { uri, .. } => uri,
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
    let hops = message.max_forwards().map_err(refuse)?;
    if message.count(HeaderName::ContentType) > 1 {
        return Err(header_error(HeaderName::ContentType, Problem::Duplicate));
    }
    if role == Role::Redirect && method.is_none() {
        return Err(Refusal::UnknownMethod);
    }
    if cseq.method != start.method() {
        return Err(Refusal::Malformed(Defect::CSeqMethod));
    }
    let goal = match role {
        Role::Redirect => redirect_goal(message, method, to.tag().is_some(), uri.scheme())?,
        Role::Proxy => proxy_goal(message, method, uri.scheme(), hops)?,
    };
    let request = Request {
        method,
        uri,
        via,
        call_id,
        cseq,
        from,
        to,
    };
    Ok((goal, request))
}

/// Steps 6 to 9 of a redirect server.
#[inline]
fn redirect_goal(
    message: &Message<'_>,
    method: Option<Method>,
    is_in_dialog: bool,
    scheme: Scheme,
) -> Result<Goal, Refusal> {
    if is_in_dialog && method != Some(Method::Cancel) {
        return Err(Refusal::NoDialog);
    }
    let goal = match method {
        Some(Method::Invite) => Goal::Route,
        Some(Method::Cancel | Method::Options) => Goal::Here,
        _ => return Err(Refusal::MethodNotAllowed),
    };
    if scheme == Scheme::Other {
        return Err(Refusal::UriScheme);
    }
    if method == Some(Method::Options) && message.required_extensions().next().is_some() {
        return Err(Refusal::Extension);
    }
    Ok(goal)
}

/// What a proxy looks at besides: RFC 3261 §16.3. `hops` is `Max-Forwards`, if it is there.
fn proxy_goal(
    message: &Message<'_>,
    method: Option<Method>,
    scheme: Scheme,
    hops: Option<u8>,
) -> Result<Goal, Refusal> {
    if scheme == Scheme::Other {
        return Err(Refusal::UriScheme);
    }
    if matches!(method, Some(Method::Ack | Method::Cancel)) {
        return Ok(Goal::Route);
    }
    let may_go_on = hops != Some(0);
    if !may_go_on && method != Some(Method::Options) {
        return Err(Refusal::TooManyHops);
    }
    if message.required_of_proxies().next().is_some() {
        return Err(Refusal::ProxyExtension);
    }
    Ok(if may_go_on { Goal::Route } else { Goal::Here })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Framing;

    /// A request with these lines more, each with its end.
    fn request(method: &str, uri: &str, more: &str) -> String {
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:b@h>\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\n{more}\r\n"
        )
    }

    /// The verdict on a message, in short.
    fn verdict(message: &str, role: Role) -> String {
        let message = Message::parse(message.as_bytes(), Framing::Datagram).unwrap();
        match check(&message, role) {
            Verdict::Route(_) => "route".to_owned(),
            Verdict::Accept(_) => "accept".to_owned(),
            Verdict::Absorb => "absorb".to_owned(),
            Verdict::Refuse(refusal, _) => refusal.status().to_string(),
            Verdict::Response(response) => format!("response {}", response.code),
            Verdict::Drop(cause) => format!("{cause:?}"),
        }
    }

    #[test]
    fn a_proxy_takes_what_a_redirect_server_ends() {
        let in_dialog = "To: <sip:b@h>;tag=2";
        for (method, redirect, proxy) in [
            ("INVITE", "route", "route"),
            ("OPTIONS", "accept", "route"),
            ("CANCEL", "accept", "route"),
            ("ACK", "absorb", "route"),
            ("BYE", "405", "route"),
            ("REFER", "405", "route"),
            ("PARTY", "501", "route"),
        ] {
            let message = request(method, "sip:b@h", "");
            assert_eq!(verdict(&message, Role::Redirect), redirect, "{method}");
            assert_eq!(verdict(&message, Role::Proxy), proxy, "{method}");
            let message = message.replace("To: <sip:b@h>", in_dialog);
            assert_eq!(
                verdict(&message, Role::Proxy),
                "route",
                "{method} in a dialog"
            );
        }
        let again = request("INVITE", "sip:b@h", "").replace("To: <sip:b@h>", in_dialog);
        assert_eq!(verdict(&again, Role::Redirect), "481");
    }

    // RFC 3261 §16.3 items 1 and 2.
    #[test]
    fn a_proxy_refuses_what_breaks_the_grammar_and_other_schemes() {
        let sound = request("MESSAGE", "sip:b@h", "");
        for (what, message, expected) in [
            ("no Call-ID", sound.replace("Call-ID: 1\r\n", ""), "400"),
            (
                "two From",
                sound.replace("Call-ID", "From: <sip:c@h>\r\nCall-ID"),
                "400",
            ),
            ("other method", sound.replace("1 MESSAGE", "1 INFO"), "400"),
            (
                "version",
                sound.replace("sip:b@h SIP/2.0", "sip:b@h SIP/3.0"),
                "505",
            ),
            ("no Via", sound.replace("Via", "X-Via"), "NoVia"),
            ("http", request("MESSAGE", "http://h", ""), "416"),
            ("tel", request("INVITE", "tel:+551130000000", ""), "route"),
            (
                "broken ACK",
                request("ACK", "sip:b@h", "x\r\n"),
                "MalformedAck",
            ),
            (
                "a reply",
                "SIP/2.0 200 OK\r\nCall-ID: 1\r\nCSeq: 1 BYE\r\n\r\n".into(),
                "response 200",
            ),
        ] {
            assert_eq!(verdict(&message, Role::Proxy), expected, "{what}");
        }
    }

    // RFC 3261 §16.3 item 3.
    #[test]
    fn a_proxy_forwards_no_further_than_max_forwards_says() {
        for (method, hops, expected) in [
            ("INVITE", "0", "483"),
            ("BYE", "0", "483"),
            ("INVITE", "1", "route"),
            ("INVITE", "255", "route"),
            ("INVITE", "256", "400"),
            ("OPTIONS", "0", "accept"),
            ("CANCEL", "0", "route"),
            ("ACK", "0", "route"),
        ] {
            let message = request(method, "sip:b@h", &format!("Max-Forwards: {hops}\r\n"));
            assert_eq!(verdict(&message, Role::Proxy), expected, "{method} {hops}");
        }
        let last = request("INVITE", "sip:b@h", "Max-Forwards: 0\r\n");
        assert_eq!(verdict(&last, Role::Redirect), "route");
    }

    // RFC 3261 §16.3 item 5.
    #[test]
    fn a_proxy_minds_proxy_require_alone() {
        let required = "Proxy-Require: foo, bar\r\n";
        for (method, more, expected) in [
            ("INVITE", required, "420"),
            ("OPTIONS", required, "420"),
            ("CANCEL", required, "route"),
            ("ACK", required, "route"),
            ("INVITE", "Require: 100rel\r\n", "route"),
            ("OPTIONS", "Require: 100rel\r\n", "route"),
        ] {
            let message = request(method, "sip:b@h", more);
            assert_eq!(verdict(&message, Role::Proxy), expected, "{method} {more}");
        }
        assert_eq!(
            verdict(&request("OPTIONS", "sip:b@h", required), Role::Redirect),
            "420"
        );
    }
}
