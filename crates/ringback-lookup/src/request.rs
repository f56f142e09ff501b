//! What came over HTTP.

use std::fmt;

use ringback_routing::Dialect;

/// A request of a platform, as it was received.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    /// The method.
    pub method: Method,
    /// The connector's address: the public URL and `/lookup/{key}`, without a query.
    pub url: &'r str,
    /// The query as received, without the question mark.
    pub query: &'r str,
    /// The value of the header with this name, in lower case, if it came once and is ASCII.
    pub header: &'r dyn Fn(&str) -> Option<&'r str>,
    /// The body, at most 64 KiB.
    pub body: &'r [u8],
}

impl fmt::Debug for Request<'_> {
    /// Without the key in the address, and without numbers.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Request")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// The methods by which platforms ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The question is in the query.
    Get,
    /// It is in the body.
    Post,
}

/// The methods by which a dialect asks.
#[must_use]
pub const fn methods(dialect: Dialect) -> &'static [Method] {
    match dialect {
        Dialect::RtJson | Dialect::Drachtio => &[Method::Get],
        Dialect::Twilio | Dialect::Telnyx | Dialect::Jambonz | Dialect::Text => {
            &[Method::Get, Method::Post]
        }
        Dialect::FreeSwitch
        | Dialect::Retell
        | Dialect::Vapi
        | Dialect::RustPbx
        | Dialect::Ultravox
        | Dialect::ElevenLabs => &[Method::Post],
    }
}
