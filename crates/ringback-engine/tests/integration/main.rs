//! The engine over a journal in memory that can be told to fail.

mod calls;
mod roles;
mod storage;
mod support;
