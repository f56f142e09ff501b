//! What shows only after a while; a binary of its own, because it measures the memory of the process.

#[cfg(test)]
mod mixed_calls;
#[cfg(test)]
#[expect(dead_code, reason = "not all that other tests need is needed here")]
#[path = "../integration/support.rs"]
mod support;
