//! Reads any bytes as a number by rules of every kind, and checks what must hold for all of them.
//!
//! Shared with a fuzz target of `ringback-sip-proto`, so it uses nothing but these two crates.

use ringback_routing::{Caller, NumberForm, NumberRules, WrittenNumber};
use ringback_sip_proto::Identity;

/// Reads bytes as a peer's or an API client's number. A number that is read must be possible, and must read as
/// itself by any rules.
pub(crate) fn number(bytes: &[u8]) {
    for rules in all_rules() {
        if let Caller::Number(number) = read(&rules, bytes) {
            assert!(number.is_possible(), "{number} by {rules:?}");
            let text = number.to_string();
            for rules in all_rules() {
                let again = read(&rules, text.as_bytes());
                assert_eq!(again, Caller::Number(number), "by {rules:?}");
            }
        }
    }
}

/// Rules of countries with different prefixes, and rules without a country.
fn all_rules() -> [NumberRules; 8] {
    let of = |country: &str, prefix: Option<&str>, form| NumberRules {
        country: country.parse().ok(),
        international_prefix: prefix.map(str::to_owned),
        form,
    };
    [
        NumberRules::default(),
        of("BR", None, NumberForm::National),
        of("US", Some("011"), NumberForm::National),
        of("IT", Some("00"), NumberForm::National),
        of("JP", None, NumberForm::National),
        of("MX", None, NumberForm::National),
        of("DE", None, NumberForm::National),
        of("US", None, NumberForm::E164),
    ]
}

/// Reads bytes by rules.
fn read(rules: &NumberRules, bytes: &[u8]) -> Caller {
    match Identity::from_text(bytes) {
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
