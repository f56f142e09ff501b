//! The HTTP API over a real engine whose journal is in memory.

mod admission;
mod answers;
mod audit;
mod batch;
mod connections;
mod console;
mod contact_rights;
mod description;
mod golden;
mod harness;
mod idempotency;

mod ignored_fields;
mod masked;
mod order_of_errors;
mod remembered;
mod session;
mod streams;
mod wire_types;
