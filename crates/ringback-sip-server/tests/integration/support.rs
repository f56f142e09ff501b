//! A server with a directory for tests, and clients.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use ringback_index::ContactIndex;
use ringback_routing::{
    Agent, AgentId, AgentStatus, Assignment, CallStatus, CallVia, CallbackRole, Caller, Direction,
    Directory, E164, Environment, EnvironmentId, ForwardedCall, LearnedCall, NumberId, Outcome,
    PhoneNumber, Reason, RememberedCall, Target, Timestamp,
};
use ringback_sip_server::{DecidedCall, Events, SipConfig, SipServer, SipSpec, Snapshots};
use uuid::Uuid;

/// Owned by both outbound agents and both inbound ones.
pub(crate) const OURS: &str = "+551130000000";
/// A contact that the first outbound agent called from [`OURS`] a minute ago.
pub(crate) const CONTACT: &str = "+5511987654321";
/// A number of no environment.
pub(crate) const UNKNOWN: &str = "+551139999999";

/// The environment.
pub(crate) const ENVIRONMENT: EnvironmentId = EnvironmentId(Uuid::from_u128(1));
/// An outbound agent.
pub(crate) const OUTBOUND: AgentId = AgentId(Uuid::from_u128(0x10));
/// An inbound agent with a callback role for [`OUTBOUND`].
pub(crate) const CALLBACK: AgentId = AgentId(Uuid::from_u128(0x20));
/// An inbound agent: the default one.
pub(crate) const DEFAULT: AgentId = AgentId(Uuid::from_u128(0x30));
/// The number's entry.
const NUMBER: NumberId = NumberId(Uuid::from_u128(0x40));

/// A decision reported by the server: outcome, reason, dialed number, caller, Call-ID.
pub(crate) type Decided = (Outcome, Reason, Option<E164>, Caller, String);

/// The state for the server, and the events it reported.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) directory: ArcSwap<Directory>,
    pub(crate) contacts: ContactIndex,
    pub(crate) decided: Mutex<Vec<Decided>>,
    pub(crate) learned: Mutex<Vec<LearnedCall>>,
    pub(crate) answered: Mutex<Vec<(EnvironmentId, String)>>,
    /// The latest news of each call that was sent on.
    pub(crate) forwarded: Mutex<HashMap<String, ForwardedCall>>,
}

/// The program as the server holds it.
#[derive(Clone, Debug)]
pub(crate) struct SharedProgram(pub(crate) Arc<Program>);

impl Snapshots for SharedProgram {
    type Contacts = ContactIndex;

    fn directory(&self) -> Guard<Arc<Directory>> {
        self.0.directory.load()
    }

    fn contacts(&self) -> &ContactIndex {
        &self.0.contacts
    }
}

impl Events for SharedProgram {
    fn decided(&self, call: &DecidedCall<'_, '_>, _via: CallVia) {
        let call_id = String::from_utf8(call.call_id.to_vec()).unwrap();
        let (outcome, reason) = (call.decision.outcome, call.decision.reason);
        let mut decided = self.0.decided.lock();
        decided.push((outcome, reason, call.dialed, call.caller, call_id));
    }

    fn learned(&self, call: LearnedCall) {
        self.0.remember(&call);
        self.0.learned.lock().push(call);
    }

    fn forwarded(
        &self,
        environment: EnvironmentId,
        call_id: &[u8],
        _at: Timestamp,
        call: &ForwardedCall,
    ) -> bool {
        assert_eq!(environment, ENVIRONMENT);
        let call_id = String::from_utf8(call_id.to_vec()).unwrap();
        self.0.forwarded.lock().insert(call_id, call.clone());
        true
    }

    fn answered(&self, environment: EnvironmentId, call_id: &[u8], _at: Timestamp) {
        let call_id = String::from_utf8(call_id.to_vec()).unwrap();
        self.0.answered.lock().push((environment, call_id));
    }
}

