//! The server beside real programs. The configurations are those that `docs/en/integrations` shows. The tests fail
//! where a program is missing; `./test` installs them. Everything stays on loopback, each test on addresses of its
//! own, and no program outlives its test.

mod asterisk;
mod baresip;
mod forwarding;
mod kamailio;
mod sid;
mod sipp_tls;
mod tshark;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringback_testkit::{Server, ServerBuilder};
use serde_json::Value;

use crate::sipp::{Caller, Transport, sipp};
use crate::world::{Made, World};

/// The number that the campaign calls from.
const MAIN: &str = "+551130030001";

/// Whom it calls.
const CONTACT: &str = "+5511987654321";

/// The server with its world.
struct Setting {
    /// The server.
    server: Server,
    /// What was made on it.
    made: Made,
}

impl Setting {
    /// Starts the server and makes a world in which the callback agent has these targets.
    fn new(contact_headers: bool, targets: &[Ipv4Addr]) -> Self {
        let config =
            fixture("ringback.toml").replace("{{contact_headers}}", &contact_headers.to_string());
        let server = ServerBuilder::new(env!("CARGO_BIN_EXE_ringback"))
            .config(config)
            .arg("--hep")
            .arg("127.0.0.1:0")
            .start();
        Self::of(server, targets)
    }

    /// The same with a server that sends calls on; whether it stays in their path.
    fn forwarding(records_route: bool, targets: &[Ipv4Addr]) -> Self {
        let config = fixture("ringback-forward.toml")
            .replace("{{record_route}}", &records_route.to_string());
        let server = ServerBuilder::new(env!("CARGO_BIN_EXE_ringback"))
            .config(config)
            .arg("--hep")
            .arg("127.0.0.1:0")
            .start();
        Self::of(server, targets)
    }

    /// Makes a world on a server in which the callback agent has these targets.
    fn of(server: Server, targets: &[Ipv4Addr]) -> Self {
        let targets: Vec<String> = targets
            .iter()
            .zip(1..)
            .map(|(address, priority)| {
                format!("{{ uri = \"sip:sales@{address}:5060\", priority = {priority} }}")
            })
            .collect();
        let world = fixture("world.toml").replace("{{targets}}", &targets.join(", "));
        let world: World = toml::from_str(&world).expect("the world can be read");
        let made = world.make(&server);
        Self { server, made }
    }

    /// The campaign has called the contact.
    fn called(self) -> Self {
        let call =
            format!("agent = \"sales\"\nfrom = \"main\"\nto = \"{CONTACT}\"\nseconds_ago = 60");
        self.made
            .record(&toml::from_str(&call).expect("a call can be read"));
        self
    }

    /// Starts a sipp that takes one call.
    fn answer(&self, scenario: &str, address: Ipv4Addr) -> Program {
        let directory = self.directory(scenario);
        let mut sipp = sipp(&directory, address);
        sipp.arg("-sf")
            .arg(self.scenario(scenario))
            .args(["-m", "1"]);
        sipp.args(["-timeout", "40", "-timeout_error"]);
        sipp.args(["-trace_err", "-error_file", "errors.log"]);
        sipp.args(["-trace_msg", "-message_file", "messages.log"]);
        let program = Program::start(sipp, &directory);
        program.wait_until_bound((address, 5_060).into());
        program
    }

    /// Plays a call to the campaign's number from an address to its end.
    fn call(&self, scenario: &str, address: Ipv4Addr, server: SocketAddr) {
        self.dial(scenario, address, server, MAIN);
    }

    /// Plays a call to a number from an address to its end.
    fn dial(&self, scenario: &str, address: Ipv4Addr, server: SocketAddr, dialed: &str) {
        let caller = Caller {
            scenario: &self.scenario(scenario),
            server,
            transport: Transport::Udp,
            address,
            dialed,
            scratch: &self.directory(&format!("{scenario}-call")),
        };
        caller.play();
    }

    /// The contact's newest call, once it has this status.
    fn wait_for_status(&self, status: &str) -> Value {
        let path = format!("/api/v1/contacts/%2B{}", &CONTACT[1..]);
        let call = |contact: &Value| contact["data"]["calls"][0].clone();
        call(&self.wait_for(&path, |contact| call(contact)["status"] == status))
    }

    /// Waits until so many of as many callbacks count as answered.
    fn wait_for_answered(&self, count: u64) {
        let statistics = self.wait_for("/api/v1/callback-agents/stats", |statistics| {
            statistics["data"]["callbacks_answered"] == count
        });
        assert_eq!(statistics["data"]["total_callbacks_received"], count);
    }

