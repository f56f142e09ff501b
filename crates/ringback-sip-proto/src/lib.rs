//! SIP for a redirect server, without sockets: bytes come in, replies come out.
//!
//! Everything here is pure. A socket layer drives it like this:
//!
//! ```
//! use ringback_sip_proto::{
//!     Action, Answer, Identity, IdentitySource, Input, PreparedAnswer, PreparedTarget, Redirector,
//!     Settings, Transport,
//! };
//!
//! let redirector = Redirector::new([7; 16]); // one per node, any number of copies
//! let mut replies = Vec::with_capacity(4096); // used again and again: nothing is allocated
//! let datagram = b"INVITE sip:+551130000000@192.0.2.1 SIP/2.0\r\n\
//!     Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1;rport\r\n\
//!     Max-Forwards: 70\r\n\
//!     From: <sip:+5511987654321@192.0.2.9>;tag=a\r\n\
//!     To: <sip:+551130000000@192.0.2.1>\r\n\
//!     Call-ID: 1@192.0.2.9\r\n\
//!     CSeq: 1 INVITE\r\n\
//!     Content-Length: 0\r\n\r\n";
//! let input = Input {
//!     bytes: datagram,
//!     source: "192.0.2.9:5060".parse().unwrap(),
//!     transport: Transport::Udp,
//!     draining: false,
//! };
//! match redirector.handle(input, &mut replies) {
//!     // Already written to `replies`: send it to `reply.destination`.
//!     Action::Reply(reply) => println!("{} to {}", reply.status, reply.destination),
//!     Action::Invite(invite) => {
//!         // `invite.fingerprint()` finds the reply to a retransmission.
//!         let dialed = invite.request_uri_identity(&[]);
//!         let caller = invite.caller(IdentitySource::From).next().unwrap();
//!         assert_eq!(dialed, Identity::from_text(b"+551130000000"));
//!         assert_eq!(caller, Identity::from_text(b"+5511987654321"));
//!         // Ask routing, then:
//!         let answer = Answer {
//!             outcome: "callback",
//!             reason: "returned_call",
//!             agent: Some("7a1e"),
//!             source_agent: None,
//!         };
//!         // What calls with the same answer share is written out once.
//!         let settings = Settings::default();
//!         let prepared = PreparedAnswer::new(&answer, settings);
//!         let target = PreparedTarget::new("sip:7a1e@agents.example.com", &answer, settings);
//!         let reply = redirector.answer(&invite, &prepared, [&target], &mut replies);
//!         assert_eq!(reply.status, 302);
//!         // `redirector.overloaded(..)` answers 503, `redirector.forward(..)` sends to a next hop.
//!     }
//!     Action::Absorb => {}                         // an ACK
//!     Action::Response(_message, _response) => {}  // not ours; may be learned from
//!     Action::Drop(_cause) => {}                   // count it
//! }
//! ```
//!
//! Replies are appended, so several may share a buffer; note its length before each call. On a
//! stream, [`StreamFramer`] cuts the bytes into messages first and says which errors end the
//! connection; the message after which it must end is passed to `handle` like any other.
//!
//! # One parser
//!
//! [`message`] reads the wire and decides every question. The types of the `rsip` crate are used as
//! vocabulary: [`Method`](rsip::Method) everywhere, the others in [`vocabulary`], for tools and
//! tests. `rsip` never parses anything here; the reasons stand there.

pub mod check;
pub mod framing;
pub mod hep;
mod lex;
pub mod message;
mod origin;
mod prepared;
pub mod proxy_protocol;
pub mod redirect;
pub mod reply;
pub mod uri;
pub mod vocabulary;

pub use check::{Defect, DropCause, Refusal, Response, Role};
pub use framing::{Frame, PONG, StreamFramer};
pub use hep::{HepFrame, HepFramer, HepPacket};
pub use message::{Digits, Fault, Identity, IdentitySource, MAX_MESSAGE, Message, OwnedMessage};
pub use origin::{Origin, Transport};
pub use prepared::{Answer, PreparedAnswer, PreparedTarget, Settings};
pub use proxy_protocol::ProxyHeader;
pub use redirect::{Action, Input, Invite, Redirector};
pub use reply::{MAX_DATAGRAM, Reply, Responder};
pub use rsip;
pub use uri::{PLACEHOLDERS, Scheme, TargetError, Uri, destination, validate_target};
