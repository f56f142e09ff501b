//! Placeholder line replaced as the crate is written.
