//! Scenarios as data: `fixtures/scenarios` read, its worlds made, its files played with sipp.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ringback_testkit::{Server, ServerBuilder};
use serde::Deserialize;

use crate::sipp::{Caller, Transport, own_address};
use crate::world::{Call, Made, World};

/// `scenarios.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// What scenarios start from.
    world: Vec<World>,
    /// What is played.
    pub(crate) scenario: Vec<Scenario>,
}

/// What one scenario needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Its name, which is also the file's.
    pub(crate) name: String,
    /// The world's name.
    world: String,
    /// Calls made before.
    #[serde(default)]
    calls: Vec<Call>,
    /// What stands in the `[sip]` section.
    #[serde(default)]
    sip: toml::Table,
    /// Over what it is played; both if nothing is said.
    #[serde(default = "both")]
    pub(crate) transports: Vec<String>,
    /// What happens in order; if there is nothing, the scenario's file is played.
    #[serde(default)]
    steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
enum Step {
    /// A call is made.
    Record {
        /// The call.
        record: Call,
    },
    /// A file is played.
    Play {
        /// Its name.
        play: String,
        /// Whether the replies must be those of the play before, byte for byte.
        #[serde(default)]
        same_reply: bool,
    },
}

impl Manifest {
    /// Reads it.
    pub(crate) fn read() -> Self {
        let path = directory().join("scenarios.toml");
        let text = fs::read_to_string(&path).expect("the manifest can be read");
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The scenario of this name.
    fn scenario(&self, name: &str) -> &Scenario {
        let found = self.scenario.iter().find(|scenario| scenario.name == name);
        found.unwrap_or_else(|| panic!("no scenario is called {name}"))
    }

    /// The world of this name.
    pub(crate) fn world(&self, name: &str) -> &World {
        let found = self.world.iter().find(|world| world.name == name);
        found.unwrap_or_else(|| panic!("no world is called {name}"))
    }
}

/// Starts a server, makes the world, plays, and gives the replies, byte for byte.
pub(crate) fn play(name: &str, transport: Transport) -> Vec<Vec<u8>> {
    let manifest = Manifest::read();
    let scenario = manifest.scenario(name);
    assert!(
        scenario
            .transports
            .iter()
            .any(|word| word == transport.word()),
        "{name}: {transport:?}"
    );
    let server = start(&scenario.sip);
    let world = manifest.world(&scenario.world).make(&server);
    for call in &scenario.calls {
        world.record(call);
    }
    let whole = [Step::Play {
        play: scenario.name.clone(),
        same_reply: false,
    }];
    let steps = if scenario.steps.is_empty() {
        &whole
    } else {
        &*scenario.steps
    };
    // The address is part of what a retransmission repeats.
    let address = own_address();
    let mut all = Vec::new();
    let mut before = Vec::new();
    for step in steps {
        match step {
            Step::Record { record } => world.record(record),
            Step::Play { play, same_reply } => {
                let replies = play_file(&server, &world, play, transport, address);
                if *same_reply {
                    assert!(!before.is_empty(), "there is a reply to compare with");
                    assert_eq!(
                        text(&replies),
                        text(&before),
                        "{play} was answered differently"
                    );
                }
                all.extend_from_slice(&replies);
                before = replies;
            }
        }
    }
    all
}

/// Plays one file and gives the replies.
fn play_file(
    server: &Server,
    world: &Made,
    name: &str,
    transport: Transport,
    address: Ipv4Addr,
) -> Vec<Vec<u8>> {
    let file = format!("{name}.xml");
    let text = fs::read_to_string(directory().join(&file)).expect("a scenario can be read");
    let text = world.fill_in(&text);
    assert!(
        !text.contains("{{"),
        "{file} names an agent that the world does not have"
    );
    let path = server.scratch().join(&file);
    fs::write(&path, text).expect("a scenario can be written");
    let kind = match transport {
        Transport::Udp => "sip_udp",
        Transport::Tcp => "sip_tcp",
    };
    let caller = Caller {
        scenario: &path,
        server: server.address(kind),
        transport,
        address,
        // The files name what they dial.
        dialed: "",
        scratch: server.scratch(),
    };
    caller.play()
}

/// A server with this `[sip]` section.
pub(crate) fn start(sip: &toml::Table) -> Server {
    let mut config = toml::Table::new();
    config.insert("version".to_owned(), 1.into());
    config.insert("sip".to_owned(), sip.clone().into());
    let text = toml::to_string(&config).expect("a configuration can be written");
    ServerBuilder::new(env!("CARGO_BIN_EXE_ringback"))
        .config(text)
        .start()
}

/// Messages for people.
fn text(messages: &[Vec<u8>]) -> Vec<String> {
    messages
        .iter()
        .map(|message| message.escape_ascii().to_string())
        .collect()
}

/// Where the scenarios are.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/scenarios")
}

/// Both transports.
fn both() -> Vec<String> {
    vec!["udp".to_owned(), "tcp".to_owned()]
}
