//! Answers written out beforehand: everything of a redirect that is the same for every request.
//!
//! Many calls get the same decision. What its replies share — the Contacts up to their `q`, the
//! headers that tell the decision — is read, checked and written once.

use std::ops::Range;

use crate::redirect::Answer;
use crate::uri::{Scheme, TargetError, Uri, read_target};

/// A decision, ready to be written on replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedAnswer {
    /// True if it is answered with 404 or 480.
    pub(crate) is_refusal: bool,
    /// Its reason code.
    pub(crate) reason: Box<str>,
    /// The headers that tell it, if they are wanted, and the end of the reply.
    pub(crate) tail: Box<[u8]>,
}

/// A target of a decision, ready to be written on replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTarget {
    /// Whether it is a `sips:` URI, or why it is no target at all.
    kind: Result<bool, TargetError>,
    /// The Contact up to the value of `q`; empty if it is no target at all.
    pub(crate) contact: Box<[u8]>,
    /// Where the URI stands in the Contact.
    uri: Range<usize>,
}

impl PreparedAnswer {
    /// Takes what stands behind the Contacts.
    pub(crate) fn new(answer: &Answer<'_>, tail: Vec<u8>) -> Self {
        Self {
            is_refusal: answer.outcome == Answer::REFUSED,
            reason: answer.reason.into(),
            tail: tail.into(),
        }
    }
}

impl PreparedTarget {
    /// Reads a target and writes its Contact; `write_end` writes what follows the URI.
    pub(crate) fn new(text: &str, write_end: impl FnOnce(&Uri<'_>, &mut Vec<u8>)) -> Self {
        let mut contact = Vec::new();
        let kind = read_target(text.as_bytes()).map(|uri| {
            contact.extend_from_slice(CONTACT);
            contact.extend_from_slice(uri.as_bytes());
            write_end(&uri, &mut contact);
            uri.scheme() == Scheme::Sips
        });
        Self {
            kind,
            contact: contact.into(),
            uri: CONTACT.len()..CONTACT.len() + text.len(),
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

/// What stands before the URI of a Contact.
const CONTACT: &[u8] = b"Contact: <";
