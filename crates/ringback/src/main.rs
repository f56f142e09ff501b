//! Ringback.

fn main() {}
