//! Numbers as clients write them, read by the rules of an environment.

use ringback_routing::{Caller, NumberRulesRef, WrittenNumber};
use ringback_sip_proto::Identity;

/// Reads a number, a URI or a name-addr as SIP reads it.
#[must_use]
pub fn read(text: impl AsRef<[u8]>, rules: NumberRulesRef<'_>) -> Caller {
    match Identity::from_text(text.as_ref()) {
        Identity::Number(digits) => rules.read(WrittenNumber {
            digits: digits.as_bytes(),
            plus: digits.has_plus(),
            context: digits.context(),
            bracketed_zero: digits.bracketed_zero(),
            may_go_on: digits.may_go_on(),
        }),
        Identity::Withheld | Identity::Nobody => Caller::Anonymous,
        Identity::Unreadable => Caller::Invalid,
    }
}
