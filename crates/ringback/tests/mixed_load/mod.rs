//! Clients of every kind at once, and what they were told: calls over HTTP, one by one and in batches, agents that come,
//! change and go, erasures, lookups, INVITEs, calls learned over SIP and HEP. After a crash everything that was acknowledged
//! must be there, and nothing that nobody sent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::net::UdpSocket;
use std::ops::AddAssign;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use ringback_testkit::{Api, Reply, Server, ServerBuilder, SipPeer, hep_packet};
use serde_json::{Value, json};
use uuid::Uuid;

/// The configuration of the server: everybody on this machine may be learned from.
const CONFIG: &str = r#"
version = 1
[[sip.peers]]
name = "pbx"
address = ["127.0.0.0/8"]
learn = true
[sip.hep]
listen = ["127.0.0.1:0"]
"#;

/// The number that contacts were called from and call back.
const DIALED: &str = "+551130000000";

/// A number from 0 to `limit`, another in every run.
fn random(limit: usize) -> usize {
    usize::try_from(Uuid::new_v4().as_u128() % limit as u128).unwrap()
}

/// Clients, and what they know.
pub(crate) struct MixedLoad {
    /// The token of the environment.
    token: String,
    /// The outbound agent.
    source: String,
    /// What was sent and acknowledged.
    ledger: Ledger,
    /// The number of the next thing of any kind.
    next: AtomicUsize,
    /// How many times the server was killed.
    rounds: usize,
    /// How many callbacks the server had counted after the last start.
    callbacks: u64,
}

/// What was sent, by kind, and whether it was acknowledged.
#[derive(Default)]
struct Ledger {
    /// Calls, by their id.
    calls: Mutex<HashMap<String, SentCall>>,
    /// Agents, by their name.
    agents: Mutex<HashMap<String, SentAgent>>,
    /// Contacts that were to be erased, after their only call; true: acknowledged.
    erased: Mutex<HashMap<String, bool>>,
    /// Lookups, by the id of the call, and the answer.
    routed: Mutex<HashMap<String, Option<Value>>>,
    /// INVITEs, by their Call-ID: each may have been counted.
    invited: Mutex<HashSet<String>>,
}

/// A call.
#[derive(Clone, Debug)]
struct SentCall {
    /// The contact.
    to: String,
    /// Whether it was acknowledged, or seen after a crash.
    is_known: bool,
}

/// An agent, made with a key.
#[derive(Clone, Debug, Default)]
struct SentAgent {
    /// Its id, once it is known.
    id: Option<String>,
    /// The labels that it may have: the last acknowledged one, and those sent behind it.
    labels: Vec<String>,
    /// Whether its end was sent, and whether that was acknowledged.
    end: Option<bool>,
}

/// How much of it there was.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// What was acknowledged.
    acknowledged: usize,
    /// What was sent and not acknowledged when the server was killed, and was found afterwards.
    found: usize,
    /// What was sent, not acknowledged, and not found.
    gone: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.found += other.found;
        self.gone += other.gone;
    }
}

impl MixedLoad {
    /// Starts a server, and kills it while all clients are at work: as often as this environment variable says, else as
    /// often as is `usual`. `between` runs before each next start; after it everything is checked. Returns the server.
    ///
    /// # Panics
    /// Something that was acknowledged is not there, or something is there that nobody sent.
    pub(crate) fn kill_again_and_again(
        binary: &str,
        data_dir: &Path,
        (variable, usual): (&str, usize),
        mut between: impl FnMut(),
    ) -> Server {
        let rounds = std::env::var(variable);
        let rounds: usize = rounds.map_or(usual, |text| text.parse().expect("a number"));
        let start = || {
            ServerBuilder::new(binary)
                .data_dir(data_dir)
                .config(CONFIG)
                .start()
        };
        let mut server = start();
        let mut load = Self::new(&server);
        let mut tally = Tally::default();
        for round in 1..=rounds {
            // Sometimes at once, sometimes after memory has been written to the tables.
            let acknowledgements = 1 + random(if round % usual == 0 { 4_000 } else { 800 });
            load.run_and_kill(&mut server, acknowledgements);
            between();
            server = start();
            let found = load.check(&server, Path::new(binary));
            eprintln!("round {round}, killed after {acknowledgements} acknowledgements: {found:?}");
            tally.found += found.found;
            tally.gone += found.gone;
            tally.acknowledged = found.acknowledged;
        }
        // Killed in the middle of something, not between two things.
        assert!(rounds < 4 || tally.found + tally.gone > 0, "{tally:?}");
        eprintln!("{rounds} rounds: nothing lost, nothing invented, {tally:?}");
        server
    }

