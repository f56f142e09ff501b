//! What peers and API clients write where a number is expected.

#![no_main]

use ringback_routing::{Caller, Country, NumberRules};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let rules = [
        NumberRules::default(),
        of("BR", None),
        of("US", Some("011")),
        of("IT", Some("00")),
        of("JP", None),
    ];
    for rules in rules {
        if let Caller::Number(number) = rules.read(bytes) {
            // What was read reads as itself, by any rules.
            let again = rules.read(number.to_string());
            assert_eq!(again, Caller::Number(number));
        }
    }
});

fn of(country: &str, prefix: Option<&str>) -> NumberRules {
    NumberRules {
        country: country.parse::<Country>().ok(),
        international_prefix: prefix.map(str::to_owned),
    }
}
