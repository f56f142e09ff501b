//! The program on a disk that is full, or read-only: what is stored is routed on, nothing is taken that is not
//! kept, and writing goes on by itself when the disk allows it. And on a disk whose power is cut: `kill -9` leaves what the
//! system had in memory, so it does not show a missing sync; this does.
//!
//! Three cuts here. A long run:
//!
//! ```sh
//! RINGBACK_POWER_CUTS=50 cargo test -p ringback --test disk power -- --nocapture
//! ```
//!
//! A binary of its own, because it mounts file systems: it needs root, or `sudo` without a password.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod mixed_load;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ringback_testkit::{Api, Reply, Server, ServerBuilder, SipPeer, SmallDisk, VolatileDisk};
use serde_json::json;
use tempfile::TempDir;

use self::mixed_load::MixedLoad;

/// The program.
const BINARY: &str = env!("CARGO_BIN_EXE_ringback");

/// The number that contacts were called from and call back.
const DIALED: &str = "+551130000000";

/// What nothing that is waited for takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A server on a small disk, with a campaign that returns calls.
struct World {
    /// The server; none between two.
    server: Option<Server>,
    /// The disk, which goes after the server.
    disk: SmallDisk,
    /// Where it is mounted.
    scratch: TempDir,
    /// The token of the environment.
    token: String,
    /// The agent that calls.
    source: String,
    /// The contacts whose calls were acknowledged.
    acknowledged: Vec<String>,
    /// How many contacts have been tried.
    tried: usize,
}

impl World {
    /// Makes it, with a few calls.
    fn make() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mount = scratch.path().join("disk");
        fs::create_dir(&mount).unwrap();
        let disk = SmallDisk::mount(&mount, 24 << 10);
        let server = start(&data_dir(scratch.path()));
        let api = server.environment(json!({"name": "acme"}));
        let number = api.number(DIALED);
        let [source, _] = api.callback_pair(["source", "taker"], &number, "sip:taker@192.0.2.1");
        let mut world = Self {
            token: api.token().to_owned(),
            scratch,
            disk,
            server: Some(server),
            source,
            acknowledged: Vec::new(),
            tried: 0,
        };
        for _ in 0..10 {
            assert_eq!(world.record().status, 201);
        }
        world
    }

    /// The server.
    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// The environment's API.
    fn api(&self) -> Api {
        self.server().api(&self.token)
    }

    /// Records a call to a new contact.
    fn record(&mut self) -> Reply {
        let contact = contact(self.tried);
        let body = json!({"agent_id": self.source, "to": contact, "from": DIALED});
        self.tried += 1;
        let reply = self.api().post("/api/v1/calls", body);
        match reply.status {
            201 => self.acknowledged.push(contact),
            status => {
                assert_eq!(status, 503, "{}", reply.body);
                assert_eq!(reply.body["code"], "STORAGE_UNAVAILABLE");
            }
        }
        reply
    }

    /// Checks that writes of every kind are refused, that this is told, and that calls are routed on.
    fn assert_refusing(&mut self) {
        assert_eq!(self.record().status, 503);
        let agent = json!({"name": "late", "label": "late", "direction": "inbound"});
        let refused = self.api().post("/api/v1/agents", agent);
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert_eq!(refused.body["code"], "STORAGE_UNAVAILABLE");
        let forgotten = format!(
            "/api/v1/contacts/{}",
            self.acknowledged[0].replace('+', "%2B")
        );
        assert_eq!(self.api().delete(&forgotten).status, 503);
        let ready = self.server().api("").get("/readyz");
        assert_eq!(
            (ready.status, &ready.body["storage"]),
            (503, &json!("unavailable"))
        );
        assert_eq!(self.server().api("").get("/healthz").status, 200);
        self.assert_routing();
    }

    /// Checks that every contact whose call was acknowledged gets its callback, and nobody else.
    fn assert_routing(&self) {
        let peer = SipPeer::new(self.server().address("sip_udp"));
        for index in 0..self.tried {
            let contact = contact(index);
            let is_acknowledged = self.acknowledged.contains(&contact);
            let query = format!("?to={DIALED}&from={contact}").replace('+', "%2B");
            let data = self.api().get(&format!("/api/v1/route{query}")).data(200);
            let outcome = if is_acknowledged {
                "callback"
            } else {
                "default"
            };
            assert_eq!(data["outcome"], outcome, "{contact}: {data}");
            let path = format!("/api/v1/contacts/{}", contact.replace('+', "%2B"));
            let known = self.api().get(&path).status;
            assert_eq!(known, if is_acknowledged { 200 } else { 404 }, "{contact}");
        }
        let reply = peer.invite_until_served(DIALED, &self.acknowledged[0]);
        assert_eq!(reply.contacts(), ["sip:taker@192.0.2.1"], "{}", reply.text);
    }

    /// Waits until the server says by itself that it takes writes, and checks that it does.
    fn assert_resuming(&mut self) {
        let anonymous = self.server().api("");
        wait_until("readyz recovers without a write", || {
            anonymous.get("/readyz").status == 200
        });
        for _ in 0..10 {
            assert_eq!(self.record().status, 201);
        }
        self.assert_routing();
    }

    /// Kills the server, as power loss would, and starts another.
    fn restart(&mut self) {
        self.server.take().unwrap().kill();
        self.server = Some(start(&data_dir(self.scratch.path())));
    }
}

