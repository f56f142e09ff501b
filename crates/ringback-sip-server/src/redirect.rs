//! From one message to its reply.

pub(crate) mod core;
pub(crate) mod identity;
pub(crate) mod plan;
pub(crate) mod reply_cache;