impl Program {
    /// Changes the directory.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Directory)) {
        let mut directory = Directory::clone(&self.directory.load());
        change(&mut directory);
        self.directory.store(Arc::new(directory));
    }

    /// Changes an agent.
    pub(crate) fn change_agent(&self, id: AgentId, change: impl FnOnce(&mut Agent)) {
        self.change(|directory| {
            let mut agent = Agent::clone(&directory.agent_by_id(id).unwrap().record);
            change(&mut agent);
            directory.put_agent(agent);
        });
    }

    /// Puts a call into the index.
    fn remember(&self, call: &LearnedCall) {
        let directory = self.directory.load();
        let agent = directory.agent_by_id(call.agent).unwrap();
        let seen = RememberedCall {
            source: agent.slot,
            from: call.from,
            started_at: call.started_at,
            status: call.status,
        };
        self.contacts
            .observe(agent.environment, call.contact, &seen);
    }
}

/// A running server.
pub(crate) struct TestServer {
    pub(crate) program: Arc<Program>,
    pub(crate) server: SipServer<SharedProgram>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl TestServer {
    /// Starts a server on free ports with this `[sip]` section added.
    pub(crate) fn start(toml: &str) -> Self {
        Self::start_with(toml, |_| {})
    }

    /// The same, after something was done to the server.
    pub(crate) fn start_with(toml: &str, prepare: impl FnOnce(&SipServer<SharedProgram>)) -> Self {
        let mut spec: SipSpec = toml::from_str(toml).unwrap();
        if spec.udp == SipSpec::default().udp {
            spec.udp = vec!["127.0.0.1:0".to_owned()];
        }
        spec.workers = 2;
        if !toml.contains("probe") {
            // OPTIONS would come in between.
            spec.forward.probe = 0;
        }
        let program = Arc::new(program());
        let config = SipConfig::try_from(spec).unwrap();
        let server = SipServer::bind(config, [7; 16], SharedProgram(Arc::clone(&program))).unwrap();
        prepare(&server);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let running = server.clone();
        runtime.spawn(async move { running.run().await });
        Self {
            program,
            server,
            runtime: Some(runtime),
        }
    }

    /// The first UDP and TCP address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.addresses().udp[0]
    }

    /// A client at this address of this machine.
    pub(crate) fn client_at(&self, ip: &str) -> Client {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.connect(self.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { socket }
    }

    /// A client at the usual address of this machine.
    pub(crate) fn client(&self) -> Client {
        self.client_at("127.0.0.1")
    }

    /// The value of a metric, written as in the text format.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut page = String::new();
        self.server.write_metrics(&mut page);
        let prefix = format!("ringback_sip_{name} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}"))
            .parse()
            .unwrap()
    }

    /// Waits until something holds; fails if it never does.
    pub(crate) fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(std::time::Instant::now() < deadline, "never: {what}");
            std::thread::yield_now();
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.server.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}

/// A peer on UDP.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
}

impl Client {
    /// Sends a datagram.
    pub(crate) fn send(&self, message: impl AsRef<[u8]>) {
        self.socket.send(message.as_ref()).unwrap();
    }

    /// The next datagram.
    pub(crate) fn receive(&self) -> String {
        let mut room = [0; 65_536];
        let length = self.take(&mut room).expect("a reply");
        String::from_utf8(room[..length].to_vec()).unwrap()
    }

