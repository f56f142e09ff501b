//! A node's journal on real NATS servers.

mod battery;
mod faults;
mod support;
