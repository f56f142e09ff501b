//! Asterisk in front: the recipe of `docs/en/integrations/asterisk.md`, with Asterisk 22 of Debian sid, sipp and baresip as
//! phones.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use ringback_testkit::{Server, ServerBuilder};

use crate::peer::{
    LIMIT, MAIN, POLL, Program, Setting, baresip, check_our_side, fixture, page, sid,
};
use crate::sipp::own_address;

/// Who is where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Asterisk.
    asterisk: Ipv4Addr,
    /// The carrier, from which contacts call and at which they are called.
    pub(super) carrier: Ipv4Addr,
    /// Our dialer.
    dialer: Ipv4Addr,
    /// Who takes calls that Ringback does not route.
    reception: Ipv4Addr,
}

impl Places {
    /// Addresses that nobody else has.
    pub(super) fn new() -> Self {
        Self {
            asterisk: own_address(),
            carrier: own_address(),
            dialer: own_address(),
            reception: own_address(),
        }
    }
}

/// An Asterisk at work.
pub(super) struct Asterisk {
    /// Where it takes calls.
    pub(super) address: SocketAddr,
    /// Its configuration.
    directory: PathBuf,
    /// Keeps it up.
    _program: Program,
}

impl Asterisk {
    /// Starts it; the carrier's calls go to this context.
    pub(super) fn start(setting: &Setting, places: Places, context: &str) -> Self {
        let directory = setting.directory("asterisk");
        let address = SocketAddr::from((places.asterisk, 5_060));
        let server = &setting.server;
        let fill = |text: String| {
            text.replace("{{directory}}", &directory.to_string_lossy())
                .replace("{{library}}", &sid::library().to_string_lossy())
                .replace("{{share}}", &sid::share().to_string_lossy())
                .replace("{{asterisk}}", &address.to_string())
                .replace("{{dialer}}", &places.dialer.to_string())
                // The recipe's own addresses.
                .replace("192.0.2.10:5060", &server.address("sip_udp").to_string())
                .replace("192.0.2.10:9060", &server.address("hep").to_string())
                .replace("http://192.0.2.10:8080", &server.url())
                .replace("talq_TOKEN", setting.made.api.token())
                .replace(
                    "sip:reception@192.0.2.30",
                    &format!("sip:sales@{}", places.reception),
                )
                .replace("198.51.100.1", &places.carrier.to_string())
                .replace(
                    "context = from-carrier\n",
                    &format!("context = {context}\n"),
                )
        };
        for file in FILES {
            let text = fill(fixture(&format!("asterisk/{file}")));
            assert!(!text.contains("{{") && !text.contains("192.0.2."), "{text}");
            fs::write(directory.join(file), text).expect("a configuration can be written");
        }
        let asterisk = Self::run(address, directory);
        asterisk.wait_until_ringback_is("Avail");
        asterisk
    }

    /// Starts one that is an agent at this address: it hangs up after so many seconds.
    pub(super) fn agent(setting: &Setting, address: Ipv4Addr, seconds: &str) -> Self {
        let directory = setting.directory("asterisk");
        let address = SocketAddr::from((address, 5_060));
        for file in [
            "asterisk/asterisk.conf",
            "asterisk/logger.conf",
            "asterisk/modules.conf",
            "asterisk-agent/extensions.conf",
            "asterisk-agent/pjsip.conf",
        ] {
            let text = fixture(file)
                .replace("{{directory}}", &directory.to_string_lossy())
                .replace("{{library}}", &sid::library().to_string_lossy())
                .replace("{{share}}", &sid::share().to_string_lossy())
                .replace("{{asterisk}}", &address.to_string())
                .replace("{{seconds}}", seconds);
            let name = file.rsplit('/').next().expect("a path has a name");
            fs::write(directory.join(name), text).expect("a configuration can be written");
        }
        let asterisk = Self::run(address, directory);
        asterisk.wait_for("pjsip show endpoints", |answer| answer.contains("ringback"));
        asterisk
    }

