//! The redirect core: a stateless user agent server that answers INVITEs with a list of targets
//! (RFC 3261 §8.2.7, §8.3).
//!
//! [`Redirector::handle`] takes one message and does everything but routing: it writes the reply,
//! or says that there is none, or hands out the [`Invite`]. Whoever routes then calls
//! [`Redirector::answer`] with a [`PreparedAnswer`], [`Redirector::overloaded`] or [`Redirector::forward`].

use std::net::SocketAddr;

use crate::check::{DropCause, Refusal, Request, Response, Role, Verdict, check};
use crate::lex;
use crate::message::{Framing, Identity, IdentitySource, Message};
use crate::origin::{Origin, Transport};
use crate::prepared::{Answer, PreparedAnswer, PreparedTarget, Settings};
use crate::reply::{ALLOW, Answered, MAX_DATAGRAM, Reply, TagKey, fingerprint};
use crate::reply::{write_end, write_header};
use crate::uri::{Scheme, TargetError, Uri, read_target};

/// One message and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'m> {
    /// One datagram, or one message cut from a stream by [`framing`](crate::framing).
    pub bytes: &'m [u8],
    /// Source address.
    pub source: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// True while the server is about to end: OPTIONS is answered with 503.
    pub draining: bool,
}

/// What to do about a message.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most messages are INVITEs, and a box would allocate"
)]
pub enum Action<'m> {
    /// Send what was appended to the buffer.
    Reply(Reply),
    /// Route this INVITE and answer it.
    Invite(Invite<'m>),
    /// Nothing: it was an ACK.
    Absorb,
    /// Nothing but to learn from it: a response that is not ours, and what it says of its call.
    Response(Message<'m>, Response<'m>),
    /// Nothing but to count it.
    Drop(DropCause),
}

/// An INVITE that passed every check and asks for a route.
#[derive(Clone, Debug)]
pub struct Invite<'m> {
    /// All of it.
    message: Message<'m>,
    /// What the checks read.
    request: Request<'m>,
    /// Where it came from.
    origin: Origin,
    /// Keyed hash of what a retransmission repeats.
    fingerprint: u64,
}

impl<'m> Invite<'m> {
    /// All of it, for headers by name.
    #[must_use]
    pub fn message(&self) -> &Message<'m> {
        &self.message
    }

    /// The request URI.
    #[must_use]
    pub fn uri(&self) -> &Uri<'m> {
        &self.request.uri
    }

    /// `Call-ID`.
    #[must_use]
    pub fn call_id(&self) -> &'m [u8] {
        self.request.call_id
    }

    /// What the checks read: `Via`, `CSeq`, `From` and `To`.
    #[must_use]
    pub fn request(&self) -> &Request<'m> {
        &self.request
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The same for a retransmission and, but for chance, different for every other request: keyed
    /// hash of the top `Via` (branch, sent-by), `Call-ID`, `CSeq` and the request URI.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Who the request URI names, as [`Message::request_uri_identity`] does.
    #[must_use]
    pub fn request_uri_identity(&self, prefixes: &[Box<str>]) -> Identity {
        // The checks read the request URI already.
        Identity::from_uri_without(&self.request.uri, prefixes)
    }

    /// What a source says about the caller: all its values in order; none if it is not there.
    pub fn caller(&self, source: IdentitySource) -> impl Iterator<Item = Identity> + use<'m> {
        self.message.caller(source)
    }

    /// True if the request was made by `sips:`, so that only `sips:` targets may answer it.
    #[must_use]
    pub fn is_sips(&self) -> bool {
        self.request.uri.scheme() == Scheme::Sips
    }

    /// True if a redirect to this target would point back at the request URI.
    #[must_use]
    pub fn points_back(&self, target: &[u8]) -> bool {
        if self.names_another_user(target) {
            return false;
        }
        Uri::parse(target).is_ok_and(|uri| uri.is_equivalent(&self.request.uri))
    }

    /// True only if the target cannot be the request URI because its user is another one; most
    /// targets are told apart by this without being read.
    fn names_another_user(&self, target: &[u8]) -> bool {
        let uri = &self.request.uri;
        let Some(user) = uri.user().filter(|_| uri.scheme() != Scheme::Tel) else {
            return false;
        };
        let is_literal = |text| lex::find(b'%', text).is_none();
        match lex::split_once(target, b':') {
            (_, Some(rest)) => !rest.starts_with(user) && is_literal(user) && is_literal(rest),
            _ => false,
        }
    }

    /// What a reply is written from.
    fn answered(&self) -> Answered<'_, 'm> {
        Answered::accepted(&self.message, &self.request, self.origin, self.fingerprint)
    }
}