    /// Waits for a datagram. A process that is stopped and goes on, by a debugger or a shell, has its waiting for a
    /// socket interrupted: that is no reply, and no lack of one. It used to fail tests on a busy machine.
    fn take(&self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.recv(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Sends a message and waits for its reply.
    pub(crate) fn ask(&self, message: impl AsRef<[u8]>) -> String {
        self.send(message);
        self.receive()
    }

    /// Asserts that nothing was answered: the next reply is the one to a request sent here.
    pub(crate) fn assert_silence(&self) {
        // Twice, because the replies of one batch may be reordered.
        for _ in 0..2 {
            let unique = Uuid::new_v4();
            let reply = self.ask(request("OPTIONS", OURS, &format!("probe-{unique}")));
            assert!(reply.contains(&unique.to_string()), "answered: {reply}");
        }
    }

    /// The next datagram, with any bytes; `None` if none arrives.
    pub(crate) fn receive_any(&self) -> Option<String> {
        let mut room = [0; 65_536];
        let length = self.take(&mut room).ok()?;
        Some(String::from_utf8_lossy(&room[..length]).into_owned())
    }
}

/// A plain request.
pub(crate) fn request(method: &str, dialed: &str, call_id: &str) -> String {
    format!(
        "{method} sip:{dialed}@192.0.2.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bK-{call_id};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:{CONTACT}@192.0.2.9>;tag=f\r\n\
         To: <sip:{dialed}@192.0.2.1>\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// A returned call, or another call to us.
pub(crate) fn invite(dialed: &str, caller: &str, call_id: &str) -> String {
    request("INVITE", dialed, call_id).replace(
        &format!("From: <sip:{CONTACT}@"),
        &format!("From: <sip:{caller}@"),
    )
}

/// The status of a reply.
pub(crate) fn status(reply: &str) -> u16 {
    reply.get(8..11).and_then(|code| code.parse().ok()).unwrap()
}

/// The values of a header, one per line.
pub(crate) fn values<'r>(reply: &'r str, name: &str) -> Vec<&'r str> {
    reply
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(header, _)| *header == name)
        .map(|(_, value)| value)
        .collect()
}

/// A number.
pub(crate) fn number(text: &str) -> E164 {
    E164::from_canonical(text.as_bytes()).unwrap()
}

/// A target of lowest priority.
pub(crate) fn target(uri: &str, priority: u16, weight: u16) -> Target {
    Target {
        uri: uri.to_owned(),
        priority,
        weight,
    }
}

/// One environment, one number, three agents, one remembered call.
pub(crate) fn program() -> Program {
    let agent = |id: AgentId, direction, targets: Vec<Target>, role| Agent {
        id,
        environment: ENVIRONMENT,
        name: id.to_string(),
        label: String::new(),
        description: None,
        direction,
        status: AgentStatus::Published,
        phone_numbers: vec![NUMBER],
        targets,
        external_ids: BTreeMap::new(),
        role,
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
    };
    let role = CallbackRole {
        source_agents: vec![OUTBOUND],
        recency_window_seconds: None,
        trigger_statuses: Vec::new(),
        hours: None,
        set_sequence: 1,
    };
    let callback_targets = vec![
        target("sip:callback@a.example.com", 1, 50),
        target("sip:callback@b.example.com", 1, 50),
        target("sip:callback@c.example.com", 2, 0),
    ];
    let default_targets = vec![target("sip:default@agents.example.com", 0, 0)];
    let directory = Directory::load(
        7,
        [Environment {
            id: ENVIRONMENT,
            name: "test".to_owned(),
            default_country: Some("BR".parse().unwrap()),
            number_form: ringback_routing::NumberForm::National,
            recency_window_seconds: 3_600,
            target_template: None,
            fallback_targets: Vec::new(),
            held_targets: Vec::new(),
            created_at: Timestamp::default(),
        }],
        [
            agent(OUTBOUND, Direction::Outbound, Vec::new(), None),
            agent(CALLBACK, Direction::Inbound, callback_targets, Some(role)),
            agent(DEFAULT, Direction::Inbound, default_targets, None),
        ],
        [PhoneNumber {
            id: NUMBER,
            environment: ENVIRONMENT,
            number: number(OURS),
            country: None,
            default_agent: Some(DEFAULT),
            created_at: Timestamp::default(),
        }],
        [OUTBOUND, CALLBACK, DEFAULT].map(|agent| Assignment {
            number: NUMBER,
            agent,
        }),
        [],
    );
    let program = Program {
        directory: ArcSwap::from_pointee(directory),
        contacts: ContactIndex::new(7),
        decided: Mutex::default(),
        learned: Mutex::default(),
        answered: Mutex::default(),
        forwarded: Mutex::default(),
    };
    program.remember(&LearnedCall {
        environment: ENVIRONMENT,
        agent: OUTBOUND,
        contact: number(CONTACT),
        from: Some(number(OURS)),
        status: CallStatus::Completed,
        started_at: ago(60),
        sid: "first".to_owned(),
        is_new: true,
    });
    program
}

/// This many seconds ago.
pub(crate) fn ago(seconds: i64) -> Timestamp {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_seconds(i64::try_from(now.as_secs()).unwrap() - seconds)
}

/// How long a test waits for what has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
