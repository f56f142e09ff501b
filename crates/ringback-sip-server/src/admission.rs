//! Decides which messages are served: the rates of peers, overload, and the packet filter before the socket.

pub(crate) mod excess;
pub(crate) mod gate;
pub(crate) mod packet_filter;
pub(crate) mod pressure;
pub(crate) mod rate;