/// Answers requests. Holds no state but its key, so each worker may have a copy.
#[derive(Clone, Debug)]
pub struct Redirector {
    /// Stands for randomness in To tags and fingerprints.
    key: TagKey,
}

impl Redirector {
    /// Makes a core. The key should be secret and random, and the same for all workers of a node.
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        Self {
            key: TagKey::new(key),
        }
    }

    /// Takes one message. A reply, if there is one, is appended to `out`.
    pub fn handle<'m>(&self, input: Input<'m>, out: &mut Vec<u8>) -> Action<'m> {
        let origin = Origin {
            address: input.source,
            transport: input.transport,
        };
        let framing = if input.transport.is_stream() {
            Framing::Stream
        } else {
            Framing::Datagram
        };
        let Ok(message) = Message::parse(input.bytes, framing) else {
            return Action::Drop(DropCause::KeepAlive);
        };
        let start = out.len();
        let reply = match check(&message, Role::Redirect) {
            Verdict::Route(request) => {
                return Action::Invite(self.invite(message, request, origin));
            }
            Verdict::Absorb => return Action::Absorb,
            Verdict::Response(response) => return Action::Response(message, response),
            Verdict::Drop(cause) => return Action::Drop(cause),
            Verdict::Refuse(refusal, via) => {
                let answered = Answered::refused(self.key, &message, &via, origin);
                let reply = answered.write_refusal(self.key, refusal, None, out);
                answered.fit(self.key, reply, start, out)
            }
            Verdict::Accept(request) => {
                let fingerprint = fingerprint(self.key, &message, &request.via);
                let answered = Answered::accepted(&message, &request, origin, fingerprint);
                let reply = self.write_accepted(&answered, &request, input.draining, out);
                answered.fit(self.key, reply, start, out)
            }
        };
        if origin.transport == Transport::Udp && out.len() - start > MAX_DATAGRAM {
            out.truncate(start);
            return Action::Drop(DropCause::ReplyTooLarge);
        }
        Action::Reply(reply)
    }

    /// Answers with the decision: 302 with the usable targets in the order given, or 404 or 480.
    ///
    /// Left out are targets that point back at the request URI, that are no SIP URI, that ask for
    /// `transport=tls`, and `sip:` targets of a `sips:` request (RFC 5630 §3.3). If that leaves
    /// none, the answer is 480, in the last case with a Warning.
    ///
    /// Contacts end where the reply would get too long: over UDP after a few kilobytes, so that
    /// whoever forges a source address cannot have much sent there. The first one is written if it
    /// fits at all; a request that leaves no room for it gets a short 513.
    pub fn answer<'t, T>(
        &self,
        invite: &Invite<'_>,
        answer: &PreparedAnswer,
        targets: T,
        out: &mut Vec<u8>,
    ) -> Reply
    where
        T: IntoIterator<Item = &'t PreparedTarget, IntoIter: Clone>,
    {
        if answer.is_refusal {
            return self.refuse(invite, answer, Shortfall::Decision, out);
        }
        let answered = invite.answered();
        let start = out.len();
        answered.write_head(self.key, MOVED, out);
        let head = out.len();
        let most = if invite.origin.transport.is_stream() {
            MAX_CONTACTS
        } else {
            MAX_DATAGRAM_CONTACTS
        };
        let end = (start + answered.limit()).saturating_sub(answer.tail.len());
        let targets = targets.into_iter();
        let mut q = Q::new(targets.clone().count());
        let mut shortfall = Shortfall::NoTarget;
        for target in targets {
            // The first ones are the best.
            if out.len() - head > most {
                break;
            }
            match may_answer(invite, target.is_sips(), target.uri()) {
                Ok(()) => {
                    let Some(q) = q.next() else { break };
                    let contact = out.len();
                    out.extend_from_slice(&target.contact);
                    write_q(q, out);
                    out.extend_from_slice(b"\r\n");
                    if out.len() <= end {
                        shortfall = Shortfall::None;
                    } else {
                        out.truncate(contact);
                        if shortfall != Shortfall::None {
                            shortfall = Shortfall::NoRoom;
                        }
                    }
                }
                Err(Unusable::NotSips) if shortfall == Shortfall::NoTarget => {
                    shortfall = Shortfall::NotSips;
                }
                Err(_) => {}
            }
        }
        if shortfall == Shortfall::NoRoom {
            return answered.write_short(self.key, start, out);
        }
        if shortfall != Shortfall::None {
            out.truncate(start);
            let nobody = PreparedAnswer::new(&Answer::NO_AGENT, answer.settings);
            return self.refuse(invite, &nobody, shortfall, out);
        }
        out.extend_from_slice(&answer.tail);
        answered.reply(302)
    }

    /// Redirects to a next hop with the user of the request URI unchanged, unless the hop has one of
    /// its own; nothing is decided.
    ///
    /// A `tel:` number becomes the user, with `user=phone` (RFC 3261 §19.1.6). 480 if the next hop
    /// is no usable target, or would be the request URI itself.
    pub fn forward(&self, invite: &Invite<'_>, next_hop: &str, out: &mut Vec<u8>) -> Reply {
        let answered = invite.answered();
        let start = out.len();
        answered.write_head(self.key, MOVED, out);
        out.extend_from_slice(b"Contact: <");
        let contact = out.len();
        let shortfall = match write_next_hop(invite, next_hop, out) {
            Ok(()) => {
                let written = lex::tail(out, contact);
                let points_back =
                    Uri::parse(written).is_ok_and(|uri| uri.is_equivalent(&invite.request.uri));
                if points_back {
                    Shortfall::NoTarget
                } else {
                    Shortfall::None
                }
            }
            Err(Unusable::NotSips) => Shortfall::NotSips,
            Err(_) => Shortfall::NoTarget,
        };
        if shortfall != Shortfall::None {
            out.truncate(start);
            let nobody = PreparedAnswer::new(&Answer::NO_AGENT, Settings::NOTHING);
            return self.refuse(invite, &nobody, shortfall, out);
        }
        out.extend_from_slice(b">\r\n");
        write_end(out);
        answered.fit(self.key, answered.reply(302), start, out)
    }

    /// The URI that an INVITE has at a next hop: the hop's, with the user of the request URI unless it has one of its
    /// own. `None` if the next hop is no usable target.
    #[must_use]
    pub fn next_hop_uri(&self, invite: &Invite<'_>, next_hop: &str) -> Option<Vec<u8>> {
        let mut uri = Vec::new();
        write_next_hop(invite, next_hop, &mut uri).ok()?;
        Some(uri)
    }

    /// Refuses an INVITE that passed the checks of a redirect server, for a reason of whoever would send it on.
    pub fn refuse_invite(&self, invite: &Invite<'_>, refusal: Refusal, out: &mut Vec<u8>) -> Reply {
        let answered = invite.answered();
        let start = out.len();
        let reply = answered.write_refusal(self.key, refusal, None, out);
        answered.fit(self.key, reply, start, out)
    }

    /// What a CANCEL has in common with its INVITE, and that with its retransmissions: see
    /// [`Invite::fingerprint`].
    #[must_use]
    pub fn fingerprint(&self, message: &Message<'_>, request: &Request<'_>) -> u64 {
        fingerprint(self.key, message, &request.via)
    }

    /// Answers 503, with `Retry-After` only if the peer is configured for it: it would make a proxy
    /// drop the whole server (RFC 7339 §5.10.2).
    pub fn overloaded(
        &self,
        invite: &Invite<'_>,
        retry_after: Option<u32>,
        out: &mut Vec<u8>,
    ) -> Reply {
        let answered = invite.answered();
        let start = out.len();
        let reply = answered.write_refusal(self.key, Refusal::Overload, retry_after, out);
        answered.fit(self.key, reply, start, out)
    }

    /// Wraps up what routing asks for.
    fn invite<'m>(&self, message: Message<'m>, request: Request<'m>, origin: Origin) -> Invite<'m> {
        let fingerprint = fingerprint(self.key, &message, &request.via);
        Invite {
            message,
            request,
            origin,
            fingerprint,
        }
    }

    /// Answers an OPTIONS or CANCEL.
    fn write_accepted(
        &self,
        answered: &Answered<'_, '_>,
        request: &Request<'_>,
        draining: bool,
        out: &mut Vec<u8>,
    ) -> Reply {
        let is_options = request.method == Some(rsip::Method::Options);
        if is_options && draining {
            return answered.write_refusal(self.key, Refusal::Draining, None, out);
        }
        answered.write_head(self.key, b"SIP/2.0 200 OK", out);
        if is_options {
            write_header("Allow", ALLOW, out);
            write_header("Accept", "application/sdp", out);
            // Legal without a value: no extension is supported.
            write_header("Supported", "", out);
        }
        write_end(out);
        answered.reply(200)
    }

    /// Writes 404 or 480.
    fn refuse(
        &self,
        invite: &Invite<'_>,
        answer: &PreparedAnswer,
        shortfall: Shortfall,
        out: &mut Vec<u8>,
    ) -> Reply {
        let answered = invite.answered();
        let start = out.len();
        let status = if &*answer.reason == "number_unknown" {
            answered.write_head(self.key, b"SIP/2.0 404 Not Found", out);
            404
        } else {
            answered.write_head(self.key, b"SIP/2.0 480 Temporarily Unavailable", out);
            480
        };
        out.extend_from_slice(b"Reason: SIP;cause=");
        crate::message::write_number(u64::from(status), out);
        out.extend_from_slice(b";text=\"");
        out.extend_from_slice(answer.reason.as_bytes());
        out.extend_from_slice(b"\"\r\n");
        if shortfall == Shortfall::NotSips {
            // RFC 5630 §4: 380 says that the other side has no SIPS.
            write_header("Warning", "380 ringback \"SIPS Not Allowed\"", out);
        }
        out.extend_from_slice(&answer.tail);
        answered.fit(self.key, answered.reply(status), start, out)
    }
}

