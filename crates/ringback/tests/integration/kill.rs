//! The server is killed (`kill -9`) again and again while clients of every kind are at work: nothing that was acknowledged
//! is lost, and nothing is there that nobody sent.
//!
//! Four rounds here. A long run:
//!
//! ```sh
//! RINGBACK_KILL_ROUNDS=200 cargo test -p ringback --test integration kill:: -- --nocapture
//! ```

use std::path::Path;

use ringback_testkit::ServerBuilder;

use crate::BINARY;
use crate::mixed_load::{CONFIG, MixedLoad, Tally, random};

#[test]
fn nothing_acknowledged_is_lost_and_nothing_invented_whenever_the_server_is_killed() {
    let rounds = std::env::var("RINGBACK_KILL_ROUNDS");
    let rounds: usize = rounds.map_or(4, |text| text.parse().expect("a number"));
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let start = || {
        ServerBuilder::new(BINARY)
            .data_dir(&data_dir)
            .config(CONFIG)
            .start()
    };
    let mut server = start();
    let mut load = MixedLoad::new(&server);
    let mut tally = Tally::default();
    for round in 1..=rounds {
        // Sometimes at once, sometimes after memory has been written to the tables.
        let acknowledgements = 1 + random(if round % 4 == 0 { 4_000 } else { 800 });
        load.run_and_kill(&mut server, acknowledgements);
        server = start();
        let found = load.check(&server, Path::new(BINARY));
        eprintln!("round {round}, killed after {acknowledgements} acknowledgements: {found:?}");
        tally.found += found.found;
        tally.gone += found.gone;
        tally.acknowledged = found.acknowledged;
    }
    // Killed in the middle of something, not between two things.
    assert!(rounds < 4 || tally.found + tally.gone > 0, "{tally:?}");
    drop(server.stop());
    let verified = crate::ringback(&["store", "verify", data_dir.to_str().unwrap()]);
    let _whole = verified.success();
    eprintln!("{rounds} rounds: nothing lost, nothing invented, {tally:?}");
}
