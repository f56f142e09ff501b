//! Whatever is written where a number is expected is read without harm.

mod exercise;
mod mutation;
