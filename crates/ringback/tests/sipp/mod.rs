//! Runs the real `sipp`, never longer than some seconds, and reads what it received.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

/// Over what sipp speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// One UDP socket.
    Udp,
    /// One TCP connection.
    Tcp,
}

impl Transport {
    /// What the manifest calls it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// What `-t` calls it.
    pub(crate) const fn mode(self) -> &'static str {
        match self {
            Self::Udp => "u1",
            Self::Tcp => "t1",
        }
    }
}

/// One run of sipp as the caller, for one call.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    /// The scenario file.
    pub(crate) scenario: &'a Path,
    /// Whom to call.
    pub(crate) server: SocketAddr,
    /// Over what.
    pub(crate) transport: Transport,
    /// The address to call from; the port is 5060.
    pub(crate) address: Ipv4Addr,
    /// What `[service]` stands for.
    pub(crate) dialed: &'a str,
    /// Where the logs go.
    pub(crate) scratch: &'a Path,
}

impl Caller<'_> {
    /// Plays the scenario and gives every message that came in.
    ///
    /// # Panics
    /// A check of the scenario does not hold, or sipp is not installed.
    pub(crate) fn play(&self) -> Vec<Vec<u8>> {
        let name = self
            .scenario
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let messages = self.scratch.join("messages.log");
        let errors = self.scratch.join("errors.log");
        for log in [&messages, &errors] {
            // The last run's, if there was one.
            let _none = fs::remove_file(log);
        }
        let output = sipp(self.scratch, self.address)
            .arg(self.server.to_string())
            .arg("-sf")
            .arg(self.scenario)
            .args(["-t", self.transport.mode()])
            .args(["-s", self.dialed])
            .args(["-m", "1"])
            // The same in every run, so that a message can be repeated.
            .args(["-cid_str", &format!("%u-{name}@%s")])
            .args(["-timeout", LIMIT, "-timeout_error"])
            .args(["-trace_err", "-error_file"])
            .arg(&errors)
            .args(["-trace_msg", "-message_file"])
            .arg(&messages)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("sipp (Debian: sip-tester) cannot be run: {error}"));
        let text = |path: &PathBuf| {
            String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
        };
        assert!(
            output.status.success(),
            "{} over {:?}: {}\n{}\n{}",
            self.scenario.display(),
            self.transport,
            output.status,
            text(&errors),
            text(&messages),
        );
        received(&fs::read(&messages).unwrap_or_default())
    }
}

/// sipp at port 5060 of a loopback address, deaf to the terminal.
pub(crate) fn sipp(directory: &Path, address: Ipv4Addr) -> Command {
    let address = address.to_string();
    let mut command = Command::new("sipp");
    command
        .current_dir(directory)
        .args(["-i", &address, "-p", "5060", "-ci", &address, "-nostdin"])
        .env("TERM", "dumb");
    command
}

/// A loopback address that nobody else on this machine uses, so that no port on it is taken.
pub(crate) fn own_address() -> Ipv4Addr {
    static TAKEN: AtomicU8 = AtomicU8::new(1);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    // Not 127.0, where everybody is.
    let network = 1 + (high ^ middle) % 254;
    Ipv4Addr::new(127, network, low, TAKEN.fetch_add(1, Ordering::Relaxed))
}

/// The messages that a message log says were received, byte for byte.
fn received(log: &[u8]) -> Vec<Vec<u8>> {
    const MARK: &[u8] = b" message received [";
    const END: &[u8] = b"] bytes :\n\n";
    let find = |text: &[u8], mark: &[u8]| text.windows(mark.len()).position(|at| at == mark);
    let mut messages = Vec::new();
    let mut rest = log;
    while let Some(start) = find(rest, MARK) {
        rest = &rest[start + MARK.len()..];
        let Some(end) = find(rest, END) else { break };
        let length = std::str::from_utf8(&rest[..end])
            .ok()
            .and_then(|text| text.parse().ok());
        let length: usize = length.expect("sipp writes the length of a message");
        rest = &rest[end + END.len()..];
        messages.push(
            rest.get(..length)
                .expect("sipp writes the whole message")
                .to_vec(),
        );
    }
    messages
}

/// How long a run may take, in seconds.
const LIMIT: &str = "30";
