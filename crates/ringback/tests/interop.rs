//! The server beside real programs: Kamailio in front of it, baresip behind it, tshark listening.
//!
//! The configurations are those that `docs/integrations` shows. The tests fail where a program is
//! missing; `./test` installs them. Everything stays on loopback, each test on addresses of its
//! own, and no program outlives its test.

mod scenario;
mod sipp;
mod world;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringback_testkit::{Server, ServerBuilder, SipPeer, SipReply};
use serde_json::Value;

use self::sipp::{Caller, Transport, own_address, sipp};
use self::world::{Made, World};

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

    /// Starts a Kamailio in front of it that speaks to it over this transport.
    fn inbound_kamailio(&self, transport: Transport) -> (SocketAddr, Program) {
        self.kamailio(transport, own_address(), own_address())
    }

    /// The same; it sends the dialer's calls to this carrier.
    fn kamailio(
        &self,
        transport: Transport,
        dialer: Ipv4Addr,
        carrier: Ipv4Addr,
    ) -> (SocketAddr, Program) {
        let address = SocketAddr::from((own_address(), 5_060));
        let directory = self.directory("kamailio");
        // TCP listens where UDP does.
        let with_transport = |kind: &str| {
            format!(
                "{};transport={}",
                self.server.address(kind),
                transport.word()
            )
        };
        let config = fixture("kamailio.cfg")
            .replace("{{proxy}}", &address.to_string())
            .replace("{{ringback}}", &with_transport("sip_udp"))
            .replace("{{hep}}", &with_transport("hep"))
            .replace("{{dialer}}", &dialer.to_string())
            .replace("{{carrier}}", &format!("{carrier}:5060"))
            .replace(
                "{{directory}}",
                &folder("fixtures/interop").to_string_lossy(),
            );
        assert!(!config.contains("{{"), "{config}");
        let path = directory.join("kamailio.cfg");
        fs::write(&path, config).expect("a configuration can be written");
        let mut kamailio = Command::new("kamailio");
        kamailio
            .args(["-DD", "-E", "-m", "32", "-M", "4", "-f"])
            .arg(path);
        kamailio.arg("-Y").arg(&directory).arg("-w").arg(&directory);
        let program = Program::start(kamailio, &directory);
        program.wait_until_bound(address);
        (address, program)
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

    /// Plays a call from an address to its end.
    fn call(&self, scenario: &str, address: Ipv4Addr, server: SocketAddr) {
        let caller = Caller {
            scenario: &self.scenario(scenario),
            server,
            transport: Transport::Udp,
            address,
            dialed: MAIN,
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

#[test]
fn kamailio_follows_the_redirect_to_the_callback_agent() {
    let address = own_address();
    let setting = Setting::new(false, &[address]).called();
    let (proxy, _kamailio) = setting.inbound_kamailio(Transport::Udp);
    let agent = setting.answer("agent", address);
    setting.call("caller", own_address(), proxy);
    agent.success();
    setting.wait_for_answered(1);
}

#[test]
fn kamailio_asks_and_mirrors_over_tcp() {
    let (address, dialer, carrier) = (own_address(), own_address(), own_address());
    let setting = Setting::new(false, &[address]);
    let (proxy, _kamailio) = setting.kamailio(Transport::Tcp, dialer, carrier);
    let contact = setting.answer("busy", carrier);
    let agent = setting.answer("agent", address);
    setting.call("outbound", dialer, proxy);
    contact.success();
    let _call = setting.wait_for_status("busy");
    setting.call("caller", own_address(), proxy);
    agent.success();
    setting.wait_for_answered(1);
}

#[test]
fn kamailio_hands_the_decision_on_to_the_agent() {
    let address = own_address();
    let setting = Setting::new(true, &[address]).called();
    let (proxy, _kamailio) = setting.inbound_kamailio(Transport::Udp);
    let agent = setting.answer("agent_told_why", address);
    setting.call("caller", own_address(), proxy);
    agent.success();
}

#[test]
fn kamailio_tries_the_next_contact_when_the_first_is_busy() {
    let (first, second) = (own_address(), own_address());
    let setting = Setting::new(false, &[first, second]).called();
    let (proxy, _kamailio) = setting.inbound_kamailio(Transport::Udp);
    let busy = setting.answer("busy", first);
    let agent = setting.answer("agent", second);
    setting.call("caller", own_address(), proxy);
    busy.success();
    agent.success();
}

#[test]
fn call_mirrored_by_kamailio_is_returned_by_the_very_next_invite() {
    let (address, dialer, carrier) = (own_address(), own_address(), own_address());
    let setting = Setting::new(false, &[address]);
    let (proxy, _kamailio) = setting.kamailio(Transport::Udp, dialer, carrier);
    let contact = setting.answer("busy", carrier);
    let agent = setting.answer("agent", address);
    setting.call("outbound", dialer, proxy);
    contact.success();
    setting.call("caller", own_address(), proxy);
    agent.success();
    let call = setting.wait_for_status("busy");
    assert_eq!(call["agent_id"], setting.made.agent("sales"));
    assert_eq!(call["from"], MAIN);
}

#[test]
fn call_learned_by_redirect_is_returned_by_the_very_next_invite() {
    let address = own_address();
    let setting = Setting::new(false, &[address]);
    let server = setting.server.address("sip_udp");
    setting.call("learned", own_address(), server);
    let reply = SipPeer::new(server).invite(MAIN, CONTACT);
    assert_eq!(reply.status, 302, "{}", reply.text);
    assert_eq!(
        reply.header("x-ringback-reason"),
        "returned_call_same_number"
    );
    assert_eq!(
        reply.header("x-ringback-source-agent"),
        setting.made.agent("sales")
    );
    assert_eq!(reply.contacts(), [format!("sip:sales@{address}:5060")]);
    let _call = setting.wait_for_status("initiated");
}

#[test]
fn baresip_follows_the_redirect_by_itself() {
    let address = own_address();
    let setting = Setting::new(false, &[address]).called();
    let agent = setting.answer("agent", address);
    let directory = setting.directory("baresip");
    let here = own_address().to_string();
    for file in ["config", "accounts"] {
        let text = fixture(&format!("baresip/{file}")).replace("{{address}}", &here);
        fs::write(directory.join(file), text).expect("a configuration can be written");
    }
    let mut baresip = Command::new("baresip");
    let dial = format!("/dial sip:{MAIN}@{}", setting.server.address("sip_udp"));
    baresip.arg("-f").arg(&directory).args(["-e", &dial]);
    let _baresip = Program::start(baresip, &directory);
    agent.success();
}

#[test]
fn tshark_finds_nothing_wrong_with_the_replies() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    for transport in [Transport::Udp, Transport::Tcp] {
        let replies: Vec<Vec<u8>> = CAPTURED
            .iter()
            .flat_map(|name| scenario::play(name, transport))
            .collect();
        let capture = write_capture(directory.path(), transport, &replies);
        let output = run(Command::new("tshark")
            .args(["-n", "-r"])
            .arg(&capture)
            .args(["-d", "udp.port==5060,sip", "-d", "tcp.port==5060,sip"])
            .args(["-T", "fields", "-E", "separator=|", "-E", "occurrence=a"])
            .args(COLUMNS.iter().flat_map(|column| ["-e", column])));
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(table.lines().count(), replies.len(), "{table}");
        for (row, reply) in table.lines().zip(&replies) {
            check_decoded(row, &SipReply::read(&String::from_utf8_lossy(reply)));
        }
    }
}

/// Checks that tshark reads what is in the reply, and does not complain.
fn check_decoded(row: &str, reply: &SipReply) {
    let columns: Vec<&str> = row.split('|').collect();
    let [status, cseq, to_tag, contacts, severities, messages] = columns[..] else {
        panic!("{COLUMNS:?} were asked for: {row}");
    };
    assert_eq!(status, reply.status.to_string(), "{row}");
    assert!(
        reply.header("cseq").starts_with(&format!("{cseq} ")),
        "{row}"
    );
    assert!(
        reply.header("to").ends_with(&format!(";tag={to_tag}")),
        "{row}"
    );
    assert_eq!(values(contacts), reply.contacts(), "{row}");
    for severity in values(severities) {
        let severity: u32 = severity.parse().expect("a severity is a number");
        assert!(severity < WARNING, "{messages}: {}", reply.text);
    }
}

/// The values in a column.
fn values(column: &str) -> Vec<&str> {
    column
        .split(',')
        .filter(|value| !value.is_empty())
        .collect()
}

/// Whoever follows the page gets what is tested here.
#[test]
fn kamailio_page_shows_the_configuration_that_is_tested() {
    let page = folder("docs/integrations").join("kamailio.md");
    let page = fs::read_to_string(page).expect("the page can be read");
    assert!(page.contains(&fixture("kamailio-ringback.cfg")));
    let (_, config) = page
        .split_once("```toml\n")
        .expect("the page shows our side too");
    let (config, _) = config.split_once("```").expect("a block ends");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("ringback.toml");
    fs::write(&path, config).expect("a configuration can be written");
    let _fine = run(Command::new(env!("CARGO_BIN_EXE_ringback"))
        .args(["check-config", "--config"])
        .arg(&path));
}

/// Writes replies as packets on port 5060.
fn write_capture(directory: &Path, transport: Transport, replies: &[Vec<u8>]) -> PathBuf {
    let dump = directory.join("replies.txt");
    let mut text = String::new();
    for reply in replies {
        for (row, bytes) in reply.chunks(16).enumerate() {
            let _infallible = write!(text, "{:06x}", row * 16);
            for byte in bytes {
                let _infallible = write!(text, " {byte:02x}");
            }
            text.push('\n');
        }
        text.push('\n');
    }
    fs::write(&dump, text).expect("a dump can be written");
    let capture = directory.join("replies.pcap");
    let ports = match transport {
        Transport::Udp => "-u",
        Transport::Tcp => "-T",
    };
    let _written = run(Command::new("text2pcap")
        .args(["-q", "-4", "127.0.0.1,127.0.0.2", ports, "5060,5062"])
        .arg(&dump)
        .arg(&capture));
    capture
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

/// The scenarios whose replies tshark reads: every status and every header that there is.
const CAPTURED: &[&str] = &[
    "returned_call_same_number",
    "several_contacts",
    "fallback_targets",
    "tel_request_uri",
    "decision_in_contact",
    "unknown_number",
    "refused",
    "anonymous_caller",
    "cancel",
    "options",
    "refused_requests",
    "garbage",
];

/// What tshark is asked for.
const COLUMNS: [&str; 6] = [
    "sip.Status-Code",
    "sip.CSeq.seq",
    "sip.to.tag",
    "sip.contact.uri",
    "_ws.expert.severity",
    "_ws.expert.message",
];

/// The severity that tshark calls a warning.
const WARNING: u32 = 0x0060_0000;

/// How long a program may take until it is ready.
const LIMIT: Duration = Duration::from_secs(20);

/// How often it is looked: none of these programs says when it is ready.
const POLL: Duration = Duration::from_millis(5);
