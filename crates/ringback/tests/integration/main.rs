//! The program from outside: command line, processes, signals.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod backup;
mod by_hand;
mod cluster;
mod config;
mod damage;
mod demo;
mod docs;
mod doctor;
mod durability;
mod erasure;
mod export;
mod formats;
mod https;
mod import;
mod init;
mod ipv6;
mod kill;
mod learned;
#[path = "../mixed_load/mod.rs"]
mod mixed_load;
mod numbers;
mod openssl;
mod operation;
mod operator;
mod otel;
mod presets;
mod serve;
mod store;
mod tls;
mod top;
mod verbs;

use std::path::Path;

use ringback_testkit::{Output, Server, ServerBuilder};

/// The program.
const BINARY: &str = env!("CARGO_BIN_EXE_ringback");

/// Runs the program to its end.
fn ringback(args: &[&str]) -> Output {
    ringback_testkit::run(Path::new(BINARY), &[], args, b"")
}

/// A server on free ports.
fn server() -> Server {
    ServerBuilder::new(BINARY).start()
}

/// The contact of a call, of many.
fn contact(index: usize) -> String {
    format!("+5511{:09}", 900_000_000 + index)
}

/// Runs the program as a client of the server, with this token.
fn client(server: &Server, token: &str, args: &[&str]) -> Output {
    client_with_input(server, token, args, b"")
}

/// The same, with this standard input.
fn client_with_input(server: &Server, token: &str, args: &[&str], input: &[u8]) -> Output {
    let url = server.url();
    let variables = [("RINGBACK_URL", url.as_str()), ("RINGBACK_TOKEN", token)];
    ringback_testkit::run(Path::new(BINARY), &variables, args, input)
}
