//! What was acknowledged outlives the process, and the first reply after a start is right.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use ringback_testkit::{Api, Server, ServerBuilder, SipPeer};
use serde_json::json;
use uuid::Uuid;

use crate::{BINARY, contact};

/// Two campaigns on one number, each with an agent that takes the returning calls.
struct Campaigns {
    /// The environment's API.
    api: Api,
    /// The outbound agents.
    sources: [String; 2],
}

impl Campaigns {
    /// Makes them.
    fn make(server: &Server) -> Self {
        let api = server.environment(json!({"name": "acme"}));
        let number = api.number(DIALED);
        let sources = ["a", "b"].map(|name| {
            let names = ["source", "taker"].map(|kind| format!("{kind} {name}"));
            let names = names.each_ref().map(String::as_str);
            let target = format!("sip:{name}@192.0.2.1");
            let [source, _] = api.callback_pair(names, &number, &target);
            source
        });
        Self { api, sources }
    }

    /// Calls, one to each contact, as lines of a batch.
    fn lines(&self, places: std::ops::Range<usize>) -> String {
        let mut lines = String::new();
        for index in places {
            let _infallible = writeln!(
                lines,
                "{{\"sid\":\"s{index}\",\"agent_id\":\"{}\",\"to\":\"{}\",\"from\":\"{DIALED}\"}}",
                self.sources[index % 2],
                contact(index),
            );
        }
        lines
    }
}

/// Where the contact's call must go.
fn target(index: usize) -> &'static str {
    ["sip:a@192.0.2.1", "sip:b@192.0.2.1"][index % 2]
}

/// A number from 0 to `limit`, another in every run.
fn random(limit: usize) -> usize {
    usize::try_from(Uuid::new_v4().as_u128() % limit as u128).unwrap()
}

#[test]
fn acknowledged_calls_survive_kill_while_invites_arrive() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let start = || ServerBuilder::new(BINARY).data_dir(&data_dir).start();
    let mut server = start();
    let campaigns = Campaigns::make(&server);
    let kill_after = CALLS / 10 + random(CALLS * 8 / 10);
    eprintln!("killed after {kill_after} acknowledged calls");

    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let count = Arc::new(AtomicUsize::new(0));
    let next = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // A connection of its own.
                let api = server.api(campaigns.api.token());
                loop {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    if first >= CALLS {
                        return;
                    }
                    let lines = campaigns.lines(first..first + BATCH);
                    let Some(reply) = api.batch(&lines) else {
                        return;
                    };
                    let data = reply.data(200);
                    assert_eq!(data["accepted"], BATCH, "{data}");
                    acknowledged.lock().unwrap().push(first);
                    if count.fetch_add(BATCH, Ordering::Relaxed) + BATCH >= kill_after
                        && !ended.swap(true, Ordering::Relaxed)
                    {
                        let pid = server.id().to_string();
                        let killed = std::process::Command::new("kill")
                            .args(["-9", &pid])
                            .status();
                        assert!(killed.unwrap().success());
                    }
                }
            });
        }
        scope.spawn(|| {
            let peer = SipPeer::new(server.address("sip_udp"));
            while !ended.load(Ordering::Relaxed) {
                let batch = acknowledged.lock().unwrap().last().copied();
                let Some(first) = batch else { continue };
                let call_id = Uuid::new_v4().to_string();
                let index = first + random(BATCH);
                peer.send(&peer.invite_text(DIALED, &contact(index), &call_id));
                // The server may be killed in between, or too busy for this one; what comes late is the reply
                // to one before.
                let mut replies = std::iter::from_fn(|| peer.receive());
                let reply = replies.find(|reply| reply.header("call-id") == call_id);
                if let Some(reply) = reply.filter(|reply| reply.status != 503) {
                    assert_eq!(reply.contacts(), [target(index)], "{}", reply.text);
                }
            }
        });
    });
    server.kill();

    let server = start();
    let api = server.api(campaigns.api.token());
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() * BATCH >= kill_after);
    let peer = SipPeer::new(server.address("sip_udp"));
    for first in acknowledged.iter() {
        let index = first + random(BATCH);
        let reply = peer.invite_until_served(DIALED, &contact(index));
        assert_eq!(reply.contacts(), [target(index)], "{}", reply.text);
        // A known call does not change its time: each of them is rejected, none is new.
        let lines = campaigns.lines(*first..first + BATCH);
        let other_time = lines.replace(
            "{\"sid\"",
            "{\"started_at\":\"2020-01-01T00:00:00Z\",\"sid\"",
        );
        let data = api.batch(&other_time).unwrap().data(200);
        assert_eq!(
            data["rejected"], BATCH,
            "acknowledged calls are lost: {data}"
        );
    }
}