/// Why a refusal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortfall {
    /// There is none: the call is redirected.
    None,
    /// The decision says so.
    Decision,
    /// No target was left.
    NoTarget,
    /// No target that was left fits into the reply.
    NoRoom,
    /// Every target left is a `sip:` one, and `sips:` was asked for.
    NotSips,
}

/// Why a target is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unusable {
    /// It is no target at all.
    Invalid(TargetError),
    /// It is the request URI.
    PointsBack,
    /// `sips:` was asked for.
    NotSips,
}

/// Reads a target, unless it may not answer this INVITE.
fn usable<'t>(invite: &Invite<'_>, target: &'t str) -> Result<Uri<'t>, Unusable> {
    let uri = read_target(target.as_bytes()).map_err(Unusable::Invalid)?;
    may_answer(invite, Ok(uri.scheme() == Scheme::Sips), target.as_bytes())?;
    Ok(uri)
}

/// Whether a target that was read, and is a `sips:` URI or not, may answer this INVITE.
fn may_answer(
    invite: &Invite<'_>,
    is_sips: Result<bool, TargetError>,
    target: &[u8],
) -> Result<(), Unusable> {
    let is_sips = is_sips.map_err(Unusable::Invalid)?;
    if invite.is_sips() && !is_sips {
        return Err(Unusable::NotSips);
    }
    if invite.points_back(target) {
        return Err(Unusable::PointsBack);
    }
    Ok(())
}