    /// Makes what the clients need on a new server.
    fn new(server: &Server) -> Self {
        let api = server.environment(json!({"name": "acme", "default_country": "BR"}));
        let number = api.number(DIALED);
        let [source, _] = api.callback_pair(["source", "taker"], &number, "sip:taker@192.0.2.1");
        let load = Self {
            token: api.token().to_owned(),
            source,
            ledger: Ledger::default(),
            next: AtomicUsize::new(0),
            rounds: 0,
            callbacks: 0,
        };
        let made = load.call_body(&load.contact(), "first");
        assert_eq!(api.post("/api/v1/calls", made).status, 201);
        load
    }

    /// Runs all clients until about so many things were acknowledged, then kills the server.
    fn run_and_kill(&mut self, server: &mut Server, acknowledgements: usize) {
        self.rounds += 1;
        let round = Round {
            load: self,
            server,
            acknowledged: AtomicUsize::new(0),
            limit: acknowledgements,
            is_over: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            scope.spawn(|| round.record_calls());
            scope.spawn(|| round.record_batches());
            scope.spawn(|| round.configure());
            scope.spawn(|| round.erase());
            scope.spawn(|| round.look_up());
            scope.spawn(|| round.invite());
            scope.spawn(|| round.mirror());
        });
        server.kill();
    }

    /// Checks what the server has after a start, and takes note of it.
    ///
    /// # Panics
    /// Something that was acknowledged is not there, or something is there that nobody sent.
    fn check(&mut self, server: &Server, binary: &Path) -> Tally {
        let mut tally = self.check_calls(server, binary);
        tally += self.check_agents(server, binary);
        tally += self.check_lookups(server);
        tally
    }

    /// A contact that nobody had before.
    fn contact(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("+5511{:09}", 900_000_000 + number)
    }

    /// A call as the API takes it; it is in the ledger from now on.
    fn call_body(&self, to: &str, kind: &str) -> Value {
        let sid = format!("{}-{kind}-{to}", self.rounds);
        self.sent(&sid, to);
        json!({"sid": sid, "agent_id": self.source, "to": to, "from": DIALED})
    }

    /// Notes that a call is sent.
    fn sent(&self, sid: &str, to: &str) {
        let call = SentCall {
            to: to.to_owned(),
            is_known: false,
        };
        self.ledger
            .calls
            .lock()
            .unwrap()
            .insert(sid.to_owned(), call);
    }

    /// Notes that calls were acknowledged.
    fn acknowledge<'a>(&self, sids: impl IntoIterator<Item = &'a str>) {
        let mut calls = self.ledger.calls.lock().unwrap();
        for sid in sids {
            calls.get_mut(sid).unwrap().is_known = true;
        }
    }

    /// Every line of an export.
    fn export(&self, server: &Server, binary: &Path, kind: &str) -> Vec<Value> {
        let url = server.url();
        let variables = [
            ("RINGBACK_URL", url.as_str()),
            ("RINGBACK_TOKEN", self.token.as_str()),
        ];
        let output = ringback_testkit::run(binary, &variables, &["export", kind], b"");
        let lines = output.success().lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn check_calls(&mut self, server: &Server, binary: &Path) -> Tally {
        let mut stored: HashMap<String, String> = HashMap::new();
        for call in self.export(server, binary, "calls") {
            let (sid, to) = (text(&call, "sid"), text(&call, "to"));
            assert_eq!(call["agent_id"], self.source.as_str(), "{call}");
            assert!(stored.insert(sid, to).is_none(), "twice: {call}");
        }
        let calls = self.ledger.calls.get_mut().unwrap();
        let erased = self.ledger.erased.get_mut().unwrap();
        let mut tally = Tally::default();
        for (sid, to) in &stored {
            let sent = calls.get_mut(sid);
            let sent = sent.unwrap_or_else(|| panic!("invented: {sid} to {to}"));
            assert_eq!(&sent.to, to, "{sid}");
            assert_ne!(erased.get(to), Some(&true), "came back: {sid}");
            if !sent.is_known {
                tally.found += 1;
                sent.is_known = true;
            }
        }
        calls.retain(|sid, sent| {
            if stored.contains_key(sid) {
                return true;
            }
            let may_be_gone = erased.contains_key(&sent.to);
            assert!(!sent.is_known || may_be_gone, "lost: {sid} to {}", sent.to);
            tally.gone += usize::from(!sent.is_known);
            false
        });
        // What is not there after a start stays away.
        erased.retain(|_, is_known| *is_known);
        tally.acknowledged = calls.len();
        tally
    }

    fn check_agents(&mut self, server: &Server, binary: &Path) -> Tally {
        let mut stored: BTreeMap<String, (String, String)> = BTreeMap::new();
        for agent in self.export(server, binary, "agents") {
            let found = (text(&agent, "id"), text(&agent, "label"));
            let name = text(&agent, "name");
            assert!(stored.insert(name, found).is_none(), "twice: {agent}");
        }
        let own = ["source", "taker"].map(|name| stored.remove(name));
        assert!(own.iter().all(Option::is_some), "lost: the first agents");
        let api = server.api(&self.token);
        let agents = self.ledger.agents.get_mut().unwrap();
        for name in stored.keys() {
            assert!(agents.contains_key(name), "invented: agent {name}");
        }
        let mut tally = Tally::default();
        agents.retain(|name, sent| {
            let found = stored.get(name);
            let was_known = sent.id.is_some();
            if let Some((id, label)) = found {
                assert!(sent.labels.contains(label), "{name}: {label}, {sent:?}");
                assert!(sent.id.as_ref().is_none_or(|sent| sent == id), "{name}");
                assert_ne!(sent.end, Some(true), "came back: {name}");
                sent.labels = vec![label.clone()];
            } else {
                assert!(!was_known || sent.end.is_some(), "lost: agent {name}");
            }
            // The key tells what became of it, and makes it where it was not made, once.
            if !was_known {
                let repeated = api.keyed(name).post("/api/v1/agents", agent_body(name));
                let made = text(&repeated.data(201), "id");
                if let Some((id, _)) = found {
                    assert_eq!(&made, id, "made twice: {name}");
                    tally.found += 1;
                } else {
                    tally.gone += 1;
                }
                sent.id = Some(made);
            }
            let is_there = found.is_some() || !was_known;
            sent.end = None;
            is_there
        });
        tally.acknowledged = agents.len();
        tally
    }

    fn check_lookups(&mut self, server: &Server) -> Tally {
        let api = server.api(&self.token);
        let routed = self.ledger.routed.get_mut().unwrap();
        let mut tally = Tally::default();
        for (sid, answer) in routed.iter_mut() {
            // The caller of an earlier question does not matter: the first decision stands.
            let question = json!({"to": DIALED, "from": "+5521999990000", "sid": sid});
            let again = api.post("/api/v1/route", question).data(200);
            match answer {
                Some(answer) => {
                    tally.acknowledged += 1;
                    assert_eq!(*answer, again, "another decision on {sid}");
                }
                None if again["outcome"] == "callback" => tally.found += 1,
                None => tally.gone += 1,
            }
        }
        let least = self.callbacks + tally.acknowledged as u64;
        let invited = self.ledger.invited.get_mut().unwrap();
        let most = self.callbacks + (routed.len() + invited.len()) as u64;
        routed.clear();
        invited.clear();
        let statistics = api.get("/api/v1/callback-agents/stats").data(200);
        let total = statistics["total_callbacks_received"].as_u64().unwrap();
        let rows = statistics["callbacks_by_source_agent"].as_array().unwrap();
        let sum: u64 = rows.iter().map(|row| row["count"].as_u64().unwrap()).sum();
        assert_eq!(total, sum, "{statistics}");
        // Lookups that were sent and not found are counted now, by another rung.
        assert!(
            (least..=most).contains(&total),
            "{least} to {most} callbacks, counted {total}"
        );
        self.callbacks = total;
        tally
    }
}

