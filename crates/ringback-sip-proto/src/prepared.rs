//! Answers written out beforehand: everything of a redirect that is the same for every request.
//!
//! Many calls get the same decision. What its replies share — the Contacts up to their `q`, the
//! headers that tell the decision — is read, checked and written once.

use std::ops::Range;

use smallvec::SmallVec;

use crate::reply::{write_end, write_header};
use crate::uri::{HEADER, Scheme, TargetError, Uri, read_target};

/// Where the decision is written, besides what a reply must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// `X-Ringback-*` headers on the reply.
    pub decision_headers: bool,
    /// The same as headers inside the Contact URI, so that they reach the target.
    pub contact_headers: bool,
}

impl Settings {
    /// The decision is written nowhere.
    pub const NOTHING: Self = Self {
        decision_headers: false,
        contact_headers: false,
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            decision_headers: true,
            contact_headers: false,
        }
    }
}

/// A decision in the words that go on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// `callback`, `default`, `fallback` or `refused`.
    pub outcome: &'a str,
    /// Its reason code; `number_unknown` makes a refusal a 404.
    pub reason: &'a str,
    /// Id of the agent the call goes to.
    pub agent: Option<&'a str>,
    /// Id of the outbound agent whose call is returned.
    pub source_agent: Option<&'a str>,
}

impl<'a> Answer<'a> {
    /// The outcome that is answered with 404 or 480.
    pub const REFUSED: &'static str = "refused";

    /// The refusal that no target was left for.
    pub(crate) const NO_AGENT: Self = Self {
        outcome: Self::REFUSED,
        reason: "no_agent_available",
        agent: None,
        source_agent: None,
    };

    /// Gives out each header of the decision with its value, those without one left out.
    #[inline]
    fn each_header(&self, mut each: impl FnMut(&'static str, &'a str)) {
        each("X-Ringback-Outcome", self.outcome);
        each("X-Ringback-Reason", self.reason);
        if let Some(agent) = self.agent {
            each("X-Ringback-Agent", agent);
        }
        if let Some(agent) = self.source_agent {
            each("X-Ringback-Source-Agent", agent);
        }
    }
}

/// A decision, ready to be written on replies. Its text is kept inline, so that a reply waits for memory once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedAnswer {
    /// True if it is answered with 404 or 480.
    pub(crate) is_refusal: bool,
    /// Its reason code.
    pub(crate) reason: Box<str>,
    /// Where it is written.
    pub(crate) settings: Settings,
    /// The headers that tell it, if they are wanted, and the end of the reply.
    pub(crate) tail: SmallVec<[u8; USUAL_TAIL]>,
}

/// A target of a decision, ready to be written on replies. Its text is kept inline, if it is no longer than most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTarget {
    /// Whether it is a `sips:` URI, or why it is no target at all.
    kind: Result<bool, TargetError>,
    /// The Contact up to the value of `q`; empty if it is no target at all.
    pub(crate) contact: SmallVec<[u8; USUAL_CONTACT]>,
    /// Where the URI stands in the Contact.
    uri: Range<usize>,
}

impl PreparedAnswer {
    /// Writes out what all replies with this decision share.
    #[must_use]
    pub fn new(answer: &Answer<'_>, settings: Settings) -> Self {
        let mut tail = Vec::new();
        if settings.decision_headers {
            answer.each_header(|name, value| write_header(name, value, &mut tail));
        }
        write_end(&mut tail);
        Self {
            is_refusal: answer.outcome == Answer::REFUSED,
            reason: answer.reason.into(),
            settings,
            tail: SmallVec::from_slice(&tail),
        }
    }

    /// Whether it is answered with 404 or 480, wherever the request would go.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.is_refusal
    }

    /// The header lines that tell the decision, each with its end; empty if they are not wanted.
    #[must_use]
    pub fn header_lines(&self) -> &[u8] {
        let mut end = Vec::new();
        write_end(&mut end);
        self.tail.strip_suffix(&*end).unwrap_or_default()
    }
}

impl PreparedTarget {
    /// Reads a target and writes out the Contact that all replies with this decision share.
    #[must_use]
    pub fn new(target: &str, answer: &Answer<'_>, settings: Settings) -> Self {
        let mut contact = Vec::new();
        let kind = read_target(target.as_bytes()).map(|uri| {
            contact.extend_from_slice(CONTACT);
            contact.extend_from_slice(uri.as_bytes());
            if settings.contact_headers {
                write_uri_headers(&uri, answer, &mut contact);
            }
            contact.extend_from_slice(b">;q=");
            uri.scheme() == Scheme::Sips
        });
        Self {
            kind,
            contact: SmallVec::from_slice(&contact),
            uri: CONTACT.len()..CONTACT.len() + target.len(),
        }
    }

    /// The URI; empty if it is no target at all.
    #[must_use]
    pub fn uri(&self) -> &[u8] {
        self.contact.get(self.uri.clone()).unwrap_or_default()
    }

    /// Whether it is a `sips:` URI.
    ///
    /// # Errors
    ///
    /// It is no target at all.
    pub(crate) fn is_sips(&self) -> Result<bool, TargetError> {
        self.kind
    }
}

/// Appends the decision as headers of a URI, so that they reach the target.
fn write_uri_headers(uri: &Uri<'_>, answer: &Answer<'_>, out: &mut Vec<u8>) {
    let mut separator = if uri.headers().is_some() { b'&' } else { b'?' };
    answer.each_header(|name, value| {
        out.push(separator);
        separator = b'&';
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        write_escaped(value.as_bytes(), out);
    });
}

/// Appends a URI header's value, escaped as RFC 3261 §19.1.1 asks.
fn write_escaped(value: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in value {
        if HEADER[byte as usize] {
            out.push(byte);
        } else {
            out.extend_from_slice(&[
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]);
        }
    }
}

/// The headers that tell a decision for two agents are no longer than this, in bytes.
const USUAL_TAIL: usize = 256;

/// The length that most Contacts do not exceed, in bytes.
const USUAL_CONTACT: usize = 96;

/// What stands before the URI of a Contact.
const CONTACT: &[u8] = b"Contact: <";