/// The q values of a list, in thousandths, falling strictly from 1.
struct Q {
    /// The next value; 0 is never given out.
    next: u16,
    /// From one to the next.
    step: u16,
}

impl Q {
    /// Steps that leave room for so many.
    const fn new(count: usize) -> Self {
        let step = match count {
            0..=10 => 100,
            11..=100 => 10,
            _ => 1,
        };
        Self { next: 1000, step }
    }
}

impl Iterator for Q {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let q = self.next;
        self.next = q.saturating_sub(self.step);
        (q > 0).then_some(q)
    }
}

/// Appends thousandths as `1.0`, `0.9`, `0.95` or `0.995`.
fn write_q(thousandths: u16, out: &mut Vec<u8>) {
    let digit = |power: u16| b'0' + (thousandths / power % 10) as u8;
    out.extend_from_slice(&[digit(1000), b'.', digit(100)]);
    if !thousandths.is_multiple_of(100) {
        out.push(digit(10));
    }
    if !thousandths.is_multiple_of(10) {
        out.push(digit(1));
    }
}

/// Appends the URI of a next hop, with the user of the request URI unless it has one of its own.
fn write_next_hop(invite: &Invite<'_>, next_hop: &str, out: &mut Vec<u8>) -> Result<(), Unusable> {
    let hop = usable(invite, next_hop)?;
    if hop.user().is_some() {
        out.extend_from_slice(hop.as_bytes());
    } else {
        write_with_user(&hop, &invite.request.uri, out);
    }
    Ok(())
}

