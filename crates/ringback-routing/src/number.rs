//! Phone numbers: E.164 values, and reading what people, peers and API clients write.

mod e164;
mod rules;

pub use e164::E164;
pub use rules::{Caller, Country, NumberRules, UnknownCountry};
