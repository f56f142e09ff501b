//! Code shared by the micro-benchmarks, the load generator and the comparison.

pub mod batch;
pub mod counts;
pub mod cpu;
pub mod figures;
pub mod kamailio;
pub mod load;
pub mod overload;
pub mod population;
pub mod runs;
pub mod server;
pub mod sip;
pub mod sizing;
pub mod svg;
pub mod world;