/// Appends the hop, which has no user, with that of the request URI.
fn write_with_user(hop: &Uri<'_>, request_uri: &Uri<'_>, out: &mut Vec<u8>) {
    let text = hop.as_bytes();
    let scheme = crate::uri::scheme_end(text).map_or(0, |colon| colon + 1);
    out.extend_from_slice(lex::head(text, scheme));
    let is_tel = request_uri.scheme() == Scheme::Tel;
    if let Some(user) = request_uri.user() {
        for &byte in user {
            // The one character of a number that a user part may not hold.
            if byte == b'#' {
                out.extend_from_slice(b"%23");
            } else {
                out.push(byte);
            }
        }
        if is_tel {
            for (name, value) in request_uri.params() {
                out.push(b';');
                write_user_param(name, out);
                if let Some(value) = value {
                    out.push(b'=');
                    write_user_param(value, out);
                }
            }
        }
        out.push(b'@');
    }
    let rest = lex::tail(text, scheme);
    let headers = memchr::memchr(b'?', rest).unwrap_or(rest.len());
    let (rest, headers) = lex::split(rest, headers);
    out.extend_from_slice(rest);
    if is_tel && hop.param("user").is_none() {
        out.extend_from_slice(b";user=phone");
    }
    out.extend_from_slice(headers);
}

/// Appends a `tel:` parameter's text so that it may stand in a user part.
fn write_user_param(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'[' => out.extend_from_slice(b"%5B"),
            b']' => out.extend_from_slice(b"%5D"),
            b':' => out.extend_from_slice(b"%3A"),
            byte => out.push(byte),
        }
    }
    debug_assert!(lex::trim(text).len() == text.len(), "a URI holds no space");
}

/// The status line of every redirect.
const MOVED: &[u8] = b"SIP/2.0 302 Moved Temporarily";
/// Bytes of Contacts after which no further one is written.
const MAX_CONTACTS: usize = 48 * 1024;
/// The same over UDP, where the source may be forged: room for dozens.
const MAX_DATAGRAM_CONTACTS: usize = 8 * 1024;