/// Counters follow from calls that become durable within a second, and are brought up to them in pieces: a crash
/// takes the latest calls, and neither counts one twice nor loses one that is known.
#[test]
fn a_callback_counts_once_whenever_the_server_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let start = || ServerBuilder::new(BINARY).data_dir(&data_dir).start();
    let mut server = start();
    let campaigns = Campaigns::make(&server);
    assert_eq!(
        campaigns.api.batch(&campaigns.lines(0..2)).unwrap().status,
        200
    );
    let token = campaigns.api.token();
    let received = |server: &Server| {
        let statistics = server.api(token).get("/api/v1/callback-agents/stats");
        let statistics = statistics.data(200);
        let rows = statistics["callbacks_by_source_agent"].as_array().unwrap();
        let sum: u64 = rows.iter().map(|row| row["count"].as_u64().unwrap()).sum();
        let total = statistics["total_callbacks_received"].as_u64().unwrap();
        assert_eq!(sum, total, "{statistics}");
        (total, statistics["callbacks_answered"].as_u64().unwrap())
    };
    // Places a call, as long as the server is there; true if it was routed.
    let route = |peer: &SipPeer, call_id: &str| {
        peer.send(&peer.invite_text(DIALED, &contact(0), call_id));
        let mut replies = std::iter::from_fn(|| peer.receive());
        let reply = replies.find(|reply| reply.header("call-id") == call_id);
        reply.is_some_and(|reply| reply.status == 302)
    };
    let mut placed: Vec<String> = Vec::new();
    let mut known = 0;
    for round in 0..KILLED {
        let peer = SipPeer::new(server.address("sip_udp"));
        let calls = placed.len() + 50 + random(600);
        eprintln!("round {round}: killed after {calls} calls");
        // What is asked over HTTP is durable when it is answered, and all that was routed before it, too.
        let asked_behind = placed.len() + 25;
        while placed.len() < calls {
            if round % 2 == 1 && placed.len() == asked_behind {
                let sid = format!("{round}-asked");
                let question = json!({"to": DIALED, "from": contact(0), "sid": sid});
                let decided = server.api(token).post("/api/v1/route", question);
                assert_eq!(decided.data(200)["outcome"], "callback");
                placed.push(sid);
            }
            let call_id = format!("{round}-{}", placed.len());
            if route(&peer, &call_id) {
                placed.push(call_id);
            }
        }
        let before = received(&server);
        server.kill();
        server = start();
        let after = received(&server);
        assert!(
            after.0 <= before.0 && after.1 <= before.1,
            "{before:?} {after:?}"
        );
        // Which calls are known is told by whether they can be answered; each answer counts once, too.
        let api = server.api(token);
        let answered = placed.iter().filter(|call_id| {
            let path = format!("/api/v1/routed-calls/{call_id}/answered");
            let status = api.post(&path, json!({})).status;
            assert!(status == 200 || status == 404, "{status}");
            status == 200
        });
        let count = answered.count() as u64;
        assert_eq!(received(&server), (count, count), "of {known} known before");
        assert!(count >= known, "what was answered is durable");
        known = count;
    }
    // Sent again, the known ones count no more, and the others do.
    let peer = SipPeer::new(server.address("sip_udp"));
    for call_id in &placed {
        while !route(&peer, call_id) {}
    }
    assert_eq!(received(&server), (placed.len() as u64, known));
    assert!(known > 25, "what was durable is known");
}

#[test]
fn first_reply_after_a_start_with_a_million_contacts_is_right() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let start = || ServerBuilder::new(BINARY).data_dir(&data_dir).start();
    let mut server = start();
    let campaigns = Campaigns::make(&server);
    let begun = Instant::now();
    thread::scope(|scope| {
        for part in 0..4 {
            let (server, campaigns) = (&server, &campaigns);
            scope.spawn(move || {
                let api = server.api(campaigns.api.token());
                let share = CONTACTS / 4;
                for first in (part * share..(part + 1) * share).step_by(10_000) {
                    let lines = campaigns.lines(first..first + 10_000);
                    let data = api.batch(&lines).unwrap().data(200);
                    assert_eq!(data["accepted"], 10_000, "{data}");
                }
            });
        }
    });
    eprintln!("{CONTACTS} calls recorded in {:?}", begun.elapsed());
    for _ in 0..3 {
        server.kill();
        let begun = Instant::now();
        server = start();
        let peer = SipPeer::new(server.address("sip_udp"));
        let index = random(CONTACTS);
        let reply = peer.invite_until_served(DIALED, &contact(index));
        eprintln!("ready and answered after {:?}", begun.elapsed());
        assert_eq!(reply.contacts(), [target(index)], "{}", reply.text);
        assert_eq!(
            reply.header("X-Ringback-Reason"),
            "returned_call_same_number"
        );
        let stranger = peer.invite_until_served(DIALED, "+5521988887777");
        assert_eq!(stranger.header("X-Ringback-Reason"), "caller_never_called");
    }
}

/// The number that both campaigns call from.
const DIALED: &str = "+551130000000";

/// How many calls are recorded until the server is killed.
const CALLS: usize = 200_000;

/// How often the server is killed while callbacks come in.
const KILLED: usize = 6;

/// How many calls there are in one request.
const BATCH: usize = 250;

/// How many contacts there are.
const CONTACTS: usize = 1_000_000;
