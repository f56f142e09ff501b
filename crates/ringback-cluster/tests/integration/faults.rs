//! What servers and nodes do to one another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringback_cluster::{Condition, JoinError};
use ringback_engine::{AppendError, Call, Change, Journal};
use ringback_routing::{AgentId, CallStatus, E164, EnvironmentId, Timestamp};
use ringback_testkit::NatsServers;
use uuid::Uuid;

use crate::support::{Node, NodeJournal, take_all};

/// A call by its number.
fn call(node: usize, number: u64) -> Change {
    Change::CallPut(Call {
        environment: EnvironmentId(Uuid::from_u128(1)),
        sid: format!("{node}-{number}").into(),
        agent: AgentId(Uuid::from_u128(2)),
        contact: E164::from_digits(4_930_000_000_000 + number).expect("digits"),
        from: None,
        status: CallStatus::NoAnswer,
        started_at: Timestamp::from_seconds(1),
    })
}

/// Records calls one after the other, each until it is in the log, until told to stop; returns how many there are.
fn record(journal: &mut NodeJournal, node: usize, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        take_all(journal);
        let mut facts = vec![call(node, number)];
        match journal.append(journal.position(), &mut facts) {
            Ok(_) => number += 1,
            Err(AppendError::Conflict) => {}
            Err(AppendError::Unconfirmed) => {
                while journal.recover().is_err() {
                    thread::sleep(Duration::from_millis(20));
                }
                take_all(journal);
                let archive = journal.archive();
                let sid = format!("{node}-{number}");
                let kept = archive.call(EnvironmentId(Uuid::from_u128(1)), &sid);
                number += u64::from(kept.expect("readable").is_some());
            }
            Err(AppendError::Unreachable) => thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("{error}"),
        }
    }
    take_all(journal);
    number
}

/// Whatever server is killed, the one that leads the stream too: everything that was acknowledged is there, once, on
/// all nodes, in one order.
#[test]
fn killed_servers_lose_nothing_that_was_acknowledged() {
    let mut servers = NatsServers::start(3);
    let mut nodes: Vec<Node> = ["a", "b", "c"]
        .map(|name| Node::new(&servers, name, 3))
        .into();
    let journals: Vec<NodeJournal> = nodes.iter_mut().map(Node::start).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let recording = journals.into_iter().enumerate().map(|(node, mut journal)| {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let recorded = record(&mut journal, node, &stop);
            (journal, recorded)
        })
    });
    let recording: Vec<_> = recording.collect();
    let has_grown = |nodes: &[Node], by: u64| {
        let last = |node: &Node| {
            node.status()
                .stream
                .map_or(0, |stream| stream.last_sequence)
        };
        let before = last(&nodes[0]);
        nodes[0].wait_for(|status| {
            status.condition == Condition::Current
                && status
                    .nodes
                    .iter()
                    .any(|node| node.applied_sequence > before + by)
        });
    };
    has_grown(&nodes, 20);
    for round in 0..3 {
        let leader = nodes[0].wait_for(|status| {
            let stream = status.stream.as_ref();
            stream.is_some_and(|stream| stream.leader.is_some())
        });
        let leader = servers.named(&leader.stream.and_then(|one| one.leader).expect("found"));
        let victim = if round < 2 { leader } else { (leader + 1) % 3 };
        servers.kill(victim);
        has_grown(&nodes, 20);
        servers.restart(victim);
        has_grown(&nodes, 20);
    }
    stop.store(true, Ordering::Relaxed);
    let ended: Vec<_> = recording
        .into_iter()
        .map(|one| one.join().expect("ended"))
        .collect();
    let last = ended.iter().map(|(journal, _)| journal.position()).max();
    let mut places = Vec::new();
    let recorded: Vec<u64> = ended.iter().map(|(_, recorded)| *recorded).collect();
    for (mut journal, _) in ended {
        while Some(journal.position()) < last {
            take_all(&mut journal);
        }
        let archive = journal.archive();
        let mut calls = vec![0; 3];
        archive
            .visit_contacts(0, 1, &mut |_, _, found| {
                for call in found {
                    let node = call
                        .sid
                        .split('-')
                        .next()
                        .and_then(|node| node.parse::<usize>().ok());
                    calls[node.expect("written here")] += 1;
                }
                std::ops::ControlFlow::Continue(())
            })
            .expect("readable");
        assert_eq!(
            calls, recorded,
            "each call that was acknowledged, and no other"
        );
        places.push(archive.place().expect("readable"));
    }
    assert!(
        places.windows(2).all(|pair| pair[0] == pair[1]),
        "{places:?}"
    );
    let status = nodes[1].wait_for(|status| status.agree == Some(true));
    assert_eq!(status.nodes.len(), 3);
    assert_eq!(status.durability_problems, [] as [String; 0]);
}

