//! The HTTP API over a real engine whose journal is in memory.

mod admission;
mod answers;
mod batch;
mod connections;
mod description;
mod golden;
mod harness;
mod ignored_fields;
mod order_of_errors;
mod streams;
mod wire_types;