    /// What the API says once it is right: a mirror comes later than the call that it mirrors.
    fn wait_for(&self, path: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.made.api.get(path).body;
            if is_right(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < LIMIT, "{path}: {answer}");
            thread::sleep(POLL);
        }
    }

    /// A scenario with the agents filled in.
    fn scenario(&self, name: &str) -> PathBuf {
        let path = self.server.scratch().join(format!("{name}.xml"));
        let text = self.made.fill_in(&fixture(&format!("{name}.xml")));
        fs::write(&path, text).expect("a scenario can be written");
        path
    }

    /// A directory of this name that goes with the server.
    fn directory(&self, name: &str) -> PathBuf {
        let path = self.server.scratch().join(name);
        fs::create_dir_all(&path).expect("a directory can be made");
        path
    }
}

/// A program that runs no longer than its test, and never longer than a minute.
struct Program {
    /// `timeout`, which runs it and passes signals on to all its processes.
    child: Child,
    /// Its name.
    name: String,
    /// Where its logs are.
    directory: PathBuf,
}

impl Program {
    /// Starts it in this directory.
    fn start(command: Command, directory: &Path) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let log = File::create(directory.join("output.log")).expect("a log can be made");
        let mut bounded = Command::new("timeout");
        bounded
            .args(["--kill-after", "5", "60"])
            .arg(command.get_program());
        bounded.args(command.get_args()).current_dir(directory);
        // Servers are where the path of ordinary users does not lead.
        let path = std::env::var("PATH").unwrap_or_default();
        bounded.env("PATH", format!("{path}:/usr/sbin"));
        for (key, value) in command.get_envs() {
            bounded.env(key, value.unwrap_or_default());
        }
        let child = bounded
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log can be shared"))
            .stderr(log)
            .spawn()
            .expect("timeout (Debian: coreutils) can be run");
        Self {
            child,
            name,
            directory: directory.to_owned(),
        }
    }

    /// Waits until somebody receives datagrams at an address.
    fn wait_until_bound(&self, address: SocketAddr) {
        let SocketAddr::V4(address) = address else {
            panic!("{address} is no IPv4 address")
        };
        let begun = Instant::now();
        while !is_bound(address) {
            assert!(
                begun.elapsed() < LIMIT,
                "{} is not ready: {}",
                self.name,
                self.logs()
            );
            thread::sleep(POLL);
        }
    }

    /// Waits for its end, which must be a success.
    fn success(mut self) {
        let status = self.child.wait().expect("a child can be waited for");
        assert!(status.success(), "{}: {status}\n{}", self.name, self.logs());
    }

    /// All that it wrote.
    fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "log")
            {
                let text = fs::read(entry.path()).unwrap_or_default();
                logs += &String::from_utf8_lossy(&text);
            }
        }
        logs
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let id = self.child.id().to_string();
            let _ended = Command::new("kill").args(["-s", "TERM", &id]).status();
            let _ended = self.child.wait();
        }
    }
}

/// The first block of this kind on a page.
fn block<'p>(page: &'p str, kind: &str) -> &'p str {
    let (_, block) = page
        .split_once(&format!("```{kind}\n"))
        .expect("the page has such a block");
    block.split_once("```").expect("a block ends").0
}

/// Our side, as a page shows it, passes the check.
fn check_our_side(page: &str) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("ringback.toml");
    fs::write(&path, block(page, "toml")).expect("a configuration can be written");
    let _fine = run(Command::new(env!("CARGO_BIN_EXE_ringback"))
        .args(["check-config", "--config"])
        .arg(&path));
}

/// A page of `docs/en/integrations`.
fn page(name: &str) -> String {
    let path = folder("docs/en/integrations").join(name);
    fs::read_to_string(path).expect("the page can be read")
}

/// Runs a program to its successful end.
fn run(command: &mut Command) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name} cannot be run (./test installs it): {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name}: {}\n{errors}",
        output.status
    );
    output
}

/// Whether a UDP socket is bound to an address.
fn is_bound(address: SocketAddrV4) -> bool {
    // The kernel writes the address as one number in the byte order of the machine.
    let number = u32::from_ne_bytes(address.ip().octets());
    let entry = format!(" {number:08X}:{:04X} ", address.port());
    let table = fs::read_to_string("/proc/net/udp").expect("Linux lists its sockets");
    table.contains(&entry)
}

/// A file of `fixtures/interop`.
fn fixture(name: &str) -> String {
    let path = folder("fixtures/interop").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A folder of the repository.
fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize()
        .expect("the repository is there")
        .join(name)
}

/// How long a program may take until it is ready.
const LIMIT: Duration = Duration::from_secs(20);

/// How often it is looked: none of these programs says when it is ready.
const POLL: Duration = Duration::from_millis(5);
