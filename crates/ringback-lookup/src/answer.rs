//! What goes back to a platform.

use serde_json::Value;

/// An answer, status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
    /// Whether it sends the call somewhere.
    pub is_routed: bool,
    /// How many targets were left out, because a dial string cannot hold them.
    pub left_out: usize,
}

impl Answer {
    /// JSON.
    pub(crate) fn json(value: &Value) -> Self {
        Self::new("application/json", value.to_string())
    }

    /// XML, declaration included.
    pub(crate) fn xml(document: &str) -> Self {
        let declared = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{document}");
        Self::new("text/xml; charset=utf-8", declared)
    }

    /// Plain text.
    pub(crate) fn text(body: String) -> Self {
        Self::new("text/plain; charset=utf-8", body)
    }

    /// The same answer, which sends the call somewhere.
    pub(crate) fn routed(self) -> Self {
        Self {
            is_routed: true,
            ..self
        }
    }

    /// An answer that sends the call nowhere.
    fn new(content_type: &'static str, body: String) -> Self {
        Self {
            content_type,
            body,
            is_routed: false,
            left_out: 0,
        }
    }
}
