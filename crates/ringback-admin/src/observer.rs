//! What others are told of answered requests.

use std::time::Duration;

/// Is told of each answered request, in the thread that answers it: it must not block.
pub trait RequestObserver: Send + Sync {
    /// A request was answered; of a stream its beginning.
    fn answered(&self, request: &AnsweredRequest<'_>);
}

/// A request and its answer, without anything that may be a contact's number.
#[derive(Clone, Copy, Debug)]
pub struct AnsweredRequest<'r> {
    /// The method.
    pub method: &'r str,
    /// The pattern of its path; `None`: there is no such path.
    pub route: Option<&'r str>,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// How long the answer took.
    pub took: Duration,
    /// The name of the request, which the answer carries too.
    pub request_id: &'r str,
    /// The header by which the client names its trace (W3C Trace Context).
    pub traceparent: Option<&'r str>,
}
