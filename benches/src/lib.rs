//! What the micro-benchmarks, the load generator and the comparison share.

pub mod batch;
pub mod cpu;
pub mod figures;
pub mod kamailio;
pub mod load;
pub mod population;
pub mod server;
pub mod sip;
pub mod svg;
pub mod world;
