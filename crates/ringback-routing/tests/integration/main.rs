//! Any bytes may come where a number is expected; reading them never fails badly.

mod exercise;
mod mutation;