/// Where the server keeps its data.
fn data_dir(scratch: &Path) -> PathBuf {
    scratch.join("disk/data")
}

/// Starts a server.
fn start(data_dir: &Path) -> Server {
    ServerBuilder::new(BINARY).data_dir(data_dir).start()
}

/// The contact at this place.
fn contact(index: usize) -> String {
    format!("+5511{:09}", 900_000_000 + index)
}

/// Waits until something holds.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "waited in vain: {what}");
        thread::yield_now();
    }
}

#[test]
fn a_full_disk_refuses_writes_while_routing_goes_on_and_writing_resumes_without_a_restart() {
    let mut world = World::make();
    world.disk.fill();
    // What is written fits into what was reserved for a while.
    wait_until("a full disk refuses writes", || {
        world.record().status == 503
    });
    for _ in 0..3 {
        world.assert_refusing();
    }
    world.disk.free();
    world.assert_resuming();
    // What was acknowledged is there, what was refused is not.
    world.restart();
    world.assert_routing();
}

#[test]
fn a_server_killed_on_a_full_disk_starts_there_and_routes() {
    let mut world = World::make();
    world.disk.fill();
    wait_until("a full disk refuses writes", || {
        world.record().status == 503
    });
    world.restart();
    world.assert_routing();
    wait_until("a full disk refuses writes", || {
        world.record().status == 503
    });
    world.assert_refusing();
    world.disk.free();
    world.assert_resuming();
}

#[test]
fn a_disk_that_turns_read_only_refuses_writes_while_routing_goes_on() {
    let mut world = World::make();
    world.disk.fill();
    wait_until("a full disk refuses writes", || {
        world.record().status == 503
    });
    // Now no file is open for writing for long, so the disk can become read-only under the server.
    wait_until("the disk becomes read-only", || {
        world.disk.set_read_only(true).is_ok()
    });
    for _ in 0..3 {
        world.assert_refusing();
    }
    world.disk.set_read_only(false).unwrap();
    world.disk.free();
    world.assert_resuming();
    world.restart();
    world.assert_routing();
}

#[test]
fn a_server_started_on_a_read_only_disk_routes_and_takes_writes_once_it_can() {
    let mut world = World::make();
    // One ended by power loss, with everything in its log, and one that was stopped.
    for stop in [false, true] {
        let mut server = world.server.take().unwrap();
        if stop {
            assert_eq!(server.stop().code, Some(0));
        } else {
            server.kill();
        }
        world.disk.set_read_only(true).unwrap();
        world.server = Some(start(&data_dir(world.scratch.path())));
        world.assert_routing();
        assert_eq!(world.record().status, 503);
        world.assert_refusing();
        world.disk.set_read_only(false).unwrap();
        world.assert_resuming();
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_invented_when_power_is_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let mount = scratch.path().join("disk");
    fs::create_dir(&mount).unwrap();
    let mut disk = VolatileDisk::mount(&mount, 512);
    let cuts = ("RINGBACK_POWER_CUTS", 3);
    let mut server = MixedLoad::kill_again_and_again(BINARY, &mount.join("data"), cuts, || {
        // What nobody synced must be forgotten, or this test shows nothing.
        let unsynced = mount.join("unsynced");
        fs::write(&unsynced, "in memory").unwrap();
        disk.cut_power();
        assert!(!unsynced.exists(), "the disk keeps what was not synced");
    });
    server.kill();
}
