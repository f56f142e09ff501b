//! Phone numbers: E.164 values, and what digits mean in a country.
//!
//! A number is *readable* when it has E.164 shape (`+`, 7 to 15 digits) and is of a length that its
//! country's numbering plan knows; it need not be in use. Reading turns the international prefix into `+`, and leaves
//! national formats, trunk prefixes and carrier codes to the library. What is written in full (`+` and digits)
//! is read from a table built once from the library, without allocation. How digits are found in a URI or a text is
//! not known here.
//!
//! The library is `rlibphonenumber`, a port of Google's libphonenumber that keeps up with its
//! metadata and is fuzzed against the original. Its rival `phonenumber` keeps neither the rule that a
//! trunk prefix is cut only where a possible number is left, nor the one for numbers that are
//! possible only within an area; both decide here whether two spellings are one number.

mod country;
mod e164;
mod plan;
mod rules;

pub use country::{Country, UnknownCountry};
pub use e164::E164;
pub use rules::{Caller, NumberForm, NumberRules, NumberRulesRef, WrittenNumber};
