//! Three nodes on three NATS servers: what one takes, all route; and what is killed loses nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringback_testkit::{Api, NatsServers, Server, ServerBuilder, SipPeer};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{BINARY, client, ringback};

/// Nodes, and the servers that keep their log.
struct World {
    /// The servers.
    nats: NatsServers,
    /// Where nodes have their data.
    scratch: TempDir,
    /// What nodes have to say under `[cluster]` besides.
    extra: &'static str,
}

impl World {
    /// So many servers.
    fn new(servers: usize, extra: &'static str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let secret = scratch.path().join("secret");
        fs::write(&secret, "only for the tests of this program: 32 bytes").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        Self {
            nats: NatsServers::start(servers),
            scratch,
            extra,
        }
    }

    /// The configuration of a node.
    fn config(&self, node: &str) -> String {
        format!(
            "[cluster]\nnode = \"{node}\"\nservers = {:?}\nmonitor = {:?}\nsecret-file = {:?}\nretain-bytes = 268435456\n{}\n",
            self.nats.urls(),
            self.nats.monitors(),
            self.scratch.path().join("secret"),
            self.extra,
        )
    }

    /// A node that is to be started.
    fn node(&self, node: &str) -> ServerBuilder {
        ServerBuilder::new(BINARY)
            .data_dir(self.scratch.path().join(node))
            .config(self.config(node))
    }

    /// A node that runs.
    fn start(&self, node: &str) -> Server {
        self.node(node).start()
    }
}

/// Waits until a value is there.
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: not after {LIMIT:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a node says of its cluster.
fn cluster(node: &Server) -> Value {
    node.admin().get("/api/v1/cluster").data(200)
}

/// Where a node sends a returning call; none if it does not know one.
fn target(node: &Server, token: &str, contact: &str) -> Option<String> {
    let contact = contact.trim_start_matches('+');
    let path = format!("/api/v1/route?to=%2B{}&from=%2B{contact}", &DIALED[1..]);
    let reply = node.api(token).get(&path);
    if reply.status != 200 || reply.body["data"]["outcome"] != "callback" {
        return None;
    }
    reply.body["data"]["targets"][0]["uri"]
        .as_str()
        .map(str::to_owned)
}

/// An environment with an agent whose calls come back to another one; its API at this node, and the agent.
fn campaign(node: &Server) -> (Api, String) {
    let api = node.environment(json!({"name": "acme"}));
    let number = api.number(DIALED);
    let source = api.agent("source", "outbound", &[&number], "");
    let taker = api.agent("taker", "inbound", &[&number], "sip:taker@192.0.2.1");
    let path = format!("/api/v1/agents/{taker}/callback");
    assert_eq!(
        api.post(&path, json!({"source_agent_ids": [source]}))
            .status,
        200
    );
    (api, source)
}

/// The contact with this number.
fn contact(index: u64) -> String {
    format!("+5511{:09}", 900_000_000 + index)
}

/// Records calls at a node, one after the other, until told to stop; returns the contacts of which it was
/// acknowledged.
fn record(api: &Api, source: &str, first: u64, stop: &AtomicBool) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for index in first.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let line = format!(
            "{{\"sid\":\"s{index}\",\"agent_id\":\"{source}\",\"to\":\"{}\",\"from\":\"{DIALED}\"}}\n",
            contact(index)
        );
        match api.batch(&line) {
            Some(reply) if reply.status == 200 => acknowledged.push(index),
            // Not confirmed, or the node is gone. Others never come first twenty times.
            Some(reply) => assert_eq!(reply.status, 503, "{}", reply.body),
            None => break,
        }
    }
    acknowledged
}

