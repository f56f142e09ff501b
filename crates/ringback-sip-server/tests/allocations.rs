//! Allocations: a call over UDP makes none once the server is warm.
//!
//! A binary of its own with one test: the allocator counts what every thread does.

#[cfg(test)]
#[expect(dead_code, reason = "not all that other tests need is needed here")]
#[path = "integration/support.rs"]
mod support;

use std::alloc::System;
use std::net::UdpSocket;
use std::sync::Arc;

use arc_swap::Guard;
use ringback_index::ContactIndex;
use ringback_routing::{CallVia, Directory, EnvironmentId, ForwardedCall, LearnedCall, Timestamp};
use ringback_sip_server::{DecidedCall, Events, SipConfig, SipServer, SipSpec, Snapshots};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{CONTACT, OURS, Program, invite, program};

/// Counts.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_call_over_udp_allocates_nothing() {
    let spec = SipSpec {
        udp: vec!["127.0.0.1:0".to_owned()],
        workers: 1,
        ..SipSpec::default()
    };
    let config = SipConfig::try_from(spec).unwrap();
    let server = SipServer::bind(config, [7; 16], Deaf(program())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (running, client) = (server.clone(), UdpSocket::bind("127.0.0.1:0").unwrap());
    client.connect(server.addresses().udp[0]).unwrap();
    client.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let thread = std::thread::spawn(move || runtime.block_on(running.run()));

    let messages: Vec<String> = (0..2 * CALLS)
        .map(|call| invite(OURS, CONTACT, &format!("call-{call:06}")))
        .collect();
    let (before, counted) = messages.split_at(CALLS);
    ask(&client, before);
    let region = Region::new(ALLOCATOR);
    ask(&client, counted);
    let change = region.change();
    let made = change.allocations + change.reallocations;
    // Forgetting old answers allocates a little, a few times a second.
    assert!(made < CALLS / 100, "{made} allocations in {CALLS} calls");

    server.stop();
    thread.join().unwrap().unwrap();
}

/// Sends INVITEs, several at a time, and takes their replies.
fn ask(client: &UdpSocket, messages: &[String]) {
    let mut room = [0; 2_048];
    for together in messages.chunks(TOGETHER) {
        for message in together {
            client.send(message.as_bytes()).expect("it is sent");
        }
        for _ in together {
            let length = client.recv(&mut room).expect("a reply");
            assert!(room[..length].starts_with(b"SIP/2.0 302"));
        }
    }
}

/// Provides the state, and ignores events: keeping them would allocate.
#[derive(Debug)]
struct Deaf(Program);

impl Snapshots for Deaf {
    type Contacts = ContactIndex;

    fn directory(&self) -> Guard<Arc<Directory>> {
        self.0.directory.load()
    }

    fn contacts(&self) -> &ContactIndex {
        &self.0.contacts
    }
}

impl Events for Deaf {
    fn decided(&self, _call: &DecidedCall<'_, '_>, _via: CallVia) {}

    fn learned(&self, _call: LearnedCall) {}

    fn forwarded(
        &self,
        _environment: EnvironmentId,
        _call_id: &[u8],
        _at: Timestamp,
        _call: &ForwardedCall,
    ) -> bool {
        true
    }

    fn answered(&self, _environment: EnvironmentId, _call_id: &[u8], _at: Timestamp) {}
}

/// The number of calls to warm up, and of calls that are counted.
const CALLS: usize = 20_000;

/// The most calls that are read as one batch.
const TOGETHER: usize = 16;
