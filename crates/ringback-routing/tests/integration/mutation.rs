//! Changed numbers: the seeds of the fuzz target `number`, each broken in a few places.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::exercise;

/// What the fuzz target starts from.
fn seeds() -> Vec<Vec<u8>> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../ringback-sip-proto/fuzz/seeds/number");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the seeds are there")
        .map(|entry| entry.expect("the seeds are there").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("the seeds are there"))
        .collect()
}

/// How many cases to try: a few, or as many as the environment says.
fn cases() -> u32 {
    let told = std::env::var("RINGBACK_FUZZ_CASES").ok();
    told.and_then(|cases| cases.parse().ok()).unwrap_or(8_192)
}

#[test]
fn every_seed_holds() {
    let seeds = seeds();
    assert!(seeds.len() > 10);
    for seed in seeds {
        exercise::number(&seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn changed_numbers_hold(
        seed in select(seeds()),
        other in select(seeds()),
        changes in prop::collection::vec((any::<Index>(), any::<Index>(), select(TOKENS)), 1..6),
    ) {
        let mut text = seed;
        for (from, to, token) in changes {
            let from = from.index(text.len() + 1);
            let to = from + to.index((text.len() - from).min(4) + 1);
            text.splice(from..to, token.bytes());
        }
        exercise::number(&text);
        text.extend(other);
        exercise::number(&text);
    }
}

/// Tokens that numbers are written with, and that readers often get wrong.
const TOKENS: &[&str] = &[
    "",
    "0",
    "00",
    "1",
    "5",
    "9",
    "15",
    "49",
    "011",
    "+",
    "-",
    ".",
    " ",
    "(",
    ")",
    "(0)",
    "/",
    ",",
    ";",
    "x",
    "#",
    "*",
    "w",
    "p",
    "ext.",
    ".0",
    "E+11",
    "'",
    "=\"",
    "\"",
    "<",
    ">",
    "@",
    "%2B",
    "%",
    "sip:",
    "tel:",
    ";ext=",
    ";postd=",
    ";phone-context=+",
    "\u{a0}",
    "\u{202a}",
    "\u{0}",
];