#[test]
fn what_one_node_takes_is_routed_by_all_and_outlives_killed_nodes_and_servers() {
    let mut world = World::new(3, "");
    let mut nodes = ["a", "b", "c"].map(|node| world.start(node));
    let (api, source) = campaign(&nodes[0]);
    let token = api.token();
    // A token made on one node opens the others.
    for node in &nodes {
        wait("the token", || {
            (node.api(token).get("/api/v1/agents").status == 200).then_some(())
        });
    }
    let recorded = nodes[1].api(token).post(
        "/api/v1/calls",
        json!({"sid": "first", "agent_id": source, "to": contact(0), "from": DIALED}),
    );
    assert_eq!(recorded.status, 201, "{}", recorded.body);
    for node in &nodes {
        let found = wait("the call", || target(node, token, &contact(0)));
        assert_eq!(found, "sip:taker@192.0.2.1");
    }
    // A number belongs to one owner, whichever node is asked.
    let other = nodes[2].environment(json!({"name": "other"}));
    let taken = other.post("/api/v1/phone-numbers", json!({"number": DIALED}));
    assert_eq!(
        (taken.status, &taken.body["code"]),
        (409, &json!("NUMBER_ALREADY_EXISTS"))
    );

    let stop = AtomicBool::new(false);
    let acknowledged: Vec<u64> = thread::scope(|scope| {
        let (stop, source) = (&stop, source.as_str());
        let recorders: Vec<_> = nodes
            .iter()
            .zip(0..)
            .map(|(node, index)| {
                let api = node.api(token);
                scope.spawn(move || record(&api, source, 1_000_000 * (index + 1), stop))
            })
            .collect();
        let applied = |node: &Server| cluster(node)["stream"]["last_sequence"].as_u64();
        let grow = |node: &Server| {
            let before = wait("the stream", || applied(node));
            wait("more of the log", || {
                applied(node).filter(|now| *now > before + 10)
            });
        };
        grow(&nodes[0]);
        let leader = cluster(&nodes[0])["stream"]["leader"].clone();
        let leader = world.nats.named(leader.as_str().unwrap());
        world.nats.kill(leader);
        grow(&nodes[0]);
        world.nats.restart(leader);
        // A node: its recorder ends with it.
        nodes[2].signal("KILL");
        grow(&nodes[0]);
        stop.store(true, Ordering::Relaxed);
        recorders
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    eprintln!("{} calls acknowledged", acknowledged.len());
    let _killed = nodes[2].wait();
    nodes[2] = world.start("c");
    // And one that has never been there.
    let new = world.start("d");
    for node in nodes.iter().chain([&new]) {
        for index in &acknowledged {
            let path = format!("/api/v1/contacts/%2B{}", &contact(*index)[1..]);
            let found = wait("an acknowledged call", || {
                let reply = node.api(token).get(&path);
                (reply.status == 200).then_some(reply.body)
            });
            assert_eq!(
                found["data"]["calls"].as_array().map(Vec::len),
                Some(1),
                "{found}"
            );
        }
    }
    let status = wait("all nodes", || {
        let status = cluster(&nodes[0]);
        let nodes = status["nodes"].as_array().unwrap();
        let is_whole = nodes.len() == 4 && nodes.iter().all(|node| node["state"] == "current");
        (is_whole && status["agree"] == true).then_some(status)
    });
    assert_eq!(status["durability"], json!({"ok": true, "problems": []}));
    let shown = client(&nodes[1], &nodes[1].admin_token(), &["cluster", "status"]);
    assert!(
        shown.success().contains("RINGBACK_ringback"),
        "{}",
        shown.stdout
    );
    let ready = nodes[0].admin().get("/readyz");
    assert_eq!(
        (ready.status, &ready.body["cluster"]),
        (200, &json!("current"))
    );
    for node in &mut nodes {
        assert_eq!(node.stop().code, Some(0));
    }
}

/// Without NATS a node routes what it knows, says so, takes no changes, starts again, and goes on by itself.
#[test]
fn a_node_without_nats_routes_and_refuses_changes() {
    let mut world = World::new(
        1,
        "replicas = 1\ninsecure-durability = true\nwrite-wait = 1",
    );
    let mut node = world.start("a");
    let (api, source) = campaign(&node);
    let token = api.token().to_owned();
    let call = |api: &Api, index: u64| {
        let body = json!({"sid": format!("s{index}"), "agent_id": source, "to": contact(index), "from": DIALED});
        api.post("/api/v1/calls", body)
    };
    assert_eq!(call(&api, 1).status, 201);
    world.nats.kill(0);
    let refused = call(&api, 2);
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (503, &json!("CLUSTER_UNAVAILABLE"))
    );
    assert!(target(&node, &token, &contact(1)).is_some());
    let unreachable = |node: &Server| {
        wait("to be unreachable", || {
            let ready = node.admin().get("/readyz");
            (ready.body["cluster"] == "unreachable").then_some(ready)
        })
    };
    assert_eq!(unreachable(&node).status, 200);
    assert_eq!(node.stop().code, Some(0));
    node = world.start("a");
    assert_eq!(unreachable(&node).status, 200);
    assert!(target(&node, &token, &contact(1)).is_some());
    world.nats.restart(0);
    let api = node.api(&token);
    wait("the log", || (call(&api, 3).status == 201).then_some(()));
    assert!(target(&node, &token, &contact(3)).is_some());
    assert_eq!(node.stop().code, Some(0));
    // Without a cluster the data belong to the server alone, and to no cluster any more.
    let data = world.scratch.path().join("a");
    let mut alone = ServerBuilder::new(BINARY).data_dir(&data).start();
    assert!(target(&alone, &token, &contact(1)).is_some());
    assert_eq!(alone.stop().code, Some(0));
    let refused = world
        .node("a")
        .try_start()
        .expect_err("it has data of its own");
    assert_eq!(refused.code, Some(78));
    assert!(
        refused.stderr.contains("DATA_NOT_OF_THIS_CLUSTER"),
        "{}",
        refused.stderr
    );
}

/// One server and a log that keeps what it has for a second.
const SHORT: &str = "replicas = 1\ninsecure-durability = true\nretain = \"1s\"";

/// Entries that are sent ahead to a node that does not read them end before this one: its consumer asks for some
/// hundred at a time.
const MORE_THAN_SENT: u64 = 800;

/// Records a call, and has it acknowledged.
fn put(api: &Api, source: &str, index: u64) {
    let body = json!({"sid": format!("s{index}"), "agent_id": source, "to": contact(index), "from": DIALED});
    let reply = api.post("/api/v1/calls", body);
    assert_eq!(reply.status, 201, "{}", reply.body);
}

/// Waits until the log has lost what it had when this was called.
fn wait_until_trimmed(node: &Server) {
    let last = cluster(node)["stream"]["last_sequence"].as_u64();
    wait("trimming", || {
        let first = cluster(node)["stream"]["first_sequence"].as_u64();
        (first > last).then_some(())
    });
}

/// Waits until a node routes calls of these contacts.
fn wait_for_contacts(node: &Server, token: &str, contacts: impl Iterator<Item = u64>) {
    for index in contacts {
        wait("a contact", || target(node, token, &contact(index)));
    }
}

/// The log forgets, nodes do not: a new one, one that was away and one that stood still for too long take the state
/// of another.
#[test]
fn nodes_become_current_from_another_one_where_the_log_was_trimmed() {
    let world = World::new(1, SHORT);
    let a = world.start("a");
    let (api, source) = campaign(&a);
    let token = api.token();
    let mut b = world.start("b");
    let stopped = world.start("stopped");
    (0..5).for_each(|index| put(&api, &source, index));
    wait_for_contacts(&b, token, 0..5);
    wait_for_contacts(&stopped, token, 0..5);
    assert_eq!(b.stop().code, Some(0));
    stopped.signal("STOP");
    (5..10).for_each(|index| put(&api, &source, index));
    // More than the servers have sent to the node that stands still.
    (100..MORE_THAN_SENT).for_each(|index| put(&api, &source, index));
    wait_until_trimmed(&a);
    let b = world.start("b");
    let c = world.start("c");
    wait_for_contacts(&b, token, 0..10);
    wait_for_contacts(&c, token, 0..10);
    // What comes later reaches them through the log.
    put(&b.api(token), &source, 10);
    wait_for_contacts(&c, token, 10..11);
    // This one starts again by itself, at another port.
    stopped.signal("CONT");
    let url = wait("the node that stood still", || {
        let status = cluster(&a);
        let nodes = status["nodes"].as_array().unwrap();
        let node = nodes.iter().find(|node| node["node"] == "stopped")?;
        let is_back =
            node["state"] == "current" && node["lag"] == 0 && node["url"] != json!(stopped.url());
        is_back.then(|| node["url"].as_str().unwrap().to_owned())
    });
    let api = Api::new(&url, token);
    for index in (0..11).chain([100, MORE_THAN_SENT - 1]) {
        let path = format!("/api/v1/contacts/%2B{}", &contact(index)[1..]);
        assert_eq!(api.get(&path).status, 200);
    }
    // Nobody else gets a snapshot.
    assert_eq!(a.admin().get("/api/v1/cluster/snapshot").status, 401);
}

/// One server, and nodes that learn from whoever is on this machine.
const LEARNING: &str = r#"replicas = 1
insecure-durability = true
write-wait = 1
[[sip.peers]]
name = "pbx"
address = ["127.0.0.1/32"]
learn = true
next-hop = "sip:gw.example.net"
"#;

/// What a node sees while NATS is away counts at once, outlives its crash, and is in the log once NATS is back, once.
#[test]
fn what_was_seen_without_nats_outlives_a_crash_and_counts_once() {
    let mut world = World::new(1, LEARNING);
    let a = world.start("a");
    let (api, source) = campaign(&a);
    let token = api.token().to_owned();
    let b = world.start("b");
    wait("the token", || {
        (b.api(&token).get("/api/v1/agents").status == 200).then_some(())
    });
    world.nats.kill(0);
    wait("to be away", || {
        let status = cluster(&a);
        (status["connected"] == false).then_some(())
    });
    let peer = SipPeer::new(a.address("sip_udp"));
    let invite = peer.invite_text(&contact(1), DIALED, "out-1").replace(
        "Max-Forwards",
        &format!("X-Ringback-Agent: {source}\r\nMax-Forwards"),
    );
    assert_eq!(peer.exchange(&invite, "out-1").status, 302);
    assert!(
        target(&a, &token, &contact(1)).is_some(),
        "it counts at once"
    );
    let question = json!({"to": DIALED, "from": contact(1), "sid": "in-1"});
    let routed = api.post("/api/v1/route", question.clone());
    assert_eq!(routed.status, 200, "{}", routed.body);
    assert_eq!(routed.body["data"]["outcome"], "callback");
    // The same call is the same one, and other changes are not taken.
    let again = api.post("/api/v1/route", question);
    assert_eq!((again.status, &again.body), (200, &routed.body));
    let answered = api.post("/api/v1/routed-calls/in-1/answered", json!({}));
    assert_eq!(answered.status, 200, "{}", answered.body);
    let refused = api.post("/api/v1/phone-numbers", json!({"number": "+551130000001"}));
    assert_eq!(refused.status, 503, "{}", refused.body);
    let received = |node: &Server| {
        let path = "/api/v1/callback-agents/stats";
        let stats = node.api(&token).get(path).data(200);
        (
            stats["total_callbacks_received"].as_u64(),
            stats["callbacks_answered"].as_u64(),
        )
    };
    assert_eq!(received(&a), (Some(1), Some(1)));
    let outbox = world.scratch.path().join("a/outbox");
    let length = || fs::metadata(&outbox).unwrap().len();
    let kept = fs::read(&outbox).unwrap();
    wait("the learned call to be kept", || {
        let kept = fs::read(&outbox).unwrap();
        kept.windows(5).any(|bytes| bytes == b"out-1").then_some(())
    });
    assert!(kept.len() > 4, "a call that was answered for is on disk");
    a.signal("KILL");
    drop(a);
    let a = world.start("a");
    wait("the learned call", || target(&a, &token, &contact(1)));
    assert_eq!(received(&a), (Some(1), Some(1)));
    assert_eq!(received(&b), (Some(0), Some(0)));
    world.nats.restart(0);
    wait("the learned call", || target(&b, &token, &contact(1)));
    wait("the counts", || {
        (received(&b) == (Some(1), Some(1))).then_some(())
    });
    wait("an empty outbox", || (length() == 4).then_some(()));
    assert_eq!(received(&a), (Some(1), Some(1)));
    // Nothing comes twice.
    put(&a.api(&token), &source, 2);
    wait_for_contacts(&b, &token, 2..3);
    assert_eq!(received(&b), (Some(1), Some(1)));
}

/// The API of a node that started again by itself, at another port, as another node has heard.
fn api_of(asked: &Server, node: &str, token: &str) -> Api {
    let url = wait("the node", || {
        let status = cluster(asked);
        let nodes = status["nodes"].as_array().unwrap();
        let found = nodes.iter().find(|found| found["node"] == node)?;
        let is_current = found["state"] == "current" && found["lag"] == 0;
        is_current.then(|| found["url"].as_str().unwrap().to_owned())
    });
    Api::new(&url, token)
}

/// The log is gone with its server: nodes say so, route and refuse changes, until somebody has it made anew from what
/// one of them has. A node that will not return can be forgotten.
#[test]
fn a_log_that_is_gone_is_made_anew_from_what_a_node_has() {
    let mut world = World::new(1, "replicas = 1\ninsecure-durability = true");
    let a = world.start("a");
    let (api, source) = campaign(&a);
    let token = api.token().to_owned();
    let b = world.start("b");
    (0..5).for_each(|index| put(&api, &source, index));
    wait_for_contacts(&b, &token, 0..5);
    let nothing = client(&a, &a.admin_token(), &["cluster", "recover"]);
    assert!(
        nothing.stderr.contains("LOG_IS_WHOLE"),
        "{}",
        nothing.stderr
    );
    world.nats.kill(0);
    world.nats.erase(0);
    world.nats.restart(0);
    for node in [&a, &b] {
        wait("to be diverged", || {
            let ready = node.admin().get("/readyz");
            (ready.body["cluster"] == "diverged").then_some(())
        });
        assert!(target(node, &token, &contact(1)).is_some());
    }
    assert_eq!(
        api.post("/api/v1/phone-numbers", json!({"number": "+551130000001"}))
            .status,
        503
    );
    let refused = world
        .node("c")
        .try_start()
        .expect_err("it would found another");
    assert_eq!(refused.code, Some(78));
    assert!(
        refused.stderr.contains("recover it first"),
        "{}",
        refused.stderr
    );
    let admin = b.admin_token();
    let shown = client(&b, &admin, &["cluster", "recover"]);
    assert!(
        shown.success().contains("Nothing was changed"),
        "{}",
        shown.stdout
    );
    client(&b, &admin, &["cluster", "recover", "--from", "a", "--yes"]).success();
    let _restarts = a.logged("starting again, at another place of the log");
    // A new node reads what there was and what comes.
    let mut c = wait("a new node", || world.node("c").try_start().ok());
    wait_for_contacts(&c, &token, 0..5);
    put(&c.api(&token), &source, 5);
    for node in ["a", "b"] {
        let api = api_of(&c, node, &token);
        for index in 0..6 {
            let path = format!("/api/v1/contacts/%2B{}", &contact(index)[1..]);
            wait("the contact", || {
                (api.get(&path).status == 200).then_some(())
            });
        }
    }
    let noted = c.admin().get("/api/v1/audit?type=cluster").data(200);
    assert_eq!(noted[0]["action"], "recover", "{noted}");
    let refused = client(&c, &c.admin_token(), &["cluster", "forget", "a"]);
    assert!(
        refused.stderr.contains("NODE_IS_CURRENT"),
        "{}",
        refused.stderr
    );
    drop(a);
    let admin = c.admin_token();
    wait("to be forgotten", || {
        (client(&c, &admin, &["cluster", "forget", "a"]).code == Some(0)).then_some(())
    });
    wait("no more of it", || {
        let status = cluster(&c);
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().all(|node| node["node"] != "a").then_some(())
    });
    let twin = world.node("twin").config(world.config("c"));
    let refused = twin.try_start().expect_err("another node has the name");
    assert_eq!(refused.code, Some(78));
    assert!(
        refused.stderr.contains("NODE_NAME_TAKEN"),
        "{}",
        refused.stderr
    );
    assert_eq!(c.stop().code, Some(0));
}

/// A server that has data founds a cluster with them; another one that has data is refused, unless it drops them.
#[test]
fn a_server_with_data_founds_a_cluster_with_them() {
    let world = World::new(1, SHORT);
    let alone = |node: &str| {
        ServerBuilder::new(BINARY)
            .data_dir(world.scratch.path().join(node))
            .start()
    };
    let mut server = alone("a");
    let (api, source) = campaign(&server);
    let token = api.token();
    put(&api, &source, 1);
    assert_eq!(server.stop().code, Some(0));
    let mut other = alone("b");
    campaign(&other);
    assert_eq!(other.stop().code, Some(0));
    let a = world.start("a");
    wait_for_contacts(&a, token, 1..2);
    put(&a.api(token), &source, 2);
    let c = world.start("c");
    wait_for_contacts(&c, token, 1..3);
    let refused = world.node("b").try_start().expect_err("data of its own");
    assert_eq!(refused.code, Some(78));
    assert!(refused.stderr.contains("DATA_NOT_OF_THIS_CLUSTER"));
    let b = world.node("b").arg("--discard-local").start();
    wait_for_contacts(&b, token, 1..3);
    let agents = b.api(token).get("/api/v1/agents").data(200);
    assert_eq!(agents, a.api(token).get("/api/v1/agents").data(200));
}

/// The first start of a node needs the cluster, and says what it lacks.
#[test]
fn a_new_node_is_refused_where_it_could_lose_something() {
    let world = World::new(1, "replicas = 1");
    let refused = world.node("a").try_start().expect_err("one server");
    assert_eq!(refused.code, Some(78));
    assert!(refused.stderr.contains("1 replicas"), "{}", refused.stderr);
    let config = world.scratch.path().join("ringback.toml");
    fs::write(&config, world.config("a")).unwrap();
    let check = |config: &Path| ringback(&["check-config", config.to_str().unwrap()]);
    assert_eq!(check(&config).code, Some(0));
    fs::set_permissions(
        world.scratch.path().join("secret"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let refused = check(&config);
    assert_eq!(refused.code, Some(78));
    assert!(
        refused.stderr.contains("cluster.secret-file"),
        "{}",
        refused.stderr
    );
}

/// The number that is dialed.
const DIALED: &str = "+551130000000";

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);