    /// Runs one with its configuration in a folder, and waits until it takes calls.
    fn run(address: SocketAddr, directory: PathBuf) -> Self {
        let mut asterisk = sid::program("asterisk");
        asterisk
            .arg("-C")
            .arg(directory.join("asterisk.conf"))
            .args(["-f", "-n"]);
        let asterisk = Self {
            address,
            _program: Program::start(asterisk, &directory),
            directory,
        };
        // Its port is bound before it takes calls.
        asterisk.wait_for("core waitfullybooted", |answer| {
            answer.contains("fully booted")
        });
        asterisk
    }

    /// Waits until Asterisk has noticed whether Ringback is there.
    fn wait_until_ringback_is(&self, state: &str) {
        self.wait_for("pjsip show contacts", |answer| {
            answer
                .lines()
                .any(|line| line.contains("ringback/") && line.contains(&format!(" {state} ")))
        });
    }

    /// Waits until the answer to a command is right.
    fn wait_for(&self, command: &str, is_right: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let mut asterisk = sid::program("asterisk");
            let output = asterisk
                .arg("-C")
                .arg(self.directory.join("asterisk.conf"))
                .args(["-rx", command])
                .stdin(Stdio::null())
                .output()
                .expect("asterisk can be run");
            let answer = String::from_utf8_lossy(&output.stdout);
            if is_right(&answer) {
                return;
            }
            let log = fs::read_to_string(self.directory.join("output.log"));
            assert!(
                begun.elapsed() < LIMIT,
                "{command}: {answer}\n{}",
                log.unwrap_or_default()
            );
            thread::sleep(POLL);
        }
    }
}

/// A server whose mirror has the recipe's key.
fn server() -> Server {
    let config = fixture("ringback.toml")
        .replace("{{contact_headers}}", "true")
        .replace(
            "[[sip.peers]]",
            "[sip.hep]\nkey = \"a-key-of-your-own\"\n\n[[sip.peers]]",
        );
    ServerBuilder::new(env!("CARGO_BIN_EXE_ringback"))
        .config(config)
        .arg("--hep")
        .arg("127.0.0.1:0")
        .start()
}

#[test]
fn returning_call_reaches_the_callback_agent_who_is_told_why() {
    let (places, agent_at) = (Places::new(), own_address());
    let setting = Setting::of(server(), &[agent_at]).called();
    let asterisk = Asterisk::start(&setting, places, "from-carrier");
    let agent = setting.answer("agent_told_why", agent_at);
    setting.call("caller", places.carrier, asterisk.address);
    agent.success();
    // The mirror tells that it was answered.
    setting.wait_for_answered(1);
}

#[test]
fn next_target_is_tried_when_the_first_is_busy() {
    let (places, first, second) = (Places::new(), own_address(), own_address());
    let setting = Setting::of(server(), &[first, second]).called();
    let asterisk = Asterisk::start(&setting, places, "from-carrier");
    let busy = setting.answer("busy_anyhow", first);
    let agent = setting.answer("agent", second);
    setting.call("caller", places.carrier, asterisk.address);
    busy.success();
    agent.success();
}

#[test]
fn withheld_caller_is_known_by_the_asserted_identity() {
    let (places, agent_at) = (Places::new(), own_address());
    let setting = Setting::of(server(), &[agent_at]).called();
    let asterisk = Asterisk::start(&setting, places, "from-carrier");
    let agent = setting.answer("agent", agent_at);
    setting.call("caller_withheld", places.carrier, asterisk.address);
    agent.success();
    setting.wait_for_answered(1);
}

/// It used to reach the carrier as 503.
#[test]
fn unknown_number_is_404_for_the_carrier() {
    let places = Places::new();
    let setting = Setting::of(server(), &[own_address()]).called();
    let asterisk = Asterisk::start(&setting, places, "from-carrier");
    setting.dial(
        "caller_refused",
        places.carrier,
        asterisk.address,
        "+551130039999",
    );
}