/// The clients between a start and a kill.
struct Round<'a> {
    load: &'a MixedLoad,
    server: &'a Server,
    /// How many things were acknowledged.
    acknowledged: AtomicUsize,
    /// After how many the server is killed.
    limit: usize,
    /// Whether it was.
    is_over: AtomicBool,
}

impl Round<'_> {
    /// Whether the clients go on.
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Counts what was acknowledged; the last one kills the server, in the middle of what the others do.
    fn count(&self, acknowledged: usize) {
        let before = self.acknowledged.fetch_add(acknowledged, Ordering::Relaxed);
        if before + acknowledged >= self.limit && !self.is_over.swap(true, Ordering::Relaxed) {
            self.server.signal("KILL");
        }
    }

    /// Sends a request; `None`: the server is gone.
    fn attempt(&self, api: &Api, method: &str, path: &str, body: Option<Value>) -> Option<Reply> {
        let reply = api.attempt(method, path, body);
        if reply.is_none() {
            self.is_over.store(true, Ordering::Relaxed);
        }
        reply
    }

    /// A client of the API with connections of its own.
    fn api(&self) -> Api {
        self.server.api(&self.load.token)
    }

    fn record_calls(&self) {
        let api = self.api();
        while self.goes_on() {
            let body = self.load.call_body(&self.load.contact(), "call");
            let sid = text(&body, "sid");
            if let Some(reply) = self.attempt(&api, "POST", "/api/v1/calls", Some(body)) {
                assert_eq!(reply.status, 201, "{}", reply.body);
                self.load.acknowledge([sid.as_str()]);
                self.count(1);
            }
        }
    }

    fn record_batches(&self) {
        let api = self.api();
        while self.goes_on() {
            let (mut lines, mut sids) = (String::new(), Vec::new());
            for _ in 0..BATCH {
                let body = self.load.call_body(&self.load.contact(), "batch");
                sids.push(text(&body, "sid"));
                let _infallible = writeln!(lines, "{body}");
            }
            if let Some(reply) = api.batch(&lines) {
                assert_eq!(reply.data(200)["accepted"], BATCH, "{}", reply.body);
                self.load.acknowledge(sids.iter().map(String::as_str));
                self.count(BATCH);
            }
        }
    }

    fn configure(&self) {
        let api = self.api();
        let agents = &self.load.ledger.agents;
        while self.goes_on() {
            let name = format!("agent {}", Uuid::new_v4());
            let body = agent_body(&name);
            let first = SentAgent {
                labels: vec![text(&body, "label")],
                ..SentAgent::default()
            };
            agents.lock().unwrap().insert(name.clone(), first);
            let made = self.attempt(&api.keyed(&name), "POST", "/api/v1/agents", Some(body));
            let Some(made) = made else { return };
            let path = format!("/api/v1/agents/{}", text(&made.data(201), "id"));
            let change = |change: &dyn Fn(&mut SentAgent)| {
                change(agents.lock().unwrap().get_mut(&name).unwrap());
            };
            change(&|agent| agent.id = Some(text(&made.data(201), "id")));
            self.count(1);
            for label in ["second", "third"] {
                change(&|agent| agent.labels.push(label.to_owned()));
                let patch = json!({"label": label});
                let Some(reply) = self.attempt(&api, "PATCH", &path, Some(patch)) else {
                    return;
                };
                assert_eq!(reply.status, 200, "{}", reply.body);
                change(&|agent| agent.labels = vec![label.to_owned()]);
                self.count(1);
            }
            if random(2) == 0 {
                change(&|agent| agent.end = Some(false));
                let Some(reply) = self.attempt(&api, "DELETE", &path, None) else {
                    return;
                };
                assert_eq!(reply.status, 200, "{}", reply.body);
                change(&|agent| agent.end = Some(true));
                self.count(1);
            }
        }
    }

    fn erase(&self) {
        let api = self.api();
        let erased = &self.load.ledger.erased;
        while self.goes_on() {
            let contact = self.load.contact();
            let body = self.load.call_body(&contact, "erased");
            let sid = text(&body, "sid");
            let Some(reply) = self.attempt(&api, "POST", "/api/v1/calls", Some(body)) else {
                return;
            };
            assert_eq!(reply.status, 201, "{}", reply.body);
            self.load.acknowledge([sid.as_str()]);
            erased.lock().unwrap().insert(contact.clone(), false);
            let path = format!("/api/v1/contacts/{}", contact.replace('+', "%2B"));
            let Some(reply) = self.attempt(&api, "DELETE", &path, None) else {
                return;
            };
            assert_eq!(reply.status, 200, "{}", reply.body);
            erased.lock().unwrap().insert(contact, true);
            self.count(2);
        }
    }

    fn look_up(&self) {
        let api = self.api();
        let routed = &self.load.ledger.routed;
        while self.goes_on() {
            let sid = Uuid::new_v4().to_string();
            routed.lock().unwrap().insert(sid.clone(), None);
            let question = json!({"to": DIALED, "from": FIRST, "sid": sid});
            let Some(reply) = self.attempt(&api, "POST", "/api/v1/route", Some(question)) else {
                return;
            };
            let data = reply.data(200);
            assert_eq!(data["outcome"], "callback", "{data}");
            routed.lock().unwrap().insert(sid, Some(data));
            self.count(1);
        }
    }

    fn invite(&self) {
        let peer = SipPeer::new(self.server.address("sip_udp"));
        while self.goes_on() {
            // One that returns a call.
            let call_id = Uuid::new_v4().to_string();
            let invited = &self.load.ledger.invited;
            invited.lock().unwrap().insert(call_id.clone());
            peer.send(&peer.invite_text(DIALED, FIRST, &call_id));
            if let Some(reply) = peer.receive()
                && reply.status == 302
            {
                assert_eq!(reply.contacts(), ["sip:taker@192.0.2.1"], "{}", reply.text);
            }
            // One from which a call is learned. Nobody is told that it is kept.
            let contact = self.load.contact();
            let call_id = format!("{}-learned-{contact}", self.load.rounds);
            self.load.sent(&call_id, &contact);
            peer.send(&self.outbound(&peer.invite_text(&contact, DIALED, &call_id)));
            let _reply = peer.receive();
        }
    }

    fn mirror(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.server.address("hep")).unwrap();
        let peer = SipPeer::new(self.server.address("sip_udp"));
        let mut sent = 0;
        while self.goes_on() {
            // No more than others do: nobody answers, so nothing else holds this client back.
            if sent > self.acknowledged.load(Ordering::Relaxed) {
                thread::yield_now();
                continue;
            }
            sent += 1;
            let contact = self.load.contact();
            let call_id = format!("{}-mirrored-{contact}", self.load.rounds);
            self.load.sent(&call_id, &contact);
            let invite = self.outbound(&peer.invite_text(&contact, DIALED, &call_id));
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let seconds = u32::try_from(now.as_secs()).unwrap();
            // The server may be gone.
            let _refused = socket.send(&hep_packet(invite.as_bytes(), seconds));
        }
    }

    /// An INVITE that names the agent that calls.
    fn outbound(&self, invite: &str) -> String {
        let name = format!("X-Ringback-Agent: {}\r\nMax-Forwards", self.load.source);
        invite.replacen("Max-Forwards", &name, 1)
    }
}

/// An agent as the API takes it.
fn agent_body(name: &str) -> Value {
    json!({"name": name, "label": "first", "direction": "outbound"})
}

/// A text field of an object.
fn text(object: &Value, key: &str) -> String {
    let text = object[key].as_str();
    text.unwrap_or_else(|| panic!("no {key} in {object}"))
        .to_owned()
}

/// The contact of the first call, who calls back.
const FIRST: &str = "+5511900000000";

/// How many calls there are in a batch.
const BATCH: usize = 20;
