//! The server is killed (`kill -9`) again and again while clients of every kind are at work: nothing that was acknowledged
//! is lost, and nothing is there that nobody sent.
//!
//! Four rounds here. A long run:
//!
//! ```sh
//! RINGBACK_KILL_ROUNDS=200 cargo test -p ringback --test integration kill:: -- --nocapture
//! ```

use crate::BINARY;
use crate::mixed_load::MixedLoad;

#[test]
fn nothing_acknowledged_is_lost_and_nothing_invented_whenever_the_server_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let rounds = ("RINGBACK_KILL_ROUNDS", 4);
    let mut server = MixedLoad::kill_again_and_again(BINARY, &data_dir, rounds, || {});
    drop(server.stop());
    let verified = crate::ringback(&["store", "verify", data_dir.to_str().unwrap()]);
    let _whole = verified.success();
}
