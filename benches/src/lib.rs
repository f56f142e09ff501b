//! Benchmarks of Ringback.
