//! The engine over a journal in memory that can be told to fail.

mod battery;
mod calls;
mod outbox;
mod remembered;
mod roles;
mod statistics;
mod storage;
mod support;
mod sweep;
mod two_nodes;
