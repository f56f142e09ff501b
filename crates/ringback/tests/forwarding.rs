//! Calls that are sent on, played by sipp on both sides against the real server: the flows of RFC 3665 §3 as far as they
//! meet a proxy, over UDP and TCP.
//!
//! The files are in `fixtures/forwarding`: `caller_*` calls, `target_*` is called. The tests fail where sipp is missing.

mod sipp;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ringback_testkit::{Api, Server, ServerBuilder};
use serde_json::json;

use self::sipp::{Caller, Transport, own_address};

/// Plays a caller and its targets, in the order in which they are tried.
fn play(caller: &str, targets: &[&str], transport: Transport) -> (Server, Api) {
    let server = ServerBuilder::new(env!("CARGO_BIN_EXE_ringback"))
        .config(CONFIG)
        .start();
    let running: Vec<Target> = targets
        .iter()
        .map(|name| Target::start(name, transport, server.scratch()))
        .collect();
    let uris = (0..).zip(&running).map(|(priority, target)| {
        let uri = format!(
            "sip:agent@{};transport={}",
            target.address,
            transport.word()
        );
        json!({"uri": uri, "priority": priority})
    });
    let uris: Vec<serde_json::Value> = uris.collect();
    let api = server.environment(json!({"name": "forwarding", "default_country": "BR"}));
    let number = api.number(NUMBER);
    let agent = json!({
        "name": "agent", "label": "agent", "direction": "inbound", "phone_number_ids": [number], "targets": uris,
    });
    let agent = api.post("/api/v1/agents", agent).data(201);
    let id = agent["id"].as_str().expect("an agent has an id");
    let _published = api
        .post(&format!("/api/v1/agents/{id}/publish"), json!({}))
        .data(200);
    let default = json!({"default_agent_id": id});
    let _default = api
        .patch(&format!("/api/v1/phone-numbers/{number}"), default)
        .data(200);
    let kind = match transport {
        Transport::Udp => "sip_udp",
        Transport::Tcp => "sip_tcp",
    };
    Caller {
        scenario: &file(caller),
        server: server.address(kind),
        transport,
        address: own_address(),
        dialed: "",
        scratch: server.scratch(),
    }
    .play();
    for target in running {
        target.ends();
    }
    (server, api)
}

#[test]
fn what_was_tried_stands_beside_the_decision() {
    let targets = ["target_overloaded", "target_answers"];
    let (_server, api) = play("caller_answered", &targets, Transport::Udp);
    let decisions = api.get("/api/v1/decisions").data(200);
    let attempts = decisions[0]["attempts"].as_array();
    let attempts = attempts.expect("a decision has attempts");
    let tried: Vec<_> = attempts
        .iter()
        .map(|attempt| (&attempt["status"], &attempt["cause"]))
        .collect();
    assert_eq!(
        tried,
        [(&json!(503), &json!("status")), (&json!(200), &json!(null))]
    );
    assert!(attempts.iter().all(|attempt| attempt["reply_ms"].is_u64()));
    assert_eq!(decisions[0]["ended_by"], json!(null));
}

/// A target that is played.
struct Target {
    child: Child,
    name: String,
    address: Ipv4Addr,
    log: PathBuf,
}

impl Target {
    /// Starts it, and waits until it listens.
    fn start(name: &str, transport: Transport, scratch: &Path) -> Self {
        let address = own_address();
        let log = scratch.join(format!("{name}-{address}.log"));
        let child = sipp::sipp(scratch, address)
            .arg("-sf")
            .arg(file(name))
            .args([
                "-t",
                transport.mode(),
                "-m",
                "1",
                "-timeout",
                "30",
                "-timeout_error",
            ])
            .args(["-trace_msg", "-message_file"])
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sipp (Debian: sip-tester) can be run");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !listens(address, transport) {
            assert!(Instant::now() < deadline, "{name} does not listen");
            std::thread::yield_now();
        }
        Self {
            child,
            name: name.to_owned(),
            address,
            log,
        }
    }

    /// Waits for its end, which must be a good one.
    fn ends(mut self) {
        let status = self.child.wait().expect("sipp can be waited for");
        let log = fs::read(&self.log).unwrap_or_default();
        assert!(
            status.success(),
            "{}: {status}\n{}",
            self.name,
            String::from_utf8_lossy(&log)
        );
    }
}

/// Whether somebody listens at port 5060 of an address, as the system says: asking in any other way would be in sipp's
/// way.
fn listens(address: Ipv4Addr, transport: Transport) -> bool {
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.octets()), 5_060);
    let (table, state) = match transport {
        Transport::Udp => ("/proc/net/udp", "07"),
        Transport::Tcp => ("/proc/net/tcp", "0A"),
    };
    let table = fs::read_to_string(table).unwrap_or_default();
    table.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next() == Some(&local) && fields.nth(1) == Some(state)
    })
}

/// The file of a scenario.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../fixtures/forwarding/{name}.xml"))
}

/// Everybody on this machine is a peer whose calls are sent on.
const CONFIG: &str = "version = 1\n[sip]\nmode = \"forward\"\n[sip.forward]\nprobe = 0\n\
    [[sip.peers]]\naddress = [\"127.0.0.0/8\"]\nrecord-route = true\n";

/// What is dialed.
const NUMBER: &str = "+551130030001";

/// Makes a test of each flow over UDP and TCP.
macro_rules! flows {
    ($($name:ident: $caller:literal, [$($target:literal),+];)*) => {
        /// Over UDP.
        mod udp {
            use crate::{play, sipp::Transport};

            $(#[test] fn $name() { let _running = play($caller, &[$($target),+], Transport::Udp); })*
        }

        /// Over TCP.
        mod tcp {
            use crate::{play, sipp::Transport};

            $(#[test] fn $name() { let _running = play($caller, &[$($target),+], Transport::Tcp); })*
        }
    };
}

flows! {
    answered: "caller_answered", ["target_answers"];
    busy: "caller_busy", ["target_busy"];
    cancelled: "caller_cancels", ["target_cancelled"];
    failed_over: "caller_answered", ["target_overloaded", "target_answers"];
    unavailable: "caller_unavailable", ["target_unavailable"];
    reinvited: "caller_reinvites", ["target_reinvited"];
    authenticated: "caller_authenticates", ["target_challenges"];
    answered_while_cancelled: "caller_cancels_late", ["target_answers_late"];
}
