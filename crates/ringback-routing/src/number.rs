//! Phone numbers: E.164 values, and what digits mean in a country.
//!
//! A number is *readable* when it has E.164 shape (`+`, 7 to 15 digits) and a length that its country's numbering
//! plan allows; it need not be in use. We replace the international prefix by `+`, and leave national formats,
//! trunk prefixes and carrier codes to the library. A number in full (`+` and digits) is read from a table built
//! once from the library, without allocation. This module does not know how digits are found in a URI or a text.
//!
//! The library is `rlibphonenumber`, a port of Google's libphonenumber that follows its metadata and is fuzzed
//! against the original. The other port, `phonenumber`, lacks two rules: a trunk prefix is cut only where a
//! possible number is left, and some numbers are possible only within their area. Both decide here whether two
//! spellings are one number.

mod country;
mod e164;
mod plan;
mod rules;

pub use country::{Country, UnknownCountry};
pub use e164::E164;
pub use rules::{Caller, NumberForm, NumberRules, NumberRulesRef, WrittenNumber};
