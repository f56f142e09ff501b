//! The engine over a journal in memory that can be told to fail.

mod calls;
mod memory;
mod roles;
mod storage;