/// While all servers are away a node has what it has; with them it goes on by itself.
#[test]
fn a_node_goes_on_when_the_servers_come_back() {
    let mut servers = NatsServers::start(1);
    let mut node = Node::new(&servers, "a", 1);
    node.settings.write_wait = Duration::from_millis(300);
    let mut journal = node.start();
    let append = |journal: &mut NodeJournal, number| {
        take_all(journal);
        journal.append(journal.position(), &mut vec![call(0, number)])
    };
    append(&mut journal, 1).expect("appended");
    servers.kill(0);
    node.wait_for(|status| !status.is_connected);
    let refused = append(&mut journal, 2);
    assert!(
        matches!(refused, Err(AppendError::Unreachable)),
        "{refused:?}"
    );
    node.crash(journal);
    // It starts without servers too: it knows its place.
    let mut journal = node.try_start().expect("it has data");
    assert_eq!(node.status().condition, Condition::Unreachable);
    servers.restart(0);
    node.wait_for(|status| status.condition == Condition::Current);
    append(&mut journal, 3).expect("appended");
    node.crash(journal);
}

#[test]
fn servers_that_do_not_sync_are_refused_unless_that_is_wanted() {
    let servers = NatsServers::start_with(1, "sync_interval: 2m");
    let mut node = Node::new(&servers, "a", 1);
    node.settings.insecure_durability = false;
    let refused = node.try_start().map(drop);
    let Err(JoinError::Unsafe(problems)) = refused else {
        panic!("{refused:?}");
    };
    let problems = problems.join("; ");
    assert!(
        problems.contains("server nats-0 acknowledges what it has not synced"),
        "{problems}"
    );
    assert!(problems.contains("1 replicas"), "{problems}");
    node.settings.insecure_durability = true;
    let journal = node.start();
    assert!(
        !node.status().durability_problems.is_empty(),
        "it is still said"
    );
    node.crash(journal);
}

/// Its servers were made anew: the log that this node has read is gone.
#[test]
fn a_stream_that_was_made_anew_stops_the_node() {
    let servers = NatsServers::start(1);
    let mut node = Node::new(&servers, "a", 1);
    let mut journal = node.start();
    journal
        .append(journal.position(), &mut vec![call(0, 1)])
        .expect("appended");
    take_all(&mut journal);
    node.crash(journal);
    drop(servers);
    let servers = NatsServers::start(1);
    node.settings.servers = servers.urls();
    node.settings.monitor = servers.monitors();
    let mut other = Node::new(&servers, "b", 1);
    let journal = other.start();
    let refused = node.try_start().map(drop);
    assert!(
        matches!(refused, Err(JoinError::Mismatch { .. })),
        "{refused:?}"
    );
    other.crash(journal);
}

#[test]
fn a_node_with_another_secret_is_refused() {
    let servers = NatsServers::start(1);
    let mut node = Node::new(&servers, "a", 1);
    let journal = node.start();
    let mut other = Node::new(&servers, "b", 1);
    other.settings.secret = [8; 32];
    let refused = other.try_start().map(drop);
    assert!(matches!(refused, Err(JoinError::Secret)), "{refused:?}");
    node.crash(journal);
}
