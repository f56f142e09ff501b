//! What peers and API clients write where a number is expected.

#![no_main]

use ringback_routing::{Caller, Country, NumberForm, NumberRules, WrittenNumber};
use ringback_sip_proto::Identity;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let rules = [
        NumberRules::default(),
        of("BR", None),
        of("US", Some("011")),
        of("IT", Some("00")),
        of("JP", None),
        of("MX", None),
    ];
    for rules in rules {
        if let Caller::Number(number) = read(&rules, bytes) {
            // What was read reads as itself, by any rules.
            let again = read(&rules, number.to_string().as_bytes());
            assert_eq!(again, Caller::Number(number));
        }
    }
});

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

fn of(country: &str, prefix: Option<&str>) -> NumberRules {
    NumberRules {
        country: country.parse::<Country>().ok(),
        international_prefix: prefix.map(str::to_owned),
        form: NumberForm::National,
    }
}