/// Every outbound INVITE used to bear an empty header, so that no call was learned.
#[test]
fn outbound_call_is_learned_by_the_agent_that_it_names() {
    let (places, agent_at) = (Places::new(), own_address());
    let setting = Setting::of(server(), &[agent_at]);
    let asterisk = Asterisk::start(&setting, places, "from-carrier");
    let contact = setting.answer("busy_anyhow", places.carrier);
    setting.call("outbound", places.dialer, asterisk.address);
    contact.success();
    let call = setting.wait_for_status("busy");
    assert_eq!(call["agent_id"], setting.made.agent("sales"));
    assert_eq!(call["from"], MAIN);
}

#[test]
fn outbound_call_that_names_nobody_is_learned_by_its_number() {
    let (places, agent_at) = (Places::new(), own_address());
    let setting = Setting::of(server(), &[agent_at]);
    let asterisk = Asterisk::start(&setting, places, "from-carrier");
    let contact = setting.answer("busy", places.carrier);
    setting.call("outbound_unnamed", places.dialer, asterisk.address);
    contact.success();
    let call = setting.wait_for_status("busy");
    assert_eq!(call["agent_id"], setting.made.agent("sales"));
}

/// The caller used to wait for 32 s.
#[test]
fn call_goes_on_once_ringback_is_noticed_to_be_gone() {
    let places = Places::new();
    let mut setting = Setting::of(server(), &[own_address()]).called();
    let asterisk = Asterisk::start(&setting, places, "from-carrier");
    let reception = setting.answer("agent", places.reception);
    setting.server.kill();
    asterisk.wait_until_ringback_is("Unavail");
    setting.call("caller", places.carrier, asterisk.address);
    reception.success();
}

#[test]
fn dial_plan_that_asks_over_http_reaches_the_agent_and_counts_the_answer() {
    let (places, first, second) = (Places::new(), own_address(), own_address());
    let setting = Setting::of(server(), &[first, second]).called();
    let asterisk = Asterisk::start(&setting, places, "from-carrier-http");
    let busy = setting.answer("busy_anyhow", first);
    let agent = setting.answer("agent", second);
    setting.call("caller", places.carrier, asterisk.address);
    busy.success();
    agent.success();
    setting.wait_for_answered(1);
    setting.dial(
        "caller_refused",
        places.carrier,
        asterisk.address,
        "+551130039999",
    );
}

#[test]
fn dial_plan_that_asks_over_http_goes_on_without_ringback() {
    let places = Places::new();
    let mut setting = Setting::of(server(), &[own_address()]).called();
    let asterisk = Asterisk::start(&setting, places, "from-carrier-http");
    let reception = setting.answer("agent", places.reception);
    setting.server.kill();
    setting.call("caller", places.carrier, asterisk.address);
    reception.success();
}

#[test]
fn baresip_reaches_the_agent_through_asterisk() {
    let (places, agent_at) = (Places::new(), own_address());
    let setting = Setting::of(server(), &[agent_at]).called();
    let asterisk = Asterisk::start(&setting, places, "from-carrier");
    let agent = setting.answer("agent", agent_at);
    let _baresip = baresip::dial(&setting, places.carrier, asterisk.address);
    agent.success();
}

/// Whoever follows the page gets what is tested here.
#[test]
fn page_shows_the_configuration_that_is_tested() {
    let page = page("asterisk.md");
    for file in [
        "pjsip-ringback.conf",
        "extensions-ringback.conf",
        "extensions-http.conf",
        "hep.conf",
    ] {
        assert!(
            page.contains(&fixture(&format!("asterisk/{file}"))),
            "{file}"
        );
    }
    check_our_side(&page);
}

/// Everything that Asterisk reads.
const FILES: [&str; 9] = [
    "asterisk.conf",
    "extensions.conf",
    "extensions-http.conf",
    "extensions-ringback.conf",
    "hep.conf",
    "logger.conf",
    "modules.conf",
    "pjsip.conf",
    "pjsip-ringback.conf",
];
