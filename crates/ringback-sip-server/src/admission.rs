//! How much is taken from whom: rates, what is held back on overload, and the packet filter that does it.

pub(crate) mod packet_filter;
pub(crate) mod pressure;
pub(crate) mod rate;
